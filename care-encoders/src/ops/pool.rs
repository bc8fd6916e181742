//! Some of the hidden states of each text, and weighted sums of them.

use burn::tensor::{Int, Tensor, TensorData};

/// The tokens whose states a network computes after its last attention.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept<'a> {
    All,
    /// Those at these positions, counted through all rows.
    At(&'a [usize]),
}

impl Kept<'_> {
    /// # Shapes
    /// `[rows, seq, width]` to itself or `[1, positions, width]`.
    pub(crate) fn of(self, states: Tensor<3>) -> Tensor<3> {
        match self {
            Kept::All => states,
            Kept::At(positions) => take_positions(states, positions).unsqueeze_dim(0),
        }
    }

    /// What a layer keeps: all, unless it is the last.
    pub(crate) fn in_layer(self, number: usize, layers: usize) -> Self {
        if number + 1 == layers { self } else { Kept::All }
    }
}

/// The hidden states at some positions, counted through all rows.
///
/// # Shapes
/// `[rows, seq, width]` to `[positions, width]`.
pub(crate) fn take_positions(states: Tensor<3>, positions: &[usize]) -> Tensor<2> {
    let [rows, seq, width] = states.dims();
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    let count = positions.len();
    let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), &states.device());
    states.reshape([rows * seq, width]).select(0, positions)
}

/// The sum of each text's hidden states times its weights, one per token, on the training kernels; `None` elsewhere.
/// `spans` are the texts' tokens, counted through all rows.
///
/// # Shapes
/// `[rows, seq, hidden]` to `[texts, hidden]`.
pub(crate) fn sum_spans(
    states: &Tensor<3>,
    spans: &[(usize, usize)],
    weights: impl Fn(usize) -> Vec<f32>,
) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    if super::training::is_on_training_kernels(states) {
        let weights = spans.iter().map(|(start, end)| weights(end - start)).collect();
        return super::training::sum_spans(states, spans, weights);
    }
    let _ = (states, spans, weights);
    None
}
