//! The choice of one query's negatives from rankings.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::RandomState;

use super::documents::Key;
use super::rules::{Bounds, RankCount, Reason, Rules, Sample};

/// A result of a search, with what the rules need to know of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ranked {
    pub(super) document: usize,
    /// By the scoring source.
    pub(super) score: Option<f32>,
    /// Why it is never a negative of this query.
    pub(super) never: Option<Reason>,
    /// Of its normalised text.
    pub(super) key: Key,
    /// Its place in a random order.
    pub(super) priority: u64,
}

/// A negative of a query.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Negative {
    /// The document's number.
    pub document: usize,
    /// Its score by the scoring source, if that has one.
    pub score: Option<f32>,
    /// The place of its source among the sources; `None` if it was drawn at random to fill up.
    pub source: Option<usize>,
}

/// Normalised texts.
pub(super) type Keys = HashSet<Key, RandomState>;

/// Number of results by the reason why they are no negatives.
pub(super) type Drops = BTreeMap<Reason, usize>;

/// The results of a ranking that may be negatives, in their order.
pub(super) fn sift(rules: &Rules, bounds: &Bounds, ranking: &[Ranked], drops: &mut Drops) -> Vec<Ranked> {
    let (mut left, mut texts) = (Vec::new(), Keys::default());
    let mut drop = |reason| *drops.entry(reason).or_default() += 1;
    let in_range = |rank: usize| (rules.ranks.skip..rules.ranks.through).contains(&rank);
    for (rank, &result) in ranking.iter().enumerate() {
        if rules.count == RankCount::Results && !in_range(rank) {
            drop(Reason::Ranks);
        } else if let Some(reason) = result.never.or_else(|| bounds.refuse(result.score)) {
            drop(reason);
        } else if !texts.insert(result.key) {
            drop(Reason::Repeated);
        } else {
            left.push(result);
        }
    }
    if rules.count == RankCount::Allowed {
        let mut rank = 0..;
        left.retain(|_| {
            let kept = rank.next().is_some_and(in_range);
            if !kept {
                drop(Reason::Ranks);
            }
            kept
        });
    }
    left
}

/// Takes `count` of the results whose texts are not taken yet, in their order, and notes their texts.
pub(super) fn take(sample: Sample, count: usize, left: &[Ranked], source: usize, taken: &mut Keys) -> Vec<Negative> {
    let mut free: Vec<(usize, &Ranked)> =
        left.iter().enumerate().filter(|(_, result)| !taken.contains(&result.key)).collect();
    if let Sample::Random { .. } = sample {
        free.sort_by_key(|(rank, result)| (result.priority, *rank));
    }
    free.truncate(count);
    free.sort_unstable_by_key(|(rank, _)| *rank);
    taken.extend(free.iter().map(|(_, result)| result.key));
    let negative = |(_, result): (usize, &Ranked)| Negative {
        document: result.document,
        score: result.score,
        source: Some(source),
    };
    free.into_iter().map(negative).collect()
}

/// Spreads the bits of two numbers (the finaliser of SplitMix64).
pub(super) fn priority(seed: u64, document: u64) -> u64 {
    crate::near::mix(seed ^ document)
}
