//! Progress on stderr: bars on a terminal, else a line from time to time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use care_core::hub::Download;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar with a name, a count and the remaining time.
pub(crate) fn bar(name: &str, total: usize) -> ProgressBar {
    styled(name.to_owned(), total as u64, "{prefix} {wide_bar} {pos}/{len} {msg} {eta}")
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
    /// Time between two lines.
    const EVERY: Duration = Duration::from_secs(30);

    /// Whether a line is due now. The first and the last of a part always are.
    pub(crate) fn due(&mut self, first: bool, last: bool) -> bool {
        let late = self.last.is_none_or(|last| last.elapsed() >= Self::EVERY);
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
        *bar = Some((download.index, styled(name, download.size, "{prefix} {wide_bar} {bytes}/{total_bytes} {eta}")));
    }
    if let Some((_, bar)) = bar {
        bar.set_position(download.done);
        if download.done == download.size {
            bar.finish();
        }
    }
}

fn styled(name: String, total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_prefix(name);
    // The templates are fixed and valid; an invalid one would leave the default style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
