//! The tasks of the built-in demonstration set.

use care_core::Result;

use crate::mini::{self, Split};
use crate::task::{RerankingTask, RetrievalTask, StsTask, Task};

pub(super) fn retrieval(name: &str) -> Result<Task> {
    of_split(name, Split::Test)
}

pub(super) fn retrieval_dev(name: &str) -> Result<Task> {
    of_split(name, Split::Dev)
}

pub(super) fn reranking(name: &str) -> Result<Task> {
    RerankingTask::new(name, "test", mini::reranking_rows()).map(Task::Reranking)
}

pub(super) fn sts(name: &str) -> Result<Task> {
    StsTask::new(name, "test", mini::sts_pairs().to_vec()).map(Task::Sts)
}

fn of_split(name: &str, split: Split) -> Result<Task> {
    let (corpus, queries) = (mini::corpus().to_vec(), mini::queries(split));
    RetrievalTask::new(name, split.name(), corpus, queries, mini::qrels(split).clone()).map(Task::Retrieval)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use care_core::{Document, Query, Text};
    use care_eval::Qrels;

    use crate::protocol::{Protocol, evaluate};
    use crate::task::Task;
    use crate::tasks::{built_in_names, find};
    use crate::testing::{Table, documents_of as documents};

    /// A model that knows the answers: documents are the axes, and a query's values on them are its grades.
    fn ranking_oracle<'a>(
        documents: &[Document],
        queries: impl Iterator<Item = (&'a Query, &'a str)>,
        qrels: &Qrels,
        place: impl Fn(&str, &str) -> usize,
    ) -> Table {
        let dim = documents.len();
        let axes = documents.iter().enumerate().map(|(axis, document)| {
            let mut vector = vec![0.0; dim];
            vector[axis] = 1.0;
            (document.content().into_owned(), vector)
        });
        let table = axes.fold(Table::new(dim), |table, (text, vector)| table.document(&text, vector));
        queries.fold(table, |table, (query, query_id)| {
            let mut vector = vec![0.0; dim];
            for (doc_id, grade) in qrels.relevant(query_id) {
                vector[place(query_id, doc_id)] = grade as f32;
            }
            table.query(&query.content(), vector)
        })
    }

    fn oracle(task: &Task) -> Table {
        match task {
            Task::Retrieval(task) => {
                let queries = task.queries().iter().zip(task.query_ids().iter().map(String::as_str));
                let place =
                    |_: &str, doc_id: &str| task.corpus().ids().iter().position(|id| id == doc_id).expect("there");
                ranking_oracle(&documents(task), queries, task.qrels(), place)
            }
            Task::Reranking(task) => {
                let queries = task.queries().iter().zip(task.lists().iter().map(|list| list.query_id.as_str()));
                let place = |query_id: &str, doc_id: &str| {
                    let list = task.lists().iter().find(|list| list.query_id == query_id).expect("there");
                    list.candidates.iter().find(|(id, _)| id == doc_id).expect("there").1
                };
                ranking_oracle(task.documents(), queries, task.qrels(), place)
            }
            Task::Sts(task) => {
                // Each pair has its own plane, in which the angle encodes the score.
                let dim = 2 * task.pairs().len();
                task.pairs()
                    .iter()
                    .enumerate()
                    .fold(Table::new(dim), |table, (number, pair)| {
                        let plane = |x: f64, y: f64| {
                            let mut vector = vec![0.0; dim];
                            (vector[2 * number], vector[2 * number + 1]) = (x as f32, y as f32);
                            vector
                        };
                        let cosine = pair.score / 5.0;
                        table
                            .query(&pair.sentence1, plane(1.0, 0.0))
                            .query(&pair.sentence2, plane(cosine, (1.0 - cosine * cosine).sqrt()))
                    })
                    .documents_like_queries()
            }
        }
    }

    #[test]
    fn a_model_that_knows_the_answers_scores_one_on_every_task() {
        for name in built_in_names() {
            let task = find(name).expect("built in");
            let outcome = evaluate(&task, &oracle(&task), &Protocol::default(), &mut |_| {}).expect("evaluated");
            assert_abs_diff_eq!(outcome.main_score(), 1.0, epsilon = 1e-9);
        }
    }
}
