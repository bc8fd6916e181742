//! Vectors as answers carry them: truncated, of unit length, or in compact types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The first `dim` values. Of a tower whose vectors have length 1, they have it again.
pub(crate) fn truncated(vector: &[f32], dim: usize, unit_length: bool) -> Vec<f32> {
    let first = vector[..dim].to_vec();
    if unit_length && dim < vector.len() { normalised(first) } else { first }
}

/// The vector with length 1; a zero vector stays.
pub(crate) fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// Little-endian f32 values in base64.
///
/// # Reference
/// `encoding_format: base64` of OpenAI.
pub(crate) fn base64(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// `round(127 x / max |x|)`: the direction of the vector, so that cosines of codes are near those of vectors.
pub(crate) fn int8(vector: &[f32]) -> Vec<i8> {
    let largest = vector.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    vector.iter().map(|value| (value / largest * 127.0).round() as i8).collect()
}

/// [`int8`] + 128.
pub(crate) fn uint8(vector: &[f32]) -> Vec<u8> {
    int8(vector).into_iter().map(|code| code.wrapping_add(i8::MIN) as u8).collect()
}

/// One bit per value, 1 if it is above 0, the first in the highest bit of a byte.
///
/// # Reference
/// `quantize_embeddings(precision="ubinary")` of sentence-transformers.
pub(crate) fn ubinary(vector: &[f32]) -> Vec<u8> {
    let byte =
        |values: &[f32]| values.iter().enumerate().fold(0, |byte, (at, x)| byte | u8::from(*x > 0.0) << (7 - at));
    vector.chunks(8).map(byte).collect()
}

/// [`ubinary`] - 128.
///
/// # Reference
/// `quantize_embeddings(precision="binary")` of sentence-transformers.
pub(crate) fn binary(vector: &[f32]) -> Vec<i8> {
    ubinary(vector).into_iter().map(|byte| byte.wrapping_sub(128) as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_types_keep_signs_and_ratios() {
        let vector = [0.5, -0.25, 0.0, -0.5, 0.1, 0.1, -0.1, 0.1, 0.2];
        assert_eq!(int8(&vector), [127, -64, 0, -127, 25, 25, -25, 25, 51]);
        assert_eq!(uint8(&vector), [255, 64, 128, 1, 153, 153, 103, 153, 179]);
        // numpy.packbits(vector > 0), and that - 128 as int8.
        assert_eq!(ubinary(&vector), [0b1000_1101, 0b1000_0000]);
        assert_eq!(binary(&vector), [13, 0]);
        assert_eq!(int8(&[0.0, 0.0]), [0, 0]);
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
    }

    #[test]
    fn a_truncated_vector_of_unit_length_has_it_again() {
        assert_eq!(truncated(&[0.6, 0.0, 0.8], 2, true), [1.0, 0.0]);
        assert_eq!(truncated(&[0.6, 0.0, 0.8], 2, false), [0.6, 0.0]);
        assert_eq!(truncated(&[3.0, 4.0], 2, true), [3.0, 4.0]);
        assert_eq!(normalised(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalised(vec![0.0]), [0.0]);
    }
}
