//! The configuration of BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa and MPNet.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::buckets::BUCKETS;
use crate::layers::Activation;
use crate::settings::{
    Common, Settings, allow_no_padding_token, common, default, require_dropout, require_epsilon, require_multiple,
};

/// The family of a network. Families differ in positions, token types and the names of their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BertFamily {
    /// BERT: positions count from 0.
    #[serde(rename = "bert")]
    Bert,
    /// DistilBERT: positions as in BERT, no token types, a fixed [`BertConfig::layer_norm_eps`].
    #[serde(rename = "distilbert")]
    DistilBert,
    /// ERNIE: as BERT, with a table of task types if [`BertConfig::task_type_vocab_size`] is not 0.
    #[serde(rename = "ernie")]
    Ernie,
    /// RoBERTa: positions count from the padding id + 1.
    #[serde(rename = "roberta")]
    Roberta,
    /// XLM-RoBERTa (multilingual-e5, bge-m3): positions as in RoBERTa.
    #[serde(rename = "xlm-roberta")]
    XlmRoberta,
    /// MPNet (all-mpnet-base-v2): positions count from 2, attention has a bias by distance; no token types.
    #[serde(rename = "mpnet")]
    Mpnet,
}

/// A BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa or MPNet configuration, with the field names of Hugging Face's `config.json`.
///
/// DistilBERT's own names (`dim`, `n_layers`, `n_heads`, `hidden_dim`, `activation`, `dropout`) are read and written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BertConfig {
    /// Family of the network.
    pub model_type: BertFamily,
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Dimensions of a hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Dimensions inside the feed-forward block.
    pub intermediate_size: usize,
    /// Rows of the position table. The longest text has this many tokens minus the first position. Default 512.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Rows of the token-type table. Tokens have type 0, those of a pair's second segment type 1; 0 rows mean no table.
    /// Default 2; always 0 for DistilBERT and MPNet.
    #[serde(default = "default_types")]
    pub type_vocab_size: usize,
    /// Rows of ERNIE's table of task types; every token has task 0, and 0 rows mean no table. Default 3 with
    /// `use_task_id`; without it, and for the other families, always 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub task_type_vocab_size: usize,
    /// Added to the variance in layer norms, above 0 and at most 1. Default 1e-12; always 1e-12 for DistilBERT.
    #[serde(default = "default::layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Activation inside the feed-forward block. Default `gelu`.
    #[serde(default = "default::gelu")]
    pub hidden_act: Activation,
    /// Dropout probability of hidden states in training, `[0, 1)`. Default 0.1.
    #[serde(default = "default::dropout")]
    pub hidden_dropout_prob: f64,
    /// Standard deviation of random weights. Default 0.02.
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    /// Id of the padding token. Default 0 for BERT, DistilBERT and ERNIE, else 1.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

/// DistilBERT's names of fields, the required ones first.
const DISTILBERT_NAMES: [(&str, &str); 6] = [
    ("hidden_size", "dim"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("intermediate_size", "hidden_dim"),
    ("hidden_act", "activation"),
    ("hidden_dropout_prob", "dropout"),
];

/// Number of the required ones.
const REQUIRED: usize = 4;

/// Default of `task_type_vocab_size` with `use_task_id`.
const DEFAULT_TASKS: usize = 3;

fn default_positions() -> usize {
    512
}
fn is_zero(count: &usize) -> bool {
    *count == 0
}
fn default_types() -> usize {
    2
}

impl BertConfig {
    /// A BERT configuration with default proportions: 64 dimensions per head, `intermediate_size = 4 * hidden_size`,
    /// 512 positions, no dropout.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        Self {
            model_type: BertFamily::Bert,
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: (hidden_size / 64).max(1),
            intermediate_size: 4 * hidden_size,
            max_position_embeddings: default_positions(),
            type_vocab_size: default_types(),
            task_type_vocab_size: 0,
            layer_norm_eps: default::layer_norm_eps(),
            hidden_act: default::gelu(),
            hidden_dropout_prob: 0.0,
            initializer_range: default::initializer_range(),
            pad_token_id: Some(0),
        }
    }

    /// Fills in the family's padding token, and rejects unsupported settings.
    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        let family = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let zero = ["bert", "distilbert", "ernie"].contains(&family.as_str());
        if zero {
            // The positions of the others follow from the token.
            allow_no_padding_token(config);
        }
        if config.get("pad_token_id").is_none_or(Value::is_null) {
            config["pad_token_id"] = if zero { 0 } else { 1 }.into();
        }
        if family == "distilbert" {
            // Under its own name, which the struct does not know.
            let lacks = |(ours, theirs): &(&str, &str)| [ours, theirs].iter().all(|name| config.get(*name).is_none());
            if let Some((_, missing)) = DISTILBERT_NAMES.iter().take(REQUIRED).find(|names| lacks(names)) {
                return Err(Error::new(ErrorKind::Format, format!("missing field `{missing}`")));
            }
            rename(config, |(ours, theirs)| (theirs, ours));
            config["layer_norm_eps"] = default::layer_norm_eps().into();
        }
        if ["distilbert", "mpnet"].contains(&family.as_str()) {
            config["type_vocab_size"] = 0.into();
        }
        if family != "ernie" || config.get("use_task_id") != Some(&Value::Bool(true)) {
            config["task_type_vocab_size"] = 0.into();
        } else if config.get("task_type_vocab_size").is_none() {
            config["task_type_vocab_size"] = DEFAULT_TASKS.into();
        }
        if family == "mpnet"
            && let Some(buckets) = config.get("relative_attention_num_buckets")
            && *buckets != BUCKETS
        {
            let message = format!("`relative_attention_num_buckets` {buckets} is not supported, only {BUCKETS}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        if let Some(kind) = config.get("position_embedding_type")
            && !kind.is_null()
            && kind != "absolute"
        {
            let allowed = "absolute; the relative positions, rotations or ALiBi of custom code are not supported";
            return Err(Error::setting("position_embedding_type", kind, allowed));
        }
        if config.get("is_decoder") == Some(&Value::Bool(true)) {
            return Err(Error::new(ErrorKind::Config, "a decoder of the BERT family (`is_decoder`) is not supported"));
        }
        Ok(())
    }

    /// The row of the position table for a text's first token.
    pub(crate) fn first_position(&self) -> usize {
        match self.model_type {
            BertFamily::Bert | BertFamily::DistilBert | BertFamily::Ernie => 0,
            BertFamily::Roberta | BertFamily::XlmRoberta => self.pad_token_id.unwrap_or(1) as usize + 1,
            // transformers does not follow `pad_token_id` here.
            BertFamily::Mpnet => 2,
        }
    }

    /// Whether attention has a bias by distance.
    pub(crate) fn has_distance_bias(&self) -> bool {
        self.model_type == BertFamily::Mpnet
    }
}

/// Renames the fields of a DistilBERT's `config.json`; `direction` orders a pair of [`DISTILBERT_NAMES`].
fn rename(config: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(fields) = config.as_object_mut() else { return };
    for (from, to) in DISTILBERT_NAMES.map(direction) {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

impl Settings for BertConfig {
    fn model_type(&self) -> &'static str {
        match self.model_type {
            BertFamily::Bert => "bert",
            BertFamily::DistilBert => "distilbert",
            BertFamily::Ernie => "ernie",
            BertFamily::Roberta => "roberta",
            BertFamily::XlmRoberta => "xlm-roberta",
            BertFamily::Mpnet => "mpnet",
        }
    }

    fn common(&self) -> Common {
        common!(self)
    }

    fn check(&self) -> Result<()> {
        require_dropout(self.hidden_dropout_prob)?;
        require_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        require_multiple(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        if self.max_position_embeddings <= self.first_position() {
            let allowed = format!("above {}, the row of the first position", self.first_position());
            return Err(Error::setting("max_position_embeddings", self.max_position_embeddings, &allowed));
        }
        Ok(())
    }

    fn max_positions(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    fn to_json(&self) -> serde_json::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        if self.model_type == BertFamily::DistilBert {
            rename(&mut fields, |names| names);
        }
        if self.task_type_vocab_size > 0 {
            fields["use_task_id"] = true.into();
        }
        Ok(fields)
    }
}
