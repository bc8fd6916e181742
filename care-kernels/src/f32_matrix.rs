//! Matmul with a prepacked f32 weight.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::matmul::{ACROSS, Epilogue, OutRow, PackedWeight, Panels};
use crate::scratch::Scratch;

/// Runs the body with the row count as a constant, so that accumulators stay in registers.
macro_rules! with_rows {
    ($rows:expr, $most:expr, $R:ident => $body:expr) => {
        with_rows!(@ $rows, $most, $R, $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $rows:expr, $most:expr, $R:ident, $body:expr, $($n:literal)*) => {
        match $rows {
            // No code is generated for tiles larger than the instruction set uses.
            $($n => if $n <= $most { const $R: usize = $n; $body } else { unreachable!("a tile of {} rows", $n) },)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use with_rows;

/// Rows of the largest tile on any instruction set.
pub(crate) const MOST_ROWS: usize = 12;

/// Inputs whose weights and values are multiplied together, so that a panel and the rows stay in L2.
const BLOCK_INPUTS: usize = 1024;

/// Columns of the widest panel on any instruction set.
const MOST_WIDTH: usize = 32;

/// Rows per tile: as many as let the accumulators, a row of the weight and a broadcast value fit into registers.
pub(crate) const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { MOST_ROWS } else { 6 }
}

/// Weights with fewer numbers are packed on one thread.
const FEW: usize = 1 << 16;

/// Splits rows into tiles of at most `most` rows and nearly equal height.
#[inline(always)]
pub(crate) fn tiles(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.len().div_ceil(most);
    let (each, longer) = (rows.len() / count.max(1), rows.len() % count.max(1));
    let mut start = rows.start;
    (0..count).map(move |tile| {
        let from = start;
        start += each + usize::from(tile < longer);
        from..start
    })
}

/// A prepacked weight `[inputs, outputs]`: panels of as many columns as a tile has, the last zero-padded.
#[derive(Clone)]
pub struct F32Matrix {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    panels: Vec<f32>,
}

impl F32Matrix {
    /// Packs a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn new(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::for_set(InstructionSet::current(), weight, inputs, outputs)
    }

    /// Packs the transpose, `[outputs, inputs]`, of a row-major weight.
    ///
    /// # Shapes
    /// `weight [inputs, outputs]`.
    ///
    /// # Panics
    /// Panics if the weight has another size.
    pub fn transposed(weight: &[f32], inputs: usize, outputs: usize) -> Self {
        Self::transposed_for_set(InstructionSet::current(), weight, inputs, outputs)
    }

    pub(crate) fn for_set(set: InstructionSet, weight: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(weight.len(), inputs * outputs, "`weight` must be [{inputs}, {outputs}]");
        Self::filled(set, inputs, outputs, |columns, into| {
            let width = ACROSS * set.lanes();
            for (row, into) in weight.chunks_exact(outputs).zip(into.chunks_exact_mut(width)) {
                into[..columns.len()].copy_from_slice(&row[columns.clone()]);
            }
        })
    }

    pub(crate) fn transposed_for_set(set: InstructionSet, weight: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(weight.len(), inputs * outputs, "`weight` must be [{inputs}, {outputs}]");
        Self::filled(set, outputs, inputs, |rows, into| {
            let rows = &weight[rows.start * outputs..rows.end * outputs];
            set.run(PackTransposed { rows, size: outputs, into });
        })
    }

    /// A matrix whose panels `fill` writes: it gets the columns of a panel and the zeroed panel, `[inputs, panel]`.
    fn filled(
        set: InstructionSet,
        inputs: usize,
        outputs: usize,
        fill: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let width = ACROSS * set.lanes();
        let mut panels = vec![0.0; outputs.div_ceil(width) * inputs * width];
        let fill = |(panel, into): (usize, &mut [f32])| fill(panel * width..outputs.min((panel + 1) * width), into);
        if panels.len() < FEW {
            panels.chunks_exact_mut(inputs * width).enumerate().for_each(fill);
        } else {
            panels.par_chunks_exact_mut(inputs * width).enumerate().for_each(fill);
        }
        Self { set, inputs, outputs, panels }
    }

    /// The weight in its original row-major layout.
    pub fn unpack(&self) -> Vec<f32> {
        let width = self.panel_width();
        let mut weight = vec![0.0; self.inputs * self.outputs];
        for (panel, from) in self.panels.chunks_exact(self.inputs * width).enumerate() {
            let start = panel * width;
            for (row, from) in weight.chunks_exact_mut(self.outputs).zip(from.chunks_exact(width)) {
                let into = &mut row[start..];
                let columns = into.len().min(width);
                into[..columns].copy_from_slice(&from[..columns]);
            }
        }
        weight
    }
}

/// Input rows, packed tile by tile: the values of a tile's rows are interleaved input by input. Values that are read
/// together then share a cache line; read from separate rows they often evict each other.
pub struct F32Rows {
    pub(crate) rows: usize,
    pub(crate) values: Scratch,
}

impl F32Rows {
    pub(crate) fn pack(set: InstructionSet, input: &[f32], inputs: usize) -> Self {
        set.run(Pack { input, inputs })
    }
}

impl PackedWeight for F32Matrix {}

impl Panels for F32Matrix {
    type Rows = F32Rows;

    fn set(&self) -> InstructionSet {
        self.set
    }

    fn shape(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    fn pack_rows(&self, input: &[f32]) -> F32Rows {
        F32Rows::pack(self.set, input, self.inputs)
    }

    fn matmul(&self, rows: &F32Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]) {
        let size = self.inputs * self.panel_width();
        let panels = &self.panels[panels.start * size..panels.end * size];
        self.set.run(Multiply { rows, inputs: self.inputs, panels, epilogue, out });
    }
}

struct Pack<'a> {
    input: &'a [f32],
    inputs: usize,
}

impl WithKernel for Pack<'_> {
    type Output = F32Rows;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) -> F32Rows {
        let Self { input, inputs } = self;
        let rows = input.len() / inputs;
        let mut values = Scratch::new(input.len());
        for tile in tiles(0..rows, tile_rows::<S>()) {
            let range = tile.start * inputs..tile.end * inputs;
            let (from, into) = (&input[range.clone()], &mut values[range]);
            with_rows!(tile.len(), tile_rows::<S>(), R => interleave::<_, R>(from, inputs, into));
        }
        F32Rows { rows, values }
    }
}

/// Numbers of a row that are transposed together: a cache line.
const LINE: usize = 16;

/// Packs a panel of the transpose: interleaves as many rows as the panel has columns.
struct PackTransposed<'a> {
    /// `[columns, size]`.
    rows: &'a [f32],
    size: usize,
    /// `[size, panel]`.
    into: &'a mut [f32],
}

impl WithKernel for PackTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) {
        let Self { rows, size, into } = self;
        let width = ACROSS * S::F32_LANES;
        // Rows are often a multiple of a page apart, so their lines would evict each other before they are used up.
        let mut block = [[0.0; LINE]; MOST_WIDTH];
        for (number, into) in into.chunks_mut(LINE * width).enumerate() {
            let line = number * LINE..size.min((number + 1) * LINE);
            for (block, row) in block.iter_mut().zip(rows.chunks_exact(size)) {
                block[..line.len()].copy_from_slice(&row[line.clone()]);
            }
            for (at, into) in into.chunks_exact_mut(width).enumerate() {
                for (into, block) in into.iter_mut().zip(&block) {
                    *into = block[at];
                }
            }
        }
    }
}

/// Interleaves `R` rows that start `stride` values apart.
#[inline(always)]
pub(crate) fn interleave<T: Copy, const R: usize>(rows: &[T], stride: usize, into: &mut [T]) {
    let (into, _) = into.as_chunks_mut::<R>();
    let mut apart = [&rows[..0]; R];
    for (number, row) in apart.iter_mut().enumerate() {
        *row = &rows[number * stride..][..into.len()];
    }
    for (at, into) in into.iter_mut().enumerate() {
        for (into, row) in into.iter_mut().zip(apart) {
            *into = row[at];
        }
    }
}

/// `R` rows times the columns of a panel; meanwhile prefetches the next panel.
#[inline(always)]
pub(crate) fn dot<S: Kernel, const R: usize>(
    simd: S,
    rows: &[f32],
    panel: &[f32],
    next: &[f32],
) -> [[S::f32s; ACROSS]; R] {
    let mut sums = [[simd.splat_f32s(0.0); ACROSS]; R];
    add_dot(simd, rows, panel, next, &mut sums);
    sums
}

/// Adds to `sums` what [`dot`] computes.
#[inline(always)]
fn add_dot<S: Kernel, const R: usize>(
    simd: S,
    rows: &[f32],
    panel: &[f32],
    next: &[f32],
    sums: &mut [[S::f32s; ACROSS]; R],
) {
    debug_assert_eq!(panel.len(), next.len(), "panels must have the same size");
    let (panel, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(panel).0);
    let (next, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(next).0);
    for ((values, &[left, right]), next) in rows.as_chunks::<R>().0.iter().zip(panel).zip(next) {
        simd.prefetch(next);
        for (sums, &value) in sums.iter_mut().zip(values) {
            let value = simd.splat_f32s(value);
            sums[0] = simd.add_product(value, left, sums[0]);
            sums[1] = simd.add_product(value, right, sums[1]);
        }
    }
}

struct Multiply<'a, 'o> {
    rows: &'a F32Rows,
    inputs: usize,
    panels: &'a [f32],
    epilogue: Epilogue<'a>,
    out: &'a mut [OutRow<'o>],
}

impl WithKernel for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let Self { rows, inputs, panels, epilogue, out } = self;
        let width = ACROSS * S::F32_LANES;
        let size = inputs * width;
        for panel in 0..panels.len() / size {
            let first = panel * width;
            for block in tiles(0..inputs, BLOCK_INPUTS) {
                let (start, count) = (panel * size + block.start * width, block.len() * width);
                let weights = &panels[start..start + count];
                let next = panels.get(start + count..start + 2 * count).unwrap_or(weights);
                for tile in tiles(0..rows.rows, tile_rows::<S>()) {
                    let from = tile.start * inputs + block.start * tile.len();
                    let values = &rows.values[from..from + block.len() * tile.len()];
                    let mut products = [[simd.splat_f32s(0.0); ACROSS]; MOST_ROWS];
                    // Sums go on where they stopped, so that blocks change no bit.
                    if block.start > 0 {
                        for (sums, row) in products.iter_mut().zip(&out[tile.clone()]) {
                            *sums = row.load(simd, first);
                        }
                    }
                    with_rows!(tile.len(), tile_rows::<S>(), R => {
                        let mut sums = [[simd.splat_f32s(0.0); ACROSS]; R];
                        sums.copy_from_slice(&products[..R]);
                        add_dot::<S, R>(simd, values, weights, next, &mut sums);
                        products[..R].copy_from_slice(&sums);
                    });
                    for (sums, row) in products.into_iter().zip(&mut out[tile]) {
                        if block.end == inputs {
                            epilogue.write(simd, sums, first, row);
                        } else {
                            row.store(simd, sums, first);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::matmul::{Matmul, matmul};
    use crate::testing::{close, numbers, product};

    #[test]
    fn products_are_those_of_the_definition_on_every_instruction_set() {
        for set in InstructionSet::available() {
            for (rows, inputs, outputs) in
                [(1, 1, 1), (1, 5, 3), (7, 64, 48), (13, 33, 50), (20, 300, 70), (70, 40, 100), (200, 60, 35)]
            {
                let (input, weight) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
                let bias = numbers(outputs, 3);
                let matrix = F32Matrix::for_set(set, &weight, inputs, outputs);
                assert_eq!(matrix.unpack(), weight);
                let mut plain = vec![f32::NAN; rows * outputs];
                let mut finished = vec![f32::NAN; rows * outputs];
                matmul(
                    &input,
                    vec![
                        Matmul::new(&matrix, &mut plain),
                        Matmul {
                            bias: Some(&bias),
                            activation: Some(Activation::Relu),
                            ..Matmul::new(&matrix, &mut finished)
                        },
                    ],
                    2,
                );
                let expected = product(&input, &weight, inputs, outputs);
                let what = format!("{set:?}, {rows} x {inputs} x {outputs}");
                close(&plain, &expected, 1e-5, &what);
                let expected: Vec<f64> =
                    expected.iter().zip(bias.iter().cycle()).map(|(x, &b)| (x + f64::from(b)).max(0.0)).collect();
                close(&finished, &expected, 1e-5, &what);
            }
        }
    }

    #[test]
    fn wide_inputs_are_multiplied_block_by_block_without_a_gap() {
        let (rows, inputs, outputs) = (14, 2 * BLOCK_INPUTS + 452, 35);
        // Sums of small integers are exact.
        let whole = |count, seed| numbers(count, seed).into_iter().map(|x| (x * 8.0).round()).collect::<Vec<f32>>();
        let (input, weight) = (whole(rows * inputs, 1), whole(inputs * outputs, 2));
        for set in InstructionSet::available() {
            let matrix = F32Matrix::for_set(set, &weight, inputs, outputs);
            let mut out = vec![f32::NAN; rows * outputs];
            matmul(&input, vec![Matmul::new(&matrix, &mut out)], 2);
            close(&out, &product(&input, &weight, inputs, outputs), 0.0, &format!("{set:?}"));
        }
    }

    #[test]
    fn a_transposed_weight_is_packed_as_its_transpose() {
        for set in InstructionSet::available() {
            for (inputs, outputs) in [(1, 1), (5, 3), (48, 64), (33, 17), (300, 400)] {
                let weight = numbers(inputs * outputs, 1);
                let transpose: Vec<f32> =
                    (0..outputs * inputs).map(|at| weight[at % inputs * outputs + at / inputs]).collect();
                let packed = F32Matrix::transposed_for_set(set, &weight, inputs, outputs);
                assert_eq!((packed.inputs(), packed.outputs()), (outputs, inputs));
                assert_eq!(packed.unpack(), transpose, "{set:?}, {inputs} x {outputs}");
                assert_eq!(packed.panels, F32Matrix::for_set(set, &transpose, outputs, inputs).panels);
            }
        }
    }

    #[test]
    fn tiles_cover_the_rows_in_order() {
        for (rows, most) in [(0, 6), (1, 6), (6, 6), (7, 6), (16, 6), (100, 12)] {
            let tiles: Vec<_> = tiles(3..3 + rows, most).collect();
            assert!(tiles.iter().all(|tile| (1..=most).contains(&tile.len())));
            assert_eq!(tiles.into_iter().flatten().collect::<Vec<_>>(), (3..3 + rows).collect::<Vec<_>>());
        }
    }
}
