//! What the files of a folder specify about its tokenizer.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Document, Embedder, Query, Role};

use care_encoders::head::Pooling;
use care_encoders::tokenize::TruncationSide;
use care_encoders::{AsymmetricEncoder, EncoderOptions, Precision, load_tower, tower_fingerprint};
use common::{cpu, difference, edit_json, fixture, rows};
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_slice(&fs::read(fixture("tokenizers.json")).unwrap()).unwrap()
}

const TEXTS: [&str; 3] = ["高血压患者能吃党参吗？", "", "fever 38.5"];

/// A copy of a tiny decoder whose `tokenizer.json` adds no token, as gte-Qwen2 and stella are published.
fn without_end(name: &str) -> (tempfile::TempDir, PathBuf) {
    let (place, folder) = common::copy(name);
    edit_json(&folder.join("tokenizer.json"), |json| {
        json["post_processor"] =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    });
    (place, folder)
}

fn configure(folder: &Path, fields: &Value) {
    edit_json(&folder.join("tokenizer_config.json"), |config| {
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    });
}

fn vectors(folder: &Path, options: &EncoderOptions) -> Vec<Vec<f32>> {
    let tower = load_tower::<Query>(folder, options, &cpu()).unwrap();
    rows(&tower.embed(&TEXTS.map(Query::new), 4096).unwrap())
}

fn refusal(folder: &Path, options: &EncoderOptions) -> String {
    let error = load_tower::<Query>(folder, options, &cpu()).unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "M")
}

#[test]
fn the_token_of_add_eos_token_ends_texts() {
    for name in ["qwen2", "qwen3"] {
        let expected = vectors(&fixture(name), &EncoderOptions::default());
        let options = EncoderOptions::default();
        for eos in [json!("<|endoftext|>"), json!({"__type": "AddedToken", "content": "<|endoftext|>"})] {
            let (_place, folder) = without_end(name);
            configure(&folder, &json!({"add_eos_token": true, "eos_token": eos}));
            assert_eq!(difference(&vectors(&folder, &options), &expected), 0.0, "{name}");
            let tower = load_tower::<Query>(&folder, &options, &cpu()).unwrap();
            assert_eq!(tower.tokenizer().terminal_token(), Some(317));
            assert_eq!(
                tower.tokenizer().remarks(),
                ["texts end with \"<|endoftext|>\", since tokenizer_config.json sets `add_eos_token` and \
                  tokenizer.json adds no token; transformers 5 ignores this field"]
            );
            // A text that is too long keeps it.
            let short = load_tower::<Query>(&folder, &options.clone().with_max_length(5), &cpu()).unwrap();
            assert_eq!(short.tokenize(&["头痛怎么办".into()]).unwrap()[0].last(), Some(&317));
        }
    }
}

#[test]
fn last_token_pooling_without_a_terminal_token_is_refused() {
    for name in ["qwen2", "qwen3_bf16"] {
        let (place, folder) = without_end(name);
        let options = EncoderOptions::default();
        assert_eq!(
            refusal(&folder, &options),
            "M: last-token pooling of the query tower needs a special token that ends every text, and the tokenizer \
             adds none; set `add_eos_token` and `eos_token` in tokenizer_config.json, or the option `terminal_token` \
             (empty if the model was trained without), or another pooling"
        );
        configure(&folder, &json!({"add_eos_token": false}));
        assert!(refusal(&folder, &options).contains("needs a special token"));
        vectors(&folder, &options.clone().with_pooling(Pooling::Mean));
        let with = |token: &str| options.clone().with_terminal_token(token);
        assert_eq!(vectors(&folder, &with("<|endoftext|>")), vectors(&fixture(name), &options));
        assert_ne!(vectors(&folder, &with("<|im_end|>")), vectors(&fixture(name), &options));
        assert_eq!(refusal(&folder, &with("</s>")), "M/tokenizer.json: has no token \"</s>\"");
        // A pair remembers what it was saved with.
        for (token, terminal) in [("", None), ("<|im_end|>", Some(319))] {
            let pair = AsymmetricEncoder::open(&folder, &with(token), &with(token), &cpu()).unwrap();
            let target = place.path().join("pair");
            pair.save(&target).unwrap();
            let loaded = AsymmetricEncoder::load(&target, &cpu()).unwrap();
            assert_eq!(loaded.query().tokenizer().terminal_token(), terminal);
            let texts = TEXTS.map(Query::new);
            assert_eq!(loaded.query().tokenize(&texts).unwrap(), pair.query().tokenize(&texts).unwrap());
        }
    }
}

#[test]
fn a_tokenizer_that_ends_texts_already_is_left_alone() {
    let (_place, folder) = common::copy("qwen3");
    let options = EncoderOptions::default();
    configure(&folder, &json!({"add_eos_token": true}));
    let tower = load_tower::<Query>(&folder, &options, &cpu()).unwrap();
    assert!(tower.tokenizer().remarks().is_empty());
    configure(&folder, &json!({"add_eos_token": true, "eos_token": "<|im_end|>"}));
    let tower = load_tower::<Query>(&folder, &options, &cpu()).unwrap();
    assert_eq!(tower.tokenizer().terminal_token(), Some(317));
    assert_eq!(
        tower.tokenizer().remarks(),
        ["texts end with \"<|endoftext|>\" as in tokenizer.json, although tokenizer_config.json sets \
          `add_eos_token` with \"<|im_end|>\""]
    );
    assert_eq!(vectors(&folder, &options), vectors(&fixture("qwen3"), &options));
    assert_eq!(
        refusal(&folder, &options.with_terminal_token("<|im_end|>")),
        "`terminal_token` is \"<|im_end|>\", allowed: only \"<|endoftext|>\", with which tokenizer.json ends texts"
    );
}

#[test]
fn the_token_of_add_bos_token_begins_texts() {
    let (_place, folder) = common::copy("qwen3");
    configure(&folder, &json!({"add_bos_token": true, "bos_token": "<|im_start|>"}));
    let tower = load_tower::<Query>(&folder, &EncoderOptions::default().with_max_length(8), &cpu()).unwrap();
    for ids in tower.tokenize(&TEXTS.map(Query::new)).unwrap() {
        assert_eq!((ids[0], ids[ids.len() - 1]), (318, 317));
        assert!(ids.len() <= 8);
    }
}

#[test]
fn the_side_of_truncation_is_read_kept_and_part_of_the_fingerprint() {
    for name in ["bert", "qwen3"] {
        let (place, folder) = common::copy(name);
        configure(&folder, &json!({"truncation_side": "left"}));
        let options = EncoderOptions::default().with_max_length(6);
        let left = load_tower::<Document>(&folder, &options, &cpu()).unwrap();
        let right = load_tower::<Document>(fixture(name), &options, &cpu()).unwrap();
        let long = right.tokenizer().with_max_length(60).unwrap();
        let text = "头痛 怎么办 发烧";
        let all = long.encode(&[text]).unwrap().remove(0);
        let begin = usize::from(long.initial_token().is_some());
        let expected = [&all[..begin], &all[all.len() - (6 - begin)..]].concat();
        assert_eq!(left.tokenize(&[text.into()]).unwrap()[0], expected, "{name}");
        assert_ne!(right.tokenize(&[text.into()]).unwrap()[0], expected, "{name}");
        assert_ne!(tower_fingerprint(&left).unwrap(), tower_fingerprint(&right).unwrap());
        let pair = AsymmetricEncoder::open(&folder, &options, &options, &cpu()).unwrap();
        let target = place.path().join("pair");
        pair.save(&target).unwrap();
        let loaded = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_eq!(loaded.document().tokenizer().truncation_side(), TruncationSide::Left);
        assert_eq!(tower_fingerprint(loaded.document()).unwrap(), tower_fingerprint(&left).unwrap());
    }
}

#[test]
fn a_bare_folder_has_the_length_limit_of_its_tokenizer() {
    for (announced, limit) in [(json!(24), 24), (json!(1e30), 64), (json!(1000), 64), (Value::Null, 64)] {
        let (_place, folder) = common::copy("bert");
        configure(&folder, &json!({"model_max_length": announced}));
        let load = |options| load_tower::<Query>(&folder, &options, &cpu()).unwrap().tokenizer().max_length();
        assert_eq!(load(EncoderOptions::default()), limit, "{announced}");
        assert_eq!(load(EncoderOptions::default().with_max_length(40)), 40, "{announced}");
    }
}

/// A copy of the tiny BERT with a `vocab.txt` instead of a `tokenizer.json`.
fn with_vocabulary(settings: &Value) -> (tempfile::TempDir, PathBuf) {
    let (place, folder) = common::copy("bert");
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    fs::copy(fixture("bert_vocab/vocab.txt"), folder.join("vocab.txt")).unwrap();
    let mut fields = json!({"tokenizer_class": "BertTokenizer"});
    fields.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    fs::write(folder.join("tokenizer_config.json"), fields.to_string()).unwrap();
    (place, folder)
}

#[test]
fn a_vocabulary_is_the_tokenizer_that_transformers_makes_of_it() {
    let golden = golden();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    let texts: Vec<Query> = texts.into_iter().map(Query::new).collect();
    let all = golden["vocab"].as_array().unwrap();
    assert!(all.len() > 4 && all.iter().any(|one| one["ids"] != all[0]["ids"]));
    for one in all {
        let (place, folder) = with_vocabulary(&one["settings"]);
        let expected: Vec<Vec<u32>> = serde_json::from_value(one["ids"].clone()).unwrap();
        let options = EncoderOptions::default();
        let tower = load_tower::<Query>(&folder, &options, &cpu()).unwrap();
        for (text, (ids, expected)) in texts.iter().zip(tower.tokenize(&texts).unwrap().iter().zip(&expected)) {
            assert_eq!(ids, expected, "{text:?} with {}", one["settings"]);
        }
        // A saved pair has it as `tokenizer.json`.
        let target = place.path().join("pair");
        AsymmetricEncoder::open(&folder, &options, &options, &cpu()).unwrap().save(&target).unwrap();
        let loaded = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_eq!(loaded.query().tokenize(&texts).unwrap(), expected);
    }
}

#[test]
fn a_vocabulary_without_settings_or_with_windows_line_ends_is_read() {
    let (_place, folder) = with_vocabulary(&json!({}));
    let texts = ["高血压 café FEVER".into(), "[MASK] twice".into()];
    let load = || load_tower::<Query>(&folder, &EncoderOptions::default(), &cpu()).unwrap().tokenize(&texts).unwrap();
    let expected = load();
    fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    assert_eq!(load(), expected);
    let text = fs::read_to_string(folder.join("vocab.txt")).unwrap();
    for other in [text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
        fs::write(folder.join("vocab.txt"), other).unwrap();
        assert_eq!(load(), expected);
    }
}

#[test]
fn a_folder_without_a_tokenizer_that_can_be_read_says_what_to_do() {
    let python = "convert it in Python with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";
    for settings in [
        json!({"tokenizer_class": "BertJapaneseTokenizer"}),
        json!({"do_basic_tokenize": false}),
        json!({"never_split": ["[X]"]}),
    ] {
        let (_place, folder) = with_vocabulary(&settings);
        assert_eq!(
            refusal(&folder, &EncoderOptions::default()),
            format!("M: no tokenizer.json; vocab.txt alone is not supported for this kind of tokenizer: {python}")
        );
    }
    for (name, file) in [("bert", "spiece.model"), ("qwen3", "vocab.json"), ("gte_hf", "sentencepiece.bpe.model")] {
        let (_place, folder) = common::copy(name);
        fs::rename(folder.join("tokenizer.json"), folder.join(file)).unwrap();
        assert_eq!(
            refusal(&folder, &EncoderOptions::default()),
            format!("M: no tokenizer.json; {file} alone is not supported: {python}")
        );
        fs::remove_file(folder.join(file)).unwrap();
        assert_eq!(refusal(&folder, &EncoderOptions::default()), "M: no tokenizer.json");
    }
    let (_place, folder) = with_vocabulary(&json!({"cls_token": "[X9]"}));
    assert_eq!(refusal(&folder, &EncoderOptions::default()), "M/vocab.txt: has no token \"[X9]\"");
    let (_place, folder) = with_vocabulary(&json!({}));
    fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n").unwrap();
    assert_eq!(refusal(&folder, &EncoderOptions::default()), "M/vocab.txt: has no token \"[SEP]\"");
}

#[test]
fn title_and_text_are_a_pair_as_in_transformers() {
    let golden = golden();
    let pairs: Vec<[String; 2]> = serde_json::from_value(golden["pairs"]["texts"].clone()).unwrap();
    let documents: Vec<Document> = pairs.into_iter().map(|[title, text]| Document::with_title(title, text)).collect();
    for one in golden["pairs"]["by_length"].as_array().unwrap() {
        let (_place, folder) = common::copy("bert");
        configure(&folder, &json!({"truncation_side": one["side"]}));
        let options = EncoderOptions::default()
            .with_instruction("{title}{sep}{text}")
            .with_pooling(Pooling::Cls)
            .with_max_length(one["max_length"].as_u64().unwrap() as usize);
        let tower = load_tower::<Document>(&folder, &options, &cpu()).unwrap();
        let expected: Vec<Vec<u32>> = serde_json::from_value(one["ids"].clone()).unwrap();
        assert_eq!(tower.tokenize(&documents).unwrap(), expected, "{} {}", one["side"], one["max_length"]);
        let expected: Vec<Vec<f32>> = serde_json::from_value(one["cls"].clone()).unwrap();
        if expected.is_empty() {
            continue;
        }
        for budget in [1, 4096] {
            let off = difference(&rows(&tower.embed(&documents, budget).unwrap()), &expected);
            assert!(off <= 1e-5, "{off}");
        }
        // With padding too, where sequences are not packed; bf16 rounds to about 3 digits.
        let options = options.clone().with_precision(Precision::Bf16);
        let bf16 = load_tower::<Document>(&folder, &options, &cpu()).unwrap();
        let close = common::cosine(&rows(&bf16.embed(&documents, 4096).unwrap()), &expected);
        assert!(close > 0.999, "{close}");
        // One segment has other vectors.
        let plain = load_tower::<Document>(&folder, &EncoderOptions::default(), &cpu()).unwrap();
        assert!(common::cosine(&rows(&plain.embed(&documents[..1], 4096).unwrap()), &expected[..1]) < 0.99);
    }
}

#[test]
fn a_pair_of_title_and_text_is_saved_and_part_of_the_fingerprint() {
    let place = tempfile::tempdir().unwrap();
    let load = |template: &str| {
        let options = EncoderOptions::default().with_instruction(template);
        AsymmetricEncoder::open(fixture("bert"), &EncoderOptions::default(), &options, &cpu()).unwrap()
    };
    let documents = [Document::with_title("头痛", "先休息"), Document::new("多喝水")];
    let print = |pair: &AsymmetricEncoder| pair.fingerprint(Role::Document).unwrap().unwrap();
    let plain = load("");
    for (template, same) in [("{title}。{text}", true), ("{title}{sep}{text}", false)] {
        let pair = load(template);
        assert_eq!(print(&pair) == print(&plain), same, "{template}");
        let target = place.path().join("pair");
        pair.save(&target).unwrap();
        let loaded = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_eq!(loaded.document().instruction().template(), template);
        assert_eq!(print(&loaded), print(&pair));
        let vectors = |pair: &AsymmetricEncoder| rows(&pair.embed_documents(&documents).unwrap());
        assert_eq!(vectors(&loaded), vectors(&pair));
        assert_ne!(vectors(&loaded)[0], vectors(&plain)[0], "{template}");
        assert_ne!(pair.document_key(&documents[0]), plain.document_key(&documents[0]));
        let settings = fs::read_to_string(target.join("config_sentence_transformers.json")).unwrap();
        let settings: Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["prompts"]["document"], "");
    }
}

#[test]
fn pairs_that_cannot_be_encoded_are_refused() {
    let refused = |folder: &Path, max_length: usize| {
        let options = EncoderOptions::default().with_instruction("{title}{sep}{text}").with_max_length(max_length);
        let error = load_tower::<Document>(folder, &options, &cpu()).unwrap_err();
        error.to_string().replace(&folder.display().to_string(), "M")
    };
    let (_place, folder) = common::copy("bert");
    assert_eq!(
        refused(&folder, 4),
        "`max_length` is 4, allowed: at least 5, since the tokenizer adds 3 special tokens to a pair"
    );
    for pair in [json!([]), json!([{"Sequence": {"id": "A", "type_id": 0}}])] {
        edit_json(&folder.join("tokenizer.json"), |json| json["post_processor"]["pair"] = pair);
        let message = refused(&folder, 12);
        assert!(message.starts_with("M/tokenizer.json: the post-processor has no template for pairs"), "{message}");
    }
    let error =
        load_tower::<Query>(fixture("bert"), &EncoderOptions::default().with_instruction("{title}{sep}{text}"), &cpu());
    assert!(error.unwrap_err().to_string().contains("contains {title}, which is no placeholder"));
}

#[test]
fn a_literal_prompt_is_kept_and_an_option_with_braces_is_refused() {
    let (place, folder) = common::copy("qwen3");
    let options = EncoderOptions::default().with_instruction("Instruct: {}\nQuery: {}");
    assert_eq!(
        refusal(&folder, &options),
        "the query instruction \"Instruct: {}\\nQuery: {}\" contains {}, which is no placeholder, allowed: {text}"
    );
    // What a pair was saved with, or a prompt of sentence-transformers, is text.
    let options = EncoderOptions::default().with_instruction("Instruct: a\nQuery: ");
    let target = place.path().join("pair");
    AsymmetricEncoder::open(&folder, &options, &options, &cpu()).unwrap().save(&target).unwrap();
    edit_json(&target.join("care.json"), |json| json["query"]["instruction"] = json!("Instruct: {}\nQuery: {}{text}"));
    let loaded = AsymmetricEncoder::load(&target, &cpu()).unwrap();
    assert_eq!(loaded.query_key(&"头".into()), "Instruct: {}\nQuery: {}头");
}

/// A tiny decoder with `vocab.json` and `merges.txt` in the place of its `tokenizer.json`.
fn with_merges(settings: &Value) -> (tempfile::TempDir, PathBuf) {
    let (place, folder) = common::copy("qwen2");
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    for file in ["vocab.json", "merges.txt"] {
        fs::copy(fixture("byte_bpe").join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
    (place, folder)
}

/// The tokenizer has three ids more than the network has rows, so it is read alone.
fn tokenizer_of(folder: &Path) -> care_encoders::tokenize::Tokenizer {
    edit_json(&folder.join("config.json"), |config| config["vocab_size"] = json!(324));
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
            if name.ends_with("embed_tokens.weight") {
                shape[0] = 324;
                data.resize(324 * shape[1] * 4, 0);
            }
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    let grown = safetensors::serialize(views, None).unwrap();
    fs::write(folder.join("model.safetensors"), grown).unwrap();
    let options = EncoderOptions::default().with_pooling(Pooling::Mean);
    load_tower::<Query>(folder, &options, &cpu()).unwrap().tokenizer().clone()
}

#[test]
fn a_byte_level_bpe_is_built_from_vocabulary_and_merges() {
    let golden = golden();
    let texts: Vec<String> = serde_json::from_value(golden["byte_bpe"]["texts"].clone()).unwrap();
    let kinds = golden["byte_bpe"]["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 7);
    for kind in kinds {
        let (_place, folder) = with_merges(&kind["settings"]);
        let tokenizer = tokenizer_of(&folder);
        let expected: Vec<Vec<u32>> = serde_json::from_value(kind["ids"].clone()).unwrap();
        for (text, expected) in texts.iter().zip(expected) {
            let ids = tokenizer.encode(&[text]).unwrap().remove(0);
            // A text without tokens becomes one padding token here.
            let expected = if expected.is_empty() { vec![tokenizer.pad_id()] } else { expected };
            assert_eq!(ids, expected, "{}: {text:?}", kind["settings"]);
        }
        let pair: Vec<u32> = serde_json::from_value(kind["pair"].clone()).unwrap();
        assert_eq!(tokenizer.encode_pairs(&[("头痛", "fever")]).unwrap().0, [pair], "{}", kind["settings"]);
    }
}

#[test]
fn vocabularies_and_merges_that_cannot_be_right_are_refused() {
    let python = "convert it in Python with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";
    let refused = |settings: Value, change: &dyn Fn(&Path)| {
        let (_place, folder) = with_merges(&settings);
        change(&folder);
        refusal(&folder, &EncoderOptions::default())
    };
    let unchanged: &dyn Fn(&Path) = &|_| {};
    let classes = "GPT2Tokenizer, GPT2TokenizerFast, Qwen2Tokenizer, Qwen2TokenizerFast, RobertaTokenizer, \
                   RobertaTokenizerFast";
    for class in ["BartTokenizer", "CLIPTokenizer", "BertTokenizer"] {
        assert_eq!(
            refused(json!({"tokenizer_class": class}), unchanged),
            format!(
                "M: no tokenizer.json, and of vocab.json and merges.txt the `tokenizer_class` is {class:?}, allowed: \
                 {classes}; {python}"
            )
        );
    }
    assert_eq!(
        refused(json!({"tokenizer_class": "Qwen2Tokenizer"}), &|folder| {
            fs::remove_file(folder.join("merges.txt")).unwrap();
        }),
        format!("M: no tokenizer.json; vocab.json alone is not supported: {python}")
    );
    let added =
        |id: &str| json!({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {id: {"content": "<|new|>"}}});
    assert_eq!(
        refused(added("330"), unchanged),
        format!("M/vocab.json: \"<|new|>\" has id 323, but tokenizer_config.json states 330; {python}")
    );
    assert_eq!(
        refused(json!({"tokenizer_class": "Qwen2Tokenizer", "pad_token": "<|new|>"}), unchanged),
        "M/vocab.json: has no token \"<|new|>\", which tokenizer_config.json names as pad_token"
    );
    assert_eq!(
        refused(json!({"tokenizer_class": "RobertaTokenizer", "cls_token": "<s>"}), &|folder| {
            edit_json(&folder.join("vocab.json"), |vocab| drop(vocab.as_object_mut().unwrap().remove("</s>")));
        }),
        "M/vocab.json: has no token \"</s>\""
    );
    assert_eq!(
        refused(json!({"tokenizer_class": "GPT2Tokenizer"}), &|folder| {
            fs::write(folder.join("merges.txt"), "#version: 0.2\na b\na b c\n").unwrap();
        }),
        "M/vocab.json: merges.txt:3: \"a b c\" is not two tokens with a blank between them"
    );
    assert_eq!(
        refused(json!({"tokenizer_class": "GPT2Tokenizer"}), &|folder| {
            fs::write(folder.join("added_tokens.json"), r#"{"<|new|>": 323}"#).unwrap();
        }),
        format!(
            "M/vocab.json: added_tokens.json adds \"<|new|>\" with id 323, which `added_tokens_decoder` of \
             tokenizer_config.json does not; {python}"
        )
    );
}
