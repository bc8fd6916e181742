//! Layer norm and RMS norm.

use burn::tensor::Tensor;

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::schedule::kernel_threads;

#[derive(Clone, Debug)]
struct LayerNormGradient {
    input: Host,
    added: Option<Host>,
    weight: Host,
    eps: f32,
}

impl LayerNormGradient {
    /// The gradients of the rows, the weight and the bias.
    fn backward(self, output: &Host) -> [Host; 3] {
        let size = self.weight.values().len();
        let (mut weight, mut bias) = (vec![0.0; size], vec![0.0; size]);
        let rows = care_kernels::layer_norm_backward(
            self.input.values(),
            self.added.as_ref().map(Host::values),
            self.weight.values(),
            self.eps,
            output.values(),
            &mut weight,
            &mut bias,
            kernel_threads(),
        );
        let gradients = [self.input.with_values(rows), self.weight.with_values(weight), self.weight.with_values(bias)];
        self.added.into_iter().for_each(Host::recycle);
        self.input.recycle();
        gradients
    }
}

/// Of input, weight and bias.
impl Gradient<3> for LayerNormGradient {
    fn backward(self, output: Host, _wanted: [bool; 3]) -> [Option<Host>; 3] {
        let gradients = LayerNormGradient::backward(self, &output);
        output.recycle();
        gradients.map(Some)
    }
}

/// Of input, what is added to it, weight and bias.
impl Gradient<4> for LayerNormGradient {
    fn backward(self, output: Host, wanted: [bool; 4]) -> [Option<Host>; 4] {
        let [rows, weight, bias] = LayerNormGradient::backward(self, &output);
        output.recycle();
        // Both share the memory of one tensor.
        let added = wanted[1].then(|| rows.clone());
        [Some(rows), added, Some(weight), Some(bias)]
    }
}

/// As [`layer_norm`](crate::ops::layer_norm).
pub(in crate::ops) fn layer_norm(
    input: &Tensor<3>,
    added: Option<&Tensor<3>>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<3>> {
    let eps = eps as f32;
    let (input, weight, bias) = (Tracked::of(input)?, Tracked::of(weight)?, Tracked::of(bias)?);
    let added = match added {
        Some(added) => Some(Tracked::of(added)?),
        None => None,
    };
    let (rows, sum) = (input.host(), added.as_ref().map(Tracked::host));
    let (weights, biases) = (weight.host(), bias.host());
    let compute = |keeps: bool| {
        let mut out = rows.copied();
        let sum_values = sum.as_ref().map(Host::values);
        care_kernels::layer_norm(&mut out, sum_values, weights.values(), biases.values(), eps, kernel_threads());
        let output = rows.with_values(out);
        (output, keeps.then_some(LayerNormGradient { input: rows, added: sum, weight: weights, eps }))
    };
    Some(match added {
        Some(added) => record([input, added, weight, bias], compute),
        None => record([input, weight, bias], compute),
    })
}

#[derive(Clone, Debug)]
struct RmsNormGradient {
    input: Host,
    weight: Host,
    eps: f32,
}

/// Of input and weight.
impl Gradient<2> for RmsNormGradient {
    fn backward(self, output: Host, _wanted: [bool; 2]) -> [Option<Host>; 2] {
        let mut weight = vec![0.0; self.weight.values().len()];
        let rows = care_kernels::rms_norm_backward(
            self.input.values(),
            self.weight.values(),
            self.eps,
            output.values(),
            &mut weight,
            kernel_threads(),
        );
        let gradients = [self.input.with_values(rows), self.weight.with_values(weight)];
        self.input.recycle();
        output.recycle();
        gradients.map(Some)
    }
}

/// As [`rms_norm`](crate::ops::rms_norm).
pub(in crate::ops) fn rms_norm(input: &Tensor<3>, weight: &Tensor<1>, eps: f64) -> Option<Tensor<3>> {
    let eps = eps as f32;
    let (input, weight) = (Tracked::of(input)?, Tracked::of(weight)?);
    let (rows, weights) = (input.host(), weight.host());
    Some(record([input, weight], |keeps| {
        let mut out = rows.copied();
        care_kernels::rms_norm(&mut out, weights.values(), eps, kernel_threads());
        (rows.with_values(out), keeps.then_some(RmsNormGradient { input: rows, weight: weights, eps }))
    }))
}
