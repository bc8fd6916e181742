//! The content of experts' sheets: columns and rows.

use care_core::{Error, ErrorKind, Result};

use super::labels::{Answer, ExpertLabels};
use super::sample::{Expert, Questionnaire, Sample, positive};
use super::table::printable;
use crate::pair::Pair;
use crate::prompt::Prompt;

pub(super) const NUMBER: &str = "编号";
pub(super) const QUERY: &str = "问题";
pub(super) const POSITIVE: &str = "已知正确文档";
pub(super) const DOCUMENT: &str = "文档";
pub(super) const OPINIONS: &str = "各位专家的意见";
pub(super) const SCORE: &str = "评分";
pub(super) const NOTE: &str = "备注";
pub(super) const EXPERT: &str = "专家";
pub(super) const SAMPLE: &str = "样本";
pub(super) const CODE: &str = "校验";

/// Longest text of a cell in UTF-16 units, by Excel.
const LONGEST_CELL: usize = 32_767;

/// Sheets for the experts of a sample: one per expert, each blind to votes, labels, systems and ids.
///
/// A sheet has the columns 编号, 问题, 文档 (and 已知正确文档, if the prompt shows a known positive), 评分 and 备注, which the
/// expert fills, and 专家, 样本 and 校验, by which [`read_sheets`](super::read_sheets) finds altered, added, deleted and
/// foreign rows.
#[derive(Debug, Clone)]
pub struct Sheets<'a> {
    pub(super) sample: &'a Sample,
    pub(super) prompt: &'a Prompt,
    pub(super) texts: Vec<&'a Pair>,
    opinions: Option<&'a ExpertLabels>,
}

impl<'a> Sheets<'a> {
    /// The sheets of a sample, with the texts of its pairs, which are among `pairs`.
    ///
    /// # Errors
    /// If a pair is absent, its texts or the prompt are not those of the sample.
    pub fn new(sample: &'a Sample, pairs: &'a [Pair], prompt: &'a Prompt) -> Result<Self> {
        if sample.prompt != Questionnaire::of(prompt) {
            let Questionnaire { name, hash, .. } = &sample.prompt;
            let problem = format!(
                "the sample was drawn for prompt `{name}` of hash {hash}; draw a new one for `{}`",
                prompt.name
            );
            return Err(Error::new(ErrorKind::Config, problem));
        }
        Ok(Self { sample, prompt, texts: sample.texts(pairs)?, opinions: None })
    }

    /// Adds a column 各位专家的意见 with the scores and notes of earlier experts, without their names: for an
    /// [`adjudication`](super::adjudication).
    #[must_use]
    pub fn with_opinions(mut self, labels: &'a ExpertLabels) -> Self {
        self.opinions = Some(labels);
        self
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let positive = self.prompt.wants_positive().then_some(POSITIVE);
        let opinions = self.opinions.map(|_| OPINIONS);
        let shown = [NUMBER, QUERY].into_iter().chain(positive).chain([DOCUMENT]).chain(opinions);
        shown.chain([SCORE, NOTE, EXPERT, SAMPLE, CODE]).collect()
    }

    /// The rows of an expert's sheet, without the names of the columns.
    pub(super) fn rows(&self, expert: &Expert) -> Result<Vec<Vec<String>>> {
        (1..).zip(&expert.pairs).map(|(number, at)| self.row(number, *at, &expert.name)).collect()
    }

    fn row(&self, number: usize, at: usize, expert: &str) -> Result<Vec<String>> {
        let pair = self.texts[at];
        let cell = |column: &&str| {
            Ok(match *column {
                NUMBER => number.to_string(),
                QUERY => printable(&pair.query),
                POSITIVE => printable(positive(pair, self.prompt)?.unwrap_or_default()),
                DOCUMENT => printable(&pair.document),
                OPINIONS => self.opinion(pair),
                EXPERT => expert.to_owned(),
                SAMPLE => self.sample.short_id(),
                CODE => self.sample.row_code(expert, at),
                _ => String::new(),
            })
        };
        self.columns().iter().map(cell).collect()
    }

    /// The scores and notes of a pair, by score, so that their order tells no names.
    fn opinion(&self, pair: &Pair) -> String {
        let labelled = self.opinions.into_iter().flat_map(|labels| &labels.pairs);
        let of_pair = labelled.filter(|labelled| (labelled.query_id.as_str(), labelled.doc_id.as_str()) == pair.id());
        let mut answers: Vec<&Answer> = of_pair.flat_map(|labelled| &labelled.answers).collect();
        answers.sort_by_key(|answer| (answer.score, answer.note.as_deref()));
        let word = |score: i32| self.prompt.scale.points().zip(&self.prompt.labels).find(|(point, _)| *point == score);
        let line = |answer: &&Answer| {
            let score =
                answer.score.and_then(word).map_or("未评分".to_owned(), |(point, word)| format!("{point} {word}"));
            let note = answer.note.as_deref().map(|note| format!("（{}）", printable(note)));
            score + &note.unwrap_or_default()
        };
        answers.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Refuses texts that no spreadsheet program holds in a cell.
    pub(super) fn check_cells(&self) -> Result<()> {
        for pair in &self.texts {
            for text in [Some(&pair.query), Some(&pair.document), pair.positive.as_ref()].into_iter().flatten() {
                // One more for the apostrophe of a guard.
                let length = text.encode_utf16().count() + 1;
                if length > LONGEST_CELL {
                    let (query, document) = pair.id();
                    let problem = format!(
                        "a text of the pair `{query}`, `{document}` has {length} characters, but a cell holds {LONGEST_CELL}; \
                         use the HTML page or Label Studio, or shorten the text before the sample is drawn"
                    );
                    return Err(Error::new(ErrorKind::Format, problem));
                }
            }
        }
        Ok(())
    }
}
