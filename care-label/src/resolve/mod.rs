//! Resolves votes: a rule joins the ballots of all judges for a pair into one label.

mod compare;
mod dawid_skene;
mod decide;
mod label;
mod rule;
mod rules;

pub use compare::{Comparison, compare};
pub use dawid_skene::{DawidSkene, JudgeModel};
pub use decide::{Resolution, resolve};
pub use label::{Disputed, Label, Outcome, Settled, for_each_label, read_labels, settle, write_labels};
pub use rule::{ResolveOptions, Rule, RuleCounts};
pub use rules::accuracies;

#[cfg(test)]
pub(crate) use label::label;
