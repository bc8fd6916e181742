//! The names of the decoders' weights in checkpoints.

use crate::layers::WeightTable;

pub(crate) const WEIGHTS: WeightTable = WeightTable {
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
        ("layers.*.mlp_norm", "layers.*.post_attention_layernorm"),
        ("layers.*.mlp.gate", "layers.*.mlp.gate_proj"),
        ("layers.*.mlp.up", "layers.*.mlp.up_proj"),
        ("layers.*.mlp.down", "layers.*.mlp.down_proj"),
        ("norm", "norm"),
    ],
    fused: &[],
    ignored: &["lm_head.", "score.", "*.rotary_emb.inv_freq"],
};
