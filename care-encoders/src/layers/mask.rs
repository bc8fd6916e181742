//! Which positions may see which.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use care_core::{PaddingSide, TokenBatch};

/// The visibility rule of one batch: causal or not, and no position sees padding.
///
/// Nothing is materialised where the rule alone suffices: no mask for a batch without padding, and
/// none for causal attention over right padding, which no text can see. A padded position always
/// sees itself, so its hidden state stays finite.
pub(crate) struct AttentionMask {
    causal: bool,
    /// `[batch, 1, seq, seq]`, true = hidden.
    hidden: Option<Tensor<4, Bool>>,
}

impl AttentionMask {
    /// The rule for `batch`.
    pub(crate) fn new(batch: &TokenBatch, causal: bool, device: &Device) -> Self {
        let invisible = causal && batch.padding_side() == PaddingSide::Right;
        if !batch.has_padding() || invisible {
            return Self { causal, hidden: None };
        }
        let (rows, seq) = (batch.batch_size(), batch.seq_len());
        let mut hidden = Vec::with_capacity(rows * seq * seq);
        for &(start, end) in batch.spans() {
            for query in 0..seq {
                hidden.extend((0..seq).map(|key| {
                    let padding = key < start || key >= end;
                    let future = causal && key > query;
                    key != query && (padding || future)
                }));
            }
        }
        let hidden = Tensor::from_data(TensorData::new(hidden, [rows, 1, seq, seq]), device);
        // The matrix already holds the causal rule.
        Self { causal: false, hidden: Some(hidden) }
    }

    pub(crate) fn is_causal(&self) -> bool {
        self.causal
    }

    /// `[batch, heads, seq, seq]`, true = hidden.
    pub(crate) fn hidden(&self, heads: usize) -> Option<Tensor<4, Bool>> {
        self.hidden.as_ref().map(|hidden| {
            let [batch, _, seq, _] = hidden.dims();
            hidden.clone().expand([batch, heads, seq, seq])
        })
    }
}
