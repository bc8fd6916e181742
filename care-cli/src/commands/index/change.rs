//! `care index remove` and `care index compact`

use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::index::IndexWriter;
use care_core::lines::Lines;
use serde_json::json;

use crate::stderr::note;
use crate::stdout::print;

#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Id of a document; may be repeated
    #[arg(long, value_name = "ID", required_unless_present = "ids")]
    id: Vec<String>,
    /// Ids of documents, one per line
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Print the numbers of documents as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct CompactArgs {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
}

pub(super) fn remove(args: RemoveArgs) -> Result<()> {
    let mut ids = args.id;
    if let Some(path) = &args.ids {
        let mut lines = Lines::open(path)?;
        while let Some((_, line)) = lines.next_line()? {
            ids.extend((!line.is_empty()).then(|| line.to_owned()));
        }
        if ids.is_empty() {
            bail!("{}: there are no ids", path.display());
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let mut writer = IndexWriter::open(&args.index)?;
    let removed = writer.remove(&ids)?;
    if removed < ids.len() {
        note!("warning: {} of {} ids are not in the index", ids.len() - removed, ids.len());
    }
    note!("{removed} documents removed from {}, {} left", args.index.display(), writer.index().len());
    if args.json {
        print(&json!({ "removed": removed, "absent": ids.len() - removed }).to_string())?;
    }
    Ok(())
}

pub(super) fn compact(args: CompactArgs) -> Result<()> {
    let mut writer = IndexWriter::open(&args.index)?;
    let before = writer.index().bytes();
    writer.compact()?;
    note!("{} has {} bytes, {before} before", args.index.display(), writer.index().bytes());
    Ok(())
}
