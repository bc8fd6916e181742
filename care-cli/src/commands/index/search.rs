//! `care index search`

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::index::{DiskIndex, DocumentTower, Filter, Record, SearchOptions};
use care_core::{Embeddings, Query};
use care_stores::{StoreSearch, VectorStore};
use serde::Serialize;
use serde_json::{Map, Value};

use super::shared::{CodesArg, document_tower};
use super::store::{Database, PlaceArgs};
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
    #[arg(long, value_name = "DIR", required_unless_present = "store", conflicts_with = "store")]
    index: Option<PathBuf>,
    /// Search a database that `care index export` filled, at --url under --name
    #[arg(long)]
    store: Option<Database>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Let the database use its approximate index, which may miss documents
    #[arg(long, requires = "store")]
    approximate: bool,
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
    #[arg(long, conflicts_with = "store")]
    codes: Option<CodesArg>,
    /// Candidates per returned document, with --codes; by default 4 for int8 and 20 for binary
    #[arg(long, value_name = "N", requires = "codes")]
    oversampling: Option<u32>,
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
    let source = args.source()?;
    let (pair, _) = args.pair.open()?;
    source.check_tower(&document_tower(&pair)?)?;
    let search = |query: &str| -> Result<String> {
        if query.trim().is_empty() {
            bail!("the query is empty");
        }
        let vector = pair.query().embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let hits = source.search(&vector, &args)?;
        let hits: Vec<Found> =
            hits.into_iter().zip(1..).map(|((score, record), rank)| found(rank, score, record)).collect();
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

/// What is searched.
enum Source {
    Index(DiskIndex),
    Store(RefCell<Box<dyn VectorStore>>),
}

impl Source {
    fn check_tower(&self, tower: &DocumentTower) -> Result<()> {
        match self {
            Self::Index(index) => Ok(index.check_tower(tower)?),
            Self::Store(store) => {
                let store = store.borrow();
                Ok(store.tower().check(store.name(), tower)?)
            }
        }
    }

    /// The best documents of a query and their scores.
    fn search(&self, query: &Embeddings, args: &Args) -> Result<Vec<(f32, Record)>> {
        match self {
            Self::Index(index) => {
                let hits = index.search(query, &args.options())?;
                hits.iter().flatten().map(|hit| Ok((hit.score, index.record(hit.index)?))).collect()
            }
            Self::Store(store) => {
                let mut search = StoreSearch::new(args.top_k as usize).with_approximate(args.approximate);
                search.filter = args.options().filter;
                let found = store.borrow_mut().search(query, &search)?;
                Ok(found.into_iter().flatten().map(|found| (found.score, found.record)).collect())
            }
        }
    }
}

impl Args {
    fn source(&self) -> Result<Source> {
        if let Some(database) = self.store {
            return Ok(Source::Store(RefCell::new(self.place.open(database)?)));
        }
        if self.place.is_given() {
            bail!("--url and --name are of a database; name it by --store");
        }
        let index = DiskIndex::open(self.index.as_deref().unwrap_or_else(|| Path::new("")))?;
        warn_of_unknown_fields(&index, &self.filter)?;
        Ok(Source::Index(index))
    }

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

fn found(rank: usize, score: f32, record: Record) -> Found {
    let Record { id, text, metadata } = record;
    Found { rank, score, _id: id, text, metadata }
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
