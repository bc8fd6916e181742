//! A network: an encoder and its head, the trainable part of a tower.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::{Embeddings, Error, ErrorKind, Result};

use crate::batch::TokenBatch;
use crate::device::Precision;
use crate::encoder::Encoder;
use crate::head::{HeadConfig, LinearProjection, normalize_and_truncate};
use crate::layers::Prepack;
use crate::passes::{EmbedProgress, Passes};

/// The trainable part of a tower: an encoder and its head.
#[derive(Module, Debug)]
pub struct Network<E: Encoder> {
    encoder: E,
    projection: Option<LinearProjection>,
    #[module(skip)]
    head: HeadConfig,
    #[module(skip)]
    dim: usize,
}

impl<E: Encoder> Network<E> {
    /// Puts a head on an encoder. The weights of a projection are zero until they are filled.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if the head's dimensions are 0 or larger than what they are truncated from.
    pub fn new(encoder: E, head: HeadConfig, device: &Device) -> Result<Self> {
        let hidden = encoder.hidden_size();
        let dim = head.embedding_dim(hidden)?;
        let pooled = head.pooling.outputs(hidden);
        let projection = head.projection.as_ref().map(|config| LinearProjection::new(pooled, config, device));
        Ok(Self { encoder, projection, head, dim })
    }

    /// The encoder.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The head's settings.
    pub fn head(&self) -> &HeadConfig {
        &self.head
    }

    /// The projection, if the head has one.
    pub fn projection(&self) -> Option<&LinearProjection> {
        self.projection.as_ref()
    }

    /// Dimensions of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.encoder.hidden_size()
    }

    /// Dimensions of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.dim
    }

    /// The same weights with other head settings.
    ///
    /// # Errors
    /// As [`Network::new`], and if the projection's settings change.
    pub fn with_head(self, head: HeadConfig) -> Result<Self> {
        let hidden = self.encoder.hidden_size();
        let inputs = |head: &HeadConfig| head.projection.as_ref().map(|_| head.pooling.outputs(hidden));
        if head.projection != self.head.projection || inputs(&head) != inputs(&self.head) {
            return Err(Error::new(ErrorKind::Config, "the settings of a trained projection cannot be changed"));
        }
        let dim = head.embedding_dim(hidden)?;
        Ok(Self { head, dim, ..self })
    }

    /// Replaces the projection, if there is one, by `change` of it.
    ///
    /// # Errors
    /// If `change` fails.
    pub fn try_map_projection(self, change: impl FnOnce(LinearProjection) -> Result<LinearProjection>) -> Result<Self> {
        Ok(Self { projection: self.projection.map(change).transpose()?, ..self })
    }

    /// Replaces the encoder by `change` of it, which must keep the hidden size.
    ///
    /// # Errors
    /// If `change` fails.
    pub fn try_map_encoder(self, change: impl FnOnce(E) -> Result<E>) -> Result<Self> {
        Ok(Self { encoder: change(self.encoder)?, ..self })
    }

    /// [`Network::try_map_encoder`] for a change that cannot fail.
    #[must_use]
    pub fn map_encoder(self, change: impl FnOnce(E) -> E) -> Self {
        Self { encoder: change(self.encoder), ..self }
    }

    /// Packs the weights for inference if the network is on the CPU: see [`Encoder::prepacked`]. The projection is
    /// never quantized.
    #[must_use]
    pub fn prepacked(self, prepack: Prepack) -> Self {
        let projection = self.projection.map(LinearProjection::prepacked);
        Self { encoder: self.encoder.prepacked(prepack), projection, ..self }
    }

    /// The same weights, unpacked, for any device and for training.
    #[must_use]
    pub fn unpacked(self) -> Self {
        let projection = self.projection.map(LinearProjection::unpacked);
        Self { encoder: self.encoder.unpacked(), projection, ..self }
    }

    /// A copy with unpacked weights, for callers that need to read them.
    #[must_use]
    pub fn unpacked_copy(&self) -> Self {
        let projection = self.projection.as_ref().map(LinearProjection::unpacked_copy);
        Self { encoder: self.encoder.unpacked_copy(), projection, head: self.head.clone(), dim: self.dim }
    }

    /// Converts the encoder's weights to another dtype. Packed weights are packed again where the new dtype allows it;
    /// [`Precision::Int8`] and [`Precision::Int4`] quantize on the CPU and, like packing, do nothing elsewhere. Clones keep
    /// their weights.
    ///
    /// Converting back does not restore what an earlier conversion has lost.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        if let Some(quantized) = Prepack::quantizing(precision) {
            return self.with_precision(Precision::F32).prepacked(quantized);
        }
        if Precision::of(&self.encoder) == precision {
            return self;
        }
        let mut packed = false;
        self.encoder.clone().for_each_linear(&mut |linear| packed |= linear.prepacked().is_some());
        struct Cast(Precision);
        impl burn::module::ModuleMapper for Cast {
            fn map_float<const D: usize>(
                &mut self,
                param: burn::module::Param<Tensor<D>>,
            ) -> burn::module::Param<Tensor<D>> {
                param.map(|weight| weight.cast(self.0.dtype()))
            }
        }
        let encoder = self.encoder.unpacked_copy().map(&mut Cast(precision));
        // Pooled states are f32, so the projection's weights stay f32.
        Self { encoder: if packed { encoder.prepacked(Prepack::F32) } else { encoder }, ..self }
    }

    /// Memory of the weights in bytes, in the form that they have: packed, quantized or plain. Does not change the form.
    pub fn weight_bytes(&self) -> usize {
        struct Bytes(usize);
        impl burn::module::ModuleVisitor for Bytes {
            fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
                // A packed weight is none of the module's until it is read, and then f32.
                let size = if param.is_initialized() { param.val().dtype().size() } else { size_of::<f32>() };
                self.0 += param.lazy_shape().num_elements() * size;
            }
        }
        let mut bytes = Bytes(0);
        self.visit(&mut bytes);
        self.encoder.clone().for_each_linear(&mut |linear| {
            if let Some(form) = linear.prepacked() {
                bytes.0 -= Prepack::F32.bytes(linear.dims());
                bytes.0 += form.bytes(linear.dims());
            }
        });
        bytes.0
    }

    /// Embeddings of a batch, the same computation for training and inference.
    ///
    /// The batch runs as one forward pass; [`Tower::embed`](crate::Tower::embed) schedules many texts over all threads.
    ///
    /// # Shapes
    /// `[rows, seq]` to `[batch, embedding_dim]`, f32.
    pub fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        self.forward_head(self.encoder.forward(batch), batch)
    }

    /// Embeddings from the hidden states of a batch.
    ///
    /// # Shapes
    /// `[rows, seq, hidden_size]` to `[batch, embedding_dim]`, f32.
    pub fn forward_head(&self, hidden: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
        self.forward_pooled(self.head.pooling.forward(hidden, batch))
    }

    fn forward_pooled(&self, pooled: Tensor<2>) -> Tensor<2> {
        let projected = match &self.projection {
            Some(projection) => projection.forward(pooled),
            None => pooled,
        };
        normalize_and_truncate(projected, self.head.dim, self.head.truncation, self.head.normalize)
    }

    /// Embeddings of texts given as token ids, in order, computed in passes of at most `token_budget` tokens, padding
    /// included, unless one text is longer. Calls `progress` after every pass.
    ///
    /// Texts are padded with `pad_id` unless the network reads packed sequences.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if a vector is not finite; the message names the text's index.
    ///
    /// # Panics
    /// Panics if a text has no tokens, an id that the embedding table lacks, or more tokens than the network has
    /// positions.
    pub fn embed_ids<I: AsRef<[u32]> + Sync>(
        &self,
        texts: &[I],
        pad_id: u32,
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        self.embed_typed(texts, None, pad_id, token_budget, progress)
    }

    /// [`Network::embed_ids`] with the type of each token, or without: texts of two segments have the types that
    /// [`Tokenizer::encode_pairs`](crate::tokenize::Tokenizer::encode_pairs) gives.
    ///
    /// # Errors
    /// As [`Network::embed_ids`].
    ///
    /// # Panics
    /// As [`Network::embed_ids`], and if the types do not fit the ids.
    pub fn embed_typed<I: AsRef<[u32]> + Sync>(
        &self,
        texts: &[I],
        types: Option<&[Vec<u32>]>,
        pad_id: u32,
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        let work = Passes { encoder: &self.encoder, pad_id, token_budget, outputs: self.dim, before: 0 };
        let forward = |batch: &TokenBatch| self.forward_pooled(self.head.pooling.encode(&self.encoder, batch));
        work.run(texts, types, &forward, progress)
    }
}
