//! Fills a module's parameters from a checkpoint, and writes them back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use care_core::{Error, ErrorKind, Result};
use safetensors::tensor::{Dtype, View};

use super::checkpoint::Checkpoint;
use crate::device::Precision;
use crate::layers::{ParameterPath, WeightTable};

/// Replaces every parameter by the checkpoint's tensor, converted to `precision`.
///
/// # Errors
/// If tensors are missing, unexpected or of the wrong shape; the message lists them.
pub(crate) fn fill_from<M: Module>(
    checkpoint: &Checkpoint,
    table: &WeightTable,
    precision: Precision,
    module: M,
) -> Result<M> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in checkpoint.names() {
        if let Some(other) = names.insert(table.bare(name), name.to_owned()) {
            problems.push(format!("tensors `{other}` and `{name}` name the same weight"));
        }
    }
    // Checks that all tensors exist before reading the first value.
    let mut survey = Filler::new(checkpoint, table, &names, None);
    let module = module.map(&mut survey);
    problems.append(&mut survey.problems);
    for (bare, name) in &names {
        if !survey.used.contains(bare) && !table.ignores(bare) && !table.ignores(name) {
            problems.push(format!("tensor `{name}` is not expected"));
        }
    }
    if !problems.is_empty() {
        const SHOWN: usize = 8;
        let more = problems.len().saturating_sub(SHOWN);
        problems.truncate(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("{}: {}{more}", checkpoint.path().display(), problems.join("; "));
        return Err(Error::new(ErrorKind::Checkpoint, message));
    }
    let mut filler = Filler::new(checkpoint, table, &names, Some(precision));
    let module = module.map(&mut filler);
    filler.failure.map_or(Ok(module), Err)
}

/// The parameters of a module that [`fill_selected`] replaces.
pub(crate) struct Selection<'a> {
    /// Tensor names without prefix, mapped to the full names.
    pub(crate) names: &'a BTreeMap<String, String>,
    /// Whether a parameter must be replaced, by its module's name in checkpoints and its own.
    pub(crate) required: &'a dyn Fn(&str, &str) -> Result<bool>,
}

/// Replaces some parameters by the checkpoint's tensors, converted to `precision`, and keeps the others.
///
/// # Errors
/// If a selected tensor is not required, a required one is not selected, or one has the wrong shape.
pub(crate) fn fill_selected<M: Module>(
    checkpoint: &Checkpoint,
    table: &WeightTable,
    precision: Precision,
    selection: &Selection<'_>,
    module: M,
) -> Result<M> {
    let mut filler = Filler::new(checkpoint, table, selection.names, Some(precision));
    filler.required = Some(selection.required);
    let module = module.map(&mut filler);
    let unused = selection.names.iter().find(|(bare, _)| !filler.used.contains(*bare));
    if let Some((_, name)) = unused {
        filler.problems.push(format!("tensor `{name}` is not expected"));
    }
    match (filler.failure, filler.problems.first()) {
        (Some(failure), _) => Err(failure),
        (None, Some(problem)) => {
            let message = format!("{}: the adapter does not fit this model: {problem}", checkpoint.path().display());
            Err(Error::new(ErrorKind::Checkpoint, message))
        }
        (None, None) => Ok(module),
    }
}

/// Walks a module and fills it.
struct Filler<'a> {
    checkpoint: &'a Checkpoint,
    table: &'a WeightTable,
    /// Tensor names without prefix, mapped to the full names.
    names: &'a BTreeMap<String, String>,
    /// The dtype to fill with; `None` only checks that all tensors exist.
    precision: Option<Precision>,
    /// Of a [`Selection`]; `None` if all parameters are.
    required: Option<&'a dyn Fn(&str, &str) -> Result<bool>>,
    used: BTreeSet<String>,
    path: ParameterPath,
    problems: Vec<String>,
    failure: Option<Error>,
}

impl<'a> Filler<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        table: &'a WeightTable,
        names: &'a BTreeMap<String, String>,
        precision: Option<Precision>,
    ) -> Self {
        let (used, path) = (BTreeSet::new(), ParameterPath::default());
        Self { checkpoint, table, names, precision, required: None, used, path, problems: Vec::new(), failure: None }
    }

    /// Reads the tensor for the current path; `None` if it only checks, or has recorded a problem.
    fn load<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Option<Tensor<D>>> {
        let transposed = self.path.is_linear_weight();
        let mut wanted = param.lazy_shape().dims::<D>().to_vec();
        if transposed {
            wanted.reverse();
        }
        let places = self.table.places(&self.path);
        let Some(first) = places.first() else {
            self.problems.push(format!("no checkpoint name is known for `{}`", self.path.join()));
            return Ok(None);
        };
        let found = places.iter().find_map(|place| self.names.get(&place.tensor).map(|full| (place, full)));
        if let Some(required) = self.required {
            let tensor = found.map_or(&first.tensor, |(place, _)| &place.tensor);
            let (module, parameter) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
            if !required(module, parameter)? {
                return Ok(None);
            }
        }
        let Some((place, full)) = found else {
            self.problems.push(format!("tensor `{}` of shape {wanted:?} is missing", first.tensor));
            return Ok(None);
        };
        self.used.insert(place.tensor.clone());
        wanted[0] *= place.part.1;
        let shape = self.checkpoint.shape(full).unwrap_or_default();
        if shape != wanted {
            self.problems.push(format!("tensor `{full}` has shape {shape:?}, expected {wanted:?}"));
            return Ok(None);
        }
        let Some(precision) = self.precision else { return Ok(None) };
        let data = self.checkpoint.read(full, place.part, transposed, precision)?;
        Ok(Some(Tensor::from_data(data, (&param.lazy_device(), precision.dtype().into()))))
    }
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failure.is_some() {
            return param;
        }
        match self.load(&param) {
            Ok(Some(tensor)) => Param::from_tensor(tensor),
            Ok(None) => param,
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}

/// Writes every parameter under its checkpoint name, in its dtype.
///
/// # Errors
/// If a parameter has no checkpoint name, or the file cannot be written.
pub(crate) fn write_weights(path: &Path, table: &WeightTable, module: &impl Module) -> Result<()> {
    let mut collector = Collector { table, path: ParameterPath::default(), tensors: BTreeMap::new(), unnamed: None };
    module.visit(&mut collector);
    if let Some(parameter) = collector.unnamed {
        let message = format!("no checkpoint name is known for `{parameter}`");
        return Err(Error::new(ErrorKind::Checkpoint, message));
    }
    write_tensors(path, collector.tensors)
}

/// Writes named tensors as a safetensors file.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_tensors(path: &Path, tensors: BTreeMap<String, HostTensor>) -> Result<()> {
    // transformers rejects a safetensors file whose metadata does not name the framework.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e))
}

/// Walks a module and collects its parameters.
struct Collector<'a> {
    table: &'a WeightTable,
    path: ParameterPath,
    tensors: BTreeMap<String, HostTensor>,
    /// The first parameter without a name in the table.
    unnamed: Option<String>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(place) = self.table.places(&self.path).into_iter().next() else {
            self.unnamed.get_or_insert_with(|| self.path.join());
            return;
        };
        let tensor = param.val();
        let tensor = if self.path.is_linear_weight() { tensor.swap_dims(0, D - 1) } else { tensor };
        self.tensors.insert(place.tensor, HostTensor(tensor.into_data()));
    }
}

/// A tensor's values, ready to be written.
pub(crate) struct HostTensor(pub(crate) TensorData);

impl View for HostTensor {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F64 => Dtype::F64,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape().as_slice()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.0.as_bytes().len()
    }
}
