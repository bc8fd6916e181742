//! A complete run from its configuration: stages in order, checkpoints, resuming, the saved pair.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use care_core::files::write_atomic;
use care_core::{Error, ErrorKind, Result, Role};
use care_encoders::{AnyEncoder, AsymmetricEncoder, Device, Network, load_tower};

use crate::card::{card, provenance};
use crate::checkpoint::{Checkpoint, Checkpoints, Place, Progress, Written};
use crate::config::{CheckedTrainConfig, EvaluationConfig, ModelConfig};
#[cfg(feature = "plots")]
use crate::curves::draw_curves;
use crate::dataset::{Source, read_sources};
use crate::evaluation::DevSet;
use crate::fingerprint::fingerprint;
use crate::log::{self, Log};
use crate::loss::Loss;
use crate::report::{EvaluationReport, Event, Observer, TeacherReport};
use crate::trainer::Trainer;

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
    /// The observer stopped the run, which can be resumed.
    Interrupted {
        /// The newest checkpoint; `None` if no step was made yet.
        checkpoint: Option<PathBuf>,
    },
}

/// Custom losses for stage `index`, each with its weight. Called when the run is checked, and again when the stage
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
}

impl<'a> Run<'a> {
    /// A new run, whose output folder must not hold a run yet.
    pub fn new(config: &'a CheckedTrainConfig) -> Self {
        Self { config, resume: false, losses: None }
    }

    /// Whether to resume the run from its newest checkpoint. A run that was interrupted before its first checkpoint
    /// starts over.
    #[must_use]
    pub fn resume(self, resume: bool) -> Self {
        Self { resume, ..self }
    }

    /// Adds custom losses. They are not part of the fingerprint by which a checkpoint recognises its run.
    #[must_use]
    pub fn with_losses(self, losses: &'a CustomLosses<'a>) -> Self {
        Self { losses: Some(losses), ..self }
    }

    /// Runs every stage and saves the trained pair in `<output>/model`.
    ///
    /// All data is read and checked before the first step. A resumed run ends with the same weights as an
    /// uninterrupted one.
    ///
    /// # Errors
    /// Returns an error if data or models cannot be read, if `output` already holds a run and `resume` is not set (or
    /// the other way round), if settings or data changed since the checkpoint, or if a file cannot be written.
    pub fn start(self, observer: &mut Observer<'_>) -> Result<Outcome> {
        let config = self.config;
        let stages = config.stages();
        let sources: Vec<Vec<Source>> = stages.iter().map(|stage| read_sources(&stage.data)).collect::<Result<_>>()?;
        let dev = config.evaluation.as_ref().map(load_dev_set).transpose()?;
        AsymmetricEncoder::check_target(config.output.join("model"))?;
        let mut pair = load_pair(config)?;
        let started_from = pair.provenance().clone();
        // Everything that can fail a check does so before anything is written.
        for (index, sources) in sources.iter().enumerate() {
            self.trainer(pair.clone(), index, sources)?.require_loss()?;
        }
        let fingerprint = fingerprint(config, &sources)?;
        let checkpoints = Checkpoints::new(config.output.join("checkpoints"), config.keep_checkpoints);
        let start = self.starting_point(&checkpoints, &fingerprint)?;
        let place = start.as_ref().map(|checkpoint| (checkpoint.state.stage, checkpoint.state.step));
        let mut context = Context { config, fingerprint, checkpoints, dev, log: Log::open(&config.output, place)? };

        // Whether earlier stages have changed a tower: a checkpoint then holds all of its weights.
        let mut changed = [false, false];
        for (index, stage) in stages.iter().enumerate() {
            let at = start.as_ref().filter(|checkpoint| checkpoint.state.stage >= index);
            if at.is_none_or(|checkpoint| checkpoint.state.stage == index) {
                let mut trainer = self.trainer(pair, index, &sources[index])?;
                if let ControlFlow::Break(checkpoint) = context.stage(index, &mut trainer, at, changed, observer)? {
                    return Ok(Outcome::Interrupted { checkpoint });
                }
                let bases = [Role::Query, Role::Document].map(|role| adapter_base(config, changed, role));
                let adapters = config.output.join(format!("adapters-stage-{}", index + 1));
                trainer.save_adapters(&adapters, bases.each_ref().map(Option::as_deref))?;
                pair = trainer.finish()?;
            }
            changed[0] |= stage.changes(Role::Query);
            changed[1] |= stage.changes(Role::Document);
        }
        let folder = config.output.join("model");
        let pair = pair.with_provenance(provenance(config, &context.fingerprint, started_from));
        pair.save(&folder)?;
        // The pair is safe; neither a card nor a picture is worth an error.
        for problem in describe(config, &sources, &folder) {
            // The run is over, so there is nothing to stop.
            let _ = context.notify(&Event::Warning(problem), observer)?;
        }
        Ok(Outcome::Finished { pair: Box::new(pair), folder })
    }

    fn trainer<'s>(&'s self, pair: AsymmetricEncoder, index: usize, sources: &'s [Source]) -> Result<Trainer<'s>> {
        let trainer = Trainer::at(pair, &self.config.stages()[index], index, sources, self.config.seed)?;
        let custom = self.losses.map_or_else(Vec::new, |losses| losses(index));
        custom.into_iter().try_fold(trainer, |trainer, (weight, loss)| trainer.with_loss(weight, loss))
    }

    fn starting_point(&self, checkpoints: &Checkpoints, fingerprint: &str) -> Result<Option<Checkpoint>> {
        let output = self.config.output.display();
        let begun = self.config.output.join("log.jsonl").exists();
        match (self.resume, checkpoints.latest()?) {
            (false, None) => Ok(None),
            (true, None) if begun => Ok(None),
            (true, Some(checkpoint)) if checkpoint.state.fingerprint == fingerprint => {
                let (stage, stages) = (checkpoint.state.stage, self.config.stages().len());
                match stage < stages {
                    true => Ok(Some(checkpoint)),
                    false => {
                        let problem = format!("`stage` is {stage}, but the run has {stages} stages");
                        Err(Error::format(checkpoint.folder(), problem))
                    }
                }
            }
            (true, Some(checkpoint)) => Err(Error::new(
                ErrorKind::Config,
                format!("{}: settings or data changed since this checkpoint", checkpoint.folder().display()),
            )),
            (true, None) => Err(Error::new(ErrorKind::Config, format!("{output} holds no run to resume"))),
            (false, Some(_)) => Err(Error::new(
                ErrorKind::Config,
                format!("{output} already holds a run: resume it, or choose another output"),
            )),
        }
    }
}

/// The state of a run apart from the towers.
struct Context<'a> {
    config: &'a CheckedTrainConfig,
    fingerprint: String,
    checkpoints: Checkpoints,
    dev: Option<DevSet>,
    log: Log,
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
        if self.fill_teacher(index, trainer, observer)?.is_break() {
            return Ok(StageEnd::Break(self.checkpoints.newest()));
        }
        let patience = self.config.evaluation.as_ref().and_then(|evaluation| evaluation.patience);
        let mut stop = false;
        if at.is_none() {
            stop = self.evaluate(index, trainer, &mut progress, changed, observer)?.is_break();
        }
        let out_of_patience = |progress: &Progress| patience.is_some_and(|patience| progress.stale >= patience);
        while !out_of_patience(&progress) && !stop {
            let Some(report) = trainer.step()? else { break };
            let (step, last) = (report.step, report.step == report.total_steps);
            stop = self.notify(&Event::Step(report), observer)?.is_break();
            let is_due = |every: usize| every > 0 && step.is_multiple_of(every);
            let every = self.config.evaluation.as_ref().map_or(0, |evaluation| evaluation.every);
            if self.dev.is_some() && (is_due(every) || last) {
                stop |= self.evaluate(index, trainer, &mut progress, changed, observer)?.is_break();
            }
            if stop || last || is_due(self.config.checkpoint_every) || out_of_patience(&progress) {
                let checkpoint = self.checkpoints.write(
                    self.place(index, trainer, &progress),
                    &networks(trainer, changed),
                    trainer.optimizer(),
                )?;
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
            trainer.restore_weights(&self.checkpoints.best(index, step)?)?;
        }
        Ok(StageEnd::Continue(()))
    }

    /// Computes the vectors that the teacher cache lacks.
    fn fill_teacher(
        &mut self,
        index: usize,
        trainer: &mut Trainer<'_>,
        observer: &mut Observer<'_>,
    ) -> Result<ControlFlow<()>> {
        let Some(folder) = self.config.teacher_cache() else { return Ok(ControlFlow::Continue(())) };
        let Some(mut texts) = trainer.open_teacher(&folder)? else { return Ok(ControlFlow::Continue(())) };
        let (total, refused) = (texts.len(), std::mem::take(&mut texts.refused));
        while let Some(done) = texts.fill_next(trainer.towers())? {
            let report = TeacherReport { stage: index, done, total, refused: refused.clone() };
            if self.notify(&Event::Teacher(report), observer)?.is_break() {
                return Ok(ControlFlow::Break(()));
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
            self.checkpoints.write_best(self.place(index, trainer, progress), &networks(trainer, changed))?;
        } else if step > 0 {
            progress.stale += 1;
        }
        let report = EvaluationReport {
            stage: index,
            step,
            split: dev.split().to_owned(),
            measure: dev.measure(),
            score,
            scores: found.scores,
            undefined: found.undefined,
            best: better.is_some(),
            seconds,
        };
        self.notify(&Event::Evaluation(report), observer)
    }

    fn place<'s>(&'s self, stage: usize, trainer: &Trainer<'_>, progress: &'s Progress) -> Place<'s> {
        Place { stage, step: trainer.steps_done(), fingerprint: &self.fingerprint, progress }
    }

    /// Logs an event and passes it to the observer.
    fn notify(&mut self, event: &Event, observer: &mut Observer<'_>) -> Result<ControlFlow<()>> {
        self.log.add(event)?;
        Ok(observer(event))
    }
}

fn networks<'t>(trainer: &'t Trainer<'_>, changed: [bool; 2]) -> [Written<'t, Network<AnyEncoder>>; 2] {
    let towers = trainer.towers();
    [
        Written { name: "query", network: towers.query.network(), whole: changed[0] },
        Written { name: "document", network: towers.document.network(), whole: changed[1] },
    ]
}

/// Writes the card of a saved pair and the curves of its run. Returns what failed.
fn describe(config: &CheckedTrainConfig, sources: &[Vec<Source>], pair: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |error: Error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        problems.push(format!("{error}{cause}"));
    };
    let lines = log::read(&config.output).unwrap_or_else(|error| {
        note(error);
        Vec::new()
    });
    write_atomic(pair.join("README.md"), card(config, sources, &lines)).unwrap_or_else(&mut note);
    #[cfg(feature = "plots")]
    draw_curves(&lines, &config.output.join("curves.svg")).unwrap_or_else(&mut note);
    problems
}

fn load_dev_set(evaluation: &EvaluationConfig) -> Result<DevSet> {
    DevSet::load(&evaluation.data, evaluation.split.as_deref())
}

/// Loads the towers that the configuration starts from.
fn load_pair(config: &CheckedTrainConfig) -> Result<AsymmetricEncoder> {
    let device = Device::open(config.device)?;
    match &config.model {
        ModelConfig { pair: Some(folder), .. } => AsymmetricEncoder::load(folder, &device),
        ModelConfig { query: Some(query), document: Some(document), .. } => AsymmetricEncoder::new(
            load_tower(&query.encoder, &query.options, &device)?,
            load_tower(&document.encoder, &document.options, &device)?,
        ),
        // A checked configuration has one or the other.
        _ => Err(Error::setting("model", "incomplete", "either `pair`, or both `query` and `document`")),
    }
}

/// The folder of the base encoder of a stage's LoRA adapter, if it exists on disk as it is, i.e. was changed neither by
/// an earlier stage nor on loading.
fn adapter_base(config: &CheckedTrainConfig, changed: [bool; 2], role: Role) -> Option<String> {
    let (tower, changed) = match role {
        Role::Query => (&config.model.query, changed[0]),
        Role::Document => (&config.model.document, changed[1]),
    };
    let folder = match (tower, &config.model.pair) {
        (Some(tower), _) if tower.options.adapter.is_none() && tower.options.layers.is_none() => tower.encoder.clone(),
        (None, Some(pair)) => pair.join(format!("{}_0_Transformer", role.as_str())),
        _ => return None,
    };
    (!changed && folder.is_dir()).then(|| folder.display().to_string())
}
