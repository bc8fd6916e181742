//! What was mined, in numbers, and what to change.

use std::collections::BTreeMap;

use serde::Serialize;

use super::choose::Drops;
use super::rules::{Reason, Rules, Short};
use super::statistics::Distribution;

/// What came of mining.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The rules.
    pub rules: Rules,
    /// Name of the source whose scores the rules and the distributions are about.
    pub scored_by: String,
    /// Number of queries.
    pub queries: usize,
    /// Queries that were left out because they fell short.
    pub left_out: usize,
    /// Queries with fewer negatives than asked for, before any were filled up.
    pub short: usize,
    /// Queries without any negative, before any were filled up.
    pub without: usize,
    /// Negatives that were drawn at random to fill up.
    pub filled: usize,
    /// Negatives in all, of queries that were left out not.
    pub negatives: usize,
    /// Results and what became of them, by source; a single one if the sources were fused.
    pub sources: Vec<SourceReport>,
    /// Results that were dropped of queries that fell short.
    pub dropped_of_short: BTreeMap<Reason, usize>,
    /// Scores of positives.
    pub positive_scores: Distribution,
    /// Scores of negatives.
    pub negative_scores: Distribution,
    /// Differences of the positive that margins are measured against and each negative.
    pub margins: Distribution,
}

/// What became of the results of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Results that were looked at.
    pub results: usize,
    /// Results that were dropped, by reason.
    pub dropped: BTreeMap<Reason, usize>,
    /// Results that the rules left.
    pub left: usize,
    /// Results that became negatives.
    pub taken: usize,
}

impl Reason {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Ranks => "outside of the ranks",
            Reason::Positive => "a positive",
            Reason::KnownPositive => "a positive of the same query elsewhere",
            Reason::OwnText => "the query's own text",
            Reason::NearDuplicate => "near-duplicate of a positive",
            Reason::NoScore => "without a score",
            Reason::MaxScore => "above max_score",
            Reason::AbsoluteMargin => "within absolute_margin",
            Reason::RelativeMargin => "within relative_margin",
            Reason::MinScore => "below min_score",
            Reason::Repeated => "the text of a better candidate",
        }
    }
}

impl Report {
    pub(super) fn drop_for(drops: &Drops, into: &mut BTreeMap<Reason, usize>) {
        for (&reason, count) in drops {
            *into.entry(reason).or_default() += count;
        }
    }

    /// What to change so that fewer queries fall short, the most effective first; empty if none does.
    pub fn advice(&self) -> Vec<String> {
        if self.short == 0 {
            return Vec::new();
        }
        let mut advice = Vec::new();
        let mut dropped: Vec<_> = self.dropped_of_short.iter().collect();
        dropped.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (reason, count) in dropped {
            let through = self.rules.ranks.through;
            let change = match reason {
                Reason::Ranks => "pass over fewer results at the beginning of the ranks",
                Reason::NoScore => "use a source that scores every document, i.e. a model or BM25, in the first place",
                Reason::MaxScore => "raise max_score",
                Reason::AbsoluteMargin => "lower absolute_margin",
                Reason::RelativeMargin => "lower relative_margin",
                Reason::MinScore => "lower min_score",
                Reason::Positive
                | Reason::KnownPositive
                | Reason::OwnText
                | Reason::NearDuplicate
                | Reason::Repeated => "extend the ranks",
            };
            let line = format!(
                "{change}: {count} results of queries that fell short were {} (ranks end at {through})",
                reason.as_str()
            );
            if !advice.iter().any(|other: &String| other.starts_with(change)) {
                advice.push(line);
            }
        }
        let looked_at: usize = self.sources.iter().map(|source| source.results).sum();
        if looked_at < self.queries * self.rules.ranks.through {
            advice.push("add a source: some rankings end before the last of the ranks".to_owned());
        }
        if self.rules.short == Short::Keep {
            advice.push("or leave short queries out, or fill them up with random documents".to_owned());
        }
        advice.truncate(4);
        advice
    }

    /// The three distributions with their names.
    pub(super) fn distributions(&self) -> [(&'static str, &Distribution); 3] {
        [("positives", &self.positive_scores), ("negatives", &self.negative_scores), ("margins", &self.margins)]
    }
}
