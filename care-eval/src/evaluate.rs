//! Qrels and a run to an evaluation.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::evaluation::{Evaluation, Scores};
use crate::measure::Measure;
use crate::missing::Missing;
use crate::qrels::Qrels;
use crate::run::{Retrieved, Run};
use crate::ties::{Candidate, Ties};

/// Which measures to compute, and under which conventions.
///
/// Queries are scored in parallel and summed in the order of their ids, so the means do not depend
/// on the number of threads.
#[derive(Debug, Clone)]
pub struct Evaluator {
    measures: Vec<Measure>,
    missing: Missing,
    ties: Ties,
}

impl Evaluator {
    /// Computes the measures under trec_eval's conventions. A measure asked for twice is computed
    /// once.
    pub fn new(measures: impl IntoIterator<Item = Measure>) -> Self {
        let mut distinct = Vec::new();
        for measure in measures {
            if !distinct.contains(&measure) {
                distinct.push(measure);
            }
        }
        Self { measures: distinct, missing: Missing::default(), ties: Ties::default() }
    }

    /// Sets how judged queries count that are not in the run; by default they are dropped.
    pub fn missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    /// Sets how equal scores are ordered; by default as trec_eval does.
    pub fn ties(self, ties: Ties) -> Self {
        Self { ties, ..self }
    }

    /// Scores a run.
    ///
    /// # Errors
    /// [`ErrorKind::NoQueries`] if there is no query to take a mean over: under [`Missing::Drop`]
    /// if the qrels and the run have no query in common, under [`Missing::Zero`] if the qrels are
    /// empty.
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
            per_query: counted.iter().map(|(query_id, _)| (*query_id).to_owned()).zip(scores).collect(),
        })
    }

    /// Every measure for one query; a query that is not in the run has an empty ranking, which
    /// scores 0.
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
        // As deep as the deepest measure; to the end if one of them looks there.
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

/// The documents of a query as the tie rules see them, in the order in which they were added.
fn candidates<'a>(retrieved: Option<&'a Retrieved>, judged: &BTreeMap<String, i32>) -> Vec<Candidate<'a>> {
    let Some(retrieved) = retrieved else { return Vec::new() };
    let mut candidates: Vec<_> = retrieved
        .iter()
        .enumerate()
        .map(|(position, (doc_id, &score))| Candidate { doc_id, score, position, grade: 0 })
        .collect();
    // There are fewer judgements than retrieved documents as a rule.
    for (doc_id, &grade) in judged {
        if let Some(position) = retrieved.get_index_of(doc_id.as_str()) {
            candidates[position].grade = grade;
        }
    }
    candidates
}

/// The error for an empty mean. It shows an id of each side, since ids of different forms are the
/// usual cause.
fn no_queries(qrels: &Qrels, run: &Run) -> Error {
    let describe = |len: usize, first: Option<&str>| match first {
        Some(first) => format!("{len} beginning with {first:?}"),
        None => "none".to_owned(),
    };
    let qrels = describe(qrels.len(), qrels.iter().next().map(|(query_id, _)| query_id));
    let run = describe(run.len(), run.query_ids().next());
    Error::new(ErrorKind::NoQueries, format!("no query to evaluate: the qrels have {qrels}, the run has {run}"))
}
