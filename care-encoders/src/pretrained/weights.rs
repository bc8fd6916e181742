//! Fills a module's parameters from a checkpoint, and writes them back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use care_core::{Error, ErrorKind, Result, clip};
use safetensors::tensor::{Dtype, View};

use super::checkpoint::Checkpoint;
use crate::device::Precision;
use crate::layers::{Linear, ParameterPath, Parts, Prepack, WeightTable, dequantize_rows, quantize_rows};

/// What follows the name of a quantized weight in that of its scales.
const SCALE: &str = "_scale";
/// What training frameworks put before every name: data parallelism and compilation of PyTorch.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Problems that a message lists.
const SHOWN: usize = 8;
/// Problems after which no more are looked for.
const MOST_PROBLEMS: usize = 1000;
/// Bytes of a problem that a message repeats.
const LONGEST_PROBLEM: usize = 400;

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
    let (names, module) = survey(checkpoint, table, module)?;
    let mut filler = Filler::new(checkpoint, table, &names, Some(precision));
    let module = module.map(&mut filler);
    filler.failure.map_or(Ok(module), Err)
}

/// [`fill_from`] for an encoder. Each linear layer is given to `each` before the next is read, so that a layer which is
/// packed at once never shares memory with other plain ones.
pub(crate) fn fill_encoder<M: Module + Parts>(
    checkpoint: &Checkpoint,
    table: &WeightTable,
    precision: Precision,
    encoder: M,
    each: &mut dyn FnMut(&mut Linear),
) -> Result<M> {
    let (names, mut encoder) = survey(checkpoint, table, encoder)?;
    let mut filler = Filler::new(checkpoint, table, &names, Some(precision));
    // The other weights come first: among them is the token table, often the largest, of which reading makes a copy.
    filler.skipped = encoder.linears().into_iter().map(|(path, _)| path).collect();
    let mut encoder = encoder.map(&mut filler);
    filler.skipped.clear();
    for (path, linear) in encoder.linears() {
        path.split('.').for_each(|part| filler.path.enter(part, ""));
        if precision == Precision::Int8
            && let Some((values, scales)) = filler.quantized()?
        {
            linear.set_quantized(&values, &scales);
        }
        *linear = linear.clone().map(&mut filler);
        path.split('.').for_each(|_| filler.path.exit());
        if let Some(failure) = filler.failure.take() {
            return Err(failure);
        }
        each(linear);
    }
    filler.failure.map_or(Ok(encoder), Err)
}

/// Checks that a module's tensors are those of a checkpoint before the first value is read. Returns the tensors' names
/// without prefix, mapped to the full names.
fn survey<M: Module>(checkpoint: &Checkpoint, table: &WeightTable, module: M) -> Result<(BTreeMap<String, String>, M)> {
    let wrapper = wrapper(checkpoint);
    let mut problems = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in checkpoint.names() {
        if let Some(other) = names.insert(table.bare(&name[wrapper..]), name.to_owned()) {
            problems.push(format!("tensors `{other}` and `{name}` name the same weight"));
        }
    }
    let mut survey = Filler::new(checkpoint, table, &names, None);
    let module = module.map(&mut survey);
    if !survey.problems.is_empty()
        && let Some(prefix) = common_prefix(checkpoint).filter(|prefix| !table.prefixes.contains(prefix))
    {
        problems.push(format!("all {} names begin with `{prefix}`", names.len()));
    }
    problems.append(&mut survey.problems);
    for (bare, name) in &names {
        let expected = survey.used.contains(bare) || table.ignores(bare) || table.ignores(&name[wrapper..]);
        if !expected && problems.len() < MOST_PROBLEMS {
            problems.push(format!("tensor `{name}` is not expected"));
        }
    }
    if problems.is_empty() {
        return Ok((names, module));
    }
    let more = match problems.len() {
        MOST_PROBLEMS.. => "; and many more".to_owned(),
        count if count > SHOWN => format!("; and {} more", count - SHOWN),
        _ => String::new(),
    };
    let shown: Vec<String> = problems.into_iter().take(SHOWN).map(|problem| clip(problem, LONGEST_PROBLEM)).collect();
    let message = format!("{}: {}{more}", checkpoint.path().display(), shown.join("; "));
    Err(Error::new(ErrorKind::Checkpoint, message))
}

/// Length of the [`WRAPPERS`] that all names of a checkpoint begin with.
fn wrapper(checkpoint: &Checkpoint) -> usize {
    let mut length = 0;
    while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
        checkpoint.names().next().is_some() && checkpoint.names().all(|name| name[length..].starts_with(**wrapper))
    }) {
        length += wrapper.len();
    }
    length
}

/// What all names of a checkpoint begin with, up to a dot.
fn common_prefix(checkpoint: &Checkpoint) -> Option<&str> {
    // The names are in order, so the first and the last have nothing in common that the others lack.
    let (first, last) = (checkpoint.names().next()?, checkpoint.names().last()?);
    let equal = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    let end = first.as_bytes()[..equal].iter().rposition(|byte| *byte == b'.')?;
    (first != last).then(|| &first[..=end])
}

/// Whether a parameter of a module, by their names, has to be in the checkpoint.
pub(crate) type Required<'a> = dyn Fn(&str, &str) -> Result<bool> + 'a;

/// The parameters of a module that [`fill_selected`] replaces.
pub(crate) struct Selection<'a> {
    /// Tensor names without prefix, mapped to the full names.
    pub(crate) names: &'a BTreeMap<String, String>,
    /// Whether a parameter must be replaced, by its module's name in checkpoints and its own.
    pub(crate) required: &'a Required<'a>,
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
    required: Option<&'a Required<'a>>,
    /// Paths of modules that are left as they are.
    skipped: BTreeSet<String>,
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
        let (skipped, used, path) = (BTreeSet::new(), BTreeSet::new(), ParameterPath::default());
        let (required, problems, failure) = (None, Vec::new(), None);
        Self { checkpoint, table, names, precision, required, skipped, used, path, problems, failure }
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
        let is_table = self.path.is_table();
        let quantized = (transposed || is_table) && self.checkpoint.is_int8(full);
        let scales = format!("{}{SCALE}", place.tensor);
        if quantized {
            self.check_scales(&scales, wanted[0]);
        }
        wanted[0] *= place.part.1;
        let shape = self.checkpoint.shape(full).unwrap_or_default();
        if shape != wanted {
            self.problems.push(format!("tensor `{full}` has shape {shape:?}, expected {wanted:?}"));
            return Ok(None);
        }
        // Linear layers that stay in int8 are set by `fill_encoder`.
        let Some(mut precision) = self.precision.filter(|&p| is_table || !quantized || p != Precision::Int8) else {
            return Ok(None);
        };
        if quantized {
            let (values, scales) = (self.checkpoint.read_int8(full)?, self.scales(&scales)?);
            let values = TensorData::new(dequantize_rows(&values, &scales, wanted[1]), wanted);
            let of = (&param.lazy_device(), DType::from(precision.dtype()));
            let tensor = Tensor::<D>::from_data(values, of);
            // Transposed in memory, too.
            return Ok(Some(if transposed { Tensor::from_data(tensor.transpose().into_data(), of) } else { tensor }));
        }
        // Rows of a table are looked up and widened, so they may stay as they are.
        if precision == Precision::Int4 && is_table {
            precision = self.checkpoint.half_precision(full).unwrap_or(precision);
        }
        let data = self.checkpoint.read(full, place.part, transposed, precision)?;
        Ok(Some(Tensor::from_data(data, (&param.lazy_device(), precision.dtype().into()))))
    }
}

impl Filler<'_> {
    /// Checks the scales of a quantized weight with so many outputs.
    fn check_scales(&mut self, tensor: &str, outputs: usize) {
        match self.names.get(tensor).and_then(|full| self.checkpoint.shape(full)) {
            None => self.problems.push(format!("tensor `{tensor}` of shape [{outputs}] is missing")),
            Some(shape) if shape != [outputs] => {
                self.problems.push(format!("tensor `{tensor}` has shape {shape:?}, expected [{outputs}]"));
            }
            Some(_) => {
                self.used.insert(tensor.to_owned());
            }
        }
    }

    /// The quantized weight of the linear layer at the current path and its scales, if the checkpoint has them.
    fn quantized(&self) -> Result<Option<(Vec<i8>, Vec<f32>)>> {
        let places = self.table.module_places(&self.path.join());
        let weights = places.iter().map(|place| format!("{}.weight", place.tensor));
        let mut named = weights.filter_map(|tensor| Some((self.names.get(&tensor)?, format!("{tensor}{SCALE}"))));
        let Some((full, scales)) = named.next().filter(|(full, _)| self.checkpoint.is_int8(full)) else {
            return Ok(None);
        };
        Ok(Some((self.checkpoint.read_int8(full)?, self.scales(&scales)?)))
    }

    /// The scales of this name, of a quantized weight.
    fn scales(&self, name: &str) -> Result<Vec<f32>> {
        let name = self.names.get(name).map_or(name, String::as_str);
        let scales = self.checkpoint.read(name, (0, 1), false, Precision::F32)?;
        scales.try_into_vec().map_err(|e| self.not_f32(name, &e))
    }

    fn not_f32(&self, tensor: &str, problem: &impl std::fmt::Debug) -> Error {
        let file = self.checkpoint.path().display();
        Error::new(ErrorKind::Format, format!("{file}: tensor `{tensor}` is not f32: {problem:?}"))
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
        let skips = || self.path.join().rsplit_once('.').is_some_and(|(module, _)| self.skipped.contains(module));
        if self.failure.is_some()
            || self.problems.len() >= MOST_PROBLEMS
            || !self.skipped.is_empty() && self.path.is_of_linear() && skips()
        {
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

/// Writes every parameter under its checkpoint name, in its dtype; weights that are packed in int8 as they are, with their
/// scales. `linears` are the layers that may be packed or have
/// a LoRA adapter, which is merged, by their paths.
///
/// Values are taken one tensor at a time.
///
/// # Errors
/// If a parameter has no checkpoint name, or the file cannot be written.
pub(crate) fn write_weights(
    path: &Path,
    table: &WeightTable,
    module: &impl Module,
    linears: &BTreeMap<String, Linear>,
) -> Result<()> {
    let (tensors, unnamed) = (BTreeMap::new(), None);
    let int8 = linears.values().any(|linear| linear.prepacked() == Some(Prepack::Int8));
    let mut collector = Collector { table, linears, int8, path: ParameterPath::default(), tensors, unnamed };
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
pub(crate) fn write_tensors(path: &Path, tensors: BTreeMap<String, HostTensor<'_>>) -> Result<()> {
    // transformers rejects a safetensors file whose metadata does not name the framework.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e))
}

/// Walks a module and collects its parameters.
struct Collector<'a> {
    table: &'a WeightTable,
    linears: &'a BTreeMap<String, Linear>,
    /// Whether weights are packed in int8.
    int8: bool,
    path: ParameterPath,
    tensors: BTreeMap<String, HostTensor<'a>>,
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
        let path = self.path.join();
        let module = path.rsplit_once('.').map_or("", |(module, _)| module);
        if module.strip_suffix(".lora").is_some_and(|linear| self.linears.contains_key(linear)) {
            return;
        }
        let Some(place) = self.table.places(&self.path).into_iter().next() else {
            self.unnamed.get_or_insert(path);
            return;
        };
        let is_weight = self.path.is_linear_weight();
        let mut shape = param.lazy_shape().dims::<D>().to_vec();
        if is_weight {
            shape.reverse();
        }
        let linear = self.linears.get(module).filter(|_| is_weight);
        if let Some(linear) = linear.filter(|linear| linear.prepacked() == Some(Prepack::Int8)) {
            let quantized = move || linear.quantized_weight().unwrap_or_default();
            self.add_quantized(&place.tensor, quantized, shape);
            return;
        }
        if self.int8
            && self.path.is_table()
            && let Some(quantized) = quantized_table(&param.val())
        {
            self.add_quantized(&place.tensor, move || (*quantized).clone(), shape);
            return;
        }
        let tensor = match linear {
            Some(linear) => HostTensor {
                dtype: linear.dtype(),
                shape,
                values: Box::new(move || linear.merged_weight().transpose().into_data()),
            },
            None => {
                let tensor = param.val();
                let dtype = tensor.dtype();
                let values = move || {
                    let tensor = tensor.clone();
                    if is_weight { tensor.swap_dims(0, D - 1).into_data() } else { tensor.into_data() }
                };
                HostTensor { dtype, shape, values: Box::new(values) }
            }
        };
        self.tensors.insert(place.tensor, tensor);
    }
}

impl<'a> Collector<'a> {
    /// Adds an int8-quantized weight of this shape, and its scales.
    fn add_quantized(
        &mut self,
        tensor: &str,
        quantized: impl Fn() -> (Vec<i8>, Vec<f32>) + Clone + 'a,
        shape: Vec<usize>,
    ) {
        let (outputs, whole, of_scales) = (shape[0], shape.clone(), quantized.clone());
        let values = Box::new(move || TensorData::new(quantized().0, whole.clone()));
        self.tensors.insert(tensor.to_owned(), HostTensor { dtype: DType::I8, shape, values });
        let values = Box::new(move || TensorData::new(of_scales().1, [outputs]));
        self.tensors.insert(format!("{tensor}{SCALE}"), HostTensor { dtype: DType::F32, shape: vec![outputs], values });
    }
}

/// A table's quantized values and scales, if they are all that it holds.
fn quantized_table<const D: usize>(table: &Tensor<D>) -> Option<Arc<(Vec<i8>, Vec<f32>)>> {
    let width = *table.dims().last()?;
    let data = table.clone().into_data();
    let plain = data.as_slice::<f32>().ok()?;
    let (values, scales) = quantize_rows(plain, width);
    let lossless = dequantize_rows(&values, &scales, width) == plain;
    lossless.then(|| Arc::new((values, scales)))
}

/// A tensor to be written, whose values are taken when it is its turn.
pub(crate) struct HostTensor<'a> {
    dtype: DType,
    shape: Vec<usize>,
    values: Box<dyn Fn() -> TensorData + 'a>,
}

impl HostTensor<'_> {
    /// A tensor with these values.
    pub(crate) fn new(data: TensorData) -> Self {
        Self { dtype: data.dtype(), shape: data.shape().as_slice().to_vec(), values: Box::new(move || data.clone()) }
    }
}

impl View for HostTensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F64 => Dtype::F64,
            DType::I8 => Dtype::I8,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.values)().as_bytes().to_vec())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}
