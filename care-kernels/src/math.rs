//! Elementary functions on vectors (exp, erf, activations) and reductions over slices.
//!
//! All of them are `#[inline(always)]`: see [`crate::kernel::WithKernel`].

use crate::activation::Activation;
use crate::kernel::Kernel;

/// Adding it leaves the nearest integer in the low bits.
pub(crate) const NEAREST: f32 = 12_582_912.0;

/// `e^x` with a relative error of 3e-7 between -5 and 5 and 5e-7 elsewhere; 0 below -87.7, `e^88` above 88.
#[inline(always)]
pub(crate) fn exp<S: Kernel>(simd: S, x: S::f32s) -> S::f32s {
    let most = simd.splat_f32s(88.0);
    exp_to_88(simd, simd.select_f32s(simd.greater_than_f32s(x, most), most, x))
}

/// [`exp`] for `x <= 88`.
#[inline(always)]
pub(crate) fn exp_to_88<S: Kernel>(simd: S, x: S::f32s) -> S::f32s {
    // For -88 and anything less, `scale` below is 0.
    let (least, round) = (simd.splat_f32s(-88.0), simd.splat_f32s(NEAREST));
    let x = simd.select_f32s(simd.less_than_f32s(x, least), least, x);
    let shifted = simd.add_product(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    // ln 2 in two parts, the first with few bits, so that the difference is exact.
    let r = simd.add_product(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.add_product(n, simd.splat_f32s(2.121_944_4e-4), r);
    // The minimax polynomial of this degree that is 1 at 0; its relative error is at most 2e-9.
    let p = polynomial(simd, r, [1.384_360_7e-3, 8.374_196e-3, 4.166_800_5e-2, 1.666_643e-1, 4.999_999_4e-1, 1.0, 1.0]);
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let scale = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23)));
    simd.mul_f32s(p, scale)
}

/// A polynomial, highest coefficient first. Estrin's scheme keeps the chain of dependent steps short.
#[inline(always)]
fn polynomial<S: Kernel, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut terms = [x; N];
    for at in 0..N {
        terms[at] = simd.splat_f32s(coefficients[N - 1 - at]);
    }
    let mut power = x;
    for level in 0..4 {
        let count = N.div_ceil(1 << level);
        for at in 0..count / 2 {
            terms[at] = simd.add_product(terms[2 * at + 1], power, terms[2 * at]);
        }
        if count % 2 == 1 {
            terms[count / 2] = terms[count - 1];
        }
        power = simd.mul_f32s(power, power);
    }
    terms[0]
}

/// The error function with an error of at most 3e-7: a quotient of polynomials in `x²`, as in Eigen and XLA.
#[inline(always)]
fn erf<S: Kernel>(simd: S, x: S::f32s) -> S::f32s {
    let (most, least) = (simd.splat_f32s(4.0), simd.splat_f32s(-4.0));
    let (above, below) = (simd.greater_than_or_equal_f32s(x, most), simd.less_than_or_equal_f32s(x, least));
    let y = simd.mul_f32s(x, x);
    let p = polynomial(
        simd,
        y,
        [
            -2.726_142_3e-10,
            2.770_681_4e-8,
            -2.101_024e-6,
            -5.692_506_5e-5,
            -7.349_906_3e-4,
            -2.954_6e-3,
            -1.609_603_3e-2,
        ],
    );
    let q = polynomial(simd, y, [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2]);
    // At ±4 the quotient is 1.2e-7 away from ±1, and callers may multiply it by large numbers.
    let inside = simd.select_f32s(above, simd.splat_f32s(1.0), simd.div_f32s(simd.mul_f32s(x, p), q));
    simd.select_f32s(below, simd.splat_f32s(-1.0), inside)
}

#[inline(always)]
fn sigmoid<S: Kernel>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// Applies an activation function to every lane.
#[inline(always)]
pub(crate) fn apply<S: Kernel>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    match activation {
        Activation::Gelu => {
            let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
            let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
            simd.add_product(half, erf, half)
        }
        // (1 + tanh u) / 2 is the sigmoid of 2u.
        Activation::GeluTanh => {
            let inner = polynomial(simd, simd.mul_f32s(x, x), [0.044_715 * 1.595_769_2, 1.595_769_2]);
            simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(x, inner)))
        }
        Activation::Silu => simd.mul_f32s(x, sigmoid(simd, x)),
        Activation::Relu => {
            let zero = simd.splat_f32s(0.0);
            simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
        }
    }
}

/// Applies an activation function to every lane; also returns its derivative there.
#[inline(always)]
pub(crate) fn apply_with_derivative<S: Kernel>(simd: S, activation: Activation, x: S::f32s) -> (S::f32s, S::f32s) {
    let (zero, half, one) = (simd.splat_f32s(0.0), simd.splat_f32s(0.5), simd.splat_f32s(1.0));
    match activation {
        Activation::Gelu => {
            let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
            let normal = simd.add_product(half, erf, half);
            let exponent = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5));
            let density = simd.mul_f32s(exp_to_88(simd, exponent), simd.splat_f32s(0.398_942_3));
            // As in `apply`, bit by bit.
            let halved = simd.mul_f32s(x, half);
            (simd.add_product(halved, erf, halved), simd.add_product(x, density, normal))
        }
        Activation::GeluTanh => {
            let square = simd.mul_f32s(x, x);
            let inner = polynomial(simd, square, [0.044_715 * 1.595_769_2, 1.595_769_2]);
            let sigmoid = sigmoid(simd, simd.mul_f32s(x, inner));
            // Beyond, the term below is 0, and the cube could overflow.
            let square = simd.min_f32s(square, simd.splat_f32s(400.0));
            let slope = polynomial(simd, square, [3.0 * 0.044_715 * 1.595_769_2, 1.595_769_2]);
            let value = simd.mul_f32s(x, sigmoid);
            let rest = simd.mul_f32s(simd.sub_f32s(one, sigmoid), slope);
            (value, simd.add_product(value, rest, sigmoid))
        }
        Activation::Silu => {
            let sigmoid = sigmoid(simd, x);
            let value = simd.mul_f32s(x, sigmoid);
            (value, simd.add_product(value, simd.sub_f32s(one, sigmoid), sigmoid))
        }
        Activation::Relu => {
            let below = simd.less_than_f32s(x, zero);
            let positive = simd.greater_than_f32s(x, zero);
            (simd.select_f32s(below, zero, x), simd.select_f32s(positive, one, zero))
        }
    }
}

/// Number of independent partial results, so that a sum is not one chain of dependent additions.
const SIDE_BY_SIDE: usize = 32;

/// The sum of a function of each value.
#[inline(always)]
pub(crate) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold(values, 0.0, |sum, x| sum + f(x), |a, b| a + b)
}

/// The largest value; -∞ if there is none.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, |a, b| if b > a { b } else { a }, f32::max)
}

/// The largest negated value; -∞ if there is none.
#[inline(always)]
pub(crate) fn largest_negative(values: &[f32]) -> f32 {
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
    let mut width = SIDE_BY_SIDE;
    while width > 1 {
        width /= 2;
        for at in 0..width {
            partial[at] = join(partial[at], partial[at + width]);
        }
    }
    partial[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::InstructionSet;
    use crate::kernel::WithKernel;
    use crate::testing::{exact_erf, slope};

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Erf,
        Activation(Activation),
        Value(Activation),
        Derivative(Activation),
    }

    struct Evaluate<'a>(Function, &'a mut [f32]);

    impl WithKernel for Evaluate<'_> {
        type Output = ();

        #[inline(always)]
        fn with_kernel<S: Kernel>(self, simd: S) {
            let Self(function, values) = self;
            let (vectors, rest) = S::as_mut_simd_f32s(values);
            assert!(rest.is_empty(), "values must fill whole vectors");
            for x in vectors {
                *x = match function {
                    Function::Exp => exp(simd, *x),
                    Function::Erf => erf(simd, *x),
                    Function::Activation(activation) => apply(simd, activation, *x),
                    Function::Value(activation) => apply_with_derivative(simd, activation, *x).0,
                    Function::Derivative(activation) => apply_with_derivative(simd, activation, *x).1,
                };
            }
        }
    }

    /// Each number with its result on each instruction set.
    fn evaluate(function: Function, numbers: impl IntoIterator<Item = f32>) -> Vec<(f32, f32)> {
        let numbers: Vec<f32> = numbers.into_iter().collect();
        let mut pairs = Vec::new();
        for set in InstructionSet::available() {
            let mut values = numbers.clone();
            values.resize(numbers.len().next_multiple_of(set.lanes()), 0.0);
            set.run(Evaluate(function, &mut values));
            pairs.extend(numbers.iter().copied().zip(values));
        }
        pairs
    }

    #[test]
    fn functions_agree_with_their_definitions() {
        let numbers = || (-4000..=4000).map(|n| n as f32 / 1000.0 * 1.1);
        for (x, exp) in evaluate(Function::Exp, numbers()) {
            let error = (f64::from(exp) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
        }
        for (x, erf) in evaluate(Function::Erf, numbers().filter(|x| x.abs() < 4.0)) {
            let error = (f64::from(erf) - exact_erf(f64::from(x))).abs();
            assert!(error < 4e-7, "erf({x}) is off by {error:e}");
        }
        for (x, exp) in evaluate(Function::Exp, [-87.0, -60.0, -20.0, 20.0, 60.0, 87.9]) {
            assert!((f64::from(exp) / f64::from(x).exp() - 1.0).abs() < 5e-7, "{x}");
        }
        for (x, exp) in evaluate(Function::Exp, [f32::NEG_INFINITY, -1000.0, 1000.0]) {
            assert!(if x < 0.0 { exp == 0.0 } else { exp.is_finite() }, "exp({x}) is {exp}");
        }
        for (x, erf) in evaluate(Function::Erf, [10.0, -10.0, 1e30, f32::INFINITY, f32::NEG_INFINITY]) {
            assert_eq!(erf, x.signum(), "{x}");
        }
    }

    #[test]
    fn activations_agree_with_their_definitions_far_out_too() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
            for (x, value) in evaluate(Function::Activation(activation), (-400..=400).map(|n| n as f32 * 0.25)) {
                let wide = f64::from(x);
                let expected = activation.exact(wide);
                let error = (f64::from(value) - expected).abs();
                let bound = 2e-6 * wide.abs().max(1.0);
                assert!(error < bound, "{activation:?} of {x} is {value}, expected {expected}");
            }
            for (_, value) in evaluate(Function::Activation(activation), [f32::NAN]) {
                assert!(value.is_nan(), "{activation:?} hides a NaN");
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_the_definitions_beside_the_same_values() {
        let numbers = || (-1203..=1200).map(|n| n as f32 * 0.01 + 0.005);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
            for (x, derivative) in evaluate(Function::Derivative(activation), numbers()) {
                let expected = slope(|x| activation.exact(x), f64::from(x));
                let error = (f64::from(derivative) - expected).abs();
                assert!(error < 3e-6, "{activation:?} at {x} has slope {derivative}, expected {expected}");
            }
            let values = evaluate(Function::Activation(activation), numbers());
            assert_eq!(evaluate(Function::Value(activation), numbers()), values, "{activation:?}");
            for (x, derivative) in evaluate(Function::Derivative(activation), [-1e30, -200.0, 200.0, 1e30]) {
                let error = (derivative - if x < 0.0 { 0.0 } else { 1.0 }).abs();
                assert!(error < 1e-6, "{activation:?} at {x} has slope {derivative}");
            }
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
