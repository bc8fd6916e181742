//! Lines on stderr.

use std::fmt;
use std::io::Write;

/// Writes a line to stderr. A stderr that cannot be written, e.g. on a full disk or of a closed terminal, ends no work.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::stderr::write_line(format_args!($($text)*))
    };
}
pub(crate) use note;

pub(crate) fn write_line(text: fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "{text}").ok();
}
