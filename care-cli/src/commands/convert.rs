//! `care convert`

use std::path::PathBuf;

use anyhow::Result;
use care_core::{Document, Query};
use care_encoders::{AsymmetricEncoder, load_tower};
use serde_json::json;

use crate::model::{PairArgs, locate};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// A separate model for the document tower
    #[arg(long, value_name = "DIR|ORG/NAME")]
    document_model: Option<String>,
    /// Folder of the pair, which this program and sentence-transformers can load
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    AsymmetricEncoder::check_target(&args.output)?;
    let [query_options, document_options] = args.pair.options();
    let (pair, mut source) = match &args.document_model {
        None => args.pair.open()?,
        Some(model) => {
            let (query, document, device) = (args.pair.model.locate()?, locate(model)?, args.pair.model.device()?);
            let pair = AsymmetricEncoder::new(
                load_tower::<Query>(&query.folder, &query_options, &device)?,
                load_tower::<Document>(&document.folder, &document_options, &device)?,
            )?;
            (pair, json!({ "query": query.source, "document": document.source }))
        }
    };
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
    eprintln!("the pair is in {}", args.output.display());
    Ok(())
}
