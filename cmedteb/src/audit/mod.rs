//! Likely problems in a task's data, for manual review.

use std::collections::{HashMap, HashSet};

use care_core::{Error, ErrorKind, Result, Text};
use care_data::near::{Forms, NearDuplicates, NearIndex};
use care_data::normalise;
use care_eval::Run;
use indexmap::IndexMap;
use rayon::prelude::*;

use crate::error::invalid;
use crate::task::{RerankingTask, RetrievalTask, Task};

/// Characters per n-gram by which texts are compared.
const TRIGRAMS: usize = 3;

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
    /// A document that is similar to an earlier one.
    NearDuplicateDocument,
    /// A query that is similar to an earlier one.
    NearDuplicateQuery,
    /// A query or a sentence that occurs in the training texts.
    LeakedQuery,
    /// A query or a sentence that is similar to a training text.
    NearLeakedQuery,
    /// A document that occurs in the training texts. If both are of one corpus, that is to be expected.
    LeakedDocument,
    /// A document that is similar to a training text.
    NearLeakedDocument,
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
            Self::NearDuplicateDocument => "near-duplicate-document",
            Self::NearDuplicateQuery => "near-duplicate-query",
            Self::LeakedQuery => "leaked-query",
            Self::NearLeakedQuery => "near-leaked-query",
            Self::LeakedDocument => "leaked-document",
            Self::NearLeakedDocument => "near-leaked-document",
            Self::AbsentJudged => "absent-judged",
            Self::LikelyFalseNegative => "likely-false-negative",
        }
    }
}

/// Training texts, which should not occur in a task, with their origins.
#[derive(Debug, Clone, Default)]
pub struct TrainingTexts(IndexMap<String, String>);

impl TrainingTexts {
    /// Adds a text and its origin, e.g. `train.jsonl:17`. Of equal texts the first origin is kept.
    pub fn add(&mut self, text: &str, place: impl Into<String>) {
        self.0.entry(normalise(text)).or_insert_with(|| place.into());
    }
}

/// What [`audit`] compares a task with.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AuditOptions<'a> {
    /// Training texts that should not occur in the task.
    pub training: Option<&'a TrainingTexts>,
    /// A ranking of the task: unjudged documents above the first relevant one are listed. Retrieval only.
    pub run: Option<&'a Run>,
    /// Maximum number of such documents per query. Default 3.
    pub most: usize,
    /// Similarity of texts that are listed as near duplicates: the Jaccard index of their character trigrams, in
    /// `[0.5, 1]`. Default 0.8.
    pub near: f64,
}

impl Default for AuditOptions<'_> {
    fn default() -> Self {
        Self { training: None, run: None, most: 3, near: 0.8 }
    }
}

impl<'a> AuditOptions<'a> {
    /// Sets [`AuditOptions::training`].
    #[must_use]
    pub fn with_training(self, training: &'a TrainingTexts) -> Self {
        Self { training: Some(training), ..self }
    }

    /// Sets [`AuditOptions::run`] and [`AuditOptions::most`].
    #[must_use]
    pub fn with_run(self, run: &'a Run, most: usize) -> Self {
        Self { run: Some(run), most, ..self }
    }

    /// Sets [`AuditOptions::near`].
    #[must_use]
    pub fn with_near(self, near: f64) -> Self {
        Self { near, ..self }
    }
}

/// Lists likely problems in a task's data.
///
/// Texts count as the same if they differ only in width, case, white space and punctuation. Comparisons, signs, decimal
/// points, slashes and percent signs beside a digit are no punctuation: `血压<90` is not `血压>90`, `5.6` is not `56`.
/// Compatibility characters count as what they stand for (`㎎` as `mg`), exponents do not become digits. Of texts in this
/// form, those with a similarity of at least [`AuditOptions::near`] are near duplicates; each is listed once, with the
/// most similar one. Documents without text are listed as empty, not as duplicates. The better the system of a run, the
/// more likely the unjudged documents that it ranks first answer the query.
///
/// # Errors
/// If the corpus cannot be read, if [`AuditOptions::near`] is out of range, or if the run is not of this task: if it has
/// no query of the task or ranks a document that the corpus lacks, or if the task is none of retrieval.
pub fn audit(task: &Task, options: &AuditOptions<'_>) -> Result<Vec<Finding>> {
    if !(0.5..=1.0).contains(&options.near) {
        return Err(Error::setting("near", options.near, "0.5 to 1"));
    }
    let near = NearDuplicates::new(TRIGRAMS, options.near)?;
    let mut audit = Audit { known: options.training.map(|texts| Known::new(texts, near)), near, findings: Vec::new() };
    match task {
        Task::Retrieval(task) => {
            if let Some(run) = options.run {
                is_of(run, task)?;
            }
            audit.texts(&DOCUMENT, task.corpus().ids(), &mut |each| {
                let mut place = 0;
                task.corpus().visit(1024, &mut |documents| {
                    for document in documents {
                        each(place, &document.content());
                        place += 1;
                    }
                    Ok(())
                })
            })?;
            audit.queries(task.query_ids(), task.queries())?;
            absent(task, &mut audit.findings);
            if let Some(run) = options.run {
                false_negatives(task, run, options.most, &mut audit.findings)?;
            }
        }
        other if options.run.is_some() => {
            let message = format!("a run applies only to retrieval, which {} is not", other.name());
            return Err(Error::new(ErrorKind::Config, message));
        }
        Task::Reranking(task) => {
            audit.candidates(task);
            let ids: Vec<String> = task.lists().iter().map(|list| list.query_id.clone()).collect();
            audit.queries(&ids, task.queries())?;
        }
        Task::Sts(task) => {
            let mut first: HashMap<(String, String), usize> = HashMap::new();
            for (number, pair) in (1..).zip(task.pairs()) {
                let query = format!("pair {number}");
                for sentence in [&pair.sentence1, &pair.sentence2] {
                    audit.leak(&QUERY, &query, sentence, &normalise(sentence));
                }
                let form = (normalise(&pair.sentence1), normalise(&pair.sentence2));
                if let Some(before) = first.get(&form) {
                    let detail = format!("as pair {before}: {} / {}", pair.sentence1, pair.sentence2);
                    audit.findings.push(QUERY.finding(QUERY.duplicate, &query, detail));
                } else {
                    first.insert(form, number);
                }
            }
        }
    }
    Ok(audit.findings)
}

/// The kinds of findings about a kind of text.
struct Role {
    duplicate: FindingKind,
    near_duplicate: FindingKind,
    leaked: FindingKind,
    near_leaked: FindingKind,
}

const QUERY: Role = Role {
    duplicate: FindingKind::DuplicateQuery,
    near_duplicate: FindingKind::NearDuplicateQuery,
    leaked: FindingKind::LeakedQuery,
    near_leaked: FindingKind::NearLeakedQuery,
};
const DOCUMENT: Role = Role {
    duplicate: FindingKind::DuplicateDocument,
    near_duplicate: FindingKind::NearDuplicateDocument,
    leaked: FindingKind::LeakedDocument,
    near_leaked: FindingKind::NearLeakedDocument,
};

impl Role {
    fn finding(&self, kind: FindingKind, id: &str, detail: String) -> Finding {
        let (query, document) = match self.duplicate {
            FindingKind::DuplicateQuery => (id.to_owned(), String::new()),
            _ => (String::new(), id.to_owned()),
        };
        Finding { kind, query, document, detail }
    }
}

/// Training texts, ready to be searched.
struct Known<'a> {
    texts: &'a TrainingTexts,
    index: NearIndex,
}

impl<'a> Known<'a> {
    fn new(texts: &'a TrainingTexts, near: NearDuplicates) -> Self {
        Self { texts, index: NearIndex::of_all(near, texts.0.keys().collect::<Forms>()) }
    }

    /// The origin of a text, or the similarity and the origin of the most similar one.
    fn find(&self, form: &str) -> Option<(Option<f64>, &'a str)> {
        if let Some(place) = self.texts.0.get(form) {
            return Some((None, place));
        }
        let found = self.index.nearest(form, usize::MAX)?;
        Some((Some(found.similarity), &self.texts.0[found.text]))
    }
}

/// Calls a function with the place and the text of every text of a kind.
type Visit<'a> = dyn FnMut(&mut dyn FnMut(usize, &str)) -> Result<()> + 'a;

struct Audit<'a> {
    known: Option<Known<'a>>,
    near: NearDuplicates,
    findings: Vec<Finding>,
}

impl Audit<'_> {
    fn queries(&mut self, ids: &[String], queries: &[care_core::Query]) -> Result<()> {
        self.texts(&QUERY, ids, &mut |each| {
            queries.iter().enumerate().for_each(|(place, query)| each(place, &query.content()));
            Ok(())
        })
    }

    /// Documents of a reranking task, each with the id that it has in the first list; they are distinct already.
    fn candidates(&mut self, task: &RerankingTask) {
        let mut seen = HashSet::new();
        for (id, place) in
            task.lists().iter().flat_map(|list| &list.candidates).filter(|(_, place)| seen.insert(*place))
        {
            let text = task.documents()[*place].content();
            self.leak(&DOCUMENT, id, &text, &normalise(&text));
        }
    }

    /// Compares texts with each other and with the training texts.
    fn texts(&mut self, role: &Role, ids: &[String], visit: &mut Visit<'_>) -> Result<()> {
        let mut forms: IndexMap<String, usize> = IndexMap::new();
        visit(&mut |place, text| {
            let (id, form) = (&ids[place], normalise(text));
            if role.duplicate == FindingKind::DuplicateDocument && is_blank(text) {
                self.findings.push(role.finding(FindingKind::EmptyDocument, id, "no text".to_owned()));
                return;
            }
            self.leak(role, id, text, &form);
            if let Some(&before) = forms.get(&form) {
                self.findings.push(role.finding(role.duplicate, id, format!("as {}: {text}", ids[before])));
            } else {
                forms.insert(form, place);
            }
        })?;
        let index = NearIndex::of_all(self.near, forms.keys().collect::<Forms>());
        let places: Vec<(&String, usize)> = forms.iter().map(|(form, place)| (form, *place)).collect();
        let near = |(number, (form, place)): (usize, &(&String, usize))| {
            let before = index.nearest(form, number)?;
            Some((*place, (places[before.text].1, before.similarity)))
        };
        let similar: HashMap<usize, (usize, f64)> = places.par_iter().enumerate().filter_map(near).collect();
        if similar.is_empty() {
            return Ok(());
        }
        visit(&mut |place, text| {
            if let Some((before, similarity)) = similar.get(&place) {
                let detail = format!("{similarity:.2} as {}: {text}", ids[*before]);
                self.findings.push(role.finding(role.near_duplicate, &ids[place], detail));
            }
        })
    }

    /// Adds a finding if a text, whose comparable form is given, occurs in the training texts.
    fn leak(&mut self, role: &Role, id: &str, text: &str, form: &str) {
        let Some(known) = &self.known else { return };
        let finding = match known.find(form) {
            Some((None, place)) => role.finding(role.leaked, id, format!("in {place}: {text}")),
            Some((Some(similarity), place)) => {
                role.finding(role.near_leaked, id, format!("{similarity:.2} in {place}: {text}"))
            }
            None => return,
        };
        self.findings.push(finding);
    }
}

/// Checks that a run is of this task.
fn is_of(run: &Run, task: &RetrievalTask) -> Result<()> {
    let queries: HashSet<&str> = task.query_ids().iter().map(String::as_str).collect();
    let documents: HashSet<&str> = task.corpus().ids().iter().map(String::as_str).collect();
    let wrong = |problem: String| Err(invalid(task.name(), format!("the run is of another task: {problem}")));
    if let Some(first) = run.query_ids().next().filter(|_| !run.query_ids().any(|query| queries.contains(query))) {
        return wrong(format!("it has the query {first:?}, the task {:?}", task.query_ids()[0]));
    }
    for query in task.query_ids() {
        let absent = run.get(query).into_iter().flatten().find(|(document, _)| !documents.contains(document));
        if let Some((document, _)) = absent {
            return wrong(format!("it ranks the document {document:?} for {query:?}, which the corpus lacks"));
        }
    }
    Ok(())
}

fn absent(task: &RetrievalTask, findings: &mut Vec<Finding>) {
    let known: HashSet<&str> = task.corpus().ids().iter().map(String::as_str).collect();
    for (query, document, grade) in task.qrels().judgements() {
        if !known.contains(document) {
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

/// Whether a text has no visible character.
fn is_blank(text: &str) -> bool {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.chars().all(|character| character.is_whitespace() || character.is_control() || invisible(character))
}

#[cfg(test)]
mod tests {
    use care_core::{Document, Query};
    use care_eval::Qrels;

    use super::*;
    use crate::task::StsTask;
    use crate::testing::{pair, row};

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
        let options = AuditOptions::default().with_training(&training).with_run(&run, 2);
        let found = audit(&task(), &options).expect("audited");
        let found: Vec<_> =
            found.iter().map(|f| (f.kind.name(), f.query.as_str(), f.document.as_str(), f.detail.as_str())).collect();
        assert_eq!(
            found,
            [
                ("duplicate-document", "", "d3", "as d1: 头痛 怎么办"),
                ("leaked-document", "", "d5", "in train.jsonl:4: Ａ b"),
                ("duplicate-query", "q2", "", "as q1: 头 痛！"),
                ("leaked-query", "q3", "", "in train.jsonl:3: 发烧"),
                ("absent-judged", "q2", "gone", "grade 1"),
                ("likely-false-negative", "q1", "d2", "头痛 / 发热"),
                ("likely-false-negative", "q1", "d3", "头痛 / 头痛 怎么办"),
            ]
        );
        let without = audit(&task(), &AuditOptions::default()).expect("audited");
        assert_eq!(without.len(), 3);
    }

    #[test]
    fn sentences_of_pairs_leak_one_by_one_and_pairs_are_duplicates_as_a_whole() {
        let pairs = vec![pair("ab", "c", 1.0), pair("a", "bc", 2.0), pair("ab ", "C", 3.0)];
        let task = Task::Sts(StsTask::new("t", "test", pairs).expect("valid"));
        let mut training = TrainingTexts::default();
        training.add("bc", "train.jsonl:1");
        let found = audit(&task, &AuditOptions::default().with_training(&training)).expect("audited");
        let found: Vec<_> = found.iter().map(|f| (f.kind.name(), f.query.as_str(), f.detail.as_str())).collect();
        assert_eq!(
            found,
            [("leaked-query", "pair 2", "in train.jsonl:1: bc"), ("duplicate-query", "pair 3", "as pair 1: ab  / C")]
        );
    }

    #[test]
    fn documents_without_text_are_empty_and_no_duplicates() {
        let corpus = [("d1", ""), ("d2", " \u{3000}\n"), ("d3", "\u{feff}"), ("d4", "？"), ("d5", "发热")];
        let corpus: Vec<_> = corpus.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let qrels = Qrels::from_judgements([("q", "d5", 1)]).expect("distinct");
        let queries = vec![("q".to_owned(), Query::new("发烧"))];
        let task = Task::Retrieval(RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid"));
        let found = audit(&task, &AuditOptions::default()).expect("audited");
        let found: Vec<_> = found.iter().map(|f| (f.kind.name(), f.document.as_str())).collect();
        assert_eq!(found, [("empty-document", "d1"), ("empty-document", "d2"), ("empty-document", "d3")]);
    }

    #[test]
    fn similar_texts_are_listed_with_the_most_similar_one() {
        let long = "头痛三天伴恶心呕吐，体温37.5℃，应去医院检查血常规";
        let corpus = [
            ("d1", long.to_owned()),
            ("d2", "发热".to_owned()),
            ("d3", format!("{long}。")),
            ("d4", format!("{long}和尿")),
            ("d5", format!("{long}和尿吗")),
            ("d6", "发烧".to_owned()),
        ];
        let corpus: Vec<_> = corpus.map(|(id, text)| (id.to_owned(), Document::new(text))).to_vec();
        let queries = [("q1", "头痛三天怎么办"), ("q2", "头痛三天怎么办呢"), ("q3", "头痛十天怎么办")];
        let queries = queries.map(|(id, text)| (id.to_owned(), Query::new(text))).to_vec();
        let judged = ["q1", "q2", "q3"].map(|query| (query, "d1", 1));
        let qrels = Qrels::from_judgements(judged).expect("distinct");
        let task = Task::Retrieval(RetrievalTask::new("t", "test", corpus, queries, qrels).expect("valid"));
        let mut training = TrainingTexts::default();
        training.add("请问头痛十天怎么办", "train.jsonl:1");
        training.add("发热", "train.jsonl:2, pos");
        let found = |near: f64| {
            let options = AuditOptions::default().with_training(&training).with_near(near);
            let found = audit(&task, &options).expect("audited");
            let found = found.into_iter().map(|f| format!("{} {}{} {}", f.kind.name(), f.query, f.document, f.detail));
            found.collect::<Vec<_>>()
        };
        let leak = "leaked-document d2 in train.jsonl:2, pos: 发热".to_owned();
        let same = format!("duplicate-document d3 as d1: {long}。");
        assert_eq!(
            found(0.8),
            [
                leak.clone(),
                same.clone(),
                format!("near-duplicate-document d4 0.92 as d1: {long}和尿"),
                format!("near-duplicate-document d5 0.96 as d4: {long}和尿吗"),
                "near-duplicate-query q2 0.83 as q1: 头痛三天怎么办呢".to_owned(),
            ]
        );
        assert!(found(0.7).contains(&"near-leaked-query q3 0.71 in train.jsonl:1: 头痛十天怎么办".to_owned()));
        assert_eq!(found(1.0), [leak, same]);
        for near in [0.4, 1.1, f64::NAN] {
            let error = audit(&task, &AuditOptions::default().with_near(near)).expect_err("out of range").to_string();
            assert_eq!(error, format!("`near` is {near}, allowed: 0.5 to 1"));
        }
    }

    #[test]
    fn candidates_of_reranking_leak_under_their_first_id() {
        let rows = vec![row("q", &["头痛"], &["发烧"]), row("r", &["发烧"], &["咳嗽"])];
        let task = Task::Reranking(RerankingTask::new("t", "test", rows).expect("valid"));
        let mut training = TrainingTexts::default();
        training.add("发烧", "train.jsonl:1, pos");
        training.add("r", "train.jsonl:2");
        let found = audit(&task, &AuditOptions::default().with_training(&training)).expect("audited");
        let found: Vec<_> = found.iter().map(|f| (f.kind.name(), f.query.as_str(), f.document.as_str())).collect();
        assert_eq!(found, [("leaked-document", "", "negative_test_query0_00000"), ("leaked-query", "test_query1", "")]);
    }

    #[test]
    fn a_run_of_another_task_is_refused() {
        let refused = |task: &Task, run: &[(&str, &str, f32)]| {
            let run = Run::from_scores(run.iter().copied()).expect("distinct");
            audit(task, &AuditOptions::default().with_run(&run, 3)).expect_err("another task").to_string()
        };
        assert_eq!(
            refused(&task(), &[("x1", "d1", 0.5), ("x2", "d1", 0.5)]),
            "task t: the run is of another task: it has the query \"x1\", the task \"q1\""
        );
        assert_eq!(
            refused(&task(), &[("q2", "d1", 0.5), ("q2", "e1", 0.4), ("q3", "d2", 0.5)]),
            "task t: the run is of another task: it ranks the document \"e1\" for \"q2\", which the corpus lacks"
        );
        let pairs = vec![pair("a", "b", 1.0), pair("a", "c", 2.0)];
        let sts = Task::Sts(StsTask::new("s", "test", pairs).expect("valid"));
        assert_eq!(refused(&sts, &[("q1", "d1", 0.5)]), "a run applies only to retrieval, which s is not");
    }
}
