//! Helpers for the kernels' unit tests.

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
