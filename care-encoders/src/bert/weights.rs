//! Where each weight of the BERT family stands in a checkpoint.

use crate::pretrained::WeightTable;

pub(crate) const BERT: WeightTable = WeightTable {
    prefixes: &["bert."],
    rows: ROWS,
    packed: &[],
    ignored: &["pooler.", "cls.", "classifier.", "qa_outputs.", "embeddings.position_ids"],
};

pub(crate) const ROBERTA: WeightTable = WeightTable {
    prefixes: &["roberta."],
    rows: ROWS,
    packed: &[],
    ignored: &["pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids"],
};

const ROWS: &[(&str, &str)] = &[
    ("embeddings.word", "embeddings.word_embeddings"),
    ("embeddings.position", "embeddings.position_embeddings"),
    ("embeddings.token_type", "embeddings.token_type_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
    ("layers.*.attention.query", "encoder.layer.*.attention.self.query"),
    ("layers.*.attention.key", "encoder.layer.*.attention.self.key"),
    ("layers.*.attention.value", "encoder.layer.*.attention.self.value"),
    ("layers.*.attention.output", "encoder.layer.*.attention.output.dense"),
    ("layers.*.attention_norm", "encoder.layer.*.attention.output.LayerNorm"),
    ("layers.*.mlp.up", "encoder.layer.*.intermediate.dense"),
    ("layers.*.mlp.down", "encoder.layer.*.output.dense"),
    ("layers.*.mlp_norm", "encoder.layer.*.output.LayerNorm"),
];
