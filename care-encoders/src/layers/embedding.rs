//! Embedding tables: vectors by id.

use burn::module::{Module, Param, ParamId};
use burn::tensor::module::embedding;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::parameter::parameter;
use crate::device::is_cpu;
use crate::ops::Host;

/// A table `[rows, width]`.
#[derive(Module, Debug)]
pub(crate) struct Embedding {
    weight: Param<Tensor<2>>,
}

impl Embedding {
    pub(crate) fn new(rows: usize, width: usize, device: &Device) -> Self {
        Self { weight: parameter([rows, width], device) }
    }

    /// # Shapes
    /// `[batch, seq]` to `[batch, seq, width]`; f32 on the CPU, else of the table's dtype.
    pub(crate) fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.states(embedding(self.weight.val(), ids))
    }

    /// Rows of the table as states, which on the CPU are f32 whatever the weights are.
    fn states(&self, rows: Tensor<3>) -> Tensor<3> {
        let narrow = rows.dtype() != DType::F32;
        if narrow && is_cpu(&self.weight.lazy_device()) { rows.cast(FloatDType::F32) } else { rows }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        let [rows, _] = self.weight.lazy_shape().dims();
        rows
    }

    /// The first row, as `[1, 1, width]`.
    pub(crate) fn first_row(&self) -> Tensor<3> {
        self.states(self.weight.val().narrow(0, 0, 1).unsqueeze())
    }

    /// The rows with these numbers, `[count, width]`.
    pub(crate) fn select(&self, numbers: impl Iterator<Item = usize>) -> Tensor<2> {
        let numbers: Vec<i64> = numbers.map(|number| number as i64).collect();
        let count = numbers.len();
        let numbers = Tensor::<2, Int>::from_data(TensorData::new(numbers, [1, count]), &self.device());
        self.forward(numbers).squeeze_dim(0)
    }

    /// Keeps only the rows with these numbers, in this order.
    pub(crate) fn keep_rows(&mut self, numbers: &[u32]) {
        let values: Vec<i64> = numbers.iter().map(|&number| i64::from(number)).collect();
        self.weight = self.weight.clone().map(|weight| {
            let numbers = Tensor::<1, Int>::from_data(TensorData::new(values, [numbers.len()]), &weight.device());
            weight.select(0, numbers)
        });
    }

    /// The weight's identity among the parameters of a network, if it is trained.
    pub(crate) fn trained_id(&self) -> Option<ParamId> {
        self.weight.is_require_grad().then_some(self.weight.id)
    }

    /// Excludes the table from training.
    pub(crate) fn freeze(&mut self) {
        self.weight = self.weight.clone().set_require_grad(false);
    }

    /// Whether networks over this table compute with the CPU's kernels, with gradients or without.
    pub(crate) fn is_on_kernels(&self) -> bool {
        let weight = self.weight.val();
        #[cfg(feature = "cpu")]
        if crate::ops::is_on_training_kernels(&weight) {
            return true;
        }
        Host::holds(&weight)
    }

    /// The device of the table, on which the network computes.
    pub(crate) fn device(&self) -> Device {
        self.weight.device()
    }
}
