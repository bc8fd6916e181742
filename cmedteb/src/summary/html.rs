//! The summary as an HTML page.

use care_core::Result;

use super::markdown::EXPLANATION;
use super::pictures;
use super::tables::{Summary, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left}\
td:nth-child(n+3){font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}\
details{margin:.5rem 0}dt{color:#666}dd{margin:0 0 .3rem 1rem;word-break:break-word}";

impl Summary {
    /// The summary as a self-contained HTML page. Plots are included with the Cargo feature `plots`, else left out.
    ///
    /// # Errors
    /// If a plot cannot be drawn.
    pub fn to_html(&self) -> Result<String> {
        write(self)
    }
}

fn write(summary: &Summary) -> Result<String> {
    let measures = summary.measures();
    let mut body = format!("<h1>Results</h1>\n{}", table(&summary.scores()));
    for measure in measures.keys() {
        body += &pictures::scores(summary, measure)?;
    }
    let differences = summary.differences();
    if !differences.rows.is_empty() {
        body += &format!("<h2>Differences</h2>\n{}<p>{EXPLANATION}</p>\n", table(&differences));
        for measure in measures.keys() {
            body += &pictures::intervals(summary, measure)?;
        }
        for (model, comparison) in summary.compared().filter(|(_, comparison)| !comparison.queries.is_empty()) {
            body += &format!("<h3>{} on {}, query by query</h3>\n", escape(model), escape(&comparison.task));
            body += &pictures::queries(comparison)?;
        }
    }
    let warning = |warning: &String| format!("<p><strong>Warning</strong>: {}</p>\n", escape(warning));
    body += &summary.warnings().iter().map(warning).collect::<String>();
    body += &summary.notes.iter().map(|note| format!("<p>{}</p>\n", escape(note))).collect::<String>();
    if let Some((published, note)) = summary.published() {
        body += &format!("<h2>Published scores</h2>\n{}<p>{}</p>\n", table(&published), escape(&note));
    }
    body += "<h2>Data and settings</h2>\n";
    for (title, facts) in summary.about() {
        body += &format!("<details><summary>{}</summary><dl>", escape(&title));
        for (key, value) in facts {
            body += &format!("<dt>{}</dt><dd>{}</dd>", escape(&key), escape(&value));
        }
        body += "</dl></details>\n";
    }
    let head = format!("<meta charset=\"utf-8\"><title>Results</title><style>{STYLE}</style>");
    Ok(format!("<!doctype html>\n<html lang=\"en\"><head>{head}</head>\n<body>\n{body}</body></html>\n"))
}

fn table(table: &Table) -> String {
    let row = |cells: String| format!("<tr>{cells}</tr>\n");
    let header = row(table.header.iter().map(|cell| format!("<th>{}</th>", escape(cell))).collect());
    let cell = |(cell, best): (&str, bool)| match best {
        true => format!("<td><strong>{}</strong></td>", escape(cell)),
        false => format!("<td>{}</td>", escape(cell)),
    };
    let rows: String = table.cells().map(|cells| row(cells.map(cell).collect())).collect();
    format!("<table>\n{header}{rows}</table>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
