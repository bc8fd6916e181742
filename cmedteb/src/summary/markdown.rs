//! The summary as Markdown.

use super::tables::{Summary, Table};

impl Summary {
    /// The summary as Markdown, the best score of each task in bold.
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
    for paragraph in
        summary.warnings().iter().map(|warning| format!("**Warning**: {warning}")).chain(summary.notes.clone())
    {
        text += &format!("\n{paragraph}\n");
    }
    if let Some((published, note)) = summary.published() {
        text += &format!("\n## Published scores\n\n{}\n{note}\n", table(&published));
    }
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
    let escape = |cell: &str| cell.replace('|', "\\|");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let header = line(table.header.iter().map(|cell| escape(cell)).collect());
    let rule = format!("|{}\n", "---|".repeat(table.header.len()));
    let cell = |(cell, best): (&str, bool)| if best { format!("**{}**", escape(cell)) } else { escape(cell) };
    header + &rule + &table.cells().map(|cells| line(cells.map(cell).collect())).collect::<String>()
}
