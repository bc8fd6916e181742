//! Loads the same weights from the forms of published checkpoints: shards, prefixes, unused heads, bf16, modules of
//! sentence-transformers.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Document, Embeddings, Query};

use care_encoders::head::{HeadConfig, Pooling, TruncationOrder};
use care_encoders::{
    AsymmetricEncoder, Device, EncoderOptions, QueryTower, Source, load_encoder, load_tower, save_tower,
};
use common::{modules, rows, write_module};
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn tiny() -> PathBuf {
    fixture("qwen3")
}

fn read(name: &str) -> Tensors {
    let bytes = fs::read(fixture(name).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: &TensorView<'_>| {
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), values(&view)))).collect()
}

fn write(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|(_, values)| match dtype {
            Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A folder with the tiny model's configuration and tokenizer, and the weights that `make` writes.
fn folder(make: impl FnOnce(&Path, Tensors)) -> tempfile::TempDir {
    folder_of("qwen3", make)
}

/// The same for another fixture.
fn folder_of(name: &str, make: impl FnOnce(&Path, Tensors)) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(fixture(name).join(file), place.path().join(file)).unwrap();
    }
    make(place.path(), read(name));
    place
}

fn embed(folder: &Path) -> Embeddings {
    let tower = load_tower::<Query>(folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap()).unwrap();
    tower.embed(&["高血压患者能吃党参吗？".into(), "你好".into()], 4096).unwrap()
}

fn refusal(folder: &Path) -> String {
    let error = load_encoder(folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap()).unwrap_err().to_string();
    error.replace(&folder.display().to_string(), "M")
}

/// Two shards and their index.
fn shards(folder: &Path, tensors: Tensors) {
    let mut halves = [Tensors::new(), Tensors::new()];
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", index % 2 + 1)));
        halves[index % 2].insert(name, tensor);
    }
    for (index, half) in halves.iter().enumerate() {
        write(&folder.join(format!("model-0000{}-of-00002.safetensors", index + 1)), half, Dtype::F32);
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_equal_one_file() {
    let place = folder(shards);
    assert_eq!(embed(place.path()), embed(&tiny()));
}

#[test]
fn a_causal_language_model_loads_without_its_head() {
    let place = folder(|folder, tensors| {
        let mut named: Tensors = tensors.into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor)).collect();
        named.insert("lm_head.weight".into(), (vec![320, 64], vec![0.5; 320 * 64]));
        write(&folder.join("model.safetensors"), &named, Dtype::F32);
    });
    assert_eq!(embed(place.path()), embed(&tiny()));
}

/// The names of checkpoints that were converted from TensorFlow (chinese-roberta-wwm-ext, MacBERT, PubMedBERT), or
/// saved by older versions of transformers.
#[test]
fn older_names_of_berts_weights_are_read_and_its_heads_are_not_needed() {
    for (name, prefix, head, norms) in [
        ("bert", "bert.", "cls.predictions.transform.LayerNorm", ("gamma", "beta")),
        ("bert", "", "cls.seq_relationship", ("weight", "bias")),
        ("mpnet", "mpnet.", "lm_head.layer_norm", ("gamma", "beta")),
        ("distilbert", "", "pre_classifier", ("gamma", "beta")),
    ] {
        let place = folder_of(name, |folder, tensors| {
            let rename = |(tensor, values): (String, (Vec<usize>, Vec<f32>))| {
                let mut bare = tensor.strip_prefix(prefix).unwrap_or(&tensor).replace("distilbert.", "");
                if bare.contains("LayerNorm.") || bare.contains("layer_norm.") {
                    bare = bare.replace(".weight", &format!(".{}", norms.0)).replace(".bias", &format!(".{}", norms.1));
                }
                (format!("{prefix}{bare}"), values)
            };
            let mut renamed: Tensors =
                tensors.into_iter().filter(|(tensor, _)| !tensor.starts_with("lm_head.")).map(rename).collect();
            renamed.insert(format!("{head}.{}", norms.0), (vec![3], vec![0.5; 3]));
            renamed.insert(format!("{prefix}embeddings.position_ids"), (vec![1, 64], vec![0.0; 64]));
            write(&folder.join("model.safetensors"), &renamed, Dtype::F32);
        });
        assert_eq!(embed(place.path()), embed(&fixture(name)), "{name} {prefix}");
    }
}

#[test]
fn bf16_weights_are_read() {
    let place = folder(|folder, tensors| write(&folder.join("model.safetensors"), &tensors, Dtype::BF16));
    let (half, full) = (embed(place.path()), embed(&tiny()));
    assert_ne!(half, full);
    for row in 0..full.len() {
        assert!(full.cosine(row, &half, row) > 0.999);
    }
}

#[test]
fn shards_that_do_not_fit_their_index_are_refused() {
    let place = folder(shards);
    let second = place.path().join("model-00002-of-00002.safetensors");
    let (bytes, index) = (fs::read(&second).unwrap(), place.path().join("model.safetensors.index.json"));
    fs::remove_file(&second).unwrap();
    assert_eq!(refusal(place.path()), "cannot open M/model-00002-of-00002.safetensors");
    fs::write(&second, &bytes).unwrap();
    let text = fs::read_to_string(&index).unwrap().replace("\"norm.weight\"", "\"norm.other\"");
    fs::write(&index, text).unwrap();
    let message = refusal(place.path());
    assert!(message.starts_with("M/model.safetensors.index.json: tensor `norm.other` is not in model-"), "{message}");
}

/// A sentence-transformers folder of the tiny BERT with mean pooling, with a `Normalize` or without.
fn mean_chain(settings: &Value, normalize: bool) -> (tempfile::TempDir, PathBuf) {
    let (place, folder) = common::copy("bert");
    let rows = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];
    fs::write(folder.join("modules.json"), modules(&rows[..2 + usize::from(normalize)])).unwrap();
    write_module(&folder, "1_Pooling", &json!({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true}));
    fs::write(folder.join("config_sentence_transformers.json"), settings.to_string()).unwrap();
    (place, folder)
}

fn tower(folder: &Path, options: &EncoderOptions) -> QueryTower<care_encoders::AnyEncoder> {
    load_tower::<Query>(folder, options, &common::cpu()).unwrap()
}

fn vectors(folder: &Path, options: &EncoderOptions) -> Vec<Vec<f32>> {
    rows(&tower(folder, options).embed(&["头痛".into(), "高血压患者能吃党参吗？".into()], 4096).unwrap())
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[test]
fn a_model_meant_for_cosine_has_vectors_of_length_one() {
    let plain = EncoderOptions::default();
    let mean = plain.clone().with_pooling(Pooling::Mean);
    let expected = vectors(&common::fixture("bert"), &mean.clone().with_normalize(true));
    let raw = vectors(&common::fixture("bert"), &mean.with_normalize(false));
    assert!(raw.iter().all(|vector| length(vector) > 2.0), "lengths would show");
    for settings in [json!({}), json!({"similarity_fn_name": "cosine"}), json!({"similarity_fn_name": null})] {
        for normalize in [true, false] {
            let (_place, folder) = mean_chain(&settings, normalize);
            assert_eq!(vectors(&folder, &plain), expected, "{settings} {normalize}");
            assert_eq!(vectors(&folder, &plain.clone().with_normalize(false)), raw, "{settings} {normalize}");
        }
    }
    // Without the file of settings, it is the cosine too.
    let (_place, folder) = mean_chain(&json!({}), false);
    fs::remove_file(folder.join("config_sentence_transformers.json")).unwrap();
    assert_eq!(vectors(&folder, &plain), expected);
    // Truncated vectors are compared by cosine as well, so they are normalised once more.
    let (_place, folder) = mean_chain(&json!({"truncate_dim": 16}), true);
    let cut = vectors(&folder, &plain);
    assert!(cut.iter().all(|vector| vector.len() == 16 && (length(vector) - 1.0).abs() < 1e-6));
}

#[test]
fn a_model_meant_for_dot_products_keeps_its_lengths() {
    let plain = EncoderOptions::default();
    let dot = json!({"similarity_fn_name": "dot"});
    let mean = plain.clone().with_pooling(Pooling::Mean);
    let raw = vectors(&common::fixture("bert"), &mean.clone().with_normalize(false));
    let unit = vectors(&common::fixture("bert"), &mean.clone().with_normalize(true));
    let (_place, folder) = mean_chain(&dot, false);
    assert_eq!(vectors(&folder, &plain), raw);
    assert_eq!(vectors(&folder, &plain.clone().with_normalize(true)), unit);
    let (_place, folder) = mean_chain(&dot, true);
    assert_eq!(vectors(&folder, &plain), unit);
    let (_place, folder) = mean_chain(&json!({"similarity_fn_name": "dot", "truncate_dim": 16}), true);
    let first: Vec<Vec<f32>> = unit.iter().map(|vector| vector[..16].to_vec()).collect();
    assert_eq!(vectors(&folder, &plain), first, "shorter than 1, as in Python");
}

#[test]
fn other_similarities_are_refused_unless_the_options_decide() {
    let plain = EncoderOptions::default();
    let unit = vectors(&common::fixture("bert"), &plain.clone().with_pooling(Pooling::Mean).with_normalize(true));
    for (name, normalize) in [("euclidean", false), ("manhattan", false), ("manhattan", true), ("maxsim", false)] {
        let (_place, folder) = mean_chain(&json!({"similarity_fn_name": name}), normalize);
        let error = load_tower::<Query>(&folder, &plain, &common::cpu()).unwrap_err().to_string();
        let expected = format!(
            "M/config_sentence_transformers.json: `similarity_fn_name` is \"{name}\", allowed: cosine, dot; vectors are \
             compared by dot product; decide on their length by `normalize` (--normalize or --no-normalize)"
        );
        assert_eq!(error.replace(&folder.display().to_string(), "M"), expected);
        assert_eq!(vectors(&folder, &plain.clone().with_normalize(true)), unit, "{name}");
        assert!(vectors(&folder, &plain.clone().with_normalize(false)).iter().all(|vector| length(vector) > 2.0));
    }
    // Distances of unit vectors rank as their dot products do.
    let (_place, folder) = mean_chain(&json!({"similarity_fn_name": "euclidean"}), true);
    assert_eq!(vectors(&folder, &plain), unit);
}

#[test]
fn saved_towers_state_how_their_vectors_are_compared() {
    let cut_last = TruncationOrder::NormalizeThenTruncate;
    for (head, similarity) in [
        (HeadConfig::new(Pooling::Mean), "cosine"),
        (HeadConfig::new(Pooling::Mean).with_dim(16), "cosine"),
        (HeadConfig::new(Pooling::Mean).with_truncation(cut_last), "cosine"),
        (HeadConfig::new(Pooling::Mean).with_dim(16).with_truncation(cut_last), "dot"),
        (HeadConfig::new(Pooling::Mean).with_normalize(false), "dot"),
    ] {
        let loaded = tower(&common::fixture("bert"), &EncoderOptions::default());
        let loaded = loaded.try_map_network(|network| network.with_head(head.clone())).unwrap();
        let place = tempfile::tempdir().unwrap();
        save_tower(place.path(), &loaded).unwrap();
        let path = place.path().join("config_sentence_transformers.json");
        let settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(settings["similarity_fn_name"], similarity, "{head:?}");
        let saved = vectors(place.path(), &EncoderOptions::default());
        let expected = rows(&loaded.embed(&["头痛".into(), "高血压患者能吃党参吗？".into()], 4096).unwrap());
        assert!(common::difference(&saved, &expected) <= 1e-6, "{head:?}");
        // As saved by earlier versions: `dot` whatever the lengths.
        common::edit_json(&path, |settings| settings["similarity_fn_name"] = json!("dot"));
        assert_eq!(vectors(place.path(), &EncoderOptions::default()), saved, "{head:?}");
    }
}

#[test]
fn a_tower_says_what_it_was_made_of_and_from_where() {
    let plain = EncoderOptions::default();
    let line = |folder: &Path, options: &EncoderOptions| tower(folder, options).summary().to_string();
    assert_eq!(
        line(&common::fixture("bert"), &plain),
        "query tower: mean pooling (default of sentence-transformers), normalised, compared by cosine (default of \
         sentence-transformers), 64 dimensions (network), at most 64 tokens (tokenizer_config.json), no instruction \
         (default), f32 (default)"
    );
    let options = plain.clone().with_pooling(Pooling::Cls).with_instruction("问：").with_max_length(16).with_dim(8);
    assert_eq!(
        line(&common::fixture("qwen3_causal_lm"), &options.with_normalize(false)),
        "query tower: cls pooling (option), not normalised, compared by dot product (option), 8 dimensions (option), at \
         most 16 tokens (option), instruction \"问：{text}\" (option), f32 (default)"
    );
    let (place, folder) = mean_chain(&json!({"prompts": {"query": "q: "}, "truncate_dim": 16}), false);
    fs::write(folder.join("sentence_bert_config.json"), r#"{"max_seq_length": 32}"#).unwrap();
    assert_eq!(
        line(&folder, &plain),
        "query tower: mean pooling (1_Pooling/config.json), normalised, compared by cosine (default of \
         sentence-transformers), 16 dimensions (config_sentence_transformers.json), at most 32 tokens \
         (sentence_bert_config.json), instruction \"q: {text}\" (config_sentence_transformers.json), f32 (default)"
    );
    let options = plain.clone();
    let pair = AsymmetricEncoder::open(&folder, &options, &options, &common::cpu()).unwrap();
    pair.save(place.path().join("pair")).unwrap();
    let saved = tower(&place.path().join("pair"), &plain);
    assert_eq!(
        saved.summary().to_string(),
        "query tower: mean pooling (care.json), normalised, compared by cosine (care.json), 16 dimensions (care.json), \
         at most 32 tokens (care.json), instruction \"q: {text}\" (care.json), f32 (default)"
    );
    // What the program changes afterwards is no longer the folder's.
    let head = HeadConfig::new(Pooling::LastToken);
    let changed = saved.try_map_network(|network| network.with_head(head)).unwrap().summary();
    assert_eq!((changed.pooling.value, &changed.pooling.source), (Pooling::LastToken, &Source::Program));
    assert_eq!((changed.dim.value, &changed.dim.source), (64, &Source::Program));
    assert_eq!(changed.normalize.source, Source::File("care.json".into()));
}

#[test]
fn a_folder_that_states_no_pooling_has_the_last_token_if_causal_and_else_the_mean() {
    let pooling = |folder: &Path| tower(folder, &EncoderOptions::default()).network().head().pooling;
    assert_eq!(pooling(&common::fixture("bert")), Pooling::Mean);
    assert_eq!(pooling(&common::fixture("qwen3")), Pooling::LastToken);
    assert_eq!(pooling(&common::fixture("qwen3_causal_lm")), Pooling::LastToken);
    for (name, change, expected) in [
        ("qwen3_causal_lm", ("is_causal", json!(false)), Pooling::Mean),
        ("qwen3_causal_lm", ("architectures", Value::Null), Pooling::LastToken),
        ("qwen2", ("architectures", json!(["Qwen2ForCausalLM"])), Pooling::LastToken),
        ("bert", ("architectures", json!(["BertForMaskedLM", "BertForCausalLM"])), Pooling::Mean),
    ] {
        let (_place, folder) = common::copy(name);
        common::edit_json(&folder.join("config.json"), |config| config[change.0] = change.1.clone());
        assert_eq!(pooling(&folder), expected, "{name} {change:?}");
    }
}

/// A copy of the tiny BERT as a model of sentence-transformers whose routes, in folder `0_R`, are equal.
fn routed(class: &str, file: &str) -> (tempfile::TempDir, PathBuf) {
    let (place, folder) = common::copy("bert");
    let routes = folder.join("0_R");
    let (mut types, mut structure) = (json!({}), json!({}));
    for role in ["query", "document"] {
        let [transformer, pooling] = ["0_Transformer", "1_Pooling"].map(|name| format!("{role}_{name}"));
        fs::create_dir_all(routes.join(&transformer)).unwrap();
        for entry in fs::read_dir(common::fixture("bert")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), routes.join(&transformer).join(entry.file_name())).unwrap();
        }
        write_module(&routes, &pooling, &json!({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true}));
        types[&transformer] = json!("sentence_transformers.models.Transformer");
        types[&pooling] = json!("sentence_transformers.sentence_transformer.modules.pooling.Pooling");
        structure[role] = json!([transformer, pooling]);
    }
    let config = json!({"types": types, "structure": structure, "parameters": {"allow_empty_key": true}});
    fs::write(routes.join(file), config.to_string()).unwrap();
    let class = format!("sentence_transformers.{class}");
    let rows = json!([
        {"idx": 0, "name": "0", "path": "0_R", "type": class},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"},
    ]);
    fs::write(folder.join("modules.json"), rows.to_string()).unwrap();
    (place, folder)
}

#[test]
fn routers_of_every_version_are_read() {
    let options = EncoderOptions::default();
    let expected = vectors(&common::fixture("bert"), &options.clone().with_pooling(Pooling::Mean));
    for (class, file) in [
        ("models.Asym", "config.json"),
        ("models.Asym.Asym", "config.json"),
        ("models.Router", "router_config.json"),
        ("base.modules.router.Router", "router_config.json"),
    ] {
        let (_place, folder) = routed(class, file);
        assert_eq!(vectors(&folder, &options), expected, "{class}");
        assert!(AsymmetricEncoder::is_pair(&folder).unwrap(), "{class}");
    }
}

#[test]
fn each_role_has_its_length_limit() {
    let (_place, folder) = mean_chain(&json!({}), false);
    for (settings, query, document) in [
        (json!({"query_length": 8, "document_length": 32}), 8, 32),
        (json!({"query_length": 8, "max_seq_length": 16}), 8, 16),
        (json!({"max_seq_length": 16, "tokenizer_args": {"model_max_length": 24}}), 24, 24),
        (json!({"document_length": 500}), 64, 64),
    ] {
        fs::write(folder.join("sentence_bert_config.json"), settings.to_string()).unwrap();
        let options = EncoderOptions::default();
        let pair = AsymmetricEncoder::open(&folder, &options, &options, &common::cpu()).unwrap();
        let limits = [pair.query().tokenizer().max_length(), pair.document().tokenizer().max_length()];
        assert_eq!(limits, [query, document], "{settings}");
        let alone = load_tower::<Document>(&folder, &options, &common::cpu()).unwrap();
        assert_eq!(alone.tokenizer().max_length(), document, "{settings}");
    }
}

#[test]
fn do_lower_case_lowers_what_the_tokenizer_does_not() {
    let (_place, folder) = mean_chain(&json!({}), false);
    let ids = |text: &str| tower(&folder, &EncoderOptions::default()).tokenize(&[text.into()]).unwrap().remove(0);
    let set = |normalizer: Value, lower: bool| {
        common::edit_json(&folder.join("tokenizer.json"), |tokenizer| {
            tokenizer["normalizer"] = normalizer;
            // The tiny vocabulary has no letters.
            let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
            if let Some(id) = vocabulary.remove("5") {
                vocabulary.insert("a".into(), id);
            }
        });
        fs::write(folder.join("sentence_bert_config.json"), json!({"do_lower_case": lower}).to_string()).unwrap();
    };
    let cased = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": false,
                       "lowercase": false});
    let (upper, lower) = ("A 38", "a 38");
    set(cased.clone(), false);
    assert_ne!(ids(upper), ids(lower), "case matters without the setting");
    for normalizer in [cased, Value::Null, json!({"type": "Lowercase"})] {
        set(normalizer, true);
        assert_eq!(ids(upper), ids(lower));
    }
}

#[test]
fn every_pooling_equals_that_of_sentence_transformers() {
    let golden: Value = serde_json::from_slice(&fs::read(common::fixture("poolings.json")).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    let texts: Vec<Query> = texts.into_iter().map(Query::new).collect();
    let flag = |mode: &str| match mode {
        "lasttoken" => "pooling_mode_lasttoken".to_owned(),
        mode => format!("pooling_mode_{mode}_tokens"),
    };
    for name in ["bert", "qwen3"] {
        for (mode, expected) in golden[name].as_object().unwrap() {
            let expected: Vec<Vec<f32>> = serde_json::from_value(expected.clone()).unwrap();
            let parts: Vec<&str> = mode.split('+').collect();
            let newer = json!({"embedding_dimension": 64, "pooling_mode": parts, "include_prompt": true});
            let older = match parts.as_slice() {
                [one @ ("max" | "weightedmean" | "lasttoken")] => {
                    Some(json!({flag(one): true, "pooling_mode_mean_tokens": false}))
                }
                ["mean_sqrt_len_tokens"] => Some(json!({"pooling_mode_mean_sqrt_len_tokens": true})),
                // The flags have an order of their own.
                _ => None,
            };
            for settings in [Some(newer), older].into_iter().flatten() {
                let (_place, folder) = common::copy(name);
                fs::write(folder.join("modules.json"), modules(&[("Transformer", ""), ("Pooling", "p")])).unwrap();
                fs::write(folder.join("sentence_bert_config.json"), r#"{"max_seq_length": 32}"#).unwrap();
                write_module(&folder, "p", &settings);
                let raw = EncoderOptions::default().with_normalize(false);
                let off = common::difference(&rows(&tower(&folder, &raw).embed(&texts, 4096).unwrap()), &expected);
                assert!(off <= 1e-4, "{name} {mode}: {off}");
                // Saved and loaded, it is the same.
                let saved = tempfile::tempdir().unwrap();
                save_tower(saved.path(), &tower(&folder, &raw)).unwrap();
                let again = tower(saved.path(), &EncoderOptions::default());
                let off = common::difference(&rows(&again.embed(&texts, 4096).unwrap()), &expected);
                assert!(off <= 1e-4, "{name} {mode}, saved: {off}");
            }
        }
    }
}

#[test]
fn several_flags_of_the_older_form_are_concatenated_in_pythons_order() {
    let (_place, folder) = mean_chain(&json!({}), false);
    let pooling = |settings: Value| {
        write_module(&folder, "1_Pooling", &settings);
        tower(&folder, &EncoderOptions::default()).network().head().pooling.to_string()
    };
    let several = json!({"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true,
                         "pooling_mode_cls_token": false});
    assert_eq!(pooling(several), "max+mean+last-token");
    assert_eq!(pooling(json!({"word_embedding_dimension": 64})), "mean", "the default");
    assert_eq!(
        pooling(json!({"pooling_mode": "cls", "pooling_mode_max_tokens": true})),
        "cls",
        "the newer form decides"
    );
    assert_eq!(
        tower(&folder, &EncoderOptions::default().with_pooling("cls+mean".parse().unwrap())).embedding_dim(),
        128
    );
}
