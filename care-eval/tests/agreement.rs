//! Agreement with irrCAC, krippendorff, statsmodels, scikit-learn, pingouin and scipy to 1e-9, on `data/agreement.json`.
//! `data/README.md` describes how it was made.
#![allow(clippy::unwrap_used)]

use approx::{assert_abs_diff_eq, assert_relative_eq};
use care_eval::ErrorKind;
use care_eval::agreement::{
    Coefficient, Corrected, Estimate, ExpertSample, Icc, IntervalOptions, Level, Ratings, Weights,
};
use care_eval::stats::kendall;
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

fn fixture() -> Value {
    serde_json::from_str(include_str!("data/agreement.json")).unwrap()
}

fn options() -> IntervalOptions {
    IntervalOptions::default().with_resamples(0)
}

fn ratings(case: &Value) -> Ratings {
    let row = |row: &Value| row.as_array().unwrap().iter().map(Value::as_f64).collect::<Vec<_>>();
    Ratings::from_rows(case["rows"].as_array().unwrap().iter().map(row)).unwrap()
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Value, standard error, interval, as far as `theirs` has them. A standard error of 0 is 1e-15 in irrCAC.
fn assert_equal(ours: Estimate, theirs: &Value) {
    let interval = ours.interval.unwrap();
    // irrCAC needs scipy 1.12, whose quantiles of Student's distribution are off by up to 3e-9; 1.17 has ours.
    let tolerances = [TOLERANCE, TOLERANCE, 1e-8, 1e-8];
    let ours = [ours.value, ours.standard_error.unwrap(), interval.low, interval.high];
    for ((ours, theirs), tolerance) in ours.into_iter().zip(numbers(theirs)).zip(tolerances) {
        assert_abs_diff_eq!(ours, theirs, epsilon = tolerance);
    }
}

#[test]
fn fleiss_gwet_and_brennan_prediger_equal_irrcac() {
    let (mut compared, mut intervals) = (0, 0);
    for case in fixture()["tables"].as_array().unwrap() {
        let ratings = ratings(case);
        // irrCAC's standard errors grow with such units, ours do not.
        let single = ratings.patterns().any(|(row, _)| row.iter().flatten().count() == 1);
        for (weights, theirs) in case["irr"].as_object().unwrap() {
            let weights: Weights = weights.parse().unwrap();
            for (method, coefficient) in [
                ("fleiss", Coefficient::Fleiss(weights)),
                ("gwet", Coefficient::Gwet(weights)),
                ("bp", Coefficient::BrennanPrediger(weights)),
            ] {
                if theirs[method].is_null() {
                    continue;
                }
                let ours = match coefficient.estimate(&ratings, &options()) {
                    Ok(ours) => ours,
                    // irrCAC makes the coefficients of Gwet and of Brennan and Prediger 1 if all ratings are equal.
                    Err(error) => {
                        let found = (error.kind(), ratings.categories().len(), theirs[method][0].as_f64());
                        assert_eq!(found, (ErrorKind::Agreement, 1, Some(1.0)));
                        continue;
                    }
                };
                assert_abs_diff_eq!(ours.value, theirs[method][0].as_f64().unwrap(), epsilon = TOLERANCE);
                compared += 1;
                if !single {
                    assert_equal(ours, &theirs[method]);
                    intervals += 1;
                }
            }
        }
    }
    assert!(compared > 1100 && intervals > 650, "{compared}, {intervals}");
}

#[test]
fn fleiss_kappa_and_free_marginal_kappa_equal_statsmodels() {
    let mut compared = 0;
    for case in fixture()["tables"].as_array().unwrap() {
        let complete = ratings(case).patterns().filter(|(row, _)| row.iter().all(Option::is_some)).collect::<Vec<_>>();
        let rows = complete.into_iter().flat_map(|(row, count)| vec![row; usize::try_from(count).unwrap()]);
        let complete = Ratings::from_rows(rows).unwrap();
        for (method, coefficient) in [
            ("fleiss", Coefficient::Fleiss(Weights::Identity)),
            ("randolph", Coefficient::BrennanPrediger(Weights::Identity)),
        ] {
            match (case["complete"][method].as_f64(), coefficient.estimate(&complete, &options())) {
                (Some(theirs), Ok(ours)) => {
                    assert_abs_diff_eq!(ours.value, theirs, epsilon = TOLERANCE);
                    compared += 1;
                }
                // NaN in statsmodels.
                (None, ours) => assert_eq!(ours.unwrap_err().kind(), ErrorKind::Agreement),
                (Some(theirs), Err(error)) => panic!("{theirs}, {error}"),
            }
        }
    }
    assert!(compared > 380, "{compared}");
}

#[test]
fn alpha_equals_krippendorff_and_its_standard_error_irrcac() {
    let (mut compared, mut errors) = (0, 0);
    for case in fixture()["tables"].as_array().unwrap() {
        let ratings = ratings(case);
        for (level, theirs) in case["alpha"].as_object().unwrap() {
            let ours = Coefficient::Krippendorff(level.parse().unwrap()).estimate(&ratings, &options());
            let Some(theirs) = theirs.as_f64() else {
                // An error in krippendorff too.
                assert_eq!(ours.unwrap_err().kind(), ErrorKind::Agreement);
                continue;
            };
            let ours = ours.unwrap();
            assert_abs_diff_eq!(ours.value, theirs, epsilon = TOLERANCE);
            compared += 1;
            if let Some(theirs) = case["alpha_error"][level].as_f64() {
                assert_abs_diff_eq!(ours.standard_error.unwrap(), theirs, epsilon = TOLERANCE);
                errors += 1;
            }
        }
        if !case["alpha_irr"].is_null() {
            let ours = Coefficient::Krippendorff(Level::Nominal).estimate(&ratings, &options()).unwrap();
            assert_equal(ours, &case["alpha_irr"]);
            errors += 1;
        }
    }
    assert!(compared > 700 && errors > 400, "{compared}, {errors}");
}

#[test]
fn cohens_kappa_equals_scikit_learn_statsmodels_and_irrcac() {
    let mut compared = 0;
    for case in fixture()["tables"].as_array().unwrap() {
        let pair = ratings(case).select(&[0, 1]).unwrap();
        for (weights, theirs) in case["cohen"].as_object().into_iter().flatten() {
            let ours = Coefficient::Cohen(weights.parse().unwrap()).estimate(&pair, &options());
            let Some(value) = theirs["sklearn"].as_f64() else {
                assert_eq!(ours.unwrap_err().kind(), ErrorKind::Agreement);
                continue;
            };
            let ours = ours.unwrap();
            assert_abs_diff_eq!(ours.value, value, epsilon = TOLERANCE);
            for theirs in [&theirs["statsmodels"], &theirs["irr"]] {
                if !theirs.is_null() {
                    assert_equal(ours, theirs);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn per_cent_agreement_equals_its_formula() {
    let mut compared = 0;
    for case in fixture()["tables"].as_array().unwrap() {
        if !case["percent"].is_null() {
            let ours = Coefficient::PercentAgreement(Weights::Identity).estimate(&ratings(case), &options()).unwrap();
            assert_equal(ours, &case["percent"]);
            compared += 1;
        }
    }
    assert!(compared > 190, "{compared}");
}

#[test]
fn intraclass_correlations_equal_pingouin() {
    let mut compared = 0;
    for case in fixture()["tables"].as_array().unwrap() {
        let ratings = ratings(case);
        for (icc, theirs) in case["icc"].as_object().into_iter().flatten() {
            let ours = icc.parse::<Icc>().unwrap().estimate(&ratings, &options()).unwrap();
            let values = [ours.value, ours.f, ours.df1, ours.df2, ours.p_value];
            let interval = ours.interval.map(|interval| [interval.low, interval.high]);
            let theirs = theirs.as_array().unwrap();
            for (ours, theirs) in values.into_iter().chain(interval.into_iter().flatten()).zip(theirs) {
                if let Some(theirs) = theirs.as_f64() {
                    assert_relative_eq!(ours, theirs, epsilon = TOLERANCE, max_relative = TOLERANCE);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 6500, "{compared}");
}

#[test]
fn kendalls_tau_equals_scipy() {
    for case in fixture()["ranks"].as_array().unwrap() {
        match (case["tau"].as_f64(), kendall(&numbers(&case["x"]), &numbers(&case["y"]))) {
            (Some(theirs), Ok(ours)) => assert_abs_diff_eq!(ours, theirs, epsilon = 1e-12),
            (None, ours) => assert_eq!(ours.unwrap_err().kind(), ErrorKind::Correlation),
            (Some(theirs), Err(error)) => panic!("{theirs}, {error}"),
        }
    }
}

#[test]
fn corrections_by_an_expert_sample_equal_a_loop_over_units() {
    let mut compared = 0;
    for case in fixture()["samples"].as_array().unwrap() {
        let mut sample = ExpertSample::new();
        for (index, stratum) in case["strata"].as_array().unwrap().iter().enumerate() {
            let name = format!("stratum {index}");
            numbers(&stratum[0]).into_iter().for_each(|label| sample.label(&name, label, 1).unwrap());
            for pair in stratum[1].as_array().unwrap() {
                let pair = numbers(pair);
                sample.check(&name, pair[0], pair[1]).unwrap();
            }
        }
        let options = options();
        for (name, ours) in [
            ("mean", sample.mean(&options)),
            ("positive_rate", sample.positive_rate(2.0, &options)),
            ("precision", sample.precision(2.0, &options)),
            ("recall", sample.recall(2.0, &options)),
        ] {
            let Corrected { value, standard_error, interval, .. } = ours.unwrap();
            let mut theirs = numbers(&case["quantities"][name]);
            if name != "mean" {
                [0, 2, 3].iter().for_each(|&index| theirs[index] = theirs[index].clamp(0.0, 1.0));
            }
            for (ours, theirs) in [value, standard_error, interval.low, interval.high].into_iter().zip(theirs) {
                assert_abs_diff_eq!(ours, theirs, epsilon = TOLERANCE);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 24 * 16);
}
