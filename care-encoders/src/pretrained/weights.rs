//! Between a module's parameters and a checkpoint's tensors, in both directions.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use care_core::layers::ParameterPath;
use care_core::{Error, ErrorKind, Result};
use safetensors::tensor::{Dtype, View};

use super::checkpoint::Checkpoint;

/// The names of an architecture's weights.
#[derive(Debug)]
pub(crate) struct WeightTable {
    /// What published checkpoints may put before every name.
    pub(crate) prefixes: &'static [&'static str],
    /// Our module path and the checkpoint's, `*` standing for a layer's number in both.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// Beginnings of names that belong to heads a text encoder does not use.
    pub(crate) ignored: &'static [&'static str],
}

/// A head's weights, as sentence-transformers' `Dense` names them.
pub(crate) const PROJECTION: WeightTable = WeightTable { prefixes: &[], rows: &[("linear", "linear")], ignored: &[] };

impl WeightTable {
    /// The checkpoint's name of the parameter at `path` (module path, then `weight` or `bias`).
    fn name(&self, path: &ParameterPath) -> Option<String> {
        let names: Vec<&str> = path.names().collect();
        let (leaf, module) = names.split_last()?;
        let (row, number) = self.rows.iter().find_map(|(ours, theirs)| matches(ours, module).map(|n| (*theirs, n)))?;
        Some(format!("{}.{leaf}", row.replace('*', number)))
    }
}

/// Whether a module path fits a pattern; the layer's number if it does.
fn matches<'a>(pattern: &str, path: &[&'a str]) -> Option<&'a str> {
    let mut number = "";
    let mut parts = path.iter();
    for wanted in pattern.split('.') {
        let part = *parts.next()?;
        if wanted == "*" {
            number = part;
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(number)
}

/// Replaces every parameter by the checkpoint's tensor.
///
/// # Errors
/// Lists every tensor that is missing, of another shape, or in the checkpoint but not in the network.
pub(crate) fn fill_from<M: Module>(checkpoint: &Checkpoint, table: &WeightTable, module: M) -> Result<M> {
    let mut names = BTreeMap::new();
    for name in checkpoint.names() {
        let bare = table.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        names.insert(bare.to_owned(), name.to_owned());
    }
    let mut filler = Filler {
        checkpoint,
        table,
        names,
        used: BTreeSet::new(),
        path: ParameterPath::default(),
        problems: Vec::new(),
        failure: None,
    };
    let module = module.map(&mut filler);
    if let Some(error) = filler.failure {
        return Err(error);
    }
    let Filler { mut problems, names, used, .. } = filler;
    let ignored = |name: &str| table.ignored.iter().any(|start| name.starts_with(start));
    for (bare, name) in &names {
        if !used.contains(bare) && !ignored(bare) && !ignored(name) {
            problems.push(format!("tensor `{name}` is not expected"));
        }
    }
    if problems.is_empty() {
        return Ok(module);
    }
    const SHOWN: usize = 8;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Error::new(ErrorKind::Checkpoint, format!("{}: {}{more}", checkpoint.folder().display(), problems.join("; "))))
}

/// Walks a module and fills it.
struct Filler<'a> {
    checkpoint: &'a Checkpoint,
    table: &'a WeightTable,
    /// Names without prefix to names as they stand.
    names: BTreeMap<String, String>,
    used: BTreeSet<String>,
    path: ParameterPath,
    problems: Vec<String>,
    failure: Option<Error>,
}

impl Filler<'_> {
    /// The tensor for the current path, or what is wrong with it.
    fn load<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Option<Tensor<D>>> {
        let expected: [usize; D] = param.lazy_shape().dims();
        let transposed = self.path.is_linear_weight();
        let Some(name) = self.table.name(&self.path) else {
            self.problems.push(format!("no checkpoint name is known for `{}`", self.path.join()));
            return Ok(None);
        };
        let mut wanted = expected.to_vec();
        if transposed {
            wanted.reverse();
        }
        let Some(full) = self.names.get(&name) else {
            self.problems.push(format!("tensor `{name}` of shape {wanted:?} is missing"));
            return Ok(None);
        };
        self.used.insert(name);
        let found = self.checkpoint.shape(full).unwrap_or_default();
        if found != wanted {
            self.problems.push(format!("tensor `{full}` has shape {found:?}, expected {wanted:?}"));
            return Ok(None);
        }
        let mut values = self.checkpoint.read(full)?;
        if transposed {
            values = transpose(&values, wanted[0], wanted[1]);
        }
        Ok(Some(Tensor::from_data(TensorData::new(values, expected), &param.lazy_device())))
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

/// A row-major `[rows, columns]` matrix as `[columns, rows]`, in tiles that stay in the cache.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for r in row..(row + TILE).min(rows) {
                for c in column..(column + TILE).min(columns) {
                    out[c * rows + r] = values[r * columns + c];
                }
            }
        }
    }
    out
}

/// Writes every parameter under its checkpoint name, in its own number format.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_weights(path: &Path, table: &WeightTable, module: &impl Module) -> Result<()> {
    let mut collector = Collector { table, path: ParameterPath::default(), tensors: BTreeMap::new(), unnamed: None };
    module.visit(&mut collector);
    if let Some(parameter) = collector.unnamed {
        let message = format!("no checkpoint name is known for `{parameter}`");
        return Err(Error::new(ErrorKind::Checkpoint, message));
    }
    // transformers refuses a safetensors file whose metadata does not name its framework.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(collector.tensors, Some(metadata), path)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e))
}

/// Walks a module and gathers its parameters.
struct Collector<'a> {
    table: &'a WeightTable,
    path: ParameterPath,
    tensors: BTreeMap<String, HostTensor>,
    /// A parameter that the table does not name.
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
        let Some(name) = self.table.name(&self.path) else {
            self.unnamed.get_or_insert_with(|| self.path.join());
            return;
        };
        let tensor = param.val();
        let tensor = if self.path.is_linear_weight() { tensor.swap_dims(0, D - 1) } else { tensor };
        self.tensors.insert(name, HostTensor(tensor.into_data()));
    }
}

/// A tensor's values, ready to be written.
struct HostTensor(TensorData);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_its_layers_number_along() {
        let name = |text: &str| {
            let mut path = ParameterPath::default();
            path.enter("Bert", "Enum:AnyEncoder");
            text.split('.').for_each(|part| path.enter(part, "Struct:Some"));
            crate::bert::WEIGHTS.name(&path)
        };
        assert_eq!(
            name("layers.11.attention.query.weight").as_deref(),
            Some("encoder.layer.11.attention.self.query.weight")
        );
        assert_eq!(name("embeddings.norm.bias").as_deref(), Some("embeddings.LayerNorm.bias"));
        assert_eq!(name("layers.0.attention.weight"), None);
    }

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let values: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let turned = transpose(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 64], values[64 * 45 + 3]);
        assert_eq!(transpose(&turned, 45, 70), values);
    }
}
