//! `care label --demo`: the whole pipeline on the built-in set, with stand-ins for judges and experts.

mod experts;
mod server;

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use care_core::files::write_atomic;
use clap::Parser;

use super::stages::{self, Command};
use crate::stderr::note;

/// A command line of this program.
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

const NOTICE: &str = "Demonstration. The judges are stand-ins: rules on shared characters, not language models; the experts \
                      are stand-ins that read the built-in judgements. Nothing here measures a real benchmark.";

/// Runs the stages as a user would, and prints each command.
pub(super) fn run(folder: &Path) -> Result<()> {
    if folder.exists() && std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()).unwrap_or(true) {
        bail!("{} is not empty; choose a new folder with --output", folder.display());
    }
    let start = Instant::now();
    note!("{NOTICE}");
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_atomic(folder.join("NOTICE.txt"), format!("{NOTICE}\n"))?;
    cmedteb::mini::write_to(folder.join("set"))?;
    let address = server::start()?;
    write_atomic(folder.join("judges.toml"), judges(&address))?;

    let at = |name: &str| folder.join(name).display().to_string();
    let (pairs, votes, labels) = (at("pairs.jsonl"), at("votes.jsonl"), at("labels.jsonl"));
    let (corpus, queries, qrels) = (at("set/corpus.jsonl"), at("set/queries.jsonl"), at("set/qrels/test.tsv"));
    step(&[
        "collect",
        "--queries",
        &queries,
        "--corpus",
        &corpus,
        "--qrels",
        &qrels,
        "--bm25",
        "--depth",
        "5",
        "--output",
        &pairs,
    ])?;
    step(&["judge", "--pairs", &pairs, "--judges", &at("judges.toml"), "--votes", &votes])?;
    let resolve = ["resolve", "--pairs", &pairs, "--votes", &votes, "--report", &at("rules.md"), "--output", &labels];
    step(&resolve)?;
    step(&[
        "sample",
        "--pairs",
        &pairs,
        "--votes",
        &votes,
        "--labels",
        &labels,
        "--size",
        "200",
        "--by",
        "label",
        "--experts",
        "stand-in-a",
        "stand-in-b",
        "--per-pair",
        "2",
        "--format",
        "csv",
        "html",
        "--output",
        &at("sheets"),
    ])?;
    note!("# the stand-in experts fill their sheets");
    experts::fill(&folder.join("sheets"), &folder.join("set"), &folder.join("filled"))?;
    step(&[
        "experts",
        "--sample",
        &at("sheets/sample.json"),
        "--sheets",
        &at("filled"),
        "--output",
        &at("experts.jsonl"),
    ])?;
    step(&[
        "agree",
        "--pairs",
        &pairs,
        "--votes",
        &votes,
        "--labels",
        &labels,
        "--sample",
        &at("sheets/sample.json"),
        "--experts",
        &at("experts.jsonl"),
        "--output",
        &at("agreement.md"),
    ])?;
    step(&[
        "audit",
        "--pairs",
        &pairs,
        "--votes",
        &votes,
        "--labels",
        &labels,
        "--qrels",
        &qrels,
        "--judges",
        &at("judges.toml"),
        "--output",
        &at("audit"),
    ])?;
    step(&[
        "build",
        "--pairs",
        &pairs,
        "--labels",
        &labels,
        "--corpus",
        &corpus,
        "--task",
        "retrieval",
        "reranking",
        "--name",
        "StandInDemo",
        "--description",
        NOTICE,
        "--splits",
        "dev=0.3,test=0.7",
        "--report",
        &at("rules.md"),
        &at("agreement.md"),
        &at("audit/report.md"),
        "--output",
        &at("tasks"),
    ])?;
    note!("{} is complete after {:.1} s; {NOTICE}", folder.display(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Prints a command and runs it.
fn step(words: &[&str]) -> Result<()> {
    let line: Vec<String> =
        words.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() }).collect();
    note!("$ care label {}", line.join(" "));
    let line = Line::try_parse_from(["care label"].iter().chain(words)).context("a step of the demonstration")?;
    stages::run(line.command)
}

fn judges(address: &str) -> String {
    let mut text = format!("# {NOTICE}\nprompt = \"relevance\"\nbudget = {{ tokens = 20000000 }}\n");
    for model in server::MODELS {
        let _ = write!(
            text,
            "\n[[judge]]\nname = \"{model}\"\nendpoint = \"{address}\"\nmodel = \"{model}\"\nfamily = \"{model}\"\nconcurrency = 4\n"
        );
    }
    text
}
