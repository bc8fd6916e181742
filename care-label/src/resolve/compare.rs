//! All rules side by side on the same votes.

use std::fmt;

use care_core::Result;
use serde::Serialize;

use super::decide::resolve;
use super::label::{Label, Outcome};
use super::rule::{ResolveOptions, Rule, RuleCounts};
use crate::ballots::Ballots;

/// What each rule makes of the same votes. Displays as Markdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The counts of each rule.
    pub rules: Vec<RuleCounts>,
    /// The share of pairs with the same outcome under two rules, in the order of `rules`.
    pub agreement: Vec<Vec<f64>>,
    /// Remarks of the rules' models.
    pub warnings: Vec<String>,
}

/// Labels the pairs by every rule.
///
/// # Errors
/// As [`resolve`].
pub fn compare(ballots: &Ballots, options: &ResolveOptions) -> Result<Comparison> {
    let mut comparison = Comparison { rules: vec![], agreement: vec![], warnings: vec![] };
    let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
    for rule in Rule::ALL {
        let resolution = resolve(ballots, rule, options)?;
        comparison.rules.push(resolution.counts);
        for warning in resolution.model.map(|model| model.warnings).unwrap_or_default() {
            if !comparison.warnings.contains(&warning) {
                comparison.warnings.push(warning);
            }
        }
        outcomes.push(resolution.labels.iter().map(|label: &Label| label.outcome).collect());
    }
    let alike = |a: &[Outcome], b: &[Outcome]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    comparison.agreement = outcomes.iter().map(|a| outcomes.iter().map(|b| alike(a, b)).collect()).collect();
    Ok(comparison)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| rule | positive | negative | disputed | incomplete |\n|---|---|---|---|---|")?;
        for RuleCounts { rule, positive, negative, disputed, incomplete } in &self.rules {
            writeln!(f, "| {rule} | {positive} | {negative} | {disputed} | {incomplete} |")?;
        }
        write!(f, "\n| same outcome, % |")?;
        self.rules.iter().try_for_each(|counts| write!(f, " {} |", counts.rule))?;
        writeln!(f, "\n|---|{}", "---|".repeat(self.rules.len()))?;
        for (counts, shares) in self.rules.iter().zip(&self.agreement) {
            write!(f, "| {} |", counts.rule)?;
            shares.iter().try_for_each(|share| write!(f, " {:.1} |", 100.0 * share))?;
            writeln!(f)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "\n- {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ballots::table;
    use crate::scale::Scale;

    #[test]
    fn rules_are_compared_pair_by_pair() {
        let rows: [&[Option<i32>]; 4] = [
            &[Some(5), Some(5), Some(1)],
            &[Some(5), Some(5), Some(5)],
            &[Some(1), Some(1), Some(1)],
            &[Some(5), None, None],
        ];
        let ballots = table(Scale::new(1, 5, 4).expect("five"), &rows);
        let comparison = compare(&ballots, &ResolveOptions::default()).expect("compared");
        let text = comparison.to_string();
        assert!(text.starts_with(
            "| rule | positive | negative | disputed | incomplete |\n|---|---|---|---|---|\n| unanimous | 1 | 1 | 1 | 1 |\n\
             | majority | 2 | 1 | 0 | 1 |\n| mean | 1 | 2 | 0 | 1 |\n"
        ));
        assert_eq!((comparison.agreement[0][1], comparison.agreement[1][1]), (0.75, 1.0));
        assert!(text.contains("| unanimous | 100.0 | 75.0 | 75.0 | 75.0 |"), "{text}");
    }
}
