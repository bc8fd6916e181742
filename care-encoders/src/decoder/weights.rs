//! The names of the decoders' weights in checkpoints.

use crate::layers::WeightTable;

/// The table of a network with these names for the norms around its feed-forward blocks.
macro_rules! table {
    ($($norm:expr),*) => {
        WeightTable {
            prefixes: &["model."],
            rows: &[
                ("tokens", "embed_tokens"),
                ("layers.*.attention_norm", "layers.*.input_layernorm"),
                ("layers.*.attention.query", "layers.*.self_attn.q_proj"),
                ("layers.*.attention.key", "layers.*.self_attn.k_proj"),
                ("layers.*.attention.value", "layers.*.self_attn.v_proj"),
                ("layers.*.attention.output", "layers.*.self_attn.o_proj"),
                ("layers.*.attention.query_norm", "layers.*.self_attn.q_norm"),
                ("layers.*.attention.key_norm", "layers.*.self_attn.k_norm"),
                $($norm,)*
                ("layers.*.mlp.gate", "layers.*.mlp.gate_proj"),
                ("layers.*.mlp.up", "layers.*.mlp.up_proj"),
                ("layers.*.mlp.down", "layers.*.mlp.down_proj"),
                ("norm", "norm"),
            ],
            fused: &[],
            ignored: &["lm_head.", "score.", "*.rotary_emb.inv_freq"],
        }
    };
}

pub(crate) const WEIGHTS: WeightTable = table!(("layers.*.mlp_norm", "layers.*.post_attention_layernorm"));

/// Gemma 3 has norms after its blocks too.
pub(crate) const GEMMA3: WeightTable = table!(
    ("layers.*.attended_norm", "layers.*.post_attention_layernorm"),
    ("layers.*.mlp_norm", "layers.*.pre_feedforward_layernorm"),
    ("layers.*.fed_norm", "layers.*.post_feedforward_layernorm")
);
