//! A whole run from its configuration: stages in order, checkpoints, resume, the saved pair.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use care_core::{Device, Error, ErrorKind, Result};
use care_encoders::{AsymmetricEncoder, EncoderOptions, load_tower};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::config::{CheckedTrainConfig, ModelConfig, StageConfig};
use crate::dataset::{Source, read_source};
use crate::trainer::{Observer, StageTrainer};

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Every stage is done; the pair is saved in this folder.
    Finished {
        /// The trained pair.
        pair: Box<AsymmetricEncoder>,
        /// Where it is saved.
        folder: PathBuf,
    },
    /// The observer broke off; the run can be resumed.
    Interrupted {
        /// The checkpoint it stands at.
        checkpoint: PathBuf,
    },
}

/// Runs every stage of a configuration and saves the trained pair in `<output>/model`.
///
/// All data is read and checked before the first step. With `resume` the run goes on at its newest
/// checkpoint, and ends with the weights it would have had without the interruption.
///
/// # Errors
/// When data or models cannot be read, when `output` already holds a run and `resume` is not asked
/// for (or the other way round), when settings or data changed since the checkpoint, or when a file
/// cannot be written.
pub fn run(config: &CheckedTrainConfig, resume: bool, observer: &mut Observer<'_>) -> Result<Outcome> {
    let sources: Vec<Vec<Source>> = config
        .stages()
        .iter()
        .map(|stage| {
            let sources = stage.data.iter().map(|path| read_source(path)).collect::<Result<Vec<_>>>()?;
            sources.iter().try_for_each(|source| source.require_negatives(stage.group_size))?;
            Ok(sources)
        })
        .collect::<Result<_>>()?;
    let checkpoints = Checkpoints::new(config.output.join("checkpoints"), config.keep_checkpoints);
    AsymmetricEncoder::check_target(&config.output.join("model"))?;
    let mut pair = load_pair(config)?;
    let started_from = pair.provenance().clone();
    let fingerprint = fingerprint(config, &sources)?;
    let start = starting_point(config, &checkpoints, &fingerprint, resume)?;

    if let Some(checkpoint) = &start {
        pair = restore(pair, checkpoint)?;
    }
    let mut trained = (false, false);
    for (index, stage) in config.stages().iter().enumerate() {
        trained = (trained.0 | stage.kind.trains_query(), trained.1 | stage.kind.trains_document());
        let at = start.as_ref().filter(|checkpoint| checkpoint.state.stage >= index);
        if at.is_some_and(|checkpoint| checkpoint.state.stage > index) {
            continue;
        }
        let mut trainer = StageTrainer::new(pair, stage, index, &sources[index], config.seed)?;
        if let Some(checkpoint) = at {
            trainer.resume(checkpoint)?;
        }
        while let Some(report) = trainer.step()? {
            let stop = observer(&report) == ControlFlow::Break(());
            let due = config.checkpoint_every > 0 && report.step.is_multiple_of(config.checkpoint_every);
            if stop || due || report.step == report.total_steps {
                let checkpoint = trainer.checkpoint(&checkpoints, &fingerprint, trained)?;
                if stop {
                    return Ok(Outcome::Interrupted { checkpoint });
                }
            }
        }
        pair = trainer.finish()?;
    }
    let folder = config.output.join("model");
    let pair = pair.with_provenance(provenance(config, &fingerprint, started_from));
    pair.save(&folder)?;
    Ok(Outcome::Finished { pair: Box::new(pair), folder })
}

/// What is noted in a trained pair.
fn provenance(config: &CheckedTrainConfig, fingerprint: &str, started_from: Value) -> Value {
    let stages: Vec<Value> = config
        .stages()
        .iter()
        .map(|stage| {
            let (epochs, batch, rate) = (stage.epochs, stage.batch_size, stage.learning_rate);
            json!({"kind": stage.kind, "epochs": epochs, "batch_size": batch, "learning_rate": rate})
        })
        .collect();
    let mut note = json!({
        "trained_by": concat!("care-train ", env!("CARGO_PKG_VERSION")),
        "seed": config.seed,
        "fingerprint": fingerprint,
        "stages": stages,
    });
    if !started_from.is_null() {
        note["started_from"] = started_from;
    }
    note
}

fn starting_point(
    config: &CheckedTrainConfig,
    checkpoints: &Checkpoints,
    fingerprint: &str,
    resume: bool,
) -> Result<Option<Checkpoint>> {
    let output = config.output.display();
    match (resume, checkpoints.latest()?) {
        (false, None) => Ok(None),
        (true, Some(checkpoint)) if checkpoint.state.fingerprint == fingerprint => Ok(Some(checkpoint)),
        (true, Some(checkpoint)) => Err(Error::new(
            ErrorKind::Config,
            format!("{}: settings or data changed since this checkpoint", checkpoint.folder().display()),
        )),
        (true, None) => Err(Error::new(ErrorKind::Config, format!("{output} holds no checkpoint to resume"))),
        (false, Some(_)) => Err(Error::new(
            ErrorKind::Config,
            format!("{output} already holds a run: resume it, or choose another output"),
        )),
    }
}

/// The towers that the configuration starts from.
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

fn restore(pair: AsymmetricEncoder, checkpoint: &Checkpoint) -> Result<AsymmetricEncoder> {
    let (query, document) = pair.into_towers();
    AsymmetricEncoder::new(
        query.try_map_network(|network| checkpoint.restore_network("query", network))?,
        document.try_map_network(|network| checkpoint.restore_network("document", network))?,
    )
}

/// A digest of everything that decides the weights a run ends with: settings, texts and the towers it
/// starts from, but not where files lie.
///
/// # Errors
/// When a file of a starting tower cannot be read.
fn fingerprint(config: &CheckedTrainConfig, sources: &[Vec<Source>]) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(config.seed.to_le_bytes());
    if let Some(pair) = &config.model.pair {
        digest_folder(&mut digest, pair)?;
    }
    for tower in [&config.model.query, &config.model.document].into_iter().flatten() {
        digest_folder(&mut digest, &tower.encoder)?;
        if let Some(adapter) = &tower.options.adapter {
            digest_folder(&mut digest, adapter)?;
        }
        let options = EncoderOptions { adapter: None, ..tower.options.clone() };
        digest_text(&mut digest, &format!("{options:?}"));
    }
    for (stage, sources) in config.stages().iter().zip(sources) {
        let settings = StageConfig { data: Vec::new(), ..(**stage).clone() };
        digest_text(&mut digest, &format!("{settings:?}"));
        for source in sources {
            digest.update(source.examples().len().to_le_bytes());
            for example in source.examples() {
                digest_text(&mut digest, &example.query);
                for texts in [&example.positives, &example.negatives] {
                    digest.update(texts.len().to_le_bytes());
                    texts.iter().for_each(|text| digest_text(&mut digest, text));
                }
            }
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn digest_text(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text.as_bytes());
}

/// Names and contents of a model folder's files, in order of their names.
fn digest_folder(digest: &mut Sha256, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        digest_text(digest, &path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            digest_folder(digest, &path)?;
            continue;
        }
        let failed = |e| Error::io("read", &path, e);
        let mut file = fs::File::open(&path).map_err(failed)?;
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block).map_err(failed)? {
                0 => break,
                count => digest.update(&block[..count]),
            }
        }
    }
    Ok(())
}
