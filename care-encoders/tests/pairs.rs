//! Saved pairs and towers: saving, loading, and the other layouts that are read as a pair.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use care_core::{Document, Embedder, Instruction, Query, Text};

use care_encoders::{
    AnyEncoder, AsymmetricEncoder, Encoder, EncoderOptions, Network, Precision, Tower, load_encoder, load_tower,
    network_with_head, random_encoder, save_tower, tower_fingerprint,
};

use care_encoders::config::{BertConfig, EncoderConfig};

use care_encoders::head::{HeadConfig, Pooling, ProjectionActivation, ProjectionConfig, TruncationOrder};

use care_encoders::layers::Prepack;

use care_encoders::tokenize::Tokenizer;
use common::{cosine, cpu, difference, fixture, rows};
use serde_json::{Value, json};

fn texts<T: Text>() -> Vec<T> {
    ["高血压患者能吃党参吗？", "", "  \n", "🤒"].map(|text| T::from(text.to_owned())).into()
}

fn options(pooling: Pooling) -> EncoderOptions {
    EncoderOptions::default().with_pooling(pooling).with_max_length(40)
}

/// A tower of a fixture with the given head; a projection gets random weights.
fn tower<T: Text>(name: &str, head: HeadConfig, instruction: &str) -> Tower<T, AnyEncoder> {
    let encoder = load_encoder(fixture(name), &EncoderOptions::default(), &cpu()).unwrap();
    let pad = if name == "bert" { 0 } else { 317 };
    let network = network_with_head(encoder, head, 7, &cpu()).unwrap().prepacked(Prepack::F32);
    let tokenizer = Tokenizer::from_file(fixture(name).join("tokenizer.json"), pad, 32).unwrap();
    Tower::new(tokenizer, network, Instruction::new(instruction).unwrap()).unwrap()
}

fn assert_same(left: &AsymmetricEncoder, right: &AsymmetricEncoder) {
    assert_eq!(left.embed_queries(&texts()).unwrap(), right.embed_queries(&texts()).unwrap());
    assert_eq!(left.embed_documents(&texts()).unwrap(), right.embed_documents(&texts()).unwrap());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_saved_pair_loads_with_equal_vectors() {
    for (query, document) in [
        ("bert", "qwen3"),
        ("distilbert", "mpnet"),
        ("mpnet", "modernbert"),
        ("gte_new", "qwen2"),
        ("gte_new_plain", "qwen3_causal_lm"),
    ] {
        let asked = options(Pooling::Mean).with_instruction("问：");
        let pair = AsymmetricEncoder::new(
            load_tower(fixture(query), &asked, &cpu()).unwrap(),
            load_tower(fixture(document), &options(Pooling::LastToken), &cpu()).unwrap(),
        )
        .unwrap()
        .with_provenance(json!({"query": query}));
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pair");
        pair.save(&target).unwrap();
        // Saving again replaces the folder and leaves nothing beside it.
        pair.save(&target).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let again = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_same(&pair, &again);
        assert_eq!(again.provenance(), &json!({"query": query}));
        assert!(AsymmetricEncoder::is_pair(&target).unwrap());
        assert!(!AsymmetricEncoder::is_pair(fixture(query)).unwrap());
    }
}

#[test]
fn gte_is_saved_in_hugging_faces_form() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("pair");
    let options = EncoderOptions::default();
    AsymmetricEncoder::open(fixture("gte_new"), &options, &options, &cpu()).unwrap().save(&target).unwrap();
    let config = json(&target.join("query_0_Transformer/config.json"));
    assert_eq!([&config["model_type"], &config["architectures"][0]], ["gte", "GteModel"]);
    assert_eq!(config["rope_theta"], 160_000.0);
    assert_eq!(config["rope_scaling"]["rope_type"], "linear");
    assert_eq!(config["torch_dtype"], "float32");
}

#[test]
fn a_network_is_saved_under_the_field_names_of_its_own_architecture() {
    for (name, fields) in [
        ("bert", vec!["hidden_size", "num_hidden_layers", "intermediate_size", "hidden_act", "type_vocab_size"]),
        (
            "modernbert",
            vec!["hidden_activation", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"],
        ),
        ("mpnet", vec!["hidden_size", "layer_norm_eps", "max_position_embeddings", "pad_token_id"]),
        ("distilbert", vec!["dim", "n_layers", "n_heads", "hidden_dim", "activation", "dropout"]),
    ] {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pair");
        let options = EncoderOptions::default();
        AsymmetricEncoder::open(fixture(name), &options, &options, &cpu()).unwrap().save(&target).unwrap();
        let (written, read) =
            (json(&target.join("query_0_Transformer/config.json")), fixture(name).join("config.json"));
        for field in fields {
            assert_eq!(written[field], json(&read)[field], "{name}: {field}");
        }
        assert_eq!(written.get("hidden_size").is_some(), name != "distilbert");
    }
}

#[test]
fn a_modernbert_keeps_the_first_of_its_layers() {
    let load = |layers: Vec<usize>| {
        load_tower::<Query>(fixture("modernbert"), &EncoderOptions::default().with_layers(layers), &cpu())
    };
    for layers in [vec![1], vec![2, 3]] {
        let message =
            format!("`layers` is {layers:?}, allowed: lists that begin with 0, which modernbert networks need");
        assert_eq!(load(layers).unwrap_err().to_string(), message);
    }
    for (layers, types) in [
        (vec![0, 1, 3], ["full_attention", "sliding_attention", "full_attention"].as_slice()),
        (vec![0, 3], &["full_attention", "full_attention"]),
    ] {
        let cut = load(layers).unwrap();
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("tower");
        save_tower(&target, &cut).unwrap();
        let config = json(&target.join("config.json"));
        assert_eq!(config["layer_types"], json!(types));
        let again = load_tower::<Query>(&target, &EncoderOptions::default(), &cpu()).unwrap();
        assert_eq!(again.embed(&texts(), 4096).unwrap(), cut.embed(&texts(), 4096).unwrap());
    }
}

#[test]
fn every_head_survives_saving_and_its_modules_alone_compute_the_same() {
    let projection = |activation, bias| ProjectionConfig::new(24).with_bias(bias).with_activation(activation);
    let heads = [
        HeadConfig::new(Pooling::Cls),
        HeadConfig::new(Pooling::Mean).with_dim(16),
        HeadConfig::new(Pooling::LastToken).with_dim(16).with_truncation(TruncationOrder::NormalizeThenTruncate),
        HeadConfig::new(Pooling::Cls).with_normalize(false).with_dim(8),
        HeadConfig::new(Pooling::Cls).with_projection(projection(ProjectionActivation::Identity, true)),
        HeadConfig::new(Pooling::Mean).with_projection(projection(ProjectionActivation::Tanh, false)),
        HeadConfig::new(Pooling::Mean).with_projection(projection(ProjectionActivation::Tanh, true)).with_dim(8),
    ];
    for head in heads {
        let query = tower::<Query>("bert", head.clone(), "问：");
        let document = tower::<Document>("qwen3", head.clone(), "");
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pair");
        let pair = AsymmetricEncoder::new(query.clone(), document).unwrap();
        pair.save(&target).unwrap();
        let again = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_same(&pair, &again);
        assert_eq!(again.query().network().head(), &head);

        let single = place.path().join("single");
        save_tower(&single, &query).unwrap();
        let again = load_tower::<Query>(&single, &EncoderOptions::default(), &cpu()).unwrap();
        let [left, right] = [&query, &again].map(|tower| rows(&tower.embed(&texts(), 4096).unwrap()));
        assert!(difference(&left, &right) <= 1e-6, "{head:?}");

        // Without `care.json`, the pair is an ordinary `Router` model.
        fs::remove_file(target.join("care.json")).unwrap();
        let chain = json(&target.join("router_config.json"))["structure"]["query"].clone();
        let dense = |name: &Value| name.as_str().unwrap().ends_with("_Dense");
        let chain = chain.as_array().unwrap();
        let has_no_other_form =
            head.dim.is_some() && head.projection.is_some() || dense(chain.last().unwrap()) && head.normalize;
        match AsymmetricEncoder::load(&target, &cpu()) {
            Ok(plain) => {
                let [left, right] = [&pair, &plain].map(|pair| rows(&pair.embed_queries(&texts()).unwrap()));
                assert!(difference(&left, &right) <= 1e-6, "{head:?}");
            }
            // A truncation after `Normalize`, or after a projection, is a `Dense` that chains do not support there.
            Err(error) => assert!(has_no_other_form && error.to_string().contains("module Dense is not"), "{error}"),
        }
    }
}

#[test]
fn what_sentence_transformers_cannot_hold_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let suffix = tower::<Query>("bert", HeadConfig::new(Pooling::Cls), "问：{text}。");
    let error = save_tower(place.path().join("a"), &suffix).unwrap_err().to_string();
    assert_eq!(error, "the instruction \"问：{text}。\" is not a prefix, and sentence-transformers has no templates");
    let error = save_tower(place.path().parent().unwrap(), &suffix).unwrap_err().to_string();
    assert!(error.ends_with("the folder is not empty"), "{error}");
}

#[test]
fn the_published_layout_normalises_and_then_cuts_to_the_query_towers_width() {
    let place = tempfile::tempdir().unwrap();
    let document = place.path().join("doc_encoder");
    fs::create_dir(&document).unwrap();
    for entry in fs::read_dir(fixture("qwen3")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), document.join(entry.file_name())).unwrap();
    }
    // A query tower with half as many dimensions.
    let config = EncoderConfig::Bert(BertConfig::new(200, 32, 1));
    let network = Network::new(random_encoder(&config, 3, &cpu()).unwrap(), HeadConfig::new(Pooling::Cls), &cpu());
    let tokenizer = Tokenizer::from_file(fixture("bert/tokenizer.json"), 0, 32).unwrap();
    let query = Tower::<Query, _>::new(tokenizer, network.unwrap(), Instruction::default()).unwrap();
    save_tower(place.path().join("query_encoder"), &query).unwrap();
    let pair = AsymmetricEncoder::load(place.path(), &cpu()).unwrap();
    let [query, document] = [pair.query().network().head(), pair.document().network().head()];
    assert_eq!([query.pooling, document.pooling], [Pooling::Cls, Pooling::LastToken]);
    assert_eq!(document.truncation, TruncationOrder::NormalizeThenTruncate);
    assert_eq!([query.dim, document.dim], [Some(32); 2]);
    let last = EncoderOptions::default().with_pooling(Pooling::LastToken);
    let whole = load_tower::<Document>(&fixture("qwen3"), &last, &cpu()).unwrap().embed(&texts(), 4096).unwrap();
    let first: Vec<Vec<f32>> = rows(&whole).iter().map(|row| row[..32].to_vec()).collect();
    assert_eq!(first, rows(&pair.embed_documents(&texts()).unwrap()), "unit vectors, then cut");
}

#[test]
fn half_precision_stays_close_to_full() {
    for name in ["bert", "gte_new", "qwen3"] {
        let full = options(Pooling::Mean);
        let pair = AsymmetricEncoder::open(fixture(name), &full, &full, &cpu()).unwrap();
        let reference = pair.embed_queries(&texts()).unwrap();
        for precision in [Precision::Bf16, Precision::F16] {
            let half = full.clone().with_precision(precision);
            let loaded = AsymmetricEncoder::open(fixture(name), &half, &half, &cpu()).unwrap();
            let (query, document) = pair.clone().into_towers();
            // The towers are unpacked, and few rows would then be multiplied by burn, in another order.
            let query = query.map_network(|network| network.with_precision(precision).prepacked(Prepack::F32));
            let cast = AsymmetricEncoder::new(query, document).unwrap();
            let [loaded, cast] = [loaded, cast].map(|pair| pair.embed_queries(&texts()).unwrap());
            assert_eq!(loaded, cast, "{name}: converting on loading or afterwards must be equal");
            for row in 0..reference.len() {
                let cosine = reference.cosine(row, &loaded, row);
                assert!(cosine > 0.999, "{name} {precision:?}: {cosine}");
            }
        }
    }
}

#[test]
fn the_padding_token_of_a_saved_tokenizer_is_a_special_one() {
    let (_place, folder) = common::copy("qwen3");
    common::edit_json(&folder.join("config.json"), |config| config["pad_token_id"] = Value::Null);
    let load = || load_tower::<Document>(&folder, &EncoderOptions::default(), &cpu()).unwrap();
    // The tokenizer's settings name it if the network's do not.
    assert_eq!(load().tokenizer().pad_id(), 317);
    fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    // Nothing names it: 0 pads batches, but if it were saved, Python would split texts at that token.
    let tower = load();
    assert_eq!(tower.tokenizer().pad_id(), 0);
    let saved = folder.with_file_name("saved");
    save_tower(&saved, &tower).unwrap();
    assert_eq!(json(&saved.join("tokenizer_config.json"))["pad_token"], "<|endoftext|>");

    let (_place, folder) = common::copy("roberta");
    common::edit_json(&folder.join("config.json"), |config| config["pad_token_id"] = Value::Null);
    let encoder = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap();
    assert_eq!(encoder.config().to_json()["pad_token_id"], 1);
}

#[test]
fn saving_replaces_nothing_but_a_saved_pair() {
    let options = EncoderOptions::default();
    let pair = AsymmetricEncoder::open(fixture("bert"), &options, &options, &cpu()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    for name in ["query_log.jsonl", "document_vectors.npy", "query_0_Transformer"] {
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join(name), "mine").unwrap();
        let error = pair.save(&target).unwrap_err().to_string();
        assert!(error.ends_with("which is not part of a saved pair"), "{error}");
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), "mine");
        fs::remove_dir_all(&target).unwrap();
    }
    fs::create_dir_all(target.join("query_notes")).unwrap();
    assert!(pair.save(&target).unwrap_err().to_string().contains("query_notes"));
    fs::remove_dir_all(&target).unwrap();
    fs::write(&target, "mine").unwrap();
    assert!(pair.save(&target).unwrap_err().to_string().starts_with("cannot read "));
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
}

#[test]
fn int8_is_for_inference_and_has_vectors_of_its_own() {
    let options = |precision| options(Pooling::Mean).with_precision(precision);
    let (plain, rounded) = (options(Precision::F32), options(Precision::Int8));
    for name in ["bert", "gte_new", "qwen3"] {
        let exact = AsymmetricEncoder::open(fixture(name), &plain, &plain, &cpu()).unwrap();
        // Queries in int8 against documents in f32: two copies of one network.
        let pair = AsymmetricEncoder::open(fixture(name), &rounded, &plain, &cpu()).unwrap();
        assert_eq!(pair.embed_documents(&texts()).unwrap(), exact.embed_documents(&texts()).unwrap(), "{name}");
        let (queries, expected) = (pair.embed_queries(&texts()).unwrap(), exact.embed_queries(&texts()).unwrap());
        for row in 0..queries.len() {
            let cosine = queries.cosine(row, &expected, row);
            assert!((0.99..0.999_999_9).contains(&cosine), "{name}: {cosine}");
        }
        let fingerprint = |pair: &AsymmetricEncoder| tower_fingerprint(pair.query()).unwrap();
        assert_ne!(fingerprint(&pair), fingerprint(&exact), "{name}");
        assert_eq!(fingerprint(&exact), tower_fingerprint(exact.document()).unwrap(), "{name}");
        // Reading the weights for the fingerprint has not unpacked them.
        assert_eq!(pair.embed_queries(&texts()).unwrap(), queries, "{name}");

        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pair");
        // What is stored in int8 is the same network, bit by bit, and no other.
        pair.save(&target).unwrap();
        let stated = EncoderOptions::default();
        let stored = AsymmetricEncoder::open(&target, &stated, &stated, &cpu()).unwrap();
        assert_eq!(stored.embed_queries(&texts()).unwrap(), queries, "{name}");
        assert_eq!(stored.embed_documents(&texts()).unwrap(), exact.embed_documents(&texts()).unwrap(), "{name}");
        assert_eq!(fingerprint(&stored), fingerprint(&pair), "{name}");
        assert_eq!(stored.query().summary().precision.value, Precision::Int8);
        assert_eq!(stored.query().summary().precision.source.to_string(), "model.safetensors");
        // The card offers only programs that read it.
        let card = stored.card_head();
        let lines = card.lines().filter(|line| line.ends_with(", weights in int8"));
        assert_eq!(lines.map(|line| line.starts_with("- queries: ")).collect::<Vec<_>>(), [true], "{card}");
        assert!(card.contains("care convert --precision f32") && !card.contains("sentence"), "{card}");
        // In another dtype, the weights are the same numbers, and the network trains and is saved as any other.
        let wider = stated.clone().with_precision(Precision::F32);
        let plain = AsymmetricEncoder::open(&target, &wider, &stated, &cpu()).unwrap();
        let unpacked = pair.clone().into_towers().0;
        let [plain_rows, unpacked_rows] =
            [plain.embed_queries(&texts()), unpacked.embed(&texts(), 512)].map(|it| rows(&it.unwrap()));
        assert!(difference(&plain_rows, &unpacked_rows) < 1e-6, "{name}");
        assert!(!plain.query().network().encoder().is_quantized());
        plain.save(place.path().join("plain")).unwrap();
        // As training loads it, without a dtype and without quantizing first.
        let mut floats = stated.clone();
        floats.floats = true;
        let trained = AsymmetricEncoder::open(&target, &floats, &floats, &cpu()).unwrap();
        assert!(!trained.query().network().encoder().is_quantized());
        assert_eq!(fingerprint(&trained), fingerprint(&plain), "{name}");
        let mut asked = stated.with_precision(Precision::Int8);
        asked.floats = true;
        let asked = AsymmetricEncoder::open(&target, &asked, &asked, &cpu()).unwrap();
        assert!(asked.query().network().encoder().is_quantized(), "an explicit dtype wins");
        // Unpacking does not restore the original weights.
        let (query, document) = pair.into_towers();
        let pair = AsymmetricEncoder::new(query.map_network(Network::unpacked), document).unwrap();
        let other = place.path().join("other");
        let refusal = "`precision` is int8, allowed: f32, bf16, f16, or int8 as loaded, to save a network";
        assert_eq!(pair.save(&other).unwrap_err().to_string(), refusal);
        assert!(!other.exists());
    }
}

#[test]
fn a_stored_int8_weight_without_its_scales_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let int8 = options(Pooling::Mean).with_precision(Precision::Int8);
    let tower: Tower<Query, AnyEncoder> = load_tower(fixture("bert"), &int8, &cpu()).unwrap();
    let folder = place.path().join("int8");
    save_tower(&folder, &tower).unwrap();
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    // A table of embeddings has a scale for each row.
    let [table, scales] = ["", "_scale"].map(|end| format!("embeddings.word_embeddings.weight{end}"));
    assert_eq!(stored.tensor(&table).unwrap().dtype(), safetensors::Dtype::I8);
    assert_eq!(stored.tensor(&scales).unwrap().shape(), &stored.tensor(&table).unwrap().shape()[..1]);
    let without = stored.iter().filter(|(tensor, _)| *tensor != scales);
    safetensors::serialize_to_file(without, None, &file).unwrap();
    let error = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap_err().to_string();
    assert!(error.contains(&format!("tensor `{scales}` of shape")) && error.contains("is missing"), "{error}");
    let name = "encoder.layer.0.attention.self.query.weight";
    let (weight, scale) = (stored.tensor(name).unwrap(), format!("{name}_scale"));
    assert_eq!(weight.dtype(), safetensors::Dtype::I8);
    let [outputs, _] = weight.shape() else { panic!("a matrix") };
    assert_eq!(stored.tensor(&scale).unwrap().shape(), [*outputs]);
    let without = stored.iter().filter(|(tensor, _)| *tensor != scale);
    safetensors::serialize_to_file(without, None, &file).unwrap();
    let error = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap_err().to_string();
    assert!(error.contains(&format!("tensor `{scale}` of shape [{outputs}] is missing")), "{error}");
    let mut least = bytes.clone();
    let start = bytes.len() - stored.iter().map(|(_, view)| view.data().len()).sum::<usize>();
    least[start + weight.data().as_ptr().addr() - bytes[start..].as_ptr().addr()] = 0x80;
    fs::write(&file, &least).unwrap();
    let error = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap_err().to_string();
    assert!(error.ends_with(&format!("tensor `{name}` contains -128, allowed: -127 to 127")), "{error}");
}

#[test]
fn weights_of_sixteen_and_of_four_bits_are_packed_and_near_those_of_f32() {
    use care_encoders::Encoder as _;
    for name in ["bert", "gte_new", "modernbert", "qwen3"] {
        let load = |precision| -> Tower<Query, AnyEncoder> {
            load_tower(fixture(name), &options(Pooling::Mean).with_precision(precision), &cpu()).unwrap()
        };
        let full = load(Precision::F32);
        let expected = full.embed(&texts(), 4096).unwrap();
        let mut bytes = full.network().weight_bytes();
        for (precision, prepack, bound) in [
            (Precision::F16, Prepack::F16, 0.999_99),
            (Precision::Bf16, Prepack::Bf16, 0.9995),
            (Precision::Int4, Prepack::Int4, 0.9),
        ] {
            let tower = load(precision);
            let encoder = tower.network().encoder();
            encoder.clone().for_each_linear(&mut |linear| assert_eq!(linear.prepacked(), Some(prepack), "{name}"));
            assert!(encoder.prefers_varlen(), "{name}: the kernels compute it");
            let vectors = tower.embed(&texts(), 4096).unwrap();
            for row in 0..vectors.len() {
                let cosine = vectors.cosine(row, &expected, row);
                assert!((bound..1.000_001).contains(&cosine), "{name} {precision:?}: {cosine}");
            }
            assert_eq!(tower.summary().precision.value, precision);
            assert_ne!(tower_fingerprint(&tower).unwrap(), tower_fingerprint(&full).unwrap());
            assert_eq!(tower.embed(&texts(), 1).unwrap(), vectors, "{name} {precision:?}: alone and together");
            let changed = full.clone().map_network(|network| network.with_precision(precision));
            assert_eq!(changed.embed(&texts(), 4096).unwrap(), vectors, "{name} {precision:?}");
            assert!(tower.network().weight_bytes() <= bytes, "{name} {precision:?}");
            bytes = tower.network().weight_bytes();
        }
        let place = tempfile::tempdir().unwrap();
        let error = save_tower(place.path().join("int4"), &load(Precision::Int4)).unwrap_err().to_string();
        assert_eq!(error, "`precision` is int4, allowed: f32, bf16, f16, or int8 as loaded, to save a network");
    }
}

#[test]
fn a_change_of_a_loaded_tower_is_in_its_fingerprint_and_in_what_is_saved() {
    let (base, adapter) = (fixture("bert"), fixture("adapters").join("bert_rs"));
    let loaded: Tower<Query, AnyEncoder> = load_tower(&base, &options(Pooling::Mean), &cpu()).unwrap();
    let before = tower_fingerprint(&loaded).unwrap();
    let with_adapter = |network: Network<AnyEncoder>| {
        network.try_map_encoder(|encoder| Ok(encoder.with_adapter(&adapter)?.merge_lora()))
    };
    let changed = tower_fingerprint(&loaded.clone().try_map_network(with_adapter).unwrap()).unwrap();
    assert_ne!(changed, before);
    let asked = options(Pooling::Mean).with_adapter(adapter.clone());
    assert_eq!(changed, tower_fingerprint(&load_tower::<Query>(&base, &asked, &cpu()).unwrap()).unwrap());
    assert_eq!(tower_fingerprint(&loaded).unwrap(), before);
    let mut updated = loaded.clone();
    updated.update_network(|network| network.with_precision(Precision::Int8));
    assert_ne!(tower_fingerprint(&updated).unwrap(), before);
    let half = loaded.map_network(|network| network.with_precision(Precision::Bf16));
    assert_ne!(tower_fingerprint(&half).unwrap(), before);
    let place = tempfile::tempdir().unwrap();
    save_tower(place.path().join("half"), &half).unwrap();
    let again = load_encoder(place.path().join("half"), &EncoderOptions::default(), &cpu()).unwrap();
    let again = half.clone().map_network(|network| network.map_encoder(|_| again).with_precision(Precision::Bf16));
    assert_eq!(tower_fingerprint(&again).unwrap(), tower_fingerprint(&half).unwrap(), "bf16 must be saved as bf16");
}

#[test]
fn the_dtype_of_a_loaded_tower_can_be_changed() {
    for name in ["bert", "qwen3"] {
        let load = |precision| -> Tower<Query, AnyEncoder> {
            load_tower(fixture(name), &options(Pooling::Mean).with_precision(precision), &cpu()).unwrap()
        };
        let vectors = |tower: &Tower<Query, AnyEncoder>| rows(&tower.embed(&texts(), 4096).unwrap());
        let change = |tower: &Tower<Query, AnyEncoder>, precision| {
            tower.clone().map_network(|network| network.with_precision(precision))
        };
        let packed = |tower: &Tower<Query, AnyEncoder>| {
            let mut forms = Vec::new();
            tower.network().encoder().clone().for_each_linear(&mut |linear| forms.push(linear.prepacked()));
            forms.dedup();
            forms
        };
        let full = load(Precision::F32);
        let (expected, quantized) = (vectors(&full), vectors(&load(Precision::Int8)));
        assert_ne!(expected, quantized, "{name}");
        // int8 of a packed tower is int8, also of one in bf16.
        let int8 = change(&full, Precision::Int8);
        assert_eq!((vectors(&int8), packed(&int8)), (quantized, vec![Some(Prepack::Int8)]), "{name}");
        assert!(int8.network().encoder().is_quantized() && !full.network().encoder().is_quantized());
        assert_eq!(int8.summary().precision.value, Precision::Int8);
        let half = change(&full, Precision::Bf16);
        assert!(change(&half, Precision::Int8).network().encoder().is_quantized());
        assert_eq!(packed(&change(&half, Precision::Int8)), [Some(Prepack::Int8)], "{name}");
        // f32 of a packed tower stays packed, and so does the tower itself.
        let same = change(&full, Precision::F32);
        assert_eq!((vectors(&same), packed(&same)), (expected.clone(), vec![Some(Prepack::F32)]), "{name}");
        assert_eq!((vectors(&full), packed(&full)), (expected, vec![Some(Prepack::F32)]), "{name}");
        assert_eq!(Precision::of(half.network().encoder()), Precision::Bf16);
    }
}

#[test]
fn a_pair_is_opened_from_two_folders() {
    let (query, document) = (options(Pooling::Mean).with_instruction("问："), options(Pooling::LastToken));
    let pair = AsymmetricEncoder::open_two(fixture("bert"), fixture("qwen3"), &query, &document, &cpu()).unwrap();
    let towers = AsymmetricEncoder::new(
        load_tower(fixture("bert"), &query, &cpu()).unwrap(),
        load_tower(fixture("qwen3"), &document, &cpu()).unwrap(),
    );
    assert_same(&pair, &towers.unwrap());
    // Of a pair, the tower of the role is taken.
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("pair");
    pair.save(&target).unwrap();
    let plain = EncoderOptions::default();
    let again = AsymmetricEncoder::open_two(&target, &target, &plain, &plain, &cpu()).unwrap();
    assert_same(&pair, &again);
    let narrow = query.with_dim(16);
    let error = AsymmetricEncoder::open_two(fixture("bert"), &target, &narrow, &plain, &cpu()).unwrap_err().to_string();
    assert_eq!(error, "the query tower has 16 dimensions and the document tower 64; set `dim` of the wider one");
}

#[test]
fn fingerprints_and_copies_leave_a_packed_tower_packed_and_equal_those_of_a_plain_one() {
    use care_encoders::Encoder as _;
    let packed = load_tower::<Query>(fixture("bert"), &EncoderOptions::default(), &cpu()).unwrap();
    let plain = packed.clone().map_network(|network| network.unpacked_copy());
    let int8 = EncoderOptions::default().with_precision(Precision::Int8);
    let int8 = load_tower::<Query>(fixture("bert"), &int8, &cpu()).unwrap();
    let filled = load_tower::<Query>(fixture("bert"), &EncoderOptions::default(), &cpu()).unwrap();
    let quantized = filled.map_network(|network| network.unpacked_copy().with_precision(Precision::Int8));
    let of = |tower| tower_fingerprint(tower).unwrap();
    assert_eq!(of(&packed), of(&plain));
    assert_eq!(of(&int8), of(&quantized));
    assert_ne!(of(&int8), of(&packed));
    let place = tempfile::tempdir().unwrap();
    for (name, tower) in [("packed", &packed), ("plain", &plain)] {
        save_tower(place.path().join(name), tower).unwrap();
    }
    let [first, second] =
        ["packed", "plain"].map(|name| std::fs::read(place.path().join(name).join("model.safetensors")).unwrap());
    assert_eq!(first, second);
    for tower in [&packed, &int8] {
        let mut layers = 0;
        tower.network().encoder().clone().for_each_linear(&mut |linear| {
            assert!(linear.prepacked().is_some());
            layers += 1;
        });
        assert_eq!(layers, 12);
    }
}

/// Outliers as trained decoders have them: of 4,096 gated states, one is so large, and the weights that read it so small,
/// that in 127 steps from the least to the largest state nothing is left of the others.
#[test]
fn int8_of_a_gated_decoder_withstands_outliers_behind_the_gate() {
    const HIDDEN: usize = 64;
    const INNER: usize = 4096;
    let mut state = 1u64;
    let mut random = |count: usize, scale: f32| -> Vec<f32> {
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        // The sum of three is nearly normal, with variance 1.
        (0..count).map(|_| scale * (uniform() + uniform() + uniform())).collect()
    };
    for (family, outlier) in [("llama", 100.0), ("qwen2", 1000.0), ("mistral", 300.0)] {
        let place = tempfile::tempdir().unwrap();
        let config = json!({
            "model_type": family, "vocab_size": 60, "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
        });
        fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        let layer = |name: &str| format!("layers.0.{name}.weight");
        let mut tensors = vec![("embed_tokens.weight".to_owned(), vec![60, HIDDEN], random(60 * HIDDEN, 1.0))];
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            let square = vec![HIDDEN, HIDDEN];
            tensors.push((layer(&format!("self_attn.{name}")), square, random(HIDDEN * HIDDEN, 0.05)));
            if family == "qwen2" && name != "o_proj" {
                tensors.push((format!("layers.0.self_attn.{name}.bias"), vec![HIDDEN], vec![0.0; HIDDEN]));
            }
        }
        for name in ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"] {
            tensors.push((format!("{name}.weight"), vec![HIDDEN], vec![1.0; HIDDEN]));
        }
        tensors.push((layer("mlp.gate_proj"), vec![INNER, HIDDEN], random(INNER * HIDDEN, 0.15)));
        let mut up = random(INNER * HIDDEN, 0.1);
        up[3 * HIDDEN..4 * HIDDEN].iter_mut().for_each(|weight| *weight *= outlier);
        tensors.push((layer("mlp.up_proj"), vec![INNER, HIDDEN], up));
        let mut down = random(HIDDEN * INNER, 0.02);
        down.iter_mut().skip(3).step_by(INNER).for_each(|weight| *weight /= outlier);
        tensors.push((layer("mlp.down_proj"), vec![HIDDEN, INNER], down));
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (name.clone(), view.unwrap())
        });
        safetensors::serialize_to_file(views, None, &place.path().join("model.safetensors")).unwrap();

        let texts: Vec<Vec<u32>> =
            (1..20).map(|length| (0..length).map(|at| (7 * at * at + 3 * length) % 60).collect()).collect();
        for pooling in [Pooling::Mean, Pooling::LastToken] {
            let vectors = |precision| {
                let options = EncoderOptions::default().with_precision(precision);
                let encoder = load_encoder(place.path(), &options, &cpu()).unwrap();
                let network = Network::new(encoder, HeadConfig::new(pooling), &cpu()).unwrap();
                rows(&network.embed_ids(&texts, 0, 4096, &mut |_| {}).unwrap())
            };
            let least = cosine(&vectors(Precision::F32), &vectors(Precision::Int8));
            assert!((0.99..0.999_999).contains(&least), "{family}, {pooling}: {least}");
        }
    }
}

#[test]
fn a_network_that_serves_both_roles_is_saved_once() {
    for name in ["bert", "qwen3"] {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pair");
        // Instructions and heads differ, which are not in the network's folder.
        let (query, document) =
            (options(Pooling::Mean).with_instruction("问："), options(Pooling::LastToken).with_dim(64));
        let pair = AsymmetricEncoder::open(fixture(name), &query, &document, &cpu()).unwrap();
        pair.save(&target).unwrap();
        assert!(!target.join("document_0_Transformer").exists(), "{name}");
        assert_eq!(json(&target.join("care.json"))["shared_transformer"], true);
        let router = json(&target.join("router_config.json"));
        for role in ["query", "document"] {
            let modules = router["structure"][role].as_array().unwrap();
            assert_eq!(modules[0], "query_0_Transformer", "{name}, {role}");
            for module in modules.iter().map(|module| module.as_str().unwrap()) {
                assert!(router["types"][module].is_string() && target.join(module).is_dir(), "{name}: {module}");
            }
        }
        let again = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_same(&pair, &again);
        assert!(!AsymmetricEncoder::is_pair(&target).unwrap());
        let plain = EncoderOptions::default();
        let alone = load_tower::<Document>(&target, &plain, &cpu()).unwrap();
        assert_eq!(alone.embed(&texts(), 4096).unwrap(), pair.embed_documents(&texts()).unwrap());
        // As a `Router` model without our file, as other programs see it.
        fs::remove_file(target.join("care.json")).unwrap();
        assert_same(&pair, &AsymmetricEncoder::load(&target, &cpu()).unwrap());

        // Saved again, from memory or as two networks that happen to be the same.
        let towers = AsymmetricEncoder::new(
            load_tower(fixture(name), &query, &cpu()).unwrap(),
            load_tower(fixture(name), &document, &cpu()).unwrap(),
        );
        for (pair, file) in [(again, "again"), (towers.unwrap(), "towers")] {
            pair.save(place.path().join(file)).unwrap();
            assert!(!place.path().join(file).join("document_0_Transformer").exists(), "{name}, {file}");
        }
    }
}

#[test]
fn towers_that_differ_in_weights_dtype_or_length_are_saved_apart() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("pair");
    let plain = options(Pooling::Mean);
    let adapted = plain.clone().with_adapter(fixture("adapters").join("bert_rs"));
    for (what, query) in [
        ("weights", adapted),
        ("dtype", plain.clone().with_precision(Precision::Bf16)),
        ("length", plain.clone().with_max_length(20)),
        ("layers", plain.clone().with_layers([0])),
    ] {
        let pair = AsymmetricEncoder::open(fixture("bert"), &query, &plain, &cpu()).unwrap();
        pair.save(&target).unwrap();
        assert!(target.join("document_0_Transformer/model.safetensors").is_file(), "{what}");
        assert_eq!(json(&target.join("care.json")).get("shared_transformer"), None, "{what}");
        let again = AsymmetricEncoder::load(&target, &cpu()).unwrap();
        assert_eq!(again.embed_documents(&texts()).unwrap(), pair.embed_documents(&texts()).unwrap(), "{what}");
        assert!(AsymmetricEncoder::is_pair(&target).unwrap());
    }
    // Of the same configuration and source.
    let one = AsymmetricEncoder::open(fixture("bert"), &plain, &plain, &cpu()).unwrap();
    let keep = |network: Network<AnyEncoder>, layer| network.map_encoder(|e| e.with_layers(&[layer]).unwrap());
    let query = one.query().clone().map_network(|network| keep(network, 0));
    let document = one.document().clone().map_network(|network| keep(network, 1));
    let pair = AsymmetricEncoder::new(query, document).unwrap();
    pair.save(&target).unwrap();
    assert!(target.join("document_0_Transformer").is_dir());
    assert_same(&pair, &AsymmetricEncoder::load(&target, &cpu()).unwrap());
}
