//! Host tensors as slices, and reuse of their memory.
//!
//! Here inference leaves burn for [`care_kernels`]: the tensors of burn's CPU backend are in this process's memory. A
//! tensor on another device, of another dtype or with autograd has no [`Host`] and goes through burn's operations.

use burn::tensor::Tensor;

#[cfg(feature = "cpu")]
use burn::backend::{Flex, flex::FlexTensor};
#[cfg(feature = "cpu")]
use burn::tensor::{DType, TensorData};

/// Largest total of f32 values whose memory a thread keeps for reuse: 8 MB.
#[cfg(feature = "cpu")]
const KEPT: usize = 1 << 21;

/// Reused memory may be at most this many times as large as requested.
#[cfg(feature = "cpu")]
const TOO_LARGE: usize = 4;

#[cfg(feature = "cpu")]
thread_local! {
    static MEMORY: std::cell::RefCell<Vec<Vec<f32>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The values of an f32 host tensor without autograd.
pub(crate) struct Host {
    #[cfg(feature = "cpu")]
    tensor: FlexTensor,
    #[cfg(not(feature = "cpu"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "cpu")]
impl Host {
    /// The values of a tensor, if it is an f32 host tensor without autograd.
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
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

    /// The values, row-major.
    pub(crate) fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    /// The values, mutable; copied first if another tensor shares them.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }

    /// A tensor of these values.
    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.tensor)
    }

    /// Keeps the memory for this thread's next [`Host::memory`], unless another tensor shares it. New memory would be
    /// filled with zeros first, on one thread and for nothing.
    pub(crate) fn recycle(self) {
        let fits = self.tensor.is_unique() && self.values().len() <= KEPT;
        let Some(values) = fits.then(|| self.tensor.into_data().try_into_vec().ok()).flatten() else { return };
        MEMORY.with_borrow_mut(|memory| {
            memory.push(values);
            while memory.iter().map(Vec::capacity).sum::<usize>() > KEPT {
                memory.remove(0);
            }
        });
    }

    /// Memory for `count` values, with unspecified content; callers overwrite all of it.
    pub(crate) fn memory(count: usize) -> Vec<f32> {
        MEMORY.with_borrow_mut(|memory| {
            let sizes = count..=TOO_LARGE * count;
            let fitting = memory.iter().enumerate().filter(|(_, values)| sizes.contains(&values.capacity()));
            match fitting.min_by_key(|(_, values)| values.capacity()).map(|(at, _)| at) {
                Some(at) => {
                    let mut values = memory.swap_remove(at);
                    values.resize(count, 0.0);
                    values
                }
                None => vec![0.0; count],
            }
        })
    }

    /// A tensor of new values.
    ///
    /// # Panics
    /// Panics if their count does not match the shape.
    pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
    }
}

#[cfg(not(feature = "cpu"))]
#[allow(
    clippy::missing_panics_doc,
    missing_docs,
    reason = "never called: a `Host` cannot exist without the CPU backend"
)]
impl Host {
    pub(crate) fn of<const D: usize>(_tensor: &Tensor<D>) -> Option<Self> {
        None
    }

    pub(crate) fn values(&self) -> &[f32] {
        match self.never {}
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        match self.never {}
    }

    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        match self.never {}
    }

    pub(crate) fn recycle(self) {
        match self.never {}
    }

    pub(crate) fn memory(_count: usize) -> Vec<f32> {
        unreachable!("there is no host tensor without the CPU backend")
    }

    pub(crate) fn tensor<const D: usize>(_values: Vec<f32>, _shape: [usize; D]) -> Tensor<D> {
        unreachable!("there is no host tensor without the CPU backend")
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_nobody_else_has_its_numbers() {
        let tensor = Host::tensor(vec![7.0; 100], [10, 10]);
        let place = |values: &[f32]| values.as_ptr();
        let host = Host::of(&tensor).expect("on the CPU");
        let first = place(host.values());
        host.recycle();
        assert_ne!(place(&Host::memory(100)), first, "the tensor still uses it");
        assert_eq!(tensor.clone().into_data().try_to_vec::<f32>().expect("f32"), [7.0; 100]);

        let host = Host::of(&tensor).expect("on the CPU");
        drop(tensor);
        host.recycle();
        let again = Host::memory(50);
        assert_eq!((place(&again), again.len()), (first, 50));
        Host::of(&Host::tensor(again, [50])).expect("on the CPU").recycle();
        assert_eq!(Host::memory(120).len(), 120);
    }
}
