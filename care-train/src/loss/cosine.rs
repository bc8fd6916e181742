//! Cosine distance between the vectors of student and teacher.

use burn::tensor::Tensor;
use care_encoders::head::l2_normalize;

use super::{Loss, LossInput};

/// `1 - cos` of each pair of rows, averaged over rows.
///
/// # Reference
/// `cossim` of the published CARE code; PyTorch's `CosineEmbeddingLoss` with target 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CosineDistance;

impl Loss for CosineDistance {
    fn name(&self) -> String {
        "cosine".into()
    }

    /// # Panics
    /// Panics if the input has no alignment.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let pair = input.aligned();
        let cosines = (l2_normalize(pair.student.clone()) * l2_normalize(pair.teacher.clone())).sum_dim(1);
        cosines.mean().neg().add_scalar(1.0)
    }

    fn needs_alignment(&self) -> bool {
        true
    }
}
