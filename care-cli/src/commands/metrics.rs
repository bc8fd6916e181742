//! `care metrics`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use care_eval::{Evaluator, Measure, Missing, Ties, read_qrels, read_run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Judgements: TREC, or BEIR TSV with its header
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
    /// Ranking: TREC, or JSON {query: {document: score}}
    #[arg(long, value_name = "FILE")]
    run: PathBuf,
    /// Comma-separated, such as ndcg@10,map@10,mrr@10,recall@100
    #[arg(long, value_delimiter = ',', required = true)]
    measures: Vec<Measure>,
    /// Also the values of every query
    #[arg(long)]
    per_query: bool,
    /// Judged queries that the run lacks: left out of the mean, or counted as zero
    #[arg(long, default_value = "drop", value_name = "drop|zero")]
    missing: Missing,
    /// Order of documents with equal scores: trec_eval, input_order, pessimistic or doc_id_ascending
    #[arg(long, default_value = "trec_eval")]
    ties: Ties,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let evaluator = Evaluator::new(args.measures).missing(args.missing).ties(args.ties);
    let mut evaluation = evaluator.evaluate(&read_qrels(&args.qrels)?, &read_run(&args.run)?)?;
    if !args.per_query {
        evaluation = evaluation.without_per_query();
    }
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &evaluation)?;
    writeln!(out)?;
    Ok(())
}
