//! The evaluation of a run against qrels.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::evaluation::{Evaluation, Scores};
use crate::measure::Measure;
use crate::missing::Missing;
use crate::qrels::Qrels;
use crate::run::{Retrieved, Run};
use crate::ties::{Candidate, Ties};

/// The measures to compute, and the conventions to compute them under.
///
/// Queries are scored in parallel and summed in the order of their ids, so results do not depend on the number of
/// threads.
#[derive(Debug, Clone)]
pub struct Evaluator {
    measures: Vec<Measure>,
    missing: Missing,
    ties: Ties,
}

impl Evaluator {
    /// An evaluator of these measures under trec_eval's conventions; duplicates are ignored.
    pub fn new(measures: impl IntoIterator<Item = Measure>) -> Self {
        let mut distinct = Vec::new();
        for measure in measures {
            if !distinct.contains(&measure) {
                distinct.push(measure);
            }
        }
        Self { measures: distinct, missing: Missing::default(), ties: Ties::default() }
    }

    /// How judged queries count that are not in the run. Default [`Missing::Drop`]. A query that is in the run without a
    /// document scores 0.
    #[must_use]
    pub fn missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    /// How equal scores are ordered. Default [`Ties::TrecEval`].
    #[must_use]
    pub fn ties(self, ties: Ties) -> Self {
        Self { ties, ..self }
    }

    /// Scores a run.
    ///
    /// # Errors
    /// [`ErrorKind::NoQueries`] if there is no query to average over: under [`Missing::Drop`] if qrels and run have no
    /// query in common, under [`Missing::Zero`] if the qrels are empty.
    pub fn evaluate(&self, qrels: &Qrels, run: &Run) -> Result<Evaluation> {
        let answered = qrels.iter().filter(|(query_id, _)| run.contains(query_id)).count();
        let counted: Vec<_> = match self.missing {
            Missing::Drop => qrels.iter().filter(|(query_id, _)| run.contains(query_id)).collect(),
            Missing::Zero => qrels.iter().collect(),
        };
        if counted.is_empty() {
            return Err(no_queries(qrels, run));
        }
        let scores: Vec<_> = counted.par_iter().map(|(query_id, judged)| self.score(run, query_id, judged)).collect();

        let total = |measure| scores.iter().filter_map(|of_query| of_query.get(measure)).sum::<f64>();
        Ok(Evaluation {
            measures: Scores::new(&self.measures, |measure| total(measure) / scores.len() as f64),
            queries: scores.len(),
            missing: self.missing,
            ties: self.ties,
            missing_queries: qrels.len() - answered,
            surplus_queries: run.len() - answered,
            longest_ranking: counted.iter().filter_map(|(id, _)| Some(run.retrieved(id)?.len())).max().unwrap_or(0),
            per_query: counted.iter().map(|(query_id, _)| (*query_id).to_owned()).zip(scores).collect(),
        })
    }

    /// Every measure for one query. A query that is not in the run has an empty ranking, which scores 0.
    fn score(&self, run: &Run, query_id: &str, judged: &BTreeMap<String, i32>) -> Scores {
        let mut ranked = candidates(run.retrieved(query_id), judged);
        let judged: Vec<_> = judged.values().copied().collect();
        if self.ties == Ties::Expected {
            self.ties.sort(&mut ranked, None);
            let ties: Vec<_> = ranked.chunk_by(|a, b| a.score == b.score).map(<[_]>::len).collect();
            let ranked: Vec<_> = ranked.iter().map(|document| document.grade).collect();
            return Scores::new(&self.measures, |measure| measure.expected_score(&ranked, &ties, &judged));
        }
        let relevant = judged.iter().filter(|grade| **grade > 0).count();
        // The depth of the deepest measure; the whole ranking if one of them needs it.
        let depth = self
            .measures
            .iter()
            .map(|measure| measure.depth(relevant))
            .try_fold(0, |deepest, depth| Some(deepest.max(depth?)));
        self.ties.sort(&mut ranked, depth);
        let ranked: Vec<_> = ranked.iter().map(|document| document.grade).collect();
        Scores::new(&self.measures, |measure| measure.score(&ranked, &judged))
    }
}

/// The documents of a query in the order in which they were added.
fn candidates<'a>(retrieved: Option<&'a Retrieved>, judged: &BTreeMap<String, i32>) -> Vec<Candidate<'a>> {
    let Some(retrieved) = retrieved else { return Vec::new() };
    let mut candidates: Vec<_> = retrieved
        .iter()
        .enumerate()
        .map(|(position, (doc_id, &score))| Candidate { doc_id, score, position, grade: 0 })
        .collect();
    // There are usually fewer judgements than retrieved documents.
    for (doc_id, &grade) in judged {
        if let Some(position) = retrieved.get_index_of(doc_id.as_str()) {
            candidates[position].grade = grade;
        }
    }
    candidates
}

/// The error for an empty mean. It shows one id of each side, since different forms of ids are the usual cause.
fn no_queries(qrels: &Qrels, run: &Run) -> Error {
    let describe = |len: usize, first: Option<&str>| match first {
        Some(first) => format!("{len} (first: {first:?})"),
        None => "none".to_owned(),
    };
    let qrels = describe(qrels.len(), qrels.iter().next().map(|(query_id, _)| query_id));
    let run = describe(run.len(), run.query_ids().next());
    Error::new(ErrorKind::NoQueries, format!("no query to evaluate: queries of the qrels: {qrels}; of the run: {run}"))
}
