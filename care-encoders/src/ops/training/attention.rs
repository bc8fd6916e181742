//! Attention: the backward pass recomputes the scores from the log of each row's softmax denominator.

use burn::tensor::Tensor;

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::schedule::kernel_threads;

#[derive(Clone, Debug)]
struct AttentionGradient {
    states: [Host; 3],
    bias: Option<Host>,
    output: Host,
    log_sum_exp: Vec<f32>,
    spans: Vec<(usize, usize)>,
    heads: care_kernels::AttentionHeads,
}

impl AttentionGradient {
    /// The gradients of query, key and value, and of the bias if there is one.
    fn backward(self, gradient: Host) -> ([Host; 3], Option<Host>) {
        let [query, key, value] = &self.states;
        let found = care_kernels::attention_backward(
            query.values(),
            key.values(),
            value.values(),
            self.bias.as_ref().map(Host::values),
            self.output.values(),
            &self.log_sum_exp,
            gradient.values(),
            &self.spans,
            self.heads,
            kernel_threads(),
        );
        let states = [query.with_values(found.query), key.with_values(found.key), value.with_values(found.value)];
        let bias = self.bias.as_ref().zip(found.bias).map(|(bias, values)| bias.with_values(values));
        self.states.into_iter().chain([self.output, gradient]).for_each(Host::recycle);
        (states, bias)
    }
}

/// Of query, key and value.
impl Gradient<3> for AttentionGradient {
    fn backward(self, output: Host, _wanted: [bool; 3]) -> [Option<Host>; 3] {
        AttentionGradient::backward(self, output).0.map(Some)
    }
}

/// Of query, key, value and bias.
impl Gradient<4> for AttentionGradient {
    fn backward(self, output: Host, _wanted: [bool; 4]) -> [Option<Host>; 4] {
        let ([query, key, value], bias) = AttentionGradient::backward(self, output);
        [Some(query), Some(key), Some(value), bias]
    }
}

/// As [`attention`](crate::ops::attention).
///
/// # Shapes
/// `bias [heads, 2 * far + 1]`.
pub(in crate::ops) fn attention(
    states: [&Tensor<3>; 3],
    bias: Option<&Tensor<2>>,
    heads: care_kernels::AttentionHeads,
    spans: &[(usize, usize)],
) -> Option<Tensor<3>> {
    let [query, key, value] = states;
    let (query, key, value) = (Tracked::of(query)?, Tracked::of(key)?, Tracked::of(value)?);
    let bias = match bias {
        Some(bias) => Some(Tracked::of(bias)?),
        None => None,
    };
    let hosts = [query.host(), key.host(), value.host()];
    let biases = bias.as_ref().map(Tracked::host);
    let compute = |keeps: bool| {
        let [q, k, v] = hosts.each_ref().map(Host::values);
        let bias = biases.as_ref().map(Host::values);
        let threads = kernel_threads();
        if !keeps {
            return (hosts[0].with_values(care_kernels::attention(q, k, v, spans, heads, bias, threads)), None);
        }
        let (out, log_sum_exp) = care_kernels::attention_with_log_sum_exp(q, k, v, spans, heads, bias, threads);
        let output = hosts[0].with_values(out);
        let spans = spans.to_vec();
        let gradient =
            AttentionGradient { states: hosts, bias: biases, output: output.clone(), log_sum_exp, spans, heads };
        (output, Some(gradient))
    };
    Some(match bias {
        Some(bias) => record([query, key, value, bias], compute),
        None => record([query, key, value], compute),
    })
}
