//! `care data generate`

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::manifest::Input;
use care_core::{Query, Text};
use care_data::rows::{RowFormat, RowWriter, TrainingExample};
use care_label::generate::{
    Agree, Filter, RoundTrip, Selection, Source, Trip, WrittenQuestion, answers, requests, round_trip, select,
    write_questions,
};
use care_label::judge::Judges;
use care_label::pair::write_pairs;
use care_label::{Journal, Prompt};
use cmedteb::{Corpus, RetrievalTask};
use serde_json::{Map, Value, json};

use crate::commands::label::collect::SystemArgs;
use crate::commands::label::judge::{Asked, ask};
use crate::commands::manifest::write_manifest;
use crate::stderr::note;

/// The prompt if the judges' file names none.
const PROMPT: &str = "query-generation";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Documents: rows with `_id` (or `id`), `text` and optionally `title` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// The models that write, their endpoints and the budget (.toml, as for judges); the prompt is query-generation, unless
    /// the file names one
    #[arg(long, value_name = "FILE")]
    judges: PathBuf,
    /// The answers, one line per call (.jsonl): what was answered is not asked again
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// Only write the requests, e.g. for `care label batch`
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Only estimate tokens and cost of the open requests
    #[arg(long)]
    estimate: bool,
    /// Go on with the answers there are, though requests are open or failed
    #[arg(long)]
    incomplete: bool,
    /// Leave out longer questions, in characters
    #[arg(long, value_name = "N", default_value_t = Filter::default().longest)]
    longest: usize,
    /// Leave out questions that are word by word a part of the document, from this many characters on
    #[arg(long, value_name = "N", default_value_t = Filter::default().copied)]
    copied: usize,
    #[command(flatten)]
    systems: SystemArgs,
    /// Keep a question if its document is among so many best ones
    #[arg(long, value_name = "N", default_value_t = RoundTrip::default().depth)]
    depth: usize,
    /// In how many systems: any or all
    #[arg(long, default_value = "any")]
    agree: Agree,
    /// Form of the rows: flagembedding or tevatron
    #[arg(long, value_name = "FORM", default_value = "flagembedding")]
    format: RowFormat,
    /// Write all usable questions, before they are checked by retrieval (.jsonl): other systems can rank them for --run
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// The training rows, without negatives (.jsonl, .jsonl.gz or .parquet)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let corpus = Corpus::open([&args.corpus])?;
    let documents = documents(&corpus)?;
    let judges = Judges::open_for(&args.judges, PROMPT)?;
    let prompt = Prompt::open(&judges.prompt)?;
    let requests = requests(&documents, &prompt)?;
    if let Some(path) = &args.requests {
        write_pairs(path, &requests)?;
        note!("{} requests in {}", requests.len(), path.display());
        return Ok(());
    }
    if !args.estimate {
        args.systems.require("the documents of the questions")?;
    }
    let mut journal = Journal::open(&args.journal)?;
    if let Some(remark) = journal.note() {
        note!("note: {remark}");
    }
    match ask(&requests, &judges, &prompt, &mut journal, args.estimate)? {
        Asked::Estimated => return Ok(()),
        Asked::Complete => {}
        Asked::Incomplete(problem) if args.incomplete => note!("warning: {problem}"),
        Asked::Incomplete(problem) => bail!("{problem}, or use --incomplete to go on with the answers there are"),
    }
    let answers = answers(&requests, &judges, &prompt, journal.path())?;
    let filter = Filter::default().with_longest(args.longest).with_copied(args.copied);
    let selection = select(&answers, &requests, &prompt, &filter)?;
    drop(requests);
    let mut counts = show(&selection, answers.len());
    if let Some(path) = &args.questions {
        write_questions(path, &selection.questions)?;
    }
    if selection.questions.is_empty() {
        bail!("no question can be used");
    }
    let trip = checked(&args, corpus, selection.questions)?;
    let rows = write_rows(&args, &documents, &trip.kept)?;
    for (system, found) in &trip.found {
        note!("{system}: {found} questions find their document among the {} best", args.depth);
        counts.insert(format!("found by {system}"), json!(found));
    }
    note!("{} questions are dropped, {rows} rows in {}", trip.lost.len(), args.output.display());
    counts.extend([("dropped by retrieval".to_owned(), json!(trip.lost.len())), ("rows".to_owned(), json!(rows))]);
    let mut inputs = vec![
        Input::of("corpus", &args.corpus)?,
        Input::of("judges", &args.judges)?,
        Input::of("answers", &args.journal)?,
    ];
    for path in args.systems.runs() {
        inputs.push(Input::of("run", path)?);
    }
    let options = json!({
        "prompt": prompt.hash(), "judges": judges.judges.iter().map(|judge| &judge.name).collect::<Vec<_>>(),
        "longest": args.longest, "copied": args.copied, "systems": args.systems.names(), "depth": args.depth,
        "agree": args.agree.to_string(), "format": args.format.to_string(),
    });
    write_manifest("data generate", options, Value::Object(counts), inputs, &args.output)
}

fn documents(corpus: &Corpus) -> Result<Vec<Source>> {
    let mut documents = Vec::with_capacity(corpus.len());
    let mut ids = corpus.ids().iter();
    corpus.visit(1024, &mut |group| {
        for (document, id) in group.iter().zip(&mut ids) {
            documents.push(Source { id: id.clone(), text: document.content().into_owned() });
        }
        Ok(())
    })?;
    Ok(documents)
}

/// Says what was written and left out, and counts it.
fn show(selection: &Selection, answers: usize) -> Map<String, Value> {
    let (written, usable) = (selection.written, selection.questions.len());
    note!(
        "{answers} answers with {written} questions, {} of them empty; {usable} can be used",
        selection.empty_answers
    );
    let mut counts = Map::new();
    counts.insert("answers".into(), json!(answers));
    counts.insert("empty answers".into(), json!(selection.empty_answers));
    counts.insert("questions written".into(), json!(written));
    counts.insert("questions shared by documents".into(), json!(selection.shared));
    for (reason, number) in &selection.rejected {
        note!("  {reason}: {number} left out");
        counts.insert(format!("left out: {reason}"), json!(number));
    }
    counts.insert("questions usable".into(), json!(usable));
    counts
}

/// The questions that find their document.
fn checked(args: &Args, corpus: Corpus, questions: Vec<WrittenQuestion>) -> Result<Trip> {
    let queries = questions.iter().map(|question| (question.id.clone(), Query::new(question.text.clone()))).collect();
    let task = RetrievalTask::unjudged("the questions", corpus, queries)?;
    let rankings = args.systems.rankings(&task, args.depth)?;
    let options = RoundTrip::default().with_depth(args.depth).with_agree(args.agree);
    Ok(round_trip(questions, &rankings, options)?)
}

fn write_rows(args: &Args, documents: &[Source], questions: &[WrittenQuestion]) -> Result<usize> {
    let texts: HashMap<&str, &str> =
        documents.iter().map(|document| (document.id.as_str(), document.text.as_str())).collect();
    let mut writer = RowWriter::create(&args.output, args.format)?;
    for question in questions {
        let positives = question.doc_ids.iter().filter_map(|id| texts.get(id.as_str())).map(|text| (*text).to_owned());
        let row = TrainingExample::new(question.text.clone(), positives.collect(), Vec::new()).with(|row| {
            row.query_id = Some(question.id.clone());
            row.positive_ids.clone_from(&question.doc_ids);
        });
        writer.write(&row)?;
    }
    Ok(writer.finish()?)
}
