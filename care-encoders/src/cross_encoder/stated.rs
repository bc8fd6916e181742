//! What a folder states about a reranker: `config.json` of transformers, and the settings of sentence-transformers.

use std::path::{Path, PathBuf};

use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::activation::ScoreActivation;
use super::input::is_known_template;
use crate::pretrained::{
    CONFIG, MANIFEST, MODULES, ModuleRow, SETTINGS, TOKENIZER_CONFIG, TRANSFORMER_SETTINGS, TokenizerConfig, read_json,
    require_folder,
};
use crate::settings::optional;
use crate::summary::Source;

/// The ends of the classes of transformers whose networks return a score.
const CLASSIFIER: &str = "ForSequenceClassification";
const LANGUAGE_MODEL: &str = "ForCausalLM";
/// The custom code with a classification head that is known: `model_type`, and file and class.
const KNOWN_CODE: (&str, &str) = ("new", "modeling.NewForSequenceClassification");
/// The class of sentence-transformers that reads a score off the logits of a language model.
const LOGIT_SCORE: &str = "LogitScore";
/// Where transformers keeps a chat template; else it is in the settings of the tokenizer.
const TEMPLATE: &str = "chat_template.jinja";

/// What a folder states about a reranker.
#[derive(Debug)]
pub(super) struct Stated {
    /// The folder of network and tokenizer.
    pub(super) transformer: PathBuf,
    /// Its `config.json`.
    pub(super) config: Value,
    /// The class of transformers.
    pub(super) class: String,
    pub(super) head: Head,
    /// The class of an activation, and the file that names it.
    activation: Option<(String, PathBuf)>,
    /// Length limit of a pair in tokens.
    pub(super) max_length: Option<(usize, Source)>,
    /// Whether texts are turned into lower case, whether or not the tokenizer does.
    pub(super) lower_case: bool,
    /// The default prompt.
    pub(super) prompt: Option<String>,
}

/// What computes the logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The classification head of the network's class.
    Classifier,
    /// The logit of a token minus that of another; `None`: those of `yes` and `no`.
    Tokens(Option<(u32, Option<u32>)>),
}

impl Stated {
    /// Reads a folder.
    ///
    /// # Errors
    /// If it is no reranker, or states something that is not computed here.
    pub(super) fn read(folder: &Path, ignore_custom_code: bool) -> Result<Self> {
        require_folder(folder)?;
        if folder.join(MANIFEST).exists() {
            return Err(refuse(folder, format!("{MANIFEST} makes it a pair of towers, which is no reranker")));
        }
        let (transformer, tokens) = chain(folder)?;
        let path = transformer.join(CONFIG);
        let config: Value = read_json(&path)?;
        let class = class_of(&config).map_err(|e| e.in_file(&path))?;
        let head = match (class.ends_with(LANGUAGE_MODEL), tokens) {
            (true, tokens) => Head::Tokens(tokens),
            (false, None) => Head::Classifier,
            (false, Some(_)) => {
                let problem = format!("{LOGIT_SCORE} reads the logits of a language model, which {class} is not");
                return Err(Error::format(folder.join(MODULES), problem));
            }
        };
        match head {
            Head::Classifier => require_one_label(&config),
            Head::Tokens(_) => require_known_prompt(&config),
        }
        .map_err(|e| e.in_file(&path))?;
        if !ignore_custom_code {
            require_known_code(&config).map_err(|e| e.in_file(&path))?;
        }
        let mut stated = Self {
            activation: activation_of(&config, &path)?,
            transformer,
            config,
            class,
            head,
            max_length: None,
            lower_case: false,
            prompt: None,
        };
        stated.read_settings(folder)?;
        stated.read_transformer_settings(folder)?;
        Ok(stated)
    }

    /// The activation and where it is stated.
    ///
    /// # Errors
    /// If it is another function.
    ///
    /// # Reference
    /// sentence-transformers 6.2: the settings of the model precede `config.json`, and the default for one label is the
    /// sigmoid.
    pub(super) fn activation(&self, folder: &Path) -> Result<(ScoreActivation, Source)> {
        let Some((class, path)) = &self.activation else {
            return Ok((ScoreActivation::Sigmoid, Source::SentenceTransformers));
        };
        let known = ScoreActivation::of_class(class).ok_or_else(|| {
            let allowed = "identity and sigmoid of torch.nn, or the option `activation`";
            Error::setting("activation_fn", format!("{class:?}"), allowed).in_file(path)
        })?;
        Ok((known, source(folder, path)))
    }

    /// Reads `config_sentence_transformers.json`.
    fn read_settings(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join(SETTINGS);
        if !path.exists() {
            return Ok(());
        }
        let settings: Value = read_json(&path)?;
        if let Some(class) = optional::<String>(&settings, "activation_fn").map_err(|e| e.in_file(&path))? {
            self.activation = Some((class, path.clone()));
        }
        let name: Option<String> = optional(&settings, "default_prompt_name").map_err(|e| e.in_file(&path))?;
        let Some(name) = name else { return Ok(()) };
        let prompt = settings["prompts"][&name].as_str();
        let prompt = prompt.ok_or_else(|| Error::format(&path, format!("`prompts` has no default prompt {name:?}")))?;
        if self.head == Head::Classifier && !prompt.is_empty() {
            let problem = format!("the default prompt {prompt:?} is not supported for a classification head");
            return Err(Error::format(&path, problem));
        }
        self.prompt = Some(prompt.to_owned());
        Ok(())
    }

    /// Reads `sentence_bert_config.json`.
    fn read_transformer_settings(&mut self, folder: &Path) -> Result<()> {
        let paths = TRANSFORMER_SETTINGS.map(|name| self.transformer.join(name));
        let Some(path) = paths.into_iter().find(|path| path.exists()) else { return Ok(()) };
        let settings: Value = read_json(&path)?;
        let task = match self.head {
            Head::Classifier => "sequence-classification",
            Head::Tokens(_) => "text-generation",
        };
        let stated: Option<String> = optional(&settings, "transformer_task").map_err(|e| e.in_file(&path))?;
        if let Some(stated) = stated.filter(|stated| stated != task) {
            return Err(Error::setting("transformer_task", format!("{stated:?}"), task).in_file(&path));
        }
        for field in
            ["query_expansion", "processing_kwargs", "tokenizer_name_or_path", "query_length", "document_length"]
        {
            let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(|fields| fields.is_empty());
            if let Some(value) = settings.get(field).filter(|value| !empty(value)) {
                return Err(Error::format(&path, format!("`{field}` {value} is not supported")));
            }
        }
        self.lower_case = optional(&settings, "do_lower_case").map_err(|e| e.in_file(&path))?.unwrap_or(false);
        let given = ["processor_kwargs", "tokenizer_args"].map(|kwargs| settings[kwargs]["model_max_length"].as_u64());
        let given = given.into_iter().flatten().next().map(|limit| limit as usize);
        let limit = given.or(optional(&settings, "max_seq_length").map_err(|e| e.in_file(&path))?);
        self.max_length = limit.map(|limit| (limit, source(folder, &path)));
        Ok(())
    }
}

/// The name of a file as a source.
pub(super) fn source(folder: &Path, path: &Path) -> Source {
    Source::File(path.strip_prefix(folder).unwrap_or(path).display().to_string())
}

fn refuse(folder: &Path, problem: String) -> Error {
    Error::new(ErrorKind::Config, format!("{}: {problem}", folder.display()))
}

/// The folder of the network, and the tokens of a [`LOGIT_SCORE`].
type Chain = (PathBuf, Option<(u32, Option<u32>)>);

/// Reads the modules of sentence-transformers, if the folder has some.
fn chain(folder: &Path) -> Result<Chain> {
    let path = folder.join(MODULES);
    if !path.exists() {
        return Ok((folder.to_owned(), None));
    }
    let rows: Vec<ModuleRow> = read_json(&path)?;
    let class = |row: &ModuleRow| row.class.rsplit('.').next().unwrap_or_default().to_owned();
    let classes: Vec<String> = rows.iter().map(class).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    match (classes.as_slice(), rows.as_slice()) {
        (["Transformer"], [first]) => Ok((folder.join(&first.path), None)),
        (["Transformer", LOGIT_SCORE], [first, second]) => {
            let tokens = logit_score(&folder.join(&second.path).join(CONFIG))?;
            require_known_template(&folder.join(&first.path))?;
            Ok((folder.join(&first.path), Some(tokens)))
        }
        (["Router" | "Asym", ..] | [_, "Pooling", ..], _) => Err(Error::format(
            &path,
            format!("the modules {} make an embedding model, no reranker", classes.join(", ")),
        )),
        _ => {
            let allowed = format!("Transformer, or Transformer and {LOGIT_SCORE}");
            Err(Error::format(&path, format!("the modules {} are not supported, only {allowed}", classes.join(", "))))
        }
    }
}

/// The tokens of a [`LOGIT_SCORE`].
fn logit_score(path: &Path) -> Result<(u32, Option<u32>)> {
    let settings: Value = read_json(path)?;
    let token = |field| optional::<u32>(&settings, field).map_err(|e| e.in_file(path));
    let input: Option<String> = optional(&settings, "module_input_name").map_err(|e| e.in_file(path))?;
    if let Some(input) = input.filter(|input| input != "causal_logits") {
        return Err(Error::setting("module_input_name", format!("{input:?}"), "causal_logits").in_file(path));
    }
    let yes = token("true_token_id")?.ok_or_else(|| Error::format(path, "missing field `true_token_id`"))?;
    Ok((yes, token("false_token_id")?))
}

/// Returns an error if the chat template is another than Qwen3-Reranker's.
fn require_known_template(transformer: &Path) -> Result<()> {
    let (file, settings) = (transformer.join(TEMPLATE), TokenizerConfig::read(transformer)?);
    let (path, template) = match file.exists() {
        true => (file.clone(), Some(String::from_utf8_lossy(&read_file(&file)?).into_owned())),
        false => (transformer.join(TOKENIZER_CONFIG), settings.field("chat_template")?),
    };
    match template {
        Some(template) if is_known_template(&template) => Ok(()),
        Some(_) => {
            let problem = "the chat template is not that of Qwen3-Reranker, and other templates are not run";
            Err(Error::format(&path, problem))
        }
        None => Err(Error::format(&path, "there is no chat template, by which a pair becomes a prompt")),
    }
}

/// The class of transformers that reads the network with its head.
///
/// # Errors
/// If it is none that returns a score.
fn class_of(config: &Value) -> Result<String> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let classes: Option<Vec<String>> = optional(config, "architectures")?;
    match classes.unwrap_or_default().into_iter().next() {
        // As sentence-transformers does; without the weights of a head, reading them fails.
        None => Ok(format!("{model_type} {CLASSIFIER}")),
        Some(class) if class.ends_with(CLASSIFIER) || class.ends_with(LANGUAGE_MODEL) => Ok(class),
        Some(class) => {
            let allowed = format!(
                "a class that ends in {CLASSIFIER}, or Qwen3{LANGUAGE_MODEL} of Qwen3-Reranker: other networks return no score"
            );
            Err(Error::setting("architectures", format!("[{class:?}]"), &allowed))
        }
    }
}

/// Returns an error unless the head has one label.
///
/// # Reference
/// transformers 5.24, `configuration_utils.py`: a network without `id2label` and `num_labels` has two labels.
fn require_one_label(config: &Value) -> Result<()> {
    let named = config.get("id2label").and_then(Value::as_object).map(|labels| ("id2label", labels.len()));
    let counted = || Some(("num_labels", config.get("num_labels")?.as_u64()? as usize));
    let allowed = "1: a reranker returns one score";
    match named.or_else(counted) {
        Some((_, 1)) => Ok(()),
        Some((field, labels)) => Err(Error::setting(field, format!("{labels} labels"), allowed)),
        None => Err(Error::setting("id2label", "absent, which means 2 labels", allowed)),
    }
}

/// Returns an error if the prompt of a language model is not known.
fn require_known_prompt(config: &Value) -> Result<()> {
    match &config["model_type"] {
        model_type if model_type == "qwen3" => Ok(()),
        other => {
            let allowed = "qwen3 for a language model as a reranker: the prompts of others are not known";
            Err(Error::setting("model_type", other, allowed))
        }
    }
}

/// Returns an error if the class with the head is unknown custom code. That of the network itself is checked where it is
/// read.
fn require_known_code(config: &Value) -> Result<()> {
    const ENTRY: &str = "AutoModelForSequenceClassification";
    let Some(code) = config.get("auto_map").and_then(|entries| entries.get(ENTRY)) else { return Ok(()) };
    let class = code.as_str().unwrap_or_default();
    let class = class.rsplit_once("--").map_or(class, |(_, class)| class);
    if (config["model_type"].as_str().unwrap_or_default(), class) == KNOWN_CODE {
        return Ok(());
    }
    let allowed = format!(
        "{} for {}; what other code computes is not known, unless you set `ignore_custom_code` because it computes what \
         transformers does",
        KNOWN_CODE.1, KNOWN_CODE.0
    );
    Err(Error::setting(&format!("auto_map.{ENTRY}"), code, &allowed))
}

/// The activation that `config.json` names, in the place of versions 4 and 5 of sentence-transformers or in that of
/// earlier ones.
fn activation_of(config: &Value, path: &Path) -> Result<Option<(String, PathBuf)>> {
    let newer = config.get("sentence_transformers").map_or(Ok(None), |section| optional(section, "activation_fn"));
    let newer: Option<String> = newer.map_err(|e| e.in_file(path))?;
    let older = || optional(config, "sbert_ce_default_activation_function").map_err(|e| e.in_file(path));
    let class: Option<String> = match newer {
        Some(class) => Some(class),
        None => older()?,
    };
    Ok(class.map(|class| (class, path.to_owned())))
}
