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
    text += "\n## Data and settings\n";
    for (title, facts) in summary.about() {
        text += &format!("\n{title}\n\n");
        for (key, value) in facts {
            text += &format!("- {key}: {}\n", value.replace('\n', " "));
        }
    }
    text
}

/// Explains the columns of the table of differences.
pub(super) const EXPLANATION: &str = "Intervals are bootstrap confidence intervals over the queries (over the pairs, \
for STS). p is the two-sided p-value of a paired randomisation test; p (Holm) is Holm's correction of it for \
the number of p-values in this table. The last column counts the queries on which the \
model is better, the same, or worse.";

fn table(table: &Table) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|{}\n", "---|".repeat(table.header.len()));
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    line(&table.header) + &rule + &rows
}
