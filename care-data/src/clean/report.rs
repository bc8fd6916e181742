//! What cleaning found and did.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::edit::Fate;
use super::verdict::{Finding, Verdict};

/// Counts of a cleaning. Displays as Markdown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Rows that were read, bad ones included.
    pub rows: u64,
    /// Rows that were written.
    pub written: u64,
    /// Rows among them that are not as they were.
    pub changed: u64,
    /// Bad rows, left out.
    pub bad: u64,
    /// Rows that were dropped for a false negative.
    pub dropped_false_negative: u64,
    /// Rows that were dropped for too many false negatives.
    pub dropped_too_many: u64,
    /// Rows that were dropped for an unknown negative.
    pub dropped_unknown: u64,
    /// Rows that were dropped for too few negatives.
    pub dropped_short: u64,
    /// Rows that were written without any negative, but had some.
    pub without_negatives: u64,
    /// Negatives of the rows that were read.
    pub negatives: u64,
    /// Negatives that are clean.
    pub clean: u64,
    /// Negatives that are false.
    pub false_negatives: u64,
    /// Negatives of which nothing is known.
    pub unknown: u64,
    /// False negatives that were dropped from rows that were written.
    pub removed: u64,
    /// False negatives that became positives.
    pub made_positive: u64,
    /// Unknown negatives that were dropped from rows that were written.
    pub unknown_removed: u64,
    /// What each rule found, by its name.
    pub rules: BTreeMap<String, RuleCount>,
}

/// What a rule found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleCount {
    /// False negatives for which it fired.
    pub false_negatives: u64,
    /// False negatives for which no other rule fired.
    pub alone: u64,
    /// Unknown negatives that name it.
    pub unknown: u64,
}

/// Why a row was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    FalseNegative,
    TooMany,
    Unknown,
    Short,
}

impl Dropped {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FalseNegative => "a false negative",
            Self::TooMany => "too many false negatives",
            Self::Unknown => "an unknown negative",
            Self::Short => "too few negatives",
        }
    }
}

impl Report {
    pub(super) fn drop_row(&mut self, reason: Dropped) {
        *match reason {
            Dropped::FalseNegative => &mut self.dropped_false_negative,
            Dropped::TooMany => &mut self.dropped_too_many,
            Dropped::Unknown => &mut self.dropped_unknown,
            Dropped::Short => &mut self.dropped_short,
        } += 1;
    }

    /// Counts a row that is written, by what became of its negatives.
    pub(super) fn write_row(&mut self, findings: &[Finding], fates: &[Fate]) {
        self.written += 1;
        for (finding, fate) in findings.iter().zip(fates) {
            match (fate, finding.verdict) {
                (Fate::Stays, _) => {}
                (Fate::BecomesPositive, _) => self.made_positive += 1,
                (Fate::Leaves, Verdict::FalseNegative) => self.removed += 1,
                (Fate::Leaves, _) => self.unknown_removed += 1,
            }
        }
        let left = fates.iter().filter(|fate| **fate == Fate::Stays).count();
        self.changed += u64::from(left < fates.len());
        self.without_negatives += u64::from(left == 0 && !fates.is_empty());
    }

    pub(super) fn count(&mut self, finding: &Finding) {
        self.negatives += 1;
        match finding.verdict {
            Verdict::Clean => self.clean += 1,
            Verdict::FalseNegative => self.false_negatives += 1,
            Verdict::Unknown => self.unknown += 1,
        }
        let alone = finding.reasons.len() == 1;
        for reason in &finding.reasons {
            let count = self.rules.entry((**reason).to_owned()).or_default();
            match finding.verdict {
                Verdict::FalseNegative => {
                    count.false_negatives += 1;
                    count.alone += u64::from(alone);
                }
                _ => count.unknown += 1,
            }
        }
    }

    /// Rows that were dropped, bad ones not included.
    pub fn dropped(&self) -> u64 {
        self.dropped_false_negative + self.dropped_too_many + self.dropped_unknown + self.dropped_short
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| rows | number |\n|---|--:|")?;
        for (name, number) in [
            ("read", self.rows),
            ("bad, left out", self.bad),
            ("dropped for a false negative", self.dropped_false_negative),
            ("dropped for too many false negatives", self.dropped_too_many),
            ("dropped for an unknown negative", self.dropped_unknown),
            ("dropped for too few negatives", self.dropped_short),
            ("written", self.written),
            ("written, changed", self.changed),
            ("written, without any negative left", self.without_negatives),
        ] {
            writeln!(f, "| {name} | {number} |")?;
        }
        writeln!(f, "\n| negatives | number |\n|---|--:|")?;
        for (name, number) in [
            ("read", self.negatives),
            ("clean", self.clean),
            ("false", self.false_negatives),
            ("false, dropped from a row", self.removed),
            ("false, made a positive", self.made_positive),
            ("unknown", self.unknown),
            ("unknown, dropped from a row", self.unknown_removed),
        ] {
            writeln!(f, "| {name} | {number} |")?;
        }
        if !self.rules.is_empty() {
            writeln!(f, "\n| rule | false negatives | by it alone | unknown |\n|---|--:|--:|--:|")?;
            for (name, count) in &self.rules {
                writeln!(f, "| {name} | {} | {} | {} |", count.false_negatives, count.alone, count.unknown)?;
            }
        }
        Ok(())
    }
}
