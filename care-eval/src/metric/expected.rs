//! The exact mean of each metric over every order of tied documents.
//!
//! In a tie of `n` documents, `r` of them relevant, each place holds a relevant one with probability `r / n`.
//!
//! # Reference
//! McSherry and Najork, ECIR 2008.

use std::num::NonZeroUsize;

use super::ndcg::ideal_dcg;

/// A ranking up to its cut-off, with unordered ties.
pub(crate) struct Expected<'a> {
    ties: Vec<Tie<'a>>,
    cutoff: Option<NonZeroUsize>,
}

/// Documents with equal scores.
struct Tie<'a> {
    /// Number of documents ranked before the tie.
    before: usize,
    grades: &'a [i32],
    /// Number of its places within the cut-off.
    places: usize,
}

impl Tie<'_> {
    fn relevant(&self) -> f64 {
        self.grades.iter().filter(|grade| **grade > 0).count() as f64
    }

    fn size(&self) -> f64 {
        self.grades.len() as f64
    }

    /// The rank of each place within the cut-off.
    fn ranks(&self) -> impl Iterator<Item = f64> {
        (1..=self.places).map(|place| (self.before + place) as f64)
    }

    /// The probability of each place within the cut-off to hold the tie's first relevant document.
    fn first_relevant(&self) -> impl Iterator<Item = f64> {
        let (size, relevant) = (self.size(), self.relevant());
        let mut none_yet = 1.0;
        (0..self.places).map(move |place| {
            let left = size - place as f64;
            let here = none_yet * relevant / left;
            none_yet *= (left - relevant).max(0.0) / left;
            here
        })
    }
}

impl<'a> Expected<'a> {
    pub(crate) fn new(ranked: &'a [i32], sizes: &[usize], cutoff: Option<NonZeroUsize>) -> Self {
        let end = cutoff.map_or(ranked.len(), |cutoff| cutoff.get().min(ranked.len()));
        let mut before = 0;
        let ties = sizes.iter().map(|&size| {
            let tie =
                Tie { before, grades: &ranked[before..before + size], places: end.saturating_sub(before).min(size) };
            before += size;
            tie
        });
        Self { ties: ties.take_while(|tie| tie.places > 0).collect(), cutoff }
    }

    /// Expected number of relevant documents within the cut-off.
    pub(crate) fn hits(&self) -> f64 {
        // Multiplied before dividing, so that a tie wholly within the cut-off contributes an exact integer.
        self.ties.iter().map(|tie| tie.relevant() * tie.places as f64 / tie.size()).fold(0.0, |sum, hits| sum + hits)
    }

    pub(crate) fn ndcg(&self, judged: &[i32]) -> f64 {
        let best = ideal_dcg(judged, self.cutoff);
        let mut dcg = 0.0;
        for tie in &self.ties {
            let gain = tie.grades.iter().map(|grade| f64::from((*grade).max(0))).sum::<f64>() / tie.size();
            dcg = tie.ranks().fold(dcg, |sum, rank| sum + gain / (rank + 1.0).log2());
        }
        if best == 0.0 { 0.0 } else { dcg / best }
    }

    pub(crate) fn average_precision(&self, relevant: usize) -> f64 {
        let (mut sum, mut hits) = (0.0, 0.0);
        for tie in &self.ties {
            let (size, here) = (tie.size(), tie.relevant());
            for (place, rank) in tie.ranks().enumerate() {
                // Expected relevant documents at earlier places of the tie, given a relevant one at this place.
                let earlier = if size > 1.0 { place as f64 * (here - 1.0) / (size - 1.0) } else { 0.0 };
                sum += here / size * (hits + earlier + 1.0) / rank;
            }
            hits += here;
        }
        if relevant == 0 { 0.0 } else { sum / relevant as f64 }
    }

    pub(crate) fn reciprocal_rank(&self) -> f64 {
        self.first(|tie| tie.first_relevant().zip(tie.ranks()).fold(0.0, |sum, (here, rank)| sum + here / rank))
    }

    pub(crate) fn success(&self) -> f64 {
        self.first(|tie| tie.first_relevant().fold(0.0, |sum, here| sum + here).min(1.0))
    }

    /// The value of the first tie with a relevant document; 0 if there is none.
    fn first(&self, value: impl Fn(&Tie<'_>) -> f64) -> f64 {
        self.ties.iter().find(|tie| tie.relevant() > 0.0).map_or(0.0, value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::measure::Measure;

    /// The rankings for every order within the ties.
    fn orders(ranked: &[i32], ties: &[usize]) -> Vec<Vec<i32>> {
        let Some((&size, rest)) = ties.split_first() else { return vec![Vec::new()] };
        let (tie, after) = ranked.split_at(size);
        let tails = orders(after, rest);
        permutations(tie).iter().flat_map(|head| tails.iter().map(|tail| [head.as_slice(), tail].concat())).collect()
    }

    fn permutations(items: &[i32]) -> Vec<Vec<i32>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        (0..items.len())
            .flat_map(|first| {
                let rest: Vec<i32> = [&items[..first], &items[first + 1..]].concat();
                permutations(&rest).into_iter().map(move |tail| [&[items[first]], tail.as_slice()].concat())
            })
            .collect()
    }

    #[test]
    fn certain_values_are_not_above_one() {
        let ranked: Vec<i32> = (0..25).map(|n| i32::from(n % 4 == 0)).collect();
        for name in ["recall@100", "success@100", "rprec", "precision@1"] {
            let measure: Measure = name.parse().unwrap();
            let value = measure.expected_score(&ranked, &[25], &ranked);
            assert!((0.0..=1.0).contains(&value), "{name} is {value}");
        }
        let recall: Measure = "recall@25".parse().unwrap();
        assert_eq!(recall.expected_score(&ranked, &[25], &ranked), 1.0);
    }

    #[test]
    fn every_measure_is_its_mean_over_all_orders() {
        let names =
            ["ndcg", "map", "mrr", "rprec"].map(str::to_owned).into_iter().chain((1..=9).flat_map(|k| {
                ["ndcg", "map", "mrr", "recall", "precision", "success"].map(|name| format!("{name}@{k}"))
            }));
        let names: Vec<String> = names.collect();
        let rankings: [(&[i32], &[usize]); 6] = [
            (&[0, 2, 1, 0, 1, -1, 3, 0], &[1, 4, 2, 1]),
            (&[1, 0, 0, 0, 0], &[5]),
            (&[2, 1, 1], &[3]),
            (&[0, 0, 0, 1], &[2, 2]),
            (&[0, 1, 0, 2], &[1, 1, 1, 1]),
            (&[0, -1], &[2]),
        ];
        for (ranked, ties) in rankings {
            let judged = [ranked, &[1, 0]].concat();
            let orders = orders(ranked, ties);
            for name in &names {
                let measure: Measure = name.parse().unwrap();
                let mean = orders.iter().map(|order| measure.score(order, &judged)).sum::<f64>() / orders.len() as f64;
                let expected = measure.expected_score(ranked, ties, &judged);
                approx::assert_abs_diff_eq!(expected, mean, epsilon = 1e-12);
            }
        }
    }
}
