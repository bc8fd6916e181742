//! Truncation of vectors to their first dimensions, before or after normalisation.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::normalize::l2_normalize;

/// Whether vectors are normalised before or after they are truncated to their first `dim` dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TruncationOrder {
    /// Truncate, then normalise: every vector has length 1, and the dot product equals the cosine.
    #[default]
    TruncateThenNormalize,
    /// Normalise all dimensions, then truncate and do NOT normalise again.
    ///
    /// # Reference
    /// The published CARE code, in losses and inference alike.
    NormalizeThenTruncate,
}

/// The last steps of a tower. Without `dim` all dimensions are kept; without `normalize` lengths are.
///
/// # Shapes
/// `[batch, width]` to `[batch, dim]`.
pub(crate) fn normalize_and_truncate(
    rows: Tensor<2>,
    dim: Option<usize>,
    order: TruncationOrder,
    normalize: bool,
) -> Tensor<2> {
    let cut = |rows: Tensor<2>| match dim {
        Some(dim) => rows.narrow(1, 0, dim),
        None => rows,
    };
    match (normalize, order) {
        (false, _) => cut(rows),
        (true, TruncationOrder::TruncateThenNormalize) => l2_normalize(cut(rows)),
        (true, TruncationOrder::NormalizeThenTruncate) => cut(l2_normalize(rows)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{TensorData, Tolerance};

    use super::*;

    #[test]
    fn the_two_orders_differ_as_documented() {
        let device = crate::device::Device::Cpu.open().expect("cpu");
        let cut = |order, normalize| {
            let rows = Tensor::<2>::from_data([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]], &device);
            normalize_and_truncate(rows, Some(2), order, normalize).into_data()
        };
        let near = |data: TensorData, expected: [[f32; 2]; 2]| {
            data.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        };
        near(cut(TruncationOrder::TruncateThenNormalize, true), [[1.0, 0.0], [0.0, 0.0]]);
        near(cut(TruncationOrder::NormalizeThenTruncate, true), [[0.6, 0.0], [0.0, 0.0]]);
        near(cut(TruncationOrder::NormalizeThenTruncate, false), [[3.0, 0.0], [0.0, 0.0]]);
    }
}
