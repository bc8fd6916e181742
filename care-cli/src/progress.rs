//! Progress bars on stderr; silent when stderr is no terminal.

use care_core::{Download, EmbedProgress};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar with a name, a count and the time left.
pub(crate) fn bar(name: &str, total: usize) -> ProgressBar {
    styled(name.to_owned(), total as u64, "{prefix} {wide_bar} {pos}/{len} {msg} {eta}")
}

/// Moves a bar of texts to where an embedding is.
pub(crate) fn show(bar: &ProgressBar, progress: &EmbedProgress) {
    bar.set_position(progress.texts as u64);
    bar.set_message(format!("{:.1} % padding", 100.0 * progress.padding_ratio()));
}

/// A bar for each file of a download, one after the other.
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
    // The templates are fixed and valid; without them a bar would have its default looks.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
