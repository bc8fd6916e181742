//! What determines the final weights of a run, setting by setting.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use care_core::files::{hex, model_files, sha256_file, sha256_hex};
use care_core::{Error, ErrorKind, Result};
use care_encoders::Precision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::collective::{Collective, garbled};
use crate::config::{CheckedStage, CheckedTrainConfig, StageConfig};
use crate::dataset::Source;

/// The settings of a run by name: each value as JSON or, for texts and folders, a digest of their content.
pub(crate) type Settings = BTreeMap<String, String>;

/// Precedes a digest.
const CONTENT: &str = "sha256:";
/// A setting without a value, in messages.
const UNSET: &str = "unset";

/// The settings of a stage that may change when a run is resumed: they change neither the batches nor the weights so far.
const SCHEDULE: [&str; 8] = [
    "learning_rate",
    "query.learning_rate",
    "document.learning_rate",
    "warmup_ratio",
    "schedule",
    "max_grad_norm",
    "epochs",
    "max_steps",
];

/// A setting that changed when a run was resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) setting: String,
    /// The values as in [`Settings`]; `None` if unset.
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    /// Number of the stage, from 1, and its completed steps when it changed.
    pub(crate) stage: usize,
    pub(crate) step: usize,
}

impl Change {
    /// Whether scores from before and after the change cannot be compared.
    pub(crate) fn is_of_dev_set(&self) -> bool {
        matches!(self.setting.as_str(), "evaluation.data" | "evaluation.split")
    }

    /// Whether the run may be resumed in spite of the change.
    fn is_allowed(&self) -> bool {
        match self.setting.strip_prefix("stage ").and_then(|rest| rest.split_once(' ')) {
            // A stage that is complete would not notice.
            Some((stage, field)) => {
                SCHEDULE.contains(&field) && stage.parse().is_ok_and(|stage: usize| stage >= self.stage)
            }
            None => self.setting.starts_with("evaluation."),
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setting, from, to, .. } = self;
        let [from, to] = [from, to].map(|value| value.as_deref().unwrap_or(UNSET));
        match is_content(from, to) {
            true => write!(f, "the content of `{setting}`"),
            false => write!(f, "`{setting}` (was {from}, is {to})"),
        }
    }
}

/// The settings that differ between a checkpoint at this stage (from 1) and step, and a run that resumes it.
///
/// # Errors
/// Returns what may not change, as text, if such a setting differs.
pub(crate) fn changes(
    before: &Settings,
    now: &Settings,
    stage: usize,
    step: usize,
) -> std::result::Result<Vec<Change>, String> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).map(|name| Change {
        setting: name.clone(),
        from: before.get(name).cloned(),
        to: now.get(name).cloned(),
        stage,
        step,
    });
    let (allowed, refused): (Vec<Change>, Vec<Change>) = changed.partition(Change::is_allowed);
    if refused.is_empty() {
        return Ok(allowed);
    }
    let refused: Vec<String> = refused.iter().map(Change::to_string).collect();
    Err(refused.join(", "))
}

/// The names of the settings that may change, for messages.
pub(crate) fn changeable() -> String {
    let fields: Vec<&str> = SCHEDULE.into_iter().filter(|field| !field.contains('.')).collect();
    format!("{} of a stage that is not complete, and [evaluation]", fields.join(", "))
}

/// A digest of all settings.
pub(crate) fn fingerprint(settings: &Settings) -> String {
    let mut digest = Sha256::new();
    for (name, value) in settings {
        digest_text(&mut digest, name);
        digest_text(&mut digest, value);
    }
    hex(digest.finalize())
}

/// Everything that determines the final weights of a run: settings, texts, dev set and the towers it starts from, but
/// not the locations of files.
///
/// # Errors
/// Returns an error if a file of a starting tower or of the dev set cannot be read.
pub(crate) fn settings(config: &CheckedTrainConfig, sources: &[Vec<Source>]) -> Result<Settings> {
    let mut settings = settings_of_steps(config, sources)?;
    add_evaluation(&mut settings, config)?;
    Ok(settings)
}

/// Adds the settings of the evaluation.
///
/// # Errors
/// Returns an error if a file of the dev set cannot be read.
pub(crate) fn add_evaluation(settings: &mut Settings, config: &CheckedTrainConfig) -> Result<()> {
    if let Some(evaluation) = &config.evaluation {
        settings.insert("evaluation.data".to_owned(), folder_content(&evaluation.data)?);
        let mut rest = json(evaluation)?;
        rest["data"] = Value::Null;
        flatten("evaluation.", &rest, &mut |name, value| drop(settings.insert(name.to_owned(), value)));
    }
    Ok(())
}

/// What determines the weights after each step: all settings but those of the evaluation.
///
/// # Errors
/// Returns an error if a file of a starting tower cannot be read.
pub(crate) fn settings_of_steps(config: &CheckedTrainConfig, sources: &[Vec<Source>]) -> Result<Settings> {
    let mut settings = Settings::new();
    let mut insert = |name: &str, value: String| {
        settings.insert(name.to_owned(), value);
    };
    insert("seed", config.seed.to_string());
    insert("cache_teacher", config.cache_teacher.to_string());
    // Both towers may start from one large folder.
    let mut read: BTreeMap<&Path, Vec<(String, String)>> = BTreeMap::new();
    if let Some(pair) = &config.model.pair {
        insert_model("model.pair", pair, config, &mut read, &mut insert)?;
    }
    for (name, tower) in [("model.query", &config.model.query), ("model.document", &config.model.document)] {
        let Some(tower) = tower else { continue };
        insert_model(&format!("{name}.encoder"), &tower.encoder, config, &mut read, &mut insert)?;
        if let Some(adapter) = &tower.options.adapter {
            insert_model(&format!("{name}.options.adapter"), adapter, config, &mut read, &mut insert)?;
        }
        let mut options = tower.options.clone();
        options.adapter = None;
        flatten(&format!("{name}.options."), &json(&options)?, &mut insert);
        if options.precision == Some(Precision::Int8) {
            // Other integers on another kind of processor.
            let largest = if care_kernels::InstructionSet::current().has_byte_products() { 255 } else { 127 };
            insert(&format!("{name}.options.precision"), format!("\"int8\", inputs to {largest}"));
        }
    }
    for (number, (stage, sources)) in config.stages().iter().zip(sources).enumerate() {
        insert_stage(&format!("stage {} ", number + 1), stage, sources, &mut insert)?;
    }
    Ok(settings)
}

/// What identifies a model: its name and commit on the hub, or a digest of each file that loaders read.
fn insert_model<'c>(
    name: &str,
    folder: &'c Path,
    config: &CheckedTrainConfig,
    read: &mut BTreeMap<&'c Path, Vec<(String, String)>>,
    insert: &mut impl FnMut(&str, String),
) -> Result<()> {
    if let Some(commit) = config.hub_commit(folder) {
        insert(name, commit.to_owned());
        return Ok(());
    }
    let files = match read.entry(folder) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let digest = |file: String| sha256_file(folder.join(&file)).map(|(_, sha256)| (file, sha256));
            place.insert(model_files(folder)?.into_iter().map(digest).collect::<Result<_>>()?)
        }
    };
    files.iter().for_each(|(file, sha256)| insert(&format!("{name}/{file}"), format!("{CONTENT}{sha256}")));
    Ok(())
}

/// What determines the batches and updates of a stage.
///
/// # Errors
/// Returns an error if a setting has no text form.
pub(crate) fn settings_of_stage(stage: &CheckedStage, sources: &[Source], seed: u64) -> Result<Settings> {
    let mut settings = Settings::from([("seed".to_owned(), seed.to_string())]);
    insert_stage("", stage, sources, &mut |name, value| drop(settings.insert(name.to_owned(), value)))?;
    Ok(settings)
}

fn insert_stage(
    prefix: &str,
    stage: &CheckedStage,
    sources: &[Source],
    insert: &mut impl FnMut(&str, String),
) -> Result<()> {
    insert(&format!("{prefix}data"), rows_content(sources));
    // The preset's values count, not its name.
    let rest = StageConfig { data: Vec::new(), preset: None, ..(**stage).clone() };
    let mut rest = json(&rest)?;
    rest["data"] = Value::Null;
    flatten(prefix, &rest, insert);
    Ok(())
}

/// Checks that all processes have the same settings, and processors on which sums have the same bits.
///
/// # Errors
/// [`ErrorKind::Peer`] on all of them if one has others; the message names it and what differs.
pub(crate) fn agree(group: &dyn Collective, mut own: Settings) -> Result<()> {
    if group.world() == 1 {
        return Ok(());
    }
    own.insert("CARE_CPU".to_owned(), care_kernels::InstructionSet::current().name().to_owned());
    let text = serde_json::to_vec(&own).map_err(|e| garbled(group.rank(), e))?;
    let first: Settings = serde_json::from_slice(&group.broadcast(0, text)?).map_err(|e| garbled(0, e))?;
    let names: BTreeSet<&String> = first.keys().chain(own.keys()).collect();
    let differs = |name: &&&String| first.get(**name) != own.get(**name);
    let differences: Vec<String> = names.iter().filter(differs).map(|name| difference(name, &first, &own)).collect();
    let all = group.all_gather(differences.join(", ").into_bytes())?;
    match all.iter().position(|differences| !differences.is_empty()) {
        None => Ok(()),
        Some(rank) => {
            let differences = String::from_utf8_lossy(&all[rank]);
            let message = format!("process {rank} was given another run than process 0: {differences}");
            Err(Error::new(ErrorKind::Peer, message))
        }
    }
}

fn difference(name: &str, first: &Settings, own: &Settings) -> String {
    let [first, own] = [first, own].map(|settings| settings.get(name).map_or(UNSET, String::as_str));
    match is_content(first, own) {
        true => format!("the content of `{name}`"),
        false => format!("`{name}` is {own} instead of {first}"),
    }
}

/// Whether two values of a setting, one of which may be unset, are those of content.
fn is_content(first: &str, second: &str) -> bool {
    [first, second].iter().any(|value| value.starts_with(CONTENT))
}

fn json(settings: &impl Serialize) -> Result<Value> {
    serde_json::to_value(settings)
        .map_err(|e| Error::new(ErrorKind::Config, format!("settings without a text form: {e}")))
}

/// The values of a table and of the tables in it, by path; unset ones are left out.
fn flatten(prefix: &str, table: &Value, insert: &mut impl FnMut(&str, String)) {
    for (name, value) in table.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(_) => flatten(&format!("{prefix}{name}."), value, insert),
            value => insert(&format!("{prefix}{name}"), value.to_string()),
        }
    }
}

fn rows_content(sources: &[Source]) -> String {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source.row_count().to_le_bytes());
        digest.update(source.digest());
    }
    format!("{CONTENT}{}", hex(digest.finalize()))
}

fn digest_text(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text.as_bytes());
}

/// A digest of the names and contents of a folder's files.
fn folder_content(folder: &Path) -> Result<String> {
    Ok(format!("{CONTENT}{}", sha256_hex(list(folder)?)))
}

/// The names and digests of a folder's files, sorted by name.
fn list(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut lines = String::new();
    for path in paths {
        let content = if path.is_dir() { sha256_hex(list(&path)?) } else { sha256_file(&path)?.1 };
        lines += &format!("{content} {}\n", path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::TrainConfig;

    #[test]
    fn a_model_of_the_hub_is_known_by_its_name_and_commit() {
        let text =
            "output = \"out\"\n[model]\npair = \"org/name\"\n[[stage]]\nkind = \"symmetric\"\ndata = [\"a.jsonl\"]";
        let mut config: TrainConfig = text.parse().expect("a configuration");
        let find = |name: &str| Ok::<_, Error>(Some((PathBuf::from("no such folder"), format!("{name}@0123"))));
        assert_eq!(config.locate_models(find).expect("found"), 1);
        let settings = settings(&config.check().expect("checked"), &[Vec::new()]).expect("no file is read");
        assert_eq!(settings["model.pair"], "org/name@0123");
    }
}
