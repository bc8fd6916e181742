//! Tensors of the CPU as slices.
//!
//! This is where the tensors of inference leave burn for [`care_kernels`]: the primitive of burn's CPU backend lies in
//! this process's memory. A tensor of another device, of another number format or with a graph of gradients has no
//! [`Host`], and takes burn's own operations.

use burn::tensor::Tensor;

#[cfg(feature = "cpu")]
use burn::backend::{Flex, flex::FlexTensor};
#[cfg(feature = "cpu")]
use burn::tensor::{DType, TensorData};

/// Numbers that a thread keeps memory for, 8 MB of them.
#[cfg(feature = "cpu")]
const KEPT: usize = 1 << 21;

/// How many times as large as wanted a piece of memory may be.
#[cfg(feature = "cpu")]
const TOO_LARGE: usize = 4;

#[cfg(feature = "cpu")]
thread_local! {
    static MEMORY: std::cell::RefCell<Vec<Vec<f32>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The numbers of an f32 tensor of the CPU that learns nothing.
pub(crate) struct Host {
    #[cfg(feature = "cpu")]
    tensor: FlexTensor,
    #[cfg(not(feature = "cpu"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "cpu")]
impl Host {
    /// The numbers of a tensor, if they are there.
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

    /// The numbers, row-major.
    pub(crate) fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    /// The numbers, to be changed; they are copied first if another tensor has them too.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }

    /// A tensor of these numbers.
    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.tensor)
    }

    /// Keeps the memory for this thread's next [`Host::memory`], unless another tensor has the numbers too. Memory that
    /// is new is filled with zeros, by one thread and to no end.
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

    /// Numbers that are all to be overwritten: what they are is not defined.
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

    /// A tensor of new numbers.
    ///
    /// # Panics
    /// When their number is not that of the shape.
    pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
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
        assert_ne!(place(&Host::memory(100)), first, "the tensor still has it");
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
