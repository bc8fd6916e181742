//! Texts through a network in a training step: without a graph, with one, or twice.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use care_core::{Encoder, Network, Result, TokenBatch, Tokenizer, is_cpu, length_buckets, passes_at_once, run_pieces};
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET};

use crate::optim::{NamedGradients, add_gradients, collect_gradients};

/// How the vectors of a pass come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PassMode {
    /// The network does not learn: no graph.
    Frozen,
    /// Every activation is kept for the backward pass.
    Graph,
    /// GradCache: so many texts at once, and no activation is kept. Each text goes through the network again
    /// when the gradient of its vector is known.
    Cached(usize),
}

/// Tokens of a chunk on the CPU at most, padding included, unless one text is longer: enough for a matrix product to be
/// fast.
const MOST_TOKENS: usize = 2048;
/// A small batch is cut into chunks of no fewer tokens than this.
const FEWEST_TOKENS: usize = 256;
/// Chunks that a batch is cut into where its size allows.
const CHUNKS: usize = 4;

/// The vectors of texts, and the way back from their gradients.
///
/// Texts go through the network sorted by length, in chunks; on the CPU several chunks at once. Each chunk has a
/// graph and a seed for dropout of its own, so that going through it again drops the same components, and its
/// vectors are leaves of the losses' graph.
///
/// # Reference
/// Gao et al. 2021, arXiv 2101.06983.
pub(crate) struct Pass<'a> {
    network: &'a Network<AnyEncoder>,
    chunks: Vec<Chunk>,
    workers: usize,
    /// The vectors of each chunk; leaves of the losses' graph, unless the network is frozen.
    parts: Vec<Tensor<2>>,
    /// For each text, its row among the chunks' vectors.
    places: Vec<i64>,
    tokens: usize,
}

struct Chunk {
    batch: TokenBatch,
    seed: u64,
    kept: Option<Way>,
}

/// A chunk's way through a network of its own: the same weights, but leaves of another graph, since burn works on
/// one graph at a time.
struct Way {
    network: Network<AnyEncoder>,
    vectors: Tensor<2>,
}

impl<'a> Pass<'a> {
    /// Encodes prepared texts.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        network: &'a Network<AnyEncoder>,
        texts: &[String],
        mode: PassMode,
        seed: u64,
    ) -> Result<Self> {
        let ids = tokenizer.encode(texts)?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let tokens = lengths.iter().sum();
        let (groups, workers) = groups(&lengths, mode, &device(network));
        let mut chunks: Vec<Chunk> = groups
            .iter()
            .zip(0..)
            .map(|(group, number)| {
                let rows: Vec<&[u32]> = group.iter().map(|&index| ids[index].as_slice()).collect();
                let batch = TokenBatch::pad(&rows, tokenizer.pad_id(), network.encoder().padding_side());
                Chunk { batch, seed: seed.wrapping_add(number), kept: None }
            })
            .collect();
        let mut parts = Vec::new();
        let mut kept = Vec::new();
        let encode = |chunk: usize| match mode {
            PassMode::Frozen => Ok((network.forward(&chunks[chunk].batch), None)),
            PassMode::Graph => {
                let way = chunks[chunk].way(network);
                Ok((way.vectors.clone().inner(), Some(way)))
            }
            // Weights that do not learn make no graph; what is dropped is dropped all the same.
            PassMode::Cached(_) => Ok((chunks[chunk].go(&network.clone().no_grad()).inner(), None)),
        };
        run_pieces(chunks.len(), workers, &encode, &mut |_, (vectors, way)| {
            let vectors = Tensor::from_inner(vectors);
            parts.push(if mode == PassMode::Frozen { vectors } else { vectors.require_grad() });
            kept.push(way);
            Ok(())
        })?;
        chunks.iter_mut().zip(kept).for_each(|(chunk, way)| chunk.kept = way);
        let mut places = vec![0i64; texts.len()];
        groups.concat().iter().zip(0..).for_each(|(&index, place)| places[index] = place);
        Ok(Self { network, chunks, workers, parts, places, tokens })
    }

    /// `[n, dim]`, in the order of the texts.
    pub(crate) fn vectors(&self) -> Tensor<2> {
        select(&Tensor::cat(self.parts.clone(), 0), &self.places)
    }

    /// Tokens of the texts.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Sends the vectors' gradients through the network, chunk by chunk, and adds the gradients of its weights,
    /// whose names begin with `scope`.
    pub(crate) fn backward(&self, scope: &str, of_vectors: &Gradients, into: &mut NamedGradients) {
        let gradients: Vec<Option<Tensor<2>>> = self.parts.iter().map(|part| part.grad(of_vectors)).collect();
        let back = |chunk: usize| {
            let (chunk, gradient) = (&self.chunks[chunk], &gradients[chunk]);
            let mut named = NamedGradients::new();
            if let Some(gradient) = gradient {
                let again = if chunk.kept.is_none() { Some(chunk.way(self.network)) } else { None };
                if let Some(Way { network, vectors }) = chunk.kept.as_ref().or(again.as_ref()) {
                    let reached = vectors.clone() * Tensor::from_inner(gradient.clone());
                    collect_gradients(network, scope, &mut reached.sum().backward(), &mut named);
                }
            }
            Ok::<_, Infallible>(named)
        };
        // In the order of the chunks, so that sums are rounded the same way every time.
        let Ok(()) = run_pieces(self.chunks.len(), self.workers, &back, &mut |_, named| {
            add_gradients(named, into);
            Ok(())
        });
    }
}

impl Chunk {
    fn way(&self, network: &Network<AnyEncoder>) -> Way {
        let network = network.valid().train();
        let vectors = self.go(&network);
        Way { network, vectors }
    }

    fn go(&self, network: &Network<AnyEncoder>) -> Tensor<2> {
        static GENERATOR: Mutex<()> = Mutex::new(());
        let dropping = network.encoder().has_dropout();
        // The generator is the whole process's: nobody else draws between the seed and the last mask.
        let _alone = dropping.then(|| GENERATOR.lock().unwrap_or_else(PoisonError::into_inner));
        if dropping {
            device(network).seed(self.seed);
        }
        network.forward(&self.batch)
    }
}

/// The texts of each chunk, longest first, and how many chunks may be under way at once. Chunks follow from the texts,
/// the mode and the kind of device, so that dropout and sums are the same on any number of cores.
fn groups(lengths: &[usize], mode: PassMode, device: &Device) -> (Vec<Vec<usize>>, usize) {
    let workers = passes_at_once(device);
    match mode {
        PassMode::Cached(size) => {
            // Two halves at once are no more texts than were asked for.
            let half = (size / 2).max(1);
            let sorted: Vec<usize> = length_buckets(lengths, usize::MAX).concat();
            (sorted.chunks(half).map(<[usize]>::to_vec).collect(), workers.min(size / half))
        }
        PassMode::Frozen | PassMode::Graph if is_cpu(device) => {
            let share = lengths.iter().sum::<usize>() / CHUNKS;
            (length_buckets(lengths, share.clamp(FEWEST_TOKENS, MOST_TOKENS)), workers)
        }
        PassMode::Frozen | PassMode::Graph => (length_buckets(lengths, DEFAULT_TOKEN_BUDGET), workers),
    }
}

#[cfg(test)]
impl Pass<'_> {
    /// The chunks' vectors computed again, in one graph, and for each text its row among them.
    pub(crate) fn with_graph(&self) -> (Tensor<2>, Vec<i64>) {
        let again = |chunk: &Chunk| {
            device(self.network).seed(chunk.seed);
            self.network.forward(&chunk.batch)
        };
        (Tensor::cat(self.chunks.iter().map(again).collect(), 0), self.places.clone())
    }
}

/// Rows of a matrix, by index.
pub(crate) fn select(vectors: &Tensor<2>, rows: &[i64]) -> Tensor<2> {
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows.to_vec(), [rows.len()]), &vectors.device());
    vectors.clone().select(0, rows)
}

/// Where a network computes.
pub(crate) fn device(network: &Network<AnyEncoder>) -> Device {
    network.devices().swap_remove(0)
}
