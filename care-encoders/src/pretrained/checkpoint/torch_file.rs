//! Finds the tensors of a file of `torch.save`, such as `pytorch_model.bin`, without executing anything.
//!
//! PyTorch writes a zip archive with a pickle and one entry per storage; until version 1.5, several pickles and the
//! storages one after another.
//!
//! # Reference
//! `torch/serialization.py` of PyTorch 2.15, `_save`, `_legacy_save` and their counterparts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use care_core::{Error, Result};
use safetensors::Dtype;

use super::archive::Archive;
use super::location::{Location, Storage};
use super::pickle::{Content, PickledStorage, PickledTensor, read_pickle};

/// The first number of the older format, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version of the older format.
const PROTOCOL: i64 = 1001;
/// The name of the pickle in an archive, below a folder.
const PICKLE: &str = "/data.pkl";

/// The tensors of a file by name.
///
/// # Errors
/// If it is no file of `torch.save`, is damaged, or contains anything but a dictionary of tensors.
pub(super) fn read_tensors(path: &Path, mut file: File) -> Result<BTreeMap<String, Location>> {
    let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    let mut start = [0; 262];
    let count = (length as usize).min(start.len());
    let read = file.read_exact(&mut start[..count]).and_then(|()| file.seek(SeekFrom::Start(0)));
    read.map_err(|e| Error::io("read", path, e))?;
    let tensors = if start.starts_with(b"PK\x03\x04") {
        from_archive(path, &mut file, length)
    } else if start.starts_with(&[0x80]) {
        from_stream(path, file, length)
    } else if start[257..].starts_with(b"ustar") {
        Err("it is a tar archive of PyTorch before 0.4; save it again with a newer version".into())
    } else {
        Err("it does not begin as one".into())
    };
    tensors.map_err(|problem| Error::format(path, format!("not a readable file of torch.save: {problem}")))
}

type Found = std::result::Result<BTreeMap<String, Location>, String>;

fn from_archive(path: &Path, file: &mut File, length: u64) -> Found {
    let archive = Archive::open(file, length)?;
    let root = archive.names().find_map(|name| name.strip_suffix(PICKLE)).map(str::to_owned);
    let root = root.ok_or("the archive has no data.pkl")?;
    if archive.names().any(|name| name == format!("{root}/constants.pkl")) {
        return Err("it is a TorchScript program, not weights; save model.state_dict()".into());
    }
    let order = format!("{root}/byteorder");
    if archive.names().any(|name| name == order) && archive.content(file, &order)? != b"little" {
        return Err("its numbers are big-endian".into());
    }
    let pickle = archive.content(file, &format!("{root}{PICKLE}"))?;
    let (content, storages) = read_pickle(&pickle[..]).map_err(in_pickle)?;
    let tensors = tensors(content)?;
    let mut places = BTreeMap::new();
    for (key, storage) in storages {
        let stored = archive.stored(file, &format!("{root}/data/{key}"))?;
        let needed = storage.values.checked_mul(width(storage.dtype));
        if needed.is_none_or(|needed| needed > stored.bytes) {
            return Err(format!("{} values of {:?} in {} bytes", storage.values, storage.dtype, stored.bytes));
        }
        let place = Storage { offset: stored.offset, bytes: stored.bytes, crc: stored.crc };
        places.insert(key, (stored.offset, Some(Arc::new(place))));
    }
    locations(path, tensors, &places)
}

/// The older format: magic number, version, machine, tensors, keys of the storages, then each storage with its length.
fn from_stream(path: &Path, file: File, length: u64) -> Found {
    let mut reader = BufReader::new(file);
    let mut next = || read_pickle(&mut reader).map_err(in_pickle);
    if !matches!(next()?.0, Content::LargeNumber(magic) if magic == MAGIC) {
        return Err("it is a pickle of something else".into());
    }
    match next()?.0 {
        Content::Number(PROTOCOL) => {}
        other => return Err(format!("version {other:?}")),
    }
    next()?;
    let (content, storages) = next()?;
    let Content::Texts(keys) = next()?.0 else { return Err("it lists no storages".into()) };
    let tensors = tensors(content)?;
    let mut at = reader.stream_position().map_err(|e| e.to_string())?;
    let mut places = BTreeMap::new();
    for key in keys {
        let storage: &Rc<PickledStorage> =
            storages.get(&key).ok_or_else(|| format!("no tensor belongs to the storage {key:?}"))?;
        let mut count = [0; 8];
        reader.seek(SeekFrom::Start(at)).and_then(|_| reader.read_exact(&mut count)).map_err(|_| cut_off())?;
        let values = u64::from_le_bytes(count);
        let end = values.checked_mul(width(storage.dtype)).and_then(|bytes| bytes.checked_add(at + 8));
        let end = end.filter(|end| *end <= length).ok_or_else(cut_off)?;
        if values != storage.values {
            return Err(format!("a storage of {values} values instead of {}", storage.values));
        }
        places.insert(key, (at + 8, None));
        at = end;
    }
    locations(path, tensors, &places)
}

fn cut_off() -> String {
    "a storage reaches beyond the end of the file: it is cut off".to_owned()
}

fn in_pickle(problem: String) -> String {
    format!("in its pickle: {problem}")
}

/// The entries of a state dict.
fn tensors(content: Content) -> std::result::Result<Vec<(String, PickledTensor)>, String> {
    let Content::Dictionary(entries) = content else {
        return Err("it is no dictionary of tensors; save model.state_dict()".into());
    };
    let tensor = |(name, tensor): (String, Option<PickledTensor>)| match tensor {
        Some(tensor) => Ok((name, tensor)),
        None => Err(format!("`{name}` is no tensor; save model.state_dict()")),
    };
    entries.into_iter().map(tensor).collect()
}

type Places = BTreeMap<String, (u64, Option<Arc<Storage>>)>;

fn locations(path: &Path, tensors: Vec<(String, PickledTensor)>, places: &Places) -> Found {
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors {
        let view = &tensor.storage;
        let (start, storage) = places.get(&view.key).ok_or_else(|| format!("the storage of `{name}` is missing"))?;
        let row_major = is_row_major(&tensor.shape, &tensor.strides);
        let location = Location {
            file: path.to_owned(),
            dtype: view.dtype,
            offset: start + (view.first + tensor.offset) * width(view.dtype),
            strides: (!row_major).then_some(tensor.strides),
            shape: tensor.shape,
            storage: storage.clone(),
        };
        if found.insert(name.clone(), location).is_some() {
            return Err(format!("tensor `{name}` is duplicated"));
        }
    }
    Ok(found)
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut next = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let as_expected = *size == 1 || *stride == next;
        next *= size;
        as_expected
    })
}

/// Bytes of a value.
fn width(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F64 | Dtype::I64 => 8,
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
        _ => 1,
    }
}
