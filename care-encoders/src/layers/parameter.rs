//! How a network's parameters are made and found.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

/// A weight of this shape that is zero until a checkpoint or a random seed fills it.
///
/// Nothing is allocated before the first use, so building a large network costs nothing.
pub fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device: &Device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad),
        device.clone(),
        true,
        Shape::from(shape),
    )
}

/// The path of the parameter a module visitor or mapper is at.
///
/// Call [`ParameterPath::enter`] and [`ParameterPath::exit`] from the methods of the same purpose.
/// The variant of an enum is no part of the path.
#[derive(Debug, Clone, Default)]
pub struct ParameterPath {
    parts: Vec<(String, String)>,
}

impl ParameterPath {
    /// Steps into a field, an element or a variant.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.parts.push((name.to_owned(), container.to_owned()));
    }

    /// Steps out again.
    pub fn exit(&mut self) {
        self.parts.pop();
    }

    /// The names from the module's root to here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter(|(_, container)| !container.starts_with("Enum:")).map(|(name, _)| name.as_str())
    }

    /// The names joined by dots, such as `layers.0.attention.query.weight`.
    pub fn join(&self) -> String {
        self.names().collect::<Vec<_>>().join(".")
    }

    /// Whether this is the matrix of a [`Linear`](super::Linear), which checkpoints store transposed.
    pub fn is_linear_weight(&self) -> bool {
        self.parts.last().is_some_and(|(name, container)| name == "weight" && container == "Struct:Linear")
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
