//! `care convert`

use std::path::{Path, PathBuf};

use anyhow::Result;
use care_core::files::is_hub_name;
use care_encoders::AsymmetricEncoder;
use serde_json::{Value, json};

use crate::model::PairArgs;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Folder of the pair, which this program and, unless it is in int8, sentence-transformers can load
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    AsymmetricEncoder::check_target(&args.output)?;
    let [query_options, document_options] = args.pair.options();
    let (pair, mut source) = args.pair.open()?;
    if !pair.provenance().is_null() {
        source["provenance"] = pair.provenance().clone();
    }
    for (name, options) in [("query_adapter", query_options), ("document_adapter", document_options)] {
        if let Some(adapter) = options.adapter {
            source[name] = json!(adapter);
        }
    }
    let card = format!(
        "{}\n## Origin\n\nConverted by {} {} from {}.\n",
        pair.card_head(),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        origin(&source)
    );
    let provenance = json!({ "converted_from": source });
    pair.with_provenance(provenance).with_card(card).save(&args.output)?;
    note!("the pair is in {}", args.output.display());
    Ok(())
}

/// Where the towers come from, for readers elsewhere: folders of this machine by their last name only.
fn origin(source: &Value) -> String {
    let model = |source: &Value| {
        let name = source["model"].as_str().unwrap_or_default();
        match source["commit"].as_str() {
            Some(commit) => format!("`{name}` (commit {commit})"),
            None if is_hub_name(name) && !Path::new(name).is_absolute() => format!("`{name}`"),
            None => format!("`{}`", Path::new(name).file_name().unwrap_or_default().to_string_lossy()),
        }
    };
    match source.get("query") {
        Some(query) => format!("{} for queries and {} for documents", model(query), model(&source["document"])),
        None => model(source),
    }
}
