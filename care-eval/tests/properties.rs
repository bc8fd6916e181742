//! Properties of every qrels and every run.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use care_eval::metric::ndcg;
use care_eval::{Evaluation, Evaluator, Measure, Missing, Qrels, Run, Ties};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

const NAMES: [&str; 10] =
    ["ndcg@10", "ndcg", "map@10", "map", "mrr@10", "mrr", "recall@3", "precision@5", "success@1", "rprec"];

fn measures() -> impl Iterator<Item = Measure> {
    NAMES.into_iter().map(|name| name.parse().unwrap())
}

/// Few ids and few scores, so that queries are missing and scores tie.
fn id(prefix: &'static str, count: u32) -> impl Strategy<Value = String> {
    (0..count).prop_map(move |i| format!("{prefix}{i}"))
}

fn qrels() -> impl Strategy<Value = Qrels> {
    btree_map((id("q", 4), id("d", 30)), -1..4_i32, 1..40)
        .prop_map(|judged| Qrels::from_judgements(judged.into_iter().map(|((q, d), grade)| (q, d, grade))).unwrap())
}

fn lines() -> impl Strategy<Value = Vec<(String, String, f32)>> {
    btree_map((id("q", 4), id("d", 30)), (0..5_u8).prop_map(|tenths| f32::from(tenths) / 10.0), 0..80)
        .prop_map(|scores| scores.into_iter().map(|((q, d), score)| (q, d, score)).collect())
}

fn evaluate(qrels: &Qrels, lines: &[(String, String, f32)], ties: Ties) -> Evaluation {
    let run = Run::from_scores(lines.iter().map(|(q, d, score)| (q, d, *score))).unwrap();
    Evaluator::new(measures()).missing(Missing::Zero).ties(ties).evaluate(qrels, &run).unwrap()
}

proptest! {
    #[test]
    fn the_order_of_lines_does_not_matter_under_trec_eval(
        qrels in qrels(),
        (lines, shuffled) in lines().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
    ) {
        prop_assert_eq!(evaluate(&qrels, &lines, Ties::TrecEval), evaluate(&qrels, &shuffled, Ties::TrecEval));
    }

    #[test]
    fn every_value_lies_between_0_and_1(qrels in qrels(), lines in lines()) {
        for &ties in Ties::ALL {
            let evaluation = evaluate(&qrels, &lines, ties);
            for scores in evaluation.per_query.values().chain([&evaluation.measures]) {
                for (measure, value) in scores.iter() {
                    prop_assert!((0.0..=1.0).contains(&value), "{measure} is {value}");
                }
            }
        }
    }

    #[test]
    fn no_tie_rule_scores_below_the_pessimistic_one(qrels in qrels(), lines in lines()) {
        let worst = evaluate(&qrels, &lines, Ties::Pessimistic);
        for &ties in Ties::ALL {
            for ((measure, value), (_, least)) in evaluate(&qrels, &lines, ties).measures.iter().zip(worst.measures.iter()) {
                prop_assert!(value >= least - 1e-12, "{measure} under {ties} is {value} < {least}");
            }
        }
    }

    #[test]
    fn a_perfect_ranking_has_ndcg_1(qrels in qrels(), k in 1_usize..12) {
        let by_grade = qrels.judgements().map(|(q, d, grade)| (q, d, grade as f32));
        let run = Run::from_scores(by_grade).unwrap();
        let measure = Measure::Ndcg(NonZeroUsize::new(k));
        let evaluation = Evaluator::new([measure]).evaluate(&qrels, &run).unwrap();
        for (query, scores) in &evaluation.per_query {
            let expected = if qrels.relevant(query).next().is_some() { 1.0 } else { 0.0 };
            prop_assert_eq!(scores.get(measure), Some(expected));
        }
    }

    #[test]
    fn an_irrelevant_document_at_the_end_does_not_change_ndcg(
        mut ranked in vec(-1..4_i32, 0..20), unretrieved in vec(-1..4_i32, 0..5), k in 1_usize..25,
    ) {
        let judged = [ranked.as_slice(), &unretrieved].concat();
        let k = NonZeroUsize::new(k);
        let before = ndcg(&ranked, &judged, k);
        ranked.push(0);
        prop_assert_eq!(ndcg(&ranked, &judged, k), before);
    }
}
