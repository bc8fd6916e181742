//! A complete run from its configuration: stages in order, checkpoints, resuming, the saved pair.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use care_core::files::{FolderLock, lock_folder, write_atomic};
use care_core::{Error, ErrorKind, Result, Role};
use care_encoders::internals::network_folder;
use care_encoders::{AsymmetricEncoder, Device, EncoderOptions, load_tower};
use serde_json::{Value, json};

use crate::batcher::RowTokens;
use crate::card::{card, provenance};
use crate::checkpoint::{Checkpoint, Checkpoints, Place, Progress, State};
use crate::collective::{Alone, Collective};
use crate::command::Command;
use crate::config::{CheckedStage, CheckedTrainConfig, EvaluationConfig, ModelConfig, TrainMode};
#[cfg(feature = "plots")]
use crate::curves::draw_curves;
use crate::dataset::{Source, read_sources};
use crate::evaluation::DevSet;
use crate::fingerprint::{
    Change, Settings, add_evaluation, agree, changeable, changes, fingerprint, settings, settings_of_steps,
};
use crate::log::{self, Line, Log};
use crate::loss::Loss;
use crate::report::{EvaluationReport, Event, Observer, TeacherReport, unix_time};
use crate::tensorboard::EventFiles;
use crate::trainer::Trainer;

mod follow;

/// The model card in the folder of a pair.
const CARD: &str = "README.md";

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Every stage is complete and the pair is saved.
    Finished {
        /// The trained pair.
        pair: Box<AsymmetricEncoder>,
        /// The folder of the saved pair.
        folder: PathBuf,
    },
    /// The run was finished before, and nothing was changed.
    AlreadyFinished {
        /// The trained pair.
        pair: Box<AsymmetricEncoder>,
        /// The folder of the saved pair.
        folder: PathBuf,
    },
    /// The observer stopped the run, which can be resumed.
    Interrupted {
        /// The newest checkpoint; `None` if no step was made yet.
        checkpoint: Option<PathBuf>,
    },
    /// This process is not the first of those that train together; the first has the outcome.
    Followed,
}

/// Custom losses for the stage at an index, from 0, each with its weight. Called when the run is checked, and again when the stage
/// starts.
pub type CustomLosses<'a> = dyn Fn(usize) -> Vec<(f64, Box<dyn Loss>)> + 'a;

/// A run that is ready to start.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use care_train::{Event, Run, TrainConfig};
/// let config = TrainConfig::from_file("train.toml")?.check()?;
/// Run::new(&config).resume(true).start(&mut |event| {
///     if let Event::Step(step) = event {
///         eprintln!("{}/{} {}", step.step, step.total_steps, step.loss);
///     }
///     ControlFlow::Continue(())
/// })?;
/// # Ok::<(), care_core::Error>(())
/// ```
pub struct Run<'a> {
    config: &'a CheckedTrainConfig,
    resume: bool,
    losses: Option<&'a CustomLosses<'a>>,
    group: Arc<dyn Collective>,
}

/// What a run has read and checked before its first step.
struct Prepared {
    sources: Vec<Vec<Source>>,
    /// On the first process.
    dev: Option<DevSet>,
    pair: AsymmetricEncoder,
    /// Of each stage, the tokens of its rows if it has a token budget.
    tokens: Vec<Option<RowTokens>>,
    settings: Settings,
}

impl<'a> Run<'a> {
    /// A new run, whose output folder must not hold a run yet: neither checkpoints nor a log nor a model.
    pub fn new(config: &'a CheckedTrainConfig) -> Self {
        Self { config, resume: false, losses: None, group: Arc::new(Alone) }
    }

    /// Whether to resume the run from its newest checkpoint. A run that was interrupted before its first checkpoint
    /// starts over. Learning rates, schedule, clipping, epochs and steps of stages that are not complete may change, as
    /// may the evaluation; the saved pair's provenance records it.
    #[must_use]
    pub fn resume(self, resume: bool) -> Self {
        Self { resume, ..self }
    }

    /// Adds custom losses. They are not part of the fingerprint by which a checkpoint recognises its run.
    #[must_use]
    pub fn with_losses(self, losses: &'a CustomLosses<'a>) -> Self {
        Self { losses: Some(losses), ..self }
    }

    /// Trains together with other processes, each of which starts the same run: the same settings, data and towers, on
    /// processors of one kind. They share the chunks of every batch. The first process evaluates, calls its observer,
    /// and alone writes to `<output>`; the others need neither that folder nor the dev set.
    ///
    /// With `grad_cache`, losses and weights have the same bits as those of one process; without, they agree up to
    /// rounding. So a run may be resumed by another number of processes.
    #[must_use]
    pub fn with_collective(self, group: Arc<dyn Collective>) -> Self {
        Self { group, ..self }
    }

    /// Runs every stage and saves the trained pair in `<output>/model`.
    ///
    /// All data is read and checked before the first step. A resumed run ends with the same weights as an
    /// uninterrupted one.
    ///
    /// # Errors
    /// Returns an error if data or models cannot be read, if `output` already holds a run and `resume` is not set (or
    /// the other way round), if another process runs in it, if other settings or data changed since the checkpoint, if a
    /// file of the checkpoint is damaged, or if a file cannot be written.
    pub fn start(self, observer: &mut Observer<'_>) -> Result<Outcome> {
        let outcome = match self.group.rank() {
            0 => self.claim().and_then(|lock| self.lead(self.prepare()?, lock, observer)),
            _ => self.prepare().and_then(|prepared| self.follow(prepared)),
        };
        match &outcome {
            Err(error) => {
                let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
                self.group.abort(&format!("{error}{cause}"));
            }
            // The work is done, whoever hears of it.
            Ok(_) if self.group.rank() == 0 => drop(Command::End.give(&*self.group)),
            Ok(_) => {}
        }
        outcome
    }

    /// Reads and checks everything that can fail a check, before anything is written.
    fn prepare(&self) -> Result<Prepared> {
        let (config, is_first) = (self.config, self.group.rank() == 0);
        let stages = config.stages();
        let sources: Vec<Vec<Source>> = stages.iter().map(|stage| read_sources(&stage.data)).collect::<Result<_>>()?;
        let dev = config.evaluation.as_ref().filter(|_| is_first).map(load_dev_set).transpose()?;
        if is_first {
            AsymmetricEncoder::check_target(config.output.join("model"))?;
        }
        let pair = load_pair(config)?;
        let mut tokens = Vec::new();
        for (index, (stage, sources)) in stages.iter().zip(&sources).enumerate() {
            let trainer = self.trainer(pair.clone(), stage, index, sources, None)?;
            trainer.require_loss()?;
            // Rows have the same tokens when the stage starts.
            tokens.push(trainer.row_tokens());
        }
        let of_steps = settings_of_steps(config, &sources)?;
        let mut settings = of_steps.clone();
        if is_first {
            add_evaluation(&mut settings, config)?;
        }
        agree(&*self.group, of_steps)?;
        Ok(Prepared { sources, dev, pair, tokens, settings })
    }

    /// The run of the first process.
    fn lead(&self, prepared: Prepared, lock: Option<FolderLock>, observer: &mut Observer<'_>) -> Result<Outcome> {
        let Prepared { sources, dev, mut pair, mut tokens, settings } = prepared;
        let (config, stages) = (self.config, self.config.stages());
        let started_from = pair.provenance().clone();
        let _lock = match lock {
            Some(lock) => lock,
            None => {
                let lock = self.lock()?;
                self.check_output()?;
                lock
            }
        };
        let checkpoints = self.checkpoints();
        let start = checkpoints.latest()?.map(|checkpoint| self.start_from(checkpoint, &settings)).transpose()?;
        let folder = config.output.join("model");
        if start.as_ref().is_some_and(|start| start.is_as_before)
            && let Some(pair) = finished(&folder, &fingerprint(&settings), config)?
        {
            // Killed after the pair was saved.
            if !folder.join(CARD).exists() {
                for problem in describe(config, &sources, &pair, &folder) {
                    let _ = observer(&Event::Warning(problem));
                }
            }
            return Ok(Outcome::AlreadyFinished { pair: Box::new(pair), folder });
        }
        checkpoints.sweep()?;
        let place = start.as_ref().map(|start| (start.checkpoint.state.stage, start.checkpoint.state.step));
        let (start, changes) = start.map_or_else(Default::default, |start| (Some(start.checkpoint), start.changes));
        let log = Log::open(&config.output, place)?;
        let event_files = EventFiles::open(&config.output, &log::read(&config.output)?)?;
        let warned = BTreeSet::new();
        let mut context = Context { config, settings, changes, checkpoints, dev, log, event_files, warned };
        let first = start.as_ref().map_or(0, |checkpoint| checkpoint.state.stage - 1);
        let bases = adapter_bases(config)?;
        if context.warn(adapters_without_base(config, &bases, first), observer)?.is_break() {
            return Ok(Outcome::Interrupted { checkpoint: context.checkpoints.newest() });
        }

        for (index, stage) in stages.iter().enumerate() {
            let changed = changed_before(stages, index);
            let at = start.as_ref().filter(|checkpoint| checkpoint.state.stage > index);
            if at.is_none_or(|checkpoint| checkpoint.state.stage == index + 1) {
                let mut trainer = self.trainer(pair, stage, index, &sources[index], tokens[index].take())?;
                if let ControlFlow::Break(checkpoint) = context.stage(index, &mut trainer, at, changed, observer)? {
                    return Ok(Outcome::Interrupted { checkpoint });
                }
                let adapters = config.output.join(format!("adapters-stage-{}", index + 1));
                let bases = bases[index].each_ref().map(|base| base.as_ref().ok().map(String::as_str));
                trainer.save_adapters(&adapters, bases)?;
                pair = trainer.finish()?;
            }
        }
        let pair = pair.with_provenance(context.provenance(started_from));
        pair.save(&folder)?;
        // The pair is safe; neither a card nor a picture is worth an error.
        for problem in describe(config, &sources, &pair, &folder) {
            // The run is over, so there is nothing to stop.
            let _ = context.notify(&Event::Warning(problem), observer)?;
        }
        Ok(Outcome::Finished { pair: Box::new(pair), folder })
    }

    /// Saves the pair that a checkpoint of this run holds, without training; by default the newest checkpoint.
    ///
    /// # Errors
    /// Returns an error if data or models cannot be read, there is no checkpoint or a file of it is damaged, it does not
    /// belong to this configuration, or `folder` cannot be written or holds anything other than a saved pair.
    pub fn export(self, checkpoint: Option<&Path>, folder: impl AsRef<Path>) -> Result<()> {
        let config = self.config;
        AsymmetricEncoder::check_target(&folder)?;
        let checkpoint = match checkpoint {
            Some(folder) => Checkpoint::open_whole(folder.to_owned())?,
            None => self.checkpoints().latest()?.ok_or_else(|| {
                Error::new(ErrorKind::Config, format!("{} holds no checkpoint", config.output.display()))
            })?,
        };
        let sources: Vec<Vec<Source>> =
            config.stages().iter().map(|stage| read_sources(&stage.data)).collect::<Result<_>>()?;
        let settings = settings(config, &sources)?;
        let start = self.start_from(checkpoint, &settings)?;
        let (stage, step) = (start.checkpoint.state.stage, start.checkpoint.state.step);
        let pair = load_pair(config)?;
        let started_from = pair.provenance().clone();
        // No batch is drawn, so no row need be tokenized.
        let settings_of_stage = config.stages()[stage - 1].without_token_budget();
        let mut trainer = self.trainer(pair, &settings_of_stage, stage - 1, &sources[stage - 1], None)?;
        trainer.restore_weights(&start.checkpoint)?;
        let mut note = provenance(config, &fingerprint(&settings), started_from);
        note["checkpoint"] = json!({ "stage": stage, "step": step });
        trainer.finish()?.with_provenance(note).save(folder)
    }

    fn trainer<'s>(
        &self,
        pair: AsymmetricEncoder,
        stage: &'s CheckedStage,
        index: usize,
        sources: &'s [Source],
        tokens: Option<RowTokens>,
    ) -> Result<Trainer<'s>> {
        let trainer = Trainer::at(pair, stage, index, sources, self.config.seed, tokens)?.in_group(&self.group);
        let custom = self.losses.map_or_else(Vec::new, |losses| losses(index));
        custom.into_iter().try_fold(trainer, |trainer, (weight, loss)| trainer.with_loss(weight, loss))
    }

    /// Refuses an output folder of another run before hours of loading and tokenizing. One that is there is locked; one that
    /// is not is made only when nothing else is refused.
    fn claim(&self) -> Result<Option<FolderLock>> {
        let lock = self.config.output.exists().then(|| self.lock()).transpose()?;
        self.check_output()?;
        Ok(lock)
    }

    /// Locks the output folder for this run.
    fn lock(&self) -> Result<FolderLock> {
        let output = &self.config.output;
        std::fs::create_dir_all(output).map_err(|e| Error::io("create", output, e))?;
        lock_folder(output)
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.config.output.join("checkpoints"), self.config.keep_checkpoints)
    }

    /// Refuses an output folder that holds a run, or to resume one that holds none.
    fn check_output(&self) -> Result<()> {
        let output = &self.config.output;
        let [has_log, has_model] = ["log.jsonl", "model"].map(|name| output.join(name).exists());
        let has_checkpoint = self.checkpoints().newest().is_some();
        let problem = match self.resume {
            false if has_log || has_model || has_checkpoint => {
                "already holds a run: resume it with --resume, or choose another output"
            }
            true if has_model && !has_checkpoint => {
                "holds a finished run without checkpoints, which cannot be resumed: choose another output"
            }
            // With a log alone, it was killed before its first checkpoint.
            true if !has_log && !has_checkpoint => "holds no run to resume",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Config, format!("{} {problem}", output.display())))
    }

    /// Checks that a checkpoint belongs to this run.
    fn start_from(&self, mut checkpoint: Checkpoint, settings: &Settings) -> Result<Start> {
        let folder = checkpoint.folder().display();
        let State { stage, step, .. } = checkpoint.state;
        let stages = self.config.stages().len();
        if !(1..=stages).contains(&stage) {
            let message = format!("{folder}: `stage` is {stage}, allowed: 1..={stages}, the stages of the run");
            return Err(Error::new(ErrorKind::Checkpoint, message));
        }
        let changed = changes(&checkpoint.state.settings, settings, stage, step).map_err(|changed| {
            let may = changeable();
            let message =
                format!("{folder}: changed since this checkpoint: {changed}; on resume only these may: {may}");
            Error::new(ErrorKind::Config, message)
        })?;
        let mut all = std::mem::take(&mut checkpoint.state.changes);
        if changed.iter().any(Change::is_of_dev_set) {
            // Scores on another dev set do not compare.
            checkpoint.state.progress = Progress::default();
        }
        let is_as_before = changed.is_empty();
        all.extend(changed);
        Ok(Start { checkpoint, changes: all, is_as_before })
    }
}

/// Where a resumed run goes on.
struct Start {
    checkpoint: Checkpoint,
    /// The settings that have changed since the run began.
    changes: Vec<Change>,
    /// Whether none has since the checkpoint.
    is_as_before: bool,
}

/// The pair of a run that is finished, if it is the one with this fingerprint.
fn finished(folder: &Path, fingerprint: &str, config: &CheckedTrainConfig) -> Result<Option<AsymmetricEncoder>> {
    let Ok(manifest) = std::fs::read(folder.join("care.json")) else { return Ok(None) };
    // A manifest that cannot be read is no reason to keep the folder: the pair is saved again.
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    if manifest["provenance"]["fingerprint"] != fingerprint {
        return Ok(None);
    }
    AsymmetricEncoder::load(folder, &Device::open(config.device)?).map(Some)
}

/// The state of a run apart from the towers.
struct Context<'a> {
    config: &'a CheckedTrainConfig,
    settings: Settings,
    changes: Vec<Change>,
    checkpoints: Checkpoints,
    dev: Option<DevSet>,
    log: Log,
    event_files: EventFiles,
    /// The warnings so far, each of which is given once per run.
    warned: BTreeSet<String>,
}

/// A stage is complete, or was interrupted at a checkpoint.
type StageEnd = ControlFlow<Option<PathBuf>>;

impl Context<'_> {
    /// Runs a stage until it is complete or the observer stops it.
    fn stage(
        &mut self,
        index: usize,
        trainer: &mut Trainer<'_>,
        at: Option<&Checkpoint>,
        changed: [bool; 2],
        observer: &mut Observer<'_>,
    ) -> Result<StageEnd> {
        let mut progress = Progress::default();
        if let Some(checkpoint) = at {
            trainer.resume(checkpoint)?;
            progress = checkpoint.state.progress.clone();
        }
        if let Some(folder) = self.config.teacher_cache() {
            trainer.open_teacher(&folder)?;
        }
        Command::Stage(index).give(trainer.group())?;
        trainer.share_state(changed)?;
        if self.warn(trainer.warnings()?, observer)?.is_break() {
            return Ok(StageEnd::Break(self.checkpoints.newest()));
        }
        let patience = self.config.evaluation.as_ref().and_then(|evaluation| evaluation.patience);
        let mut stop = false;
        // Another dev set has no scores yet.
        if at.is_none_or(|at| at.state.progress == Progress::default()) {
            stop = self.evaluate(index, trainer, &mut progress, changed, observer)?.is_break();
        }
        let out_of_patience = |progress: &Progress| patience.is_some_and(|patience| progress.stale >= patience);
        while !out_of_patience(&progress) && !stop {
            if self.fill_teacher(index, trainer, observer)?.is_break() {
                let is_new = trainer.steps_done() > at.map_or(0, |checkpoint| checkpoint.state.step);
                let write = || self.write_checkpoint(index, trainer, &progress, changed).map(Some);
                return Ok(StageEnd::Break(if is_new { write()? } else { self.checkpoints.newest() }));
            }
            if trainer.steps_done() < trainer.total_steps() {
                Command::Step.give(trainer.group())?;
            }
            let Some(report) = trainer.step()? else { break };
            let (step, last) = (report.step, report.step == report.total_steps);
            stop = self.notify(&Event::Step(report), observer)?.is_break();
            stop |= self.warn(trainer.warnings()?, observer)?.is_break();
            let is_due = |every: usize| every > 0 && step.is_multiple_of(every);
            let every = self.config.evaluation.as_ref().map_or(0, |evaluation| evaluation.every);
            if self.dev.is_some() && (is_due(every) || last) {
                stop |= self.evaluate(index, trainer, &mut progress, changed, observer)?.is_break();
            }
            if stop || last || is_due(self.config.checkpoint_every) || out_of_patience(&progress) {
                let checkpoint = self.write_checkpoint(index, trainer, &progress, changed)?;
                if stop {
                    return Ok(StageEnd::Break(Some(checkpoint)));
                }
            }
        }
        if stop {
            return Ok(StageEnd::Break(self.checkpoints.newest()));
        }
        // The next stage starts from the best weights.
        if let Some((_, step)) = progress.best.filter(|(_, step)| *step != trainer.steps_done()) {
            trainer.restore_weights(&self.checkpoints.best(index + 1, step)?)?;
        }
        Ok(StageEnd::Continue(()))
    }

    /// Passes on warnings that are new.
    fn warn(&mut self, warnings: Vec<String>, observer: &mut Observer<'_>) -> Result<ControlFlow<()>> {
        for warning in warnings {
            if self.warned.insert(warning.clone()) && self.notify(&Event::Warning(warning), observer)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Computes the vectors that the teacher cache lacks for the coming steps.
    fn fill_teacher(
        &mut self,
        index: usize,
        trainer: &mut Trainer<'_>,
        observer: &mut Observer<'_>,
    ) -> Result<ControlFlow<()>> {
        while let Some(mut lot) = trainer.coming_teacher_texts()? {
            let total = lot.len();
            while let Some(done) = lot.fill_next(trainer.towers())? {
                let report = TeacherReport { stage: index + 1, done, total };
                if self.notify(&Event::Teacher(report), observer)?.is_break()
                    || self.warn(trainer.warnings()?, observer)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Evaluates the towers, and saves their weights if the score is the best of the stage.
    fn evaluate(
        &mut self,
        index: usize,
        trainer: &Trainer<'_>,
        progress: &mut Progress,
        changed: [bool; 2],
        observer: &mut Observer<'_>,
    ) -> Result<ControlFlow<()>> {
        let Some(dev) = &self.dev else { return Ok(ControlFlow::Continue(())) };
        let started = Instant::now();
        let found = dev.scores(trainer.towers())?;
        let seconds = started.elapsed().as_secs_f64();
        let (step, score) = (trainer.steps_done(), found.mean());
        // Without a score there is nothing to compare.
        let better = score.filter(|score| progress.best.is_none_or(|(best, _)| *score > best));
        if let Some(score) = better {
            *progress = Progress { best: Some((score, step)), stale: 0 };
            self.checkpoints.write_best(self.place(index, trainer, progress), &trainer.written(changed))?;
        } else if step > 0 {
            progress.stale += 1;
        }
        let report = EvaluationReport {
            stage: index + 1,
            step,
            split: dev.split().to_owned(),
            measure: dev.measure(),
            score,
            scores: found.scores,
            undefined: found.undefined,
            best: better.is_some(),
            seconds,
            time: unix_time(),
        };
        self.notify(&Event::Evaluation(report), observer)
    }

    /// Writes a checkpoint, once all processes are known to have the same weights.
    fn write_checkpoint(
        &self,
        index: usize,
        trainer: &Trainer<'_>,
        progress: &Progress,
        changed: [bool; 2],
    ) -> Result<PathBuf> {
        Command::Compare.give(trainer.group())?;
        trainer.compare_weights()?;
        self.checkpoints.write(self.place(index, trainer, progress), &trainer.written(changed), trainer.optimizer())
    }

    fn place<'s>(&'s self, index: usize, trainer: &Trainer<'_>, progress: &'s Progress) -> Place<'s> {
        let (settings, changes) = (&self.settings, self.changes.as_slice());
        Place { stage: index + 1, step: trainer.steps_done(), settings, changes, progress }
    }

    fn provenance(&self, started_from: Value) -> Value {
        let mut note = provenance(self.config, &fingerprint(&self.settings), started_from);
        if !self.changes.is_empty() {
            note["changed_on_resume"] = json!(self.changes);
        }
        note
    }

    /// Logs an event and passes it to the observer.
    fn notify(&mut self, event: &Event, observer: &mut Observer<'_>) -> Result<ControlFlow<()>> {
        if let Some(line) = Line::of(event) {
            self.log.add(&line)?;
            self.event_files.add(&line)?;
        }
        Ok(observer(event))
    }
}

/// Whether the stages before this one change the query and the document tower: a checkpoint then holds all weights.
fn changed_before(stages: &[CheckedStage], index: usize) -> [bool; 2] {
    [Role::Query, Role::Document].map(|role| stages[..index].iter().any(|stage| stage.changes(role)))
}

/// Writes the card of a saved pair and the curves of its run. Returns what failed.
fn describe(
    config: &CheckedTrainConfig,
    sources: &[Vec<Source>],
    pair: &AsymmetricEncoder,
    folder: &Path,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |error: Error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        problems.push(format!("{error}{cause}"));
    };
    let lines = log::read(&config.output).unwrap_or_else(|error| {
        note(error);
        Vec::new()
    });
    write_atomic(folder.join(CARD), card(pair.card_head(), config, sources, &lines)).unwrap_or_else(&mut note);
    #[cfg(feature = "plots")]
    draw_curves(&lines, &config.output.join("curves.svg")).unwrap_or_else(&mut note);
    problems
}

fn load_dev_set(evaluation: &EvaluationConfig) -> Result<DevSet> {
    DevSet::load(&evaluation.data, evaluation.split.as_deref())
}

/// Loads the towers that the configuration starts from. Weights that are stored in int8 become the floats that they stand
/// for, unless a tower's options ask for int8.
fn load_pair(config: &CheckedTrainConfig) -> Result<AsymmetricEncoder> {
    let device = Device::open(config.device)?;
    match &config.model {
        ModelConfig { pair: Some(folder), .. } => {
            let options = in_floats(&EncoderOptions::default());
            AsymmetricEncoder::open(folder, &options, &options, &device)
        }
        ModelConfig { query: Some(query), document: Some(document), .. } => {
            let query = load_tower(&query.encoder, &in_floats(&query.options), &device)?;
            let document = load_tower(&document.encoder, &in_floats(&document.options), &device)?;
            AsymmetricEncoder::new(query, document)
        }
        // A checked configuration has one or the other.
        _ => Err(Error::setting("model", "incomplete", "either `pair`, or both `query` and `document`")),
    }
}

fn in_floats(options: &EncoderOptions) -> EncoderOptions {
    let mut options = options.clone();
    options.floats = true;
    options
}

/// The base encoder of a LoRA adapter, its folder or its name on the hub, or why it is not on disk as it is.
type Base = std::result::Result<String, &'static str>;

/// The bases of each stage's adapters: of the query tower and of the document tower.
///
/// # Errors
/// If the folder of a model cannot be read.
fn adapter_bases(config: &CheckedTrainConfig) -> Result<Vec<[Base; 2]>> {
    let stages = config.stages();
    let of_stage = |index: usize| {
        let base = |role| match stages[index].mode(role) {
            TrainMode::Lora => adapter_base(config, changed_before(stages, index), role),
            _ => Ok(Err("there is none")),
        };
        Ok([base(Role::Query)?, base(Role::Document)?])
    };
    (0..stages.len()).map(of_stage).collect()
}

fn adapter_base(config: &CheckedTrainConfig, changed: [bool; 2], role: Role) -> Result<Base> {
    let (tower, changed) = match role {
        Role::Query => (&config.model.query, changed[0]),
        Role::Document => (&config.model.document, changed[1]),
    };
    if changed {
        return Ok(Err("an earlier stage has changed the encoder under it"));
    }
    let folder = match (tower, &config.model.pair) {
        (Some(tower), _) if tower.options.adapter.is_none() && tower.options.layers.is_none() => Some(&tower.encoder),
        (Some(_), _) => None,
        (None, pair) => pair.as_ref(),
    };
    let base = folder.map(|folder| network_folder(folder, role)).transpose()?.flatten();
    let name = |base: PathBuf| config.hub_name(&base).map_or_else(|| base.display().to_string(), str::to_owned);
    Ok(base.map(name).ok_or("an adapter or a choice of layers has changed the encoder under it on loading"))
}

/// Names the LoRA adapters that stages from this index on train, and that cannot be written.
fn adapters_without_base(config: &CheckedTrainConfig, bases: &[[Base; 2]], first: usize) -> Vec<String> {
    let stages = config.stages();
    let of_stage = |index: usize| {
        let towers = [Role::Query, Role::Document].into_iter().zip(&bases[index]);
        towers.filter(move |(role, _)| stages[index].mode(*role) == TrainMode::Lora).filter_map(move |(role, base)| {
            let (number, reason) = (index + 1, base.as_ref().err()?);
            let tower = role.as_str();
            Some(format!("the LoRA adapter of the {tower} tower in stage {number} will not be written, since {reason}"))
        })
    };
    (first..stages.len()).flat_map(of_stage).collect()
}
