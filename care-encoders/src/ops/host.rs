//! Host tensors as slices, and reuse of their memory.
//!
//! Here inference leaves burn for [`care_kernels`]: the tensors of burn's CPU backend are in this process's memory. A
//! tensor on another device, of another dtype or with autograd has no [`Host`] and goes through burn's operations.

#[cfg(feature = "cpu")]
use std::cell::RefCell;

use burn::tensor::Tensor;

#[cfg(feature = "cpu")]
use burn::backend::{Flex, flex::FlexTensor};
#[cfg(feature = "cpu")]
use burn::tensor::{DType, FloatDType, TensorData};

/// Largest total of f32 values whose memory a thread keeps for reuse outside a training step: 8 MB.
#[cfg(feature = "cpu")]
const KEPT: usize = 1 << 21;

/// Reused memory may be at most this many times as large as requested.
#[cfg(feature = "cpu")]
const TOO_LARGE: usize = 4;

#[cfg(feature = "cpu")]
thread_local! {
    static MEMORY: RefCell<Memory> = const { RefCell::new(Memory { unused: Vec::new(), earlier: Vec::new(), keeps_all: false }) };
}

/// Memory that is not in use.
#[cfg(feature = "cpu")]
#[derive(Default)]
struct Memory {
    unused: Vec<Vec<f32>>,
    /// What the training step before this one left.
    earlier: Vec<Vec<f32>>,
    keeps_all: bool,
}

/// The memory of a training step's tensors, from one step to the next.
#[derive(Default)]
pub struct StepMemory {
    #[cfg(feature = "cpu")]
    unused: Vec<Vec<f32>>,
}

impl StepMemory {
    /// Runs a step on this thread: its tensors take and return this memory. What one step leaves untouched is freed.
    pub fn run<T>(&mut self, step: impl FnOnce() -> T) -> T {
        #[cfg(feature = "cpu")]
        {
            /// Gives the thread its own memory back, also after a panic.
            struct Restore<'a>(&'a mut StepMemory, Memory);
            impl Drop for Restore<'_> {
                fn drop(&mut self) {
                    self.0.unused = MEMORY.replace(std::mem::take(&mut self.1)).unused;
                }
            }
            let earlier = std::mem::take(&mut self.unused);
            let before = MEMORY.replace(Memory { unused: Vec::new(), earlier, keeps_all: true });
            let _restore = Restore(self, before);
            step()
        }
        #[cfg(not(feature = "cpu"))]
        step()
    }
}

/// The values of an f32 host tensor without autograd.
#[derive(Clone)]
pub struct Host {
    #[cfg(feature = "cpu")]
    tensor: FlexTensor,
    #[cfg(not(feature = "cpu"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "cpu")]
impl Host {
    /// The values of a tensor, if it is an f32 host tensor without autograd.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        Some(Self::of_primitive(tensor.clone().try_into_primitive::<Flex>().ok()?))
    }

    /// The values of a tensor of f32, copied if they are only a part of its memory or in another order.
    pub(super) fn of_primitive(tensor: FlexTensor) -> Self {
        let layout = tensor.layout();
        let whole = layout.is_contiguous() && layout.start_offset() == 0;
        let whole = whole && tensor.bytes().len() == 4 * layout.num_elements();
        Self { tensor: if whole { tensor } else { tensor.to_contiguous() } }
    }

    /// The tensor of burn's CPU backend.
    pub(super) fn into_primitive(self) -> FlexTensor {
        self.tensor
    }

    /// New values in this shape.
    ///
    /// # Panics
    /// Panics if their count does not match the shape.
    pub(super) fn new<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Self {
        Self { tensor: FlexTensor::from_data(TensorData::new(values, shape)) }
    }

    /// New values in the shape of this tensor.
    ///
    /// # Panics
    /// Panics if their count does not match the shape.
    pub(super) fn with_values(&self, values: Vec<f32>) -> Self {
        Self { tensor: FlexTensor::from_data(TensorData::new(values, self.tensor.layout().shape().clone())) }
    }

    /// A copy of the values, in memory of this thread.
    pub(super) fn copied(&self) -> Vec<f32> {
        let mut values = Self::memory(self.values().len());
        values.copy_from_slice(self.values());
        values
    }

    /// [`Host::of`], or the values of such a tensor of 16-bit floats, widened.
    pub(crate) fn widened<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if !Self::holds(tensor) {
            return None;
        }
        Self::of(&tensor.clone().cast(FloatDType::F32))
    }

    /// Whether a tensor is a host tensor of floats without autograd.
    pub(crate) fn holds<const D: usize>(tensor: &Tensor<D>) -> bool {
        let float = matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16);
        float && tensor.clone().try_into_primitive::<Flex>().is_ok()
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    /// The values, mutable; copied first if another tensor shares them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }

    /// A tensor of these values.
    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.tensor)
    }

    /// Keeps the memory for this thread's next [`Host::memory`], unless another tensor shares it. New memory would be
    /// filled with zeros first, on one thread and for nothing.
    pub fn recycle(self) {
        MEMORY.with_borrow_mut(|memory| {
            let most = if memory.keeps_all { usize::MAX } else { KEPT };
            let fits = self.tensor.is_unique() && self.values().len() <= most;
            let Some(values) = fits.then(|| self.tensor.into_data().try_into_vec().ok()).flatten() else { return };
            memory.unused.push(values);
            while !memory.keeps_all && memory.unused.iter().map(Vec::capacity).sum::<usize>() > most {
                memory.unused.remove(0);
            }
        });
    }

    /// Memory for `count` values, with unspecified content; callers overwrite all of it.
    pub fn memory(count: usize) -> Vec<f32> {
        let best = |unused: &mut Vec<Vec<f32>>| {
            let sizes = count..=TOO_LARGE * count;
            let fitting = unused.iter().enumerate().filter(|(_, values)| sizes.contains(&values.capacity()));
            let at = fitting.min_by_key(|(_, values)| values.capacity()).map(|(at, _)| at)?;
            let mut values = unused.swap_remove(at);
            values.resize(count, 0.0);
            Some(values)
        };
        MEMORY.with_borrow_mut(|memory| {
            best(&mut memory.unused).or_else(|| best(&mut memory.earlier)).unwrap_or_else(|| vec![0.0; count])
        })
    }

    /// Memory for `count` values, all zero.
    #[cfg(feature = "cpu")]
    pub(super) fn zeroed(count: usize) -> Vec<f32> {
        let mut values = Self::memory(count);
        values.fill(0.0);
        values
    }

    /// New values, flat.
    pub fn of_values(values: Vec<f32>) -> Self {
        let count = values.len();
        Self::new(values, [count])
    }

    /// A tensor of new values.
    ///
    /// # Panics
    /// Panics if their count does not match the shape.
    pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Self::new(values, shape).into_tensor()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({} values)", self.values().len())
    }
}

#[cfg(not(feature = "cpu"))]
#[allow(
    clippy::missing_panics_doc,
    missing_docs,
    reason = "never called: a `Host` cannot exist without the CPU backend"
)]
impl Host {
    pub fn of<const D: usize>(_tensor: &Tensor<D>) -> Option<Self> {
        None
    }

    pub(crate) fn widened<const D: usize>(_tensor: &Tensor<D>) -> Option<Self> {
        None
    }

    pub(crate) fn holds<const D: usize>(_tensor: &Tensor<D>) -> bool {
        false
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

    pub fn recycle(self) {
        match self.never {}
    }

    pub fn memory(_count: usize) -> Vec<f32> {
        unreachable!("there is no host tensor without the CPU backend")
    }

    pub fn of_values(_values: Vec<f32>) -> Self {
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
    fn a_step_takes_the_memory_of_the_step_before_and_frees_what_it_leaves() {
        let mut memory = StepMemory::default();
        let used = |count: usize| {
            let values = Host::memory(count);
            let place = values.as_ptr();
            Host::new(values, [count]).recycle();
            place
        };
        let large = 2 * KEPT;
        let first = memory.run(|| (used(large), used(100)));
        assert_eq!(memory.unused.len(), 2, "more than a thread keeps outside a step");
        assert_eq!(memory.run(|| used(large)), first.0);
        assert_eq!(memory.unused.len(), 1, "what the step did not use is freed");
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| memory.run(|| panic!("on purpose")))).is_err()
        );
        assert!(MEMORY.with_borrow(|memory| !memory.keeps_all), "the thread has its own memory again");
    }

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
