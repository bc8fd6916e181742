//! `care index search`

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::index::{DiskIndex, DocumentTower, Filter, Record, SearchOptions};
use care_core::{Embeddings, Query};
use care_stores::{StoreSearch, VectorStore};
use serde_json::Value;

use super::selection::SelectionArgs;
use super::shared::document_tower;
use super::store::{Database, PlaceArgs};
use crate::asking::QueryArgs;
use crate::hits::{Answer, FormArgs, Found, documents};
use crate::model::PairArgs;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the index
    #[arg(long, value_name = "DIR", required_unless_present = "store", conflicts_with = "store")]
    index: Option<PathBuf>,
    /// Search a database that `care index export` filled, at --url under --name
    #[arg(long)]
    store: Option<Database>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// Number of documents per query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Consider only documents that fit: FIELD=VALUE (or !=, <, <=, >, >=), or a JSON object with the operators of MongoDB,
    /// e.g. '{"year": {"$gte": 2020}, "department": {"$in": ["内科", "外科"]}}'; may be repeated, and then all must fit
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Filter>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    pair: PairArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.query.check()?;
    let source = args.source()?;
    let form = args.form.form();
    let (pair, _) = args.pair.open()?;
    source.check_tower(&document_tower(&pair)?)?;
    let search = |query: &str| -> Result<String> {
        let vector = pair.query().embed(&[Query::new(query)], args.pair.model.batch_tokens)?;
        let hits = source.search(&vector, &args)?;
        let hits = hits.into_iter().zip(1..).map(|((score, record), rank)| found(rank, score, record)).collect();
        Answer { query_id: None, query, hits }.render(form)
    };
    args.query.answer(&documents(source.len()?), form, &search)
}

/// What is searched.
enum Source {
    Index(Box<DiskIndex>),
    Store(RefCell<Box<dyn VectorStore>>),
}

impl Source {
    fn len(&self) -> Result<usize> {
        match self {
            Self::Index(index) => Ok(index.len()),
            Self::Store(store) => Ok(store.borrow_mut().count()?),
        }
    }

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
                let mut search = StoreSearch::new(args.top_k as usize).with_approximate(args.selection.approximate);
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
            if self.selection.is_of_index() {
                bail!("--codes and --expansion are for an index; a database has its own (--approximate)");
            }
            return Ok(Source::Store(RefCell::new(self.place.open(database)?)));
        }
        if self.place.is_given() {
            bail!("--url and --name are of a database; name it by --store");
        }
        let index = DiskIndex::open(self.index.as_deref().unwrap_or_else(|| Path::new("")))?;
        warn_of_unknown_fields(&index, &self.filter)?;
        Ok(Source::Index(Box::new(index)))
    }

    fn options(&self) -> SearchOptions {
        let mut options = self.selection.options(self.top_k as usize);
        options.filter = (!self.filter.is_empty()).then(|| Filter::And(self.filter.clone()));
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
fn found(rank: usize, score: f32, record: Record) -> Found {
    let Record { id, text, mut metadata } = record;
    let title = match metadata.get("title") {
        Some(Value::String(title)) => title.clone(),
        _ => String::new(),
    };
    if !title.is_empty() {
        metadata.remove("title");
    }
    Found { rank, score, id, title, text, metadata, ..Found::default() }
}
