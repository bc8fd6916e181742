//! The summary's tables as LaTeX.

use super::tables::{Summary, Table};

impl Summary {
    /// The tables as LaTeX `tabular` environments with the rules of the package `booktabs`, the best score of each task in
    /// bold. Warnings and notes are comments.
    pub fn to_latex(&self) -> String {
        let mut text = format!("% \\usepackage{{booktabs}}\n{}", table(&self.scores()));
        let differences = self.differences();
        if !differences.rows.is_empty() {
            text += &format!("\n{}", table(&differences));
        }
        if let Some((published, note)) = self.published() {
            text += &format!("\n% {note}\n{}", table(&published));
        }
        for line in self.warnings().iter().chain(&self.notes) {
            text += &format!("% {}\n", line.replace('\n', " "));
        }
        text
    }
}

fn table(table: &Table) -> String {
    let columns = "l".repeat(table.text_columns) + &"r".repeat(table.header.len() - table.text_columns);
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let header = line(table.header.iter().map(|cell| escape(cell)).collect());
    let cell = |(cell, best): (&str, bool)| if best { format!("\\textbf{{{}}}", escape(cell)) } else { signs(cell) };
    let rows: String = table.cells().map(|cells| line(cells.map(cell).collect())).collect();
    format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n{header}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n")
}

/// Numbers with a sign in mathematical mode, which has a minus and not a hyphen.
fn signs(cell: &str) -> String {
    let parts: Vec<&str> = cell.split(" to ").collect();
    match parts.iter().all(|part| part.starts_with(['+', '-']) && part.parse::<f64>().is_ok()) {
        true => parts.iter().map(|part| format!("${part}$")).collect::<Vec<_>>().join(" to "),
        false => escape(cell),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '–' => escaped += "--",
            _ => escaped.push(character),
        }
    }
    escaped
}
