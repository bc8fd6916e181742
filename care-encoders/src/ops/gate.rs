//! The gating of a gated feed-forward block.

use burn::tensor::Tensor;
use care_kernels::Activation;

use super::{Host, activate};
use crate::schedule::kernel_threads;

/// `activation(gate) * up`.
///
/// # Shapes
/// Both `[rows, seq, inner]`, unchanged.
pub(crate) fn gate(gate: Tensor<3>, up: Tensor<3>, activation: Activation) -> Tensor<3> {
    match (Host::of(&gate), Host::of(&up)) {
        (Some(mut gates), Some(ups)) => {
            drop((gate, up));
            care_kernels::gate(gates.values_mut(), ups.values(), activation, kernel_threads());
            ups.recycle();
            gates.into_tensor()
        }
        _ => {
            #[cfg(feature = "cpu")]
            if let Some(gated) = super::training::gate(&gate, &up, activation) {
                return gated;
            }
            activate(gate, activation) * up
        }
    }
}
