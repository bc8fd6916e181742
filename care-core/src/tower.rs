//! One side of a retriever: tokenizer, network, pooling, projection, normalisation.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::kernels::on_this_thread;
use crate::layers::Packing;
use crate::projection::{LinearProjection, ProjectionConfig, TruncationOrder, normalize_and_truncate};
use crate::{
    Document, EmbeddingStore, Embeddings, Encoder, Error, ErrorKind, Instruction, Pooling, Precision, Query, Result,
    Text, TokenBatch, Tokenizer, length_buckets, passes_at_once, run_pieces,
};

/// Tokens of a part of a batch that gets a forward pass of its own: few enough for what a layer computes to stay in a
/// core's cache.
const TOKENS_OF_A_PASS: usize = 128;

/// How hidden states become an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Which hidden states make a text's vector.
    pub pooling: Pooling,
    /// A learned linear projection after pooling; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionConfig>,
    /// Keep only the first `dim` components; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of cutting and normalising.
    #[serde(default)]
    pub truncation: TruncationOrder,
    /// Whether vectors are normalised to length 1; true by default.
    #[serde(default = "yes")]
    pub normalize: bool,
}

fn yes() -> bool {
    true
}

impl HeadConfig {
    /// Normalised vectors at the network's full width.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, projection: None, dim: None, truncation: TruncationOrder::default(), normalize: true }
    }

    /// Components of an embedding, cut from `hidden_size` or from the projection's width.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] when a width is 0 or larger than what it is cut from.
    fn embedding_dim(&self, hidden_size: usize) -> Result<usize> {
        let width = self.projection.as_ref().map_or(hidden_size, |projection| projection.outputs);
        let dim = self.dim.unwrap_or(width);
        if width == 0 || dim == 0 || dim > width {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!("an embedding of {dim} dimensions cannot be cut from the tower's {width}"),
            ));
        }
        Ok(dim)
    }

    /// The same head with vectors of `dim` components.
    #[must_use]
    pub fn with_dim(self, dim: usize) -> Self {
        Self { dim: Some(dim), ..self }
    }
}

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
    /// [`Encoder::packed`]. The head's own weights are never rounded.
    #[must_use]
    pub fn packed(self, packing: Packing) -> Self {
        let projection = self.projection.map(LinearProjection::packed);
        Self { encoder: self.encoder.packed(packing), projection, ..self }
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
            return self.packed(Packing::Int8);
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

    /// Embeddings of a batch. The one forward of training and inference.
    ///
    /// # Shapes
    /// `[rows, seq]` to `[batch, embedding_dim]`, f32.
    pub fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        if !self.encoder.packs_texts() {
            return self.forward_here(batch);
        }
        let (threads, tokens) = (rayon::current_num_threads(), batch.token_count());
        let passes = tokens / TOKENS_OF_A_PASS;
        let balanced = |parts: &Vec<TokenBatch>| {
            parts.len() >= 2 * threads && parts.iter().all(|part| part.token_count() * threads <= tokens)
        };
        // Several passes for each thread, none of which waits for another thread.
        if let Some(parts) = batch.split(passes).filter(balanced) {
            let forward = |part: &TokenBatch| on_this_thread(|| self.forward_here(part));
            return Tensor::cat(parts.par_iter().with_max_len(1).map(forward).collect(), 0);
        }
        match batch.split(passes.min(threads)) {
            // A pass for each thread; what one leaves of its pass another takes.
            Some(parts) => Tensor::cat(parts.par_iter().map(|part| self.forward_here(part)).collect(), 0),
            // On one of the threads that compute. From any other, every operation would have to wake one and wait for it.
            None => rayon::scope(|_| self.forward_here(batch)),
        }
    }

    fn forward_here(&self, batch: &TokenBatch) -> Tensor<2> {
        let pooled = self.head.pooling.forward(self.encoder.forward(batch), batch);
        let projected = match &self.projection {
            Some(projection) => projection.forward(pooled),
            None => pooled,
        };
        normalize_and_truncate(projected, self.head.dim, self.head.truncation, self.head.normalize)
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

/// One side of a retriever, bound to its role by type: a `Tower<Query, _>` reads no documents.
#[derive(Debug, Clone)]
pub struct Tower<T: Text, E: Encoder> {
    tokenizer: Tokenizer,
    network: Network<E>,
    instruction: Instruction<T>,
}

/// The tower that encodes queries online.
pub type QueryTower<E> = Tower<Query, E>;

/// The tower that encodes documents offline.
pub type DocumentTower<E> = Tower<Document, E>;

impl<T: Text, E: Encoder> Tower<T, E> {
    /// Joins the parts after checking that they fit.
    ///
    /// # Errors
    /// When the tokenizer gives ids that the embedding table lacks, or its length limit exceeds the
    /// network's positions.
    pub fn new(tokenizer: Tokenizer, network: Network<E>, instruction: Instruction<T>) -> Result<Self> {
        let (ids, rows) = (tokenizer.vocab_size(), network.encoder.vocab_size());
        if ids > rows {
            return Err(Error::new(
                ErrorKind::Tokenizer,
                format!("the {} tower's tokenizer has {ids} ids but the embedding table {rows} rows", T::ROLE.as_str()),
            ));
        }
        if tokenizer.pad_id() as usize >= rows {
            let (role, pad) = (T::ROLE.as_str(), tokenizer.pad_id());
            let message = format!("the {role} tower's padding id is {pad} but the embedding table has {rows} rows");
            return Err(Error::new(ErrorKind::Tokenizer, message));
        }
        let positions = network.encoder.max_positions();
        if tokenizer.max_length() > positions {
            return Err(Error::setting(
                "max_length",
                tokenizer.max_length(),
                &format!("at most {positions}, the positions of the {} tower", T::ROLE.as_str()),
            ));
        }
        Ok(Self { tokenizer, network, instruction })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Encoder and head.
    pub fn network(&self) -> &Network<E> {
        &self.network
    }

    /// The prompt template.
    pub fn instruction(&self) -> &Instruction<T> {
        &self.instruction
    }

    /// Components of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.network.embedding_dim()
    }

    /// The tower with its network replaced by what `change` makes of it: other weights, another
    /// device, another number format.
    #[must_use]
    pub fn map_network(self, change: impl FnOnce(Network<E>) -> Network<E>) -> Self {
        Self { network: change(self.network), ..self }
    }

    /// [`Tower::map_network`] for a change that can fail.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn try_map_network(self, change: impl FnOnce(Network<E>) -> Result<Network<E>>) -> Result<Self> {
        Ok(Self { network: change(self.network)?, ..self })
    }

    /// Replaces the network in place, as [`Tower::map_network`] does by value.
    pub fn update_network(&mut self, change: impl FnOnce(Network<E>) -> Network<E>) {
        // Cloning shares the weights; the copy that stays is dropped with the assignment.
        self.network = change(self.network.clone());
    }

    /// The tower with another prompt template.
    #[must_use]
    pub fn with_instruction(self, instruction: Instruction<T>) -> Self {
        Self { instruction, ..self }
    }

    /// Texts as the tokenizer reads them: with the instruction applied.
    pub fn prepare(&self, texts: &[T]) -> Vec<String> {
        texts.iter().map(|text| self.instruction.apply(text)).collect()
    }

    /// Token ids of each text, with the instruction applied.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn tokenize(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        self.tokenizer.encode(&self.prepare(texts))
    }

    /// Puts tokenized texts together as this tower's network reads them best: without padding on the CPU in f32, where
    /// each token attends to its own text alone at no cost, else padded.
    ///
    /// # Panics
    /// When there is no text, or one without a token.
    pub fn batch<I: AsRef<[u32]>>(&self, texts: &[I]) -> TokenBatch {
        match self.network.encoder.packs_texts() {
            true => TokenBatch::pack(texts),
            false => TokenBatch::pad(texts, self.tokenizer.pad_id(), self.network.encoder.padding_side()),
        }
    }

    /// Embeddings of texts in their order, computed in length buckets of at most `token_budget` tokens.
    ///
    /// # Errors
    /// When the tokenizer refuses a text, or a vector is not finite (the message names the text's
    /// index).
    pub fn embed(&self, texts: &[T], token_budget: usize) -> Result<Embeddings> {
        self.embed_with_progress(texts, token_budget, &mut |_| {})
    }

    /// [`Tower::embed`] that says after every bucket how far it is.
    ///
    /// # Errors
    /// As [`Tower::embed`].
    pub fn embed_with_progress(
        &self,
        texts: &[T],
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        self.embed_tokens(&self.tokenize(texts)?, token_budget, progress)
    }

    /// Embeddings of [prepared](Tower::prepare) texts from a store of this tower's vectors; those that it
    /// lacks are computed as [`Tower::embed`] does and put there as one shard.
    ///
    /// # Errors
    /// As [`Tower::embed`], and when the store cannot be read or written.
    pub fn embed_stored<S: AsRef<str>>(
        &self,
        prepared: &[S],
        store: &mut EmbeddingStore,
        token_budget: usize,
    ) -> Result<Embeddings> {
        store.fill(prepared, &mut |lacking| {
            self.embed_tokens(&self.tokenizer.encode(lacking)?, token_budget, &mut |_| {})
        })?;
        store.get(prepared)
    }

    fn embed_tokens(
        &self,
        tokens: &[Vec<u32>],
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let buckets = length_buckets(&lengths, token_budget);
        let embed_bucket = |bucket: usize| {
            let rows: Vec<&[u32]> = buckets[bucket].iter().map(|&index| tokens[index].as_slice()).collect();
            let batch = self.batch(&rows);
            let vectors = self.network.forward(&batch).into_data().try_to_vec::<f32>();
            let vectors = vectors
                .map_err(|e| Error::new(ErrorKind::Dimension, format!("the tower's output is not f32: {e:?}")))?;
            Ok((batch, vectors))
        };
        let mut done = EmbedProgress::default();
        let mut embeddings = Embeddings::zeros(tokens.len(), self.embedding_dim());
        let workers = passes_at_once(&self.network.encoder.device());
        run_pieces(buckets.len(), workers, &embed_bucket, &mut |bucket, (batch, vectors)| {
            for (vector, &index) in vectors.chunks_exact(self.embedding_dim()).zip(&buckets[bucket]) {
                if vector.iter().any(|component| !component.is_finite()) {
                    return Err(Error::new(
                        ErrorKind::NonFinite,
                        format!("the vector of {} {index} is not finite", T::ROLE.as_str()),
                    ));
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
