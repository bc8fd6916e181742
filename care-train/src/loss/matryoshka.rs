//! A loss over nested dimensions, so that truncated vectors work well too.

use burn::tensor::Tensor;
use care_encoders::head::TruncationOrder;

use super::{Loss, LossInput};

/// The weighted sum of another loss at several dimensions.
///
/// # Reference
/// Kusupati et al. 2022, arXiv 2205.13147; `mrl` of the published CARE code, which does not normalise truncated vectors
/// again and weights each of `n` dimensions by `1 / n`.
pub struct Matryoshka<L> {
    loss: L,
    dims: Vec<(usize, f64)>,
    order: TruncationOrder,
}

impl<L: Loss> Matryoshka<L> {
    /// `loss` at each `(dim, weight)`. `order` specifies whether truncated vectors are normalised again.
    pub fn new(loss: L, dims: Vec<(usize, f64)>, order: TruncationOrder) -> Self {
        Self { loss, dims, order }
    }

    /// `loss` at each of `dims`, with weight `1 / dims.len()`.
    pub fn even(loss: L, dims: &[usize], order: TruncationOrder) -> Self {
        let weight = 1.0 / dims.len() as f64;
        Self::new(loss, dims.iter().map(|&dim| (dim, weight)).collect(), order)
    }
}

impl<L: Loss> Loss for Matryoshka<L> {
    fn name(&self) -> String {
        format!("matryoshka {}", self.loss.name())
    }

    /// # Panics
    /// Panics if there are no dimensions, or vectors have fewer than one of them.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let at = |&(dim, weight): &(usize, f64)| self.loss.forward(&input.cut(dim, self.order)).mul_scalar(weight);
        let Some(sum) = self.dims.iter().map(at).reduce(|sum, loss| sum + loss) else {
            panic!("a Matryoshka loss needs at least one dimension")
        };
        sum
    }

    fn needs_alignment(&self) -> bool {
        self.loss.needs_alignment()
    }

    fn needs_teacher_scores(&self) -> bool {
        self.loss.needs_teacher_scores()
    }
}

impl Loss for Box<dyn Loss> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn forward(&self, input: &LossInput) -> Tensor<1> {
        (**self).forward(input)
    }

    fn needs_alignment(&self) -> bool {
        (**self).needs_alignment()
    }

    fn needs_teacher_scores(&self) -> bool {
        (**self).needs_teacher_scores()
    }
}
