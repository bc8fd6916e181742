//! The attention mask of a batch: which positions may attend to which.

use std::cell::OnceCell;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::batch::{PaddingSide, TokenBatch};

/// The attention mask of one batch: causal or not; no position attends to padding or to another text.
///
/// A mask tensor is materialised only if needed: not for a batch without padding, and not for causal attention with
/// right padding, which no text can attend to. A padded position always attends to itself, so that its hidden state
/// stays finite.
pub(crate) struct AttentionMask<'a> {
    batch: &'a TokenBatch,
    causal: bool,
    /// `[rows, 1, seq, seq]`, true = hidden.
    hidden: OnceCell<Option<Tensor<4, Bool>>>,
}

impl<'a> AttentionMask<'a> {
    /// The mask of `batch`.
    pub(crate) fn new(batch: &'a TokenBatch, causal: bool) -> Self {
        Self { batch, causal, hidden: OnceCell::new() }
    }

    /// Whether a position attends only to itself and those before it.
    pub(crate) fn is_causal(&self) -> bool {
        self.causal
    }

    /// The range of each text's positions, counted through all rows.
    pub(crate) fn spans(&self) -> &[(usize, usize)] {
        self.batch.spans()
    }

    /// `[rows, heads, seq, seq]`, true = hidden, causal mask included; `None` if nothing but the causal mask applies.
    pub(crate) fn hidden(&self, heads: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        self.hidden.get_or_init(|| self.materialise(device)).as_ref().map(|hidden| {
            let [rows, _, seq, _] = hidden.dims();
            hidden.clone().expand([rows, heads, seq, seq])
        })
    }

    fn materialise(&self, device: &Device) -> Option<Tensor<4, Bool>> {
        let (batch, causal) = (self.batch, self.causal);
        let invisible = !batch.has_padding() || (causal && batch.padding_side() == PaddingSide::Right);
        if invisible && !batch.is_varlen() {
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
                    key != query && (other || future)
                }));
            }
        }
        Some(Tensor::from_data(TensorData::new(hidden, [rows, 1, seq, seq]), device))
    }
}
