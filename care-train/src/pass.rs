//! The forward and backward pass of texts in a training step: recorded, or recomputed for the backward pass.

use std::sync::{Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use care_core::{Embeddings, Error, Result};
use care_encoders::batch::TokenBatch;
use care_encoders::internals::{Schedule, on_pool_thread, with_dropout_seed};
use care_encoders::tokenize::Tokenizer;
use care_encoders::{AnyEncoder, DEFAULT_TOKEN_BUDGET, Encoder, Network};

use crate::collective::Collective;
use crate::gradient::{NamedGradients, TableRows, collect_gradients};
use crate::reduce::GradientSum;
use crate::shares::Shares;

/// The vectors of texts, and the backward pass from their gradients.
///
/// Texts are sorted by length and encoded in chunks: packed, one chunk after the other on all threads, where the CPU's
/// kernels train the network; padded, several chunks at once, with burn's operations on a CPU. Each chunk has its own
/// graph and its own dropout seed, so that a repeated forward pass has the same dropout masks. Its vectors are leaves
/// of the losses' graph.
///
/// Several processes share the chunks. Each encodes its own and gets the vectors of all, so that the losses see the whole
/// batch; on the way back each has the gradients of its own chunks.
///
/// # Reference
/// Gao et al. 2021, arXiv 2101.06983.
pub(crate) struct Pass {
    /// Its clones in the chunks share their packed weights.
    network: Network<AnyEncoder>,
    /// The chunks of this process.
    schedule: Schedule,
    /// Their numbers.
    own: Vec<usize>,
    shares: Shares,
    /// All chunks of the batch.
    chunks: Vec<Chunk>,
    /// The vectors of each chunk: leaves of the losses' graph.
    parts: Vec<Tensor<2>>,
    /// The row of each text among the chunks' vectors.
    rows: Vec<i64>,
    tokens: usize,
    /// Whether activations are recomputed layer by layer.
    layers: bool,
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
    /// The rows of the token table that the copy has, if the table is trained.
    token_rows: Vec<u32>,
    vectors: Tensor<2>,
    /// With gradient checkpointing: the states before each step of the encoder but the first. The vectors then have no graph.
    states: Option<Vec<Tensor<3>>>,
}

/// How much of a forward pass is kept for the backward pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    /// GradCache: nothing, and at most this many texts are in memory at once. The forward pass of a text is repeated once
    /// the gradient of its vector is known.
    pub(crate) grad_cache: Option<usize>,
    /// Gradient checkpointing: the states between layers. Each layer is repeated on the way back.
    pub(crate) layers: bool,
}

impl Pass {
    /// Encodes texts with a trainable network, from their token ids.
    ///
    /// # Errors
    /// Returns an error if another process is lost.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        network: &Network<AnyEncoder>,
        ids: &[Vec<u32>],
        kept: Kept,
        seed: u64,
        group: &dyn Collective,
    ) -> Result<Self> {
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let (varlen, grad_cache, device) = (network.encoder().prefers_varlen(), kept.grad_cache, device(network));
        let whole = Schedule::training(&lengths, grad_cache, varlen, &device, DEFAULT_TOKEN_BUDGET);
        let whole = match grad_cache {
            // Chunks decide the bits of sums, and the dropout masks.
            Some(_) => whole,
            None => whole.cut_for(group.world(), &lengths),
        };
        let chunk = |(texts, number): (&Vec<usize>, u64)| {
            let rows: Vec<&[u32]> = texts.iter().map(|&index| ids[index].as_slice()).collect();
            let batch = batch(network, &rows, tokenizer.pad_id());
            Chunk { batch, seed: seed.wrapping_add(number), tape: None }
        };
        let mut chunks: Vec<Chunk> = whole.passes().iter().zip(0..).map(chunk).collect();
        let network = match chunks.len() {
            0 | 1 => network.clone(),
            _ => network.clone().map_encoder(AnyEncoder::packed_for_step),
        };
        let shares = Shares::new(&tokens_of(&whole, &lengths), group.world());
        let own = shares.of(group.rank());
        let schedule = whole.only(&own);
        let (mut vectors, mut tapes) = (Vec::new(), Vec::new());
        let encode = |chunk: usize| match grad_cache {
            None => {
                let tape = chunks[own[chunk]].record(&network, kept.layers);
                Ok::<_, Error>((tape.vectors.clone().inner(), Some(tape)))
            }
            // Without gradients there is no graph, but dropout stays active.
            Some(_) => Ok((chunks[own[chunk]].forward(&network.clone().no_grad()).inner(), None)),
        };
        schedule.run(&encode, &mut |_, (of_chunk, tape)| {
            vectors.push(of_chunk);
            tapes.push(tape);
            Ok(())
        })?;
        own.iter().zip(tapes).for_each(|(&chunk, tape)| chunks[chunk].tape = tape);
        let sizes: Vec<usize> = whole.passes().iter().map(Vec::len).collect();
        let parts = shares.gather(group, &sizes, vectors, &device.inner())?;
        let parts = parts.into_iter().map(|vectors| Tensor::from_inner(vectors).require_grad()).collect();
        let rows = rows_of(&whole, ids.len());
        let tokens = lengths.iter().sum();
        Ok(Self { network, schedule, own, shares, chunks, parts, rows, tokens, layers: kept.layers })
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
    /// the sum, under names that start with `scope`.
    ///
    /// # Errors
    /// Returns an error if another process is lost.
    pub(crate) fn backward(
        mut self,
        scope: &'static str,
        of_vectors: &Gradients,
        sum: &mut GradientSum<'_>,
    ) -> Result<()> {
        let tapes: Vec<Mutex<Option<Tape>>> =
            self.own.iter().map(|&chunk| Mutex::new(self.chunks[chunk].tape.take())).collect();
        let gradients: Vec<Option<Tensor<2>>> =
            self.own.iter().map(|&chunk| self.parts[chunk].grad(of_vectors)).collect();
        let table = self.network.encoder().trained_token_table();
        let rows = self.network.encoder().vocab_size();
        let back = |at: usize| {
            let mut named = NamedGradients::new();
            let Some(gradient) = gradients[at].clone() else { return Ok::<_, Error>(named) };
            // Taken, so that its activations are freed one by one on the way back.
            let tape = tapes[at].lock().unwrap_or_else(PoisonError::into_inner).take();
            let chunk = &self.chunks[self.own[at]];
            let tape = tape.unwrap_or_else(|| chunk.record(&self.network, self.layers));
            let Tape { network, token_rows, vectors, states } = tape;
            let cut = table.map(|table| TableRows { table, numbers: &token_rows, rows });
            let mut collect = |of_weights: &mut Gradients| {
                collect_gradients(&network, scope, of_weights, cut.as_ref(), &mut named);
            };
            match states {
                None => collect(&mut reach(vectors, gradient)),
                Some(states) => chunk.backward_by_layers(&network, states, gradient, &mut collect),
            }
            Ok(named)
        };
        let mut turns = sum.turns(scope, &self.shares)?;
        // In the order of the chunks, so that sums are rounded the same way every time.
        self.schedule.run(&back, &mut |at, named| turns.add(self.own[at], named))
    }
}

/// The gradients of all that an output was computed from, given that of the output.
fn reach<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    (output * Tensor::from_inner(gradient)).sum().backward()
}

impl Chunk {
    fn record(&self, network: &Network<AnyEncoder>, layers: bool) -> Tape {
        let weights = network.valid();
        let (batch, token_rows, network) = match network.encoder().trained_token_table() {
            None => (None, Vec::new(), weights.train()),
            Some(_) => {
                let (batch, rows) = self.batch.renumbered();
                (Some(batch), rows.clone(), weights.map_encoder(|encoder| encoder.with_token_rows(&rows)).train())
            }
        };
        let batch = batch.as_ref().unwrap_or(&self.batch);
        if !layers {
            let vectors = self.with_masks(&network, 0, || network.forward(batch));
            return Tape { network, token_rows, vectors, states: None };
        }
        let forward = network.clone().no_grad();
        let (encoder, mut states) = (forward.encoder(), Vec::new());
        let last = (0..encoder.forward_steps()).fold(None, |before: Option<Tensor<3>>, step| {
            states.extend(before.clone().map(Tensor::inner));
            Some(self.with_masks(&forward, step, || encoder.forward_step(step, before, batch)))
        });
        states.extend(last.clone().map(Tensor::inner));
        let vectors = forward.forward_head(last.expect("a network has at least one step"), batch);
        Tape { network, token_rows, vectors, states: Some(states) }
    }

    /// The backward pass through the head and then layer by layer, whose forward passes are repeated. `states` are those
    /// after each step of the encoder.
    fn backward_by_layers(
        &self,
        network: &Network<AnyEncoder>,
        mut states: Vec<Tensor<3>>,
        gradient: Tensor<2>,
        collect: &mut dyn FnMut(&mut Gradients),
    ) {
        let renumbered = network.encoder().trained_token_table().map(|_| self.batch.renumbered().0);
        let batch = renumbered.as_ref().unwrap_or(&self.batch);
        let leaf = |states: Option<Tensor<3>>| states.map(|states| Tensor::from_inner(states).require_grad());
        let Some(last) = leaf(states.pop()) else { return };
        let mut gradients = reach(network.forward_head(last.clone(), batch), gradient);
        let mut gradient = last.grad_remove(&mut gradients);
        collect(&mut gradients);
        for step in (0..network.encoder().forward_steps()).rev() {
            let Some(of_states) = gradient else { return };
            let before = leaf(states.pop());
            let forward = || network.encoder().forward_step(step, before.clone(), batch);
            let states = self.with_masks(network, step, forward);
            if !states.is_tracked() {
                // Embeddings of which nothing is trained.
                return;
            }
            let mut gradients = reach(states, of_states);
            gradient = before.and_then(|before| before.grad_remove(&mut gradients));
            collect(&mut gradients);
        }
    }

    fn forward(&self, network: &Network<AnyEncoder>) -> Tensor<2> {
        self.with_masks(network, 0, || network.forward(&self.batch))
    }

    /// Runs a step of the forward pass whose dropout masks follow from the chunk's seed and the number of the step.
    fn with_masks<T>(&self, network: &Network<AnyEncoder>, step: usize, forward: impl FnOnce() -> T) -> T {
        static GENERATOR: Mutex<()> = Mutex::new(());
        // Far from the seeds of the other chunks, which follow one another.
        let seed = self.seed.wrapping_add((step as u64) << 40);
        let burn_drops = network.encoder().has_dropout() && !network.encoder().prefers_varlen();
        // burn's generator is process-wide: no other thread may draw between the seed and the last mask.
        let _alone = burn_drops.then(|| GENERATOR.lock().unwrap_or_else(PoisonError::into_inner));
        if burn_drops {
            device(network).seed(seed);
        }
        with_dropout_seed(seed, forward)
    }
}

/// Texts as the network reads them: packed on the CPU's kernels, else padded.
fn batch(network: &Network<AnyEncoder>, texts: &[&[u32]], pad_id: u32) -> TokenBatch {
    match network.encoder().prefers_varlen() {
        true => TokenBatch::varlen(texts),
        false => TokenBatch::pad(texts, pad_id, network.encoder().padding_side()),
    }
}

/// The row of each text among the vectors of a schedule's passes.
fn rows_of(schedule: &Schedule, texts: usize) -> Vec<i64> {
    let mut rows = vec![0i64; texts];
    schedule.passes().concat().iter().zip(0..).for_each(|(&index, row)| rows[index] = row);
    rows
}

#[cfg(test)]
impl Pass {
    /// The chunks' vectors recomputed in one graph of this network's weights, and the row of each text among them.
    pub(crate) fn with_graph(&self, network: &Network<AnyEncoder>) -> (Tensor<2>, Vec<i64>) {
        (Tensor::cat(self.chunks.iter().map(|chunk| chunk.forward(network)).collect(), 0), self.rows.clone())
    }
}

/// The number of tokens of each of a schedule's passes.
fn tokens_of(schedule: &Schedule, lengths: &[usize]) -> Vec<usize> {
    schedule.passes().iter().map(|texts| texts.iter().map(|&text| lengths[text]).sum()).collect()
}

/// Vectors of texts by a frozen network from their token ids, `[n, dim]` and without a graph, and the number of tokens.
/// Processes share the texts, and each gets all vectors.
///
/// # Errors
/// Returns an error if another process is lost.
pub(crate) fn frozen_vectors(
    tokenizer: &Tokenizer,
    network: &Network<AnyEncoder>,
    ids: &[Vec<u32>],
    group: &dyn Collective,
) -> Result<(Tensor<2>, usize)> {
    let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
    // Chunks that do not depend on the number of cores: neither do the trained weights.
    let (varlen, device) = (network.encoder().prefers_varlen(), device(network));
    let whole = Schedule::frozen(&lengths, varlen, &device, DEFAULT_TOKEN_BUDGET);
    let whole = if whole.passes().len() < group.world() { whole.cut_for(group.world(), &lengths) } else { whole };
    let shares = Shares::new(&tokens_of(&whole, &lengths), group.world());
    let schedule = whole.only(&shares.of(group.rank()));
    let forward = |chunk: usize| {
        let rows: Vec<&[u32]> = schedule.passes()[chunk].iter().map(|&index| ids[index].as_slice()).collect();
        let batch = batch(network, &rows, tokenizer.pad_id());
        Ok::<_, Error>(on_pool_thread(|| network.forward(&batch)))
    };
    let mut own = vec![None; schedule.passes().len()];
    schedule.run(&forward, &mut |pass, vectors| {
        own[pass] = Some(vectors);
        Ok(())
    })?;
    let sizes: Vec<usize> = whole.passes().iter().map(Vec::len).collect();
    let parts = shares.gather(group, &sizes, own.into_iter().flatten().collect(), &device.inner())?;
    let vectors = select(&Tensor::cat(parts, 0), &rows_of(&whole, ids.len()));
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
