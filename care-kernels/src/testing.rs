//! Helpers for the kernels' unit tests.

use std::ops::Range;

use crate::activation::Activation;
use crate::attention::{AttentionHeads, States};

/// Pseudorandom numbers in `[-1, 1)`.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Matmul by its definition, in f64.
pub(crate) fn product(input: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in input.chunks_exact(inputs) {
        for column in 0..outputs {
            let terms = row.iter().zip(weight[column..].iter().step_by(outputs));
            out.push(terms.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum());
        }
    }
    out
}

/// Panics if two results differ by more than `bound` anywhere.
pub(crate) fn close(actual: &[f32], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (at, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= bound, "{what}: element {at} is {actual}, expected {expected}");
    }
}

/// The error function by its series, in f64.
pub(crate) fn exact_erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

impl Activation {
    /// The function by its definition, in f64.
    pub(crate) fn exact(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            // Beyond ±5.5 the distribution function is 0 or 1 to well below the bounds of the tests.
            Self::Gelu if x.abs() >= 5.5 => x.max(0.0),
            Self::Gelu => x * 0.5 * (1.0 + exact_erf(x / 2f64.sqrt())),
            Self::GeluTanh => x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))),
            Self::Silu => x * sigmoid(x),
            Self::Relu => x.max(0.0),
        }
    }
}

/// The derivative of `function` at `x` by a central difference of fourth order.
pub(crate) fn slope(function: impl Fn(f64) -> f64, x: f64) -> f64 {
    let step = 1e-3;
    let rise = |steps: f64| function(x + steps * step) - function(x - steps * step);
    (8.0 * rise(1.0) - rise(2.0)) / (12.0 * step)
}

/// Numbers in f64.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Attention by its definition, in f64.
#[derive(Clone)]
pub(crate) struct ExactAttention {
    /// Query, key, value, bias; the last may be empty.
    pub(crate) inputs: [Vec<f64>; 4],
    pub(crate) shape: AttentionHeads,
}

impl ExactAttention {
    pub(crate) fn new(states: &States<'_>) -> Self {
        let inputs = [states.query, states.key, states.value, states.bias.unwrap_or(&[])].map(wide);
        Self { inputs, shape: states.shape }
    }

    /// The keys that a row of a text sees.
    pub(crate) fn keys(&self, row: usize, text: Range<usize>) -> impl Iterator<Item = usize> + Clone {
        let AttentionHeads { causal, reach, .. } = self.shape;
        let end = if causal { row + 1 } else { text.end };
        (text.start..end).filter(move |key| reach.is_none_or(|reach| key.abs_diff(row) <= reach))
    }

    /// Where a query's head, that of a key or value, and their bias start.
    pub(crate) fn places(&self, head: usize, row: usize, key: usize) -> [usize; 3] {
        let AttentionHeads { heads, kv_heads, head_dim, .. } = self.shape;
        let count = self.inputs[3].len() / heads;
        let kv_head = head / (heads / kv_heads);
        // Past the end if there is no bias.
        let bias = if count == 0 { 0 } else { head * count + count / 2 + row - key };
        [(row * heads + head) * head_dim, (key * kv_heads + kv_head) * head_dim, bias]
    }

    pub(crate) fn score(&self, head: usize, row: usize, key: usize) -> f64 {
        let ([q, k, bias], size) = (self.places(head, row, key), self.shape.head_dim);
        let terms = self.inputs[0][q..q + size].iter().zip(&self.inputs[1][k..]).map(|(x, y)| x * y);
        terms.sum::<f64>() * f64::from(self.shape.scale) + self.inputs[3].get(bias).unwrap_or(&0.0)
    }

    /// The result, and the logarithms of the denominators.
    pub(crate) fn attend(&self, spans: &[(usize, usize)]) -> (Vec<f64>, Vec<f64>) {
        let AttentionHeads { heads, head_dim, .. } = self.shape;
        let mut out = vec![0.0; self.inputs[0].len()];
        let tokens = out.len() / heads / head_dim;
        let mut logs = vec![0.0; heads * tokens];
        for &(start, end) in spans {
            for (row, head) in (start..end).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let keys = self.keys(row, start..end);
                let weights: Vec<f64> = keys.clone().map(|key| self.score(head, row, key).exp()).collect();
                let total: f64 = weights.iter().sum();
                logs[head * tokens + row] = total.ln();
                for (key, weight) in keys.zip(weights) {
                    let [q, k, _] = self.places(head, row, key);
                    for (out, value) in out[q..q + head_dim].iter_mut().zip(&self.inputs[2][k..]) {
                        *out += weight / total * value;
                    }
                }
            }
        }
        (out, logs)
    }

    /// The gradients of the inputs for the gradient of the result.
    pub(crate) fn gradients(&self, spans: &[(usize, usize)], gradient: &[f64]) -> [Vec<f64>; 4] {
        let AttentionHeads { heads, head_dim, scale, .. } = self.shape;
        let (out, logs) = self.attend(spans);
        let tokens = logs.len() / heads;
        let mut found = self.inputs.clone().map(|values| vec![0.0; values.len()]);
        for &(start, end) in spans {
            for (row, head) in (start..end).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                for key in self.keys(row, start..end) {
                    let [q, k, bias] = self.places(head, row, key);
                    let weight = (self.score(head, row, key) - logs[head * tokens + row]).exp();
                    let slope: f64 =
                        (0..head_dim).map(|d| gradient[q + d] * (self.inputs[2][k + d] - out[q + d])).sum();
                    let slope = weight * slope;
                    for d in 0..head_dim {
                        found[0][q + d] += slope * f64::from(scale) * self.inputs[1][k + d];
                        found[1][k + d] += slope * f64::from(scale) * self.inputs[0][q + d];
                        found[2][k + d] += weight * gradient[q + d];
                    }
                    if let Some(bias) = found[3].get_mut(bias) {
                        *bias += slope;
                    }
                }
            }
        }
        found
    }
}
