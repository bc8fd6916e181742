//! STS: the cosine of two sentences against the similarity that people gave them.

use std::fmt;
use std::str::FromStr;

use care_core::{Document, Embeddings, Error, ErrorKind, Query, Result, Role};
use care_eval::{pearson, spearman};
use serde::{Deserialize, Serialize};

use super::encode::Encoding;
use super::outcome::{Evidence, Outcome};
use crate::task::StsTask;

/// Which tower reads which sentence of a pair. For a model of one tower all three are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StsMode {
    /// The query tower reads both.
    #[default]
    QueryQuery,
    /// The query tower reads the first, the document tower the second.
    QueryDocument,
    /// The document tower reads both.
    DocumentDocument,
}

impl StsMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::QueryQuery, Self::QueryDocument, Self::DocumentDocument];

    /// The mode's name in files and on the command line, such as `query-document`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryQuery => "query-query",
            Self::QueryDocument => "query-document",
            Self::DocumentDocument => "document-document",
        }
    }

    fn roles(self) -> (Role, Role) {
        match self {
            Self::QueryQuery => (Role::Query, Role::Query),
            Self::QueryDocument => (Role::Query, Role::Document),
            Self::DocumentDocument => (Role::Document, Role::Document),
        }
    }
}

impl fmt::Display for StsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StsMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let allowed = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| Error::setting("STS mode", format!("{name:?}"), &allowed()))
    }
}

pub(super) fn evaluate(task: &StsTask, mode: StsMode, mut encoding: Encoding<'_>) -> Result<Outcome> {
    let (first, second) = mode.roles();
    let left = encode(&mut encoding, first, task.pairs().iter().map(|pair| pair.sentence1.as_str()))?;
    let right = encode(&mut encoding, second, task.pairs().iter().map(|pair| pair.sentence2.as_str()))?;
    let cosines: Vec<f64> = (0..left.len()).map(|row| left.cosine(row, &right, row)).collect();
    let scores: Vec<f64> = task.pairs().iter().map(|pair| pair.score).collect();

    let undefined = |e| {
        let problem = format!("task {}: no correlation of the cosines (x) with the scores (y): {e}", task.name());
        Error::new(ErrorKind::NonFinite, problem).with_source(e)
    };
    let scores = vec![
        ("cosine_spearman".to_owned(), spearman(&cosines, &scores).map_err(undefined)?),
        ("cosine_pearson".to_owned(), pearson(&cosines, &scores).map_err(undefined)?),
    ];
    Ok(Outcome::new(scores, Evidence::Similarity { mode, cosines }))
}

fn encode<'a>(encoding: &mut Encoding<'_>, role: Role, sentences: impl Iterator<Item = &'a str>) -> Result<Embeddings> {
    match role {
        Role::Query => encoding.queries(&sentences.map(Query::new).collect::<Vec<_>>()),
        Role::Document => encoding.documents(&sentences.map(Document::new).collect::<Vec<_>>()),
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;
    use crate::protocol::evaluate;
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
            .query("d", [0.1, 0.0]);
        let outcome = evaluate(&task(), &table, StsMode::QueryQuery, &mut |_| {}).expect("evaluated");
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
            let outcome = evaluate(&task(), &table, mode, &mut |_| {}).expect("evaluated");
            assert_abs_diff_eq!(outcome.main_score(), spearman, epsilon = 1e-12);
        }
    }

    #[test]
    fn equal_cosines_are_an_error() {
        let table = ["x", "a", "b", "c", "d"].iter().fold(Table::new(1), |table, text| table.query(text, [1.0]));
        let error = evaluate(&task(), &table, StsMode::QueryQuery, &mut |_| {}).expect_err("constant");
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        assert_eq!(
            error.to_string(),
            "task t: no correlation of the cosines (x) with the scores (y): x is constant: all 4 values are 1"
        );
    }

    #[test]
    fn names_are_the_same_in_serde_and_on_the_command_line() {
        for mode in StsMode::ALL {
            assert_eq!(serde_json::to_value(mode).expect("a name"), mode.name());
            assert_eq!(mode.name().parse::<StsMode>().expect("known"), mode);
        }
        let error = "both".parse::<StsMode>().expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "`STS mode` is \"both\", allowed: query-query, query-document, document-document"
        );
    }
}
