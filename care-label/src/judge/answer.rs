//! Reads a score from a chat answer, whatever its form; what cannot be read is no score.

use std::fmt;

use care_core::clip;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::{Map, Value};

use super::questions::read_questions;
use super::text::{LONGEST_SEARCH, without_thoughts};
use crate::prompt::{AnswerForm, Prompt};
use crate::scale::Scale;

/// Longest reason that is kept, in bytes. Reasoning models write books.
const LONGEST_REASON: usize = 2000;
/// Why an answer ends too early.
const CUT_OFF: &str = "the answer was cut off at max_tokens; raise `max_tokens`";
/// Names that models give to the score.
const SCORE: [&str; 4] = ["score", "分数", "评分", "得分"];
/// Names that models give to the reason.
const REASON: [&str; 4] = ["reason", "理由", "reasoning", "explanation"];
const DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];
const WORDS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The parts of a chat answer that matter; all may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Text of the first choice's message.
    pub content: Option<String>,
    /// What a reasoning model thought (`reasoning_content` of DeepSeek and vLLM, `reasoning` of others). Not the answer.
    pub reasoning: Option<String>,
    /// Why the model declined to answer.
    pub refusal: Option<String>,
    /// Why the answer ended, e.g. `stop`, `length` or `content_filter`.
    pub finish_reason: Option<String>,
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, with those of the reasoning.
    pub output_tokens: Option<u64>,
    /// Whether the body has a choice at all.
    has_choice: bool,
}

/// What an answer amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A score of the scale.
    Scored {
        /// The score.
        score: i32,
        /// The judge's reason, or else the beginning and end of its reasoning.
        reason: Option<String>,
    },
    /// No readable score, and why.
    Unparsable(String),
    /// The model or a filter declined, and why.
    Refused(String),
}

impl Answer {
    /// Picks the parts from the body of a chat completion. Unknown fields and values are ignored.
    pub fn from_body(body: &Value) -> Self {
        let choice = &body["choices"][0];
        let message = &choice["message"];
        let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let usage = &body["usage"];
        let tokens = |names: [&str; 2]| names.iter().find_map(|name| count(&usage[*name]));
        let (content, refusal) = match &message["content"] {
            Value::Array(parts) => (joined(parts, "text"), joined(parts, "refusal")),
            content => (text(content), None),
        };
        Self {
            content,
            reasoning: ["reasoning_content", "reasoning", "thinking"].iter().find_map(|name| text(&message[*name])),
            refusal: text(&message["refusal"]).or(refusal),
            finish_reason: text(&choice["finish_reason"]),
            input_tokens: tokens(["prompt_tokens", "input_tokens"]),
            output_tokens: tokens(["completion_tokens", "output_tokens"]),
            has_choice: choice.is_object(),
        }
    }

    /// The score, if there is exactly one and the prompt's scale has it; of questions, their number.
    ///
    /// The score is in the last complete JSON object that has one, in text of any kind, or is the whole text. It may be
    /// an integer, a float without fraction, a string with ASCII, full-width or Chinese digits, or one of the prompt's
    /// labels. Reasoning is not searched: it weighs scores that are not given in the end.
    pub fn verdict(&self, prompt: &Prompt) -> Verdict {
        if let Some(refusal) = &self.refusal {
            return Verdict::Refused(clip(refusal.clone(), LONGEST_REASON));
        }
        let cut_off = self.finish_reason.as_deref() == Some("length");
        if self.finish_reason.as_deref() == Some("content_filter") {
            return Verdict::Refused("finish_reason is content_filter".into());
        }
        let Some(content) = &self.content else {
            return Verdict::Unparsable(self.why_empty(cut_off).into());
        };
        if prompt.answer == AnswerForm::Questions {
            return match read_questions(content) {
                Some(questions) => {
                    let score = i32::try_from(questions.len()).unwrap_or(i32::MAX).min(prompt.scale.max);
                    Verdict::Scored { score, reason: None }
                }
                None if cut_off => Verdict::Unparsable(CUT_OFF.into()),
                None => Verdict::Unparsable("no JSON list of questions".into()),
            };
        }
        let content = without_thoughts(content);
        let found = match last_object(content) {
            Some(fields) => score_of(&fields, prompt).map(|score| (score, reason_of(&fields))),
            None if cut_off => Err(CUT_OFF.into()),
            None if content.trim().is_empty() => Err("the answer is reasoning only; raise `max_tokens`".into()),
            None => match point(content, prompt) {
                Ok(score) => Ok((score, None)),
                Err(_) => Err("no JSON object with a score".into()),
            },
        };
        match found {
            Ok((score, reason)) => {
                let reason = reason.or_else(|| self.reasoning.clone());
                Verdict::Scored { score, reason: reason.map(|reason| clip(reason, LONGEST_REASON)) }
            }
            Err(problem) => Verdict::Unparsable(problem),
        }
    }

    fn why_empty(&self, cut_off: bool) -> &'static str {
        match (self.has_choice, cut_off || self.reasoning.is_some()) {
            (false, _) => "the answer has no choices",
            (true, true) => "reasoning without an answer; raise `max_tokens`",
            (true, false) => "the answer is empty",
        }
    }
}

/// A count of tokens, which some endpoints write as a float.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0).map(|n| n as u64))
}

/// The text of the parts of a message, which may be objects or strings.
fn joined(parts: &[Value], field: &str) -> Option<String> {
    let plain = |part: &'_ Value| if field == "text" { part.as_str().map(str::to_owned) } else { None };
    let texts = parts.iter().filter_map(|part| part[field].as_str().map(str::to_owned).or_else(|| plain(part)));
    Some(texts.collect::<String>()).filter(|text| !text.trim().is_empty())
}

/// The fields of a JSON object in their order; a field that occurs twice is there twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The last complete object in the text that has a score, itself or in an object that it contains.
fn last_object(text: &str) -> Option<Fields> {
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(LONGEST_SEARCH))..];
    // Outside of strings, JSON allows white space for these; inside, local models forget to escape them.
    let text = text.replace(char::is_control, " ");
    let (mut last, mut rest) = (None, text.as_str());
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<Fields>();
        match objects.next() {
            Some(Ok(fields)) => {
                rest = &rest[objects.byte_offset()..];
                last = with_score(fields).or(last);
            }
            _ => rest = &rest[1..],
        }
    }
    last
}

fn with_score(fields: Fields) -> Option<Fields> {
    if fields.0.iter().any(|(name, _)| is_one_of(name, &SCORE)) {
        return Some(fields);
    }
    let inner = |value: Value| match value {
        Value::Object(map) => with_score(of_map(map)),
        _ => None,
    };
    fields.0.into_iter().rev().find_map(|(_, value)| inner(value))
}

fn of_map(map: Map<String, Value>) -> Fields {
    Fields(map.into_iter().collect())
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    let name = name.trim();
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn reason_of(Fields(fields): &Fields) -> Option<String> {
    let mut reasons =
        fields.iter().filter(|(name, _)| is_one_of(name, &REASON)).filter_map(|(_, value)| value.as_str());
    reasons.find(|reason| !reason.trim().is_empty()).map(str::to_owned)
}

/// The one score of an object.
fn score_of(Fields(fields): &Fields, prompt: &Prompt) -> Result<i32, String> {
    let mut scores = fields.iter().filter(|(name, _)| is_one_of(name, &SCORE)).map(|(_, value)| match value {
        Value::String(text) => point(text, prompt),
        Value::Number(number) => {
            number.as_f64().ok_or_else(|| number.to_string()).and_then(|n| on_scale(n, prompt.scale))
        }
        other => Err(format!("the score is {}", clip(other.to_string(), 80))),
    });
    let first = scores.next().ok_or("no score")??;
    match scores.all(|score| score == Ok(first)) {
        true => Ok(first),
        false => Err("two different scores".into()),
    }
}

fn on_scale(score: f64, scale: Scale) -> Result<i32, String> {
    let point = score as i32;
    match f64::from(point) == score && scale.contains(point) {
        true => Ok(point),
        false => Err(format!("the score is {score}, allowed: {} to {}", scale.min, scale.max)),
    }
}

/// The point that a text names: by one number, one label, or both if they agree.
fn point(text: &str, prompt: &Prompt) -> Result<i32, String> {
    let refuse = || format!("the score is `{}`", clip(text.to_owned(), 80));
    let plain: String = text.trim().chars().map(half_width).collect();
    let of_label = |word: &str| {
        let mut points = prompt.scale.points().zip(&prompt.labels).filter(|(_, label)| label.as_str() == word);
        points.next().filter(|_| points.next().is_none()).map(|(point, _)| point)
    };
    if let Some(point) = of_label(text.trim()).or_else(|| of_label(&plain)) {
        return Ok(point);
    }
    let (numbers, words) = numbers_and_words(&plain);
    let score = match (numbers.as_slice(), of_numeral(&words)) {
        ([], Some(number)) => return on_scale(number, prompt.scale),
        ([number], _) => number,
        // `4/5`: of the highest point.
        ([number, highest], _) if plain.contains('/') && *highest == f64::from(prompt.scale.max) => number,
        _ => return Err(refuse()),
    };
    let score = on_scale(*score, prompt.scale)?;
    match words.is_empty() || of_label(&words) == Some(score) {
        true => Ok(score),
        false => Err(refuse()),
    }
}

/// ASCII for the full-width forms of ASCII.
fn half_width(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        '\u{3000}' => ' ',
        '−' | '–' | '—' => '-',
        '。' => '.',
        other => other,
    }
}

/// The numbers of a text and what else is in it, without punctuation and without words that only say it is a score.
fn numbers_and_words(text: &str) -> (Vec<f64>, String) {
    let (mut numbers, mut words, mut rest) = (Vec::new(), String::new(), text);
    while let Some(first) = rest.chars().next() {
        let sign = usize::from(matches!(first, '-' | '+'));
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(&rest[sign..]);
        if first.is_ascii_digit() || (sign == 1 && whole > 0) {
            let mut length = sign + whole;
            let fraction = rest[length..].strip_prefix('.').map_or(0, digits);
            length += if fraction > 0 { fraction + 1 } else { 0 };
            numbers.push(rest[..length].parse().unwrap_or(f64::NAN));
            rest = &rest[length..];
            continue;
        }
        if first.is_alphabetic() || first == '〇' {
            words.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    let mut words = words.as_str();
    for name in SCORE {
        words = words.strip_prefix(name).or_else(|| words.strip_prefix("Score")).unwrap_or(words);
    }
    for unit in ["分", "points", "point"] {
        words = words.strip_suffix(unit).or_else(|| words.strip_prefix(unit)).unwrap_or(words);
    }
    (numbers, words.to_owned())
}

/// A Chinese numeral up to 99, or an English one up to ten.
fn of_numeral(word: &str) -> Option<f64> {
    if let Some(number) = WORDS.iter().position(|known| known.eq_ignore_ascii_case(word)) {
        return Some(number as f64);
    }
    let digit = |word: &str| match word {
        "〇" => Some(0),
        "两" => Some(2),
        _ => DIGITS.iter().position(|digit| word.chars().eq([*digit])),
    };
    let number = match word.split_once('十') {
        None => digit(word)?,
        Some((tens, ones)) => {
            let tens = if tens.is_empty() { 1 } else { digit(tens).filter(|tens| *tens > 0)? };
            tens * 10 + if ones.is_empty() { 0 } else { digit(ones).filter(|ones| *ones > 0)? }
        }
    };
    Some(number as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn prompt() -> Prompt {
        Prompt::open("relevance").expect("a preset")
    }

    fn of(content: Value) -> Answer {
        Answer::from_body(&json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}))
    }

    /// The score or what it is instead.
    fn read(answer: &Answer) -> Result<i32, String> {
        match answer.verdict(&prompt()) {
            Verdict::Scored { score, .. } => Ok(score),
            Verdict::Unparsable(problem) => Err(format!("unparsable: {problem}")),
            Verdict::Refused(problem) => Err(format!("refused: {problem}")),
        }
    }

    #[test]
    fn scores_are_read_in_every_form_that_models_write() {
        let score = |value: &str| format!(r#"{{"reason": "因为", "score": {value}}}"#);
        for (content, expected) in [
            (score("4"), 4),
            (score("4.0"), 4),
            (score("\"4\""), 4),
            (score("\" 4 \""), 4),
            (score("\"4.0\""), 4),
            (score("\"４\""), 4),
            (score("\"４．０\""), 4),
            (score("\"４分\""), 4),
            (score("\"四\""), 4),
            (score("\"四分\""), 4),
            (score("\"两分\""), 2),
            (score("\"four\""), 4),
            (score("\"基本回答\""), 4),
            (score("\"4 基本回答\""), 4),
            (score("\"4分（基本回答）\""), 4),
            (score("\"4/5\""), 4),
            (score("\"4分。\""), 4),
            (score("3, \"score\": 3"), 3),
            (format!("```json\n{}\n```", score("4")), 4),
            (format!("好的，评分如下：{}。希望有帮助！", score("4")), 4),
            (format!("{} 重新考虑后：{}", score("2"), score("4")), 4),
            (format!("格式为 {{\"reason\": \"理由\", \"score\": 分数}}：{}", score("4")), 4),
            (format!("{} {{\"note\": 1}} {{\"score\": ", score("4")), 4),
            (format!("<think>先看 {}</think>{}", score("1"), score("4")), 4),
            (format!("先看 {}</think>{}", score("1"), score("4")), 4),
            (r#"{"Score": 4}"#.into(), 4),
            (r#"{"理由": "因为", "分数": 4}"#.into(), 4),
            (r#"{"result": {"score": 4}}"#.into(), 4),
            ("{\"reason\": \"第一行\n第二行\t{\\\"score\\\": 1}\", \"score\": 4}".into(), 4),
            ("4".into(), 4),
            ("分数：４分".into(), 4),
            ("完全回答".into(), 5),
        ] {
            assert_eq!(read(&of(json!(content))), Ok(expected), "{content}");
        }
        let parts =
            json!([{"type": "text", "text": "{\"score\":"}, {"type": "text", "text": " 2}"}, {"type": "image"}]);
        assert_eq!(read(&of(parts)), Ok(2));
    }

    #[test]
    fn what_is_not_exactly_one_score_of_the_scale_is_none() {
        let score = |value: &str| format!(r#"{{"reason": "因为", "score": {value}}}"#);
        let off = |value: &str| format!("unparsable: the score is {value}, allowed: 1 to 5");
        for (content, problem) in [
            (score("0"), off("0")),
            (score("6"), off("6")),
            (score("-4"), off("-4")),
            (score("3.5"), off("3.5")),
            (score("1e99"), off(&format!("{}", 1e99))),
            (score("\"3.5\""), off("3.5")),
            (score("\"－４\""), off("-4")),
            (score("\"十五\""), off("15")),
            (score("\"NaN\""), "unparsable: the score is `NaN`".into()),
            (score("\"3-4\""), "unparsable: the score is `3-4`".into()),
            (score("\"3或4\""), "unparsable: the score is `3或4`".into()),
            (score("\"4/10\""), "unparsable: the score is `4/10`".into()),
            (score("\"3 基本回答\""), "unparsable: the score is `3 基本回答`".into()),
            (score("\"不是4\""), "unparsable: the score is `不是4`".into()),
            (score("\"\""), "unparsable: the score is ``".into()),
            (score("null"), "unparsable: the score is null".into()),
            (score("[4]"), "unparsable: the score is [4]".into()),
            (score("true"), "unparsable: the score is true".into()),
            (score("3, \"score\": 4"), "unparsable: two different scores".into()),
            (score("3, \"评分\": 4"), "unparsable: two different scores".into()),
            (score("NaN"), "unparsable: no JSON object with a score".into()),
            (score("4")[..20].into(), "unparsable: no JSON object with a score".into()),
            ("{\"reason\": \"4\"}".into(), "unparsable: no JSON object with a score".into()),
            ("抱歉，我不能回答。".into(), "unparsable: no JSON object with a score".into()),
            ("<think>{\"score\": 4}".into(), "unparsable: the answer is reasoning only; raise `max_tokens`".into()),
        ] {
            assert_eq!(read(&of(json!(content))), Err(problem), "{content}");
        }
    }

    #[test]
    fn the_rest_of_an_answer_counts_too() {
        let answer = |choice: Value| Answer::from_body(&json!({"choices": [choice], "service_tier": "on_demand"}));
        let whole = "{\"score\": 4}";
        for (choice, expected) in [
            (json!({"message": {"content": whole}, "finish_reason": "length"}), Ok(4)),
            (json!({"message": {"content": whole}, "finish_reason": ""}), Ok(4)),
            (json!({"message": {"content": whole}, "finish_reason": {"type": 7}}), Ok(4)),
            (
                json!({"message": {"content": "{\"score\": 4"}, "finish_reason": "length"}),
                Err("unparsable: the answer was cut off at max_tokens; raise `max_tokens`"),
            ),
            (
                json!({"message": {"content": "4"}, "finish_reason": "length"}),
                Err("unparsable: the answer was cut off at max_tokens; raise `max_tokens`"),
            ),
            (
                json!({"message": {"content": whole}, "finish_reason": "content_filter"}),
                Err("refused: finish_reason is content_filter"),
            ),
            (json!({"message": {"content": null, "refusal": "I cannot"}}), Err("refused: I cannot")),
            (json!({"message": {"content": [{"type": "refusal", "refusal": "No"}]}}), Err("refused: No")),
            (
                json!({"message": {"content": "", "reasoning_content": whole}}),
                Err("unparsable: reasoning without an answer; raise `max_tokens`"),
            ),
            (json!({"message": {"content": null}}), Err("unparsable: the answer is empty")),
            (json!({"message": {"content": 7}}), Err("unparsable: the answer is empty")),
            (json!({}), Err("unparsable: the answer is empty")),
            (json!(7), Err("unparsable: the answer has no choices")),
        ] {
            assert_eq!(read(&answer(choice.clone())), expected.map_err(str::to_owned), "{choice}");
        }
        assert_eq!(read(&Answer::from_body(&json!({}))), Err("unparsable: the answer has no choices".into()));
        let usage = json!({"usage": {"prompt_tokens": 700.0, "completion_tokens": 40, "x": null}});
        let usage = Answer::from_body(&usage);
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(700), Some(40)));
        assert_eq!(Answer::from_body(&json!({"usage": null})).input_tokens, None);
    }

    #[test]
    fn the_reason_is_the_judge_s_own_or_its_reasoning() {
        let reason = |message: Value| {
            let answer = Answer::from_body(&json!({"choices": [{"message": message}]}));
            match answer.verdict(&prompt()) {
                Verdict::Scored { reason, .. } => reason,
                other => panic!("{other:?}"),
            }
        };
        let own = json!({"content": "{\"reason\": \"答了\", \"score\": 4}", "reasoning_content": "先看"});
        assert_eq!(reason(own).as_deref(), Some("答了"));
        let long = "想".repeat(10_000);
        let reasoning = reason(json!({"content": "{\"score\": 4}", "reasoning": long})).expect("reasoning");
        assert!(reasoning.len() < 2100 && reasoning.contains(" .. "));
        assert_eq!(reason(json!({"content": "4"})), None);
    }

    #[test]
    fn labels_and_points_of_other_scales_are_read() {
        let sts = Prompt::open("sts").expect("a preset");
        let read = |content: &str| match of(json!(content)).verdict(&sts) {
            Verdict::Scored { score, .. } => Some(score),
            _ => None,
        };
        assert_eq!(read("{\"score\": \"零\"}"), Some(0));
        assert_eq!(read("{\"score\": \"毫不相关\"}"), Some(0));
        assert_eq!(read("{\"score\": \"-0\"}"), Some(0));
        let mut wide = sts.clone();
        wide.scale = Scale::new(0, 100, 50).expect("a scale");
        let read = |content: &str| of(json!(content)).verdict(&wide);
        let scored = |score| Verdict::Scored { score, reason: None };
        for (word, score) in [("十", 10), ("十二", 12), ("二十", 20), ("九十九", 99), ("〇", 0)] {
            assert_eq!(read(&format!("{{\"score\": \"{word}\"}}")), scored(score));
        }
        for word in ["二十十", "十零", "一二", "零十", "百"] {
            assert!(matches!(read(&format!("{{\"score\": \"{word}\"}}")), Verdict::Unparsable(_)), "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_never_off_the_scale(
            content in "(\\{|\\}|\"|score|分数|:|：|,|-|\\.|/|[0-9]|[０-９]|[一-十]|分|NaN|<think>|</think>|\n|基本回答|.){0,30}",
            value in "-?[0-9]{1,3}(\\.[0-9])?",
        ) {
            for content in [content.clone(), format!("{content}{{\"score\": {value}}}"), format!("{{\"score\": \"{content}\"}}")] {
                if let Ok(score) = read(&of(json!(content))) {
                    prop_assert!((1..=5).contains(&score));
                }
            }
            if let (Ok(score), Ok(number)) = (read(&of(json!(format!("{{\"score\": {value}}}")))), value.parse::<f64>()) {
                prop_assert_eq!(f64::from(score), number);
            }
        }
    }
}
