//! The model inside a tokenizer, which splits words into tokens: our own [`Unigram`], else those of `tokenizers`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{Model as _, Result, Token};

use super::unigram::Unigram;

/// The `model` of a `tokenizer.json`.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Model {
    Unigram(Unigram),
    Other(Box<ModelWrapper>),
}

impl Model {
    /// The largest id + 1.
    pub(crate) fn id_bound(&self) -> usize {
        let count = tokenizers::Model::get_vocab_size(self);
        let known =
            |id: usize| u32::try_from(id).ok().and_then(|id| tokenizers::Model::id_to_token(self, id)).is_some();
        match self {
            Model::Other(model) if !(0..count).all(known) => {
                model.get_vocab().values().max().map_or(0, |&id| id as usize + 1)
            }
            _ => count,
        }
    }
}

impl<'de> Deserialize<'de> for Model {
    /// Reads the model that `type` names. [`ModelWrapper`] would first collect every token and merge in two generic
    /// trees of values, at several times the time and memory. It is the fallback for files that a model on its own
    /// rejects: old ones without a type, and those with unknown fields.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "type", borrow)]
            name: Cow<'a, str>,
        }
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let kind = serde_json::from_str::<Kind<'_>>(json).map(|kind| kind.name);
        let other = match kind.as_deref() {
            Ok("Unigram") => return serde_json::from_str(json).map(Self::Unigram).map_err(D::Error::custom),
            Ok("BPE") => serde_json::from_str(json).map(ModelWrapper::BPE),
            Ok("WordPiece") => serde_json::from_str(json).map(ModelWrapper::WordPiece),
            Ok("WordLevel") => serde_json::from_str(json).map(ModelWrapper::WordLevel),
            _ => serde_json::from_str(json),
        };
        let other = other.or_else(|_| serde_json::from_str(json)).map_err(D::Error::custom)?;
        Ok(Self::Other(Box::new(other)))
    }
}

impl tokenizers::Model for Model {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        match self {
            Model::Unigram(model) => model.tokenize(word),
            Model::Other(model) => model.tokenize(word),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Model::Unigram(model) => model.token_to_id(token),
            Model::Other(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self {
            Model::Unigram(model) => model.id_to_token(id).map(str::to_owned),
            Model::Other(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self {
            Model::Unigram(model) => model.tokens().zip(0..).map(|(token, id)| (token.to_owned(), id)).collect(),
            Model::Other(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            Model::Unigram(model) => model.len(),
            Model::Other(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        match self {
            Model::Unigram(model) => {
                let path = folder.join(prefix.map_or_else(|| "unigram.json".into(), |p| format!("{p}-unigram.json")));
                std::fs::write(&path, serde_json::to_vec_pretty(model)?)?;
                Ok(vec![path])
            }
            Model::Other(model) => model.save(folder, prefix),
        }
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            Model::Unigram(_) => UnigramTrainer::default().into(),
            Model::Other(model) => model.get_trainer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_read_without_a_type_and_with_fields_that_it_does_not_know() {
        let vocab = r#""vocab": {"[UNK]": 0, "头": 3}, "unk_token": "[UNK]""#;
        for (kind, bound) in [
            (format!(r#"{{"type": "WordLevel", {vocab}}}"#), 4),
            (format!(r#"{{"type": "WordLevel", "new": [1, {{"a": null}}], {vocab}}}"#), 4),
            (format!(r#"{{{vocab}}}"#), 4),
            (
                r#"{"type": "Unigra\u006d", "new": {}, "unk_id": null, "vocab": [["头", -1], ["痛", -2.5]]}"#
                    .to_owned(),
                2,
            ),
        ] {
            let model: Model = serde_json::from_str(&kind).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(model.id_bound(), bound, "{kind}");
            assert_eq!(tokenizers::Model::token_to_id(&model, "头"), Some(if bound == 2 { 0 } else { 3 }), "{kind}");
        }
        assert!(serde_json::from_str::<Model>(r#"{"type": "BPE", "vocab": 1}"#).is_err());
    }
}
