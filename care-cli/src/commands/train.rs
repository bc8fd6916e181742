//! `care train`

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use care_train::{Outcome, StepReport, TrainConfig};
use indicatif::ProgressBar;
use serde::Deserialize;

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
    ctrlc::set_handler(move || {
        // The first time the step is finished and saved; the second time there is no waiting.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    })
    .context("cannot watch for Ctrl-C")?;

    let mut log = None;
    let mut failure = None;
    let mut progress: Option<(usize, ProgressBar)> = None;
    let outcome = care_train::run(&config, args.resume, &mut |report| {
        show(&mut progress, report);
        // Opened only now: a run that is refused leaves nothing behind.
        let written = match &mut log {
            Some(log) => write(log, report),
            none => Log::open(&config.output, report, args.resume).and_then(|log| write(none.insert(log), report)),
        };
        match written {
            Ok(()) if !stop.load(Ordering::Relaxed) => return ControlFlow::Continue(()),
            Ok(()) => {}
            Err(error) => failure = Some(error),
        }
        ControlFlow::Break(())
    })?;
    if let Some((_, bar)) = progress {
        bar.finish();
    }
    if let Some(error) = failure {
        return Err(error);
    }
    match outcome {
        Outcome::Finished { folder, .. } => eprintln!("the trained pair is in {}", folder.display()),
        Outcome::Interrupted { checkpoint } => bail!(
            "stopped; {} is saved; go on with: care train --config {} --resume",
            checkpoint.display(),
            args.config.display()
        ),
        other => bail!("the run ended in a way this program does not know: {other:?}"),
    }
    Ok(())
}

/// One JSON line a step.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Begins `log.jsonl` anew, or when resuming keeps its lines from before `first`.
    fn open(folder: &Path, first: &StepReport, resume: bool) -> Result<Self> {
        #[derive(Deserialize)]
        struct Place {
            stage: usize,
            step: usize,
        }
        let path = folder.join("log.jsonl");
        let failed = || format!("cannot write {}", path.display());
        fs::create_dir_all(folder).with_context(failed)?;
        let mut kept = String::new();
        if resume && path.exists() {
            for line in fs::read_to_string(&path).with_context(failed)?.lines() {
                let place = serde_json::from_str(line).map(|Place { stage, step }| (stage, step));
                if place.is_ok_and(|place| place < (first.stage, first.step)) {
                    kept += line;
                    kept.push('\n');
                }
            }
        }
        fs::write(&path, kept).with_context(failed)?;
        let file = OpenOptions::new().append(true).open(&path).with_context(failed)?;
        Ok(Self { path, file })
    }
}

fn write(log: &mut Log, report: &StepReport) -> Result<()> {
    let line = serde_json::to_string(report)?;
    writeln!(log.file, "{line}").with_context(|| format!("cannot write {}", log.path.display()))
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
