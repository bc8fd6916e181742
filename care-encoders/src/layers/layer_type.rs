//! What the attention of a layer reaches, where it differs from layer to layer.

use serde::{Deserialize, Serialize};

/// What the attention of a layer reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerType {
    /// The whole text, or all of it up to the token.
    FullAttention,
    /// The tokens in a window around the token, or before it.
    SlidingAttention,
}
