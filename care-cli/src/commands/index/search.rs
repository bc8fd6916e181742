//! `care index search`

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::Query;
use care_core::index::{DiskIndex, Filter, Hit, Record, SearchOptions};
use serde::Serialize;
use serde_json::{Map, Value};

use super::shared::{CodesArg, document_tower};
use crate::commands::search::{print, refusal, serve};
use crate::model::PairArgs;
use crate::stderr::note;

/// Characters of a text that are shown.
const SHOWN: usize = 160;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// A single query; by default queries are read from stdin, one per line
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
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
    /// Select candidates by the graphs of `care index approximate` and rescore them by their vectors: some documents are missed
    #[arg(long, conflicts_with = "codes")]
    approximate: bool,
    /// Candidates, with --approximate; by default as stored
    #[arg(long, value_name = "N", requires = "approximate")]
    expansion: Option<u32>,
    /// Print one line of JSON per query
    #[arg(long)]
    json: bool,
}

/// The output for a query as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    query: &'a str,
    hits: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    rank: usize,
    score: f32,
    _id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

pub(super) fn run(args: Args) -> Result<()> {
    let index = DiskIndex::open(&args.index)?;
    let options = args.options();
    warn_of_unknown_fields(&index, &args.filter)?;
    let (pair, _) = args.pair.open()?;
    index.check_tower(&document_tower(&pair)?)?;
    let search = |query: &str| -> Result<String> {
        if query.trim().is_empty() {
            bail!("the query is empty");
        }
        let vector = pair.query().embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let hits = index.search(&vector, &options)?;
        let found = hits.iter().flatten().zip(1..).map(|(hit, rank)| found(rank, hit, index.record(hit.index)?));
        let hits: Vec<Found> = found.collect::<Result<_>>()?;
        if args.json { Ok(serde_json::to_string(&Answer { query, hits })?) } else { readable(query, &hits) }
    };
    let say = |_, problem| {
        note!("error: {problem}");
        Ok(())
    };
    match &args.query {
        Some(query) => print(&search(query)?),
        None if args.json => serve(&search, &refusal),
        None => serve(&search, &say),
    }
}

impl Args {
    fn options(&self) -> SearchOptions {
        let mut options = SearchOptions::new(self.top_k as usize);
        options.filter = (!self.filter.is_empty()).then(|| Filter::And(self.filter.clone()));
        options.codes = self.codes.and_then(CodesArg::codes);
        options.approximate = self.approximate;
        options.expansion = self.expansion.map(|expansion| expansion as usize);
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

fn found(rank: usize, hit: &Hit, record: Record) -> Result<Found> {
    let Record { id, text, metadata } = record;
    Ok(Found { rank, score: hit.score, _id: id, text, metadata })
}

/// Hits for people: rank, score, id and title in a line, then the beginning of the text and the other fields.
fn readable(query: &str, hits: &[Found]) -> Result<String> {
    let mut text = format!("{query}: {} documents", hits.len());
    for Found { rank, score, _id: id, text: content, metadata } in hits {
        let title = metadata.get("title").and_then(Value::as_str).unwrap_or_default();
        write!(text, "\n{rank:>3}  {score:.4}  {id}  {title}")?;
        if let Some(content) = content {
            let shown: String = content.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
            let rest = if content.chars().nth(SHOWN).is_some() { " .." } else { "" };
            write!(text, "\n     {shown}{rest}")?;
        }
        let others: Vec<String> = metadata
            .iter()
            .filter(|(name, _)| *name != "title")
            .map(|(name, value)| {
                value.as_str().map_or_else(|| format!("{name}={value}"), |value| format!("{name}={value}"))
            })
            .collect();
        if !others.is_empty() {
            write!(text, "\n     {}", others.join("  "))?;
        }
    }
    Ok(text)
}
