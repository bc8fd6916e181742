//! Tensors of the CPU as slices.
//!
//! This is where the tensors of inference leave burn for [`crate::kernels`]: the primitive of burn's CPU backend lies in
//! this process's memory. A tensor of another device, of another number format or with a graph of gradients has no
//! [`Host`], and takes burn's own operations.

use burn::tensor::Tensor;

#[cfg(feature = "cpu")]
use burn::backend::{Flex, flex::FlexTensor};
#[cfg(feature = "cpu")]
use burn::tensor::{DType, TensorData};

/// The numbers of an f32 tensor of the CPU that learns nothing.
pub struct Host {
    #[cfg(feature = "cpu")]
    tensor: FlexTensor,
    #[cfg(not(feature = "cpu"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "cpu")]
impl Host {
    /// The numbers of a tensor, if they are there.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
        let layout = tensor.layout();
        let whole = layout.is_contiguous() && layout.start_offset() == 0;
        let tensor =
            if whole && tensor.bytes().len() == 4 * layout.num_elements() { tensor } else { tensor.to_contiguous() };
        Some(Self { tensor })
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    /// The numbers, to be changed; they are copied first if another tensor has them too.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }

    /// A tensor of these numbers.
    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.tensor)
    }

    /// A tensor of new numbers.
    ///
    /// # Panics
    /// When their number is not that of the shape.
    pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
    }
}

#[cfg(not(feature = "cpu"))]
#[allow(
    clippy::missing_panics_doc,
    missing_docs,
    reason = "never called: there is no such value without the CPU backend"
)]
impl Host {
    pub fn of<const D: usize>(_tensor: &Tensor<D>) -> Option<Self> {
        None
    }

    pub fn values(&self) -> &[f32] {
        match self.never {}
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        match self.never {}
    }

    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        match self.never {}
    }

    pub fn tensor<const D: usize>(_values: Vec<f32>, _shape: [usize; D]) -> Tensor<D> {
        unreachable!("there is no host tensor without the CPU backend")
    }
}
