//! A checkpoint that is not what was written is refused by the name of the damaged file.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use care_core::files::sha256_hex;
use care_core::{ErrorKind, Result};
use care_train::{Event, Outcome, Run, TrainConfig};
use serde_json::Value;

/// Writes what a run of two stages needs, and its configuration.
fn prepare(folder: &Path) {
    common::pair(0.0).save(folder.join("pair")).unwrap();
    common::dev_set(&folder.join("dev"));
    let rows: String = common::examples()
        .iter()
        .map(|example| {
            serde_json::json!({"query": example.query, "pos": example.positives, "neg": example.negatives}).to_string()
                + "\n"
        })
        .collect();
    fs::write(folder.join("train.jsonl"), rows).unwrap();
    let text = r#"
        output = "run"
        checkpoint_every = 1
        [evaluation]
        data = "dev"
        every = 1
        [model]
        pair = "pair"
        [[stage]]
        kind = "query-alignment"
        data = ["train.jsonl"]
        batch_size = 6
        learning_rate = 0.003
        [[stage]]
        kind = "joint-finetuning"
        data = ["train.jsonl"]
        batch_size = 4
        group_size = 2
        query = { train = "frozen" }
        document = { train = "lora", lora = { rank = 2, dropout = 0.0 } }
        learning_rate = 0.002
    "#;
    fs::write(folder.join("run.toml"), text).unwrap();
}

/// Starts or resumes the run; `steps` ends it after that many.
fn run(folder: &Path, resume: bool, steps: usize) -> Result<Outcome> {
    let config = TrainConfig::from_file(folder.join("run.toml")).unwrap().check().unwrap();
    let mut seen = 0;
    Run::new(&config).resume(resume).start(&mut |event| {
        seen += usize::from(matches!(event, Event::Step(_)));
        if seen == steps { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Interrupts a new run; returns its newest checkpoint.
fn interrupted(folder: &Path, steps: usize) -> PathBuf {
    let Outcome::Interrupted { checkpoint: Some(checkpoint) } = run(folder, false, steps).unwrap() else {
        panic!("it was interrupted")
    };
    checkpoint
}

fn refusal(folder: &Path) -> String {
    let error = run(folder, true, usize::MAX).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Checkpoint | ErrorKind::Format), "{error}");
    error.to_string()
}

#[test]
fn every_damage_to_every_file_is_refused_by_name() {
    // Within the first stage, where the document tower has no file, and within the second.
    for (steps, files) in [
        (1, ["optimizer.safetensors", "query.safetensors", "state.json"].as_slice()),
        (4, &["document.safetensors", "optimizer.safetensors", "query.safetensors", "state.json"]),
    ] {
        let place = tempfile::tempdir().unwrap();
        prepare(place.path());
        let checkpoint = interrupted(place.path(), steps);
        let mut names: Vec<String> =
            fs::read_dir(&checkpoint).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, files);
        for name in files {
            let path = checkpoint.join(name);
            let whole = fs::read(&path).unwrap();
            let refused = |damage: &str, path: &Path, problem: &str| {
                let error = refusal(place.path());
                let start = format!("{}: ", path.display());
                assert!(error.starts_with(&start) && error.contains(problem), "{name} {damage}: {error}");
                assert!(error.ends_with("to resume from the one before it"), "{name} {damage}: {error}");
            };
            fs::remove_file(&path).unwrap();
            refused("missing", &path, "the file is missing");
            for cut in [1, whole.len() / 2, whole.len()] {
                fs::write(&path, &whole[..whole.len() - cut]).unwrap();
                refused("truncated", &path, if *name == "state.json" { "" } else { " bytes instead of " });
            }
            for place in [whole.len() / 3, whole.len() - 6] {
                let mut flipped = whole.clone();
                flipped[place] ^= 1;
                fs::write(&path, flipped).unwrap();
                let problem = if *name == "state.json" { "" } else { "the content does not match its SHA-256" };
                refused("flipped", &path, problem);
            }
            fs::write(&path, &whole).unwrap();
            fs::rename(&path, checkpoint.join("other")).unwrap();
            refused("renamed", &path, "the file is missing");
            fs::rename(checkpoint.join("other"), &path).unwrap();
        }
        fs::write(checkpoint.join("more.safetensors"), "").unwrap();
        let error = refusal(place.path());
        assert!(error.contains("more.safetensors: the checkpoint has no such file"), "{error}");
        fs::remove_file(checkpoint.join("more.safetensors")).unwrap();
        assert!(matches!(run(place.path(), true, usize::MAX).unwrap(), Outcome::Finished { .. }));
    }
}

#[test]
fn damaged_best_weights_are_refused_when_they_are_needed() {
    let place = tempfile::tempdir().unwrap();
    prepare(place.path());
    let checkpoint = interrupted(place.path(), 1);
    let mut best = String::new();
    forge(&checkpoint, |state| {
        // No later score can be better, so the stage ends with these weights.
        state["progress"]["best"][0] = 2.0.into();
        best = format!("best-stage-0001-step-{:08}", state["progress"]["best"][1].as_u64().unwrap());
    });
    let file = checkpoint.with_file_name(best).join("query.safetensors");
    fs::remove_file(&file).unwrap();
    assert!(refusal(place.path()).starts_with(&format!("{}: the file is missing", file.display())));
}

/// Changes `state.json` and gives it the checksum of its new content.
fn forge(checkpoint: &Path, change: impl FnOnce(&mut Value)) {
    let path = checkpoint.join("state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut state);
    state["sha256"] = "".into();
    let text = serde_json::to_string_pretty(&state).unwrap();
    let sealed = text.replacen("\"sha256\": \"\"", &format!("\"sha256\": \"{}\"", sha256_hex(&text)), 1);
    fs::write(path, sealed).unwrap();
}

#[test]
fn a_place_outside_of_the_run_and_older_formats_are_refused() {
    let place = tempfile::tempdir().unwrap();
    prepare(place.path());
    let checkpoint = interrupted(place.path(), 1);
    let whole = fs::read(checkpoint.join("state.json")).unwrap();
    let refused = |change: &dyn Fn(&mut Value), problem: &str| {
        fs::write(checkpoint.join("state.json"), &whole).unwrap();
        forge(&checkpoint, change);
        let error = refusal(place.path());
        assert!(error.contains(problem), "{error}");
    };
    refused(&|state| state["step"] = 3.into(), "`step` is 3, allowed: at most 2, the steps of stage 1");
    refused(&|state| state["step"] = u64::MAX.into(), "`step` is 18446744073709551615, allowed: at most 2");
    refused(&|state| state["stage"] = 99.into(), "`stage` is 99, allowed: 1..=2");
    refused(&|state| state["stage"] = 0.into(), "`stage` is 0, allowed: 1..=2");
    refused(&|state| state["unchanged"] = Value::Array(Vec::new()), "`files` lacks document.safetensors");
    refused(&|state| state["format"] = 2.into(), "a checkpoint of format 2 lists no checksums");
    refused(&|state| state["format"] = 99.into(), "unsupported format 99");
    fs::write(checkpoint.join("state.json"), &whole).unwrap();
    assert!(matches!(run(place.path(), true, usize::MAX).unwrap(), Outcome::Finished { .. }));
}
