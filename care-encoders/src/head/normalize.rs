//! L2 normalisation of vectors.

use burn::tensor::Tensor;

/// Divides each row by its Euclidean length; a row of zeros stays zero.
///
/// # Shapes
/// `[n, dim]` to `[n, dim]`.
///
/// # Reference
/// `torch.nn.functional.normalize(x, dim=-1)`, which clamps the length to at least 1e-12.
pub fn l2_normalize(rows: Tensor<2>) -> Tensor<2> {
    // Clamping the square, not the root, keeps the gradient finite for a row of zeros.
    let lengths = rows.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    rows / lengths
}
