//! The data card: where every label comes from, and how good it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use care_core::manifest::Manifest;
use serde_json::{Map, Value};

use super::tasks::{Built, TaskKind};

/// What a data card tells beside the figures of the task itself.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Card {
    /// Name of the task.
    pub name: String,
    /// What it is about, in a sentence.
    pub description: String,
    /// Licence of the texts as the hub names it, e.g. `cc-by-4.0`.
    pub license: Option<String>,
    /// Whether experts have checked labels.
    pub reviewed: bool,
    /// A notice at the top, e.g. that the judges were stand-ins.
    pub notice: Option<String>,
    /// Further sections: judges, rules, agreement.
    pub sections: Vec<Section>,
    /// How the labels were made.
    pub manifest: Option<Manifest>,
}

/// A section of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Its text, in Markdown.
    pub text: String,
}

impl Card {
    /// A card of a task with this name and description.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into(), ..Self::default() }
    }

    /// Adds a section.
    #[must_use]
    pub fn with_section(mut self, title: impl Into<String>, text: impl Into<String>) -> Self {
        self.sections.push(Section { title: title.into(), text: text.into() });
        self
    }

    /// mteb's word for who annotated.
    pub(super) fn annotators(&self) -> &'static str {
        if self.reviewed { "LM-generated and reviewed" } else { "LM-generated" }
    }

    /// The card as Markdown, after its front matter.
    pub(super) fn markdown(&self, task: &Built, statistics: &Map<String, Value>) -> String {
        let mut text = format!("\n# {}\n\n{}\n", self.name, self.description);
        if let Some(notice) = &self.notice {
            let _ = write!(text, "\n> **{notice}**\n");
        }
        let kind = match task.kind() {
            TaskKind::Retrieval => "Retrieval: a corpus is searched.",
            TaskKind::Reranking => "Reranking: the candidates of each query are ordered.",
            TaskKind::Sts => "Semantic textual similarity of two sentences.",
        };
        let _ = write!(text, "\n{kind} Labels: {}.\n\n## Contents\n\n| | |\n|---|--:|\n", self.annotators());
        for (what, count) in task.counts() {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        text += &splits(task, statistics);
        for section in &self.sections {
            let _ = write!(text, "\n## {}\n\n{}\n", section.title, section.text.trim());
            text.push('\n');
        }
        if let Some(manifest) = &self.manifest {
            text += &chain(manifest);
        }
        text
    }
}

/// A table of the splits.
fn splits(task: &Built, statistics: &Map<String, Value>) -> String {
    let number = |split: &Value, path: &str| match split.pointer(path) {
        Some(Value::Number(number)) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        Some(value) if !value.is_null() => value.to_string(),
        _ => "-".to_owned(),
    };
    let columns: &[(&str, &str)] = match task.kind() {
        TaskKind::Sts => &[
            ("pairs", "/num_samples"),
            ("characters per sentence", "/text1_statistics/average_text_length"),
            ("mean score", "/label_statistics/avg_score"),
        ],
        _ => &[
            ("characters per query", "/queries_text_statistics/average_text_length"),
            ("characters per document", "/documents_text_statistics/average_text_length"),
            ("positives", "/relevant_docs_statistics/num_relevant_docs"),
            ("positives per query", "/relevant_docs_statistics/average_relevant_docs_per_query"),
        ],
    };
    let mut text = String::from("\n| split |");
    columns.iter().for_each(|(name, _)| text += &format!(" {name} |"));
    text += "\n|---|";
    text += &"--:|".repeat(columns.len());
    for (split, values) in statistics {
        let _ = write!(text, "\n| {split} |");
        columns.iter().for_each(|(_, path)| text += &format!(" {} |", number(values, path)));
    }
    text + "\n\nNear-duplicate questions are always in the same split.\n"
}

/// The files behind the labels, back to the raw texts.
fn chain(manifest: &Manifest) -> String {
    let mut text =
        String::from("\n## From raw texts to labels\n\n| step | file | SHA-256 | counts |\n|---|---|---|---|\n");
    let mut raw: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let chain = manifest.chain();
    for step in chain.iter().rev() {
        for input in step.inputs.iter().filter(|input| input.made_by.is_none()) {
            raw.insert(&input.file.sha256, (&input.role, &input.file.name));
        }
    }
    for (sha256, (role, name)) in raw {
        let _ = writeln!(text, "| raw: {role} | `{name}` | `{sha256}` | |");
    }
    for step in chain.iter().rev() {
        let counts: Vec<String> = step.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(
            text,
            "| {} | `{}` | `{}` | {} |",
            step.step,
            step.output.name,
            step.output.sha256,
            counts.join(", ")
        );
    }
    text
}
