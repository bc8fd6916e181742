//! Dropout.

use std::cell::Cell;

use burn::tensor::{Distribution, Tensor};

thread_local! {
    /// The seed of the forward pass on this thread, and the number of masks it has drawn.
    static SEED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Runs a forward pass on this thread whose dropout masks follow from `seed` alone.
///
/// burn's generator, which draws the masks outside of the CPU's kernels, is seeded by the caller.
pub fn with_dropout_seed<T>(seed: u64, forward: impl FnOnce() -> T) -> T {
    SEED.set((seed, 0));
    forward()
}

/// A seed for the next mask.
#[cfg(feature = "cpu")]
fn next_seed() -> u64 {
    let (seed, drawn) = SEED.get();
    SEED.set((seed, drawn + 1));
    // Masks of one pass are streams of different seeds; see `care_kernels::dropout`.
    seed.wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Sets values to zero with this probability and divides the others by `1 - probability`, on an autodiff device.
pub(crate) fn dropout<const D: usize>(states: Tensor<D>, probability: f64) -> Tensor<D> {
    #[cfg(feature = "cpu")]
    if super::training::is_on_training_kernels(&states)
        && let Some(dropped) = super::training::dropout(&states, probability, next_seed())
    {
        return dropped;
    }
    let keep = 1.0 - probability;
    let mask = states.random_like(Distribution::Bernoulli(keep));
    (states * mask) * (1.0 / keep)
}
