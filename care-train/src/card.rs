//! Metadata of a trained pair: a model card for people, provenance for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use care_core::Role;
use serde_json::{Value, json};

use crate::config::{CheckedStage, CheckedTrainConfig, TrainMode};
use crate::dataset::Source;
use crate::log::Line;

/// The provenance recorded in a trained pair's `care.json`.
pub(crate) fn provenance(config: &CheckedTrainConfig, fingerprint: &str, started_from: Value) -> Value {
    let stages: Vec<Value> = config
        .stages()
        .iter()
        .map(|stage| {
            let (epochs, batch, rate) = (stage.epochs, stage.batch_size, stage.learning_rate);
            json!({"kind": stage.kind, "epochs": epochs, "batch_size": batch, "learning_rate": rate})
        })
        .collect();
    let mut note = json!({
        "trained_by": concat!("care-train ", env!("CARGO_PKG_VERSION")),
        "seed": config.seed,
        "fingerprint": fingerprint,
        "stages": stages,
    });
    let models: Vec<&str> = config.hub_models().collect();
    if !models.is_empty() {
        note["models"] = json!(models);
    }
    if !started_from.is_null() {
        note["started_from"] = started_from;
    }
    note
}

/// The model card, i.e. the README in the folder of a trained pair. `head` is its beginning.
pub(crate) fn card(mut head: String, config: &CheckedTrainConfig, sources: &[Vec<Source>], lines: &[Line]) -> String {
    // Writing to a string does not fail.
    write_training(&mut head, config, sources, lines).ok();
    head
}

fn write_training(
    card: &mut String,
    config: &CheckedTrainConfig,
    sources: &[Vec<Source>],
    lines: &[Line],
) -> std::fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(card, "\n## Training\n\nTrained by care-train {version}, seed {}, from:\n", config.seed)?;
    let model = &config.model;
    if let Some(pair) = &model.pair {
        writeln!(card, "- both towers: `{}`", config.public_path(pair))?;
    }
    for (role, tower) in [("query", &model.query), ("document", &model.document)] {
        if let Some(tower) = tower {
            let layers =
                tower.options.layers.as_ref().map_or_else(String::new, |layers| format!(", layers {layers:?}"));
            writeln!(card, "- {role} tower: `{}`{layers}", config.public_path(&tower.encoder))?;
        }
    }
    for (index, (stage, sources)) in config.stages().iter().zip(sources).enumerate() {
        writeln!(card, "\n### Stage {}: {}\n", index + 1, stage.kind.as_str())?;
        for source in sources {
            let name = config.public_path(Path::new(source.name()));
            writeln!(card, "- data: `{name}`, {} rows", source.row_count())?;
        }
        for (name, value) in settings(stage) {
            writeln!(card, "- {name}: {value}")?;
        }
        write_course(card, index + 1, lines)?;
    }
    writeln!(card, "\nThe configuration:\n\n```toml\n{}```", toml::to_string(&config.public()).unwrap_or_default())
}

/// The course of a stage: steps, loss and dev scores.
fn write_course(card: &mut String, stage: usize, lines: &[Line]) -> std::fmt::Result {
    let of_stage = || lines.iter().filter(|line| line.place().0 == stage);
    let steps: Vec<_> =
        of_stage().filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None }).collect();
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
        writeln!(card, "- steps: {} in {seconds:.0} s", last.step)?;
        writeln!(card, "- loss: {:.4} at the first step, {:.4} at the last", first.loss, last.loss)?;
    }
    let scores: Vec<_> =
        of_stage().filter_map(|line| if let Line::Evaluation(score) = line { Some(score) } else { None }).collect();
    let Some(first) = scores.first() else { return Ok(()) };
    writeln!(card, "\n| step | {} | best so far |\n|---:|---:|---|", first.label())?;
    for report in scores {
        let score = report.score.map_or_else(|| "undefined".to_owned(), |score| format!("{score:.4}"));
        writeln!(card, "| {} | {score} | {} |", report.step, if report.best { "yes" } else { "" })?;
    }
    Ok(())
}

/// The main settings of a stage.
fn settings(stage: &CheckedStage) -> BTreeMap<&'static str, String> {
    let losses: Vec<String> = stage
        .losses()
        .iter()
        .map(|loss| {
            let name = serde_json::to_value(loss.kind).ok();
            let name = name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            let temperature = loss.temperature.map_or_else(String::new, |value| format!(" at temperature {value}"));
            format!("{} x {name}{temperature}", loss.weight)
        })
        .collect();
    let budget = stage.max_batch_tokens.map_or_else(String::new, |most| format!(", at most {most} tokens"));
    let mut settings = BTreeMap::from([
        ("batch", format!("{} queries, groups of {}{budget}", stage.batch_size, stage.group_size)),
        ("epochs", stage.epochs.to_string()),
        ("losses", losses.join(", ")),
    ]);
    for (name, role) in [("query tower", Role::Query), ("document tower", Role::Document)] {
        let what = match stage.mode(role) {
            TrainMode::Frozen => "frozen".to_owned(),
            TrainMode::Full => format!("all weights, learning rate {}", stage.learning_rate(role)),
            TrainMode::Lora => format!("LoRA adapter, learning rate {}", stage.learning_rate(role)),
        };
        settings.insert(name, what);
    }
    settings
}
