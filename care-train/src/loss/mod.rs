//! The losses: one file each, one row each in [`LossKind`], and whatever else implements [`Loss`].

mod cosine;
mod distillation;
mod embedding_mse;
mod info_nce;
mod input;
mod matryoshka;

use burn::tensor::Tensor;

pub use cosine::CosineDistance;
pub use distillation::Distillation;
pub use embedding_mse::EmbeddingMse;
pub use info_nce::InfoNce;
pub use input::{Alignment, LossInput};
pub use matryoshka::Matryoshka;

/// What a step's vectors are worth: a number to be made smaller.
///
/// The losses of this crate are the rows of [`LossKind`](crate::LossKind); any other type that implements
/// this trait can be passed to [`Trainer::with_loss`](crate::Trainer::with_loss).
pub trait Loss {
    /// The name under which its value is reported.
    fn name(&self) -> String;

    /// The loss of a step.
    ///
    /// # Shapes
    /// `[1]`: a mean, so that it does not depend on the size of the batch.
    fn forward(&self, input: &LossInput) -> Tensor<1>;

    /// Whether [`LossInput::alignment`] must be there, so that only `query-alignment` has this loss.
    fn needs_alignment(&self) -> bool {
        false
    }

    /// Whether [`LossInput::teacher_scores`] must be there, so that every row needs scores.
    fn needs_teacher_scores(&self) -> bool {
        false
    }
}
