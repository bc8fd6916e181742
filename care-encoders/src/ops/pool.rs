//! Weighted sums of the hidden states of each text.

use burn::tensor::Tensor;

/// The sum of each text's hidden states times its weights, one per token, on the training kernels; `None` elsewhere.
/// `spans` are the texts' tokens, counted through all rows.
///
/// # Shapes
/// `[rows, seq, hidden]` to `[texts, hidden]`.
pub(crate) fn sum_spans(
    states: &Tensor<3>,
    spans: &[(usize, usize)],
    weights: impl Fn(usize) -> Vec<f32>,
) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    if super::training::is_on_training_kernels(states) {
        let weights = spans.iter().map(|(start, end)| weights(end - start)).collect();
        return super::training::sum_spans(states, spans, weights);
    }
    let _ = (states, spans, weights);
    None
}
