//! `care label batch`

use std::path::PathBuf;

use anyhow::Result;
use care_label::batch;
use care_label::judge::Judges;
use care_label::pair::read_pairs;
use care_label::{Journal, Pair, Prompt};
use clap::Subcommand;

use crate::stderr::note;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the open questions as batch files, in the form of OpenAI and of `vllm run-batch`
    Write(WriteArgs),
    /// Check a batch file for what endpoints reject
    Check(CheckArgs),
    /// Read output and error files of batches into the votes
    Read(ReadArgs),
}

/// What is asked, and of whom.
#[derive(clap::Args)]
pub(crate) struct Questions {
    /// Pairs from `care label collect`
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// The judges (.toml); with the prices of batches, if they differ
    #[arg(long, value_name = "FILE")]
    judges: PathBuf,
    /// The votes (.jsonl)
    #[arg(long, value_name = "FILE")]
    votes: PathBuf,
    /// Folder of the batch files, with one folder per judge
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    questions: Questions,
    /// Most requests per file
    #[arg(long, value_name = "N", default_value_t = batch::MOST_REQUESTS)]
    requests: usize,
    /// Write new files although answers to the last ones were not read: they may be paid for twice
    #[arg(long)]
    replace: bool,
}

#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// Batch files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    questions: Questions,
    /// Output and error files, of all judges, in any order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Questions {
    fn open(&self) -> Result<(Vec<Pair>, Judges, Prompt, Journal)> {
        let judges = Judges::open(&self.judges)?;
        let prompt = Prompt::open(&judges.prompt)?;
        let journal = Journal::open(&self.votes)?;
        if let Some(remark) = journal.note() {
            note!("note: {remark}");
        }
        Ok((read_pairs(&self.pairs)?, judges, prompt, journal))
    }
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Write(args) => {
            let (pairs, judges, prompt, journal) = args.questions.open()?;
            let options = batch::Options::default().with_requests(args.requests).with_replace(args.replace);
            for written in batch::write(&pairs, &judges, &prompt, &journal, &args.questions.folder, &options)? {
                note!("{}: {} requests", written.judge, written.requests);
                written.files.iter().for_each(|file| note!("  {}", file.display()));
            }
        }
        Command::Check(args) => {
            for file in &args.files {
                let checked = batch::check(file)?;
                note!(
                    "{}: {} requests, {} bytes, model {}",
                    file.display(),
                    checked.requests,
                    checked.bytes,
                    checked.model
                );
            }
        }
        Command::Read(args) => {
            let (pairs, judges, prompt, mut journal) = args.questions.open()?;
            for read in batch::read(&args.questions.folder, &args.files, &pairs, &judges, &prompt, &mut journal)? {
                note!(
                    "{}: {} requests, {} scored, {} unparsable, {} refused, {} failed, {} known before, {} missing",
                    read.judge,
                    read.requests,
                    read.scored,
                    read.unparsable,
                    read.refused,
                    read.failed,
                    read.known,
                    read.missing
                );
                if read.missing + read.failed > 0 {
                    note!("  write batch files again for what is missing");
                }
            }
        }
    }
    Ok(())
}
