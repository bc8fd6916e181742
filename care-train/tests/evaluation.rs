//! The dev set of a run: which split chooses the weights, and what happens without a score or a picture.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use care_core::Result;
use care_train::{EvaluationReport, Event, Outcome, Run, TrainConfig};
use serde_json::Value;

/// A pair, training rows, and a dev set whose judgements are those of the split `dev`.
fn prepare(folder: &Path) {
    common::pair(0.0).save(folder.join("pair")).unwrap();
    common::dev_set(&folder.join("dev"));
    let row = |example: care_train::TrainingExample| {
        serde_json::json!({"query": example.query, "pos": example.positives}).to_string() + "\n"
    };
    fs::write(folder.join("train.jsonl"), common::examples().into_iter().map(row).collect::<String>()).unwrap();
}

/// Runs 2 steps into `output`; returns the evaluations and the warnings.
fn run(folder: &Path, output: &str, evaluation: &str) -> Result<(Vec<EvaluationReport>, Vec<String>)> {
    let text = format!(
        "output = {output:?}\n[evaluation]\ndata = \"dev\"\nevery = 1\n{evaluation}\n[model]\npair = \"pair\"\n\
         [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 6\n"
    );
    fs::write(folder.join("run.toml"), text).unwrap();
    let config = TrainConfig::from_file(folder.join("run.toml"))?.check()?;
    let (mut reports, mut warnings) = (Vec::new(), Vec::new());
    let outcome = Run::new(&config).start(&mut |event| {
        match event {
            Event::Evaluation(report) => reports.push(report.clone()),
            Event::Warning(problem) => warnings.push(problem.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    assert!(matches!(outcome, Outcome::Finished { .. }));
    Ok((reports, warnings))
}

/// Judges the questions of a split; the answers of `test` are wrong ones.
fn judge(folder: &Path, splits: &[&str]) {
    fs::remove_dir_all(folder.join("dev/qrels")).unwrap();
    fs::create_dir(folder.join("dev/qrels")).unwrap();
    for split in splits {
        let shift = usize::from(*split == "test");
        let rows: String = (0..12).map(|n| format!("q{n}\td{}\t1\n", (n + shift) % 12)).collect();
        fs::write(folder.join(format!("dev/qrels/{split}.tsv")), format!("query-id\tcorpus-id\tscore\n{rows}"))
            .unwrap();
    }
}

#[test]
fn the_test_split_chooses_no_weights_unless_it_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let (alone, _) = run(folder, "alone", "").unwrap();
    for (output, splits, expected) in [
        ("both", ["test", "dev"].as_slice(), "dev"),
        ("all", &["test", "validation", "dev"], "dev"),
        ("validation", &["test", "validation"], "validation"),
    ] {
        judge(folder, splits);
        let (reports, warnings) = run(folder, output, "").unwrap();
        assert!(reports.len() == 3 && warnings.is_empty());
        for (report, alone) in reports.iter().zip(&alone) {
            assert_eq!((report.split.as_str(), report.measure.as_str()), (expected, "ndcg@10"));
            assert_eq!(report.score, alone.score, "{output}: not by the answers of the test split");
        }
        let log = fs::read_to_string(folder.join(output).join("log.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let named: Vec<Value> = lines.filter(|line| line["event"] == "evaluation").collect();
        assert!(named.len() == 3 && named.iter().all(|line| line["split"] == expected));
        let card = fs::read_to_string(folder.join(output).join("model/README.md")).unwrap();
        assert!(card.contains(&format!("| step | {expected} ndcg@10 | best so far |")), "{card}");
    }

    for splits in [["test"].as_slice(), &["test", "train"], &[]] {
        judge(folder, splits);
        let error = run(folder, "refused", "").unwrap_err().to_string();
        let found = if splits.is_empty() { "none".to_owned() } else { splits.join(", ") };
        let expected = format!(
            "dev: the dev set needs the split dev or validation, found: {found}; to choose the weights by another split, \
             name it: `split` in [evaluation]"
        );
        assert!(error.ends_with(&expected), "{error}");
        assert!(!folder.join("refused").exists());
    }
    judge(folder, &["test", "dev"]);
    let (reports, _) = run(folder, "named", "split = \"test\"").unwrap();
    assert!(reports.iter().all(|report| report.split == "test"));
    assert_ne!(reports[0].score, alone[0].score, "its answers are others");
    let error = run(folder, "absent", "split = \"validation\"").unwrap_err().to_string();
    assert!(error.contains("found no qrels for the split validation"), "{error}");
}

#[test]
fn an_undefined_score_is_reported_and_training_goes_on() {
    // Alone, and beside a task that has a score.
    for beside in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        prepare(folder);
        if !beside {
            fs::remove_dir_all(folder.join("dev")).unwrap();
            fs::create_dir(folder.join("dev")).unwrap();
        }
        // The same two sentences each time: all cosines are equal, as those of a collapsed tower.
        let pair = |score: u8| format!("{{\"sentence1\":\"头痛\",\"sentence2\":\"发烧\",\"score\":{score}}}\n");
        fs::write(folder.join("dev/dev.jsonl"), (0..4).map(pair).collect::<String>()).unwrap();
        let (reports, _) = run(folder, "run", "").unwrap();
        assert_eq!(reports.len(), 3);
        for report in &reports {
            assert_eq!((report.score, report.best), (None, false));
            let (task, measure) = match beside {
                true => ("dev-sts", "mean of cosine_spearman, ndcg@10"),
                false => ("dev", "cosine_spearman"),
            };
            assert!(report.undefined[task].contains("is undefined: x is constant"), "{:?}", report.undefined);
            assert_eq!((report.measure.as_str(), report.scores.len()), (measure, usize::from(beside)));
        }
        let card = fs::read_to_string(folder.join("run/model/README.md")).unwrap();
        assert!(card.contains("| 2 | undefined |  |"), "{card}");
        // No score is no improvement.
        let (reports, _) = run(folder, "patient", "patience = 1").unwrap();
        assert_eq!(reports.len(), 2);
    }
}

#[test]
fn a_picture_that_cannot_be_written_costs_a_warning_only() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    // A folder in the place of the picture, which no file can replace.
    fs::create_dir_all(folder.join("run/curves.svg/in the way")).unwrap();
    let (_, warnings) = run(folder, "run", "").unwrap();
    assert!(folder.join("run/model/care.json").is_file());
    assert!(folder.join("run/model/README.md").is_file());
    #[cfg(feature = "plots")]
    assert!(warnings.len() == 1 && warnings[0].contains("curves.svg"), "{warnings:?}");
    #[cfg(not(feature = "plots"))]
    assert!(warnings.is_empty());
}
