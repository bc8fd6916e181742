//! `care encode`: what workers commit together is what `care embed` computes alone.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Place, tiny};

/// A corpus of these many rows.
fn corpus(rows: usize) -> String {
    let subjects = ["头痛", "发烧三天", "高血压患者能吃党参吗", "咳", "失眠多梦，记忆力下降"];
    let mut text = String::new();
    for row in 0..rows {
        let content = subjects[row % subjects.len()].repeat(1 + row * 7 % 5);
        let title = if row % 4 == 0 { "问答" } else { "" };
        writeln!(text, "{}", json!({ "_id": format!("d{row}"), "title": title, "text": format!("{content}{row}") }))
            .unwrap();
    }
    text
}

/// Runs a command that works.
fn done(place: &Place, line: &str) -> (String, String) {
    let (status, stdout, stderr) = place.care(line);
    assert_eq!(status, 0, "{line}: {stderr}");
    (stdout, stderr)
}

fn plan(place: &Place, rows: usize, more: &str) {
    place.file("corpus.jsonl", &corpus(rows));
    done(place, &format!("encode plan --model {} --input corpus.jsonl --job job {more}", tiny("bert")));
}

#[test]
fn a_merged_matrix_is_that_of_embed_bit_by_bit() {
    let place = Place::new();
    plan(&place, 300, "--dtype f32 --shard-bytes 2000");
    let model = tiny("bert");
    done(&place, &format!("encode work --model {model} --job job"));
    let (status, _) = done(&place, "encode status --job job --price-per-hour 3600 --json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"]["committed"], status["status"]["shards"]);
    assert_eq!(status["status"]["rows"], json!(300));
    let (cost, seconds) = (status["cost"].as_f64().unwrap(), status["status"]["worker_seconds"].as_f64().unwrap());
    assert!(seconds > 0.0 && (cost / seconds - 1.0).abs() < 1e-12, "{status}");
    assert!(done(&place, "encode status --job job").0.contains(", 100.0 %, 300 documents\n"));
    let (_, verified) = done(&place, "encode verify --job job --texts");
    assert!(verified.contains("300 rows of "), "{verified}");
    done(&place, "encode merge --job job --output merged.npy");
    done(&place, "encode merge --job job --output merged.parquet");
    done(&place, &format!("embed --model {model} --role document --input corpus.jsonl --output alone.npy"));
    assert!(fs::read(place.path("merged.npy")).unwrap() == fs::read(place.path("alone.npy")).unwrap());
}

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    let place = Place::new();
    plan(&place, 2000, "--dtype f32 --shard-rows 20");
    let model = tiny("bert");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
    command.current_dir(place.path("")).args(["encode", "work", "--model", &model, "--job", "job"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let committed = || fs::read_dir(place.path("job/commits")).map_or(0, Iterator::count);
    let limit = Instant::now() + Duration::from_secs(60);
    while committed() < 3 {
        assert!(Instant::now() < limit && child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (status, _, stderr) = place.care("encode verify --job job");
    assert!(status == 1 && stderr.contains("shards have no intact vectors"), "{stderr}");
    // The shard of the dead worker is taken over after the time of a lease.
    done(&place, &format!("encode work --model {model} --job job --lease 0.5"));
    done(&place, "encode verify --job job --texts --repair");
    done(&place, "encode merge --job job --output merged.npy");
    done(&place, &format!("embed --model {model} --role document --input corpus.jsonl --output alone.npy"));
    assert!(fs::read(place.path("merged.npy")).unwrap() == fs::read(place.path("alone.npy")).unwrap());
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_a_worker_at_once() {
    let place = Place::new();
    plan(&place, 1, "");
    // A claim whose owner is gone. The worker watches it, and looks up again after more than a minute.
    place.file("job/leases/00000000.0.json", "");
    let line = format!("encode work --model {} --job job --lease 100000", tiny("bert"));
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
    command.current_dir(place.path("")).args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let id = child.id().to_string();
    let interrupt = || assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(lines.any(|line| line.starts_with("encoding: ")));
    std::thread::sleep(Duration::from_secs(1));
    interrupt();
    assert!(lines.any(|line| line == "stopping after these documents; press Ctrl-C again to stop immediately"));
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn an_estimate_makes_no_plan() {
    let place = Place::new();
    place.file("corpus.jsonl", &corpus(500));
    let line = format!("encode plan --model {} --input corpus.jsonl --estimate --seconds 0", tiny("bert"));
    let (text, _) = done(&place, &format!("{line} --workers 1,8 --price-per-hour 2"));
    assert!(text.contains(" documents of ") && text.contains("\n8 workers: ") && text.contains(" in money"), "{text}");
    let (found, _) = done(&place, &format!("{line} --json"));
    let found: Value = serde_json::from_str(&found).unwrap();
    let documents = found["estimate"]["documents"].as_f64().unwrap();
    assert!((documents / 500.0 - 1.0).abs() < 0.1, "{found}");
    assert_eq!((found["runs"].as_array().unwrap().len(), &found["runs"][0]["money"]), (1, &Value::Null));
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1);
}

#[test]
fn what_does_not_fit_the_plan_is_refused() {
    let place = Place::new();
    plan(&place, 10, "--document-instruction 文:");
    let (status, _, stderr) = place.care(&format!("encode work --model {} --job job", tiny("bert")));
    assert!(status == 1 && stderr.contains("the plan is for the instruction \"文:"), "{stderr}");
    let (status, _, stderr) = place.care("encode merge --job job --output x.npy");
    assert!(status == 1 && stderr.contains("shard 0 is missing, 0 of 1 are committed"), "{stderr}");
    let (status, _, stderr) = place.care("encode status --job none");
    assert!(status == 1 && stderr.contains("none/plan.json: make it with `care encode plan`"), "{stderr}");
    place.fails("encode status --job job --lease 0", "--lease is 0, allowed: more than 0 seconds");
}
