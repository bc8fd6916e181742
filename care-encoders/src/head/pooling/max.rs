//! Max pooling: in each dimension the largest value among a text's hidden states.

use burn::tensor::Tensor;

use crate::batch::TokenBatch;

/// # Shapes
/// `[rows, seq, hidden]` to `[batch, hidden]`.
pub(super) fn pool(hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    let [rows, seq, width] = hidden.dims();
    if batch.is_varlen() {
        let states = hidden.reshape([rows * seq, width]);
        let max = |&(start, end): &(usize, usize)| states.clone().narrow(0, start, end - start).max_dim(0);
        return Tensor::cat(batch.spans().iter().map(max).collect(), 0);
    }
    let hidden = match batch.has_padding() {
        true => {
            let padding = batch.attention_mask(&hidden.device()).bool_not().unsqueeze_dim::<3>(2);
            hidden.mask_fill(padding.expand([rows, seq, width]), f32::NEG_INFINITY)
        }
        false => hidden,
    };
    hidden.max_dim(1).squeeze_dim::<2>(1)
}
