//! Both stages of training from random weights: what the method does without a pretrained network.
//!
//! ```text
//! cargo run --release --example from_scratch
//! ```
//!
//! It needs no files and no network access: the data set is built into `cmedteb`. Its scores show that each stage adds to the
//! one before, not how good a retriever can be; for that, see the quickstart.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use care_core::index::FlatIndex;
use care_core::{Embedder, Instruction};
use care_encoders::config::{BertConfig, DecoderConfig, EncoderConfig};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
use care_encoders::{AsymmetricEncoder, Device, Tower, network_with_head, random_encoder};
use care_train::{Event, LossConfig, Source, StageConfig, StageKind, TrainingExample, train_stage};
use clap::Parser;
use cmedteb::{Outcome, Protocol, Task, mini};
use indicatif::{ProgressBar, ProgressStyle};

/// Dimension of the shared vector space.
const DIM: usize = 128;
const SEED: u64 = 42;

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
    let task = cmedteb::find("mini-retrieval")?;
    let mut table = Vec::new();
    table.push(("BM25 (character bigrams)", bm25(&task)?));

    let pair = untrained(args.device)?;
    table.push(("two towers, untrained", evaluate(&task, &pair)?));

    // A real document tower is a pretrained language model. Ours starts from random weights, so it is first trained
    // alone, in place of that pretraining.
    let pair = train(
        pair,
        "document tower",
        vec![Source::new("questions", rows(mini::training_examples()))?],
        StageConfig::new(StageKind::SymmetricDocument).with(|stage| {
            stage.epochs = 12;
            stage.learning_rate = 2e-3;
            stage.loss = Some(vec![LossConfig::info_nce(0.05)]);
        }),
    )?;
    table.push(("document tower in both roles", evaluate(&task, &symmetric(&pair)?)?));

    // Stage 1: the document tower is frozen and teaches the query tower on unlabelled texts.
    let pair = train(
        pair,
        "stage 1: query alignment",
        vec![Source::new("texts", texts())?],
        StageConfig::new(StageKind::QueryAlignment).with(|stage| {
            stage.epochs = 4;
            stage.batch_size = 64;
            stage.learning_rate = 2e-3;
        }),
    )?;
    table.push(("after stage 1", evaluate(&task, &pair)?));

    // Stage 2: both towers are trained on questions, answers and hard negatives. The settings of all stages were
    // chosen on the development questions; the table shows the test questions.
    let pair = train(
        pair,
        "stage 2: joint fine-tuning",
        vec![
            Source::new("questions", rows(mini::training_examples()))?,
            Source::new("titles", rows(mini::title_examples()))?,
        ],
        StageConfig::new(StageKind::JointFinetuning).with(|stage| {
            stage.epochs = 4;
            stage.batch_size = 64;
            stage.group_size = 2;
            stage.learning_rate = 1e-3;
            stage.loss = Some(vec![LossConfig::info_nce(0.1)]);
        }),
    )?;
    table.push(("after both stages", evaluate(&task, &pair)?));

    let (questions, documents) = (mini::queries(mini::Split::Test).len(), mini::corpus().len());
    eprintln!("trained and evaluated in {} s", started.elapsed().as_secs());
    println!("\n{questions} test questions against {documents} documents, best document first");
    println!("{:30} {:>8} {:>8} {:>11}", "", "nDCG@10", "MRR@10", "recall@100");
    for (name, outcome) in &table {
        let score = |key| outcome.score(key).unwrap_or(f64::NAN);
        println!("{name:30} {:8.4} {:8.4} {:11.4}", score("ndcg_at_10"), score("mrr_at_10"), score("recall_at_100"));
    }

    // Save the pair, load it again, and search.
    let temporary = tempfile::tempdir()?;
    let folder = args.output.unwrap_or_else(|| temporary.path().join("model"));
    pair.save(&folder)?;
    ask(
        &AsymmetricEncoder::load(&folder, &args.device.open()?)?,
        ["血压高的人吃饭要注意什么", "孩子发烧到39度怎么办", "晚上总是睡不着"],
    )
}

/// A small BERT for queries and a wider Qwen3-style decoder for documents, with random weights.
///
/// CARE uses CLS and last-token pooling in its pretrained towers. Towers that start from random weights converge
/// faster with mean pooling, so these two use that.
fn untrained(device: Device) -> Result<AsymmetricEncoder> {
    let device = device.open()?;
    let known = || texts().into_iter().map(|example| example.query);

    let tokenizer = character_tokenizer(known(), 3000, TokenizerStyle::Bert, 96)?;
    let mut config = BertConfig::new(3000, DIM, 2);
    config.num_attention_heads = 4;
    config.intermediate_size = 256;
    config.initializer_range = 0.05;
    let encoder = random_encoder(&EncoderConfig::Bert(config), SEED, &device)?;
    let network = network_with_head(encoder, HeadConfig::new(Pooling::Mean), SEED, &device)?;
    let query = Tower::new(tokenizer, network, Instruction::default())?;

    let tokenizer = character_tokenizer(known(), 3000, TokenizerStyle::EndOfText, 96)?;
    let mut config = DecoderConfig::new(3000, 192, 2);
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 48;
    config.intermediate_size = 384;
    config.initializer_range = 0.05;
    let encoder = random_encoder(&EncoderConfig::Decoder(config), SEED, &device)?;
    let network = network_with_head(encoder, HeadConfig::new(Pooling::Mean).with_dim(DIM), SEED, &device)?;
    let document = Tower::new(tokenizer, network, Instruction::default())?;

    Ok(AsymmetricEncoder::new(query, document)?)
}

/// The document tower encodes queries too: accurate, but slow at query time.
fn symmetric(pair: &AsymmetricEncoder) -> Result<AsymmetricEncoder> {
    let document = pair.document().clone();
    let query = Tower::new(document.tokenizer().clone(), document.network().clone(), Instruction::default())?;
    Ok(AsymmetricEncoder::new(query, document)?)
}

/// The built-in rows as training rows: question, answers, hard negatives.
fn rows(examples: Vec<mini::TrainingExample>) -> Vec<TrainingExample> {
    examples.into_iter().map(|row| TrainingExample::new(row.query, row.positives, row.negatives)).collect()
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
    let bar = progress("evaluating");
    let outcome = cmedteb::evaluate(task, pair, &Protocol::default(), &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.encoded as u64);
    })?;
    bar.finish_and_clear();
    Ok(outcome)
}

fn bm25(task: &Task) -> Result<Outcome> {
    let task = task.as_retrieval().expect("mini-retrieval is a retrieval task");
    Ok(cmedteb::score_run(task, cmedteb::bm25(task, &Protocol::default())?, &Protocol::default())?)
}

fn ask(pair: &AsymmetricEncoder, questions: [&str; 3]) -> Result<()> {
    let (ids, documents): (Vec<_>, Vec<_>) = mini::corpus().iter().cloned().unzip();
    let index = FlatIndex::new(pair.embed_documents(&documents)?);
    let found = index.search(&pair.embed_queries(&questions.map(Into::into))?, 2)?;
    println!("\nThe saved pair, loaded again, answers (a demonstration, not medical advice):");
    for (question, hits) in questions.iter().zip(found) {
        println!("{question}");
        for hit in hits {
            let text = care_core::Text::content(&documents[hit.index]).chars().take(40).collect::<String>();
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
