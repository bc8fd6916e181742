//! `care`: embed, train, evaluate and search with asymmetric text retrievers.
//!
//! Data goes to stdout or to files, progress and messages to stderr. The exit status is 0 on success, 1 if the work
//! failed, and 2 if the command line is wrong.

mod asking;
mod commands;
mod embedding;
mod families;
mod hits;
mod interrupt;
mod model;
mod paths;
mod progress;
mod reranker;
mod stderr;
mod stdout;
mod tasks;
mod texts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::stderr::note;

/// Faster than the system's: a tokenizer makes a million small allocations, every network layer a few large ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "care",
    version,
    about = "Asymmetric text retrieval: a small query tower, a large document tower",
    after_help = FIRST_STEPS
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps, with the pair and the data set in this program:
  care demo-data --output demo
  care search --model mini --corpus demo/corpus.jsonl            # asks for queries
  care eval   --model mini --task demo --output results
  care index  build --model mini --corpus demo/corpus.jsonl --index INDEX
  care serve  --model mini --index INDEX                         # HTTP, and a page to search on

With your own data: care audit (is it sound?), care eval --model bm25 (what has a model to beat?), care data mine (hard \
negatives), care train, care compare.";

#[derive(Subcommand)]
enum Command {
    /// Embed texts
    Embed(commands::embed::Args),
    /// Encode a corpus by any number of workers, on any number of machines: plan, work, status, verify, merge
    Encode(commands::encode::Args),
    /// Show what a model's towers compute: pooling, normalisation, lengths and instructions, and where each comes from
    Info(commands::info::Args),
    /// Train a pair of towers from a TOML configuration
    Train(commands::train::Args),
    /// Evaluate a model on benchmark tasks
    Eval(commands::eval::Args),
    /// Compare the results of two models: differences, confidence intervals and significance tests
    Compare(commands::report::CompareArgs),
    /// Report the results of models side by side, as Markdown, LaTeX, CSV and a self-contained HTML page
    Report(commands::report::ReportArgs),
    /// List possible errors in a task's data: duplicates, leaks, absent and likely missing judgements
    Audit(commands::audit::Args),
    /// Compute retrieval measures from judgements and a ranking
    Metrics(commands::metrics::Args),
    /// Search a corpus by exact similarity, by BM25, or by both
    Search(commands::search::Args),
    /// An index on disk with ids, texts and metadata: build it once, then add, remove and search with filters
    Index(commands::index::Args),
    /// Serve a pair over HTTP: embeddings, reranking and search, in the shapes of OpenAI, text-embeddings-inference and Cohere
    Serve(Box<commands::serve::Args>),
    /// Reorder documents, or a ranking, by a model that reads query and document together
    Rerank(commands::rerank::Args),
    /// Prepare training data: convert between forms, split without leaks
    Data(commands::data::Args),
    /// Make a benchmark: collect candidates, have LLMs and experts judge them, measure agreement, build task folders
    Label(commands::label::Args),
    /// Convert a model in any supported layout to a pair, which sentence-transformers can also load
    Convert(commands::convert::Args),
    /// Cut a model's vocabulary to the tokens that texts need, for a smaller model with the same vectors
    PruneVocab(commands::prune_vocab::Args),
    /// Write the built-in demonstration set to files
    DemoData(commands::demo_data::Args),
}

fn main() -> ExitCode {
    report_panics();
    let result = match Cli::parse().command {
        Command::Embed(args) => commands::embed::run(args),
        Command::Encode(args) => commands::encode::run(args),
        Command::Info(args) => commands::info::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Compare(args) => commands::report::compare(args),
        Command::Report(args) => commands::report::report(args),
        Command::Audit(args) => commands::audit::run(args),
        Command::Metrics(args) => commands::metrics::run(args),
        Command::Search(args) => commands::search::run(args),
        Command::Index(args) => commands::index::run(args),
        Command::Serve(args) => commands::serve::run(*args),
        Command::Rerank(args) => commands::rerank::run(args),
        Command::Data(args) => commands::data::run(args),
        Command::Label(args) => commands::label::run(args),
        Command::Convert(args) => commands::convert::run(args),
        Command::PruneVocab(args) => commands::prune_vocab::run(args),
        Command::DemoData(args) => commands::demo_data::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough, e.g. in `care search ... | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Leaves a panic that a library's guard turns into an error to that error.
fn report_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !care_core::guard::is_guarded() {
            report(panic);
        }
    }));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |kind| kind == std::io::ErrorKind::BrokenPipe;
    // A connection to another process that broke is no output.
    let of_peer = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<care_core::Error>().is_some_and(|e| e.kind() == care_core::ErrorKind::Peer)
    };
    !error.chain().any(of_peer)
        && error.chain().any(|cause| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|e| broken(e.kind()))
                || cause
                    .downcast_ref::<serde_json::Error>()
                    .and_then(serde_json::Error::io_error_kind)
                    .is_some_and(broken)
        })
}

/// The error and its causes, without those that only repeat the message.
fn describe(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(without_place(&cause)) {
            message += &format!(": {cause}");
        }
    }
    message
}

/// A cause without the line and column that serde_json adds: of a JSON Lines file it knows one line only.
fn without_place(cause: &str) -> &str {
    cause.rsplit_once(" at line ").map_or(cause, |(problem, _)| problem)
}
