//! Contrastive loss over in-batch and hard negatives.

use burn::tensor::{Tensor, activation::log_softmax};

use super::{Loss, LossInput};

/// InfoNCE: cross-entropy over each query's similarities to its candidates, with the positive as the target. Known
/// answers of the query ([`LossInput::known_answers`]) are no candidates.
///
/// # Reference
/// van den Oord et al. 2018, arXiv 1807.03748; CARE, arXiv 2604.10937, both stages (`contrastive` of the
/// published code). The masks follow Qwen3-Embedding, arXiv 2506.05176, and NV-Retriever, arXiv 2407.15831.
/// DIFFERENCE: the published code has no mask, so a text that is in a batch twice counts as its own negative.
#[derive(Debug, Clone, PartialEq)]
pub struct InfoNce {
    /// Softmax temperature, > 0. Lower values put more weight on the hardest negatives.
    pub temperature: f64,
    /// Candidates whose similarity to the query exceeds that of its positive by more than this margin are treated as
    /// false negatives and masked too. `None` masks known answers only.
    pub false_negative_margin: Option<f64>,
}

impl InfoNce {
    /// InfoNCE without a margin: every candidate that is not known to be an answer is a negative.
    pub fn new(temperature: f64) -> Self {
        Self { temperature, false_negative_margin: None }
    }
}

impl Loss for InfoNce {
    fn name(&self) -> String {
        "info-nce".into()
    }

    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let (mut similarities, targets) = input.candidates();
        if let Some(margin) = self.false_negative_margin {
            let [batch, candidates] = similarities.dims();
            let fixed = similarities.clone().detach();
            let positive = fixed.clone().gather(1, targets.clone());
            let suspects = fixed.greater(positive.expand([batch, candidates]) + margin);
            let columns = Tensor::arange(0..candidates as i64, &targets.device()).unsqueeze::<2>();
            let is_positive = columns.expand([batch, candidates]).equal(targets.clone().expand([batch, candidates]));
            similarities = similarities.mask_fill(suspects.bool_and(is_positive.bool_not()), f64::NEG_INFINITY);
        }
        log_softmax(similarities.div_scalar(self.temperature), 1).gather(1, targets).mean().neg()
    }
}
