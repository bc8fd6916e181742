//! A loss over nested widths, so that shorter vectors are good too.

use burn::tensor::Tensor;
use care_core::TruncationOrder;

use super::{Loss, LossInput};

/// The weighted sum of another loss at several widths.
///
/// # Reference
/// Kusupati et al. 2022, arXiv 2205.13147; `mrl` of the published CARE code, which does not normalise the
/// shorter vectors again and weighs each width by 1 over their number.
pub struct Matryoshka<L> {
    loss: L,
    widths: Vec<(usize, f64)>,
    order: TruncationOrder,
}

impl<L: Loss> Matryoshka<L> {
    /// `loss` at each width, times its weight. `order` says whether shorter vectors are normalised again.
    pub fn new(loss: L, widths: Vec<(usize, f64)>, order: TruncationOrder) -> Self {
        Self { loss, widths, order }
    }

    /// Every width with a weight of 1 over their number.
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
    /// When there is no width, or vectors are narrower than one of them.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let at = |&(dim, weight): &(usize, f64)| self.loss.forward(&input.cut(dim, self.order)).mul_scalar(weight);
        let Some(sum) = self.widths.iter().map(at).reduce(|sum, loss| sum + loss) else {
            panic!("a Matryoshka loss needs a width")
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
