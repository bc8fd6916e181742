//! `care metrics`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use care_eval::io::{read_qrels, read_run};
use care_eval::stats::{Interval, MOST_SAMPLES, bootstrap_interval};
use care_eval::{Evaluation, Evaluator, Measure, Missing, Ties};
use serde::Serialize;

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Judgements: TREC, BEIR TSV, or JSON {query: {document: grade}}
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
    /// Ranking: TREC, or JSON {query: {document: score}}
    #[arg(long, value_name = "FILE")]
    run: PathBuf,
    /// Comma-separated measures, e.g. ndcg@10,map@10,mrr@10,recall@100; map, mrr and ndcg without a cut-off are over the
    /// whole ranking
    #[arg(long, value_delimiter = ',', required = true)]
    measures: Vec<Measure>,
    /// Also print the values of every query
    #[arg(long)]
    per_query: bool,
    /// Judged queries that the ranking lacks: drop them from the mean, or count them as zero
    #[arg(long, default_value = "drop", value_name = "drop|zero")]
    missing: Missing,
    /// Order of documents with equal scores: trec_eval, input_order, pessimistic, doc_id_ascending or expected
    #[arg(long, default_value = "trec_eval")]
    ties: Ties,
    /// Remove the document with a query's own id from its ranking, for data whose queries are in the corpus
    #[arg(long)]
    ignore_identical_ids: bool,
    /// Also print a 95 % confidence interval of each mean, from this many bootstrap samples of the queries, at
    /// most a million
    #[arg(long, value_name = "SAMPLES", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=MOST_SAMPLES as u64))]
    bootstrap: u64,
    /// Seed for the samples
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// An evaluation, with the intervals of its means if requested.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    intervals: BTreeMap<String, Interval>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let evaluator = Evaluator::new(args.measures).missing(args.missing).ties(args.ties);
    let (qrels, mut run) = (read_qrels(&args.qrels)?, read_run(&args.run)?);
    if args.ignore_identical_ids {
        run = run.without_identical_ids();
    }
    let own = run.query_ids().filter(|query_id| run.score(query_id, query_id).is_some()).count();
    if own > 0 {
        note!(
            "warning: {own} queries retrieve a document with their own id; if it is the query itself, as in ArguAna, use \
             --ignore-identical-ids"
        );
    }
    let mut evaluation = evaluator.evaluate(&qrels, &run)?;
    for warning in evaluation.warnings() {
        note!("warning: {warning}");
    }
    let whole = evaluation.measures.iter().map(|(measure, _)| measure).filter(|measure| measure.depth(0).is_none());
    let whole: Vec<String> = whole.map(|measure| measure.to_string()).collect();
    if !whole.is_empty() {
        let longest = evaluation.longest_ranking;
        note!("note: over the whole ranking, of at most {longest} documents: {}", whole.join(", "));
    }
    let intervals = evaluation.measures.iter().filter_map(|(measure, _)| {
        let values: Vec<f64> = evaluation.per_query.values().filter_map(|scores| scores.get(measure)).collect();
        Some((measure.to_string(), bootstrap_interval(&values, 0.95, args.bootstrap as usize, args.seed)?))
    });
    let intervals = intervals.collect();
    if !args.per_query {
        evaluation = evaluation.without_per_query();
    }
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &Output { evaluation: &evaluation, intervals })?;
    writeln!(out)?;
    Ok(())
}
