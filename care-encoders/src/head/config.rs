//! The settings of a head.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::pooling::Pooling;
use super::projection::ProjectionConfig;
use super::truncate::TruncationOrder;

/// How hidden states become an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HeadConfig {
    /// How the hidden states of a text become one vector.
    pub pooling: Pooling,
    /// Trainable linear projection after pooling. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionConfig>,
    /// Number of leading dimensions to keep, `1..=` those of the tower. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of truncating and normalising. Default: truncate first.
    #[serde(default)]
    pub truncation: TruncationOrder,
    /// Whether vectors are normalised to length 1. Default true.
    #[serde(default = "yes")]
    pub normalize: bool,
}

fn yes() -> bool {
    true
}

impl HeadConfig {
    /// Normalised vectors in all dimensions of the network.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, projection: None, dim: None, truncation: TruncationOrder::default(), normalize: true }
    }

    /// Whether every vector has length 1, so that the dot product of two is their cosine.
    pub fn is_unit_length(&self) -> bool {
        let cut_last = self.dim.is_some() && self.truncation == TruncationOrder::NormalizeThenTruncate;
        self.normalize && !cut_last
    }

    /// Dimensions of a vector before truncation, given the encoder's hidden size.
    pub(crate) fn projected(&self, hidden_size: usize) -> usize {
        self.projection.as_ref().map_or(self.pooling.outputs(hidden_size), |projection| projection.outputs)
    }

    /// Dimensions of an embedding, given the encoder's hidden size.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if they are 0 or larger than what they are truncated from.
    pub(crate) fn embedding_dim(&self, hidden_size: usize) -> Result<usize> {
        let width = self.projected(hidden_size);
        let dim = self.dim.unwrap_or(width);
        if width == 0 || dim == 0 || dim > width {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!("an embedding of {dim} dimensions cannot be cut from the tower's {width}"),
            ));
        }
        Ok(dim)
    }

    /// Sets [`HeadConfig::dim`].
    #[must_use]
    pub fn with_dim(self, dim: usize) -> Self {
        Self { dim: Some(dim), ..self }
    }

    /// Sets [`HeadConfig::projection`].
    #[must_use]
    pub fn with_projection(self, projection: ProjectionConfig) -> Self {
        Self { projection: Some(projection), ..self }
    }

    /// Sets [`HeadConfig::truncation`].
    #[must_use]
    pub fn with_truncation(self, truncation: TruncationOrder) -> Self {
        Self { truncation, ..self }
    }

    /// Sets [`HeadConfig::normalize`].
    #[must_use]
    pub fn with_normalize(self, normalize: bool) -> Self {
        Self { normalize, ..self }
    }
}
