//! The forward and backward pass of texts in a training step: recorded, or recomputed for the backward pass.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use care_core::{Embeddings, Result};
use care_encoders::batch::TokenBatch;
use care_encoders::internals::{Schedule, on_pool_thread};
use care_encoders::tokenize::Tokenizer;
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET, Encoder, Network};

use crate::optim::{NamedGradients, add_gradients, collect_gradients};

/// The vectors of texts, and the backward pass from their gradients.
///
/// Texts are sorted by length and encoded in chunks, on the CPU several chunks concurrently. Each chunk has its own
/// graph and its own dropout seed, so that a repeated forward pass has the same dropout masks. Its vectors are leaves
/// of the losses' graph.
///
/// # Reference
/// Gao et al. 2021, arXiv 2101.06983.
pub(crate) struct Pass<'a> {
    network: &'a Network<AnyEncoder>,
    schedule: Schedule,
    chunks: Vec<Chunk>,
    /// The vectors of each chunk: leaves of the losses' graph.
    parts: Vec<Tensor<2>>,
    /// The row of each text among the chunks' vectors.
    rows: Vec<i64>,
    tokens: usize,
}

struct Chunk {
    batch: TokenBatch,
    seed: u64,
    /// Without GradCache: the forward pass whose activations are kept for the backward pass.
    tape: Option<Tape>,
}

/// A chunk's forward pass through its own copy of the network: the same weights, but leaves of a separate graph, since
/// burn processes one graph at a time.
struct Tape {
    network: Network<AnyEncoder>,
    vectors: Tensor<2>,
}

impl<'a> Pass<'a> {
    /// Encodes prepared texts with a trainable network.
    ///
    /// With `grad_cache`, at most this many texts are in memory at once and no activation is kept: the forward pass of a
    /// text is repeated once the gradient of its vector is known.
    ///
    /// # Errors
    /// Returns an error if a text cannot be tokenized.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        network: &'a Network<AnyEncoder>,
        texts: &[String],
        grad_cache: Option<usize>,
        seed: u64,
    ) -> Result<Self> {
        let ids = tokenizer.encode(texts)?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let schedule = Schedule::training(&lengths, grad_cache, &device(network), DEFAULT_TOKEN_BUDGET);
        let chunk = |(texts, number): (&Vec<usize>, u64)| {
            let rows: Vec<&[u32]> = texts.iter().map(|&index| ids[index].as_slice()).collect();
            let batch = TokenBatch::pad(&rows, tokenizer.pad_id(), network.encoder().padding_side());
            Chunk { batch, seed: seed.wrapping_add(number), tape: None }
        };
        let mut chunks: Vec<Chunk> = schedule.passes().iter().zip(0..).map(chunk).collect();
        let (mut parts, mut tapes) = (Vec::new(), Vec::new());
        let encode = |chunk: usize| match grad_cache {
            None => {
                let tape = chunks[chunk].record(network);
                Ok((tape.vectors.clone().inner(), Some(tape)))
            }
            // Without gradients there is no graph, but dropout stays active.
            Some(_) => Ok((chunks[chunk].forward(&network.clone().no_grad()).inner(), None)),
        };
        schedule.run(&encode, &mut |_, (vectors, tape)| {
            parts.push(Tensor::from_inner(vectors).require_grad());
            tapes.push(tape);
            Ok(())
        })?;
        chunks.iter_mut().zip(tapes).for_each(|(chunk, tape)| chunk.tape = tape);
        let mut rows = vec![0i64; texts.len()];
        schedule.passes().concat().iter().zip(0..).for_each(|(&index, row)| rows[index] = row);
        Ok(Self { network, schedule, chunks, parts, rows, tokens: lengths.iter().sum() })
    }

    /// `[n, dim]`, in the order of the texts.
    pub(crate) fn vectors(&self) -> Tensor<2> {
        select(&Tensor::cat(self.parts.clone(), 0), &self.rows)
    }

    /// Total tokens of the texts.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Propagates the vectors' gradients through the network, chunk by chunk, and adds the gradients of its weights to
    /// `into`, under names that start with `scope`.
    pub(crate) fn backward(&self, scope: &str, of_vectors: &Gradients, into: &mut NamedGradients) {
        let gradients: Vec<Option<Tensor<2>>> = self.parts.iter().map(|part| part.grad(of_vectors)).collect();
        let back = |chunk: usize| {
            let (chunk, gradient) = (&self.chunks[chunk], &gradients[chunk]);
            let mut named = NamedGradients::new();
            if let Some(gradient) = gradient {
                let again = if chunk.tape.is_none() { Some(chunk.record(self.network)) } else { None };
                if let Some(Tape { network, vectors }) = chunk.tape.as_ref().or(again.as_ref()) {
                    let reached = vectors.clone() * Tensor::from_inner(gradient.clone());
                    collect_gradients(network, scope, &mut reached.sum().backward(), &mut named);
                }
            }
            Ok::<_, Infallible>(named)
        };
        // In the order of the chunks, so that sums are rounded the same way every time.
        let Ok(()) = self.schedule.run(&back, &mut |_, named| {
            add_gradients(named, into);
            Ok(())
        });
    }
}

impl Chunk {
    fn record(&self, network: &Network<AnyEncoder>) -> Tape {
        let network = network.valid().train();
        let vectors = self.forward(&network);
        Tape { network, vectors }
    }

    fn forward(&self, network: &Network<AnyEncoder>) -> Tensor<2> {
        static GENERATOR: Mutex<()> = Mutex::new(());
        let dropping = network.encoder().has_dropout();
        // The generator is process-wide: no other thread may draw between the seed and the last mask.
        let _alone = dropping.then(|| GENERATOR.lock().unwrap_or_else(PoisonError::into_inner));
        if dropping {
            device(network).seed(self.seed);
        }
        network.forward(&self.batch)
    }
}

#[cfg(test)]
impl Pass<'_> {
    /// The chunks' vectors recomputed in one graph, and the row of each text among them.
    pub(crate) fn with_graph(&self) -> (Tensor<2>, Vec<i64>) {
        let again = |chunk: &Chunk| {
            device(self.network).seed(chunk.seed);
            self.network.forward(&chunk.batch)
        };
        (Tensor::cat(self.chunks.iter().map(again).collect(), 0), self.rows.clone())
    }
}

/// Vectors of prepared texts by a frozen network, `[n, dim]` and without a graph, and the number of tokens.
///
/// # Errors
/// Returns an error if a text cannot be tokenized.
pub(crate) fn frozen_vectors(
    tokenizer: &Tokenizer,
    network: &Network<AnyEncoder>,
    texts: &[String],
) -> Result<(Tensor<2>, usize)> {
    let ids = tokenizer.encode(texts)?;
    let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
    // Chunks that do not depend on the number of cores: neither do the trained weights.
    let schedule = Schedule::training(&lengths, None, &device(network), DEFAULT_TOKEN_BUDGET);
    let forward = |chunk: usize| {
        let rows: Vec<&[u32]> = schedule.passes()[chunk].iter().map(|&index| ids[index].as_slice()).collect();
        let batch = TokenBatch::pad(&rows, tokenizer.pad_id(), network.encoder().padding_side());
        Ok::<_, Infallible>(on_pool_thread(|| network.forward(&batch)))
    };
    let mut parts = Vec::new();
    let Ok(()) = schedule.run(&forward, &mut |_, vectors| {
        parts.push(vectors);
        Ok(())
    });
    let mut rows = vec![0i64; texts.len()];
    schedule.passes().concat().iter().zip(0..).for_each(|(&index, row)| rows[index] = row);
    let vectors = select(&Tensor::cat(parts, 0), &rows);
    Ok((Tensor::from_inner(vectors), lengths.iter().sum()))
}

/// Vectors as a constant of the losses' graph.
pub(crate) fn constant(vectors: &Embeddings, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = vectors.as_array().iter().copied().collect();
    let data = TensorData::new(values, [vectors.len(), vectors.dim()]);
    Tensor::from_inner(Tensor::from_data(data, &device.clone().inner()))
}

/// Rows of a matrix, by index.
pub(crate) fn select(vectors: &Tensor<2>, rows: &[i64]) -> Tensor<2> {
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows.to_vec(), [rows.len()]), &vectors.device());
    vectors.clone().select(0, rows)
}

/// The device of a network.
pub(crate) fn device(network: &Network<AnyEncoder>) -> Device {
    network.devices().swap_remove(0)
}
