//! Distance between a student's and a teacher's vectors.

use burn::tensor::Tensor;

/// Squared Euclidean distance of each pair of rows, averaged over rows: the SUM over dimensions and
/// the mean over rows, not the mean over elements.
///
/// # Shapes
/// `student [n, dim]`, `teacher [n, dim]` to `[1]`.
///
/// # Reference
/// CARE, arXiv 2604.10937, stage 1; `mse` of the published code.
pub fn embedding_mse(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    (student - teacher).square().sum_dim(1).mean()
}
