//! Assigns rows to batches, determined by one seed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use care_core::{Error, Result};
use care_data::rows::{RowType, TrainingExample};
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::{AnswerKeys, Source, text_key};

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
    /// The keys of each query's known answers, sorted.
    pub(crate) answers: Vec<Arc<[u64]>>,
}

/// How rows are put into batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSettings {
    pub(crate) batch_size: usize,
    pub(crate) group_size: usize,
    /// Whether rows that share a query or a positive are put into different batches, if there are as many batches.
    pub(crate) no_duplicates: bool,
}

/// Distributes the rows of all sources over batches, reshuffled in each epoch.
///
/// A batch depends only on the seed and its index, not on earlier draws, so a resumed run draws the same batches as
/// an uninterrupted one.
#[derive(Debug)]
pub(crate) struct Batcher<'a> {
    sources: &'a [Source],
    kinds: Vec<Kind>,
    settings: BatchSettings,
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
    /// Number of batches per epoch.
    batches: usize,
    /// Under a token budget, the tokens of each of `rows`.
    tokens: Option<Arc<[u32]>>,
    /// Which rows are to be in different batches: those of one group. `None` if any may be together.
    groups: Option<Arc<Vec<usize>>>,
}

/// Rows that are in batches together, and the documents per row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Together<'a> {
    pub(crate) source: &'a Source,
    pub(crate) row_type: RowType,
    pub(crate) rows: &'a [usize],
    pub(crate) group_size: usize,
}

/// The most tokens that each row of a batcher can have in a batch, in the order of [`Batcher::together`].
pub(crate) type RowTokens = Vec<Arc<[u32]>>;

/// The batches of one epoch: the kind and the rows of each.
#[derive(Debug)]
struct Plan {
    epoch: usize,
    batches: Vec<(usize, Vec<usize>)>,
}

impl<'a> Batcher<'a> {
    pub(crate) fn new(sources: &'a [Source], settings: BatchSettings, seed: u64) -> Self {
        let group_size = settings.group_size;
        let mut kinds = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let facts = source.facts();
            let mut types: Vec<RowType> = facts.iter().map(|facts| facts.row_type).collect();
            types.sort_unstable();
            types.dedup();
            let groups = settings.no_duplicates.then(|| groups(source.answers(), facts.len())).map(Arc::new);
            kinds.extend(types.into_iter().map(|row_type| {
                let rows: Vec<usize> = (0..facts.len()).filter(|&row| facts[row].row_type == row_type).collect();
                let fewest = rows.iter().map(|&row| facts[row].negatives as usize).min().unwrap_or(0);
                let group_size = match row_type {
                    RowType::OnlyOneNegative => group_size.min(2),
                    RowType::SymmetricClass => group_size.min(fewest + 1),
                    _ => group_size,
                };
                let batches = rows.len().div_ceil(settings.batch_size);
                Kind { source: index, row_type, rows, group_size, batches, tokens: None, groups: groups.clone() }
            }));
        }
        Self { sources, kinds, settings, seed, plan: None }
    }

    /// The rows that are in batches together.
    pub(crate) fn together(&self) -> impl Iterator<Item = Together<'_>> {
        self.kinds.iter().map(|kind| Together {
            source: &self.sources[kind.source],
            row_type: kind.row_type,
            rows: &kind.rows,
            group_size: kind.group_size,
        })
    }

    /// Makes as few batches as `most` tokens per batch allow, of nearly the same number of rows and tokens: the rows are
    /// sorted by length and cut into strata, and a batch gets a row of each. So the number of batches is that of every
    /// epoch, and the sum of the longest rows of all strata is above no batch's tokens.
    ///
    /// # Errors
    /// Returns an error if a batch has no room for the longest rows: for two where the negatives are those of the batch.
    pub(crate) fn with_token_budget(mut self, most: usize, tokens: RowTokens) -> Result<Self> {
        for (kind, tokens) in self.kinds.iter_mut().zip(tokens) {
            let mut lengths: Vec<u32> = tokens.to_vec();
            lengths.sort_unstable_by_key(|&length| Reverse(length));
            let tokens_of = |batches: usize| lengths.iter().step_by(batches).map(|&length| length as usize).sum();
            // A row alone has no negatives but its own.
            let rows = if kind.group_size == 1 { 2 } else { 1 };
            let (mut fewest, mut enough) = (kind.batches, kind.batches.max(kind.rows.len() / rows));
            let least: usize = tokens_of(enough);
            if least > most {
                let what = if kind.rows.len() / enough == 1 { "a batch of one row" } else { "batches of two rows" };
                let allowed = format!("at least {least}, for {what} of {}", self.sources[kind.source].name());
                return Err(Error::setting("max_batch_tokens", most, &allowed));
            }
            // More batches have fewer tokens each.
            while fewest < enough {
                let middle = fewest.midpoint(enough);
                match tokens_of(middle) > most {
                    true => fewest = middle + 1,
                    false => enough = middle,
                }
            }
            kind.batches = enough;
            kind.tokens = Some(tokens);
        }
        Ok(self)
    }

    /// The tokens by which a budget was kept, if there is one.
    pub(crate) fn row_tokens(&self) -> Option<RowTokens> {
        self.kinds.iter().map(|kind| kind.tokens.clone()).collect()
    }

    /// Batches per epoch.
    pub(crate) fn batches_per_epoch(&self) -> usize {
        self.kinds.iter().map(|kind| kind.batches).sum()
    }

    /// The most documents of a batch.
    pub(crate) fn most_documents(&self) -> usize {
        let of = |kind: &Kind| match kind.tokens {
            Some(_) => kind.rows.len().div_ceil(kind.batches) * kind.group_size,
            None => self.settings.batch_size.saturating_mul(self.settings.group_size),
        };
        self.kinds.iter().map(of).max().unwrap_or(1)
    }

    /// The names of the sources with a single row of its type, which makes batches without any negative.
    pub(crate) fn lone_rows(&self) -> Vec<&str> {
        let lone = self.kinds.iter().filter(|kind| kind.group_size == 1 && kind.rows.len() == 1);
        lone.map(|kind| self.sources[kind.source].name()).collect()
    }

    /// Whether every batch is one query with one document.
    pub(crate) fn has_no_negatives(&self) -> bool {
        let is_lone = |kind: &Kind| kind.group_size == 1 && (self.settings.batch_size == 1 || kind.rows.len() == 1);
        self.kinds.iter().all(is_lone)
    }

    /// Batch `number`, counted from 0 over all epochs.
    ///
    /// # Errors
    /// Returns an error if the rows cannot be read.
    pub(crate) fn batch(&mut self, number: usize) -> Result<TrainBatch> {
        let (epoch, place) = (number / self.batches_per_epoch(), number % self.batches_per_epoch());
        let plan = match self.plan.take() {
            Some(plan) if plan.epoch == epoch => plan,
            _ => self.shuffle(epoch),
        };
        let (kind, rows) = &plan.batches[place];
        let kind = &self.kinds[*kind];
        let source = &self.sources[kind.source];
        let mut rng = self.rng(epoch, 1 + place as u64);
        let mut batch = TrainBatch {
            queries: Vec::new(),
            prompts: Vec::new(),
            documents: Vec::new(),
            scores: Some(Vec::new()),
            row_type: kind.row_type,
            answers: Vec::new(),
        };
        for (example, &row) in source.read(rows)?.iter().zip(rows) {
            batch.add(example, kind.group_size, &mut rng);
            batch.answers.push(source.answers().of(row));
        }
        self.plan = Some(plan);
        Ok(batch)
    }

    fn shuffle(&self, epoch: usize) -> Plan {
        let mut rng = self.rng(epoch, 0);
        let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, kind) in self.kinds.iter().enumerate() {
            if let Some(tokens) = &kind.tokens {
                let rows = kind.deal_evenly(tokens, &mut rng);
                batches.extend(rows.into_iter().map(|rows| (index, rows)));
                continue;
            }
            let mut order = kind.rows.clone();
            order.shuffle(&mut rng);
            if let Some(groups) = &kind.groups {
                // Rows of a group that follow each other are dealt out to different batches, if there are as many.
                let mut places = HashMap::new();
                for (place, &row) in order.iter().enumerate() {
                    places.entry(groups[row]).or_insert(place);
                }
                order.sort_by_key(|&row| places[&groups[row]]);
            }
            batches.extend(deal(&order, self.settings.batch_size).into_iter().map(|rows| (index, rows)));
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

impl Kind {
    /// Deals a row of each stratum to every batch, at random. Rows of equal length are in strata at random, too.
    fn deal_evenly(&self, tokens: &[u32], rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.shuffle(rng);
        order.sort_by_key(|&at| Reverse(tokens[at]));
        let mut batches = vec![Vec::new(); self.batches];
        let mut places: Vec<usize> = (0..self.batches).collect();
        for stratum in order.chunks(self.batches) {
            let rows: Vec<usize> = stratum.iter().map(|&at| self.rows[at]).collect();
            places.shuffle(rng);
            if let Some(groups) = &self.groups {
                separate(&rows, &mut places, &batches, groups);
            }
            for (row, &place) in rows.into_iter().zip(&places) {
                batches[place].push(row);
            }
        }
        batches
    }
}

/// Exchanges the places of rows that would meet a row of their group in a batch, where there is another place for both.
fn separate(rows: &[usize], places: &mut [usize], batches: &[Vec<usize>], groups: &[usize]) {
    let meets = |row: Option<&usize>, place: usize| {
        row.is_some_and(|&row| batches[place].iter().any(|&other| groups[other] == groups[row]))
    };
    for at in 0..rows.len() {
        if meets(rows.get(at), places[at]) {
            let fits = |&other: &usize| !meets(rows.get(at), places[other]) && !meets(rows.get(other), places[at]);
            if let Some(other) = (at + 1..places.len()).chain(0..at).find(fits) {
                places.swap(at, other);
            }
        }
    }
}

/// Deals rows out to `⌈rows / batch_size⌉` batches, whose sizes differ by at most 1: a small last batch would make a full
/// step with few negatives, in a batch of one with none.
fn deal(rows: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let batches = rows.len().div_ceil(batch_size);
    (0..batches).map(|batch| rows[batch..].iter().step_by(batches).copied().collect()).collect()
}

/// The group of each row of a source: rows that share a query or a positive, directly or by way of others, are one group.
fn groups(answers: &AnswerKeys, rows: usize) -> Vec<usize> {
    fn root(parents: &mut [usize], mut row: usize) -> usize {
        while parents[row] != row {
            parents[row] = parents[parents[row]];
            row = parents[row];
        }
        row
    }
    let mut parents: Vec<usize> = (0..rows).collect();
    let mut join = |mut keys: Vec<(u64, usize)>| {
        keys.sort_unstable();
        for pair in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (left, right) = (root(&mut parents, pair[0].1), root(&mut parents, pair[1].1));
            parents[left] = right;
        }
    };
    join((0..rows).map(|row| (answers.query(row), row)).collect());
    join((0..rows).flat_map(|row| answers.positives(row).iter().map(move |&key| (key, row))).collect());
    (0..rows).map(|row| root(&mut parents, row)).collect()
}

impl TrainBatch {
    /// `[b, b * group_size]` by rows, true where a document is a known answer of a query and not the positive that was
    /// drawn for it; `None` if there is no such document. `query_answers_itself` if a query's own text is an answer too.
    pub(crate) fn known_answers(&self, query_answers_itself: bool) -> Option<Vec<bool>> {
        let keys: Vec<u64> = self.documents.iter().map(|text| text_key(text)).collect();
        let group = keys.len() / self.queries.len();
        let rows = self.queries.iter().zip(&self.answers).enumerate();
        let mask: Vec<bool> = rows
            .flat_map(|(row, (query, answers))| {
                let itself = query_answers_itself.then(|| text_key(query));
                let known = move |key| answers.binary_search(key).is_ok() || itself == Some(*key);
                keys.iter().enumerate().map(move |(column, key)| column != row * group && known(key))
            })
            .collect();
        mask.contains(&true).then_some(mask)
    }

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

    fn settings(batch_size: usize, group_size: usize) -> BatchSettings {
        BatchSettings { batch_size, group_size, no_duplicates: false }
    }

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
        let mut batcher = Batcher::new(&sources, settings(4, 3), 9);
        assert_eq!(batcher.batches_per_epoch(), 5);
        let batches: Vec<TrainBatch> = (0..5).map(|number| batcher.batch(number).expect("rows")).collect();
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
            let mut batcher = Batcher::new(&sources, settings(4, 3), seed);
            numbers.map(|number| batcher.batch(number).expect("rows")).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0..20)[11..], draw(1, 11..20), "starting later draws the same");
        assert_ne!(draw(1, 0..8), draw(1, 8..16), "epochs differ");
        assert_ne!(draw(1, 0..8), draw(2, 0..8), "seeds differ");
        let group = &draw(1, 0..1)[0].documents[..3];
        assert_eq!(group[1], group[2], "one negative is repeated to fill the group");
    }

    #[test]
    fn the_type_of_a_row_decides_its_batch_and_its_group() {
        let row = |name: &str, row_type, negatives: usize| {
            let negatives = (0..negatives).map(|n| format!("n{n}")).collect();
            TrainingExample::new(name, vec!["p".into()], negatives).with(|row| row.row_type = row_type)
        };
        let types = [RowType::Normal, RowType::OnlyOneNegative, RowType::SymmetricSts, RowType::SymmetricClass];
        let rows = (0..24).map(|n| row(&n.to_string(), types[n % 4], 2 + n % 8)).collect();
        let sources = [Source::new("mixed", rows).expect("rows")];
        let mut batcher = Batcher::new(&sources, settings(4, 5), 3);
        assert_eq!(batcher.batches_per_epoch(), 8, "6 rows of each type, 4 in a batch");
        for number in 0..8 {
            let batch = batcher.batch(number).expect("rows");
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
        assert_eq!(
            Batcher::new(&sources, settings(3, 8), 0).batch(0).expect("rows").documents.len(),
            6,
            "the fewest negatives decide"
        );
    }

    #[test]
    fn scores_and_prompts_go_with_their_texts() {
        let example = |n: usize| {
            TrainingExample::new(n.to_string(), vec!["0".into()], vec!["0.25".into(), "0.5".into()]).with(|row| {
                row.positive_scores = vec![n as f32];
                row.negative_scores = vec![n as f32 + 0.25, n as f32 + 0.5];
                row.prompt = Some(format!("p{n}"));
            })
        };
        let sources = [Source::new("scored", (0..6).map(example).collect()).expect("rows")];
        let batch = Batcher::new(&sources, settings(6, 2), 1).batch(0).expect("rows");
        let scores = batch.scores.expect("all rows have scores");
        for (row, query) in batch.queries.iter().enumerate() {
            assert_eq!(batch.prompts[row], Some(format!("p{query}")));
            for place in [2 * row, 2 * row + 1] {
                let part: f32 = batch.documents[place].parse().expect("a number");
                assert_eq!(scores[place], query.parse::<f32>().expect("a number") + part);
            }
        }
    }

    #[test]
    fn batches_of_a_source_have_nearly_one_size() {
        let sizes = |rows, batch_size| {
            let batches = deal(&(0..rows).collect::<Vec<_>>(), batch_size);
            batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(33, 32), [17, 16]);
        assert_eq!(sizes(10, 4), [4, 3, 3]);
        assert_eq!(sizes(8, 4), [4, 4]);
        assert_eq!(sizes(1, 32), [1]);
        for (rows, batch_size) in (1..60).flat_map(|rows| (1..20).map(move |size| (rows, size))) {
            let sizes = sizes(rows, batch_size);
            let (least, most) = (sizes.iter().min().expect("one"), sizes.iter().max().expect("one"));
            assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (rows.div_ceil(batch_size), rows));
            assert!(*most <= batch_size && most - least <= 1 && *least > 0);
        }
        let sources = [source("a", 9, 1), source("b", 5, 1)];
        let mut batcher = Batcher::new(&sources, settings(4, 1), 2);
        let mut sizes: Vec<usize> = (0..5).map(|number| batcher.batch(number).expect("rows").queries.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3, 3, 3, 3]);
    }

    /// A batcher of rows with these most tokens each, under a budget.
    fn budgeted<'a>(
        sources: &'a [Source],
        settings: BatchSettings,
        most: usize,
        lengths: &[u32],
    ) -> Result<Batcher<'a>> {
        Batcher::new(sources, settings, 7).with_token_budget(most, vec![lengths.into()])
    }

    #[test]
    fn no_batch_exceeds_its_token_budget_and_all_are_nearly_equal() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut refused = 0;
        for case in 0..300 {
            let (rows, batch_size) = (rng.random_range(1..70), rng.random_range(1..20));
            let widest = [3, 40, 400][case % 3];
            let lengths: Vec<u32> = (0..rows).map(|_| rng.random_range(2..widest)).collect();
            let (most, group_size) = (rng.random_range(2..2000), 1 + case % 2);
            let sources = [source("a", rows, 1)];
            let settings = settings(batch_size, group_size);
            let batcher = match budgeted(&sources, settings, most, &lengths) {
                Ok(batcher) => batcher,
                Err(error) => {
                    // The value that is named as the least is enough.
                    let message = error.to_string();
                    let least = message.split("at least ").nth(1).and_then(|rest| rest.split(',').next());
                    let least: usize = least.and_then(|least| least.parse().ok()).expect("a number");
                    assert!(least > most, "{message}");
                    assert!(budgeted(&sources, settings, least, &lengths).is_ok());
                    assert!(budgeted(&sources, settings, least - 1, &lengths).is_err());
                    refused += 1;
                    continue;
                }
            };
            let tokens = |rows: &[usize]| rows.iter().map(|&row| lengths[row] as usize).sum::<usize>();
            let longest = *lengths.iter().max().expect("a row") as usize;
            for epoch in 0..3 {
                let batches = batcher.shuffle(epoch).batches;
                assert_eq!(batches.len(), batcher.batches_per_epoch(), "known before the first epoch");
                let mut all: Vec<usize> = batches.iter().flat_map(|(_, rows)| rows.clone()).collect();
                all.sort_unstable();
                assert_eq!(all, (0..rows).collect::<Vec<_>>(), "every row once");
                let sums: Vec<usize> = batches.iter().map(|(_, rows)| tokens(rows)).collect();
                let (low, high) = (sums.iter().min().expect("a batch"), sums.iter().max().expect("a batch"));
                assert!(*high <= most && high - low <= longest, "{low} to {high} of {most}, longest {longest}");
                let sizes: Vec<usize> = batches.iter().map(|(_, rows)| rows.len()).collect();
                let (few, many) = (sizes.iter().min().expect("a batch"), sizes.iter().max().expect("a batch"));
                assert!(*many <= batch_size && many - few <= 1 && *few > 0);
                assert!(*few > 1 || group_size > 1 || rows == 1 || batch_size < 3, "no row without negatives");
            }
        }
        assert!((20..200).contains(&refused), "{refused} budgets were too small");
    }

    #[test]
    fn under_a_token_budget_the_seed_and_the_number_decide_the_batch() {
        let (sources, lengths) = ([source("a", 30, 1)], (0..30).map(|row| 10 + row % 7).collect::<Vec<u32>>());
        let batches = |numbers: std::ops::Range<usize>| {
            let mut batcher = budgeted(&sources, settings(16, 2), 80, &lengths).expect("room");
            assert!(batcher.batches_per_epoch() > 4 && batcher.most_documents() < 16);
            numbers.map(|number| batcher.batch(number).expect("rows")).collect::<Vec<_>>()
        };
        assert_eq!(batches(0..20)[11..], batches(11..20), "starting later draws the same");
        let queries = |batch: &TrainBatch| batch.queries.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        let together = batches(0..18);
        let first: Vec<_> = together[..5].iter().map(queries).collect();
        assert!(!together[5..].iter().any(|batch| first.contains(&queries(batch))), "epochs differ");
    }

    #[test]
    fn without_duplicates_rows_of_nearly_equal_batches_share_no_query_either() {
        let row = |n: usize| TrainingExample::new(format!("q{}", n % 40), vec![format!("p{}", n % 20)], vec![]);
        let sources = [Source::new("rows", (0..120).map(row).collect()).expect("rows")];
        let lengths: Vec<u32> = (0..120).map(|row| 3 + (row * 7) % 31).collect();
        let masked = |no_duplicates| {
            let settings = BatchSettings { batch_size: 8, group_size: 1, no_duplicates };
            let mut batcher = budgeted(&sources, settings, 400, &lengths).expect("room");
            let batches: Vec<_> = (0..30).map(|number| batcher.batch(number).expect("rows")).collect();
            batches.iter().filter(|batch| batch.known_answers(false).is_some()).count()
        };
        assert!(masked(false) > 10, "the rows have duplicates");
        assert_eq!(masked(true), 0);
    }

    #[test]
    fn a_token_budget_without_room_names_what_would_do() {
        let sources = [source("a", 3, 1)];
        let refusal = |group_size, most| {
            budgeted(&sources, settings(4, group_size), most, &[9, 5, 20]).expect_err("too small").to_string()
        };
        assert_eq!(refusal(1, 33), "`max_batch_tokens` is 33, allowed: at least 34, for batches of two rows of a");
        assert_eq!(refusal(2, 19), "`max_batch_tokens` is 19, allowed: at least 20, for a batch of one row of a");
    }

    /// Rows of `(query, positives, negatives)`.
    fn rows(rows: &[(&str, &[&str], &[&str])]) -> Source {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let rows = rows.iter().map(|(query, pos, neg)| TrainingExample::new(*query, texts(pos), texts(neg)));
        Source::new("rows", rows.collect()).expect("rows")
    }

    /// What is masked in the only batch of the rows: query, document.
    fn masked(source: Source, group_size: usize, itself: bool) -> Vec<(String, String)> {
        let sources = [source];
        let batch = Batcher::new(&sources, settings(64, group_size), 3).batch(0).expect("rows");
        let columns = batch.documents.len();
        let mask = batch.known_answers(itself).unwrap_or_default();
        let places = mask.iter().enumerate().filter(|(_, masked)| **masked).map(|(place, _)| place);
        let pair = |place: usize| (batch.queries[place / columns].clone(), batch.documents[place % columns].clone());
        let mut pairs: Vec<(String, String)> = places.map(pair).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn known_answers_of_a_query_are_masked_and_nothing_else() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(query, text)| (query.to_string(), text.to_string())).collect()
        };
        let different = rows(&[("a", &["1"], &["2"]), ("b", &["3"], &["4"])]);
        assert_eq!(masked(different, 2, true), []);
        let one_positive = rows(&[("a", &["1"], &["x"]), ("b", &[" 1 "], &["y"]), ("c", &["2"], &["1"])]);
        assert_eq!(masked(one_positive, 2, false), pairs(&[("a", " 1 "), ("a", "1"), ("b", "1"), ("b", "1")]));
        let one_query = rows(&[("a", &["1"], &["x"]), ("a", &["2"], &["y"]), ("b", &["3"], &["z"])]);
        assert_eq!(masked(one_query, 2, false), pairs(&[("a", "1"), ("a", "2")]), "its hard negatives stay");
        let own_answer = rows(&[("a", &["1"], &["1"]), ("b", &["2"], &["z"])]);
        assert_eq!(masked(own_answer, 2, false), pairs(&[("a", "1")]), "the drawn positive stays");
        let many = masked(rows(&[("a", &["1", "2"], &["2", "1"]), ("b", &["3"], &["1", "2"])]), 3, false);
        assert_eq!(many, pairs(&[("a", "1"), ("a", "1"), ("a", "2"), ("a", "2")]), "all positives of a row");
        let itself = [("a", &["b"][..], &[][..]), ("b", &["c"], &[]), ("d", &["a"], &[])];
        assert_eq!(masked(rows(&itself), 1, false), []);
        assert_eq!(masked(rows(&itself), 1, true), pairs(&[("a", "a"), ("b", "b")]));
    }

    #[test]
    fn without_duplicates_rows_of_a_batch_share_no_query_and_no_positive() {
        // 40 queries with 3 rows each; the positives of 2 queries are the same.
        let row = |n: usize| (format!("q{}", n % 40), format!("p{}", n % 20));
        let examples = (0..120).map(row).map(|(query, positive)| TrainingExample::new(query, vec![positive], vec![]));
        let sources = [Source::new("rows", examples.collect()).expect("rows")];
        let draw = |no_duplicates, first: usize| {
            let settings = BatchSettings { batch_size: 8, group_size: 1, no_duplicates };
            let mut batcher = Batcher::new(&sources, settings, 4);
            (first..30).map(|number| batcher.batch(number).expect("rows")).collect::<Vec<_>>()
        };
        let masked =
            |batches: &[TrainBatch]| batches.iter().filter(|batch| batch.known_answers(false).is_some()).count();
        assert!(masked(&draw(false, 0)) > 10, "the rows have duplicates");
        let batches = draw(true, 0);
        assert_eq!(masked(&batches), 0);
        let mut queries: Vec<&String> = batches[..15].iter().flat_map(|batch| &batch.queries).collect();
        queries.sort();
        assert!(queries.chunk_by(|a, b| a == b).all(|rows| rows.len() == 3) && queries.len() == 120, "every row once");
        assert_eq!(draw(true, 17), batches[17..], "starting later draws the same");
        let one = [rows(&[("a", &["1"], &[]), ("a", &["2"], &[]), ("a", &["3"], &[]), ("b", &["4"], &[])])];
        let settings = BatchSettings { batch_size: 2, group_size: 1, no_duplicates: true };
        let mut batcher = Batcher::new(&one, settings, 0);
        let rest: usize = (0..2).map(|number| batcher.batch(number).expect("rows").queries.len()).sum();
        assert_eq!(rest, 4, "rows that fit nowhere are kept");
    }
}
