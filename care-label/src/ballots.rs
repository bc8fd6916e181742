//! Ballots: the scores of all judges for all pairs, from their votes.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use care_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::journal::{VoteRef, read_votes};
use crate::judge::Judges;
use crate::pair::Pair;
use crate::prompt::Prompt;
use crate::scale::Scale;
use crate::vote::{Key, Keys, State};

/// What ballots need of a [`Vote`](crate::Vote).
#[derive(Debug, Clone, PartialEq)]
pub struct Ballot {
    /// [`Vote::key`](crate::Vote::key), the question; `None` if it is not known.
    pub key: Option<Key>,
    /// Name of the judge.
    pub judge: String,
    /// Model that was asked for.
    pub model: String,
    /// [`Prompt::hash`](crate::Prompt::hash).
    pub prompt: String,
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// Number of the sample, from 0.
    pub sample: u32,
    /// Number of the call for this question, from 1.
    pub attempt: u32,
    /// What came of the call.
    pub state: State,
    /// The score, if and only if the state is [`State::Scored`].
    pub score: Option<i32>,
}

impl From<&VoteRef<'_>> for Ballot {
    fn from(vote: &VoteRef<'_>) -> Self {
        Self {
            key: Key::parse(vote.key),
            judge: vote.judge.clone().into_owned(),
            model: vote.model.clone().into_owned(),
            prompt: vote.prompt.clone().into_owned(),
            query_id: vote.query_id.clone().into_owned(),
            doc_id: vote.doc_id.clone().into_owned(),
            sample: vote.sample,
            attempt: vote.attempt,
            state: vote.state,
            score: vote.score,
        }
    }
}

/// Which votes count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Beginning of the prompt's hash. Default: any, but one for each judge.
    pub prompt: Option<String>,
    /// Model. Default: any, but one for each judge.
    pub model: Option<String>,
    /// Judges that are left out. Default none.
    pub without: Vec<String>,
}

impl Filter {
    /// Sets [`prompt`](Self::prompt).
    #[must_use]
    pub fn with_prompt(self, prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..self }
    }

    /// Sets [`model`](Self::model).
    #[must_use]
    pub fn with_model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }

    /// Adds a judge to [`without`](Self::without).
    #[must_use]
    pub fn without(mut self, judge: impl Into<String>) -> Self {
        self.without.push(judge.into());
        self
    }

    fn accepts(&self, ballot: &Ballot) -> bool {
        self.prompt.as_ref().is_none_or(|prompt| ballot.prompt.starts_with(prompt))
            && self.model.as_ref().is_none_or(|model| ballot.model == *model)
            && !self.without.contains(&ballot.judge)
    }
}

/// How a judge's questions ended, one per pair and sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct States {
    /// With a score.
    pub scored: u64,
    /// With an answer that has no readable score.
    pub unparsable: u64,
    /// With a refusal.
    pub refused: u64,
    /// Without an answer.
    pub failed: u64,
}

impl States {
    fn count(&mut self, state: State) {
        *match state {
            State::Scored => &mut self.scored,
            State::Unparsable => &mut self.unparsable,
            State::Refused => &mut self.refused,
            State::Failed => &mut self.failed,
        } += 1;
    }
}

/// A table of pairs (rows) and judges (columns). A judge's score for a pair is the mean over its samples; where no sample
/// has a score, it is missing, which is neither 0 nor a negative vote.
#[derive(Debug, Clone, PartialEq)]
pub struct Ballots {
    scale: Scale,
    judges: Vec<Judging>,
    pairs: Vec<(Arc<str>, Arc<str>)>,
    /// One row per pair; NaN where a judge has no vote.
    scores: Vec<f64>,
    foreign: u64,
}

/// A judge in a table of ballots.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Judging {
    /// Name of the judge.
    pub judge: String,
    /// Its model.
    pub model: String,
    /// Hash of its prompt.
    pub prompt: String,
    /// How its questions ended.
    pub states: States,
}

impl Ballots {
    /// Starts a table for scores of a scale.
    pub fn builder(scale: Scale) -> Builder {
        Builder {
            scale,
            filter: Filter::default(),
            asked: None,
            texts: HashMap::new(),
            names: Vec::new(),
            pairs: Pairs::default(),
            judges: Vec::new(),
            cells: Vec::new(),
            foreign: 0,
        }
    }

    /// The points that judges may give.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The judges, in the order of their first vote.
    pub fn judges(&self) -> &[Judging] {
        &self.judges
    }

    /// The column of a judge.
    pub fn judge(&self, name: &str) -> Option<usize> {
        self.judges.iter().position(|judging| judging.judge == name)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Votes on pairs or questions other than those declared by [`Builder::pairs`] or [`Builder::asked`], which do not count.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// The ids of the query and the document of a row.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn pair(&self, row: usize) -> (&str, &str) {
        let (query, document) = &self.pairs[row];
        (query, document)
    }

    /// The rows by the ids of query and document.
    pub fn rows(&self) -> HashMap<(&str, &str), usize> {
        (0..self.len()).map(|row| (self.pair(row), row)).collect()
    }

    /// The scores of all judges for a row, `None` where a judge has no vote.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn scores(&self, row: usize) -> impl ExactSizeIterator<Item = Option<f64>> + Clone {
        let judges = self.judges.len();
        let scores = &self.scores[row * judges..(row + 1) * judges];
        scores.iter().map(|score| (!score.is_nan()).then_some(*score))
    }

    /// The points of all judges for a row: scores, rounded down, so that a point reaches the threshold if and only if the
    /// mean over samples does.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn points(&self, row: usize) -> impl ExactSizeIterator<Item = Option<i32>> + Clone {
        self.scores(row).map(|score| score.map(|score| score.floor() as i32))
    }

    /// Whether a score reaches the threshold.
    pub fn is_positive(&self, score: f64) -> bool {
        score >= f64::from(self.scale.threshold)
    }

    /// The table without one judge.
    ///
    /// # Errors
    /// If there is no such judge, or no other one.
    pub fn without(&self, judge: &str) -> Result<Self> {
        let names = || self.judges.iter().map(|judging| judging.judge.as_str()).collect::<Vec<_>>().join(", ");
        let column = self.judge(judge).ok_or_else(|| Error::setting("judge", format!("`{judge}`"), &names()))?;
        if self.judges.len() == 1 {
            return Err(Error::setting("judge", format!("`{judge}`, the only one"), "one of at least two judges"));
        }
        let all = self.judges.len();
        let mut fewer = self.clone();
        fewer.judges.remove(column);
        let mut at = 0;
        fewer.scores.retain(|_| {
            at += 1;
            (at - 1) % all != column
        });
        Ok(fewer)
    }
}

/// Collects votes, in any order, for [`Ballots`].
#[derive(Debug)]
pub struct Builder {
    scale: Scale,
    filter: Filter,
    /// The questions whose answers count; `None` for all.
    asked: Option<HashSet<Key>>,
    texts: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    pairs: Pairs,
    judges: Vec<Judging>,
    cells: Vec<Cell>,
    foreign: u64,
}

#[derive(Debug, Default)]
struct Pairs {
    rows: HashMap<(u32, u32), u32>,
    ids: Vec<(u32, u32)>,
    declared: bool,
}

/// The state of one sample. Ordered by question, then by attempt.
#[derive(Debug)]
struct Cell {
    row: u32,
    judge: u32,
    sample: u32,
    attempt: u32,
    /// The beginning of the question's key; 0 if it is not known.
    question: u64,
    state: State,
    score: i32,
}

impl Builder {
    /// Counts some votes only.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// Declares the pairs, before the first vote: those without a vote are rows too, and votes for other pairs are
    /// foreign. Without it, the rows are the pairs that votes name, in their order.
    #[must_use]
    pub fn pairs<'a>(mut self, pairs: impl IntoIterator<Item = &'a Pair>) -> Self {
        for pair in pairs {
            self.row(pair.id());
        }
        self.pairs.declared = true;
        self
    }

    /// Declares the pairs, as [`Builder::pairs`], and what these judges would be asked about them now: votes on texts that
    /// have changed since, by other models or parameters, or for another prompt do not count.
    #[must_use]
    pub fn asked(self, judges: &Judges, prompt: &Prompt, pairs: &[Pair]) -> Self {
        let of_judge = |keys: Keys| {
            let of_pair = move |pair| (0..judges.samples).map(|sample| keys.key(pair, sample)).collect::<Vec<_>>();
            pairs.iter().flat_map(of_pair)
        };
        let asked = judges.judges.iter().flat_map(|judge| of_judge(Keys::new(judge, prompt))).collect();
        Self { asked: Some(asked), ..self.pairs(pairs) }
    }

    /// Adds a vote. Of several calls for a question, the first with a score counts.
    ///
    /// # Errors
    /// If the score is absent or off the scale, or the judge has votes by another model or prompt already: no mean of
    /// both would mean anything.
    pub fn add(&mut self, ballot: &Ballot) -> Result<()> {
        if !self.filter.accepts(ballot) {
            return Ok(());
        }
        if self.asked.as_ref().is_some_and(|asked| ballot.key.is_none_or(|key| !asked.contains(&key))) {
            self.foreign += 1;
            return Ok(());
        }
        let row = match self.known((&ballot.query_id, &ballot.doc_id)) {
            Some(row) => row,
            None if self.pairs.declared => {
                self.foreign += 1;
                return Ok(());
            }
            None => self.row((&ballot.query_id, &ballot.doc_id)),
        };
        let judge = self.judge(ballot)?;
        let score = self.checked(ballot)?;
        let question = ballot.key.map_or(0, Key::start);
        let Ballot { sample, attempt, state, .. } = *ballot;
        self.cells.push(Cell { row, judge, sample, attempt, question, state, score });
        Ok(())
    }

    /// Adds the votes of a journal, as [`read_votes`] reads it.
    ///
    /// # Errors
    /// As [`read_votes`] and [`Builder::add`].
    pub fn read(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        read_votes(path, &mut |line, vote| {
            self.add(&vote.into()).map_err(|e| Error::line(path, line, &e).with_source(e))
        })
    }

    /// The table.
    ///
    /// # Errors
    /// If no vote was counted, or a judge answered two questions about a pair, as happens when its texts or the judge's
    /// parameters change: only one of them is what [`Builder::asked`] would count.
    pub fn finish(mut self) -> Result<Ballots> {
        if self.cells.is_empty() {
            let why = if self.foreign > 0 { ": all answer other questions" } else { "" };
            return Err(Error::new(ErrorKind::Format, format!("no vote counts{why}")));
        }
        // Stable, so that of equal attempts the earlier line is the first.
        self.cells.sort_by_key(|cell| (cell.row, cell.judge, cell.sample, cell.attempt));
        let judges = self.judges.len();
        let mut scores = vec![f64::NAN; judges * self.pairs.ids.len()];
        for of_judge in self.cells.chunk_by(|a, b| (a.row, a.judge) == (b.row, b.judge)) {
            let (mut sum, mut samples) = (0.0, 0.0);
            for calls in of_judge.chunk_by(|a, b| a.sample == b.sample) {
                if calls.iter().any(|call| call.question != calls[0].question) {
                    return Err(self.two_questions(&calls[0]));
                }
                let scored = calls.iter().find(|call| call.state == State::Scored);
                let Some(call) = scored.or(calls.last()) else { continue };
                self.judges[call.judge as usize].states.count(call.state);
                if let Some(call) = scored {
                    sum += f64::from(call.score);
                    samples += 1.0;
                }
            }
            if samples > 0.0 {
                scores[of_judge[0].row as usize * judges + of_judge[0].judge as usize] = sum / samples;
            }
        }
        let name = |at: u32| self.names[at as usize].clone();
        let pairs = self.pairs.ids.iter().map(|(query, document)| (name(*query), name(*document))).collect();
        Ok(Ballots { scale: self.scale, judges: self.judges, pairs, scores, foreign: self.foreign })
    }

    fn two_questions(&self, cell: &Cell) -> Error {
        let (query, document) = self.pairs.ids[cell.row as usize];
        let [query, document] = [query, document].map(|name| &self.names[name as usize]);
        let judge = &self.judges[cell.judge as usize].judge;
        let problem = "answers to two questions: the texts or the judge's parameters have changed in between; count only \
                       what the judges would be asked now (--judges)";
        Error::new(ErrorKind::Format, format!("judge `{judge}`, pair `{query}`, `{document}`: {problem}"))
    }

    fn checked(&self, ballot: &Ballot) -> Result<i32> {
        let Scale { min, max, .. } = self.scale;
        let refuse = |problem: String| {
            let Ballot { judge, query_id, doc_id, .. } = ballot;
            let problem = format!("judge `{judge}`, pair `{query_id}`, `{doc_id}`: {problem}");
            Err(Error::new(ErrorKind::Format, problem))
        };
        match (ballot.state, ballot.score) {
            (State::Scored, None) => refuse("scored, but without a score".into()),
            (State::Scored, Some(score)) if !self.scale.contains(score) => {
                refuse(format!("the score {score} is off the scale, {min} to {max}"))
            }
            (State::Scored, Some(score)) => Ok(score),
            _ => Ok(min),
        }
    }

    fn judge(&mut self, ballot: &Ballot) -> Result<u32> {
        let Some(at) = self.judges.iter().position(|judging| judging.judge == ballot.judge) else {
            let (judge, model, prompt) = (ballot.judge.clone(), ballot.model.clone(), ballot.prompt.clone());
            self.judges.push(Judging { judge, model, prompt, states: States::default() });
            return Ok(self.judges.len() as u32 - 1);
        };
        let known = &self.judges[at];
        for (what, known, found) in [("prompt", &known.prompt, &ballot.prompt), ("model", &known.model, &ballot.model)]
        {
            if known != found {
                let problem = format!(
                    "judge `{}` has votes by two {what}s, {known} and {found}; choose one of them",
                    ballot.judge
                );
                return Err(Error::new(ErrorKind::Format, problem));
            }
        }
        Ok(at as u32)
    }

    fn known(&self, (query, document): (&str, &str)) -> Option<u32> {
        self.pairs.rows.get(&(*self.texts.get(query)?, *self.texts.get(document)?)).copied()
    }

    fn row(&mut self, (query, document): (&str, &str)) -> u32 {
        let ids = (self.name(query), self.name(document));
        let next = self.pairs.ids.len() as u32;
        let row = *self.pairs.rows.entry(ids).or_insert(next);
        if row == next {
            self.pairs.ids.push(ids);
        }
        row
    }

    fn name(&mut self, text: &str) -> u32 {
        if let Some(&at) = self.texts.get(text) {
            return at;
        }
        let (text, at) = (Arc::<str>::from(text), self.names.len() as u32);
        self.names.push(text.clone());
        self.texts.insert(text, at);
        at
    }
}

/// A table of pairs `q0`, `d0` and so on, for tests: one row of scores each, `None` for no vote.
#[cfg(test)]
pub(crate) fn table(scale: Scale, rows: &[&[Option<i32>]]) -> Ballots {
    let mut builder = Ballots::builder(scale);
    for (row, scores) in rows.iter().enumerate() {
        for (judge, score) in scores.iter().enumerate() {
            builder.add(&ballot(&format!("j{judge}"), row, *score)).expect("a vote");
        }
    }
    builder.finish().expect("ballots")
}

#[cfg(test)]
pub(crate) fn ballot(judge: &str, row: usize, score: Option<i32>) -> Ballot {
    Ballot {
        key: None,
        judge: judge.into(),
        model: "m".into(),
        prompt: "p".into(),
        query_id: format!("q{row}"),
        doc_id: format!("d{row}"),
        sample: 0,
        attempt: 1,
        state: if score.is_some() { State::Scored } else { State::Refused },
        score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn five() -> Scale {
        Scale::new(1, 5, 4).expect("five points")
    }

    #[test]
    fn a_score_is_the_mean_over_samples_of_scored_attempts_and_no_vote_is_missing() {
        let mut builder = Ballots::builder(five());
        let mut add = |sample, attempt, score: Option<i32>| {
            let ballot = Ballot { sample, attempt, ..ballot("a", 0, score) };
            builder.add(&ballot).expect("a vote");
        };
        // In the order of a batch: attempt 2 of sample 1 came before attempt 1.
        add(1, 2, Some(4));
        add(1, 1, None);
        add(0, 1, Some(5));
        add(0, 1, Some(2));
        // A journal that was joined by hand: once scored, always scored.
        add(2, 1, Some(5));
        add(2, 2, None);
        add(3, 1, Some(4));
        add(4, 1, None);
        add(4, 2, None);
        builder.add(&ballot("b", 1, Some(1))).expect("a vote");
        builder.add(&ballot("b", 0, None)).expect("a vote");
        let ballots = builder.finish().expect("ballots");
        assert_eq!(ballots.scores(0).collect::<Vec<_>>(), [Some(4.5), None]);
        assert_eq!(ballots.scores(1).collect::<Vec<_>>(), [None, Some(1.0)]);
        assert_eq!(ballots.points(0).collect::<Vec<_>>(), [Some(4), None]);
        assert_eq!(ballots.judges()[0].states, States { scored: 4, refused: 1, ..States::default() });
        assert_eq!((ballots.pair(1), ballots.rows()[&("q0", "d0")]), (("q1", "d1"), 0));
    }

    #[test]
    fn two_models_or_prompts_under_one_name_are_refused_unless_one_is_chosen() {
        let old = ballot("a", 0, Some(5));
        let prompt = Ballot { prompt: "r".into(), score: Some(1), ..old.clone() };
        let model = Ballot { model: "n".into(), ..old.clone() };
        let message = |second: &Ballot| {
            let mut builder = Ballots::builder(five());
            builder.add(&old).expect("a vote");
            builder.add(second).expect_err("another").to_string()
        };
        assert_eq!(message(&prompt), "judge `a` has votes by two prompts, p and r; choose one of them");
        assert_eq!(message(&model), "judge `a` has votes by two models, m and n; choose one of them");
        let chosen = |filter: Filter, other: &Ballot| {
            let mut builder = Ballots::builder(five()).filter(filter);
            builder.add(&old).expect("a vote");
            builder.add(other).expect("a vote");
            builder.finish().map(|ballots| ballots.scores(0).next().flatten()).map_err(|e| e.to_string())
        };
        assert_eq!(chosen(Filter::default().with_prompt("r"), &prompt), Ok(Some(1.0)));
        assert_eq!(chosen(Filter::default().with_model("m"), &model), Ok(Some(5.0)));
        assert_eq!(chosen(Filter::default().with_prompt("x"), &model), Err("no vote counts".into()));
        assert_eq!(chosen(Filter::default().without("a"), &old), Err("no vote counts".into()));
    }

    #[test]
    fn declared_pairs_are_rows_and_other_votes_are_foreign() {
        let pair = |row: usize| Pair {
            query_id: format!("q{row}"),
            doc_id: format!("d{row}"),
            query: "q".into(),
            document: "d".into(),
            positive: None,
            group: None,
            grade: None,
            systems: vec![],
        };
        let pairs = [pair(0), pair(1)];
        let mut builder = Ballots::builder(five()).pairs(&pairs);
        builder.add(&ballot("a", 1, Some(3))).expect("a vote");
        builder.add(&ballot("a", 2, Some(3))).expect("a vote");
        let ballots = builder.finish().expect("ballots");
        assert_eq!((ballots.len(), ballots.foreign(), ballots.is_empty()), (2, 1, false));
        assert_eq!(ballots.scores(0).collect::<Vec<_>>(), [None]);
        let mut none = Ballots::builder(five()).pairs(&pairs);
        none.add(&ballot("a", 2, Some(3))).expect("a vote");
        assert_eq!(none.finish().expect_err("foreign").to_string(), "no vote counts: all answer other questions");
    }

    #[test]
    fn answers_to_two_questions_about_a_pair_are_refused_unless_one_is_asked() {
        let judges = |model: &str| {
            let text = format!(
                "[[judge]]\nname = \"a\"\nendpoint = \"http://127.0.0.1/v1\"\nmodel = \"{model}\"\n\
                 [[judge]]\nname = \"b\"\nendpoint = \"http://127.0.0.1/v1\"\nmodel = \"other\"\n"
            );
            Judges::from_toml(&text).expect("judges")
        };
        let prompt = Prompt::open("relevance").expect("built in");
        let pair = |document: &str| Pair {
            query_id: "q0".into(),
            doc_id: "d0".into(),
            query: "q".into(),
            document: document.into(),
            positive: None,
            group: None,
            grade: None,
            systems: vec![],
        };
        let (old, new) = (pair("头疼"), pair("头痛"));
        let answer = |judges: &Judges, pair: &Pair, score: i32| {
            let key = Keys::new(&judges.judges[0], &prompt).key(pair, 0);
            Ballot { key: Some(key), model: judges.judges[0].model.clone(), ..ballot("a", 0, Some(score)) }
        };
        let (now, before) = (judges("m"), judges("n"));
        // The text was corrected, and before that the model behind the name was replaced.
        let votes = [answer(&now, &old, 4), answer(&now, &new, 2)];
        let mut all = Ballots::builder(five());
        votes.iter().for_each(|vote| all.add(vote).expect("a vote"));
        let refused = all.finish().expect_err("two texts").to_string();
        let expected = "judge `a`, pair `q0`, `d0`: answers to two questions: the texts or the judge's parameters have \
                        changed in between; count only what the judges would be asked now (--judges)";
        assert_eq!(refused, expected);
        let pairs = [new.clone()];
        let mut asked = Ballots::builder(five()).asked(&now, &prompt, &pairs);
        // Off the scale and by another model, but not asked.
        for vote in [answer(&before, &new, 9), votes[0].clone(), votes[1].clone(), ballot("c", 0, Some(1))] {
            asked.add(&vote).expect("a vote");
        }
        let ballots = asked.finish().expect("one question");
        assert_eq!((ballots.judges().len(), ballots.foreign()), (1, 3));
        assert_eq!(ballots.scores(0).collect::<Vec<_>>(), [Some(2.0)]);
        // What is wrong with votes for another prompt is the prompt, not their scale.
        let mut mixed = Ballots::builder(five());
        mixed.add(&ballot("a", 0, Some(5))).expect("a vote");
        let other = Ballot { prompt: "r".into(), ..ballot("a", 1, Some(9)) };
        let refused = mixed.add(&other).expect_err("another prompt").to_string();
        assert_eq!(refused, "judge `a` has votes by two prompts, p and r; choose one of them");
    }

    #[test]
    fn bad_votes_are_named() {
        let add = |ballot: &Ballot| Ballots::builder(five()).add(ballot).expect_err("refused").to_string();
        assert_eq!(add(&ballot("a", 0, Some(6))), "judge `a`, pair `q0`, `d0`: the score 6 is off the scale, 1 to 5");
        let without = Ballot { state: State::Scored, ..ballot("a", 3, None) };
        assert_eq!(add(&without), "judge `a`, pair `q3`, `d3`: scored, but without a score");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("votes.jsonl");
        let key = "0".repeat(64);
        let line = r#"{"key":"K","judge":"a","model":"m","prompt":"p","query_id":"q","doc_id":"d","sample":0,"attempt":1,"state":"scored","score":9,"time":"t"}"#;
        // Whole, but for its line end.
        std::fs::write(&path, line.replace("K", &key)).expect("written");
        let error = Ballots::builder(five()).read(&path).expect_err("off the scale");
        assert!(
            error
                .to_string()
                .ends_with("votes.jsonl:1: judge `a`, pair `q`, `d`: the score 9 is off the scale, 1 to 5")
        );
        let mut builder = Ballots::builder(Scale::new(1, 9, 4).expect("nine"));
        builder.read(&path).expect("read");
        assert_eq!(builder.finish().expect("ballots").scores(0).collect::<Vec<_>>(), [Some(9.0)]);
    }

    #[test]
    fn a_judge_is_left_out() {
        let ballots = table(five(), &[&[Some(1), Some(2), None], &[Some(3), None, Some(5)]]);
        let fewer = ballots.without("j1").expect("two judges");
        assert_eq!(fewer.scores(0).collect::<Vec<_>>(), [Some(1.0), None]);
        assert_eq!(fewer.scores(1).collect::<Vec<_>>(), [Some(3.0), Some(5.0)]);
        assert_eq!(ballots.without("x").expect_err("none").to_string(), "`judge` is `x`, allowed: j0, j1, j2");
        let one = fewer.without("j0").expect("one judge");
        assert_eq!(
            one.without("j2").expect_err("none left").to_string(),
            "`judge` is `j2`, the only one, allowed: one of at least two judges"
        );
    }
}
