//! Gradients of a linear layer's weight and bias.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::f32_matrix::{dot, tile_rows, tiles, with_rows};
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::matmul::{ACROSS, load, store};
use crate::scratch::Scratch;

/// Tokens that are packed together: a tile and a panel of so many fit into L1 together.
const BLOCK: usize = 128;

/// Most rows and columns of the gradient per piece of work: so many numbers of a block's tokens fit into L2 twice.
const MOST: usize = 768;

/// Fewest rows and columns per piece of work.
const LEAST: usize = 48;

/// Below this many multiplications the work runs on one thread.
const FEW: usize = 1 << 17;

/// Tokens that are packed together into all tiles, so that each line of their rows is read once.
const GROUP: usize = 8;

/// Gradients of a linear layer's weight and bias: adds `input^T * gradient` to `weight` and the sum of the rows of
/// `gradient` to `bias`.
///
/// The result does not depend on `threads`: each number is summed by one thread, in the order of the tokens.
///
/// # Shapes
/// `input [tokens, inputs]`, `gradient [tokens, outputs]`, `weight [inputs, outputs]`, `bias [outputs]`.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn weight_gradient(
    input: &[f32],
    gradient: &[f32],
    inputs: usize,
    outputs: usize,
    weight: &mut [f32],
    bias: Option<&mut [f32]>,
    threads: usize,
) {
    let layer = Layer { input, gradient, inputs, outputs };
    layer.add(InstructionSet::current(), weight, bias, threads);
}

/// What the gradients are computed from.
#[derive(Clone, Copy)]
struct Layer<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl<'a> Layer<'a> {
    fn add(self, set: InstructionSet, weight: &mut [f32], bias: Option<&mut [f32]>, threads: usize) {
        let Self { input, gradient, inputs, outputs } = self;
        let tokens = gradient.len() / outputs.max(1);
        assert_eq!(gradient.len(), tokens * outputs, "`gradient` must be [tokens, outputs]");
        assert_eq!(input.len(), tokens * inputs, "`input` must be [tokens, inputs]");
        assert_eq!(weight.len(), inputs * outputs, "`weight` must be [inputs, outputs]");
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == outputs), "`bias` must be [outputs]");
        if weight.is_empty() {
            return;
        }
        let threads = if tokens * inputs * outputs < FEW { 1 } else { threads };
        let work = self.divide(set, weight, bias, threads);
        match threads {
            1 => work.into_iter().for_each(|piece| set.run(piece)),
            _ => work.into_par_iter().with_max_len(1).for_each(|piece| set.run(piece)),
        }
    }

    /// Cuts the weight into a grid of pieces.
    fn divide<'w>(
        self,
        set: InstructionSet,
        weight: &'w mut [f32],
        bias: Option<&'w mut [f32]>,
        threads: usize,
    ) -> Vec<Piece<'w>>
    where
        'a: 'w,
    {
        let (mut down, mut across) = (self.inputs.div_ceil(MOST), self.outputs.div_ceil(MOST));
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        while down * across < wanted {
            let (height, width) = (self.inputs / down, self.outputs / across);
            match height.max(width) {
                longest if longest < 2 * LEAST => break,
                longest if longest == width => across += 1,
                _ => down += 1,
            }
        }
        let panel = ACROSS * set.lanes();
        let columns: Vec<Range<usize>> =
            tiles(0..self.outputs.div_ceil(panel), self.outputs.div_ceil(panel).div_ceil(across))
                .map(|panels| panels.start * panel..self.outputs.min(panels.end * panel))
                .collect();
        let mut biases: Vec<Option<&mut [f32]>> = Vec::new();
        let mut rest = bias;
        for columns in &columns {
            let (own, after) = rest.map(|bias| bias.split_at_mut(columns.len())).unzip();
            biases.push(own);
            rest = after;
        }
        let mut work = Vec::new();
        let mut weights = weight.chunks_exact_mut(self.outputs);
        for rows in tiles(0..self.inputs, self.inputs.div_ceil(down)) {
            let mut pieces: Vec<Piece<'_>> = (columns.iter().cloned().zip(&mut biases))
                .map(|(columns, bias)| Piece {
                    layer: self,
                    rows: rows.clone(),
                    columns,
                    weight: Vec::new(),
                    bias: bias.take(),
                })
                .collect();
            for mut row in weights.by_ref().take(rows.len()) {
                for piece in &mut pieces {
                    let (own, after) = row.split_at_mut(piece.columns.len());
                    piece.weight.push(own);
                    row = after;
                }
            }
            work.extend(pieces);
        }
        work
    }
}

/// Some rows and columns of the weight.
struct Piece<'a> {
    layer: Layer<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// The columns of each row.
    weight: Vec<&'a mut [f32]>,
    /// The bias of these columns, unless another piece computes it.
    bias: Option<&'a mut [f32]>,
}

impl WithKernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(mut self, simd: S) {
        let Layer { input, gradient, inputs, outputs } = self.layer;
        let panel = ACROSS * S::F32_LANES;
        let height = self.rows.len();
        let tokens = gradient.len() / outputs;
        let block = BLOCK.min(tokens);
        let mut rows = Scratch::new(height * block);
        let mut panels = Scratch::new(self.columns.len().next_multiple_of(panel) * block);
        for (input, gradient) in input.chunks(BLOCK * inputs).zip(gradient.chunks(BLOCK * outputs)) {
            let count = gradient.len() / outputs;
            let (rows, panels) =
                (&mut rows[..height * count], &mut panels[..self.columns.len().next_multiple_of(panel) * count]);
            pack_tiles::<S>(input, inputs, self.rows.clone(), rows);
            pack_panels::<S>(gradient, outputs, self.columns.clone(), panels);
            if let Some(bias) = &mut self.bias {
                for (bias, panel) in bias.chunks_mut(panel).zip(panels.chunks_exact(panel * count)) {
                    add_rows(simd, panel, bias);
                }
            }
            for (number, weights) in panels.chunks_exact(panel * count).enumerate() {
                let next = panels.get((number + 1) * panel * count..(number + 2) * panel * count).unwrap_or(weights);
                for tile in tiles(0..height, tile_rows::<S>()) {
                    let values = &rows[tile.start * count..tile.end * count];
                    with_rows!(tile.len(), tile_rows::<S>(), R => {
                        let sums = dot::<S, R>(simd, values, weights, next);
                        for (sums, weight) in sums.into_iter().zip(&mut self.weight[tile]) {
                            let weight = &mut weight[number * panel..];
                            let before = load(simd, weight);
                            store(simd, [simd.add_f32s(before[0], sums[0]), simd.add_f32s(before[1], sums[1])], weight);
                        }
                    });
                }
            }
        }
    }
}

/// Packs columns of some tokens' rows into tiles, `[tokens, tile]` for each tile of columns.
#[inline(always)]
fn pack_tiles<S: Simd>(input: &[f32], width: usize, columns: Range<usize>, into: &mut [f32]) {
    let tokens = input.len() / width;
    for group in tiles(0..tokens, GROUP) {
        let input = &input[group.start * width..group.end * width];
        for tile in tiles(0..columns.len(), tile_rows::<S>()) {
            let start = columns.start + tile.start;
            let into = &mut into[tile.start * tokens + group.start * tile.len()..];
            with_rows!(tile.len(), tile_rows::<S>(), R => {
                for (row, into) in input.chunks_exact(width).zip(into.as_chunks_mut::<R>().0) {
                    into.copy_from_slice(&row[start..start + R]);
                }
            });
        }
    }
}

/// Packs columns of some tokens' rows into panels, `[tokens, panel]` for each panel of columns, the last zero-padded.
#[inline(always)]
fn pack_panels<S: Simd>(gradient: &[f32], width: usize, columns: Range<usize>, into: &mut [f32]) {
    let (panel, tokens) = (ACROSS * S::F32_LANES, gradient.len() / width);
    for group in tiles(0..tokens, GROUP) {
        let rows = &gradient[group.start * width..group.end * width];
        for (start, into) in columns.clone().step_by(panel).zip(into.chunks_exact_mut(panel * tokens)) {
            let into = into[group.start * panel..].chunks_exact_mut(panel);
            let count = (columns.end - start).min(panel);
            for (row, into) in rows.chunks_exact(width).zip(into) {
                into[..count].copy_from_slice(&row[start..start + count]);
                into[count..].fill(0.0);
            }
        }
    }
}

/// Adds the rows of a panel to `sum`, which may have fewer columns.
#[inline(always)]
fn add_rows<S: Kernel>(simd: S, panel: &[f32], sum: &mut [f32]) {
    let mut sums = [simd.splat_f32s(0.0); ACROSS];
    for row in pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(panel).0).0 {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum = simd.add_f32s(*sum, x);
        }
    }
    let before = load(simd, sum);
    store(simd, [simd.add_f32s(before[0], sums[0]), simd.add_f32s(before[1], sums[1])], sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers};

    /// The gradients by their definition, in f64, added to what is there.
    fn expected(layer: Layer<'_>, weight: &[f32], bias: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let (mut weight, mut bias) = (wide(weight), wide(bias));
        let rows = layer.input.chunks_exact(layer.inputs).zip(layer.gradient.chunks_exact(layer.outputs));
        for (input, gradient) in rows {
            for (at, x) in weight.iter_mut().enumerate() {
                *x += f64::from(input[at / layer.outputs]) * f64::from(gradient[at % layer.outputs]);
            }
            for (sum, &x) in bias.iter_mut().zip(gradient) {
                *sum += f64::from(x);
            }
        }
        (weight, bias)
    }

    #[test]
    fn gradients_are_those_of_the_definition_for_any_number_of_threads() {
        for set in InstructionSet::available() {
            for (tokens, inputs, outputs) in [
                (0, 3, 2),
                (1, 1, 1),
                (5, 7, 3),
                (40, 13, 33),
                (300, 50, 70),
                (129, 900, 40),
                (131, 30, 800),
                (260, 100, 100),
            ] {
                let (input, gradient) = (numbers(tokens * inputs, 1), numbers(tokens * outputs, 2));
                let (weight, bias) = (numbers(inputs * outputs, 3), numbers(outputs, 4));
                let layer = Layer { input: &input, gradient: &gradient, inputs, outputs };
                let what = format!("{set:?}, {tokens} x {inputs} x {outputs}");
                let (of_weight, of_bias) = expected(layer, &weight, &bias);
                let mut found = Vec::new();
                for threads in 1..=3 {
                    let (mut weight, mut bias) = (weight.clone(), bias.clone());
                    layer.add(set, &mut weight, Some(&mut bias), threads);
                    close(&weight, &of_weight, 1e-5 * (tokens as f64).sqrt(), &what);
                    close(&bias, &of_bias, 1e-5 * (tokens as f64).sqrt(), &what);
                    let mut alone = weight.clone();
                    layer.add(set, &mut alone, None, threads);
                    found.push((weight, bias, alone));
                }
                assert!(found.iter().all(|other| *other == found[0]), "{what} depends on the threads");
            }
        }
    }
}
