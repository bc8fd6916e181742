//! Reading safetensors: one file, or shards with an index.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

/// The largest header that is read; safetensors itself allows no more.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a model folder: names, shapes and where their bytes are. Values are read one
/// tensor at a time, so memory never holds a whole file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
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
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// When neither is there, a shard is missing or cut off, or the index and the shards disagree.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let mut tensors = BTreeMap::new();
        if single.exists() {
            read_header(&single, &mut tensors)?;
        } else if index.exists() {
            let text = std::fs::read(&index).map_err(|e| Error::io("read", &index, e))?;
            let parsed: Index = serde_json::from_slice(&text).map_err(|e| Error::format(&index, e))?;
            let mut files: Vec<&String> = parsed.weight_map.values().collect();
            files.sort_unstable();
            files.dedup();
            for file in files {
                read_header(&folder.join(file), &mut tensors)?;
            }
            for (tensor, file) in &parsed.weight_map {
                if !tensors.contains_key(tensor) {
                    return Err(Error::format(&index, format!("tensor `{tensor}` is not in {file}")));
                }
            }
        } else {
            let hint = if folder.join("pytorch_model.bin").exists() {
                "; pytorch_model.bin is not read: convert it with safetensors' convert.py"
            } else {
                ""
            };
            let looked = "no model.safetensors and no model.safetensors.index.json";
            return Err(Error::new(ErrorKind::Io, format!("{}: {looked}{hint}", folder.display())));
        }
        Ok(Self { folder: folder.to_owned(), tensors })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|location| location.shape.as_slice())
    }

    /// The values of one tensor, as f32.
    ///
    /// # Errors
    /// When the tensor is absent, of an integer type, or holds a value that is not finite.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let location = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("tensor `{name}` is missing")))?;
        let path = &location.file;
        let mut bytes = vec![0; location.bytes];
        File::open(path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(location.offset))?;
                file.read_exact(&mut bytes)
            })
            .map_err(|e| Error::io("read", path, e))?;
        let values: Vec<f32> = match location.dtype {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => return Err(Error::format(path, format!("tensor `{name}` is {other:?}, not F32, F16 or BF16"))),
        };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::new(
                ErrorKind::NonFinite,
                format!("{}: tensor `{name}` holds a value that is not finite", path.display()),
            ));
        }
        Ok(values)
    }
}

fn read_header(path: &Path, tensors: &mut BTreeMap<String, Location>) -> Result<()> {
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
    let end = start + metadata.data_len() as u64;
    if end != length {
        return Err(damaged(format!("{length} bytes where {end} are announced")));
    }
    for (name, info) in metadata.tensors() {
        let (first, last) = info.data_offsets;
        let location = Location {
            file: path.to_owned(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            offset: start + first as u64,
            bytes: last - first,
        };
        if tensors.insert(name.clone(), location).is_some() {
            return Err(Error::format(path, format!("tensor `{name}` is in another shard too")));
        }
    }
    Ok(())
}
