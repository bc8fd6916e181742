//! A run that is interrupted and resumed ends with bit-identical weights.
//!
//! This file holds a single test, since dropout draws from a process-wide random generator.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use care_core::Result;
use care_train::{CheckedTrainConfig, Event, Outcome, Run, StepReport, TrainConfig};

fn config(folder: &Path, output: &str) -> CheckedTrainConfig {
    let path = folder.join(format!("{output}.toml"));
    let text = format!(
        r#"
        output = "{output}"
        seed = 3
        checkpoint_every = 2
        [evaluation]
        data = "dev"
        every = 2
        [model]
        pair = "pair"
        [[stage]]
        kind = "query-alignment"
        data = ["align.jsonl"]
        batch_size = 5
        learning_rate = 0.003
        [[stage]]
        kind = "joint-finetuning"
        data = ["train.jsonl"]
        batch_size = 5
        max_batch_tokens = 400
        group_size = 3
        epochs = 2
        loss = [{{ kind = "info-nce", temperature = 0.05 }}]
        document = {{ train = "lora", lora = {{ rank = 2, dropout = 0.2 }} }}
        learning_rate = 0.002
        "#
    );
    fs::write(&path, text).unwrap();
    TrainConfig::from_file(&path).unwrap().check().unwrap()
}

/// Runs the configuration; the observer sees the steps only.
fn run(
    config: &CheckedTrainConfig,
    resume: bool,
    observer: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Outcome> {
    Run::new(config).resume(resume).start(&mut |event| match event {
        Event::Step(report) => observer(report),
        _ => ControlFlow::Continue(()),
    })
}

/// Every file of a saved pair, without the lines of its card that contain timings or paths.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(std::result::Result::unwrap) {
        if entry.path().is_dir() {
            let inner = files(&entry.path());
            found.extend(inner.into_iter().map(|(name, bytes)| (format!("{:?}/{name}", entry.file_name()), bytes)));
        } else {
            let mut bytes = fs::read(entry.path()).unwrap();
            if entry.file_name() == "README.md" {
                let card = String::from_utf8(bytes).unwrap();
                let lines: Vec<&str> = card
                    .lines()
                    .filter(|line| !line.starts_with("- steps: ") && !line.starts_with("output = "))
                    .collect();
                bytes = lines.join("\n").into_bytes();
            }
            found.insert(entry.file_name().into_string().unwrap(), bytes);
        }
    }
    found
}

/// The records of a stage's event files, without the two that a file begins with.
fn records(output: &Path, stage: usize) -> usize {
    let folder = output.join(format!("tensorboard/stage-{stage:04}"));
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let bytes = fs::read(&files[0]).unwrap();
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        at += 16 + u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        count += 1;
    }
    assert_eq!(at, bytes.len(), "whole records");
    count - 2
}

#[test]
fn resume_equals_no_interruption() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    common::pair(0.1).save(folder.join("pair")).unwrap();
    let (mut align, mut train) = (String::new(), String::new());
    for example in common::examples() {
        align += &format!("{}\n", serde_json::json!({"query": example.query, "pos": [example.query], "neg": []}));
        let row = serde_json::json!({"query": example.query, "pos": example.positives, "neg": example.negatives});
        train += &format!("{row}\n");
    }
    fs::write(folder.join("align.jsonl"), align).unwrap();
    fs::write(folder.join("train.jsonl"), train).unwrap();
    common::dev_set(&folder.join("dev"));

    let mut losses = Vec::new();
    let straight = config(folder, "straight");
    let outcome = run(&straight, false, &mut |report| {
        losses.push(report.loss);
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome.unwrap(), Outcome::Finished { .. }));
    assert_eq!(losses.len(), 9, "3 steps of alignment and 2 epochs of 3");
    let expected = files(&folder.join("straight/model"));

    // Interrupted at an odd step, at the end of the first stage, and in the second epoch of the second.
    for stop in [1, 3, 4, 8] {
        let output = format!("stop{stop}");
        let broken = config(folder, &output);
        let mut seen = 0;
        let outcome = run(&broken, false, &mut |_| {
            seen += 1;
            if seen == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Outcome::Interrupted { checkpoint: Some(checkpoint) } = outcome.unwrap() else {
            panic!("it was interrupted")
        };
        assert!(checkpoint.is_dir());
        let error = run(&broken, false, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.ends_with("already holds a run: resume it with --resume, or choose another output"), "{error}");

        let mut rest = Vec::new();
        run(&broken, true, &mut |report| {
            rest.push(report.loss);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(rest, losses[stop..], "the losses continue where they stopped");
        assert!(files(&folder.join(&output).join("model")) == expected, "the weights are bit-identical");
        // No step is in the log or in TensorBoard's files twice.
        let log = fs::read_to_string(folder.join(&output).join("log.jsonl")).unwrap();
        for (stage, steps) in [(1, 3), (2, 6)] {
            let lines = log.lines().filter(|line| line.contains(&format!("\"stage\":{stage},"))).count();
            assert_eq!(records(&folder.join(&output), stage), lines);
            assert!(lines > steps, "there are evaluations, too");
        }
        let names =
            fs::read_dir(folder.join(&output).join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
        let (best, kept): (Vec<_>, Vec<_>) = names.partition(|name| name.to_string_lossy().starts_with("best-"));
        assert!(kept.len() == 2 && best.len() <= 2, "old ones are pruned: {kept:?} {best:?}");
    }

    // A kill leaves steps after the last checkpoint, and perhaps half a checkpoint: the one before is used.
    let killed = config(folder, "killed");
    let mut seen = 0;
    let outcome = run(&killed, false, &mut |_| {
        seen += 1;
        if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let Outcome::Interrupted { checkpoint: Some(checkpoint) } = outcome.unwrap() else { panic!("it was interrupted") };
    fs::remove_file(checkpoint.join("state.json")).unwrap();
    fs::rename(&checkpoint, folder.join("killed/checkpoints/.stage-0001-step-00000003.partial")).unwrap();
    let log = fs::read_to_string(folder.join("killed/log.jsonl")).unwrap();
    fs::write(folder.join("killed/log.jsonl"), &log[..log.len() - 9]).unwrap();
    run(&killed, true, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(files(&folder.join("killed/model")) == expected, "the weights are the same after a kill");

    let fresh = config(folder, "fresh");
    let error = run(&fresh, true, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.ends_with("holds no run to resume"), "{error}");

    // The run may move; its data and its starting towers may not change.
    let moved = folder.join("moved");
    fs::rename(folder.join("straight"), &moved).unwrap();
    let text = fs::read_to_string(folder.join("straight.toml")).unwrap().replace("\"straight\"", "\"moved\"");
    fs::write(folder.join("moved.toml"), text).unwrap();
    let straight = TrainConfig::from_file(folder.join("moved.toml")).unwrap().check().unwrap();
    // What no loader reads may come and go.
    for file in ["README.md", ".DS_Store", "onnx/config.json", ".cache/config.json", "query_0_Transformer/tf_model.h5"]
    {
        let path = folder.join("pair").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "new").unwrap();
    }
    let outcome = run(&straight, true, &mut |_| panic!("it makes no step")).unwrap();
    assert!(matches!(outcome, Outcome::AlreadyFinished { .. }));
    assert!(files(&folder.join("moved/model")) == expected, "nothing was written");
    fs::rename(folder.join("pair"), folder.join("before")).unwrap();
    common::pair(0.2).save(folder.join("pair")).unwrap();
    let error = run(&straight, true, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(
        error.contains(
            "changed since this checkpoint: the content of `model.pair/query_0_Transformer/config.json`; on resume only \
             these may"
        ),
        "{error}"
    );
    fs::remove_dir_all(folder.join("pair")).unwrap();
    fs::rename(folder.join("before"), folder.join("pair")).unwrap();

    fs::write(folder.join("align.jsonl"), "{\"query\":\"头痛\",\"pos\":[\"头痛\"]}\n").unwrap();
    let error = run(&straight, true, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(
        error.contains("changed since this checkpoint: the content of `stage 1 data`; on resume only these may"),
        "{error}"
    );
}
