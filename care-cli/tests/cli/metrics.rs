//! `care metrics`

use serde_json::{Value, json};

use super::Place;

#[test]
fn metrics_prints_the_documented_json() {
    let place = Place::new();
    place.file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t2\nq2\td9\t1\n");
    place.file("run.trec", "q1 Q0 d1 1 2.0 x\nq1 Q0 d3 2 1.5 x\nq1 Q0 d2 3 1.0 x\n");
    let base = "metrics --qrels qrels.tsv --run run.trec --measures ndcg@10,map@10,mrr@10,recall@2";
    let json_of = |line: &str| -> Value {
        let (status, stdout, stderr) = place.care(line);
        let warning = "warning: cut-offs below the end of the longest ranking, 3 documents: ndcg@10, map@10, mrr@10; unless \
                       the rankings hold the whole corpus, these are values at 3\n";
        assert_eq!((status, stderr.as_str()), (0, warning));
        serde_json::from_str(&stdout).unwrap()
    };
    let dropped = json_of(base);
    assert_eq!(
        (&dropped["queries"], &dropped["missing"], &dropped["ties"]),
        (&json!(1), &json!("drop"), &json!("trec_eval"))
    );
    assert!(dropped.get("per_query").is_none());
    let ndcg = (1.0 + 2.0 / 4f64.log2()) / (2.0 + 1.0 / 3f64.log2());
    let near = |value: &Value, expected: f64| assert!((value.as_f64().unwrap() - expected).abs() < 1e-12, "{value}");
    near(&dropped["measures"]["ndcg@10"], ndcg);
    near(&dropped["measures"]["map@10"], (1.0 + 2.0 / 3.0) / 2.0);
    near(&dropped["measures"]["mrr@10"], 1.0);
    near(&dropped["measures"]["recall@2"], 0.5);
    let zero = json_of(&format!("{base} --missing zero --per-query"));
    assert_eq!((&zero["queries"], &zero["missing"]), (&json!(2), &json!("zero")));
    near(&zero["measures"]["ndcg@10"], ndcg / 2.0);
    near(&zero["per_query"]["q1"]["ndcg@10"], ndcg);
    near(&zero["per_query"]["q2"]["ndcg@10"], 0.0);
    // A bootstrap sample of two queries may contain only one of them, so the interval spans both values.
    let intervals = json_of(&format!("{base} --missing zero --bootstrap 500"));
    near(&intervals["intervals"]["ndcg@10"]["low"], 0.0);
    near(&intervals["intervals"]["ndcg@10"]["high"], ndcg);
    assert!(zero.get("intervals").is_none());
    assert_eq!(zero["longest_ranking"], 3);
    for (measures, message) in [
        ("map,recall@3", "note: over the whole ranking, of at most 3 documents: map\n"),
        ("ndcg,mrr,rprec", "note: over the whole ranking, of at most 3 documents: ndcg, mrr\n"),
        ("ndcg@3,precision@1", ""),
    ] {
        let line = format!("metrics --qrels qrels.tsv --run run.trec --measures {measures}");
        assert_eq!(place.care(&line).2, message);
    }
}

#[test]
fn bad_metrics_input_is_refused() {
    let place = Place::new();
    place.file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tgood\n");
    place.file("good.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    place.file("run.trec", "q1 Q0 d1 1 2.0 x\nq1 Q0 d3 2\n");
    place.file("other.trec", "q7 Q0 d1 1 2.0 x\n");
    let metrics = |qrels: &str, run: &str| format!("metrics --qrels {qrels} --run {run} --measures ndcg@10");
    for (line, start) in [
        (metrics("none.tsv", "run.trec"), "error: cannot "),
        (metrics("qrels.tsv", "other.trec"), "error: qrels.tsv:2: "),
        (metrics("good.tsv", "run.trec"), "error: run.trec:2: "),
        (metrics("good.tsv", "other.trec"), "error: no query "),
    ] {
        let (status, stdout, stderr) = place.care(&line);
        assert_eq!((status, stdout.as_str()), (1, ""), "{line}");
        assert!(stderr.starts_with(start), "{line}: {stderr}");
    }
    for measures in ["ndgc@10", "ndcg@0", "ndcg@ten", "recall"] {
        let (status, _, stderr) =
            place.care(&format!("metrics --qrels good.tsv --run other.trec --measures {measures}"));
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains(measures), "{stderr}");
    }
    place.refuses(&format!("{} --missing skip", metrics("a", "b")), "skip");
    for line in [format!("{} --bootstrap 99999999999", metrics("a", "b")), "compare a b --samples 4000000000".into()] {
        place.refuses(&line, "is not in ");
        place.refuses(&line, "1000000");
    }
}
