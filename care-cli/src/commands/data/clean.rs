//! `care data clean`

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use care_core::Error;
use care_core::files::write_atomic;
use care_core::manifest::Input;
use care_data::clean::{
    Against, Agreement, CleanOptions, Inspected, Limits, Mode, Report, Scorer, Unknown, clean_rows,
};
use care_label::ballots::Ballots;
use care_label::clean::{Judged, Triage, triage};
use care_label::judge::Judges;
use care_label::pair::write_pairs;
use care_label::resolve::{ResolveOptions, Rule, resolve};
use care_label::{Journal, Prompt};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::bad_rows::{BadRows, BadRowsArgs};
use crate::commands::label::judge::{Asked, ask};
use crate::commands::label::votes::scale;
use crate::commands::manifest::write_manifest;
use crate::stderr::note;

/// The scorer whose scores most tools write into rows.
const SCORES: &str = "scores";
/// The prompt if the judges' file names none.
const PROMPT: &str = "false-negative";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// By the scores alone
    Margin,
    /// By LLM judges, asked about the negatives that the scores suspect; about all, without a scorer
    Judges,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows with negatives (.jsonl or .jsonl.gz)
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// Who decides
    #[arg(long, value_enum, default_value = "margin")]
    by: By,
    #[command(flatten)]
    scorers: ScorerArgs,
    #[command(flatten)]
    judges: JudgeArgs,
    /// What is done about a false negative: keep (only listed), drop-negative, make-positive or drop-row; RLHN's names
    /// default, hn_remove, rlhn and remove are read too
    #[arg(long, default_value = "drop-negative")]
    mode: Mode,
    /// What is done about a negative without a score or a vote, or disputed: drop-negative, keep, drop-row or error
    #[arg(long, default_value = "drop-negative")]
    unknown: Unknown,
    /// Drop rows with more false negatives
    #[arg(long, value_name = "N")]
    max_false_negatives: Option<usize>,
    /// Drop rows that are left with fewer negatives
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_negatives: usize,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// The cleaned rows (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What was found, why, and what was done about it, one line per negative (.jsonl)
    #[arg(long, value_name = "FILE")]
    dropped: Option<PathBuf>,
    /// The counts, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What scored the texts, and their rules.
#[derive(clap::Args)]
struct ScorerArgs {
    /// Scores in the rows (lists pos_NAME and neg_NAME), or in a file of as many rows (pos_scores and neg_scores); several
    /// may be given. By margin, the default is `scores`
    #[arg(long = "scorer", value_name = "NAME[=FILE]", num_args = 1..)]
    scorers: Vec<String>,
    /// Suspect negatives with a higher score; for one of several scorers, NAME:X
    #[arg(long, value_name = "[NAME:]X", num_args = 1.., allow_negative_numbers = true)]
    max_score: Vec<Setting>,
    /// Suspect negatives above the positive's score minus this
    #[arg(long, value_name = "[NAME:]X", num_args = 1.., allow_negative_numbers = true)]
    absolute_margin: Vec<Setting>,
    /// Suspect negatives above the positive's score minus this share of it; NV-Retriever's rule is 0.05
    #[arg(long, value_name = "[NAME:]X", num_args = 1.., allow_negative_numbers = true)]
    relative_margin: Vec<Setting>,
    /// Suspect no negative with a lower score
    #[arg(long, value_name = "[NAME:]X", num_args = 1.., allow_negative_numbers = true)]
    min_score: Vec<Setting>,
    /// The positive that margins count from, where there are several: lowest, mean or highest
    #[arg(long, default_value = "lowest")]
    against: Against,
    /// How many scorers must suspect a negative: any, majority, all or a number
    #[arg(long, default_value = "any")]
    agree: Agreement,
}

/// Judges of the suspected negatives.
#[derive(clap::Args)]
struct JudgeArgs {
    /// The judges, their endpoints and the budget (.toml); the prompt is false-negative, unless the file names one
    #[arg(long, value_name = "FILE")]
    judges: Option<PathBuf>,
    /// The votes, one line per call (.jsonl): what was answered is not asked again
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// How votes become a verdict: unanimous, majority (the default), mean, median, weighted, dawid-skene or
    /// dawid-skene-ordinal
    #[arg(long)]
    rule: Option<Rule>,
    /// Score from which a vote is for a false negative, instead of the prompt's
    #[arg(long, value_name = "N")]
    threshold: Option<i32>,
    /// Write the pairs that judges are asked about, e.g. for `care label batch`
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Only estimate tokens and cost of the open questions
    #[arg(long)]
    estimate: bool,
    /// Clean with the votes there are, though questions are open or failed: their negatives are unknown
    #[arg(long)]
    incomplete: bool,
}

impl JudgeArgs {
    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let options = [
            ("--judges", self.judges.is_some()),
            ("--journal", self.journal.is_some()),
            ("--rule", self.rule.is_some()),
            ("--threshold", self.threshold.is_some()),
            ("--pairs", self.pairs.is_some()),
            ("--estimate", self.estimate),
            ("--incomplete", self.incomplete),
        ];
        options.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }
}

/// A number for one scorer, or for all.
#[derive(Clone)]
struct Setting {
    scorer: Option<String>,
    value: f64,
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> care_core::Result<Self> {
        let (scorer, value) = match text.rsplit_once(':') {
            Some((scorer, value)) => (Some(scorer.to_owned()), value),
            None => (None, text),
        };
        match value.parse() {
            Ok(value) => Ok(Self { scorer, value }),
            Err(_) => Err(Error::setting("value", format!("`{text}`"), "a number, or NAME:NUMBER for one scorer")),
        }
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let options = args.options()?;
    match args.by {
        By::Margin => {
            if let Some(option) = args.judges.given() {
                bail!("{option} is for judges, who decide with --by judges");
            }
            let bad = args.bad.collect();
            args.clean(&options, &mut |_| Ok(()), bad, Vec::new(), Value::Null)
        }
        By::Judges => by_judges(&args, &options),
    }
}

impl Args {
    fn options(&self) -> Result<CleanOptions> {
        let mut options = CleanOptions::default()
            .with_agreement(self.scorers.agree)
            .with_mode(self.mode)
            .with_unknown(self.unknown)
            .with_min_negatives(self.min_negatives);
        options.max_false_negatives = self.max_false_negatives;
        options.scorers = self.scorers.open(self.by)?;
        Ok(options)
    }

    /// Cleans the rows and writes all that tells of it.
    fn clean(
        &self,
        options: &CleanOptions,
        inspect: &mut dyn FnMut(&mut Inspected<'_>) -> care_core::Result<()>,
        mut bad: BadRows,
        judged: Vec<Input>,
        settings: Value,
    ) -> Result<()> {
        let mut refuse = |error| bad.take(error);
        let report = clean_rows(&self.rows, &self.output, self.dropped.as_deref(), options, inspect, &mut refuse)?;
        bad.report(&self.output)?;
        if let Some(path) = &self.report {
            write_atomic(path, report.to_string())?;
        }
        let mut inputs = vec![Input::of("rows", &self.rows)?];
        for scorer in &options.scorers {
            if let Some(path) = &scorer.file {
                inputs.push(Input::of("scores", path)?);
            }
        }
        inputs.extend(judged);
        write_manifest("data clean", self.settings(options, settings)?, counts(&report)?, inputs, &self.output)?;
        note!("{report}");
        Ok(())
    }

    fn settings(&self, options: &CleanOptions, judges: Value) -> Result<Value> {
        let scorers: serde_json::Map<String, Value> = (options.scorers.iter())
            .map(|scorer| Ok((scorer.name.clone(), serde_json::to_value(scorer.limits)?)))
            .collect::<Result<_>>()?;
        let by = if self.by == By::Margin { "margin" } else { "judges" };
        Ok(json!({
            "by": by, "scorers": scorers, "agree": options.agreement.to_string(), "mode": options.mode,
            "unknown": options.unknown, "max_false_negatives": options.max_false_negatives,
            "min_negatives": options.min_negatives, "judges": judges,
        }))
    }
}

fn counts(report: &Report) -> Result<Value> {
    Ok(serde_json::to_value(report)?)
}

impl ScorerArgs {
    fn open(&self, by: By) -> Result<Vec<Scorer>> {
        let default = [SCORES.to_owned()];
        let scorers = match (self.scorers.is_empty(), by) {
            (true, By::Margin) => &default[..],
            _ => &self.scorers,
        };
        let names: Vec<&str> =
            scorers.iter().map(|scorer| scorer.split_once('=').map_or(scorer.as_str(), |(name, _)| name)).collect();
        let lists = [&self.max_score, &self.absolute_margin, &self.relative_margin, &self.min_score];
        for setting in lists.into_iter().flatten() {
            if setting.scorer.as_ref().map_or(names.is_empty(), |name| !names.contains(&name.as_str())) {
                let name = setting.scorer.as_deref().unwrap_or("any");
                bail!("a rule is for scorer `{name}`, but there is none; scorers: {}", names.join(", "));
            }
        }
        let of = |settings: &[Setting], name: &str| {
            let own = settings.iter().rfind(|setting| setting.scorer.as_deref() == Some(name));
            own.or_else(|| settings.iter().rfind(|setting| setting.scorer.is_none())).map(|setting| setting.value)
        };
        let scorer = |(text, name): (&String, &&str)| {
            let mut limits = Limits::default().with_against(self.against);
            limits.max_score = of(&self.max_score, name);
            limits.absolute_margin = of(&self.absolute_margin, name);
            limits.relative_margin = of(&self.relative_margin, name);
            limits.min_score = of(&self.min_score, name);
            let scorer = Scorer::new(*name, limits);
            text.split_once('=').map_or(scorer.clone(), |(_, file)| scorer.with_file(file))
        };
        Ok(scorers.iter().zip(&names).map(scorer).collect())
    }
}

fn by_judges(args: &Args, options: &CleanOptions) -> Result<()> {
    let (Some(file), Some(path)) = (&args.judges.judges, &args.judges.journal) else {
        bail!("--by judges needs --judges and --journal");
    };
    let mut bad = args.bad.collect();
    let Triage { pairs, counts, .. } = triage(&args.rows, options, &mut |error| bad.take(error))?;
    note!(
        "{} pairs to judge; of {} negatives, {} are suspected, {} have no score, {} are agreed to be negative",
        pairs.len(),
        counts.negatives,
        counts.suspected,
        counts.unknown,
        counts.agreed
    );
    if let Some(path) = &args.judges.pairs {
        write_pairs(path, &pairs)?;
    }
    let judges = Judges::open_for(file, PROMPT)?;
    let prompt = Prompt::open(&judges.prompt)?;
    let mut journal = Journal::open(path)?;
    if let Some(remark) = journal.note() {
        note!("note: {remark}");
    }
    match ask(&pairs, &judges, &prompt, &mut journal, args.judges.estimate)? {
        Asked::Estimated => return Ok(()),
        Asked::Complete => {}
        Asked::Incomplete(problem) if args.judges.incomplete => note!("warning: {problem}"),
        Asked::Incomplete(problem) => bail!("{problem}, or use --incomplete to clean with the votes there are"),
    }
    let scale = scale(&prompt, args.judges.threshold)?;
    let rule = args.judges.rule.unwrap_or(Rule::Majority);
    let labels = match pairs.is_empty() {
        true => Vec::new(),
        false => {
            let mut ballots = Ballots::builder(scale).asked(&judges, &prompt, &pairs);
            ballots.read(path)?;
            resolve(&ballots.finish()?, rule, &ResolveOptions::default())?.labels
        }
    };
    let judged = Judged::new(&labels)?;
    let settings = json!({
        "prompt": prompt.hash(), "rule": rule.name(), "threshold": scale.threshold, "asked": pairs.len(),
        "names": judges.judges.iter().map(|judge| &judge.name).collect::<Vec<_>>(),
    });
    let inputs = vec![Input::of("judges", file)?, Input::of("votes", path)?];
    let mut inspect = |inspected: &mut Inspected<'_>| {
        judged.inspect(inspected);
        Ok(())
    };
    // The bad rows of the triage are met, and counted, again.
    args.clean(options, &mut inspect, args.bad.collect(), inputs, settings)
}
