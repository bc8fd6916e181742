//! What a tower's head and every network share: the linear layer and how parameters are made and found.

mod activation;
mod host;
mod linear;
mod lora;
mod path;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

pub use activation::Activation;
pub use host::Host;
pub use linear::{Linear, Packing};
pub use lora::Lora;
pub use path::ParameterPath;

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
