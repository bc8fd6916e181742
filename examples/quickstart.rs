//! A pretrained asymmetric retriever on a new data set: as it comes, trained further in both stages, and with BM25.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! It needs no files and no network access: the pair is in `care-mini-zh`, the data set in `cmedteb`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use care_core::index::FlatIndex;
use care_core::{Embedder, Text};
use care_encoders::{AsymmetricEncoder, Device, EncoderOptions, Precision};
use care_eval::stats::bootstrap_interval;
use care_train::{Event, LossConfig, Source, StageConfig, StageKind, TrainingExample, train_stage};
use clap::Parser;
use cmedteb::{Evidence, Fusion, Outcome, Protocol, Task, mini};
use indicatif::{ProgressBar, ProgressStyle};

const SEED: u64 = 42;
const SAMPLES: usize = 10_000;

#[derive(Parser)]
struct Args {
    /// Device: cpu, wgpu or cuda:0; GPUs need the Cargo feature of the same name.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Folder for the trained pair; by default a temporary one.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let started = Instant::now();
    let device = args.device.open()?;
    let task = cmedteb::find("mini-retrieval")?;
    let mut table = Table::default();
    table.push("BM25 (character bigrams)", bm25(&task)?);

    // The pair is stored in int8; training and GPUs need floats.
    let floats = EncoderOptions::default().with_precision(Precision::F32);
    let pair = AsymmetricEncoder::open(care_mini_zh::folder()?, &floats, &floats, &device)?;
    let as_it_comes = table.push("care-mini-zh as it comes", evaluate(&task, &pair)?);
    table.push("  and BM25", hybrid(&task, &pair)?);

    // Stage 1: the document tower is frozen and teaches the query tower on unlabelled texts of the new domain.
    let pair = train(
        pair,
        "stage 1: query alignment",
        vec![Source::new("texts", texts())?],
        StageConfig::new(StageKind::QueryAlignment).with(|stage| {
            stage.epochs = 1;
            stage.batch_size = 64;
            stage.learning_rate = 1e-5;
        }),
    )?;
    let stage_1 = table.push("after stage 1", evaluate(&task, &pair)?);

    // Stage 2: both towers are trained on questions, answers and hard negatives. The settings of both stages were chosen on
    // the development questions; the table shows the test questions.
    let pair = train(
        pair,
        "stage 2: joint fine-tuning",
        vec![Source::new("questions", questions())?],
        StageConfig::new(StageKind::JointFinetuning).with(|stage| {
            stage.epochs = 3;
            stage.batch_size = 32;
            stage.group_size = 2;
            stage.learning_rate = 2e-5;
            stage.loss = Some(vec![LossConfig::info_nce(0.05)]);
        }),
    )?;
    let stage_2 = table.push("after both stages", evaluate(&task, &pair)?);
    table.push("  and BM25", hybrid(&task, &pair)?);

    eprintln!("trained and evaluated in {} s", started.elapsed().as_secs());
    println!("\n{} test questions against {} documents", mini::queries(mini::Split::Test).len(), mini::corpus().len());
    table.print();
    println!("\nWhat a stage adds to nDCG@10, 95 % interval");
    println!("stage 1  {}", table.difference(stage_1, as_it_comes));
    println!("stage 2  {}", table.difference(stage_2, stage_1));

    // Save the pair, load it again, and search.
    let temporary = tempfile::tempdir()?;
    let folder = args.output.unwrap_or_else(|| temporary.path().join("model"));
    pair.save(&folder)?;
    ask(
        &AsymmetricEncoder::load(&folder, &device)?,
        ["血压高的人吃饭要注意什么", "孩子发烧到39度怎么办", "晚上总是睡不着"],
    )
}

/// The built-in training questions with their answers and hard negatives.
fn questions() -> Vec<TrainingExample> {
    let rows = mini::training_examples().into_iter();
    rows.map(|row| TrainingExample::new(row.query, row.positives, row.negatives)).collect()
}

/// Unlabelled texts: training questions, documents and their sentences. Each is its own positive.
fn texts() -> Vec<TrainingExample> {
    let whole = mini::alignment_texts();
    let sentences = whole.iter().flat_map(|text| text.split_inclusive(['。', '；', '？'])).map(str::to_owned);
    let mut texts: Vec<String> =
        sentences.chain(whole.iter().cloned()).filter(|text| text.chars().count() > 4).collect();
    texts.sort();
    texts.dedup();
    texts.into_iter().map(|text| TrainingExample::new(text.clone(), vec![text], vec![])).collect()
}

fn train(
    pair: AsymmetricEncoder,
    name: &'static str,
    sources: Vec<Source>,
    stage: StageConfig,
) -> Result<AsymmetricEncoder> {
    let bar = progress(name);
    let pair = train_stage(pair, &stage.check()?, &sources, SEED, &mut |event| {
        if let Event::Step(step) = event {
            bar.set_length(step.total_steps as u64);
            bar.set_position(step.step as u64);
            bar.set_message(format!("loss {:.3}", step.loss));
        }
        ControlFlow::Continue(())
    })?;
    bar.finish();
    Ok(pair)
}

fn evaluate(task: &Task, pair: &AsymmetricEncoder) -> Result<Outcome> {
    Ok(cmedteb::evaluate(task, pair, &Protocol::default(), &mut |_| {})?)
}

fn bm25(task: &Task) -> Result<Outcome> {
    let task = task.as_retrieval().expect("mini-retrieval is a retrieval task");
    Ok(cmedteb::score_run(task, cmedteb::bm25(task, &Protocol::default())?, &Protocol::default())?)
}

/// BM25 and the pair, fused by their scores.
fn hybrid(task: &Task, pair: &AsymmetricEncoder) -> Result<Outcome> {
    let task = task.as_retrieval().expect("mini-retrieval is a retrieval task");
    let (fusion, protocol) = (Fusion::weighted(0.8)?, Protocol::default());
    Ok(cmedteb::evaluate_hybrid(task, pair, &fusion, &protocol, &mut |_| {})?)
}

/// The rows of the table, each with its nDCG@10 by question.
#[derive(Default)]
struct Table(Vec<(&'static str, Outcome, Vec<f64>)>);

impl Table {
    /// Appends a row and returns its number.
    fn push(&mut self, name: &'static str, outcome: Outcome) -> usize {
        let Evidence::Ranking { evaluation, .. } = &outcome.evidence else {
            unreachable!("the task is a retrieval task")
        };
        // The main measure is the first.
        let main = |scores: &care_eval::Scores| scores.iter().next().map(|(_, value)| value);
        let questions = evaluation.per_query.values().filter_map(main).collect();
        self.0.push((name, outcome, questions));
        self.0.len() - 1
    }

    /// Prints each row's scores, and its difference to the first row with a 95 % interval over the questions.
    fn print(&self) {
        println!("{:26} {:>8} {:>7} {:>11}  nDCG@10 over BM25, 95 % interval", "", "nDCG@10", "MRR@10", "recall@100");
        for (at, (name, outcome, _)) in self.0.iter().enumerate() {
            let score = |key| outcome.score(key).unwrap_or(f64::NAN);
            let [ndcg, mrr, recall] = ["ndcg_at_10", "mrr_at_10", "recall_at_100"].map(score);
            let over = if at == 0 { String::new() } else { self.difference(at, 0) };
            println!("{name:26} {ndcg:8.4} {mrr:7.4} {recall:11.4}  {over}");
        }
    }

    /// The mean difference of two rows with its 95 % interval over the questions.
    fn difference(&self, row: usize, other: usize) -> String {
        let questions = |row: usize| self.0[row].2.iter();
        let differences: Vec<f64> = questions(row).zip(questions(other)).map(|(row, other)| row - other).collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        let interval = bootstrap_interval(&differences, 0.95, SAMPLES, SEED);
        interval.map_or_else(String::new, |it| format!("{mean:+.4}, {:+.4} to {:+.4}", it.low, it.high))
    }
}

fn ask(pair: &AsymmetricEncoder, questions: [&str; 3]) -> Result<()> {
    let (ids, documents): (Vec<_>, Vec<_>) = mini::corpus().iter().cloned().unzip();
    let index = FlatIndex::new(pair.embed_documents(&documents)?);
    let found = index.search(&pair.embed_queries(&questions.map(Into::into))?, 2)?;
    println!("\nThe saved pair, loaded again, answers (a demonstration, not medical advice):");
    for (question, hits) in questions.iter().zip(found) {
        println!("{question}");
        for hit in hits {
            let text = documents[hit.index].content().chars().take(40).collect::<String>();
            println!("  {:.3}  {}  {text}", hit.score, ids[hit.index]);
        }
    }
    Ok(())
}

fn progress(name: &'static str) -> ProgressBar {
    let style = "{prefix:28} {wide_bar} {pos}/{len} {msg} {eta}";
    let bar = ProgressBar::new(0).with_prefix(name);
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar
}
