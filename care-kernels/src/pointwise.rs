//! Elementwise and row-wise operations: gates, norms, rotary embeddings.

use std::ops::Range;

use rayon::prelude::*;

use crate::activation::Activation;
use crate::instructions::InstructionSet;
use crate::instructions::{Kernel, WithKernel};
use crate::math;

/// Below this many numbers the work runs on one thread.
const FEW: usize = 1 << 14;

/// An in-place operation on rows.
trait Rows: Sync {
    /// Changes `rows`, which are the rows `range` of the whole.
    ///
    /// Must be `#[inline(always)]`.
    fn change<S: Kernel>(&self, simd: S, range: Range<usize>, rows: &mut [f32]);
}

impl<F: Fn(Range<usize>, &mut [f32]) + Sync> Rows for F {
    #[inline(always)]
    fn change<S: Kernel>(&self, _simd: S, range: Range<usize>, rows: &mut [f32]) {
        self(range, rows);
    }
}

/// Runs an operation on rows of `width` numbers.
fn for_rows(out: &mut [f32], width: usize, threads: usize, work: impl Rows) {
    struct Chunk<'a, W>(&'a W, Range<usize>, &'a mut [f32]);
    impl<W: Rows> WithKernel for Chunk<'_, W> {
        type Output = ();

        #[inline(always)]
        fn with_kernel<S: Kernel>(self, simd: S) {
            self.0.change(simd, self.1, self.2);
        }
    }
    let set = InstructionSet::current();
    let rows = out.len() / width;
    let threads = if out.len() < FEW { 1 } else { threads };
    if threads == 1 {
        return set.run(Chunk(&work, 0..rows, out));
    }
    let each = rows.div_ceil(2 * threads).max(FEW.div_ceil(2 * width));
    out.par_chunks_mut(each * width).enumerate().for_each(|(chunk, out)| {
        let first = chunk * each;
        set.run(Chunk(&work, first..first + out.len() / width, out));
    });
}

/// `activation(gate) * up`, in place of `gate`.
///
/// # Panics
/// Panics if the sizes differ.
pub fn gate(gate: &mut [f32], up: &[f32], activation: Activation, threads: usize) {
    struct Gate<'a>(&'a [f32], Activation);
    impl Rows for Gate<'_> {
        #[inline(always)]
        fn change<S: Kernel>(&self, simd: S, range: Range<usize>, gate: &mut [f32]) {
            let (gates, rest) = S::as_mut_simd_f32s(gate);
            let (ups, up_rest) = S::as_simd_f32s(&self.0[range]);
            for (gate, &up) in gates.iter_mut().zip(ups) {
                *gate = simd.mul_f32s(math::apply(simd, self.1, *gate), up);
            }
            let (gate, up) = (simd.partial_load_f32s(rest), simd.partial_load_f32s(up_rest));
            simd.partial_store_f32s(rest, simd.mul_f32s(math::apply(simd, self.1, gate), up));
        }
    }
    assert_eq!(gate.len(), up.len(), "`gate` and `up` must have the same size");
    for_rows(gate, 1, threads, Gate(up, activation));
}

/// Layer norm of each row, in place: `(x - mean) / sqrt(var + eps) * weight + bias`, where `x` is the row, plus that of
/// `added` if given.
///
/// # Shapes
/// `rows` and `added [rows, width]`, `weight` and `bias [width]`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn layer_norm(rows: &mut [f32], added: Option<&[f32]>, weight: &[f32], bias: &[f32], eps: f32, threads: usize) {
    let width = weight.len();
    assert_eq!(bias.len(), width, "`bias` must have the size of `weight`");
    assert!(rows.len().is_multiple_of(width), "`rows` must be [rows, width]");
    assert!(added.is_none_or(|added| added.len() == rows.len()), "`added` must have the size of `rows`");
    for_rows(
        rows,
        width,
        threads,
        #[inline(always)]
        |range: Range<usize>, rows: &mut [f32]| {
            for (number, row) in range.zip(rows.chunks_exact_mut(width)) {
                if let Some(added) = added {
                    for (x, added) in row.iter_mut().zip(&added[number * width..]) {
                        *x += added;
                    }
                }
                let mean = math::sum(row, |x| x) / width as f32;
                let variance = math::sum(row, |x| (x - mean) * (x - mean)) / width as f32;
                let scale = 1.0 / (variance + eps).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = (*x - mean) * scale * weight + bias;
                }
            }
        },
    );
}

/// RMS norm of each row, in place: `x / sqrt(mean(x²) + eps) * weight`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn rms_norm(rows: &mut [f32], weight: &[f32], eps: f32, threads: usize) {
    let width = weight.len();
    assert!(rows.len().is_multiple_of(width), "`rows` must be [rows, width]");
    for_rows(
        rows,
        width,
        threads,
        #[inline(always)]
        |_: Range<usize>, rows: &mut [f32]| {
            for row in rows.chunks_exact_mut(width) {
                let scale = 1.0 / (math::sum(row, |x| x * x) / width as f32 + eps).sqrt();
                for (x, weight) in row.iter_mut().zip(weight) {
                    *x = *x * scale * weight;
                }
            }
        },
    );
}

/// Rotary position embedding, in place: rotates the two halves of each head by the angles of its token.
///
/// # Shapes
/// `states [tokens, width]` with `width = heads * head_dim`; `cos` and `sin [tokens, head_dim / 2]`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn rotate(states: &mut [f32], width: usize, cos: &[f32], sin: &[f32], threads: usize) {
    let tokens = states.len() / width;
    let half = cos.len() / tokens.max(1);
    assert_eq!(cos.len(), sin.len(), "`cos` and `sin` must have the same size");
    assert!(width.is_multiple_of(2 * half), "`width` must be a multiple of the head dimension, {}", 2 * half);
    for_rows(
        states,
        width,
        threads,
        #[inline(always)]
        |range: Range<usize>, rows: &mut [f32]| {
            for (token, row) in range.zip(rows.chunks_exact_mut(width)) {
                let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
                for head in row.chunks_exact_mut(2 * half) {
                    let (first, second) = head.split_at_mut(half);
                    for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers};

    #[test]
    fn norms_are_those_of_their_definitions() {
        for (rows, width) in [(1, 1), (3, 5), (2, 64), (700, 50)] {
            let (input, added) = (numbers(rows * width, 1), numbers(rows * width, 2));
            let (weight, bias) = (numbers(width, 3), numbers(width, 4));
            let (mut layer, mut rms) = (input.clone(), input.clone());
            layer_norm(&mut layer, Some(&added), &weight, &bias, 1e-5, 2);
            rms_norm(&mut rms, &weight, 1e-5, 2);
            let (mut expected_layer, mut expected_rms) = (Vec::new(), Vec::new());
            for (row, added) in input.chunks(width).zip(added.chunks(width)) {
                let wide: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                let sums: Vec<f64> = wide.iter().zip(added).map(|(x, &y)| x + f64::from(y)).collect();
                let mean = |values: &[f64]| values.iter().sum::<f64>() / width as f64;
                let centre = mean(&sums);
                let variance = mean(&sums.iter().map(|x| (x - centre).powi(2)).collect::<Vec<_>>());
                let square = mean(&wide.iter().map(|x| x * x).collect::<Vec<_>>());
                for at in 0..width {
                    let (weight, bias) = (f64::from(weight[at]), f64::from(bias[at]));
                    expected_layer.push((sums[at] - centre) / (variance + 1e-5).sqrt() * weight + bias);
                    expected_rms.push(wide[at] / (square + 1e-5).sqrt() * weight);
                }
            }
            close(&layer, &expected_layer, 2e-5, "layer norm");
            close(&rms, &expected_rms, 1e-5, "rms norm");
        }
    }

    #[test]
    fn a_gate_multiplies_and_a_rotation_keeps_lengths() {
        let (mut gates, up) = (numbers(40_000, 5), numbers(40_000, 6));
        let mut expected: Vec<f64> = gates.iter().map(|&x| f64::from(x)).collect();
        for (x, &up) in expected.iter_mut().zip(&up) {
            *x = *x / (1.0 + (-*x).exp()) * f64::from(up);
        }
        gate(&mut gates, &up, Activation::Silu, 2);
        close(&gates, &expected, 1e-6, "gate");

        let mut states = numbers(3 * 8, 7);
        let expected = states.clone();
        let angles = numbers(3 * 2, 8);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
        rotate(&mut states, 8, &cos, &sin, 2);
        let opposite: Vec<f32> = sin.iter().map(|sin| -sin).collect();
        assert_ne!(states, expected);
        rotate(&mut states, 8, &cos, &opposite, 2);
        let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
        close(&states, &expected, 1e-6, "there and back");
    }
}
