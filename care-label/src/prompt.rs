//! Prompts: templates in TOML files, versioned by the hash of their content.

use std::path::Path;

use care_core::files::{read_file, sha256_hex};
use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::pair::Pair;
use crate::scale::Scale;

/// What a judge is told, and on which scale it answers.
///
/// Templates contain `{query}` and `{document}`, and may contain `{positive}`; texts are inserted as they are. Every
/// answer is a JSON object with an integer `score` and, before it, a `reason`.
///
/// With [`AnswerForm::Questions`], templates contain `{kind}` and `{document}`, and may contain `{count}`, the highest
/// point of the scale; every answer is a JSON object with a list `questions`, or the list alone, and its score is their
/// number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Prompt {
    /// Name in messages and records.
    pub name: String,
    /// What is asked for. Default: a score.
    #[serde(default)]
    pub answer: AnswerForm,
    /// The points of an answer; for questions, how many are wanted.
    pub scale: Scale,
    /// One word for each point, lowest first; experts read them too. None for questions.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The system message: the task and its criteria.
    pub system: String,
    /// The user message of a pair.
    pub user: String,
    /// Examples, shown as earlier turns of the conversation.
    #[serde(default, rename = "example")]
    pub examples: Vec<Example>,
    /// Other forms of the messages: sample `n` of a judge uses form `n` modulo their number, where form 0 is the one
    /// above.
    #[serde(default, rename = "variant")]
    pub variants: Vec<Variant>,
    /// The kinds of questions that are asked for, at least one; none for scores.
    #[serde(default, rename = "kind")]
    pub kinds: Vec<QuestionKind>,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerForm {
    /// A score with a reason.
    #[default]
    Score,
    /// Questions that the document answers.
    Questions,
}

/// A kind of questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionKind {
    /// Its name in files and reports.
    pub name: String,
    /// What is asked for, inserted for `{kind}`.
    pub ask: String,
    /// Whether such a question has to read like one; false for keywords. Default true.
    #[serde(default = "yes")]
    pub question: bool,
}

fn yes() -> bool {
    true
}

/// A pair with its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Text of the query.
    pub query: String,
    /// Text of the document.
    pub document: String,
    /// A known positive, for prompts with `{positive}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// The right score.
    pub score: i32,
    /// Why.
    pub reason: String,
}

/// Another order or wording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// In place of [`Prompt::system`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// In place of [`Prompt::user`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A message of a conversation, as chat endpoints take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
}

/// The prompts that are built in, by name. They are our own: those of CMedTEB are not published.
pub const PRESETS: [(&str, &str); 4] = [
    ("relevance", include_str!("../presets/relevance.toml")),
    ("sts", include_str!("../presets/sts.toml")),
    ("false-negative", include_str!("../presets/false-negative.toml")),
    ("query-generation", include_str!("../presets/query-generation.toml")),
];

impl Prompt {
    /// A built-in prompt by its name, or the prompt in a TOML file.
    ///
    /// # Errors
    /// If there is neither, or as [`Prompt::from_toml`].
    pub fn open(name: &str) -> Result<Self> {
        if let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
            return Self::from_toml(text);
        }
        if !Path::new(name).exists() {
            let presets: Vec<_> = PRESETS.iter().map(|(preset, _)| *preset).collect();
            return Err(Error::setting(
                "prompt",
                format!("`{name}`"),
                &format!("{}, or a TOML file", presets.join(", ")),
            ));
        }
        let bytes = read_file(name)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::format(name, "not UTF-8"))?;
        Self::from_toml(text).map_err(|e| e.in_file(name))
    }

    /// Parses a prompt.
    ///
    /// # Errors
    /// If a field is absent or unknown, the scale is none, a template lacks `{query}` or `{document}` or has an unknown
    /// placeholder, or an example is off the scale.
    pub fn from_toml(text: &str) -> Result<Self> {
        let refuse = |e: toml::de::Error| Error::new(ErrorKind::Config, e.to_string().trim_end().to_owned());
        let prompt: Self = toml::from_str(text).map_err(refuse)?;
        prompt.check()?;
        Ok(prompt)
    }

    fn check(&self) -> Result<()> {
        self.scale.check()?;
        match self.answer {
            AnswerForm::Score => self.check_scores()?,
            AnswerForm::Questions => self.check_questions()?,
        }
        let (needed, optional) = self.names();
        for form in 0..self.forms() {
            let (system, user) = self.templates(form);
            let template = format!("{system}{user}");
            for name in needed {
                if !placeholders(user).any(|found| found == name) {
                    let problem = format!("a template without {{{name}}}");
                    let allowed = format!("a template with {{{}}} and {{{}}}", needed[0], needed[1]);
                    return Err(Error::setting("user", problem, &allowed));
                }
            }
            let is_known = |name: &str| needed.contains(&name) || name == optional;
            if let Some(unknown) = placeholders(&template).find(|name| !is_known(name)) {
                let allowed = format!("{{{}}}, {{{}}}, {{{optional}}}", needed[0], needed[1]);
                return Err(Error::setting("user", format!("`{{{unknown}}}`"), &allowed));
            }
        }
        Ok(())
    }

    /// The placeholders that a user template needs, and one that it may have.
    fn names(&self) -> ([&'static str; 2], &'static str) {
        match self.answer {
            AnswerForm::Score => (["query", "document"], "positive"),
            AnswerForm::Questions => (["kind", "document"], "count"),
        }
    }

    fn check_scores(&self) -> Result<()> {
        let points = self.scale.points().count();
        if self.labels.len() != points {
            return Err(Error::setting(
                "labels",
                format!("{} words", self.labels.len()),
                &format!("one per point, {points}"),
            ));
        }
        if !self.kinds.is_empty() {
            return Err(Error::setting("kind", "set", "only with `answer = \"questions\"`"));
        }
        for example in &self.examples {
            if !self.scale.contains(example.score) {
                let allowed = format!("{} to {}", self.scale.min, self.scale.max);
                return Err(Error::setting("example.score", example.score, &allowed));
            }
            if self.wants_positive() && example.positive.is_none() {
                return Err(Error::setting("example.positive", "absent", "a text, as the template has {positive}"));
            }
        }
        Ok(())
    }

    fn check_questions(&self) -> Result<()> {
        if self.scale.min != 0 || self.scale.threshold != 1 {
            let allowed = "`{ min = 0, max = N, threshold = 1 }` for N questions";
            return Err(Error::setting("scale", "of other points", allowed));
        }
        for (field, is_set) in [("labels", !self.labels.is_empty()), ("example", !self.examples.is_empty())] {
            if is_set {
                return Err(Error::setting(field, "set", "only with `answer = \"score\"`"));
            }
        }
        if self.kinds.is_empty() {
            return Err(Error::setting("kind", "absent", "at least one kind of questions"));
        }
        for (at, kind) in self.kinds.iter().enumerate() {
            let is_known = self.kinds[..at].iter().any(|other| other.name == kind.name);
            if kind.name.trim().is_empty() || kind.ask.trim().is_empty() || is_known {
                return Err(Error::setting(
                    "kind.name",
                    format!("`{}`", kind.name),
                    "names that differ, with an `ask`",
                ));
            }
        }
        Ok(())
    }

    /// SHA-256 of all that judges are told, in hexadecimal; the name and the experts' labels do not count.
    pub fn hash(&self) -> String {
        // What is asked of a kind is a text of its pairs.
        let Self { name: _, answer, scale, labels: _, system, user, examples, variants, kinds: _ } = self;
        let parts = (scale.min, scale.max, system, user, examples, variants);
        let bytes = match answer {
            AnswerForm::Score => serde_json::to_vec(&parts),
            AnswerForm::Questions => serde_json::to_vec(&(answer, parts)),
        };
        sha256_hex(bytes.unwrap_or_default())
    }

    /// Number of different forms: 1 and the variants.
    pub fn forms(&self) -> usize {
        1 + self.variants.len()
    }

    /// Whether pairs need a known positive.
    pub fn wants_positive(&self) -> bool {
        (0..self.forms()).any(|form| {
            let (system, user) = self.templates(form);
            placeholders(system).chain(placeholders(user)).any(|name| name == "positive")
        })
    }

    fn templates(&self, form: usize) -> (&str, &str) {
        let variant = form.checked_sub(1).and_then(|at| self.variants.get(at));
        let system = variant.and_then(|variant| variant.system.as_deref()).unwrap_or(&self.system);
        let user = variant.and_then(|variant| variant.user.as_deref()).unwrap_or(&self.user);
        (system, user)
    }

    /// The conversation that asks for the score of a pair, for the given sample of a judge, from 0.
    ///
    /// # Errors
    /// If the prompt needs a known positive and the pair has none.
    pub fn messages(&self, pair: &Pair, sample: u32) -> Result<Vec<Message>> {
        let (system, user) = self.templates(sample as usize % self.forms());
        if self.wants_positive() && pair.positive.is_none() {
            let (query, document) = pair.id();
            let problem =
                format!("prompt `{}` needs a known positive; the pair `{query}`, `{document}` has none", self.name);
            return Err(Error::new(ErrorKind::Config, problem));
        }
        let positive = match self.answer {
            AnswerForm::Score => pair.positive.clone().unwrap_or_default(),
            AnswerForm::Questions => self.scale.max.to_string(),
        };
        let positive = positive.as_str();
        let ([first, second], third) = self.names();
        let fill = |template: &str, query: &str, document: &str, positive: &str| {
            fill(template, &[(first, query), (second, document), (third, positive)])
        };
        let texts = (pair.query.as_str(), pair.document.as_str(), positive);
        let mut messages = vec![Message { role: "system", content: fill(system, texts.0, texts.1, texts.2) }];
        for example in &self.examples {
            let positive = example.positive.as_deref().unwrap_or_default();
            messages.push(Message { role: "user", content: fill(user, &example.query, &example.document, positive) });
            let answer = serde_json::json!({"reason": example.reason, "score": example.score});
            messages.push(Message { role: "assistant", content: answer.to_string() });
        }
        messages.push(Message { role: "user", content: fill(user, texts.0, texts.1, texts.2) });
        Ok(messages)
    }

    /// The JSON Schema of an answer.
    pub fn schema(&self) -> serde_json::Value {
        if self.answer == AnswerForm::Questions {
            return serde_json::json!({
                "type": "object",
                "properties": { "questions": { "type": "array", "items": { "type": "string" } } },
                "required": ["questions"],
                "additionalProperties": false
            });
        }
        let points: Vec<i32> = self.scale.points().collect();
        serde_json::json!({
            "type": "object",
            "properties": { "reason": { "type": "string" }, "score": { "type": "integer", "enum": points } },
            "required": ["reason", "score"],
            "additionalProperties": false
        })
    }
}

/// The names in braces that look like placeholders: lower-case words. JSON in a template is none.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.match_indices('{').filter_map(|(start, _)| {
        let rest = &template[start + 1..];
        let name = &rest[..rest.find('}')?];
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_word.then_some(name)
    })
}

/// A template with its placeholders replaced, in one pass: braces in a text are never placeholders.
fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    let (mut filled, mut rest) = (String::new(), template.trim());
    while let Some(start) = rest.find('{') {
        filled += &rest[..start];
        rest = &rest[start..];
        let known = texts.iter().find(|(name, _)| rest[1..].strip_prefix(name).is_some_and(|end| end.starts_with('}')));
        let (text, length) = known.map_or(("{", 1), |(name, text)| (*text, name.len() + 2));
        filled += text;
        rest = &rest[length..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(query: &str, document: &str, positive: Option<&str>) -> Pair {
        Pair {
            query_id: "q".into(),
            doc_id: "d".into(),
            query: query.into(),
            document: document.into(),
            positive: positive.map(str::to_owned),
            group: None,
            grade: None,
            systems: vec![],
        }
    }

    #[test]
    fn presets_fill_their_templates_and_differ_by_hash() {
        let mut hashes = std::collections::HashSet::new();
        for (name, _) in PRESETS {
            let prompt = Prompt::open(name).expect("a preset");
            assert_eq!(prompt.name, name);
            for sample in 0..4 {
                let messages = prompt.messages(&pair("头痛怎么办", "多休息", Some("吃药")), sample).expect("filled");
                let last = &messages.last().expect("a message").content;
                assert!(last.contains("头痛怎么办") && last.contains("多休息"), "{last}");
                assert_eq!(last.contains("吃药"), name == "false-negative");
                assert_eq!(messages.len(), 2 + 2 * prompt.examples.len());
                assert!(messages.iter().all(|message| placeholders(&message.content).next().is_none()));
            }
            hashes.insert(prompt.hash());
        }
        assert_eq!(hashes.len(), PRESETS.len());
    }

    #[test]
    fn samples_take_turns_through_the_forms() {
        let prompt = Prompt::open("relevance").expect("a preset");
        let last =
            |sample| prompt.messages(&pair("甲", "乙", None), sample).expect("filled").pop().expect("one").content;
        assert!(last(0).starts_with("问题：甲") && last(1).starts_with("文档：乙"));
        assert_ne!(last(1), last(2));
        assert_eq!(last(0), last(3));
    }

    #[test]
    fn braces_in_texts_are_text() {
        let prompt = Prompt::open("relevance").expect("a preset");
        let messages = prompt.messages(&pair("{document}", "{query} {score}", None), 0).expect("filled");
        let last = &messages.last().expect("one").content;
        assert!(last.starts_with("问题：{document}\n\n文档：{query} {score}\n"), "{last}");
    }

    #[test]
    fn the_hash_is_of_what_judges_are_told() {
        let prompt = Prompt::open("sts").expect("a preset");
        let mut renamed = prompt.clone();
        renamed.name = "other".into();
        assert_eq!(renamed.hash(), prompt.hash());
        let mut changed = prompt.clone();
        changed.user.push(' ');
        assert_ne!(changed.hash(), prompt.hash());
    }

    #[test]
    fn bad_prompts_are_refused_with_the_field() {
        let refused = |from: &str, to: &str| {
            let text = PRESETS[2].1.replace(from, to);
            assert_ne!(text, PRESETS[2].1);
            Prompt::from_toml(&text).expect_err("refused").to_string()
        };
        let lacking = "`user` is a template without {document}, allowed: a template with {query} and {document}";
        assert_eq!(refused("候选文档：{document}", "候选文档：{positive}"), lacking);
        let unknown = "`user` is `{doc}`, allowed: {query}, {document}, {positive}";
        assert_eq!(refused("候选文档：{document}", "候选文档：{document}{doc}"), unknown);
        assert_eq!(refused("score = 4", "score = 6"), "`example.score` is 6, allowed: 1 to 5");
        assert_eq!(refused("\"无关\", ", ""), "`labels` is 4 words, allowed: one per point, 5");
        assert_eq!(refused("max = 5", "max = 1"), "`scale.max` is 1, allowed: 2 to 101");
        assert!(refused("user =", "usr =").contains("unknown field `usr`"));
        let missing = Prompt::open("false-negative").expect("a preset").messages(&pair("甲", "乙", None), 0);
        let problem = "prompt `false-negative` needs a known positive; the pair `q`, `d` has none";
        assert_eq!(missing.expect_err("no positive").to_string(), problem);
    }

    #[test]
    fn prompts_for_questions_have_kinds_and_other_placeholders() {
        let prompt = Prompt::open("query-generation").expect("a preset");
        assert_eq!(
            prompt.kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>(),
            ["keyword", "patient", "clinician"]
        );
        let ask = &prompt.kinds[0].ask;
        let messages = prompt.messages(&pair(ask, "多休息", None), 0).expect("filled");
        let last = &messages.last().expect("a message").content;
        assert!(
            last.contains(ask) && last.contains("多休息") && last.contains(&prompt.scale.max.to_string()),
            "{last}"
        );
        assert_eq!(prompt.schema()["required"], serde_json::json!(["questions"]));
        let refused = |from: &str, to: &str| {
            let text = PRESETS[3].1.replace(from, to);
            assert_ne!(text, PRESETS[3].1);
            Prompt::from_toml(&text).expect_err("refused").to_string()
        };
        let lacking = "`user` is a template without {kind}, allowed: a template with {kind} and {document}";
        assert_eq!(refused("{kind}", ""), lacking);
        assert_eq!(refused("{kind}", "{kind}{query}"), "`user` is `{query}`, allowed: {kind}, {document}, {count}");
        assert_eq!(
            refused("threshold = 1", "threshold = 2"),
            "`scale` is of other points, allowed: `{ min = 0, max = N, threshold = 1 }` for N questions"
        );
        assert_eq!(
            refused("\"patient\"", "\"keyword\""),
            "`kind.name` is `keyword`, allowed: names that differ, with an `ask`"
        );
        assert_eq!(
            refused("answer = \"questions\"", "answer = \"questions\"\nlabels = [\"a\"]"),
            "`labels` is set, allowed: only with `answer = \"score\"`"
        );
        let scores = format!("{}\n[[kind]]\nname = \"a\"\nask = \"b\"", PRESETS[0].1);
        assert_eq!(
            Prompt::from_toml(&scores).expect_err("refused").to_string(),
            "`kind` is set, allowed: only with `answer = \"questions\"`"
        );
    }
}
