//! False negatives of training rows: the doubtful negatives become [`Pair`]s, LLM judges score them, and their labels
//! decide.
//!
//! ```text
//! rows -> triage -> pairs -> judge_pairs (journal, budget) or batch files -> resolve -> Judged -> clean_rows -> rows
//! ```

use std::collections::{HashMap, HashSet};
use std::path::Path;

use care_core::files::sha256_hex;
use care_core::{Error, Result};
use care_data::clean::{CleanOptions, Finding, Inspected, Row, Verdict, for_each_inspected};
use serde::Serialize;

use crate::pair::{Found, Pair};
use crate::resolve::{Label, Outcome};

/// Hexadecimal digits of an id that is made of a text.
const DIGITS: usize = 20;
/// The reason of a false negative that judges found.
const POSITIVE: &str = "judges: positive";
/// The reasons of unknown negatives.
const DISPUTED: &str = "judges: disputed";
const TOO_FEW: &str = "judges: too few votes";
const NO_VOTE: &str = "judges: no vote";

/// The negatives that judges are asked about.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Triage {
    /// One pair for each query and text; ids are made of the texts, so they stay if rows are added or move. The first
    /// positive of the row is part of the question, not of the ids.
    pub pairs: Vec<Pair>,
    /// What was counted.
    pub counts: TriageCounts,
}

/// Counts of a [`Triage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TriageCounts {
    /// Rows that were read, bad ones included.
    pub rows: u64,
    /// Bad rows, left out.
    pub bad: u64,
    /// Their negatives.
    pub negatives: u64,
    /// Negatives about which scorers and labels agree: not asked.
    pub agreed: u64,
    /// Negatives whose text is a positive or the query: not asked.
    pub same_text: u64,
    /// Negatives to ask about that scorers suspect.
    pub suspected: u64,
    /// Negatives to ask about of which scorers know nothing.
    pub unknown: u64,
    /// Negatives to ask about whose query and text occurred before: asked once.
    pub repeated: u64,
}

/// Picks the negatives that judges are asked about: those that the scorers of `options` do not find clean. Scorers suspect
/// what the label calls negative, so this is where they and the labels disagree; with
/// [`Agreement::Any`](care_data::clean::Agreement::Any), also where scorers disagree with each other. Without scorers, every
/// negative is asked.
///
/// The positive that judges see beside the negative is the first one of the row. The texts of all pairs are in memory. Rows
/// that cannot be read go to `bad`, as an error that names file and line; it returns an error to stop.
///
/// # Errors
/// As [`for_each_inspected`], or if `bad` fails.
///
/// # Reference
/// AIR-Bench asks an LLM only where rerankers and the label disagree; RLHN (arXiv 2505.16967) and the CARE paper
/// (arXiv 2604.10937) ask about every candidate.
pub fn triage(
    rows: impl AsRef<Path>,
    options: &CleanOptions,
    bad: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Triage> {
    let mut triage = Triage::default();
    let mut seen = HashSet::new();
    for_each_inspected(rows, options, &mut |inspected| {
        triage.counts.rows += 1;
        let inspected = match inspected {
            Ok(inspected) => inspected,
            Err(error) => {
                triage.counts.bad += 1;
                return bad(error);
            }
        };
        triage.counts.negatives += inspected.findings.len() as u64;
        for (at, finding) in inspected.findings.iter().enumerate() {
            let counts = &mut triage.counts;
            match finding.verdict {
                _ if finding.is_same_text() => counts.same_text += 1,
                Verdict::Clean => counts.agreed += 1,
                verdict => {
                    counts.suspected += u64::from(verdict == Verdict::FalseNegative);
                    counts.unknown += u64::from(verdict == Verdict::Unknown);
                    let ids = ids(inspected.row, at);
                    if seen.insert(ids.clone()) {
                        triage.pairs.push(pair(ids, &inspected, at, options));
                    } else {
                        counts.repeated += 1;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(triage)
}

/// The ids of the query and of a negative: of their texts.
fn ids(row: &Row, at: usize) -> (String, String) {
    let id = |text: &str| sha256_hex(text)[..DIGITS].to_owned();
    (id(row.query()), id(row.negatives()[at].text()))
}

fn pair((query_id, doc_id): (String, String), inspected: &Inspected<'_>, at: usize, options: &CleanOptions) -> Pair {
    let row = inspected.row;
    let found = |(scorer, scores): (&care_data::clean::Scorer, &care_data::clean::Scores)| {
        let score = scores.negatives[at]?;
        // From 1, among the negatives of the row; missing scores are last.
        let better = scores.negatives.iter().flatten().filter(|other| **other > score).count();
        Some(Found { system: scorer.name.clone(), rank: better + 1, score: score as f32 })
    };
    Pair {
        query_id,
        doc_id,
        query: row.query().to_owned(),
        document: row.negatives()[at].text().to_owned(),
        positive: row.positives().first().map(|item| item.text().to_owned()),
        group: None,
        grade: Some(0),
        systems: options.scorers.iter().zip(inspected.scores).filter_map(found).collect(),
    }
}

/// What judges say about the negatives of a [`Triage`]. Give [`Judged::inspect`] to
/// [`clean_rows`](care_data::clean::clean_rows), with the options of the triage.
#[derive(Debug, Clone, Default)]
pub struct Judged(HashMap<(String, String), Outcome>);

impl Judged {
    /// Takes the labels of the pairs.
    ///
    /// # Errors
    /// If a pair has two labels.
    pub fn new(labels: &[Label]) -> Result<Self> {
        let mut outcomes = HashMap::with_capacity(labels.len());
        for label in labels {
            if outcomes.insert((label.query_id.clone(), label.doc_id.clone()), label.outcome).is_some() {
                let (query, document) = label.id();
                return Err(Error::setting("labels", format!("two of the pair `{query}`, `{document}`"), "one each"));
            }
        }
        Ok(Self(outcomes))
    }

    /// Replaces the findings about negatives that were asked: positive is a false negative, negative is clean. All else is
    /// unknown, and never clean: disputed, too few votes since answers were unparsable, refused or failed, and no label at
    /// all.
    pub fn inspect(&self, inspected: &mut Inspected<'_>) {
        for (at, finding) in inspected.findings.iter_mut().enumerate() {
            if finding.verdict == Verdict::Clean || finding.is_same_text() {
                continue;
            }
            *finding = match self.0.get(&ids(inspected.row, at)) {
                Some(Outcome::Positive) => Finding::of(Verdict::FalseNegative, POSITIVE),
                Some(Outcome::Negative) => Finding::clean(),
                Some(Outcome::Disputed) => Finding::of(Verdict::Unknown, DISPUTED),
                Some(Outcome::Incomplete) => Finding::of(Verdict::Unknown, TOO_FEW),
                None => Finding::of(Verdict::Unknown, NO_VOTE),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use care_data::clean::{Limits, Scorer, clean_rows};

    use super::*;
    use crate::resolve::label;

    const ROWS: &str = r#"{"query":"q","pos":["p","P2"],"neg":["a","b","c","P"],"pos_scores":[0.5,0.9],"neg_scores":[0.6,0.1,null,0.2]}
{"query":"q","pos":["x"],"neg":["a","d"],"pos_scores":[0.5],"neg_scores":[0.7,0.8]}
"#;

    fn options() -> CleanOptions {
        CleanOptions::default().with_scorer(Scorer::new("scores", Limits::default().with_absolute_margin(0.0)))
    }

    #[test]
    fn judges_are_asked_where_scores_and_labels_disagree_and_once_for_a_pair() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, ROWS).expect("written");
        let triage = triage(&path, &options(), &mut Err).expect("triage");
        let counts = triage.counts;
        assert_eq!((counts.rows, counts.negatives, counts.agreed, counts.same_text), (2, 6, 1, 1));
        assert_eq!((counts.suspected, counts.unknown, counts.repeated), (3, 1, 1));
        let documents: Vec<&str> = triage.pairs.iter().map(|pair| pair.document.as_str()).collect();
        assert_eq!(documents, ["a", "c", "d"]);
        let first = &triage.pairs[0];
        assert_eq!((first.positive.as_deref(), first.grade), (Some("p"), Some(0)));
        assert_eq!((first.systems[0].rank, first.systems[0].score), (1, 0.6));
        assert!(triage.pairs[1].systems.is_empty());
        let everything = super::triage(&path, &CleanOptions::default(), &mut Err).expect("triage");
        assert_eq!((everything.counts.unknown, everything.pairs.len()), (5, 4));
    }

    #[test]
    fn only_a_negative_label_is_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let (rows, output) = (folder.path().join("rows.jsonl"), folder.path().join("clean.jsonl"));
        std::fs::write(&rows, ROWS).expect("written");
        let pairs = triage(&rows, &options(), &mut Err).expect("triage").pairs;
        let of = |outcomes: [Option<Outcome>; 3]| {
            let labelled = pairs.iter().zip(outcomes);
            let labels: Vec<Label> =
                labelled.filter_map(|(pair, outcome)| Some(label(&pair.query_id, &pair.doc_id, outcome?))).collect();
            let judged = Judged::new(&labels).expect("labels");
            clean_rows(
                &rows,
                &output,
                None,
                &options(),
                &mut |inspected| {
                    judged.inspect(inspected);
                    Ok(())
                },
                &mut Err,
            )
            .expect("cleaned")
        };
        use Outcome::{Disputed, Incomplete, Negative, Positive};
        let report = of([Some(Positive), Some(Negative), Some(Negative)]);
        assert_eq!((report.clean, report.false_negatives, report.unknown), (3, 3, 0));
        assert_eq!(report.rules["judges: positive"].alone, 2);
        let report = of([Some(Disputed), Some(Incomplete), None]);
        assert_eq!((report.clean, report.false_negatives, report.unknown), (1, 1, 4));
        for (reason, unknown) in [(DISPUTED, 2), (TOO_FEW, 1), (NO_VOTE, 1)] {
            assert_eq!(report.rules[reason].unknown, unknown, "{reason}");
        }
        let [first, ..] = &pairs[..] else { panic!("pairs") };
        let twice = label(&first.query_id, &first.doc_id, Positive);
        assert!(Judged::new(&[twice.clone(), twice]).expect_err("twice").to_string().contains("two of the pair"));
    }
}
