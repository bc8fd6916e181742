//! Scaled dot-product attention, with grouped key/value heads.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{FloatDType, Tensor};

use super::AttentionMask;

/// # Shapes
/// `[batch, seq, heads * head_dim]` to `[batch, heads, seq, head_dim]`.
pub(crate) fn split_heads(states: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, seq, width] = states.dims();
    states.reshape([batch, seq, heads, width / heads]).swap_dims(1, 2)
}

/// Attention of each position over those its mask allows, scaled by `1/sqrt(head_dim)`.
///
/// With fewer key/value heads than query heads, each serves a group of consecutive query heads. Scores and
/// their softmax are f32 whatever the states' number format.
///
/// # Shapes
/// `query [batch, heads, seq, head_dim]`, `key` and `value [batch, kv_heads, seq, head_dim]` to
/// `[batch, seq, heads * head_dim]`.
pub(crate) fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: &AttentionMask<'_>) -> Tensor<3> {
    let [batch, heads, seq, head_dim] = query.dims();
    let hidden = mask.hidden(heads, &query.device());
    let options = AttentionModuleOptions { is_causal: mask.is_causal() && hidden.is_none(), ..Default::default() };
    let dtype = query.dtype();
    let wide = |states: Tensor<4>| states.cast(FloatDType::F32);
    let (key, value) = (repeat_heads(wide(key), heads), repeat_heads(wide(value), heads));
    let attended = attention(wide(query), key, value, hidden, None, options).cast(dtype);
    attended.swap_dims(1, 2).reshape([batch, seq, heads * head_dim])
}

fn repeat_heads(states: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, seq, head_dim] = states.dims();
    if kv_heads == heads {
        return states;
    }
    states
        .unsqueeze_dim::<5>(2)
        .expand([batch, kv_heads, heads / kv_heads, seq, head_dim])
        .reshape([batch, heads, seq, head_dim])
}
