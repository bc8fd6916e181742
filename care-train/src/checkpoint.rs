//! Where a run stands, on disk: written whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use care_core::layers::ParameterPath;
use care_core::{Error, ErrorKind, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::optim::Optimizer;

/// Raised when a reader of the older form could misread the newer one.
const FORMAT: u32 = 1;
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// What a checkpoint says beside the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    format: u32,
    /// Index of the stage.
    pub(crate) stage: usize,
    /// Steps of this stage that are done.
    pub(crate) step: usize,
    /// Of the settings and the data; a checkpoint of another run is refused.
    pub(crate) fingerprint: String,
    /// Steps each weight has had, for AdamW's bias correction.
    times: BTreeMap<String, usize>,
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

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// When it cannot be read or belongs to another version.
    pub(crate) fn latest(&self) -> Result<Option<Checkpoint>> {
        match self.all().pop() {
            None => Ok(None),
            Some(path) => Checkpoint::open(path).map(Some),
        }
    }

    /// Every complete checkpoint, oldest first: names sort as runs go.
    fn all(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.join(STATE).exists() && !is_partial(path)).collect();
        found.sort();
        found
    }

    /// Writes a checkpoint and removes the oldest ones beyond the number to keep.
    ///
    /// # Errors
    /// When a file cannot be written; checkpoints written before stay.
    pub(crate) fn write<M: Module>(
        &self,
        stage: usize,
        step: usize,
        fingerprint: &str,
        networks: &[(&str, &M)],
        optimizer: &Optimizer,
    ) -> Result<PathBuf> {
        let target = self.folder.join(format!("stage-{stage:04}-step-{step:08}"));
        let partial = self.folder.join(format!(".stage-{stage:04}-step-{step:08}.partial"));
        let make = |folder: &Path| fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e));
        remove(&partial)?;
        make(&partial)?;
        for (name, network) in networks {
            write_tensors(&partial.join(format!("{name}.safetensors")), named_weights(*network))?;
        }
        let mut times = BTreeMap::new();
        let mut moments = Vec::new();
        for (name, time, [first, second]) in optimizer.state() {
            times.insert(name.to_owned(), time);
            moments.push((format!("{name}/1"), first.into_data()));
            moments.push((format!("{name}/2"), second.into_data()));
        }
        write_tensors(&partial.join(OPTIMIZER), moments)?;
        let state = State { format: FORMAT, stage, step, fingerprint: fingerprint.to_owned(), times };
        let path = partial.join(STATE);
        let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::format(&path, e))?;
        fs::write(&path, json).map_err(|e| Error::io("write", &path, e))?;
        remove(&target)?;
        fs::rename(&partial, &target).map_err(|e| Error::io("rename", &partial, e))?;
        let all = self.all();
        for old in &all[..all.len().saturating_sub(self.keep)] {
            remove(old)?;
        }
        Ok(target)
    }
}

fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "partial")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, e)),
        _ => Ok(()),
    }
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
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(&path, e))?;
        if json["format"] != FORMAT {
            let problem = format!("format {} is not {FORMAT}, the one this version reads", json["format"]);
            return Err(Error::format(&path, problem));
        }
        let state = serde_json::from_value(json).map_err(|e| Error::format(&path, e))?;
        Ok(Self { folder, state })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A network with the weights that were saved for it; unchanged if there are none.
    ///
    /// # Errors
    /// When the file cannot be read or its tensors are not the network's.
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
                    Some(data) if data.shape() == &param.lazy_shape() => {
                        Param::from_tensor(Tensor::from_data(data, &param.lazy_device()))
                    }
                    _ => {
                        self.problem.get_or_insert(name);
                        param
                    }
                }
            }
        }
        let mut restorer = Restorer { tensors: read_tensors(&path)?, path: ParameterPath::default(), problem: None };
        let network = network.map(&mut restorer);
        match restorer.problem {
            Some(name) => Err(Error::new(
                ErrorKind::Checkpoint,
                format!("{}: tensor `{name}` is missing or of another shape", path.display()),
            )),
            None => Ok(network),
        }
    }

    /// Puts the optimizer's state back.
    ///
    /// # Errors
    /// When the file cannot be read or lacks a moment.
    pub(crate) fn restore_optimizer(&self, optimizer: &mut Optimizer, device: &Device) -> Result<()> {
        let path = self.folder.join(OPTIMIZER);
        let mut tensors = read_tensors(&path)?;
        for (name, &time) in &self.state.times {
            let mut moment = |order: u8| match tensors.remove(&format!("{name}/{order}")) {
                Some(data) => Ok(Tensor::from_data(data, device)),
                None => Err(Error::new(ErrorKind::Checkpoint, format!("{}: no moments of `{name}`", path.display()))),
            };
            let moments = [moment(1)?, moment(2)?];
            optimizer.restore(name.clone(), time, moments);
        }
        Ok(())
    }
}

/// Every weight of a module with its path.
fn named_weights<M: Module>(module: &M) -> Vec<(String, TensorData)> {
    struct Collector {
        path: ParameterPath,
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
            self.tensors.push((self.path.join(), param.val().into_data()));
        }
    }
    let mut collector = Collector { path: ParameterPath::default(), tensors: Vec::new() };
    module.visit(&mut collector);
    collector.tensors
}

/// Trained weights and moments are f32; so are these files.
fn write_tensors(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<()> {
    let failed = |e: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e)
    };
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes()).map_err(failed)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, path).map_err(failed)
}

fn read_tensors(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::format(path, e))?;
    let read = |view: TensorView<'_>| {
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        TensorData::new(values, view.shape())
    };
    Ok(file.tensors().into_iter().map(|(name, view)| (name, read(view))).collect())
}
