//! What a tower was made of, and where each setting comes from.

use std::fmt;

use care_core::Role;

use crate::device::Precision;
use crate::head::Pooling;

/// Where a setting of a tower comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// An option of the caller.
    Option,
    /// A file of the model, by its path in the model's folder.
    File(String),
    /// The default of sentence-transformers, for what the folder does not state.
    SentenceTransformers,
    /// The published CARE code, whose layout the folder has.
    PublishedCare,
    /// The network, which has as many dimensions or positions.
    Network,
    /// The default of this crate.
    Default,
    /// The program that made or changed the tower.
    Program,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Option => "option",
            Source::File(path) => path,
            Source::SentenceTransformers => "default of sentence-transformers",
            Source::PublishedCare => "published CARE code",
            Source::Network => "network",
            Source::Default => "default",
            Source::Program => "program",
        })
    }
}

/// A setting of a tower, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<V> {
    /// The value.
    pub value: V,
    /// Where it comes from.
    pub source: Source,
}

impl<V: PartialEq> Setting<V> {
    pub(crate) fn new(value: V, source: Source) -> Self {
        Self { value, source }
    }

    /// The same value with the source that it had, or from the program if it has changed since.
    fn since(self, before: Option<&Self>) -> Self {
        let source = before.filter(|before| before.value == self.value).map(|before| before.source.clone());
        Self { source: source.unwrap_or(Source::Program), ..self }
    }
}

/// Where the settings of a loaded tower come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) pooling: Source,
    pub(crate) normalize: Source,
    pub(crate) dim: Source,
    pub(crate) max_length: Source,
    pub(crate) instruction: Source,
    pub(crate) precision: Source,
}

impl Sources {
    /// One source for all but the dtype, which no folder states.
    pub(crate) fn all(source: Source) -> Self {
        Self {
            pooling: source.clone(),
            normalize: source.clone(),
            dim: source.clone(),
            max_length: source.clone(),
            instruction: source,
            precision: Source::Default,
        }
    }
}

/// What decides a tower's vectors, beside its weights and its tokenizer, each with where it comes from.
///
/// Its text form is one line without a line end, e.g. `query tower: mean pooling (1_Pooling/config.json), normalised,
/// compared by cosine (default of sentence-transformers), 384 dimensions (network), at most 512 tokens
/// (sentence_bert_config.json), instruction "query: {text}" (option), f32 (default)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TowerSummary {
    /// Whose texts the tower encodes.
    pub role: Role,
    /// How hidden states become one vector.
    pub pooling: Setting<Pooling>,
    /// Whether vectors are normalised.
    pub normalize: Setting<bool>,
    /// Whether every vector has length 1, so that the dot products by which vectors are compared are cosines. Not so
    /// for vectors that are truncated after they are normalised.
    pub cosine: bool,
    /// Dimensions of a vector.
    pub dim: Setting<usize>,
    /// Length limit of a text in tokens, special tokens included.
    pub max_length: Setting<usize>,
    /// Template of the instruction; empty: none.
    pub instruction: Setting<String>,
    /// Dtype of weights and activations.
    pub precision: Setting<Precision>,
}

impl TowerSummary {
    /// The same settings from `sources`.
    pub(crate) fn with_sources(self, sources: Sources) -> Self {
        Self {
            pooling: Setting::new(self.pooling.value, sources.pooling),
            normalize: Setting::new(self.normalize.value, sources.normalize),
            dim: Setting::new(self.dim.value, sources.dim),
            max_length: Setting::new(self.max_length.value, sources.max_length),
            instruction: Setting::new(self.instruction.value, sources.instruction),
            precision: Setting::new(self.precision.value, sources.precision),
            ..self
        }
    }

    /// The same settings, with the sources of an earlier state of the tower where they have not changed since.
    pub(crate) fn since(self, before: Option<&Self>) -> Self {
        Self {
            pooling: self.pooling.since(before.map(|before| &before.pooling)),
            normalize: self.normalize.since(before.map(|before| &before.normalize)),
            dim: self.dim.since(before.map(|before| &before.dim)),
            max_length: self.max_length.since(before.map(|before| &before.max_length)),
            instruction: self.instruction.since(before.map(|before| &before.instruction)),
            precision: self.precision.since(before.map(|before| &before.precision)),
            ..self
        }
    }
}

impl fmt::Display for TowerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let normalised = if self.normalize.value { "normalised" } else { "not normalised" };
        let similarity = if self.cosine { "cosine" } else { "dot product" };
        write!(f, "{} tower: ", self.role.as_str())?;
        write!(f, "{} pooling ({}), ", self.pooling.value, self.pooling.source)?;
        write!(f, "{normalised}, compared by {similarity} ({}), ", self.normalize.source)?;
        write!(f, "{} dimensions ({}), ", self.dim.value, self.dim.source)?;
        write!(f, "at most {} tokens ({}), ", self.max_length.value, self.max_length.source)?;
        match self.instruction.value.as_str() {
            "" => write!(f, "no instruction ({}), ", self.instruction.source)?,
            template => write!(f, "instruction {template:?} ({}), ", self.instruction.source)?,
        }
        write!(f, "{} ({})", self.precision.value.as_str(), self.precision.source)
    }
}
