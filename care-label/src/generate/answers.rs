//! Reads the answers to requests out of a journal.

use std::collections::HashMap;
use std::path::Path;

use care_core::Result;
use care_core::jsonl::for_each_jsonl;

use crate::judge::Judges;
use crate::judge::questions::read_questions;
use crate::pair::Pair;
use crate::prompt::Prompt;
use crate::vote::{Key, Keys, State, Vote};

/// The questions of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// Index of the request.
    pub request: usize,
    /// Name of the judge that wrote them.
    pub judge: String,
    /// Number of the sample, from 0.
    pub sample: u32,
    /// The questions, at most as many as were asked for, as they were written.
    pub questions: Vec<String>,
}

/// The answers to `requests` in a journal, by request, judge and sample; the journal's order has no effect. Answers that are
/// unparsable, refused or failed are no answers, and those to other requests do not count.
///
/// # Errors
/// If the journal cannot be read.
pub fn answers(
    requests: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: impl AsRef<Path>,
) -> Result<Vec<Answered>> {
    let mut wanted: HashMap<Key, (usize, usize, u32)> = HashMap::new();
    for (at, judge) in judges.judges.iter().enumerate() {
        let keys = Keys::new(judge, prompt);
        for (request, pair) in requests.iter().enumerate() {
            for sample in 0..judges.samples {
                wanted.insert(keys.key(pair, sample), (request, at, sample));
            }
        }
    }
    let most = prompt.scale.max.unsigned_abs() as usize;
    let mut found = Vec::new();
    for_each_jsonl(journal, &mut |_, vote: Vote| {
        // Taken out: of two answers to a question, the first counts.
        let place = Key::parse(&vote.key).filter(|_| vote.state == State::Scored).and_then(|key| wanted.remove(&key));
        if let (Some(place), Some(mut questions)) = (place, vote.answer.as_deref().and_then(read_questions)) {
            questions.truncate(most);
            found.push((place, questions));
        }
        Ok(())
    })?;
    found.sort();
    let answered = |((request, judge, sample), questions): ((usize, usize, u32), Vec<String>)| Answered {
        request,
        judge: judges.judges[judge].name.clone(),
        sample,
        questions,
    };
    Ok(found.into_iter().map(answered).collect())
}
