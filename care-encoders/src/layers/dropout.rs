//! Dropout in training.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::ops::dropout;

/// Sets values to zero with a probability and divides the others by `1 - probability`, in training: on an autodiff device.
///
/// # Reference
/// Srivastava et al. 2014, JMLR 15; `torch.nn.Dropout`.
#[derive(Module, Debug)]
pub(crate) struct Dropout {
    #[module(skip)]
    probability: f64,
}

impl Dropout {
    /// Dropout with a probability in `[0, 1)`.
    pub(crate) fn new(probability: f64) -> Self {
        Self { probability }
    }

    pub(crate) fn probability(&self) -> f64 {
        self.probability
    }

    /// # Shapes
    /// Any, unchanged.
    pub(crate) fn forward<const D: usize>(&self, states: Tensor<D>) -> Tensor<D> {
        if self.probability == 0.0 || !states.device().is_autodiff() {
            return states;
        }
        dropout(states, self.probability)
    }
}
