//! The state of a run on disk, written completely or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use care_core::files::{PartialFolder, remove_folder, sha256_file, sha256_hex, sibling, write_atomic};
use care_core::{Error, ErrorKind, Result};
use care_encoders::internals::ParameterPath;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fingerprint::{Change, Settings};
use crate::optim::Optimizer;

/// Incremented when an older reader could misread the newer format.
const FORMAT: u32 = 4;
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Prefix of checkpoints that are kept for their score.
const BEST: &str = "best-";

/// The contents of a checkpoint apart from the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    format: u32,
    /// Number of the stage, from 1.
    pub(crate) stage: usize,
    /// Completed steps of this stage.
    pub(crate) step: usize,
    /// Settings and data; a checkpoint of another run is refused.
    pub(crate) settings: Settings,
    /// Settings that changed when the run was resumed.
    pub(crate) changes: Vec<Change>,
    /// Evaluations of this stage so far.
    pub(crate) progress: Progress,
    /// Steps of each weight, for AdamW's bias correction.
    times: BTreeMap<String, usize>,
    /// Every other file of the checkpoint.
    files: BTreeMap<String, Sum>,
    /// The networks that have no file, since they still have the weights that the run started from.
    unchanged: Vec<String>,
    /// SHA-256 of this file with an empty string here.
    sha256: String,
}

/// Length and SHA-256 of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    bytes: u64,
    sha256: String,
}

impl Sum {
    fn of(path: &Path) -> Result<Self> {
        let (bytes, sha256) = sha256_file(path)?;
        Ok(Self { bytes, sha256 })
    }
}

/// The evaluations of a stage so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The best score and its step.
    pub(crate) best: Option<(f64, usize)>,
    /// Number of evaluations since then.
    pub(crate) stale: usize,
}

/// A point in a stage, whose number counts from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stage: usize,
    pub(crate) step: usize,
    pub(crate) settings: &'a Settings,
    pub(crate) changes: &'a [Change],
    pub(crate) progress: &'a Progress,
}

/// A network to be written, with all its weights or only the trained ones.
pub(crate) struct Written<'a, M> {
    pub(crate) name: &'a str,
    pub(crate) network: M,
    pub(crate) whole: bool,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep }
    }

    /// Opens the newest checkpoint and checks all of its files.
    ///
    /// # Errors
    /// As [`Checkpoint::open_whole`].
    pub(crate) fn latest(&self) -> Result<Option<Checkpoint>> {
        self.newest().map(Checkpoint::open_whole).transpose()
    }

    /// The folder of the newest checkpoint.
    pub(crate) fn newest(&self) -> Option<PathBuf> {
        self.all().pop()
    }

    /// Opens the weights with a stage's best score and checks their files.
    ///
    /// # Errors
    /// As [`Checkpoint::open_whole`].
    pub(crate) fn best(&self, stage: usize, step: usize) -> Result<Checkpoint> {
        Checkpoint::open_whole(self.folder.join(best_name(stage, step)))
    }

    /// Every checkpoint, oldest first: names sort chronologically.
    fn all(&self) -> Vec<PathBuf> {
        self.named(|name| name.starts_with("stage-"))
    }

    /// The folders whose name is wanted. A folder gets such a name once it is complete, and loses it before its files
    /// are removed.
    fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.is_dir() && is_wanted(path)).collect();
        found.sort();
        found
    }

    /// Removes what a kill left behind: half a new checkpoint, or half an old one.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be removed.
    pub(crate) fn sweep(&self) -> Result<()> {
        let is_rest = |name: &str| {
            (name.starts_with(".stage-") || name.starts_with(".best-"))
                && (name.ends_with(".partial") || name.ends_with(".old"))
        };
        self.named(is_rest).iter().try_for_each(remove_folder)
    }

    /// Writes a checkpoint and removes the oldest ones in excess of the number to keep.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written; existing checkpoints remain.
    pub(crate) fn write<M: Module>(
        &self,
        place: Place<'_>,
        networks: &[Written<'_, M>],
        optimizer: &Optimizer,
    ) -> Result<PathBuf> {
        let target = self.put(&name(place.stage, place.step), place, networks, Some(optimizer))?;
        let mut kept = self.all();
        for old in kept.drain(..kept.len().saturating_sub(self.keep)) {
            remove_checkpoint(&old)?;
        }
        self.prune_best(place)?;
        Ok(target)
    }

    /// Writes the weights with a stage's best score so far, and removes the previous best.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub(crate) fn write_best<M: Module>(&self, place: Place<'_>, networks: &[Written<'_, M>]) -> Result<()> {
        self.put(&best_name(place.stage, place.step), place, networks, None)?;
        self.prune_best(place)
    }

    /// Removes best weights that neither the current state of the run nor a checkpoint refers to.
    fn prune_best(&self, now: Place<'_>) -> Result<()> {
        let mut wanted: BTreeSet<String> =
            now.progress.best.iter().map(|(_, step)| best_name(now.stage, *step)).collect();
        // A damaged checkpoint cannot be resumed from, so it needs no best weights.
        for Checkpoint { state, .. } in self.all().into_iter().flat_map(Checkpoint::open) {
            wanted.extend(state.progress.best.map(|(_, step)| best_name(state.stage, step)));
        }
        for old in self.named(|name| name.starts_with(BEST) && !wanted.contains(name)) {
            remove_checkpoint(&old)?;
        }
        Ok(())
    }

    fn put<M: Module>(
        &self,
        name: &str,
        place: Place<'_>,
        networks: &[Written<'_, M>],
        optimizer: Option<&Optimizer>,
    ) -> Result<PathBuf> {
        let target = self.folder.join(name);
        // Dropped with what is in it if it cannot be filled: its space may be what is lacking.
        let partial = PartialFolder::create(&target)?;
        fill(partial.path(), place, networks, optimizer)?;
        partial.commit()?;
        Ok(target)
    }
}

/// Removes a folder in two steps, so that a kill leaves no part of it under its name.
fn remove_checkpoint(folder: &Path) -> Result<()> {
    let old = sibling(folder, "old");
    remove_folder(&old)?;
    fs::rename(folder, &old).map_err(|e| Error::io("rename", folder, e))?;
    remove_folder(&old)
}

fn fill<M: Module>(
    folder: &Path,
    place: Place<'_>,
    networks: &[Written<'_, M>],
    optimizer: Option<&Optimizer>,
) -> Result<()> {
    let (mut files, mut unchanged) = (BTreeMap::new(), Vec::new());
    let mut write = |name: String, tensors| {
        let path = folder.join(&name);
        write_tensors(&path, tensors)?;
        files.insert(name, Sum::of(&path)?);
        Ok::<_, Error>(())
    };
    for Written { name, network, whole } in networks {
        match named_weights(network, *whole) {
            weights if weights.is_empty() => unchanged.push((*name).to_owned()),
            weights => write(weights_file(name), weights)?,
        }
    }
    let (times, moments) = optimizer.map(moments_of).unwrap_or_default();
    if optimizer.is_some() {
        write(OPTIMIZER.to_owned(), moments)?;
    }
    let mut state = State {
        format: FORMAT,
        stage: place.stage,
        step: place.step,
        settings: place.settings.clone(),
        changes: place.changes.to_vec(),
        progress: place.progress.clone(),
        times,
        files,
        unchanged,
        sha256: String::new(),
    };
    let path = folder.join(STATE);
    let json = |state: &State| serde_json::to_string_pretty(state).map_err(|e| Error::format(&path, &e).with_source(e));
    state.sha256 = sha256_hex(json(&state)?);
    write_atomic(&path, json(&state)?)
}

fn weights_file(network: &str) -> String {
    format!("{network}.safetensors")
}

fn best_name(stage: usize, step: usize) -> String {
    format!("{BEST}{}", name(stage, step))
}

fn name(stage: usize, step: usize) -> String {
    format!("stage-{stage:04}-step-{step:08}")
}

/// One complete checkpoint.
pub(crate) struct Checkpoint {
    folder: PathBuf,
    pub(crate) state: State,
}

/// What to do about a checkpoint that is not what was written.
const REMEDY: &str = "remove this checkpoint's folder to resume from the one before it";

impl Checkpoint {
    /// Reads the state, whose own checksum is checked; the tensors are not.
    fn open(folder: PathBuf) -> Result<Self> {
        let path = folder.join(STATE);
        if !path.exists() {
            return Err(damaged(&path, "the file is missing"));
        }
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let broken = |e: serde_json::Error| damaged(&path, &e).with_source(e);
        let json: Value = serde_json::from_slice(&bytes).map_err(broken)?;
        match &json["format"] {
            format if *format == FORMAT => {}
            format if format.as_u64().is_some_and(|format| format < FORMAT.into()) => {
                let problem = format!(
                    "a checkpoint of format {format} lists the run's settings or files in another way; this version \
                     resumes format {FORMAT}: finish the run with the version that wrote it, or start it again in \
                     another output"
                );
                return Err(Error::format(&path, problem));
            }
            format => {
                let problem = format!("unsupported format {format}, this version reads {FORMAT}");
                return Err(Error::format(&path, problem));
            }
        }
        let state: State = serde_json::from_value(json).map_err(broken)?;
        let unsealed = String::from_utf8_lossy(&bytes).replacen(&state.sha256, "", 1);
        if sha256_hex(unsealed) != state.sha256 {
            return Err(damaged(&path, "the content does not match its SHA-256"));
        }
        Ok(Self { folder, state })
    }

    /// Opens a checkpoint and checks that its files are those that were written, every byte of them. Hidden files,
    /// which some systems add, are not looked at.
    ///
    /// # Errors
    /// Returns an error that names the file if one is missing, of another length or content, or not expected, or if
    /// the checkpoint has another format version.
    pub(crate) fn open_whole(folder: PathBuf) -> Result<Self> {
        let checkpoint = Self::open(folder)?;
        let folder = &checkpoint.folder;
        for (name, expected) in &checkpoint.state.files {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(damaged(&path, "the file is missing"));
            }
            let found = Sum::of(&path)?;
            if found.bytes != expected.bytes {
                return Err(damaged(&path, format!("{} bytes instead of {}", found.bytes, expected.bytes)));
            }
            if found != *expected {
                return Err(damaged(&path, "the content does not match its SHA-256"));
            }
        }
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", folder, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != STATE && !name.starts_with('.') && !checkpoint.state.files.contains_key(&name) {
                return Err(damaged(&entry.path(), "the checkpoint has no such file"));
            }
        }
        Ok(checkpoint)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Restores the saved weights of a network; the others are unchanged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, lacks a trained weight, or contains an unexpected tensor.
    pub(crate) fn restore_network<M: Module>(&self, name: &str, network: M) -> Result<M> {
        let file = weights_file(name);
        let path = self.folder.join(&file);
        if !self.state.files.contains_key(&file) {
            // Not to be taken for a network that did not change.
            return match self.state.unchanged.iter().any(|unchanged| unchanged == name) {
                true => Ok(network),
                false => Err(damaged(&self.folder.join(STATE), format!("`files` lacks {file}"))),
            };
        }
        restore_weights(read_tensors(&path)?, network)
            .map_err(|problem| Error::new(ErrorKind::Checkpoint, format!("{}: {problem}", path.display())))
    }

    /// Restores the state of the optimizer.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or lacks a moment.
    pub(crate) fn restore_optimizer(&self, optimizer: &mut Optimizer, device: &Device) -> Result<()> {
        let path = self.folder.join(OPTIMIZER);
        restore_moments(&self.state.times, read_tensors(&path)?, optimizer, device)
            .map_err(|problem| Error::new(ErrorKind::Checkpoint, format!("{}: {problem}", path.display())))
    }
}

/// The steps of each weight, and the moments of all by the name of their weight.
pub(crate) fn moments_of(optimizer: &Optimizer) -> (BTreeMap<String, usize>, Vec<(String, TensorData)>) {
    let (mut times, mut moments) = (BTreeMap::new(), Vec::new());
    for (name, time, [first, second]) in optimizer.state() {
        times.insert(name.to_owned(), time);
        moments.push((format!("{name}/1"), first.into_data()));
        moments.push((format!("{name}/2"), second.into_data()));
    }
    (times, moments)
}

/// Gives an optimizer what [`moments_of`] returned.
///
/// # Errors
/// Returns what is missing, as text.
pub(crate) fn restore_moments(
    times: &BTreeMap<String, usize>,
    mut moments: BTreeMap<String, TensorData>,
    optimizer: &mut Optimizer,
    device: &Device,
) -> std::result::Result<(), String> {
    for (name, &time) in times {
        let mut moment = |order: u8| match moments.remove(&format!("{name}/{order}")) {
            Some(data) => Ok(Tensor::from_data(data, device)),
            None => Err(format!("`{name}` has no moments")),
        };
        let both = [moment(1)?, moment(2)?];
        optimizer.restore(name.clone(), time, both);
    }
    Ok(())
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::format(path, format!("{problem}; {REMEDY}")).with_kind(ErrorKind::Checkpoint)
}

/// A network with these weights in the place of its own; a frozen weight may be missing.
///
/// # Errors
/// Returns what is wrong, as text, if a trained weight is missing, one has another shape or is not expected.
pub(crate) fn restore_weights<M: Module>(
    tensors: BTreeMap<String, TensorData>,
    network: M,
) -> std::result::Result<M, String> {
    struct Restorer {
        tensors: BTreeMap<String, TensorData>,
        path: ParameterPath,
        problem: Option<String>,
    }
    impl ModuleMapper for Restorer {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.join();
            match self.tensors.remove(&name) {
                Some(data) if data.shape() == &param.lazy_shape() => param.map(|old| {
                    let dtype = data.dtype();
                    Tensor::from_data(data, (&old.device(), dtype)).set_require_grad(old.is_require_grad())
                }),
                None if !param.is_require_grad() => param,
                _ => {
                    self.problem.get_or_insert(name);
                    param
                }
            }
        }
    }
    let mut restorer = Restorer { tensors, path: ParameterPath::default(), problem: None };
    let network = network.map(&mut restorer);
    match (restorer.problem, restorer.tensors.into_keys().next()) {
        (Some(name), _) => Err(format!("tensor `{name}` is missing or has another shape")),
        (None, Some(name)) => Err(format!("tensor `{name}` is not expected")),
        (None, None) => Ok(network),
    }
}

/// The weights of a module with their paths: all of them, or only the trained ones.
pub(crate) fn named_weights<M: Module>(module: &M, whole: bool) -> Vec<(String, TensorData)> {
    struct Collector {
        path: ParameterPath,
        whole: bool,
        tensors: Vec<(String, TensorData)>,
    }
    impl ModuleVisitor for Collector {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // Reading a packed weight would unpack it for good; a trained one is not packed.
            if self.whole || param.is_initialized() && param.val().is_require_grad() {
                self.tensors.push((self.path.join(), param.val().into_data()));
            }
        }
    }
    let mut collector = Collector { path: ParameterPath::default(), whole, tensors: Vec::new() };
    module.visit(&mut collector);
    collector.tensors
}

/// The dtypes of weights, in burn and in safetensors.
const DTYPES: [(DType, Dtype); 3] = [(DType::F32, Dtype::F32), (DType::BF16, Dtype::BF16), (DType::F16, Dtype::F16)];

fn write_tensors(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<()> {
    let failed =
        |e: SafeTensorError| Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e);
    safetensors::serialize_to_file(views(&tensors).map_err(failed)?, None, path).map_err(failed)
}

fn views<'t>(
    tensors: &'t [(String, TensorData)],
) -> std::result::Result<Vec<(&'t str, TensorView<'t>)>, SafeTensorError> {
    let view = |(name, data): &'t (String, TensorData)| {
        let dtype = DTYPES.iter().find(|(dtype, _)| *dtype == data.dtype()).map_or(Dtype::F32, |(_, dtype)| *dtype);
        Ok((name.as_str(), TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?))
    };
    tensors.iter().map(view).collect()
}

fn read_tensors(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    tensors_of(&bytes).map_err(|e| Error::format(path, e.to_string()).with_source(e))
}

/// Tensors in the bytes of a safetensors file.
pub(crate) fn bytes_of_tensors(tensors: &[(String, TensorData)]) -> std::result::Result<Vec<u8>, SafeTensorError> {
    safetensors::serialize(views(tensors)?, None)
}

/// The tensors in the bytes of a safetensors file.
pub(crate) fn tensors_of(
    bytes: &[u8],
) -> std::result::Result<BTreeMap<String, TensorData>, Box<dyn StdError + Send + Sync>> {
    let file = SafeTensors::deserialize(bytes)?;
    let read = |(name, view): (String, TensorView<'_>)| match DTYPES.iter().find(|(_, dtype)| *dtype == view.dtype()) {
        Some((dtype, _)) => Ok((name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), *dtype))),
        None => Err(format!("tensor `{name}` has the unsupported dtype {:?}", view.dtype()).into()),
    };
    file.tensors().into_iter().map(read).collect()
}
