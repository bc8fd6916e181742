//! Mean pooling: the mean of a text's hidden states, without padding.

use burn::tensor::{Tensor, TensorData};

use crate::batch::TokenBatch;
use crate::ops::sum_spans;

/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
pub(super) fn pool(hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    let even = |tokens: usize| vec![(tokens as f32).recip(); tokens];
    if let Some(means) = sum_spans(&hidden, batch.spans(), even) {
        return means;
    }
    if batch.is_varlen() {
        let [_, tokens, width] = hidden.dims();
        let states = hidden.reshape([tokens, width]);
        let mean = |&(start, end): &(usize, usize)| states.clone().narrow(0, start, end - start).mean_dim(0);
        return Tensor::cat(batch.spans().iter().map(mean).collect(), 0);
    }
    let device = hidden.device();
    let hidden = if batch.has_padding() {
        let padding = batch.attention_mask(&device).bool_not().unsqueeze_dim::<3>(2);
        let dims = hidden.dims();
        hidden.mask_fill(padding.expand(dims), 0.0)
    } else {
        hidden
    };
    let counts: Vec<f32> = batch.spans().iter().map(|&(start, end)| (end - start) as f32).collect();
    let counts = Tensor::<2>::from_data(TensorData::new(counts, [batch.batch_size(), 1]), &device);
    hidden.sum_dim(1).squeeze_dim::<2>(1) / counts
}
