//! `care encode`: a corpus encoded by any number of workers on any number of machines.

mod check;
mod plan;
mod shared;
mod work;

use anyhow::Result;
use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cut a corpus into shards, or estimate what encoding it takes
    Plan(Box<plan::Args>),
    /// Encode shards until none is left; run as many workers as there are devices, on any machine
    Work(Box<work::Args>),
    /// Show the progress of all workers, the time left and the cost so far
    Status(check::StatusArgs),
    /// Check that every row has an intact vector of the plan's tower
    Verify(check::VerifyArgs),
    /// Write the vectors of all shards into one file, in the order of the documents
    Merge(check::MergeArgs),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Plan(args) => plan::run(&args),
        Command::Work(args) => work::run(&args),
        Command::Status(args) => check::status(&args),
        Command::Verify(args) => check::verify(&args),
        Command::Merge(args) => check::merge(&args),
    }
}
