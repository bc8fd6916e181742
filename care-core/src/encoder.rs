//! What a network must do to be a tower's encoder.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

use crate::{PaddingSide, TokenBatch};

/// A network that turns token ids into one hidden state a token.
///
/// Training and inference call the same [`Encoder::forward`]; whether a graph is built depends on
/// the device the weights live on, nothing else.
pub trait Encoder: Module + ModuleDisplay + Sync + 'static {
    /// Width of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Rows of the token embedding table.
    fn vocab_size(&self) -> usize;

    /// The longest text, in tokens, that the network has positions for.
    fn max_positions(&self) -> usize;

    /// On which side this network's batches are padded.
    fn padding_side(&self) -> PaddingSide {
        PaddingSide::Right
    }

    /// Hidden states of every token.
    ///
    /// Padding never changes the hidden state of a text's own tokens; what stands at padded
    /// positions is finite and otherwise unspecified.
    ///
    /// # Shapes
    /// A batch `[batch, seq]` to `[batch, seq, hidden_size]`, in the weights' number format.
    fn forward(&self, batch: &TokenBatch) -> Tensor<3>;
}
