//! Weighted sums of the tokens of each text.

use burn::tensor::Tensor;

use super::{Gradient, Tracked, record};
use crate::ops::Host;

#[derive(Clone, Debug)]
struct SumGradient {
    spans: Vec<(usize, usize)>,
    weights: Vec<Vec<f32>>,
    shape: [usize; 3],
}

/// Of the states.
impl Gradient<1> for SumGradient {
    fn backward(self, output: Host, _wanted: [bool; 1]) -> [Option<Host>; 1] {
        let [rows, seq, width] = self.shape;
        // Padding has no part in any sum.
        let mut states = vec![0.0; rows * seq * width];
        for ((&(start, end), weights), gradient) in
            self.spans.iter().zip(&self.weights).zip(output.values().chunks_exact(width))
        {
            let states = states[start * width..end * width].chunks_exact_mut(width);
            for (state, weight) in states.zip(weights) {
                state.iter_mut().zip(gradient).for_each(|(state, gradient)| *state = weight * gradient);
            }
        }
        [Some(Host::new(states, self.shape))]
    }
}

/// The sum of each text's states times its weights, one per token.
///
/// # Shapes
/// `[rows, seq, width]` to `[texts, width]`.
pub(in crate::ops) fn sum_spans(
    states: &Tensor<3>,
    spans: &[(usize, usize)],
    weights: Vec<Vec<f32>>,
) -> Option<Tensor<2>> {
    let shape @ [_, _, width] = states.dims();
    let states = Tracked::of(states)?;
    let values = states.host();
    Some(record([states], |keeps| {
        let mut out = vec![0.0; spans.len() * width];
        for ((&(start, end), weights), out) in spans.iter().zip(&weights).zip(out.chunks_exact_mut(width)) {
            let states = values.values()[start * width..end * width].chunks_exact(width);
            for (state, weight) in states.zip(weights) {
                out.iter_mut().zip(state).for_each(|(sum, state)| *sum += weight * state);
            }
        }
        let gradient = || SumGradient { spans: spans.to_vec(), weights, shape };
        (Host::new(out, [spans.len(), width]), keeps.then(gradient))
    }))
}
