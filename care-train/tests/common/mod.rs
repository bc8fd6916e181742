//! Small towers and texts for tests.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

use care_core::{Instruction, Text};
use care_encoders::config::{BertConfig, DecoderConfig, EncoderConfig};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::tokenize::{Tokenizer, TokenizerStyle, character_tokenizer};
use care_encoders::{AnyEncoder, AsymmetricEncoder, Device, Tower, network_with_head, random_encoder};
use care_train::TrainingExample;
/// A row of training data.
pub type Row = TrainingExample;

/// Questions and answers that share the characters of their subject.
pub fn examples() -> Vec<TrainingExample> {
    let subjects = ["头痛", "发烧", "咳嗽", "腹泻", "皮疹", "失眠", "牙疼", "耳鸣", "便秘", "鼻炎", "痛风", "贫血"];
    let answer = |subject: &str| format!("{subject}的处理：多休息，必要时就医。");
    subjects
        .iter()
        .enumerate()
        .map(|(index, subject)| {
            let negatives = vec![answer(subjects[(index + 1) % 12]), answer(subjects[(index + 5) % 12])];
            TrainingExample::new(format!("{subject}怎么办"), vec![answer(subject)], negatives)
        })
        .collect()
}

fn tower<T: Text>(config: EncoderConfig, tokenizer: Tokenizer, head: HeadConfig, seed: u64) -> Tower<T, AnyEncoder> {
    let device = Device::Cpu.open().unwrap();
    let encoder = random_encoder(&config, seed, &device).unwrap();
    let network = network_with_head(encoder, head, seed, &device).unwrap();
    Tower::new(tokenizer, network, Instruction::default()).unwrap()
}

/// A BERT-style query tower and a Qwen3-style document tower of another hidden size.
pub fn pair(dropout: f64) -> AsymmetricEncoder {
    pair_of_size(24, dropout)
}

/// A pair whose document tower has hidden states of this size.
pub fn pair_of_size(document_size: usize, dropout: f64) -> AsymmetricEncoder {
    let texts: Vec<String> =
        examples().into_iter().flat_map(|example| [example.query, example.positives[0].clone()]).collect();
    let tokenizer = |style| character_tokenizer(&texts, 80, style, 24).unwrap();
    let mut bert = BertConfig::new(80, 16, 1);
    bert.num_attention_heads = 2;
    bert.hidden_dropout_prob = dropout;
    bert.initializer_range = 0.1;
    let mut qwen = DecoderConfig::new(80, document_size, 1);
    qwen.head_dim = 8;
    qwen.initializer_range = 0.1;
    AsymmetricEncoder::new(
        tower(EncoderConfig::Bert(bert), tokenizer(TokenizerStyle::Bert), HeadConfig::new(Pooling::Cls), 1),
        tower(
            EncoderConfig::Decoder(qwen),
            tokenizer(TokenizerStyle::EndOfText),
            HeadConfig::new(Pooling::LastToken).with_dim(16),
            2,
        ),
    )
    .unwrap()
}

/// A retrieval task in BEIR layout: the examples' questions and answers.
pub fn dev_set(folder: &std::path::Path) {
    let lines = |row: &dyn Fn(usize, &TrainingExample) -> String| {
        examples().iter().enumerate().map(|(n, example)| row(n, example) + "\n").collect::<String>()
    };
    std::fs::create_dir_all(folder.join("qrels")).unwrap();
    let write = |name: &str, content: String| std::fs::write(folder.join(name), content).unwrap();
    write("corpus.jsonl", lines(&|n, example| format!(r#"{{"_id":"d{n}","text":"{}"}}"#, example.positives[0])));
    write("queries.jsonl", lines(&|n, example| format!(r#"{{"_id":"q{n}","text":"{}"}}"#, example.query)));
    let judged = lines(&|n, _| format!("q{n}\td{n}\t1"));
    write("qrels/dev.tsv", format!("query-id\tcorpus-id\tscore\n{judged}"));
}
