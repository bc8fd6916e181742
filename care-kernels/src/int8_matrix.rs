//! Matmul with a prepacked int8-quantized weight.

use std::ops::Range;

use pulp::Simd;

use crate::f32_matrix::{MOST_ROWS, interleave, tiles, with_rows};
use crate::instructions::{InstructionSet, Kernel, WithKernel};
use crate::math;
use crate::matmul::{ACROSS, Epilogue, OutRow, PackedWeight, Panels, load};

/// The largest quantized weight, and the largest quantized input. The sum of four of their products fits into a signed
/// 16-bit integer, in which x86 adds them.
const LARGEST: f32 = 63.0;
const STEPS: f32 = 127.0;

/// Candidate clipping points of a column, as fractions of its largest absolute value.
const PARTS_KEPT: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7];

/// Inputs whose weights share one 32-bit integer.
const QUAD: usize = 4;

/// Inputs whose products one instruction sequence adds.
const OCTET: usize = 2 * QUAD;

/// Inputs per group of [`Int8Matrix::grouped`], whole octets.
const GROUP: usize = 128;

/// A prepacked weight `[inputs, outputs]`, quantized to integers from -63 to 63 with one scale per column.
///
/// Each input row is quantized to 128 steps between its smallest and its largest value when it is multiplied, and the
/// products are summed exactly. So the result of a matmul depends neither on the instruction set nor on the other rows;
/// a fused activation may differ between instruction sets in the last bit.
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

    pub(crate) fn for_set(set: InstructionSet, weight: &[f32], shape: [usize; 2], group: usize) -> Self {
        let [inputs, outputs] = shape;
        let group = group.next_multiple_of(OCTET).max(OCTET);
        assert_eq!(weight.len(), inputs * outputs, "`weight` must be [{inputs}, {outputs}]");
        let width = ACROSS * set.lanes();
        let filled = outputs.next_multiple_of(width);
        let mut scales = set.run(BestScales { weight, outputs });
        scales.resize(filled, 0.0);
        let quads = quads(inputs);
        let mut panels = vec![0i32; filled * quads];
        let mut sums = vec![0i32; filled * inputs.div_ceil(group)];
        for (input, row) in weight.chunks_exact(outputs).enumerate() {
            for (column, &x) in row.iter().enumerate() {
                let rounded = rounded(x, scales[column]) as i8;
                sums[input / group * filled + column] += i32::from(rounded);
                let at = (column / width * quads + input / QUAD) * width + column % width;
                panels[at] |= i32::from(rounded as u8) << (8 * (input % QUAD));
            }
        }
        Self { set, inputs, outputs, panels, scales, group, sums }
    }

    /// The dequantized weight, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let width = self.panel_width();
        let quads = quads(self.inputs);
        let mut weight = vec![0.0; self.inputs * self.outputs];
        for (input, row) in weight.chunks_exact_mut(self.outputs).enumerate() {
            for (column, x) in row.iter_mut().enumerate() {
                let at = (column / width * quads + input / QUAD) * width + column % width;
                let rounded = self.panels[at].to_le_bytes()[input % QUAD] as i8;
                *x = f32::from(rounded) * self.scales[column];
            }
        }
        weight
    }
}

/// Integers that hold the weights of one column.
fn quads(inputs: usize) -> usize {
    inputs.div_ceil(OCTET) * OCTET / QUAD
}

/// Quantizes a weight, clipping at ±[`LARGEST`].
#[inline(always)]
fn rounded(x: f32, scale: f32) -> f32 {
    let steps = if scale > 0.0 { x / scale } else { 0.0 };
    let steps = if steps > LARGEST { LARGEST } else { steps };
    let steps = if steps < -LARGEST { -LARGEST } else { steps };
    (steps + math::NEAREST) - math::NEAREST
}

/// The scale of each column with the least squared quantization error. Clipping a column's few largest weights pays off
/// where it makes the steps of all others finer.
struct BestScales<'a> {
    weight: &'a [f32],
    outputs: usize,
}

impl WithKernel for BestScales<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> Vec<f32> {
        let Self { weight, outputs } = self;
        let mut largest = vec![0.0f32; outputs];
        for row in weight.chunks_exact(outputs) {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = if x.abs() > *largest { x.abs() } else { *largest };
            }
        }
        // A column with NaN, an infinity or overflowing errors gets a NaN scale, and so a NaN result.
        let mut best = vec![(f32::INFINITY, f32::NAN); outputs];
        for part in PARTS_KEPT {
            let scales: Vec<f32> = largest.iter().map(|largest| part * largest / LARGEST).collect();
            let mut lost = vec![0.0f32; outputs];
            for row in weight.chunks_exact(outputs) {
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

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn panel_width(&self) -> usize {
        ACROSS * self.set.lanes()
    }

    fn pack_rows(&self, input: &[f32]) -> Int8Rows {
        self.set.run(Pack { input, inputs: self.inputs, group: self.group })
    }

    fn matmul(&self, rows: &Int8Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]) {
        assert_eq!(rows.group, self.group, "weights of one input must have the same groups");
        self.set.run(Multiply { matrix: self, rows, panels, epilogue, out });
    }
}

/// Rows per tile: as many as leave registers for the intermediate products beside the accumulators.
const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 4 }
}

struct Pack<'a> {
    input: &'a [f32],
    inputs: usize,
    group: usize,
}

impl WithKernel for Pack<'_> {
    type Output = Int8Rows;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> Int8Rows {
        let Self { input, inputs, group } = self;
        let rows = input.len() / inputs;
        let octets = inputs.div_ceil(OCTET);
        let mut rounded = vec![0u8; rows * octets * OCTET];
        let mut steps = Vec::with_capacity(rows * inputs.div_ceil(group));
        for (row, into) in input.chunks_exact(inputs).zip(rounded.chunks_exact_mut(octets * OCTET)) {
            for (group, into) in row.chunks(group).zip(into.chunks_mut(group)) {
                steps.push(round(group, into));
            }
        }
        let (rounded, _) = rounded.as_chunks::<OCTET>();
        let mut values = vec![[0; OCTET]; rows * octets];
        for tile in tiles(0..rows, tile_rows::<S>()) {
            let range = tile.start * octets..tile.end * octets;
            let (from, into) = (&rounded[range.clone()], &mut values[range]);
            with_rows!(tile.len(), tile_rows::<S>(), R => interleave::<_, R>(from, octets, into));
        }
        Int8Rows { values, steps, group }
    }
}

/// Quantizes a group to steps between its smallest and its largest value; the range includes zero.
#[inline(always)]
fn round(row: &[f32], into: &mut [u8]) -> Steps {
    let (largest, smallest) = (math::max(row).max(0.0), -math::largest_negative(row).max(0.0));
    let scale = (largest - smallest) / STEPS;
    if !math::sum(row, |x| x).is_finite() {
        return Steps { scale: f32::NAN, zero: 0 };
    }
    if scale == 0.0 {
        return Steps { scale, zero: 0 };
    }
    let (inverse, zero) = (1.0 / scale, (-smallest / scale).round());
    for (into, &x) in into.iter_mut().zip(row) {
        let step = x * inverse + zero;
        let step = if step > STEPS { STEPS } else { step };
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

impl WithKernel for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let Self { matrix, rows, panels, epilogue, out } = self;
        let width = ACROSS * S::F32_LANES;
        let (quads, octets) = (quads(matrix.inputs), matrix.inputs.div_ceil(OCTET));
        let (group, groups) = (matrix.group / OCTET, matrix.inputs.div_ceil(matrix.group));
        let count = rows.steps.len() / groups;
        let last = panels.end;
        for (place, panel) in panels.enumerate() {
            let size = quads * width;
            let weights = &matrix.panels[panel * size..][..size];
            let next = if panel + 1 < last { &matrix.panels[(panel + 1) * size..][..size] } else { weights };
            let scales = load(simd, &matrix.scales[panel * width..]);
            for tile in tiles(0..count, tile_rows::<S>()) {
                let values = &rows.values[tile.start * octets..tile.end * octets];
                let mut numbers = [[simd.splat_f32s(0.0); ACROSS]; MOST_ROWS];
                for at in 0..groups {
                    let (first, last) = (at * group, octets.min((at + 1) * group));
                    let part = first * 2 * width..last * 2 * width;
                    let (weights, next) = (&weights[part.clone()], &next[part]);
                    let values = &values[first * tile.len()..last * tile.len()];
                    let mut products = [[simd.splat_i32s(0); ACROSS]; MOST_ROWS];
                    with_rows!(tile.len(), tile_rows::<S>(), R => {
                        products[..R].copy_from_slice(&dot::<S, R>(simd, values, weights, next));
                    });
                    let (sums, _) = S::as_simd_i32s(&matrix.sums[at * matrix.scales.len() + panel * width..][..width]);
                    let steps = rows.steps[tile.start * groups + at..].iter().step_by(groups);
                    for ((numbers, steps), products) in numbers[..tile.len()].iter_mut().zip(steps).zip(products) {
                        for at in 0..ACROSS {
                            let zeros = simd.mul_i32s(sums[at], simd.splat_i32s(steps.zero));
                            let number = simd.numbers(simd.sub_i32s(products[at], zeros));
                            let scale = simd.mul_f32s(scales[at], simd.splat_f32s(steps.scale));
                            // Not fused, so that every instruction set has the same sum.
                            numbers[at] = simd.add_f32s(numbers[at], simd.mul_f32s(number, scale));
                        }
                    }
                }
                for (row, numbers) in out[tile].iter_mut().zip(numbers) {
                    epilogue.write(simd, numbers, place * width, row);
                }
            }
        }
    }
}

/// `R` rows times the columns of a panel; meanwhile prefetches the next panel.
#[inline(always)]
fn dot<S: Kernel, const R: usize>(
    simd: S,
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
                sums[at] = simd.add_products(sums[at], values, [first[at], second[at]]);
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
    fn products_are_near_those_of_the_weight_and_the_same_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (9, 64, 50), (70, 384, 40)] {
            let (input, weight) = (numbers(rows * inputs, 4), numbers(inputs * outputs, 5));
            let bias = numbers(outputs, 6);
            let mut results = Vec::new();
            for set in InstructionSet::available() {
                let matrix = Int8Matrix::for_set(set, &weight, [inputs, outputs], inputs);
                let rounded = matrix.unpack();
                let largest = rounded.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest <= 0.5 / 63.0 + 1e-6, "a weight is off by {largest}");
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
                close(&out, &expected, 1.0 / 127.0 * inputs as f64 / 2.0 + 1e-5, &format!("{set:?}, {inputs} inputs"));
                results.push(out);
            }
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{rows} x {inputs} x {outputs}");
        }
    }

    /// One group and several, the last one shorter, in rows that fill tiles and not.
    #[test]
    fn groups_with_outliers_leave_the_others_their_steps_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(5, 300, 31), (9, 128, 50), (13, 645, 40), (70, 257, 17)] {
            let (mut input, weight) = (numbers(rows * inputs, 8), numbers(inputs * outputs, 9));
            let exact = Int8Matrix::new(&weight, inputs, outputs).unpack();
            // One input of each row is so large that a step of the whole row is larger than all others.
            for row in input.chunks_exact_mut(inputs) {
                row[inputs / 2] = 300.0;
            }
            let expected = product(&input, &exact, inputs, outputs);
            let mut results = Vec::new();
            for set in InstructionSet::available() {
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
                results.push(out);
            }
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{rows} x {inputs} x {outputs}");
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
