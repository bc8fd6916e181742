//! Attention of texts that stand one after another.

use std::ops::Range;

use rayon::prelude::*;

use super::InstructionSet;
use super::instructions::{Kernel, WithKernel};
use super::math;
use super::matmul::{MOST_ROWS, dot, interleave, tile_rows, tiles, with_rows};
use super::multiply::{ACROSS, store};

/// Multiplications that are not worth waking a thread for, by half of their number.
const FEW: usize = 1 << 18;

/// How hidden states are divided into heads.
#[derive(Debug, Clone, Copy)]
pub struct AttentionHeads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves a group of consecutive query heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
}

/// The states that attention reads, a row a token.
#[derive(Clone, Copy)]
struct States<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    shape: AttentionHeads,
}

/// Attention of each token over those of its own text, scaled by `1/sqrt(head_dim)`.
///
/// A text is a span of rows. What no span covers is padding: its result is zero.
///
/// # Shapes
/// `query [tokens, heads * head_dim]`, `key` and `value [tokens, kv_heads * head_dim]`, to the shape of `query`.
///
/// # Panics
/// When the sizes do not fit, or the spans are not in order.
pub fn attend(query: &[f32], key: &[f32], value: &[f32], spans: &[(usize, usize)], shape: AttentionHeads) -> Vec<f32> {
    attend_with(InstructionSet::current(), States { query, key, value, shape }, spans)
}

fn attend_with(set: InstructionSet, states: States<'_>, spans: &[(usize, usize)]) -> Vec<f32> {
    let AttentionHeads { heads, kv_heads, head_dim, .. } = states.shape;
    let width = heads * head_dim;
    let tokens = states.query.len() / width;
    assert_eq!(states.query.len(), tokens * width, "queries of the heads' width");
    assert_eq!(states.key.len(), tokens * kv_heads * head_dim, "keys of the heads' width");
    assert_eq!(states.value.len(), states.key.len(), "values of the keys' width");
    assert_eq!(heads % kv_heads, 0, "groups of heads of one size");
    let mut out = vec![0.0; states.query.len()];

    // A piece of work is a text, or some rows of it where there are fewer texts than threads.
    let work: usize = spans.iter().map(|(start, end)| (end - start) * (end - start) * width).sum();
    let threads = if work < FEW { 1 } else { rayon::current_num_threads() };
    let parts = if spans.len() < 2 * threads { threads.div_ceil(spans.len().max(1)) } else { 1 };
    let mut pieces = Vec::new();
    let (mut rest, mut at) = (out.as_mut_slice(), 0);
    for &(start, end) in spans {
        assert!(at <= start && start <= end && end <= tokens, "spans in order, of {tokens} tokens");
        for rows in tiles(start..end, (end - start).div_ceil(parts).max(1)) {
            let (piece, after) = rest.split_at_mut((rows.end - at) * width);
            let piece = &mut piece[(rows.start - at) * width..];
            (rest, at) = (after, rows.end);
            pieces.push(Piece { states, text: start..end, rows, out: piece });
        }
    }
    match threads {
        1 => pieces.into_iter().for_each(|piece| set.run(piece)),
        _ => pieces.into_par_iter().with_max_len(1).for_each(|piece| set.run(piece)),
    }
    out
}

/// Some rows of one text.
struct Piece<'a> {
    states: States<'a>,
    text: Range<usize>,
    rows: Range<usize>,
    out: &'a mut [f32],
}

/// Memory of one key and value head of a text.
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    weights: Vec<f32>,
}

impl WithKernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(mut self, simd: S) {
        let AttentionHeads { heads, kv_heads, head_dim, causal } = self.states.shape;
        let panel = ACROSS * S::F32_LANES;
        // Rows see no key after the last of them.
        let keys = if causal { self.rows.end } else { self.text.end } - self.text.start;
        let most = tile_rows::<S>();
        let mut scratch = Scratch {
            keys: vec![0.0; keys.next_multiple_of(panel) * head_dim],
            values: vec![0.0; head_dim.next_multiple_of(panel) * keys],
            queries: vec![0.0; most * head_dim],
            scores: vec![0.0; most * keys.next_multiple_of(panel)],
            weights: vec![0.0; most * keys],
        };
        for kv_head in 0..kv_heads {
            self.load::<S>(kv_head, keys, &mut scratch);
            let group = heads / kv_heads;
            for head in kv_head * group..(kv_head + 1) * group {
                for rows in tiles(self.rows.clone(), most) {
                    self.tile(simd, head, rows, keys, &mut scratch);
                }
            }
        }
    }
}

impl<'a> Piece<'a> {
    /// Lays out the keys and values of one head: keys in panels of keys, values in panels of components.
    #[inline(always)]
    fn load<S: Kernel>(&self, kv_head: usize, keys: usize, scratch: &mut Scratch) {
        let AttentionHeads { kv_heads, head_dim, .. } = self.states.shape;
        let panel = ACROSS * S::F32_LANES;
        let of = |states: &'a [f32], key: usize| {
            &states[((self.text.start + key) * kv_heads + kv_head) * head_dim..][..head_dim]
        };
        for (number, into) in scratch.keys.chunks_exact_mut(head_dim * panel).enumerate() {
            for (at, key) in (number * panel..keys.min((number + 1) * panel)).enumerate() {
                for (into, &x) in into[at..].iter_mut().step_by(panel).zip(of(self.states.key, key)) {
                    *into = x;
                }
            }
        }
        for key in 0..keys {
            for (place, from) in of(self.states.value, key).chunks(panel).enumerate() {
                scratch.values[(place * keys + key) * panel..][..from.len()].copy_from_slice(from);
            }
        }
    }

    /// One head of the rows of a tile.
    #[inline(always)]
    fn tile<S: Kernel>(&mut self, simd: S, head: usize, rows: Range<usize>, keys: usize, scratch: &mut Scratch) {
        let AttentionHeads { heads, head_dim, causal, .. } = self.states.shape;
        let (panel, width, count) = (ACROSS * S::F32_LANES, heads * head_dim, rows.len());
        let Scratch { keys: key_panels, values, queries, scores, weights } = scratch;
        // Keys that the last of the rows sees.
        let seen = if causal { rows.end - self.text.start } else { keys };
        let stride = seen.next_multiple_of(panel);

        let queries = &mut queries[..count * head_dim];
        let from = &self.states.query[rows.start * width + head * head_dim..];
        with_rows!(count, tile_rows::<S>(), R => interleave::<_, R>(from, width, queries));
        for (place, keys) in key_panels.chunks_exact(head_dim * panel).take(stride / panel).enumerate() {
            with_rows!(count, tile_rows::<S>(), R => {
                for (row, sums) in dot::<S, R>(simd, queries, keys, keys).into_iter().enumerate() {
                    store(simd, sums, &mut scores[row * stride + place * panel..]);
                }
            });
        }
        let mut scales = [0.0; MOST_ROWS];
        for (row, scale) in scales.iter_mut().enumerate().take(count) {
            let visible = if causal { seen - (count - 1) + row } else { seen };
            let scores = &mut scores[row * stride..][..stride];
            scores[visible..].fill(f32::NEG_INFINITY);
            *scale = 1.0 / softmax(simd, scores, 1.0 / (head_dim as f32).sqrt());
        }
        let weights = &mut weights[..count * seen];
        with_rows!(count, tile_rows::<S>(), R => interleave::<_, R>(scores, stride, weights));
        let base = (rows.start - self.rows.start) * width + head * head_dim;
        for (place, values) in values.chunks_exact(keys * panel).enumerate() {
            let columns = (head_dim - place * panel).min(panel);
            let values = &values[..seen * panel];
            with_rows!(count, tile_rows::<S>(), R => {
                for (row, mut sums) in dot::<S, R>(simd, weights, values, values).into_iter().enumerate() {
                    for sum in &mut sums {
                        *sum = simd.mul_f32s(*sum, simd.splat_f32s(scales[row]));
                    }
                    store(simd, sums, &mut self.out[base + row * width + place * panel..][..columns]);
                }
            });
        }
    }
}

/// Puts `e^(scale (x - max))` in the place of each number and gives the sum of them.
#[inline(always)]
fn softmax<S: Kernel>(simd: S, scores: &mut [f32], scale: f32) -> f32 {
    let (scale, largest) = (simd.splat_f32s(scale), simd.splat_f32s(math::max(scores)));
    let mut sum = simd.splat_f32s(0.0);
    for score in S::as_mut_simd_f32s(scores).0 {
        *score = math::exp(simd, simd.mul_f32s(simd.sub_f32s(*score, largest), scale));
        sum = simd.add_f32s(sum, *score);
    }
    simd.reduce_sum_f32s(sum)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::*;

    /// Attention by its definition.
    fn expected(states: &States<'_>, spans: &[(usize, usize)]) -> Vec<f64> {
        let AttentionHeads { heads, kv_heads, head_dim, causal } = states.shape;
        let mut out = vec![0.0; states.query.len()];
        let at = |states: &[f32], row: usize, heads: usize, head: usize, d: usize| {
            f64::from(states[(row * heads + head) * head_dim + d])
        };
        for &(start, end) in spans {
            for (row, head) in (start..end).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let kv_head = head / (heads / kv_heads);
                let keys = start..if causal { row + 1 } else { end };
                let score = |key: usize| {
                    let terms = (0..head_dim)
                        .map(|d| at(states.query, row, heads, head, d) * at(states.key, key, kv_heads, kv_head, d));
                    (terms.sum::<f64>() / (head_dim as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = keys.clone().map(score).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let terms = keys.clone().zip(&weights);
                    let sum: f64 =
                        terms.map(|(key, weight)| weight * at(states.value, key, kv_heads, kv_head, d)).sum();
                    out[(row * heads + head) * head_dim + d] = sum / total;
                }
            }
        }
        out
    }

    #[test]
    fn attention_is_that_of_the_definition_on_every_instruction_set() {
        let spans: [&[(usize, usize)]; 4] = [&[(0, 1)], &[(0, 19)], &[(0, 3), (3, 40), (45, 50)], &[(2, 150)]];
        for set in InstructionSet::available() {
            for (heads, kv_heads, head_dim) in [(1, 1, 8), (4, 2, 12), (2, 2, 64)] {
                for (spans, causal) in spans.into_iter().flat_map(|spans| [(spans, false), (spans, true)]) {
                    let tokens = spans.last().map_or(0, |&(_, end)| end) + 2;
                    let query = numbers(tokens * heads * head_dim, 7);
                    let key = numbers(tokens * kv_heads * head_dim, 8);
                    let value = numbers(tokens * kv_heads * head_dim, 9);
                    let shape = AttentionHeads { heads, kv_heads, head_dim, causal };
                    let states = States { query: &query, key: &key, value: &value, shape };
                    let what = format!("{set:?}, {shape:?}, {spans:?}");
                    close(&attend_with(set, states, spans), &expected(&states, spans), 1e-5, &what);
                }
            }
        }
    }
}
