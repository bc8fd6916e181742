//! The backward passes of layer norm and RMS norm.

use rayon::prelude::*;

use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::math;

/// Rows whose share of a weight's gradient is summed together. It does not depend on the threads, nor do the sums.
const BLOCK: usize = 64;

/// Below this many numbers the work runs on one thread.
const FEW: usize = 1 << 14;

/// The gradient of [`layer_norm`](crate::layer_norm)'s `rows`, which is that of `added` too; adds those of weight and bias
/// to `weight_gradient` and `bias_gradient`. `rows` and `added` are as they were before the norm. The result does not
/// depend on `threads`.
///
/// # Shapes
/// `rows`, `added` and `gradient [rows, width]`, `weight`, `weight_gradient` and `bias_gradient [width]`.
///
/// # Panics
/// Panics if the sizes do not match.
#[expect(clippy::too_many_arguments, reason = "the forward pass has six, and the backward pass adds gradients")]
pub fn layer_norm_backward(
    rows: &[f32],
    added: Option<&[f32]>,
    weight: &[f32],
    eps: f32,
    gradient: &[f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    threads: usize,
) -> Vec<f32> {
    let norm = Norm { rows, added, weight, eps, gradient, centred: true };
    norm.backward(InstructionSet::current(), weight_gradient, Some(bias_gradient), threads)
}

/// The gradient of [`rms_norm`](crate::rms_norm)'s `rows`; adds that of the weight to `weight_gradient`. `rows` are as they
/// were before the norm. The result does not depend on `threads`.
///
/// # Shapes
/// `rows` and `gradient [rows, width]`, `weight` and `weight_gradient [width]`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn rms_norm_backward(
    rows: &[f32],
    weight: &[f32],
    eps: f32,
    gradient: &[f32],
    weight_gradient: &mut [f32],
    threads: usize,
) -> Vec<f32> {
    let norm = Norm { rows, added: None, weight, eps, gradient, centred: false };
    norm.backward(InstructionSet::current(), weight_gradient, None, threads)
}

/// What the gradients are computed from.
#[derive(Clone, Copy)]
struct Norm<'a> {
    rows: &'a [f32],
    added: Option<&'a [f32]>,
    weight: &'a [f32],
    eps: f32,
    gradient: &'a [f32],
    /// Whether the mean is subtracted, as layer norm does.
    centred: bool,
}

impl Norm<'_> {
    fn backward(
        self,
        set: InstructionSet,
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
        threads: usize,
    ) -> Vec<f32> {
        let width = self.weight.len();
        assert!(self.rows.len().is_multiple_of(width), "`rows` must be [rows, width]");
        assert!(self.added.is_none_or(|added| added.len() == self.rows.len()), "`added` must have the size of `rows`");
        assert_eq!(self.gradient.len(), self.rows.len(), "`gradient` must have the size of `rows`");
        assert_eq!(weight_gradient.len(), width, "`weight_gradient` must have the size of `weight`");
        let fits = bias_gradient.as_ref().is_none_or(|bias| bias.len() == width);
        assert!(fits, "`bias_gradient` must have the size of `weight`");
        let mut out = vec![0.0; self.rows.len()];
        // For each block, its share of the weight's gradient and of the bias's.
        let mut shares = vec![0.0; self.rows.len().div_ceil(BLOCK * width) * 2 * width];
        let compute = |(number, (out, shares)): (usize, (&mut [f32], &mut [f32]))| {
            set.run(Block { norm: self, first: number * BLOCK * width, out, shares });
        };
        if threads == 1 || out.len() < FEW {
            out.chunks_mut(BLOCK * width).zip(shares.chunks_mut(2 * width)).enumerate().for_each(compute);
        } else {
            out.par_chunks_mut(BLOCK * width).zip(shares.par_chunks_mut(2 * width)).enumerate().for_each(compute);
        }
        let mut sums = [Some(weight_gradient), bias_gradient];
        for shares in shares.chunks_exact(2 * width) {
            for (sum, share) in sums.iter_mut().zip(shares.chunks_exact(width)) {
                for (sum, share) in sum.iter_mut().flat_map(|sum| sum.iter_mut()).zip(share) {
                    *sum += share;
                }
            }
        }
        out
    }
}

/// Some rows.
struct Block<'a> {
    norm: Norm<'a>,
    /// The place of the first row's first number.
    first: usize,
    out: &'a mut [f32],
    /// Weight and bias, one after the other.
    shares: &'a mut [f32],
}

impl WithKernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) {
        let Norm { rows, added, weight, eps, gradient, centred } = self.norm;
        let width = weight.len();
        let (weights, biases) = self.shares.split_at_mut(width);
        // The row, normalised; and its gradient times the weight.
        let (mut normal, mut scaled) = (vec![0.0; width], vec![0.0; width]);
        for (number, out) in self.out.chunks_exact_mut(width).enumerate() {
            let place = self.first + number * width..self.first + (number + 1) * width;
            let gradient = &gradient[place.clone()];
            normal.copy_from_slice(&rows[place.clone()]);
            if let Some(added) = added {
                for (x, added) in normal.iter_mut().zip(&added[place]) {
                    *x += added;
                }
            }
            let mean = if centred { math::sum(&normal, |x| x) / width as f32 } else { 0.0 };
            let variance = math::sum(&normal, |x| (x - mean) * (x - mean)) / width as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((x, scaled), (gradient, weight)) in normal.iter_mut().zip(&mut scaled).zip(gradient.iter().zip(weight))
            {
                *x = (*x - mean) * scale;
                *scaled = gradient * weight;
            }
            let shift = if centred { math::sum(&scaled, |x| x) / width as f32 } else { 0.0 };
            for ((out, x), scaled) in out.iter_mut().zip(&normal).zip(&scaled) {
                *out = x * scaled;
            }
            let along = math::sum(out, |x| x) / width as f32;
            for ((out, x), scaled) in out.iter_mut().zip(&normal).zip(&scaled) {
                *out = scale * (scaled - shift - x * along);
            }
            for (((weight, bias), x), gradient) in weights.iter_mut().zip(&mut *biases).zip(&normal).zip(gradient) {
                *weight += gradient * x;
                *bias += gradient;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, slope, wide};

    /// A norm by its definition, in f64, times the gradient of its result.
    fn loss(rows: &[f64], weight: &[f64], bias: &[f64], gradient: &[f64], centred: bool) -> f64 {
        let width = weight.len();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
        let mut loss = 0.0;
        for (row, gradient) in rows.chunks(width).zip(gradient.chunks(width)) {
            let centre = if centred { mean(&mut row.iter().copied()) } else { 0.0 };
            let scale = 1.0 / (mean(&mut row.iter().map(|x| (x - centre).powi(2))) + f64::from(1e-5f32)).sqrt();
            for at in 0..width {
                loss += gradient[at] * ((row[at] - centre) * scale * weight[at] + bias[at]);
            }
        }
        loss
    }

    #[test]
    fn gradients_are_finite_differences_on_every_instruction_set_for_any_number_of_threads() {
        for (rows, width) in [(1, 1), (3, 5), (2, 64), (150, 130)] {
            let [input, added, gradient] = [1, 2, 3].map(|seed| numbers(rows * width, seed));
            let [weight, before] = [4, 5].map(|seed| numbers(width, seed));
            for (set, centred) in InstructionSet::available().into_iter().flat_map(|set| [(set, true), (set, false)]) {
                let added = centred.then_some(added.as_slice());
                let norm = Norm { rows: &input, added, weight: &weight, eps: 1e-5, gradient: &gradient, centred };
                let run = |threads| {
                    let (mut of_weight, mut of_bias) = (before.clone(), before.clone());
                    let out = norm.backward(set, &mut of_weight, Some(&mut of_bias), threads);
                    [out, of_weight, of_bias]
                };
                let found = run(1);
                assert!((2..=3).all(|threads| run(threads) == found), "{set:?} depends on the threads");

                let sums = (wide(&input).into_iter().enumerate())
                    .map(|(at, x)| x + added.map_or(0.0, |added| f64::from(added[at])));
                let values = [sums.collect(), wide(&weight), vec![0.0; width], wide(&gradient)];
                for (input, found) in found.iter().enumerate() {
                    // Every number of small inputs, some of large ones.
                    for at in (0..found.len()).step_by(found.len().div_ceil(40)) {
                        let at_x = |x: f64| {
                            // Other rows do not change with this one.
                            let kept =
                                if input == 0 { at / width * width..(at / width + 1) * width } else { 0..rows * width };
                            let mut values = values.clone();
                            values[input][at] = x;
                            loss(&values[0][kept.clone()], &values[1], &values[2], &values[3][kept], centred)
                        };
                        let start = if input == 0 { 0.0 } else { f64::from(before[at]) };
                        let expected = slope(at_x, values[input][at]) + start;
                        let bound = 2e-5 * expected.abs().max(1.0);
                        close(
                            &found[at..=at],
                            &[expected],
                            bound,
                            &format!("{set:?}, {rows} x {width}, {input}, {at}"),
                        );
                    }
                }
            }
        }
    }
}
