//! Mines negatives, one group of queries after the other.

use std::mem;

use care_core::index::Hit;
use care_core::{Error, ErrorKind, Result, Text};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::choose::{Drops, Keys, Negative, Ranked, priority, sift, take};
use super::documents::Documents;
use super::fuse::reciprocal_rank;
use super::guard::Guard;
use super::queries::{Equals, MiningQuery, Queries};
use super::report::{Report, SourceReport};
use super::rules::{Rules, Sample, Short};
use super::source::{Answers, Source};
use super::statistics::Distribution;

/// How negatives are mined: the rules, and how several sources become one choice.
///
/// The first source is the scoring source: rules of scores hold for its scores, whichever source found a document, and
/// they are the scores that are kept. Each source has its own ranks, unless the sources are fused.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Plan {
    /// The rules.
    pub rules: Rules,
    /// How several sources become one choice.
    pub mix: Mix,
    /// Queries that are encoded and searched together; 0: 4096. The result does not depend on it.
    pub group: usize,
}

/// How several sources become one choice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mix {
    /// By reciprocal rank fusion: one ranking, to which the ranks apply.
    #[default]
    Fused,
    /// A number of negatives from each source, in the order of the sources, of texts that no earlier one gave. What a
    /// source lacks is taken from the others, in the same order.
    Quotas(Vec<usize>),
}

/// A query with its negatives.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Mined {
    /// The query's number.
    pub number: usize,
    /// The query.
    pub query: MiningQuery,
    /// The score of each positive, if the scoring source has one.
    pub positive_scores: Vec<Option<f32>>,
    /// The negatives: by source, then by rank; those that were drawn at random last.
    pub negatives: Vec<Negative>,
}

impl Plan {
    fn check(&self, sources: usize) -> Result<()> {
        self.rules.check()?;
        if sources == 0 {
            return Err(Error::new(ErrorKind::Config, "no source of candidates: use a model, BM25 or a run"));
        }
        if let Mix::Quotas(quotas) = &self.mix {
            let (asked, wanted) = (quotas.iter().sum::<usize>(), self.rules.negatives);
            if quotas.len() != sources || asked != wanted {
                let allowed = format!("a number for each of {sources} sources, {wanted} in all");
                return Err(Error::setting("quotas", format!("{quotas:?}"), &allowed));
            }
        }
        Ok(())
    }
}

/// Mines negatives of all queries and calls `each` with them, in order. Queries that are left out are not passed on.
///
/// The result depends neither on the number of threads nor on the groups.
///
/// # Errors
/// If the plan is out of range, a source fails, `each` fails, or no query has a negative.
pub fn mine(
    queries: &Queries,
    documents: &Documents,
    sources: &[&dyn Source],
    plan: &Plan,
    each: &mut dyn FnMut(Mined) -> Result<()>,
) -> Result<Report> {
    plan.check(sources.len())?;
    let size = if plan.group == 0 { 4096 } else { plan.group };
    let (work, mut tally) = (Work { queries, documents, plan, equals: queries.equals() }, Tally::new(plan, sources));
    let mut pass = |start: usize, mined: Vec<(MiningQuery, Chosen)>| {
        for (number, (query, chosen)) in (start..).zip(mined) {
            if tally.add(&chosen) {
                let Chosen { positive_scores, negatives, .. } = chosen;
                each(Mined { number, query, positive_scores, negatives })?;
            }
        }
        Ok(())
    };
    let group = |start: usize| {
        if start == queries.len() {
            return Ok(None);
        }
        let end = queries.len().min(start.saturating_add(size));
        let group = (start..end).map(|number| queries.get(number)).collect::<Result<Vec<_>>>()?;
        let answers = sources.iter().map(|source| source.ask(&group)).collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>(Some((start, group, answers)))
    };
    let (mut passed, mut mined, mut next) = (0, Vec::new(), group(0)?);
    while let Some((start, asked, answers)) = next {
        // While a group is searched, the one before is passed on, and the one after is read and encoded.
        let mut chosen = Ok(Vec::new());
        next = rayon::in_place_scope(|scope| {
            scope.spawn(|_| chosen = work.choose(start, &asked, &answers));
            pass(passed, mem::take(&mut mined))?;
            group(start + asked.len())
        })?;
        (passed, mined) = (start, asked.into_iter().zip(chosen?).collect());
    }
    pass(passed, mined)?;
    tally.finish(queries.len())
}

/// What queries are mined with.
struct Work<'a> {
    queries: &'a Queries,
    documents: &'a Documents,
    plan: &'a Plan,
    equals: Equals,
}

impl Work<'_> {
    /// What is chosen for a group of queries, of which the first has the number `start`.
    fn choose(&self, start: usize, group: &[MiningQuery], answers: &[Box<dyn Answers + '_>]) -> Result<Vec<Chosen>> {
        let Self { queries, documents, plan, equals } = self;
        let known: Vec<Vec<u32>> = (0..group.len()).map(|at| equals.known(queries, start + at)).collect();
        let depth = |at: usize| plan.rules.depth_for(queries.positives(start + at).len() + known[at].len());
        let deepest = (0..group.len()).map(depth).max().unwrap_or(0);
        let found = answers.iter().map(|answers| answers.search(deepest)).collect::<Result<Vec<_>>>()?;
        let one = |at: usize| {
            let rankings = found.iter().map(|found| &found[at][..depth(at).min(found[at].len())]).collect();
            let positives = queries.positives(start + at);
            let guard = Guard::new(documents, queries.key(start + at), positives, &known[at]);
            One { plan, documents, scorer: answers[0].as_ref(), at, query: &group[at], guard, positives }.mine(rankings)
        };
        (0..group.len()).into_par_iter().map(one).collect()
    }
}

/// A query that is being mined for.
struct One<'a> {
    plan: &'a Plan,
    documents: &'a Documents,
    scorer: &'a dyn Answers,
    /// Its place in the group.
    at: usize,
    query: &'a MiningQuery,
    guard: Guard<'a>,
    positives: &'a [u32],
}

/// What was chosen for a query.
struct Chosen {
    positive_scores: Vec<Option<f32>>,
    negatives: Vec<Negative>,
    /// Negatives before any were filled up.
    mined: usize,
    /// Per source.
    looked_at: Vec<usize>,
    left: Vec<usize>,
    drops: Vec<Drops>,
}

impl One<'_> {
    fn mine(&self, rankings: Vec<&[Hit]>) -> Result<Chosen> {
        let rules = &self.plan.rules;
        let positives: Vec<usize> = self.positives.iter().map(|&positive| positive as usize).collect();
        let positive_scores = self.scorer.scores(self.at, &positives)?;
        let bounds = rules.bounds(&positive_scores);
        let ranked = self.ranked(&rankings)?;
        let mut drops = vec![Drops::new(); ranked.len()];
        let left: Vec<Vec<Ranked>> =
            ranked.iter().zip(&mut drops).map(|(ranking, drops)| sift(rules, &bounds, ranking, drops)).collect();

        let mut taken = Keys::default();
        let mut negatives = Vec::with_capacity(rules.negatives);
        if let (Mix::Quotas(quotas), true) = (&self.plan.mix, left.len() > 1) {
            for (source, (left, &quota)) in left.iter().zip(quotas).enumerate() {
                negatives.extend(take(rules.sample, quota, left, source, &mut taken));
            }
        }
        for (source, left) in left.iter().enumerate() {
            let missing = rules.negatives - negatives.len();
            negatives.extend(take(rules.sample, missing, left, source, &mut taken));
        }
        negatives.sort_by_key(|negative| negative.source);
        let mined = negatives.len();
        if let Short::Fill { seed } = rules.short {
            self.fill(seed, &mut negatives, &mut taken)?;
        }
        let left = left.iter().map(Vec::len).collect();
        let looked_at = ranked.iter().map(Vec::len).collect();
        Ok(Chosen { positive_scores, negatives, mined, looked_at, left, drops })
    }

    /// The results of each source, or of all together, as the rules see them.
    fn ranked(&self, rankings: &[&[Hit]]) -> Result<Vec<Vec<Ranked>>> {
        if let (Mix::Fused, true) = (&self.plan.mix, rankings.len() > 1) {
            let depth = rankings.iter().map(|ranking| ranking.len()).max().unwrap_or(0);
            let fused = reciprocal_rank(rankings, depth);
            let scores = self.scorer.scores(self.at, &fused)?;
            return Ok(vec![self.judged(fused.into_iter().zip(scores))?]);
        }
        let of_source = |(source, ranking): (usize, &&[Hit])| {
            let documents: Vec<usize> = ranking.iter().map(|hit| hit.index).collect();
            let scores = match source {
                // Its own.
                0 => ranking.iter().map(|hit| Some(hit.score)).collect(),
                _ => self.scorer.scores(self.at, &documents)?,
            };
            self.judged(documents.into_iter().zip(scores))
        };
        rankings.iter().enumerate().map(of_source).collect()
    }

    fn judged(&self, results: impl Iterator<Item = (usize, Option<f32>)>) -> Result<Vec<Ranked>> {
        let seed = match self.plan.rules.sample {
            Sample::Random { seed } => seed_of(seed, self.query),
            Sample::Top => 0,
        };
        results
            .map(|(document, score)| {
                let (key, never) = (self.documents.key(document), self.guard.refuse(document)?);
                let priority = priority(seed, self.documents.hash(document));
                Ok(Ranked { document, score, never, key, priority })
            })
            .collect()
    }

    /// Adds random documents of the corpus until there are enough, or until most draws hit nothing new.
    fn fill(&self, seed: u64, negatives: &mut Vec<Negative>, taken: &mut Keys) -> Result<()> {
        let missing = self.plan.rules.negatives - negatives.len();
        let (seed, corpus) = (seed_of(seed, self.query), self.documents.corpus());
        let mut drawn = Vec::with_capacity(missing);
        for draw in 0..(100 + 20 * missing as u64) {
            if drawn.len() == missing || corpus == 0 {
                break;
            }
            let document = (priority(seed, draw) % corpus as u64) as usize;
            if self.guard.refuse(document)?.is_none() && taken.insert(self.documents.key(document)) {
                drawn.push(document);
            }
        }
        let scores = self.scorer.scores(self.at, &drawn)?;
        let filled = drawn.into_iter().zip(scores);
        negatives.extend(filled.map(|(document, score)| Negative { document, score, source: None }));
        Ok(())
    }
}

/// A seed of a query's own: the first 8 bytes, little-endian, of the SHA-256 of the seed's 8 bytes and the text.
fn seed_of(seed: u64, query: &MiningQuery) -> u64 {
    let digest =
        Sha256::new().chain_update(seed.to_le_bytes()).chain_update(query.query.content().as_bytes()).finalize();
    digest.iter().take(8).rev().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

/// The numbers of a [`Report`] while they are counted.
struct Tally {
    report: Report,
    positives: Vec<f32>,
    negatives: Vec<f32>,
    margins: Vec<f32>,
}

impl Tally {
    fn new(plan: &Plan, sources: &[&dyn Source]) -> Self {
        let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
        let named = |name: String| SourceReport { name, ..SourceReport::default() };
        let of_sources = match plan.mix {
            Mix::Fused if names.len() > 1 => vec![named(names.join(" + "))],
            _ => names.iter().map(|name| named((*name).to_owned())).collect(),
        };
        let empty = Distribution::of(&[]);
        let report = Report {
            rules: plan.rules.clone(),
            scored_by: names[0].to_owned(),
            queries: 0,
            left_out: 0,
            short: 0,
            without: 0,
            filled: 0,
            negatives: 0,
            sources: of_sources,
            dropped_of_short: Drops::new(),
            positive_scores: empty.clone(),
            negative_scores: empty.clone(),
            margins: empty,
        };
        Self { report, positives: Vec::new(), negatives: Vec::new(), margins: Vec::new() }
    }

    /// Counts a query; returns whether it is kept.
    fn add(&mut self, chosen: &Chosen) -> bool {
        let report = &mut self.report;
        let is_short = chosen.mined < report.rules.negatives;
        for (source, of) in report.sources.iter_mut().enumerate() {
            of.results += chosen.looked_at[source];
            of.left += chosen.left[source];
            Report::drop_for(&chosen.drops[source], &mut of.dropped);
            if is_short {
                Report::drop_for(&chosen.drops[source], &mut report.dropped_of_short);
            }
        }
        report.short += usize::from(is_short);
        report.without += usize::from(chosen.mined == 0);
        if is_short && report.rules.short == Short::Drop {
            report.left_out += 1;
            return false;
        }
        for negative in &chosen.negatives {
            match negative.source {
                Some(source) => report.sources[source].taken += 1,
                None => report.filled += 1,
            }
        }
        report.negatives += chosen.negatives.len();
        self.positives.extend(chosen.positive_scores.iter().flatten());
        let positive = report.rules.against.of(&chosen.positive_scores);
        for score in chosen.negatives.iter().filter_map(|negative| negative.score) {
            self.negatives.push(score);
            self.margins.extend(positive.map(|positive| (positive - f64::from(score)) as f32));
        }
        true
    }

    fn finish(self, queries: usize) -> Result<Report> {
        let mut report = self.report;
        report.queries = queries;
        report.positive_scores = Distribution::of(&self.positives);
        report.negative_scores = Distribution::of(&self.negatives);
        report.margins = Distribution::of(&self.margins);
        if report.negatives == 0 && queries > 0 {
            let looked_at: usize = report.sources.iter().map(|source| source.results).sum();
            let mut dropped: Vec<_> = report.dropped_of_short.iter().collect();
            dropped.sort_by(|a, b| b.1.cmp(a.1));
            let dropped: Vec<_> =
                dropped.iter().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
            let reasons = if dropped.is_empty() { "none were found".to_owned() } else { dropped.join(", ") };
            let message = format!("no query has a negative left: of {looked_at} results {reasons}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(report)
    }
}
