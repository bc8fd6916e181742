//! The training loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::{DocumentTower, Error, ErrorKind, Network, Precision, QueryTower, Result};
use care_encoders::{AnyEncoder, AsymmetricEncoder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::batcher::Batcher;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::config::CheckedStage;
use crate::dataset::Source;
use crate::objective::{Losses, losses};
use crate::optim::{NamedGradients, Optimizer, clip_by_global_norm, collect_gradients};
use crate::stage::StageKind;

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Index of the stage in its run.
    pub stage: usize,
    /// What the stage trains.
    pub kind: StageKind,
    /// Steps of the stage that are done, this one included.
    pub step: usize,
    /// Steps of the stage.
    pub total_steps: usize,
    /// The weighted sum of the losses.
    pub loss: f64,
    /// InfoNCE before its weight.
    pub info_nce: Option<f64>,
    /// MSE before its weight.
    pub mse: Option<f64>,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Length of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens read per second, over this step.
    pub tokens_per_second: f64,
}

/// Called after every step; `Break` ends the training.
pub type Observer<'a> = dyn FnMut(&StepReport) -> ControlFlow<()> + 'a;

/// Trains one stage in memory, without checkpoints: the building block of own recipes.
///
/// When the observer breaks off, the pair comes back as it is then.
///
/// # Errors
/// When a row lacks the hard negatives a group needs, or the loss is no longer finite.
pub fn train_stage(
    pair: AsymmetricEncoder,
    stage: &CheckedStage,
    sources: &[Source],
    seed: u64,
    observer: &mut Observer<'_>,
) -> Result<AsymmetricEncoder> {
    let mut trainer = StageTrainer::new(pair, stage, 0, sources, seed)?;
    while let Some(report) = trainer.step()? {
        if observer(&report).is_break() {
            break;
        }
    }
    trainer.finish()
}

/// One stage under way: the towers, the optimizer and how far it has come.
pub(crate) struct StageTrainer<'a> {
    stage: &'a CheckedStage,
    index: usize,
    seed: u64,
    batcher: Batcher<'a>,
    total_steps: usize,
    query: QueryTower<AnyEncoder>,
    document: DocumentTower<AnyEncoder>,
    optimizer: Optimizer,
    step: usize,
}

impl<'a> StageTrainer<'a> {
    /// A stage before its first step.
    ///
    /// # Errors
    /// When there is no row, one lacks the hard negatives a group needs, or a tower that learns has weights of
    /// 16 bits.
    pub(crate) fn new(
        pair: AsymmetricEncoder,
        stage: &'a CheckedStage,
        index: usize,
        sources: &'a [Source],
        seed: u64,
    ) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a stage needs at least one source of training rows"));
        }
        sources.iter().try_for_each(|source| source.require_negatives(stage.group_size))?;
        // Each stage draws its own numbers from the one seed.
        let batcher = Batcher::new(sources, stage.batch_size, stage.group_size, seed.wrapping_add(index as u64));
        let total_steps = stage.epochs * batcher.steps_per_epoch();
        let (query, document) = pair.into_towers();
        require_f32("query", stage.kind.trains_query(), query.network())?;
        require_f32("document", stage.kind.trains_document(), document.network())?;
        Ok(Self {
            stage,
            index,
            seed,
            batcher,
            total_steps,
            query: query.map_network(|network| trainable(network, stage.kind.trains_query())),
            document: document.map_network(|network| trainable(network, stage.kind.trains_document())),
            optimizer: Optimizer::new(stage.weight_decay),
            step: 0,
        })
    }

    /// Goes on where a checkpoint of this stage stands.
    ///
    /// # Errors
    /// When the optimizer's state cannot be read.
    pub(crate) fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.step = checkpoint.state.step;
        let device = device(self.query.network()).inner();
        checkpoint.restore_optimizer(&mut self.optimizer, &device)
    }

    /// One step: batch, forward, loss, backward, clip, update. `None` when the stage is done.
    ///
    /// # Errors
    /// When a text cannot be tokenized or the loss is not finite.
    pub(crate) fn step(&mut self) -> Result<Option<StepReport>> {
        if self.step == self.total_steps {
            return Ok(None);
        }
        let started = Instant::now();
        let batch = self.batcher.batch(self.step);
        // Dropout follows from the step alone, so a resumed run drops what it would have dropped.
        device(self.query.network()).seed(step_seed(self.seed, self.index, self.step));
        let Losses { total, info_nce, mse, tokens } = losses(self.stage, &self.query, &self.document, &batch)?;
        let gradients = total.backward();
        let number = |loss: Tensor<1>| f64::from(loss.into_scalar::<f32>());
        let (loss, info_nce, mse) = (number(total), info_nce.map(number), mse.map(number));
        self.require_finite("loss", loss)?;
        let mut named = NamedGradients::new();
        collect_gradients(self.query.network(), "query", &gradients, &mut named);
        collect_gradients(self.document.network(), "document", &gradients, &mut named);
        let gradient_norm = clip_by_global_norm(&mut named, self.stage.max_grad_norm);
        self.require_finite("length of the gradients", gradient_norm)?;

        let warmup = (self.stage.warmup_ratio * self.total_steps as f64).ceil() as usize;
        let learning_rate = self.stage.learning_rate * self.stage.schedule.factor(self.step, warmup, self.total_steps);
        let optimizer = &mut self.optimizer;
        self.query.update_network(|network| optimizer.step(network, "query", &named, learning_rate));
        self.document.update_network(|network| optimizer.step(network, "document", &named, learning_rate));
        self.step += 1;
        Ok(Some(StepReport {
            stage: self.index,
            kind: self.stage.kind,
            step: self.step,
            total_steps: self.total_steps,
            loss,
            info_nce,
            mse,
            learning_rate,
            gradient_norm,
            tokens_per_second: tokens as f64 / started.elapsed().as_secs_f64(),
        }))
    }

    /// Stops before a number that is not finite reaches the weights.
    fn require_finite(&self, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let (step, stage) = (self.step + 1, self.index);
        let message = format!("the {what} is {value} at step {step} of stage {stage}: lower the learning rate");
        Err(Error::new(ErrorKind::NonFinite, message))
    }

    /// Writes where the stage stands: the networks that `trained` stages have changed, and the
    /// optimizer.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn checkpoint(
        &self,
        checkpoints: &Checkpoints,
        fingerprint: &str,
        (query_trained, document_trained): (bool, bool),
    ) -> Result<PathBuf> {
        let mut networks = Vec::new();
        if query_trained {
            networks.push(("query", self.query.network()));
        }
        if document_trained {
            networks.push(("document", self.document.network()));
        }
        checkpoints.write(self.index, self.step, fingerprint, &networks, &self.optimizer)
    }

    /// The pair as it is now, ready for inference.
    ///
    /// # Errors
    /// Never for towers that made a pair before.
    pub(crate) fn finish(self) -> Result<AsymmetricEncoder> {
        AsymmetricEncoder::new(
            self.query.map_network(|network| network.valid()),
            self.document.map_network(|network| network.valid()),
        )
    }
}

/// Refuses to train weights of 16 bits, which lose the small steps of an optimizer.
fn require_f32(role: &str, learns: bool, network: &Network<AnyEncoder>) -> Result<()> {
    match Precision::of(network.encoder()) {
        precision if learns && precision != Precision::F32 => {
            let allowed = format!("f32, since this stage trains the {role} tower");
            Err(Error::setting("precision", format!("{:?}", precision.as_str()), &allowed))
        }
        _ => Ok(()),
    }
}

/// A network on the training device if it learns, else as it is: without a graph.
fn trainable(network: Network<AnyEncoder>, learns: bool) -> Network<AnyEncoder> {
    if learns { network.train() } else { network }
}

fn device(network: &Network<AnyEncoder>) -> Device {
    network.devices().swap_remove(0)
}

/// A seed of its own for every step of a run.
fn step_seed(seed: u64, stage: usize, step: usize) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((stage as u64) << 48 | step as u64);
    rng.random()
}
