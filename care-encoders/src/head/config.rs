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
    /// Which hidden states make a text's vector.
    pub pooling: Pooling,
    /// A learned linear projection after pooling; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionConfig>,
    /// Keep only the first `dim` components; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of cutting and normalising.
    #[serde(default)]
    pub truncation: TruncationOrder,
    /// Whether vectors are normalised to length 1; true by default.
    #[serde(default = "yes")]
    pub normalize: bool,
}

fn yes() -> bool {
    true
}

impl HeadConfig {
    /// Normalised vectors at the network's full width.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, projection: None, dim: None, truncation: TruncationOrder::default(), normalize: true }
    }

    /// Components of an embedding, cut from `hidden_size` or from the projection's width.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] when a width is 0 or larger than what it is cut from.
    pub(crate) fn embedding_dim(&self, hidden_size: usize) -> Result<usize> {
        let width = self.projection.as_ref().map_or(hidden_size, |projection| projection.outputs);
        let dim = self.dim.unwrap_or(width);
        if width == 0 || dim == 0 || dim > width {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!("an embedding of {dim} dimensions cannot be cut from the tower's {width}"),
            ));
        }
        Ok(dim)
    }

    /// The same head with vectors of `dim` components.
    #[must_use]
    pub fn with_dim(self, dim: usize) -> Self {
        Self { dim: Some(dim), ..self }
    }

    /// The same head with a learned projection.
    #[must_use]
    pub fn with_projection(self, projection: ProjectionConfig) -> Self {
        Self { projection: Some(projection), ..self }
    }

    /// The same head with this order of truncating and normalising.
    #[must_use]
    pub fn with_truncation(self, truncation: TruncationOrder) -> Self {
        Self { truncation, ..self }
    }

    /// The same head with normalised vectors, or without.
    #[must_use]
    pub fn with_normalize(self, normalize: bool) -> Self {
        Self { normalize, ..self }
    }
}
