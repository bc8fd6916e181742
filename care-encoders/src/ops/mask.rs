//! The attention mask of a batch: which positions may attend to which, and with which bias.

use std::cell::OnceCell;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::DistanceBias;
use crate::batch::{PaddingSide, TokenBatch};

/// The attention mask of one batch: causal or not, with a sliding window or not; no position attends to padding or to
/// another text.
///
/// A mask tensor is materialised only if needed: not for a batch without padding, and not for causal attention with
/// right padding, which no text can attend to, unless a text is longer than the window. A padded position always attends
/// to itself, so that its hidden state stays finite.
pub(crate) struct AttentionMask<'a> {
    batch: &'a TokenBatch,
    causal: bool,
    /// The distance of the farthest positions that are attended to, if a text exceeds it.
    reach: Option<usize>,
    bias: Option<DistanceBias>,
    /// `[rows, 1, seq, seq]`, true = hidden.
    hidden: OnceCell<Option<Tensor<4, Bool>>>,
}

impl<'a> AttentionMask<'a> {
    /// The mask of `batch`.
    pub(crate) fn new(batch: &'a TokenBatch, causal: bool) -> Self {
        Self { batch, causal, reach: None, bias: None, hidden: OnceCell::new() }
    }

    /// The same with a sliding window: a position attends to no other that is farther away than `reach`.
    pub(crate) fn within(self, reach: Option<usize>) -> Self {
        let longest = self.spans().iter().map(|(start, end)| end - start).max().unwrap_or(0);
        Self { reach: reach.filter(|reach| reach + 1 < longest), ..self }
    }

    /// The same with a bias of the scores.
    pub(crate) fn with_distance_bias(self, bias: DistanceBias) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// The bias of the scores.
    pub(crate) fn distance_bias(&self) -> Option<&DistanceBias> {
        self.bias.as_ref()
    }

    /// Whether a position attends only to itself and those before it.
    pub(crate) fn is_causal(&self) -> bool {
        self.causal
    }

    /// The distance of the farthest positions that a position attends to; `None` if no text exceeds the window.
    pub(crate) fn reach(&self) -> Option<usize> {
        self.reach
    }

    /// The range of each text's positions, counted through all rows.
    pub(crate) fn spans(&self) -> &[(usize, usize)] {
        self.batch.spans()
    }

    /// `[rows, heads, seq, seq]`, true = hidden, causal mask and window included; `None` if nothing but the causal mask
    /// applies.
    pub(crate) fn hidden(&self, heads: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        self.hidden.get_or_init(|| self.materialise(device)).as_ref().map(|hidden| {
            let [rows, _, seq, _] = hidden.dims();
            hidden.clone().expand([rows, heads, seq, seq])
        })
    }

    fn materialise(&self, device: &Device) -> Option<Tensor<4, Bool>> {
        let (batch, causal) = (self.batch, self.causal);
        let invisible = !batch.has_padding() || (causal && batch.padding_side() == PaddingSide::Right);
        if invisible && !batch.is_varlen() && self.reach.is_none() {
            return None;
        }
        let (rows, seq) = (batch.rows(), batch.seq_len());
        let mut text_of: Vec<Option<usize>> = vec![None; rows * seq];
        for (text, &(start, end)) in batch.spans().iter().enumerate() {
            text_of[start..end].fill(Some(text));
        }
        let mut hidden = Vec::with_capacity(rows * seq * seq);
        for text_of in text_of.chunks_exact(seq) {
            for query in 0..seq {
                hidden.extend((0..seq).map(|key| {
                    let other = text_of[key].is_none() || (text_of[query].is_some() && text_of[key] != text_of[query]);
                    let future = causal && key > query;
                    let far = self.reach.is_some_and(|reach| key.abs_diff(query) > reach);
                    key != query && (other || future || far)
                }));
            }
        }
        Some(Tensor::from_data(TensorData::new(hidden, [rows, 1, seq, seq]), device))
    }
}
