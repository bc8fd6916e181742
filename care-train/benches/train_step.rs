//! Duration of a training step of stage 2, for comparison with `train_step_peer.py`.
//!
//! ```text
//! cargo bench --workspace --bench train_step
//! python3 care-train/benches/train_step_peer.py --threads 2
//! ```
//!
//! Each prints one JSON object per shape: the median step time in milliseconds, and tokens per second. Weights are
//! random. Both towers are trained, except for their token tables, with AdamW, gradient clipping and no dropout.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use care_core::{Instruction, Text};

use care_encoders::{AnyEncoder, AsymmetricEncoder, Tower, network_with_head, random_encoder};

use care_encoders::config::{BertConfig, EncoderConfig};

use care_encoders::head::{HeadConfig, Pooling};

use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
use care_train::{Source, StageConfig, StageKind, TowerTraining, Trainer, TrainingExample};

/// Rows of the token tables.
const VOCABULARY: usize = 3000;
const STEPS: usize = 7;
const WARMUP: usize = 2;

struct Shape {
    name: &'static str,
    width: usize,
    query_layers: usize,
    document_layers: usize,
    /// Queries per batch, and tokens per query.
    queries: [usize; 2],
    /// Documents per query, and tokens per document.
    documents: [usize; 2],
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "small-4-12",
        width: 384,
        query_layers: 4,
        document_layers: 12,
        queries: [16, 32],
        documents: [2, 128],
    },
    Shape {
        name: "base-12-12",
        width: 768,
        query_layers: 12,
        document_layers: 12,
        queries: [4, 32],
        documents: [2, 128],
    },
    Shape { name: "small-2-2", width: 384, query_layers: 2, document_layers: 2, queries: [32, 16], documents: [1, 64] },
];

fn tower<T: Text>(width: usize, layers: usize, tokens: usize) -> Tower<T, AnyEncoder> {
    let device = care_encoders::Device::Cpu.open().unwrap();
    let characters: String = ('\u{4e00}'..'\u{5200}').collect();
    let tokenizer = character_tokenizer([characters], VOCABULARY, TokenizerStyle::Bert, tokens).unwrap();
    let config = BertConfig::new(VOCABULARY, width, layers);
    let encoder = random_encoder(&EncoderConfig::Bert(config), 1, &device).unwrap();
    let network = network_with_head(encoder, HeadConfig::new(Pooling::Mean), 1, &device).unwrap();
    Tower::new(tokenizer, network, Instruction::default()).unwrap()
}

/// A text of `tokens` tokens, including the two that the tokenizer adds.
fn text(number: usize, tokens: usize) -> String {
    let character = |place: usize| char::from_u32(0x4e00 + ((7 * number + 13 * place) % 0x3ff) as u32).unwrap();
    (0..tokens - 2).map(character).collect()
}

fn main() {
    for shape in SHAPES {
        let [queries, query_tokens] = shape.queries;
        let [group_size, document_tokens] = shape.documents;
        let pair = AsymmetricEncoder::new(
            tower(shape.width, shape.query_layers, query_tokens),
            tower(shape.width, shape.document_layers, document_tokens),
        );
        let example = |n: usize| {
            let documents = |from: usize, to: usize| (from..to).map(|k| text(97 * n + k, document_tokens)).collect();
            TrainingExample::new(text(n, query_tokens), documents(1, 2), documents(2, 1 + group_size))
        };
        let sources = [Source::new("bench", (0..queries).map(example).collect()).unwrap()];
        let towers = TowerTraining { freeze_token_table: true, ..TowerTraining::default() };
        let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
            stage.epochs = STEPS + WARMUP;
            stage.batch_size = queries;
            stage.group_size = group_size;
            stage.query = towers.clone();
            stage.document = towers;
        });
        let stage = config.check().unwrap();
        let mut trainer = Trainer::new(pair.unwrap(), &stage, &sources, 1).unwrap();
        let (mut seconds, mut tokens) = (Vec::new(), 0);
        while let Some(report) = trainer.step().unwrap() {
            seconds.push(report.seconds);
            tokens = report.tokens;
        }
        let mut measured = seconds.split_off(WARMUP);
        measured.sort_by(f64::total_cmp);
        let median = measured[measured.len() / 2];
        let (name, rate) = (shape.name, tokens as f64 / median);
        println!(
            "{{\"engine\": \"care\", \"shape\": \"{name}\", \"tokens\": {tokens}, \"median_ms\": {:.1}, \"tokens_per_s\": {rate:.0}}}",
            1e3 * median
        );
    }
}
