//! Votes: one record for each call of a judge.

use care_core::files::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::judge::Judge;
use crate::pair::Pair;
use crate::prompt::Prompt;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The answer has a score of the scale: a vote.
    Scored,
    /// The endpoint answered, but without a readable score, e.g. because the answer was cut off. No vote.
    Unparsable,
    /// The model or the endpoint's filter declined to answer. No vote.
    Refused,
    /// No answer: the endpoint could not be reached, or reported an error. No vote.
    Failed,
}

/// One call of a judge, online or in a batch, and one line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Identifies the question: see [`key`]. Repeated calls for the same question share it.
    pub key: String,
    /// Name of the judge.
    pub judge: String,
    /// Model that was asked for.
    pub model: String,
    /// [`Prompt::hash`].
    pub prompt: String,
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// Number of the sample, from 0.
    pub sample: u32,
    /// Number of the call for this question, from 1.
    pub attempt: u32,
    /// What came of the call.
    pub state: State,
    /// The score, if and only if the state is [`State::Scored`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i32>,
    /// The judge's reason, or the reasoning that a reasoning model returns beside its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The answer as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why there is no score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Tokens of the prompt, as the endpoint counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, as the endpoint counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Cost by the judge's prices, in the currency of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// When the answer came, in UTC (RFC 3339).
    pub time: String,
    /// Duration of the call in seconds; absent in batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What identifies a question to a judge: SHA-256 of judge, model, prompt, parameters, texts and sample, in hexadecimal.
///
/// The endpoint's address is no part of it, so a batch file and a server that moved give the same key.
pub fn key(judge: &Judge, prompt: &Prompt, pair: &Pair, sample: u32) -> String {
    let texts = (&pair.query, &pair.document, &pair.positive);
    let parts = (&judge.name, &judge.model, prompt.hash(), judge.parameters(), pair.id(), texts, sample);
    sha256_hex(serde_json::to_vec(&parts).unwrap_or_default())
}
