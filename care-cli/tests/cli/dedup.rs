//! `care data dedup` and `care data stats`

use std::fs;

use serde_json::Value;

use super::{Place, tiny};

const ROWS: &str = r#"{"query":"糖尿病人能吃西瓜吗谢谢","pos":["可以少量吃"],"neg":["多喝水"]}
{"query":"糖尿病人，能吃西瓜吗？谢谢","pos":["不可以"],"neg":["不可以"]}
{"query":"糖尿病人能吃西瓜吗谢谢啊","pos":["可以"],"n":1.0}
{"query":"咳","pos":["休息"]}
"#;

fn manifest(place: &Place, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path(&format!("{name}.manifest.json"))).unwrap()).unwrap()
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path(name)).unwrap()
}

#[test]
fn duplicates_go_and_clusters_and_leaks_are_listed() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    place.file("test.jsonl", "{\"text\":\"咳。\"}\n");
    let line =
        "data dedup rows.jsonl --against test.jsonl --clusters clusters.jsonl --leaks leaks.jsonl --output kept.jsonl";
    let (status, stdout, stderr) = place.care(line);
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    assert_eq!(
        stderr,
        "1 of 4 rows in kept.jsonl; dropped: 2 exact, 1 near, 0 by vectors\n1 of the dropped rows are leaks\n"
    );
    assert_eq!(read(&place, "kept.jsonl"), ROWS.lines().next().unwrap().to_owned() + "\n");
    assert_eq!(
        read(&place, "leaks.jsonl"),
        "{\"kept\":{\"file\":\"test.jsonl\",\"line\":1},\"dropped\":[{\"file\":\"rows.jsonl\",\"line\":4,\"method\":\"exact\",\"similarity\":1.0}]}\n"
    );
    assert_eq!(read(&place, "clusters.jsonl").lines().count(), 2);
    for name in ["kept.jsonl", "leaks.jsonl", "clusters.jsonl"] {
        let manifest = manifest(&place, name);
        assert_eq!((&manifest["step"], &manifest["counts"]["near"]), (&"data dedup".into(), &1.into()));
        assert_eq!(manifest["inputs"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["options"]["near"]["threshold"], 0.8);
    }

    let (status, ..) =
        place.care("data dedup rows.jsonl --exact --keep longest --field query,pos --output exact.jsonl");
    assert_eq!((status, read(&place, "exact.jsonl").as_str()), (0, ROWS));
    assert_eq!(manifest(&place, "exact.jsonl")["options"]["near"], Value::Null);
}

#[test]
fn a_model_or_its_vectors_drop_the_same_rows() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    let model = tiny("bert");
    let by_model =
        format!("data dedup rows.jsonl --model {model} --cache vectors --threshold 0.1 --output model.jsonl");
    for _ in 0..2 {
        let (status, _, stderr) = place.care(&by_model);
        assert_eq!(status, 0, "{stderr}");
    }
    let embed = format!("embed --role query --model {model} --input rows.jsonl --output rows.npy");
    assert_eq!(place.care(&embed).0, 0);
    let line = "data dedup rows.jsonl --vectors rows.npy --threshold 0.1 --output npy.jsonl";
    let (status, _, stderr) = place.care(line);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(read(&place, "npy.jsonl"), read(&place, "model.jsonl"));
    let options = &manifest(&place, "model.jsonl")["options"]["vectors"];
    assert_eq!((&options["seeds"], &options["threshold"]), (&5000.into(), &0.1.into()));
    place.file("more.jsonl", &ROWS.repeat(2));
    place.fails("data dedup more.jsonl --vectors rows.npy --output kept.jsonl", "there are 4 vectors for 8 rows");
    assert!(!place.path("kept.jsonl").exists());
}

#[test]
fn bad_rows_and_options_are_refused_and_nothing_is_written() {
    let place = Place::new();
    place.file("rows.jsonl", &format!("{ROWS}{{\"query\":\n{{\"answer\":\"a\"}}\n"));
    let problem = "rows.jsonl:5: EOF while parsing a value (column 9)";
    place.fails("data dedup rows.jsonl --output kept.jsonl", problem);
    place.fails("data stats rows.jsonl --output stats.json", problem);
    assert!(!place.path("kept.jsonl").exists() && !place.path("stats.json").exists());
    let (status, _, stderr) = place.care("data dedup rows.jsonl --skip-bad --output kept.jsonl");
    assert!(status == 0 && stderr.contains("2 rows were left out, listed in kept.jsonl.skipped.txt"), "{stderr}");
    assert_eq!(read(&place, "kept.jsonl.skipped.txt").lines().next(), Some(problem));
    place.file("empty.jsonl", "");
    place.fails("data dedup empty.jsonl --output kept.jsonl", "no rows");
    place.fails("data dedup rows.jsonl --near 0.1 --output kept.jsonl", "`threshold` is 0.1, allowed: 0.3 to 1");
    place.refuses("data dedup rows.jsonl --exact --near 0.9 --output kept.jsonl", "cannot be used with");
    place.refuses("data dedup rows.jsonl --threshold 0.9 --output k.jsonl", "required arguments were not provided");
    place.fails(
        "data dedup rows.jsonl --cache vectors --output k.jsonl",
        "--cache keeps vectors of --model, which is not given",
    );
    place.refuses("data dedup rows.jsonl --keep last --output k.jsonl", "allowed: first, longest, most-positives");
}

#[test]
fn statistics_are_text_and_json() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    let (status, stdout, stderr) = place.care("data stats rows.jsonl --output stats.json");
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("rows                                                 4\n"), "{stdout}");
    let stats: Value = serde_json::from_str(&read(&place, "stats.json")).unwrap();
    assert_eq!((&stats["rows"], &stats["queries"]["distinct"]), (&4.into(), &3.into()));
    assert_eq!((&stats["positives_as_negatives"], &stats["negatives_per_row"]["max"]), (&1.into(), &1.into()));
    assert_eq!(manifest(&place, "stats.json")["step"], "data stats");
}
