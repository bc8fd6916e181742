//! The embedding layer and the blocks of a post-norm encoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::batch::TokenBatch;
use crate::layers::{AttentionShape, Dropout, Embedding, GatedMlp, LayerNorm, Linear, Mlp, SelfAttention};
use crate::ops::{AttentionMask, Kept, RotaryTable};

/// The feed-forward block of a network.
#[allow(clippy::large_enum_variant, reason = "there is one per layer; weights are behind pointers")]
#[derive(Module, Debug)]
pub(crate) enum FeedForward {
    /// BERT's.
    Plain(Mlp),
    /// GTE's.
    Gated(GatedMlp),
}

impl FeedForward {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        match self {
            FeedForward::Plain(mlp) => mlp.forward(input),
            FeedForward::Gated(mlp) => mlp.forward(input),
        }
    }

    fn linears(&mut self) -> Vec<(&'static str, &mut Linear)> {
        match self {
            FeedForward::Plain(mlp) => mlp.linears(),
            FeedForward::Gated(mlp) => mlp.linears(),
        }
    }
}

/// The normalised sum of a token's word, position, type and task vectors.
#[derive(Module, Debug)]
pub(crate) struct TextEmbeddings {
    word: Embedding,
    position: Option<Embedding>,
    token_type: Option<Embedding>,
    task_type: Option<Embedding>,
    norm: LayerNorm,
    dropout: Dropout,
}

/// The sizes of a [`TextEmbeddings`] and its blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    /// Rows of the position table; 0 for none.
    pub(crate) positions: usize,
    /// Rows of the token-type table; 0 for none.
    pub(crate) types: usize,
    /// Rows of the table of task types; 0 for none.
    pub(crate) tasks: usize,
    pub(crate) heads: usize,
    pub(crate) eps: f64,
    pub(crate) dropout: f64,
}

impl Shape {
    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.width, self.eps, device)
    }

    fn dropout(&self) -> Dropout {
        Dropout::new(self.dropout)
    }
}

impl TextEmbeddings {
    pub(crate) fn new(shape: &Shape, device: &Device) -> Self {
        let table = |rows: usize| (rows > 0).then(|| Embedding::new(rows, shape.width, device));
        Self {
            word: Embedding::new(shape.vocab, shape.width, device),
            position: table(shape.positions),
            token_type: table(shape.types),
            task_type: table(shape.tasks),
            norm: shape.norm(device),
            dropout: shape.dropout(),
        }
    }

    pub(crate) fn dropout(&self) -> f64 {
        self.dropout.probability()
    }

    pub(crate) fn set_dropout(&mut self, probability: f64) {
        self.dropout = Dropout::new(probability);
    }

    /// The token embedding table.
    pub(crate) fn words(&mut self) -> &mut Embedding {
        &mut self.word
    }

    /// Whether the network runs on the CPU's kernels.
    pub(crate) fn is_on_kernels(&self) -> bool {
        self.word.is_on_kernels()
    }

    /// The device on which the network computes.
    pub(crate) fn device(&self) -> Device {
        self.word.device()
    }

    /// Embeds a batch. A text's first token gets row `first_position` of the position table; tokens have type 0,
    /// or the types of the batch, and task 0.
    ///
    /// # Shapes
    /// `[batch, seq]` to `[batch, seq, width]`.
    pub(crate) fn forward(&self, batch: &TokenBatch, first_position: usize) -> Tensor<3> {
        let device = self.device();
        let mut sum = self.word.forward(batch.input_ids(&device));
        if let Some(positions) = &self.position {
            sum = sum + positions.forward(batch.position_ids(&device) + first_position as i64);
        }
        if let Some(types) = &self.token_type {
            sum = match batch.token_type_ids(types.rows() as u32 - 1, &device) {
                Some(ids) => sum + types.forward(ids),
                None => sum + types.first_row(),
            };
        }
        if let Some(tasks) = &self.task_type {
            sum = sum + tasks.first_row();
        }
        self.dropout.forward(self.norm.forward(sum))
    }
}

/// Attention and a feed-forward block, each with a residual connection and a norm after it.
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    mlp: FeedForward,
    mlp_norm: LayerNorm,
    dropout: Dropout,
}

impl Block {
    pub(crate) fn new(shape: &Shape, mlp: FeedForward, device: &Device) -> Self {
        Self {
            attention: SelfAttention::new(AttentionShape::even(shape.width, shape.heads), device),
            attention_norm: shape.norm(device),
            mlp,
            mlp_norm: shape.norm(device),
            dropout: shape.dropout(),
        }
    }

    pub(crate) fn set_dropout(&mut self, probability: f64) {
        self.dropout = Dropout::new(probability);
    }

    pub(crate) fn linears(&mut self) -> impl Iterator<Item = (&'static str, &mut Linear)> {
        self.attention.linears().into_iter().chain(self.mlp.linears())
    }

    /// # Shapes
    /// `[batch, seq, width]` to as many states as are kept.
    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        mask: &AttentionMask<'_>,
        kept: Kept<'_>,
    ) -> Tensor<3> {
        let attended = self.dropout.forward(self.attention.forward(input.clone(), rotary, mask, kept));
        let middle = self.attention_norm.forward_sum(kept.of(input), attended);
        let fed = self.dropout.forward(self.mlp.forward(middle.clone()));
        self.mlp_norm.forward_sum(middle, fed)
    }
}
