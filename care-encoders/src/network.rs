//! The trainable part of a tower: an encoder and its head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::{Embeddings, Error, ErrorKind, Result};

use crate::batch::TokenBatch;
use crate::device::Precision;
use crate::encoder::Encoder;
use crate::head::{HeadConfig, LinearProjection, normalize_and_truncate};
use crate::layers::Prepack;
use crate::schedule::Schedule;

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
    /// Puts a head on an encoder; a projection's weights are zero until they are filled.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] when a width is 0 or larger than what it is cut from.
    pub fn new(encoder: E, head: HeadConfig, device: &Device) -> Result<Self> {
        let hidden = encoder.hidden_size();
        let dim = head.embedding_dim(hidden)?;
        let projection = head.projection.as_ref().map(|config| LinearProjection::new(hidden, config, device));
        Ok(Self { encoder, projection, head, dim })
    }

    /// The network under the head.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The head's settings.
    pub fn head(&self) -> &HeadConfig {
        &self.head
    }

    /// The learned projection, if the head has one.
    pub fn projection(&self) -> Option<&LinearProjection> {
        self.projection.as_ref()
    }

    /// Width of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.encoder.hidden_size()
    }

    /// Components of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.dim
    }

    /// The same weights under other head settings.
    ///
    /// # Errors
    /// As [`Network::new`]; also when the learned projection would have to change its width.
    pub fn with_head(self, head: HeadConfig) -> Result<Self> {
        if head.projection != self.head.projection {
            return Err(Error::new(ErrorKind::Config, "a learned projection's width cannot be changed after training"));
        }
        let dim = head.embedding_dim(self.encoder.hidden_size())?;
        Ok(Self { head, dim, ..self })
    }

    /// The network with its learned projection, if it has one, replaced by what `change` makes of it.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn try_map_projection(self, change: impl FnOnce(LinearProjection) -> Result<LinearProjection>) -> Result<Self> {
        Ok(Self { projection: self.projection.map(change).transpose()?, ..self })
    }

    /// The network with its encoder replaced by what `change` makes of it, of the same width.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn try_map_encoder(self, change: impl FnOnce(E) -> Result<E>) -> Result<Self> {
        Ok(Self { encoder: change(self.encoder)?, ..self })
    }

    /// [`Network::try_map_encoder`] for a change that cannot fail.
    #[must_use]
    pub fn map_encoder(self, change: impl FnOnce(E) -> E) -> Self {
        Self { encoder: change(self.encoder), ..self }
    }

    /// The network with its weights laid out for inference on the CPU, where that is where it is: see
    /// [`Encoder::prepacked`]. The head's own weights are never rounded.
    #[must_use]
    pub fn prepacked(self, prepack: Prepack) -> Self {
        let projection = self.projection.map(LinearProjection::prepacked);
        Self { encoder: self.encoder.prepacked(prepack), projection, ..self }
    }

    /// The same network, for any device and for training.
    #[must_use]
    pub fn unpacked(self) -> Self {
        let projection = self.projection.map(LinearProjection::unpacked);
        Self { encoder: self.encoder.unpacked(), projection, ..self }
    }

    /// A copy with plain weights, for who reads them.
    #[must_use]
    pub fn unpacked_copy(&self) -> Self {
        let projection = self.projection.as_ref().map(LinearProjection::unpacked_copy);
        Self { encoder: self.encoder.unpacked_copy(), projection, head: self.head.clone(), dim: self.dim }
    }

    /// The weights in another number format.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        if precision == Precision::Int8 {
            return self.prepacked(Prepack::Int8);
        }
        struct Cast(Precision);
        impl burn::module::ModuleMapper for Cast {
            fn map_float<const D: usize>(
                &mut self,
                param: burn::module::Param<Tensor<D>>,
            ) -> burn::module::Param<Tensor<D>> {
                param.map(|weight| weight.cast(self.0.dtype()))
            }
        }
        let encoder = self.encoder.map(&mut Cast(precision));
        // Pooled states are f32, so the head's own weights stay f32.
        Self { encoder, ..self }
    }

    /// Embeddings of a batch: the one forward of training and inference.
    ///
    /// It runs as one pass, on the calling thread as far as that computes; [`Tower::embed`](crate::Tower::embed) schedules
    /// many texts over all threads.
    ///
    /// # Shapes
    /// `[rows, seq]` to `[batch, embedding_dim]`, f32.
    pub fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        let pooled = self.head.pooling.forward(self.encoder.forward(batch), batch);
        let projected = match &self.projection {
            Some(projection) => projection.forward(pooled),
            None => pooled,
        };
        normalize_and_truncate(projected, self.head.dim, self.head.truncation, self.head.normalize)
    }

    /// Embeddings of texts given as token ids, in their order, computed in passes of at most `token_budget` tokens, padding
    /// included, unless one text is longer. `progress` is called after every pass.
    ///
    /// Texts are padded with `pad_id` where the network does not read packed sequences.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if a vector is not finite; the message names the text's index.
    ///
    /// # Panics
    /// If a text has no token, an id that the embedding table lacks, or more tokens than the network has positions.
    pub fn embed_ids<I: AsRef<[u32]> + Sync>(
        &self,
        texts: &[I],
        pad_id: u32,
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.as_ref().len()).collect();
        let varlen = self.encoder.prefers_varlen();
        let schedule = Schedule::inference(&lengths, varlen, &self.encoder.device(), token_budget);
        let forward = |pass: usize| {
            let rows: Vec<&[u32]> = schedule.passes()[pass].iter().map(|&index| texts[index].as_ref()).collect();
            let batch = match varlen {
                true => TokenBatch::varlen(&rows),
                false => TokenBatch::pad(&rows, pad_id, self.encoder.padding_side()),
            };
            let vectors = self.forward(&batch).into_data().try_to_vec::<f32>();
            let vectors = vectors
                .map_err(|e| Error::new(ErrorKind::Dimension, format!("the tower's output is not f32: {e:?}")))?;
            Ok((batch, vectors))
        };
        let mut done = EmbedProgress::default();
        let mut embeddings = Embeddings::zeros(texts.len(), self.dim);
        schedule.run(&forward, &mut |pass, (batch, vectors)| {
            for (vector, &index) in vectors.chunks_exact(self.dim).zip(&schedule.passes()[pass]) {
                if vector.iter().any(|value| !value.is_finite()) {
                    return Err(Error::new(ErrorKind::NonFinite, format!("the vector of text {index} is not finite")));
                }
                embeddings.set(index, vector);
            }
            done.add(&batch);
            progress(&done);
            Ok(())
        })?;
        Ok(embeddings)
    }
}

/// How far an embedding of many texts is, and what it has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmbedProgress {
    /// Texts that have their vector.
    pub texts: usize,
    /// Tokens of these texts.
    pub tokens: usize,
    /// Positions that were computed only to fill batches.
    pub padding: usize,
}

impl EmbedProgress {
    /// The part of all computed positions that was padding, from 0 to below 1.
    pub fn padding_ratio(&self) -> f64 {
        self.padding as f64 / (self.tokens + self.padding).max(1) as f64
    }

    fn add(&mut self, batch: &TokenBatch) {
        self.texts += batch.batch_size();
        self.tokens += batch.token_count();
        self.padding += batch.rows() * batch.seq_len() - batch.token_count();
    }
}
