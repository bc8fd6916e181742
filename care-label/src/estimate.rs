//! Which questions are open, and what their answers will cost, before the first call.

use std::collections::HashSet;
use std::fmt;

use care_core::{Error, ErrorKind, Result};
use rayon::prelude::*;

use crate::journal::Journal;
use crate::judge::{Judge, Judges};
use crate::pair::Pair;
use crate::prompt::{AnswerForm, Prompt};
use crate::vote::{Key, Keys, State};

/// Answers of a judge in the journal from which their mean length replaces the guess.
const ENOUGH: u64 = 20;
/// Guessed tokens of a question that a judge writes.
const QUESTION_TOKENS: u64 = 30;

/// What calls will need, expected, not at most: one answer per open question.
///
/// Tokens are guessed from characters: 0.75 for one of Chinese, Japanese or Korean, 0.3 for one of ASCII, 0.5 for any
/// other, and 4 per message. (DeepSeek's documentation gives 0.6 and 0.3; older tokenizers need more for Chinese.)
/// Answers are guessed as twice the length of the prompt's examples until the journal has 20 answers of the judge.
/// Reasoning models need many times that. During a run, guesses are corrected by what endpoints count.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// One entry per judge.
    pub judges: Vec<JudgeEstimate>,
}

/// What the calls of one judge will need.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JudgeEstimate {
    /// Name of the judge.
    pub judge: String,
    /// Open questions: calls, if every answer can be read.
    pub calls: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
    /// Their cost, if the judge's prices are known.
    pub cost: Option<f64>,
}

impl Estimate {
    /// Calls of all judges.
    pub fn calls(&self) -> u64 {
        self.judges.iter().map(|judge| judge.calls).sum()
    }

    /// Input and output tokens of all judges.
    pub fn tokens(&self) -> u64 {
        self.judges.iter().map(|judge| judge.input_tokens + judge.output_tokens).sum()
    }

    /// Cost of all judges; `None` if a judge's prices are unknown.
    pub fn cost(&self) -> Option<f64> {
        self.judges.iter().map(|judge| judge.cost).sum()
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "about {} tokens for {} calls, guessed from characters", self.tokens(), self.calls())
    }
}

/// Estimates what the open questions of all judges need.
///
/// # Errors
/// If a pair occurs twice, or the prompt needs a known positive and a pair has none.
pub fn estimate(pairs: &[Pair], judges: &Judges, prompt: &Prompt, journal: &Journal) -> Result<Estimate> {
    let questions = questions(pairs, judges, prompt, journal)?;
    Ok(of_questions(judges, prompt, journal, &questions))
}

/// A question without a score, which may be asked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// Index of the pair.
    pub(crate) pair: u32,
    pub(crate) sample: u32,
    pub(crate) key: Key,
    /// Answers that it has got.
    pub(crate) answers: u32,
    /// Estimated tokens of the prompt.
    pub(crate) tokens: u32,
}

/// The questions of a judge.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Those to ask, in the order of the pairs; those that failed before come last.
    pub(crate) open: Vec<Question>,
    /// Those that are settled, by state.
    pub(crate) scored: u64,
    pub(crate) unparsable: u64,
    pub(crate) refused: u64,
}

/// The questions of every judge, in the order of the judges.
pub(crate) fn questions(pairs: &[Pair], judges: &Judges, prompt: &Prompt, journal: &Journal) -> Result<Vec<Questions>> {
    let mut ids = HashSet::with_capacity(pairs.len());
    if let Some(twice) = pairs.iter().find(|pair| !ids.insert(pair.id())) {
        let (query, document) = twice.id();
        return Err(Error::new(ErrorKind::Format, format!("the pair `{query}`, `{document}` is duplicated")));
    }
    let mut fixed = Vec::new();
    if let Some(first) = pairs.first() {
        for form in 0..prompt.forms() as u32 {
            let text: u32 = prompt.messages(first, form)?.iter().map(|message| 4 + tokens(&message.content)).sum();
            fixed.push(text.saturating_sub(texts_of(first)));
        }
    }
    if prompt.wants_positive() {
        pairs.iter().filter(|pair| pair.positive.is_none()).try_for_each(|pair| prompt.messages(pair, 0).map(drop))?;
    }
    Ok(judges.judges.iter().map(|judge| of_judge(judge, pairs, judges, prompt, journal, &fixed)).collect())
}

fn of_judge(
    judge: &Judge,
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &Journal,
    fixed: &[u32],
) -> Questions {
    let keys = Keys::new(judge, prompt);
    let all: Vec<Question> = pairs
        .par_iter()
        .enumerate()
        .flat_map_iter(|(at, pair)| {
            let (keys, texts) = (&keys, texts_of(pair));
            (0..judges.samples).map(move |sample| {
                let tokens = fixed[sample as usize % fixed.len()] + texts;
                Question { pair: at as u32, sample, key: keys.key(pair, sample), answers: 0, tokens }
            })
        })
        .collect();
    let mut questions = Questions::default();
    let mut failed = Vec::new();
    for mut question in all {
        let Some(known) = journal.known(&question.key) else {
            questions.open.push(question);
            continue;
        };
        question.answers = known.answers.into();
        match known.answer {
            Some(State::Scored) => questions.scored += 1,
            Some(State::Refused) if question.answers >= judges.attempts => questions.refused += 1,
            Some(_) if question.answers >= judges.attempts => questions.unparsable += 1,
            _ if known.is_failed() => failed.push(question),
            _ => questions.open.push(question),
        }
    }
    questions.open.append(&mut failed);
    questions
}

fn of_questions(judges: &Judges, prompt: &Prompt, journal: &Journal, questions: &[Questions]) -> Estimate {
    let of_judge = |(judge, questions): (&Judge, &Questions)| {
        let calls = questions.open.len() as u64;
        let input_tokens = questions.open.iter().map(|question| u64::from(question.tokens)).sum();
        let output_tokens = calls * answer_tokens(judge, prompt, journal);
        let cost = judge.cost(input_tokens, output_tokens);
        JudgeEstimate { judge: judge.name.clone(), calls, input_tokens, output_tokens, cost }
    };
    Estimate { judges: judges.judges.iter().zip(questions).map(of_judge).collect() }
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) tokens: f64,
    pub(crate) cost: f64,
}

impl Spent {
    pub(crate) fn of(judge: &Judge, (input, output): (f64, f64)) -> Self {
        Self { tokens: input + output, cost: judge.cost(input as u64, output as u64).unwrap_or(0.0) }
    }
}

/// What all calls in the journal took.
///
/// # Errors
/// If this and what the open questions are expected to need exceed the budget.
pub(crate) fn within_budget(
    judges: &Judges,
    prompt: &Prompt,
    journal: &Journal,
    questions: &[Questions],
) -> Result<Spent> {
    let mut spent = Spent::default();
    for (_, tally) in journal.tallies() {
        spent.tokens += (tally.input_tokens + tally.output_tokens) as f64;
        spent.cost += tally.cost;
    }
    let estimate = of_questions(judges, prompt, journal, questions);
    for (judge, expected) in judges.judges.iter().zip(&estimate.judges) {
        // Answers of earlier runs whose tokens the endpoint did not count.
        let input = expected.input_tokens as f64 / expected.calls.max(1) as f64;
        let each = Spent::of(judge, (input, answer_tokens(judge, prompt, journal) as f64));
        let uncounted = journal.tally(&judge.name).uncounted as f64;
        spent.tokens += uncounted * each.tokens;
        spent.cost += uncounted * each.cost;
    }
    if estimate.calls() == 0 {
        return Ok(spent);
    }
    let needed = spent.tokens + estimate.tokens() as f64;
    if let Some(most) = judges.budget.tokens.filter(|most| needed > *most as f64) {
        let allowed = format!("at least {needed:.0}: {:.0} spent, and {estimate}", spent.tokens);
        return Err(Error::setting("budget.tokens", most, &allowed));
    }
    let needed = spent.cost + estimate.cost().unwrap_or(0.0);
    if let Some(most) = judges.budget.cost.filter(|most| needed > *most) {
        let money = format!("{needed:.4} {}", judges.budget.currency);
        let allowed = format!("at least {}: {:.4} spent, and {estimate}", money.trim_end(), spent.cost);
        return Err(Error::setting("budget.cost", most, &allowed));
    }
    Ok(spent)
}

/// Expected tokens of an answer.
pub(crate) fn answer_tokens(judge: &Judge, prompt: &Prompt, journal: &Journal) -> u64 {
    let tally = journal.tally(&judge.name);
    let counted = (tally.scored + tally.unparsable).saturating_sub(tally.uncounted);
    if counted >= ENOUGH {
        return tally.output_tokens.div_ceil(counted);
    }
    if prompt.answer == AnswerForm::Questions {
        return (u64::from(prompt.scale.max.unsigned_abs()) * QUESTION_TOKENS + 10).min(judge.most_output());
    }
    let longest = prompt.examples.iter().map(|example| tokens(&example.reason)).max().unwrap_or(40);
    u64::from(2 * (longest + 10)).min(judge.most_output())
}

/// Estimated tokens of the texts of a pair.
fn texts_of(pair: &Pair) -> u32 {
    tokens(&pair.query) + tokens(&pair.document) + pair.positive.as_deref().map_or(0, tokens)
}

/// Estimated tokens of a text: see [`Estimate`].
fn tokens(text: &str) -> u32 {
    let of_character = |character: char| match u32::from(character) {
        ..0x80 => 30,
        0x2e80..0xa4d0 | 0xac00..0xd7b0 | 0xf900..0xfb00 | 0xff00..0xfff0 | 0x20000.. => 75,
        _ => 50,
    };
    u32::try_from(text.chars().map(of_character).sum::<u64>().div_ceil(100)).unwrap_or(u32::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_guessed_by_script() {
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens(&"药".repeat(100)), 75);
        assert_eq!(tokens(&"x".repeat(100)), 30);
        assert_eq!(tokens(&"é".repeat(100)), 50);
        assert_eq!(tokens("布洛芬 ibuprofen"), 6);
    }

    #[test]
    fn an_estimate_counts_texts_forms_and_samples() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path().join("votes.jsonl")).expect("a journal");
        let judges = |samples: u32| {
            let text = format!(
                "samples = {samples}\n[[judge]]\nname = 'a'\nendpoint = 'http://h'\nmodel = 'm'\ninput_price = 1.0\noutput_price = 2.0\n\
                 [[judge]]\nname = 'b'\nendpoint = 'http://h'\nmodel = 'n'"
            );
            Judges::from_toml(&text).expect("judges")
        };
        let pair = |id: &str, length: usize| -> Pair {
            serde_json::from_value(serde_json::json!({
                "query_id": id, "doc_id": "d", "query": "药", "document": "药".repeat(length)
            }))
            .expect("a pair")
        };
        let prompt = Prompt::open("relevance").expect("a preset");
        let of =
            |pairs: &[Pair], samples: u32| estimate(pairs, &judges(samples), &prompt, &journal).expect("estimated");
        let (short, long) = (of(&[pair("q", 100)], 1), of(&[pair("q", 1100)], 1));
        assert_eq!(long.tokens() - short.tokens(), 2 * 750);
        let a = &short.judges[0];
        assert!((400..1200).contains(&a.input_tokens) && (80..200).contains(&a.output_tokens), "{a:?}");
        assert_eq!(a.cost, Some((a.input_tokens as f64 + 2.0 * a.output_tokens as f64) / 1e6));
        assert_eq!((short.judges[1].cost, short.cost(), short.calls()), (None, None, 2));
        let six = of(&[pair("q", 100), pair("r", 100)], 3);
        assert_eq!(six.calls(), 12);
        assert!(six.tokens() > 5 * short.tokens());
        assert_eq!(of(&[], 1).calls(), 0);
        let twice = estimate(&[pair("q", 1), pair("q", 1)], &judges(1), &prompt, &journal).expect_err("twice");
        assert_eq!(twice.to_string(), "the pair `q`, `d` is duplicated");
    }
}
