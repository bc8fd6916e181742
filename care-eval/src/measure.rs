//! A metric with its cut-off, e.g. `ndcg@10`.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::metric::{Expected, average_precision, ndcg, precision, r_precision, recall, reciprocal_rank, success};

/// A metric and its cut-off, parsed from e.g. `ndcg@10`, `map` or `recall@100`.
///
/// Parsing ignores case; [`Display`](fmt::Display) and serde write the canonical form.
///
/// ```
/// use care_eval::Measure;
///
/// assert_eq!("P@5".parse::<Measure>()?.to_string(), "precision@5");
/// assert!("recall".parse::<Measure>().is_err()); // without a cut-off it is meaningless
/// # Ok::<(), care_eval::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Measure {
    /// `ndcg@k` or `ndcg`: see [`ndcg`].
    Ndcg(Option<NonZeroUsize>),
    /// `map@k` or `map`: the mean over queries of [`average_precision`].
    Map(Option<NonZeroUsize>),
    /// `mrr@k` or `mrr`: the mean over queries of [`reciprocal_rank`].
    Mrr(Option<NonZeroUsize>),
    /// `recall@k`: see [`recall`].
    Recall(NonZeroUsize),
    /// `precision@k` or `p@k`: see [`precision`].
    Precision(NonZeroUsize),
    /// `success@k` or `hit_rate@k`: see [`success`].
    Success(NonZeroUsize),
    /// `rprec`: see [`r_precision`].
    RPrecision,
}

/// What [`Measure::from_str`] accepts, for messages.
const ACCEPTED: &str = "ndcg[@k], map[@k], mrr[@k], recall@k, precision@k (p@k), success@k (hit_rate@k), rprec";

/// Names of our measures in other programs.
const ELSEWHERE: [(&str, &str); 15] = [
    ("dcg", "ndcg"),
    ("ndcg_cut", "ndcg"),
    ("ap", "map"),
    ("map_cut", "map"),
    ("average_precision", "map"),
    ("rr", "mrr"),
    ("recip_rank", "mrr"),
    ("reciprocal_rank", "mrr"),
    ("r", "recall"),
    ("prec", "precision"),
    ("hit", "success"),
    ("hits", "success"),
    ("r_precision", "rprec"),
    ("r-precision", "rprec"),
    ("accuracy", "success"),
];

impl Measure {
    /// The value for one query.
    ///
    /// `ranked` are the grades of the retrieved documents, best first, 0 if unjudged; `judged` are all grades of the
    /// query, in any order.
    pub fn score(self, ranked: &[i32], judged: &[i32]) -> f64 {
        let relevant = || judged.iter().filter(|grade| **grade > 0).count();
        match self {
            Self::Ndcg(cutoff) => ndcg(ranked, judged, cutoff),
            Self::Map(cutoff) => average_precision(ranked, relevant(), cutoff),
            Self::Mrr(cutoff) => reciprocal_rank(ranked, cutoff),
            Self::Recall(cutoff) => recall(ranked, relevant(), cutoff),
            Self::Precision(cutoff) => precision(ranked, cutoff),
            Self::Success(cutoff) => success(ranked, cutoff),
            Self::RPrecision => r_precision(ranked, relevant()),
        }
    }

    /// The mean of [`score`](Measure::score) over every order of tied documents.
    ///
    /// `ties` are the sizes of the groups of equal scores, best first; they add up to the length of `ranked`.
    pub(crate) fn expected_score(self, ranked: &[i32], ties: &[usize], judged: &[i32]) -> f64 {
        let relevant = judged.iter().filter(|grade| **grade > 0).count();
        let expected = |cutoff| Expected::new(ranked, ties, cutoff);
        match self {
            Self::Ndcg(cutoff) => expected(cutoff).ndcg(judged),
            Self::Map(cutoff) => expected(cutoff).average_precision(relevant),
            Self::Mrr(cutoff) => expected(cutoff).reciprocal_rank(),
            Self::Recall(cutoff) => share(expected(Some(cutoff)).hits(), relevant),
            Self::Precision(cutoff) => share(expected(Some(cutoff)).hits(), cutoff.get()),
            Self::Success(cutoff) => expected(Some(cutoff)).success(),
            Self::RPrecision => share(NonZeroUsize::new(relevant).map_or(0.0, |r| expected(Some(r)).hits()), relevant),
        }
    }

    /// How many documents of the ranking determine the value if `relevant` are relevant; `None` for all.
    pub fn depth(self, relevant: usize) -> Option<usize> {
        match self {
            Self::RPrecision => Some(relevant),
            _ => self.cutoff().map(NonZeroUsize::get),
        }
    }

    /// The name without the cut-off.
    fn name(self) -> &'static str {
        match self {
            Self::Ndcg(_) => "ndcg",
            Self::Map(_) => "map",
            Self::Mrr(_) => "mrr",
            Self::Recall(_) => "recall",
            Self::Precision(_) => "precision",
            Self::Success(_) => "success",
            Self::RPrecision => "rprec",
        }
    }

    /// The cut-off, i.e. how many documents of the ranking count; `None` without one.
    pub fn cutoff(self) -> Option<NonZeroUsize> {
        match self {
            Self::Ndcg(cutoff) | Self::Map(cutoff) | Self::Mrr(cutoff) => cutoff,
            Self::Recall(cutoff) | Self::Precision(cutoff) | Self::Success(cutoff) => Some(cutoff),
            Self::RPrecision => None,
        }
    }
}

fn share(part: f64, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = |problem: String| {
            Error::new(ErrorKind::Measure, format!("measure {text:?}: {problem}; accepted: {ACCEPTED}"))
        };
        let (name, cutoff) = match text.split_once('@') {
            None => (text, None),
            Some((name, digits)) => match digits.parse() {
                Ok(cutoff) => (name, Some(cutoff)),
                Err(_) => return Err(fail(format!("the cut-off {digits:?} is not an integer >= 1"))),
            },
        };
        let name = name.to_ascii_lowercase();
        let required = || cutoff.ok_or_else(|| fail(format!("a cut-off is required, e.g. {name}@10")));
        match name.as_str() {
            "ndcg" => Ok(Self::Ndcg(cutoff)),
            "map" => Ok(Self::Map(cutoff)),
            "mrr" => Ok(Self::Mrr(cutoff)),
            "recall" => required().map(Self::Recall),
            "precision" | "p" => required().map(Self::Precision),
            "success" | "hit_rate" => required().map(Self::Success),
            "rprec" => match cutoff {
                None => Ok(Self::RPrecision),
                Some(_) => {
                    Err(fail("rprec takes no cut-off: it is cut at the number of relevant documents".to_owned()))
                }
            },
            unknown => Err(fail(match ELSEWHERE.iter().find(|(theirs, _)| *theirs == unknown) {
                Some((_, ours)) => format!("unknown name, did you mean {ours}?"),
                None => "unknown name".to_owned(),
            })),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cutoff() {
            Some(cutoff) => f.pad(&format!("{}@{cutoff}", self.name())),
            None => f.pad(self.name()),
        }
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(text: &str) -> String {
        let error = text.parse::<Measure>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Measure);
        error.to_string()
    }

    #[test]
    fn canonical_names_survive_a_round_trip() {
        for name in
            ["ndcg@10", "ndcg", "map@10", "map", "mrr@10", "mrr", "recall@100", "precision@5", "success@1", "rprec"]
        {
            let measure: Measure = name.parse().unwrap();
            assert_eq!(measure.to_string(), name);
            assert_eq!(serde_json::to_value(measure).unwrap(), name);
            assert_eq!(serde_json::from_value::<Measure>(name.into()).unwrap(), measure);
        }
        assert_eq!("nDCG@10".parse::<Measure>().unwrap(), Measure::Ndcg(NonZeroUsize::new(10)));
        assert_eq!("p@5".parse::<Measure>().unwrap().to_string(), "precision@5");
        assert_eq!("hit_rate@3".parse::<Measure>().unwrap().to_string(), "success@3");
    }

    #[test]
    fn a_bad_cutoff_is_named() {
        for digits in ["0", "-3", "ten", ""] {
            assert_eq!(
                message(&format!("ndcg@{digits}")),
                format!(
                    "measure \"ndcg@{digits}\": the cut-off \"{digits}\" is not an integer >= 1; accepted: \
                     ndcg[@k], map[@k], mrr[@k], recall@k, precision@k (p@k), success@k (hit_rate@k), rprec"
                )
            );
        }
        assert!(message("recall").starts_with("measure \"recall\": a cut-off is required, e.g. recall@10; accepted: "));
        assert!(message("rprec@5").starts_with("measure \"rprec@5\": rprec takes no cut-off"));
    }

    #[test]
    fn an_unknown_name_is_met_with_the_one_meant() {
        assert!(message("ap@10").starts_with("measure \"ap@10\": unknown name, did you mean map?; accepted: ndcg[@k]"));
        assert!(message("f1").starts_with("measure \"f1\": unknown name; accepted: ndcg[@k]"));
        for (theirs, ours) in ELSEWHERE {
            assert!(theirs.parse::<Measure>().is_err());
            let text = if ours == "rprec" { ours.to_owned() } else { format!("{ours}@1") };
            assert_eq!(text.parse::<Measure>().unwrap().name(), ours);
        }
    }
}
