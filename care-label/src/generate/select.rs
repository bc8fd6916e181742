//! The usable questions of all answers, each once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use care_core::Result;
use care_core::files::sha256_hex;
use care_data::normalise;
use serde::{Deserialize, Serialize};

use super::answers::Answered;
use super::question::{Filter, Reject};
use crate::pair::{Pair, write_jsonl};
use crate::prompt::Prompt;

/// A question with the documents that it was written for, one line of `questions.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenQuestion {
    /// Its id, made of its text.
    #[serde(rename = "_id")]
    pub id: String,
    /// The question.
    pub text: String,
    /// The documents that it was written for, in the order of the requests: usually one.
    pub doc_ids: Vec<String>,
    /// The kind that was asked for first.
    pub kind: String,
    /// The judge that wrote it first.
    pub judge: String,
}

/// Writes a `questions.jsonl`, atomically. Its lines are queries too: `_id` and `text`.
///
/// # Errors
/// If the file cannot be written.
pub fn write_questions<'a>(
    path: impl AsRef<Path>,
    questions: impl IntoIterator<Item = &'a WrittenQuestion>,
) -> Result<()> {
    write_jsonl(path, questions)
}

/// The usable questions, and how many are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// The questions, in the order of the requests.
    pub questions: Vec<WrittenQuestion>,
    /// Questions that were written.
    pub written: u64,
    /// Questions that are left out, by reason.
    pub rejected: BTreeMap<Reject, u64>,
    /// Questions that were written for a further document, which is added to the first one's.
    pub shared: u64,
    /// Answers without any question: the document has nothing to ask about.
    pub empty_answers: u64,
}

/// Filters the questions of all answers, and joins equal ones (after [`normalise`]): for one document they are duplicates,
/// for several they are one question with several documents.
///
/// # Errors
/// If a setting of the filter is out of its range.
pub fn select(answers: &[Answered], requests: &[Pair], prompt: &Prompt, filter: &Filter) -> Result<Selection> {
    filter.check()?;
    let mut selection = Selection::default();
    let mut known: HashMap<String, usize> = HashMap::new();
    for answer in answers {
        let request = &requests[answer.request];
        let kind = prompt.kinds.iter().find(|kind| kind.name == request.query_id);
        let is_question = kind.is_none_or(|kind| kind.question);
        selection.empty_answers += u64::from(answer.questions.is_empty());
        for text in &answer.questions {
            selection.written += 1;
            let text = text.trim();
            let reject = match filter.accepts(text, &request.document, is_question) {
                Err(reject) => Some(reject),
                Ok(()) => selection.add(text, request, answer, &mut known),
            };
            if let Some(reject) = reject {
                *selection.rejected.entry(reject).or_default() += 1;
            }
        }
    }
    Ok(selection)
}

impl Selection {
    /// Adds a question, or a document to one that is known.
    fn add(
        &mut self,
        text: &str,
        request: &Pair,
        answer: &Answered,
        known: &mut HashMap<String, usize>,
    ) -> Option<Reject> {
        let form = normalise(text);
        if let Some(&at) = known.get(&form) {
            let documents = &mut self.questions[at].doc_ids;
            if documents.contains(&request.doc_id) {
                return Some(Reject::Duplicate);
            }
            documents.push(request.doc_id.clone());
            self.shared += 1;
            return None;
        }
        self.questions.push(WrittenQuestion {
            id: format!("g-{}", &sha256_hex(&form)[..16]),
            text: text.to_owned(),
            doc_ids: vec![request.doc_id.clone()],
            kind: request.query_id.clone(),
            judge: answer.judge.clone(),
        });
        known.insert(form, self.questions.len() - 1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Source, requests};
    use super::*;

    #[test]
    fn questions_are_filtered_joined_and_counted() {
        let prompt = Prompt::open("query-generation").expect("a preset");
        let document = |id: &str, text: &str| Source { id: id.into(), text: text.into() };
        let documents = [document("d1", "布洛芬可以退热。"), document("d2", "发热可以吃布洛芬。")];
        let requests = requests(&documents, &prompt).expect("requests");
        assert_eq!(requests.len(), 6);
        let answer = |request: usize, questions: &[&str]| Answered {
            request,
            judge: "a".into(),
            sample: 0,
            questions: questions.iter().map(|text| (*text).to_owned()).collect(),
        };
        let answers = [
            answer(0, &["布洛芬 退热", "布洛芬，退热", "", "布洛芬可以退热"]),
            answer(1, &["发热吃什么药？", "说明"]),
            answer(2, &[]),
            answer(4, &[" 发热吃什么药 ", "fever?"]),
        ];
        let selection = select(&answers, &requests, &prompt, &Filter::default()).expect("selected");
        let found: Vec<_> =
            selection.questions.iter().map(|q| (q.text.as_str(), q.doc_ids.join(","), q.kind.as_str())).collect();
        assert_eq!(
            found,
            [("布洛芬 退热", "d1".to_owned(), "keyword"), ("发热吃什么药？", "d1,d2".to_owned(), "patient")]
        );
        let rejected: Vec<_> = selection.rejected.iter().map(|(reject, number)| (*reject, *number)).collect();
        assert_eq!(
            rejected,
            [
                (Reject::Empty, 1),
                (Reject::Copied, 1),
                (Reject::NoQuestion, 1),
                (Reject::OtherLanguage, 1),
                (Reject::Duplicate, 1)
            ]
        );
        assert_eq!((selection.written, selection.shared, selection.empty_answers), (8, 1, 1));
    }
}
