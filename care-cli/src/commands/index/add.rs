//! `care index build` and `care index add`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::files::PartialFolder;
use care_core::index::{Addition, Changes, DiskIndexOptions, GraphOptions, IndexWriter, Record, VectorFormat};
use care_core::{Document, Error};
use care_encoders::AsymmetricEncoder;
use clap::ValueEnum;
use cmedteb::for_each_document;
use serde_json::{Map, Value, json};

use super::approximate::{check, link, said};
use super::shared::{CodesArg, document_tower};
use crate::embedding::Embedding;
use crate::model::{CacheArgs, PairArgs};
use crate::progress::Progress;
use crate::stderr::note;
use crate::stdout::print;

/// Documents that are embedded and written together.
const GROUP: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    documents: DocumentArgs,
    /// Dtype of the stored vectors
    #[arg(long, default_value = "f32")]
    vectors: VectorArg,
    /// Codes to store beside the vectors, for faster searches: int8, binary or both; empty for none
    #[arg(long, value_name = "CODES,..", value_delimiter = ',', default_value = "int8")]
    codes: Vec<CodesArg>,
    /// Build graphs for approximate searches, too, and measure what they lose against exact search
    #[arg(long)]
    approximate: bool,
    /// Queries by which the loss is measured; by default texts of the index, a poor substitute
    #[arg(long, value_name = "FILE", requires = "approximate")]
    queries: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    documents: DocumentArgs,
}

#[derive(clap::Args)]
struct DocumentArgs {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title` (.jsonl, .csv, .tsv, .parquet); all further
    /// fields become metadata
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// Print the numbers of documents as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum VectorArg {
    F32,
    F16,
}

impl VectorArg {
    pub(super) fn format(self) -> VectorFormat {
        match self {
            Self::F32 => VectorFormat::F32,
            Self::F16 => VectorFormat::F16,
        }
    }
}

pub(super) fn build(args: BuildArgs) -> Result<()> {
    let folder = &args.documents.index;
    if args.approximate {
        check()?;
    }
    let is_taken = || folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let taken = || format!("{} is not empty; add documents to an index with `care index add`", folder.display());
    if is_taken() {
        bail!(taken());
    }
    let count = check_corpus(&args.documents.corpus)?;
    let (pair, _) = args.documents.pair.open()?;
    let codes = args.codes.iter().filter_map(|codes| codes.codes());
    let options = DiskIndexOptions::default().with_vectors(args.vectors.format()).with_codes(codes);
    // The index has its name when it is complete.
    let partial = PartialFolder::create(folder)?;
    let tower = document_tower(&pair)?;
    let mut writer = IndexWriter::create(partial.path(), &tower, pair.document().embedding_dim(), &options)?;
    let changes = fill(writer.addition(&tower)?, &pair, &args.documents, count)?;
    if args.approximate {
        let built = link(&mut writer, &pair, &GraphOptions::default(), args.queries.as_deref())?;
        note!("{}", said(&built, writer.index().graph_rows()));
    }
    drop(writer);
    if !partial.commit_new()? {
        bail!(taken());
    }
    args.documents.report(changes)
}

pub(super) fn add(args: AddArgs) -> Result<()> {
    let args = args.documents;
    let mut writer = IndexWriter::open(&args.index)?;
    let count = check_corpus(&args.corpus)?;
    let (pair, _) = args.pair.open()?;
    let addition = writer.addition(&document_tower(&pair)?)?;
    let changes = fill(addition, &pair, &args, count)?;
    args.report(changes)
}

impl DocumentArgs {
    fn report(&self, changes: Changes) -> Result<()> {
        let Changes { added, replaced } = changes;
        note!("{added} documents added to {}, of which {replaced} replace one", self.index.display());
        if self.json {
            print(&json!({ "added": added, "replaced": replaced }).to_string())?;
        }
        Ok(())
    }
}

/// Reads a corpus to its end, so that a bad row is found before the work. Returns the number of documents.
fn check_corpus(corpus: &Path) -> Result<usize> {
    note!("reading {}", corpus.display());
    let mut count = 0;
    for_each_document(corpus, &mut |number, id, document, fields| {
        count += 1;
        record(id, &document, fields).check().map_err(|e| Error::line(corpus, number, &e).with_source(e))
    })?;
    if count == 0 {
        bail!("{}: the corpus is empty", corpus.display());
    }
    Ok(count)
}

/// The row of a document. A title is a field of the metadata.
fn record(id: String, document: &Document, mut fields: Map<String, Value>) -> Record {
    if !document.title().is_empty() {
        fields.insert("title".to_owned(), document.title().into());
    }
    fields.retain(|_, value| !value.is_null());
    let mut record = Record::new(id).with_text(document.text());
    record.metadata = fields;
    record
}

/// Embeds the documents group by group and makes them part of the index.
fn fill(mut addition: Addition<'_>, pair: &AsymmetricEncoder, args: &DocumentArgs, count: usize) -> Result<Changes> {
    let progress = Progress::start("embedding the corpus", Some(count), "documents");
    let (tower, store) = (pair.document(), args.cache.store(pair.document())?);
    let mut embedding = Embedding::start(tower, args.pair.model.batch_tokens, store, &args.corpus, progress);
    let (mut records, mut documents) = (Vec::new(), Vec::new());
    let mut embed = |records: &mut Vec<Record>, documents: &mut Vec<Document>| {
        addition.push(records, &embedding.embed(documents)?)?;
        records.clear();
        documents.clear();
        care_core::Result::Ok(())
    };
    for_each_document(&args.corpus, &mut |_, id, document, fields| {
        records.push(record(id, &document, fields));
        documents.push(document);
        if documents.len() == GROUP { embed(&mut records, &mut documents) } else { Ok(()) }
    })?;
    if !documents.is_empty() {
        embed(&mut records, &mut documents)?;
    }
    embedding.finish();
    Ok(addition.commit()?)
}
