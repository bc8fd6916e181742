//! The names of the post-norm encoders' weights in checkpoints, by family.

use crate::layers::{Fused, WeightTable};

/// Of BERT and ERNIE.
pub(crate) const BERT: WeightTable = WeightTable {
    prefixes: &["bert.", "ernie."],
    rows: BERT_ROWS,
    fused: &[],
    ignored: &["pooler.", "cls.", "classifier.", "qa_outputs.", "embeddings.position_ids"],
};

pub(crate) const DISTILBERT: WeightTable = WeightTable {
    prefixes: &["distilbert."],
    rows: &[
        ("embeddings.word", "embeddings.word_embeddings"),
        ("embeddings.position", "embeddings.position_embeddings"),
        ("embeddings.norm", "embeddings.LayerNorm"),
        ("layers.*.attention.query", "transformer.layer.*.attention.q_lin"),
        ("layers.*.attention.key", "transformer.layer.*.attention.k_lin"),
        ("layers.*.attention.value", "transformer.layer.*.attention.v_lin"),
        ("layers.*.attention.output", "transformer.layer.*.attention.out_lin"),
        ("layers.*.attention_norm", "transformer.layer.*.sa_layer_norm"),
        ("layers.*.mlp.up", "transformer.layer.*.ffn.lin1"),
        ("layers.*.mlp.down", "transformer.layer.*.ffn.lin2"),
        ("layers.*.mlp_norm", "transformer.layer.*.output_layer_norm"),
    ],
    fused: &[],
    ignored: &[
        "vocab_transform.",
        "vocab_layer_norm.",
        "vocab_projector.",
        "pre_classifier.",
        "classifier.",
        "qa_outputs.",
        "embeddings.position_ids",
    ],
};

pub(crate) const ROBERTA: WeightTable = WeightTable {
    prefixes: &["roberta."],
    rows: BERT_ROWS,
    fused: &[],
    ignored: &["pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids"],
};

const BERT_ROWS: &[(&str, &str)] = &[
    ("embeddings.word", "embeddings.word_embeddings"),
    ("embeddings.position", "embeddings.position_embeddings"),
    ("embeddings.token_type", "embeddings.token_type_embeddings"),
    ("embeddings.task_type", "embeddings.task_type_embeddings"),
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

pub(crate) const MPNET: WeightTable = WeightTable {
    prefixes: &["mpnet."],
    rows: &[
        ("embeddings.word", "embeddings.word_embeddings"),
        ("embeddings.position", "embeddings.position_embeddings"),
        ("embeddings.norm", "embeddings.LayerNorm"),
        ("distance_bias", "encoder.relative_attention_bias"),
        ("layers.*.attention.query", "encoder.layer.*.attention.attn.q"),
        ("layers.*.attention.key", "encoder.layer.*.attention.attn.k"),
        ("layers.*.attention.value", "encoder.layer.*.attention.attn.v"),
        ("layers.*.attention.output", "encoder.layer.*.attention.attn.o"),
        ("layers.*.attention_norm", "encoder.layer.*.attention.LayerNorm"),
        ("layers.*.mlp.up", "encoder.layer.*.intermediate.dense"),
        ("layers.*.mlp.down", "encoder.layer.*.output.dense"),
        ("layers.*.mlp_norm", "encoder.layer.*.output.LayerNorm"),
    ],
    fused: &[],
    ignored: &["pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids"],
};

/// First the names of transformers' `GteModel`, under which weights are written; then those of the authors' `NewModel`,
/// which transformers writes for either. In the latter, query, key and value may be fused into one tensor, and up and
/// gate always are.
pub(crate) const GTE: WeightTable = WeightTable {
    prefixes: &["new.", "gte.", "model."],
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
    fused: &[
        Fused { module: "layers.*.attention.query", tensor: "encoder.layer.*.attention.qkv_proj", part: 0, of: 3 },
        Fused { module: "layers.*.attention.key", tensor: "encoder.layer.*.attention.qkv_proj", part: 1, of: 3 },
        Fused { module: "layers.*.attention.value", tensor: "encoder.layer.*.attention.qkv_proj", part: 2, of: 3 },
        Fused { module: "layers.*.mlp.up", tensor: "encoder.layer.*.mlp.up_gate_proj", part: 0, of: 2 },
        Fused { module: "layers.*.mlp.gate", tensor: "encoder.layer.*.mlp.up_gate_proj", part: 1, of: 2 },
    ],
    ignored: &["pooler.", "classifier.", "lm_head.", "embeddings.position_ids", "*.rotary_emb.inv_freq"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterPath;

    fn places(table: &WeightTable, text: &str) -> Vec<(String, (usize, usize))> {
        let mut path = ParameterPath::default();
        path.enter("Bert", "Enum:AnyEncoder");
        text.split('.').for_each(|part| path.enter(part, "Struct:Some"));
        table.places(&path).into_iter().map(|place| (place.tensor, place.part)).collect()
    }

    #[test]
    fn a_path_takes_its_layers_number_along() {
        let query = places(&BERT, "layers.11.attention.query.weight");
        assert_eq!(query, [("encoder.layer.11.attention.self.query.weight".to_owned(), (0, 1))]);
        let norm = places(&BERT, "embeddings.norm.bias");
        assert_eq!(norm, [("embeddings.LayerNorm.bias".to_owned(), (0, 1))]);
        assert!(places(&BERT, "layers.0.attention.weight").is_empty());
    }

    #[test]
    fn a_module_may_be_a_part_of_a_tensor() {
        let key = places(&GTE, "layers.3.attention.key.bias");
        let [alone, fused] = ["k_proj", "qkv_proj"].map(|name| format!("encoder.layer.3.attention.{name}.bias"));
        let written = "layers.3.self_attn.k_proj.bias".to_owned();
        assert_eq!(key, [(written, (0, 1)), (alone, (0, 1)), (fused, (1, 3))]);
    }

    #[test]
    fn old_names_of_norms_and_unneeded_heads_are_known() {
        assert_eq!(BERT.bare("bert.embeddings.LayerNorm.gamma"), "embeddings.LayerNorm.weight");
        assert!(GTE.ignores("layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(!GTE.ignores("layers.0.self_attn.q_proj.weight"));
    }
}
