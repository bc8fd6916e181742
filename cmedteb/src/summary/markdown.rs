//! The summary as Markdown.

use super::tables::{Summary, Table};

impl Summary {
    /// The summary as Markdown.
    pub fn to_markdown(&self) -> String {
        write(self)
    }
}

fn write(summary: &Summary) -> String {
    let mut text = format!("# Results\n\n{}", table(&summary.scores()));
    let differences = summary.differences();
    if !differences.rows.is_empty() {
        text += "\n## Differences\n\n";
        text += &table(&differences);
        text += &format!("\n{EXPLANATION}\n");
    }
    text += &summary.notes.iter().map(|note| format!("\n{note}\n")).collect::<String>();
    text += "\n## What was measured\n";
    for (title, facts) in summary.about() {
        text += &format!("\n{title}\n\n");
        for (key, value) in facts {
            text += &format!("- {key}: {}\n", value.replace('\n', " "));
        }
    }
    text
}

/// What the columns of differences mean.
pub(super) const EXPLANATION: &str = "Intervals are of bootstrap samples of the queries (of the pairs, for STS); p is \
that of a paired randomisation test, two-sided; then on how many queries the model is better, as good, worse.";

fn table(table: &Table) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|{}\n", "---|".repeat(table.header.len()));
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    line(&table.header) + &rule + &rows
}
