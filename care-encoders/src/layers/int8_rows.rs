//! Embedding tables in int8, one scale a row, as they are stored. In memory they are the same numbers in f32.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use super::parameter::ParameterPath;
use crate::ops::Host;

/// The largest quantized value.
const LARGEST: f32 = 127.0;

/// Bits of a scale's mantissa that are zero, so that its products with whole numbers to 127 are exact in f32.
const ZERO_BITS: u32 = 7;

/// Quantizes each row of a table to whole numbers from -127 to 127 times its scale.
///
/// The products are exact in f32. So quantizing what [`dequantize_rows`] returns gives the same numbers and scales.
///
/// # Shapes
/// `values [rows, width]`; to values `[rows, width]` and scales `[rows]`.
pub(crate) fn quantize_rows(values: &[f32], width: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut quantized, mut scales) =
        (Vec::with_capacity(values.len()), Vec::with_capacity(values.len() / width.max(1)));
    for row in values.chunks_exact(width.max(1)) {
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = f32::from_bits((largest / LARGEST).to_bits() >> ZERO_BITS << ZERO_BITS);
        // Below, numbers have too few bits for an exact product.
        let scale = if scale < f32::MIN_POSITIVE { 0.0 } else { scale };
        let steps = |value: f32| if scale == 0.0 { 0 } else { (value / scale).round().clamp(-LARGEST, LARGEST) as i8 };
        quantized.extend(row.iter().map(|&value| steps(value)));
        scales.push(scale);
    }
    (quantized, scales)
}

/// The values of a quantized table.
///
/// # Shapes
/// `values [rows, width]`, `scales [rows]`; to `[rows, width]`.
pub(crate) fn dequantize_rows(values: &[i8], scales: &[f32], width: usize) -> Vec<f32> {
    let rows = values.chunks_exact(width.max(1)).zip(scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |&value| f32::from(value) * scale)).collect()
}

/// Rounds the tables of an f32 network on the CPU to what int8 holds; elsewhere nothing happens.
pub(crate) fn with_int8_tables<M: Module>(network: M) -> M {
    network.map(&mut Rounder(ParameterPath::default()))
}

struct Rounder(ParameterPath);

impl ModuleMapper for Rounder {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.0.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.0.is_table() {
            return param;
        }
        param.map(|table| {
            let Some(host) = Host::of(&table) else { return table };
            let shape = table.dims();
            let (values, scales) = quantize_rows(host.values(), shape[D - 1]);
            let values = TensorData::new(dequantize_rows(&values, &scales, shape[D - 1]), shape);
            Tensor::from_data(values, &table.device())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_quantized_once_and_for_all(
            mut values in prop::collection::vec(-3.0_f32..3.0, 24),
            exponents in prop::array::uniform4(-100_i32..120),
        ) {
            for (row, exponent) in values.chunks_exact_mut(6).zip(exponents) {
                row.iter_mut().for_each(|value| *value *= (exponent as f32).exp2());
            }
            let (quantized, scales) = quantize_rows(&values, 6);
            let rounded = dequantize_rows(&quantized, &scales, 6);
            prop_assert_eq!(quantize_rows(&rounded, 6), (quantized, scales.clone()));
            for ((row, rounded), scale) in values.chunks(6).zip(rounded.chunks(6)).zip(scales) {
                for (value, rounded) in row.iter().zip(rounded) {
                    // Half a step, or what is left of the largest value by the scale's missing bits.
                    prop_assert!((value - rounded).abs() <= 0.5001 * scale, "{value} becomes {rounded} in steps of {scale}");
                }
            }
        }
    }

    #[test]
    fn rows_of_zeros_and_of_tiny_numbers_become_zero() {
        for value in [0.0, -0.0, 1e-40, -1e-42] {
            assert_eq!(quantize_rows(&[value, value], 2), (vec![0, 0], vec![0.0]), "{value}");
        }
    }
}
