//! Reads safetensors checkpoints: a single file, or shards with an index.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use care_core::{Error, ErrorKind, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::device::Precision;

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Largest header in bytes, the limit of the safetensors format.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// The tensors of a model folder: names, shapes and locations. Values are read one tensor at a time, so memory never
/// holds a whole file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Location>,
}

#[derive(Debug)]
struct Location {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Index {
    #[serde(deserialize_with = "unique_names")]
    weight_map: BTreeMap<String, String>,
}

/// Deserializes a map and rejects duplicate names.
fn unique_names<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of tensor names to file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((tensor, file)) = entries.next_entry::<String, String>()? {
                if map.contains_key(&tensor) {
                    return Err(serde::de::Error::custom(format!("tensor `{tensor}` is duplicated")));
                }
                map.insert(tensor, file);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique)
}

impl Checkpoint {
    /// Opens `model.safetensors` of a folder, or the shards listed in `model.safetensors.index.json`.
    ///
    /// # Errors
    /// If neither exists, a shard is missing or truncated, or the index and the shards disagree.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        let tensors = if single.exists() {
            read_header(&single)?
        } else if index.exists() {
            read_shards(folder, &index)?
        } else {
            let hint =
                if folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists() {
                    "; pytorch_model.bin is not supported: convert it in Python with \
                 AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                } else {
                    ""
                };
            let looked = format!("no {SINGLE} and no {INDEX}");
            return Err(Error::new(ErrorKind::Io, format!("{}: {looked}{hint}", folder.display())));
        };
        Ok(Self { path: folder.to_owned(), tensors })
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// If it is missing, truncated or not a safetensors file.
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), tensors: read_header(path)? })
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
    /// If the tensor is missing, of an integer type, or contains a non-finite value.
    pub(crate) fn read(
        &self,
        name: &str,
        (part, of): (usize, usize),
        transposed: bool,
        precision: Precision,
    ) -> Result<TensorData> {
        let location = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("tensor `{name}` is missing")))?;
        let mut shape = location.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows /= of;
        }
        let data = match precision {
            Precision::F32 | Precision::Int8 => {
                location.part::<f32>(name, part, of).map(|values| host(values, shape, transposed))
            }
            Precision::Bf16 => location.part::<bf16>(name, part, of).map(|values| host(values, shape, transposed)),
            Precision::F16 => location.part::<f16>(name, part, of).map(|values| host(values, shape, transposed)),
        };
        data.map_err(|problem| match problem {
            Problem::Unreadable(e) => Error::io("read", &location.file, e),
            Problem::Other(kind, problem) => {
                Error::new(kind, format!("{}: tensor `{name}` {problem}", location.file.display()))
            }
        })
    }
}

/// Why a tensor could not be read.
enum Problem {
    Unreadable(std::io::Error),
    Other(ErrorKind, String),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// A dtype of weights.
trait Value: burn::tensor::Element + Copy + Default {
    fn narrow(value: f32) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! value {
    ($type:ty, $narrow:expr) => {
        impl Value for $type {
            fn narrow(value: f32) -> Self {
                $narrow(value)
            }

            fn is_finite(self) -> bool {
                <$type>::is_finite(self)
            }
        }
    };
}

value!(f32, |value| value);
value!(bf16, bf16::from_f32);
value!(f16, f16::from_f32);

impl Location {
    /// Reads part `part` of `of` equal parts and converts it.
    fn part<T: Value>(&self, name: &str, part: usize, of: usize) -> std::result::Result<Vec<T>, Problem> {
        match self.dtype {
            Dtype::F32 => self.convert(name, part, of, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Dtype::F16 => self.convert(name, part, of, |b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
            Dtype::BF16 => self.convert(name, part, of, |b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            other => {
                let problem = format!("is {other:?}, not F32, F16 or BF16");
                Err(Problem::Other(ErrorKind::Format, problem))
            }
        }
    }

    /// Reads and converts with `widen`, a generic parameter so that it is inlined into the loop.
    fn convert<T: Value>(
        &self,
        name: &str,
        part: usize,
        of: usize,
        widen: impl Fn(&[u8]) -> f32,
    ) -> std::result::Result<Vec<T>, Problem> {
        let size = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let bytes = self.bytes / of;
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset + (part * bytes) as u64))?;
        let mut values = vec![T::default(); bytes / size];
        let mut chunk = vec![0; CHUNK.min(bytes)];
        for values in values.chunks_mut(CHUNK / size) {
            let read = &mut chunk[..values.len() * size];
            file.read_exact(read)?;
            for (value, bytes) in values.iter_mut().zip(read.chunks_exact(size)) {
                *value = T::narrow(widen(bytes));
            }
            // Checked for the whole chunk, without a branch per value.
            if !values.iter().fold(true, |all, value| all & value.is_finite()) {
                let wide = read.chunks_exact(size).map(&widen).find(|&wide| !T::narrow(wide).is_finite());
                let problem = match wide {
                    Some(wide) if wide.is_finite() => format!("contains {wide}, out of range for {:?}", T::dtype()),
                    _ => "contains a non-finite value".to_owned(),
                };
                return Err(Problem::Other(ErrorKind::NonFinite, problem));
            }
        }
        debug_assert_eq!(values.len() * size, bytes, "{name}");
        Ok(values)
    }
}

/// Values with their shape; a transposed matrix becomes `[columns, rows]`.
fn host<T: Value>(values: Vec<T>, mut shape: Vec<usize>, transposed: bool) -> TensorData {
    let values = match (transposed, shape.as_slice()) {
        (true, &[rows, columns]) => transpose(&values, rows, columns),
        _ => values,
    };
    if transposed {
        shape.reverse();
    }
    TensorData::new(values, shape)
}

/// Transposes a row-major `[rows, columns]` matrix, in tiles that stay in the cache.
fn transpose<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    const TILE: usize = 32;
    let mut out = vec![T::default(); values.len()];
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

/// The tensors of all shards. Each must be in the shard that the index names.
fn read_shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Location>> {
    let text = std::fs::read(index).map_err(|e| Error::io("read", index, e))?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| Error::format(index, &e).with_source(e))?;
    let mut files: Vec<&String> = parsed.weight_map.values().collect();
    files.sort_unstable();
    files.dedup();
    let mut tensors = BTreeMap::new();
    for file in files {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(Error::format(index, format!("{file:?} is not a file name in the same folder")));
        }
        let path = folder.join(file);
        for (name, location) in read_header(&path)? {
            if parsed.weight_map.get(&name).is_some_and(|named| named != file) || tensors.contains_key(&name) {
                return Err(Error::format(&path, format!("tensor `{name}` is also in another shard")));
            }
            tensors.insert(name, location);
        }
    }
    match parsed.weight_map.iter().find(|(tensor, _)| !tensors.contains_key(*tensor)) {
        Some((tensor, file)) => Err(Error::format(index, format!("tensor `{tensor}` is not in {file}"))),
        None => Ok(tensors),
    }
}

fn read_header(path: &Path) -> Result<BTreeMap<String, Location>> {
    let damaged = |problem: String| Error::format(path, format!("not a complete safetensors file: {problem}"));
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| damaged(format!("{length} bytes")))?;
    let header = u64::from_le_bytes(size);
    if header > MAX_HEADER || header + 8 > length {
        return Err(damaged(format!("a header of {header} bytes in a file of {length}")));
    }
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json).map_err(|e| Error::io("read", path, e))?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
    let start = header + 8;
    let end = start.checked_add(metadata.data_len() as u64);
    if end != Some(length) {
        let end = end.map_or_else(|| "far more".to_owned(), |end| end.to_string());
        return Err(damaged(format!("{length} bytes, expected {end}")));
    }
    let located = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (first, last) = info.data_offsets;
        let location = Location {
            file: path.to_owned(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            offset: start + first as u64,
            bytes: last - first,
        };
        (name, location)
    };
    Ok(metadata.tensors().into_iter().map(located).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let values: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let turned = transpose(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 64], values[64 * 45 + 3]);
        assert_eq!(transpose(&turned, 45, 70), values);
    }
}
