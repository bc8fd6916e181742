//! `care data mine`: every kind of input, bad rows, and a run that is killed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Place, tiny};

const SUBJECTS: &str = "头痛 发烧 咳嗽 失眠 便秘 鼻炎 贫血 痛风 皮疹 腹泻 牙疼 耳鸣";

/// A corpus, training rows, and the same as a BEIR folder.
fn prepare(place: &Place, documents: usize) {
    let subjects: Vec<&str> = SUBJECTS.split(' ').collect();
    let subject = |n: usize| subjects[n % subjects.len()];
    let text = |n: usize| format!("{}第{n}天多休息{}", subject(n), "喝水".repeat(n % 7));
    let lines = |row: &dyn Fn(usize) -> String, count: usize| (0..count).map(row).collect::<String>();
    place.file("corpus.jsonl", &lines(&|n| format!("{{\"_id\":\"d{n}\",\"text\":\"{}\"}}\n", text(n)), documents));
    let row =
        |n: usize| format!("{{\"query\":\"{}第{n}天怎么办\",\"pos\":[\"{}\"],\"neg\":[]}}\n", subject(n), text(n));
    place.file("train.jsonl", &lines(&row, 24));
    let row = |n: usize| format!("{{\"_id\":\"q{n}\",\"text\":\"{}第{n}天怎么办\"}}\n", subject(n));
    place.file("queries.jsonl", &lines(&row, 30));
    place.file("qrels.tsv", &format!("query-id\tcorpus-id\tscore\n{}", lines(&|n| format!("q{n}\td{n}\t1\n"), 24)));
}

fn mine(place: &Place, more: &str) -> String {
    let (status, stdout, stderr) = place.care(&format!("data mine {more}"));
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    stderr
}

fn rows(place: &Place, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_and_judged_queries_get_the_same_negatives() {
    let place = Place::new();
    prepare(&place, 60);
    let rules = "--bm25 --ranks 0-20 --negatives 4 --relative-margin 0.05";
    let stderr = mine(&place, &format!("--rows train.jsonl --corpus corpus.jsonl {rules} --output a.jsonl"));
    assert!(stderr.contains("24 queries, 60 documents") && stderr.contains("24 rows in a.jsonl"), "{stderr}");
    assert!(stderr.contains("| bm25 | left by the rules | 96 | 80.0 % |"), "{stderr}");
    let judged = "--queries queries.jsonl --qrels qrels.tsv --corpus corpus.jsonl";
    let stderr = mine(&place, &format!("{judged} {rules} --format tevatron --output b.jsonl"));
    assert!(stderr.contains("6 queries have no positive in the qrels and were passed over"), "{stderr}");
    for (row, other) in rows(&place, "a.jsonl").iter().zip(rows(&place, "b.jsonl")) {
        assert_eq!(row["query"], other["query"]);
        let texts =
            |field: &str| other[field].as_array().unwrap().iter().map(|of| of["text"].clone()).collect::<Vec<_>>();
        assert_eq!(row["neg"].as_array().unwrap(), &texts("negative_passages"));
        assert_eq!(row["neg"].as_array().unwrap().len(), 4);
        assert_eq!(row["pos"].as_array().unwrap(), &texts("positive_passages"));
        assert_eq!(row["neg_id"].as_array().unwrap().len(), 4);
        assert!(row["neg_scores"][0].as_f64().unwrap() <= 0.95 * row["pos_scores"][0].as_f64().unwrap());
    }
    let report: Value = serde_json::from_slice(&fs::read(place.path("a.jsonl.report.json")).unwrap()).unwrap();
    assert_eq!((&report["queries"], &report["negatives"]), (&24.into(), &96.into()));
    assert!(fs::read_to_string(place.path("a.jsonl.report.html")).unwrap().contains("<svg"));
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("a.jsonl.manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["step"], "data mine");
    assert_eq!(manifest["options"]["rules"]["relative_margin"], 0.05);
    assert_eq!(manifest["inputs"].as_array().unwrap().len(), 2);
    for (format, name) in [("triplet", "c.jsonl"), ("n-tuple-1", "d.parquet")] {
        mine(&place, &format!("--rows train.jsonl {rules} --format {format} --output {name}"));
    }
    // Without a corpus, the candidates are the positives: two for each subject.
    assert_eq!(rows(&place, "c.jsonl").len(), 24);
}

#[test]
fn models_and_runs_are_mixed_with_bm25() {
    let place = Place::new();
    prepare(&place, 60);
    let run: String =
        (0..24).map(|n| format!("q{n} Q0 d{} 1 2.5 other\nq{n} Q0 d59 2 1.5 other\n", (n + 12) % 60)).collect();
    place.file("other.trec", &run);
    let judged = format!("--queries queries.jsonl --qrels qrels.tsv --corpus corpus.jsonl --model {}", tiny("bert"));
    let sources = format!("{judged} --bm25 --run other.trec --ranks 0-30");
    mine(&place, &format!("{sources} --quota other=1 model=2 bm25=3 --sample random --seed 3 --output a.jsonl"));
    let stderr = mine(&place, &format!("{sources} --negatives 6 --half-index --cache cache --output b.jsonl"));
    assert!(stderr.contains("| bert + bm25 + other | taken as negatives | 144 |"), "{stderr}");
    for name in ["a.jsonl", "b.jsonl"] {
        assert!(rows(&place, name).iter().all(|row| row["neg_scores"].as_array().unwrap().len() == 6));
    }
    let refused = format!("{sources} --quota none=1 --output c.jsonl");
    let message = "--quota none=1: there is no source of this name; the sources are model, bm25, other";
    place.fails(&format!("data mine {refused}"), message);
}

#[test]
fn bad_rows_and_options_are_refused_and_nothing_is_written() {
    let place = Place::new();
    prepare(&place, 20);
    place.fails(
        "data mine --rows train.jsonl --output a.jsonl",
        "no source of candidates: use --model, --bm25 or --run",
    );
    let rows = "data mine --bm25 --rows train.jsonl --output a.jsonl";
    place.fails(&format!("{rows} --ranks 9-9"), "`ranks` is 9-9, allowed: FROM-TO with FROM below TO, e.g. 10-210");
    place.refuses(&format!("{rows} --ranks ten"), "allowed: FROM-TO, e.g. 10-210");
    place.refuses(&format!("{rows} --queries queries.jsonl"), "cannot be used with");
    place.fails(&format!("{rows} --corpus corpus.jsonl"), "train.jsonl:21: `pos[0]` is not in the corpus");
    let (status, _, stderr) = place.care(&format!("{rows} --ranks 0-5 --negatives 2 --max-score -1"));
    assert!(status == 1 && stderr.contains("error: no query has a negative left: of "), "{stderr}");
    assert!(stderr.contains("above max_score"), "{stderr}");
    assert!(!place.path("a.jsonl").exists());

    let bad =
        "{\"query\":\"头痛\",\"pos\":[]}\n{\"query\":\"头痛\",\n{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"b\"]}\n";
    place.file("bad.jsonl", bad);
    place.fails("data mine --bm25 --rows bad.jsonl --output a.jsonl", "bad.jsonl:1: `pos` is empty");
    let stderr =
        mine(&place, "--bm25 --rows bad.jsonl train.jsonl --skip-bad --ranks 0-9 --negatives 2 --output a.jsonl");
    assert!(stderr.contains("warning: 3 rows were left out, listed in "), "{stderr}");
    let listed = fs::read_to_string(place.path("a.jsonl.skipped.txt")).unwrap();
    assert!(listed.contains("bad.jsonl:3: `neg[0]` is one of `pos`"), "{listed}");
}

#[test]
fn a_killed_run_goes_on_and_writes_the_same_bytes_with_any_number_of_threads() {
    let place = Place::new();
    prepare(&place, 2100);
    let line = |cache: &str, output: &str| {
        let model = tiny("bert");
        format!(
            "data mine --rows train.jsonl --corpus corpus.jsonl --model {model} --bm25 --ranks 0-50 --sample random \
             --short fill --relative-margin 0.01 --group 7 --cache {cache} --output {output}"
        )
    };
    let command = |line: &str, threads: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
        command.current_dir(place.path("")).args(line.split_whitespace()).env("RAYON_NUM_THREADS", threads);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let written = |output: &str| fs::read(place.path(output)).unwrap();
    assert!(command(&line("one", "one.jsonl"), "1").status().unwrap().success());
    assert!(command(&line("two", "two.jsonl"), "2").status().unwrap().success());
    assert!(written("one.jsonl") == written("two.jsonl"));
    assert!(written("one.jsonl.report.json") == written("two.jsonl.report.json"));

    let mut child = command(&line("killed", "killed.jsonl"), "2").spawn().unwrap();
    let shards = || {
        let folders = fs::read_dir(place.path("killed")).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "safetensors")).count()
    };
    let limit = Instant::now() + Duration::from_secs(120);
    while shards() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("killed.jsonl").exists());
    assert!(command(&line("killed", "killed.jsonl"), "1").status().unwrap().success());
    assert!(written("killed.jsonl") == written("one.jsonl"));
    // What a killed process wrote of the output is gone too.
    let rest = fs::read_dir(place.path("")).unwrap().flatten().filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with('.') && name.contains("partial")
    });
    assert_eq!(rest.count(), 0);
}
