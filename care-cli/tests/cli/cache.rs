//! The vector cache of evaluations: no vector is computed twice, and no damaged file is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Place, tiny};

/// Texts per shard.
const SHARD: usize = 512;
const DOCUMENTS: usize = 2100;

/// A custom task in the folder `own`.
fn prepare(place: &Place) {
    let row = |n: usize| format!("{{\"_id\":\"d{n}\",\"text\":\"第{n}天头痛{}\"}}\n", "发烧".repeat(n % 9));
    place.file("own/corpus.jsonl", &(0..DOCUMENTS).map(row).collect::<String>());
    let row = |n: usize| format!("{{\"_id\":\"q{n}\",\"text\":\"头痛第{n}天怎么办\"}}\n");
    place.file("own/queries.jsonl", &(0..20).map(row).collect::<String>());
    let judged: String = (0..20).map(|n| format!("q{n}\td{n}\t1\n")).collect();
    place.file("own/qrels.tsv", &format!("query-id\tcorpus-id\tscore\n{judged}"));
}

fn line(model: &str, output: &str, more: &str) -> String {
    format!("eval --model {model} --task own --output {output} --cache cache {more}")
}

fn start(place: &Place, output: &str) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
    command.current_dir(place.path("")).args(line(&tiny("bert"), output, "").split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn evaluate(place: &Place, model: &str, output: &str, more: &str) -> String {
    let (status, _, stderr) = place.care(&line(model, output, more));
    assert_eq!(status, 0, "{stderr}");
    stderr
}

/// The shards of a cache, in all its folders.
fn shards(place: &Place) -> BTreeSet<PathBuf> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries(&place.path("cache")).flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

fn run(place: &Place, output: &str) -> String {
    fs::read_to_string(place.path(output).join("own.trec")).unwrap()
}

#[test]
fn a_killed_evaluation_goes_on_and_ends_as_one_that_ran_through() {
    let place = Place::new();
    prepare(&place);
    let line = format!("eval --model {} --task own --output through --cache another", tiny("bert"));
    assert_eq!(place.care(&line).0, 0);

    let mut child = start(&place, "killed");
    let limit = Instant::now() + Duration::from_secs(120);
    // One shard of queries and two of documents.
    while shards(&place).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("killed/own.json").exists());
    let before = shards(&place);
    assert!(before.len() < 6, "{before:?}");
    evaluate(&place, &tiny("bert"), "killed", "");
    let after = shards(&place);
    // Existing shards are reused; every other shard is computed once.
    assert!(before.is_subset(&after));
    assert_eq!(after.len(), 1 + DOCUMENTS.div_ceil(SHARD));
    assert!(run(&place, "killed") == run(&place, "through"));

    // Nothing is left to compute, whatever the tie rule.
    evaluate(&place, &tiny("bert"), "again", "--ties expected");
    assert_eq!(shards(&place), after);
    assert!(run(&place, "again") == run(&place, "through"));
    let report = fs::read_to_string(place.path("again/own.json")).unwrap();
    assert!(report.contains("\"ties\": \"expected\""), "{report}");
}

#[test]
fn a_flipped_byte_is_found_and_its_shard_computed_again() {
    let place = Place::new();
    prepare(&place);
    evaluate(&place, &tiny("bert"), "first", "");
    let whole = shards(&place);
    let broken = whole.iter().next().unwrap();
    let mut bytes = fs::read(broken).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(broken, &bytes).unwrap();
    let stderr = evaluate(&place, &tiny("bert"), "second", "");
    let name = broken.file_name().unwrap().to_str().unwrap();
    assert!(stderr.contains(name) && stderr.contains("incomplete, modified or foreign"), "{stderr}");
    assert!(run(&place, "second") == run(&place, "first"));
    // The same vectors make the same file, so the damaged one was replaced.
    assert_eq!(shards(&place), whole);
    let stderr = evaluate(&place, &tiny("bert"), "third", "");
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn two_processes_share_a_cache() {
    let place = Place::new();
    prepare(&place);
    let mut both = [start(&place, "left"), start(&place, "right")];
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    assert!(run(&place, "left") == run(&place, "right"));
    let stderr = evaluate(&place, &tiny("bert"), "after", "");
    assert!(!stderr.contains("warning"), "{stderr}");
    assert!(run(&place, "after") == run(&place, "left"));
    assert_eq!(shards(&place).len(), 1 + DOCUMENTS.div_ceil(SHARD));
}

#[test]
fn another_weight_length_or_width_finds_nothing() {
    let place = Place::new();
    prepare(&place);
    evaluate(&place, &tiny("bert"), "first", "");
    let one = shards(&place).len();
    fs::create_dir(place.path("changed")).unwrap();
    for entry in fs::read_dir(tiny("bert")).unwrap().flatten() {
        fs::copy(entry.path(), place.path("changed").join(entry.file_name())).unwrap();
    }
    let path = place.path("changed/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The lowest bit of one weight: the header's length, the header, then values of 4 bytes.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header + 4000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for (times, (model, more)) in
        [("changed".to_owned(), ""), (tiny("bert"), "--max-length 20"), (tiny("bert"), "--dim 16")].iter().enumerate()
    {
        evaluate(&place, model, "other", more);
        assert_eq!(shards(&place).len(), one * (times + 2), "{model} {more}");
    }
}
