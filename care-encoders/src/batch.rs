//! Batches of token ids, padded or packed, and grouping of texts by length.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// The side of a text on which padding is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PaddingSide {
    /// Padding after the text.
    #[default]
    Right,
    /// Padding before the text.
    Left,
}

/// Token ids `[rows, seq]` and the spans of the texts in them: one padded text per row, or packed (varlen) sequences in
/// a single row.
///
/// The mask follows from the spans, never from the ids: Qwen3-Embedding's terminal token is also its padding token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    /// The type of each token; empty if all are 0.
    types: Vec<u32>,
    spans: Vec<(usize, usize)>,
    seq_len: usize,
    side: PaddingSide,
}

impl TokenBatch {
    /// Pads texts to the length of the longest.
    ///
    /// # Panics
    /// Panics if there are no texts, or a text has no tokens.
    pub fn pad<I: AsRef<[u32]>>(texts: &[I], pad_id: u32, side: PaddingSide) -> Self {
        let seq_len = texts.iter().map(|text| text.as_ref().len()).max().unwrap_or(0);
        let mut ids = vec![pad_id; texts.len() * seq_len];
        let start_of = |row: usize, length: usize| match side {
            PaddingSide::Right => row * seq_len,
            PaddingSide::Left => (row + 1) * seq_len - length,
        };
        let spans = place(texts, start_of, &mut ids);
        Self { ids, types: Vec::new(), spans, seq_len, side }
    }

    /// Packs texts into one row without padding. Networks keep them apart: a token attends only to its own text.
    ///
    /// # Panics
    /// Panics if there are no texts, or a text has no tokens.
    pub fn varlen<I: AsRef<[u32]>>(texts: &[I]) -> Self {
        let seq_len = texts.iter().map(|text| text.as_ref().len()).sum();
        let mut ids = vec![0; seq_len];
        let mut end = 0;
        let start_of = |_row: usize, length: usize| {
            end += length;
            end - length
        };
        let spans = place(texts, start_of, &mut ids);
        Self { ids, types: Vec::new(), spans, seq_len, side: PaddingSide::Right }
    }

    /// Sets the type of each token: 0 or, in the second segment of a pair, 1. Padding gets 0.
    ///
    /// # Panics
    /// Panics unless there is a type for each token of each text.
    #[must_use]
    pub fn with_token_types<I: AsRef<[u32]>>(self, types: &[I]) -> Self {
        assert_eq!(types.len(), self.spans.len(), "token types of as many texts as the batch has");
        let mut all = vec![0; self.ids.len()];
        for (&(start, end), types) in self.spans.iter().zip(types) {
            all[start..end].copy_from_slice(types.as_ref());
        }
        Self { types: all, ..self }
    }

    /// The batch with the tokens numbered anew, from 0 on in the order of their ids, and the ids of these numbers.
    #[must_use]
    pub fn renumbered(&self) -> (Self, Vec<u32>) {
        let mut known = self.ids.clone();
        known.sort_unstable();
        known.dedup();
        let number = |id: &u32| known.partition_point(|known| known < id) as u32;
        (Self { ids: self.ids.iter().map(number).collect(), ..self.clone() }, known)
    }

    /// Number of texts.
    pub fn batch_size(&self) -> usize {
        self.spans.len()
    }

    /// Number of rows: one per text, or 1 if the texts are packed.
    pub fn rows(&self) -> usize {
        self.ids.len() / self.seq_len
    }

    /// Tokens per row, padding included.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Tokens in all rows together, padding excluded.
    pub fn token_count(&self) -> usize {
        self.spans.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether any row contains padding.
    pub fn has_padding(&self) -> bool {
        self.token_count() != self.ids.len()
    }

    /// Whether several texts share a row.
    pub fn is_varlen(&self) -> bool {
        self.batch_size() > self.rows()
    }

    /// The side on which texts are padded.
    pub fn padding_side(&self) -> PaddingSide {
        self.side
    }

    /// The range `(start, end)` of each text's tokens, counted through all rows.
    pub fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    /// Token ids `[rows, seq]`.
    pub fn input_ids(&self, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i64> = self.ids.iter().map(|&id| i64::from(id)).collect();
        Tensor::from_data(TensorData::new(ids, [self.rows(), self.seq_len]), device)
    }

    /// The type of each token, `[rows, seq]`; `None` if all are 0. Types are at most `largest`, the last row of a
    /// network's table.
    pub fn token_type_ids(&self, largest: u32, device: &Device) -> Option<Tensor<2, Int>> {
        let types: Vec<i64> = self.types.iter().map(|&kind| i64::from(kind.min(largest))).collect();
        let shape = [self.rows(), self.seq_len];
        types.iter().any(|&kind| kind != 0).then(|| Tensor::from_data(TensorData::new(types, shape), device))
    }

    /// The mask `[rows, seq]`: true = text, false = padding.
    pub fn attention_mask(&self, device: &Device) -> Tensor<2, Bool> {
        let mut mask = vec![false; self.ids.len()];
        for &(start, end) in &self.spans {
            mask[start..end].fill(true);
        }
        Tensor::from_data(TensorData::new(mask, [self.rows(), self.seq_len]), device)
    }

    /// Each token's position in its own text, `[rows, seq]`, counted from 0; padding gets 0.
    ///
    /// So a network with learned positions returns the same result wherever a text is in the batch.
    pub fn position_ids(&self, device: &Device) -> Tensor<2, Int> {
        let mut places = vec![0i64; self.ids.len()];
        for &(start, end) in &self.spans {
            for (place, position) in places[start..end].iter_mut().zip(0..) {
                *place = position;
            }
        }
        Tensor::from_data(TensorData::new(places, [self.rows(), self.seq_len]), device)
    }
}

/// Copies each text to its start in `ids` and returns the spans.
fn place<I: AsRef<[u32]>>(
    texts: &[I],
    mut start_of: impl FnMut(usize, usize) -> usize,
    ids: &mut [u32],
) -> Vec<(usize, usize)> {
    assert!(!texts.is_empty(), "a batch needs at least one text");
    let mut spans = Vec::with_capacity(texts.len());
    for (row, text) in texts.iter().enumerate() {
        let text = text.as_ref();
        assert!(!text.is_empty(), "text {row} of the batch has no tokens");
        let start = start_of(row, text.len());
        let end = start + text.len();
        ids[start..end].copy_from_slice(text);
        spans.push((start, end));
    }
    spans
}

/// Groups texts of similar length under a budget of tokens, padding included.
///
/// Returns indices into `lengths`; every index occurs once. A text longer than the budget gets its own group. The
/// groups with the longest texts come first, so that the first pass reaches the peak of memory.
///
/// ```
/// let groups = care_encoders::batch::length_buckets(&[3, 9, 4, 8], 18);
/// assert_eq!(groups, vec![vec![1, 3], vec![2, 0]]);
/// ```
pub fn length_buckets(lengths: &[usize], token_budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            Some(group) if (group.len() + 1) * lengths[group[0]] <= token_budget => group.push(index),
            _ => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_goes_to_its_side_and_the_mask_follows() {
        let texts = [vec![7, 8, 9], vec![5]];
        let right = TokenBatch::pad(&texts, 9, PaddingSide::Right);
        let left = TokenBatch::pad(&texts, 9, PaddingSide::Left);
        assert_eq!(right.ids, [7, 8, 9, 5, 9, 9]);
        assert_eq!(left.ids, [7, 8, 9, 9, 9, 5]);
        assert_eq!(right.spans(), [(0, 3), (3, 4)]);
        assert_eq!(left.spans(), [(0, 3), (5, 6)]);
        assert!(left.has_padding());
        assert_eq!(left.token_count(), 4);
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        let mask = left.attention_mask(&device).into_data().try_to_vec::<bool>().expect("bools");
        assert_eq!(mask, [true, true, true, false, false, true]);
        let places = left.position_ids(&device).into_data().convert::<i64>().try_to_vec::<i64>().expect("ints");
        assert_eq!(places, [0, 1, 2, 0, 0, 0]);
    }

    #[test]
    fn token_types_go_to_the_places_of_their_tokens() {
        let (texts, types) = ([vec![7, 8, 9], vec![5, 6]], [vec![0, 1, 1], vec![0, 1]]);
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        let left = TokenBatch::pad(&texts, 0, PaddingSide::Left).with_token_types(&types);
        let packed = TokenBatch::varlen(&texts).with_token_types(&types);
        for (batch, expected) in [(left, vec![0, 1, 1, 0, 0, 1]), (packed, vec![0, 1, 1, 0, 1])] {
            let types = batch.token_type_ids(1, &device).expect("a second segment").into_data();
            assert_eq!(types.convert::<i64>().try_to_vec::<i64>().expect("ints"), expected);
            // A table of one row has no second type.
            assert!(batch.token_type_ids(0, &device).is_none());
        }
        assert!(TokenBatch::varlen(&texts).token_type_ids(1, &device).is_none());
    }

    #[test]
    fn packed_texts_stand_in_one_row() {
        let batch = TokenBatch::varlen(&[vec![7, 8, 9], vec![5, 6]]);
        assert_eq!(batch.ids, [7, 8, 9, 5, 6]);
        assert_eq!(batch.spans(), [(0, 3), (3, 5)]);
        assert_eq!((batch.batch_size(), batch.rows(), batch.seq_len()), (2, 1, 5));
        assert!(batch.is_varlen() && !batch.has_padding());
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        let places = batch.position_ids(&device).into_data().convert::<i64>().try_to_vec::<i64>().expect("ints");
        assert_eq!(places, [0, 1, 2, 0, 1]);
        assert!(!TokenBatch::varlen(&[[1, 2]]).is_varlen());
    }

    proptest! {
        #[test]
        fn buckets_hold_every_text_once_within_the_budget(
            lengths in proptest::collection::vec(1usize..200, 0..60),
            budget in 1usize..600,
        ) {
            let groups = length_buckets(&lengths, budget);
            let mut seen: Vec<usize> = groups.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for group in groups {
                let longest = group.iter().map(|&index| lengths[index]).max().unwrap_or(0);
                prop_assert!(group.len() == 1 || group.len() * longest <= budget);
            }
        }
    }
}
