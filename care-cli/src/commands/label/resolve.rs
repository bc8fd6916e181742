//! `care label resolve`

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use care_core::files::write_atomic;
use care_core::manifest::Input;
use care_label::ballots::{Ballots, Judging};
use care_label::pair::{read_pairs, write_pairs};
use care_label::resolve::{Disputed, compare, resolve, settle, write_labels};
use care_label::{Prompt, Scale};
use serde_json::json;

use super::votes::{CountArgs, RuleArgs, scale};
use crate::commands::manifest::write_manifest;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs from `care label collect`
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Votes from `care label judge`
    #[arg(long, value_name = "FILE")]
    votes: PathBuf,
    /// The prompt that the judges answered, for its scale: relevance, sts, false-negative or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "relevance")]
    prompt: String,
    /// Score from which a vote is positive, instead of the prompt's
    #[arg(long, value_name = "N")]
    threshold: Option<i32>,
    #[command(flatten)]
    rule: RuleArgs,
    /// What becomes of pairs without a decision: drop (they leave the benchmark), unjudged, or experts (listed)
    #[arg(long, default_value = "unjudged")]
    disputed: Disputed,
    #[command(flatten)]
    count: CountArgs,
    /// Decisions of experts from `care label experts`, which override judges
    #[arg(long, value_name = "FILE")]
    experts: Option<PathBuf>,
    /// What each rule makes of the votes, and the judges behind them, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The labels (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let pairs = read_pairs(&args.pairs)?;
    let prompt = Prompt::open(&args.prompt)?;
    let scale = scale(&prompt, args.threshold)?;
    let ballots = args.count.ballots(&args.votes, &prompt, scale, &pairs)?;
    let options = args.rule.options();
    let resolution = resolve(&ballots, args.rule.rule, &options)?;
    for warning in resolution.model.iter().flat_map(|model| &model.warnings) {
        note!("warning: {warning}");
    }
    let decided = match &args.experts {
        Some(path) => super::experts::read_decisions(path, &pairs, scale)?,
        None => vec![],
    };
    let decided: HashMap<(&str, &str), i32> =
        decided.iter().map(|(query, document, grade)| ((query.as_str(), document.as_str()), *grade)).collect();
    let counts = resolution.counts;
    let settled = settle(resolution.labels, &decided, args.disputed);
    write_labels(&args.output, &settled.labels)?;
    if args.disputed == Disputed::Experts {
        let wanted: std::collections::HashSet<_> =
            settled.for_experts.iter().map(|(q, d)| (q.as_str(), d.as_str())).collect();
        let path = args.output.with_extension("disputed.jsonl");
        write_pairs(&path, pairs.iter().filter(|pair| wanted.contains(&pair.id())))?;
        note!("{} pairs for experts in {}", wanted.len(), path.display());
    }
    if let Some(path) = &args.report {
        let comparison = compare(&ballots, &options)?;
        write_atomic(path, report(&args, &prompt, scale, &ballots, &comparison.to_string()))?;
    }
    let mut inputs = vec![Input::of("pairs", &args.pairs)?, Input::of("votes", &args.votes)?];
    inputs.extend(args.experts.iter().map(|path| Input::of("experts", path)).collect::<care_core::Result<Vec<_>>>()?);
    inputs.extend(args.count.inputs()?);
    let options = json!({
        "rule": args.rule.settings(), "votes": args.count.settings(), "threshold": scale.threshold, "prompt": prompt.hash(),
        "disputed": args.disputed.name(),
    });
    let numbers = json!({
        "pairs": ballots.len(), "positive": counts.positive, "negative": counts.negative, "disputed": counts.disputed,
        "incomplete": counts.incomplete, "dropped": settled.dropped, "decided by experts": decided.len(),
    });
    write_manifest("label resolve", options, numbers, inputs, &args.output)?;
    note!(
        "{}: {} positive, {} negative, {} disputed, {} incomplete",
        args.rule.rule,
        counts.positive,
        counts.negative,
        counts.disputed,
        counts.incomplete
    );
    Ok(())
}

fn report(args: &Args, prompt: &Prompt, scale: Scale, ballots: &Ballots, rules: &str) -> String {
    let mut text = format!(
        "# Judges and rule\n\nPrompt `{}`, version `{}`. A vote is positive from {} on ({} to {}). Rule: {}; pairs without a \
         decision: {}.\n\n| judge | model | scored | unparsable | refused | failed |\n|---|---|--:|--:|--:|--:|\n",
        prompt.name,
        prompt.hash(),
        scale.threshold,
        scale.min,
        scale.max,
        args.rule.rule,
        args.disputed,
    );
    for Judging { judge, model, states, .. } in ballots.judges() {
        let (scored, unparsable, refused, failed) = (states.scored, states.unparsable, states.refused, states.failed);
        text += &format!("| {judge} | {model} | {scored} | {unparsable} | {refused} | {failed} |\n");
    }
    text + "\nThe same votes under every rule:\n\n" + rules
}
