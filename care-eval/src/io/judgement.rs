//! A line of qrels in text: BEIR's three columns or TREC's four, named by a header or known by their place.

use super::lines::{fill, parse_grade};
use crate::error::{Error, Result};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Query,
    Document,
    Grade,
    /// TREC's second column.
    Unused,
}

use Role::{Document, Grade, Query, Unused};

/// BEIR's columns.
pub(super) const BEIR: [&str; 3] = ["query-id", "corpus-id", "score"];
/// TREC's columns.
const TREC: [&str; 4] = ["qid", "0", "docno", "rel"];

/// The columns of a file of qrels.
#[derive(Debug)]
pub(super) struct Columns {
    names: Vec<String>,
    roles: Vec<Role>,
}

impl Columns {
    /// The columns of a file by its first line, and whether that line is a header.
    ///
    /// A header is a line without a grade whose columns have known names, which then decide about the order. Three names
    /// of which none is known are a header too, in the usual order: BEIR's own loader skips the first line whatever it
    /// contains.
    ///
    /// # Errors
    /// If a header lacks a column or has another one, or if the line is neither a header nor a judgement.
    pub(super) fn of(first: &str) -> Result<(Self, bool)> {
        let words: Vec<&str> = first.split_ascii_whitespace().collect();
        let cells: Vec<&str> = if first.contains('\t') { first.split('\t').collect() } else { words.clone() };
        let trec = words.len() == 4 && (cells.len() != 3 || Role::of(words[1]) == Some(Unused));
        let cells = if trec && cells.len() != 4 { words } else { cells };
        let roles: Vec<Option<Role>> = cells.iter().map(|cell| Role::of(cell)).collect();
        let has = |role| roles.contains(&Some(role));
        if has(Query) && has(Document) && has(Grade) {
            return Self::named(&cells, &roles).map(|columns| (columns, true));
        }
        match cells.len() {
            3 if is_unknown_header(&cells, &roles) => Ok((Self::new(&cells, &[Query, Document, Grade]), true)),
            3 => Ok((Self::new(&BEIR, &[Query, Document, Grade]), false)),
            0..3 => Err(Error::format(format!(
                "{} of the columns of a judgement; a line is {:?} or {:?}, separated by tabs or spaces",
                cells.len(),
                BEIR.join(" "),
                TREC.join(" ")
            ))),
            _ => Ok((Self::new(&TREC, &[Query, Unused, Document, Grade]), false)),
        }
    }

    /// The columns of a header that names query, document and grade.
    fn named(cells: &[&str], roles: &[Option<Role>]) -> Result<Self> {
        if let Some(place) = roles.iter().position(Option::is_none) {
            let hint = if place == 0 { ": write the file without an index" } else { "" };
            let problem = format!("unexpected column {:?}; a line is {:?}{hint}", cells[place], BEIR.join(" "));
            return Err(Error::format(problem));
        }
        let roles: Vec<Role> = roles.iter().copied().flatten().collect();
        match (1..roles.len()).find(|place| roles[..*place].contains(&roles[*place])) {
            Some(place) => Err(Error::format(format!("the columns {:?} are ambiguous at {:?}", cells, cells[place]))),
            None => Ok(Self::new(cells, &roles)),
        }
    }

    fn new(names: &[&str], roles: &[Role]) -> Self {
        Self { names: names.iter().map(|&name| name.to_owned()).collect(), roles: roles.to_vec() }
    }

    /// Query, document and grade of a line.
    pub(super) fn parse<'a>(&self, line: &'a str) -> Result<(&'a str, &'a str, i32)> {
        let mut row = [""; 4];
        let row = &mut row[..self.names.len()];
        // Ids in BEIR's files may contain spaces.
        match self.roles.contains(&Unused) || !line.contains('\t') {
            true => fill(row, line.split_ascii_whitespace(), &self.names)?,
            false => fill(row, line.split('\t'), &self.names)?,
        }
        let of = |role| self.roles.iter().position(|&found| found == role).expect("every file has the three columns");
        let grade = of(Grade);
        Ok((row[of(Query)], row[of(Document)], parse_grade(&self.names[grade], row[grade])?))
    }
}

impl Role {
    /// The role of a column with this name, in any case, with any of `-`, `_` and spaces between the words.
    fn of(name: &str) -> Option<Self> {
        let letters = name.trim_matches('"').chars().filter(|character| !matches!(character, '-' | '_' | ' '));
        match letters.flat_map(char::to_lowercase).collect::<String>().as_str() {
            "queryid" | "qid" | "query" | "topicid" | "topic" => Some(Query),
            "corpusid" | "docid" | "did" | "pid" | "docno" | "document" | "documentid" | "doc" | "passageid"
            | "cid" => Some(Document),
            "score" | "rel" | "relevance" | "grade" | "label" | "judgement" | "judgment" => Some(Grade),
            "0" | "q0" | "iter" | "iteration" => Some(Unused),
            _ => None,
        }
    }
}

/// Whether three cells are names in the usual order, some of them unknown. Ids and grades have digits, names have none.
fn is_unknown_header(cells: &[&str], roles: &[Option<Role>]) -> bool {
    let in_place =
        roles.iter().zip([Query, Document, Grade]).all(|(role, usual)| role.is_none_or(|role| role == usual));
    in_place && !cells.iter().any(|cell| cell.is_empty() || cell.contains(|c: char| c.is_ascii_digit()))
}
