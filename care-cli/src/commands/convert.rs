//! `care convert`

use std::path::PathBuf;

use anyhow::Result;
use care_core::{Document, Query};
use care_encoders::{AsymmetricEncoder, load_tower};
use serde_json::json;

use crate::model::{ModelArgs, RoleArgs, locate, open};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    roles: RoleArgs,
    /// Another model for the document tower
    #[arg(long, value_name = "DIR|ORG/NAME")]
    document_model: Option<String>,
    /// Folder of the pair: this program reads it, and sentence-transformers
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    AsymmetricEncoder::check_target(&args.output)?;
    let (pair, provenance) = match &args.document_model {
        None => {
            let (pair, mut source) = open(&args.model, &args.roles)?;
            if !pair.provenance().is_null() {
                source["provenance"] = pair.provenance().clone();
            }
            (pair, json!({ "converted_from": source }))
        }
        Some(model) => {
            let [query_options, document_options] = args.roles.options(&args.model);
            let (query, document, device) = (args.model.locate()?, locate(model)?, args.model.device()?);
            let pair = AsymmetricEncoder::new(
                load_tower::<Query>(&query.folder, &query_options, &device)?,
                load_tower::<Document>(&document.folder, &document_options, &device)?,
            )?;
            (pair, json!({ "converted_from": { "query": query.source, "document": document.source } }))
        }
    };
    pair.with_provenance(provenance).save(&args.output)?;
    eprintln!("the pair is in {}", args.output.display());
    Ok(())
}
