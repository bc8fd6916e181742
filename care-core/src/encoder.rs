//! What a network must do to be a tower's encoder.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::layers::Packing;
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

    /// Where the network computes.
    fn device(&self) -> Device {
        self.devices().first().cloned().unwrap_or_default()
    }

    /// Whether texts are best put one after another in a row here, rather than padded: see [`TokenBatch::pack`].
    /// By default they are not.
    fn packs_texts(&self) -> bool {
        false
    }

    /// Lays the weights out for inference on the CPU, where that is what they are for: see
    /// [`Linear::pack`](crate::layers::Linear::pack). By default they stay as they are.
    #[must_use]
    fn packed(self, _packing: Packing) -> Self {
        self
    }

    /// Whether weights have been rounded to bytes, however they are kept now. By default they are not.
    fn is_rounded(&self) -> bool {
        false
    }

    /// The same weights, for any device and for training: see
    /// [`Linear::unpacked`](crate::layers::Linear::unpacked). By default they are.
    #[must_use]
    fn unpacked(self) -> Self {
        self
    }

    /// A copy with plain weights, for who reads them: see
    /// [`Linear::unpacked_copy`](crate::layers::Linear::unpacked_copy).
    #[must_use]
    fn unpacked_copy(&self) -> Self {
        self.clone()
    }

    /// Hidden states of every token.
    ///
    /// Neither padding nor other texts change the hidden states of a text's own tokens; what stands at padded
    /// positions is finite and otherwise unspecified.
    ///
    /// # Shapes
    /// A batch `[rows, seq]` to `[rows, seq, hidden_size]`, in the weights' number format.
    fn forward(&self, batch: &TokenBatch) -> Tensor<3>;
}
