//! The names of ModernBERT's weights in checkpoints.

use crate::layers::WeightTable;

pub(crate) const WEIGHTS: WeightTable = WeightTable {
    prefixes: &["model."],
    rows: &[
        ("tokens", "embeddings.tok_embeddings"),
        ("tokens_norm", "embeddings.norm"),
        ("layers.*.attention_norm", "layers.*.attn_norm"),
        ("layers.*.attention.qkv", "layers.*.attn.Wqkv"),
        ("layers.*.attention.output", "layers.*.attn.Wo"),
        ("layers.*.mlp_norm", "layers.*.mlp_norm"),
        ("layers.*.mlp.input", "layers.*.mlp.Wi"),
        ("layers.*.mlp.output", "layers.*.mlp.Wo"),
        ("norm", "final_norm"),
    ],
    fused: &[],
    ignored: &["head.", "decoder.", "classifier."],
};
