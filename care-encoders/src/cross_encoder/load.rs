//! Loads a reranker from a folder.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use care_core::{Error, Result};
use care_kernels::Activation;

use super::head::{self, HeadForm, ScoreHead, Squash};
use super::input::{INSTRUCTION, Input, Prompt};
use super::model::{CrossEncoder, Scorer};
use super::options::CrossEncoderOptions;
use super::stated::{Head, Stated, source};
use super::summary::CrossEncoderSummary;
use crate::asymmetric::DEFAULT_TOKEN_BUDGET;
use crate::device::Precision;
use crate::encoder::Encoder;
use crate::head::Pooling;
use crate::layers::Prepack;
use crate::post_norm::BertFamily;
use crate::pretrained::{CONFIG, Checkpoint, TOKENIZER_CONFIG, TokenizerConfig, load_tokenizer, read_encoder};
use crate::registry::EncoderConfig;
use crate::settings::optional;
use crate::summary::{Setting, Source};
use crate::tokenize::Tokenizer;
use crate::tower::require_fit;

/// The length limit of Qwen3-Reranker's model card in tokens.
const PROMPT_LENGTH: usize = 8192;

impl CrossEncoder {
    /// Loads a reranker from a Hugging Face folder: BERT, ERNIE, DistilBERT, RoBERTa, XLM-RoBERTa, MPNet, GTE or ModernBERT
    /// with a sequence-classification head of one label, with or without the files of sentence-transformers'
    /// `CrossEncoder`; or Qwen3-Reranker, whose score is the logit of `yes` minus that of `no`. Options that are set override
    /// the folder's settings. On the CPU, f32 weights are prepacked for inference.
    ///
    /// ```no_run
    /// use care_core::{Document, Query, Reranker};
    /// use care_encoders::{CrossEncoder, CrossEncoderOptions, Device};
    ///
    /// let options = CrossEncoderOptions::default().with_max_length(512);
    /// let reranker = CrossEncoder::open("bge-reranker-v2-m3", &options, &Device::Cpu.open()?)?;
    /// println!("{}", reranker.summary());
    /// let documents = ["偏头痛发作时应在安静避光处休息。".into(), "高血压患者每天食盐宜少于5克。".into()];
    /// let scores = reranker.score_documents(&Query::new("头痛怎么办"), &documents)?;
    /// assert!(scores[0] > scores[1]);
    /// # Ok::<(), care_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a file is missing or broken; the folder is a pair or an embedding model; the architecture, its head, its custom
    /// code or a setting of sentence-transformers is not supported; the head has more than one label; a tensor is missing,
    /// left over, of the wrong shape or not finite; the tokenizer does not fit; or an option is out of range.
    pub fn open(folder: impl AsRef<Path>, options: &CrossEncoderOptions, device: &Device) -> Result<Self> {
        let folder = folder.as_ref();
        let stated = Stated::read(folder, options.ignore_custom_code)?;
        let path = stated.transformer.join(CONFIG);
        let encoder = read_encoder(&stated.transformer, None, &options.of_network(), device, true)?;
        let config = encoder.config();
        let checkpoint = Checkpoint::open(&stated.transformer)?;
        let (max_length, length_source) = max_length(&stated, &config, folder, options)?;
        let tokenizer = load_tokenizer(&stated.transformer, &config, max_length, None)?;
        let tokenizer = if stated.lower_case { tokenizer.with_lower_case()? } else { tokenizer };
        require_fit(&tokenizer, &encoder, "the reranker")?;
        let width = encoder.hidden_size();
        let (head, name) = match stated.head {
            Head::Classifier => {
                let form = form(&stated, &config).map_err(|e| e.in_file(&path))?;
                let head = ScoreHead::classifier(&checkpoint, &form, width, device)?;
                (head, format!("classifier of {}", stated.class))
            }
            Head::Tokens(tokens) => {
                let tokens = tokens.map_or_else(|| answers(&tokenizer), Ok)?;
                let tied = optional(&stated.config, "tie_word_embeddings").map_err(|e| e.in_file(&path))?;
                let head = ScoreHead::of_tokens(&checkpoint, tokens, tied.unwrap_or(false), width, device)?;
                (head, format!("{} of {}", named(&tokenizer, tokens), stated.class))
            }
        };
        let (input, tokenizer, instruction) = input(&stated, &encoder.config(), tokenizer, folder, options)?;
        let (activation, activation_source) = match options.activation {
            Some(activation) => (activation, Source::Option),
            None => stated.activation(folder)?,
        };
        let precision = options.precision.unwrap_or_default();
        let summary = CrossEncoderSummary {
            head: name,
            activation: Setting::new(activation, activation_source),
            token_types: matches!(input, Input::Pair { types: true }),
            max_length: Setting::new(max_length, length_source),
            instruction,
            precision: Setting::new(
                encoder.quantization().map_or_else(|| Precision::of(&encoder), Prepack::precision),
                if options.precision == Some(precision) { Source::Option } else { Source::Default },
            ),
        };
        let scorer = Scorer { encoder: encoder.prepacked(Prepack::F32), head: head.prepacked() };
        let (token_budget, fingerprint) = (DEFAULT_TOKEN_BUDGET, OnceLock::new());
        Ok(Self { tokenizer, scorer, input, summary, token_budget, fingerprint })
    }
}

/// The length limit of a pair, and where it comes from.
///
/// # Reference
/// sentence-transformers 6.2: the tokenizer's limit, capped at the positions.
fn max_length(
    stated: &Stated,
    config: &EncoderConfig,
    folder: &Path,
    options: &CrossEncoderOptions,
) -> Result<(usize, Source)> {
    if let Some(length) = options.max_length {
        return Ok((length, Source::Option));
    }
    let positions = (config.max_positions(), Source::Network);
    let of_tokenizer = TokenizerConfig::read(&stated.transformer)?.model_max_length()?;
    let of_tokenizer = of_tokenizer.map(|limit| (limit, source(folder, &stated.transformer.join(TOKENIZER_CONFIG))));
    let limit = stated.max_length.clone().or(of_tokenizer).unwrap_or_else(|| positions.clone());
    let of_prompt = (PROMPT_LENGTH, Source::Default);
    let limits = match stated.head {
        Head::Classifier => vec![limit, positions],
        Head::Tokens(_) => vec![limit, positions, of_prompt],
    };
    // The first of equal ones.
    Ok(limits.into_iter().min_by_key(|(limit, _)| *limit).unwrap_or((PROMPT_LENGTH, Source::Default)))
}

/// The form of the classification head of an architecture.
///
/// # Errors
/// If the architecture has none that is known.
fn form(stated: &Stated, config: &EncoderConfig) -> Result<HeadForm> {
    let tanh =
        |weights| HeadForm { pooling: Pooling::Cls, activation: Squash::Tanh, dense_bias: true, norm: None, weights };
    match config {
        EncoderConfig::Bert(bert) => Ok(match bert.model_type {
            BertFamily::Bert | BertFamily::Ernie => tanh(&head::BERT),
            BertFamily::Roberta | BertFamily::XlmRoberta | BertFamily::Mpnet => tanh(&head::ROBERTA),
            BertFamily::DistilBert => {
                HeadForm { activation: Squash::Function(Activation::Relu), ..tanh(&head::DISTILBERT) }
            }
        }),
        EncoderConfig::Gte(_) => Ok(tanh(&head::GTE)),
        EncoderConfig::ModernBert(modern) => {
            let pooling: Option<String> = optional(&stated.config, "classifier_pooling")?;
            let pooling = match pooling.as_deref() {
                None | Some("cls") => Pooling::Cls,
                Some("mean") => Pooling::Mean,
                Some(other) => return Err(Error::setting("classifier_pooling", format!("{other:?}"), "cls, mean")),
            };
            let activation = optional(&stated.config, "classifier_activation")?.unwrap_or(Activation::Gelu);
            Ok(HeadForm {
                pooling,
                activation: Squash::Function(activation),
                dense_bias: optional(&stated.config, "classifier_bias")?.unwrap_or(false),
                norm: Some((modern.norm_eps, modern.norm_bias)),
                weights: &head::MODERN_BERT,
            })
        }
        EncoderConfig::Decoder(_) => {
            let allowed = "the classification heads of bidirectional encoders, or Qwen3ForCausalLM of Qwen3-Reranker";
            Err(Error::setting("architectures", format!("[{:?}]", stated.class), allowed))
        }
    }
}

/// The ids of `yes` and `no`.
fn answers(tokenizer: &Tokenizer) -> Result<(u32, Option<u32>)> {
    let id = |token| {
        tokenizer.token_to_id(token).ok_or_else(|| {
            Error::setting("tokenizer", "without it", &format!("one with a token {token:?}, whose logit is the score"))
        })
    };
    Ok((id("yes")?, Some(id("no")?)))
}

/// What the logits of these tokens are for a reader.
fn named(tokenizer: &Tokenizer, (yes, no): (u32, Option<u32>)) -> String {
    let name = |id: u32| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string());
    match no {
        Some(no) => format!("logit of {:?} minus that of {:?}", name(yes), name(no)),
        None => format!("logit of {:?}", name(yes)),
    }
}

/// The form in which the network reads a pair, the tokenizer that encodes it, and the instruction.
fn input(
    stated: &Stated,
    config: &EncoderConfig,
    tokenizer: Tokenizer,
    folder: &Path,
    options: &CrossEncoderOptions,
) -> Result<(Input, Tokenizer, Option<Setting<String>>)> {
    if stated.head == Head::Classifier {
        if let Some(instruction) = &options.instruction {
            let allowed = "unset for a network that reads a query and a document alone";
            return Err(Error::setting("instruction", format!("{instruction:?}"), allowed));
        }
        tokenizer.require_pairs()?;
        // Without the name of the input, transformers passes no types, and the network takes them for 0.
        let names: Option<Vec<String>> = TokenizerConfig::read(&stated.transformer)?.field("model_input_names")?;
        let passed = names.is_none_or(|names| names.iter().any(|name| name == "token_type_ids"));
        let types = passed && has_types(config);
        return Ok((Input::Pair { types }, tokenizer, None));
    }
    let (instruction, source) = match (&options.instruction, &stated.prompt) {
        (Some(instruction), _) => (instruction.clone(), Source::Option),
        (None, Some(prompt)) => (prompt.clone(), source(folder, &folder.join(crate::pretrained::SETTINGS))),
        (None, None) => (INSTRUCTION.to_owned(), Source::Default),
    };
    let (prompt, middle) = Prompt::new(&tokenizer, instruction)?;
    let instruction = Setting::new(prompt.instruction().to_owned(), source);
    Ok((Input::Prompt(prompt), middle, Some(instruction)))
}

/// Whether the network has more than one type of token.
fn has_types(config: &EncoderConfig) -> bool {
    match config {
        EncoderConfig::Bert(config) => config.type_vocab_size > 1,
        EncoderConfig::Gte(config) => config.type_vocab_size > 1,
        EncoderConfig::ModernBert(_) | EncoderConfig::Decoder(_) => false,
    }
}
