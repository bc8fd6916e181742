//! Reads filled sheets and checks every row against the sample.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result};

use super::csv::read_csv;
use super::labels::{Answer, ExpertLabels, LabelledPair};
use super::sample::{Sample, SampledPair, text_hash};
use super::score::parse_score;
use super::sheet::{CODE, DOCUMENT, EXPERT, NOTE, NUMBER, OPINIONS, POSITIVE, QUERY, SAMPLE, SCORE};
use super::table::{Table, letters, unguard};

/// What an absent score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// The sheet is not finished: an error that lists the rows. The default.
    #[default]
    Refuse,
    /// The expert cannot tell: a missing value. Experts without a sheet miss all theirs.
    Accept,
}

/// Problems of a file that are listed before the others are counted.
const LISTED: usize = 8;

/// The sheets in a folder: its CSV and workbook files, sorted by name, without hidden and lock files.
///
/// # Errors
/// If the folder cannot be read or has no sheet.
pub fn sheet_files(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with(['.', '~']) && ["csv", "xlsx", "ods", "xls"].contains(&extension(file).as_str())
    });
    files.sort();
    match files.is_empty() {
        true => Err(Error::format(folder, "the folder contains no sheets (.csv, .xlsx, .ods, .xls)")),
        false => Ok(files),
    }
}

/// Reads the sheets that experts filled, in any order, as CSV (UTF-8, GB18030 or UTF-16) or, with the feature `xlsx`, as
/// XLSX, ODS or XLS. Rows may be sorted and texts wrapped anew; scores may be written as [`parse_score`] lists.
///
/// # Errors
/// If a file cannot be read or is no sheet of this sample; columns are missing or unknown; rows were added, deleted,
/// duplicated or altered; a score is off the scale or, with [`Missing::Refuse`], absent; an expert has two sheets or, with
/// [`Missing::Refuse`], none. The message names file, row and column, and lists the first problems of a file together.
pub fn read_sheets(paths: &[impl AsRef<Path>], sample: &Sample, missing: Missing) -> Result<ExpertLabels> {
    let mut read: Vec<Option<(&Path, Vec<Row>)>> = sample.experts.iter().map(|_| None).collect();
    for path in paths.iter().map(AsRef::as_ref) {
        let (expert, rows) = read_sheet(&read_table(path)?, sample, missing)?;
        if let Some((other, _)) = &read[expert] {
            let problem =
                format!("a second sheet of `{}`; the first is {}", sample.experts[expert].name, other.display());
            return Err(Error::format(path, problem));
        }
        read[expert] = Some((path, rows));
    }
    let absent: Vec<&str> = sample
        .experts
        .iter()
        .zip(&read)
        .filter(|(_, read)| read.is_none())
        .map(|(expert, _)| expert.name.as_str())
        .collect();
    if !absent.is_empty() && missing == Missing::Refuse {
        return Err(Error::new(ErrorKind::Format, format!("no sheet of these experts: {}", absent.join(", "))));
    }
    let mut labels = unanswered(sample, sample.experts.iter().map(|expert| expert.name.clone()).collect());
    for (expert, read) in read.into_iter().enumerate() {
        let mut rows: HashMap<usize, Row> =
            read.into_iter().flat_map(|(_, rows)| rows).map(|row| (row.pair, row)).collect();
        for pair in &sample.experts[expert].pairs {
            let (score, note) = rows.remove(pair).map_or((None, None), |row| (row.score, row.note));
            labels.pairs[*pair].answers.push(Answer { expert, score, note });
        }
    }
    Ok(labels)
}

/// The pairs of a sample, without answers.
pub(super) fn unanswered(sample: &Sample, experts: Vec<String>) -> ExpertLabels {
    let pair = |of: &SampledPair| LabelledPair {
        query_id: of.query_id.clone(),
        doc_id: of.doc_id.clone(),
        answers: Vec::new(),
    };
    ExpertLabels { sample: sample.id.clone(), experts, pairs: sample.pairs.iter().map(pair).collect() }
}

/// Joins problems into one: the first few, and how many there are more.
pub(super) fn join(problems: &[String]) -> String {
    let mut listed = problems.iter().take(LISTED).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > LISTED {
        listed += &format!("; and {} more problems", problems.len() - LISTED);
    }
    listed
}

/// Numbers of rows as ranges, e.g. `2 to 5, 9`.
fn ranges(mut numbers: Vec<usize>) -> String {
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|a, b| *b == a + 1);
    let run = |run: &[usize]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

/// A row that an expert filled.
struct Row {
    pair: usize,
    score: Option<i32>,
    note: Option<String>,
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn read_table(path: &Path) -> Result<Table> {
    match extension(path).as_str() {
        "csv" | "txt" | "tsv" => read_csv(path),
        #[cfg(feature = "xlsx")]
        "xlsx" | "xls" | "ods" => super::xlsx::read_workbook(path),
        #[cfg(not(feature = "xlsx"))]
        "xlsx" | "xls" | "ods" => {
            Err(Error::format(path, "this build cannot read workbooks; save the sheet as CSV UTF-8"))
        }
        "html" => {
            Err(Error::format(path, "the page, not its labels: give the CSV file that its button 保存 downloads"))
        }
        "json" => Err(Error::format(path, "not a sheet; if it is an export of Label Studio, read it as one")),
        _ => Err(Error::format(path, "not a sheet: the name must end in .csv, .xlsx, .ods or .xls")),
    }
}

/// The expert of a sheet and their rows.
fn read_sheet(table: &Table, sample: &Sample, missing: Missing) -> Result<(usize, Vec<Row>)> {
    let refuse = |problem: String| Error::format(&table.path, problem);
    let blank = |row: &&Vec<String>| row.iter().all(|cell| cell.trim().is_empty());
    let heading = table.rows.iter().position(|row| !blank(&row)).ok_or_else(|| refuse("the sheet is empty".into()))?;
    let columns = Columns::of(&table.rows[heading], sample)
        .map_err(|problem| refuse(format!("row {}: {problem}", heading + 1)))?;
    let rows = || (heading + 2..).zip(&table.rows[heading + 1..]).filter(|(_, row)| !blank(row));
    let expert = whose(rows(), &columns, sample).map_err(&refuse)?;
    let codes: HashMap<String, usize> = {
        let Some(owner) = sample.experts.get(expert) else { return Err(refuse("the sheet has no rows".into())) };
        owner.pairs.iter().map(|pair| (sample.row_code(&owner.name, *pair), *pair)).collect()
    };
    let (mut read, mut seen, mut unscored, mut problems) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
    for (number, row) in rows() {
        let code = columns.get(row, CODE).trim();
        let Some(pair) = codes.get(code).copied() else {
            let place = columns.place(CODE);
            problems.push(match code {
                "" => format!("row {number}, {place}: empty; the row was added"),
                _ => format!(
                    "row {number}, {place}: `{code}` is none of the expert's rows; it was altered, or the row added"
                ),
            });
            continue;
        };
        if let Some(first) = seen.insert(pair, number) {
            problems.push(format!("row {number} is a duplicate of row {first}"));
            continue;
        }
        problems.extend(altered(&columns, row, &sample.pairs[pair]).map(|column| {
            let lost = table.encoding.map(|name| format!(
                ", perhaps by saving it as {name}, which Excel calls \"CSV\" and which lacks characters; save it as \"CSV UTF-8\" or XLSX"
            ));
            format!("row {number}, {}: the text was altered{}", columns.place(column), lost.unwrap_or_default())
        }));
        for at in (0..row.len()).filter(|at| !columns.0.iter().any(|(_, known)| known == at)) {
            if !row[at].trim().is_empty() {
                problems.push(format!(
                    "row {number}, column {}: a cell outside the table; put remarks into {NOTE}",
                    letters(at)
                ));
            }
        }
        match parse_score(columns.get(row, SCORE), sample.prompt.scale, &sample.prompt.labels) {
            Ok(score) => {
                if score.is_none() {
                    unscored.push(number);
                }
                let note = unguard(columns.get(row, NOTE)).trim();
                read.push(Row { pair, score, note: (!note.is_empty()).then(|| note.to_owned()) });
            }
            Err(problem) => problems.push(format!("row {number}, {}: {problem}", columns.place(SCORE))),
        }
    }
    // The number of a row that is absent tells the expert which one.
    let owner = &sample.experts[expert];
    let absent: Vec<usize> =
        (1..).zip(&owner.pairs).filter(|(_, pair)| !seen.contains_key(pair)).map(|(at, _)| at).collect();
    if !absent.is_empty() {
        problems.push(format!(
            "{} of {} rows are absent, those of {NUMBER} {}",
            absent.len(),
            owner.pairs.len(),
            ranges(absent)
        ));
    }
    if !unscored.is_empty() && missing == Missing::Refuse {
        let (count, place) = (unscored.len(), columns.place(SCORE));
        problems.push(format!(
            "{place}: {count} of {} rows have no score, rows {}",
            owner.pairs.len(),
            ranges(unscored)
        ));
    }
    match problems.is_empty() {
        true => Ok((expert, read)),
        false => Err(refuse(join(&problems))),
    }
}

/// The expert whose name is in every row.
fn whose<'a>(
    rows: impl Iterator<Item = (usize, &'a Vec<String>)>,
    columns: &Columns,
    sample: &Sample,
) -> std::result::Result<usize, String> {
    let mut expert = None;
    for (number, row) in rows {
        // A row that was added has neither; its missing code is reported.
        let (of, name) = (columns.get(row, SAMPLE).trim(), columns.get(row, EXPERT).trim());
        if of.is_empty() && name.is_empty() {
            continue;
        }
        if of != sample.short_id() {
            let place = columns.place(SAMPLE);
            return Err(format!(
                "row {number}, {place}: the sheet is of sample `{of}`, not of this one, `{}`",
                sample.short_id()
            ));
        }
        let known = sample.experts.iter().position(|expert| expert.name == name).ok_or_else(|| {
            let names: Vec<&str> = sample.experts.iter().map(|expert| expert.name.as_str()).collect();
            format!(
                "row {number}, {}: `{name}` is no expert of this sample, allowed: {}",
                columns.place(EXPERT),
                names.join(", ")
            )
        })?;
        if *expert.get_or_insert(known) != known {
            return Err(format!("row {number}, {}: rows of several experts in one sheet", columns.place(EXPERT)));
        }
    }
    expert.ok_or_else(|| "the sheet has no rows".to_owned())
}

/// The columns whose texts are not those of the sample.
fn altered<'a>(
    columns: &'a Columns,
    row: &'a [String],
    pair: &'a SampledPair,
) -> impl Iterator<Item = &'static str> + 'a {
    let expected = [
        (QUERY, Some(&pair.query_hash)),
        (DOCUMENT, Some(&pair.document_hash)),
        (POSITIVE, pair.positive_hash.as_ref()),
    ];
    expected.into_iter().filter_map(|(column, hash)| {
        let same = text_hash(columns.get(row, column)) == *hash?;
        (!same).then_some(column)
    })
}

/// The columns of a sheet by their names.
struct Columns(Vec<(&'static str, usize)>);

impl Columns {
    fn of(heading: &[String], sample: &Sample) -> std::result::Result<Self, String> {
        let positive = sample.pairs.first().is_some_and(|pair| pair.positive_hash.is_some());
        let needed = [NUMBER, QUERY, DOCUMENT, SCORE, NOTE, EXPERT, SAMPLE, CODE]
            .into_iter()
            .chain(positive.then_some(POSITIVE));
        let known: Vec<&'static str> = needed.clone().chain([OPINIONS]).collect();
        let mut columns = Vec::new();
        for (at, name) in heading.iter().map(|name| name.trim().trim_start_matches('\u{feff}')).enumerate() {
            let place = letters(at);
            match known.iter().find(|known| **known == name) {
                _ if name.is_empty() => {}
                Some(_) if columns.iter().any(|(other, _)| *other == name) => {
                    return Err(format!("column {place}: `{name}` is duplicated"));
                }
                Some(known) => columns.push((*known, at)),
                None => {
                    return Err(format!(
                        "column {place}: `{name}` is none of the sheet's columns, {}",
                        known.join(", ")
                    ));
                }
            }
        }
        let absent: Vec<&str> = needed.filter(|name| !columns.iter().any(|(known, _)| known == name)).collect();
        match absent.is_empty() {
            true => Ok(Self(columns)),
            false => Err(format!("the sheet lacks the columns {}", absent.join(", "))),
        }
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.0.iter().find(|(column, _)| *column == name).map(|(_, at)| *at)
    }

    fn get<'a>(&self, row: &'a [String], name: &str) -> &'a str {
        self.at(name).and_then(|at| row.get(at)).map_or("", String::as_str)
    }

    /// A column in messages, as the program shows it and by its name.
    fn place(&self, name: &str) -> String {
        format!("column {} ({name})", self.at(name).map(letters).unwrap_or_default())
    }
}
