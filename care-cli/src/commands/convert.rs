//! `care convert`

use std::path::PathBuf;

use anyhow::Result;
use care_encoders::AsymmetricEncoder;
use serde_json::json;

use crate::model::PairArgs;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Folder of the pair, which this program and sentence-transformers can load
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
    let provenance = json!({ "converted_from": source });
    pair.with_provenance(provenance).save(&args.output)?;
    note!("the pair is in {}", args.output.display());
    Ok(())
}
