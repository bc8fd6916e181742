//! Round-trip retrieval: a question is kept if it finds its document.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use care_eval::{Run, Ties};

use super::select::WrittenQuestion;

/// How many systems must find the document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Agree {
    /// One.
    #[default]
    Any,
    /// All.
    All,
}

impl FromStr for Agree {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            _ => Err(Error::setting("agree", format!("`{name}`"), "any, all")),
        }
    }
}

impl fmt::Display for Agree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Any { "any" } else { "all" })
    }
}

/// How a question is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundTrip {
    /// The document must be among so many best ones, >= 1. Default 10.
    pub depth: usize,
    /// In the ranking of one system, or of all.
    pub agree: Agree,
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self { depth: 10, agree: Agree::Any }
    }
}

impl RoundTrip {
    /// Sets [`RoundTrip::depth`].
    #[must_use]
    pub fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Sets [`RoundTrip::agree`].
    #[must_use]
    pub fn with_agree(self, agree: Agree) -> Self {
        Self { agree, ..self }
    }
}

/// What came of a [`round_trip`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trip {
    /// The questions that found a document of theirs, with only the documents that were found.
    pub kept: Vec<WrittenQuestion>,
    /// Those that found none.
    pub lost: Vec<WrittenQuestion>,
    /// For each system, how many questions found a document in it.
    pub found: Vec<(String, u64)>,
}

/// Keeps the questions whose document is among the `depth` best ones of the runs, which rank the corpus for the questions'
/// ids. Equal scores are ordered by document id, descending, as trec_eval does.
///
/// # Reference
/// Round-trip consistency as in Alberti et al., *Synthetic QA Corpora Generation with Roundtrip Consistency*, 2019, and
/// Promptagator (arXiv 2209.11755), which keeps a question if a retriever ranks its document first.
///
/// # Errors
/// If there is no run, `depth` is 0, or a run has results for none of the questions: it belongs to others. A question
/// without results in a run is not found there.
pub fn round_trip(questions: Vec<WrittenQuestion>, runs: &[(String, Run)], options: RoundTrip) -> Result<Trip> {
    if runs.is_empty() {
        return Err(Error::setting("runs", "empty", "at least one ranking"));
    }
    if options.depth == 0 {
        return Err(Error::setting("depth", 0, ">= 1"));
    }
    for (name, run) in runs {
        if !questions.is_empty() && !questions.iter().any(|question| run.contains(&question.id)) {
            let problem = format!("`{name}`, without any of the questions");
            return Err(Error::setting("runs", problem, "rankings for these questions"));
        }
    }
    let mut trip = Trip { found: runs.iter().map(|(name, _)| (name.clone(), 0)).collect(), ..Trip::default() };
    for mut question in questions {
        let mut votes: HashMap<&str, usize> = HashMap::new();
        for ((_, run), (_, count)) in runs.iter().zip(&mut trip.found) {
            let best = best(run, &question.id, options.depth);
            let hits = question.doc_ids.iter().filter(|id| best.contains(&id.as_str()));
            let mut any = false;
            for id in hits {
                any = true;
                *votes.entry(id).or_default() += 1;
            }
            *count += u64::from(any);
        }
        let needed = if options.agree == Agree::All { runs.len() } else { 1 };
        let found: Vec<String> = question
            .doc_ids
            .iter()
            .filter(|id| votes.get(id.as_str()).is_some_and(|v| *v >= needed))
            .cloned()
            .collect();
        match found.is_empty() {
            true => trip.lost.push(question),
            false => {
                question.doc_ids = found;
                trip.kept.push(question);
            }
        }
    }
    Ok(trip)
}

/// The best documents of a question.
fn best<'a>(run: &'a Run, question: &str, depth: usize) -> Vec<&'a str> {
    run.ranked(question, Ties::TrecEval).into_iter().take(depth).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: &str, documents: &[&str]) -> WrittenQuestion {
        WrittenQuestion {
            id: id.into(),
            text: id.into(),
            doc_ids: documents.iter().map(|id| (*id).to_owned()).collect(),
            kind: "patient".into(),
            judge: "a".into(),
        }
    }

    #[test]
    fn a_question_is_kept_if_it_finds_its_document() {
        let run = |scores: &[(&str, &str, f32)]| Run::from_scores(scores.iter().copied()).expect("a run");
        let runs = [
            ("bm25".to_owned(), run(&[("q", "a", 3.0), ("q", "b", 2.0), ("r", "c", 1.0), ("r", "d", 1.0)])),
            ("pair".to_owned(), run(&[("q", "b", 3.0), ("q", "x", 2.0), ("r", "c", 1.0)])),
        ];
        let questions = || vec![question("q", &["a", "b"]), question("r", &["c"])];
        let kept = |depth: usize, agree: Agree| {
            let trip =
                round_trip(questions(), &runs, RoundTrip::default().with_depth(depth).with_agree(agree)).expect("trip");
            let ids: Vec<String> = trip.kept.iter().map(|q| format!("{}:{}", q.id, q.doc_ids.join(","))).collect();
            assert_eq!(trip.kept.len() + trip.lost.len(), 2);
            (ids.join(" "), trip.found.iter().map(|(_, number)| *number).collect::<Vec<_>>())
        };
        // At depth 1, the tie of `c` and `d` goes to `d`.
        assert_eq!(kept(1, Agree::Any), ("q:a,b r:c".into(), vec![1, 2]));
        assert_eq!(kept(1, Agree::All), (String::new(), vec![1, 2]));
        assert_eq!(kept(2, Agree::All), ("q:b r:c".into(), vec![2, 2]));
        let message = |runs: &[(String, Run)], options: RoundTrip| {
            round_trip(vec![question("s", &["a"])], runs, options).expect_err("refused").to_string()
        };
        assert_eq!(message(&[], RoundTrip::default()), "`runs` is empty, allowed: at least one ranking");
        assert_eq!(message(&runs, RoundTrip::default().with_depth(0)), "`depth` is 0, allowed: >= 1");
        assert_eq!(
            message(&runs, RoundTrip::default()),
            "`runs` is `bm25`, without any of the questions, allowed: rankings for these questions"
        );
        assert_eq!("most".parse::<Agree>().expect_err("none").to_string(), "`agree` is `most`, allowed: any, all");
    }
}
