//! Dropout whose mask is a hash of a seed and a place: no state, the same on any number of threads, and drawn again on
//! the way back.

use burn::tensor::Tensor;

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::schedule::kernel_threads;

#[derive(Clone, Debug)]
struct DropoutGradient {
    probability: f32,
    seed: u64,
}

/// Of the states.
impl Gradient<1> for DropoutGradient {
    fn backward(self, mut output: Host, _wanted: [bool; 1]) -> [Option<Host>; 1] {
        care_kernels::dropout(output.values_mut(), self.probability, self.seed, kernel_threads());
        [Some(output)]
    }
}

/// Sets values to zero with this probability and divides the others by `1 - probability`.
pub(in crate::ops) fn dropout<const D: usize>(states: &Tensor<D>, probability: f64, seed: u64) -> Option<Tensor<D>> {
    let probability = probability as f32;
    let states = Tracked::of(states)?;
    let values = states.host();
    Some(record([states], |keeps| {
        let mut out = values.copied();
        care_kernels::dropout(&mut out, probability, seed, kernel_threads());
        (values.with_values(out), keeps.then_some(DropoutGradient { probability, seed }))
    }))
}
