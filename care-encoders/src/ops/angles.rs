//! The angles of rotary position embeddings, and the rotation of texts on the CPU.

use crate::schedule::kernel_threads;

/// Cosines and sines of positions, `[positions, head_dim / 2]`, in f32.
#[derive(Debug)]
pub(crate) struct Angles {
    pub(crate) half: usize,
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

/// Rotates the rows of each text, whose positions count from its start. `cos` and `sin` have `half` values per position.
pub(super) fn rotate_spans(
    values: &mut [f32],
    width: usize,
    half: usize,
    cos: &[f32],
    sin: &[f32],
    spans: &[(usize, usize)],
) {
    for &(start, end) in spans {
        let angles = (end - start) * half;
        care_kernels::rotate(
            &mut values[start * width..end * width],
            width,
            &cos[..angles],
            &sin[..angles],
            kernel_threads(),
        );
    }
}
