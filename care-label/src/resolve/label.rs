//! Labels, their file `labels.jsonl`, and what becomes of pairs without one.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use care_core::jsonl::for_each_jsonl;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::pair::write_jsonl;

/// What a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The document answers the query.
    Positive,
    /// It does not.
    Negative,
    /// The judges disagree, and the rule does not decide.
    Disputed,
    /// Too few judges have voted.
    Incomplete,
}

impl Outcome {
    /// A decision.
    pub fn of(positive: bool) -> Self {
        if positive { Self::Positive } else { Self::Negative }
    }

    /// Whether the pair is positive; `None` if that is not decided.
    pub fn decided(self) -> Option<bool> {
        match self {
            Self::Positive => Some(true),
            Self::Negative => Some(false),
            Self::Disputed | Self::Incomplete => None,
        }
    }
}

/// The label of a pair, one line of `labels.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// What the rule found.
    pub outcome: Outcome,
    /// Grade for qrels: 0 if negative, >= 1 if positive (1 at the threshold of the scale, one more for each point above
    /// it), absent if not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<i32>,
    /// Mean score of the judges, if there is a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Probability to be positive, if the rule has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Number of judges that have voted.
    pub votes: u32,
    /// Whether experts, and not judges, have decided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expert: bool,
}

impl Label {
    /// Both ids.
    pub fn id(&self) -> (&str, &str) {
        (&self.query_id, &self.doc_id)
    }
}

/// What becomes of pairs that are disputed or incomplete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disputed {
    /// They have no line in `labels.jsonl`: the benchmark is built without them, as a candidate and as a document of the
    /// query.
    Drop,
    /// Their line has no grade: the document stays in the corpus, and is not judged for the query.
    #[default]
    Unjudged,
    /// As [`Unjudged`](Self::Unjudged) until experts decide: they are listed for a sheet.
    Experts,
}

impl Disputed {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Drop, Self::Unjudged, Self::Experts];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Unjudged => "unjudged",
            Self::Experts => "experts",
        }
    }
}

impl fmt::Display for Disputed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Disputed {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.name() == name)
            .ok_or_else(|| Error::setting("disputed", format!("`{name}`"), &Self::ALL.map(Self::name).join(", ")))
    }
}

/// Labels after the choice about disputed pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The labels of the file.
    pub labels: Vec<Label>,
    /// Ids of the pairs that experts must decide, in the order of the labels.
    pub for_experts: Vec<(String, String)>,
    /// Number of pairs that were dropped.
    pub dropped: usize,
}

/// Applies what experts decided (grades for qrels, by the ids of query and document; 0 is negative), which overrides
/// judges, and then the choice about the remaining pairs without a decision.
pub fn settle(labels: Vec<Label>, decided: &HashMap<(&str, &str), i32>, choice: Disputed) -> Settled {
    let mut settled = Settled { labels: Vec::with_capacity(labels.len()), for_experts: vec![], dropped: 0 };
    for mut label in labels {
        if let Some(&grade) = decided.get(&label.id()) {
            label.grade = Some(grade.max(0));
            label.outcome = Outcome::of(grade > 0);
            label.expert = true;
        }
        if label.outcome.decided().is_none() {
            match choice {
                Disputed::Drop => {
                    settled.dropped += 1;
                    continue;
                }
                Disputed::Unjudged => {}
                Disputed::Experts => settled.for_experts.push((label.query_id.clone(), label.doc_id.clone())),
            }
        }
        settled.labels.push(label);
    }
    settled
}

/// Calls `each` with the line and the label of every line of a `labels.jsonl`.
///
/// # Errors
/// If the file cannot be read, a line is no label, its grade contradicts its outcome, or a pair occurs twice.
pub fn for_each_label(path: impl AsRef<Path>, each: &mut dyn FnMut(usize, Label) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let mut lines = HashMap::new();
    for_each_jsonl(path, &mut |line, label: Label| {
        if label.grade.map(|grade| grade > 0) != label.outcome.decided() || label.grade.is_some_and(|grade| grade < 0) {
            let allowed = "0 if negative, >= 1 if positive, absent if disputed or incomplete";
            return Err(Error::line(path, line, format!("`grade` contradicts `outcome`, allowed: {allowed}")));
        }
        if let Some(first) = lines.insert((label.query_id.clone(), label.doc_id.clone()), line) {
            let (query, document) = label.id();
            let problem = format!("the pair `{query}`, `{document}` has a label in line {first} already");
            return Err(Error::line(path, line, problem));
        }
        each(line, label)
    })
}

/// Reads a `labels.jsonl`.
///
/// # Errors
/// As [`for_each_label`].
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    for_each_label(path, &mut |_, label| {
        labels.push(label);
        Ok(())
    })?;
    Ok(labels)
}

/// Writes a `labels.jsonl`, atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write_labels<'a>(path: impl AsRef<Path>, labels: impl IntoIterator<Item = &'a Label>) -> Result<()> {
    write_jsonl(path, labels)
}

/// A label for tests, by judges with one vote.
#[cfg(test)]
pub(crate) fn label(query_id: &str, doc_id: &str, outcome: Outcome) -> Label {
    Label {
        query_id: query_id.into(),
        doc_id: doc_id.into(),
        outcome,
        grade: outcome.decided().map(i32::from),
        score: None,
        probability: None,
        votes: 1,
        expert: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_contradictions_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("labels.jsonl");
        let labels = [
            Label { score: Some(4.5), grade: Some(2), ..label("q", "d", Outcome::Positive) },
            Label { probability: Some(0.25), expert: true, ..label("q", "e", Outcome::Negative) },
            label("q", "f", Outcome::Disputed),
        ];
        write_labels(&path, &labels).expect("written");
        assert_eq!(read_labels(&path).expect("read"), labels);
        let text = std::fs::read_to_string(&path).expect("read");
        let first = r#"{"query_id":"q","doc_id":"d","outcome":"positive","grade":2,"score":4.5,"votes":1}"#;
        assert_eq!(text.lines().next(), Some(first));
        let refused = |text: String| {
            std::fs::write(&path, text).expect("written");
            let message = read_labels(&path).expect_err("refused").to_string();
            message.replace(&folder.path().display().to_string(), "F")
        };
        assert_eq!(
            refused(format!("{first}\n{first}")),
            "F/labels.jsonl:2: the pair `q`, `d` has a label in line 1 already"
        );
        let problem = "F/labels.jsonl:1: `grade` contradicts `outcome`, allowed: 0 if negative, >= 1 if positive, absent \
                       if disputed or incomplete";
        assert_eq!(refused(first.replace(":2,", ":0,")), problem);
        assert_eq!(refused(first.replace("positive", "disputed")), problem);
        assert_eq!(refused(first.replace("\"grade\":2,", "")), problem);
        assert_eq!(refused(first.replace("positive", "negative").replace(":2,", ":-1,")), problem);
    }

    #[test]
    fn disputed_pairs_are_dropped_kept_or_listed_and_experts_override() {
        let labels = || {
            let [a, b, c] = ["a", "b", "c"].map(|id| label("q", id, Outcome::Disputed));
            vec![a, b, Label { outcome: Outcome::Incomplete, ..c }, label("q", "d", Outcome::Positive)]
        };
        let nobody = HashMap::new();
        let ids = |settled: &Settled| settled.labels.iter().map(|label| label.doc_id.clone()).collect::<String>();
        let dropped = settle(labels(), &nobody, Disputed::Drop);
        assert_eq!((ids(&dropped).as_str(), dropped.dropped, dropped.for_experts.len()), ("d", 3, 0));
        let kept = settle(labels(), &nobody, Disputed::Unjudged);
        assert_eq!((ids(&kept).as_str(), kept.dropped, kept.for_experts.len()), ("abcd", 0, 0));
        let decided = HashMap::from([(("q", "a"), 2), (("q", "d"), 0)]);
        let listed = settle(labels(), &decided, Disputed::Experts);
        let pair = |id: &str| ("q".to_owned(), id.to_owned());
        assert_eq!(listed.for_experts, [pair("b"), pair("c")]);
        let first = &listed.labels[0];
        assert_eq!((first.outcome, first.grade, first.expert), (Outcome::Positive, Some(2), true));
        assert_eq!((listed.labels[3].outcome, listed.labels[3].grade), (Outcome::Negative, Some(0)));
        for choice in Disputed::ALL {
            assert_eq!(choice.to_string().parse::<Disputed>().expect("a choice"), choice);
        }
        assert_eq!(
            "keep".parse::<Disputed>().expect_err("none").to_string(),
            "`disputed` is `keep`, allowed: drop, unjudged, experts"
        );
    }
}
