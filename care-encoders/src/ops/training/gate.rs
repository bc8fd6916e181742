//! The gating of a gated feed-forward block.

use burn::tensor::Tensor;
use care_kernels::Activation;

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::schedule::kernel_threads;

#[derive(Clone, Debug)]
struct GateGradient {
    gate: Host,
    up: Host,
    activation: Activation,
}

/// Of gate and up.
impl Gradient<2> for GateGradient {
    fn backward(self, output: Host, _wanted: [bool; 2]) -> [Option<Host>; 2] {
        let (gate, up) = (self.gate.values(), self.up.values());
        let (gates, ups) = care_kernels::gate_backward(gate, up, self.activation, output.values(), kernel_threads());
        let gradients = [self.gate.with_values(gates), self.up.with_values(ups)];
        [self.gate, self.up, output].into_iter().for_each(Host::recycle);
        gradients.map(Some)
    }
}

/// As [`gate`](crate::ops::gate).
pub(in crate::ops) fn gate(gate: &Tensor<3>, up: &Tensor<3>, activation: Activation) -> Option<Tensor<3>> {
    let (gate, up) = (Tracked::of(gate)?, Tracked::of(up)?);
    let (gates, ups) = (gate.host(), up.host());
    Some(record([gate, up], |keeps| {
        let mut out = gates.copied();
        care_kernels::gate(&mut out, ups.values(), activation, kernel_threads());
        (gates.with_values(out), keeps.then_some(GateGradient { gate: gates, up: ups, activation }))
    }))
}
