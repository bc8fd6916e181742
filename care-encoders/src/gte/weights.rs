//! Where each GTE weight stands in a checkpoint.

use crate::pretrained::{Packed, WeightTable};

/// The names of transformers' `GteModel`, which are written; then those of the authors' `NewModel`, which
/// transformers writes for either. There queries, keys and values may stand in one tensor, and up and gate
/// always do.
pub(crate) const WEIGHTS: WeightTable = WeightTable {
    prefixes: &["new.", "model."],
    rows: &[
        ("embeddings.word", "embeddings.word_embeddings"),
        ("embeddings.token_type", "embeddings.token_type_embeddings"),
        ("embeddings.norm", "embeddings.LayerNorm"),
        ("layers.*.attention.query", "layers.*.self_attn.q_proj"),
        ("layers.*.attention.key", "layers.*.self_attn.k_proj"),
        ("layers.*.attention.value", "layers.*.self_attn.v_proj"),
        ("layers.*.attention.output", "layers.*.self_attn.o_proj"),
        ("layers.*.attention_norm", "layers.*.post_attention_layernorm"),
        ("layers.*.mlp.gate", "layers.*.mlp.gate_proj"),
        ("layers.*.mlp.up", "layers.*.mlp.up_proj"),
        ("layers.*.mlp.down", "layers.*.mlp.down_proj"),
        ("layers.*.mlp_norm", "layers.*.post_mlp_layernorm"),
        ("layers.*.attention.query", "encoder.layer.*.attention.q_proj"),
        ("layers.*.attention.key", "encoder.layer.*.attention.k_proj"),
        ("layers.*.attention.value", "encoder.layer.*.attention.v_proj"),
        ("layers.*.attention.output", "encoder.layer.*.attention.o_proj"),
        ("layers.*.attention_norm", "encoder.layer.*.attn_ln"),
        ("layers.*.mlp.down", "encoder.layer.*.mlp.down_proj"),
        ("layers.*.mlp_norm", "encoder.layer.*.mlp_ln"),
    ],
    packed: &[
        Packed { module: "layers.*.attention.query", tensor: "encoder.layer.*.attention.qkv_proj", part: 0, of: 3 },
        Packed { module: "layers.*.attention.key", tensor: "encoder.layer.*.attention.qkv_proj", part: 1, of: 3 },
        Packed { module: "layers.*.attention.value", tensor: "encoder.layer.*.attention.qkv_proj", part: 2, of: 3 },
        Packed { module: "layers.*.mlp.up", tensor: "encoder.layer.*.mlp.up_gate_proj", part: 0, of: 2 },
        Packed { module: "layers.*.mlp.gate", tensor: "encoder.layer.*.mlp.up_gate_proj", part: 1, of: 2 },
    ],
    ignored: &["pooler.", "classifier.", "lm_head.", "embeddings.position_ids", "*.rotary_emb.inv_freq"],
};
