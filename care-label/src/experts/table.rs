//! Tables of cells as spreadsheet programs hold them, and what those programs do to texts.

use std::path::PathBuf;

/// The cells of a sheet, row by row from the sheet's first.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<Vec<String>>,
    /// What the file was decoded from, if not from UTF-8, with what that implies for lost characters.
    pub(super) encoding: Option<&'static str>,
}

/// A text without white space, control characters and leading apostrophes: what survives any spreadsheet program.
pub(super) fn canonical(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control() && *c != '\u{feff}').collect();
    kept.trim_start_matches('\'').to_owned()
}

/// A text without control characters, except tabs and line feeds: what a cell can hold.
pub(super) fn printable(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").chars().filter(|c| !is_forbidden(*c)).collect()
}

fn is_forbidden(c: char) -> bool {
    c.is_control() && c != '\t' && c != '\n' || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Whether a text has control characters.
pub(super) fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A text as a cell of a CSV file: with an apostrophe before it if a spreadsheet program would take it for a formula, a
/// number or a date, or if it begins with an apostrophe.
pub(super) fn guard(text: &str) -> String {
    match needs_guard(text) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

/// The text that [`guard`] made a cell of.
pub(super) fn unguard(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| needs_guard(text)).unwrap_or(cell)
}

fn needs_guard(text: &str) -> bool {
    let start = text.trim_start();
    let formula =
        start.starts_with(['=', '+', '-', '@', '\'', '＝', '＋', '－', '＠']) || text.starts_with(['\t', '\n']);
    let part_of_number = |c: char| c.is_ascii_digit() || " .,:/-+%$￥¥()eEaApPmM年月日时分秒".contains(c);
    let number =
        start.chars().count() < 20 && start.contains(|c: char| c.is_ascii_digit()) && start.chars().all(part_of_number);
    formula || number || ["true", "false"].contains(&start.trim_end().to_lowercase().as_str())
}

/// The name of a column as spreadsheet programs show it, from 0: `A`, `B`, .., `AA`.
pub(super) fn letters(column: usize) -> String {
    let last = char::from(b'A' + (column % 26) as u8);
    match column / 26 {
        0 => last.to_string(),
        rest => letters(rest - 1) + &last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_program_would_evaluate_or_convert_is_guarded() {
        for text in [
            "=1+1", "+86", "-2", "@SUM(A1)", "＝1", "  =A1", "\t=1", "\n=1", "007", "1-2", "2024/1/2", "3月5日", "1e5",
            "50%", "TRUE", "'x", "''",
        ] {
            assert_eq!(guard(text), format!("'{text}"), "{text}");
            assert_eq!(unguard(&guard(text)), text);
        }
        for text in ["", "头痛", "2型糖尿病", "a=b", "it's", "x'", "5mg/kg"] {
            assert_eq!(guard(text), text);
            assert_eq!(unguard(text), text);
        }
        // An apostrophe that no guard put there stays.
        assert_eq!(unguard("'tis"), "'tis");
        assert_eq!([0, 25, 26, 701, 702].map(letters), ["A", "Z", "AA", "ZZ", "AAA"]);
    }

    #[test]
    fn white_space_does_not_count_but_every_other_character_does() {
        assert_eq!(canonical(" a\r\nb\u{3000}\tc\u{feff}"), "abc");
        assert_eq!(canonical("'=1"), canonical("=1"));
        assert_ne!(canonical("左侧"), canonical("右侧"));
        assert_eq!(printable("a\r\nb\rc\u{0}\u{b}\td"), "a\nb\nc\td");
    }

    proptest! {
        #[test]
        fn guards_are_undone(text in "['=+@ \t\n0-9a-c月TRUEtrue-]{0,8}") {
            let cell = guard(&text);
            prop_assert_eq!(unguard(&cell), text.as_str());
        }
    }
}
