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
    refused(
        &|state| state["format"] = 3.into(),
        "a checkpoint of format 3 lists the run's settings or files in another way; this version resumes format 4: \
         finish the run with the version that wrote it, or start it again in another output",
    );
    refused(&|state| state["format"] = 99.into(), "unsupported format 99");
    fs::write(checkpoint.join("state.json"), &whole).unwrap();
    assert!(matches!(run(place.path(), true, usize::MAX).unwrap(), Outcome::Finished { .. }));
}

/// Replaces a part of the configuration.
fn reconfigure(folder: &Path, from: &str, to: &str) {
    let path = folder.join("run.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn log(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("run/log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn provenance(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("run/model/care.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["provenance"].take()
}

#[test]
fn the_schedule_may_change_on_resume_and_the_pair_tells() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    interrupted(folder, 1);
    reconfigure(folder, "learning_rate = 0.003", "learning_rate = 0.001\n epochs = 2\n warmup_ratio = 0.0");
    reconfigure(folder, "\n        every = 1", "\n        every = 2");
    interrupted_again(folder, 3);
    // A second resume without a change keeps the note of the first.
    assert!(matches!(run(folder, true, usize::MAX).unwrap(), Outcome::Finished { .. }));
    let steps: Vec<Value> =
        log(folder).into_iter().filter(|line| line["event"] == "step" && line["stage"] == 1).collect();
    let found: Vec<_> = steps.iter().map(|line| (line["step"].as_u64(), line["total_steps"].as_u64())).collect();
    assert_eq!(found, [(Some(1), Some(2)), (Some(2), Some(4)), (Some(3), Some(4)), (Some(4), Some(4))]);
    let rate = steps[1]["learning_rate"].as_f64().unwrap();
    assert!((rate - 0.00075).abs() < 1e-12, "a quarter below the new peak, not {rate}");
    let changed = &provenance(folder)["changed_on_resume"];
    let expected = [
        ("evaluation.every", Some("1"), Some("2")),
        ("stage 1 epochs", Some("1"), Some("2")),
        ("stage 1 learning_rate", Some("0.003"), Some("0.001")),
        ("stage 1 warmup_ratio", Some("0.05"), Some("0.0")),
    ];
    let expected = expected.map(
        |(setting, from, to)| serde_json::json!({"setting": setting, "from": from, "to": to, "stage": 1, "step": 1}),
    );
    assert_eq!(*changed, Value::from(expected.to_vec()));

    // A finished run can be extended; its pair is replaced.
    let before = provenance(folder)["fingerprint"].take();
    assert!(matches!(run(folder, true, 1).unwrap(), Outcome::AlreadyFinished { .. }));
    reconfigure(folder, "group_size = 2", "group_size = 2\n epochs = 2");
    assert!(matches!(run(folder, true, usize::MAX).unwrap(), Outcome::Finished { .. }));
    let steps = log(folder).into_iter().filter(|line| line["event"] == "step" && line["stage"] == 2).count();
    assert_eq!(steps, 6, "3 of the first epoch, 3 more");
    assert_ne!(provenance(folder)["fingerprint"], before);
    assert_eq!(provenance(folder)["changed_on_resume"].as_array().unwrap().len(), 5);
}

/// Resumes the run and interrupts it after these steps in all.
fn interrupted_again(folder: &Path, steps: usize) {
    let outcome = run(folder, true, steps - 1).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted { checkpoint: Some(_) }));
}

#[test]
fn what_changes_the_batches_or_the_past_is_refused_by_name() {
    // In the first stage, and in the second when the first is complete.
    for (steps, cases) in [
        (
            1,
            [
                ("output = \"run\"", "output = \"run\"\nseed = 7", "`seed` (was 42, is 7)"),
                ("batch_size = 6", "batch_size = 5", "`stage 1 batch_size` (was 6, is 5)"),
                ("group_size = 2", "group_size = 3", "`stage 2 group_size` (was 2, is 3)"),
                ("rank = 2", "rank = 3", "`stage 2 document.lora.rank` (was 2, is 3)"),
                ("checkpoint_every = 1", "cache_teacher = false", "`cache_teacher` (was true, is false)"),
                (
                    "learning_rate = 0.003",
                    "learning_rate = 0.003\naccumulation = 2\nweight_decay = 0.1",
                    "`stage 1 accumulation` (was 1, is 2), `stage 1 weight_decay` (was 0.05, is 0.1)",
                ),
            ]
            .as_slice(),
        ),
        (
            3,
            &[
                ("learning_rate = 0.003", "learning_rate = 0.001", "`stage 1 learning_rate` (was 0.003, is 0.001)"),
                (
                    "learning_rate = 0.003",
                    "learning_rate = 0.003\nmax_steps = 1",
                    "`stage 1 max_steps` (was unset, is 1)",
                ),
            ],
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        prepare(folder);
        let checkpoint = interrupted(folder, steps);
        let whole = fs::read(folder.join("run.toml")).unwrap();
        for (from, to, change) in cases {
            reconfigure(folder, from, to);
            let error = run(folder, true, usize::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let expected = format!(
                "{}: changed since this checkpoint: {change}; on resume only these may: learning_rate, warmup_ratio, \
                 schedule, max_grad_norm, epochs, max_steps of a stage that is not complete, and [evaluation]",
                checkpoint.display()
            );
            assert_eq!(error.to_string(), expected);
            fs::write(folder.join("run.toml"), &whole).unwrap();
        }
    }
    // The steps so far cannot be undone.
    let place = tempfile::tempdir().unwrap();
    prepare(place.path());
    interrupted(place.path(), 2);
    reconfigure(place.path(), "learning_rate = 0.003", "learning_rate = 0.003\nmax_steps = 1");
    let error = run(place.path(), true, usize::MAX).unwrap_err().to_string();
    assert!(error.ends_with("`step` is 2, allowed: at most 1, the steps of stage 1"), "{error}");
}

#[test]
fn scores_on_another_dev_set_are_not_compared() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let checkpoint = interrupted(folder, 1);
    // Nothing on the old dev set could be better than this.
    forge(&checkpoint, |state| state["progress"]["best"][0] = 2.0.into());
    let qrels = folder.join("dev/qrels");
    fs::rename(qrels.join("dev.tsv"), qrels.join("validation.tsv")).unwrap();
    reconfigure(folder, "data = \"dev\"", "data = \"dev\"\nsplit = \"validation\"");
    assert!(matches!(run(folder, true, usize::MAX).unwrap(), Outcome::Finished { .. }));
    let scored: Vec<Value> =
        log(folder).into_iter().filter(|line| line["event"] == "evaluation" && line["stage"] == 1).collect();
    let found: Vec<_> =
        scored.iter().map(|line| (line["split"].as_str().unwrap(), line["step"].as_u64().unwrap())).collect();
    assert_eq!(found, [("dev", 0), ("dev", 1), ("validation", 1), ("validation", 2)]);
    assert_eq!(scored[2]["best"], true, "the first on this dev set");
}
