//! Matmul with a prepacked weight of 4 bits.

use std::ops::Range;

use crate::columns::for_panels;
use crate::f32_matrix::{interleave, tiles, with_rows};
use crate::instructions::InstructionSet;
use crate::int8_matrix::{OCTET, QUAD, interleave_bytes};
use crate::kernel::{Bytes, Kernel, WithBytes, WithKernel};
use crate::math;
use crate::matmul::{ACROSS, Epilogue, OutRow, PackedWeight, Panels};

/// Inputs whose weights share a scale.
const GROUP: usize = 32;

/// Octets of inputs per group.
const OCTETS: usize = GROUP / OCTET;

/// What is added to a quantized weight, which is from -8 to 7, so that it is not negative.
const OFFSET: i32 = 8;

/// The largest quantized input.
const STEPS: f32 = 127.0;

/// Candidate scales, as fractions of the one with which the largest weight of a group is -8.
const PARTS_KEPT: [f32; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 1.07, 1.14];

/// A prepacked weight `[inputs, outputs]`, quantized to 4 bits with one scale for each 32 inputs of a column.
///
/// Input rows are quantized to ±127, each group of 32 inputs by its own largest value, when they are multiplied. The
/// products of a group are summed exactly, the groups in f32 and in order. So the result of a matmul does not depend on
/// the other rows; it is the same on all instruction sets that fuse multiplications and additions.
#[derive(Clone)]
pub struct Int4Matrix {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    /// Panels as in [`F32Matrix`](crate::F32Matrix), with eight inputs of a column per integer: the low halves of its bytes
    /// are the first four. Padded to whole groups and panels.
    panels: Vec<u32>,
    /// The scales of each panel: for each group, one per column.
    scales: Vec<f32>,
}

impl Int4Matrix {
    /// Quantizes and packs a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::for_set(InstructionSet::current(), weight, [inputs, outputs])
    }

    fn for_set(set: InstructionSet, weight: &[f32], shape: [usize; 2]) -> Self {
        let [inputs, outputs] = shape;
        let width = ACROSS * set.lanes();
        let (groups, count) = (inputs.div_ceil(GROUP), outputs.div_ceil(width));
        let mut panels = vec![0; count * groups * OCTETS * width];
        let mut scales = Vec::with_capacity(count * groups * width);
        for_panels(weight, shape, width, |panel, block| {
            for (group, block) in block.chunks(GROUP * width).enumerate() {
                let (steps, best) = set.run(Quantize { block, width });
                let into = &mut panels[(panel * groups + group) * OCTETS * width..][..OCTETS * width];
                for (input, steps) in steps.chunks_exact(width).enumerate() {
                    let shift = 8 * (input % QUAD) + 4 * (input / QUAD % 2);
                    for (into, &step) in into[input / OCTET * width..].iter_mut().zip(steps) {
                        *into |= ((step as i32 + OFFSET) as u32) << shift;
                    }
                }
                scales.extend(best);
            }
        });
        Self { set, inputs, outputs, panels, scales }
    }

    /// The dequantized weight, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let (width, groups) = (self.panel_width(), self.inputs.div_ceil(GROUP));
        let mut weight = vec![0.0; self.inputs * self.outputs];
        for (input, row) in weight.chunks_exact_mut(self.outputs).enumerate() {
            let (group, shift) = (input / GROUP, 8 * (input % QUAD) + 4 * (input / QUAD % 2));
            for (column, x) in row.iter_mut().enumerate() {
                let first = (column / width * groups + group) * width + column % width;
                let octet = input / OCTET - group * OCTETS;
                let place = (column / width * groups + group) * OCTETS * width + octet * width + column % width;
                let step = (self.panels[place] >> shift & 15) as i32 - OFFSET;
                *x = step as f32 * self.scales[first];
            }
        }
        weight
    }
}

/// Quantizes a group of inputs, `[inputs, width]`: the steps, and the scale of each column with the least squared error of
/// all candidates.
struct Quantize<'a> {
    block: &'a [f32],
    width: usize,
}

impl WithKernel for Quantize<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> (Vec<f32>, Vec<f32>) {
        let Self { block, width } = self;
        let mut largest = vec![0.0f32; width];
        for row in block.chunks_exact(width) {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = if x.abs() > largest.abs() { x } else { *largest };
            }
        }
        // A column with NaN, an infinity or overflowing errors gets a NaN scale, and so a NaN result.
        let mut best = vec![(f32::INFINITY, f32::NAN); width];
        for part in PARTS_KEPT {
            let scales: Vec<f32> = largest.iter().map(|largest| part * largest / -8.0).collect();
            let mut lost = vec![0.0f32; width];
            for row in block.chunks_exact(width) {
                for ((lost, &x), &scale) in lost.iter_mut().zip(row).zip(&scales) {
                    let difference = x - rounded(x, scale) * scale;
                    *lost += difference * difference;
                }
            }
            for ((best, lost), scale) in best.iter_mut().zip(lost).zip(scales) {
                if lost < best.0 {
                    *best = (lost, scale);
                }
            }
        }
        let scales: Vec<f32> = best.into_iter().map(|(_, scale)| scale).collect();
        let mut steps = vec![0.0; block.len()];
        for (steps, row) in steps.chunks_exact_mut(width).zip(block.chunks_exact(width)) {
            for ((step, &x), &scale) in steps.iter_mut().zip(row).zip(&scales) {
                *step = rounded(x, scale);
            }
        }
        (steps, scales)
    }
}

/// The nearest step from -8 to 7; 0 if the scale is 0 or NaN.
#[inline(always)]
fn rounded(x: f32, scale: f32) -> f32 {
    let steps = if scale.abs() > 0.0 { x / scale } else { 0.0 };
    let steps = if steps > 7.0 { 7.0 } else { steps };
    let steps = if steps < -8.0 { -8.0 } else { steps };
    (steps + math::NEAREST) - math::NEAREST
}

/// Quantized input rows, packed tile by tile: the rows of a tile are interleaved octet by octet.
pub struct Int4Rows {
    rows: usize,
    values: Vec<[u8; OCTET]>,
    /// The quantization of each group, those of the rows of a tile interleaved.
    groups: Vec<Group>,
}

/// The quantization of a group of inputs of a row.
#[derive(Clone, Copy, Default)]
struct Group {
    scale: f32,
    /// Minus the sum of its steps times [`OFFSET`], from which the sums of products start.
    start: i32,
}

impl PackedWeight for Int4Matrix {}

impl Panels for Int4Matrix {
    type Rows = Int4Rows;

    fn set(&self) -> InstructionSet {
        self.set
    }

    fn shape(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    fn pack_rows(&self, input: &[f32]) -> Int4Rows {
        self.set.run_bytes(Pack { input, inputs: self.inputs }, true)
    }

    fn matmul(&self, rows: &Int4Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]) {
        self.set.run_bytes(Multiply { matrix: self, rows, panels, epilogue, out }, true);
    }
}

struct Pack<'a> {
    input: &'a [f32],
    inputs: usize,
}

impl WithBytes for Pack<'_> {
    type Output = Int4Rows;

    #[inline(always)]
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, _simd: S, _bytes: B) -> Int4Rows {
        let Self { input, inputs } = self;
        let (rows, groups) = (input.len() / inputs, inputs.div_ceil(GROUP));
        let mut bytes = vec![0u8; rows * groups * GROUP];
        let mut apart = Vec::with_capacity(rows * groups);
        for (row, into) in input.chunks_exact(inputs).zip(bytes.chunks_exact_mut(groups * GROUP)) {
            apart.extend(row.chunks(GROUP).zip(into.chunks_exact_mut(GROUP)).map(|(group, into)| round(group, into)));
        }
        let mut interleaved = vec![Group::default(); rows * groups];
        for tile in tiles(0..rows, B::ROWS) {
            let range = tile.start * groups..tile.end * groups;
            let (from, into) = (&apart[range.clone()], &mut interleaved[range]);
            with_rows!(tile.len(), B::ROWS, R => interleave::<_, R>(from, groups, into));
        }
        Int4Rows { rows, values: interleave_bytes::<S, B>(&bytes, rows, groups * OCTETS), groups: interleaved }
    }
}

/// Quantizes a group to steps from -127 to 127.
#[inline(always)]
fn round(group: &[f32], into: &mut [u8]) -> Group {
    let largest = math::max(group).max(math::largest_negative(group)).max(0.0);
    if !math::sum(group, |x| x).is_finite() {
        return Group { scale: f32::NAN, start: 0 };
    }
    if largest == 0.0 {
        return Group::default();
    }
    let inverse = STEPS / largest;
    let mut sum = 0;
    for (into, &x) in into.iter_mut().zip(group) {
        let step = x * inverse;
        let step = if step > STEPS { STEPS } else { step };
        let step = if step < -STEPS { -STEPS } else { step };
        let step = (step + math::NEAREST).to_bits() as i8;
        sum += i32::from(step);
        *into = step as u8;
    }
    Group { scale: largest / STEPS, start: -OFFSET * sum }
}

struct Multiply<'a, 'o> {
    matrix: &'a Int4Matrix,
    rows: &'a Int4Rows,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: &'a mut [OutRow<'o>],
}

impl WithBytes for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, simd: S, bytes: B) {
        let Self { matrix, rows, panels, epilogue, out } = self;
        let (width, groups) = (ACROSS * S::F32_LANES, matrix.inputs.div_ceil(GROUP));
        let size = groups * OCTETS * width;
        let last = panels.end;
        for (place, panel) in panels.enumerate() {
            let weights = &matrix.panels[panel * size..][..size];
            let next = if panel + 1 < last { &matrix.panels[(panel + 1) * size..][..size] } else { weights };
            let scales = &matrix.scales[panel * groups * width..][..groups * width];
            for tile in tiles(0..rows.rows, B::ROWS) {
                let values = &rows.values[tile.start * groups * OCTETS..tile.end * groups * OCTETS];
                let steps = &rows.groups[tile.start * groups..tile.end * groups];
                let out = &mut out[tile.clone()];
                with_rows!(tile.len(), B::ROWS, R => {
                    let numbers = dot::<S, B, R>(simd, bytes, (values, steps), (weights, scales), next);
                    for (row, numbers) in out.iter_mut().zip(numbers) {
                        epilogue.write(simd, numbers, place * width, row);
                    }
                });
            }
        }
    }
}

/// `R` rows times the columns of a panel; meanwhile prefetches the next panel.
#[inline(always)]
fn dot<S: Kernel, B: Bytes<S>, const R: usize>(
    simd: S,
    bytes: B,
    (rows, steps): (&[[u8; OCTET]], &[Group]),
    (panel, scales): (&[u32], &[f32]),
    next: &[u32],
) -> [[S::f32s; ACROSS]; R] {
    let mut numbers = [[simd.splat_f32s(0.0); ACROSS]; R];
    let (mask, four) = (simd.splat_u32s(0x0f0f_0f0f), simd.splat_u32s(4));
    let (panel, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_u32s(panel).0);
    let (next, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_u32s(next).0);
    let (scales, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(scales).0);
    let (panel, next) = (panel.as_chunks::<OCTETS>().0, next.as_chunks::<OCTETS>().0);
    let (rows, steps) = (rows.as_chunks::<R>().0.as_chunks::<OCTETS>().0, steps.as_chunks::<R>().0);
    for ((((panel, next), rows), steps), scales) in panel.iter().zip(next).zip(rows).zip(steps).zip(scales) {
        let mut sums = [[simd.splat_i32s(0); ACROSS]; R];
        for at in 0..R {
            sums[at] = [simd.splat_i32s(steps[at].start); ACROSS];
        }
        for ((octet, next), values) in panel.iter().zip(next).zip(rows) {
            simd.prefetch(next);
            let low = [simd.and_u32s(octet[0], mask), simd.and_u32s(octet[1], mask)];
            let high = [
                simd.and_u32s(simd.wrapping_dyn_shr_u32s(octet[0], four), mask),
                simd.and_u32s(simd.wrapping_dyn_shr_u32s(octet[1], four), mask),
            ];
            for (sums, &[a, b, c, d, e, f, g, h]) in sums.iter_mut().zip(values) {
                let first = simd.splat_i32s(i32::from_le_bytes([a, b, c, d]));
                let second = simd.splat_i32s(i32::from_le_bytes([e, f, g, h]));
                for at in 0..ACROSS {
                    sums[at] = bytes.add_products(simd, sums[at], [low[at], high[at]], [first, second]);
                }
            }
        }
        for at in 0..R {
            let step = simd.splat_f32s(steps[at].scale);
            for column in 0..ACROSS {
                let scale = simd.mul_f32s(scales[column], step);
                numbers[at][column] = simd.add_product(simd.numbers(sums[at][column]), scale, numbers[at][column]);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::matmul::{Matmul, matmul};
    use crate::testing::{close, numbers, product};

    fn multiply(matrix: &Int4Matrix, input: &[f32], rows: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; rows * matrix.outputs];
        matmul(input, vec![Matmul::new(matrix, &mut out)], 2);
        out
    }

    #[test]
    fn products_are_near_those_of_the_weight_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (9, 64, 50), (13, 200, 37), (70, 384, 40)] {
            let (input, weight) = (numbers(rows * inputs, 4), numbers(inputs * outputs, 5));
            let mut results: Vec<Vec<f32>> = Vec::new();
            for set in InstructionSet::available() {
                let matrix = Int4Matrix::for_set(set, &weight, [inputs, outputs]);
                let rounded = matrix.unpack();
                // Half a step; or what the largest weight of the other sign loses, of which 7 steps are the limit.
                let off = rounded.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= 0.2, "{set:?}: a weight is off by {off}");
                let out = multiply(&matrix, &input, rows);
                let expected = product(&input, &rounded, inputs, outputs);
                // Half a step of inputs to 1, times a weight to 1.14.
                close(&out, &expected, 0.6 / 127.0 * inputs as f64 + 1e-5, &format!("{set:?}, {inputs} inputs"));
                let expected: Vec<f64> = results.first().unwrap_or(&out).iter().map(|&x| f64::from(x)).collect();
                close(&out, &expected, 1e-5, "the same up to rounding");
                results.push(out);
            }
        }
    }

    #[test]
    fn the_error_is_that_of_four_bits_and_bias_and_activation_are_applied() {
        let (rows, inputs, outputs) = (20, 512, 33);
        let (input, weight, bias) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2), numbers(outputs, 3));
        for set in InstructionSet::available() {
            let matrix = Int4Matrix::for_set(set, &weight, [inputs, outputs]);
            let plain = multiply(&matrix, &input, rows);
            let exact = product(&input, &weight, inputs, outputs);
            let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let error = length(&mut plain.iter().zip(&exact).map(|(a, b)| f64::from(*a) - b));
            // Evenly distributed errors of steps of 1/8 are 0.036, and the weights 0.577: a sixteenth.
            let relative = error / length(&mut exact.iter().copied());
            assert!((0.03..0.075).contains(&relative), "{set:?}: {relative}");
            let mut finished = vec![f32::NAN; rows * outputs];
            let activation = Some(Activation::Relu);
            let product = Matmul { bias: Some(&bias), activation, ..Matmul::new(&matrix, &mut finished) };
            matmul(&input, vec![product], 1);
            let expected = plain.iter().zip(bias.iter().cycle()).map(|(x, bias)| (x + bias).max(0.0));
            assert!(finished.iter().zip(expected).all(|(a, b)| *a == b), "{set:?}");
        }
    }

    #[test]
    fn outliers_of_inputs_and_of_weights_spoil_their_own_group_only() {
        let (rows, inputs, outputs) = (3, 96, 20);
        for set in InstructionSet::available() {
            let (mut input, mut weight) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
            let plain = Int4Matrix::for_set(set, &weight, [inputs, outputs]).unpack();
            weight[40 * outputs] = 500.0;
            let changed = Int4Matrix::for_set(set, &weight, [inputs, outputs]);
            for (at, (a, b)) in changed.unpack().iter().zip(&plain).enumerate() {
                let hit = at % outputs == 0 && (32..64).contains(&(at / outputs));
                assert!(hit || a == b, "{set:?}: {at}");
            }
            // Inputs of a group of zeros do not matter, those of the others do.
            input.chunks_exact_mut(inputs).for_each(|row| row[32..64].fill(0.0));
            let expected = product(&input, &plain, inputs, outputs);
            close(&multiply(&changed, &input, rows), &expected, 0.6 / 127.0 * inputs as f64, set.name());
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_stays_none() {
        for set in InstructionSet::available() {
            let matrix = Int4Matrix::for_set(set, &[1.0; 8 * 4], [8, 4]);
            for (input, finite) in [(0.0, true), (f32::NAN, false), (f32::INFINITY, false)] {
                let out = multiply(&matrix, &[input; 8], 1);
                assert!(out.iter().all(|x| if finite { *x == 0.0 } else { !x.is_finite() }), "{input}: {out:?}");
            }
            for wrong in [f32::NAN, f32::INFINITY] {
                let out = multiply(&Int4Matrix::for_set(set, &[1.0, wrong, 1.0, 1.0], [2, 2]), &[1.0; 2], 1);
                assert!((out[0] - 2.0).abs() < 0.1 && out[1].is_nan(), "{set:?}, {wrong}: {out:?}");
            }
        }
    }
}
