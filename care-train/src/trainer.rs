//! The training loop of one stage.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use care_core::{Embedder, Error, ErrorKind, Network, Precision, Result, Role, TruncationOrder};
use care_encoders::{AnyEncoder, AsymmetricEncoder, LoraConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::batcher::Batcher;
use crate::checkpoint::Checkpoint;
use crate::config::{CheckedStage, TrainMode};
use crate::dataset::{RowNeeds, Source};
use crate::loss::Loss;
use crate::objective::Objective;
use crate::optim::{NamedGradients, Optimizer, clip_by_global_norm};
use crate::report::{Event, Observer, StepReport};
use crate::stage::StageKind;
use crate::teacher::{TeacherTexts, open_store};
use crate::towers::Towers;

/// Trains one stage in memory, without checkpoints or a teacher cache.
///
/// When the observer breaks off, the pair comes back as it is then. For losses of one's own, see [`Trainer`].
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
    while let Some(report) = trainer.step()? {
        if observer(&Event::Step(report)).is_break() {
            break;
        }
    }
    trainer.finish()
}

/// One stage under way: the towers, the losses, the optimizer and how far it has come.
pub struct Trainer<'a> {
    stage: &'a CheckedStage,
    index: usize,
    seed: u64,
    sources: &'a [Source],
    batcher: Batcher<'a>,
    batches: usize,
    total_steps: usize,
    towers: Towers,
    objective: Objective,
    optimizer: Optimizer,
    step: usize,
}

impl<'a> Trainer<'a> {
    /// A stage before its first step. `seed` decides batches, negatives, dropout and fresh low-rank additions.
    ///
    /// # Errors
    /// When there is no row, one lacks what the stage needs, a tower whose weights learn has weights of 16 bits,
    /// low-rank additions find no layer, or a symmetric stage gets two different networks.
    pub fn new(pair: AsymmetricEncoder, stage: &'a CheckedStage, sources: &'a [Source], seed: u64) -> Result<Self> {
        Self::at(pair, stage, 0, sources, seed)
    }

    /// A stage of a run of several.
    pub(crate) fn at(
        pair: AsymmetricEncoder,
        stage: &'a CheckedStage,
        index: usize,
        sources: &'a [Source],
        seed: u64,
    ) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a stage needs at least one source of training rows"));
        }
        // Each stage draws its own numbers from the one seed.
        let batcher = Batcher::new(sources, stage.batch_size, stage.group_size, seed.wrapping_add(index as u64));
        let batches = stage.epochs * batcher.batches_per_epoch();
        let steps = batches.div_ceil(stage.accumulation);
        let (query, document) = pair.into_towers();
        if stage.kind == StageKind::Symmetric {
            let parts = (query.network().encoder().config(), query.network().head(), query.tokenizer().to_json()?);
            let other =
                (document.network().encoder().config(), document.network().head(), document.tokenizer().to_json()?);
            if parts != other {
                let message =
                    "a symmetric stage trains one network in both roles: start both towers from the same encoder";
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        let head = document.network().head();
        // Vectors that are compared at their own length are so at every width.
        let order = if head.normalize { head.truncation } else { TruncationOrder::NormalizeThenTruncate };
        let objective = Objective::new(stage, order);
        let widest = stage.losses().iter().flat_map(|loss| &loss.dims).max();
        if let Some(&dim) = widest.filter(|&&dim| dim > document.embedding_dim()) {
            let allowed = format!("at most {}, the dimensions of the towers' vectors", document.embedding_dim());
            return Err(Error::setting("dims", dim, &allowed));
        }
        let lora_seed = |role: u64| batch_seed(seed ^ (role << 32), index, 0);
        let towers = Towers {
            query: query.try_map_network(|network| prepare(network, stage, Role::Query, lora_seed(1)))?,
            document: document.try_map_network(|network| prepare(network, stage, Role::Document, lora_seed(2)))?,
            kind: stage.kind,
            teacher: None,
        };
        let trainer = Self {
            stage,
            index,
            seed,
            sources,
            batcher,
            batches,
            total_steps: stage.max_steps.map_or(steps, |most| most.min(steps)),
            towers,
            objective,
            optimizer: Optimizer::new(stage.weight_decay),
            step: 0,
        };
        trainer.check_data()?;
        Ok(trainer)
    }

    /// The stage with one more loss, of whatever type.
    ///
    /// # Errors
    /// When the stage or its rows lack what the loss needs.
    pub fn with_loss(mut self, weight: f64, loss: Box<dyn Loss>) -> Result<Self> {
        self.objective.add(weight, loss);
        self.check_data()?;
        Ok(self)
    }

    fn check_data(&self) -> Result<()> {
        self.objective.check(self.stage.kind)?;
        let teacher_scores = self.objective.needs_teacher_scores();
        let needs = RowNeeds { group_size: self.stage.group_size, teacher_scores };
        self.sources.iter().try_for_each(|source| source.require(needs))
    }

    /// Opens the cache of the frozen document tower's vectors, if the stage has one, and says which texts it
    /// needs.
    ///
    /// # Errors
    /// When the folder cannot be read or made.
    pub(crate) fn open_teacher(&mut self, folder: &Path) -> Result<Option<TeacherTexts>> {
        if self.stage.mode(Role::Document) != TrainMode::Frozen {
            return Ok(None);
        }
        let (store, refused) = open_store(folder, &self.towers)?;
        self.towers.teacher = Some(store);
        Ok(Some(TeacherTexts::new(&self.towers, self.stage, self.sources, refused)))
    }

    /// The towers as they are now, without graphs or dropout, for a score in the middle of a stage.
    pub fn embedder(&self) -> &dyn Embedder {
        &self.towers
    }

    /// The towers as they are now.
    pub(crate) fn towers(&self) -> &Towers {
        &self.towers
    }

    /// The optimizer as it is now.
    pub(crate) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Steps that are done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Steps of the stage.
    pub fn total_steps(&self) -> usize {
        self.total_steps
    }

    /// Goes on where a checkpoint of this stage stands.
    ///
    /// # Errors
    /// When its files cannot be read or do not fit.
    pub(crate) fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.restore_weights(checkpoint)?;
        self.step = checkpoint.state.step;
        let device = crate::pass::device(self.towers.document.network()).inner();
        checkpoint.restore_optimizer(&mut self.optimizer, &device)
    }

    /// Takes the weights of a checkpoint of this stage, and nothing else of it.
    ///
    /// # Errors
    /// When its files cannot be read or do not fit.
    pub(crate) fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let towers = &mut self.towers;
        towers.query = towers.query.clone().try_map_network(|network| checkpoint.restore_network("query", network))?;
        towers.document =
            towers.document.clone().try_map_network(|network| checkpoint.restore_network("document", network))?;
        Ok(())
    }

    /// One step: batches, losses, gradients, clipping, update. `None` when the stage is done.
    ///
    /// # Errors
    /// When a text cannot be tokenized, there is no loss, or it is not finite.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        if self.step == self.total_steps {
            return Ok(None);
        }
        let started = Instant::now();
        let first = self.step * self.stage.accumulation;
        let numbers = first..self.batches.min(first + self.stage.accumulation);
        let share = 1.0 / numbers.len() as f64;
        let (mut loss, mut losses, mut tokens) = (0.0, BTreeMap::new(), 0);
        let mut gradients = NamedGradients::new();
        for number in numbers {
            let report = self.batch(number, share, &mut gradients)?;
            self.require_finite("loss", report.loss)?;
            loss += share * report.loss;
            tokens += report.tokens;
            for (name, value) in report.losses {
                *losses.entry(name).or_insert(0.0) += share * value;
            }
        }
        let gradient_norm = clip_by_global_norm(&mut gradients, self.stage.max_grad_norm);
        self.require_finite("length of the gradients", gradient_norm)?;
        let learning_rate = self.update(&gradients);
        self.step += 1;
        Ok(Some(StepReport {
            stage: self.index,
            kind: self.stage.kind,
            step: self.step,
            total_steps: self.total_steps,
            loss,
            losses,
            learning_rate,
            gradient_norm,
            tokens,
            seconds: started.elapsed().as_secs_f64(),
        }))
    }

    /// Refuses a stage without a loss.
    ///
    /// # Errors
    /// When the settings name none and none was added.
    pub(crate) fn require_loss(&self) -> Result<()> {
        self.objective.require_loss()
    }

    /// Adds `share` times the gradients of one batch.
    fn batch(&mut self, number: usize, share: f64, gradients: &mut NamedGradients) -> Result<BatchReport> {
        let batch = self.batcher.batch(number);
        // Dropout follows from the batch's number alone, so a resumed run drops what it would have dropped.
        let seed = batch_seed(self.seed, self.index, number);
        let encoded = self.towers.encode(self.stage, &batch, seed)?;
        let (total, parts) = self.objective.forward(&encoded.input)?;
        let scaled = total.clone().mul_scalar(share);
        let of_vectors = scaled.backward();
        for (role, pass) in &encoded.passes {
            pass.backward(role.as_str(), &of_vectors, gradients);
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

    /// Moves the weights; the higher of the two learning rates.
    fn update(&mut self, gradients: &NamedGradients) -> f64 {
        let warmup = (self.stage.warmup_ratio * self.total_steps as f64).ceil() as usize;
        let factor = self.stage.schedule.factor(self.step, warmup, self.total_steps);
        let rate = |role| match self.stage.mode(role) {
            TrainMode::Frozen => 0.0,
            _ => factor * self.stage.learning_rate(role),
        };
        let (query, document) = (rate(Role::Query), rate(Role::Document));
        let (optimizer, towers) = (&mut self.optimizer, &mut self.towers);
        towers.query.update_network(|network| optimizer.step(network, "query", gradients, query));
        towers.document.update_network(|network| optimizer.step(network, "document", gradients, document));
        query.max(document)
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

    /// Writes the low-rank additions that the stage trains as PEFT adapters, in `folder/query` and `folder/document`.
    /// `bases` names the encoders that they are made for; without a name there is no adapter.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_adapters(&self, folder: &Path, bases: [Option<&str>; 2]) -> Result<()> {
        for (role, base) in [Role::Query, Role::Document].into_iter().zip(bases) {
            if let Some(base) = base.filter(|_| self.stage.mode(role) == TrainMode::Lora) {
                let lora = lora_config(self.stage, role);
                self.network(role).encoder().save_adapter(&folder.join(role.as_str()), &lora, base)?;
            }
        }
        Ok(())
    }

    /// The pair as it is now, ready for inference, low-rank additions merged.
    ///
    /// # Errors
    /// Never for towers that made a pair before.
    pub fn finish(self) -> Result<AsymmetricEncoder> {
        let settled = |network: Network<AnyEncoder>| network.valid().map_encoder(AnyEncoder::merge_lora);
        let document = self.towers.document.map_network(settled);
        let query = match self.stage.kind == StageKind::Symmetric {
            true => self.towers.query.map_network(|_| document.network().clone()),
            false => self.towers.query.map_network(settled),
        };
        AsymmetricEncoder::new(query, document)
    }
}

/// What one batch came to.
struct BatchReport {
    loss: f64,
    losses: BTreeMap<String, f64>,
    tokens: usize,
}

fn lora_config(stage: &CheckedStage, role: Role) -> LoraConfig {
    stage.tower(role).lora.clone().unwrap_or_default()
}

/// A network on the training device with the weights free that a stage trains, or as it is: without a graph.
fn prepare(
    network: Network<AnyEncoder>,
    stage: &CheckedStage,
    role: Role,
    lora_seed: u64,
) -> Result<Network<AnyEncoder>> {
    if stage.mode(role) == TrainMode::Frozen {
        return Ok(network);
    }
    // Set in every stage: what an earlier stage wanted is no default for this one.
    let network = network.try_map_encoder(|encoder| encoder.with_dropout(stage.tower(role).dropout))?;
    let network = match stage.mode(role) {
        TrainMode::Frozen => network,
        TrainMode::Lora => {
            network.try_map_encoder(|encoder| encoder.with_lora(&lora_config(stage, role), lora_seed))?
        }
        TrainMode::Full => {
            require_f32(role, &network)?;
            let network = network.set_require_grad(true);
            match stage.tower(role).freeze_token_table {
                true => network.map_encoder(AnyEncoder::with_frozen_token_table),
                false => network,
            }
        }
    };
    Ok(network.train())
}

/// Refuses to train weights of 16 bits, which lose the small steps of an optimizer.
fn require_f32(role: Role, network: &Network<AnyEncoder>) -> Result<()> {
    match Precision::of(network.encoder()) {
        Precision::F32 => Ok(()),
        precision => {
            let allowed = format!("f32, since this stage trains the {} tower", role.as_str());
            Err(Error::setting("precision", format!("{:?}", precision.as_str()), &allowed))
        }
    }
}

/// A seed of its own for every batch of a run.
fn batch_seed(seed: u64, stage: usize, number: usize) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((stage as u64) << 48 | number as u64);
    rng.random()
}

#[cfg(test)]
mod tests {
    use care_core::Embedder;

    use super::*;
    use crate::config::StageConfig;
    use crate::optim::collect_gradients;
    use crate::pass::select;
    use crate::testing::{alone, common};

    /// The gradients of a stage's first batch.
    fn gradients(dropout: f64, kind: StageKind, change: impl FnOnce(&mut StageConfig)) -> BTreeMap<String, Vec<f32>> {
        let mut config = StageConfig { batch_size: 7, group_size: 3, ..StageConfig::new(kind) };
        change(&mut config);
        let stage = config.check().expect("good");
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let mut trainer = Trainer::new(common::pair(dropout), &stage, &sources, 5).expect("a trainer");
        let mut gradients = NamedGradients::new();
        trainer.batch(0, 1.0, &mut gradients).expect("a batch");
        host(gradients)
    }

    fn host(gradients: NamedGradients) -> BTreeMap<String, Vec<f32>> {
        let host = |gradient: Tensor<1>| gradient.into_data().try_to_vec::<f32>().expect("f32");
        gradients.into_iter().map(|(name, gradient)| (name, host(gradient))).collect()
    }

    /// The same weights have gradients, equal to 1e-5 of each weight's largest.
    fn equal(found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>) {
        assert!(found.keys().eq(expected.keys()));
        let length = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let longest = expected.values().map(|values| length(values)).fold(0.0, f32::max);
        for (name, expected) in expected {
            // A bias before a softmax has a gradient of nothing but rounding: it is measured by the others.
            let size = length(expected).max(1e-3 * longest);
            for (found, expected) in found[name].iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-5 * size, "{name}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn cached_gradients_are_those_of_the_whole_batch() {
        let _alone = alone();
        for kind in [StageKind::JointFinetuning, StageKind::SymmetricDocument, StageKind::QueryAlignment] {
            let group = if kind == StageKind::QueryAlignment { 1 } else { 3 };
            let plain = gradients(0.0, kind, |stage| stage.group_size = group);
            assert!(plain.values().any(|values| values.iter().any(|value| *value != 0.0)));
            for size in [1, 2, 5, 100] {
                let cached = gradients(0.0, kind, |stage| {
                    stage.group_size = group;
                    stage.grad_cache = Some(size);
                });
                equal(&cached, &plain);
            }
        }
    }

    #[test]
    fn cached_gradients_of_one_network_in_both_roles() {
        let _alone = alone();
        let both = |grad_cache| {
            let (_, document) = common::pair(0.0).into_towers();
            let (tokenizer, network) = (document.tokenizer().clone(), document.network().clone());
            let query = care_core::Tower::new(tokenizer, network, Default::default()).expect("a tower");
            let pair = AsymmetricEncoder::new(query, document).expect("a pair");
            let config =
                StageConfig { batch_size: 7, group_size: 2, grad_cache, ..StageConfig::new(StageKind::Symmetric) };
            let stage = config.check().expect("good");
            let sources = [Source::new("built in", common::examples()).expect("rows")];
            let mut trainer = Trainer::new(pair, &stage, &sources, 5).expect("a trainer");
            let mut gradients = NamedGradients::new();
            trainer.batch(0, 1.0, &mut gradients).expect("a batch");
            host(gradients)
        };
        let plain = both(None);
        assert!(plain.keys().all(|name| name.starts_with("document.")));
        equal(&both(Some(3)), &plain);
    }

    #[test]
    fn accumulated_gradients_are_the_mean_of_the_batches() {
        let _alone = alone();
        let config = StageConfig { batch_size: 4, group_size: 2, ..StageConfig::new(StageKind::JointFinetuning) };
        let stage = config.check().expect("good");
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
        let mut together = NamedGradients::new();
        let mut expected = BTreeMap::<String, Vec<f32>>::new();
        for number in 0..3 {
            trainer.batch(number, 1.0 / 3.0, &mut together).expect("a batch");
            let mut alone = NamedGradients::new();
            trainer.batch(number, 1.0, &mut alone).expect("a batch");
            for (name, values) in host(alone) {
                let sum = expected.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / 3.0);
            }
        }
        equal(&host(together), &expected);
    }

    #[test]
    fn dropout_is_the_same_on_the_way_back() {
        let _alone = alone();
        let whole = |grad_cache| gradients(0.3, StageKind::JointFinetuning, |stage| stage.grad_cache = grad_cache);
        let undropped = gradients(0.0, StageKind::JointFinetuning, |_| {});
        assert_ne!(whole(None), undropped, "something is dropped");
        equal(&whole(Some(100)), &whole(None));
    }

    /// Compares cached gradients with those of the same chunks, under the same seeds, in one graph.
    fn every_chunk_goes_the_same_way(
        dropout: f64,
        change: impl FnOnce(&mut StageConfig),
    ) -> BTreeMap<String, Vec<f32>> {
        let _alone = alone();
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let mut config = StageConfig {
            batch_size: 7,
            group_size: 3,
            grad_cache: Some(4),
            ..StageConfig::new(StageKind::JointFinetuning)
        };
        change(&mut config);
        let stage = config.check().expect("good");
        let mut trainer = Trainer::new(common::pair(dropout), &stage, &sources, 5).expect("a trainer");
        let batch = trainer.batcher.batch(0);
        let mut cached = NamedGradients::new();
        trainer.batch(0, 1.0, &mut cached).expect("a batch");

        let encoded = trainer.towers.encode(&stage, &batch, batch_seed(5, 0, 0)).expect("encoded");
        let mut input = encoded.input.clone();
        for (role, pass) in &encoded.passes {
            let (vectors, places) = pass.with_graph();
            let vectors = select(&vectors, &places);
            match role {
                Role::Query => input.queries = vectors,
                Role::Document => input.documents = vectors,
            }
        }
        let mut of_batch = trainer.objective.forward(&input).expect("losses").0.backward();
        let mut plain = NamedGradients::new();
        for role in [Role::Query, Role::Document] {
            collect_gradients(trainer.network(role), role.as_str(), &mut of_batch, &mut plain);
        }
        let (cached, plain) = (host(cached), host(plain));
        equal(&cached, &plain);
        cached
    }

    #[test]
    fn dropout_is_the_same_on_the_way_back_of_every_chunk() {
        let dropped = every_chunk_goes_the_same_way(0.3, |_| {});
        assert_ne!(dropped, every_chunk_goes_the_same_way(0.0, |_| {}), "something is dropped");
        let additions = |dropout: f64| {
            every_chunk_goes_the_same_way(0.0, |stage| {
                stage.document.train = Some(TrainMode::Lora);
                stage.document.lora = Some(LoraConfig { rank: 4, dropout, ..LoraConfig::reference() });
            })
        };
        let dropped = additions(0.3);
        assert!(dropped.keys().any(|name| name.ends_with("lora.b")));
        assert_ne!(dropped, additions(0.0), "something is dropped");
    }

    #[test]
    fn the_towers_embed_in_the_middle_of_a_stage_without_dropout() {
        let _alone = alone();
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let stage =
            StageConfig { batch_size: 4, ..StageConfig::new(StageKind::JointFinetuning) }.check().expect("good");
        let mut trainer = Trainer::new(common::pair(0.5), &stage, &sources, 5).expect("a trainer");
        trainer.step().expect("a step");
        let queries = ["头痛".into()];
        let once = trainer.towers().embed_queries(&queries).expect("embedded");
        assert_eq!(once, trainer.towers().embed_queries(&queries).expect("embedded"));
        assert_eq!(once, trainer.finish().expect("a pair").embed_queries(&queries).expect("embedded"));
    }
}
