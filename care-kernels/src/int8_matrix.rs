//! Matmul with a prepacked int8-quantized weight.

use std::ops::Range;

use crate::columns::for_panels;
use crate::f32_matrix::{interleave, tiles, with_rows};
use crate::instructions::InstructionSet;
use crate::kernel::{Bytes, Kernel, WithBytes, WithKernel};
use crate::math;
use crate::matmul::{ACROSS, Epilogue, OutRow, PackedWeight, Panels, load};

/// The largest quantized weight where x86 adds products in 16 bits: the sum of four of them, with inputs to 127, fits.
const NARROW: i8 = 63;

/// The largest quantized weight where products are added in 32 bits at once, with inputs to 255.
const WIDE: i8 = 127;

/// Candidate clipping points of a column, as fractions of its largest absolute value.
const PARTS_KEPT: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7];

/// Inputs whose weights share one 32-bit integer.
pub(crate) const QUAD: usize = 4;

/// Inputs whose products one instruction sequence adds.
pub(crate) const OCTET: usize = 2 * QUAD;

/// Inputs per group of [`Int8Matrix::grouped`], whole octets.
const GROUP: usize = 128;

/// A prepacked weight `[inputs, outputs]`, quantized to signed bytes with one scale per column.
///
/// Weights go to ±127 and each input row, when it is multiplied, to 256 steps between its smallest and its largest value
/// where the instruction set has dot products of bytes (`avx512vnni`). Elsewhere weights go to ±63 and inputs to 128 steps,
/// which x86 can add in 16 bits. Products are summed exactly. So the result of a matmul does not depend on the other rows,
/// and is the same on all instruction sets of a kind; a fused activation may differ between instruction sets in the last
/// bit.
///
/// [`Int8Matrix::grouped`] quantizes each group of inputs by itself, for rows with outliers: values hundreds of times as
/// large as the others, which else fall on a few steps.
#[derive(Clone)]
pub struct Int8Matrix {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    /// Panels as in [`F32Matrix`](crate::F32Matrix), with four inputs of a column per integer, zero-padded to octets.
    panels: Vec<i32>,
    /// The scale of each column, zero-padded to whole panels.
    scales: Vec<f32>,
    /// Inputs per group; all of them if rows are quantized as a whole.
    group: usize,
    /// For each group, the sum of each column's quantized weights, zero-padded to whole panels.
    sums: Vec<i32>,
    /// Whether all weights are from -63 to 63.
    narrow: bool,
}

impl Int8Matrix {
    /// Quantizes and packs a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::for_set(InstructionSet::current(), weight, [inputs, outputs], inputs)
    }

    /// The same for input rows that are quantized in groups of 128 inputs, each between its own smallest and largest
    /// value. The groups' products are added in their order, in f32, on every instruction set alike.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn grouped(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::for_set(InstructionSet::current(), weight, [inputs, outputs], GROUP)
    }

    /// Packs a weight that is quantized already, with the scale of each column, as [`Int8Matrix::new`] or, if
    /// `grouped`, [`Int8Matrix::grouped`] packs it.
    ///
    /// # Shapes
    /// `values [outputs, inputs]`, `scales [outputs]`.
    ///
    /// # Panics
    /// Panics if they have other sizes, or a value is -128.
    pub fn of_quantized(values: &[i8], scales: &[f32], inputs: usize, grouped: bool) -> Self {
        Self::of_quantized_for(InstructionSet::current(), values, scales, inputs, grouped)
    }

    fn of_quantized_for(set: InstructionSet, values: &[i8], scales: &[f32], inputs: usize, grouped: bool) -> Self {
        let outputs = scales.len();
        assert_eq!(values.len(), inputs * outputs, "`values` must be [{outputs}, {inputs}]");
        let narrow = values.iter().all(|value| (-NARROW..=NARROW).contains(value));
        let mut matrix = Self::empty(set, [inputs, outputs], if grouped { GROUP } else { inputs }, narrow);
        for (column, (row, &scale)) in values.chunks_exact(inputs.max(1)).zip(scales).enumerate() {
            matrix.scales[column] = scale;
            for (input, &value) in row.iter().enumerate() {
                assert!(value >= -WIDE, "quantized weights are from -127 to 127");
                matrix.put(input, column, value);
            }
        }
        matrix
    }

    /// The quantized weight, `[outputs, inputs]`, and the scale of each output.
    pub fn to_quantized(&self) -> (Vec<i8>, Vec<f32>) {
        let mut values = Vec::with_capacity(self.inputs * self.outputs);
        for column in 0..self.outputs {
            values.extend((0..self.inputs).map(|input| self.quantized(input, column)));
        }
        (values, self.scales[..self.outputs].to_vec())
    }

    pub(crate) fn for_set(set: InstructionSet, weight: &[f32], shape: [usize; 2], group: usize) -> Self {
        let narrow = !set.has_byte_products();
        let largest = f32::from(if narrow { NARROW } else { WIDE });
        let mut matrix = Self::empty(set, shape, group, narrow);
        let width = matrix.panel_width();
        for_panels(weight, shape, width, |panel, block| {
            let scales = set.run(BestScales { block, width, largest });
            matrix.scales[panel * width..][..width].copy_from_slice(&scales);
            for (input, row) in block.chunks_exact(width).enumerate() {
                for ((column, &x), &scale) in (panel * width..).zip(row).zip(&scales) {
                    matrix.put(input, column, rounded(x, scale, largest) as i8);
                }
            }
        });
        matrix
    }

    /// A weight of zeros with scales of zero.
    fn empty(set: InstructionSet, [inputs, outputs]: [usize; 2], group: usize, narrow: bool) -> Self {
        let group = group.next_multiple_of(OCTET).max(OCTET);
        let filled = outputs.next_multiple_of(ACROSS * set.lanes());
        let (panels, sums) = (vec![0; filled * quads(inputs)], vec![0; filled * inputs.div_ceil(group)]);
        Self { set, inputs, outputs, panels, scales: vec![0.0; filled], group, sums, narrow }
    }

    /// Sets a weight that is zero.
    #[inline(always)]
    fn put(&mut self, input: usize, column: usize, value: i8) {
        let at = self.place(input, column);
        self.panels[at] |= i32::from(value as u8) << (8 * (input % QUAD));
        let filled = self.scales.len();
        self.sums[input / self.group * filled + column] += i32::from(value);
    }

    fn quantized(&self, input: usize, column: usize) -> i8 {
        self.panels[self.place(input, column)].to_le_bytes()[input % QUAD] as i8
    }

    /// The integer that holds a weight.
    #[inline(always)]
    fn place(&self, input: usize, column: usize) -> usize {
        let width = self.panel_width();
        (column / width * quads(self.inputs) + input / QUAD) * width + column % width
    }

    /// The dequantized weight, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let mut weight = vec![0.0; self.inputs * self.outputs];
        for (input, row) in weight.chunks_exact_mut(self.outputs).enumerate() {
            for (column, x) in row.iter_mut().enumerate() {
                *x = f32::from(self.quantized(input, column)) * self.scales[column];
            }
        }
        weight
    }
}

/// Integers that hold the weights of one column.
fn quads(inputs: usize) -> usize {
    inputs.div_ceil(OCTET) * OCTET / QUAD
}

/// Quantizes a weight, clipping at ±`largest`.
#[inline(always)]
fn rounded(x: f32, scale: f32, largest: f32) -> f32 {
    let steps = if scale > 0.0 { x / scale } else { 0.0 };
    let steps = if steps > largest { largest } else { steps };
    let steps = if steps < -largest { -largest } else { steps };
    (steps + math::NEAREST) - math::NEAREST
}

/// The scale of each column with the least squared quantization error. Clipping a column's few largest weights pays off
/// where it makes the steps of all others finer.
struct BestScales<'a> {
    /// `[inputs, width]`.
    block: &'a [f32],
    width: usize,
    /// The largest quantized weight.
    largest: f32,
}

impl WithKernel for BestScales<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> Vec<f32> {
        let Self { block, width, largest: most } = self;
        let mut largest = vec![0.0f32; width];
        for row in block.chunks_exact(width) {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = if x.abs() > *largest { x.abs() } else { *largest };
            }
        }
        // A column with NaN, an infinity or overflowing errors gets a NaN scale, and so a NaN result.
        let mut best = vec![(f32::INFINITY, f32::NAN); width];
        for part in PARTS_KEPT {
            let scales: Vec<f32> = largest.iter().map(|largest| part * largest / most).collect();
            let mut lost = vec![0.0f32; width];
            for row in block.chunks_exact(width) {
                for ((lost, &x), &scale) in lost.iter_mut().zip(row).zip(&scales) {
                    let difference = x - rounded(x, scale, most) * scale;
                    *lost += difference * difference;
                }
            }
            for ((best, lost), scale) in best.iter_mut().zip(lost).zip(scales) {
                if lost < best.0 {
                    *best = (lost, scale);
                }
            }
        }
        best.into_iter().map(|(_, scale)| scale).collect()
    }
}

/// Quantized input rows, packed tile by tile: the rows of a tile are interleaved octet by octet.
pub struct Int8Rows {
    values: Vec<[u8; OCTET]>,
    /// For each row, those of its groups.
    steps: Vec<Steps>,
    group: usize,
}

/// The quantization parameters of a group of inputs of a row.
#[derive(Clone, Copy)]
struct Steps {
    scale: f32,
    /// The quantized value of zero.
    zero: i32,
}

impl PackedWeight for Int8Matrix {}

impl Panels for Int8Matrix {
    type Rows = Int8Rows;

    fn set(&self) -> InstructionSet {
        self.set
    }

    fn shape(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    fn pack_rows(&self, input: &[f32]) -> Int8Rows {
        self.set.run_bytes(Pack { input, inputs: self.inputs, group: self.group }, self.narrow)
    }

    fn matmul(&self, rows: &Int8Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]) {
        assert_eq!(rows.group, self.group, "weights of one input must have the same groups");
        self.set.run_bytes(Multiply { matrix: self, rows, panels, epilogue, out }, self.narrow);
    }
}

struct Pack<'a> {
    input: &'a [f32],
    inputs: usize,
    group: usize,
}

impl WithBytes for Pack<'_> {
    type Output = Int8Rows;

    #[inline(always)]
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, _simd: S, _bytes: B) -> Int8Rows {
        let Self { input, inputs, group } = self;
        let rows = input.len() / inputs;
        let octets = inputs.div_ceil(OCTET);
        let mut rounded = vec![0u8; rows * octets * OCTET];
        let mut steps = Vec::with_capacity(rows * inputs.div_ceil(group));
        for (row, into) in input.chunks_exact(inputs).zip(rounded.chunks_exact_mut(octets * OCTET)) {
            for (group, into) in row.chunks(group).zip(into.chunks_mut(group)) {
                steps.push(round(group, into, B::STEPS));
            }
        }
        Int8Rows { values: interleave_bytes::<S, B>(&rounded, rows, octets), steps, group }
    }
}

/// Interleaves the rows of each tile octet by octet.
#[inline(always)]
pub(crate) fn interleave_bytes<S: Kernel, B: Bytes<S>>(bytes: &[u8], rows: usize, octets: usize) -> Vec<[u8; OCTET]> {
    let (bytes, _) = bytes.as_chunks::<OCTET>();
    let mut values = vec![[0; OCTET]; rows * octets];
    for tile in tiles(0..rows, B::ROWS) {
        let range = tile.start * octets..tile.end * octets;
        let (from, into) = (&bytes[range.clone()], &mut values[range]);
        with_rows!(tile.len(), B::ROWS, R => interleave::<_, R>(from, octets, into));
    }
    values
}

/// Quantizes a group to steps between its smallest and its largest value; the range includes zero.
#[inline(always)]
fn round(row: &[f32], into: &mut [u8], most: f32) -> Steps {
    let (largest, smallest) = (math::max(row).max(0.0), -math::largest_negative(row).max(0.0));
    let scale = (largest - smallest) / most;
    if !math::sum(row, |x| x).is_finite() {
        return Steps { scale: f32::NAN, zero: 0 };
    }
    if scale == 0.0 {
        return Steps { scale, zero: 0 };
    }
    let (inverse, zero) = (1.0 / scale, (-smallest / scale).round());
    for (into, &x) in into.iter_mut().zip(row) {
        let step = x * inverse + zero;
        let step = if step > most { most } else { step };
        let step = if step < 0.0 { 0.0 } else { step };
        *into = (step + math::NEAREST).to_bits() as u8;
    }
    Steps { scale, zero: zero as i32 }
}

struct Multiply<'a, 'o> {
    matrix: &'a Int8Matrix,
    rows: &'a Int8Rows,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: &'a mut [OutRow<'o>],
}

impl WithBytes for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, simd: S, bytes: B) {
        let Self { matrix, rows, panels, epilogue, out } = self;
        let width = ACROSS * S::F32_LANES;
        let size = quads(matrix.inputs) * width;
        let (octets, groups) = (matrix.inputs.div_ceil(OCTET), matrix.inputs.div_ceil(matrix.group));
        let count = rows.steps.len() / groups.max(1);
        let last = panels.end;
        for (place, panel) in panels.enumerate() {
            let weights = &matrix.panels[panel * size..][..size];
            let next = if panel + 1 < last { &matrix.panels[(panel + 1) * size..][..size] } else { weights };
            let panel = Panel {
                weights,
                next,
                scales: &matrix.scales[panel * width..],
                sums: &matrix.sums[panel * width..],
                every: matrix.scales.len(),
                group: matrix.group / OCTET,
            };
            for tile in tiles(0..count, B::ROWS) {
                let values = &rows.values[tile.start * octets..tile.end * octets];
                let steps = &rows.steps[tile.start * groups..tile.end * groups];
                let out = &mut out[tile.clone()];
                with_rows!(tile.len(), B::ROWS, R => {
                    let numbers = panel.multiply::<S, B, R>(simd, bytes, values, steps);
                    for (row, numbers) in out.iter_mut().zip(numbers) {
                        epilogue.write(simd, numbers, place * width, row);
                    }
                });
            }
        }
    }
}

/// Some columns of a weight.
struct Panel<'a> {
    weights: &'a [i32],
    /// The weights that are needed next.
    next: &'a [i32],
    scales: &'a [f32],
    /// The sums of the columns' weights; those of the next group are `every` numbers further.
    sums: &'a [i32],
    every: usize,
    /// Octets per group.
    group: usize,
}

impl Panel<'_> {
    /// `R` rows times the columns.
    #[inline(always)]
    fn multiply<S: Kernel, B: Bytes<S>, const R: usize>(
        &self,
        simd: S,
        bytes: B,
        values: &[[u8; OCTET]],
        steps: &[Steps],
    ) -> [[S::f32s; ACROSS]; R] {
        let width = ACROSS * S::F32_LANES;
        let (octets, groups) = (values.len() / R, steps.len() / R);
        let scales = load(simd, self.scales);
        let mut numbers = [[simd.splat_f32s(0.0); ACROSS]; R];
        for at in 0..groups {
            let (first, last) = (at * self.group, octets.min((at + 1) * self.group));
            let part = first * 2 * width..last * 2 * width;
            let (weights, next) = (&self.weights[part.clone()], &self.next[part]);
            let products = dot::<S, B, R>(simd, bytes, &values[first * R..last * R], weights, next);
            let (sums, _) = S::as_simd_i32s(&self.sums[at * self.every..][..width]);
            let sums = [sums[0], sums[1]];
            for row in 0..R {
                let Steps { scale, zero } = steps[row * groups + at];
                let (scale, zero) = (simd.splat_f32s(scale), simd.splat_i32s(zero));
                for at in 0..ACROSS {
                    let number = simd.numbers(simd.sub_i32s(products[row][at], simd.mul_i32s(sums[at], zero)));
                    // Not fused, so that every instruction set has the same sum.
                    let number = simd.mul_f32s(number, simd.mul_f32s(scales[at], scale));
                    numbers[row][at] = simd.add_f32s(numbers[row][at], number);
                }
            }
        }
        numbers
    }
}

/// `R` rows times the columns of a panel; meanwhile prefetches the next panel.
#[inline(always)]
fn dot<S: Kernel, B: Bytes<S>, const R: usize>(
    simd: S,
    bytes: B,
    rows: &[[u8; OCTET]],
    panel: &[i32],
    next: &[i32],
) -> [[S::i32s; ACROSS]; R] {
    debug_assert_eq!(panel.len(), next.len(), "panels must have the same size");
    let mut sums = [[simd.splat_i32s(0); ACROSS]; R];
    let (panel, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_i32s(panel).0);
    let (next, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_i32s(next).0);
    let (panel, next) = (panel.as_chunks::<2>().0, next.as_chunks::<2>().0);
    for ((values, [first, second]), next) in rows.as_chunks::<R>().0.iter().zip(panel).zip(next) {
        next.iter().for_each(|next| simd.prefetch(next));
        for (sums, &[a, b, c, d, e, f, g, h]) in sums.iter_mut().zip(values) {
            let values = [[a, b, c, d], [e, f, g, h]].map(|quad| simd.splat_u32s(u32::from_le_bytes(quad)));
            for at in 0..ACROSS {
                sums[at] = bytes.add_products(simd, sums[at], values, [first[at], second[at]]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::matmul::{Matmul, matmul};
    use crate::testing::{close, numbers, product};

    #[test]
    fn products_are_near_those_of_the_weight_and_the_same_on_instruction_sets_of_a_kind() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (9, 64, 50), (70, 384, 40)] {
            let (input, weight) = (numbers(rows * inputs, 4), numbers(inputs * outputs, 5));
            let bias = numbers(outputs, 6);
            let mut results = Vec::new();
            for set in InstructionSet::available() {
                let matrix = Int8Matrix::for_set(set, &weight, [inputs, outputs], inputs);
                let rounded = matrix.unpack();
                let largest = rounded.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let (most, steps) = if set.has_byte_products() { (127.0, 255.0) } else { (63.0, 127.0) };
                // Of a column, up to 30 % may be clipped; here all columns have large weights, so little is.
                assert!(largest <= 0.5 / most + 1e-6, "{set:?}: a weight is off by {largest}");
                let mut out = vec![f32::NAN; rows * outputs];
                matmul(&input, vec![Matmul { bias: Some(&bias), ..Matmul::new(&matrix, &mut out) }], 2);
                let mut positive = vec![f32::NAN; rows * outputs];
                let activation = Some(Activation::Relu);
                matmul(
                    &input,
                    vec![Matmul { bias: Some(&bias), activation, ..Matmul::new(&matrix, &mut positive) }],
                    2,
                );
                assert!(positive.iter().zip(&out).all(|(a, b)| *a == b.max(0.0)), "{set:?}");
                let mut expected = product(&input, &rounded, inputs, outputs);
                for (x, &bias) in expected.iter_mut().zip(bias.iter().cycle()) {
                    *x += f64::from(bias);
                }
                // Half a step of an input range of at most 2, times a weight of at most 1.
                close(&out, &expected, 1.0 / steps * inputs as f64 / 2.0 + 1e-5, &format!("{set:?}, {inputs} inputs"));
                results.push((set, out));
            }
            same_on_sets_of_a_kind(&results);
        }
    }

    /// Results are equal wherever products of bytes are added in the same way.
    fn same_on_sets_of_a_kind(results: &[(InstructionSet, Vec<f32>)]) {
        for (set, result) in results {
            let first = results.iter().find(|(other, _)| other.has_byte_products() == set.has_byte_products());
            assert!(first.is_some_and(|(_, first)| first == result), "{set:?}");
        }
    }

    /// What is quantized to ±127 where products of bytes are added in 32 bits is read wherever they are not, too.
    #[test]
    fn a_weight_quantized_elsewhere_is_taken_as_it_is_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(3, 7, 5), (13, 300, 37)] {
            let values: Vec<i8> = (0..inputs * outputs).map(|at| (at * 7919 % 256) as u8 as i8).collect();
            let mut values: Vec<i8> = values.into_iter().map(|value| value.max(-WIDE)).collect();
            values[..inputs].fill(WIDE);
            let scales: Vec<f32> = (0..outputs).map(|output| 0.01 + output as f32 * 1e-4).collect();
            // Extreme inputs and weights meet.
            let mut input = numbers(rows * inputs, 3);
            input[..inputs].fill(1.0);
            let plain: Vec<f32> = (0..inputs * outputs)
                .map(|at| f32::from(values[at % outputs * inputs + at / outputs]) * scales[at % outputs])
                .collect();
            let expected = product(&input, &plain, inputs, outputs);
            for grouped in [false, true] {
                let mut results = Vec::new();
                for set in InstructionSet::available() {
                    let matrix = Int8Matrix::of_quantized_for(set, &values, &scales, inputs, grouped);
                    assert_eq!(matrix.unpack(), plain, "{set:?}");
                    assert_eq!(matrix.to_quantized(), (values.clone(), scales.clone()), "{set:?}");
                    let mut out = vec![f32::NAN; rows * outputs];
                    let product = Matmul::new(&matrix, &mut out);
                    matmul(&input, vec![product], 2);
                    let most = 127.0 * f64::from(scales[outputs - 1]);
                    close(&out, &expected, most / 127.0 * inputs as f64 / 2.0, &format!("{set:?}"));
                    results.push((set, out));
                }
                same_on_sets_of_a_kind(&results);
            }
        }
    }

    #[test]
    fn a_quantized_weight_is_read_again_as_the_same_matrix() {
        for set in InstructionSet::available() {
            let weight = numbers(70 * 37, 5);
            let matrix = Int8Matrix::for_set(set, &weight, [70, 37], 70);
            let (values, scales) = matrix.to_quantized();
            let again = Int8Matrix::of_quantized_for(set, &values, &scales, 70, false);
            assert!(again.panels == matrix.panels && again.scales == matrix.scales && again.sums == matrix.sums);
            assert_eq!((again.narrow, again.group), (matrix.narrow, matrix.group), "{set:?}");
        }
    }

    /// One group and several, the last one shorter, in rows that fill tiles and not.
    #[test]
    fn groups_with_outliers_leave_the_others_their_steps_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(5, 300, 31), (9, 128, 50), (13, 645, 40), (70, 257, 17)] {
            let (mut input, weight) = (numbers(rows * inputs, 8), numbers(inputs * outputs, 9));
            // One input of each row is so large that a step of the whole row is larger than all others.
            for row in input.chunks_exact_mut(inputs) {
                row[inputs / 2] = 300.0;
            }
            let mut results = Vec::new();
            for set in InstructionSet::available() {
                let exact = Int8Matrix::for_set(set, &weight, [inputs, outputs], inputs).unpack();
                let expected = product(&input, &exact, inputs, outputs);
                let error = |group: usize| {
                    let matrix = Int8Matrix::for_set(set, &weight, [inputs, outputs], group);
                    assert_eq!(matrix.unpack(), exact, "the weights do not depend on groups");
                    let mut out = vec![f32::NAN; rows * outputs];
                    let product = Matmul::new(&matrix, &mut out);
                    matmul(&input, vec![product], 2);
                    let off = |(a, b): (&f32, &f64)| (f64::from(*a) - b).powi(2);
                    let mean = out.iter().zip(&expected).map(off).sum::<f64>() / out.len() as f64;
                    (mean.sqrt(), out)
                };
                let ((whole, _), (grouped, out)) = (error(inputs), error(GROUP));
                // A step is 300 / 127. Of the inputs outside of the outlier's group, one has a step of at most 2 / 127.
                let outside = inputs.saturating_sub(GROUP) as f64 / inputs as f64;
                assert!(grouped <= whole * (1.0 - 0.7 * outside).sqrt() + 1e-9, "{set:?}: {grouped} and {whole}");
                results.push((set, out));
            }
            same_on_sets_of_a_kind(&results);
        }
    }

    #[test]
    #[should_panic = "weights of one input must have the same groups"]
    fn weights_with_other_groups_do_not_share_an_input() {
        let (mut left, mut right) = (vec![0.0; 2], vec![0.0; 2]);
        let [whole, grouped] = [Int8Matrix::new(&[1.0; 512], 256, 2), Int8Matrix::grouped(&[1.0; 512], 256, 2)];
        let product = |weight, out| Matmul::new(weight, out);
        matmul(&[1.0; 256], vec![product(&whole, &mut left[..]), product(&grouped, &mut right[..])], 1);
    }

    #[test]
    fn a_column_gives_up_a_large_weight_for_finer_steps_and_one_that_is_no_number_shows() {
        for set in InstructionSet::available() {
            let mut weight = numbers(2000, 7).iter().map(|x| x.signum() * 0.5).collect::<Vec<f32>>();
            weight[0] = 1.0;
            let kept = Int8Matrix::for_set(set, &weight, [2000, 1], 2000).unpack();
            let lost: f32 = kept.iter().zip(&weight).skip(1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(kept[0] < 0.96 && lost < 0.002, "{set:?}: {} and {lost}", kept[0]);
            for wrong in [f32::NAN, f32::INFINITY] {
                let matrix = Int8Matrix::for_set(set, &[1.0, wrong, 1.0, 1.0], [2, 2], 2);
                let mut out = [0.0; 2];
                let product = Matmul::new(&matrix, &mut out);
                matmul(&[1.0; 2], vec![product], 2);
                assert!((out[0] - 2.0).abs() < 0.1 && out[1].is_nan(), "{set:?}, {wrong}: {out:?}");
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for set in InstructionSet::available() {
            let matrix = Int8Matrix::for_set(set, &[-1.0; 64 * 16], [64, 16], 64);
            let mut out = vec![0.0; 16];
            matmul(&[1.0; 64], vec![Matmul::new(&matrix, &mut out)], 2);
            close(&out, &[-64.0; 16], 1e-3, set.name());
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_stays_none() {
        let matrix = Int8Matrix::new(&[1.0; 8 * 4], 8, 4);
        for (input, finite) in [(0.0, true), (f32::NAN, false), (f32::INFINITY, false)] {
            let mut out = vec![7.0; 4];
            matmul(&[input; 8], vec![Matmul::new(&matrix, &mut out)], 2);
            assert!(out.iter().all(|x| if finite { *x == 0.0 } else { !x.is_finite() }), "{input}: {out:?}");
        }
    }
}
