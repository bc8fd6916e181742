//! STS: the correlation of cosines with human similarity scores.

use care_core::{Document, Error, ErrorKind, Query, Result};
use care_eval::stats::{pearson, spearman};

use super::encode::Encoding;
use super::outcome::{Evidence, Outcome};
use crate::task::{StsMode, StsTask};

/// Scores all three modes, the main one also first and without the mode's name.
pub(super) fn evaluate(task: &StsTask, main: StsMode, mut encoding: Encoding<'_>) -> Result<Outcome> {
    let first = task.pairs().iter().map(|pair| pair.sentence1.as_str());
    let second = task.pairs().iter().map(|pair| pair.sentence2.as_str());
    let first_as_query = encoding.queries(&first.clone().map(Query::new).collect::<Vec<_>>())?;
    let second_as_query = encoding.queries(&second.clone().map(Query::new).collect::<Vec<_>>())?;
    let first_as_document = encoding.documents(&first.map(Document::new).collect::<Vec<_>>())?;
    let second_as_document = encoding.documents(&second.map(Document::new).collect::<Vec<_>>())?;

    let given: Vec<f64> = task.pairs().iter().map(|pair| pair.score).collect();
    let (mut scores, mut of_main) = (Vec::new(), Vec::new());
    for mode in StsMode::ALL {
        let (left, right) = match mode {
            StsMode::QueryQuery => (&first_as_query, &second_as_query),
            StsMode::QueryDocument => (&first_as_query, &second_as_document),
            StsMode::DocumentDocument => (&first_as_document, &second_as_document),
        };
        let cosines: Vec<f64> = (0..left.len()).map(|row| left.cosine(row, right, row)).collect();
        let undefined = |e| {
            let name = task.name();
            let problem =
                format!("task {name}: the correlation of the {mode} cosines (x) with the scores (y) is undefined: {e}");
            Error::new(ErrorKind::NonFinite, problem).with_source(e)
        };
        let spearman = spearman(&cosines, &given).map_err(undefined)?;
        let pearson = pearson(&cosines, &given).map_err(undefined)?;
        let prefix = mode.name().replace('-', "_");
        scores.push((format!("{prefix}_cosine_spearman"), spearman));
        scores.push((format!("{prefix}_cosine_pearson"), pearson));
        if mode == main {
            scores.splice(..0, [("cosine_spearman".to_owned(), spearman), ("cosine_pearson".to_owned(), pearson)]);
            of_main = cosines;
        }
    }
    Ok(Outcome::new(scores, Evidence::Similarity { mode: main, cosines: of_main }))
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;
    use crate::protocol::{Protocol, evaluate};
    use crate::task::Task;
    use crate::testing::{Table, pair};

    fn task() -> Task {
        let pairs = vec![pair("x", "a", 1.0), pair("x", "b", 2.0), pair("x", "c", 3.0), pair("x", "d", 4.0)];
        Task::Sts(StsTask::new("t", "test", pairs).expect("valid"))
    }

    #[test]
    fn scores_are_those_worked_out_by_hand() {
        // Cosines 0, 0.8, 0.6, 1, whatever the lengths: one swap of neighbours among four.
        let table = Table::new(2)
            .query("x", [2.0, 0.0])
            .query("a", [0.0, 1.0])
            .query("b", [4.0, 3.0])
            .query("c", [3.0, 4.0])
            .query("d", [0.1, 0.0])
            .documents_like_queries();
        let outcome = evaluate(&task(), &table, &Protocol::default(), &mut |_| {}).expect("evaluated");
        assert_abs_diff_eq!(outcome.main_score(), 0.8, epsilon = 1e-12);
        assert_abs_diff_eq!(outcome.score("cosine_spearman").expect("there"), 0.8, epsilon = 1e-12);
        assert_abs_diff_eq!(outcome.score("cosine_pearson").expect("there"), 1.4 / 2.8f64.sqrt(), epsilon = 1e-12);
        assert_eq!(outcome.run(), None);
    }

    #[test]
    fn the_mode_chooses_the_towers() {
        // As queries b and c are as above, as documents they are in order.
        let table = Table::new(2)
            .query("x", [1.0, 0.0])
            .query("a", [0.0, 1.0])
            .query("b", [4.0, 3.0])
            .query("c", [3.0, 4.0])
            .query("d", [1.0, 0.0])
            .document("x", [0.0, 1.0])
            .document("a", [0.0, 1.0])
            .document("b", [3.0, 4.0])
            .document("c", [4.0, 3.0])
            .document("d", [1.0, 0.0]);
        for (mode, spearman) in
            [(StsMode::QueryQuery, 0.8), (StsMode::QueryDocument, 1.0), (StsMode::DocumentDocument, -1.0)]
        {
            let protocol = Protocol { sts: mode, ..Protocol::default() };
            let outcome = evaluate(&task(), &table, &protocol, &mut |_| {}).expect("evaluated");
            assert_abs_diff_eq!(outcome.main_score(), spearman, epsilon = 1e-12);
            let keys: Vec<&str> = outcome.scores.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(
                keys,
                [
                    "cosine_spearman",
                    "cosine_pearson",
                    "query_query_cosine_spearman",
                    "query_query_cosine_pearson",
                    "query_document_cosine_spearman",
                    "query_document_cosine_pearson",
                    "document_document_cosine_spearman",
                    "document_document_cosine_pearson",
                ]
            );
            let key = format!("{}_cosine_spearman", mode.name().replace('-', "_"));
            assert_eq!(outcome.score(&key), Some(outcome.main_score()));
        }
    }

    #[test]
    fn equal_cosines_are_an_error() {
        let table = ["x", "a", "b", "c", "d"].iter().fold(Table::new(1), |table, text| table.query(text, [1.0]));
        let table = table.documents_like_queries();
        let error = evaluate(&task(), &table, &Protocol::default(), &mut |_| {}).expect_err("constant");
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        assert!(crate::is_undefined(&error));
        assert_eq!(
            error.to_string(),
            "task t: the correlation of the query-query cosines (x) with the scores (y) is undefined: x is constant: all 4 \
             values are 1"
        );
        let broken = table.query("a", [f32::NAN]);
        let error = evaluate(&task(), &broken, &Protocol::default(), &mut |_| {}).expect_err("not a number");
        assert!(error.kind() == ErrorKind::NonFinite && !crate::is_undefined(&error), "{error}");
    }
}
