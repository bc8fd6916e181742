//! The layer that a tower's head and every network share.

mod linear;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

pub use linear::Linear;

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
