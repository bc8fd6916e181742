//! Squared distance between the vectors of student and teacher.

use burn::tensor::Tensor;

use super::{Loss, LossInput};

/// Squared Euclidean distance of each pair of rows, averaged over rows: the *sum* over dimensions and the mean over
/// rows, not the mean over elements.
///
/// # Reference
/// CARE, arXiv 2604.10937, stage 1; `mse` of the published code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingMse;

impl Loss for EmbeddingMse {
    fn name(&self) -> String {
        "embedding-mse".into()
    }

    /// # Panics
    /// Panics if the input has no alignment.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let pair = input.aligned();
        (pair.student.clone() - pair.teacher.clone()).square().sum_dim(1).mean()
    }

    fn needs_alignment(&self) -> bool {
        true
    }
}
