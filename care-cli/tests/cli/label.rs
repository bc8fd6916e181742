//! `care label`

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Place;

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(row: &Value) -> (String, String) {
    let field = |name: &str| row[name].as_str().unwrap().to_owned();
    (field("query_id"), field("doc_id"))
}

#[test]
fn the_demonstration_runs_every_stage_and_its_tasks_can_be_evaluated() {
    let place = Place::new();
    let (code, _, log) = place.care("label --demo --output demo");
    assert_eq!(code, 0, "{log}");
    for stage in ["collect", "judge", "resolve", "sample", "experts", "agree", "audit", "build"] {
        assert!(log.contains(&format!("$ care label {stage} ")), "{stage}: {log}");
    }

    // Every pair has a vote of every judge, and every label follows from them.
    let (pairs, votes) = (rows(&place.path("demo/pairs.jsonl")), rows(&place.path("demo/votes.jsonl")));
    assert_eq!(votes.len(), 3 * pairs.len());
    let mut scores: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    for vote in &votes {
        assert_eq!(vote["state"], "scored");
        scores.entry(id(vote)).or_default().push(vote["score"].as_i64().unwrap());
    }
    for label in rows(&place.path("demo/labels.jsonl")) {
        let positive = scores[&id(&label)].iter().filter(|score| **score >= 4).count();
        assert_eq!(label["outcome"], ["negative", "disputed", "disputed", "positive"][positive], "{label}");
    }

    // What is built names stand-ins, leads back to the raw texts, and is a task.
    let card = fs::read_to_string(place.path("demo/tasks/StandInDemo-retrieval/README.md")).unwrap();
    let corpus = care_core::manifest::Digest::of(place.path("demo/set/corpus.jsonl")).unwrap();
    for part in ["stand-ins", "LM-generated", "| label collect |", &corpus.sha256, "Fleiss", "Without one judge"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let line = "eval --model bm25 --output results --task demo/tasks/StandInDemo-retrieval";
    let (code, out, log) = place.care(line);
    assert_eq!(code, 0, "{log}");
    assert!(out.contains("StandInDemo-retrieval\tndcg_at_10\t"), "{out}");

    // Files that do not belong together.
    let refused = |line: &str, problem: &str| {
        let (code, _, log) = place.care(line);
        assert!(code == 1 && log.contains(problem), "{line}: {log}");
    };
    let files = "--pairs demo/pairs.jsonl --votes demo/votes.jsonl --labels demo/labels.jsonl";
    refused(
        &format!("label audit {files} --rule majority --output audit"),
        "is not what `--rule majority` makes of the votes; give the rule and the other options by which `care label resolve`",
    );
    let sample = "label sample --pairs demo/pairs.jsonl --size 20 --experts a --format csv --output other";
    refused(&format!("{sample} --by label"), "--by label needs --labels");
    refused(&format!("{sample} --by disagreement"), "--by disagreement needs --votes");
    refused(&format!("{sample} --without a"), "--judges, --without and --version say which --votes count");
    let (code, _, log) = place.care(sample);
    assert_eq!(code, 0, "{log}");
    refused(
        &format!("label agree {files} --sample other/sample.json --experts demo/experts.jsonl --output agreement.md"),
        "demo/experts.jsonl: the answers are to another sample than other/sample.json",
    );
    let fewer: Vec<String> = rows(&place.path("demo/pairs.jsonl")).iter().skip(1).map(Value::to_string).collect();
    place.file("fewer.jsonl", &(fewer.join("\n") + "\n"));
    refused(
        "label agree --pairs fewer.jsonl --votes demo/votes.jsonl --labels demo/labels.jsonl \
         --sample demo/sheets/sample.json --experts demo/experts.jsonl --output agreement.md",
        "demo/sheets/sample.json: ",
    );

    // Votes on a text that was corrected later do not count, once the judges are named.
    let mut corrected = rows(&place.path("demo/pairs.jsonl"));
    let first = id(&corrected[0]);
    corrected[0]["document"] = "另一篇文档".into();
    let text: Vec<String> = corrected.iter().map(Value::to_string).collect();
    place.file("corrected.jsonl", &(text.join("\n") + "\n"));
    let line =
        "label resolve --pairs corrected.jsonl --votes demo/votes.jsonl --judges demo/judges.toml --output l.jsonl";
    let (code, _, log) = place.care(line);
    assert!(code == 0 && log.contains("note: 3 votes answer other questions and do not count"), "{log}");
    let labels = rows(&place.path("l.jsonl"));
    assert_eq!(labels.iter().find(|label| id(label) == first).unwrap()["outcome"], "incomplete");

    // A second demonstration does not overwrite the first.
    let (code, _, log) = place.care("label --demo --output demo");
    assert!(code == 1 && log.contains("demo is not empty; choose a new folder with --output"), "{log}");
}

#[test]
fn what_is_missing_is_named_before_the_first_call() {
    let place = Place::new();
    place.file("queries.jsonl", "{\"_id\":\"q\",\"text\":\"咳嗽吃什么药\"}\n");
    place.file("corpus.jsonl", "{\"_id\":\"d\",\"text\":\"咳嗽可以吃止咳药\"}\n");
    place.refuses("label", "Run all stages on the built-in set");
    let collect = "label collect --queries queries.jsonl --corpus corpus.jsonl --output pairs.jsonl";
    let (code, _, log) = place.care(collect);
    assert!(code == 1 && log.contains("use --bm25, --model or --run"), "{log}");
    let (code, _, log) = place.care(&format!("{collect} --bm25"));
    assert_eq!(code, 0, "{log}");
    assert_eq!(rows(&place.path("pairs.jsonl")).len(), 1);

    let judge = "label judge --pairs pairs.jsonl --judges judges.toml --votes votes.jsonl";
    let judges = |more: &str| {
        let address = "http://127.0.0.1:9/v1";
        place.file("judges.toml", &format!("{more}[[judge]]\nname = \"a\"\nendpoint = \"{address}\"\nmodel = \"m\"\n"))
    };
    judges("");
    let (code, _, log) = place.care(&format!("{judge} --estimate"));
    assert!(code == 0 && log.contains("a: 1 calls"), "{log}");
    assert_eq!(fs::read_to_string(place.path("votes.jsonl")).unwrap(), "");
    judges("budget = { tokens = 3 }\n");
    let (code, _, log) = place.care(judge);
    assert!(code == 1 && log.contains("budget"), "{log}");
    let key = "judge = [{ name = \"a\", endpoint = \"http://127.0.0.1:9/v1\", model = \"m\", api_key_env = \"CARE_NO_SUCH\" }]";
    place.file("judges.toml", key);
    let (code, _, log) = place.care(judge);
    assert!(code == 1 && log.contains("CARE_NO_SUCH") && log.contains("`a`"), "{log}");
}
