//! CLS pooling: the first token's hidden state.

use burn::tensor::Tensor;

use super::positions::take_positions;
use crate::batch::TokenBatch;

/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
pub(super) fn pool(hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    take_positions(hidden, batch.spans().iter().map(|&(start, _)| start))
}
