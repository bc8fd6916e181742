//! Assigns rows to batches, determined by one seed.

use rand::seq::{IteratorRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::{RowType, Source, TrainingExample};

/// The texts of a batch: each query with its group of documents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainBatch {
    /// `b` queries.
    pub(crate) queries: Vec<String>,
    /// The task prompt of each query, if its row has one.
    pub(crate) prompts: Vec<Option<String>>,
    /// `b * group_size` documents; row `i * group_size` is the positive of query `i`.
    pub(crate) documents: Vec<String>,
    /// The teacher's score of each document, if every document has one.
    pub(crate) scores: Option<Vec<f32>>,
    /// The type shared by all rows.
    pub(crate) row_type: RowType,
}

/// Distributes the rows of all sources over batches, reshuffled in each epoch.
///
/// A batch depends only on the seed and its index, not on earlier draws, so a resumed run draws the same batches as
/// an uninterrupted one.
#[derive(Debug)]
pub(crate) struct Batcher<'a> {
    sources: &'a [Source],
    kinds: Vec<Kind>,
    batch_size: usize,
    seed: u64,
    plan: Option<Plan>,
}

/// The rows of one source that share a type.
#[derive(Debug)]
struct Kind {
    source: usize,
    row_type: RowType,
    rows: Vec<usize>,
    group_size: usize,
}

/// The batches of one epoch: the kind and the rows of each.
#[derive(Debug)]
struct Plan {
    epoch: usize,
    batches: Vec<(usize, Vec<usize>)>,
}

impl<'a> Batcher<'a> {
    pub(crate) fn new(sources: &'a [Source], batch_size: usize, group_size: usize, seed: u64) -> Self {
        let mut kinds = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let examples = source.examples();
            let mut types: Vec<RowType> = examples.iter().map(|example| example.row_type).collect();
            types.sort_unstable();
            types.dedup();
            kinds.extend(types.into_iter().map(|row_type| {
                let rows: Vec<usize> = (0..examples.len()).filter(|&row| examples[row].row_type == row_type).collect();
                let fewest = rows.iter().map(|&row| examples[row].negatives.len()).min().unwrap_or(0);
                let group_size = match row_type {
                    RowType::OnlyOneNegative => group_size.min(2),
                    RowType::SymmetricClass => group_size.min(fewest + 1),
                    _ => group_size,
                };
                Kind { source: index, row_type, rows, group_size }
            }));
        }
        Self { sources, kinds, batch_size, seed, plan: None }
    }

    /// Batches per epoch. The last batch of each kind of rows may be smaller than the others.
    pub(crate) fn batches_per_epoch(&self) -> usize {
        self.kinds.iter().map(|kind| kind.rows.len().div_ceil(self.batch_size)).sum()
    }

    /// Batch `number`, counted from 0 over all epochs.
    pub(crate) fn batch(&mut self, number: usize) -> TrainBatch {
        let (epoch, place) = (number / self.batches_per_epoch(), number % self.batches_per_epoch());
        let plan = match self.plan.take() {
            Some(plan) if plan.epoch == epoch => plan,
            _ => self.shuffle(epoch),
        };
        let (kind, rows) = &plan.batches[place];
        let kind = &self.kinds[*kind];
        let examples = self.sources[kind.source].examples();
        let mut rng = self.rng(epoch, 1 + place as u64);
        let mut batch = TrainBatch {
            queries: Vec::new(),
            prompts: Vec::new(),
            documents: Vec::new(),
            scores: Some(Vec::new()),
            row_type: kind.row_type,
        };
        for &row in rows {
            batch.add(&examples[row], kind.group_size, &mut rng);
        }
        self.plan = Some(plan);
        batch
    }

    fn shuffle(&self, epoch: usize) -> Plan {
        let mut rng = self.rng(epoch, 0);
        let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, kind) in self.kinds.iter().enumerate() {
            let mut order = kind.rows.clone();
            order.shuffle(&mut rng);
            batches.extend(order.chunks(self.batch_size).map(|chunk| (index, chunk.to_vec())));
        }
        batches.shuffle(&mut rng);
        Plan { epoch, batches }
    }

    fn rng(&self, epoch: usize, place: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((epoch as u64) << 32 | place);
        rng
    }
}

impl TrainBatch {
    /// Adds a query with a positive and `group_size - 1` negatives; negatives repeat if there are too few.
    fn add(&mut self, example: &TrainingExample, group_size: usize, rng: &mut ChaCha8Rng) {
        self.queries.push(example.query.clone());
        self.prompts.push(example.prompt.clone());
        let positive = rng.random_range(0..example.positives.len());
        self.add_document(&example.positives, &example.positive_scores, positive);
        let mut missing = group_size - 1;
        while missing > 0 {
            let negatives = (0..example.negatives.len()).sample(rng, missing);
            missing -= negatives.len();
            for negative in negatives {
                self.add_document(&example.negatives, &example.negative_scores, negative);
            }
        }
    }

    fn add_document(&mut self, texts: &[String], scores: &[f32], index: usize) {
        self.documents.push(texts[index].clone());
        match scores.get(index) {
            Some(&score) => self.scores.iter_mut().for_each(|scores| scores.push(score)),
            None => self.scores = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, rows: usize, negatives: usize) -> Source {
        let example = |row| {
            let negatives = (0..negatives).map(|negative| format!("{name}{row}-{negative}")).collect();
            TrainingExample::new(format!("{name}{row}"), vec![format!("{name}{row}+")], negatives)
        };
        Source::new(name, (0..rows).map(example).collect()).expect("rows")
    }

    #[test]
    fn an_epoch_holds_every_row_once_and_batches_keep_to_one_source() {
        let sources = [source("a", 10, 3), source("b", 5, 3)];
        let mut batcher = Batcher::new(&sources, 4, 3, 9);
        assert_eq!(batcher.batches_per_epoch(), 5);
        let batches: Vec<TrainBatch> = (0..5).map(|number| batcher.batch(number)).collect();
        let mut queries: Vec<&String> = batches.iter().flat_map(|batch| &batch.queries).collect();
        queries.sort();
        queries.dedup();
        assert_eq!(queries.len(), 15);
        for batch in &batches {
            assert_eq!(batch.documents.len(), 3 * batch.queries.len());
            assert_eq!(batch.scores, None);
            for (query, group) in batch.queries.iter().zip(batch.documents.chunks(3)) {
                assert_eq!(group[0], format!("{query}+"));
                assert!(group[1..].iter().all(|negative| negative.starts_with(&format!("{query}-"))));
                assert_ne!(group[1], group[2], "no negative repeats if there are enough");
            }
            let first = &batch.queries[0][..1];
            assert!(batch.queries.iter().all(|query| query.starts_with(first)));
        }
    }

    #[test]
    fn the_seed_and_the_number_decide_the_batch() {
        let sources = [source("a", 30, 1)];
        let draw = |seed, numbers: std::ops::Range<usize>| {
            let mut batcher = Batcher::new(&sources, 4, 3, seed);
            numbers.map(|number| batcher.batch(number)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0..20)[11..], draw(1, 11..20), "starting later draws the same");
        assert_ne!(draw(1, 0..8), draw(1, 8..16), "epochs differ");
        assert_ne!(draw(1, 0..8), draw(2, 0..8), "seeds differ");
        let group = &draw(1, 0..1)[0].documents[..3];
        assert_eq!(group[1], group[2], "one negative is repeated to fill the group");
    }

    #[test]
    fn the_type_of_a_row_decides_its_batch_and_its_group() {
        let row = |name: &str, row_type, negatives: usize| TrainingExample {
            row_type,
            ..TrainingExample::new(name, vec!["p".into()], (0..negatives).map(|n| format!("n{n}")).collect())
        };
        let types = [RowType::Normal, RowType::OnlyOneNegative, RowType::SymmetricSts, RowType::SymmetricClass];
        let rows = (0..24).map(|n| row(&n.to_string(), types[n % 4], 2 + n % 8)).collect();
        let sources = [Source::new("mixed", rows).expect("rows")];
        let mut batcher = Batcher::new(&sources, 4, 5, 3);
        assert_eq!(batcher.batches_per_epoch(), 8, "6 rows of each type, 4 in a batch");
        for number in 0..8 {
            let batch = batcher.batch(number);
            let type_of = |query: &String| types[query.parse::<usize>().expect("a number") % 4];
            assert!(batch.queries.iter().all(|query| type_of(query) == batch.row_type));
            let group = match batch.row_type {
                RowType::OnlyOneNegative => 2,
                // Rows 3, 7, 11 and so on have 5 or 9 negatives.
                _ => 5,
            };
            assert_eq!(batch.documents.len(), group * batch.queries.len(), "{:?}", batch.row_type);
        }
        let sources =
            [Source::new("classes", (1..4).map(|n| row("q", RowType::SymmetricClass, n)).collect()).expect("rows")];
        assert_eq!(Batcher::new(&sources, 3, 8, 0).batch(0).documents.len(), 6, "the fewest negatives decide");
    }

    #[test]
    fn scores_and_prompts_go_with_their_texts() {
        let example = |n: usize| TrainingExample {
            positive_scores: vec![n as f32],
            negative_scores: vec![n as f32 + 0.25, n as f32 + 0.5],
            prompt: Some(format!("p{n}")),
            ..TrainingExample::new(n.to_string(), vec!["0".into()], vec!["0.25".into(), "0.5".into()])
        };
        let sources = [Source::new("scored", (0..6).map(example).collect()).expect("rows")];
        let batch = Batcher::new(&sources, 6, 2, 1).batch(0);
        let scores = batch.scores.expect("all rows have scores");
        for (row, query) in batch.queries.iter().enumerate() {
            assert_eq!(batch.prompts[row], Some(format!("p{query}")));
            for place in [2 * row, 2 * row + 1] {
                let part: f32 = batch.documents[place].parse().expect("a number");
                assert_eq!(scores[place], query.parse::<f32>().expect("a number") + part);
            }
        }
    }
}
