//! Elementwise and row-wise operations: gates, norms, rotary embeddings, dropout.

use std::ops::Range;

use rayon::prelude::*;

use crate::activation::Activation;
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
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

/// The gradients of [`gate`]'s `gate` and `up`, which are as they were before it.
///
/// # Panics
/// Panics if the sizes differ.
pub fn gate_backward(
    gate: &[f32],
    up: &[f32],
    activation: Activation,
    gradient: &[f32],
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    gate_backward_on(InstructionSet::current(), gate, up, activation, gradient, threads)
}

fn gate_backward_on(
    set: InstructionSet,
    gate: &[f32],
    up: &[f32],
    activation: Activation,
    gradient: &[f32],
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    struct Piece<'a> {
        gate: &'a [f32],
        up: &'a [f32],
        activation: Activation,
        gradient: &'a [f32],
        of_gate: &'a mut [f32],
        of_up: &'a mut [f32],
    }
    impl WithKernel for Piece<'_> {
        type Output = ();

        #[inline(always)]
        fn with_kernel<S: Kernel>(self, simd: S) {
            let lanes = S::F32_LANES;
            let inputs = self.gate.chunks(lanes).zip(self.up.chunks(lanes)).zip(self.gradient.chunks(lanes));
            let outputs = self.of_gate.chunks_mut(lanes).zip(self.of_up.chunks_mut(lanes));
            for (((gate, up), gradient), (of_gate, of_up)) in inputs.zip(outputs) {
                let (gate, up) = (simd.partial_load_f32s(gate), simd.partial_load_f32s(up));
                let gradient = simd.partial_load_f32s(gradient);
                let (value, slope) = math::apply_with_derivative(simd, self.activation, gate);
                simd.partial_store_f32s(of_gate, simd.mul_f32s(simd.mul_f32s(gradient, up), slope));
                simd.partial_store_f32s(of_up, simd.mul_f32s(gradient, value));
            }
        }
    }
    assert_eq!(gate.len(), up.len(), "`gate` and `up` must have the same size");
    assert_eq!(gate.len(), gradient.len(), "`gradient` must have the size of `gate`");
    let (mut of_gate, mut of_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
    let each = if threads == 1 { gate.len().max(1) } else { FEW };
    let outputs = of_gate.par_chunks_mut(each).zip(of_up.par_chunks_mut(each));
    let compute = |(number, (of_gate, of_up)): (usize, (&mut [f32], &mut [f32]))| {
        let place = number * each..number * each + of_gate.len();
        let [gate, up, gradient] = [gate, up, gradient].map(|values| &values[place.clone()]);
        set.run(Piece { gate, up, activation, gradient, of_gate, of_up });
    };
    if threads == 1 {
        compute((0, (&mut of_gate, &mut of_up)));
    } else {
        outputs.enumerate().for_each(compute);
    }
    (of_gate, of_up)
}

/// Dropout, in place: sets each number to 0 with the given probability and divides the others by `1 - probability`.
///
/// Which ones follows from `seed` and their place alone, so the same call on the gradient is the backward pass.
///
/// # Panics
/// Panics unless the probability is in `[0, 1)`.
pub fn dropout(values: &mut [f32], probability: f32, seed: u64, threads: usize) {
    assert!((0.0..1.0).contains(&probability), "`probability` is {probability}, allowed: [0, 1)");
    if probability == 0.0 {
        return;
    }
    let scale = 1.0 / (1.0 - probability);
    // A number is dropped if its hash is below.
    let bound = (f64::from(probability) * 2f64.powi(32)) as u32;
    for_rows(
        values,
        1,
        threads,
        #[inline(always)]
        |range: Range<usize>, values: &mut [f32]| {
            // Runs within which the upper half of the place is the same.
            let mut start = range.start as u64;
            let mut rest = values;
            while !rest.is_empty() {
                let run = rest.len().min((u64::from(u32::MAX) - (start & u64::from(u32::MAX))) as usize + 1);
                let (values, after) = rest.split_at_mut(run);
                let key = mix((seed as u32) ^ mix((seed >> 32) as u32 ^ mix((start >> 32) as u32)));
                let other = mix(key ^ 0x9e37_79b9);
                for (value, place) in values.iter_mut().zip(start as u32..=u32::MAX) {
                    let hash = mix(mix(place ^ key).wrapping_add(other));
                    *value = if hash < bound { 0.0 } else { *value * scale };
                }
                (rest, start) = (after, start + run as u64);
            }
        },
    );
}

/// A bijection of 32-bit integers of which each bit depends on every bit of the argument.
///
/// # Reference
/// Ellis, hash-prospector: the multiplications and shifts with the least bias of this form.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Adds `added` to `sum`.
///
/// # Panics
/// Panics if the sizes differ.
pub fn add_assign(sum: &mut [f32], added: &[f32], threads: usize) {
    assert_eq!(sum.len(), added.len(), "`sum` and `added` must have the same size");
    pair_by_pair(sum, added, threads, |sum, added| sum + added);
}

/// `values *= factors`, number by number.
///
/// # Panics
/// Panics if the sizes differ.
pub fn multiply(values: &mut [f32], factors: &[f32], threads: usize) {
    assert_eq!(values.len(), factors.len(), "`values` and `factors` must have the same size");
    pair_by_pair(values, factors, threads, |value, factor| value * factor);
}

/// Replaces each number by a function of it and the other at its place.
fn pair_by_pair(values: &mut [f32], others: &[f32], threads: usize, f: impl Fn(f32, f32) -> f32 + Sync) {
    for_rows(
        values,
        1,
        threads,
        #[inline(always)]
        |range: Range<usize>, values: &mut [f32]| {
            for (value, &other) in values.iter_mut().zip(&others[range]) {
                *value = f(*value, other);
            }
        },
    );
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
    use crate::testing::{close, numbers, slope};

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

    #[test]
    fn the_gradients_of_a_gate_are_finite_differences_on_every_instruction_set() {
        let count = FEW + 21;
        let [gates, ups, gradients] = [1, 2, 3].map(|seed| numbers(count, seed));
        let gates: Vec<f32> = gates.iter().map(|x| 4.0 * x).collect();
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
            let exact = |at: usize| {
                let (gate, up) = (f64::from(gates[at]), f64::from(ups[at]));
                let gradient = f64::from(gradients[at]);
                (gradient * up * slope(|x| activation.exact(x), gate), gradient * activation.exact(gate))
            };
            let (of_gate, of_up): (Vec<f64>, Vec<f64>) = (0..count).map(exact).unzip();
            for set in InstructionSet::available() {
                let found = gate_backward_on(set, &gates, &ups, activation, &gradients, 1);
                close(&found.0, &of_gate, 5e-6, &format!("{set:?}, {activation:?}, gate"));
                close(&found.1, &of_up, 1e-5, &format!("{set:?}, {activation:?}, up"));
                for threads in 2..=3 {
                    assert_eq!(gate_backward_on(set, &gates, &ups, activation, &gradients, threads), found);
                }
            }
        }
    }

    #[test]
    fn dropout_keeps_the_rest_by_seed_and_place_alone() {
        let count = 400_000;
        let kept = |seed, probability, threads| {
            let mut values = vec![1.0; count];
            dropout(&mut values, probability, seed, threads);
            values
        };
        for probability in [0.1, 0.5, 0.9] {
            let values = kept(7, probability, 1);
            assert!((2..=3).all(|threads| kept(7, probability, threads) == values), "depends on the threads");
            assert!(values.iter().all(|&x| x == 0.0 || x == 1.0 / (1.0 - probability)));
            let share = |values: &[bool]| values.iter().filter(|x| **x).count() as f64 / values.len() as f64;
            let dropped: Vec<bool> = values.iter().map(|&x| x == 0.0).collect();
            let probability_64 = f64::from(probability);
            let deviation = |count: usize, p: f64| 5.0 * (p * (1.0 - p) / count as f64).sqrt();
            assert!((share(&dropped) - probability_64).abs() < deviation(count, probability_64));
            // Neighbours, places a power of two apart, and other seeds are independent.
            let both = probability_64 * probability_64;
            for apart in [1, 2, 3, 64, 384, 1024, 1 << 16] {
                let pairs: Vec<bool> = dropped.iter().zip(&dropped[apart..]).map(|(x, y)| *x && *y).collect();
                assert!((share(&pairs) - both).abs() < deviation(pairs.len(), both), "{apart} apart");
            }
            for seed in [8, 6, 7 + (1 << 32)] {
                let pairs: Vec<bool> =
                    kept(seed, probability, 1).iter().zip(&dropped).map(|(x, y)| *x == 0.0 && *y).collect();
                assert!((share(&pairs) - both).abs() < deviation(count, both), "seed {seed}");
            }
        }
        assert_eq!(kept(7, 0.0, 1), vec![1.0; count]);
    }

    #[test]
    fn sums_are_added_element_by_element() {
        for count in [0, 3, 40_000] {
            let added = numbers(count, 2);
            for threads in 1..=3 {
                let mut sum = numbers(count, 1);
                add_assign(&mut sum, &added, threads);
                let expected: Vec<f32> = numbers(count, 1).iter().zip(&added).map(|(x, y)| x + y).collect();
                assert_eq!(sum, expected);
            }
        }
    }
}
