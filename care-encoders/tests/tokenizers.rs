//! What the files of a folder specify about its tokenizer.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use care_core::{Document, Query};

use care_encoders::head::Pooling;
use care_encoders::tokenize::TruncationSide;
use care_encoders::{AsymmetricEncoder, EncoderOptions, load_tower, tower_fingerprint};
use common::{cpu, difference, edit_json, fixture, rows};
use serde_json::{Value, json};

const TEXTS: [&str; 3] = ["高血压患者能吃党参吗？", "", "fever 38.5"];

/// A copy of a tiny decoder whose `tokenizer.json` adds no token, as gte-Qwen2 and stella are published.
fn without_end(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
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
