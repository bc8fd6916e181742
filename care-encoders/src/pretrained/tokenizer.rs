//! Reads and writes the tokenizer of a Hugging Face folder: `tokenizer.json`, or BERT's `vocab.txt`, or `vocab.json` and
//! `merges.txt`, and `tokenizer_config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::folder::{read_json, write_json};
use crate::batch::PaddingSide;
use crate::encoder::Encoder;
use crate::registry::{AnyEncoder, EncoderConfig};
use crate::tokenize::{
    BertSettings, ByteBpe, ByteBpeSettings, Tokenizer, TruncationSide, bert_definition, byte_bpe_definition,
};

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
/// The vocabulary and the merges of a byte-level BPE, from which its tokenizer is built where there is no `tokenizer.json`.
const BYTE_BPE: [&str; 2] = ["vocab.json", "merges.txt"];
/// The classes of tokenizers that are built from these.
const BYTE_BPE_CLASSES: [(&str, ByteBpe); 6] = [
    ("GPT2Tokenizer", ByteBpe::Gpt2),
    ("GPT2TokenizerFast", ByteBpe::Gpt2),
    ("Qwen2Tokenizer", ByteBpe::Qwen2),
    ("Qwen2TokenizerFast", ByteBpe::Qwen2),
    ("RobertaTokenizer", ByteBpe::Roberta),
    ("RobertaTokenizerFast", ByteBpe::Roberta),
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
    pub(crate) fn field<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
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
    let (path, mut tokenizer) = match is_built {
        true => {
            let Built { path, definition } = built(folder, config, &settings)?;
            let tokenizer = Tokenizer::parse(&definition, Some(&path), pad.unwrap_or(0), max_length)?;
            (path, tokenizer)
        }
        false => {
            let path = folder.join(TOKENIZER);
            let tokenizer = Tokenizer::from_file(&path, pad.unwrap_or(0), max_length)?;
            (path, tokenizer)
        }
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

/// A tokenizer that is built from a vocabulary.
struct Built {
    /// The file with the vocabulary.
    path: PathBuf,
    /// The `tokenizer.json`.
    definition: String,
}

/// The tokenizer that is built from a folder's vocabulary.
///
/// # Errors
/// If the folder has none, or is of another form than BERT's or that of a known byte-level BPE.
fn built(folder: &Path, config: &EncoderConfig, settings: &TokenizerConfig) -> Result<Built> {
    let exists = |name: &str| folder.join(name).exists();
    let class: Option<String> = settings.field("tokenizer_class")?;
    let model_type = config.settings().model_type();
    let byte_bpe = match class.as_deref() {
        Some(class) => BYTE_BPE_CLASSES.iter().find(|(name, _)| *name == class).map(|(_, kind)| *kind),
        None => match model_type {
            "roberta" => Some(ByteBpe::Roberta),
            "qwen2" | "qwen3" => Some(ByteBpe::Qwen2),
            _ => None,
        },
    };
    let is_bert = match class.as_deref() {
        Some(class) => BERT_CLASSES.contains(&class),
        None => model_type == "bert",
    };
    if BYTE_BPE.into_iter().all(exists) && !(is_bert && exists(VOCABULARY)) {
        let Some(kind) = byte_bpe else {
            let classes: Vec<&str> = BYTE_BPE_CLASSES.iter().map(|(name, _)| *name).collect();
            let named = class.map_or_else(|| "none".to_owned(), |class| format!("{class:?}"));
            let problem = format!(
                "no {TOKENIZER}, and of {} the `tokenizer_class` is {named}, allowed: {}; {CONVERT}",
                BYTE_BPE.join(" and "),
                classes.join(", ")
            );
            return Err(Error::new(ErrorKind::Tokenizer, format!("{}: {problem}", folder.display())));
        };
        return built_byte_bpe(folder, kind, settings);
    }
    let path = folder.join(VOCABULARY);
    // Not computed here: words that are never split, texts that are not split into words, tokens of another file.
    let differs = settings.field::<bool>("do_basic_tokenize")? == Some(false)
        || settings.field::<Vec<String>>("never_split")?.is_some_and(|words| !words.is_empty())
        || folder.join("added_tokens.json").exists();
    if !is_bert || differs || !path.exists() {
        let others = ["vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"];
        let other = others.into_iter().find(|name| folder.join(name).exists());
        let other = other.map_or_else(String::new, |name| {
            format!(
                "; {name} alone is not supported{}: {CONVERT}",
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
    let definition = bert_definition(&text, &bert).map_err(|e| e.in_file(&path).with_kind(ErrorKind::Tokenizer))?;
    Ok(Built { path, definition })
}

/// How a tokenizer of another form becomes a `tokenizer.json`.
const CONVERT: &str = "convert it in Python with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";

/// The tokenizer that is built from a folder's `vocab.json` and `merges.txt`.
fn built_byte_bpe(folder: &Path, kind: ByteBpe, settings: &TokenizerConfig) -> Result<Built> {
    let [path, merges] = BYTE_BPE.map(|name| folder.join(name));
    let vocab: BTreeMap<String, u32> = read_json(&path)?;
    let merges = String::from_utf8(read_file(&merges)?).map_err(|e| Error::format(&merges, &e).with_source(e))?;
    let refuse = |problem: String| Err(Error::format(&path, problem).with_kind(ErrorKind::Tokenizer));
    let listed: Option<BTreeMap<String, Value>> = settings.field("added_tokens_decoder")?;
    let mut added = BTreeMap::new();
    for (id, token) in listed.into_iter().flatten() {
        match (id.parse::<u32>(), token["content"].is_string()) {
            (Ok(id), true) => added.insert(id, token),
            _ => return Err(settings.error(format!("`added_tokens_decoder` has {id:?}: {token}, no id and token"))),
        };
    }
    let known = |added: &BTreeMap<u32, Value>, token: &str| {
        let of = |(id, known): (&u32, &Value)| (known["content"] == token).then_some(*id);
        added.iter().find_map(of)
    };
    // An older form, without the settings of each token.
    let older = folder.join("added_tokens.json");
    let older: BTreeMap<String, u32> = if older.exists() { read_json(&older)? } else { BTreeMap::new() };
    if let Some((token, id)) = older.iter().find(|(token, id)| known(&added, token) != Some(**id)) {
        return refuse(format!(
            "added_tokens.json adds {token:?} with id {id}, which `added_tokens_decoder` of {TOKENIZER_CONFIG} does \
             not; {CONVERT}"
        ));
    }
    let defaults: &[(&str, &str)] = match kind {
        ByteBpe::Gpt2 | ByteBpe::Qwen2 => &[("eos_token", "<|endoftext|>")],
        ByteBpe::Roberta => &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("sep_token", "</s>"),
            ("cls_token", "<s>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
    };
    let default = |role: &str| defaults.iter().find(|(of, _)| *of == role).map(|(_, token)| *token);
    for role in ROLES {
        let named = settings.token(role);
        let Some(token) = named.or(default(role)).filter(|token| known(&added, token).is_none()) else { continue };
        match (vocab.get(token), named) {
            (Some(&id), _) => {
                // The role may state how the token is matched.
                let own = settings.fields.get(role).filter(|own| own.is_object()).cloned();
                added.insert(id, own.unwrap_or_else(|| json!({ "content": token })));
            }
            (None, Some(_)) => {
                return refuse(format!("has no token {token:?}, which {TOKENIZER_CONFIG} names as {role}"));
            }
            (None, None) => {}
        }
    }
    // `tokenizers` numbers what the vocabulary lacks from its end on, whatever ids are stated.
    let mut next = vocab.len() as u32;
    for (id, token) in &added {
        let token = token["content"].as_str().unwrap_or_default();
        let expected = vocab.get(token).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        if *id != expected {
            return refuse(format!("{token:?} has id {expected}, but {TOKENIZER_CONFIG} states {id}; {CONVERT}"));
        }
    }
    let token = |role: &str| settings.token(role).or(default(role)).unwrap_or_default().to_owned();
    let bpe = ByteBpeSettings {
        kind,
        add_prefix_space: settings.field("add_prefix_space")?.unwrap_or(false),
        cls_token: token("cls_token"),
        sep_token: token("sep_token"),
        added,
    };
    let definition = byte_bpe_definition(&vocab, &merges, &bpe);
    Ok(Built { definition: definition.map_err(|e| e.in_file(&path).with_kind(ErrorKind::Tokenizer))?, path })
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
