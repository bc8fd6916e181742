//! `care data score`

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use care_core::manifest::Input;
use care_core::{Document, Embedder, Error, ErrorKind, Query, Reranker, Role};
use care_data::clean::{Item, Row, for_each_written_row};
use care_data::rows::{RowFormat, RowWriter, TrainingExample, for_each_usable_example};
use care_data::table::is_jsonl;
use serde_json::{Value, json};

use super::bad_rows::BadRowsArgs;
use super::score_journal::{Journal, RowScores};
use crate::commands::manifest::write_manifest;
use crate::model::{CacheArgs, Model, PairArgs};
use crate::progress::Progress;
use crate::reranker::{Loaded, RerankerArgs, RunArgs};
use crate::stderr::note;

/// The name of the lists that training and cleaning read if nothing else is said.
const SCORES: &str = "scores";
/// Texts of documents that are scored together: enough to sort them by length.
const GROUP: usize = 1024;

/// Adds a teacher's score to every positive and negative, for distillation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows in any of the forms (.jsonl, .csv, .tsv, each also .gz, or .parquet); several files are joined
    #[arg(required = true, value_name = "FILE")]
    rows: Vec<PathBuf>,
    #[command(flatten)]
    reranker: RerankerArgs,
    /// Score by the similarity of this pair of towers instead, with its saved settings
    #[arg(long, value_name = "DIR|ORG/NAME", required_unless_present = "reranker", conflicts_with = "reranker")]
    model: Option<String>,
    #[command(flatten)]
    place: RunArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Form of the output: flagembedding, triplet or n-tuple-N. Without it, rows in JSON Lines stay as they are but for
    /// the scores; others become flagembedding
    #[arg(long, value_name = "FORM")]
    format: Option<RowFormat>,
    /// Write the scores to `pos_NAME` and `neg_NAME`, beside those of other scorers; for rows that stay as they are
    #[arg(long, value_name = "NAME", default_value = SCORES, conflicts_with = "format")]
    name: String,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// The scored rows (.jsonl, .jsonl.gz or .parquet). Scores are kept in OUTPUT.scores.jsonl meanwhile, from which an
    /// interrupted run goes on
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    if args.format == Some(RowFormat::Tevatron) {
        bail!("the form tevatron has no scores: use flagembedding, triplet or n-tuple-N");
    }
    let stay = args.format.is_none() && args.rows.iter().chain([&args.output]).all(|path| is_jsonl(path));
    if !stay && args.name != SCORES {
        bail!("`--name` is for rows that stay as they are: read and write .jsonl or .jsonl.gz");
    }
    let format = args.format.unwrap_or(RowFormat::FlagEmbedding);
    let writer = RowWriter::create(&args.output, format)?;
    let inputs = args.rows.iter().map(|path| Input::of("rows", path)).collect::<care_core::Result<Vec<_>>>()?;
    let scorer = Scorer::open(&args)?;
    let read: Vec<&str> = inputs.iter().map(|input| input.file.sha256.as_str()).collect();
    let mut work = json!({ "rows": read, "scorer": scorer.fingerprint()? });
    if !stay {
        // Not all readers take the same rows.
        work["reader"] = "converted".into();
    }
    let journal = Journal::open(&args.output, &work)?;
    if journal.kept() > 0 {
        note!("{} rows were scored by an earlier run", journal.kept());
    }
    let mut bad = args.bad.collect();
    let progress = Progress::start("score", None, "rows");
    let mut work = Work {
        scorer: &scorer,
        name: &args.name,
        writer,
        journal,
        group: Vec::new(),
        documents: 0,
        done: Counts::default(),
    };
    let mut take = |row, written| {
        work.take(row, written)?;
        progress.set(work.done.rows);
        Ok(())
    };
    let mut skip = |error| bad.take(error);
    for path in &args.rows {
        if stay {
            for_each_written_row(path, &mut |row| take(texts(&row), Some(row)), &mut skip)?;
        } else {
            for_each_usable_example(path, &mut |_, row| take(row, None), &mut skip)?;
        }
    }
    work.score_group()?;
    progress.finish();
    let Work { writer, journal, done, .. } = work;
    if done.rows == 0 {
        bail!("no training rows");
    }
    let left_out = writer.left_out();
    let written = writer.finish()?;
    if left_out > 0 {
        note!("warning: {left_out} of {} rows have too few negatives for {format} and were left out", done.rows);
    }
    bad.report(&args.output)?;
    let counts = json!({
        "rows read": done.rows, "rows left out": left_out, "bad rows": bad.count(), "rows written": written,
        "positives": done.positives, "negatives": done.negatives,
        "negatives not below the lowest positive": done.above,
    });
    let format = if stay { "as it is".to_owned() } else { format.to_string() };
    let options = json!({ "format": format, "name": args.name, "scorer": scorer.settings() });
    write_manifest("data score", options, counts, inputs, &args.output)?;
    journal.remove();
    note!("{written} rows in {}", args.output.display());
    done.report();
    Ok(())
}

/// The texts of a row.
fn texts(row: &Row) -> TrainingExample {
    let texts = |items: &[Item]| items.iter().map(|item| item.text().to_owned()).collect();
    TrainingExample::new(row.query(), texts(row.positives()), texts(row.negatives()))
}

/// What was scored.
#[derive(Default)]
struct Counts {
    rows: usize,
    positives: usize,
    negatives: usize,
    /// Negatives that score at least as well as a positive of their row.
    above: usize,
    sums: [f64; 2],
}

impl Counts {
    fn add(&mut self, scores: &RowScores) {
        self.rows += 1;
        self.positives += scores.positives.len();
        self.negatives += scores.negatives.len();
        let lowest = scores.positives.iter().copied().fold(f32::INFINITY, f32::min);
        self.above += scores.negatives.iter().filter(|score| **score >= lowest).count();
        for (sum, scores) in self.sums.iter_mut().zip([&scores.positives, &scores.negatives]) {
            *sum += scores.iter().map(|score| f64::from(*score)).sum::<f64>();
        }
    }

    /// Says how far positives and negatives are apart.
    fn report(&self) {
        let mean = |sum: f64, count: usize| sum / count.max(1) as f64;
        note!("{} positives, mean score {:.4}", self.positives, mean(self.sums[0], self.positives));
        if self.negatives > 0 {
            let share = 100.0 * self.above as f64 / self.negatives as f64;
            note!("{} negatives, mean score {:.4}", self.negatives, mean(self.sums[1], self.negatives));
            note!("{} negatives ({share:.1} %) do not score below every positive of their row", self.above);
        }
    }
}

/// The rows on their way through the scorer.
struct Work<'a> {
    scorer: &'a Scorer,
    name: &'a str,
    writer: RowWriter,
    journal: Journal,
    /// Rows that are not scored yet; those that stay as they are, also as they are written.
    group: Vec<(TrainingExample, Option<Row>)>,
    /// Positives and negatives of the group.
    documents: usize,
    done: Counts,
}

impl Work<'_> {
    fn take(&mut self, row: TrainingExample, written: Option<Row>) -> care_core::Result<()> {
        if let Some(scores) = self.journal.next_kept(&row)? {
            return self.write(row, written, scores);
        }
        self.documents += row.positives.len() + row.negatives.len();
        self.group.push((row, written));
        if self.documents >= GROUP {
            self.score_group()?;
        }
        Ok(())
    }

    fn score_group(&mut self) -> care_core::Result<()> {
        let (rows, written): (Vec<_>, Vec<_>) = std::mem::take(&mut self.group).into_iter().unzip();
        self.documents = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let scores = self.scorer.score(&rows)?;
        self.journal.append(&scores)?;
        let scored = rows.into_iter().zip(written).zip(scores);
        scored.into_iter().try_for_each(|((row, written), scores)| self.write(row, written, scores))
    }

    fn write(&mut self, row: TrainingExample, written: Option<Row>, scores: RowScores) -> care_core::Result<()> {
        self.done.add(&scores);
        let Some(written) = written else {
            return self.writer.write(&row.with(|row| {
                row.positive_scores = scores.positives;
                row.negative_scores = scores.negatives;
            }));
        };
        let line = written.scored(self.name, &scores.positives, &scores.negatives);
        self.writer.write_json(&line.map_err(|problem| Error::new(ErrorKind::NonFinite, problem))?)
    }
}

/// What scores a document for a query.
enum Scorer {
    Reranker(Box<Loaded>),
    Pair(Box<Model>, Value),
}

impl Scorer {
    fn open(args: &Args) -> Result<Self> {
        if let Some(loaded) = args.reranker.open(&args.place)? {
            return Ok(Self::Reranker(Box::new(loaded)));
        }
        let name = args.model.as_deref().ok_or_else(|| anyhow!("--reranker or --model is required"))?;
        let (budget, device) = (args.place.batch_tokens.to_string(), args.place.device.to_string());
        let line = ["--model", name, "--batch-tokens", &budget, "--device", &device];
        let flags = [("--force-f16", args.place.force_f16), ("--ignore-custom-code", args.place.ignore_custom_code)];
        let set = flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag);
        let (pair, source) = PairArgs::alone(line.into_iter().chain(set))?.open()?;
        Ok(Self::Pair(Box::new(args.cache.model(pair)?), source))
    }

    /// Identifies everything that decides the scores.
    fn fingerprint(&self) -> Result<Value> {
        Ok(match self {
            Self::Reranker(loaded) => json!(loaded.reranker.fingerprint()?),
            Self::Pair(model, _) => {
                let pair = model.embedder();
                let keys = (pair.query_key(&Query::new("")), pair.document_key(&Document::new("")));
                json!([pair.fingerprint(Role::Query)?, pair.fingerprint(Role::Document)?, keys.0, keys.1])
            }
        })
    }

    fn settings(&self) -> Value {
        match self {
            Self::Reranker(loaded) => json!({ "reranker": loaded.settings }),
            Self::Pair(_, source) => json!({ "pair": source }),
        }
    }

    /// The scores of each row.
    fn score(&self, rows: &[TrainingExample]) -> care_core::Result<Vec<RowScores>> {
        let queries: Vec<Query> = rows.iter().map(|row| Query::new(row.query.as_str())).collect();
        let texts = |row: &TrainingExample| row.positives.iter().chain(&row.negatives).map(Document::new).collect();
        let documents: Vec<Vec<Document>> = rows.iter().map(texts).collect();
        let scores = match self {
            Self::Reranker(loaded) => {
                let of_row = queries.iter().zip(&documents);
                let pairs: Vec<(&Query, &Document)> = of_row
                    .flat_map(|(query, documents)| documents.iter().map(move |document| (query, document)))
                    .collect();
                loaded.reranker.score(&pairs)?
            }
            Self::Pair(model, _) => similarities(model.embedder(), &queries, &documents)?,
        };
        let mut scores = scores.into_iter();
        Ok(rows
            .iter()
            .map(|row| RowScores {
                positives: scores.by_ref().take(row.positives.len()).collect(),
                negatives: scores.by_ref().take(row.negatives.len()).collect(),
            })
            .collect())
    }
}

/// The dot product of each document with its query.
fn similarities(
    embedder: &dyn Embedder,
    queries: &[Query],
    documents: &[Vec<Document>],
) -> care_core::Result<Vec<f32>> {
    let of_queries = embedder.embed_queries(queries)?;
    let of_documents = embedder.embed_documents(&documents.concat())?;
    let rows = documents.iter().enumerate().flat_map(|(row, documents)| std::iter::repeat_n(row, documents.len()));
    Ok(rows.enumerate().map(|(place, row)| of_queries.dot(row, &of_documents, place)).collect())
}
