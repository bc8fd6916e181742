//! Rerankers in the form of published models have the scores of transformers and sentence-transformers, and what cannot be
//! right is refused. `tests/data/make_rerankers.py` makes them. The printed lines are the table of `docs/parity.md`.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Document, Query, Reranker};
use care_encoders::{CrossEncoder, CrossEncoderOptions, Device, Precision, ScoreActivation};
use common::{copy, cpu, edit_json, fixture};
use serde::Deserialize;
use serde_json::json;

/// Largest difference of a logit or a score.
const TOLERANCE: f32 = 1e-5;

/// Models without a score, and what the error says.
const REFUSED: [(&str, &str); 6] = [
    ("two-labels", "config.json: `id2label` is 2 labels, allowed: 1: a reranker returns one score"),
    ("no-labels", "config.json: `id2label` is absent, which means 2 labels, allowed: 1: a reranker returns one score"),
    ("bi-encoder", "modules.json: the modules Transformer, Pooling make an embedding model, no reranker"),
    ("masked-language-model", "config.json: `architectures` is [\"BertForMaskedLM\"], allowed: a class that ends in"),
    (
        "jina-reranker-v2-base-multilingual",
        "config.json: `auto_map.AutoModelForSequenceClassification` is \"modeling_xlm",
    ),
    (
        "mxbai-rerank-base-v2",
        "config.json: `model_type` is \"qwen2\", allowed: qwen3 for a language model as a reranker",
    ),
];

#[derive(Deserialize)]
struct Expected {
    pairs: Vec<(String, String)>,
    logits: Vec<f32>,
    scores: Vec<f32>,
    cut: Vec<Cut>,
}

#[derive(Deserialize)]
struct Cut {
    max_length: usize,
    ids: Vec<Vec<u32>>,
    types: Option<Vec<Vec<u32>>>,
    logits: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    fixture("rerankers").join(name)
}

fn expected(name: &str) -> Expected {
    serde_json::from_slice(&fs::read(folder(name).join("expected.json")).unwrap()).unwrap()
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(fixture("rerankers")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| REFUSED.iter().all(|(refused, _)| refused != name)).collect();
    names.sort();
    names
}

fn open(folder: &Path, options: &CrossEncoderOptions) -> CrossEncoder {
    CrossEncoder::open(folder, options, &cpu()).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn default(name: &str) -> CrossEncoder {
    open(&folder(name), &CrossEncoderOptions::default())
}

fn raw() -> CrossEncoderOptions {
    CrossEncoderOptions::default().with_activation(ScoreActivation::Identity)
}

fn texts(pairs: &[(String, String)]) -> Vec<(Query, Document)> {
    pairs.iter().map(|(query, document)| (Query::new(query), Document::new(document))).collect()
}

fn borrowed(texts: &[(Query, Document)]) -> Vec<(&Query, &Document)> {
    texts.iter().map(|(query, document)| (query, document)).collect()
}

fn score(reranker: &CrossEncoder, pairs: &[(String, String)]) -> Vec<f32> {
    reranker.score(&borrowed(&texts(pairs))).unwrap()
}

fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn published_forms_have_the_scores_of_python_without_options() {
    let names = names();
    for name in &names {
        let Expected { pairs, logits, scores, .. } = expected(name);
        let reranker = default(name);
        let of_scores = difference(&score(&reranker, &pairs), &scores);
        let raw = reranker.with_activation(ScoreActivation::Identity);
        let of_logits = difference(&score(&raw, &pairs), &logits);
        eprintln!("| {name} | {of_logits:.1e} | {of_scores:.1e} |");
        assert!(of_logits <= TOLERANCE && of_scores <= TOLERANCE, "{name}: {of_logits:.2e} {of_scores:.2e}");
    }
    assert_eq!(names.len(), 17);
}

#[test]
fn pairs_are_cut_and_typed_as_tokenizers_does_it() {
    let mut cases = 0;
    for name in names() {
        let Expected { pairs, cut, .. } = expected(&name);
        for Cut { max_length, ids, types, logits } in cut {
            let reranker = open(&folder(&name), &raw().with_max_length(max_length));
            let texts = texts(&pairs);
            let (found, found_types) = reranker.tokenize(&borrowed(&texts)).unwrap();
            assert_eq!(found, ids, "{name}, {max_length} tokens");
            // DistilBERT has no table of types, so they make no difference there.
            if name != "distilbert-reranker" {
                assert_eq!(found_types, types, "{name}, {max_length} tokens");
            }
            let of_logits = difference(&score(&reranker, &pairs), &logits);
            assert!(of_logits <= TOLERANCE, "{name}, {max_length} tokens: {of_logits:.2e}");
            cases += ids.len();
        }
    }
    assert_eq!(cases, 10 * (14 * 7 + 3 * 3));
}

#[test]
fn models_without_a_score_are_refused_with_the_reason() {
    for (name, reason) in REFUSED {
        let error = CrossEncoder::open(folder(name), &CrossEncoderOptions::default(), &cpu()).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    let refused = |name: &str, options: &CrossEncoderOptions| {
        CrossEncoder::open(folder(name), options, &cpu()).unwrap_err().to_string()
    };
    let base = CrossEncoderOptions::default;
    assert_eq!(
        refused("bge-reranker-base", &base().with_instruction("find it")),
        "`instruction` is \"find it\", allowed: unset for a network that reads a query and a document alone"
    );
    assert_eq!(
        refused("bge-reranker-base", &base().with_max_length(65)),
        "`max_length` is 65, allowed: at most 64, the positions of the reranker"
    );
    assert_eq!(
        refused("bge-reranker-base", &base().with_max_length(5)),
        "`max_length` is 5, allowed: at least 6, since the tokenizer adds 4 special tokens to a pair"
    );
    let short = refused("Qwen3-Reranker-4B", &base().with_max_length(100));
    assert!(short.contains("`max_length` is 100, allowed: at least "), "{short}");
    let pair = tempfile::tempdir().unwrap();
    fs::write(pair.path().join("care.json"), "{}").unwrap();
    let error = CrossEncoder::open(pair.path(), &base(), &cpu()).unwrap_err().to_string();
    assert!(error.ends_with("care.json makes it a pair of towers, which is no reranker"), "{error}");
}

#[test]
fn lost_and_left_over_tensors_are_named() {
    let refused = |name: &str, change: &dyn Fn(&Path)| {
        let (_place, folder) = copy(&format!("rerankers/{name}"));
        change(&folder);
        CrossEncoder::open(&folder, &CrossEncoderOptions::default(), &cpu()).unwrap_err().to_string()
    };
    let as_model = |folder: &Path| {
        // The weights of two labels under a configuration of one.
        edit_json(&folder.join("config.json"), |config| config["id2label"] = json!({"0": "LABEL_0"}));
    };
    let error = refused("two-labels", &as_model);
    assert!(error.contains("tensor `classifier.weight` has shape [2, 16], expected [1, 16]"), "{error}");
    let renamed = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let path = folder.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            assert_eq!(from.len(), to.len());
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            let bytes = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
            fs::write(path, bytes).unwrap();
        }
    };
    let error = refused("ms-marco-MiniLM-L6-v2", &renamed("bert.pooler.dense.bias", "bert.pooler.danse.bias"));
    assert!(error.contains("tensor `pooler.dense.bias` of shape [16] is missing"), "{error}");
    assert!(error.contains("tensor `bert.pooler.danse.bias` is not expected"), "{error}");
    let error = refused("Qwen3-Reranker-4B", &renamed("lm_head.weight", "lm_tail.weight"));
    assert!(error.contains("lm_tail.weight"), "{error}");
    let untied = |folder: &Path| {
        edit_json(&folder.join("config.json"), |config| config["tie_word_embeddings"] = json!(false));
    };
    let error = refused("Qwen3-Reranker-0.6B", &untied);
    assert!(error.ends_with("tensor `lm_head.weight` is missing, and `tie_word_embeddings` is not true"), "{error}");
}

#[test]
fn settings_of_sentence_transformers_that_are_not_computed_are_refused() {
    let change = |name: &str, file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let (_place, folder) = copy_deep(name);
        edit_json(&folder.join(file), |json| change(json));
        CrossEncoder::open(&folder, &CrossEncoderOptions::default(), &cpu()).unwrap_err().to_string()
    };
    let settings = "config_sentence_transformers.json";
    let error = change("cross-encoder-v6", settings, &|json| json["activation_fn"] = json!("torch.nn.Softmax"));
    assert!(
        error.contains(settings) && error.contains("`activation_fn` is \"torch.nn.Softmax\", allowed: "),
        "{error}"
    );
    let error = change("cross-encoder-v6", settings, &|json| {
        json["prompts"] = json!({"q": "query: "});
        json["default_prompt_name"] = json!("q");
    });
    assert!(error.contains("the default prompt \"query: \" is not supported for a classification head"), "{error}");
    let transformer = "sentence_bert_config.json";
    let error = change("cross-encoder-v6", transformer, &|json| json["transformer_task"] = json!("feature-extraction"));
    assert!(
        error.contains("`transformer_task` is \"feature-extraction\", allowed: sequence-classification"),
        "{error}"
    );
    let error = change("cross-encoder-v6", transformer, &|json| json["query_length"] = json!(8));
    assert!(error.contains("`query_length` 8 is not supported"), "{error}");
    let score = "1_LogitScore/config.json";
    let error = change("Qwen3-Reranker-0.6B-STv6", score, &|json| json["true_token_id"] = json!(4000));
    assert!(error.contains("has 323 rows, but the score needs row 4000"), "{error}");

    let (_place, folder) = copy_deep("Qwen3-Reranker-0.6B-STv6");
    fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let error = CrossEncoder::open(&folder, &CrossEncoderOptions::default(), &cpu()).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja: the chat template is not that of Qwen3-Reranker"), "{error}");
    // An option stands in for an activation that is not computed.
    let (_place, folder) = copy_deep("cross-encoder-v6");
    edit_json(&folder.join(settings), |json| json["activation_fn"] = json!("torch.nn.Softmax"));
    open(&folder, &raw());
}

/// A copy of a reranker with its folders.
fn copy_deep(name: &str) -> (tempfile::TempDir, PathBuf) {
    let (place, target) = (tempfile::tempdir().unwrap(), PathBuf::from("model"));
    let target = place.path().join(target);
    copy_folder(&folder(name), &target);
    (place, target)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_reranker_says_what_it_computes_and_where_it_comes_from() {
    for (name, summary) in [
        (
            "ms-marco-MiniLM-L6-v2",
            "reranker: classifier of BertForSequenceClassification, identity (config.json), pairs with token types of at \
             most 56 tokens (tokenizer_config.json), f32 (default)",
        ),
        (
            "cross-encoder-v6",
            "reranker: classifier of BertForSequenceClassification, sigmoid (config_sentence_transformers.json), pairs with \
             token types of at most 40 tokens (tokenizer_config.json), f32 (default)",
        ),
        (
            "bge-reranker-base",
            "reranker: classifier of XLMRobertaForSequenceClassification, sigmoid (default of sentence-transformers), pairs \
             of at most 64 tokens (tokenizer_config.json), f32 (default)",
        ),
        (
            "ernie-reranker",
            "reranker: classifier of ErnieForSequenceClassification, sigmoid (default of sentence-transformers), pairs with \
             token types of at most 64 tokens (network), f32 (default)",
        ),
        (
            "Qwen3-Reranker-0.6B",
            "reranker: logit of \"yes\" minus that of \"no\" of Qwen3ForCausalLM, sigmoid (default of \
             sentence-transformers), pairs of at most 1024 tokens (network), instruction \"Given a web search query, \
             retrieve relevant passages that answer the query\" (default), f32 (default)",
        ),
    ] {
        assert_eq!(default(name).summary().to_string(), summary);
    }
    let options = raw().with_max_length(20).with_precision(Precision::Int8);
    let reranker = open(&folder("bge-reranker-base"), &options);
    assert_eq!(
        reranker.summary().to_string(),
        "reranker: classifier of XLMRobertaForSequenceClassification, identity (option), pairs of at most 20 tokens \
         (option), int8 (option)"
    );
}

#[test]
fn a_score_is_the_same_alone_in_a_batch_and_under_every_budget() {
    for name in ["bge-reranker-base", "gte-reranker-modernbert-base", "Qwen3-Reranker-0.6B"] {
        let Expected { pairs, .. } = expected(name);
        let reranker = default(name);
        let together = score(&reranker, &pairs);
        for (pair, expected) in pairs.iter().zip(&together) {
            assert_eq!(&score(&reranker, std::slice::from_ref(pair))[0], expected, "{name} {pair:?}");
        }
        let small = reranker.clone().with_token_budget(40).unwrap();
        assert_eq!(score(&small, &pairs), together, "{name}");
        assert!(reranker.score(&[]).unwrap().is_empty());
    }
    let error = default("bge-reranker-base").with_token_budget(0).unwrap_err().to_string();
    assert_eq!(error, "`batch_tokens` is 0, allowed: at least 1");
}

#[test]
fn eight_and_sixteen_bits_are_near() {
    for name in ["bge-reranker-base", "gte-multilingual-reranker-base", "ms-marco-MiniLM-L6-v2", "Qwen3-Reranker-4B"] {
        let Expected { pairs, logits, .. } = expected(name);
        let spread = logits.iter().fold(f32::MIN, |a, b| a.max(*b)) - logits.iter().fold(f32::MAX, |a, b| a.min(*b));
        for precision in [Precision::Bf16, Precision::Int8] {
            let reranker = open(&folder(name), &raw().with_precision(precision));
            let difference = difference(&score(&reranker, &pairs), &logits);
            eprintln!("{name} {}: {difference:.1e} of a spread of {spread:.2}", precision.as_str());
            // The decoder has random weights of few dimensions; which of its logits is farthest depends on the processor.
            let bound = if name == "Qwen3-Reranker-4B" { 0.065 } else { 0.06 };
            assert!(difference < bound, "{name} {}: {difference}", precision.as_str());
        }
    }
}

#[test]
fn a_fingerprint_covers_what_decides_the_scores() {
    let fingerprint =
        |name: &str, options: &CrossEncoderOptions| open(&folder(name), options).fingerprint().unwrap().unwrap();
    let base = CrossEncoderOptions::default;
    let one = fingerprint("bge-reranker-base", &base());
    assert_eq!(one, fingerprint("bge-reranker-base", &base()));
    assert_eq!(one.len(), 64);
    let qwen = fingerprint("Qwen3-Reranker-0.6B", &base());
    let all = [
        one.clone(),
        fingerprint("bge-reranker-base", &base().with_max_length(30)),
        fingerprint("bge-reranker-base", &raw()),
        fingerprint("bge-reranker-base", &base().with_precision(Precision::Int8)),
        fingerprint("bge-reranker-base", &base().with_precision(Precision::Bf16)),
        fingerprint("bge-reranker-large", &base()),
        qwen.clone(),
        fingerprint("Qwen3-Reranker-0.6B", &base().with_instruction("find it")),
    ];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    // A weight of the head alone.
    let (_place, folder) = copy("rerankers/bge-reranker-base");
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let offset = header["classifier.out_proj.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + size + offset] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_ne!(open(&folder, &base()).fingerprint().unwrap().unwrap(), one);
    let activated = default("bge-reranker-base").with_activation(ScoreActivation::Identity);
    assert_eq!(activated.fingerprint().unwrap(), Some(all[2].clone()));
}

#[test]
fn a_score_that_is_not_finite_names_its_pair() {
    let (_place, folder) = copy("rerankers/bge-reranker-base");
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let range = &header["classifier.out_proj.weight"]["data_offsets"];
    let [start, end] = [0, 1].map(|at| 8 + size + range[at].as_u64().unwrap() as usize);
    bytes[start..end].chunks_mut(4).for_each(|value| value.copy_from_slice(&3e38f32.to_le_bytes()));
    fs::write(&path, bytes).unwrap();
    let reranker = open(&folder, &raw());
    let texts = texts(&expected("bge-reranker-base").pairs);
    let error = reranker.score(&borrowed(&texts)).unwrap_err().to_string();
    assert!(error.starts_with("the score of pair ") && error.ends_with(" is not finite"), "{error}");
}

#[test]
fn many_pairs_are_scored_in_groups_as_each_alone() {
    let (_place, folder) = copy("rerankers/bge-reranker-base");
    let reranker = open(&folder, &raw());
    let (usual, other) = (Document::new("低盐"), Document::new("饮食"));
    let query = Query::new("高血压");
    let mut pairs = vec![(&query, &usual); 4100];
    pairs[4097].1 = &other;
    let mut seen = Vec::new();
    let scores = reranker.score_with_progress(&pairs, &mut |now| seen.push(now.texts)).unwrap();
    assert_eq!(seen.last(), Some(&4100));
    assert!(seen.is_sorted() && seen.contains(&4096), "{seen:?}");
    let [of_usual, of_other] = [&usual, &other].map(|document| reranker.score(&[(&query, document)]).unwrap()[0]);
    assert!(scores.iter().enumerate().all(|(at, score)| *score == if at == 4097 { of_other } else { of_usual }));

    // A token whose state overflows, in the second group, then in the first, too.
    let ids = |document| reranker.tokenize(&[(&query, document)]).unwrap().0.concat();
    let token = ids(&other).into_iter().find(|id| !ids(&usual).contains(id)).unwrap() as usize;
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let table =
        header.as_object().unwrap().iter().find(|(name, _)| name.ends_with("word_embeddings.weight")).unwrap().1;
    let row = 4 * table["shape"][1].as_u64().unwrap() as usize;
    let start = 8 + size + table["data_offsets"][0].as_u64().unwrap() as usize + token * row;
    bytes[start..start + row].chunks_mut(4).for_each(|value| value.copy_from_slice(&3e38f32.to_le_bytes()));
    fs::write(&path, bytes).unwrap();
    let reranker = open(&folder, &raw());
    let error = reranker.score(&pairs).unwrap_err().to_string();
    assert_eq!(error, "the score of pair 4097 is not finite");
    pairs[7].1 = &other;
    let mut last = 0;
    let error = reranker.score_with_progress(&pairs, &mut |now| last = now.texts).unwrap_err().to_string();
    assert_eq!((error.as_str(), last), ("the score of pair 7 is not finite", 4096), "no group comes after");
}

#[test]
fn a_title_is_part_of_the_document() {
    let reranker = default("bge-reranker-base");
    let query = Query::new("高血压");
    let (titled, joined) = (Document::with_title("饮食", "低盐"), Document::new("饮食 低盐"));
    let scores = reranker.score_documents(&query, &[titled, joined, Document::new("低盐")]).unwrap();
    assert_eq!(scores[0], scores[1]);
    assert_ne!(scores[0], scores[2]);
}

#[test]
fn other_devices_agree() {
    for device in Device::compiled().into_iter().filter(|device| *device != Device::Cpu) {
        for name in ["bge-reranker-base", "ms-marco-MiniLM-L6-v2", "gte-reranker-modernbert-base", "Qwen3-Reranker-4B"]
        {
            let Expected { pairs, logits, .. } = expected(name);
            let reranker = CrossEncoder::open(folder(name), &raw(), &device.open().unwrap()).unwrap();
            let difference = difference(&score(&reranker, &pairs), &logits);
            eprintln!("| {name} | {device} | {difference:.1e} |");
            assert!(difference <= 1e-4, "{name} on {device}: {difference:.2e}");
        }
    }
}
