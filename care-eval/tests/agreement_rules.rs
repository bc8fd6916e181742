//! What holds for every table of ratings and every expert sample: conventions, intervals, refusals.
#![allow(clippy::unwrap_used)]

use approx::assert_abs_diff_eq;
use care_eval::ErrorKind;
use care_eval::agreement::{Coefficient, Confusion, ExpertSample, Icc, IntervalOptions, Level, Ratings, Weights};
use care_eval::stats::Interval;
use proptest::collection::vec;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COEFFICIENTS: [Coefficient; 13] = [
    Coefficient::PercentAgreement(Weights::Identity),
    Coefficient::PercentAgreement(Weights::Linear),
    Coefficient::Fleiss(Weights::Identity),
    Coefficient::Fleiss(Weights::Radical),
    Coefficient::Fleiss(Weights::Quadratic),
    Coefficient::Krippendorff(Level::Nominal),
    Coefficient::Krippendorff(Level::Ordinal),
    Coefficient::Krippendorff(Level::Interval),
    Coefficient::Krippendorff(Level::Ratio),
    Coefficient::Gwet(Weights::Identity),
    Coefficient::Gwet(Weights::Ordinal),
    Coefficient::BrennanPrediger(Weights::Identity),
    Coefficient::BrennanPrediger(Weights::Ratio),
];

fn options() -> IntervalOptions {
    IntervalOptions::default().with_resamples(50)
}

/// Digits are ratings, others are missing.
fn table(rows: &[&str]) -> Ratings {
    Ratings::from_rows(rows.iter().map(|row| row.chars().map(|c| c.to_digit(10).map(f64::from)).collect::<Vec<_>>()))
        .unwrap()
}

fn value(coefficient: Coefficient, ratings: &Ratings) -> f64 {
    coefficient.estimate(ratings, &options().with_resamples(0)).unwrap().value
}

#[test]
fn a_unanimous_table_is_undefined_and_not_full_agreement() {
    for rows in [&["11", "11", "11"][..], &["333", "33-", "-3-"], &["00"]] {
        let ratings = table(rows);
        for coefficient in COEFFICIENTS.into_iter().chain([Coefficient::Cohen(Weights::Linear)]) {
            let found = coefficient.estimate(&ratings, &options());
            match coefficient {
                Coefficient::PercentAgreement(_) => assert_eq!(found.unwrap().value, 1.0),
                Coefficient::Cohen(_) if ratings.raters() != 2 => {
                    let message = "Cohen's kappa is for 2 raters, the table has 3; select two";
                    assert_eq!(found.unwrap_err().to_string(), message);
                }
                _ => {
                    let error = found.unwrap_err();
                    let message = "all ratings are equal, so chance agreement is 1";
                    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Agreement, message));
                }
            }
        }
    }
    let error = Icc::Agreement.estimate(&table(&["22", "22", "22"]), &options()).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Agreement, "the ratings have no variance"));
}

#[test]
fn full_agreement_on_several_categories_is_1_without_a_standard_error() {
    let ratings = table(&["111", "00-", "22-", "111", "0-0"]);
    for coefficient in COEFFICIENTS {
        let estimate = coefficient.estimate(&ratings, &options()).unwrap();
        assert_abs_diff_eq!(estimate.value, 1.0, epsilon = 1e-14);
        assert_abs_diff_eq!(estimate.standard_error.unwrap(), 0.0, epsilon = 1e-14);
        assert!(estimate.interval.unwrap().high <= 1.0);
    }
    let icc = Icc::Consistency.estimate(&table(&["11", "33", "22"]), &options()).unwrap();
    assert_eq!((icc.value, icc.f, icc.p_value, icc.interval), (1.0, f64::INFINITY, 0.0, None));
}

#[test]
fn without_two_ratings_of_a_unit_nothing_is_defined() {
    for rows in [&["1-", "-0", "--"][..], &["1", "0"], &[]] {
        let ratings = table(rows);
        for coefficient in COEFFICIENTS {
            let error = coefficient.estimate(&ratings, &options()).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Agreement, "no unit has two ratings"));
        }
    }
    let error = Icc::OneWay.estimate(&table(&["12", "1-"]), &options()).unwrap_err();
    let message = "an intraclass correlation needs 2 raters and 2 units that all have rated, found 2 and 1";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_missing_rating_is_no_category() {
    // Two tables on which a missing rating, read as category 9, would change every coefficient.
    for rows in [["011", "1-1", "00-", "110", "--0"], ["120", "0-0", "22-", "-11", "201"]] {
        let missing = table(&rows);
        let as_category = table(&rows.map(|row| row.replace('-', "9")).iter().map(String::as_str).collect::<Vec<_>>());
        for coefficient in COEFFICIENTS {
            let (right, wrong) = (value(coefficient, &missing), value(coefficient, &as_category));
            assert!((right - wrong).abs() > 0.01, "{coefficient}: {right}, {wrong}");
        }
        assert_eq!(missing.categories().last().copied(), Some(if rows[0] == "011" { 1.0 } else { 2.0 }));
    }
    // By hand: units 0, 1, 2 and 3 agree by 1/3, 1, 1 and 1/3; unit 4 counts in the shares: of 1, 2/3 + 1 + 0 + 2/3 + 0.
    let share = (2.0 / 3.0 + 1.0 + 2.0 / 3.0) / 5.0_f64;
    let chance = share * share + (1.0 - share) * (1.0 - share);
    let kappa = (2.0 / 3.0 - chance) / (1.0 - chance);
    let ratings = table(&["011", "1-1", "00-", "110", "--0"]);
    assert_abs_diff_eq!(value(Coefficient::Fleiss(Weights::Identity), &ratings), kappa, epsilon = 1e-14);
}

#[test]
fn units_with_a_single_rating_make_no_coefficient_less_certain() {
    let twice = table(&["01", "11", "00", "11", "10", "00", "11", "00"]);
    let mut with_single = twice.clone();
    for unit in 0..80 {
        with_single.push(&[Some(f64::from(unit % 2)), None]).unwrap();
    }
    // Chance does not depend on the shares, or does not change with them.
    for coefficient in COEFFICIENTS {
        let [one, other] = [&twice, &with_single].map(|ratings| coefficient.estimate(ratings, &options()).unwrap());
        assert_eq!((one.units, other.units), (8, 8));
        assert_abs_diff_eq!(one.value, other.value, epsilon = 1e-14);
        if matches!(coefficient, Coefficient::PercentAgreement(_) | Coefficient::BrennanPrediger(_)) {
            assert_abs_diff_eq!(one.standard_error.unwrap(), other.standard_error.unwrap(), epsilon = 1e-14);
        } else {
            assert!(other.standard_error <= one.standard_error, "{coefficient}");
        }
    }
}

#[test]
fn units_without_a_rating_change_nothing() {
    let (without, with) = (table(&["011", "1-1", "002"]), table(&["---", "011", "1-1", "---", "002"]));
    assert_eq!(with.units(), 5);
    for coefficient in COEFFICIENTS {
        assert_eq!(
            coefficient.estimate(&without, &options()).unwrap(),
            coefficient.estimate(&with, &options()).unwrap()
        );
    }
}

#[test]
fn weights_go_by_value_and_not_by_position() {
    // 9 is the third category, but far from 1.
    for rows in [["00", "11", "19", "91", "00", "11"], ["00", "01", "09", "90", "99", "11"]] {
        let by_value = table(&rows);
        let renamed = rows.map(|row| row.replace('9', "2"));
        let renamed = table(&renamed.each_ref().map(String::as_str));
        for weights in [Weights::Linear, Weights::Quadratic] {
            let (far, near) =
                (value(Coefficient::Cohen(weights), &by_value), value(Coefficient::Cohen(weights), &renamed));
            assert!((far - near).abs() > 0.05, "{weights}: {far}, {near}");
        }
        for coefficient in [Coefficient::Cohen(Weights::Identity), Coefficient::Krippendorff(Level::Ordinal)] {
            let pair = [&by_value, &renamed].map(|ratings| value(coefficient, ratings));
            assert_abs_diff_eq!(pair[0], pair[1], epsilon = 1e-14);
        }
    }
}

#[test]
fn declared_categories_count_for_gwet_brennan_prediger_and_weighted_agreement_only() {
    let ratings = table(&["01", "11", "00", "11", "0-"]);
    let declared = ratings.clone().with_categories([0.0, 1.0, 2.0, 3.0]).unwrap();
    assert_eq!((ratings.categories().len(), declared.categories().len()), (2, 4));
    for coefficient in COEFFICIENTS {
        let pair = [&ratings, &declared].map(|ratings| value(coefficient, ratings));
        match coefficient {
            Coefficient::Gwet(_) | Coefficient::BrennanPrediger(_) | Coefficient::PercentAgreement(Weights::Linear) => {
                assert!((pair[1] - pair[0]).abs() > 0.01, "{coefficient}: {pair:?}");
            }
            _ => assert_abs_diff_eq!(pair[0], pair[1], epsilon = 1e-14),
        }
    }
    let unanimous = table(&["11", "11"]).with_categories([0.0, 1.0]).unwrap();
    assert_eq!(value(Coefficient::Gwet(Weights::Identity), &unanimous), 1.0);

    let error = ratings.with_categories([0.0, 2.0]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Rating, "the rating 1 is not a declared category")
    );
    let mut declared = declared;
    let error = declared.push(&[Some(1.0), Some(1.5)]).unwrap_err();
    assert_eq!(error.to_string(), "unit 5, rater 1: 1.5 is not a declared category");
}

#[test]
fn bad_ratings_and_settings_are_refused() {
    let mut ratings = Ratings::new(2);
    ratings.push(&[Some(1.0), None]).unwrap();
    for (row, message) in [
        (&[Some(1.0)][..], "unit 1 has 1 raters, the table has 2"),
        (&[Some(1.0), Some(f64::NAN)], "unit 1, rater 1: NaN is not a finite number"),
        (&[Some(f64::INFINITY), None], "unit 1, rater 0: inf is not a finite number"),
    ] {
        let error = ratings.push(row).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Rating, message));
    }
    assert_eq!(ratings.units(), 1);
    let error = ratings.select(&[0, 2]).unwrap_err();
    assert_eq!(error.to_string(), "there is no rater 2, the table has 2 (from 0)");
    for level in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
        let error = COEFFICIENTS[2].estimate(&table(&["01", "11"]), &options().with_level(level)).unwrap_err();
        let message = format!("`level` is {level}, allowed: above 0 and below 1");
        assert_eq!((error.kind(), error.field(), error.to_string()), (ErrorKind::Setting, Some("level"), message));
    }
    let negative = Ratings::from_rows([[Some(-1.0), Some(2.0)], [Some(2.0), Some(2.0)]]).unwrap();
    let error = Coefficient::Krippendorff(Level::Ratio).estimate(&negative, &options()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Rating, "category -1 is negative, a ratio scale begins at 0")
    );
}

#[test]
fn one_unit_has_a_value_but_no_interval() {
    let estimate = Coefficient::Fleiss(Weights::Identity).estimate(&table(&["011"]), &options()).unwrap();
    assert_eq!((estimate.units, estimate.standard_error, estimate.interval), (1, None, None));
    assert_abs_diff_eq!(estimate.value, (1.0 / 3.0 - 5.0 / 9.0) / (4.0 / 9.0), epsilon = 1e-14);
}

#[test]
fn minus_zero_is_zero() {
    let ratings = Ratings::from_rows([[Some(0.0), Some(-0.0)], [Some(1.0), Some(1.0)]]).unwrap();
    assert_eq!(ratings.categories(), [0.0, 1.0]);
    assert_eq!(value(Coefficient::Cohen(Weights::Identity), &ratings), 1.0);
}

/// Ratings of `units` by 3 raters who know the truth with a probability, with some missing.
fn random_table(units: usize, skill: f64, seed: u64) -> Ratings {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut ratings = Ratings::new(3);
    for _ in 0..units {
        let truth = rng.random_range(0..4_u8).min(rng.random_range(0..4_u8));
        let row = [0; 3].map(|_| {
            let grade = if rng.random_bool(skill) { truth } else { rng.random_range(0..4) };
            rng.random_bool(0.9).then_some(f64::from(grade))
        });
        ratings.push(&row).unwrap();
    }
    ratings
}

#[test]
fn standard_errors_are_those_of_the_jackknife_for_many_units() {
    let ratings = random_table(3000, 0.7, 1);
    let pair = ratings.select(&[0, 2]).unwrap();
    let cohen =
        [Weights::Identity, Weights::Linear, Weights::Ordinal].map(|weights| (Coefficient::Cohen(weights), &pair));
    for (coefficient, ratings) in COEFFICIENTS.map(|coefficient| (coefficient, &ratings)).into_iter().chain(cohen) {
        let estimate = coefficient.estimate(ratings, &options().with_resamples(1000)).unwrap();
        // Every different row once, as often as it occurs.
        let patterns: Vec<_> = ratings.patterns().collect();
        let units: u64 = patterns.iter().map(|(_, count)| count).sum();
        let without = |left_out: usize| {
            let rows = patterns.iter().enumerate().flat_map(|(index, (row, count))| {
                vec![row.clone(); usize::try_from(count - u64::from(index == left_out)).unwrap()]
            });
            value(coefficient, &Ratings::from_rows(rows).unwrap())
        };
        let values: Vec<_> = (0..patterns.len()).map(|index| (without(index), patterns[index].1 as f64)).collect();
        let mean = values.iter().map(|(value, count)| value * count).sum::<f64>() / units as f64;
        let squares: f64 = values.iter().map(|(value, count)| count * (value - mean).powi(2)).sum();
        let jackknife = (squares * (units - 1) as f64 / units as f64).sqrt();
        let error = estimate.standard_error.unwrap();
        assert!((error / jackknife - 1.0).abs() < 0.005, "{coefficient}: {error}, {jackknife}");

        // The two intervals are about the same.
        let (student, bootstrap) = (estimate.interval.unwrap(), estimate.bootstrap.unwrap());
        assert!((student.low - bootstrap.low).abs() < 0.5 * error, "{coefficient}: {student:?}, {bootstrap:?}");
        assert!((student.high - bootstrap.high).abs() < 0.5 * error, "{coefficient}: {student:?}, {bootstrap:?}");
    }
}

#[test]
fn the_bootstrap_depends_on_the_seed_and_not_on_the_order_of_units_or_threads() {
    let ratings = random_table(60, 0.6, 2);
    let rows: Vec<_> = ratings.patterns().flat_map(|(row, count)| vec![row; usize::try_from(count).unwrap()]).collect();
    let reversed = Ratings::from_rows(rows.iter().rev()).unwrap();
    let threads = |number| rayon::ThreadPoolBuilder::new().num_threads(number).build().unwrap();
    for coefficient in COEFFICIENTS {
        let estimate = |ratings: &Ratings, seed| coefficient.estimate(ratings, &options().with_seed(seed)).unwrap();
        let one = threads(1).install(|| estimate(&ratings, 3));
        assert_eq!(one, threads(4).install(|| estimate(&reversed, 3)));
        assert_ne!(one.bootstrap, estimate(&ratings, 4).bootstrap);
    }
}

#[test]
fn a_confusion_table_counts_missing_ratings_apart() {
    let confusion = Confusion::new(&table(&["0-1", "1-1", "1--", "--0", "0-0", "2-0"]), 0, 2).unwrap();
    assert_eq!(
        confusion.to_string(),
        "       0  1  2  total\n0      1  1  0      2\n1      0  1  0      1\n2      1  0  0      1\ntotal  2  2  0      4\n"
    );
    assert_eq!((confusion.units(), confusion.only_first, confusion.only_second), (4, 1, 1));
    let agreement: Vec<_> =
        confusion.per_category().iter().map(|of| (of.first, of.second, of.both, of.agreement)).collect();
    assert_eq!(agreement, [(2, 2, 1, Some(0.5)), (1, 2, 1, Some(2.0 / 3.0)), (1, 0, 0, Some(0.0))]);
    let declared = table(&["00"]).with_categories([0.0, 1.0]).unwrap();
    assert_eq!(Confusion::new(&declared, 0, 1).unwrap().per_category()[1].agreement, None);
    assert_eq!(Confusion::new(&declared, 0, 2).unwrap_err().kind(), ErrorKind::Rating);
}

#[test]
fn samples_that_do_not_represent_their_population_are_refused() {
    let sample = |labels: &[(&str, f64, u64)], checks: &[(&str, f64, f64)]| {
        let mut sample = ExpertSample::new();
        labels.iter().for_each(|(stratum, label, units)| sample.label(stratum, *label, *units).unwrap());
        checks.iter().for_each(|(stratum, machine, expert)| sample.check(stratum, *machine, *expert).unwrap());
        sample.positive_rate(1.0, &options())
    };
    let fine = [("a", 1.0, 1.0), ("a", 1.0, 0.0)];
    for (labels, checks, message) in [
        (
            &[("a", 1.0, 9), ("b", 0.0, 120)][..],
            &fine[..],
            "stratum \"b\": none of its 120 units is checked; check some, or merge strata",
        ),
        (
            &[("a", 1.0, 9), ("c", 0.0, 1)],
            &fine,
            "stratum \"c\": none of its 1 units is checked; check some, or merge strata",
        ),
        (&[("a", 1.0, 9)], &fine[..1], "stratum \"a\": 1 of its 9 units is checked, a variance needs 2"),
        (
            &[("a", 1.0, 1), ("a", 0.0, 8)],
            &fine,
            "stratum \"a\": 2 checked units have the machine label 1, the population has 1",
        ),
        (&[], &fine, "stratum \"a\": 2 checked units have the machine label 1, the population has 0"),
        (&[], &[], "the population is empty"),
    ] {
        let error = sample(labels, checks).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Sample, message));
    }
    let mut sample = ExpertSample::new();
    for (error, message) in [
        (sample.label("a", f64::NAN, 3), "stratum \"a\": the machine label NaN is not a finite number"),
        (sample.check("a", 1.0, f64::INFINITY), "stratum \"a\": the expert label inf is not a finite number"),
    ] {
        assert_eq!(
            (error.as_ref().unwrap_err().kind(), error.unwrap_err().to_string().as_str()),
            (ErrorKind::Rating, message)
        );
    }
    sample.label("a", 0.0, 3).unwrap();
    (0..2).for_each(|_| sample.check("a", 0.0, 0.0).unwrap());
    for quantity in [sample.precision(1.0, &options()), sample.recall(1.0, &options())] {
        assert_eq!(quantity.unwrap_err().kind(), ErrorKind::Agreement);
    }
    assert_eq!(sample.mean(&options().with_level(2.0)).unwrap_err().kind(), ErrorKind::Setting);
}

#[test]
fn a_population_that_is_checked_whole_has_no_error() {
    for units in [1_u32, 3, 10] {
        let mut sample = ExpertSample::new();
        for unit in 0..units {
            let (machine, expert) = (f64::from(1 + unit % 2), f64::from(1 + unit % 3));
            sample.label("all", machine, 1).unwrap();
            sample.check("all", machine, expert).unwrap();
        }
        let mean = sample.mean(&options()).unwrap();
        let truth = (0..units).map(|unit| f64::from(1 + unit % 3)).sum::<f64>() / f64::from(units);
        assert_abs_diff_eq!(mean.value, truth, epsilon = 1e-14);
        assert_eq!((mean.standard_error, mean.checked, mean.population), (0.0, u64::from(units), u64::from(units)));
        let (student, bootstrap) = (mean.interval, mean.bootstrap.unwrap());
        assert_eq!([student.low, student.high, bootstrap.low, bootstrap.high], [mean.value; 4]);
    }
}

#[test]
fn good_machine_labels_narrow_the_interval_and_the_bootstrap_agrees() {
    let estimate = |errors: u32| {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut sample = ExpertSample::new();
        for (stratum, share) in [("likely", 0.8), ("unlikely", 0.1)] {
            for unit in 0..2000 {
                let expert = f64::from(u8::from(rng.random_bool(share)));
                let machine = if rng.random_ratio(errors, 100) { 1.0 - expert } else { expert };
                sample.label(stratum, machine, 1).unwrap();
                if unit < 300 {
                    sample.check(stratum, machine, expert).unwrap();
                }
            }
        }
        let options = options().with_resamples(2000);
        [sample.positive_rate(1.0, &options), sample.precision(1.0, &options), sample.recall(1.0, &options)]
            .map(Result::unwrap)
    };
    for (good, bad) in estimate(3).into_iter().zip(estimate(25)) {
        assert!(good.standard_error < 0.6 * bad.standard_error, "{good:?}, {bad:?}");
        for found in [good, bad] {
            let width = |interval: Interval| interval.high - interval.low;
            let ratio = width(found.bootstrap.unwrap()) / width(found.interval);
            assert!((0.85..1.15).contains(&ratio), "{found:?}");
        }
    }
}

proptest! {
    #[test]
    fn coefficients_depend_on_neither_the_order_of_units_nor_of_raters(
        rows in vec(vec(proptest::option::weighted(0.8, 0..4_u8), 3), 2..20),
    ) {
        let ratings = |rows: &[Vec<Option<u8>>]| {
            Ratings::from_rows(rows.iter().map(|row| row.iter().map(|x| x.map(f64::from)).collect::<Vec<_>>())).unwrap()
        };
        let reordered: Vec<Vec<_>> = rows.iter().rev().map(|row| row.iter().rev().copied().collect()).collect();
        for coefficient in COEFFICIENTS {
            let pair = [&rows, &reordered].map(|rows| coefficient.estimate(&ratings(rows), &options().with_resamples(0)));
            match pair {
                [Ok(one), Ok(other)] => {
                    prop_assert_eq!(one, other);
                    prop_assert!(one.value <= 1.0 + 1e-12);
                }
                [Err(one), Err(other)] => {
                    prop_assert_eq!(one.kind(), ErrorKind::Agreement);
                    prop_assert_eq!(one.to_string(), other.to_string());
                }
                pair => prop_assert!(false, "{:?}", pair),
            }
        }
    }
}
