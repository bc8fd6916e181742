//! Duration and memory of a training step of stage 2, for comparison with `train_step_peer.py`.
//!
//! ```text
//! cargo bench --workspace --bench train_step -- [device=cpu] [SHAPE..]
//! python3 care-train/benches/train_step_peer.py turns [SHAPE..]
//! ```
//!
//! Prints one JSON object per shape: the median step time in milliseconds, and tokens per second. Weights are
//! random; the optimizer is AdamW with gradient clipping. The script runs this benchmark and PyTorch in turns, each shape in
//! a process of its own, and prints the ratios of time and of peak memory.
//!
//! With `processes=N`, one shape is trained by N processes, each with the threads that `RAYON_NUM_THREADS` names; the
//! output then has the bytes that the first process sends per step.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::Arc;

use care_core::{Instruction, Text};
use care_encoders::config::{BertConfig, DecoderConfig, DecoderFamily, EncoderConfig};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::lora::LoraConfig;
use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
use care_encoders::{AnyEncoder, AsymmetricEncoder, Device, Tower, network_with_head, random_encoder};
use care_train::{
    Collective, Source, StageConfig, StageKind, TcpGroup, Timeouts, TowerTraining, TrainMode, Trainer, TrainingExample,
};

/// Rows of the token tables, unless a shape has its own number.
const VOCABULARY: usize = 3000;
const STEPS: usize = 7;
const WARMUP: usize = 2;

/// What is trained, and on how much text.
struct Shape {
    name: &'static str,
    width: usize,
    query_layers: usize,
    document: Document,
    /// Queries per batch, and tokens per query.
    queries: [usize; 2],
    /// Documents per query, and tokens per document.
    documents: [usize; 2],
    gradient_checkpointing: bool,
    grad_cache: Option<usize>,
    /// Rows of the query tower's token table, if it is trained.
    table: Option<usize>,
}

/// The document tower.
enum Document {
    /// A BERT of the query tower's width with so many layers, all weights trained.
    Bert(usize),
    /// A decoder of the shape of SmolLM2-135M, with a LoRA adapter.
    Lora,
}

const PLAIN: Shape = Shape {
    name: "",
    width: 384,
    query_layers: 4,
    document: Document::Bert(12),
    queries: [16, 32],
    documents: [2, 128],
    gradient_checkpointing: false,
    grad_cache: None,
    table: None,
};

const SHAPES: [Shape; 8] = [
    Shape { name: "small-4-12", ..PLAIN },
    Shape { name: "cached-4-12", queries: [64, 32], documents: [1, 128], grad_cache: Some(16), ..PLAIN },
    Shape { name: "base-12-12", width: 768, query_layers: 12, queries: [4, 32], ..PLAIN },
    Shape {
        name: "small-2-2",
        query_layers: 2,
        document: Document::Bert(2),
        queries: [32, 16],
        documents: [1, 64],
        ..PLAIN
    },
    Shape { name: "lora-135m", query_layers: 2, document: Document::Lora, queries: [4, 32], ..PLAIN },
    Shape { name: "long-4-12", queries: [16, 32], documents: [2, 512], ..PLAIN },
    Shape { name: "long-4-12-checkpointed", documents: [2, 512], gradient_checkpointing: true, ..PLAIN },
    Shape {
        name: "table-2-2",
        query_layers: 2,
        document: Document::Bert(2),
        queries: [32, 16],
        documents: [1, 64],
        table: Some(250_002),
        ..PLAIN
    },
];

fn tower<T: Text>(
    config: &EncoderConfig,
    pooling: Pooling,
    [dim, tokens]: [usize; 2],
    device: Device,
) -> Tower<T, AnyEncoder> {
    let device = device.open().unwrap();
    let characters: String = ('\u{4e00}'..'\u{5200}').collect();
    let tokenizer = character_tokenizer([characters], VOCABULARY, TokenizerStyle::Bert, tokens).unwrap();
    let encoder = random_encoder(config, 1, &device).unwrap();
    let network = network_with_head(encoder, HeadConfig::new(pooling).with_dim(dim), 1, &device).unwrap();
    Tower::new(tokenizer, network, Instruction::default()).unwrap()
}

fn bert(vocabulary: usize, width: usize, layers: usize) -> EncoderConfig {
    let mut config = BertConfig::new(vocabulary, width, layers);
    config.hidden_dropout_prob = 0.0;
    EncoderConfig::Bert(config)
}

fn smollm2() -> EncoderConfig {
    let mut config = DecoderConfig::new(VOCABULARY, 576, 30);
    config.model_type = DecoderFamily::Llama;
    config.num_attention_heads = 9;
    config.num_key_value_heads = 3;
    config.intermediate_size = 1536;
    EncoderConfig::Decoder(config)
}

/// A text of `tokens` tokens, including the two that the tokenizer adds.
fn text(number: usize, tokens: usize) -> String {
    let character = |place: usize| char::from_u32(0x4e00 + ((7 * number + 13 * place) % 0x3ff) as u32).unwrap();
    (0..tokens - 2).map(character).collect()
}

fn measure(shape: &Shape, device: Device, group: Option<&Arc<TcpGroup>>) {
    let [queries, query_tokens] = shape.queries;
    let [group_size, document_tokens] = shape.documents;
    let width = shape.width;
    let (document, pooling) = match shape.document {
        Document::Bert(layers) => (bert(VOCABULARY, width, layers), Pooling::Mean),
        Document::Lora => (smollm2(), Pooling::LastToken),
    };
    let query = bert(shape.table.unwrap_or(VOCABULARY), width, shape.query_layers);
    let pair = AsymmetricEncoder::new(
        tower(&query, Pooling::Mean, [width, query_tokens], device),
        tower(&document, pooling, [width, document_tokens], device),
    );
    let example = |n: usize| {
        let documents = |from: usize, to: usize| (from..to).map(|k| text(97 * n + k, document_tokens)).collect();
        TrainingExample::new(text(n, query_tokens), documents(1, 2), documents(2, 1 + group_size))
    };
    let sources = [Source::new("bench", (0..queries).map(example).collect()).unwrap()];
    let whole = |freeze_token_table| TowerTraining { freeze_token_table, ..TowerTraining::default() };
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.epochs = STEPS + WARMUP;
        stage.batch_size = queries;
        stage.group_size = group_size;
        stage.gradient_checkpointing = shape.gradient_checkpointing;
        stage.grad_cache = shape.grad_cache;
        stage.query = whole(shape.table.is_none());
        stage.document = match shape.document {
            Document::Bert(_) => whole(true),
            Document::Lora => {
                let lora = LoraConfig::reference().with(|lora| lora.dropout = 0.0);
                TowerTraining { train: Some(TrainMode::Lora), lora: Some(lora), ..TowerTraining::default() }
            }
        };
    });
    let stage = config.check().unwrap();
    let mut trainer = Trainer::new(pair.unwrap(), &stage, &sources, 1).unwrap();
    if let Some(group) = group {
        trainer = trainer.with_collective(Arc::clone(group) as Arc<dyn Collective>).unwrap();
    }
    let sent = || group.map_or(0, |group| group.bytes_sent());
    let before = sent();
    let (mut seconds, mut tokens) = (Vec::new(), 0);
    while let Some(report) = trainer.step().unwrap() {
        seconds.push(report.seconds);
        tokens = report.tokens;
    }
    let mut measured = seconds.split_off(WARMUP);
    measured.sort_by(f64::total_cmp);
    let median = measured[measured.len() / 2];
    let (name, rate) = (shape.name, tokens as f64 / median);
    let shared = group.map_or_else(String::new, |group| {
        let bytes = (sent() - before) / (STEPS + WARMUP) as u64;
        format!(", \"processes\": {}, \"bytes_per_step\": {bytes}", group.world())
    });
    if group.is_none_or(|group| group.rank() == 0) {
        println!(
            "{{\"engine\": \"care\", \"shape\": \"{name}\", \"tokens\": {tokens}, \"median_ms\": {:.1}, \"tokens_per_s\": {rate:.0}{shared}}}",
            1e3 * median
        );
    }
}

/// Trains a shape with `processes` processes, of which this is the first, or with those that started it.
fn measure_together(shape: &Shape, processes: usize) {
    let (rank, port) = (std::env::var("RANK"), std::env::var("MASTER_PORT"));
    if let (Ok(rank), Ok(port)) = (rank, port) {
        let group = TcpGroup::join(&format!("127.0.0.1:{port}"), rank.parse().unwrap(), processes, Timeouts::default());
        return measure(shape, Device::Cpu, Some(&Arc::new(group.unwrap())));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let start = |rank: usize| {
        let arguments = [shape.name.to_owned(), format!("processes={processes}")];
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).env("RANK", rank.to_string()).env("MASTER_PORT", &port).spawn().unwrap()
    };
    let others: Vec<Child> = (1..processes).map(start).collect();
    let group = TcpGroup::host(&listener, processes, Timeouts::default(), &mut || Ok(())).unwrap();
    measure(shape, Device::Cpu, Some(&Arc::new(group)));
    others.into_iter().for_each(|mut other| assert!(other.wait().unwrap().success()));
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (options, named): (Vec<String>, Vec<String>) = named.into_iter().partition(|argument| argument.contains('='));
    if let Some(processes) = options.iter().find_map(|option| option.strip_prefix("processes=")) {
        let processes = processes.parse().unwrap();
        let shape = SHAPES.iter().find(|shape| named.iter().any(|name| name == shape.name)).unwrap();
        return measure_together(shape, processes);
    }
    let device = options.iter().find_map(|option| option.strip_prefix("device=")?.parse().ok()).unwrap_or(Device::Cpu);
    let wanted = |shape: &&Shape| named.is_empty() || named.iter().any(|name| name == shape.name);
    SHAPES.iter().filter(wanted).for_each(|shape| measure(shape, device, None));
}
