//! The training loop of one stage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use care_core::{Embedder, Error, ErrorKind, Result, Role};
use care_encoders::head::TruncationOrder;
use care_encoders::internals::{StepMemory, network_fingerprint};
use care_encoders::layers::Prepack;
use care_encoders::lora::LoraConfig;
use care_encoders::{AnyEncoder, AsymmetricEncoder, Encoder, Network, Precision};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ahead::Ahead;
use crate::batcher::{BatchSettings, Batcher, RowTokens};
use crate::checkpoint::Checkpoint;
use crate::collective::Alone;
use crate::config::{CheckedStage, MOST_STEPS, TrainMode};
use crate::dataset::{RowNeeds, Source};
use crate::gradient::{Gradient, NamedGradients};
use crate::guards::{is_info_nce_alone, similarity_warning, warnings};
use crate::lengths::row_tokens;
use crate::loss::Loss;
use crate::objective::Objective;
use crate::optim::{Optimizer, clip_by_global_norm};
use crate::reduce::GradientSum;
use crate::report::{Event, Observer, StepReport, unix_time};
use crate::stage::StageKind;
use crate::teacher::{TeacherLot, TeacherLots, open_store};
use crate::towers::{ReadBatch, Towers};

/// Trains one stage in memory, without checkpoints or a teacher cache.
///
/// If the observer stops the training, the pair is returned as trained so far. For custom losses, see
/// [`Trainer::with_loss`].
///
/// # Errors
/// As [`Trainer::new`] and [`Trainer::step`].
pub fn train_stage(
    pair: AsymmetricEncoder,
    stage: &CheckedStage,
    sources: &[Source],
    seed: u64,
    observer: &mut Observer<'_>,
) -> Result<AsymmetricEncoder> {
    let mut trainer = Trainer::new(pair, stage, sources, seed)?;
    loop {
        for warning in trainer.warnings()? {
            if observer(&Event::Warning(warning)).is_break() {
                return trainer.finish();
            }
        }
        let Some(report) = trainer.step()? else { return trainer.finish() };
        if observer(&Event::Step(report)).is_break() {
            return trainer.finish();
        }
    }
}

/// One stage in progress: the towers, the losses, the optimizer and the number of completed steps.
pub struct Trainer<'a> {
    stage: &'a CheckedStage,
    index: usize,
    seed: u64,
    sources: &'a [Source],
    ahead: Ahead<'a>,
    batches: usize,
    total_steps: usize,
    towers: Towers,
    objective: Objective,
    optimizer: Optimizer,
    memory: StepMemory,
    step: usize,
    lots: TeacherLots,
    /// Warnings that nobody has read yet; `None` until the first are wanted.
    warnings: Option<Vec<String>>,
    /// The last steps in a row without any gradient.
    still: usize,
}

/// Steps without any gradient after which something is wrong for sure.
const STILL: usize = 20;

impl<'a> Trainer<'a> {
    /// A stage before its first step. `seed` determines batches, negatives, dropout and the initial LoRA weights.
    ///
    /// # Errors
    /// Returns an error if there are no rows, a row lacks what the stage requires, weights have a form in which
    /// the stage cannot train or save them, a LoRA adapter matches no layer, or a symmetric stage gets two different networks.
    pub fn new(pair: AsymmetricEncoder, stage: &'a CheckedStage, sources: &'a [Source], seed: u64) -> Result<Self> {
        Self::at(pair, stage, 0, sources, seed, None)
    }

    /// A stage at this index of a run. `tokens` are the [`Trainer::row_tokens`] of an earlier trainer of the stage.
    pub(crate) fn at(
        pair: AsymmetricEncoder,
        stage: &'a CheckedStage,
        index: usize,
        sources: &'a [Source],
        seed: u64,
        tokens: Option<RowTokens>,
    ) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a stage needs at least one source of training rows"));
        }
        // Each stage draws different numbers from the same seed.
        let (batch_size, group_size, no_duplicates) = (stage.batch_size, stage.group_size, stage.no_duplicates);
        let settings = BatchSettings { batch_size, group_size, no_duplicates };
        let batcher = Batcher::new(sources, settings, seed.wrapping_add(index as u64));
        check_precision(stage, Role::Query, pair.query().network())?;
        check_precision(stage, Role::Document, pair.document().network())?;
        // A quantized network is frozen, and stays as it is packed.
        let plain = |network: Network<AnyEncoder>| match network.encoder().is_quantized() {
            true => network,
            false => network.unpacked(),
        };
        let query = pair.query().clone().map_network(plain);
        let document = pair.document().clone().map_network(plain);
        drop(pair);
        if document.instruction().is_pair() {
            let template = format!("{:?}", document.instruction().template());
            return Err(Error::setting("instruction", template, "without {sep}: training rows have no titles"));
        }
        if stage.kind == StageKind::Symmetric {
            let (left, right) = (query.network(), document.network());
            let is_one = left.head() == right.head()
                && query.tokenizer().to_json()? == document.tokenizer().to_json()?
                && network_fingerprint(left) == network_fingerprint(right);
            if !is_one {
                let message =
                    "a symmetric stage trains one network in both roles; start both towers from the same encoder";
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        let head = document.network().head();
        // Vectors that are not normalised are not normalised at any dimension.
        let order = if head.normalize { head.truncation } else { TruncationOrder::NormalizeThenTruncate };
        let objective = Objective::new(stage, order);
        let widest = stage.losses().iter().flat_map(|loss| &loss.dims).max();
        if let Some(&dim) = widest.filter(|&&dim| dim > document.embedding_dim()) {
            let allowed = format!("at most {}, the dimension of the towers' vectors", document.embedding_dim());
            return Err(Error::setting("dims", dim, &allowed));
        }
        let lora_seed = |role: u64| batch_seed(seed ^ (role << 32), index, 0);
        let towers = Towers {
            query: query.try_map_network(|network| prepare(network, stage, Role::Query, lora_seed(1)))?,
            document: document.try_map_network(|network| prepare(network, stage, Role::Document, lora_seed(2)))?,
            trained: [Role::Query, Role::Document].map(|role| stage.mode(role) != TrainMode::Frozen),
            kind: stage.kind,
            teacher: None,
            teacher_elsewhere: false,
            group: Arc::new(Alone),
        };
        let batcher = match stage.max_batch_tokens {
            Some(most) => {
                let counted = tokens.map_or_else(|| row_tokens(&batcher, &towers, stage), Ok)?;
                batcher.with_token_budget(most, counted)?
            }
            None => batcher,
        };
        let batches = stage.epochs.saturating_mul(batcher.batches_per_epoch());
        let steps = batches.div_ceil(stage.accumulation);
        let total_steps = stage.max_steps.map_or(steps, |most| most.min(steps));
        if total_steps > MOST_STEPS {
            let allowed = format!("so few that the stage has at most {MOST_STEPS} steps, not {total_steps}");
            return Err(Error::setting("epochs", stage.epochs, &allowed));
        }
        let trainer = Self {
            stage,
            index,
            seed,
            sources,
            lots: TeacherLots::new(&batcher),
            ahead: Ahead::new(batcher),
            batches,
            total_steps,
            towers,
            objective,
            optimizer: Optimizer::new(stage.weight_decay),
            memory: StepMemory::default(),
            step: 0,
            warnings: None,
            still: 0,
        };
        trainer.check_data()?;
        Ok(trainer)
    }

    /// Adds a custom loss with its weight, > 0.
    ///
    /// # Errors
    /// Returns an error if the weight is out of range, or the stage or its rows lack what the loss requires.
    pub fn with_loss(mut self, weight: f64, loss: Box<dyn Loss>) -> Result<Self> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::setting(&format!("weight of {}", loss.name()), weight, "above 0"));
        }
        self.objective.add(weight, loss);
        self.check_data()?;
        Ok(self)
    }

    fn check_data(&self) -> Result<()> {
        self.objective.check(self.stage.kind)?;
        let teacher_scores = self.objective.needs_teacher_scores();
        let labels = self.stage.kind != StageKind::QueryAlignment;
        let needs = RowNeeds { group_size: self.stage.group_size, teacher_scores, labels };
        self.sources.iter().try_for_each(|source| source.require(needs))
    }

    /// Opens the cache of the frozen document tower's vectors, if the stage freezes that tower.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read or created.
    pub(crate) fn open_teacher(&mut self, folder: &Path) -> Result<()> {
        if self.stage.mode(Role::Document) == TrainMode::Frozen {
            self.towers.teacher = Some(open_store(folder, &self.towers)?);
        }
        Ok(())
    }

    /// The texts of the coming steps that the teacher cache lacks, if it does not have those of the next step.
    ///
    /// # Errors
    /// Returns an error if rows cannot be read.
    pub(crate) fn coming_teacher_texts(&mut self) -> Result<Option<TeacherLot>> {
        if self.towers.teacher.is_none() || self.step == self.total_steps {
            return Ok(None);
        }
        let (next, last) = (self.batches_of(self.step), self.batches_of(self.total_steps - 1));
        self.lots.coming(next, last.end, &mut self.ahead.batcher(), &self.towers, self.stage)
    }

    /// What was noticed since the last call that is no error, but probably not meant: about rows, towers and settings
    /// before the first step, about the losses later, about files of the teacher cache at any time.
    ///
    /// The first call encodes some texts of the next batch if vectors are not normalised.
    ///
    /// # Errors
    /// Returns an error if rows cannot be read or texts cannot be tokenized.
    pub fn warnings(&mut self) -> Result<Vec<String>> {
        if self.warnings.is_none() {
            let first = self.batches_of(self.step).start;
            let mut found = warnings(&self.towers, self.stage, self.sources, &self.ahead.batcher());
            let batch = self.ahead.batcher().batch(first)?;
            found.extend(similarity_warning(&self.towers, self.stage, &batch)?);
            self.warnings = Some(found);
        }
        let refused = self.towers.take_refused();
        let refused =
            refused.iter().map(|path| format!("ignoring {}, which is incomplete, modified or foreign", path.display()));
        Ok(refused.chain(self.warnings.as_mut().map(std::mem::take).unwrap_or_default()).collect())
    }

    /// The towers in their current state, without graphs or dropout, e.g. for an evaluation during a stage. Weights are
    /// packed for it, so it is worth keeping for as long as the state does not change.
    pub fn embedder(&self) -> impl Embedder + '_ {
        self.towers.snapshot()
    }

    /// The towers in their current state.
    pub(crate) fn towers(&self) -> &Towers {
        &self.towers
    }

    /// The optimizer in its current state.
    pub(crate) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Number of completed steps.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Total steps of the stage.
    pub fn total_steps(&self) -> usize {
        self.total_steps
    }

    /// Resumes from a checkpoint of this stage.
    ///
    /// # Errors
    /// Returns an error if its files cannot be read or do not match the stage.
    pub(crate) fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (step, total) = (checkpoint.state.step, self.total_steps);
        if step > total {
            let problem = format!("`step` is {step}, allowed: at most {total}, the steps of stage {}", self.index + 1);
            return Err(Error::format(checkpoint.folder(), problem));
        }
        self.restore_weights(checkpoint)?;
        self.step = checkpoint.state.step;
        let device = crate::pass::device(self.towers.document.network()).inner();
        checkpoint.restore_optimizer(&mut self.optimizer, &device)
    }

    /// Restores only the weights of a checkpoint of this stage.
    ///
    /// # Errors
    /// Returns an error if its files cannot be read or do not match the stage.
    pub(crate) fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let towers = &mut self.towers;
        let trained = towers.trained;
        let restore = |name, network: Network<AnyEncoder>, trained: bool| {
            let network = checkpoint.restore_network(name, network)?;
            Ok(if trained { network } else { network.prepacked(Prepack::F32) })
        };
        towers.query = towers.query.clone().try_map_network(|network| restore("query", network, trained[0]))?;
        towers.document =
            towers.document.clone().try_map_network(|network| restore("document", network, trained[1]))?;
        Ok(())
    }

    /// Runs one step: batches, losses, gradients, clipping, update. Returns `None` once the stage is complete.
    ///
    /// Processes that train together all make the step, and all return the same report but for its seconds.
    ///
    /// # Errors
    /// Returns an error if a text cannot be tokenized, there is no loss, the loss or gradient norm is not finite, or
    /// another process is lost. The weights are then those before the step.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        if self.step >= self.total_steps {
            return Ok(None);
        }
        let mut memory = std::mem::take(&mut self.memory);
        let report = memory.run(|| self.run_step());
        self.memory = memory;
        report.map(Some)
    }

    fn run_step(&mut self) -> Result<StepReport> {
        self.require_loss()?;
        let started = Instant::now();
        let numbers = self.batches_of(self.step);
        let share = 1.0 / numbers.len() as f64;
        let (mut loss, mut losses, mut tokens) = (0.0, BTreeMap::new(), 0);
        let mut sum = self.no_gradients();
        for number in numbers {
            let report = self.batch(number, share, &mut sum)?;
            self.require_finite("loss", report.loss)?;
            loss += share * report.loss;
            tokens += report.tokens;
            for (name, value) in report.losses {
                *losses.entry(name).or_insert(0.0) += share * value;
            }
        }
        let gradients = sum.finish()?;
        let (clipping, gradient_norm) = clip_by_global_norm(&gradients, self.stage.max_grad_norm);
        self.require_finite("gradient norm", gradient_norm)?;
        self.still = if gradient_norm == 0.0 { self.still + 1 } else { 0 };
        if self.still == STILL {
            let warning = format!("the gradient norm was 0 in the last {STILL} steps: nothing is being trained");
            self.warnings.get_or_insert_default().push(warning);
        }
        let learning_rate = self.update(&gradients, clipping);
        gradients.into_values().for_each(Gradient::recycle);
        self.step += 1;
        Ok(StepReport {
            stage: self.index + 1,
            kind: self.stage.kind,
            step: self.step,
            total_steps: self.total_steps,
            loss,
            losses,
            learning_rate,
            gradient_norm,
            tokens,
            seconds: started.elapsed().as_secs_f64(),
            time: unix_time(),
        })
    }

    /// The numbers of a step's batches.
    fn batches_of(&self, step: usize) -> Range<usize> {
        let first = step.saturating_mul(self.stage.accumulation);
        first..self.batches.min(first.saturating_add(self.stage.accumulation))
    }

    /// Checks that the stage has a loss, and that the loss can be above 0.
    ///
    /// # Errors
    /// Returns an error if no loss is configured and none was added, or if no batch has a negative for the only loss.
    pub(crate) fn require_loss(&self) -> Result<()> {
        self.objective.require_loss()?;
        let is_alone = is_info_nce_alone(self.stage) && self.objective.len() == self.stage.losses().len();
        if is_alone && self.ahead.batcher().has_no_negatives() {
            let message = "info-nce needs negatives, but every batch is one query with one positive: its loss is always \
                           0; set `batch_size` or `group_size` to at least 2, and use more rows than one per file";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// The most tokens that each row can have in a batch, if there is a token budget.
    pub(crate) fn row_tokens(&self) -> Option<RowTokens> {
        self.ahead.batcher().row_tokens()
    }

    /// An empty sum of gradients.
    fn no_gradients(&self) -> GradientSum<'_> {
        GradientSum::new(&*self.towers.group, crate::pass::device(self.towers.document.network()).inner())
    }

    /// Adds `share` times the gradients of one batch, and reads the next.
    fn batch(&self, number: usize, share: f64, gradients: &mut GradientSum<'_>) -> Result<BatchReport> {
        let read = self.ahead.take(number, &self.towers, self.stage)?;
        let mut work = || self.compute(number, &read, share, gradients);
        match number + 1 < self.batches_of(self.total_steps - 1).end {
            true => self.ahead.meanwhile(number + 1, &self.towers, self.stage, work),
            false => work(),
        }
    }

    /// Adds `share` times the gradients of a batch that was read.
    fn compute(
        &self,
        number: usize,
        read: &ReadBatch,
        share: f64,
        gradients: &mut GradientSum<'_>,
    ) -> Result<BatchReport> {
        // Dropout depends on the batch's number alone, so a resumed run draws the same masks.
        let seed = batch_seed(self.seed, self.index, number);
        let encoded = self.towers.encode(self.stage, read, seed)?;
        let (total, parts) = self.objective.forward(&encoded.input)?;
        let scaled = total.clone().mul_scalar(share);
        let of_vectors = scaled.backward();
        for (role, pass) in encoded.passes {
            pass.backward(role.as_str(), &of_vectors, gradients)?;
        }
        let number = |loss: Tensor<1>| f64::from(loss.into_scalar::<f32>());
        let losses = parts.into_iter().map(|(name, loss)| (name, number(loss))).collect();
        Ok(BatchReport { loss: number(total), losses, tokens: encoded.tokens })
    }

    fn network(&self, role: Role) -> &Network<AnyEncoder> {
        match role {
            Role::Query => self.towers.query.network(),
            Role::Document => self.towers.document.network(),
        }
    }

    /// Updates the weights by `clipping` times their gradients; returns the higher of the two learning rates.
    fn update(&mut self, gradients: &NamedGradients, clipping: f64) -> f64 {
        let warmup = (self.stage.warmup_ratio * self.total_steps as f64).ceil() as usize;
        let factor = self.stage.schedule.factor(self.step, warmup, self.total_steps);
        let rate = |role| match self.stage.mode(role) {
            TrainMode::Frozen => 0.0,
            _ => factor * self.stage.learning_rate(role),
        };
        let (query, document) = (rate(Role::Query), rate(Role::Document));
        let (optimizer, towers) = (&mut self.optimizer, &mut self.towers);
        towers.query.update_network(|network| optimizer.step(network, "query", gradients, clipping, query));
        towers.document.update_network(|network| optimizer.step(network, "document", gradients, clipping, document));
        query.max(document)
    }

    /// Returns an error before a non-finite value reaches the weights.
    fn require_finite(&self, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let (step, stage) = (self.step + 1, self.index + 1);
        let remedy = "try a lower learning rate, which may change on resume";
        let message = format!("the {what} is {value} at step {step} of stage {stage}; {remedy}");
        Err(Error::new(ErrorKind::NonFinite, message))
    }

    /// Saves the LoRA adapters that the stage trains as PEFT adapters, in `folder/query` and `folder/document`. `bases`
    /// names the base encoders of the query and the document tower; `None` skips a tower.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn save_adapters(&self, folder: impl AsRef<Path>, bases: [Option<&str>; 2]) -> Result<()> {
        for (role, base) in [Role::Query, Role::Document].into_iter().zip(bases) {
            if let Some(base) = base.filter(|_| self.stage.mode(role) == TrainMode::Lora) {
                let lora = lora_config(self.stage, role);
                self.network(role).encoder().save_adapter(folder.as_ref().join(role.as_str()), &lora, base)?;
            }
        }
        Ok(())
    }

    /// Ends the stage and returns the pair, ready for inference, with LoRA adapters merged.
    ///
    /// # Errors
    /// Never for towers that formed a pair before.
    pub fn finish(self) -> Result<AsymmetricEncoder> {
        let settled = |network: Network<AnyEncoder>, trained: bool| match trained {
            true => network.valid().map_encoder(AnyEncoder::merge_lora).prepacked(Prepack::F32),
            false => network,
        };
        let [query_trained, document_trained] = self.towers.trained;
        let document = self.towers.document.map_network(|network| settled(network, document_trained));
        let query = match self.stage.kind == StageKind::Symmetric {
            true => self.towers.query.map_network(|_| document.network().clone()),
            false => self.towers.query.map_network(|network| settled(network, query_trained)),
        };
        AsymmetricEncoder::new(query, document)
    }
}

/// The result of one batch.
struct BatchReport {
    loss: f64,
    losses: BTreeMap<String, f64>,
    tokens: usize,
}

fn lora_config(stage: &CheckedStage, role: Role) -> LoraConfig {
    stage.tower(role).lora.clone().unwrap_or_default()
}

/// A network with gradients enabled for the weights that a stage trains, or with packed weights if it is frozen.
fn prepare(
    network: Network<AnyEncoder>,
    stage: &CheckedStage,
    role: Role,
    lora_seed: u64,
) -> Result<Network<AnyEncoder>> {
    if stage.mode(role) == TrainMode::Frozen {
        return Ok(network.prepacked(Prepack::F32));
    }
    // Set in every stage, so that the dropout of an earlier stage does not carry over.
    let network = network.try_map_encoder(|encoder| encoder.with_dropout(stage.tower(role).dropout))?;
    let network = match stage.mode(role) {
        TrainMode::Frozen => network,
        TrainMode::Lora => {
            network.try_map_encoder(|encoder| encoder.with_lora(&lora_config(stage, role), lora_seed))?
        }
        TrainMode::Full => {
            let network = network.set_require_grad(true);
            match stage.tower(role).freeze_token_table {
                true => network.map_encoder(AnyEncoder::with_frozen_token_table),
                false => network,
            }
        }
    };
    Ok(network.train())
}

/// Refuses a network whose weights have a form that the stage cannot use.
fn check_precision(stage: &CheckedStage, role: Role, network: &Network<AnyEncoder>) -> Result<()> {
    let encoder = network.encoder();
    let Some(form) = encoder.quantization() else { return stage.check_precision(role, Precision::of(encoder)) };
    let precision = form.precision();
    stage.check_precision(role, precision)?;
    let mut packed = true;
    encoder.clone().for_each_linear(&mut |linear| packed &= linear.prepacked() == Some(form));
    match packed {
        true => Ok(()),
        false => Err(Error::setting("precision", format!("{:?}", precision.as_str()), "only as it was loaded, packed")),
    }
}

/// A separate seed for every batch of a run.
fn batch_seed(seed: u64, stage: usize, number: usize) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((stage as u64) << 48 | number as u64);
    rng.random()
}

mod together;

#[cfg(test)]
mod tests;
