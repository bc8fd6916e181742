//! `care demo-data`

use std::path::PathBuf;

use anyhow::Result;

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A new or empty folder
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    cmedteb::mini::write_to(&args.output)?;
    note!("wrote the demonstration set to {} (not medical advice)", args.output.display());
    Ok(())
}
