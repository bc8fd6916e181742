//! Divergence between the vectors of student and teacher, read as distributions over their dimensions.

use burn::tensor::{Tensor, activation::log_softmax};

use super::{Loss, LossInput};

/// Kullback-Leibler divergence from the softmax of the teacher's vector to the softmax of the student's, averaged over
/// rows: `1/N Σ_n Σ_i p_ni ln(p_ni / q_ni)` with `p_n = softmax(t_n / temperature)` and
/// `q_n = softmax(s_n / temperature)`, each over the vector's dimensions.
///
/// It is 0 for equal vectors, and also for vectors that differ by the same number in every dimension, which a softmax
/// does not see.
///
/// # Reference
/// KALE: Campos, Magnani and Zhai 2023, arXiv 2304.01016: a pruned query encoder is aligned, after training, by the KL
/// divergence of embeddings. The rest is decided here: the softmax is over dimensions, the teacher's distribution is the
/// target as in distillation (Hinton et al. 2015, arXiv 1503.02531) but without its factor `temperature²`, and the
/// vectors are those that inference returns, so normalised ones where the towers normalise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingKl {
    /// Softmax temperature of both vectors, > 0. Components of a vector of length 1 are about `1 / sqrt(dim)`: at
    /// a temperature much above that, both distributions are nearly uniform, and the gradient nearly vanishes.
    pub temperature: f64,
}

impl Loss for EmbeddingKl {
    fn name(&self) -> String {
        "embedding-kl".into()
    }

    /// # Panics
    /// Panics if the input has no alignment.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let pair = input.aligned();
        let student = log_softmax(pair.student.clone().div_scalar(self.temperature), 1);
        let teacher = log_softmax(pair.teacher.clone().div_scalar(self.temperature), 1);
        (teacher.clone().exp() * (teacher - student)).sum_dim(1).mean()
    }

    fn needs_alignment(&self) -> bool {
        true
    }
}
