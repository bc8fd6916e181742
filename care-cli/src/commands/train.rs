//! `care train`

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use care_train::{Event, Outcome, Run, TrainConfig};
use indicatif::ProgressBar;

use crate::model::{Located, locate};
use crate::progress::{Lines, bar};
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration of the run: output, model and stages
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Resume from the newest checkpoint
    #[arg(long)]
    resume: bool,
    /// Do not train, but write the pair that the newest checkpoint holds
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    export: Option<PathBuf>,
    /// Checkpoint to export, e.g. one of the best weights; by default the newest
    #[arg(long, value_name = "DIR", requires = "export")]
    checkpoint: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = TrainConfig::from_file(&args.config)?;
    config.locate_models(|name| {
        let Located { folder, source } = locate(name)?;
        let commit = source["commit"].as_str().map_or_else(String::new, |commit| format!("@{commit}"));
        let (name, _) = name.split_once('@').unwrap_or((name, ""));
        Ok::<_, anyhow::Error>((folder, format!("{name}{commit}")))
    })?;
    let config = config.check()?;
    if let Some(folder) = args.export {
        Run::new(&config).export(args.checkpoint.as_deref(), &folder)?;
        note!("the pair is in {}", folder.display());
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // The first time, the current step is finished and saved; the second time, the program exits immediately.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note!("stopping after this step; press Ctrl-C again to stop immediately");
    })
    .context("cannot install a handler for Ctrl-C")?;

    let mut progress = Progress::default();
    let outcome = Run::new(&config).resume(args.resume).start(&mut |event| {
        progress.show(event);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match outcome {
        // A full bar would look like the end.
        Outcome::Interrupted { .. } => progress.clear(),
        _ => progress.finish(),
    }
    match outcome {
        Outcome::Finished { folder, .. } => {
            note!("the trained pair is in {}, its curves are in {}", folder.display(), config.output.display());
        }
        Outcome::AlreadyFinished { folder, .. } => {
            note!("the run is finished: its pair is in {}", folder.display());
        }
        Outcome::Interrupted { checkpoint } => {
            let saved = checkpoint.map_or_else(
                || "no step was made yet".to_owned(),
                |checkpoint| format!("the newest checkpoint is {}", checkpoint.display()),
            );
            bail!("stopped; {saved}; resume with: care train --config {} --resume", args.config.display())
        }
        other => bail!("unexpected outcome of the run: {other:?}"),
    }
    Ok(())
}

/// The end of the name of a bar over the teacher's vectors.
const TEACHER: &str = "teacher";

/// One bar per part of a stage, and one line per evaluation.
#[derive(Default)]
struct Progress {
    shown: Option<(String, ProgressBar)>,
    lines: Lines,
}

impl Progress {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Teacher(report) => {
                let (steps, total, done) = (format!("stage {} ", report.stage), report.total, report.done);
                match &self.shown {
                    // Between steps, the bar of the steps stays.
                    Some((name, bar)) if name.starts_with(&steps) && !name.ends_with(TEACHER) => {
                        bar.set_message(format!("teacher's vectors {done}/{total}"));
                    }
                    _ => {
                        let name = format!("{steps}{TEACHER}");
                        let first = self.bar(&name, total, done, "vectors");
                        if self.lines.due(first, done == total) {
                            self.print_line(&format!("{name}: {done}/{total} vectors"));
                        }
                    }
                }
            }
            Event::Step(report) => {
                let name = format!("stage {} {}", report.stage, report.kind.as_str());
                let (loss, rate, speed) = (report.loss, report.learning_rate, report.tokens_per_second());
                let (step, total) = (report.step, report.total_steps);
                let message = format!("loss {loss:.4} lr {rate:.1e} {speed:.0} tokens/s");
                let first = self.bar(&name, total, step, &message);
                if self.lines.due(first, step == total) {
                    self.print_line(&format!("{name}: step {step}/{total} {message}"));
                }
            }
            Event::Evaluation(report) => {
                let score = report.score.map_or_else(|| "undefined".to_owned(), |score| format!("{score:.4}"));
                let best = if report.best { ", the best so far" } else { "" };
                let (stage, step, label) = (report.stage, report.step, report.label());
                self.print_line(&format!("stage {stage}, after step {step}: {label} {score}{best}"));
                for reason in report.undefined.values() {
                    self.print_line(&format!("warning: {reason}"));
                }
            }
            Event::Warning(problem) => self.print_line(&format!("warning: {problem}")),
            _ => {}
        }
    }

    /// Updates the bar of this name; a new bar finishes the previous one. Returns whether it is new.
    fn bar(&mut self, name: &str, total: usize, done: usize, message: &str) -> bool {
        let is_new = self.shown.as_ref().is_none_or(|(shown, _)| shown != name);
        if is_new {
            self.finish();
        }
        let begin = || {
            let bar = bar(name, total);
            bar.set_position(done as u64);
            // Steps from before a resume would distort the speed.
            bar.reset_eta();
            (name.to_owned(), bar)
        };
        let bar = &self.shown.get_or_insert_with(begin).1;
        bar.set_position(done as u64);
        bar.set_message(message.to_owned());
        is_new
    }

    /// Prints a line above the bar.
    fn print_line(&self, line: &str) {
        match &self.shown {
            Some((_, bar)) => bar.suspend(|| note!("{line}")),
            None => note!("{line}"),
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }

    fn finish(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish();
        }
    }
}
