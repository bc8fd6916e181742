//! The backward pass of attention.

use std::ops::Range;

use rayon::prelude::*;

use crate::attention::{
    AttentionHeads, CHUNK, FEW, States, add_products, all_finite, copy_chunks, match_keys, mix_values, part,
};
use crate::f32_matrix::{tile_rows, tiles, with_rows};
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::math;
use crate::matmul::{ACROSS, load, store};

/// Keys that are processed together: what belongs to them stays in L2, and there is more of it than in the forward pass.
const KEYS: usize = 256;

/// The gradients of attention's inputs, in the shapes of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradients {
    /// `[tokens, heads * head_dim]`.
    pub query: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`.
    pub key: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`.
    pub value: Vec<f32>,
    /// `[heads, 2 * far + 1]`, if there is a bias.
    pub bias: Option<Vec<f32>>,
}

/// The gradients of [`attention`](crate::attention)'s inputs.
///
/// Takes the inputs, `out` and `log_sum_exp` of
/// [`attention_with_log_sum_exp`](crate::attention_with_log_sum_exp), and the gradient of `out`. Scores are computed
/// again, tile by tile. The result does not depend on `threads`. The gradients of padding are zero.
///
/// # Shapes
/// As in [`attention`](crate::attention); `out_gradient` has the shape of `out`.
///
/// # Panics
/// Panics if the sizes do not match, or if the spans overlap or are not in order.
///
/// # Reference
/// Dao, Fu, Ermon, Rudra and Ré, FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness, 2022,
/// appendix B.
#[expect(clippy::too_many_arguments, reason = "the forward pass has seven, and the backward pass adds its results")]
pub fn attention_backward(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    bias: Option<&[f32]>,
    out: &[f32],
    log_sum_exp: &[f32],
    out_gradient: &[f32],
    spans: &[(usize, usize)],
    shape: AttentionHeads,
    threads: usize,
) -> AttentionGradients {
    let states = States { query, key, value, shape, bias };
    Backward { states, out, log_sum_exp, out_gradient }.run(InstructionSet::current(), spans, threads)
}

/// What the gradients are computed from.
#[derive(Clone, Copy)]
struct Backward<'a> {
    states: States<'a>,
    out: &'a [f32],
    log_sum_exp: &'a [f32],
    out_gradient: &'a [f32],
}

impl Backward<'_> {
    fn run(self, set: InstructionSet, spans: &[(usize, usize)], threads: usize) -> AttentionGradients {
        let states = self.states;
        let AttentionHeads { heads, kv_heads, head_dim, .. } = states.shape;
        let tokens = states.check(spans);
        assert_eq!(self.out.len(), states.query.len(), "`out` must have the shape of `query`");
        assert_eq!(self.out_gradient.len(), self.out.len(), "`out_gradient` must have the shape of `out`");
        assert_eq!(self.log_sum_exp.len(), heads * tokens, "`log_sum_exp` must be [heads, tokens]");

        // A piece of work is a text, or some of its heads if there are too few texts to keep every thread busy. Keys and
        // values gather from all rows of a text, so its rows stay together.
        let threads = if states.work(spans) < FEW { 1 } else { threads };
        let enough = if threads == 1 { 1 } else { 2 * threads };
        let parts = enough.div_ceil(spans.len().max(1)).min(kv_heads);
        let group = heads / kv_heads;
        let kv_ranges: Vec<Range<usize>> = tiles(0..kv_heads, kv_heads.div_ceil(parts)).collect();
        let mut query = vec![0.0; states.query.len()];
        let (mut key, mut value) = (vec![0.0; states.key.len()], vec![0.0; states.key.len()]);
        let mut pieces = Vec::new();
        {
            let mut queries = query.chunks_exact_mut(heads * head_dim);
            let mut keys = key.chunks_exact_mut(kv_heads * head_dim);
            let mut values = value.chunks_exact_mut(kv_heads * head_dim);
            let mut at = 0;
            for &(start, end) in spans {
                let first = pieces.len();
                pieces.extend(kv_ranges.iter().map(|kv_heads| Piece {
                    of: self,
                    text: start..end,
                    kv_heads: kv_heads.clone(),
                    query: Vec::with_capacity(end - start),
                    key: Vec::with_capacity(end - start),
                    value: Vec::with_capacity(end - start),
                    bias: vec![0.0; states.bias.map_or(0, |_| kv_heads.len() * group * (2 * (end - start)).max(1))],
                }));
                let rows = queries.by_ref().zip(keys.by_ref()).zip(values.by_ref());
                for ((mut query, mut key), mut value) in rows.skip(start - at).take(end - start) {
                    for piece in &mut pieces[first..] {
                        let width = piece.kv_heads.len() * head_dim;
                        query = split_off(query, width * group, &mut piece.query);
                        key = split_off(key, width, &mut piece.key);
                        value = split_off(value, width, &mut piece.value);
                    }
                }
                at = end;
            }
        }
        let compute = |piece| set.run::<Piece<'_>>(piece);
        let biases: Vec<Vec<f32>> = match threads {
            1 => pieces.into_iter().map(compute).collect(),
            _ => pieces.into_par_iter().with_max_len(1).map(compute).collect(),
        };
        let bias = states.bias.map(|bias| {
            let count = bias.len() / heads;
            let mut sum = vec![0.0; bias.len()];
            for (text, biases) in spans.iter().zip(biases.chunks(kv_ranges.len())) {
                let length = text.1 - text.0;
                let own = biases.iter().flat_map(|bias| bias.chunks_exact((2 * length).max(1)));
                for (sum, own) in sum.chunks_exact_mut(count).zip(own) {
                    for (sum, own) in sum[(count / 2 + 1).saturating_sub(length)..].iter_mut().zip(own) {
                        *sum += own;
                    }
                }
            }
            sum
        });
        AttentionGradients { query, key, value, bias }
    }
}

/// Moves the first `width` numbers of a row to `into`; returns the rest.
fn split_off<'a>(row: &'a mut [f32], width: usize, into: &mut Vec<&'a mut [f32]>) -> &'a mut [f32] {
    let (own, rest) = row.split_at_mut(width);
    into.push(own);
    rest
}

/// Some heads of one text. The outputs are the columns of these heads, row by row.
struct Piece<'a> {
    of: Backward<'a>,
    text: Range<usize>,
    kv_heads: Range<usize>,
    query: Vec<&'a mut [f32]>,
    key: Vec<&'a mut [f32]>,
    value: Vec<&'a mut [f32]>,
    /// `[heads, 2 * length]`: for each distance of query and key, the gradient at `length - 1 + q - k`.
    bias: Vec<f32>,
}

/// Packed inputs and intermediate results of one head. The dimensions of a head are zero-padded to whole chunks or whole
/// panels.
struct Scratch {
    /// Keys and values for the scores: `[head_dim / CHUNK, tile, CHUNK]` for each tile of keys.
    keys: Vec<[f32; CHUNK]>,
    values: Vec<[f32; CHUNK]>,
    /// `[keys, panel]` for each panel of dimensions: the keys, and the gradients of keys and values.
    key_panels: Vec<f32>,
    key_sums: Vec<f32>,
    value_sums: Vec<f32>,
    /// The rows of a tile.
    queries: TileRows,
    gradients: TileRows,
    /// `[keys, tile]`: the softmax's output, and the gradient of its input.
    weights: Vec<f32>,
    slopes: Vec<f32>,
    /// For each row of a tile, the logarithm of its denominator, and the dot product of output and gradient.
    logs: Vec<f32>,
    deltas: Vec<f32>,
    /// Whether every key and value is finite.
    finite: bool,
}

/// The rows of a tile in both layouts.
struct TileRows {
    /// `[head_dim, tile]`.
    interleaved: Vec<f32>,
    /// `[rows, panel]` for each panel of dimensions.
    panels: Vec<f32>,
}

impl TileRows {
    fn new(head_dim: usize, most: usize) -> Self {
        Self {
            interleaved: vec![0.0; head_dim.next_multiple_of(CHUNK) * most],
            panels: vec![0.0; head_dim.next_multiple_of(most) * most],
        }
    }

    /// Whether the first rows are finite.
    #[inline(always)]
    fn finite(&self, panel: usize, rows: usize) -> bool {
        self.panels.chunks_exact(panel * panel).all(|of| all_finite(&of[..rows * panel]))
    }

    /// Packs one head's row, multiplied by `scale`, as row `at` of `across`.
    #[inline(always)]
    fn set(&mut self, at: usize, across: usize, panel: usize, row: &[f32], scale: f32) {
        for (into, x) in self.interleaved.chunks_exact_mut(across).zip(row) {
            into[at] = x * scale;
        }
        for (into, row) in self.panels.chunks_exact_mut(panel * panel).zip(row.chunks(panel)) {
            for (into, x) in into[at * panel..].iter_mut().zip(row) {
                *into = x * scale;
            }
        }
    }
}

impl WithKernel for Piece<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_kernel<S: Kernel>(mut self, simd: S) -> Vec<f32> {
        let shape = self.of.states.shape;
        let (head_dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
        let most = ACROSS * S::F32_LANES;
        let count = self.text.len().min(KEYS);
        let panels = count * head_dim.next_multiple_of(most);
        let chunks = count * head_dim.div_ceil(CHUNK);
        let mut scratch = Scratch {
            keys: vec![[0.0; CHUNK]; chunks],
            values: vec![[0.0; CHUNK]; chunks],
            key_panels: vec![0.0; panels],
            key_sums: vec![0.0; panels],
            value_sums: vec![0.0; panels],
            queries: TileRows::new(head_dim, most),
            gradients: TileRows::new(head_dim, most),
            weights: vec![0.0; count * most],
            slopes: vec![0.0; count * most],
            logs: vec![0.0; most],
            deltas: vec![0.0; most],
            finite: true,
        };
        for kv_head in self.kv_heads.clone() {
            for keys in tiles(self.text.clone(), KEYS) {
                self.load::<S>(kv_head, &keys, &mut scratch);
                for head in kv_head * group..(kv_head + 1) * group {
                    for start in self.text.clone().step_by(most) {
                        let rows = start..self.text.end.min(start + most);
                        let seen = part(shape.seen(&rows, &self.text), &keys);
                        if seen.is_empty() {
                            continue;
                        }
                        if rows.len() > S::F32_LANES {
                            self.tile::<S, ACROSS>(simd, head, rows, &keys, seen, &mut scratch);
                        } else {
                            self.tile::<S, 1>(simd, head, rows, &keys, seen, &mut scratch);
                        }
                    }
                }
                let columns = (kv_head - self.kv_heads.start) * head_dim;
                for (sums, out) in [(&scratch.key_sums, &mut self.key), (&scratch.value_sums, &mut self.value)] {
                    for (number, panel) in sums.chunks_exact(count * most).enumerate() {
                        let out = out[keys.start - self.text.start..].iter_mut();
                        for (out, sums) in out.zip(panel.chunks_exact(most).take(keys.len())) {
                            let out = &mut out[columns..columns + head_dim][number * most..];
                            let width = out.len().min(most);
                            out[..width].copy_from_slice(&sums[..width]);
                        }
                    }
                }
            }
        }
        self.bias
    }
}

impl Piece<'_> {
    /// Packs keys and values of one head and clears their gradients.
    #[inline(always)]
    fn load<S: Kernel>(&self, kv_head: usize, keys: &Range<usize>, scratch: &mut Scratch) {
        let States { key, value, shape, .. } = self.of.states;
        let (panel, chunks) = (ACROSS * S::F32_LANES, shape.head_dim.div_ceil(CHUNK));
        let count = self.text.len().min(KEYS);
        let place = |row: usize| ((keys.start + row) * shape.kv_heads + kv_head) * shape.head_dim;
        for (states, into) in [(key, &mut scratch.keys), (value, &mut scratch.values)] {
            for tile in tiles(0..keys.len(), tile_rows::<S>()) {
                let into = &mut into[tile.start * chunks..tile.end * chunks];
                for (row, at) in tile.clone().enumerate() {
                    let values = &states[place(at)..][..shape.head_dim];
                    copy_chunks(values, into, |chunk| chunk * tile.len() + row);
                }
            }
        }
        let finite = |packed: &[[f32; CHUNK]]| all_finite(packed[..keys.len() * chunks].as_flattened());
        scratch.finite = finite(&scratch.keys) && finite(&scratch.values);
        for (number, into) in scratch.key_panels.chunks_exact_mut(count * panel).enumerate() {
            for (row, into) in into.chunks_exact_mut(panel).take(keys.len()).enumerate() {
                let values = &key[place(row)..][..shape.head_dim][number * panel..];
                let width = values.len().min(panel);
                into[..width].copy_from_slice(&values[..width]);
            }
        }
        scratch.key_sums.fill(0.0);
        scratch.value_sums.fill(0.0);
    }

    /// One head of a tile of rows that fit into `A` vectors, for the keys `seen` of the packed `keys`.
    #[inline(always)]
    fn tile<S: Kernel, const A: usize>(
        &mut self,
        simd: S,
        head: usize,
        rows: Range<usize>,
        keys: &Range<usize>,
        seen: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Backward { states, out, log_sum_exp, out_gradient } = self.of;
        let AttentionHeads { heads, kv_heads, head_dim, scale, .. } = states.shape;
        let (across, panel) = (A * S::F32_LANES, ACROSS * S::F32_LANES);
        let count = self.text.len().min(KEYS);
        let chunks = head_dim.div_ceil(CHUNK);
        let tokens = log_sum_exp.len() / heads;
        for (at, row) in rows.clone().enumerate() {
            let of = |states: &'_ [f32]| -> Range<usize> {
                let start = (row * heads + head) * head_dim;
                debug_assert!(start < states.len());
                start..start + head_dim
            };
            scratch.queries.set(at, across, panel, &states.query[of(states.query)], scale);
            scratch.gradients.set(at, across, panel, &out_gradient[of(out_gradient)], 1.0);
            scratch.logs[at] = log_sum_exp[head * tokens + row];
            scratch.deltas[at] = dot(&out[of(out)], &out_gradient[of(out_gradient)]);
        }
        let of_seen = |tile: &Range<usize>| tile.start < seen.end && seen.start < tile.end;
        for tile in tiles(0..keys.len(), tile_rows::<S>()).filter(of_seen) {
            let (packed, scores) = (tile.start * chunks..tile.end * chunks, tile.start * across..tile.end * across);
            with_rows!(tile.len(), tile_rows::<S>(), R => {
                let queries = &scratch.queries.interleaved[..chunks * CHUNK * across];
                match_keys::<S, R, A>(simd, &scratch.keys[packed.clone()], queries, &mut scratch.weights[scores.clone()]);
                let gradients = &scratch.gradients.interleaved[..chunks * CHUNK * across];
                match_keys::<S, R, A>(simd, &scratch.values[packed], gradients, &mut scratch.slopes[scores]);
            });
        }
        let weights = &mut scratch.weights[seen.start * across..seen.end * across];
        let slopes = &mut scratch.slopes[seen.start * across..seen.end * across];
        states.add_bias(weights, across, head, &rows, keys.start + seen.start);
        states.hide(weights, across, self.text.len(), &rows, keys.start + seen.start, f32::NEG_INFINITY);
        softmax_backward::<S, A>(simd, weights, slopes, &scratch.logs, &scratch.deltas);
        // A hidden pair has weight 0, but 0 times NaN is NaN, so each row and each key then gets only what it belongs to.
        let finite_keys = scratch.finite;
        let finite_rows = [&scratch.queries, &scratch.gradients].iter().all(|of| of.finite(panel, rows.len()))
            && all_finite(&scratch.logs[..rows.len()])
            && all_finite(&scratch.deltas[..rows.len()]);
        if !(finite_keys && finite_rows) {
            for hidden in [&mut *weights, &mut *slopes] {
                states.hide(hidden, across, self.text.len(), &rows, keys.start + seen.start, 0.0);
            }
        }
        if states.bias.is_some() {
            let length = self.text.len();
            let first_head = self.kv_heads.start * (heads / kv_heads);
            let bias = &mut self.bias[(head - first_head) * 2 * length..][..2 * length];
            for (key, slopes) in (keys.start + seen.start..).zip(slopes.chunks_exact(across)) {
                let bias = &mut bias[length - 1 + rows.start - key..][..rows.len()];
                for (bias, slope) in bias.iter_mut().zip(slopes) {
                    *bias += slope;
                }
            }
        }

        for (weights, rows_of, sums) in [
            (&*slopes, &scratch.queries, &mut scratch.key_sums),
            (&*weights, &scratch.gradients, &mut scratch.value_sums),
        ] {
            let panels = rows_of.panels.chunks_exact(panel * panel).zip(sums.chunks_exact_mut(count * panel));
            for (vectors, sums) in panels {
                let sums = &mut sums[seen.start * panel..seen.end * panel];
                for tile in tiles(0..seen.len(), if finite_rows { tile_rows::<S>() } else { 1 }) {
                    let key = keys.start + seen.start + tile.start;
                    let whole = 0..rows.len();
                    let own = if finite_rows { whole } else { part(states.shape.seeing(key), &rows) };
                    let weights = &weights[tile.start * across..tile.end * across];
                    let sums = &mut sums[tile.start * panel..tile.end * panel];
                    let vectors = &vectors[own.start * panel..own.end * panel];
                    with_rows!(tile.len(), tile_rows::<S>(), R => {
                        add_rows::<S, R>(simd, weights, across, own.start, vectors, sums);
                    });
                }
            }
        }

        let columns = (head - self.kv_heads.start * (heads / kv_heads)) * head_dim;
        for (number, vectors) in scratch.key_panels.chunks_exact(count * panel).enumerate() {
            for tile in tiles(0..rows.len(), if finite_keys { tile_rows::<S>() } else { 1 }) {
                let row = rows.start + tile.start;
                let own = part(states.shape.seen(&(row..row + 1), &self.text), keys);
                let own = if finite_keys { seen.clone() } else { own };
                if own.is_empty() {
                    continue;
                }
                let vectors = &vectors[own.start * panel..own.end * panel];
                let slopes = &slopes[(own.start - seen.start) * across + tile.start..];
                let first = row - self.text.start;
                with_rows!(tile.len(), tile_rows::<S>(), R => {
                    let sums = mix_values::<S, R>(simd, slopes, across, vectors);
                    for (sums, out) in sums.into_iter().zip(&mut self.query[first..]) {
                        let out = &mut out[columns..columns + head_dim][number * panel..];
                        let out = &mut out[..(head_dim - number * panel).min(panel)];
                        let before = load(simd, out);
                        let scale = simd.splat_f32s(scale);
                        // No closures, which are not compiled for the instruction set unless they happen to be inlined.
                        let left = simd.add_product(sums[0], scale, before[0]);
                        let right = simd.add_product(sums[1], scale, before[1]);
                        store(simd, [left, right], out);
                    }
                });
            }
        }
    }
}

/// Replaces scores by the softmax's output, and `slopes`, the gradient of the output, by that of the scores.
#[inline(always)]
fn softmax_backward<S: Kernel, const A: usize>(
    simd: S,
    scores: &mut [f32],
    slopes: &mut [f32],
    logs: &[f32],
    deltas: &[f32],
) {
    let (scores, _) = pulp::as_arrays_mut::<A, _>(S::as_mut_simd_f32s(scores).0);
    let (slopes, _) = pulp::as_arrays_mut::<A, _>(S::as_mut_simd_f32s(slopes).0);
    let (logs, _) = pulp::as_arrays::<A, _>(S::as_simd_f32s(logs).0);
    let (deltas, _) = pulp::as_arrays::<A, _>(S::as_simd_f32s(deltas).0);
    let (Some(logs), Some(deltas)) = (logs.first(), deltas.first()) else { return };
    for (scores, slopes) in scores.iter_mut().zip(slopes) {
        for at in 0..A {
            scores[at] = math::exp_to_88(simd, simd.sub_f32s(scores[at], logs[at]));
            slopes[at] = simd.mul_f32s(scores[at], simd.sub_f32s(slopes[at], deltas[at]));
        }
    }
}

/// Adds to each of `R` rows of `sums` the rows `vectors`, one per query, times the row's `weights` from `first` on. Rows of
/// weights start `across` apart.
#[inline(always)]
fn add_rows<S: Kernel, const R: usize>(
    simd: S,
    weights: &[f32],
    across: usize,
    first: usize,
    vectors: &[f32],
    sums: &mut [f32],
) {
    let (vectors, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(vectors).0);
    let (sums, _) = pulp::as_arrays_mut::<ACROSS, _>(S::as_mut_simd_f32s(sums).0);
    let mut apart = [&weights[..0]; R];
    for (row, weights) in apart.iter_mut().zip(weights.chunks_exact(across)) {
        // So written that no access below is checked.
        *row = &weights[first..][..vectors.len()];
    }
    let mut own = [[simd.splat_f32s(0.0); ACROSS]; R];
    own.copy_from_slice(&sums[..R]);
    for (at, vectors) in vectors.iter().enumerate() {
        let mut numbers = [0.0; R];
        for row in 0..R {
            numbers[row] = apart[row][at];
        }
        add_products::<S, R, ACROSS>(simd, &mut own, &numbers, vectors);
    }
    sums[..R].copy_from_slice(&own);
}

/// The dot product.
#[inline(always)]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0; CHUNK];
    for (left, right) in left.chunks(CHUNK).zip(right.chunks(CHUNK)) {
        for ((sum, x), y) in sums.iter_mut().zip(left).zip(right) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ExactAttention, close, numbers, slope, wide};

    #[test]
    fn the_gradients_of_the_definition_are_its_finite_differences() {
        let (spans, tokens) = ([(0, 3), (4, 9)], 10);
        let (query, key, value) = (numbers(tokens * 12, 1), numbers(tokens * 6, 2), numbers(tokens * 6, 3));
        let (bias, gradient) = (numbers(4 * 11, 4), wide(&numbers(tokens * 12, 5)));
        for (causal, reach) in [(false, None), (true, None), (false, Some(2)), (true, Some(1))] {
            let shape = AttentionHeads { heads: 4, kv_heads: 2, head_dim: 3, causal, reach, scale: 0.7 };
            let states = States { query: &query, key: &key, value: &value, shape, bias: Some(&bias) };
            let exact = ExactAttention::new(&states);
            for (input, gradients) in exact.gradients(&spans, &gradient).into_iter().enumerate() {
                for (at, found) in gradients.into_iter().enumerate() {
                    let loss = |x: f64| {
                        let mut changed = exact.clone();
                        changed.inputs[input][at] = x;
                        changed.attend(&spans).0.iter().zip(&gradient).map(|(x, y)| x * y).sum::<f64>()
                    };
                    let expected = slope(loss, exact.inputs[input][at]);
                    assert!((found - expected).abs() < 1e-8, "input {input}, element {at}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_definition_on_every_instruction_set() {
        let spans: [&[(usize, usize)]; 4] = [&[(0, 1)], &[(0, 19)], &[(0, 3), (3, 40), (45, 50)], &[(2, 290)]];
        let masks =
            [(false, None), (true, None), (false, Some(0)), (false, Some(7)), (true, Some(36)), (false, Some(60))];
        for ((heads, kv_heads, head_dim), spans) in
            [(1, 1, 8), (4, 2, 12), (2, 2, 40)].into_iter().flat_map(|shape| spans.map(|of| (shape, of)))
        {
            let tokens = spans.last().map_or(0, |&(_, end)| end) + 2;
            let [query, out_gradient] = [7, 11].map(|seed| numbers(tokens * heads * head_dim, seed));
            let [key, value] = [8, 9].map(|seed| numbers(tokens * kv_heads * head_dim, seed));
            // Longer than needed, and as short as the longest text allows.
            let longest = spans.iter().map(|(start, end)| end - start).max().unwrap_or(1);
            for (number, &(causal, reach)) in masks.iter().enumerate() {
                let scale = 0.75 / (head_dim as f32).sqrt();
                let shape = AttentionHeads { heads, kv_heads, head_dim, causal, reach, scale };
                let bias = numbers(heads * (2 * (longest + number % 2 * 3) - 1), 10);
                let bias = (number % 3 != 2).then_some(bias.as_slice());
                let states = States { query: &query, key: &key, value: &value, shape, bias };
                let exact = ExactAttention::new(&states).gradients(spans, &wide(&out_gradient));
                for set in InstructionSet::available() {
                    let mut log_sum_exp = vec![0.0; tokens * heads];
                    let out = states.attend(set, spans, Some(&mut log_sum_exp), 1);
                    let backward =
                        Backward { states, out: &out, log_sum_exp: &log_sum_exp, out_gradient: &out_gradient };
                    let found = backward.run(set, spans, 1);
                    let what = format!("{set:?}, {shape:?}, {spans:?}, bias: {}", bias.is_some());
                    let [query, key, value, of_bias] = &exact;
                    let found_bias = found.bias.as_deref().unwrap_or(&[]);
                    for (found, expected) in
                        [(&found.query[..], query), (&found.key, key), (&found.value, value), (found_bias, of_bias)]
                    {
                        let largest = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
                        close(found, expected, 1e-5 * largest, &what);
                    }
                    for threads in 2..=3 {
                        assert_eq!(backward.run(set, spans, threads), found, "{what}, {threads} threads");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_spoils_only_what_it_belongs_to() {
        let (tokens, text) = (600, (3, 597));
        let (heads, kv_heads, head_dim) = (2, 1, 5);
        for set in InstructionSet::available() {
            for (causal, reach) in [(true, None), (false, Some(9)), (true, Some(40))] {
                let shape = AttentionHeads { heads, kv_heads, head_dim, causal, reach, scale: 0.4 };
                let [query, out_gradient] = [7, 11].map(|seed| numbers(tokens * heads * head_dim, seed));
                let [key, value] = [8, 9].map(|seed| numbers(tokens * kv_heads * head_dim, seed));
                let bias = numbers(heads * (2 * tokens - 1), 10);
                let plain = [query, key, value, out_gradient];
                let run = |inputs: &[Vec<f32>; 4]| {
                    let [query, key, value, out_gradient] = inputs;
                    let states = States { query, key, value, shape, bias: Some(&bias) };
                    let mut log_sum_exp = vec![0.0; tokens * heads];
                    let out = states.attend(set, &[text], Some(&mut log_sum_exp), 1);
                    let backward = Backward { states, out: &out, log_sum_exp: &log_sum_exp, out_gradient };
                    (out.clone(), backward.run(set, &[text], 1))
                };
                let (out, gradients) = run(&plain);
                for (input, number) in (0..4).flat_map(|input| [(input, f32::NAN), (input, f32::INFINITY)]) {
                    let at = 300;
                    let mut inputs = plain.clone();
                    let width = inputs[input].len() / tokens;
                    inputs[input][at * width + 1] = number;
                    let (spoilt_out, spoilt) = run(&inputs);
                    // A key is seen by rows; these are spoilt, and so are all keys that they see.
                    let is_key = input == 1 || input == 2;
                    let rows = if is_key { part(shape.seeing(at), &(0..tokens)) } else { at..at + 1 };
                    let rows = rows.start.max(text.0)..rows.end.min(text.1);
                    let keys = shape.seen(&(rows.start..rows.start + 1), &(text.0..text.1)).start
                        ..shape.seen(&(rows.end - 1..rows.end), &(text.0..text.1)).end;
                    let what = format!("{set:?}, {shape:?}, input {input}, {number}");
                    for (found, expected, kept) in [
                        (&spoilt_out, &out, &rows),
                        (&spoilt.query, &gradients.query, &rows),
                        (&spoilt.key, &gradients.key, &keys),
                        (&spoilt.value, &gradients.value, &keys),
                    ] {
                        let width = found.len() / tokens;
                        for token in (0..tokens).filter(|token| !kept.contains(token)) {
                            let place = token * width..(token + 1) * width;
                            assert_eq!(found[place.clone()], expected[place], "{what}, token {token}");
                        }
                    }
                    if input < 3 {
                        assert!(spoilt_out[rows.start * heads * head_dim..].iter().any(|x| !x.is_finite()), "{what}");
                    }
                    let far = reach.map_or(tokens, |reach| reach + 1);
                    let hidden = spoilt.bias.iter().flatten().enumerate().filter(|(at, _)| {
                        let distance = (at % (2 * tokens - 1)) as isize - (tokens as isize - 1);
                        distance.unsigned_abs() >= far || (causal && distance < 0)
                    });
                    assert!(hidden.map(|(_, x)| *x).all(|x| x == 0.0), "{what}");
                }
            }
        }
    }
}
