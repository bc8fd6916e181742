//! `care index search`

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use care_core::Query;
use care_core::index::{DiskIndex, Filter, Hit, Record, SearchOptions};
use serde_json::Value;

use super::shared::{CodesArg, document_tower};
use crate::asking::QueryArgs;
use crate::hits::{Answer, FormArgs, Found, documents};
use crate::model::PairArgs;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    #[command(flatten)]
    query: QueryArgs,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Consider only documents that fit: FIELD=VALUE (or !=, <, <=, >, >=), or a JSON object with the operators of MongoDB,
    /// e.g. '{"year": {"$gte": 2020}, "department": {"$in": ["内科", "外科"]}}'; may be repeated, and then all must fit
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Select candidates by these codes and rescore them by their vectors; by default every vector is scored
    #[arg(long)]
    codes: Option<CodesArg>,
    /// Candidates per returned document, with --codes; by default 4 for int8 and 20 for binary
    #[arg(long, value_name = "N", requires = "codes")]
    oversampling: Option<u32>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    pair: PairArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.query.check()?;
    let index = DiskIndex::open(&args.index)?;
    let (form, options) = (args.form.form(), args.options());
    warn_of_unknown_fields(&index, &args.filter)?;
    let (pair, _) = args.pair.open()?;
    index.check_tower(&document_tower(&pair)?)?;
    let search = |query: &str| -> Result<String> {
        let vector = pair.query().embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let hits = index.search(&vector, &options)?;
        let found = hits.iter().flatten().zip(1..).map(|(hit, rank)| Ok(found(rank, hit, index.record(hit.index)?)));
        Answer { query_id: None, query, hits: found.collect::<Result<_>>()? }.render(form)
    };
    args.query.answer(&documents(index.len()), form, &search)
}

impl Args {
    fn options(&self) -> SearchOptions {
        let mut options = SearchOptions::new(self.top_k as usize);
        options.filter = (!self.filter.is_empty()).then(|| Filter::And(self.filter.clone()));
        options.codes = self.codes.and_then(CodesArg::codes);
        options.oversampling = self.oversampling.map(|factor| factor as usize);
        options
    }
}

/// Names fields of a filter that no document has: they may be misspelt.
fn warn_of_unknown_fields(index: &DiskIndex, filters: &[Filter]) -> Result<()> {
    let fields = index.fields()?;
    let asked: BTreeSet<&str> = filters.iter().flat_map(Filter::fields).collect();
    for name in asked.into_iter().filter(|name| fields.iter().all(|field| field.name != *name)) {
        let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        note!("warning: no document has the field `{name}`; fields: {}", known.join(", "));
    }
    Ok(())
}

/// A row as a hit. Its title is a field of the metadata in the index, as a filter sees it.
fn found(rank: usize, hit: &Hit, record: Record) -> Found {
    let Record { id, text, mut metadata } = record;
    let title = match metadata.get("title") {
        Some(Value::String(title)) => title.clone(),
        _ => String::new(),
    };
    if !title.is_empty() {
        metadata.remove("title");
    }
    Found { rank, score: hit.score, id, title, text, metadata, ..Found::default() }
}
