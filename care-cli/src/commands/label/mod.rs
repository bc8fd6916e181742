//! `care label`: a benchmark's labels, from candidates to task folders.

mod agree;
mod audit;
mod batch;
mod build;
pub(in crate::commands) mod collect;
mod demo;
mod experts;
pub(in crate::commands) mod judge;
mod resolve;
mod sample;
mod stages;
pub(in crate::commands) mod votes;

use std::path::PathBuf;

use anyhow::{Result, bail};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Run all stages on the built-in set, with stand-ins for judges and experts, and show each command
    #[arg(long, required = true)]
    demo: bool,
    /// Folder for the demonstration
    #[arg(long, value_name = "DIR", default_value = "label-demo", requires = "demo")]
    output: PathBuf,
    #[command(subcommand)]
    command: Option<stages::Command>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Some(command) => stages::run(command),
        None if args.demo => demo::run(&args.output),
        None => bail!("a stage is needed, see `care label --help`, or --demo"),
    }
}
