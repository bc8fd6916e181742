//! Which expert sees which pairs, and in which order.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

/// The pairs of each expert in the order of their sheet.
///
/// `queries` lists the pairs of each query. A query goes to `per_pair` experts with all its pairs, so that a clinician
/// reads a question once: to those with the fewest pairs so far, and among equals to those who share the fewest pairs
/// with the ones already chosen, so that everybody overlaps with everybody. Loads differ by at most the pairs of the
/// largest query. Each expert has the queries, and the documents of a query, in a random order of their own.
pub(super) fn assign(queries: &[Vec<usize>], experts: usize, per_pair: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = generator(seed, 1);
    let mut order: Vec<&Vec<usize>> = queries.iter().collect();
    order.shuffle(&mut rng);
    // The largest first: the small ones then level the loads. The sort is stable, so equals stay shuffled.
    order.sort_by_key(|pairs| std::cmp::Reverse(pairs.len()));
    let mut sheets: Vec<Vec<&Vec<usize>>> = vec![Vec::new(); experts];
    let mut load = vec![0; experts];
    let mut shared = vec![vec![0; experts]; experts];
    for pairs in order {
        let mut free: Vec<usize> = (0..experts).collect();
        free.shuffle(&mut rng);
        let mut chosen: Vec<usize> = Vec::new();
        for _ in 0..per_pair {
            let cost =
                |expert: &usize| (load[*expert], chosen.iter().map(|other| shared[*expert][*other]).sum::<usize>());
            let Some(next) = free.iter().copied().min_by_key(cost) else { break };
            free.retain(|expert| *expert != next);
            chosen.push(next);
        }
        for &expert in &chosen {
            load[expert] += pairs.len();
            sheets[expert].push(pairs);
            for &other in chosen.iter().filter(|other| **other != expert) {
                shared[expert][other] += pairs.len();
            }
        }
    }
    let shuffled = |(expert, mut queries): (usize, Vec<&Vec<usize>>)| {
        let mut rng = generator(seed, 2 + expert as u64);
        queries.shuffle(&mut rng);
        let mut documents = |pairs: &Vec<usize>| {
            let mut pairs = pairs.clone();
            pairs.shuffle(&mut rng);
            pairs
        };
        queries.into_iter().flat_map(&mut documents).collect()
    };
    sheets.into_iter().enumerate().map(shuffled).collect()
}

/// An independent generator for each purpose of a seed.
pub(super) fn generator(seed: u64, purpose: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn queries(sizes: &[usize]) -> Vec<Vec<usize>> {
        let mut next = 0..;
        sizes.iter().map(|size| next.by_ref().take(*size).collect()).collect()
    }

    #[test]
    fn everybody_overlaps_with_everybody() {
        for sizes in [vec![1; 60], [3, 1, 2, 1, 5, 1].repeat(10)] {
            let queries = queries(&sizes);
            let sheets = assign(&queries, 4, 2, 7);
            for (a, first) in sheets.iter().enumerate() {
                for second in &sheets[a + 1..] {
                    let both = first.iter().filter(|pair| second.contains(pair)).count();
                    assert!(both * 12 >= sizes.iter().sum::<usize>(), "{both} of {sizes:?}");
                }
            }
            assert_eq!(sheets, assign(&queries, 4, 2, 7));
            assert_ne!(sheets, assign(&queries, 4, 2, 8));
        }
    }

    #[test]
    fn documents_of_a_query_are_shuffled_but_stay_together() {
        let queries = queries(&[5; 40]);
        let sheets = assign(&queries, 2, 2, 1);
        assert_ne!(sheets[0], sheets[1]);
        for sheet in &sheets {
            assert!(sheet.chunks(5).all(|chunk| chunk.iter().all(|pair| pair / 5 == chunk[0] / 5)));
            let first_stays_first = sheet.chunks(5).filter(|chunk| chunk[0] % 5 == 0).count();
            assert!(first_stays_first < 20, "{first_stays_first} of 40");
        }
    }

    proptest! {
        #[test]
        fn every_pair_has_exactly_its_experts_and_loads_are_level(
            sizes in prop::collection::vec(1usize..6, 1..40),
            experts in 1usize..6,
            seed in 0u64..100,
        ) {
            let queries = queries(&sizes);
            for per_pair in 1..=experts {
                let sheets = assign(&queries, experts, per_pair, seed);
                let mut seen: HashMap<usize, usize> = HashMap::new();
                for sheet in &sheets {
                    let mut once = sheet.clone();
                    once.sort_unstable();
                    once.dedup();
                    prop_assert_eq!(once.len(), sheet.len());
                    sheet.iter().for_each(|pair| *seen.entry(*pair).or_default() += 1);
                }
                prop_assert_eq!(seen.len(), sizes.iter().sum::<usize>());
                prop_assert!(seen.values().all(|times| *times == per_pair));
                let loads = sheets.iter().map(Vec::len);
                let (most, least) = (loads.clone().max().unwrap_or(0), loads.min().unwrap_or(0));
                prop_assert!(most - least <= sizes.iter().max().copied().unwrap_or(0));
            }
        }
    }
}
