//! `care train`

mod processes;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use care_encoders::Device;
use care_train::{Event, Outcome, Run, TrainConfig};
use indicatif::{FormattedDuration, ProgressBar};

use crate::interrupt::stop_on_ctrl_c;
use crate::model::{Located, is_name, locate};
use crate::paths::shown;
use crate::progress::{Lines, bar};
use crate::stderr::note;

use self::processes::ProcessArgs;

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Configuration of the run: output, model and stages
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Value for a key of the configuration, as if it were written there: a path of names, positions in lists counted from
    /// 0, and a TOML value, e.g. stage.0.learning_rate=1e-4 or model.query.encoder=intfloat/multilingual-e5-small; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Resume from the newest checkpoint
    #[arg(long)]
    resume: bool,
    /// Do not train, but write the pair that the newest checkpoint holds
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    export: Option<PathBuf>,
    /// Checkpoint to export, e.g. one of the best weights; by default the newest
    #[arg(long, value_name = "DIR", requires = "export")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    processes: ProcessArgs,
}

impl Args {
    /// The command line of the other processes on this machine.
    fn of_others(&self) -> Vec<String> {
        let mut others = self.of_run();
        others.extend(self.resume.then(|| "--resume".to_owned()));
        others
    }

    /// The command line that goes on where this one stopped, for a shell.
    fn to_resume(&self) -> String {
        let words = self.of_run().into_iter().chain(self.processes.words()).chain(["--resume".to_owned()]);
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    }

    /// The command and the arguments that determine the run.
    fn of_run(&self) -> Vec<String> {
        let mut words = vec!["train".to_owned(), "--config".to_owned(), self.config.display().to_string()];
        words.extend(self.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        words
    }
}

const AFTER_HELP: &str = "\
A configuration; paths in it are relative to the file:

  output = \"runs/first\"

  [model]
  pair = \"DIR, ORG/NAME or mini\"    # or tables model.query and model.document, each with its `encoder`

  [[stage]]
  kind = \"joint-finetuning\"
  data = [\"train.jsonl\"]
  group_size = 4                     # 1 positive and 3 hard negatives

All fields, and the forms of training rows, are in docs/formats.md.";

pub(crate) fn run(args: Args) -> Result<()> {
    let mut config = TrainConfig::from_file_with(&args.config, &args.set)?;
    config.locate_models(|name| {
        if !is_name(name) {
            return Ok(None);
        }
        let Located { folder, source } = locate(name)?;
        let commit = source["commit"].as_str().map_or_else(String::new, |commit| format!("@{commit}"));
        let (name, _) = name.split_once('@').unwrap_or((name, ""));
        Ok::<_, anyhow::Error>(Some((folder, format!("{name}{commit}"))))
    })?;
    let config = config.check()?;
    if let Some(folder) = &args.export {
        Run::new(&config).export(args.checkpoint.as_deref(), folder)?;
        note!("the pair is in {}", folder.display());
        return Ok(());
    }
    if args.processes.count() > 1 && config.device != Device::Cpu {
        bail!("--processes share the cores of a CPU; start one process per GPU with --rank and --set device=cuda:N");
    }
    let processes = args.processes.start(&args.of_others())?;
    // Of several processes, the first decides.
    let stop = stop_on_ctrl_c((processes.group.rank() == 0).then_some("this step"))?;
    let mut progress = Progress::default();
    let run = Run::new(&config).resume(args.resume).with_collective(Arc::clone(&processes.group));
    let outcome = run.start(&mut |event| {
        progress.show(event);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(processes);
    let outcome = outcome?;
    match outcome {
        // A full bar would look like the end.
        Outcome::Interrupted { .. } => progress.clear(),
        _ => progress.finish(),
    }
    match outcome {
        Outcome::Finished { folder, .. } => {
            note!("the trained pair is in {}, its curves are in {}", shown(&folder), shown(&config.output));
        }
        Outcome::AlreadyFinished { folder, .. } => {
            note!("the run is finished: its pair is in {}", shown(&folder));
        }
        Outcome::Interrupted { checkpoint } => {
            let saved = checkpoint.map_or_else(
                || "no step was made yet".to_owned(),
                |checkpoint| format!("the newest checkpoint is {}", shown(&checkpoint)),
            );
            bail!("stopped; {saved}; resume with: care {}", args.to_resume())
        }
        Outcome::Followed => {}
        other => bail!("unexpected outcome of the run: {other:?}"),
    }
    Ok(())
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:@%+,".contains(c);
    match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

/// The end of the name of a bar over the teacher's vectors.
const TEACHER: &str = "teacher";

/// One bar per part of a stage, and one line per evaluation.
#[derive(Default)]
struct Progress {
    shown: Option<(String, ProgressBar)>,
    lines: Lines,
    pace: Pace,
}

/// How far and how fast a stage has come since it began or was resumed.
struct Pace {
    begun: Instant,
    steps: u32,
    /// Since the last line: steps, and the sums of their losses, tokens and seconds.
    recent: (usize, f64, usize, f64),
}

impl Default for Pace {
    fn default() -> Self {
        Self { begun: Instant::now(), steps: 0, recent: (0, 0.0, 0, 0.0) }
    }
}

impl Pace {
    /// A stage whose first step has just ended and took this many seconds.
    fn begin(seconds: f64) -> Self {
        let now = Instant::now();
        Self { begun: now.checked_sub(Duration::from_secs_f64(seconds)).unwrap_or(now), ..Self::default() }
    }

    fn add(&mut self, loss: f64, tokens: usize, seconds: f64) {
        self.steps += 1;
        let (steps, losses, all_tokens, all_seconds) = self.recent;
        self.recent = (steps + 1, losses + loss, all_tokens + tokens, all_seconds + seconds);
    }

    /// The mean loss and the tokens per second of the steps since the last call.
    fn since_last(&mut self) -> (f64, f64) {
        let (steps, losses, tokens, seconds) = std::mem::take(&mut self.recent);
        (losses / steps.max(1) as f64, tokens as f64 / seconds)
    }

    /// The time that this many further steps take, evaluations and checkpoints included; `None` if there are none.
    fn left(&self, steps: usize) -> Option<FormattedDuration> {
        let each = self.begun.elapsed().as_secs_f64() / f64::from(self.steps.max(1));
        (steps > 0).then(|| FormattedDuration(Duration::from_secs_f64((each * steps as f64).round())))
    }
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
                let first = self.bar(&name, total, step, &format!("loss {loss:.4} lr {rate:.1e} {speed:.0} tokens/s"));
                if first {
                    self.pace = Pace::begin(report.seconds);
                }
                self.pace.add(loss, report.tokens, report.seconds);
                if self.lines.due(first, step == total) {
                    let (mean, speed) = self.pace.since_last();
                    let norm = report.gradient_norm;
                    let left = self.pace.left(total - step).map_or_else(String::new, |left| format!(" {left} left"));
                    self.print_line(&format!(
                        "{name}: step {step}/{total} loss {mean:.4} lr {rate:.1e} grad_norm {norm:.2} {speed:.0} tokens/s{left}"
                    ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_the_steps_since_the_last_and_the_time_left_about_all() {
        let mut pace = Pace::begin(20.0);
        pace.add(3.0, 100, 20.0);
        assert_eq!(pace.since_last(), (3.0, 5.0));
        assert_eq!(pace.left(3).map(|left| left.to_string()).as_deref(), Some("00:01:00"));
        pace.add(2.0, 100, 1.0);
        pace.add(1.0, 300, 3.0);
        assert_eq!(pace.since_last(), (1.5, 100.0));
        assert_eq!(pace.left(3).map(|left| left.to_string()).as_deref(), Some("00:00:20"), "20 s for three steps");
        assert!(pace.left(0).is_none());
    }

    #[test]
    fn arguments_are_quoted_for_a_shell_where_they_must_be() {
        assert_eq!(quoted("stage.0.learning_rate=1e-4"), "stage.0.learning_rate=1e-4");
        assert_eq!(quoted("stage.0.dims=[1, 2]"), "'stage.0.dims=[1, 2]'");
        assert_eq!(quoted("output=it's"), r"'output=it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_command_to_resume_has_every_option_of_the_run() {
        #[derive(clap::Parser)]
        struct Train {
            #[command(flatten)]
            args: Args,
        }
        let resumed = |options: &[&str]| {
            let words = ["train", "--config", "my runs/a.toml"].iter().chain(options);
            <Train as clap::Parser>::try_parse_from(words).expect("options").args.to_resume()
        };
        assert_eq!(resumed(&[]), "train --config 'my runs/a.toml' --resume");
        assert_eq!(
            resumed(&["--set", "seed=7", "--processes", "2"]),
            "train --config 'my runs/a.toml' --set seed=7 --processes 2 --resume"
        );
        assert_eq!(
            resumed(&["--resume", "--rank", "0", "--world", "2", "--address", "10.0.0.1:29500"]),
            "train --config 'my runs/a.toml' --rank 0 --world 2 --address 10.0.0.1:29500 --resume"
        );
    }
}
