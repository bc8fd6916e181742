//! Poolings that are weighted sums of a text's hidden states: the sum over the root of the length, and the mean weighted by
//! position.

use burn::tensor::{Tensor, TensorData};

use crate::batch::TokenBatch;
use crate::ops::sum_spans;

/// The sum of a text's hidden states times `weights`, one per token of a text of that many tokens.
///
/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
fn pool(hidden: Tensor<3>, batch: &TokenBatch, weights: impl Fn(usize) -> Vec<f32>) -> Tensor<2> {
    if let Some(sums) = sum_spans(&hidden, batch.spans(), &weights) {
        return sums;
    }
    let [rows, seq, width] = hidden.dims();
    let device = hidden.device();
    if batch.is_varlen() {
        let states = hidden.reshape([rows * seq, width]);
        let sum = |&(start, end): &(usize, usize)| {
            let weights = Tensor::<2>::from_data(TensorData::new(weights(end - start), [end - start, 1]), &device);
            (states.clone().narrow(0, start, end - start) * weights).sum_dim(0)
        };
        return Tensor::cat(batch.spans().iter().map(sum).collect(), 0);
    }
    // Padded positions are finite, so that a weight of 0 removes them.
    let mut values = vec![0.0; rows * seq];
    for &(start, end) in batch.spans() {
        values[start..end].copy_from_slice(&weights(end - start));
    }
    let values = Tensor::<3>::from_data(TensorData::new(values, [rows, seq, 1]), &device);
    (hidden * values).sum_dim(1).squeeze_dim::<2>(1)
}

/// The sum over the root of the number of tokens.
///
/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
pub(super) fn mean_sqrt_len(hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    pool(hidden, batch, |tokens| vec![(tokens as f32).sqrt().recip(); tokens])
}

/// The mean with weights 1, 2, 3, .. by position in the text.
///
/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
pub(super) fn weighted_mean(hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    pool(hidden, batch, |tokens| {
        let total = (tokens * (tokens + 1)) as f32 / 2.0;
        (1..=tokens).map(|position| position as f32 / total).collect()
    })
}
