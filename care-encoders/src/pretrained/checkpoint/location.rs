//! Where a tensor's values are in a file, and how they are read and converted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::TensorData;
use care_core::ErrorKind;
use half::{bf16, f16};
use safetensors::Dtype;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A tensor in a file.
#[derive(Debug)]
pub(super) struct Location {
    pub(super) file: PathBuf,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Values from one index to the next along each axis; `None` if the tensor is row-major.
    pub(super) strides: Option<Vec<usize>>,
    /// Position of the first value.
    pub(super) offset: u64,
    /// The checked bytes that the values are a part of, if the file has a checksum of them.
    pub(super) storage: Option<Arc<Storage>>,
}

/// Bytes of a file with their CRC-32.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// Why a tensor could not be read.
pub(super) enum Problem {
    Unreadable(std::io::Error),
    Other(ErrorKind, String),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Problem {
    fn format(problem: impl Into<String>) -> Self {
        Self::Other(ErrorKind::Format, problem.into())
    }

    fn damaged() -> Self {
        Self::format("is damaged: its checksum is another")
    }
}

type Result<T> = std::result::Result<T, Problem>;

/// A dtype of weights.
pub(super) trait Value: burn::tensor::Element + Copy + Default {
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
    /// Reads part `part` of `of` equal parts of the rows, converted, and for a matrix optionally transposed.
    pub(super) fn read<T: Value>(&self, (part, of): (usize, usize), transposed: bool) -> Result<TensorData> {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows /= of;
        }
        let values = match self.dtype {
            Dtype::F32 => self.part::<T, 4>(part, &shape, f32::from_le_bytes),
            Dtype::F16 => self.part::<T, 2>(part, &shape, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.part::<T, 2>(part, &shape, |b| bf16::from_le_bytes(b).to_f32()),
            other => Err(Problem::format(format!("is {other:?}, not F32, F16 or BF16"))),
        }?;
        let values = match (transposed, shape.as_slice()) {
            (true, &[rows, columns]) => transpose(&values, rows, columns),
            _ => values,
        };
        if transposed {
            shape.reverse();
        }
        Ok(TensorData::new(values, shape))
    }

    /// Reads signed bytes from -127 to 127.
    pub(super) fn read_int8(&self) -> Result<Vec<i8>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut values = Vec::with_capacity(self.shape.iter().product());
        file.take(values.capacity() as u64).read_to_end(&mut values)?;
        let values: Vec<i8> = values.into_iter().map(|byte| byte as i8).collect();
        match values.contains(&i8::MIN) {
            true => Err(Problem::format("contains -128, allowed: -127 to 127")),
            false => Ok(values),
        }
    }

    /// Reads a part of this shape. `widen` is a generic parameter so that it is inlined into the loop.
    fn part<T: Value, const SIZE: usize>(
        &self,
        part: usize,
        shape: &[usize],
        widen: impl Fn([u8; SIZE]) -> f32,
    ) -> Result<Vec<T>> {
        let count: usize = shape.iter().product();
        let (stride, span) = match &self.strides {
            None => (shape.iter().skip(1).product(), count),
            Some(strides) if count > 0 => {
                let last: usize = shape.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum();
                (strides.first().copied().unwrap_or(1), last + 1)
            }
            Some(_) => (0, 0),
        };
        let skipped = part * shape.first().copied().unwrap_or(1) * stride;
        let values = self.convert(skipped, span, widen)?;
        let Some(strides) = &self.strides else { return Ok(values) };
        let values = gather(&values, shape, strides, count);
        match values.iter().all(|value: &T| value.is_finite()) {
            true => Ok(values),
            false => Err(Problem::Other(ErrorKind::NonFinite, "contains a non-finite value".into())),
        }
    }

    /// Reads and converts `count` neighbouring values from value `skipped` on. Those of a row-major tensor must be
    /// finite; between those of another one, there may be values that are not its own.
    fn convert<T: Value, const SIZE: usize>(
        &self,
        skipped: usize,
        count: usize,
        widen: impl Fn([u8; SIZE]) -> f32,
    ) -> Result<Vec<T>> {
        let mut file = File::open(&self.file)?;
        let (offset, bytes) = (self.offset + (skipped * SIZE) as u64, (count * SIZE) as u64);
        let mut whole = None;
        if let Some(storage) = &self.storage {
            match (storage.offset, storage.bytes) == (offset, bytes) {
                true => whole = Some(crc32fast::Hasher::new()),
                false => storage.verify(&mut file)?,
            }
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut values = vec![T::default(); count];
        let mut chunk = vec![0; CHUNK.min(count * SIZE)];
        for values in values.chunks_mut(CHUNK / SIZE) {
            let read = &mut chunk[..values.len() * SIZE];
            file.read_exact(read)?;
            if let Some(digest) = &mut whole {
                digest.update(read);
            }
            let (wide, _) = read.as_chunks::<SIZE>();
            for (value, bytes) in values.iter_mut().zip(wide) {
                *value = T::narrow(widen(*bytes));
            }
            // Checked for the whole chunk, without a branch per value.
            if self.strides.is_none() && !values.iter().fold(true, |all, value| all & value.is_finite()) {
                let wide = wide.iter().map(|bytes| widen(*bytes)).find(|&wide| !T::narrow(wide).is_finite());
                let problem = match wide {
                    Some(wide) if wide.is_finite() => format!("contains {wide}, out of range for {:?}", T::dtype()),
                    _ => "contains a non-finite value".to_owned(),
                };
                return Err(Problem::Other(ErrorKind::NonFinite, problem));
            }
        }
        match (whole.map(crc32fast::Hasher::finalize), &self.storage) {
            (Some(crc), Some(storage)) if crc != storage.crc => Err(Problem::damaged()),
            _ => Ok(values),
        }
    }
}

impl Storage {
    /// Compares the checksum of the whole storage.
    fn verify(&self, file: &mut File) -> Result<()> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut digest = crc32fast::Hasher::new();
        let (mut chunk, mut left) = (vec![0; CHUNK], self.bytes);
        while left > 0 {
            let read = &mut chunk[..left.min(CHUNK as u64) as usize];
            file.read_exact(read)?;
            digest.update(read);
            left -= read.len() as u64;
        }
        if digest.finalize() == self.crc { Ok(()) } else { Err(Problem::damaged()) }
    }
}

/// The values of a strided tensor in row-major order.
fn gather<T: Copy>(values: &[T], shape: &[usize], strides: &[usize], count: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        out.push(values[index.iter().zip(strides).map(|(index, stride)| index * stride).sum::<usize>()]);
        for (index, size) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *size {
                break;
            }
            *index = 0;
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let values: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let turned = transpose(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 64], values[64 * 45 + 3]);
        assert_eq!(transpose(&turned, 45, 70), values);
        assert_eq!(gather(&values, &[45, 70], &[1, 45], values.len()), turned);
    }

    #[test]
    fn strides_skip_and_repeat_values() {
        let values = [0, 1, 2, 3, 4, 5];
        assert_eq!(gather(&values, &[2, 2], &[3, 2], 4), [0, 2, 3, 5]);
        assert_eq!(gather(&values, &[2, 3], &[0, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(gather(&values, &[], &[], 1), [0]);
    }
}
