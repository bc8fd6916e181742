//! [`CrossEncoder`]: tokenizer, network and head of a reranker.

use std::sync::OnceLock;

use burn::module::Module;
use burn::tensor::Tensor;
use care_core::{Document, Error, ErrorKind, Query, Reranker, Result, Text};

use super::activation::ScoreActivation;
use super::head::ScoreHead;
use super::input::Input;
use super::summary::CrossEncoderSummary;
use crate::batch::TokenBatch;
use crate::fingerprint::Fingerprint;
use crate::passes::{EmbedProgress, Passes};
use crate::registry::AnyEncoder;
use crate::summary::Source;
use crate::tokenize::{TokenLists, Tokenizer};

/// Pairs that are tokenized together, and the bytes of their texts.
const GROUP_PAIRS: usize = 4096;
const GROUP_BYTES: usize = 4 << 20;

/// Encoder and head.
#[derive(Module, Debug)]
pub(super) struct Scorer {
    pub(super) encoder: AnyEncoder,
    pub(super) head: ScoreHead,
}

impl Scorer {
    /// # Shapes
    /// `[rows, seq]` to `[batch, 1]`, f32.
    fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        self.head.forward(&self.encoder, batch)
    }
}

/// A reranker: a network that reads a query and a document together and returns one score, higher for a better document.
///
/// It runs on the same kernels, in the same passes and dtypes as a [`Tower`](crate::Tower); the head computes in f32.
///
/// # Reference
/// Nogueira and Cho 2019, arXiv 1901.04085; the `*ForSequenceClassification` classes of transformers and the
/// `NewForSequenceClassification` of GTE's authors; `CrossEncoder` of sentence-transformers; Qwen3-Reranker, arXiv
/// 2506.05176, and its model cards.
#[derive(Debug, Clone)]
pub struct CrossEncoder {
    pub(super) tokenizer: Tokenizer,
    pub(super) scorer: Scorer,
    pub(super) input: Input,
    pub(super) summary: CrossEncoderSummary,
    pub(super) token_budget: usize,
    pub(super) fingerprint: OnceLock<String>,
}

impl CrossEncoder {
    /// What decides the scores, and where each setting comes from; its text form is one line.
    pub fn summary(&self) -> &CrossEncoderSummary {
        &self.summary
    }

    /// What a user should know about how the tokenizer was put together, one sentence each.
    pub fn remarks(&self) -> &[String] {
        self.tokenizer.remarks()
    }

    /// The encoder, without the head.
    pub fn encoder(&self) -> &AnyEncoder {
        &self.scorer.encoder
    }

    /// Length limit of a pair in tokens, special tokens included.
    pub fn max_length(&self) -> usize {
        self.input.max_length(&self.tokenizer)
    }

    /// What turns a logit into a score.
    pub fn activation(&self) -> ScoreActivation {
        self.summary.activation.value
    }

    /// Sets what turns a logit into a score.
    #[must_use]
    pub fn with_activation(mut self, activation: ScoreActivation) -> Self {
        self.summary.activation.value = activation;
        self.summary.activation.source = Source::Program;
        self.fingerprint = OnceLock::new();
        self
    }

    /// Sets the largest number of tokens per forward pass, >= 1. Default
    /// [`DEFAULT_TOKEN_BUDGET`](crate::DEFAULT_TOKEN_BUDGET).
    ///
    /// # Errors
    /// If the budget is 0.
    pub fn with_token_budget(self, token_budget: usize) -> Result<Self> {
        if token_budget == 0 {
            return Err(Error::setting("batch_tokens", token_budget, "at least 1"));
        }
        Ok(Self { token_budget, ..self })
    }

    /// Token ids of each pair and, if the network reads them, their types.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub fn tokenize(&self, pairs: &[(&Query, &Document)]) -> Result<(TokenLists, Option<TokenLists>)> {
        let texts: Vec<_> = pairs.iter().map(|(query, document)| (query.content(), document.content())).collect();
        self.input.encode(&self.tokenizer, &texts)
    }

    /// [`Reranker::score`] that calls `progress` after every pass; a pair counts as one text. Pairs are read in groups, so
    /// neither the memory of their tokens nor the time until the first call of `progress` grows with them.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or a score is not finite; the message names the pair's index.
    pub fn score_with_progress(
        &self,
        pairs: &[(&Query, &Document)],
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Vec<f32>> {
        let (mut scores, mut before) = (Vec::with_capacity(pairs.len()), EmbedProgress::default());
        while scores.len() < pairs.len() {
            let rest = &pairs[scores.len()..];
            let mut done = EmbedProgress::default();
            scores.extend(self.score_group(&rest[..group(rest)], scores.len(), &mut |now| {
                done = *now;
                progress(&(before + done));
            })?);
            before = before + done;
        }
        Ok(scores)
    }

    /// The scores of pairs that are tokenized together, after `before` others.
    fn score_group(
        &self,
        pairs: &[(&Query, &Document)],
        before: usize,
        progress: &mut dyn FnMut(&EmbedProgress),
    ) -> Result<Vec<f32>> {
        let (ids, types) = self.tokenize(pairs)?;
        let work = Passes {
            encoder: &self.scorer.encoder,
            pad_id: self.tokenizer.pad_id(),
            token_budget: self.token_budget,
            outputs: 1,
            before,
        };
        let logits = work.run(&ids, types.as_deref(), &|batch| self.scorer.forward(batch), progress);
        let logits = logits.map_err(|e| match e.kind() {
            ErrorKind::NonFinite => {
                let message = e.to_string().replacen("the vector of text", "the score of pair", 1);
                Error::new(ErrorKind::NonFinite, message)
            }
            _ => e,
        })?;
        Ok(logits.as_array().iter().map(|&logit| self.activation().apply(logit)).collect())
    }

    fn compute_fingerprint(&self) -> Result<String> {
        let (mut encoder, mut head) = (self.scorer.encoder.clone(), self.scorer.head.clone());
        let linears = head.linears().map(|(name, linear)| (format!("head.{name}.weight"), linear.clone()));
        let mut fingerprint = Fingerprint::new("care-reranker-1", &mut encoder, linears);
        fingerprint.add(&self.scorer.head.form());
        fingerprint.add(self.activation().as_str());
        fingerprint.add(&self.input.form());
        fingerprint.add_tokenizer(&self.tokenizer)?;
        Ok(fingerprint.finish(&mut encoder, &self.scorer))
    }
}

/// The number of pairs that are tokenized together: enough to sort them by length.
fn group(pairs: &[(&Query, &Document)]) -> usize {
    let mut bytes = 0;
    let fits = |(query, document): &&(&Query, &Document)| {
        bytes += query.content().len() + document.content().len();
        bytes <= GROUP_BYTES
    };
    pairs.iter().take(GROUP_PAIRS).take_while(fits).count().max(1)
}

impl Reranker for CrossEncoder {
    fn score(&self, pairs: &[(&Query, &Document)]) -> Result<Vec<f32>> {
        self.score_with_progress(pairs, &mut |_| {})
    }

    /// The SHA-256 of architecture, weights in their dtype, head, activation, tokenizer, length limit and instruction. It
    /// is computed once for a reranker and its clones.
    fn fingerprint(&self) -> Result<Option<String>> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(Some(known.clone()));
        }
        let fingerprint = self.compute_fingerprint()?;
        Ok(Some(self.fingerprint.get_or_init(|| fingerprint).clone()))
    }
}
