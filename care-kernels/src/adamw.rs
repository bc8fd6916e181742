//! The AdamW optimizer's update, and the sum of squares that gradient clipping needs.

use rayon::prelude::*;

use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};

/// Numbers per piece of work. It does not depend on the threads, nor do the sums.
const PIECE: usize = 1 << 15;

/// Partial sums, so that additions do not wait for each other.
const SIDE_BY_SIDE: usize = 16;

/// Settings of an AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// > 0.
    pub learning_rate: f32,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta_1: f32,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay; 0 is none.
    pub weight_decay: f32,
    /// The number of this step, 1 for the first.
    pub step: usize,
    /// Factor of the gradient, from gradient clipping; 1 is none.
    pub scale: f32,
}

/// One step of AdamW, in place. The moments are zero before the first step.
///
/// # Panics
/// Panics if the sizes differ.
///
/// # Reference
/// Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, with the bias correction of PyTorch and burn.
pub fn adamw(
    weight: &mut [f32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    settings: &AdamW,
    threads: usize,
) {
    update(InstructionSet::current(), weight, gradient, moment_1, moment_2, settings, threads);
}

fn update(
    set: InstructionSet,
    weight: &mut [f32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    settings: &AdamW,
    threads: usize,
) {
    let size = weight.len();
    assert_eq!(gradient.len(), size, "`gradient` must have the size of `weight`");
    assert_eq!(moment_1.len(), size, "`moment_1` must have the size of `weight`");
    assert_eq!(moment_2.len(), size, "`moment_2` must have the size of `weight`");
    let corrected = |beta: f32| 1.0 - f64::from(beta).powf(settings.step as f64);
    let (first, second) = (corrected(settings.beta_1), corrected(settings.beta_2));
    let factors = Factors {
        scale: settings.scale,
        beta_1: settings.beta_1,
        rest_1: 1.0 - settings.beta_1,
        beta_2: settings.beta_2,
        rest_2: 1.0 - settings.beta_2,
        root: second.sqrt().recip() as f32,
        epsilon: settings.epsilon,
        kept: (1.0 - f64::from(settings.learning_rate) * f64::from(settings.weight_decay)) as f32,
        rate: (f64::from(settings.learning_rate) / first) as f32,
    };
    let moments = moment_1.chunks_mut(PIECE).zip(moment_2.chunks_mut(PIECE));
    let weights = weight.chunks_mut(PIECE).zip(gradient.chunks(PIECE));
    let piece = |((weight, gradient), (moment_1, moment_2))| Piece { factors, weight, gradient, moment_1, moment_2 };
    let pieces: Vec<Piece<'_>> = weights.zip(moments).map(piece).collect();
    match threads {
        1 => pieces.into_iter().for_each(|piece| set.run(piece)),
        _ => pieces.into_par_iter().for_each(|piece| set.run(piece)),
    }
}

/// What the settings amount to at this step.
#[derive(Clone, Copy)]
struct Factors {
    scale: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    /// Corrects the root of the second moment.
    root: f32,
    epsilon: f32,
    /// What weight decay leaves of a weight.
    kept: f32,
    /// Learning rate, corrected for the first moment.
    rate: f32,
}

struct Piece<'a> {
    factors: Factors,
    weight: &'a mut [f32],
    gradient: &'a [f32],
    moment_1: &'a mut [f32],
    moment_2: &'a mut [f32],
}

impl WithKernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) {
        let f = self.factors;
        let moments = self.moment_1.iter_mut().zip(self.moment_2);
        for ((weight, gradient), (moment_1, moment_2)) in self.weight.iter_mut().zip(self.gradient).zip(moments) {
            let gradient = gradient * f.scale;
            *moment_1 = *moment_1 * f.beta_1 + gradient * f.rest_1;
            *moment_2 = *moment_2 * f.beta_2 + gradient * gradient * f.rest_2;
            *weight = *weight * f.kept - f.rate * *moment_1 / (moment_2.sqrt() * f.root + f.epsilon);
        }
    }
}

/// The sum of the squares. It does not depend on `threads`.
pub fn square_sum(values: &[f32], threads: usize) -> f64 {
    struct Sum<'a>(&'a [f32]);
    impl WithKernel for Sum<'_> {
        type Output = f64;

        #[inline(always)]
        fn with_kernel<S: Kernel>(self, _simd: S) -> f64 {
            let (chunks, rest) = self.0.as_chunks::<SIDE_BY_SIDE>();
            let mut sums = [0.0; SIDE_BY_SIDE];
            for chunk in chunks {
                for (sum, &x) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(x) * f64::from(x);
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                *sum += f64::from(x) * f64::from(x);
            }
            sums.iter().sum()
        }
    }
    let set = InstructionSet::current();
    if threads == 1 || values.len() <= PIECE {
        return values.chunks(PIECE).map(|piece| set.run(Sum(piece))).sum();
    }
    // Sums of `rayon` depend on who adds them.
    let sums: Vec<f64> = values.par_chunks(PIECE).map(|piece| set.run(Sum(piece))).collect();
    sums.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, wide};

    #[test]
    fn steps_are_those_of_the_definition_on_every_instruction_set() {
        let count = PIECE + 100;
        for set in InstructionSet::available() {
            let mut found = Vec::new();
            for threads in 1..=3 {
                let mut weight = numbers(count, 1);
                let (mut moment_1, mut moment_2) = (vec![0.0; count], vec![0.0; count]);
                let mut exact = wide(&weight);
                let (mut exact_1, mut exact_2) = (vec![0.0; count], vec![0.0; count]);
                for step in 1..=5 {
                    let settings = AdamW {
                        learning_rate: 1e-2,
                        beta_1: 0.9,
                        beta_2: 0.999,
                        epsilon: 1e-8,
                        weight_decay: 0.1,
                        step,
                        scale: 0.5,
                    };
                    let gradient = numbers(count, step as u64 + 1);
                    update(set, &mut weight, &gradient, &mut moment_1, &mut moment_2, &settings, threads);
                    let [rate, beta_1, beta_2, epsilon, decay] = [1e-2, 0.9, 0.999, 1e-8, 0.1f32].map(f64::from);
                    for at in 0..count {
                        let slope = f64::from(gradient[at]) * 0.5;
                        exact_1[at] = beta_1 * exact_1[at] + (1.0 - beta_1) * slope;
                        exact_2[at] = beta_2 * exact_2[at] + (1.0 - beta_2) * slope * slope;
                        let mean = exact_1[at] / (1.0 - beta_1.powi(step as i32));
                        let root = (exact_2[at] / (1.0 - beta_2.powi(step as i32))).sqrt();
                        exact[at] -= rate * decay * exact[at];
                        exact[at] -= rate * mean / (root + epsilon);
                    }
                }
                close(&weight, &exact, 1e-6, &format!("{set:?}"));
                close(&moment_1, &exact_1, 1e-6, "first moment");
                close(&moment_2, &exact_2, 1e-6, "second moment");
                found.push((weight, moment_1, moment_2));
            }
            assert!(found.iter().all(|other| *other == found[0]), "{set:?} depends on the threads");
        }
    }

    #[test]
    fn a_weight_without_a_gradient_only_decays() {
        let settings = AdamW {
            learning_rate: 0.5,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.5,
            step: 1,
            scale: 1.0,
        };
        let (mut weight, mut moment_1, mut moment_2) = ([4.0, -2.0], [0.0; 2], [0.0; 2]);
        adamw(&mut weight, &[0.0; 2], &mut moment_1, &mut moment_2, &settings, 1);
        assert_eq!((weight, moment_1, moment_2), ([3.0, -1.5], [0.0; 2], [0.0; 2]));
    }

    #[test]
    fn a_square_sum_takes_every_number_and_does_not_depend_on_the_threads() {
        for count in [0, 1, 15, 17, 1000, 3 * PIECE + 7] {
            let values = numbers(count, 1);
            let sum = square_sum(&values, 1);
            let expected: f64 = wide(&values).iter().map(|x| x * x).sum();
            assert!((sum - expected).abs() <= 1e-12 * expected, "{count}: {sum}, expected {expected}");
            assert!((2..=3).all(|threads| square_sum(&values, threads) == sum), "{count}");
        }
    }
}
