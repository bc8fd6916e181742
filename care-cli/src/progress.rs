//! Progress bars on stderr; silent when stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with a name, a count and the time left.
pub(crate) fn bar(name: &str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_prefix(name.to_owned());
    // The template is fixed and valid; without it the bar would have its default looks.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}
