//! Elementary functions without branches, which compilers turn into vector instructions.
//!
//! All of them are `#[inline(always)]`: see [`super::instructions::WithKernel`].

use crate::layers::Activation;

/// `e^x`, to 2 units in the last place; 0 below -87.3, and `e^88` above 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let small = x < -87.3;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few bits, so that the difference is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    // Cephes' minimax polynomial.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if small { 0.0 } else { p * scale }
}

/// The error function, to 3e-7: a quotient of polynomials in `x²`, as Eigen and XLA have it.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let y = x * x;
    let p = -2.726_142_3e-10;
    let p = p * y + 2.770_681_4e-8;
    let p = p * y - 2.101_024e-6;
    let p = p * y - 5.692_506_5e-5;
    let p = p * y - 7.349_906_3e-4;
    let p = p * y - 2.954_6e-3;
    let p = p * y - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * y - 2.133_740_6e-4;
    let q = q * y - 1.682_827e-3;
    let q = q * y - 7.373_329_2e-3;
    let q = q * y - 1.426_473_9e-2;
    // The quotient ends 1.2e-7 beside 1, and what multiplies it may be large.
    let inside = x * p / q;
    let inside = if x >= 4.0 { 1.0 } else { inside };
    if x <= -4.0 { -1.0 } else { inside }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Applies a function to every value.
#[inline(always)]
pub(super) fn apply(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Gelu => each(values, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
        // (1 + tanh u) / 2 is the sigmoid of 2u.
        Activation::GeluTanh => each(values, |x| x * sigmoid(1.595_769_2 * (x + 0.044_715 * x * x * x))),
        Activation::Silu => each(values, |x| x * sigmoid(x)),
        Activation::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
    }
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

/// Partial results side by side, so that a sum is no chain of dependent additions.
const SIDE_BY_SIDE: usize = 32;

/// The sum of a function of each value.
#[inline(always)]
pub(super) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold(values, 0.0, |sum, x| sum + f(x), |a, b| a + b)
}

/// The largest value; -∞ of none.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, |a, b| if b > a { b } else { a }, f32::max)
}

/// The largest of the values with their signs turned; -∞ of none.
#[inline(always)]
pub(super) fn largest_negative(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, |a, b| if -b > a { -b } else { a }, f32::max)
}

#[inline(always)]
fn fold(values: &[f32], start: f32, take: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
    let mut partial = [start; SIDE_BY_SIDE];
    for chunk in chunks {
        for (partial, &x) in partial.iter_mut().zip(chunk) {
            *partial = take(*partial, x);
        }
    }
    for (partial, &x) in partial.iter_mut().zip(rest) {
        *partial = take(*partial, x);
    }
    partial.into_iter().fold(start, join)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function by its series, in f64.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn functions_agree_with_their_definitions() {
        for n in -4000..=4000 {
            let x = n as f32 / 1000.0 * 1.1;
            let wide = f64::from(x);
            let error = (f64::from(exp(x)) / wide.exp() - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
            if wide.abs() < 4.0 {
                let error = (f64::from(erf(x)) - exact_erf(wide)).abs();
                assert!(error < 4e-7, "erf({x}) is off by {error:e}");
            }
        }
        for x in [-87.0f32, -60.0, -20.0, 20.0, 60.0, 87.9] {
            assert!((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs() < 5e-7, "{x}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert!(exp(1000.0).is_finite());
        assert_eq!((erf(10.0), erf(-10.0)), (1.0, -1.0));
    }

    #[test]
    fn activations_agree_with_their_definitions_far_out_too() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for n in -400..=400 {
            let x = n as f32 * 0.25;
            let wide = f64::from(x);
            // Beyond 5 the function is 1 to 12 digits.
            let normal =
                if wide.abs() < 5.0 { 0.5 * (1.0 + exact_erf(wide / 2f64.sqrt())) } else { f64::from(wide > 0.0) };
            let tanh = sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3)));
            for (activation, expected) in [
                (Activation::Gelu, wide * normal),
                (Activation::GeluTanh, wide * tanh),
                (Activation::Silu, wide * sigmoid(wide)),
                (Activation::Relu, wide.max(0.0)),
            ] {
                let mut value = [x];
                apply(activation, &mut value);
                let error = (f64::from(value[0]) - expected).abs();
                assert!(error < 2e-6 * wide.abs().max(1.0), "{activation:?} of {x} is {}, {expected} is due", value[0]);
            }
        }
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
            let mut values = [f32::NAN];
            apply(activation, &mut values);
            assert!(values[0].is_nan(), "{activation:?} hides what is no number");
        }
    }

    #[test]
    fn sums_and_maxima_take_every_value() {
        for length in [0, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..length).map(|n| (n * 7 % 13) as f32).collect();
            assert_eq!(sum(&values, |x| 2.0 * x), 2.0 * values.iter().sum::<f32>());
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
