//! `care train`

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use care_train::{Outcome, StepReport, TrainConfig};
use indicatif::ProgressBar;

use crate::progress::bar;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run: output, model and stages
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Go on at the newest checkpoint
    #[arg(long)]
    resume: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let config = TrainConfig::from_file(&args.config)?.check()?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)).context("cannot watch for Ctrl-C")?;

    let log_path = config.output.join("log.jsonl");
    let mut log = None;
    let mut failure = None;
    let mut progress: Option<(usize, ProgressBar)> = None;
    let outcome = care_train::run(&config, args.resume, &mut |report| {
        show(&mut progress, report);
        if log.is_none() {
            // Opened only now: a run that is refused leaves nothing behind.
            log = std::fs::create_dir_all(&config.output)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&log_path))
                .map_err(|e| failure = Some(e))
                .ok();
        }
        let written = log.as_mut().is_some_and(|log| {
            serde_json::to_string(report)
                .map_err(Into::into)
                .and_then(|line| writeln!(log, "{line}"))
                .map_err(|e| failure = Some(e))
                .is_ok()
        });
        if written && !stop.load(Ordering::Relaxed) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if let Some((_, bar)) = progress {
        bar.finish();
    }
    match (outcome, failure) {
        (Outcome::Finished { folder, .. }, _) => eprintln!("the trained pair is in {}", folder.display()),
        (Outcome::Interrupted { checkpoint }, failure) => {
            eprintln!("stopped at {}", checkpoint.display());
            eprintln!("go on with: care train --config {} --resume", args.config.display());
            if let Some(error) = failure {
                return Err(error).with_context(|| format!("cannot write {}", log_path.display()));
            }
        }
        (_, failure) => anyhow::bail!("the run ended in a way this version does not know: {failure:?}"),
    }
    Ok(())
}

/// Moves the bar of the stage, or begins the next one.
fn show(progress: &mut Option<(usize, ProgressBar)>, report: &StepReport) {
    if progress.as_ref().is_none_or(|(stage, _)| *stage != report.stage) {
        if let Some((_, finished)) = progress.take() {
            finished.finish();
        }
        let name = format!("stage {} {}", report.stage + 1, report.kind.as_str());
        *progress = Some((report.stage, bar(&name, report.total_steps)));
    }
    if let Some((_, bar)) = progress {
        bar.set_position(report.step as u64);
        bar.set_message(format!(
            "loss {:.4} lr {:.1e} {:.0} tokens/s",
            report.loss, report.learning_rate, report.tokens_per_second
        ));
    }
}
