//! `care index info`

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use care_core::index::DiskIndex;
use serde_json::json;

use super::approximate::said;
use crate::stdout::print;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Read every file and compare it with its checksums
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let index = DiskIndex::open(&args.index)?;
    if args.verify {
        index.verify()?;
    }
    let codes: Vec<&str> = index.codes().iter().map(|codes| codes.as_str()).collect();
    let (tower, fields) = (index.tower(), index.fields()?);
    if args.json {
        let field = |field: &care_core::index::FieldInfo| json!({ "name": field.name, "terms": field.terms, "numbers": field.numbers });
        return print(
            &json!({
                "fingerprint": tower.fingerprint,
                "instruction": tower.instruction,
                "documents": index.len(),
                "removed": index.removed(),
                "segments": index.segments(),
                "bytes": index.bytes(),
                "dim": index.dim(),
                "vectors": index.vector_format().as_str(),
                "codes": codes,
                "approximate": index.approximation(),
                "graph_documents": index.graph_rows(),
                "fields": fields.iter().map(field).collect::<Vec<_>>(),
            })
            .to_string(),
        );
    }
    let codes = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
    let mut text = format!(
        "document tower  {}\ninstruction     {:?}\ndocuments       {}\nremoved         {} (`care index compact` frees their space)\n\
         segments        {}, {} bytes\nvectors         {} dimensions in {}\ncodes           {codes}",
        tower.fingerprint,
        tower.instruction,
        index.len(),
        index.removed(),
        index.segments(),
        index.bytes(),
        index.dim(),
        index.vector_format().as_str(),
    );
    if let Some(approximation) = index.approximation() {
        write!(text, "\napproximate     {}", said(approximation, index.graph_rows()))?;
    }
    for field in fields {
        write!(
            text,
            "\nfield           {}: {} strings or booleans, {} numbers",
            field.name, field.terms, field.numbers
        )?;
    }
    print(&text)
}
