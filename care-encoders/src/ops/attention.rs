//! Scaled dot-product attention with grouped key/value heads.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{FloatDType, Tensor};

use super::{AttentionMask, DistanceBias, Host};
use crate::schedule::kernel_threads;

/// How hidden states are divided into heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionHeads {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; each serves a group of consecutive query heads.
    pub(crate) kv_heads: usize,
    /// Dimensions per head.
    pub(crate) head_dim: usize,
    /// Factor of the scores; `None`: `1/sqrt(head_dim)`.
    pub(crate) scale: Option<f64>,
}

impl AttentionHeads {
    fn of_kernel(self, mask: &AttentionMask<'_>) -> care_kernels::AttentionHeads {
        care_kernels::AttentionHeads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            causal: mask.is_causal(),
            reach: mask.reach(),
            scale: self.scale.map_or_else(|| 1.0 / (self.head_dim as f32).sqrt(), |scale| scale as f32),
        }
    }
}

/// Attention of each token over those its mask allows, with the mask's bias of scores.
///
/// Scores and their softmax are f32 whatever the dtype of the states.
///
/// # Shapes
/// `query [rows, seq, heads * head_dim]`, `key` and `value [rows, seq, kv_heads * head_dim]`; returns the shape of
/// `query`.
pub(crate) fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    heads: AttentionHeads,
    mask: &AttentionMask<'_>,
) -> Tensor<3> {
    match (Host::of(&query), Host::of(&key), Host::of(&value)) {
        (Some(queries), Some(keys), Some(values)) => {
            let shape = query.dims();
            drop((query, key, value));
            let heads = heads.of_kernel(mask);
            let (q, k, v) = (queries.values(), keys.values(), values.values());
            let bias = mask.distance_bias().map(DistanceBias::host);
            let bias = bias.as_ref().map(Host::values);
            let attended = care_kernels::attention(q, k, v, mask.spans(), heads, bias, kernel_threads());
            [queries, keys, values].into_iter().for_each(Host::recycle);
            Host::tensor(attended, shape)
        }
        _ => {
            #[cfg(feature = "cpu")]
            {
                let bias = mask.distance_bias().map(DistanceBias::table);
                let states = [&query, &key, &value];
                if let Some(out) = super::training::attention(states, bias, heads.of_kernel(mask), mask.spans()) {
                    return out;
                }
            }
            with_burn([query, key, value], heads, mask)
        }
    }
}

fn with_burn([query, key, value]: [Tensor<3>; 3], heads: AttentionHeads, mask: &AttentionMask<'_>) -> Tensor<3> {
    let AttentionHeads { heads, kv_heads, head_dim, scale } = heads;
    let dims @ [rows, seq, _] = query.dims();
    let dtype = query.dtype();
    let hidden = mask.hidden(heads, &query.device());
    let bias = mask.distance_bias().map(|bias| bias.of_pairs(seq));
    let is_causal = mask.is_causal() && hidden.is_none();
    let options = AttentionModuleOptions { scale, is_causal, ..Default::default() };
    let split = |states: Tensor<3>, heads: usize| {
        states.reshape([rows, seq, heads, head_dim]).swap_dims(1, 2).cast(FloatDType::F32)
    };
    let (key, value) = (repeat_heads(split(key, kv_heads), heads), repeat_heads(split(value, kv_heads), heads));
    let attended = burn::tensor::module::attention(split(query, heads), key, value, hidden, bias, options).cast(dtype);
    attended.swap_dims(1, 2).reshape(dims)
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
