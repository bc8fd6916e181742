//! Reads and writes the tokenizer of a Hugging Face folder: `tokenizer.json`, or BERT's `vocab.txt`, and
//! `tokenizer_config.json`.

use std::path::{Path, PathBuf};

use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::folder::{read_json, write_json};
use crate::batch::PaddingSide;
use crate::encoder::Encoder;
use crate::registry::{AnyEncoder, EncoderConfig};
use crate::tokenize::{BertSettings, Tokenizer, TruncationSide, bert_definition};

const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The vocabulary of BERT, from which its tokenizer is built where there is no `tokenizer.json`.
const VOCABULARY: &str = "vocab.txt";
/// The classes of tokenizers that are built from a vocabulary as BERT's is.
const BERT_CLASSES: [&str; 6] = [
    "BertTokenizer",
    "BertTokenizerFast",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "ElectraTokenizer",
    "ElectraTokenizerFast",
];
/// A `model_max_length` from here on means no limit.
const NO_LIMIT: f64 = 1e9;
/// The roles of special tokens in `tokenizer_config.json`.
const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The fields of a `tokenizer_config.json`; none if there is no such file.
pub(crate) struct TokenizerConfig {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl TokenizerConfig {
    /// Reads the file of a folder.
    ///
    /// # Errors
    /// If the file exists and is not a JSON object.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(TOKENIZER_CONFIG);
        let fields = if path.exists() { read_json(&path)? } else { Map::new() };
        Ok(Self { path, fields })
    }

    /// A field; `None` if it is absent or null.
    fn field<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let value = self.fields.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value).map_err(|e| self.error(format!("field `{name}`: {e}")).with_source(e))
    }

    /// The special token of a role. It is a string, or an object with the string as its `content`.
    fn token(&self, role: &str) -> Option<&str> {
        let token = self.fields.get(role)?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    }

    /// The special token of a role, if `flag` adds it to every text.
    fn added(&self, flag: &str, role: &str) -> Result<Option<&str>> {
        match (self.field(flag)?, self.token(role)) {
            (Some(true), None) => Err(self.error(format!("`{flag}` is true, but `{role}` names no token"))),
            (Some(true), token) => Ok(token),
            _ => Ok(None),
        }
    }

    /// The length limit in tokens.
    ///
    /// # Errors
    /// If the field is not a number.
    pub(crate) fn model_max_length(&self) -> Result<Option<usize>> {
        let length = self.field::<f64>("model_max_length")?;
        Ok(length.filter(|length| *length < NO_LIMIT).map(|length| length as usize))
    }

    fn error(&self, problem: String) -> Error {
        Error::format(&self.path, problem)
    }
}

/// Reads the tokenizer of a folder as its `tokenizer_config.json` specifies.
///
/// `add_bos_token` and `add_eos_token` add their tokens where `tokenizer.json` has none at that end of a text. A
/// `terminal_token` takes the place of the latter; if it is empty, none is added.
///
/// # Reference
/// Version 4 of transformers (Llama) and the code that gte-Qwen2 and stella were published with.
/// DIFFERENCE: version 5 ignores the two fields in a folder with a `tokenizer.json`, so it computes other vectors than
/// those models were trained and published with. Where `tokenizer.json` ends texts with another special token than
/// `eos_token`, or a field is false, `tokenizer.json` decides, as in version 5.
///
/// # Errors
/// If it is missing or broken, or lacks a special token that `tokenizer_config.json` names.
pub(crate) fn load_tokenizer(
    folder: &Path,
    config: &EncoderConfig,
    max_length: usize,
    terminal_token: Option<&str>,
) -> Result<Tokenizer> {
    let pad = config.settings().common().pad_token_id;
    let settings = TokenizerConfig::read(folder)?;
    let is_built = !folder.join(TOKENIZER).exists();
    let path = folder.join(if is_built { VOCABULARY } else { TOKENIZER });
    let mut tokenizer = match is_built {
        true => Tokenizer::parse(&built(folder, config, &settings)?, Some(&path), pad.unwrap_or(0), max_length)?,
        false => Tokenizer::from_file(&path, pad.unwrap_or(0), max_length)?,
    };
    let mut named_pad = None;
    for (role, token) in ROLES.iter().filter_map(|role| Some((*role, settings.token(role)?))) {
        // A vocabulary may lack tokens that no text has.
        if is_built && tokenizer.token_to_id(token).is_none() {
            continue;
        }
        let Some(id) = tokenizer.token_to_id(token) else {
            let problem = format!(
                "has no token {token:?}, which {TOKENIZER_CONFIG} names as {role}: the tokenizer belongs to another \
                 model"
            );
            return Err(Error::format(&path, problem).with_kind(ErrorKind::Tokenizer));
        };
        if role == "pad_token" {
            named_pad = Some(id);
        }
    }
    if let (None, Some(id)) = (pad, named_pad) {
        tokenizer = tokenizer.with_pad_id(id);
    }
    if let Some(side) = settings.field::<TruncationSide>("truncation_side")? {
        tokenizer = tokenizer.with_truncation_side(side);
    }
    add_ends(tokenizer, &settings, terminal_token)
}

/// The definition of a tokenizer that is built from a folder's `vocab.txt`.
///
/// # Errors
/// If the folder has none, or is not of BERT's form.
fn built(folder: &Path, config: &EncoderConfig, settings: &TokenizerConfig) -> Result<String> {
    let path = folder.join(VOCABULARY);
    let class: Option<String> = settings.field("tokenizer_class")?;
    let is_bert = match class {
        Some(class) => BERT_CLASSES.contains(&class.as_str()),
        None => config.settings().model_type() == "bert",
    };
    // Not computed here: words that are never split, texts that are not split into words, tokens of another file.
    let differs = settings.field::<bool>("do_basic_tokenize")? == Some(false)
        || settings.field::<Vec<String>>("never_split")?.is_some_and(|words| !words.is_empty())
        || folder.join("added_tokens.json").exists();
    if !is_bert || differs || !path.exists() {
        let others = ["vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"];
        let other = others.into_iter().find(|name| folder.join(name).exists());
        let other = other.map_or_else(String::new, |name| {
            format!(
                "; {name} alone is not supported{}: convert it in Python with \
                 AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                if name == VOCABULARY { " for this kind of tokenizer" } else { "" }
            )
        });
        return Err(Error::new(ErrorKind::Io, format!("{}: no {TOKENIZER}{other}", folder.display())));
    }
    let text = String::from_utf8(read_file(&path)?).map_err(|e| Error::format(&path, &e).with_source(e))?;
    let token = |role: &str, default: &str| settings.token(role).unwrap_or(default).to_owned();
    let added: Option<Map<String, Value>> = settings.field("added_tokens_decoder")?;
    let added = added.into_iter().flatten().filter_map(|(_, token)| Some(token.get("content")?.as_str()?.to_owned()));
    let bert = BertSettings {
        do_lower_case: settings.field("do_lower_case")?.unwrap_or(true),
        strip_accents: settings.field("strip_accents")?,
        tokenize_chinese_chars: settings.field("tokenize_chinese_chars")?.unwrap_or(true),
        unk_token: token("unk_token", "[UNK]"),
        cls_token: token("cls_token", "[CLS]"),
        sep_token: token("sep_token", "[SEP]"),
        other_tokens: added.chain([token("pad_token", "[PAD]"), token("mask_token", "[MASK]")]).collect(),
    };
    bert_definition(&text, &bert).map_err(|e| e.in_file(&path).with_kind(ErrorKind::Tokenizer))
}

/// Adds the special tokens that `tokenizer_config.json` or the option demands.
fn add_ends(tokenizer: Tokenizer, settings: &TokenizerConfig, terminal_token: Option<&str>) -> Result<Tokenizer> {
    let name = |id: u32| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string());
    let first = settings.added("add_bos_token", "bos_token")?;
    let present = tokenizer.terminal_token().map(name);
    let (last, remark) = match (terminal_token, &present) {
        (Some(wanted), Some(present)) if wanted != present => {
            let allowed = format!("only {present:?}, with which {TOKENIZER} ends texts");
            return Err(Error::setting("terminal_token", format!("{wanted:?}"), &allowed));
        }
        (Some(wanted), _) => (Some(wanted).filter(|token| !token.is_empty()), None),
        (None, present) => match (settings.added("add_eos_token", "eos_token")?, present) {
            (Some(token), None) => {
                let remark = format!(
                    "texts end with {token:?}, since {TOKENIZER_CONFIG} sets `add_eos_token` and {TOKENIZER} adds no \
                     token; transformers 5 ignores this field"
                );
                (Some(token), Some(remark))
            }
            (Some(token), Some(present)) if token != present => {
                let remark = format!(
                    "texts end with {present:?} as in {TOKENIZER}, although {TOKENIZER_CONFIG} sets `add_eos_token` \
                     with {token:?}"
                );
                (None, Some(remark))
            }
            _ => (None, None),
        },
    };
    let tokenizer = tokenizer.with_ends(first, last)?;
    Ok(match remark {
        Some(remark) => tokenizer.with_remark(remark),
        None => tokenizer,
    })
}

/// Writes a tokenizer, with settings that make transformers use `tokenizer.json` as it is.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_tokenizer(folder: &Path, tokenizer: &Tokenizer, encoder: &AnyEncoder) -> Result<()> {
    tokenizer.save(folder.join(TOKENIZER))?;
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.max_length(),
        "padding_side": match encoder.padding_side() {
            PaddingSide::Right => "right",
            PaddingSide::Left => "left",
        },
        "clean_up_tokenization_spaces": false,
    });
    if tokenizer.truncation_side() != TruncationSide::default() {
        settings["truncation_side"] = json!(tokenizer.truncation_side());
    }
    // transformers makes the padding token special, so naming an ordinary token would change how texts are split.
    let special = tokenizer.special_tokens();
    let candidates = [Some(tokenizer.pad_id()), tokenizer.terminal_token(), special.first().copied()];
    let pad = candidates.into_iter().flatten().find(|id| special.contains(id));
    if let Some(pad) = pad.and_then(|id| tokenizer.id_to_token(id)) {
        settings["pad_token"] = pad.into();
    }
    write_json(&folder.join(TOKENIZER_CONFIG), &settings)
}
