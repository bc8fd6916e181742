//! The state of a run on disk, written completely or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use care_core::files::{remove_folder, replace_folder, sibling, write_atomic};
use care_core::{Error, ErrorKind, Result};
use care_encoders::internals::ParameterPath;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::optim::Optimizer;

/// Incremented when an older reader could misread the newer format.
const FORMAT: u32 = 2;
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Prefix of checkpoints that are kept for their score.
const BEST: &str = "best-";

/// The contents of a checkpoint apart from the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    format: u32,
    /// Index of the stage.
    pub(crate) stage: usize,
    /// Completed steps of this stage.
    pub(crate) step: usize,
    /// Fingerprint of settings and data; a checkpoint of another run is refused.
    pub(crate) fingerprint: String,
    /// Evaluations of this stage so far.
    pub(crate) progress: Progress,
    /// Steps of each weight, for AdamW's bias correction.
    times: BTreeMap<String, usize>,
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

/// A point in a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stage: usize,
    pub(crate) step: usize,
    pub(crate) fingerprint: &'a str,
    pub(crate) progress: &'a Progress,
}

/// A network to be written, with all its weights or only the trained ones.
pub(crate) struct Written<'a, M> {
    pub(crate) name: &'a str,
    pub(crate) network: &'a M,
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

    /// Opens the newest complete checkpoint.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or has another format version.
    pub(crate) fn latest(&self) -> Result<Option<Checkpoint>> {
        self.newest().map(Checkpoint::open).transpose()
    }

    /// The folder of the newest complete checkpoint.
    pub(crate) fn newest(&self) -> Option<PathBuf> {
        self.all().pop()
    }

    /// Opens the weights with a stage's best score.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub(crate) fn best(&self, stage: usize, step: usize) -> Result<Checkpoint> {
        Checkpoint::open(self.folder.join(best_name(stage, step)))
    }

    /// Every complete checkpoint, oldest first: names sort chronologically.
    fn all(&self) -> Vec<PathBuf> {
        self.complete(|name| name.starts_with("stage-"))
    }

    fn complete(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_none() && is_wanted(path) && path.join(STATE).exists())
            .collect();
        found.sort();
        found
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
            remove_folder(&old)?;
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
        for path in self.all() {
            let state = Checkpoint::open(path)?.state;
            wanted.extend(state.progress.best.map(|(_, step)| best_name(state.stage, step)));
        }
        for old in self.complete(|name| name.starts_with(BEST) && !wanted.contains(name)) {
            remove_folder(&old)?;
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
        let partial = sibling(&target, "partial");
        remove_folder(&partial)?;
        fs::create_dir_all(&partial).map_err(|e| Error::io("create", &partial, e))?;
        // An incomplete checkpoint is of no use, and its space may be what is lacking.
        fill(&partial, place, networks, optimizer).inspect_err(|_| {
            fs::remove_dir_all(&partial).ok();
        })?;
        replace_folder(&partial, &target)?;
        Ok(target)
    }
}

fn fill<M: Module>(
    folder: &Path,
    place: Place<'_>,
    networks: &[Written<'_, M>],
    optimizer: Option<&Optimizer>,
) -> Result<()> {
    for Written { name, network, whole } in networks {
        let weights = named_weights(*network, *whole);
        if !weights.is_empty() {
            write_tensors(&folder.join(format!("{name}.safetensors")), weights)?;
        }
    }
    let mut times = BTreeMap::new();
    let mut moments = Vec::new();
    for (name, time, [first, second]) in optimizer.into_iter().flat_map(Optimizer::state) {
        times.insert(name.to_owned(), time);
        moments.push((format!("{name}/1"), first.into_data()));
        moments.push((format!("{name}/2"), second.into_data()));
    }
    if optimizer.is_some() {
        write_tensors(&folder.join(OPTIMIZER), moments)?;
    }
    let Place { stage, step, fingerprint, progress } = place;
    let (fingerprint, progress) = (fingerprint.to_owned(), progress.clone());
    let state = State { format: FORMAT, stage, step, fingerprint, progress, times };
    let path = folder.join(STATE);
    let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::format(&path, &e).with_source(e))?;
    write_atomic(&path, json)
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

impl Checkpoint {
    fn open(folder: PathBuf) -> Result<Self> {
        let path = folder.join(STATE);
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(&path, &e).with_source(e))?;
        if json["format"] != FORMAT {
            let problem = format!("unsupported format {}, this version reads {FORMAT}", json["format"]);
            return Err(Error::format(&path, problem));
        }
        let state = serde_json::from_value(json).map_err(|e| Error::format(&path, &e).with_source(e))?;
        Ok(Self { folder, state })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Restores the saved weights of a network; the others are unchanged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, lacks a trained weight, or contains an unexpected tensor.
    pub(crate) fn restore_network<M: Module>(&self, name: &str, network: M) -> Result<M> {
        let path = self.folder.join(format!("{name}.safetensors"));
        if !path.exists() {
            return Ok(network);
        }
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
        let mut restorer = Restorer { tensors: read_tensors(&path)?, path: ParameterPath::default(), problem: None };
        let network = network.map(&mut restorer);
        let problem = match (restorer.problem, restorer.tensors.into_keys().next()) {
            (Some(name), _) => format!("tensor `{name}` is missing or has another shape"),
            (None, Some(name)) => format!("tensor `{name}` is not expected"),
            (None, None) => return Ok(network),
        };
        Err(Error::new(ErrorKind::Checkpoint, format!("{}: {problem}", path.display())))
    }

    /// Restores the state of the optimizer.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or lacks a moment.
    pub(crate) fn restore_optimizer(&self, optimizer: &mut Optimizer, device: &Device) -> Result<()> {
        let path = self.folder.join(OPTIMIZER);
        let mut tensors = read_tensors(&path)?;
        for (name, &time) in &self.state.times {
            let mut moment = |order: u8| match tensors.remove(&format!("{name}/{order}")) {
                Some(data) => Ok(Tensor::from_data(data, device)),
                None => Err(Error::new(ErrorKind::Checkpoint, format!("{}: `{name}` has no moments", path.display()))),
            };
            let moments = [moment(1)?, moment(2)?];
            optimizer.restore(name.clone(), time, moments);
        }
        Ok(())
    }
}

/// The weights of a module with their paths: all of them, or only the trained ones.
fn named_weights<M: Module>(module: &M, whole: bool) -> Vec<(String, TensorData)> {
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
            let weight = param.val();
            if self.whole || weight.is_require_grad() {
                self.tensors.push((self.path.join(), weight.into_data()));
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
    let failed = |e: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e)
    };
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let dtype = DTYPES.iter().find(|(dtype, _)| *dtype == data.dtype()).map_or(Dtype::F32, |(_, dtype)| *dtype);
            Ok((name.as_str(), TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).map_err(failed)?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, path).map_err(failed)
}

fn read_tensors(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::format(path, &e).with_source(e))?;
    let read = |(name, view): (String, TensorView<'_>)| match DTYPES.iter().find(|(_, dtype)| *dtype == view.dtype()) {
        Some((dtype, _)) => Ok((name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), *dtype))),
        None => Err(Error::format(path, format!("tensor `{name}` has the unsupported dtype {:?}", view.dtype()))),
    };
    file.tensors().into_iter().map(read).collect()
}
