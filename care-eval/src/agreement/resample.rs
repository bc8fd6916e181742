//! The bootstrap over rows with counts: resampling units with replacement is a multinomial draw of counts.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::function::gamma::ln_gamma;

use super::options::IntervalOptions;
use crate::stats::{Interval, percentile_interval};

/// The percentile interval of a statistic, `None` without a defined resample, and the number of undefined resamples.
///
/// Each group keeps its number of units in every resample. `statistic` receives the counts of each group's rows.
pub(super) fn bootstrap(
    groups: &[&[u64]],
    options: &IntervalOptions,
    statistic: impl Fn(&[Vec<f64>]) -> Option<f64> + Sync,
) -> (Option<Interval>, usize) {
    let resample = |index: usize| {
        // A stream for each resample, so that threads do not matter.
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(index as u64);
        let counts: Vec<_> = groups.iter().map(|counts| multinomial(&mut rng, counts)).collect();
        statistic(&counts)
    };
    let values: Vec<f64> = (0..options.resamples).into_par_iter().filter_map(resample).collect();
    let undefined = options.resamples - values.len();
    (percentile_interval(values, options.level), undefined)
}

/// As many draws as there are units, each row with a probability proportional to its count.
fn multinomial(rng: &mut ChaCha8Rng, counts: &[u64]) -> Vec<f64> {
    let mut left: u64 = counts.iter().sum();
    let mut draws = left;
    let row = |count: &u64| {
        let drawn = binomial(rng, draws, *count as f64 / left as f64);
        left -= count;
        draws -= drawn;
        drawn as f64
    };
    counts.iter().map(row).collect()
}

/// The number of successes among `n` independent trials.
///
/// # Reference
/// Kachitvichyanukul and Schmeiser 1988 for inversion (`BINV`); Hörmann, *The generation of binomial random variates*, 1993
/// for transformed rejection (`BTRS`).
fn binomial(rng: &mut ChaCha8Rng, n: u64, p: f64) -> u64 {
    if n == 0 || p <= 0.0 {
        0
    } else if p >= 1.0 {
        n
    } else if p > 0.5 {
        n - binomial(rng, n, 1.0 - p)
    } else if n as f64 * p < 10.0 {
        inversion(rng, n, p)
    } else {
        rejection(rng, n, p)
    }
}

fn inversion(rng: &mut ChaCha8Rng, n: u64, p: f64) -> u64 {
    let odds = p / (1.0 - p);
    let none = (n as f64 * (-p).ln_1p()).exp();
    loop {
        let (mut successes, mut mass, mut left) = (0, none, rng.random::<f64>());
        while left > mass && successes < n {
            left -= mass;
            mass *= (n - successes) as f64 * odds / (successes + 1) as f64;
            successes += 1;
        }
        // Rounding may leave a remainder after the last possible value.
        if left <= mass {
            return successes;
        }
    }
}

fn rejection(rng: &mut ChaCha8Rng, n: u64, p: f64) -> u64 {
    let trials = n as f64;
    let spread = (trials * p * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let alpha = (2.83 + 5.1 / b) * spread;
    let certain = 0.92 - 4.2 / b;
    let mode = ((trials + 1.0) * p).floor();
    let log_odds = (p / (1.0 - p)).ln();
    let log_ways = |k: f64| -ln_gamma(k + 1.0) - ln_gamma(trials - k + 1.0);
    let at_mode = log_ways(mode);
    loop {
        let (u, v) = (rng.random::<f64>() - 0.5, rng.random::<f64>());
        let edge = 0.5 - u.abs();
        let k = ((2.0 * a / edge + b) * u + trials * p + 0.5).floor();
        if !(0.0..=trials).contains(&k) {
            continue;
        }
        let accepted = edge >= 0.07 && v <= certain || {
            let height = v * alpha / (a / (edge * edge) + b);
            height.ln() <= log_ways(k) - at_mode + (k - mode) * log_odds
        };
        if accepted {
            return k as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's chi-square statistic of draws against the exact probabilities, over values expected at least 10 times.
    fn chi_square(n: u64, p: f64, draws: u32) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut observed = vec![0.0; n as usize + 1];
        (0..draws).for_each(|_| observed[binomial(&mut rng, n, p) as usize] += 1.0);
        let ways = |k: f64| ln_gamma(n as f64 + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n as f64 - k + 1.0);
        let log_mass = |k: f64| ways(k) + k * p.ln() + (n as f64 - k) * (1.0 - p).ln();
        let expected = (0..=n).map(|k| f64::from(draws) * log_mass(k as f64).exp());
        let cells: Vec<_> = observed.iter().zip(expected).filter(|(_, expected)| *expected >= 10.0).collect();
        let sum = cells.iter().map(|(observed, expected)| (*observed - expected).powi(2) / expected).sum();
        (sum, cells.len() as f64 - 1.0)
    }

    #[test]
    fn binomial_draws_have_the_exact_distribution() {
        // Inversion, its mirror, rejection, its mirror, and the border between them.
        for (n, p) in [(7, 0.3), (40, 0.9), (5000, 0.0012), (60, 0.4), (300, 0.71), (20, 0.5), (100_000, 0.0003)] {
            let (sum, freedom) = chi_square(n, p, 200_000);
            // 4 standard deviations of chi-square.
            assert!((sum - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "n {n}, p {p}: {sum}, {freedom}");
        }
    }

    #[test]
    fn a_resample_keeps_the_number_of_units_and_empty_rows_stay_empty() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let counts = [3, 0, 1_000_000, 17, 1, 0];
        let mut sums = [0.0; 6];
        for _ in 0..2000 {
            let drawn = multinomial(&mut rng, &counts);
            assert_eq!(drawn.iter().sum::<f64>(), 1_000_021.0);
            sums.iter_mut().zip(drawn).for_each(|(sum, drawn)| *sum += drawn / 2000.0);
        }
        for (mean, count) in sums.into_iter().zip(counts.map(|count| count as f64)) {
            // 5 standard errors.
            assert!((mean - count).abs() <= 5.0 * (count / 2000.0).sqrt(), "{mean}, {count}");
        }
        assert_eq!((sums[1], sums[5]), (0.0, 0.0));
    }

    #[test]
    fn the_interval_depends_on_the_seed_and_not_on_threads() {
        let options = IntervalOptions::default().with_resamples(300);
        let interval = |options: &IntervalOptions| {
            // The share of the first row; undefined if it is drawn less than 27 times.
            let share = |counts: &[Vec<f64>]| (counts[0][0] >= 27.0).then(|| counts[0][0] / 100.0);
            bootstrap(&[&[30, 70]], options, share)
        };
        let threads = |number| rayon::ThreadPoolBuilder::new().num_threads(number).build().expect("a pool");
        let one = threads(1).install(|| interval(&options));
        assert_eq!(one, threads(3).install(|| interval(&options)));
        assert_ne!(one, interval(&options.with_seed(7)));
        let (found, undefined) = (one.0.expect("an interval"), one.1);
        assert!(found.low == 0.27 && (0.35..0.42).contains(&found.high), "{found:?}");
        // The binomial distribution has 0.22 below 27.
        assert!((45..90).contains(&undefined), "{undefined}");
        assert_eq!(bootstrap(&[&[1]], &options.with_resamples(0), |_| Some(1.0)), (None, 0));
    }
}
