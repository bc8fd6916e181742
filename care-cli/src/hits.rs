//! The hits of a query: JSON for programs, or laid out for people.

use std::io::IsTerminal;

use anyhow::Result;
use console::{Term, truncate_str};
use serde::Serialize;
use serde_json::{Map, Value};
use textwrap::core::{Word, display_width};
use textwrap::{Options, WordSeparator, WordSplitter};

/// Options that choose the form of hits.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormArgs {
    /// Print one line of JSON per query, as by default where stdout is no terminal
    #[arg(long)]
    json: bool,
    /// Print hits for people, as by default on a terminal
    #[arg(long, conflicts_with = "json")]
    pretty: bool,
}

impl FormArgs {
    pub(crate) fn form(self) -> Form {
        match self.json || !(self.pretty || std::io::stdout().is_terminal()) {
            true => Form::Json,
            false => Form::Text,
        }
    }
}

/// How hits are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// Text in the width of the terminal.
    Text,
}

/// The hits of a query.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query_id: Option<&'a str>,
    pub(crate) query: &'a str,
    pub(crate) hits: Vec<Found>,
}

/// A document that was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    pub(crate) rank: usize,
    pub(crate) score: f32,
    #[serde(flatten)]
    pub(crate) halves: Option<Halves>,
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// All further fields.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// The scores of a hit of --hybrid; null where it is not among the candidates.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Halves {
    pub(crate) bm25: Option<f32>,
    pub(crate) vector: Option<f32>,
}

impl Answer<'_> {
    /// The answer in a form, without a final line break.
    pub(crate) fn render(&self, form: Form) -> Result<String> {
        Ok(match form {
            Form::Json => serde_json::to_string(self)?,
            Form::Text => self.lay_out(Window::of_stdout()),
        })
    }

    /// Per hit: rank, score, id and title in a line, then the text, cut so that all hits fit in the window if they can, and
    /// the further fields.
    fn lay_out(&self, window: Window) -> String {
        let count = documents(self.hits.len());
        let id = self.query_id.map(|id| format!("{id}  ")).unwrap_or_default();
        let mut lines = vec![clean(&format!("{id}{}: {count}", self.query))];
        let of_text = window.lines_of_text(self.hits.len());
        let width = window.columns.saturating_sub(INDENT.len()).max(10);
        for hit in &self.hits {
            lines.push(truncate_str(&clean(&hit.head()), window.columns, REST).trim_end().to_owned());
            let text = hit.text.as_deref().map(|text| shortened(&clean(text), width, of_text)).unwrap_or_default();
            let fields: Vec<String> = hit
                .metadata
                .iter()
                .map(|(name, value)| truncate_str(&clean(&field(name, value)), width, REST).into_owned())
                .collect();
            let below = text.into_iter().chain(wrapped(&fields.join("  "), width));
            lines.extend(below.map(|line| format!("{INDENT}{line}")));
        }
        lines.join("\n")
    }
}

/// A number of documents.
pub(crate) fn documents(count: usize) -> String {
    match count {
        0 => "no documents".to_owned(),
        1 => "1 document".to_owned(),
        n => format!("{n} documents"),
    }
}

impl Found {
    fn head(&self) -> String {
        let halves = self.halves.map(|Halves { bm25, vector }| {
            let score = |score: Option<f32>| score.map_or("-".to_owned(), |score| format!("{score:.4}"));
            format!("  (bm25 {}, vector {})", score(bm25), score(vector))
        });
        format!("{:>3}  {:.4}{}  {}  {}", self.rank, self.score, halves.unwrap_or_default(), self.id, self.title)
    }
}

fn field(name: &str, value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{name}={value}"), |text| format!("{name}={text}"))
}

/// Stands before the lines below a hit's first.
const INDENT: &str = "     ";
/// Stands for what is left out.
const REST: &str = " ..";

/// The size of a terminal.
#[derive(Debug, Clone, Copy)]
struct Window {
    columns: usize,
    rows: Option<usize>,
}

impl Window {
    fn of_stdout() -> Self {
        match Term::stdout().size_checked() {
            Some((rows, columns)) if columns > 0 => Self { columns: columns.into(), rows: Some(rows.into()) },
            _ => Self { columns: 80, rows: None },
        }
    }

    /// Lines for the text of each of so many hits: 1 to 4. Others are for the head and the fields of a hit, the query and the
    /// prompt.
    fn lines_of_text(self, hits: usize) -> usize {
        self.rows.map_or(3, |rows| (rows.saturating_sub(3) / hits.max(1)).saturating_sub(2).clamp(1, 4))
    }
}

/// A text in one line: control characters, which could steer the terminal, and runs of white space become one space.
/// A rank's indentation and the two spaces between fields are kept.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || (c.is_whitespace() && c != ' ') {
            true if cleaned.ends_with(' ') => {}
            true => cleaned.push(' '),
            false => cleaned.push(c),
        }
    }
    cleaned
}

/// The first lines of a text, with a sign if there is more.
fn shortened(text: &str, width: usize, lines: usize) -> Vec<String> {
    // A character has at most 2 columns, some have none: enough for one line more.
    let text = text.trim();
    let begin: String = text.chars().take(4 * width * (lines + 1)).collect();
    let mut all = wrapped(&begin, width);
    if all.len() > lines {
        all.truncate(lines);
        if let Some(last) = all.last_mut() {
            *last = format!("{}{REST}", truncate_str(last, width - REST.len(), "").trim_end());
        }
    }
    all
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let options =
        Options::new(width).word_separator(WordSeparator::Custom(words)).word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
}

/// The parts of a line that are not broken: words between spaces, and every wide character, as of Chinese, with the
/// punctuation that may not be apart from it.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let is_wide = |c: char| display_width(c.encode_utf8(&mut [0; 4])) == 2;
    let breaks = line.char_indices().zip(line.chars().skip(1)).filter_map(move |((at, before), after)| {
        let is_break = match (before, after) {
            (_, ' ') => false,
            (' ', _) => true,
            _ => (is_wide(before) || is_wide(after)) && !OPENING.contains(before) && !CLOSING.contains(after),
        };
        is_break.then_some(at + before.len_utf8())
    });
    let (mut start, mut ends) = (0, breaks.chain([line.len()]));
    Box::new(std::iter::from_fn(move || {
        let end = ends.next().filter(|end| *end > start)?;
        let word = Word::from(&line[start..end]);
        start = end;
        Some(word)
    }))
}

/// Punctuation that does not end a line.
const OPENING: &str = "（《〈「『【“‘(";
/// Punctuation that does not begin one.
const CLOSING: &str = "，。、；：？！）》〉」』】”’…·,.;:?!)%";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hit(rank: usize, id: &str, title: &str, text: &str) -> Found {
        Found { rank, score: 0.5, id: id.into(), title: title.into(), text: Some(text.into()), ..Found::default() }
    }

    fn laid_out(columns: usize, rows: Option<usize>, hits: Vec<Found>) -> Vec<String> {
        let text = Answer { query_id: None, query: "头痛", hits }.lay_out(Window { columns, rows });
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn hits_for_people_have_a_head_a_text_and_fields() {
        let mut first = hit(1, "d7", "头痛怎么办", "先休息。\n再喝水");
        first.metadata = Map::from_iter([("department".into(), json!("神经内科")), ("year".into(), json!(2024))]);
        first.halves = Some(Halves { bm25: Some(7.25), vector: None });
        let lines = laid_out(80, None, vec![first, hit(10, "d8", "", "")]);
        assert_eq!(
            lines,
            [
                "头痛: 2 documents",
                "  1  0.5000  (bm25 7.2500, vector -)  d7  头痛怎么办",
                "     先休息。 再喝水",
                "     department=神经内科  year=2024",
                " 10  0.5000  d8",
            ]
        );
        assert_eq!(laid_out(80, None, vec![]), ["头痛: no documents"]);
        assert_eq!(laid_out(80, None, vec![hit(1, "a", "", "b")])[0], "头痛: 1 document");
    }

    #[test]
    fn no_line_is_wider_than_the_window_and_more_rows_show_more_text() {
        let text = "高血压患者（血压140/90 mmHg以上）平时要少吃盐，坚持服药，maintain a healthy weight。".repeat(20);
        for columns in [20, 33, 60, 80, 200] {
            let mut lengths = Vec::new();
            for rows in [Some(10), Some(24), Some(60), None] {
                let mut hits = vec![hit(1, "d1", &text, &text), hit(2, "d2", "", &text)];
                hits[0].metadata = Map::from_iter([("long".into(), json!(text)), ("short".into(), json!(1))]);
                let lines = laid_out(columns, rows, hits);
                assert!(lines.iter().all(|line| display_width(line) <= columns), "{columns}: {lines:?}");
                assert!(lines.iter().any(|line| line.ends_with(REST)));
                assert!(rows.is_none_or(|rows| rows < 24 || lines.len() <= rows), "{rows:?}: {lines:?}");
                lengths.push(lines.len());
            }
            assert!(lengths[0] < lengths[1] && lengths[1] == lengths[2], "{lengths:?}");
        }
    }

    #[test]
    fn text_is_whole_if_it_fits_and_punctuation_stays_with_its_character() {
        assert_eq!(shortened("头痛，发烧（三天）。", 6, 9), ["头痛，", "发烧", "（三", "天）。"]);
        assert_eq!(shortened("a healthy weight", 9, 9), ["a healthy", "weight"]);
        assert_eq!(shortened("a healthy weight", 9, 1), ["a heal .."]);
        assert_eq!(shortened("头痛发烧", 8, 1), ["头痛发烧"]);
        assert_eq!(shortened(" ", 8, 1), [""; 0]);
        let text = "头痛 head ache，发烧。".repeat(30);
        let joined = wrapped(&text, 17).join("").replace(' ', "");
        assert_eq!(joined, text.replace(' ', ""));
    }

    #[test]
    fn nothing_in_a_document_steers_the_terminal() {
        let evil = "a\u{1b}[31mb\r\n\t\u{7}\u{9b}2Jc";
        let mut one = hit(1, evil, evil, evil);
        one.metadata = Map::from_iter([(evil.to_owned(), json!(evil))]);
        let text =
            Answer { query_id: Some(evil), query: evil, hits: vec![one] }.lay_out(Window { columns: 99, rows: None });
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn json_leaves_out_what_a_hit_lacks() {
        let answer = Answer { query_id: None, query: "a", hits: vec![hit(1, "d", "", "b")] };
        let json = answer.render(Form::Json).expect("JSON");
        assert_eq!(json, r#"{"query":"a","hits":[{"rank":1,"score":0.5,"_id":"d","text":"b"}]}"#);
        let mut full = hit(1, "d", "t", "b");
        full.halves = Some(Halves { bm25: None, vector: Some(0.25) });
        full.metadata = Map::from_iter([("year".into(), json!(2024))]);
        let json = Answer { query_id: Some("q"), query: "a", hits: vec![full] }.render(Form::Json).expect("JSON");
        let expected = r#"{"query_id":"q","query":"a","hits":[{"rank":1,"score":0.5,"bm25":null,"vector":0.25,"_id":"d","title":"t","text":"b","metadata":{"year":2024}}]}"#;
        assert_eq!(json, expected);
    }
}
