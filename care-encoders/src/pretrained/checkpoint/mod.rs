//! Reads checkpoints: safetensors or files of PyTorch, a single file or shards with an index.

mod archive;
mod location;
mod pickle;
mod safetensors_file;
mod torch_file;
mod unique_names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use care_core::files::{open_file, read_file};
use care_core::{Error, ErrorKind, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::Deserialize;

use self::location::{Location, Problem};
use self::unique_names::UniqueNames;
use crate::device::Precision;

pub(crate) const SINGLE: &str = "model.safetensors";
/// The files that hold a network's weights, the first that exists: safetensors before PyTorch's, a single file before
/// shards.
const WEIGHTS: [&str; 4] =
    [SINGLE, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// The end of the name of an index.
const INDEX: &str = ".index.json";
/// The end of the names of PyTorch's files.
const TORCH: &str = ".bin";
/// Weights of other frameworks, by the beginnings and ends of their names.
const FOREIGN: [(&str, &str); 6] = [
    ("tf_model", ".h5"),
    ("tf_model", ".index.json"),
    ("model.ckpt", ".index"),
    ("flax_model", ".msgpack"),
    ("flax_model", ".index.json"),
    ("", ".gguf"),
];

/// The tensors of a model folder: names, shapes and locations. Values are read one tensor at a time, so memory never
/// holds a whole file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Location>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: UniqueNames<String>,
}

impl Checkpoint {
    /// Opens the weights of a folder: `model.safetensors`, or the shards of its index, or the same as
    /// `pytorch_model.bin`.
    ///
    /// # Errors
    /// If none exists, a shard is missing or truncated, or the index and the shards disagree.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let Some(name) = WEIGHTS.into_iter().find(|name| folder.join(name).exists()) else {
            let problem = format!("no {}{}", WEIGHTS.join(", no "), foreign(folder));
            return Err(Error::new(ErrorKind::Io, format!("{}: {problem}", folder.display())));
        };
        let path = folder.join(name);
        let tensors = if name.ends_with(INDEX) { read_shards(folder, &path)? } else { read_tensors(&path)? };
        Ok(Self { path: folder.to_owned(), tensors })
    }

    /// Opens `NAME.safetensors` of a folder, or `NAME.bin` of PyTorch if only that exists.
    ///
    /// # Errors
    /// If it is missing, truncated or not such a file.
    pub(crate) fn open_named(folder: &Path, name: &str) -> Result<Self> {
        let [safe, torch] = ["safetensors", "bin"].map(|ending| folder.join(format!("{name}.{ending}")));
        let path = if !safe.exists() && torch.exists() { torch } else { safe };
        Ok(Self { tensors: read_tensors(&path)?, path })
    }

    /// Whether a folder has weights.
    pub(crate) fn exists(folder: &Path) -> bool {
        WEIGHTS.iter().any(|name| folder.join(name).exists())
    }

    /// The folder or file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|location| location.shape.as_slice())
    }

    /// The values of one tensor, or of part `part` of `of` equal parts of its rows, converted to a dtype and, for
    /// matrices, optionally transposed.
    ///
    /// # Errors
    /// If the tensor is missing, of an integer type, damaged, or contains a non-finite value.
    pub(crate) fn read(
        &self,
        name: &str,
        part: (usize, usize),
        transposed: bool,
        precision: Precision,
    ) -> Result<TensorData> {
        let location = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("tensor `{name}` is missing")))?;
        let data = match precision {
            Precision::F32 | Precision::Int8 | Precision::Int4 => location.read::<f32>(part, transposed),
            Precision::Bf16 => location.read::<bf16>(part, transposed),
            Precision::F16 => location.read::<f16>(part, transposed),
        };
        data.map_err(|problem| Self::error(name, location, problem))
    }

    fn error(name: &str, location: &Location, problem: Problem) -> Error {
        match problem {
            Problem::Unreadable(e) => Error::io("read", &location.file, e),
            Problem::Other(kind, problem) => {
                Error::new(kind, format!("{}: tensor `{name}` {problem}", location.file.display()))
            }
        }
    }

    /// Whether a tensor consists of int8-quantized weights.
    pub(crate) fn is_int8(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|location| location.dtype == Dtype::I8)
    }

    /// Whether any tensor does.
    pub(crate) fn has_int8(&self) -> bool {
        self.names().any(|name| self.is_int8(name))
    }

    /// The dtype of a tensor, if it is one of 16-bit floats.
    pub(crate) fn half_precision(&self, name: &str) -> Option<Precision> {
        match self.tensors.get(name)?.dtype {
            Dtype::BF16 => Some(Precision::Bf16),
            Dtype::F16 => Some(Precision::F16),
            _ => None,
        }
    }

    /// The values of an int8-quantized tensor, row-major.
    ///
    /// # Errors
    /// If the tensor is missing, damaged, or contains -128.
    pub(crate) fn read_int8(&self, name: &str) -> Result<Vec<i8>> {
        let missing = || Error::new(ErrorKind::Checkpoint, format!("tensor `{name}` is missing"));
        let location = self.tensors.get(name).ok_or_else(missing)?;
        location.read_int8().map_err(|problem| Self::error(name, location, problem))
    }
}

/// What to do about weights of another framework, if a folder has some.
fn foreign(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_foreign = |name: &String| FOREIGN.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end));
    match names.filter(is_foreign).min() {
        Some(name) => format!("; {name} is of another framework: save the model in Python with PyTorch or safetensors"),
        None => String::new(),
    }
}

/// The tensors of all shards. Each must be in the shard that the index names.
fn read_shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Location>> {
    let parsed: Index =
        serde_json::from_slice(&read_file(index)?).map_err(|e| Error::format(index, &e).with_source(e))?;
    let UniqueNames(weight_map) = parsed.weight_map;
    let mut files: Vec<&String> = weight_map.values().collect();
    files.sort_unstable();
    files.dedup();
    let mut tensors = BTreeMap::new();
    for file in files {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(Error::format(index, format!("{file:?} is not a file name in the same folder")));
        }
        let path = folder.join(file);
        for (name, location) in read_tensors(&path)? {
            if weight_map.get(&name).is_some_and(|named| named != file) || tensors.contains_key(&name) {
                return Err(Error::format(&path, format!("tensor `{name}` is also in another shard")));
            }
            tensors.insert(name, location);
        }
    }
    let absent = weight_map.iter().filter(|(tensor, _)| !tensors.contains_key(*tensor)).min();
    match absent {
        Some((tensor, file)) => Err(Error::format(index, format!("tensor `{tensor}` is not in {file}"))),
        None => Ok(tensors),
    }
}

/// The tensors of one file.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, Location>> {
    let file = open_file(path)?;
    match path.to_str().is_some_and(|path| path.ends_with(TORCH)) {
        true => torch_file::read_tensors(path, file),
        false => safetensors_file::read_tensors(path, file),
    }
}
