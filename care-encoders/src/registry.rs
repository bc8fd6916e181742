//! Which network a `config.json` asks for: one row an architecture.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::{Encoder, Error, ErrorKind, PaddingSide, Pooling, Result, TokenBatch};
use serde_json::Value;

use crate::bert::{self, Bert, BertConfig};
use crate::decoder::{self, Decoder, DecoderConfig};
use crate::pretrained::WeightTable;

/// An architecture: its `model_type`, how its configuration is read, and the pooling its family is
/// used with when nothing else is said.
struct Architecture {
    model_type: &'static str,
    class: &'static str,
    parse: fn(Value) -> Result<EncoderConfig>,
    pooling: Pooling,
    weights: &'static WeightTable,
}

static BERT: Architecture = Architecture {
    model_type: "bert",
    class: "BertModel",
    parse: |config| {
        let config: BertConfig = parse_fields(config)?;
        config.check()?;
        Ok(EncoderConfig::Bert(config))
    },
    pooling: Pooling::Cls,
    weights: &bert::WEIGHTS,
};

static QWEN3: Architecture = Architecture {
    model_type: "qwen3",
    class: "Qwen3Model",
    parse: |mut config| {
        DecoderConfig::normalize(&mut config)?;
        let config: DecoderConfig = parse_fields(config)?;
        config.check()?;
        Ok(EncoderConfig::Qwen3(config))
    },
    pooling: Pooling::LastToken,
    weights: &decoder::WEIGHTS,
};

/// Every architecture that a `config.json` can ask for.
static ARCHITECTURES: &[&Architecture] = &[&BERT, &QWEN3];

/// The configuration of any architecture of the registry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EncoderConfig {
    /// `model_type: bert`.
    Bert(BertConfig),
    /// `model_type: qwen3`.
    Qwen3(DecoderConfig),
}

impl EncoderConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When the file is missing, its `model_type` is not in the registry, a field has the wrong type
    /// or a value the network cannot have.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(path, e))?;
        Self::from_json(json).map_err(|e| Error::format(path, e))
    }

    /// Reads a `config.json` that is already parsed.
    ///
    /// # Errors
    /// As [`EncoderConfig::from_file`].
    pub fn from_json(json: Value) -> Result<Self> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let row = ARCHITECTURES.iter().find(|row| row.model_type == model_type).ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|row| row.model_type).collect();
            Error::setting("model_type", format!("{model_type:?}"), &known.join(", "))
        })?;
        (row.parse)(json)
    }

    /// The `config.json` of this configuration.
    pub fn to_json(&self) -> Value {
        let fields = match self {
            EncoderConfig::Bert(config) => serde_json::to_value(config),
            EncoderConfig::Qwen3(config) => serde_json::to_value(config),
        };
        // Plain numbers and names: serialisation cannot fail.
        let mut fields = fields.unwrap_or_default();
        fields["model_type"] = self.row().model_type.into();
        fields["architectures"] = vec![self.row().class].into();
        fields
    }

    /// The pooling this family is used with when nothing else is said: CLS for BERT, the last token
    /// for decoders.
    pub fn default_pooling(&self) -> Pooling {
        self.row().pooling
    }

    /// The padding token, where the configuration names one.
    pub(crate) fn pad_token_id(&self) -> Option<u32> {
        match self {
            EncoderConfig::Bert(config) => config.pad_token_id,
            EncoderConfig::Qwen3(config) => config.pad_token_id,
        }
    }

    /// The longest text the network has positions for.
    pub fn max_positions(&self) -> usize {
        match self {
            EncoderConfig::Bert(config) => config.max_position_embeddings,
            EncoderConfig::Qwen3(config) => config.max_position_embeddings,
        }
    }

    /// Standard deviation of random weights.
    pub(crate) fn initializer_range(&self) -> f64 {
        match self {
            EncoderConfig::Bert(config) => config.initializer_range,
            EncoderConfig::Qwen3(config) => config.initializer_range,
        }
    }

    /// The network, with weights of zero.
    pub(crate) fn build(&self, device: &Device) -> AnyEncoder {
        match self {
            EncoderConfig::Bert(config) => AnyEncoder::Bert(Bert::new(config, device)),
            EncoderConfig::Qwen3(config) => AnyEncoder::Qwen3(Decoder::new(config, device)),
        }
    }

    /// Where the weights stand in a checkpoint.
    pub(crate) fn weights(&self) -> &'static WeightTable {
        self.row().weights
    }

    fn row(&self) -> &'static Architecture {
        match self {
            EncoderConfig::Bert(_) => &BERT,
            EncoderConfig::Qwen3(_) => &QWEN3,
        }
    }
}

/// Refuses sizes of 0, by the names of their fields.
pub(crate) fn require_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((field, size)) => Err(Error::setting(field, size, "at least 1")),
        None => Ok(()),
    }
}

/// Refuses a standard deviation that cannot be drawn with.
pub(crate) fn require_deviation(initializer_range: f64) -> Result<()> {
    if initializer_range >= 0.0 && initializer_range.is_finite() {
        return Ok(());
    }
    Err(Error::setting("initializer_range", initializer_range, "at least 0"))
}

/// Reads the fields a configuration has; a wrong type names its field.
pub(crate) fn parse_fields<T: serde::de::DeserializeOwned>(json: Value) -> Result<T> {
    serde_path_to_error::deserialize(json).map_err(|e| {
        let field = e.path().to_string();
        let problem = e.into_inner();
        let message = if field == "." { problem.to_string() } else { format!("field `{field}`: {problem}") };
        Error::new(ErrorKind::Format, message)
    })
}

/// An encoder of any architecture of the registry.
#[allow(clippy::large_enum_variant, reason = "there is one a tower; weights are behind pointers")]
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum AnyEncoder {
    /// `model_type: bert`.
    Bert(Bert),
    /// `model_type: qwen3`.
    Qwen3(Decoder),
}

impl AnyEncoder {
    /// The configuration the network was built from.
    pub fn config(&self) -> EncoderConfig {
        match self {
            AnyEncoder::Bert(model) => EncoderConfig::Bert(model.config().clone()),
            AnyEncoder::Qwen3(model) => EncoderConfig::Qwen3(model.config().clone()),
        }
    }
}

impl Encoder for AnyEncoder {
    fn hidden_size(&self) -> usize {
        match self {
            AnyEncoder::Bert(model) => model.hidden_size(),
            AnyEncoder::Qwen3(model) => model.hidden_size(),
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            AnyEncoder::Bert(model) => model.vocab_size(),
            AnyEncoder::Qwen3(model) => model.vocab_size(),
        }
    }

    fn max_positions(&self) -> usize {
        match self {
            AnyEncoder::Bert(model) => model.max_positions(),
            AnyEncoder::Qwen3(model) => model.max_positions(),
        }
    }

    fn padding_side(&self) -> PaddingSide {
        match self {
            AnyEncoder::Bert(model) => model.padding_side(),
            AnyEncoder::Qwen3(model) => model.padding_side(),
        }
    }

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        match self {
            AnyEncoder::Bert(model) => model.forward(batch),
            AnyEncoder::Qwen3(model) => model.forward(batch),
        }
    }
}
