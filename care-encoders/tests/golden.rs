//! Parity with transformers on tiny checkpoints, on every compiled-in backend.
//!
//! The reference values were made by `tests/data/make_reference.py`. The printed lines are the table of
//! `docs/parity.md`.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use care_core::Document;

use care_encoders::{
    AnyEncoder, Device, Encoder, EncoderOptions, Network, Precision, load_encoder, load_tower, save_tower,
};

use care_encoders::batch::{PaddingSide, TokenBatch};

use care_encoders::head::{HeadConfig, Pooling};

use care_encoders::layers::Prepack;

use care_kernels::InstructionSet;
use common::{cosine, difference, fixture, rows};
use serde_json::{Value, json};

const POOLINGS: [(&str, Pooling); 3] = [("cls", Pooling::Cls), ("mean", Pooling::Mean), ("last", Pooling::LastToken)];

fn golden(name: &str) -> Value {
    let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let own = fixture(name).join("golden.json");
    if own.exists() { read(own) } else { read(fixture("golden.json"))[name].clone() }
}

fn ids(case: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(case["ids"].clone()).unwrap()
}

fn vectors(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The largest difference allowed for a backend in f32.
fn tolerance(device: Device) -> f32 {
    match device {
        Device::Cpu => 1e-5,
        _ => 1e-4,
    }
}

fn forward(network: &Network<AnyEncoder>, texts: &[Vec<u32>], pad: u32, side: PaddingSide) -> Vec<Vec<f32>> {
    forward_batch(network, &TokenBatch::pad(texts, pad, side))
}

fn forward_batch(network: &Network<AnyEncoder>, batch: &TokenBatch) -> Vec<Vec<f32>> {
    let data = network.forward(batch).into_data();
    data.as_slice::<f32>().unwrap().chunks(network.embedding_dim()).map(<[f32]>::to_vec).collect()
}

#[cfg(feature = "cpu")]
#[test]
fn a_batch_that_threads_divide_gives_each_text_what_it_has_alone() {
    let device = Device::Cpu.open().unwrap();
    let texts: Vec<Vec<u32>> = ids(&golden("bert")["ids"]).into_iter().cycle().take(200).collect();
    let batch = TokenBatch::varlen(&texts);
    assert!(batch.token_count() > 1000, "{} tokens", batch.token_count());
    let encoder = load_encoder(fixture("bert"), &EncoderOptions::default(), &device).unwrap();
    for prepack in [Prepack::F32, Prepack::Bf16, Prepack::F16, Prepack::Int8, Prepack::Int4] {
        let network = Network::new(encoder.clone(), HeadConfig::new(Pooling::Mean), &device).unwrap();
        let network = network.prepacked(prepack);
        let in_one_pass = forward_batch(&network, &batch);
        assert_eq!(in_one_pass.len(), texts.len());
        // Passes of one text, of a few texts on one thread each, and of as many as fit.
        let scheduled = |budget| rows(&network.embed_ids(&texts, 0, budget, &mut |_| {}).unwrap());
        for vectors in [1, 64, 4096].map(scheduled) {
            assert_eq!(vectors, in_one_pass, "{prepack:?}");
        }
        for (text, vector) in texts.iter().zip(in_one_pass) {
            let alone = forward_batch(&network, &TokenBatch::varlen(std::slice::from_ref(text)));
            assert_eq!(alone, [vector], "{prepack:?}");
        }
    }
}

#[cfg(feature = "cpu")]
#[test]
fn the_last_layer_of_pooled_tokens_alone_gives_the_same_bits() {
    let device = Device::Cpu.open().unwrap();
    for name in ["bert", "mpnet", "gte_hf", "modernbert", "qwen3", "mistral", "gemma3", "embedding_gemma"] {
        let encoder = load_encoder(fixture(name), &EncoderOptions::default(), &device).unwrap();
        let texts: Vec<Vec<u32>> = ids(&golden(name)["ids"]);
        for pooling in [Pooling::Cls, Pooling::LastToken] {
            for prepack in [Prepack::F32, Prepack::Bf16, Prepack::Int8] {
                let network = Network::new(encoder.clone(), HeadConfig::new(pooling), &device).unwrap();
                let network = network.prepacked(prepack);
                // `forward` computes every state.
                let expected = forward_batch(&network, &TokenBatch::varlen(&texts));
                let vectors = rows(&network.embed_ids(&texts, 0, 4096, &mut |_| {}).unwrap());
                assert_eq!(vectors, expected, "{name} {pooling} {prepack:?}");
            }
        }
    }
}

/// Compares the vectors of one checkpoint for every pooling, alone and in batches padded on either side.
fn check(name: &str, pad: u32) {
    let golden = golden(name);
    for device in Device::compiled() {
        let opened = device.open().unwrap();
        let encoder = load_encoder(fixture(name), &EncoderOptions::default(), &opened).unwrap();
        let (mut unpadded, mut padded) = (0f32, 0f32);
        for (key, pooling) in POOLINGS {
            for (suffix, normalize) in [("", true), ("_raw", false)] {
                let head = HeadConfig::new(pooling).with_normalize(normalize);
                let network = Network::new(encoder.clone(), head, &opened).unwrap();
                for case in ["ids", "text"].into_iter().filter(|case| !golden[*case].is_null()) {
                    let expected = &golden[case];
                    let texts = ids(expected);
                    let alone: Vec<Vec<f32>> = texts
                        .iter()
                        .flat_map(|text| forward(&network, std::slice::from_ref(text), pad, PaddingSide::Right))
                        .collect();
                    let off = difference(&alone, &vectors(&expected["unpadded"][format!("{key}{suffix}")]));
                    assert!(off <= tolerance(device), "{name} {device} {case} {key}{suffix} unpadded: {off}");
                    // Raw vectors are longer than normalised ones, so their differences stay out of the table.
                    if normalize {
                        unpadded = unpadded.max(off);
                    }
                    let packed = network.clone().prepacked(Prepack::F32);
                    for (what, network) in [("plain", &network), ("packed", &packed)] {
                        let in_a_row = forward_batch(network, &TokenBatch::varlen(&texts));
                        let off = difference(&in_a_row, &alone);
                        assert!(
                            off <= tolerance(device),
                            "{name} {device} {case} {key}{suffix} {what}, in a row: {off}"
                        );
                    }
                    for (padding, side) in [("right", PaddingSide::Right), ("left", PaddingSide::Left)] {
                        let together = forward(&network, &texts, pad, side);
                        let off = difference(&together, &alone);
                        assert!(
                            off <= tolerance(device),
                            "{name} {device} {case} {key}{suffix} {padding}, alone: {off}"
                        );
                        // transformers does not support left padding with absolute positions.
                        if normalize && !expected[padding].is_null() {
                            let off = difference(&together, &vectors(&expected[padding][key]));
                            assert!(off <= tolerance(device), "{name} {device} {case} {key} {padding}: {off}");
                            padded = padded.max(off);
                        }
                    }
                }
            }
        }
        trainable(name, pad, device, &golden);
        let half = half_cosine(name, pad, device, &golden);
        eprintln!("| {name} | {device} | {unpadded:.1e} | {padded:.1e} | {half} |");
    }
}

/// Compares the vectors of a network that can be trained, for which other operations take the place of those of inference.
fn trainable(name: &str, pad: u32, device: Device, golden: &Value) {
    let opened = device.open().unwrap().autodiff();
    let encoder = load_encoder(fixture(name), &EncoderOptions::default(), &opened).unwrap();
    let encoder = if encoder.has_dropout() { encoder.with_dropout(Some(0.0)).unwrap() } else { encoder };
    let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &opened).unwrap();
    let (texts, expected) = (ids(&golden["ids"]), vectors(&golden["ids"]["unpadded"]["mean"]));
    let [right, left] = [PaddingSide::Right, PaddingSide::Left].map(|side| TokenBatch::pad(&texts, pad, side));
    for (what, batch) in [("right", right), ("left", left), ("packed", TokenBatch::varlen(&texts))] {
        let off = difference(&forward_batch(&network, &batch), &expected);
        assert!(off <= tolerance(device), "{name} {device} trainable {what}: {off}");
    }
}

/// The smallest cosine between vectors in bf16 and the reference, if the device supports bf16.
fn half_cosine(name: &str, pad: u32, device: Device, golden: &Value) -> String {
    let opened = device.open().unwrap();
    if !opened.supports_dtype(Precision::Bf16.dtype()) {
        return "no bf16".into();
    }
    let options = EncoderOptions::default().with_precision(Precision::Bf16);
    let encoder = load_encoder(fixture(name), &options, &opened).unwrap();
    assert_eq!(Precision::of(&encoder), Precision::Bf16);
    let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &opened).unwrap();
    let together = forward(&network, &ids(&golden["ids"]), pad, PaddingSide::Right);
    let least = cosine(&together, &vectors(&golden["ids"]["right"]["mean"]));
    assert!(least >= 0.999, "{name} {device} bf16: {least}");
    format!("{least:.5}")
}

/// The gradient norm of every weight, ascending, for the loss of `gradients` in `make_reference.py`.
fn gradients(encoder: &AnyEncoder, batch: &TokenBatch) -> Vec<f32> {
    struct Norms(Vec<f32>, Gradients);
    impl ModuleVisitor for Norms {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(&self.1).expect("every weight is trained");
            self.0.push(gradient.square().sum().into_scalar::<f32>().sqrt());
        }
    }
    let head = HeadConfig::new(Pooling::Mean).with_normalize(false);
    let network = Network::new(encoder.clone(), head, &encoder.device()).unwrap().train();
    let mean = network.forward(batch);
    let size = network.embedding_dim();
    let factors: Vec<f32> = (1..=size).map(|dimension| dimension as f32 / size as f32).collect();
    let factors = Tensor::<1>::from_floats(factors.as_slice(), &mean.device()).unsqueeze();
    let mut norms = Norms(Vec::new(), (mean * factors).sum().backward());
    network.visit(&mut norms);
    norms.0.sort_by(f32::total_cmp);
    norms.0
}

#[test]
fn gradients_are_those_of_torch_in_padded_and_packed_batches() {
    let device = common::cpu();
    let text = std::fs::read_to_string(fixture("golden.json")).unwrap();
    for (name, golden) in serde_json::from_str::<serde_json::Map<String, Value>>(&text).unwrap() {
        let encoder = load_encoder(fixture(&name), &EncoderOptions::default(), &device).unwrap();
        let encoder = encoder.clone().with_dropout(Some(0.0)).unwrap_or(encoder);
        let expected: Vec<f32> = serde_json::from_value(golden["gradients"].clone()).unwrap();
        let texts = ids(&golden["ids"]);
        let right = TokenBatch::pad(&texts, 0, PaddingSide::Right);
        for batch in [right, TokenBatch::pad(&texts, 0, PaddingSide::Left), TokenBatch::varlen(&texts)] {
            let norms = gradients(&encoder, &batch);
            assert_eq!(norms.len(), expected.len(), "{name}");
            for (norm, expected) in norms.iter().zip(&expected) {
                assert!((norm - expected).abs() <= 1e-4 * (1.0 + expected), "{name}: {norm} for {expected}");
            }
        }
    }
}

/// The gradients of every weight, in order, for a loss in which every vector has a part.
#[cfg(feature = "cpu")]
fn all_gradients(encoder: &AnyEncoder, batch: &TokenBatch, pooling: Pooling) -> Vec<Vec<f32>> {
    struct All(Vec<Vec<f32>>, Gradients);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(&self.1).expect("every weight is trained");
            self.0.push(gradient.into_data().try_to_vec::<f32>().unwrap());
        }
    }
    let head = HeadConfig::new(pooling).with_normalize(true);
    let network = Network::new(encoder.clone(), head, &encoder.device()).unwrap().train();
    let vectors = network.forward(batch);
    let [texts, width] = vectors.dims();
    let factors: Vec<f32> = (0..texts * width).map(|at| ((at * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
    let factors = Tensor::<1>::from_floats(factors.as_slice(), &vectors.device()).reshape([texts, width]);
    let mut all = All(Vec::new(), (vectors * factors).sum().backward());
    network.visit(&mut all);
    all.0
}

#[cfg(feature = "cpu")]
#[test]
fn gradients_of_the_training_kernels_are_those_of_burn() {
    use care_encoders::internals::without_training_kernels;
    let device = common::cpu();
    let text = std::fs::read_to_string(fixture("golden.json")).unwrap();
    let poolings = [Pooling::Mean, Pooling::LastToken, Pooling::WeightedMean, Pooling::Max, Pooling::MeanSqrtLen];
    let names = serde_json::from_str::<serde_json::Map<String, Value>>(&text).unwrap();
    for ((name, golden), pooling) in names.into_iter().zip(poolings.into_iter().cycle()) {
        let encoder = load_encoder(fixture(&name), &EncoderOptions::default(), &device).unwrap();
        let encoder = encoder.clone().with_dropout(Some(0.0)).unwrap_or(encoder);
        // Enough tokens for weights to be worth packing.
        let texts: Vec<Vec<u32>> = ids(&golden["ids"]).into_iter().cycle().take(12).collect();
        for batch in [TokenBatch::varlen(&texts), TokenBatch::pad(&texts, 0, PaddingSide::Left)] {
            let found = all_gradients(&encoder, &batch, pooling);
            let expected = without_training_kernels(|| all_gradients(&encoder, &batch, pooling));
            assert_eq!(found.len(), expected.len());
            let largest = |values: &[f32]| values.iter().fold(0f32, |most, value| most.max(value.abs()));
            let all = expected.iter().map(|values| largest(values)).fold(0.0, f32::max);
            for (weight, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // Some are rounding errors alone, as that of a bias before a softmax.
                let size = largest(expected).max(5e-3 * all);
                for (found, expected) in found.iter().zip(expected) {
                    let off = (found - expected).abs() / size;
                    assert!(off <= 1e-5, "{name}, {pooling}, weight {weight}: {found} instead of {expected}");
                }
            }
        }
    }
}

macro_rules! equals_transformers {
    ($($test:ident: $name:literal, $pad:literal;)*) => {
        $(
            #[test]
            fn $test() {
                check($name, $pad);
            }
        )*
    };
}

// The padding token of the Qwen checkpoints is their terminal token, so a mask derived from ids would fail.
equals_transformers! {
    bert: "bert", 0;
    distilbert_with_prefix_and_head: "distilbert", 0;
    distilbert_with_sinusoidal_positions: "distilbert_sinusoidal", 0;
    ernie_with_tasks_prefix_and_head: "ernie", 0;
    roberta_with_prefix_and_head: "roberta", 1;
    xlm_roberta_with_pooler: "xlm_roberta", 1;
    mpnet_with_prefix_and_head: "mpnet", 1;
    gte_in_hugging_faces_form: "gte_hf", 1;
    gte_in_the_authors_form_packed: "gte_new", 1;
    gte_in_the_authors_form_unpacked: "gte_new_plain", 1;
    modernbert_with_prefix_and_head: "modernbert", 0;
    modernbert_with_biases_and_rotary_scaling: "modernbert_bias", 0;
    qwen2: "qwen2", 317;
    qwen2_that_is_not_causal: "qwen2_bidirectional", 0;
    qwen3: "qwen3", 317;
    qwen3_with_prefix: "qwen3_causal_lm", 317;
    qwen3_in_shards: "qwen3_sharded", 317;
    qwen3_in_bf16: "qwen3_bf16", 317;
    qwen3_with_biases_and_linear_scaling: "qwen3_bias", 0;
    llama_with_three_queries_to_a_key: "llama", 0;
    llama_with_biases_and_its_own_scaling: "llama_bias", 0;
    qwen3_with_sliding_layer_types: "qwen3_sliding", 0;
    qwen2_with_sliding_layers_from_the_second_on: "qwen2_sliding", 0;
    qwen2_with_sliding_layers_that_is_not_causal: "qwen2_sliding_bidirectional", 0;
    mistral_with_a_window: "mistral", 0;
    eurobert_with_biases: "eurobert", 0;
    llama_with_yarn: "llama_yarn", 0;
    qwen3_with_every_setting_of_yarn: "qwen3_yarn", 0;
    qwen2_with_dynamic_scaling: "qwen2_dynamic", 0;
    gemma_3: "gemma3", 0;
    gemma_3_in_both_directions: "embedding_gemma", 0;
}

#[test]
fn projections_in_a_row_are_one() {
    let golden = golden("embedding_gemma");
    let texts: Vec<String> = serde_json::from_value(golden["text"]["texts"].clone()).unwrap();
    let texts: Vec<Document> = texts.into_iter().map(Document::new).collect();
    let expected = vectors(&golden["text"]["embeddings"]);
    let embed = |folder: &Path| {
        let tower = load_tower::<Document>(folder, &EncoderOptions::default(), &common::cpu()).unwrap();
        assert_eq!(tower.tokenize(&texts).unwrap(), ids(&golden["text"]));
        let vectors = rows(&tower.embed(&texts, 4096).unwrap());
        (tower, vectors)
    };
    let (tower, found) = embed(&fixture("embedding_gemma"));
    let off = difference(&found, &expected);
    assert!(off <= 1e-5, "{off}");
    // It is saved as one.
    let place = tempfile::tempdir().unwrap();
    let saved = place.path().join("saved");
    save_tower(&saved, &tower).unwrap();
    let off = difference(&embed(&saved).1, &expected);
    assert!(off <= 1e-5, "saved: {off}");

    // With biases, and refused after an activation.
    let copy = place.path().join("copy");
    copy_folder(&fixture("embedding_gemma"), &copy);
    let biased = |folder: &str, outputs: usize, scale: f32| -> Vec<f32> {
        let folder = copy.join(folder);
        common::edit_json(&folder.join("config.json"), |config| config["bias"] = json!(true));
        let bias: Vec<f32> = (0..outputs).map(|at| scale * (at as f32 - 9.0)).collect();
        let bytes: Vec<u8> = bias.iter().flat_map(|x| x.to_le_bytes()).collect();
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![outputs], &bytes).unwrap();
        let all = [("linear.weight", tensors.tensor("linear.weight").unwrap()), ("linear.bias", view)];
        std::fs::write(folder.join("model.safetensors"), safetensors::serialize(all, None).unwrap()).unwrap();
        bias
    };
    let first = biased("2_Dense", 48, 0.01);
    let second = biased("3_Dense", 24, 0.02);
    let file = std::fs::read(copy.join("3_Dense/model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let bytes = tensors.tensor("linear.weight").unwrap().data().to_vec();
    let weight: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let moved = |row: usize| weight[row * 48..][..48].iter().zip(&first).map(|(w, x)| w * x).sum::<f32>() + second[row];
    let options = EncoderOptions::default().with_normalize(false);
    let raw = |folder: &Path| {
        let tower = load_tower::<Document>(folder, &options, &common::cpu()).unwrap();
        rows(&tower.embed(&texts, 4096).unwrap())
    };
    let expected: Vec<Vec<f32>> = raw(&fixture("embedding_gemma"))
        .iter()
        .map(|vector| vector.iter().enumerate().map(|(row, x)| x + moved(row)).collect())
        .collect();
    let off = difference(&raw(&copy), &expected);
    assert!(off <= 1e-4, "biases: {off}");

    let tanh = json!("torch.nn.modules.activation.Tanh");
    common::edit_json(&copy.join("2_Dense/config.json"), |config| config["activation_function"] = tanh);
    let error = load_tower::<Document>(&copy, &options, &common::cpu()).unwrap_err().to_string();
    assert!(error.ends_with("module Dense is not supported at this position of the chain"), "{error}");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy_folder(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

#[test]
fn known_custom_code_gives_the_vectors_of_the_network_that_it_computes() {
    let qwen2 =
        json!({"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"});
    let new =
        json!({"AutoConfig": "a/new-impl--configuration.NewConfig", "AutoModel": "a/new-impl--modeling.NewModel"});
    for (name, pad, auto_map) in [("qwen2_bidirectional", 0, qwen2), ("gte_new", 1, new)] {
        let (_place, folder) = common::copy(name);
        common::edit_json(&folder.join("config.json"), |config| {
            config.as_object_mut().unwrap().remove("is_causal");
            config["auto_map"] = auto_map;
        });
        let vectors_of = |options: &EncoderOptions| {
            let encoder = load_encoder(&folder, options, &common::cpu()).unwrap();
            let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &common::cpu()).unwrap();
            forward(&network, &ids(&golden(name)["ids"]), pad, PaddingSide::Right)
        };
        let expected = vectors(&golden(name)["ids"]["right"]["mean"]);
        let off = difference(&vectors_of(&EncoderOptions::default()), &expected);
        assert!(off <= 1e-5, "{name}: {off}");
        // Without its code, a network is what its `model_type` says.
        let ignored = difference(&vectors_of(&EncoderOptions::default().with_ignore_custom_code(true)), &expected);
        assert_eq!(ignored > 1e-2, name == "qwen2_bidirectional", "{name}: {ignored}");
    }
}

#[test]
fn layers_keep_their_windows_when_others_are_cut() {
    use care_encoders::config::{EncoderConfig, LayerType};
    let of = |name: &str, layers: &[usize]| {
        let options = EncoderOptions::default().with_layers(layers);
        let EncoderConfig::Decoder(config) = load_encoder(fixture(name), &options, &common::cpu()).unwrap().config()
        else {
            panic!("{name} is a decoder");
        };
        let json = EncoderConfig::Decoder(config.clone()).to_json();
        assert_eq!(EncoderConfig::from_json(json.clone()).unwrap(), EncoderConfig::Decoder(config.clone()), "{json}");
        (config.layer_types, config.sliding_window, json["use_sliding_window"].clone())
    };
    let (full, sliding) = (LayerType::FullAttention, LayerType::SlidingAttention);
    assert_eq!(of("qwen3_sliding", &[1, 2]), (vec![full, sliding], Some(3), json!(true)));
    assert_eq!(of("qwen2_sliding", &[0, 3]), (vec![full, sliding], Some(4), json!(true)));
    assert_eq!(of("qwen3_sliding", &[1, 3]), (vec![], None, json!(null)));
    assert_eq!(of("mistral", &[1]), (vec![sliding], Some(4), json!(null)));
}

/// Runs the tests above on each instruction set that the processor supports, each in its own process.
#[test]
fn parity_holds_on_every_instruction_set() {
    for set in InstructionSet::available() {
        let tests = std::process::Command::new(std::env::current_exe().unwrap())
            .env("CARE_CPU", set.name())
            .args(["--skip", "every_instruction_set", "--skip", "no_instruction_set"])
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&tests.stdout);
        assert!(tests.status.success() && output.contains("qwen3_in_shards"), "{set:?}: {output}");
    }
}

#[test]
fn an_instruction_set_that_is_no_instruction_set_is_refused() {
    if let Some(name) = std::env::var_os("CARE_CPU") {
        let error = Device::Cpu.open().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`CARE_CPU` is {name:?}, allowed: on this processor portable")), "{error}");
        return;
    }
    let tests = std::process::Command::new(std::env::current_exe().unwrap())
        .env("CARE_CPU", "mmx")
        .arg("no_instruction_set")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn texts_get_the_same_ids_and_vectors_through_the_tower() {
    let device = common::cpu();
    for (name, key) in [
        ("bert", "mean"),
        ("distilbert", "mean"),
        ("mpnet", "mean"),
        ("gte_hf", "mean"),
        ("gte_new", "mean"),
        ("gte_new_plain", "mean"),
        ("modernbert", "mean"),
        ("qwen2", "last"),
        ("qwen3", "last"),
        ("qwen3_causal_lm", "last"),
        ("qwen3_sharded", "last"),
        ("qwen3_bf16", "last"),
    ] {
        let golden = golden(name);
        let texts: Vec<String> = serde_json::from_value(golden["text"]["texts"].clone()).unwrap();
        let texts: Vec<Document> = texts.into_iter().map(Document::new).collect();
        let options = EncoderOptions::default().with_max_length(48);
        let tower = load_tower::<Document>(&fixture(name), &options, &device).unwrap();
        assert_eq!(tower.tokenize(&texts).unwrap(), ids(&golden["text"]), "{name}");
        let expected = vectors(&golden["text"]["unpadded"][key]);
        // Vectors and their order do not depend on the buckets.
        for budget in [1, 60, 4096] {
            let mut last = None;
            let embedded = tower.embed_with_progress(&texts, budget, &mut |progress| last = Some(*progress)).unwrap();
            let off = difference(&rows(&embedded), &expected);
            assert!(off <= 1e-5, "{name} with a budget of {budget}: {off}");
            let progress = last.unwrap();
            assert_eq!(progress.texts, texts.len());
            assert_eq!(progress.tokens, ids(&golden["text"]).iter().map(Vec::len).sum::<usize>());
            // The CPU's kernels read packed sequences, without padding.
            assert_eq!(progress.padding, 0, "{name}");
        }
        // Elsewhere, as in 16 bits under autodiff, one text per batch needs no padding; in a single batch all texts are padded
        // to the longest.
        let half = options.clone().with_precision(Precision::Bf16);
        let tower = load_tower::<Document>(&fixture(name), &half, &device.clone().autodiff()).unwrap();
        for budget in [1, 60, 4096] {
            let mut last = None;
            tower.embed_with_progress(&texts, budget, &mut |progress| last = Some(*progress)).unwrap();
            let progress = last.unwrap();
            let lengths: Vec<usize> = ids(&golden["text"]).iter().map(Vec::len).collect();
            let whole = lengths.len() * lengths.iter().max().unwrap();
            match budget {
                1 => assert_eq!(progress.padding, 0, "{name}"),
                4096 => assert_eq!(progress.padding, whole - progress.tokens, "{name}"),
                _ => assert!(progress.padding < whole - progress.tokens, "{name}"),
            }
            let positions = progress.padding + progress.tokens;
            assert_eq!(progress.padding_ratio(), progress.padding as f64 / positions as f64);
        }
    }
}
