//! The losses: one file and one variant of [`LossKind`](crate::LossKind) each, and any other type that implements
//! [`Loss`].

mod cosine;
mod distillation;
mod embedding_kl;
mod embedding_mse;
mod info_nce;
mod input;
mod matryoshka;

use burn::tensor::Tensor;

pub use cosine::CosineDistance;
pub use distillation::Distillation;
pub use embedding_kl::EmbeddingKl;
pub use embedding_mse::EmbeddingMse;
pub use info_nce::InfoNce;
pub use input::{Alignment, LossInput};
pub use matryoshka::Matryoshka;

/// A differentiable function of a batch's vectors, which training minimises.
///
/// The built-in losses are listed in [`LossKind`](crate::LossKind). Any other type that implements this trait can be
/// passed to [`Trainer::with_loss`](crate::Trainer::with_loss) or [`Run::with_losses`](crate::Run::with_losses).
///
/// # Examples
/// A triplet loss over the hard negatives, for stages with a `group_size` >= 2:
///
/// ```
/// use burn::tensor::{Tensor, activation::relu};
/// use care_train::{CustomLosses, Loss, LossInput};
///
/// /// Penalises hard negatives that come within `margin` of the positive.
/// struct Triplet {
///     margin: f64,
/// }
///
/// impl Loss for Triplet {
///     fn name(&self) -> String {
///         "triplet".into()
///     }
///
///     fn forward(&self, input: &LossInput) -> Tensor<1> {
///         let similarities = input.group_similarities();
///         // Column 0 holds the positives, `[b, 1]`, which broadcast over the negatives, `[b, group_size - 1]`.
///         let positives = similarities.clone().narrow(1, 0, 1);
///         let negatives = similarities.narrow(1, 1, input.group_size() - 1);
///         relu((negatives - positives).add_scalar(self.margin)).mean()
///     }
/// }
///
/// // For `Run::with_losses`: every stage of the run gets the loss, with weight 0.5.
/// let losses: &CustomLosses<'_> = &|_stage| vec![(0.5, Box::new(Triplet { margin: 0.1 }))];
/// assert_eq!(losses(0)[0].1.name(), "triplet");
/// ```
pub trait Loss {
    /// The name under which the loss is reported.
    fn name(&self) -> String;

    /// Computes the loss of a batch.
    ///
    /// # Shapes
    /// `[1]`: a mean, so that it does not depend on the batch size.
    fn forward(&self, input: &LossInput) -> Tensor<1>;

    /// Whether the loss requires [`LossInput::alignment`], which only `query-alignment` stages provide.
    fn needs_alignment(&self) -> bool {
        false
    }

    /// Whether the loss requires [`LossInput::teacher_scores`], so that every row must have scores.
    fn needs_teacher_scores(&self) -> bool {
        false
    }
}
