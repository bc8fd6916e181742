//! Products with a weight of one byte a number.

use std::ops::Range;

use pulp::{Scalar128b, Simd};

use super::InstructionSet;
use super::instructions::{Kernel, WithKernel};
use super::math;
use super::matmul::{MOST_ROWS, tiles, with_rows};
use super::multiply::{ACROSS, Epilogue, PackedWeight, load};

/// The largest weight. Two products of an input, at most 255, with such a weight fit into 16 bits with a sign, which is
/// what x86 adds them in.
const LARGEST: f32 = 63.0;

/// Inputs whose products are added at once.
const QUAD: usize = 4;

/// A weight `[inputs, outputs]` in whole numbers from -63 to 63, each column with a scale of its own.
///
/// An input row is rounded to 256 steps between its smallest and its largest number when it is multiplied, and the
/// products are added without further rounding. So a result depends neither on the instruction set nor on the rows
/// beside it.
#[derive(Clone)]
pub struct Int8Matrix {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    /// Panels as in [`super::F32Matrix`], but with four inputs of a column in one number.
    panels: Vec<i32>,
    /// What 1 stands for, for each column, the last panel filled up.
    scales: Vec<f32>,
    /// The sum of each column, a whole number.
    sums: Vec<f32>,
}

impl Int8Matrix {
    /// Rounds a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// When the weight has another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::for_set(InstructionSet::current(), weight, inputs, outputs)
    }

    pub(super) fn for_set(set: InstructionSet, weight: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(weight.len(), inputs * outputs, "a weight of {inputs} x {outputs}");
        let width = ACROSS * set.lanes();
        let filled = outputs.next_multiple_of(width);
        let mut scales = vec![0.0f32; filled];
        for row in weight.chunks_exact(outputs) {
            for (scale, &x) in scales.iter_mut().zip(row) {
                *scale = scale.max(x.abs() / LARGEST);
            }
        }
        let quads = inputs.div_ceil(QUAD);
        let mut panels = vec![0i32; filled * quads];
        let mut sums = vec![0.0; filled];
        for (input, row) in weight.chunks_exact(outputs).enumerate() {
            for (column, &x) in row.iter().enumerate() {
                let rounded = if scales[column] > 0.0 { (x / scales[column]).round() as i8 } else { 0 };
                sums[column] += f32::from(rounded);
                let at = (column / width * quads + input / QUAD) * width + column % width;
                panels[at] |= i32::from(rounded as u8) << (8 * (input % QUAD));
            }
        }
        Self { set, inputs, outputs, panels, scales, sums }
    }

    /// The weight that the rounded numbers stand for.
    pub fn unpack(&self) -> Vec<f32> {
        let width = self.panel_width();
        let quads = self.inputs.div_ceil(QUAD);
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

/// Rows of an input in 256 steps, tile by tile: for each four inputs, the tile's rows side by side.
pub struct Int8Rows {
    values: Vec<u32>,
    steps: Vec<Steps>,
}

/// What the steps of an input row stand for.
#[derive(Clone, Copy)]
struct Steps {
    scale: f32,
    /// The step of zero, a whole number.
    zero: f32,
}

impl PackedWeight for Int8Matrix {
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

    fn pack(&self, input: &[f32]) -> Int8Rows {
        self.set.run(Pack { input, inputs: self.inputs })
    }

    fn multiply(&self, rows: &Int8Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [&mut [f32]]) {
        self.set.run(Multiply { matrix: self, rows, panels, epilogue, out });
    }
}

/// Rows of a tile, so that its accumulators fit into registers beside what the products pass through.
const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 4 }
}

struct Pack<'a> {
    input: &'a [f32],
    inputs: usize,
}

impl WithKernel for Pack<'_> {
    type Output = Int8Rows;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> Int8Rows {
        let Self { input, inputs } = self;
        let rows = input.len() / inputs;
        let quads = inputs.div_ceil(QUAD);
        let mut rounded = vec![0u8; rows * quads * QUAD];
        let mut steps = Vec::with_capacity(rows);
        for (row, into) in input.chunks_exact(inputs).zip(rounded.chunks_exact_mut(quads * QUAD)) {
            steps.push(round(row, into));
        }
        let mut values = vec![0u32; rows * quads];
        for tile in tiles(0..rows, tile_rows::<S>()) {
            let from = &rounded[tile.start * quads * QUAD..tile.end * quads * QUAD];
            let into = &mut values[tile.start * quads..tile.end * quads];
            with_rows!(tile.len(), tile_rows::<S>(), R => {
                let quads_of = |row: usize| &from.as_chunks::<QUAD>().0[row * quads..][..quads];
                let rows: [&[[u8; QUAD]]; R] = std::array::from_fn(quads_of);
                for (at, into) in into.as_chunks_mut::<R>().0.iter_mut().enumerate() {
                    for (into, row) in into.iter_mut().zip(rows) {
                        *into = u32::from_le_bytes(row[at]);
                    }
                }
            });
        }
        Int8Rows { values, steps }
    }
}

/// Rounds a row to steps between its smallest and its largest number, zero included.
#[inline(always)]
fn round(row: &[f32], into: &mut [u8]) -> Steps {
    /// Adding it leaves the nearest whole number in the low bits.
    const NEAREST: f32 = 12_582_912.0;
    let (largest, smallest) = (math::max(row).max(0.0), -math::largest_negative(row).max(0.0));
    let scale = (largest - smallest) / 255.0;
    if !math::sum(row, |x| x).is_finite() {
        return Steps { scale: f32::NAN, zero: 0.0 };
    }
    if scale == 0.0 {
        return Steps { scale, zero: 0.0 };
    }
    let (inverse, zero) = (1.0 / scale, (-smallest / scale).round());
    for (into, &x) in into.iter_mut().zip(row) {
        let step = x * inverse + zero;
        let step = if step > 255.0 { 255.0 } else { step };
        let step = if step < 0.0 { 0.0 } else { step };
        *into = (step + NEAREST).to_bits() as u8;
    }
    Steps { scale, zero }
}

struct Multiply<'a, 'o> {
    matrix: &'a Int8Matrix,
    rows: &'a Int8Rows,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: &'a mut [&'o mut [f32]],
}

impl WithKernel for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let Self { matrix, rows, panels, epilogue, out } = self;
        let width = ACROSS * S::F32_LANES;
        let quads = matrix.inputs.div_ceil(QUAD);
        for (place, panel) in panels.enumerate() {
            let size = quads * width;
            let weights = &matrix.panels[panel * size..][..size];
            let next = matrix.panels.get((panel + 1) * size..(panel + 2) * size).unwrap_or(weights);
            let scales = load(simd, &matrix.scales[panel * width..]);
            let sums = load(simd, &matrix.sums[panel * width..]);
            for tile in tiles(0..rows.steps.len(), tile_rows::<S>()) {
                let values = &rows.values[tile.start * quads..tile.end * quads];
                let mut products = [[simd.splat_i32s(0); ACROSS]; MOST_ROWS];
                with_rows!(tile.len(), tile_rows::<S>(), R => {
                    products[..R].copy_from_slice(&dot::<S, R>(simd, values, weights, next));
                });
                for ((row, steps), products) in out[tile.clone()].iter_mut().zip(&rows.steps[tile]).zip(products) {
                    let mut numbers = [simd.splat_f32s(0.0); ACROSS];
                    for at in 0..ACROSS {
                        let zeros = simd.mul_f32s(sums[at], simd.splat_f32s(steps.zero));
                        let number = simd.sub_f32s(simd.numbers(products[at]), zeros);
                        numbers[at] = simd.mul_f32s(number, simd.mul_f32s(scales[at], simd.splat_f32s(steps.scale)));
                    }
                    epilogue.write(simd, numbers, place * width, row);
                }
            }
        }
    }
}

/// The products of `R` rows with the columns of a panel. Meanwhile another panel is called into the cache.
#[inline(always)]
fn dot<S: Kernel, const R: usize>(simd: S, rows: &[u32], panel: &[i32], next: &[i32]) -> [[S::i32s; ACROSS]; R] {
    let mut sums = [[simd.splat_i32s(0); ACROSS]; R];
    let (panel, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_i32s(panel).0);
    let (next, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_i32s(next).0);
    for ((values, &[left, right]), next) in rows.as_chunks::<R>().0.iter().zip(panel).zip(next) {
        simd.prefetch(next);
        for (sums, &value) in sums.iter_mut().zip(values) {
            let value = simd.splat_u32s(value);
            sums[0] = simd.add_products(sums[0], value, left);
            sums[1] = simd.add_products(sums[1], value, right);
        }
    }
    sums
}

/// What the kernels need beside [`Simd`].
pub(in crate::kernels) trait AddProducts: Simd {
    /// `a b + c`, rounded once or twice, whichever is faster.
    #[inline(always)]
    fn add_product(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }

    /// Adds to each number the four products of the bytes of `values`, without sign, and those of `weights`, with sign.
    fn add_products(self, sums: Self::i32s, values: Self::u32s, weights: Self::i32s) -> Self::i32s;

    /// Whole numbers as floating-point ones.
    fn numbers(self, whole: Self::i32s) -> Self::f32s;

    /// Calls what is read next into the cache, where the processor can be asked to.
    #[inline(always)]
    fn prefetch<T>(self, _next: &T) {}
}

impl AddProducts for Scalar128b {
    #[inline(always)]
    fn add_product(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        // A fused one is a function call where the processor may not have it.
        self.add_f32s(self.mul_f32s(a, b), c)
    }

    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: Self::u32s, weights: Self::i32s) -> Self::i32s {
        let (mut sums, values, weights): ([i32; 4], [[u8; 4]; 4], [[i8; 4]; 4]) =
            (pulp::cast(sums), pulp::cast(values), pulp::cast(weights));
        for ((sum, values), weights) in sums.iter_mut().zip(values).zip(weights) {
            *sum += (0..QUAD).map(|at| i32::from(values[at]) * i32::from(weights[at])).sum::<i32>();
        }
        pulp::cast(sums)
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        let whole: [i32; 4] = pulp::cast(whole);
        pulp::cast(whole.map(|x| x as f32))
    }
}

#[cfg(target_arch = "aarch64")]
impl AddProducts for pulp::aarch64::Neon {
    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: Self::u32s, weights: Self::i32s) -> Self::i32s {
        pulp::cast(Scalar128b.add_products(pulp::cast(sums), pulp::cast(values), pulp::cast(weights)))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(Scalar128b.numbers(pulp::cast(whole)))
    }
}

#[cfg(target_arch = "x86_64")]
impl AddProducts for pulp::x86::V3 {
    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: Self::u32s, weights: Self::i32s) -> Self::i32s {
        let pairs = self.avx2._mm256_maddubs_epi16(pulp::cast(values), pulp::cast(weights));
        let quads = self.avx2._mm256_madd_epi16(pairs, self.avx._mm256_set1_epi16(1));
        pulp::cast(self.avx2._mm256_add_epi32(pulp::cast(sums), quads))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx._mm256_cvtepi32_ps(pulp::cast(whole)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &T) {
        safe_arch::prefetch_t0(next);
    }
}

#[cfg(target_arch = "x86_64")]
impl AddProducts for pulp::x86::V4 {
    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: Self::u32s, weights: Self::i32s) -> Self::i32s {
        let pairs = self.avx512bw._mm512_maddubs_epi16(pulp::cast(values), pulp::cast(weights));
        let quads = self.avx512bw._mm512_madd_epi16(pairs, self.avx512f._mm512_set1_epi16(1));
        pulp::cast(self.avx512f._mm512_add_epi32(pulp::cast(sums), quads))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx512f._mm512_cvtepi32_ps(pulp::cast(whole)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &T) {
        safe_arch::prefetch_t0(next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::multiply::{Product, multiply};
    use super::super::testing::{close, numbers, product};
    use super::*;

    #[test]
    fn products_are_near_those_of_the_weight_and_the_same_on_every_instruction_set() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (9, 64, 50), (70, 384, 40)] {
            let (input, weight) = (numbers(rows * inputs, 4), numbers(inputs * outputs, 5));
            let bias = numbers(outputs, 6);
            let mut results = Vec::new();
            for set in InstructionSet::available() {
                let matrix = Int8Matrix::for_set(set, &weight, inputs, outputs);
                let rounded = matrix.unpack();
                let largest = rounded.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest <= 0.5 / 63.0 + 1e-6, "a weight is off by {largest}");
                let mut out = vec![f32::NAN; rows * outputs];
                multiply(&input, vec![Product { weight: &matrix, bias: Some(&bias), activation: None, out: &mut out }]);
                let mut expected = product(&input, &rounded, inputs, outputs);
                for (x, &bias) in expected.iter_mut().zip(bias.iter().cycle()) {
                    *x += f64::from(bias);
                }
                // Half a step of an input of 2 at most, times a weight of 1 at most.
                close(&out, &expected, 1.0 / 255.0 * inputs as f64 / 2.0 + 1e-5, &format!("{set:?}, {inputs} inputs"));
                results.push(out);
            }
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{rows} x {inputs} x {outputs}");
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for set in InstructionSet::available() {
            let matrix = Int8Matrix::for_set(set, &[-1.0; 64 * 16], 64, 16);
            let mut out = vec![0.0; 16];
            multiply(&[1.0; 64], vec![Product { weight: &matrix, bias: None, activation: None, out: &mut out }]);
            close(&out, &[-64.0; 16], 1e-3, set.name());
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_stays_none() {
        let matrix = Int8Matrix::new(&[1.0; 8 * 4], 8, 4);
        for (input, finite) in [(0.0, true), (f32::NAN, false), (f32::INFINITY, false)] {
            let mut out = vec![7.0; 4];
            multiply(&[input; 8], vec![Product { weight: &matrix, bias: None, activation: None, out: &mut out }]);
            assert!(out.iter().all(|x| if finite { *x == 0.0 } else { !x.is_finite() }), "{input}: {out:?}");
        }
    }
}
