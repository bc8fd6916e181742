//! PEFT adapters: parity with peft on tiny adapters (made by `tests/data/make_adapters.py`), saving, and errors.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use care_core::Document;
use care_encoders::batch::{PaddingSide, TokenBatch};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::lora::{LoraConfig, read_lora_config};
use care_encoders::{AnyEncoder, EncoderOptions, Network, load_encoder, load_tower};
use common::{cpu, difference, edit_json, fixture};
use serde_json::{Value, json};

/// Adapters that [`LoraConfig`] describes.
const NAMES: [&str; 9] = [
    "qwen3",
    "qwen3_causal_lm",
    "bert_rs",
    "gte_all",
    "names_causal_lm",
    "names_bert",
    "distilbert",
    "mpnet",
    "modernbert",
];

/// Adapters with settings of PEFT that it has no place for: the first such setting.
const FOREIGN: [(&str, &str); 11] = [
    ("regex_qwen3", "target_modules"),
    ("regex_bert", "target_modules"),
    ("layers_causal_lm", "layers_to_transform"),
    ("layers_bert", "exclude_modules"),
    ("patterns_qwen3", "rank_pattern"),
    ("patterns_bert", "rank_pattern"),
    ("dora_qwen3", "use_dora"),
    ("dora_bert", "bias"),
    ("bias_bert", "bias"),
    ("whole_qwen3", "modules_to_save"),
    ("whole_bert", "modules_to_save"),
];

struct Case {
    base: AnyEncoder,
    adapter: PathBuf,
    ids: Vec<Vec<u32>>,
    mean: Vec<Vec<f32>>,
}

fn case(name: &str) -> Case {
    let text = fs::read_to_string(fixture("adapters.json")).unwrap();
    let json = serde_json::from_str::<Value>(&text).unwrap()[name].clone();
    let base = fixture(json["base"].as_str().unwrap());
    Case {
        base: load_encoder(&base, &EncoderOptions::default(), &cpu()).unwrap(),
        adapter: fixture("adapters").join(name),
        ids: serde_json::from_value(json["ids"].clone()).unwrap(),
        mean: serde_json::from_value(json["mean"].clone()).unwrap(),
    }
}

fn means(encoder: AnyEncoder, ids: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &cpu()).unwrap();
    let data = network.forward(&TokenBatch::pad(ids, 0, PaddingSide::Right)).into_data();
    data.as_slice::<f32>().unwrap().chunks(network.embedding_dim()).map(<[f32]>::to_vec).collect()
}

#[test]
fn an_adapter_made_by_peft_gives_pefts_vectors_merged_or_not() {
    for name in NAMES.into_iter().chain(FOREIGN.map(|(name, _)| name)) {
        let Case { base, adapter, ids, mean } = case(name);
        let bare = means(base.clone(), &ids);
        assert!(difference(&bare, &mean) > 1e-2, "{name}: the adapter must have an effect");
        let adapted = base.with_adapter(&adapter).unwrap();
        let off = difference(&means(adapted.clone(), &ids), &mean);
        let merged = difference(&means(adapted.merge_lora(), &ids), &mean);
        eprintln!("| {name} | {off:.1e} | {merged:.1e} |");
        assert!(off <= 1e-5 && merged <= 1e-5, "{name}: {off}, merged {merged}");
    }
}

#[test]
fn an_adapter_that_is_written_comes_back() {
    for name in NAMES {
        let Case { base, adapter, ids, mean } = case(name);
        let config = read_lora_config(&adapter).unwrap();
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("adapter");
        base.clone().with_adapter(&adapter).unwrap().save_adapter(&target, &config, "base").unwrap();
        // Tensors are written without the checkpoint's prefix, and so are the names of targets.
        let bare = config.with(|lora| {
            lora.target_modules.iter_mut().for_each(|name| *name = name.trim_start_matches("model.").to_owned());
        });
        assert_eq!(read_lora_config(&target).unwrap(), bare);
        let again = base.with_adapter(&target).unwrap();
        assert!(difference(&means(again, &ids), &mean) <= 1e-5, "{name}");
    }
}

#[test]
fn settings_of_peft_that_training_lacks_are_not_read_as_training_settings() {
    for (name, field) in FOREIGN {
        let error = read_lora_config(fixture("adapters").join(name)).unwrap_err().to_string();
        let problem = format!(
            "adapter_config.json: `{field}` has no place in the settings of a LoRA adapter that is trained here"
        );
        assert!(error.ends_with(&problem), "{name}: {error}");
    }
}

#[test]
fn targets_may_have_the_prefix_of_the_checkpoint_or_not() {
    let Case { base, .. } = case("qwen3_causal_lm");
    let with = |targets: &[&str]| {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        base.clone().with_lora(&LoraConfig::reference().with(|lora| lora.target_modules = targets), 1)
    };
    let parameters = |targets: &[&str]| with(targets).unwrap().num_params() - base.num_params();
    let bare = parameters(&["layers.0.mlp.down_proj"]);
    assert!(bare > 0);
    for targets in
        [&["model.layers.0.mlp.down_proj"][..], &["0.mlp.down_proj"], &["nowhere", "model.layers.0.mlp.down_proj"]]
    {
        assert_eq!(parameters(targets), bare, "{targets:?}");
    }
    for targets in ["transformer.layers.0.mlp.down_proj", "own_proj"] {
        assert_eq!(
            with(&[targets]).unwrap_err().to_string(),
            format!("`target_modules` [{targets:?}] match no linear layer")
        );
    }
}

#[test]
fn an_adapter_is_not_written_under_settings_that_are_not_its_own() {
    let Case { base, adapter, .. } = case("qwen3");
    let config = read_lora_config(&adapter).unwrap();
    let adapted = base.clone().with_adapter(&adapter).unwrap();
    let place = tempfile::tempdir().unwrap();
    let refusal = |encoder: &AnyEncoder, config: &LoraConfig| {
        encoder.save_adapter(place.path().join("adapter"), config, "base").unwrap_err().to_string()
    };
    let first = "the layer `layers.0.self_attn.q_proj` has";
    let other = format!("{first} a LoRA adapter of another rank or scale");
    assert_eq!(refusal(&adapted, &config.clone().with(|lora| lora.alpha = 9.0)), other);
    assert_eq!(
        refusal(
            &adapted,
            &config.clone().with(|lora| {
                lora.rank = 8;
                lora.alpha = 16.0;
            })
        ),
        other
    );
    let fewer = config.clone().with(|lora| lora.target_modules = vec!["k_proj".into()]);
    assert_eq!(refusal(&adapted, &fewer), format!("{first} a LoRA adapter but is not a target"));
    assert_eq!(refusal(&base, &config), format!("{first} no LoRA adapter to save"));
    assert!(!place.path().join("adapter").exists());
}

#[test]
fn an_adapter_on_weights_of_16_bits_computes_merges_and_is_written() {
    let Case { base, adapter, ids, mean } = case("qwen3");
    let network = Network::new(base.with_adapter(&adapter).unwrap(), HeadConfig::new(Pooling::Mean), &cpu()).unwrap();
    let half = network.with_precision(care_encoders::Precision::Bf16);
    let encoder = half.encoder().clone();
    for encoder in [encoder.clone(), encoder.merge_lora()] {
        assert!(common::cosine(&means(encoder, &ids), &mean) > 0.999);
    }
}

#[test]
fn a_folder_with_its_base_model_in_it_is_adapted_too() {
    let Case { base, adapter, ids, mean } = case("qwen3");
    drop(base);
    let (_place, folder) = common::copy("qwen3");
    for entry in fs::read_dir(&adapter).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let options = EncoderOptions::default().with_pooling(Pooling::Mean);
    let tower = load_tower::<Document>(&folder, &options, &cpu()).unwrap();
    assert!(difference(&means(tower.network().encoder().clone(), &ids), &mean) <= 1e-5);
}

#[test]
fn a_fresh_adapter_adds_nothing_and_alone_learns() {
    let Case { base, ids, .. } = case("qwen3");
    let config = LoraConfig::reference().with(|lora| lora.dropout = 0.0);
    let fresh = base.clone().with_lora(&config, 1).unwrap();
    assert!(difference(&means(fresh.clone(), &ids), &means(base.clone(), &ids)) <= 1e-6);
    assert_eq!(
        fresh.num_params() - base.num_params(),
        2 * 32 * (64 + 128 + 64 + 64 + 64 + 64 + 128 + 64 + 64 + 128 + 64 + 128 + 128 + 64)
    );

    struct Learning(Vec<String>, care_encoders::internals::ParameterPath, burn::tensor::Gradients);
    impl burn::module::ModuleVisitor for Learning {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.1.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.1.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<burn::tensor::Tensor<D>>) {
            if param.val().grad(&self.2).is_some() {
                self.0.push(self.1.join());
            }
        }
    }
    let training = fresh.train();
    let batch = TokenBatch::pad(&ids, 0, PaddingSide::Right);
    let gradients = care_encoders::Encoder::forward(&training, &batch).sum().backward();
    let mut learning = Learning(Vec::new(), Default::default(), gradients);
    training.visit(&mut learning);
    assert_eq!(learning.0.len(), 2 * 7 * 2, "{:?}", learning.0);
    assert!(learning.0.iter().all(|path| path.contains(".lora.")), "{:?}", learning.0);
}

#[test]
fn dropout_is_drawn_in_training_only() {
    let Case { base, adapter, ids, .. } = case("qwen3");
    let adapted = base.with_adapter(&adapter).unwrap();
    let batch = TokenBatch::pad(&ids, 0, PaddingSide::Right);
    let twice = |encoder: &AnyEncoder| {
        [0, 1].map(|_| care_encoders::Encoder::forward(encoder, &batch).into_data().try_to_vec::<f32>().unwrap())
    };
    let [first, second] = twice(&adapted);
    assert_eq!(first, second);
    let [first, second] = twice(&adapted.train());
    assert_ne!(first, second);
}

#[test]
fn a_folder_of_an_adapter_is_a_model() {
    let Case { adapter, base, ids, mean } = case("qwen3");
    drop(base);
    let options = EncoderOptions::default().with_pooling(Pooling::Mean);
    let tower = load_tower::<Document>(&adapter, &options, &cpu()).unwrap();
    let network = tower.network().clone();
    let data = network.forward(&TokenBatch::pad(&ids, 0, PaddingSide::Right)).into_data();
    let vectors: Vec<Vec<f32>> = data.as_slice::<f32>().unwrap().chunks(64).map(<[f32]>::to_vec).collect();
    assert!(difference(&vectors, &mean) <= 1e-5);
    let given = options.with_adapter(adapter);
    let again = load_tower::<Document>(&fixture("qwen3"), &given, &cpu()).unwrap();
    let texts = ["头痛".into()];
    assert_eq!(tower.embed(&texts, 4096).unwrap(), again.embed(&texts, 4096).unwrap());
}

fn refusal(change: impl FnOnce(&Path), base: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("adapters/qwen3")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place.path().join(entry.file_name())).unwrap();
    }
    change(place.path());
    let base = load_encoder(fixture(base), &EncoderOptions::default(), &cpu()).unwrap();
    let error = base.with_adapter(place.path()).unwrap_err().to_string();
    error.replace(&place.path().display().to_string(), "A")
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_with_the_tensors_name() {
    let settings = |change: fn(&mut Value)| move |folder: &Path| edit_json(&folder.join("adapter_config.json"), change);
    let fit = "A/adapter_model.safetensors: the adapter does not fit this model: tensor";
    let nothing = |_: &Path| {};
    assert_eq!(
        refusal(settings(|c| c["r"] = json!(5)), "qwen3"),
        format!("{fit} `base_model.model.layers.0.self_attn.q_proj.lora_A.weight` has shape [4, 64], expected [5, 64]")
    );
    // The same names with other dimensions.
    let other = refusal(nothing, "llama");
    assert_eq!(
        other,
        format!("{fit} `base_model.model.layers.0.self_attn.q_proj.lora_A.weight` has shape [4, 64], expected [4, 72]")
    );
    let fewer = refusal(settings(|c| c["target_modules"] = json!(["q_proj"])), "qwen3");
    assert_eq!(fewer, format!("{fit} `base_model.model.layers.0.mlp.down_proj.lora_A.weight` is not expected"));
    let none = refusal(settings(|c| c["target_modules"] = json!(["nowhere"])), "qwen3");
    assert_eq!(none, format!("{fit} `base_model.model.layers.0.mlp.down_proj.lora_A.weight` is not expected"));
    assert!(refusal(nothing, "bert").starts_with(fit));
    let first = "base_model.model.layers.0.self_attn.q_proj";
    let settings_refused = |change: fn(&mut Value)| {
        let message = refusal(settings(change), "qwen3");
        message.strip_prefix("A/adapter_config.json: ").map(str::to_owned).unwrap_or(message)
    };
    // What the settings announce must be in the file.
    for (change, problem) in [
        ((|c| c["use_dora"] = json!(true)) as fn(&mut Value), format!("`{first}.lora_magnitude_vector` is missing")),
        (|c| c["lora_bias"] = json!(true), format!("`{first}.lora_B.bias` is missing")),
        (
            |c| c["rank_pattern"] = json!({"q_proj": 8}),
            format!("`{first}.lora_A.weight` has shape [4, 64], expected [8, 64]"),
        ),
        (
            |c| c["modules_to_save"] = json!(["down_proj"]),
            "`layers.0.mlp.down_proj.weight` of shape [64, 128] is missing".into(),
        ),
        (|c| c["exclude_modules"] = json!(["q_proj"]), format!("`{first}.lora_A.weight` is not expected")),
        (|c| c["exclude_modules"] = json!(".*layers.0.*q_proj"), format!("`{first}.lora_A.weight` is not expected")),
        // Without a prefix, PEFT's own expression finds no number in the names.
        (
            |c| c["layers_to_transform"] = json!([0, 1]),
            "`base_model.model.layers.0.mlp.down_proj.lora_A.weight` is not expected".into(),
        ),
    ] {
        assert_eq!(refusal(settings(change), "qwen3"), format!("{fit} {problem}"));
    }
    for (change, problem) in [
        (
            (|c| c["init_lora_weights"] = json!("pissa")) as fn(&mut Value),
            "`init_lora_weights` \"pissa\" is not supported",
        ),
        (|c| c["layer_replication"] = json!([[0, 2]]), "`layer_replication` [[0,2]] is not supported"),
        (|c| c["trainable_token_indices"] = json!([1]), "`trainable_token_indices` [1] is not supported"),
        (|c| c["use_next_idea"] = json!(true), "`use_next_idea` true is not supported"),
        (|c| c["bias"] = json!("some"), "`bias` \"some\" is not supported, only none, all or lora_only"),
        (|c| c["rank_pattern"] = json!({"q_proj": 0}), "`rank_pattern` is 0, allowed: 1..=4096"),
        (
            |c| c["target_modules"] = json!("(q_proj"),
            "`target_modules` is \"\\\\A(?:(q_proj)\\\\z\", allowed: regular expressions",
        ),
        (|c| c["target_modules"] = json!(7), "`target_modules` is 7, allowed: a list of names or a regular expression"),
        (
            |c| c["layers_pattern"] = json!("layers"),
            "`layers_pattern` is \"layers\", allowed: only with `layers_to_transform`",
        ),
    ] {
        assert_eq!(settings_refused(change), problem);
    }
    assert_eq!(
        refusal(settings(|c| c["peft_type"] = json!("IA3")), "qwen3"),
        "A/adapter_config.json: `peft_type` IA3 is not supported, only LORA"
    );
    assert_eq!(
        refusal(settings(|c| c["r"] = json!("4")), "qwen3"),
        "A/adapter_config.json: field `r`: invalid type: string \"4\", expected usize"
    );
}
