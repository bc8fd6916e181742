//! Rotary position embeddings: the backward pass rotates back.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::ops::angles::{Angles, rotate_spans};

#[derive(Clone, Debug)]
struct RotateGradient {
    angles: Arc<Angles>,
    spans: Vec<(usize, usize)>,
    width: usize,
}

/// Of the states.
impl Gradient<1> for RotateGradient {
    fn backward(self, mut output: Host, _wanted: [bool; 1]) -> [Option<Host>; 1] {
        let longest = self.spans.iter().map(|(start, end)| end - start).max().unwrap_or(0);
        let opposite: Vec<f32> = self.angles.sin[..longest * self.angles.half].iter().map(|sin| -sin).collect();
        rotate_spans(output.values_mut(), self.width, self.angles.half, &self.angles.cos, &opposite, &self.spans);
        [Some(output)]
    }
}

/// As [`rotate`](crate::ops::rotate).
pub(in crate::ops) fn rotate(states: &Tensor<3>, angles: &Arc<Angles>, spans: &[(usize, usize)]) -> Option<Tensor<3>> {
    let [_, _, width] = states.dims();
    let states = Tracked::of(states)?;
    let values = states.host();
    Some(record([states], |keeps| {
        let mut out = values.copied();
        rotate_spans(&mut out, width, angles.half, &angles.cos, &angles.sin, spans);
        let gradient = || RotateGradient { angles: angles.clone(), spans: spans.to_vec(), width };
        (values.with_values(out), keeps.then(gradient))
    }))
}
