//! Errors for broken and unsupported model folders.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Document, ErrorKind, Query};

use care_encoders::batch::TokenBatch;
use care_encoders::{AsymmetricEncoder, Device, Encoder, EncoderOptions, Precision, load_encoder, load_tower};
use common::{edit_json, fixture, modules, write_module};
use serde_json::{Value, json};

/// A copy of the tiny BERT, to be broken.
fn copy() -> (tempfile::TempDir, PathBuf) {
    common::copy("bert")
}

/// Length of a safetensors file's header.
fn header(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn edit_config(folder: &Path, change: impl FnOnce(&mut Value)) {
    edit_json(&folder.join("config.json"), change);
}

/// The error of loading `folder`, with its path replaced by `M`.
fn refusal(folder: &Path) -> (ErrorKind, String) {
    let error = load_encoder(folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap()).unwrap_err();
    (error.kind(), error.to_string().replace(&folder.display().to_string(), "M"))
}

fn tower_refusal(folder: &Path, options: EncoderOptions) -> String {
    let error = load_tower::<Query>(folder, &options, &Device::Cpu.open().unwrap()).unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "M")
}

#[test]
fn missing_files_are_named() {
    let (_place, folder) = copy();
    assert_eq!(refusal(&folder.join("nowhere")), (ErrorKind::Io, "M: no such model folder".into()));
    fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    let message = "M/pytorch_model.bin: not a readable file of torch.save: it does not begin as one";
    assert_eq!(refusal(&folder), (ErrorKind::Format, message.into()));
    fs::remove_file(folder.join("pytorch_model.bin")).unwrap();
    let none = "M: no model.safetensors, no model.safetensors.index.json, no pytorch_model.bin, no \
                pytorch_model.bin.index.json";
    assert_eq!(refusal(&folder), (ErrorKind::Io, none.into()));
    for name in ["tf_model.h5", "flax_model.msgpack"] {
        fs::write(folder.join(name), "weights").unwrap();
        let what =
            format!("{none}; {name} is of another framework: save the model in Python with PyTorch or safetensors");
        assert_eq!(refusal(&folder), (ErrorKind::Io, what));
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::remove_file(folder.join("config.json")).unwrap();
    assert_eq!(refusal(&folder), (ErrorKind::Io, "cannot read M/config.json".into()));
}

#[test]
fn configurations_name_the_field() {
    for (change, message) in [
        (
            (|c| c["model_type"] = json!("t5")) as fn(&mut Value),
            "M/config.json: `model_type` is \"t5\", allowed: bert, distilbert, ernie, roberta, xlm-roberta, mpnet, gte, new, \
             modernbert, qwen2, qwen3, llama, mistral, eurobert, gemma3_text",
        ),
        (
            |c| c["hidden_size"] = json!("64"),
            "M/config.json: field `hidden_size`: invalid type: string \"64\", expected usize",
        ),
        (|c| _ = c.as_object_mut().unwrap().remove("vocab_size"), "M/config.json: missing field `vocab_size`"),
        (
            |c| c["num_attention_heads"] = json!(5),
            "M/config.json: `hidden_size` is 64, allowed: a multiple of num_attention_heads (5)",
        ),
        (
            |c| c["position_embedding_type"] = json!("relative_key"),
            "M/config.json: `position_embedding_type` is \"relative_key\", allowed: absolute; the relative positions, \
             rotations or ALiBi of custom code are not supported",
        ),
        (
            |c| {
                c["model_type"] = json!("xlm-roberta");
                c["position_embedding_type"] = json!("rotary");
            },
            "M/config.json: `position_embedding_type` is \"rotary\", allowed: absolute; the relative positions, \
             rotations or ALiBi of custom code are not supported",
        ),
        (
            |c| {
                c["model_type"] = json!("mpnet");
                c["relative_attention_num_buckets"] = json!(64);
            },
            "M/config.json: `relative_attention_num_buckets` 64 is not supported, only 32",
        ),
        (
            |c| {
                c["model_type"] = json!("ernie");
                c["use_task_id"] = json!(true);
                c["task_type_vocab_size"] = json!(-1);
            },
            "M/config.json: field `task_type_vocab_size`: invalid value: integer `-1`, expected usize",
        ),
        (
            |c| c["hidden_act"] = json!("mish"),
            "M/config.json: field `hidden_act`: unknown variant `mish`, expected one of `gelu`, `gelu_new`, \
             `gelu_pytorch_tanh`, `silu`, `swish`, `relu`",
        ),
    ] {
        let (_place, folder) = copy();
        edit_config(&folder, change);
        assert_eq!(refusal(&folder).1, message);
    }
    for field in ["dim", "n_layers", "n_heads", "hidden_dim"] {
        let (_place, folder) = common::copy("distilbert");
        edit_config(&folder, |c| _ = c.as_object_mut().unwrap().remove(field));
        assert_eq!(refusal(&folder).1, format!("M/config.json: missing field `{field}`"));
    }
    let (_place, folder) = copy();
    fs::write(folder.join("config.json"), "{\"model_type\": ").unwrap();
    assert_eq!(refusal(&folder).1, "M/config.json: EOF while parsing a value at line 1 column 15");
}

#[test]
fn unknown_custom_code_is_refused_unless_it_is_to_be_ignored() {
    let bert = "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel";
    for (name, code) in [("bert", bert), ("qwen3", "modeling.Qwen3BidirectionalModel")] {
        let (_place, folder) = common::copy(name);
        edit_config(&folder, |c| c["auto_map"] = json!({"AutoModel": code}));
        let expected = format!(
            "M/config.json: `auto_map.AutoModel` is \"{code}\", allowed: modeling.NewModel for new, \
             modeling_qwen.Qwen2Model for qwen2, modeling.Qwen2Model for qwen2, \
             modeling_eurobert.EuroBertModel for eurobert; what other code computes is not known, unless you set \
             `ignore_custom_code` because it computes what transformers does for \"{name}\""
        );
        assert_eq!(refusal(&folder), (ErrorKind::Format, expected.clone()));
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), expected);
        let options = EncoderOptions::default().with_ignore_custom_code(true);
        assert!(load_tower::<Query>(&folder, &options, &common::cpu()).is_ok());
    }
}

#[test]
fn tensors_that_are_missing_surplus_or_of_another_shape_are_listed() {
    let (_place, folder) = copy();
    edit_config(&folder, |c| {
        c["vocab_size"] = json!(150);
        c["num_hidden_layers"] = json!(1);
    });
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::Checkpoint);
    assert!(
        message.starts_with(
            "M: tensor `embeddings.word_embeddings.weight` has shape [200, 64], expected [150, 64]; \
             tensor `encoder.layer.1.attention.output.LayerNorm.bias` is not expected; "
        ),
        "{message}"
    );
    assert!(message.ends_with("; and 9 more"), "{message}");

    let (_place, folder) = copy();
    edit_config(&folder, |c| c["num_hidden_layers"] = json!(3));
    let (_, message) = refusal(&folder);
    assert!(
        message.contains("tensor `encoder.layer.2.attention.self.query.weight` of shape [64, 64] is missing"),
        "{message}"
    );
}

#[test]
fn a_file_that_was_cut_off_is_noticed() {
    let (_place, folder) = copy();
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for (kept, message) in [
        (bytes.len() - 10, format!("{} bytes, expected {}", bytes.len() - 10, bytes.len())),
        (100, format!("a header of {} bytes in a file of 100", header(&bytes))),
        (3, "3 bytes".to_owned()),
    ] {
        fs::write(&path, &bytes[..kept]).unwrap();
        let expected = format!("M/model.safetensors: not a complete safetensors file: {message}");
        assert_eq!(refusal(&folder), (ErrorKind::Format, expected));
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let (_place, folder) = copy();
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The first tensor by name is one that the network uses.
    let start = 8 + header(&bytes);
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::NonFinite);
    assert!(message.starts_with("M/model.safetensors: tensor `") && message.ends_with("` contains a non-finite value"));
}

#[test]
fn options_outside_their_range_are_refused() {
    let (_place, folder) = copy();
    let with_length = |max_length| EncoderOptions::default().with_max_length(max_length);
    assert_eq!(
        tower_refusal(&folder, with_length(0)),
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens"
    );
    assert_eq!(
        tower_refusal(&folder, with_length(65)),
        "`max_length` is 65, allowed: at most 64, the positions of the query tower"
    );
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default().with_dim(65)),
        "an embedding of 65 dimensions cannot be cut from the tower's 64"
    );
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let message = tower_refusal(&folder, EncoderOptions::default());
    assert!(message.starts_with("M/tokenizer.json: not a tokenizer: "), "{message}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let (_place, folder) = copy();
    fs::copy(fixture("qwen3/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default()),
        "M/tokenizer.json: has no token \"[UNK]\", which tokenizer_config.json names as unk_token: \
         the tokenizer belongs to another model"
    );
    fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default()),
        "M/tokenizer.json: the tokenizer has 320 ids, but the embedding table of the query tower has 200 rows"
    );
}

#[test]
fn a_padding_id_outside_the_embedding_table_is_refused() {
    let (_place, folder) = copy();
    edit_config(&folder, |c| c["pad_token_id"] = json!(200));
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default()),
        "the query tower's padding id is 200 but its embedding table has 200 rows"
    );
}

#[test]
fn a_half_written_pair_and_a_foreign_folder_are_refused() {
    let (place, folder) = copy();
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions::default();
    // With another length limit, so that each tower has a folder of its own.
    let pair = AsymmetricEncoder::open(&folder, &options.clone().with_max_length(20), &options, &device).unwrap();
    let error = pair.save(&folder).unwrap_err().to_string();
    assert!(error.ends_with("which is not part of a saved pair"), "{error}");
    assert!(folder.join("config.json").exists(), "existing files must stay");
    let target = place.path().join("pair");
    pair.save(&target).unwrap();
    let load = || AsymmetricEncoder::load(&target, &device).unwrap_err().to_string();
    fs::remove_file(target.join("document_0_Transformer/model.safetensors")).unwrap();
    assert!(load().contains("document_0_Transformer: no model.safetensors"), "{}", load());
    // A network that is lost is not replaced by that of the other role.
    fs::remove_dir_all(target.join("document_0_Transformer")).unwrap();
    assert!(load().ends_with("document_0_Transformer: no such model folder"), "{}", load());
    // One that never was is not to be looked for.
    let shared = place.path().join("shared");
    AsymmetricEncoder::open(&folder, &options, &options, &device).unwrap().save(&shared).unwrap();
    let document = shared.join("document_0_Transformer");
    let error = load_tower::<Document>(&document, &options, &device).unwrap_err().to_string();
    let advice = "no such model folder: both towers of this pair are one network; name the pair instead";
    assert_eq!(error, format!("{}: {advice}", document.display()));
    load_tower::<Document>(&shared, &options, &device).unwrap();
    for file in ["care.json", "modules.json"] {
        fs::remove_file(target.join(file)).unwrap();
    }
    assert!(load().ends_with("pair: half written: it has a tower but no care.json"), "{}", load());
}

#[test]
fn a_pair_whose_tokenizer_ends_texts_otherwise_is_refused() {
    let (place, folder) = copy();
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions::default();
    let target = place.path().join("pair");
    AsymmetricEncoder::open(&folder, &options, &options, &device).unwrap().save(&target).unwrap();
    let manifest = target.join("care.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"terminal_token\": 3", "\"terminal_token\": 4");
    fs::write(&manifest, text).unwrap();
    let error = AsymmetricEncoder::load(&target, &device).unwrap_err().to_string();
    assert!(
        error.ends_with("the query tower was saved with terminal token Some(4) but its tokenizer adds Some(3)"),
        "{error}"
    );
}

#[test]
fn settings_of_decoders_and_gte_that_are_not_computed_are_refused() {
    for (name, change, message) in [
        (
            "qwen3",
            (|c| c["rope_scaling"] = json!({"type": "longrope", "factor": 4.0})) as fn(&mut Value),
            "M/config.json: field `rope_scaling`: unknown variant `longrope`, expected one of `default`, `linear`, \
             `dynamic`, `llama3`, `yarn`",
        ),
        (
            "gte_hf",
            |c| c["rope_parameters"] = json!({"rope_type": "linear", "factor": -4.0}),
            "M/config.json: `rope_parameters.factor` is -4, allowed: a number above 0",
        ),
        (
            "gte_new",
            |c| c["rope_scaling"] = json!("ntk"),
            "M/config.json: `rope_scaling` is \"ntk\", allowed: an object with a `rope_type`, or null",
        ),
        (
            "qwen2",
            |c| {
                c["use_sliding_window"] = json!(true);
                c["max_window_layers"] = json!(1);
                c["sliding_window"] = json!(0);
                c.as_object_mut().unwrap().remove("layer_types");
            },
            "M/config.json: `sliding_window` is 0, allowed: at least 1",
        ),
        ("qwen3", |c| c["head_dim"] = json!(31), "M/config.json: `head_dim` is 31, allowed: an even number"),
        (
            "qwen3",
            |c| c["num_hidden_layers"] = json!(1e15 as u64),
            "M/config.json: `num_hidden_layers` is 1000000000000000, allowed: at most 10000",
        ),
        (
            "bert",
            |c| c["intermediate_size"] = json!(u64::MAX),
            "M/config.json: `intermediate_size` is 18446744073709551615, allowed: at most 1073741824",
        ),
        (
            "gte_new",
            |c| c["layer_norm_type"] = json!("rms_norm"),
            "M/config.json: `layer_norm_type` \"rms_norm\" is not supported",
        ),
        (
            "roberta",
            |c| c["max_position_embeddings"] = json!(2),
            "M/config.json: `max_position_embeddings` is 2, allowed: above 2, the row of the first position",
        ),
        (
            "llama_bias",
            |c| c["rope_scaling"]["high_freq_factor"] = json!(0.5),
            "M/config.json: `rope_scaling.high_freq_factor` is 0.5, allowed: a number above low_freq_factor",
        ),
    ] {
        let (_place, folder) = common::copy(name);
        edit_config(&folder, change);
        assert_eq!(refusal(&folder).1, message, "{name}");
    }
}

#[test]
fn settings_as_python_writes_them_are_accepted() {
    let states = |folder: &Path| {
        let encoder = load_encoder(folder, &EncoderOptions::default(), &common::cpu()).unwrap();
        let batch = TokenBatch::varlen(&[[5, 6, 7]]);
        encoder.forward(&batch).into_data().try_to_vec::<f32>().unwrap()
    };
    for (name, changes) in [
        ("qwen3", json!({"pad_token_id": -1, "attention_bias": null, "hidden_act": null, "vocab_size": 320.0})),
        ("llama_bias", json!({"pad_token_id": -1.0, "head_dim": 16.0, "rms_norm_eps": null})),
        ("bert", json!({"pad_token_id": -1, "layer_norm_eps": null, "hidden_size": 64.0, "type_vocab_size": 2.0})),
        ("gte_hf", json!({"pad_token_id": -1, "hidden_act": null, "max_position_embeddings": 128.0})),
        ("roberta", json!({"pad_token_id": 1.0, "num_attention_heads": 4.0})),
    ] {
        let (_place, folder) = common::copy(name);
        let before = states(&folder);
        edit_config(&folder, |config| {
            changes.as_object().unwrap().iter().for_each(|(field, value)| config[field] = value.clone());
        });
        assert_eq!(states(&folder), before, "{name}");
    }
}

#[test]
fn settings_that_no_network_has_are_refused() {
    let epsilon = |value| format!("is {value}, allowed: above 0, at most 1");
    for (name, field, value, message) in [
        ("qwen3", "rms_norm_eps", json!(-1), format!("`rms_norm_eps` {}", epsilon("-1"))),
        ("llama", "rms_norm_eps", json!(0.0), format!("`rms_norm_eps` {}", epsilon("0"))),
        ("bert", "layer_norm_eps", json!(-1e-12), format!("`layer_norm_eps` {}", epsilon("-0.000000000001"))),
        ("gte_new", "layer_norm_eps", json!(2.5), format!("`layer_norm_eps` {}", epsilon("2.5"))),
        (
            "qwen2",
            "vocab_size",
            json!(320.5),
            "field `vocab_size`: invalid type: floating point `320.5`, expected usize".into(),
        ),
        ("qwen2", "is_causal", json!(null), "field `is_causal`: invalid type: null, expected a boolean".into()),
        // Its positions follow from the padding token.
        (
            "roberta",
            "pad_token_id",
            json!(-1),
            "field `pad_token_id`: invalid value: integer `-1`, expected u32".into(),
        ),
        ("bert", "pad_token_id", json!(-2), "field `pad_token_id`: invalid value: integer `-2`, expected u32".into()),
    ] {
        let (_place, folder) = common::copy(name);
        edit_config(&folder, |config| config[field] = value);
        assert_eq!(refusal(&folder).1, format!("M/config.json: {message}"), "{name}");
    }
    let (_place, folder) = copy();
    edit_config(&folder, |config| config["layer_norm_eps"] = json!(1e308));
    let message = refusal(&folder).1;
    assert!(message.starts_with("M/config.json: `layer_norm_eps` is 1") && message.ends_with("at most 1"), "{message}");
}

#[test]
fn an_index_that_names_a_tensor_twice_or_reaches_outside_is_refused() {
    let (_place, folder) = common::copy("qwen3_sharded");
    let index = folder.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let twice = text.replacen("\"norm.weight\"", "\"embed_tokens.weight\"", 1);
    fs::write(&index, twice).unwrap();
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::Format);
    let expected = "M/model.safetensors.index.json: tensor `embed_tokens.weight` is duplicated at line ";
    assert!(message.starts_with(expected), "{message}");

    fs::write(&index, text.replace("model-00002", "../model-00002")).unwrap();
    let (_, message) = refusal(&folder);
    assert!(message.ends_with("is not a file name in the same folder"), "{message}");

    // The index names another shard than the one the tensor is in.
    let moved = text.replacen("model-00001-of-00004", "model-00002-of-00004", 1);
    fs::write(&index, moved).unwrap();
    assert!(refusal(&folder).1.contains("is also in another shard"), "{}", refusal(&folder).1);
}

#[test]
fn f16_is_refused_for_a_large_decoder_unless_it_is_forced() {
    let (_place, folder) = common::copy("qwen3");
    edit_config(&folder, |c| c["vocab_size"] = json!(20_000_000));
    let load = |force_f16| {
        let options = EncoderOptions::default().with_precision(Precision::F16).with_force_f16(force_f16);
        load_encoder(&folder, &options, &common::cpu()).unwrap_err().to_string()
    };
    let refused = load(false).replace(&folder.display().to_string(), "M");
    assert_eq!(refused, "M: a decoder of 1.3 billion weights overflows f16: use bf16, or force f16");
    assert!(load(true).contains("has shape [320, 64], expected [20000000, 64]"));
    let gemma =
        load_encoder(fixture("gemma3"), &EncoderOptions::default().with_precision(Precision::F16), &common::cpu());
    let refused = gemma.unwrap_err().to_string();
    assert!(refused.ends_with("gemma3: gemma3_text overflows f16: use bf16, or force f16"), "{refused}");
}

#[test]
fn a_vector_that_is_not_finite_names_its_text() {
    let (_place, folder) = copy();
    let tower = load_tower::<Query>(&folder, &EncoderOptions::default(), &common::cpu()).unwrap();
    // The weights are finite, but products of them are not.
    let tower = tower.map_network(|network| {
        struct Huge;
        impl burn::module::ModuleMapper for Huge {
            fn map_float<const D: usize>(
                &mut self,
                param: burn::module::Param<burn::tensor::Tensor<D>>,
            ) -> burn::module::Param<burn::tensor::Tensor<D>> {
                param.map(|weight| weight * 1e30)
            }
        }
        burn::module::Module::map(network, &mut Huge)
    });
    let error = tower.embed(&["头痛".into(), "发烧".into()], 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert_eq!(error.to_string(), "the vector of query 0 is not finite");
}

#[test]
fn modules_that_towers_do_not_have_are_refused() {
    let mean = json!({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true});
    for (rows, pooling, dense, message) in [
        (
            vec![("StaticEmbedding", "")],
            mean.clone(),
            json!({}),
            "M: the first module is a StaticEmbedding, not a Transformer",
        ),
        (vec![("Transformer", "")], mean.clone(), json!({}), "M: the chain of modules has no Pooling"),
        (vec![], mean.clone(), json!({}), "M: modules.json lists no modules"),
        (
            vec![("Transformer", ""), ("Pooling", "p"), ("LSTM", "l")],
            mean.clone(),
            json!({}),
            "M: module LSTM is not supported at this position of the chain",
        ),
        (
            vec![("Transformer", ""), ("Pooling", "p")],
            json!({"pooling_mode": ["mean", "attention"]}),
            json!({}),
            "M/p/config.json: pooling [\"mean\", \"attention\"] is not supported, only one or several of cls, max, mean, \
             mean_sqrt_len_tokens, weightedmean, lasttoken",
        ),
        (
            vec![("Transformer", ""), ("Pooling", "p")],
            json!({"pooling_mode": ["mean", "mean"]}),
            json!({}),
            "M/p/config.json: pooling [\"mean\", \"mean\"] is not supported, only one or several of cls, max, mean, \
             mean_sqrt_len_tokens, weightedmean, lasttoken",
        ),
        (
            vec![("Transformer", ""), ("Pooling", "p")],
            json!({"pooling_mode": "cls", "include_prompt": false}),
            json!({}),
            "M/p/config.json: `include_prompt` false is not supported",
        ),
        (
            vec![("Transformer", ""), ("Pooling", "p"), ("Dense", "d")],
            mean.clone(),
            json!({"out_features": 8, "activation_function": "torch.nn.modules.activation.GELU"}),
            "M/d/config.json: `activation_function` torch.nn.modules.activation.GELU is not supported, only \
             torch.nn.modules.linear.Identity or torch.nn.modules.activation.Tanh",
        ),
        (
            vec![("Transformer", ""), ("Pooling", "p"), ("Dense", "d")],
            mean.clone(),
            json!({"out_features": 8}),
            "M/d: no model.safetensors, no model.safetensors.index.json, no pytorch_model.bin, no \
             pytorch_model.bin.index.json; save the whole model anew in Python with \
             SentenceTransformer(FOLDER).save_pretrained(OTHER)",
        ),
    ] {
        let (_place, folder) = copy();
        fs::write(folder.join("modules.json"), modules(&rows)).unwrap();
        write_module(&folder, "p", &pooling);
        write_module(&folder, "d", &dense);
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), message);
    }
}

/// The error of loading the tiny BERT, with mean pooling and these settings of its `Transformer` module.
fn settings_refusal(settings: &Value) -> Option<String> {
    let (_place, folder) = copy();
    fs::write(folder.join("modules.json"), modules(&[("Transformer", ""), ("Pooling", "p")])).unwrap();
    write_module(&folder, "p", &json!({"pooling_mode": "mean"}));
    fs::write(folder.join("sentence_bert_config.json"), settings.to_string()).unwrap();
    let error = load_tower::<Query>(&folder, &EncoderOptions::default(), &common::cpu()).err()?;
    Some(error.to_string().replace(&folder.display().to_string(), "M"))
}

#[test]
fn settings_of_a_transformer_module_that_change_vectors_are_refused() {
    for (settings, problem) in [
        (
            json!({"transformer_task": "fill-mask"}),
            "`transformer_task` fill-mask is not supported, only feature-extraction",
        ),
        (
            json!({"module_output_name": "sentence_embedding"}),
            "`module_output_name` sentence_embedding is not supported, only token_embeddings",
        ),
        (
            json!({"modality_config": {"text": {"method": "get_text_features", "method_output_name": "pooler_output"}}}),
            "`modality_config.text` {\"method\":\"get_text_features\",\"method_output_name\":\"pooler_output\"} is not \
             supported, only `forward` and its `last_hidden_state`",
        ),
        (
            json!({"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"},
                                       "message": {"method": "forward"}}}),
            "`modality_config.message` {\"method\":\"forward\"} is not supported, only texts without a chat template",
        ),
        (
            json!({"query_expansion": {"strategy": "fixed", "length": 32}}),
            "`query_expansion` {\"length\":32,\"strategy\":\"fixed\"} is not supported, only null",
        ),
        (
            json!({"tokenizer_name_or_path": "bert-base-uncased"}),
            "`tokenizer_name_or_path` \"bert-base-uncased\" is not supported, only null: the tokenizer of the same folder",
        ),
        (
            json!({"processing_kwargs": {"text": {"max_length": 8}}}),
            "`processing_kwargs.text.max_length` 8 is not supported, only its default",
        ),
        (
            json!({"processing_kwargs": {"common": {"truncation": false}}}),
            "`processing_kwargs.common.truncation` false is not supported, only its default",
        ),
        (
            json!({"config_args": {"is_causal": false}}),
            "`config_kwargs.is_causal` false is not supported, only the value in config.json: set it there",
        ),
        (
            json!({"config_kwargs": {"hidden_act": "relu"}}),
            "`config_kwargs.hidden_act` \"relu\" is not supported, only the value in config.json: set it there",
        ),
        (
            json!({"model_args": {"default_task": "retrieval"}}),
            "`model_kwargs.default_task` \"retrieval\" is not supported, only its default",
        ),
        (
            json!({"tokenizer_args": {"truncation_side": "left"}}),
            "`processor_kwargs.truncation_side` \"left\" is not supported, only its default",
        ),
    ] {
        let expected = format!("M/sentence_bert_config.json: {problem}");
        assert_eq!(settings_refusal(&settings), Some(expected), "{settings}");
    }
    let unknown = settings_refusal(&json!({"pooling": "max"})).unwrap();
    assert!(unknown.starts_with("M/sentence_bert_config.json: field `pooling`: unknown field `pooling`"), "{unknown}");
    for settings in [
        json!({"max_seq_length": 32, "do_lower_case": false}),
        json!({"transformer_task": "feature-extraction", "module_output_name": "token_embeddings", "unpad_inputs": true,
               "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}),
        json!({"model_args": {"trust_remote_code": true, "attn_implementation": "sdpa", "torch_dtype": "bfloat16"}}),
        json!({"config_kwargs": {"hidden_act": "gelu", "use_cache": false}, "query_expansion": null}),
        json!({"processor_kwargs": {"model_max_length": 16, "truncation_side": "right", "padding_side": "left"}}),
        json!({"processing_kwargs": {"text": {"padding": "max_length"}, "chat_template": {"x": 1}}, "backend": "onnx"}),
    ] {
        assert_eq!(settings_refusal(&settings), None, "{settings}");
    }
}

#[test]
fn modules_of_other_packages_and_folders_elsewhere_are_refused() {
    for (class, path, message) in [
        (
            "custom_st.Transformer",
            "",
            "M/modules.json: module `custom_st.Transformer` is custom code, which is not run; only sentence-transformers' \
             own are known",
        ),
        (
            "Transformer",
            "",
            "M/modules.json: module `Transformer` is custom code, which is not run; only sentence-transformers' own are \
             known",
        ),
        (
            "sentence_transformers.models.Transformer",
            "../model",
            "M/modules.json: \"../model\" is not the name of a folder in the same folder",
        ),
        (
            "sentence_transformers.models.Transformer",
            "/etc",
            "M/modules.json: \"/etc\" is not the name of a folder in the same folder",
        ),
        (
            "sentence_transformers.models.Transformer",
            "a/b",
            "M/modules.json: \"a/b\" is not the name of a folder in the same folder",
        ),
        (
            "sentence_transformers.models.Transformer",
            "a\\..\\b",
            "M/modules.json: \"a\\\\..\\\\b\" is not the name of a folder in the same folder",
        ),
    ] {
        let (_place, folder) = copy();
        let rows = json!([{"idx": 0, "name": "0", "path": path, "type": class}]);
        fs::write(folder.join("modules.json"), rows.to_string()).unwrap();
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), message);
    }
}

#[test]
fn routers_without_both_routes_are_refused() {
    let transformer = "sentence_transformers.models.Transformer";
    for (class, file, structure, types, message) in [
        (
            "Router",
            "router_config.json",
            json!({"query": ["t"]}),
            json!({"t": transformer}),
            "M/r/router_config.json: `structure` has the routes [\"query\"], but a pair needs \"query\" and \"document\"",
        ),
        (
            "Asym",
            "config.json",
            json!({"passage": ["t"], "question": ["t"]}),
            json!({"t": transformer}),
            "M/r/config.json: `structure` has the routes [\"passage\", \"question\"], but a pair needs \"query\" and \
             \"document\"",
        ),
        (
            "Router",
            "router_config.json",
            json!({"query": ["t"], "document": ["u"]}),
            json!({"u": transformer}),
            "M/r/router_config.json: `types` has no module `t`",
        ),
        (
            "Asym",
            "config.json",
            json!({"query": ["../t"], "document": ["../t"]}),
            json!({"../t": transformer}),
            "M/r/config.json: \"../t\" is not the name of a folder in the same folder",
        ),
        (
            "Router",
            "router_config.json",
            json!({"query": ["t"], "document": ["t"]}),
            json!({"t": "modeling.Transformer"}),
            "M/r/router_config.json: module `modeling.Transformer` is custom code, which is not run; only \
             sentence-transformers' own are known",
        ),
    ] {
        let (_place, folder) = copy();
        fs::write(folder.join("modules.json"), modules(&[(class, "r")])).unwrap();
        fs::create_dir(folder.join("r")).unwrap();
        let config = json!({"types": types, "structure": structure, "parameters": {}});
        fs::write(folder.join("r").join(file), config.to_string()).unwrap();
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), message);
    }
}

#[test]
fn an_id_that_only_the_post_processor_has_is_refused() {
    for (token, id, rows) in [("[CLS]", 99_999, 200), ("[SEP]", 200, 200)] {
        let (_place, folder) = copy();
        edit_json(&folder.join("tokenizer.json"), |json| {
            json["post_processor"]["special_tokens"][token]["ids"] = json!([id]);
        });
        assert_eq!(
            tower_refusal(&folder, EncoderOptions::default()),
            format!(
                "M/tokenizer.json: the post-processor adds {token:?} with id {id}, but the embedding table of the \
                 query tower has {rows} rows"
            )
        );
    }
    // In the template for pairs too.
    let (_place, folder) = copy();
    edit_json(&folder.join("tokenizer.json"), |json| {
        json["post_processor"]["special_tokens"]["[X]"] = json!({"id": "[X]", "ids": [700], "tokens": ["[X]"]});
        json["post_processor"]["pair"][0]["SpecialToken"]["id"] = json!("[X]");
    });
    assert!(tower_refusal(&folder, EncoderOptions::default()).contains("adds \"[X]\" with id 700"));
}

#[test]
fn a_tokenizer_that_makes_the_library_panic_names_its_file() {
    let (_place, folder) = copy();
    edit_json(&folder.join("tokenizer.json"), |json| json["post_processor"]["special_tokens"] = json!({}));
    let message = tower_refusal(&folder, EncoderOptions::default());
    assert!(message.starts_with("M/tokenizer.json: not a tokenizer: the tokenizer is damaged ("), "{message}");
}

#[test]
fn fields_of_the_tokenizer_configuration_are_checked() {
    for (change, message) in [
        (
            (|c| c["truncation_side"] = json!("middle")) as fn(&mut Value),
            "M/tokenizer_config.json: field `truncation_side`: unknown variant `middle`, expected `right` or `left`",
        ),
        (
            |c| c["add_eos_token"] = json!("yes"),
            "M/tokenizer_config.json: field `add_eos_token`: invalid type: string \"yes\", expected a boolean",
        ),
        (
            |c| c["add_bos_token"] = json!(true),
            "M/tokenizer_config.json: `add_bos_token` is true, but `bos_token` names no token",
        ),
        (
            |c| c["model_max_length"] = json!([1]),
            "M/tokenizer_config.json: field `model_max_length`: invalid type: sequence, expected f64",
        ),
    ] {
        let (_place, folder) = copy();
        edit_json(&folder.join("tokenizer_config.json"), change);
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), message);
    }
}

/// Writes a safetensors file with these entries of the header and `bytes` of data.
fn write_header(path: &Path, entries: &[String], bytes: usize) {
    let json = format!("{{{}}}", entries.join(","));
    let content = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; bytes]].concat();
    fs::write(path, content).unwrap();
}

/// Gives every tensor of a safetensors file another name.
fn rename(path: &Path, change: impl Fn(&str) -> String) {
    let bytes = fs::read(path).unwrap();
    let start = 8 + header(&bytes);
    let json: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let named = json.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let entries: Vec<String> = named.map(|(name, info)| format!("{:?}:{info}", change(name))).collect();
    write_header(path, &entries, 0);
    let content = [fs::read(path).unwrap(), bytes[start..].to_vec()].concat();
    fs::write(path, content).unwrap();
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 470641600\n";
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let (_place, folder) = copy();
        fs::write(folder.join(name), pointer).unwrap();
        let expected = format!("M/{name}: a git-lfs pointer, not the file itself; fetch it with `git lfs pull`");
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), expected);
    }
    let (_place, folder) = copy();
    fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    fs::write(folder.join("pytorch_model.bin"), pointer).unwrap();
    assert!(refusal(&folder).1.starts_with("M/pytorch_model.bin: a git-lfs pointer"));
}

#[cfg(unix)]
#[test]
fn pipes_and_folders_in_place_of_files_are_refused_without_waiting() {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let (_place, folder) = copy();
        let path = folder.join(name);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), format!("M/{name}: not a regular file"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(tower_refusal(&folder, EncoderOptions::default()), format!("M/{name}: not a regular file"));
    }
}

#[test]
fn what_training_frameworks_put_before_names_is_taken_off_and_anything_else_is_said_once() {
    let (_place, folder) = copy();
    let options = EncoderOptions::default();
    let cpu = Device::Cpu.open().unwrap();
    let vectors = |folder: &Path| {
        let tower = load_tower::<Query>(folder, &options, &cpu).unwrap();
        tower.embed(&["头痛".into()], 64).unwrap()
    };
    let expected = vectors(&folder);
    for wrapper in ["module.", "_orig_mod.", "_orig_mod.module."] {
        let (_place, folder) = copy();
        rename(&folder.join("model.safetensors"), |name| format!("{wrapper}{name}"));
        assert_eq!(vectors(&folder), expected, "{wrapper}");
    }
    for prefix in ["0.auto_model.", "encoder.bert."] {
        let (_place, folder) = copy();
        rename(&folder.join("model.safetensors"), |name| format!("{prefix}{name}"));
        let (kind, message) = refusal(&folder);
        assert_eq!(kind, ErrorKind::Checkpoint);
        assert!(
            message.starts_with("M: all ") && message.contains(&format!(" names begin with `{prefix}`; ")),
            "{message}"
        );
    }
}

#[test]
fn a_name_twice_in_a_header_and_names_of_any_length_are_refused_in_few_words() {
    let (_place, folder) = copy();
    let path = folder.join("model.safetensors");
    let entry = |name: &str| format!(r#"{name:?}:{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
    write_header(&path, &[entry("a.weight"), entry("a.weight")], 4);
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::Format);
    let expected = "M/model.safetensors: not a complete safetensors file: tensor `a.weight` is duplicated";
    assert!(message.starts_with(expected), "{message}");

    write_header(&path, &[entry(&"长".repeat(40_000))], 4);
    let (_, message) = refusal(&folder);
    assert!(message.len() < 5000 && message.contains("is missing") && message.ends_with(" more"), "{message}");
    write_header(&path, &[entry(&format!("embeddings.LayerNorm.{}", "x".repeat(100_000)))], 8);
    assert!(refusal(&folder).1.len() < 5000);
}

#[test]
fn a_network_that_lacks_nearly_all_its_tensors_is_refused_soon() {
    let (_place, folder) = copy();
    edit_config(&folder, |c| c["num_hidden_layers"] = json!(10_000));
    let start = std::time::Instant::now();
    let (_, message) = refusal(&folder);
    assert!(message.ends_with("; and many more"), "{message}");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}
