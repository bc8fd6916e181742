//! Progress on stderr: bars on a terminal, else a line from time to time.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use care_core::hub::Download;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use crate::stderr::note;

/// Time between two lines.
const LINES_EVERY: Duration = Duration::from_secs(30);
/// Time between two drawings of a bar of which nothing changed but the time.
const DRAWN_EVERY: Duration = Duration::from_secs(1);

/// A bar with a name, a count, the elapsed and the remaining time.
pub(crate) fn bar(name: &str, total: usize) -> ProgressBar {
    counted(name, Some(total))
}

/// The progress of a part of the work that counts what it has done.
///
/// On a terminal it is a bar. Elsewhere, e.g. in a log file, it is a line at once and one from time to time, the last of
/// them at the end, however seldom [`Progress::set`] is called.
pub(crate) struct Progress {
    bar: ProgressBar,
    _lines: Option<Ticker>,
}

impl Progress {
    /// Starts to show that none of `total` has been done, or none of an unknown number.
    pub(crate) fn start(name: &str, total: Option<usize>, unit: &'static str) -> Self {
        let bar = counted(name, total);
        let lines = || Self::lines(&bar, unit, LINES_EVERY, |line| note!("{line}"));
        let lines = (!std::io::stderr().is_terminal()).then(lines);
        Self { bar, _lines: lines }
    }

    fn lines(
        bar: &ProgressBar,
        unit: &'static str,
        every: Duration,
        print: impl Fn(String) + Send + 'static,
    ) -> Ticker {
        let (bar, begin) = (bar.clone(), Instant::now());
        Ticker::start(every, move || {
            print(line(&bar.prefix(), bar.position(), bar.length(), unit, begin.elapsed()));
        })
    }

    /// Sets what has been done.
    pub(crate) fn set(&self, done: usize) {
        self.bar.set_position(done as u64);
    }

    /// Sets what the bar shows beside the count.
    pub(crate) fn set_message(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Writes to stderr above the bar.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// What was done of how many, how fast, and how long the rest takes at this speed.
fn line(name: &str, done: u64, total: Option<u64>, unit: &str, elapsed: Duration) -> String {
    let total_of = total.map_or_else(String::new, |total| format!("/{total}"));
    let mut line = format!("{name}: {done}{total_of} {unit}");
    let rate = done as f64 / elapsed.as_secs_f64();
    if done > 0 && rate.is_finite() {
        line += &format!(", {rate:.1}/s");
        if let Some(rest) = total.and_then(|total| total.checked_sub(done)).filter(|rest| *rest > 0) {
            let rest = Duration::from_secs_f64((rest as f64 / rate).round());
            line += &format!(", {} left", FormattedDuration(rest));
        }
    }
    line
}

/// A thread that acts at intervals until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Acts at once, then after every interval, and, if there was one, at the end.
    fn start(every: Duration, act: impl Fn() + Send + 'static) -> Self {
        act();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut acted = false;
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                act();
                acted = true;
            }
            if acted {
                act();
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            thread.join().ok();
        }
    }
}

/// Decides when a line of progress is due, for a log file: never on a terminal, which shows bars.
pub(crate) struct Lines {
    on_terminal: bool,
    last: Option<Instant>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal(), last: None }
    }
}

impl Lines {
    /// Whether a line is due now. The first and the last of a part always are.
    pub(crate) fn due(&mut self, first: bool, last: bool) -> bool {
        let late = self.last.is_none_or(|last| last.elapsed() >= LINES_EVERY);
        let due = !self.on_terminal && (first || last || late);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

/// Shows one bar per file of a download, one after the other.
pub(crate) fn download_bar(bar: &mut Option<(usize, ProgressBar)>, download: &Download<'_>) {
    if bar.as_ref().is_none_or(|(index, _)| *index != download.index) {
        let name = format!("[{}/{}] {}", download.index + 1, download.files, download.file);
        *bar = Some((
            download.index,
            styled(name, Some(download.size), "{prefix} {wide_bar} {bytes}/{total_bytes} {eta}"),
        ));
    }
    if let Some((_, bar)) = bar {
        bar.set_position(download.done);
        if download.done == download.size {
            bar.finish();
        }
    }
}

fn counted(name: &str, total: Option<usize>) -> ProgressBar {
    let total = total.map(|total| total as u64);
    styled(name.to_owned(), total, "{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} {eta}")
}

fn styled(name: String, total: Option<u64>, template: &str) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_prefix(name);
    // The templates are fixed and valid; an invalid one would leave the default style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(DRAWN_EVERY);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        let of = |done, total, seconds| line("embedding", done, total, "texts", Duration::from_secs(seconds));
        assert_eq!(of(0, Some(200), 0), "embedding: 0/200 texts");
        assert_eq!(of(0, None, 30), "embedding: 0 texts");
        assert_eq!(of(50, Some(200), 30), "embedding: 50/200 texts, 1.7/s, 00:01:30 left");
        assert_eq!(of(50, None, 20), "embedding: 50 texts, 2.5/s");
        assert_eq!(of(200, Some(200), 100), "embedding: 200/200 texts, 2.0/s");
        assert_eq!(of(7, Some(5), 1), "embedding: 7/5 texts, 7.0/s");
    }

    /// Lines of a part of 10 documents at an interval, and its bar.
    fn lines(every: Duration) -> (ProgressBar, Ticker, mpsc::Receiver<String>) {
        let (sender, lines) = mpsc::channel();
        let bar = counted("part", Some(10));
        let ticker = Progress::lines(&bar, "documents", every, move |line| drop(sender.send(line)));
        (bar, ticker, lines)
    }

    #[test]
    fn lines_come_at_once_at_intervals_and_at_the_end() {
        let (bar, ticker, lines) = lines(Duration::from_millis(1));
        assert_eq!(lines.recv().as_deref(), Ok("part: 0/10 documents"));
        // Without a call that says so.
        assert_eq!(lines.recv().as_deref(), Ok("part: 0/10 documents"));
        bar.set_position(5);
        assert!(lines.iter().any(|line| line.starts_with("part: 5/10 documents, ") && line.ends_with(" left")));
        bar.set_position(10);
        drop(ticker);
        assert!(lines.iter().last().is_some_and(|line| line.starts_with("part: 10/10 documents, ")));
    }

    #[test]
    fn a_short_part_has_one_line() {
        let (bar, ticker, lines) = lines(Duration::MAX);
        bar.set_position(10);
        drop(ticker);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["part: 0/10 documents"]);
    }
}
