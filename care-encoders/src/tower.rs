//! A tower, one side of a retriever: tokenizer, instruction and network.

use std::sync::OnceLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use care_core::{Document, Embeddings, Error, ErrorKind, Instruction, Query, Result, Text};

use crate::device::Precision;
use crate::encoder::Encoder;
use crate::network::Network;
use crate::passes::EmbedProgress;
use crate::summary::{Setting, Source, Sources, TowerSummary};
use crate::tokenize::{TokenLists, Tokenizer};

/// One side of a retriever, bound to its role by type: a `Tower<Query, _>` does not accept documents.
#[derive(Debug, Clone)]
pub struct Tower<T: Text, E: Encoder> {
    tokenizer: Tokenizer,
    network: Network<E>,
    instruction: Instruction<T>,
    /// What was loaded, and from where; `None` for a tower made by the program.
    loaded: Option<TowerSummary>,
    /// What [`tower_fingerprint`](crate::tower_fingerprint) has found, which hashes every weight.
    fingerprint: OnceLock<String>,
}

/// The tower that encodes queries online.
pub type QueryTower<E> = Tower<Query, E>;

/// The tower that encodes documents offline.
pub type DocumentTower<E> = Tower<Document, E>;

/// Returns an error if an encoder cannot read what a tokenizer returns; `owner` names the two.
pub(crate) fn require_fit(tokenizer: &Tokenizer, encoder: &impl Encoder, owner: &str) -> Result<()> {
    let (rows, positions) = (encoder.vocab_size(), encoder.max_positions());
    tokenizer.require_rows(rows, owner)?;
    if tokenizer.pad_id() as usize >= rows {
        let message = format!("{owner}'s padding id is {} but its embedding table has {rows} rows", tokenizer.pad_id());
        return Err(Error::new(ErrorKind::Tokenizer, message));
    }
    if tokenizer.max_length() > positions {
        let allowed = format!("at most {positions}, the positions of {owner}");
        return Err(Error::setting("max_length", tokenizer.max_length(), &allowed));
    }
    Ok(())
}

/// Replaces weights by empty tensors.
struct Emptied;

impl ModuleMapper for Emptied {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::initialized(param.id, Tensor::zeros([0; D], &param.lazy_device()))
    }
}

impl<T: Text, E: Encoder> Tower<T, E> {
    /// Joins the parts after checking that they fit together.
    ///
    /// # Errors
    /// If the tokenizer has ids that the embedding table lacks, its length limit exceeds the network's positions, or the
    /// instruction makes pairs that the tokenizer has no template for.
    pub fn new(tokenizer: Tokenizer, network: Network<E>, instruction: Instruction<T>) -> Result<Self> {
        require_fit(&tokenizer, network.encoder(), &format!("the {} tower", T::ROLE.as_str()))?;
        if instruction.is_pair() {
            tokenizer.require_pairs()?;
        }
        Ok(Self { tokenizer, network, instruction, loaded: None, fingerprint: OnceLock::new() })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Encoder and head.
    pub fn network(&self) -> &Network<E> {
        &self.network
    }

    /// The instruction.
    pub fn instruction(&self) -> &Instruction<T> {
        &self.instruction
    }

    /// What decides the tower's vectors, and where each setting comes from; its text form is one line.
    pub fn summary(&self) -> TowerSummary {
        self.settings().since(self.loaded.as_ref())
    }

    pub(crate) fn known_fingerprint(&self) -> &OnceLock<String> {
        &self.fingerprint
    }

    /// Notes where the settings come from.
    pub(crate) fn with_sources(self, sources: Sources) -> Self {
        Self { loaded: Some(self.settings().with_sources(sources)), ..self }
    }

    fn settings(&self) -> TowerSummary {
        fn setting<V: PartialEq>(value: V) -> Setting<V> {
            Setting::new(value, Source::Program)
        }
        let head = self.network.head();
        TowerSummary {
            role: T::ROLE,
            pooling: setting(head.pooling),
            normalize: setting(head.normalize),
            cosine: head.is_unit_length(),
            dim: setting(self.embedding_dim()),
            max_length: setting(self.tokenizer.max_length()),
            instruction: setting(self.instruction.template()),
            precision: setting(match self.network.encoder().quantization() {
                Some(form) => form.precision(),
                None => Precision::of(self.network.encoder()),
            }),
        }
    }

    /// Dimensions of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.network.embedding_dim()
    }

    /// Replaces the network by `change` of it, e.g. to change weights, device or dtype.
    #[must_use]
    pub fn map_network(self, change: impl FnOnce(Network<E>) -> Network<E>) -> Self {
        Self { network: change(self.network), fingerprint: OnceLock::new(), ..self }
    }

    /// [`Tower::map_network`] for a change that can fail.
    ///
    /// # Errors
    /// If `change` fails.
    pub fn try_map_network(self, change: impl FnOnce(Network<E>) -> Result<Network<E>>) -> Result<Self> {
        Ok(Self { network: change(self.network)?, fingerprint: OnceLock::new(), ..self })
    }

    /// Replaces the network in place, as [`Tower::map_network`] does by value.
    pub fn update_network(&mut self, change: impl FnOnce(Network<E>) -> Network<E>) {
        // The weights have one owner, so that they can change in place.
        let emptied = self.network.clone().map(&mut Emptied);
        self.network = change(std::mem::replace(&mut self.network, emptied));
        self.fingerprint = OnceLock::new();
    }

    /// Replaces the instruction.
    #[must_use]
    pub fn with_instruction(self, instruction: Instruction<T>) -> Self {
        Self { instruction, fingerprint: OnceLock::new(), ..self }
    }

    /// Texts as the tokenizer reads them: with the instruction applied.
    pub fn prepare(&self, texts: &[T]) -> Vec<String> {
        texts.iter().map(|text| self.instruction.apply(text)).collect()
    }

    /// Token ids of each text, with the instruction applied.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn tokenize(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        self.encode(&self.prepare(texts)).map(|(ids, _)| ids)
    }

    /// Token ids of prepared texts and, if they are pairs, the types of their tokens.
    fn encode<S: AsRef<str> + Sync>(&self, prepared: &[S]) -> Result<(TokenLists, Option<TokenLists>)> {
        if !self.instruction.is_pair() {
            return Ok((self.tokenizer.encode(prepared)?, None));
        }
        let pairs: Option<Vec<_>> = prepared.iter().map(|text| self.instruction.segments(text.as_ref())).collect();
        match pairs {
            Some(pairs) => self.tokenizer.encode_pairs(&pairs).map(|(ids, types)| (ids, Some(types))),
            None => Ok((self.tokenizer.encode(prepared)?, None)),
        }
    }

    /// Embeddings of texts, in order, computed in passes of at most `token_budget` tokens, padding included, unless one
    /// text is longer.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a vector is not finite; the message names the text's index.
    pub fn embed(&self, texts: &[T], token_budget: usize) -> Result<Embeddings> {
        self.embed_with_progress(texts, token_budget, &mut |_| {})
    }

    /// Like [`Tower::embed`], and calls `progress` after every pass.
    ///
    /// # Errors
    /// As [`Tower::embed`].
    pub fn embed_with_progress(
        &self,
        texts: &[T],
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        self.embed_prepared(&self.prepare(texts), token_budget, progress)
    }

    /// Like [`Tower::embed_with_progress`], for texts with the instruction already [applied](Tower::prepare).
    ///
    /// # Errors
    /// As [`Tower::embed`].
    pub fn embed_prepared<S: AsRef<str> + Sync>(
        &self,
        prepared: &[S],
        token_budget: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Embeddings> {
        let (ids, types) = self.encode(prepared)?;
        let role = T::ROLE.as_str();
        self.network.embed_typed(&ids, types.as_deref(), self.tokenizer.pad_id(), token_budget, progress).map_err(|e| {
            match e.kind() {
                ErrorKind::NonFinite => {
                    let message = e.to_string().replacen("of text", &format!("of {role}"), 1);
                    Error::new(ErrorKind::NonFinite, message)
                }
                _ => e,
            }
        })
    }
}
