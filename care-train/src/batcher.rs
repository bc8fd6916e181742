//! Which rows make which step: decided by one seed.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::{Source, TrainingExample};

/// The texts of one step: each query with its group of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrainBatch {
    /// `b` queries.
    pub(crate) queries: Vec<String>,
    /// `b * group_size` documents; row `i * group_size` is the positive of query `i`.
    pub(crate) documents: Vec<String>,
}

/// Deals the rows of all sources into batches, anew in each epoch.
///
/// Everything follows from the seed and the step; nothing depends on what was drawn before. So a run
/// that is resumed at a step draws what it would have drawn.
#[derive(Debug)]
pub(crate) struct Batcher<'a> {
    sources: &'a [Source],
    batch_size: usize,
    group_size: usize,
    seed: u64,
    plan: Option<Plan>,
}

/// The batches of one epoch: the source and the rows of each.
#[derive(Debug)]
struct Plan {
    epoch: usize,
    batches: Vec<(usize, Vec<usize>)>,
}

impl<'a> Batcher<'a> {
    pub(crate) fn new(sources: &'a [Source], batch_size: usize, group_size: usize, seed: u64) -> Self {
        Self { sources, batch_size, group_size, seed, plan: None }
    }

    /// Steps of an epoch. A source's last batch may be smaller than the others.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        self.sources.iter().map(|source| source.examples().len().div_ceil(self.batch_size)).sum()
    }

    /// The texts of a step, counted from 0 over all epochs.
    pub(crate) fn batch(&mut self, step: usize) -> TrainBatch {
        let (epoch, place) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let plan = match self.plan.take() {
            Some(plan) if plan.epoch == epoch => plan,
            _ => self.shuffle(epoch),
        };
        let (source, rows) = &plan.batches[place];
        let examples = self.sources[*source].examples();
        let mut rng = self.rng(epoch, 1 + place as u64);
        let mut batch = TrainBatch { queries: Vec::new(), documents: Vec::new() };
        for &row in rows {
            batch.queries.push(examples[row].query.clone());
            batch.documents.extend(self.group(&examples[row], &mut rng));
        }
        self.plan = Some(plan);
        batch
    }

    fn shuffle(&self, epoch: usize) -> Plan {
        let mut rng = self.rng(epoch, 0);
        let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let mut order: Vec<usize> = (0..source.examples().len()).collect();
            order.shuffle(&mut rng);
            batches.extend(order.chunks(self.batch_size).map(|chunk| (index, chunk.to_vec())));
        }
        batches.shuffle(&mut rng);
        Plan { epoch, batches }
    }

    /// A positive and `group_size - 1` negatives; negatives repeat when there are too few.
    fn group(&self, example: &TrainingExample, rng: &mut ChaCha8Rng) -> Vec<String> {
        let positive = &example.positives[rng.random_range(0..example.positives.len())];
        let wanted = self.group_size - 1;
        let mut group = vec![positive.clone()];
        while group.len() <= wanted {
            let missing = wanted + 1 - group.len();
            group.extend(example.negatives.sample(rng, missing).cloned());
        }
        group
    }

    fn rng(&self, epoch: usize, place: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((epoch as u64) << 32 | place);
        rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, rows: usize, negatives: usize) -> Source {
        let example = |row| TrainingExample {
            query: format!("{name}{row}"),
            positives: vec![format!("{name}{row}+")],
            negatives: (0..negatives).map(|negative| format!("{name}{row}-{negative}")).collect(),
        };
        Source::new(name, (0..rows).map(example).collect()).expect("rows")
    }

    #[test]
    fn an_epoch_holds_every_row_once_and_batches_keep_to_one_source() {
        let sources = [source("a", 10, 3), source("b", 5, 3)];
        let mut batcher = Batcher::new(&sources, 4, 3, 9);
        assert_eq!(batcher.steps_per_epoch(), 5);
        let batches: Vec<TrainBatch> = (0..5).map(|step| batcher.batch(step)).collect();
        let mut queries: Vec<&String> = batches.iter().flat_map(|batch| &batch.queries).collect();
        queries.sort();
        queries.dedup();
        assert_eq!(queries.len(), 15);
        for batch in &batches {
            assert_eq!(batch.documents.len(), 3 * batch.queries.len());
            for (query, group) in batch.queries.iter().zip(batch.documents.chunks(3)) {
                assert_eq!(group[0], format!("{query}+"));
                assert!(group[1..].iter().all(|negative| negative.starts_with(&format!("{query}-"))));
                assert_ne!(group[1], group[2], "enough negatives: none repeats");
            }
            let first = &batch.queries[0][..1];
            assert!(batch.queries.iter().all(|query| query.starts_with(first)));
        }
    }

    #[test]
    fn the_seed_and_the_step_decide_the_batch() {
        let sources = [source("a", 30, 1)];
        let draw = |seed, steps: std::ops::Range<usize>| {
            let mut batcher = Batcher::new(&sources, 4, 3, seed);
            steps.map(|step| batcher.batch(step)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0..20)[11..], draw(1, 11..20), "starting later draws the same");
        assert_ne!(draw(1, 0..8), draw(1, 8..16), "epochs differ");
        assert_ne!(draw(1, 0..8), draw(2, 0..8), "seeds differ");
        let group = &draw(1, 0..1)[0].documents[..3];
        assert_eq!(group[1], group[2], "one negative is repeated to fill the group");
    }
}
