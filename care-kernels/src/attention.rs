//! Multi-head attention over packed (varlen) sequences.

use std::ops::Range;

use rayon::prelude::*;

use crate::f32_matrix::{tile_rows, tiles, with_rows};
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};
use crate::math;
use crate::matmul::{ACROSS, load, store};

/// Below this many multiplications per matmul (of scores, of values) the work runs on one thread.
pub(crate) const FEW: usize = 1 << 18;

/// Consecutive dimensions of a key that are stored together.
pub(crate) const CHUNK: usize = 8;

/// Longest text whose keys are processed at once. Those of longer ones are taken block by block, which bounds the memory of
/// scores. Blocks follow from the text alone, so a result depends neither on other rows nor on threads. Shorter in this
/// crate's tests, so that texts of several blocks stay small.
pub(crate) const KEYS: usize = if cfg!(test) { 512 } else { 2048 };

/// How hidden states are divided into heads.
#[derive(Debug, Clone, Copy)]
pub struct AttentionHeads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves a group of consecutive query heads.
    pub kv_heads: usize,
    /// Dimensions per head.
    pub head_dim: usize,
    /// Whether a token attends only to itself and the tokens before it.
    pub causal: bool,
    /// Sliding window: the distance of the farthest tokens to which a token attends, before it and, unless `causal`,
    /// after it. `None`: any distance.
    pub reach: Option<usize>,
    /// Factor of the scores, usually `1/sqrt(head_dim)`.
    pub scale: f32,
}

impl AttentionHeads {
    /// The tokens of `text` to which at least one of `rows` attends.
    pub(crate) fn seen(&self, rows: &Range<usize>, text: &Range<usize>) -> Range<usize> {
        let reach = self.reach.unwrap_or(usize::MAX);
        let first = rows.start.saturating_sub(reach).max(text.start);
        let end = if self.causal { rows.end } else { rows.end.saturating_add(reach).min(text.end) };
        first..end
    }

    /// The tokens that attend to `key`, those outside its text among them.
    pub(crate) fn seeing(&self, key: usize) -> Range<usize> {
        let reach = self.reach.unwrap_or(usize::MAX);
        let first = if self.causal { key } else { key.saturating_sub(reach) };
        first..key.saturating_add(reach).saturating_add(1)
    }
}

/// The part of `range` within `within`, counted from its start.
#[inline(always)]
pub(crate) fn part(range: Range<usize>, within: &Range<usize>) -> Range<usize> {
    let end = range.end.clamp(within.start, within.end);
    range.start.clamp(within.start, end) - within.start..end - within.start
}

/// The inputs of attention, one row per token.
#[derive(Clone, Copy)]
pub(crate) struct States<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) value: &'a [f32],
    pub(crate) shape: AttentionHeads,
    pub(crate) bias: Option<&'a [f32]>,
}

/// Scaled dot-product attention of each token over the tokens of its own text, or those of them in its window.
///
/// `spans` are the rows `(start, end)` of each text. Rows outside every span are padding; their result is zero. `bias` is
/// added to the scores: to that of the query at position `q` and the key at `k` of a text, the value at `far + q - k` of
/// the head's row.
///
/// # Shapes
/// `query [tokens, heads * head_dim]`, `key` and `value [tokens, kv_heads * head_dim]`, `bias [heads, 2 * far + 1]`,
/// where no text has more than `far + 1` tokens; returns the shape of `query`.
///
/// # Panics
/// Panics if the sizes do not match, or if the spans overlap or are not in order.
pub fn attention(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    spans: &[(usize, usize)],
    shape: AttentionHeads,
    bias: Option<&[f32]>,
    threads: usize,
) -> Vec<f32> {
    States { query, key, value, shape, bias }.attend(InstructionSet::current(), spans, None, threads)
}

/// [`attention`], and the logarithm of each softmax denominator, which the backward pass needs: `[heads, tokens]`, 0 for
/// padding.
///
/// # Panics
/// Panics as [`attention`] does.
pub fn attention_with_log_sum_exp(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    spans: &[(usize, usize)],
    shape: AttentionHeads,
    bias: Option<&[f32]>,
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    let mut logs = vec![0.0; query.len() / shape.head_dim];
    let states = States { query, key, value, shape, bias };
    let out = states.attend(InstructionSet::current(), spans, Some(&mut logs), threads);
    (out, logs)
}

impl States<'_> {
    /// Checks the sizes; returns the number of tokens.
    pub(crate) fn check(&self, spans: &[(usize, usize)]) -> usize {
        let AttentionHeads { heads, kv_heads, head_dim, .. } = self.shape;
        let width = heads * head_dim;
        let tokens = self.query.len() / width;
        assert_eq!(self.query.len(), tokens * width, "`query` must be [tokens, heads * head_dim]");
        assert_eq!(self.key.len(), tokens * kv_heads * head_dim, "`key` must be [tokens, kv_heads * head_dim]");
        assert_eq!(self.value.len(), self.key.len(), "`value` must have the shape of `key`");
        assert_eq!(heads % kv_heads, 0, "`heads` must be a multiple of `kv_heads`");
        let longest = spans.iter().map(|(start, end)| end - start).max().unwrap_or(0);
        let fits = |bias: &[f32]| {
            let far = bias.len() / heads / 2;
            bias.len() == heads * (2 * far + 1) && longest <= far + 1
        };
        assert!(self.bias.is_none_or(fits), "`bias` must be [heads, 2 * far + 1], for texts of up to far + 1 tokens");
        let mut before = 0;
        for &(start, end) in spans {
            assert!(
                before <= start && start <= end && end <= tokens,
                "spans must be in order and within {tokens} tokens"
            );
            before = end;
        }
        tokens
    }

    /// Multiplications per matmul.
    pub(crate) fn work(&self, spans: &[(usize, usize)]) -> usize {
        let width = self.shape.heads * self.shape.head_dim;
        spans.iter().map(|(start, end)| (end - start) * (end - start) * width).sum()
    }

    /// Attention; `logs`, `[heads, tokens]`, receives the logarithm of each softmax denominator.
    pub(crate) fn attend(
        self,
        set: InstructionSet,
        spans: &[(usize, usize)],
        logs: Option<&mut [f32]>,
        threads: usize,
    ) -> Vec<f32> {
        let tokens = self.check(spans);
        let width = self.shape.heads * self.shape.head_dim;
        let mut out = vec![0.0; self.query.len()];

        // A piece of work is a text, or some of its rows if there are too few texts to keep every thread busy.
        let threads = if self.work(spans) < FEW { 1 } else { threads };
        let parts = if spans.len() < 2 * threads { threads.div_ceil(spans.len().max(1)) } else { 1 };
        let mut pieces = Vec::new();
        let (mut rest, mut at) = (out.as_mut_slice(), 0);
        let mut logs: Vec<&mut [f32]> =
            logs.map_or_else(Vec::new, |logs| logs.chunks_exact_mut(tokens.max(1)).collect());
        for &(start, end) in spans {
            for rows in tiles(start..end, (end - start).div_ceil(parts).max(1)) {
                let (skipped, taken) = (rows.start - at, rows.end - at);
                pieces.push(Piece {
                    states: self,
                    text: start..end,
                    rows: rows.clone(),
                    out: take(&mut rest, skipped * width, taken * width),
                    logs: logs.iter_mut().map(|logs| take(logs, skipped, taken)).collect(),
                });
                at = rows.end;
            }
        }
        match threads {
            1 => pieces.into_iter().for_each(|piece| set.run(piece)),
            _ => pieces.into_par_iter().with_max_len(1).for_each(|piece| set.run(piece)),
        }
        out
    }

    /// Adds the bias of a head to the scores of a tile. `scores` has one row of `across` queries per key, from the key
    /// `first` on.
    #[inline(always)]
    pub(crate) fn add_bias(&self, scores: &mut [f32], across: usize, head: usize, rows: &Range<usize>, first: usize) {
        let Some(bias) = self.bias else { return };
        let count = bias.len() / self.shape.heads;
        let bias = &bias[head * count..][..count];
        for (key, scores) in (first..).zip(scores.chunks_exact_mut(across)) {
            let bias = &bias[count / 2 + rows.start - key..][..rows.len()];
            for (score, bias) in scores.iter_mut().zip(bias) {
                *score += bias;
            }
        }
    }

    /// Sets the scores of keys to `hidden` for the rows of a tile of a text of `length` tokens that do not attend to them.
    /// `scores` has one row of `across` queries per key, from the key `first` on.
    #[inline(always)]
    pub(crate) fn hide(
        &self,
        scores: &mut [f32],
        across: usize,
        length: usize,
        rows: &Range<usize>,
        first: usize,
        hidden: f32,
    ) {
        let AttentionHeads { causal, reach, .. } = self.shape;
        // A window that no text exceeds hides nothing.
        let reach = reach.filter(|reach| *reach + 1 < length);
        let start = match (causal, reach) {
            (false, None) => return,
            // Earlier keys are before every row.
            (true, None) => rows.start.max(first),
            (_, Some(_)) => first,
        };
        let reach = reach.unwrap_or(usize::MAX);
        let queries = |row: usize| row.saturating_sub(rows.start).min(across);
        let Some(scores) = scores.get_mut((start - first) * across..) else { return };
        for (key, scores) in (start..).zip(scores.chunks_exact_mut(across)) {
            let earliest = if causal { key } else { key.saturating_sub(reach) };
            let latest = key.saturating_add(reach);
            scores[..queries(earliest)].fill(hidden);
            scores[queries(latest.saturating_add(1))..].fill(hidden);
        }
    }
}

/// Takes the first `end` numbers off `rest` and returns those from `start` on.
fn take<'a>(rest: &mut &'a mut [f32], start: usize, end: usize) -> &'a mut [f32] {
    let (taken, after) = std::mem::take(rest).split_at_mut(end);
    *rest = after;
    &mut taken[start..]
}

/// Some rows of one text.
struct Piece<'a> {
    states: States<'a>,
    text: Range<usize>,
    rows: Range<usize>,
    out: &'a mut [f32],
    /// For each head, if wanted: the logarithm of each row's softmax denominator.
    logs: Vec<&'a mut [f32]>,
}

/// Packed inputs and intermediate results of one head of a text. The dimensions of a head are zero-padded to whole
/// chunks (keys, queries) or whole panels (values).
struct Scratch {
    /// `[head_dim / CHUNK, tile, CHUNK]` for each tile of keys.
    keys: Vec<[f32; CHUNK]>,
    /// `[keys, panel]` for each panel of dimensions.
    values: Vec<f32>,
    /// The queries of a tile, interleaved: `[head_dim, tile]`.
    queries: Vec<f32>,
    /// Their scores and later their softmax numerators, `[keys, tile]`.
    scores: Vec<f32>,
    /// What a tile's values are multiplied by.
    scales: Vec<f32>,
    /// `[heads, rows]` for the heads that share a key, if there are several blocks of keys: the largest score and the sum of
    /// the numerators in the blocks so far.
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// Whether every value of the packed head is finite.
    finite: bool,
}

impl WithKernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(mut self, simd: S) {
        let AttentionHeads { heads, kv_heads, head_dim, .. } = self.states.shape;
        let most = ACROSS * S::F32_LANES;
        let whole = self.text.len() <= KEYS;
        let group = heads / kv_heads;
        let count = self.text.len().min(KEYS);
        let states = if whole { 0 } else { group * self.rows.len().next_multiple_of(most) };
        let mut scratch = Scratch {
            keys: vec![[0.0; CHUNK]; count * head_dim.div_ceil(CHUNK)],
            values: vec![0.0; count * head_dim.next_multiple_of(most)],
            queries: vec![0.0; head_dim.next_multiple_of(CHUNK) * most],
            scores: vec![0.0; count * most],
            scales: vec![0.0; most],
            largest: vec![0.0; states],
            sums: vec![0.0; states],
            finite: true,
        };
        let seen = self.states.shape.seen(&self.rows, &self.text);
        for kv_head in 0..kv_heads {
            scratch.largest.fill(f32::MIN);
            scratch.sums.fill(0.0);
            for keys in tiles(self.text.clone(), KEYS) {
                let keys = keys.start.max(seen.start)..keys.end.min(seen.end);
                if keys.is_empty() {
                    continue;
                }
                self.load::<S>(kv_head, &keys, &mut scratch);
                for head in kv_head * group..(kv_head + 1) * group {
                    for start in self.rows.clone().step_by(most) {
                        let rows = start..self.rows.end.min(start + most);
                        if rows.len() > S::F32_LANES {
                            self.tile::<S, ACROSS>(simd, head, rows, &keys, &mut scratch);
                        } else {
                            self.tile::<S, 1>(simd, head, rows, &keys, &mut scratch);
                        }
                    }
                }
            }
            if !whole {
                self.finish(simd, kv_head * group..(kv_head + 1) * group, &scratch);
            }
        }
    }
}

impl<'a> Piece<'a> {
    /// Packs the keys and values of one head.
    #[inline(always)]
    fn load<S: Kernel>(&self, kv_head: usize, keys: &Range<usize>, scratch: &mut Scratch) {
        let AttentionHeads { kv_heads, head_dim, .. } = self.states.shape;
        let (panel, chunks) = (ACROSS * S::F32_LANES, head_dim.div_ceil(CHUNK));
        let of =
            |states: &'a [f32], key: usize| &states[((keys.start + key) * kv_heads + kv_head) * head_dim..][..head_dim];
        let count = keys.len();
        for tile in tiles(0..count, tile_rows::<S>()) {
            let into = &mut scratch.keys[tile.start * chunks..tile.end * chunks];
            for (row, key) in tile.clone().enumerate() {
                copy_chunks(of(self.states.key, key), into, |chunk| chunk * tile.len() + row);
            }
        }
        let (values, _) = scratch.values.as_chunks_mut::<CHUNK>();
        for key in 0..count {
            let start = |dimension| (dimension / panel * count + key) * panel + dimension % panel;
            copy_chunks(of(self.states.value, key), values, |chunk| start(chunk * CHUNK) / CHUNK);
        }
        scratch.finite = all_finite(&scratch.values[..count * head_dim.next_multiple_of(panel)]);
    }

    /// One head of a tile of rows that fit into `A` vectors; `keys` are packed. Scores are stored with one row per key,
    /// so that the softmax runs over vectors of queries.
    #[inline(always)]
    fn tile<S: Kernel, const A: usize>(
        &mut self,
        simd: S,
        head: usize,
        rows: Range<usize>,
        keys: &Range<usize>,
        scratch: &mut Scratch,
    ) {
        let AttentionHeads { heads, head_dim, scale, .. } = self.states.shape;
        let (across, panel, width) = (A * S::F32_LANES, ACROSS * S::F32_LANES, heads * head_dim);
        // Counted from the first packed key.
        let seen = self.states.shape.seen(&rows, &self.text);
        let seen = part(seen, keys);
        if seen.is_empty() {
            return;
        }
        let chunks = head_dim.div_ceil(CHUNK);
        let queries = &mut scratch.queries[..chunks * CHUNK * across];
        for (at, row) in rows.clone().enumerate() {
            let query = &self.states.query[row * width + head * head_dim..][..head_dim];
            for (into, x) in queries.chunks_exact_mut(across).zip(query) {
                into[at] = x * scale;
            }
        }
        let of_seen = |tile: &Range<usize>| tile.start < seen.end && seen.start < tile.end;
        for tile in tiles(0..keys.len(), tile_rows::<S>()).filter(of_seen) {
            let keys = &scratch.keys[tile.start * chunks..tile.end * chunks];
            let scores = &mut scratch.scores[tile.start * across..tile.end * across];
            with_rows!(tile.len(), tile_rows::<S>(), R => match_keys::<S, R, A>(simd, keys, queries, scores));
        }
        let scores = &mut scratch.scores[seen.start * across..seen.end * across];
        self.states.add_bias(scores, across, head, &rows, keys.start + seen.start);
        self.states.hide(scores, across, self.text.len(), &rows, keys.start + seen.start, f32::NEG_INFINITY);
        let whole = self.text.len() <= KEYS;
        if whole {
            let (largest, sums) = softmax::<S, A>(simd, scores, [simd.splat_f32s(f32::MIN); A]);
            for at in 0..A {
                let from = (at * S::F32_LANES).min(rows.len());
                let count = (rows.len() - from).min(S::F32_LANES);
                if let Some(logs) = self.logs.get_mut(head) {
                    let logs = &mut logs[rows.start - self.rows.start + from..][..count];
                    simd.partial_store_f32s(logs, largest[at]);
                    let into = &mut scratch.scales[..S::F32_LANES];
                    simd.partial_store_f32s(into, sums[at]);
                    for (log, sum) in logs.iter_mut().zip(into) {
                        *log += sum.ln();
                    }
                }
            }
            for (into, sum) in scratch.scales.chunks_exact_mut(S::F32_LANES).zip(sums) {
                simd.partial_store_f32s(into, simd.div_f32s(simd.splat_f32s(1.0), sum));
            }
        } else {
            let place = self.place::<S>(head, rows.start);
            let mut before = [simd.splat_f32s(0.0); A];
            for (vector, largest) in before.iter_mut().zip(scratch.largest[place..].chunks(S::F32_LANES)) {
                *vector = simd.partial_load_f32s(largest);
            }
            let (largest, sums) = softmax::<S, A>(simd, scores, before);
            for at in 0..A {
                let place = place + at * S::F32_LANES..place + (at + 1) * S::F32_LANES;
                let factor = math::exp_to_88(simd, simd.sub_f32s(before[at], largest[at]));
                let so_far = simd.partial_load_f32s(&scratch.sums[place.clone()]);
                simd.partial_store_f32s(&mut scratch.sums[place.clone()], simd.add_product(so_far, factor, sums[at]));
                simd.partial_store_f32s(&mut scratch.largest[place], largest[at]);
                simd.partial_store_f32s(&mut scratch.scales[at * S::F32_LANES..][..S::F32_LANES], factor);
            }
        }
        let scores = &scratch.scores;
        let count = keys.len() * panel;
        for (place, values) in scratch.values[..count * head_dim.div_ceil(panel)].chunks_exact(count).enumerate() {
            let columns = (head_dim - place * panel).min(panel);
            // A hidden key has weight 0, but 0 times NaN is NaN, so each row then gets the keys that it sees alone.
            let most = if scratch.finite { tile_rows::<S>() } else { 1 };
            for tile in tiles(0..rows.len(), most) {
                let row = rows.start + tile.start;
                let own = self.states.shape.seen(&(row..row + 1), &self.text);
                let seen = if scratch.finite { seen.clone() } else { part(own, keys) };
                if seen.is_empty() {
                    continue;
                }
                let values = &values[seen.start * panel..seen.end * panel];
                let weights = &scores[seen.start * across + tile.start..];
                let first = (rows.start - self.rows.start + tile.start) * width + head * head_dim + place * panel;
                with_rows!(tile.len(), tile_rows::<S>(), R => {
                    for (row, mut sums) in mix_values::<S, R>(simd, weights, across, values).into_iter().enumerate() {
                        let scale = simd.splat_f32s(scratch.scales[tile.start + row]);
                        let out = &mut self.out[first + row * width..][..columns];
                        if whole {
                            for sum in &mut sums {
                                *sum = simd.mul_f32s(*sum, scale);
                            }
                        } else {
                            for (sum, before) in sums.iter_mut().zip(load(simd, out)) {
                                *sum = simd.add_product(before, scale, *sum);
                            }
                        }
                        store(simd, sums, out);
                    }
                });
            }
        }
    }

    /// Where the state of a row is among those of the heads that share its keys.
    #[inline(always)]
    fn place<S: Kernel>(&self, head: usize, row: usize) -> usize {
        let AttentionHeads { heads, kv_heads, .. } = self.states.shape;
        head % (heads / kv_heads) * self.rows.len().next_multiple_of(ACROSS * S::F32_LANES) + row - self.rows.start
    }

    /// Divides the rows of some heads by their denominators, which are complete.
    #[inline(always)]
    fn finish<S: Kernel>(&mut self, _simd: S, heads: Range<usize>, scratch: &Scratch) {
        let AttentionHeads { heads: all, head_dim, .. } = self.states.shape;
        for head in heads {
            let place = self.place::<S>(head, self.rows.start);
            let (largest, sums) = (&scratch.largest[place..], &scratch.sums[place..]);
            for (row, sum) in self.out.chunks_exact_mut(all * head_dim).zip(sums) {
                let scale = 1.0 / sum;
                row[head * head_dim..][..head_dim].iter_mut().for_each(|x| *x *= scale);
            }
            if let Some(logs) = self.logs.get_mut(head) {
                for ((log, largest), sum) in logs.iter_mut().zip(largest).zip(sums) {
                    *log = largest + sum.ln();
                }
            }
        }
    }
}

/// Whether no value is infinite or NaN.
#[inline(always)]
pub(crate) fn all_finite(values: &[f32]) -> bool {
    // A sum of zeros unless a factor is infinite or NaN.
    math::sum(values, |x| x * 0.0) == 0.0
}

/// Copies one head's values chunk by chunk; `place` maps the number of a chunk to its place in `into`.
#[inline(always)]
pub(crate) fn copy_chunks(values: &[f32], into: &mut [[f32; CHUNK]], place: impl Fn(usize) -> usize) {
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    for (number, chunk) in chunks.iter().enumerate() {
        into[place(number)] = *chunk;
    }
    if !rest.is_empty() {
        let into = &mut into[place(chunks.len())];
        *into = [0.0; CHUNK];
        into[..rest.len()].copy_from_slice(rest);
    }
}

/// The scores of `R` keys for a tile of interleaved queries.
#[inline(always)]
pub(crate) fn match_keys<S: Kernel, const R: usize, const A: usize>(
    simd: S,
    keys: &[[f32; CHUNK]],
    queries: &[f32],
    scores: &mut [f32],
) {
    let (queries, _) = pulp::as_arrays::<A, _>(S::as_simd_f32s(queries).0);
    let mut sums = [[simd.splat_f32s(0.0); A]; R];
    for (keys, queries) in keys.as_chunks::<R>().0.iter().zip(queries.as_chunks::<CHUNK>().0) {
        for at in 0..CHUNK {
            let mut numbers = [0.0; R];
            for row in 0..R {
                numbers[row] = keys[row][at];
            }
            add_products::<S, R, A>(simd, &mut sums, &numbers, &queries[at]);
        }
    }
    let (scores, _) = pulp::as_arrays_mut::<A, _>(S::as_mut_simd_f32s(scores).0);
    scores.copy_from_slice(&sums);
}

/// The values of one panel, summed with the weights of `R` queries; `stride` is the distance between the weights of
/// consecutive keys.
#[inline(always)]
pub(crate) fn mix_values<S: Kernel, const R: usize>(
    simd: S,
    weights: &[f32],
    stride: usize,
    values: &[f32],
) -> [[S::f32s; ACROSS]; R] {
    let (values, _) = pulp::as_arrays::<ACROSS, _>(S::as_simd_f32s(values).0);
    let mut sums = [[simd.splat_f32s(0.0); ACROSS]; R];
    let mut at = 0;
    for values in values {
        add_products::<S, R, ACROSS>(simd, &mut sums, &weights[at..at + R], values);
        at += stride;
    }
    sums
}

/// Adds `numbers[row] * vectors` to each of the `R` rows of `sums`.
#[inline(always)]
pub(crate) fn add_products<S: Kernel, const R: usize, const A: usize>(
    simd: S,
    sums: &mut [[S::f32s; A]; R],
    numbers: &[f32],
    vectors: &[S::f32s; A],
) {
    for row in 0..R {
        let x = simd.splat_f32s(numbers[row]);
        for at in 0..A {
            sums[row][at] = simd.add_product(x, vectors[at], sums[row][at]);
        }
    }
}

/// Replaces each score by `e^(x - max)`, where `max` is the largest of its column and of `largest`, and returns each
/// column's maximum and sum.
#[inline(always)]
fn softmax<S: Kernel, const A: usize>(
    simd: S,
    scores: &mut [f32],
    mut largest: [S::f32s; A],
) -> ([S::f32s; A], [S::f32s; A]) {
    let (scores, _) = pulp::as_arrays_mut::<A, _>(S::as_mut_simd_f32s(scores).0);
    for scores in scores.iter() {
        for at in 0..A {
            largest[at] = simd.max_f32s(largest[at], scores[at]);
        }
    }
    let mut sums = [simd.splat_f32s(0.0); A];
    for scores in scores {
        for at in 0..A {
            scores[at] = math::exp_to_88(simd, simd.sub_f32s(scores[at], largest[at]));
            sums[at] = simd.add_f32s(sums[at], scores[at]);
        }
    }
    (largest, sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ExactAttention, close, numbers};

    #[test]
    fn attention_is_that_of_the_definition_on_every_instruction_set() {
        let spans: [&[(usize, usize)]; 4] = [&[(0, 1)], &[(0, 19)], &[(0, 3), (3, 40), (45, 50)], &[(2, 150)]];
        let shapes = [(1, 1, 8), (4, 2, 12), (2, 2, 64)];
        // 36 and 147 are the distances of the ends of a text.
        let reaches = [None, Some(0), Some(1), Some(7), Some(36), Some(60), Some(147)];
        let masks = [false, true].map(|causal| reaches.map(|reach| (causal, reach))).concat();
        for ((heads, kv_heads, head_dim), spans) in shapes.into_iter().flat_map(|shape| spans.map(|of| (shape, of))) {
            let tokens = spans.last().map_or(0, |&(_, end)| end) + 2;
            let query = numbers(tokens * heads * head_dim, 7);
            let key = numbers(tokens * kv_heads * head_dim, 8);
            let value = numbers(tokens * kv_heads * head_dim, 9);
            // As short as the longest text allows.
            let far = spans.iter().map(|(start, end)| end - start).max().unwrap_or(1) - 1;
            let bias = numbers(heads * (2 * far + 1), 10);
            for &(causal, reach) in &masks {
                let scale = 0.75 / (head_dim as f32).sqrt();
                let shape = AttentionHeads { heads, kv_heads, head_dim, causal, reach, scale };
                // Half of the masks with a bias, half without.
                let bias = (causal ^ reach.is_none_or(|reach| reach % 2 == 0)).then_some(bias.as_slice());
                let states = States { query: &query, key: &key, value: &value, shape, bias };
                let (out, logs) = ExactAttention::new(&states).attend(spans);
                for set in InstructionSet::available() {
                    let what = format!("{set:?}, {shape:?}, {spans:?}, bias: {}", bias.is_some());
                    let mut found = vec![0.0; tokens * heads];
                    close(&states.attend(set, spans, Some(&mut found), 2), &out, 1e-5, &what);
                    close(&found, &logs, 1e-5, &what);
                }
            }
        }
    }

    #[test]
    fn long_texts_are_attended_block_by_block_with_the_same_bits_for_any_number_of_threads() {
        let (spans, tokens) = ([(0, 20), (21, 2 * KEYS + 60)], 2 * KEYS + 61);
        let (heads, kv_heads, head_dim) = (2, 1, 9);
        let query: Vec<f32> = numbers(tokens * heads * head_dim, 1).iter().map(|x| 5.0 * x).collect();
        let [key, value] = [2, 3].map(|seed| numbers(tokens * kv_heads * head_dim, seed));
        let bias = numbers(heads * (2 * tokens - 1), 4);
        for (causal, reach) in [(false, None), (true, None), (false, Some(20)), (true, Some(700))] {
            let shape = AttentionHeads { heads, kv_heads, head_dim, causal, reach, scale: 0.5 };
            let states = States { query: &query, key: &key, value: &value, shape, bias: Some(&bias) };
            let (out, logs) = ExactAttention::new(&states).attend(&spans);
            for set in InstructionSet::available() {
                let run = |threads| {
                    let mut logs = vec![0.0; tokens * heads];
                    (states.attend(set, &spans, Some(&mut logs), threads), logs)
                };
                let found = run(1);
                close(&found.0, &out, 1e-5, &format!("{set:?}, {shape:?}"));
                close(&found.1, &logs, 2e-5, &format!("denominators, {set:?}, {shape:?}"));
                assert!([2, 3, 7].into_iter().all(|threads| run(threads) == found), "{set:?}, {shape:?}");
            }
        }
    }

    #[test]
    fn a_nan_in_a_later_block_reaches_only_the_rows_that_see_it() {
        let (tokens, spoilt) = (2 * KEYS + 60, KEYS + 7);
        let (heads, head_dim) = (2, 9);
        let width = heads * head_dim;
        let [query, key, value] = [1, 2, 3].map(|seed| numbers(tokens * width, seed));
        let with_nan = |values: &[f32]| {
            let mut values = values.to_vec();
            values[spoilt * width..(spoilt + 1) * width].fill(f32::NAN);
            values
        };
        let (spoilt_key, spoilt_value) = (with_nan(&key), with_nan(&value));
        for (causal, reach) in [(true, None), (false, Some(20)), (true, Some(KEYS + 3))] {
            let shape = AttentionHeads { heads, kv_heads: heads, head_dim, causal, reach, scale: 0.5 };
            let clean = States { query: &query, key: &key, value: &value, shape, bias: None };
            for (key, value) in [(&spoilt_key, &value), (&key, &spoilt_value)] {
                let states = States { key, value, ..clean };
                for set in InstructionSet::available() {
                    let [found, expected] = [states, clean].map(|it| it.attend(set, &[(0, tokens)], None, 2));
                    for row in 0..tokens {
                        let sees =
                            (!causal || row >= spoilt) && reach.is_none_or(|reach| row.abs_diff(spoilt) <= reach);
                        let place = row * width..(row + 1) * width;
                        let what = format!("{set:?}, {shape:?}, row {row}");
                        match sees {
                            true => assert!(found[place].iter().all(|value| value.is_nan()), "{what}"),
                            false => assert_eq!(found[place.clone()], expected[place], "{what}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_bias_that_does_not_fit_the_heads_or_the_longest_text_is_refused() {
        let shape = AttentionHeads { heads: 2, kv_heads: 2, head_dim: 1, causal: false, reach: None, scale: 1.0 };
        let states = [0.0; 10];
        for (count, fits) in [(18, true), (22, true), (14, false), (19, false), (20, false), (0, false)] {
            let bias = vec![0.0; count];
            let run = || attention(&states, &states, &states, &[(0, 5)], shape, Some(&bias), 1);
            assert_eq!(std::panic::catch_unwind(run).is_ok(), fits, "{count}");
        }
    }
}
