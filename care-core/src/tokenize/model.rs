//! How a tokenizer cuts a word into tokens: the models of `tokenizers`, but for our own [`Unigram`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{Model as _, Result, Token};

use super::unigram::Unigram;

/// The `model` of a `tokenizer.json`.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Model {
    Unigram(Unigram),
    Other(Box<ModelWrapper>),
}

impl Model {
    /// One more than the largest id.
    pub(super) fn id_bound(&self) -> usize {
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
    /// Reads the model that `type` names. [`ModelWrapper`] would first gather every token and merge in two general
    /// trees of values, which takes several times the time and the memory of reading them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "type", borrow)]
            name: Option<&'a str>,
        }
        fn read<T: DeserializeOwned, E: Error>(json: &str) -> std::result::Result<T, E> {
            serde_json::from_str(json).map_err(E::custom)
        }
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let kind: Kind<'_> = serde_json::from_str(json).map_err(D::Error::custom)?;
        let other = match kind.name {
            Some("Unigram") => return read(json).map(Self::Unigram),
            Some("BPE") => ModelWrapper::BPE(read(json)?),
            Some("WordPiece") => ModelWrapper::WordPiece(read(json)?),
            Some("WordLevel") => ModelWrapper::WordLevel(read(json)?),
            // Files of old have no type, and are known by their fields.
            _ => read(json)?,
        };
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
