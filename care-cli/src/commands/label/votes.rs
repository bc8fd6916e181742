//! Which votes count, and the rule that joins them: options that several stages share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::manifest::Input;
use care_label::ballots::{Ballots, Filter};
use care_label::judge::Judges;
use care_label::resolve::{ResolveOptions, Rule};
use care_label::{Pair, Prompt, Scale};
use serde_json::{Value, json};

use crate::stderr::note;

/// The votes that count.
#[derive(clap::Args)]
pub(super) struct CountArgs {
    /// Count only answers to what these judges (.toml) would be asked now: not those about texts that have changed since, by
    /// other models or with other parameters. An audit also takes the families of the judges from it
    #[arg(long, value_name = "FILE")]
    pub(super) judges: Option<PathBuf>,
    /// Leave judges out
    #[arg(long, value_name = "NAME", num_args = 1..)]
    without: Vec<String>,
    /// Count only votes for this version of the prompt, by its hash
    #[arg(long, value_name = "SHA256")]
    version: Option<String>,
}

impl CountArgs {
    /// Whether an option is set.
    pub(super) fn is_set(&self) -> bool {
        self.judges.is_some() || !self.without.is_empty() || self.version.is_some()
    }

    /// The votes of a journal on these pairs.
    pub(super) fn ballots(&self, votes: &Path, prompt: &Prompt, scale: Scale, pairs: &[Pair]) -> Result<Ballots> {
        let mut filter = Filter::default();
        filter.prompt = self.version.clone();
        filter.without = self.without.clone();
        let builder = Ballots::builder(scale).filter(filter);
        let mut builder = match &self.judges {
            Some(file) => {
                let judges = Judges::open(file)?;
                let asked = Prompt::open(&judges.prompt)?;
                if asked.hash() != prompt.hash() {
                    let (file, asks, given) = (file.display(), &judges.prompt, &prompt.name);
                    bail!("{file}: the judges are asked by prompt `{asks}`, and --prompt is `{given}`");
                }
                builder.asked(&judges, prompt, pairs)
            }
            None => builder.pairs(pairs),
        };
        builder.read(votes)?;
        let ballots = builder.finish()?;
        if ballots.foreign() > 0 {
            note!("note: {} votes answer other questions and do not count", ballots.foreign());
        }
        Ok(ballots)
    }

    /// The options, for a manifest.
    pub(super) fn settings(&self) -> Value {
        json!({ "without": self.without, "version": self.version })
    }

    /// The files that were read, for a manifest.
    pub(super) fn inputs(&self) -> Result<Vec<Input>> {
        Ok(self.judges.iter().map(|path| Input::of("judges", path)).collect::<care_core::Result<_>>()?)
    }
}

/// How votes become a label.
#[derive(clap::Args)]
pub(super) struct RuleArgs {
    /// How votes become a label: unanimous, majority, mean, median, weighted, dawid-skene or dawid-skene-ordinal
    #[arg(long, default_value = "unanimous")]
    pub(super) rule: Rule,
    /// Least number of judges that must have voted; by default all for `unanimous`, else more than half
    #[arg(long, value_name = "N")]
    min_votes: Option<usize>,
    /// Least probability of a decision, for `weighted` and `dawid-skene`, above 0.5
    #[arg(long, value_name = "P")]
    certainty: Option<f64>,
}

impl RuleArgs {
    pub(super) fn options(&self) -> ResolveOptions {
        let mut options = ResolveOptions::default();
        options.min_votes = self.min_votes;
        match self.certainty {
            Some(certainty) => options.with_certainty(certainty),
            None => options,
        }
    }

    /// The options, for a manifest.
    pub(super) fn settings(&self) -> Value {
        json!({ "rule": self.rule.name(), "min_votes": self.min_votes, "certainty": self.certainty })
    }
}

/// The scale of a prompt, with another threshold if one is given.
pub(in crate::commands) fn scale(prompt: &Prompt, threshold: Option<i32>) -> Result<Scale> {
    Ok(Scale::new(prompt.scale.min, prompt.scale.max, threshold.unwrap_or(prompt.scale.threshold))?)
}
