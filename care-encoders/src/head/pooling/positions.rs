//! Selects the hidden states at given positions, for CLS and last-token pooling.

use burn::tensor::{Int, Tensor, TensorData};

/// The hidden state at one position of each text.
///
/// # Shapes
/// `[rows, seq, hidden]` and `batch` positions, counted through all rows, to `[batch, hidden]`.
pub(crate) fn take_positions(hidden: Tensor<3>, positions: impl Iterator<Item = usize>) -> Tensor<2> {
    let [rows, seq, width] = hidden.dims();
    let positions: Vec<i64> = positions.map(|position| position as i64).collect();
    let batch = positions.len();
    let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [batch]), &hidden.device());
    hidden.reshape([rows * seq, width]).select(0, positions)
}
