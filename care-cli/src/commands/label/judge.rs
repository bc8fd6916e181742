//! `care label judge`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use care_label::estimate::{Estimate, estimate};
use care_label::judge::Judges;
use care_label::pair::read_pairs;
use care_label::run::{Options, Summary, judge_pairs};
use care_label::{Journal, Pair, Prompt};

use crate::progress::Progress;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs from `care label collect`
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// The judges, their endpoints and the budget (.toml)
    #[arg(long, value_name = "FILE")]
    judges: PathBuf,
    /// The votes, one line per call (.jsonl): questions that were answered are not asked again
    #[arg(long, value_name = "FILE")]
    votes: PathBuf,
    /// Only estimate tokens and cost of the open questions
    #[arg(long)]
    estimate: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let pairs = read_pairs(&args.pairs)?;
    let judges = Judges::open(&args.judges)?;
    let prompt = Prompt::open(&judges.prompt)?;
    let mut journal = Journal::open(&args.votes)?;
    if let Some(remark) = journal.note() {
        note!("note: {remark}");
    }
    match ask(&pairs, &judges, &prompt, &mut journal, args.estimate)? {
        Asked::Complete | Asked::Estimated => Ok(()),
        Asked::Incomplete(problem) => bail!("{problem}"),
    }
}

/// What came of questions.
pub(in crate::commands) enum Asked {
    /// All are settled.
    Complete,
    /// None was asked.
    Estimated,
    /// Some are open or failed, and why.
    Incomplete(String),
}

/// Shows what the open questions need and, unless only that is wanted, asks them and reports.
pub(in crate::commands) fn ask(
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &mut Journal,
    only_estimate: bool,
) -> Result<Asked> {
    let needed = estimate(pairs, judges, prompt, journal)?;
    note!("prompt `{}`, version {}", prompt.name, &prompt.hash()[..12]);
    show_estimate(&needed, judges);
    if only_estimate {
        return Ok(Asked::Estimated);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // The first time, calls in flight are finished and recorded; the second time, the program exits immediately.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note!("stopping after the calls in flight; press Ctrl-C again to stop immediately");
    })
    .context("cannot install a handler for Ctrl-C")?;
    let summary = judge(pairs, judges, prompt, journal, &Options::default().with_stop(stop))?;
    report(&summary, &judges.budget.currency);
    let mut problems: Vec<String> = summary.stopped.iter().map(ToString::to_string).collect();
    for judge in &summary.judges {
        problems.extend(judge.stopped.iter().map(|problem| format!("judge `{}` stopped: {problem}", judge.judge)));
    }
    Ok(match (summary.is_complete(), problems.is_empty()) {
        (true, _) => Asked::Complete,
        (false, false) => Asked::Incomplete(format!("{}; run the same command again to go on", problems.join("; "))),
        (false, true) => Asked::Incomplete("some calls failed; run the same command again to repeat them".into()),
    })
}

/// Judges with a bar, or a line from time to time.
pub(super) fn judge(
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &mut Journal,
    options: &Options,
) -> Result<Summary> {
    let all = pairs.len() * judges.judges.len() * judges.samples as usize;
    let progress = Progress::start("judging", Some(all), "questions");
    let summary = judge_pairs(pairs, judges, prompt, journal, options, &mut |now| {
        let open: u64 = now.judges.iter().map(|judge| judge.open()).sum();
        progress.set(all - open as usize);
        progress.set_message(format!("{:.1} calls/s", now.calls_per_second()));
    })?;
    progress.finish();
    Ok(summary)
}

fn show_estimate(needed: &Estimate, judges: &Judges) {
    note!("{needed}");
    for judge in &needed.judges {
        let cost =
            judge.cost.map_or("price unknown".to_owned(), |cost| format!("{cost:.2} {}", judges.budget.currency));
        let (calls, input, output) = (judge.calls, judge.input_tokens, judge.output_tokens);
        note!("  {}: {calls} calls, {input} tokens in, {output} out, {cost}", judge.judge);
    }
}

/// What came of the calls, judge by judge.
pub(super) fn report(summary: &Summary, currency: &str) {
    for judge in &summary.judges {
        note!(
            "{}: {} of {} scored, {} unparsable, {} refused, {} failed, {} open; {} calls, {} retries, {} + {} tokens, {:.4} {currency}",
            judge.judge,
            judge.scored,
            judge.questions,
            judge.unparsable,
            judge.refused,
            judge.failed,
            judge.open(),
            judge.calls,
            judge.retries,
            judge.input_tokens,
            judge.output_tokens,
            judge.cost,
        );
    }
    note!("{} calls in {:.1} s, {:.1} per second", summary.calls(), summary.seconds, summary.calls_per_second());
}
