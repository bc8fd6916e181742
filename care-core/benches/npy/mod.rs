//! Reading matrices as `care embed` writes them.

use std::fs;
use std::path::Path;

use ndarray::Array2;

/// A matrix of f32 in NumPy's format.
pub(crate) fn read_npy(path: &Path) -> Array2<f32> {
    let bytes = fs::read(path).unwrap();
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..end]);
    assert!(bytes.starts_with(b"\x93NUMPY\x01") && header.contains("<f4"), "{}: not float32", path.display());
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    let values = bytes[end..].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
}
