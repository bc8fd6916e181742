//! Creates a network's parameters and tracks their paths.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

/// A weight of this shape that is zero until it is loaded or initialised.
///
/// Nothing is allocated before the first use, so building a large network is cheap.
pub fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device: &Device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad),
        device.clone(),
        true,
        Shape::from(shape),
    )
}

/// The path of the parameter that a module visitor or mapper has reached.
///
/// Call [`ParameterPath::enter`] and [`ParameterPath::exit`] from `enter_module` and `exit_module`. Enum variants are
/// not part of the path.
#[derive(Debug, Clone, Default)]
pub struct ParameterPath {
    parts: Vec<(String, String)>,
}

impl ParameterPath {
    /// Enters a field, an element or a variant.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.parts.push((name.to_owned(), container.to_owned()));
    }

    /// Leaves it again.
    pub fn exit(&mut self) {
        self.parts.pop();
    }

    /// The names from the module's root to the current parameter.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter(|(_, container)| !container.starts_with("Enum:")).map(|(name, _)| name.as_str())
    }

    /// The names joined by dots, e.g. `layers.0.attention.query.weight`.
    pub fn join(&self) -> String {
        self.names().collect::<Vec<_>>().join(".")
    }

    /// Whether this is the weight of a [`Linear`](super::Linear), which checkpoints store transposed.
    pub fn is_linear_weight(&self) -> bool {
        self.parts.last().is_some_and(|(name, container)| name == "weight" && container == "Struct:Linear")
    }

    /// Whether this is a parameter of a [`Linear`](super::Linear).
    pub(crate) fn is_of_linear(&self) -> bool {
        self.parts.last().is_some_and(|(_, container)| container == "Struct:Linear")
    }

    /// Whether this is a table of vectors: of tokens, positions, types or tasks.
    pub(crate) fn is_table(&self) -> bool {
        let of_embedding = self.parts.last().is_some_and(|(_, container)| container == "Struct:Embedding");
        // One row is a number for each head, which is added to scores.
        of_embedding && !self.names().any(|name| name == "distance_bias")
    }

    /// Whether this is a bias.
    pub fn is_bias(&self) -> bool {
        self.parts.last().is_some_and(|(name, _)| name == "bias")
    }

    /// Whether this is a parameter of a norm.
    pub fn is_norm(&self) -> bool {
        self.parts.last().is_some_and(|(_, container)| container.ends_with("Norm"))
    }
}
