//! Votes: one record for each call of a judge.

use std::fmt;

use care_core::clip;
use care_core::files::hex;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::judge::Judge;
use crate::judge::answer::{Answer, Verdict};
use crate::pair::Pair;
use crate::prompt::Prompt;

/// Longest answer that is kept as it came, in bytes: of a longer one, the middle is left out.
const LONGEST_ANSWER: usize = 16 << 10;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// The answer as it came; of a very long one, beginning and end.
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
    Keys::new(judge, prompt).key(pair, sample).to_string()
}

/// A [`key`], parsed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Parses 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let mut key = [0; 32];
        if pairs.len() != key.len() {
            return None;
        }
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(key))
    }

    /// Its first eight bytes.
    pub(crate) fn start(self) -> u64 {
        let [start @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.0;
        u64::from_be_bytes(start)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes the [`key`]s of one judge and prompt: what they share is written once.
pub(crate) struct Keys(Vec<u8>);

impl Keys {
    pub(crate) fn new(judge: &Judge, prompt: &Prompt) -> Self {
        let shared = (&judge.name, &judge.model, prompt.hash(), judge.parameters());
        Self(serde_json::to_vec(&shared).unwrap_or_default())
    }

    pub(crate) fn key(&self, pair: &Pair, sample: u32) -> Key {
        let own = (pair.id(), (&pair.query, &pair.document, &pair.positive), sample);
        let mut digest = Sha256::new();
        digest.update(&self.0);
        digest.update(serde_json::to_vec(&own).unwrap_or_default());
        Key(digest.finalize().into())
    }
}

/// A call that is about to be made, or was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) judge: &'a Judge,
    pub(crate) prompt: &'a Prompt,
    /// [`Prompt::hash`].
    pub(crate) prompt_hash: &'a str,
    pub(crate) pair: &'a Pair,
    pub(crate) sample: u32,
    pub(crate) key: Key,
    pub(crate) attempt: u32,
}

impl Call<'_> {
    /// The vote of an answer: the body of a chat completion.
    pub(crate) fn answered(&self, body: &Value, seconds: Option<f64>) -> Vote {
        let answer = Answer::from_body(body);
        let vote = self.without_answer(State::Scored, None, seconds);
        let (state, score, reason, error) = match answer.verdict(self.prompt) {
            Verdict::Scored { score, reason } => (State::Scored, Some(score), reason, None),
            Verdict::Unparsable(problem) => (State::Unparsable, None, answer.reasoning, Some(problem)),
            Verdict::Refused(problem) => (State::Refused, None, answer.reasoning, Some(problem)),
        };
        let tokens = answer.input_tokens.zip(answer.output_tokens);
        Vote {
            state,
            score,
            reason: reason.map(|reason| clip(reason, LONGEST_ANSWER)),
            answer: Some(clip(answer.content.unwrap_or_else(|| body.to_string()), LONGEST_ANSWER)),
            error,
            input_tokens: answer.input_tokens,
            output_tokens: answer.output_tokens,
            cost: tokens.and_then(|(input, output)| self.judge.cost(input, output)),
            ..vote
        }
    }

    /// The vote of a call that brought none.
    pub(crate) fn without_answer(&self, state: State, error: Option<String>, seconds: Option<f64>) -> Vote {
        Vote {
            key: self.key.to_string(),
            judge: self.judge.name.clone(),
            model: self.judge.model.clone(),
            prompt: self.prompt_hash.to_owned(),
            query_id: self.pair.query_id.clone(),
            doc_id: self.pair.doc_id.clone(),
            sample: self.sample,
            attempt: self.attempt,
            state,
            score: None,
            reason: None,
            answer: None,
            error,
            input_tokens: None,
            output_tokens: None,
            cost: None,
            time: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string(),
            seconds: seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0),
        }
    }
}
