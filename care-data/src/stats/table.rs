//! Statistics as text.

use std::fmt::{self, Display};

use super::collect::{RowStats, TextStats};
use super::distribution::Summary;

impl Display for RowStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in [
            ("rows", self.rows),
            ("bad rows", self.bad),
            ("rows with a text alone", self.plain),
            ("rows with scores", self.scored_rows),
            ("rows that repeat query and positives", self.duplicate_rows),
            ("rows that repeat a query", self.duplicate_queries),
            ("negatives that are positives of the row", self.positives_as_negatives),
            ("negatives that are the query", self.queries_as_negatives),
            ("negatives that the row has already", self.repeated_negatives),
        ] {
            writeln!(f, "{name:<42}{count:>12}")?;
        }
        writeln!(f, "\n{:<12}{:>12}{:>12}{:>10}{:>10}", "", "count", "distinct", "empty", "Chinese")?;
        let kinds = [("queries", &self.queries), ("positives", &self.positives), ("negatives", &self.negatives)];
        for (name, texts) in kinds {
            let TextStats { count, distinct, empty, chinese, .. } = texts;
            writeln!(f, "{name:<12}{count:>12}{distinct:>12}{empty:>10}{:>8.1} %", 100.0 * chinese)?;
        }
        writeln!(f, "\n{:<24}{:>9}{:>7}{:>7}{:>8}{:>7}{:>8}", "", "mean", "min", "25 %", "median", "75 %", "max")?;
        let per_row = [("positives per row", &self.positives_per_row), ("negatives per row", &self.negatives_per_row)];
        let lengths = kinds.map(|(name, texts)| (format!("characters of {name}"), &texts.characters));
        for (name, summary) in per_row.map(|(name, summary)| (name.to_owned(), summary)).into_iter().chain(lengths) {
            let Summary { mean, min, q1, median, q3, max } = summary;
            writeln!(f, "{name:<24}{mean:>9.1}{min:>7}{q1:>7}{median:>8}{q3:>7}{max:>8}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_everything() {
        let mut stats = RowStats { rows: 5_000_000, ..RowStats::default() };
        stats.queries = TextStats { count: 5_000_000, distinct: 4_000_000, chinese: 0.875, ..TextStats::default() };
        let text = stats.to_string();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        assert_eq!(line("rows ").as_deref(), Some("rows                                           5000000"));
        assert_eq!(line("queries ").as_deref(), Some("queries          5000000     4000000         0    87.5 %"));
        assert_eq!(text.lines().count(), 21);
    }
}
