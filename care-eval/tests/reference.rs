//! Agreement with pytrec_eval and scipy to 1e-9, on `data/metrics_case.json` and `data/random_cases.json`, and with
//! statsmodels on `data/holm.json`.
//! `data/README.md` describes how they were made.
#![allow(clippy::unwrap_used)]

use approx::assert_abs_diff_eq;
use care_eval::stats::{holm, paired_t_test, pearson, spearman};
use care_eval::{Evaluator, Measure, Missing, Qrels, Run, Scores, Ties};
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

fn case() -> Value {
    serde_json::from_str(include_str!("data/metrics_case.json")).unwrap()
}

fn qrels(case: &Value) -> Qrels {
    serde_json::from_value(case["qrels"].clone()).unwrap()
}

fn run(case: &Value) -> Run {
    serde_json::from_value(case["run"].clone()).unwrap()
}

fn measure(name: &str) -> Measure {
    name.parse().unwrap()
}

/// Our measure for a name of trec_eval.
fn from_trec_eval(name: &str) -> Measure {
    let (name, cutoff) = match name.rsplit_once('_') {
        Some((name, cutoff)) if cutoff.parse::<usize>().is_ok() => (name, format!("@{cutoff}")),
        _ => (name, String::new()),
    };
    let ours = match name {
        "ndcg_cut" => "ndcg",
        "map_cut" => "map",
        "recip_rank" => "mrr",
        "P" => "precision",
        "Rprec" => "rprec",
        same => same,
    };
    measure(&format!("{ours}{cutoff}"))
}

fn assert_agrees(ours: &Scores, theirs: &Value, measures: usize) {
    let theirs = theirs.as_object().unwrap();
    assert_eq!(theirs.len(), measures);
    for (name, value) in theirs {
        let ours = ours.get(from_trec_eval(name)).unwrap();
        assert_abs_diff_eq!(ours, value.as_f64().unwrap(), epsilon = TOLERANCE);
    }
}

#[test]
fn every_query_and_both_means_agree_with_pytrec_eval() {
    let case = case();
    let measures: Vec<_> =
        case["mean_evaluated"].as_object().unwrap().keys().map(|name| from_trec_eval(name)).collect();
    let evaluator = Evaluator::new(measures);
    let per_query = case["per_query"].as_object().unwrap();

    let dropped = evaluator.evaluate(&qrels(&case), &run(&case)).unwrap();
    assert_eq!((dropped.queries, dropped.missing_queries, dropped.surplus_queries), (16, 1, 1));
    assert!(dropped.per_query.keys().eq(per_query.keys()));
    for (query, theirs) in per_query {
        assert_agrees(&dropped.per_query[query], theirs, 15);
    }
    assert_agrees(&dropped.measures, &case["mean_evaluated"], 15);

    let zero = evaluator.missing(Missing::Zero).evaluate(&qrels(&case), &run(&case)).unwrap();
    assert_eq!((zero.queries, zero.missing_queries, zero.surplus_queries), (17, 1, 1));
    assert!(zero.per_query["q_missing"].iter().all(|(_, value)| value == 0.0));
    assert_agrees(&zero.measures, &case["mean_all_qrels"], 15);
}

#[test]
fn two_hundred_random_cases_agree_with_pytrec_eval() {
    let file: Value = serde_json::from_str(include_str!("data/random_cases.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 200);
    for case in cases {
        let (qrels, run) = (qrels(case), run(case));
        let expected = case["expected"].as_object().unwrap();
        let measures = expected.values().next().unwrap().as_object().unwrap().keys();
        let evaluation = Evaluator::new(measures.map(|name| from_trec_eval(name))).evaluate(&qrels, &run).unwrap();
        assert!(evaluation.per_query.keys().eq(expected.keys()));
        for (query, theirs) in expected {
            assert_agrees(&evaluation.per_query[query], theirs, 17);
        }
    }
}

#[test]
fn paired_t_tests_agree_with_scipy() {
    let file: Value = serde_json::from_str(include_str!("data/random_cases.json")).unwrap();
    let tests = file["t_tests"].as_array().unwrap();
    assert_eq!(tests.len(), 5);
    for test in tests {
        let values = |key: &str| serde_json::from_value::<Vec<f64>>(test[key].clone()).unwrap();
        let ours = paired_t_test(&values("first"), &values("second")).unwrap();
        assert_abs_diff_eq!(ours.p_value, test["p_value"].as_f64().unwrap(), epsilon = TOLERANCE);
    }
}

#[test]
fn reciprocal_rank_with_a_cutoff_agrees() {
    let case = case();
    let mrr = measure("mrr@10");
    let evaluation = Evaluator::new([mrr]).evaluate(&qrels(&case), &run(&case)).unwrap();
    let theirs = case["mrr10"].as_object().unwrap();
    assert_eq!(theirs.len(), evaluation.queries);
    for (query, value) in theirs {
        let ours = evaluation.per_query[query].get(mrr).unwrap();
        assert_abs_diff_eq!(ours, value.as_f64().unwrap(), epsilon = TOLERANCE);
    }
}

/// Each list is a query with its positives before its negatives, under the ids of the script.
#[test]
fn reranking_lists_agree_under_three_tie_rules() {
    let case = case();
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    let lists = case["rerank"].as_array().unwrap();
    for (list, values) in lists.iter().enumerate() {
        for (key, id, grade) in [("pos", "apos", 1), ("neg", "neg", 0)] {
            for (i, score) in values[key].as_array().unwrap().iter().enumerate() {
                let (query, doc) = (list.to_string(), format!("{id}{i}"));
                qrels.insert(&query, &doc, grade).unwrap();
                run.insert(&query, &doc, score.as_f64().unwrap() as f32).unwrap();
            }
        }
    }
    for (key, name, ties) in [
        ("trec_map_10", "map@10", Ties::TrecEval),
        ("trec_map", "map", Ties::TrecEval),
        ("ndcg_10", "ndcg@10", Ties::TrecEval),
        ("map10_stable_input_order", "map@10", Ties::InputOrder),
        ("map10_ties_against", "map@10", Ties::Pessimistic),
    ] {
        let evaluation = Evaluator::new([measure(name)]).ties(ties).evaluate(&qrels, &run).unwrap();
        for (list, values) in lists.iter().enumerate() {
            let ours = evaluation.per_query[&list.to_string()].get(measure(name)).unwrap();
            assert_abs_diff_eq!(ours, values[key].as_f64().unwrap(), epsilon = TOLERANCE);
        }
        let ours = evaluation.measures.get(measure(name)).unwrap();
        assert_abs_diff_eq!(ours, case["rerank_mean"][key].as_f64().unwrap(), epsilon = TOLERANCE);
    }
}

#[test]
fn correlations_agree_with_scipy() {
    let sts = &case()["sts"];
    let numbers = |key: &str| serde_json::from_value::<Vec<f64>>(sts[key].clone()).unwrap();
    let (cosines, graded) = (numbers("cos"), numbers("y"));
    let binary: Vec<_> = graded.iter().map(|label| f64::from(*label > 2.0)).collect();
    for (key, labels) in [("graded", graded), ("binary", binary)] {
        let theirs = |name: &str| sts[key][name].as_f64().unwrap();
        assert_abs_diff_eq!(pearson(&cosines, &labels).unwrap(), theirs("pearson"), epsilon = TOLERANCE);
        assert_abs_diff_eq!(spearman(&cosines, &labels).unwrap(), theirs("spearman"), epsilon = TOLERANCE);
    }
}

#[test]
fn the_correction_of_p_values_is_that_of_statsmodels() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/holm.json")).unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let [p, expected] = ["p", "holm"].map(|key| serde_json::from_value::<Vec<f64>>(case[key].clone()).unwrap());
        let corrected = holm(&p).unwrap();
        assert_eq!(corrected.len(), expected.len());
        for (value, expected) in corrected.iter().zip(&expected) {
            assert_abs_diff_eq!(value, expected, epsilon = 1e-12);
        }
    }
}
