//! Vocabularies cut to what texts need.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeSet;

use care_core::{Document, Query};
use care_encoders::head::Pooling;
use care_encoders::tokenize::Tokenizer;
use care_encoders::{AnyEncoder, AsymmetricEncoder, Encoder, EncoderOptions, Precision, Tower, load_tower};
use common::{cpu, fixture};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Texts with words, Chinese, unknown characters, bytes, blanks and special tokens.
const PARTS: [&str; 14] =
    ["高血压", "患者", "头痛怎么办", " ", "38.5", "mg", "The headache", "🤒", "\n\n", "x", "[SEP]", "ﬁ", "β", "，血糖"];

fn tower(name: &str, precision: Precision) -> Tower<Query, AnyEncoder> {
    let options = EncoderOptions::default().with_pooling(Pooling::Mean).with_max_length(40).with_instruction("query: ");
    load_tower(fixture(name), &options.with_precision(precision), &cpu()).unwrap()
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(&[text]).unwrap().concat();
    ids.iter().map(|&id| tokenizer.id_to_token(id).unwrap()).collect()
}

fn used(tower: &Tower<Query, AnyEncoder>, texts: &[Query]) -> BTreeSet<u32> {
    tower.tokenize_whole(texts).unwrap().into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn covered_texts_keep_tokens_and_vectors(
        picks in prop::collection::vec(prop::collection::vec(0..PARTS.len(), 0..6), 1..5),
        others in prop::collection::vec(0..PARTS.len(), 1..6),
        case in 0_usize..10,
    ) {
        let (name, precision) = [
            ("bert", Precision::F32), ("bert", Precision::Int8), ("distilbert", Precision::F32), ("gte_new", Precision::F32),
            ("mpnet", Precision::F32), ("modernbert", Precision::F32), ("qwen2", Precision::F32), ("qwen3", Precision::Bf16),
            ("qwen3", Precision::Int4), ("embedding_gemma", Precision::F32),
        ][case];
        let text = |parts: &Vec<usize>| parts.iter().map(|&part| PARTS[part]).collect::<String>();
        let texts: Vec<Query> = picks.iter().map(|parts| Query::new(text(parts))).collect();
        let large = tower(name, precision);
        let small = large.clone().with_vocabulary(&used(&large, &texts)).unwrap();
        let [before, after] = [&large, &small].map(|tower| tower.tokenizer().vocab_size());
        prop_assert!(after < before, "{name}: {after} of {before}");
        prop_assert_eq!(small.network().encoder().vocab_size(), after);
        for query in &texts {
            let prepared = large.instruction().apply(query);
            prop_assert_eq!(tokens(large.tokenizer(), &prepared), tokens(small.tokenizer(), &prepared), "{}: {:?}", name, prepared);
        }
        prop_assert_eq!(large.embed(&texts, 512).unwrap(), small.embed(&texts, 512).unwrap(), "{}", name);
        // Any other text still has a vector.
        let other = [Query::new(text(&others))];
        prop_assert!(small.embed(&other, 512).unwrap().row(0).iter().all(|value| value.is_finite()));
    }
}

#[test]
fn a_pruned_pair_is_saved_and_loaded() {
    let texts = [Query::new("高血压患者能吃党参吗？"), Query::new("头痛")];
    for (name, precision) in [("gte_new", Precision::F32), ("bert", Precision::Int8), ("qwen3", Precision::F32)] {
        let large = tower(name, precision);
        let vocabulary = used(&large, &texts);
        let small = large.clone().with_vocabulary(&vocabulary).unwrap();
        let options = EncoderOptions::default().with_pooling(Pooling::Mean).with_max_length(40);
        let documents: Tower<Document, AnyEncoder> = load_tower(fixture(name), &options, &cpu()).unwrap();
        let pair = AsymmetricEncoder::new(small, documents).unwrap();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("pair");
        pair.save(&folder).unwrap();
        let loaded = AsymmetricEncoder::load(&folder, &cpu()).unwrap();
        assert_eq!(loaded.query().embed(&texts, 512).unwrap(), large.embed(&texts, 512).unwrap(), "{name}");
        assert_eq!(loaded.query().tokenizer().vocab_size(), pair.query().tokenizer().vocab_size());
        // Pruned again for the same texts, nothing is left to remove.
        let query = loaded.query().clone();
        let again = query.clone().with_vocabulary(&used(&query, &texts)).unwrap();
        assert_eq!(again.tokenizer().vocab_size(), query.tokenizer().vocab_size(), "{name}");
    }
}

fn definition(model: &Value) -> String {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model,
    })
    .to_string()
}

fn pruned(model: &Value, text: &str) -> (Tokenizer, Tokenizer) {
    let large = Tokenizer::from_json(&definition(model), 0, 32).unwrap();
    let ids = large.encode(&[text]).unwrap().concat().into_iter().collect();
    let (small, kept) = large.pruned(&ids).unwrap();
    assert_eq!(kept.len(), small.vocab_size());
    (large, small)
}

/// The tokens of the vocabulary.
fn vocabulary(tokenizer: &Tokenizer) -> Vec<String> {
    (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id).unwrap()).collect()
}

#[test]
fn a_bpe_keeps_what_its_tokens_are_merged_from() {
    let vocab = json!({
        "?": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "abc": 6, "cc": 7, "<0x0A>": 8, "zz": 9, "ca": 10, "abcab": 11,
    });
    let merges = json!([["c", "a"], ["a", "b"], ["b", "c"], ["ab", "c"], ["c", "c"], ["abc", "ab"]]);
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": true, "ignore_merges": false, "vocab": vocab, "merges": merges,
    });
    let (large, small) = pruned(&model, "abc");
    assert_eq!(tokens(&large, "abc"), ["abc"]);
    assert_eq!(tokens(&small, "abc"), ["abc"]);
    // Without a use of its own, `ab` stays, since `abc` is merged from it; the byte stays too.
    assert_eq!(vocabulary(&small), ["?", "a", "b", "c", "ab", "abc", "<0x0A>"]);
    assert_eq!(tokens(&small, "\n"), ["<0x0A>"]);
    // `ca` is merged first in this text, so `abcab` never comes about.
    assert_eq!(tokens(&large, "abcab"), ["ab", "ca", "b"]);
    assert_eq!(tokens(&small, "abcab"), ["abc", "ab"], "`ca` is gone, so this text, which is not covered, differs");

    let mut suffixed = model.clone();
    suffixed["end_of_word_suffix"] = "/".into();
    suffixed["vocab"] = json!({"?": 0, "a": 1, "b": 2, "b/": 3, "ab/": 4, "ab": 5, "c/": 6});
    suffixed["merges"] = json!([["a", "b"], ["a", "b/"], ["ab", "c/"]]);
    suffixed["merges"].as_array_mut().unwrap().pop();
    let (large, small) = pruned(&suffixed, "ab");
    assert_eq!([tokens(&large, "ab"), tokens(&small, "ab")], [["ab/"], ["ab/"]]);
    assert_eq!(vocabulary(&small), ["?", "a", "b", "b/", "ab/"]);

    let mut prefixed = model;
    prefixed["continuing_subword_prefix"] = "##".into();
    prefixed["vocab"] = json!({"?": 0, "a": 1, "##b": 2, "ab": 3});
    prefixed["merges"] = json!([["a", "##b"]]);
    let large = Tokenizer::from_json(&definition(&prefixed), 0, 32).unwrap();
    let error = large.pruned(&BTreeSet::from([3])).unwrap_err().to_string();
    assert_eq!(error, "cannot prune the vocabulary: a BPE with a `continuing_subword_prefix` is not supported");
}

#[test]
fn a_unigram_keeps_the_cost_of_unknown_characters() {
    // Were the least likely piece lost, an unknown character would cost 12 instead of 40, and `x` beside `ab` become
    // cheaper than the piece `abx`.
    let vocab = json!([["<unk>", 0.0], ["ab", -1.0], ["abx", -20.0], ["zz", -30.0], ["a", -2.0], ["y", -3.0]]);
    let model = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false});
    let (large, small) = pruned(&model, "abxabq");
    assert_eq!(tokens(&large, "abxabq"), ["abx", "ab", "<unk>"]);
    let ids = |tokenizer: &Tokenizer| tokenizer.encode(&["abxabq"]).unwrap().concat();
    assert_eq!(ids(&large), [2, 1, 0]);
    assert_eq!(ids(&small), [2, 1, 0]);
    assert_eq!(vocabulary(&small), ["<unk>", "ab", "abx", "zz"]);
}

#[test]
fn wrong_ids_and_positions_that_would_move_are_refused() {
    let large = tower("bert", Precision::F32);
    let error = large.clone().with_vocabulary(&BTreeSet::from([5, 100_000])).unwrap_err().to_string();
    assert_eq!(error, "cannot prune the vocabulary: there is no token with id 100000");
}

#[test]
fn single_characters_are_known_with_their_marks() {
    for (name, character) in [("bert", '高'), ("gte_new", '高'), ("qwen3", 'a')] {
        let tower = tower(name, Precision::F32);
        let found = tower.tokenizer().single_characters();
        let ids: Vec<u32> = found.iter().filter(|(_, c)| *c == character).map(|(id, _)| *id).collect();
        assert!(!ids.is_empty(), "{name}: {found:?}");
    }
}
