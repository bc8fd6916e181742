//! The dtypes of stored vectors.

use std::str::FromStr;

use care_core::Error;
use serde::{Deserialize, Serialize};

/// The dtype of the stored vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// 4 bytes per dimension, as the embedder computed them.
    F32,
    /// 2 bytes per dimension.
    F16,
    /// 1 byte per dimension and a scale per row: `round(x / scale)` with `scale = max |x| / 127`.
    Int8,
}

/// The largest code of int8.
const LARGEST: f32 = 127.0;

impl Dtype {
    /// All dtypes.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of a vector of `dim` dimensions.
    pub fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::F32 => 4 * dim,
            Self::F16 => 2 * dim,
            Self::Int8 => dim + 4,
        }
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.as_str() == name);
        found.ok_or_else(|| Error::setting("dtype", format!("{name:?}"), "f32, f16, int8"))
    }
}

/// Appends the int8 codes of a vector; returns their scale.
pub(crate) fn quantize(vector: &[f32], codes: &mut Vec<i32>) -> f32 {
    // Above the smallest normal number, so that a scale is none of the subnormal ones, which lose precision.
    let largest = vector.iter().fold(LARGEST * f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let scale = largest / LARGEST;
    codes.extend(vector.iter().map(|value| (value / scale).round() as i32));
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_times_scale_are_within_half_a_step() {
        let vector = [0.5, -1.0, 0.0, 0.003, 0.9999];
        let mut codes = Vec::new();
        let scale = quantize(&vector, &mut codes);
        assert_eq!(codes, [64, -127, 0, 0, 127]);
        assert!(codes.iter().zip(vector).all(|(code, value)| (*code as f32 * scale - value).abs() <= scale / 2.0));
        assert_eq!((quantize(&[0.0], &mut codes), codes[5]), (f32::MIN_POSITIVE, 0));
    }

    #[test]
    fn names_are_those_in_files() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.as_str().parse::<Dtype>().expect("a name"), dtype);
            assert_eq!(serde_json::to_string(&dtype).expect("JSON"), format!("{:?}", dtype.as_str()));
        }
        let error = "f8".parse::<Dtype>().expect_err("unknown").to_string();
        assert_eq!(error, "`dtype` is \"f8\", allowed: f32, f16, int8");
    }
}
