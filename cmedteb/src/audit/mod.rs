//! Likely problems in a task's data, for manual review.

use std::collections::HashMap;

use care_core::{Result, Text};
use care_eval::Run;

use crate::task::{RetrievalTask, Task};

/// A likely problem in a task's data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The kind of problem.
    pub kind: FindingKind,
    /// Id of the query concerned; empty if none.
    pub query: String,
    /// Id of the document concerned; empty if none.
    pub document: String,
    /// A description with the texts.
    pub detail: String,
}

/// A kind of [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// A document without a visible character.
    EmptyDocument,
    /// A document with the same text as an earlier one.
    DuplicateDocument,
    /// A query or a pair with the same text as an earlier one.
    DuplicateQuery,
    /// A query or a sentence that occurs in the training texts.
    LeakedQuery,
    /// A judgement of a document that the corpus lacks.
    AbsentJudged,
    /// An unjudged document that ranks above all relevant ones.
    LikelyFalseNegative,
}

impl FindingKind {
    /// The name in tables, e.g. `duplicate-document`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyDocument => "empty-document",
            Self::DuplicateDocument => "duplicate-document",
            Self::DuplicateQuery => "duplicate-query",
            Self::LeakedQuery => "leaked-query",
            Self::AbsentJudged => "absent-judged",
            Self::LikelyFalseNegative => "likely-false-negative",
        }
    }
}

/// Training texts, in which queries of a task should not occur, with their origins.
#[derive(Debug, Clone, Default)]
pub struct TrainingTexts(HashMap<String, String>);

impl TrainingTexts {
    /// Adds a text and its origin, e.g. `train.jsonl:17`.
    pub fn add(&mut self, text: &str, place: impl Into<String>) {
        self.0.entry(comparable(text)).or_insert_with(|| place.into());
    }
}

/// The form in which texts are compared: without differences in width, case, white space and punctuation.
///
/// Comparisons, signs, decimal points and the like are no punctuation beside a digit, and digits that something
/// separates do not become one number. A text of punctuation alone stays as it is.
fn comparable(text: &str) -> String {
    let folded: String = text.chars().flat_map(folded).collect();
    let characters: Vec<char> = folded.replace("<=", "≤").replace(">=", "≥").chars().collect();
    let mut form = String::with_capacity(folded.len());
    let mut dropped = false;
    for (place, &character) in characters.iter().enumerate() {
        if !character.is_alphanumeric() && !is_symbol(&characters[..place], character, &characters[place + 1..]) {
            dropped = true;
            continue;
        }
        // "140 90" is not "14090".
        if dropped && character.is_ascii_digit() && form.ends_with(|last: char| last.is_ascii_digit()) {
            form.push(' ');
        }
        dropped = false;
        form.extend(character.to_lowercase());
    }
    if form.is_empty() { folded.trim().to_owned() } else { form }
}

/// Whether a character that is no letter or digit changes the meaning of a text, between `before` and `after`.
fn is_symbol(before: &[char], character: char, after: &[char]) -> bool {
    let visible = |character: &&char| !character.is_whitespace();
    // A sign or a decimal point may stand before the digit: "P < .05", "<-5".
    let number_follows = || {
        let start = after.iter().filter(visible).find(|character| !matches!(character, '.' | '-' | '+' | '±'));
        start.is_some_and(|character| character.is_numeric())
    };
    match character {
        // Results of tests and charges of ions need no digit: "HBsAg(+)", "10⁻⁹", "Na⁺".
        '+' | '±' | '⁺' | '⁻' => true,
        // The end of a sentence may be followed by a space and a digit.
        '.' => after.first().is_some_and(|character| character.is_numeric()),
        '-' => number_follows(),
        '<' | '>' | '≤' | '≥' | '/' | '%' | '‰' => {
            before.iter().rev().find(visible).is_some_and(|character| character.is_numeric()) || number_follows()
        }
        _ => false,
    }
}

/// A character as it is usually typed: of half width, units and Roman numerals in letters. Exponents stay, since 10⁹ is
/// not 109.
fn folded(character: char) -> impl Iterator<Item = char> {
    let letters = match character {
        '\u{2010}'..='\u{2013}' | '−' | '﹣' => "-",
        '﹤' => "<",
        '﹥' => ">",
        '≦' | '⩽' => "≤",
        '≧' | '⩾' => "≥",
        '﹢' => "+",
        '﹪' => "%",
        '∕' | '⁄' => "/",
        // The micro sign as the Greek letter.
        '\u{b5}' => "\u{3bc}",
        'ℓ' => "l",
        '℃' => "°C",
        '℉' => "°F",
        '㎀' => "pA",
        '㎁' => "nA",
        '㎂' => "\u{3bc}A",
        '㎃' => "mA",
        '㎈' => "cal",
        '㎉' => "kcal",
        '㎍' => "\u{3bc}g",
        '㎎' => "mg",
        '㎏' => "kg",
        '㎐' => "Hz",
        '㎑' => "kHz",
        '㎒' => "MHz",
        '㎕' => "\u{3bc}l",
        '㎖' => "ml",
        '㎗' => "dl",
        '㎘' => "kl",
        '㎚' => "nm",
        '㎛' => "\u{3bc}m",
        '㎜' => "mm",
        '㎝' => "cm",
        '㎞' => "km",
        '㎟' => "mm²",
        '㎠' => "cm²",
        '㎡' => "m²",
        '㎣' => "mm³",
        '㎤' => "cm³",
        '㎥' => "m³",
        '㎩' => "Pa",
        '㎪' => "kPa",
        '㎱' => "ns",
        '㎲' => "\u{3bc}s",
        '㎳' => "ms",
        '㎶' => "\u{3bc}V",
        '㎷' => "mV",
        '㏄' => "cc",
        '㏈' => "dB",
        '㏒' => "log",
        '㏖' => "mol",
        '㏗' => "pH",
        // Upper case from U+2160, lower case from U+2170; the comparison ignores case.
        '\u{2160}'..='\u{217f}' => ROMAN[(character as usize - 0x2160) % ROMAN.len()],
        _ => "",
    };
    let other = letters.is_empty().then_some(match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(character as u32 - 0xfee0).unwrap_or(character),
        other => other,
    });
    letters.chars().chain(other)
}

/// The Roman numerals of Unicode, in its order.
const ROMAN: [&str; 16] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "L", "C", "D", "M"];

/// Whether a text has no visible character.
fn is_blank(text: &str) -> bool {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.chars().all(|character| character.is_whitespace() || character.is_control() || invisible(character))
}

/// Lists likely problems in a task's data.
///
/// Texts count as the same if they differ only in width, case, white space and punctuation. Comparisons, signs, decimal
/// points, slashes and percent signs beside a digit are no punctuation: `血压<90` is not `血压>90`, `5.6` is not `56`.
/// Units in one character count as their letters (`㎎` as `mg`), exponents do not become digits. Documents without text
/// are listed as empty, not as duplicates. With a `run` of a retrieval task, up to `most` unjudged documents per query that rank above its first relevant document are listed: the better
/// the system, the more likely they answer the query.
///
/// # Errors
/// If the corpus cannot be read.
pub fn audit(task: &Task, training: &TrainingTexts, run: Option<&Run>, most: usize) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    match task {
        Task::Retrieval(task) => {
            duplicate_documents(task, &mut findings)?;
            let queries = task.query_ids().iter().zip(task.queries());
            let queries = queries.map(|(id, query)| (id.as_str(), query.content().into_owned()));
            duplicate_and_leaked_queries(queries, training, &mut findings);
            absent(task, &mut findings);
            if let Some(run) = run {
                false_negatives(task, run, most, &mut findings)?;
            }
        }
        Task::Reranking(task) => {
            let queries = task.lists().iter().map(|list| list.query_id.as_str()).zip(task.queries());
            let queries = queries.map(|(id, query)| (id, query.content().into_owned()));
            duplicate_and_leaked_queries(queries, training, &mut findings);
        }
        Task::Sts(task) => {
            let mut first: HashMap<(String, String), usize> = HashMap::new();
            for (number, pair) in (1..).zip(task.pairs()) {
                let query = format!("pair {number}");
                for sentence in [&pair.sentence1, &pair.sentence2] {
                    leaked(&query, sentence, training, &mut findings);
                }
                let form = (comparable(&pair.sentence1), comparable(&pair.sentence2));
                if let Some(before) = first.get(&form) {
                    let detail = format!("as pair {before}: {} / {}", pair.sentence1, pair.sentence2);
                    let (kind, document) = (FindingKind::DuplicateQuery, String::new());
                    findings.push(Finding { kind, query, document, detail });
                } else {
                    first.insert(form, number);
                }
            }
        }
    }
    Ok(findings)
}

fn duplicate_documents(task: &RetrievalTask, findings: &mut Vec<Finding>) -> Result<()> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let ids = task.corpus().ids();
    let mut place = 0;
    task.corpus().visit(1024, &mut |documents| {
        for document in documents {
            let text = document.content();
            let form = comparable(&text);
            if is_blank(&text) {
                findings.push(Finding {
                    kind: FindingKind::EmptyDocument,
                    query: String::new(),
                    document: ids[place].clone(),
                    detail: "no text".to_owned(),
                });
            } else if let Some(&before) = first.get(&form) {
                findings.push(Finding {
                    kind: FindingKind::DuplicateDocument,
                    query: String::new(),
                    document: ids[place].clone(),
                    detail: format!("as {}: {text}", ids[before]),
                });
            } else {
                first.insert(form, place);
            }
            place += 1;
        }
        Ok(())
    })
}

fn duplicate_and_leaked_queries<'a>(
    queries: impl Iterator<Item = (&'a str, String)>,
    training: &TrainingTexts,
    findings: &mut Vec<Finding>,
) {
    let mut first: HashMap<String, &str> = HashMap::new();
    for (id, text) in queries {
        leaked(id, &text, training, findings);
        let form = comparable(&text);
        if let Some(before) = first.get(&form) {
            let (query, detail) = (id.to_owned(), format!("as {before}: {text}"));
            findings.push(Finding { kind: FindingKind::DuplicateQuery, query, document: String::new(), detail });
        } else {
            first.insert(form, id);
        }
    }
}

fn leaked(id: &str, text: &str, training: &TrainingTexts, findings: &mut Vec<Finding>) {
    if let Some(place) = training.0.get(&comparable(text)) {
        let (query, detail) = (id.to_owned(), format!("in {place}: {text}"));
        findings.push(Finding { kind: FindingKind::LeakedQuery, query, document: String::new(), detail });
    }
}

fn absent(task: &RetrievalTask, findings: &mut Vec<Finding>) {
    let known: std::collections::HashSet<&String> = task.corpus().ids().iter().collect();
    for (query, document, grade) in task.qrels().judgements() {
        if !known.contains(&document.to_owned()) {
            findings.push(Finding {
                kind: FindingKind::AbsentJudged,
                query: query.to_owned(),
                document: document.to_owned(),
                detail: format!("grade {grade}"),
            });
        }
    }
}

fn false_negatives(task: &RetrievalTask, run: &Run, most: usize, findings: &mut Vec<Finding>) -> Result<()> {
    let mut suspects: Vec<(usize, String, String)> = Vec::new();
    for (row, query_id) in task.query_ids().iter().enumerate() {
        let Some(judged) = task.qrels().get(query_id) else { continue };
        let mut ranked: Vec<(&str, f32)> = run.get(query_id).into_iter().flatten().collect();
        ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let above = ranked.iter().take_while(|(document, _)| judged.get(*document).is_none_or(|grade| *grade <= 0));
        let unjudged = above.filter(|(document, _)| !judged.contains_key(*document));
        suspects.extend(unjudged.take(most).map(|(document, _)| (row, query_id.clone(), (*document).to_owned())));
    }
    let mut texts: HashMap<String, String> = suspects.iter().map(|(_, _, id)| (id.clone(), String::new())).collect();
    let mut ids = task.corpus().ids().iter();
    task.corpus().visit(1024, &mut |documents| {
        for (document, id) in documents.iter().zip(&mut ids) {
            if let Some(text) = texts.get_mut(id) {
                *text = document.content().into_owned();
            }
        }
        Ok(())
    })?;
    findings.extend(suspects.into_iter().map(|(row, query, document)| Finding {
        kind: FindingKind::LikelyFalseNegative,
        detail: format!("{} / {}", task.queries()[row].content(), texts[&document]),
        query,
        document,
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use care_core::{Document, Query};
    use care_eval::Qrels;

    use super::*;
    use crate::task::StsTask;
    use crate::testing::pair;

    fn task() -> Task {
        let corpus = [("d1", "头痛，怎么办？"), ("d2", "发热"), ("d3", "头痛 怎么办"), ("d4", "咳嗽"), ("d5", "Ａ b")];
        let corpus: Vec<_> = corpus.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let queries = [("q1", "头痛"), ("q2", "头 痛！"), ("q3", "发烧")];
        let queries = queries.map(|(id, text)| (id.to_owned(), Query::new(text))).to_vec();
        let judged = [("q1", "d1", 1), ("q1", "d4", 0), ("q2", "gone", 1), ("q3", "d2", 2)];
        let qrels = Qrels::from_judgements(judged).expect("distinct");
        Task::Retrieval(RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid"))
    }

    #[test]
    fn each_kind_of_finding_is_found_and_nothing_else() {
        let mut training = TrainingTexts::default();
        training.add("发烧。", "train.jsonl:3");
        training.add("ａ Ｂ", "train.jsonl:4");
        let run = [
            ("q1", "d4", 0.9),
            ("q1", "d2", 0.8),
            ("q1", "d3", 0.7),
            ("q1", "d5", 0.6),
            ("q1", "d1", 0.5),
            ("q3", "d2", 0.9),
            ("q3", "d1", 0.8),
        ];
        let run = Run::from_scores(run).expect("distinct");
        let found = audit(&task(), &training, Some(&run), 2).expect("audited");
        let found: Vec<_> =
            found.iter().map(|f| (f.kind.name(), f.query.as_str(), f.document.as_str(), f.detail.as_str())).collect();
        assert_eq!(
            found,
            [
                ("duplicate-document", "", "d3", "as d1: 头痛 怎么办"),
                ("duplicate-query", "q2", "", "as q1: 头 痛！"),
                ("leaked-query", "q3", "", "in train.jsonl:3: 发烧"),
                ("absent-judged", "q2", "gone", "grade 1"),
                ("likely-false-negative", "q1", "d2", "头痛 / 发热"),
                ("likely-false-negative", "q1", "d3", "头痛 / 头痛 怎么办"),
            ]
        );
        let without = audit(&task(), &TrainingTexts::default(), None, 2).expect("audited");
        assert_eq!(without.len(), 3);
    }

    #[test]
    fn sentences_of_pairs_leak_one_by_one_and_pairs_are_duplicates_as_a_whole() {
        let pairs = vec![pair("ab", "c", 1.0), pair("a", "bc", 2.0), pair("ab ", "C", 3.0)];
        let task = Task::Sts(StsTask::new("t", "test", pairs).expect("valid"));
        let mut training = TrainingTexts::default();
        training.add("bc", "train.jsonl:1");
        let found = audit(&task, &training, None, 3).expect("audited");
        let found: Vec<_> = found.iter().map(|f| (f.kind.name(), f.query.as_str(), f.detail.as_str())).collect();
        assert_eq!(
            found,
            [("leaked-query", "pair 2", "in train.jsonl:1: bc"), ("duplicate-query", "pair 3", "as pair 1: ab  / C")]
        );
    }

    #[test]
    fn texts_are_compared_without_width_case_space_and_marks() {
        assert_eq!(comparable("ＣＴ 检查（头部）"), comparable("ct检查头部"));
        assert_ne!(comparable("血压140"), comparable("血压14.5"));
        assert_eq!(comparable("<头痛> - 检查/治疗."), comparable("头痛检查治疗"));
    }

    #[test]
    fn symbols_beside_digits_are_no_punctuation() {
        let different = [
            ("血压<90", "血压>90"),
            ("血压 ＜ 90", "血压 ＞ 90"),
            ("血压≤90", "血压≥90"),
            ("血压>=90", "血压>90"),
            ("P<.05", "P>.05"),
            ("血糖 5.6", "血糖 56"),
            ("血糖 .5", "血糖 5"),
            ("-5℃", "5℃"),
            ("−5", "5"),
            ("5-10", "510"),
            ("±2", "2"),
            ("+2", "-2"),
            ("HBsAg(+)", "HBsAg(-)"),
            ("1/2", "12"),
            ("140 90", "14090"),
            ("1：2", "12"),
            ("5%", "5"),
            ("5‰", "5%"),
            ("10⁹", "109"),
            ("10⁹", "10"),
            ("10⁻⁹", "10⁹"),
            ("10^9", "109"),
            ("。", "？"),
        ];
        for (a, b) in different {
            assert_ne!(comparable(a), comparable(b), "{a} {b}");
        }
        let same = [
            ("血压＜90", "血压 < 90"),
            ("血压>=90", "血压≧90"),
            ("１４０／９０", "140 / 90"),
            ("5．6％", "5.6%"),
            ("－5", "−5"),
            ("有3天. 5岁", "有3天 5岁"),
        ];
        for (a, b) in same {
            assert_eq!(comparable(a), comparable(b), "{a} {b}");
        }
    }

    #[test]
    fn units_and_numerals_in_one_character_are_as_their_letters() {
        let same = [
            ("5㎎", "5mg"),
            ("5㎏", "5 KG"),
            ("5㎝×3㎜", "5cm×3mm"),
            ("5㎖", "5ml"),
            ("5㎍", "5μg"),
            ("5µg", "5μg"),
            ("3㎡", "3m²"),
            ("37℃", "37°C"),
            ("Ⅱ型", "II型"),
            ("ⅻ", "XII"),
            ("Ⅿ", "m"),
            ("ＣＴ１", "ct1"),
        ];
        for (a, b) in same {
            assert_eq!(comparable(a), comparable(b), "{a} {b}");
        }
        for (a, b) in [("3㎡", "3m2"), ("5㎎", "5㎍"), ("Ⅱ型", "Ⅲ型")] {
            assert_ne!(comparable(a), comparable(b), "{a} {b}");
        }
    }

    #[test]
    fn documents_without_text_are_empty_and_no_duplicates() {
        let corpus = [("d1", ""), ("d2", " \u{3000}\n"), ("d3", "\u{feff}"), ("d4", "？"), ("d5", "发热")];
        let corpus: Vec<_> = corpus.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let qrels = Qrels::from_judgements([("q", "d5", 1)]).expect("distinct");
        let queries = vec![("q".to_owned(), Query::new("发烧"))];
        let task = Task::Retrieval(RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid"));
        let found = audit(&task, &TrainingTexts::default(), None, 3).expect("audited");
        let found: Vec<_> = found.iter().map(|f| (f.kind.name(), f.document.as_str())).collect();
        assert_eq!(found, [("empty-document", "d1"), ("empty-document", "d2"), ("empty-document", "d3")]);
    }
}
