//! The [`Encoder`] trait: what a network must implement to become part of a tower.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::batch::{PaddingSide, TokenBatch};
use crate::layers::{Linear, Prepack, with_int8_tables};
use crate::ops::take_positions;

/// A network that maps token ids to one hidden state per token.
///
/// Training and inference call the same [`Encoder::forward`]; whether a graph is built depends on the device that holds
/// the weights, nothing else.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Embedding, EmbeddingConfig};
/// use burn::tensor::{Device, Tensor};
/// use care_encoders::batch::TokenBatch;
/// use care_encoders::head::{HeadConfig, Pooling};
/// use care_encoders::{Encoder, Network};
///
/// /// The smallest encoder: a table of token vectors.
/// #[derive(Module, Debug)]
/// struct BagOfTokens {
///     table: Embedding,
/// }
///
/// impl Encoder for BagOfTokens {
///     fn hidden_size(&self) -> usize {
///         8
///     }
///
///     fn vocab_size(&self) -> usize {
///         100
///     }
///
///     fn max_positions(&self) -> usize {
///         usize::MAX
///     }
///
///     fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
///         self.table.forward(batch.input_ids(&self.device()))
///     }
/// }
///
/// let device: Device = care_encoders::Device::Cpu.open()?;
/// let encoder = BagOfTokens { table: EmbeddingConfig::new(100, 8).init(&device) };
/// let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &device)?;
/// let vectors = network.forward(&TokenBatch::pad(&[vec![7, 8, 9], vec![7]], 0, Default::default()));
/// assert_eq!(vectors.dims(), [2, 8]);
/// # Ok::<(), care_core::Error>(())
/// ```
pub trait Encoder: Module + ModuleDisplay + Sync + 'static {
    /// Size of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Rows of the token embedding table.
    fn vocab_size(&self) -> usize;

    /// Length of the longest text, in tokens, that the network has positions for.
    fn max_positions(&self) -> usize;

    /// Hidden states of every token.
    ///
    /// Neither padding nor other texts may change the hidden states of a text's own tokens; those at padded positions
    /// must be finite and are otherwise unspecified.
    ///
    /// # Shapes
    /// A batch `[rows, seq]` to `[rows, seq, hidden_size]`, in the weights' dtype.
    fn forward(&self, batch: &TokenBatch) -> Tensor<3>;

    /// The hidden states of the tokens at some positions, counted through all rows, in inference. CLS and last-token
    /// pooling read one per text, so a network need not compute the rest after its last attention; by default it does.
    ///
    /// # Shapes
    /// A batch `[rows, seq]` to `[positions, hidden_size]`, in the weights' dtype.
    fn forward_at(&self, batch: &TokenBatch, positions: &[usize]) -> Tensor<2> {
        take_positions(self.forward(batch), positions)
    }

    /// Into how many steps [`Encoder::forward_step`] divides the forward pass; 1 by default.
    fn forward_steps(&self) -> usize {
        1
    }

    /// One step of the forward pass, usually a layer, for gradient checkpointing, which keeps only the states between steps.
    /// `states` are those that the step before returned; `None` for step 0.
    ///
    /// # Shapes
    /// Those of [`Encoder::forward`] after the last step; before, those of hidden states.
    fn forward_step(&self, step: usize, states: Option<Tensor<3>>, batch: &TokenBatch) -> Tensor<3> {
        let _ = (step, states);
        self.forward(batch)
    }

    /// On which side this network's batches are padded; right by default.
    fn padding_side(&self) -> PaddingSide {
        PaddingSide::Right
    }

    /// The device on which the network computes.
    fn device(&self) -> Device {
        self.devices().first().cloned().unwrap_or_default()
    }

    /// Whether batches are best given as packed sequences ([`TokenBatch::varlen`]) rather than padded; false by
    /// default.
    fn prefers_varlen(&self) -> bool {
        false
    }

    /// Calls `visit` with every linear layer whose weight may be packed or quantized; none by default.
    fn for_each_linear(&mut self, visit: &mut dyn FnMut(&mut Linear)) {
        let _ = visit;
    }

    /// Packs the weights for inference on the CPU, where that applies: see [`Linear::prepack`]. With [`Prepack::Int8`], tables of
    /// embeddings are rounded to the numbers that int8 with a scale a row has.
    #[must_use]
    fn prepacked(mut self, prepack: Prepack) -> Self {
        self.for_each_linear(&mut |linear| linear.prepack(prepack));
        if prepack == Prepack::Int8 { with_int8_tables(self) } else { self }
    }

    /// Whether any weight has been quantized, whatever its form is now.
    fn is_quantized(&self) -> bool {
        self.quantization().is_some()
    }

    /// How weights have been quantized, if any have, whatever their form is now.
    fn quantization(&self) -> Option<Prepack> {
        let mut quantization = None;
        self.clone().for_each_linear(&mut |linear| quantization = quantization.or(linear.quantization()));
        quantization
    }

    /// The same weights, unpacked, for any device and for training: see [`Linear::unpacked`].
    #[must_use]
    fn unpacked(mut self) -> Self {
        self.for_each_linear(&mut |linear| *linear = linear.clone().unpacked());
        self
    }

    /// A copy with unpacked weights, for callers that need to read them: see [`Linear::unpacked_copy`].
    #[must_use]
    fn unpacked_copy(&self) -> Self {
        let mut copy = self.clone();
        copy.for_each_linear(&mut |linear| *linear = linear.unpacked_copy());
        copy
    }
}
