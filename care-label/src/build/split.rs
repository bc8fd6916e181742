//! Splits without leaks: near-duplicate questions are always in the same split.

use std::collections::BTreeMap;

use care_core::{Error, Result};
use care_data::near::NearDuplicates;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A split and its share of the questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Name, e.g. `test`.
    pub name: String,
    /// Share of the questions, above 0, up to 1; the shares of all splits sum to 1.
    pub share: f64,
}

/// Parses `train=0.8,dev=0.1,test=0.1`; a single name is everything.
///
/// # Errors
/// If a name is empty, used twice or no file name, or the shares do not sum to 1.
pub fn parse_splits(text: &str) -> Result<Vec<Split>> {
    const ALLOWED: &str =
        "NAME=SHARE,.. with different names of letters, shares that sum to 1, e.g. train=0.8,dev=0.1,test=0.1";
    let refuse = || Error::setting("splits", format!("`{text}`"), ALLOWED);
    let mut splits: Vec<Split> = Vec::new();
    for part in text.split(',') {
        let (name, share) = part.split_once('=').unwrap_or((part, "1"));
        let share: f64 = share.trim().parse().map_err(|_| refuse())?;
        let name = name.trim().to_owned();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || splits.iter().any(|split| split.name == name) || !(share > 0.0 && share <= 1.0) {
            return Err(refuse());
        }
        splits.push(Split { name, share });
    }
    if (splits.iter().map(|split| split.share).sum::<f64>() - 1.0).abs() > 1e-6 {
        return Err(refuse());
    }
    Ok(splits)
}

/// The split of each item, by its number in `splits`. Items whose texts are near-duplicates, directly or through others,
/// are in one split; an item may have several texts.
pub(super) fn assign(items: &[Vec<&str>], splits: &[Split], near: &NearDuplicates, seed: u64) -> Vec<usize> {
    let texts: Vec<&str> = items.iter().flatten().copied().collect();
    let groups = near.groups(&texts);
    // Items that share a group of texts are one cluster, named by its first item.
    let mut first_of_group: BTreeMap<usize, usize> = BTreeMap::new();
    let mut cluster: Vec<usize> = (0..items.len()).collect();
    let mut at = 0;
    for (item, texts) in items.iter().enumerate() {
        for group in &groups[at..at + texts.len()] {
            let other = *first_of_group.entry(*group).or_insert(item);
            let (a, b) = (root(&mut cluster, other), root(&mut cluster, item));
            cluster[a.max(b)] = a.min(b);
        }
        at += texts.len();
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for item in 0..items.len() {
        members.entry(root(&mut cluster, item)).or_default().push(item);
    }
    // Large clusters first, so that the small ones even out the shares; among equals the seed decides.
    let mut clusters: Vec<Vec<usize>> = members.into_values().collect();
    clusters.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
    let (mut sizes, mut assigned) = (vec![0usize; splits.len()], vec![0; items.len()]);
    for cluster in clusters {
        let lacking = |at: &usize| splits[*at].share * items.len() as f64 - sizes[*at] as f64;
        let split = (0..splits.len()).max_by(|a, b| lacking(a).total_cmp(&lacking(b)).then(b.cmp(a))).unwrap_or(0);
        sizes[split] += cluster.len();
        for item in cluster {
            assigned[item] = split;
        }
    }
    assigned
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_parsed_or_refused() {
        let splits = parse_splits("train=0.8, dev=0.1,test=0.1").expect("three");
        assert_eq!(splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>(), ["train", "dev", "test"]);
        assert_eq!(parse_splits("test").expect("one")[0].share, 1.0);
        for bad in ["", "train=0.8", "a=0.5,a=0.5", "a=x,b=0.5", "a=1.5,b=-0.5", "../a=1", "a=0.5,b=nan"] {
            assert!(parse_splits(bad).expect_err(bad).to_string().starts_with(&format!("`splits` is `{bad}`")));
        }
    }

    #[test]
    fn near_duplicates_share_a_split_and_shares_are_met() {
        let mut texts: Vec<String> =
            (0..200).map(|n| format!("第{n}个问题：{}怎么办", "头痛发热咳嗽胸闷腹泻".repeat(n % 7 + 1))).collect();
        for at in 0..100 {
            let copy = format!("{}？ ", texts[at]);
            texts.push(copy);
        }
        let items: Vec<Vec<&str>> = texts.iter().map(|text| vec![text.as_str()]).collect();
        let splits = parse_splits("train=0.8,dev=0.1,test=0.1").expect("three");
        let near = NearDuplicates::new(3, 0.95).expect("in range");
        let assigned = assign(&items, &splits, &near, 7);
        for pair in near.pairs(&texts) {
            assert_eq!(assigned[pair.first], assigned[pair.second]);
        }
        assert_eq!(assigned, assign(&items, &splits, &near, 7));
        let size = |split| assigned.iter().filter(|at| **at == split).count();
        assert!(
            size(0).abs_diff(240) <= 12 && size(1).abs_diff(30) <= 12 && size(2) > 15,
            "{} {} {}",
            size(0),
            size(1),
            size(2)
        );
    }

    #[test]
    fn items_that_share_a_text_are_together() {
        let items = [vec!["甲甲甲", "乙乙乙"], vec!["丙丙丙", "丁丁丁"], vec!["乙乙乙", "丙丙丙"], vec!["戊戊戊"]];
        let splits = parse_splits("a=0.5,b=0.5").expect("two");
        let assigned = assign(&items, &splits, &NearDuplicates::default(), 0);
        assert_eq!((assigned[0], assigned[1]), (assigned[2], assigned[2]));
        assert_ne!(assigned[0], assigned[3]);
    }
}
