//! How many scorers must agree.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};

use super::verdict::Verdict;

/// How many scorers must suspect a negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Agreement {
    /// One.
    #[default]
    Any,
    /// More than half.
    Majority,
    /// All.
    All,
    /// At least this many.
    AtLeast(usize),
}

impl Agreement {
    /// # Errors
    /// If there are fewer scorers than must agree, or none need to.
    pub(super) fn check(self, scorers: usize) -> Result<()> {
        match self {
            Self::AtLeast(needed) if needed == 0 || needed > scorers => {
                Err(Error::setting("agree", needed, &format!("1 to {scorers}, the number of scorers")))
            }
            _ => Ok(()),
        }
    }

    fn needed(self, scorers: usize) -> usize {
        match self {
            Self::Any => 1,
            Self::Majority => scorers / 2 + 1,
            Self::All => scorers.max(1),
            Self::AtLeast(needed) => needed,
        }
    }

    /// The verdict of all scorers together: a false negative if enough suspect it, unknown if enough would, were all
    /// missing scores high, else clean. Without scorers, nothing is known.
    pub(super) fn of(self, verdicts: &[Verdict]) -> Verdict {
        let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
        let (suspected, unknown) = (count(Verdict::FalseNegative), count(Verdict::Unknown));
        let needed = self.needed(verdicts.len());
        if suspected >= needed {
            Verdict::FalseNegative
        } else if suspected + unknown >= needed || verdicts.is_empty() {
            Verdict::Unknown
        } else {
            Verdict::Clean
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Majority => f.pad("majority"),
            Self::All => f.pad("all"),
            Self::AtLeast(needed) => needed.fmt(f),
        }
    }
}

impl FromStr for Agreement {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match (name, name.parse()) {
            ("any", _) => Ok(Self::Any),
            ("majority", _) => Ok(Self::Majority),
            ("all", _) => Ok(Self::All),
            (_, Ok(needed)) => Ok(Self::AtLeast(needed)),
            _ => Err(Error::setting("agree", format!("`{name}`"), "any, majority, all, or a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERDICTS: [Verdict; 3] = [Verdict::Clean, Verdict::FalseNegative, Verdict::Unknown];

    #[test]
    fn scorers_are_counted() {
        use Verdict::{Clean, FalseNegative, Unknown};
        for (verdicts, expected) in [
            (vec![FalseNegative, Clean, Clean], [FalseNegative, Clean, Clean]),
            (vec![FalseNegative, FalseNegative, Clean], [FalseNegative, FalseNegative, Clean]),
            (vec![FalseNegative, Unknown, Clean], [FalseNegative, Unknown, Clean]),
            (vec![FalseNegative, Unknown, FalseNegative], [FalseNegative, FalseNegative, Unknown]),
            (vec![Unknown, Clean, Clean], [Unknown, Clean, Clean]),
            (vec![], [Unknown, Unknown, Unknown]),
        ] {
            let found = [Agreement::Any, Agreement::Majority, Agreement::All].map(|agree| agree.of(&verdicts));
            assert_eq!(found, expected, "{verdicts:?}");
        }
        assert!(Agreement::AtLeast(2).check(2).is_ok() && Agreement::All.check(0).is_ok());
        assert_eq!(
            Agreement::AtLeast(3).check(2).expect_err("two").to_string(),
            "`agree` is 3, allowed: 1 to 2, the number of scorers"
        );
        for name in ["any", "majority", "all", "2"] {
            assert_eq!(name.parse::<Agreement>().expect("one").to_string(), name);
        }
        assert_eq!(
            "most".parse::<Agreement>().expect_err("none").to_string(),
            "`agree` is `most`, allowed: any, majority, all, or a number"
        );
    }

    proptest! {
        #[test]
        fn a_verdict_stands_whatever_the_missing_scores_are(
            verdicts in prop::collection::vec(prop::sample::select(&VERDICTS), 1..6), needed in 1..6usize,
        ) {
            let agree = Agreement::AtLeast(needed.min(verdicts.len()));
            let filled = |with: Verdict| -> Vec<Verdict> {
                verdicts.iter().map(|verdict| if *verdict == Verdict::Unknown { with } else { *verdict }).collect()
            };
            let (low, high) = (agree.of(&filled(Verdict::Clean)), agree.of(&filled(Verdict::FalseNegative)));
            let expected = if low == high { low } else { Verdict::Unknown };
            prop_assert_eq!(agree.of(&verdicts), expected);
        }
    }
}
