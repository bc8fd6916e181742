//! Matmul of one input with one or several prepacked weights, divided among threads.

use std::ops::Range;
use std::sync::OnceLock;

use pulp::Simd;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::instructions::InstructionSet;
use crate::kernel::Kernel;
use crate::math;

/// Vectors of accumulators per row of a tile.
pub(crate) const ACROSS: usize = 2;

/// A weight matrix prepacked for a kernel: [`F32Matrix`](crate::F32Matrix), [`HalfMatrix`](crate::HalfMatrix),
/// [`Int8Matrix`](crate::Int8Matrix) or [`Int4Matrix`](crate::Int4Matrix).
///
/// The trait is sealed.
pub trait PackedWeight: Panels {}

/// What [`matmul`] needs of a prepacked weight. It is public in a private module, which seals [`PackedWeight`].
pub trait Panels: Sync {
    /// Input rows in the layout the kernel reads.
    type Rows: Send + Sync;

    /// The instruction set that the weight is packed for.
    fn set(&self) -> InstructionSet;

    /// Sizes of an input row and of an output row.
    fn shape(&self) -> [usize; 2];

    /// Size of an input row.
    fn inputs(&self) -> usize {
        self.shape()[0]
    }

    /// Size of an output row.
    fn outputs(&self) -> usize {
        self.shape()[1]
    }

    /// Columns that are computed together.
    fn panel_width(&self) -> usize {
        ACROSS * self.set().lanes()
    }

    /// Packs input rows, `[rows, inputs]`, for every weight of this kind. Must not wait for other threads.
    fn pack_rows(&self, input: &[f32]) -> Self::Rows;

    /// Computes the columns of `panels` for all rows; `out` holds these columns only.
    fn matmul(&self, rows: &Self::Rows, panels: Range<usize>, epilogue: Epilogue<'_>, out: &mut [OutRow<'_>]);
}

/// Some columns of an output row, and what belongs to them.
pub struct OutRow<'a> {
    out: &'a mut [f32],
    derivative: Option<&'a mut [f32]>,
    factor: Option<&'a [f32]>,
}

impl<'a> OutRow<'a> {
    /// The numbers from `first` on, which [`OutRow::store`] has written; missing ones are zero.
    #[inline(always)]
    pub(crate) fn load<S: Kernel>(&self, simd: S, first: usize) -> [S::f32s; ACROSS] {
        load(simd, &self.out[first..])
    }

    /// Keeps unfinished sums of the numbers from `first` on.
    #[inline(always)]
    pub(crate) fn store<S: Kernel>(&mut self, simd: S, sums: [S::f32s; ACROSS], first: usize) {
        store(simd, sums, &mut self.out[first..]);
    }

    /// The first `columns` columns, as many as there are, and the others.
    fn split_at(self, columns: usize) -> (Self, Self) {
        let columns = columns.min(self.out.len());
        let (out, later_out) = self.out.split_at_mut(columns);
        let (derivative, later_derivative) = self.derivative.map(|row| row.split_at_mut(columns)).unzip();
        let (factor, later_factor) = self.factor.map(|row| row.split_at(columns)).unzip();
        (Self { out, derivative, factor }, Self { out: later_out, derivative: later_derivative, factor: later_factor })
    }
}

/// What is fused into a matmul: bias and activation are applied while the result is in registers.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
}

impl Epilogue<'_> {
    /// Finishes the numbers of `row` from `first` on and writes them, as many as the row has room for.
    #[inline(always)]
    pub(crate) fn write<S: Kernel>(&self, simd: S, mut sums: [S::f32s; ACROSS], first: usize, row: &mut OutRow<'_>) {
        if let Some(bias) = self.bias {
            for (sum, bias) in sums.iter_mut().zip(load(simd, &bias[first..])) {
                *sum = simd.add_f32s(*sum, bias);
            }
        }
        match (self.activation, &mut row.derivative) {
            (Some(activation), Some(derivative)) => {
                let mut slopes = sums;
                for (sum, slope) in sums.iter_mut().zip(&mut slopes) {
                    (*sum, *slope) = math::apply_with_derivative(simd, activation, *sum);
                }
                store(simd, slopes, &mut derivative[first..]);
            }
            (Some(activation), None) => {
                for sum in &mut sums {
                    *sum = math::apply(simd, activation, *sum);
                }
            }
            (None, Some(derivative)) => store(simd, [simd.splat_f32s(1.0); ACROSS], &mut derivative[first..]),
            (None, None) => {}
        }
        if let Some(factor) = row.factor {
            for (sum, factor) in sums.iter_mut().zip(load(simd, &factor[first..])) {
                *sum = simd.mul_f32s(*sum, factor);
            }
        }
        store(simd, sums, &mut row.out[first..]);
    }
}

/// Loads the first numbers of a row; missing ones are zero.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, row: &[f32]) -> [S::f32s; ACROSS] {
    match S::as_simd_f32s(row).0 {
        [left, right, ..] => [*left, *right],
        _ => {
            let (left, right) = row.split_at(row.len().min(S::F32_LANES));
            [simd.partial_load_f32s(left), simd.partial_load_f32s(right)]
        }
    }
}

/// Stores the first numbers of a row, as many as it has room for.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, sums: [S::f32s; ACROSS], row: &mut [f32]) {
    match S::as_mut_simd_f32s(row) {
        ([left, right, ..], _) => (*left, *right) = (sums[0], sums[1]),
        _ => {
            let (left, right) = row.split_at_mut(row.len().min(S::F32_LANES));
            simd.partial_store_f32s(left, sums[0]);
            simd.partial_store_f32s(right, sums[1]);
        }
    }
}

/// One operation of [`matmul`]: `out = activation(input * weight + bias) * factor`.
pub struct Matmul<'a, W> {
    /// `[inputs, outputs]`.
    pub weight: &'a W,
    /// One number per output column.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[rows, outputs]`, overwritten.
    pub out: &'a mut [f32],
    /// Receives the activation's derivative at each of its arguments, for the backward pass: `[rows, outputs]`,
    /// overwritten. Ones if there is no activation.
    pub derivative: Option<&'a mut [f32]>,
    /// Multiplies the result element by element before it is written: `[rows, outputs]`. In the backward pass it is the
    /// derivative of the activation in front of this layer.
    pub factor: Option<&'a [f32]>,
}

impl<'a, W> Matmul<'a, W> {
    /// A matmul into which nothing is fused.
    pub fn new(weight: &'a W, out: &'a mut [f32]) -> Self {
        Self { weight, bias: None, activation: None, out, derivative: None, factor: None }
    }
}

/// Largest number of rows per piece of work, so that they stay in a core's L2 cache.
const BLOCK_ROWS: usize = 64;

/// Multiplications per piece of work, unless that leaves fewer pieces than threads.
const PIECE: usize = 1 << 20;

/// Largest number of pieces per thread. More than one evens out threads of unequal speed.
const MOST_PIECES: usize = 4;

/// Below this many multiplications the work runs on one thread.
const FEW: usize = 1 << 17;

/// Multiplies one input with several weights of the same kind, on up to `threads` threads.
///
/// # Shapes
/// `input [rows, inputs]`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn matmul<W: PackedWeight>(input: &[f32], products: Vec<Matmul<'_, W>>, threads: usize) {
    let Some(first) = products.first().map(|product| product.weight) else { return };
    let inputs = first.inputs();
    let rows = input.len() / inputs;
    for product in &products {
        assert_eq!(product.weight.inputs() * rows, input.len(), "`input` must be [rows, inputs]");
        assert_eq!(product.weight.outputs() * rows, product.out.len(), "`out` must be [rows, outputs]");
        assert!(product.bias.is_none_or(|bias| bias.len() == product.weight.outputs()), "`bias` must be [outputs]");
        let size = product.out.len();
        assert!(product.derivative.as_ref().is_none_or(|of| of.len() == size), "`derivative` must be [rows, outputs]");
        assert!(product.factor.is_none_or(|of| of.len() == size), "`factor` must be [rows, outputs]");
    }
    if rows == 0 {
        return;
    }
    let outputs: usize = products.iter().map(|product| product.weight.outputs()).sum();
    let multiplications = input.len() * outputs;
    let threads = if multiplications < FEW { 1 } else { threads };
    let pieces = if threads == 1 { 1 } else { (multiplications / PIECE).clamp(threads, MOST_PIECES * threads) };
    let rows_each = rows.div_ceil(rows.div_ceil(BLOCK_ROWS));
    let block = |rows| Block { rows, packed: OnceLock::new() };
    let blocks: Vec<Block<'_, W>> = input.chunks(rows_each * inputs).map(block).collect();
    let panels: usize = products.iter().map(|product| panels_of(product.weight)).sum();
    let parts = pieces.div_ceil(blocks.len()).min(panels);
    if let ([block], 2..) = (blocks.as_slice(), parts) {
        // The other threads would have to wait for it.
        block.packed.get_or_init(|| first.pack_rows(block.rows));
    }
    let compute = |(number, work): (usize, Vec<Piece<'_, W>>)| {
        let block = &blocks[number / parts];
        if parts == 1 {
            // Packed rows that nobody else needs are not kept until the end.
            let rows = first.pack_rows(block.rows);
            return work.into_iter().for_each(|piece| piece.compute(&rows));
        }
        let rows = block.packed.get_or_init(|| first.pack_rows(block.rows));
        work.into_iter().for_each(|piece| piece.compute(rows));
    };
    let work = divide(products, rows_each, blocks.len(), parts);
    match threads {
        1 => work.into_iter().enumerate().for_each(compute),
        _ => work.into_par_iter().enumerate().with_max_len(1).for_each(compute),
    }
}

/// Input rows, packed by the first thread that needs them.
struct Block<'a, W: Panels> {
    rows: &'a [f32],
    packed: OnceLock<W::Rows>,
}

/// Number of panels of a weight.
fn panels_of(weight: &impl Panels) -> usize {
    weight.outputs().div_ceil(weight.panel_width())
}

/// The work for each block of rows and each part of all columns, taken over all weights.
fn divide<'a, W: Panels>(
    products: Vec<Matmul<'a, W>>,
    rows_each: usize,
    blocks: usize,
    parts: usize,
) -> Vec<Vec<Piece<'a, W>>> {
    let panels: usize = products.iter().map(|product| panels_of(product.weight)).sum();
    let mut work = Vec::new();
    work.resize_with(blocks * parts, Vec::new);
    let mut before = 0;
    for Matmul { weight, bias, activation, out, derivative, factor } in products {
        let (outputs, width, own) = (weight.outputs(), weight.panel_width(), panels_of(weight));
        let bound = |part: usize| (part * panels / parts).clamp(before, before + own) - before;
        let cuts: Vec<(usize, Range<usize>)> = (0..parts).map(|part| (part, bound(part)..bound(part + 1))).collect();
        let mut derivatives = derivative.map(|rows| rows.chunks_exact_mut(outputs));
        let mut factors = factor.map(|rows| rows.chunks_exact(outputs));
        for (block, rows) in out.chunks_mut(rows_each * outputs).enumerate() {
            let mut outs: Vec<Vec<OutRow<'_>>> = cuts.iter().map(|_| Vec::with_capacity(rows_each)).collect();
            for out in rows.chunks_exact_mut(outputs) {
                let derivative = derivatives.as_mut().and_then(Iterator::next);
                let mut row = OutRow { out, derivative, factor: factors.as_mut().and_then(Iterator::next) };
                for ((_, panels), outs) in cuts.iter().zip(&mut outs) {
                    let (columns, after) = row.split_at(panels.len() * width);
                    outs.push(columns);
                    row = after;
                }
            }
            for ((part, panels), out) in cuts.iter().cloned().zip(outs).filter(|((_, panels), _)| !panels.is_empty()) {
                let bias = bias.map(|bias| &bias[panels.start * width..]);
                let epilogue = Epilogue { bias, activation };
                work[block * parts + part].push(Piece { weight, panels, epilogue, out });
            }
        }
        before += own;
    }
    work
}

/// Some columns of some rows of one output.
struct Piece<'a, W> {
    weight: &'a W,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: Vec<OutRow<'a>>,
}

impl<W: Panels> Piece<'_, W> {
    fn compute(mut self, rows: &W::Rows) {
        self.weight.matmul(rows, self.panels, self.epilogue, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::f32_matrix::F32Matrix;
    use crate::instructions::InstructionSet;
    use crate::testing::{close, numbers, product, slope};

    #[test]
    fn derivative_and_factor_are_those_of_each_element() {
        let (rows, inputs, outputs) = (70, 9, 45);
        let (input, weight, bias) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2), numbers(outputs, 3));
        let factor = numbers(rows * outputs, 4);
        let arguments: Vec<f64> = product(&input, &weight, inputs, outputs)
            .into_iter()
            .zip(bias.iter().cycle())
            .map(|(x, &bias)| x + f64::from(bias))
            .collect();
        let activations = [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu];
        for (set, activation) in InstructionSet::available()
            .into_iter()
            .flat_map(|set| activations.map(Some).into_iter().chain([None]).map(move |activation| (set, activation)))
        {
            let matrix = F32Matrix::for_set(set, &weight, inputs, outputs);
            let mut found = Vec::new();
            for threads in 1..=3 {
                let (mut out, mut derivative) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
                let layer = Matmul {
                    weight: &matrix,
                    bias: Some(&bias),
                    activation,
                    out: &mut out,
                    derivative: Some(&mut derivative),
                    factor: Some(&factor),
                };
                matmul(&input, vec![layer], threads);
                found.push((out, derivative));
            }
            assert!(found.iter().all(|other| *other == found[0]), "{set:?} depends on the threads");
            let value = |x: f64| activation.map_or(x, |activation| activation.exact(x));
            let expected: Vec<f64> = arguments.iter().zip(&factor).map(|(&x, &y)| value(x) * f64::from(y)).collect();
            close(&found[0].0, &expected, 5e-6, &format!("{set:?}, {activation:?}"));
            // Away from the kink of ReLU.
            let kept: Vec<usize> = (0..arguments.len()).filter(|&at| arguments[at].abs() > 3e-3).collect();
            let expected: Vec<f64> = kept.iter().map(|&at| slope(value, arguments[at])).collect();
            let derivative: Vec<f32> = kept.iter().map(|&at| found[0].1[at]).collect();
            close(&derivative, &expected, 5e-6, &format!("derivative, {set:?}, {activation:?}"));
        }
    }

    #[test]
    fn every_part_of_the_columns_is_computed_once() {
        let (rows, inputs, widths) = (5, 7, [50, 3, 100]);
        let input = numbers(rows * inputs, 1);
        for set in InstructionSet::available() {
            let weights = widths.map(|outputs| numbers(inputs * outputs, outputs as u64));
            let biases = widths.map(|outputs| numbers(outputs, 2));
            let of = |at: usize| F32Matrix::for_set(set, &weights[at], inputs, widths[at]);
            let matrices = [of(0), of(1), of(2)];
            let panels: usize = matrices.iter().map(panels_of).sum();
            for (parts, rows_each) in (1..=panels + 2).flat_map(|parts| [(parts, 5), (parts, 2)]) {
                let mut outs = widths.map(|outputs| vec![f32::NAN; rows * outputs]);
                let products = matrices
                    .iter()
                    .zip(&biases)
                    .zip(&mut outs)
                    .map(|((weight, bias), out)| Matmul { bias: Some(bias), ..Matmul::new(weight, out) });
                let blocks: Vec<_> =
                    input.chunks(rows_each * inputs).map(|block| matrices[0].pack_rows(block)).collect();
                for (number, work) in divide(products.collect(), rows_each, blocks.len(), parts).into_iter().enumerate()
                {
                    work.into_iter().for_each(|piece| piece.compute(&blocks[number / parts]));
                }
                for (((out, weight), bias), outputs) in outs.iter().zip(&weights).zip(&biases).zip(widths) {
                    let expected: Vec<f64> = product(&input, weight, inputs, outputs)
                        .into_iter()
                        .zip(bias.iter().cycle())
                        .map(|(x, &bias)| x + f64::from(bias))
                        .collect();
                    close(
                        out,
                        &expected,
                        1e-5,
                        &format!("{set:?}, {parts} parts, {rows_each} rows, {outputs} columns"),
                    );
                }
            }
        }
    }
}
