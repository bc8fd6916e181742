//! A report for people: Markdown and HTML.

use care_core::Result;

use super::plot;
use super::report::Report;
use super::rules::Reason;

struct Table {
    title: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# Hard negatives\n\n{}\n", self.overview());
        for table in self.tables() {
            text += &format!(
                "\n## {}\n\n| {} |\n|{}\n",
                table.title,
                table.header.join(" | "),
                "---|".repeat(table.header.len())
            );
            table.rows.iter().for_each(|row| text += &format!("| {} |\n", row.join(" | ")));
        }
        let advice = self.advice();
        if !advice.is_empty() {
            text += "\n## So that fewer queries fall short\n\n";
            advice.iter().for_each(|line| text += &format!("- {line}\n"));
        }
        text
    }

    /// The report as an HTML page of its own, with histograms of scores and margins by the Cargo feature `plots`.
    ///
    /// # Errors
    /// If a plot cannot be drawn.
    pub fn to_html(&self) -> Result<String> {
        let mut text = format!("<h1>Hard negatives</h1>\n<p>{}</p>\n", escaped(&self.overview()));
        text += &self.to_svg()?;
        for table in self.tables() {
            let cells = |tag: &str, row: &[String]| {
                let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
                format!("<tr>{cells}</tr>\n")
            };
            let header: Vec<String> = table.header.iter().map(|&name| name.to_owned()).collect();
            let rows: String = table.rows.iter().map(|row| cells("td", row)).collect();
            text += &format!("<h2>{}</h2>\n<table>\n{}{rows}</table>\n", escaped(&table.title), cells("th", &header));
        }
        let advice: String = self.advice().iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
        if !advice.is_empty() {
            text += &format!("<h2>So that fewer queries fall short</h2>\n<ul>\n{advice}</ul>\n");
        }
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Hard negatives</title>\n<style>{STYLE}\
             </style>\n<body>\n{text}</body>\n</html>\n"
        ))
    }

    /// Histograms of the scores and margins as SVG; an empty text without the Cargo feature `plots`.
    ///
    /// # Errors
    /// If they cannot be drawn.
    pub fn to_svg(&self) -> Result<String> {
        plot::histograms(self)
    }

    fn overview(&self) -> String {
        format!(
            "{} negatives of {} queries. {} queries fell short of {} negatives, {} of them have none; {} queries were left \
             out, {} negatives were drawn at random to fill up.",
            self.negatives,
            self.queries - self.left_out,
            self.short,
            self.rules.negatives,
            self.without,
            self.left_out,
            self.filled
        )
    }

    fn tables(&self) -> [Table; 2] {
        let numbers = self.distributions().into_iter().map(|(name, of)| {
            let numbers = [of.mean, of.std, of.min, of.quartile_1, of.median, of.quartile_3, of.max];
            let cells = numbers.iter().map(|number| format!("{number:.4}"));
            [name.to_owned(), of.count.to_string()].into_iter().chain(cells).collect()
        });
        let scores = Table {
            title: format!("Scores by {}", self.scored_by),
            header: vec!["", "count", "mean", "std", "min", "25 %", "median", "75 %", "max"],
            rows: numbers.collect(),
        };
        let mut rows = Vec::new();
        for source in &self.sources {
            let mut row = |what: &str, count: usize| {
                let share = 100.0 * count as f64 / source.results.max(1) as f64;
                rows.push(vec![source.name.clone(), what.to_owned(), count.to_string(), format!("{share:.1} %")]);
            };
            row("looked at", source.results);
            for reason in Reason::ALL {
                if let Some(count) = source.dropped.get(&reason) {
                    row(reason.as_str(), *count);
                }
            }
            row("left by the rules", source.left);
            row("taken as negatives", source.taken);
        }
        let header = vec!["source", "results", "count", "share"];
        [scores, Table { title: "What the rules dropped".to_owned(), header, rows }]
    }
}

const STYLE: &str = "body{font-family:sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}\
                     td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
