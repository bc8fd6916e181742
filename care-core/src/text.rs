//! Queries, documents and their instructions. Roles are types, so that no tower is fed the other's texts.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Which tower a text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A short text that a user types; encoded online by the small query tower.
    Query,
    /// A text to be found; encoded offline by the large document tower.
    Document,
}

impl Role {
    /// The role's name in files and messages: `query` or `document`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Query => "query",
            Role::Document => "document",
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Query {}
    impl Sealed for super::Document {}
}

/// A text with a role: [`Query`] or [`Document`], and nothing else.
pub trait Text: sealed::Sealed + From<String> + Clone + Debug + Send + Sync + 'static {
    /// The tower this type belongs to.
    const ROLE: Role;

    /// The text as the tower reads it, without the instruction.
    fn content(&self) -> Cow<'_, str>;

    /// The title, empty if there is none, and the text without it.
    fn parts(&self) -> (&str, &str);
}

/// A search query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query(String);

impl Text for Query {
    const ROLE: Role = Role::Query;

    fn content(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    fn parts(&self) -> (&str, &str) {
        ("", &self.0)
    }
}

impl Query {
    /// A query with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl<S: Into<String>> From<S> for Query {
    fn from(text: S) -> Self {
        Self::new(text)
    }
}

/// A document: a text and, in some collections, a title.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Document {
    title: String,
    text: String,
}

impl Text for Document {
    const ROLE: Role = Role::Document;

    fn content(&self) -> Cow<'_, str> {
        if self.title.is_empty() {
            Cow::Borrowed(&self.text)
        } else {
            Cow::Owned(strip(&format!("{} {}", self.title, self.text)).to_owned())
        }
    }

    fn parts(&self) -> (&str, &str) {
        (&self.title, &self.text)
    }
}

impl Document {
    /// A document with this text and no title.
    pub fn new(text: impl Into<String>) -> Self {
        Self::with_title("", text)
    }

    /// A document whose tower reads `title + " " + text`, trimmed, unless its [`Instruction`] has a place for the title.
    ///
    /// # Reference
    /// BEIR's rule for joining `title` and `text`.
    pub fn with_title(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: text.into() }
    }

    /// The document without white space around what the tower reads. Without a title, white space around a text is
    /// otherwise kept.
    ///
    /// # Reference
    /// How mteb and BEIR read a corpus: Python's `str.strip`, with a title and without one.
    #[must_use]
    pub fn trimmed(self) -> Self {
        match self.title.is_empty() {
            true => Self::new(strip(&self.text)),
            false => self,
        }
    }

    /// The title; empty if there is none.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The text without the title.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<S: Into<String>> From<S> for Document {
    fn from(text: S) -> Self {
        Self::new(text)
    }
}

/// Python's `str.strip`: Unicode white space, which includes U+3000, and the four separators from U+001C.
fn strip(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}'))
}

/// The placeholders of an [`Instruction`] template.
const TEXT: &str = "{text}";
const TITLE: &str = "{title}";
const SEPARATOR: &str = "{sep}";
/// Between the two segments of a prepared text.
const SEGMENT: char = '\u{1f}';
/// Braces with more characters than this between them are text.
const LONGEST_PLACEHOLDER: usize = 40;

/// An instruction template bound to one role.
///
/// The template either contains `{text}` once or is a prefix: `"query: "` means `"query: {text}"`. Training and
/// inference use the same template, and it is stored with the model.
///
/// `{text}` is a document's title and text, joined by a blank. A template with `{title}` before `{text}` puts them
/// where it says: `"{title}\n{text}"` joins them by a line break, which is left out where either is empty. In
/// `"{title}{sep}{text}"` they are two segments, which the tokenizer encodes as a pair, with its special tokens between
/// them and token types 0 and 1, as the article encoder of MedCPT and the passage encoder of DPR read them.
///
/// ```
/// use care_core::{Document, Instruction, Query};
/// let ask = Instruction::<Query>::new("Instruct: 检索医学答案\nQuery:")?;
/// assert_eq!(ask.apply(&Query::new("头痛怎么办")), "Instruct: 检索医学答案\nQuery:头痛怎么办");
/// let lines = Instruction::<Document>::new("{title}\n{text}")?;
/// assert_eq!(lines.apply(&Document::with_title("感冒", "多喝水")), "感冒\n多喝水");
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction<T> {
    before: String,
    title: Option<Joint>,
    after: String,
    role: PhantomData<T>,
}

/// What is between a title and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Joint {
    /// These characters.
    Text(String),
    /// The end of a segment.
    Segments,
}

impl<T> Default for Instruction<T> {
    /// The empty instruction: the text alone.
    fn default() -> Self {
        Self { before: String::new(), title: None, after: String::new(), role: PhantomData }
    }
}

impl<T: Text> Instruction<T> {
    /// Parses a template or a prefix.
    ///
    /// # Errors
    /// If it contains `{text}` more than once; if `{title}` is not before `{text}`, or is of a query; and if it contains
    /// the placeholder of another program, e.g. `{}` or `{query}`, or a backslash and an `n` instead of a line break:
    /// no model was trained with those.
    pub fn new(template: &str) -> Result<Self> {
        let allowed: &[&str] = match T::ROLE {
            Role::Query => &[TEXT],
            Role::Document => &[TEXT, TITLE, SEPARATOR],
        };
        check_template(&format!("the {} instruction", T::ROLE.as_str()), template, allowed)?;
        let parsed = Self::stored(template)?;
        if template.matches(SEPARATOR).count() > usize::from(parsed.is_pair()) {
            let problem = "has {sep}, whose one place is between {title} and {text}";
            let message = format!("the {} instruction {template:?} {problem}", T::ROLE.as_str());
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(parsed)
    }

    /// Parses a template that is stored with a model, whose vectors depend on every character: braces that are no
    /// placeholder of this crate are text, and so is a backslash. The prompts of sentence-transformers, which are
    /// prefixes, may have either.
    ///
    /// # Errors
    /// If it contains `{text}` more than once, or `{title}` is not before `{text}`, or is of a query.
    pub fn stored(template: &str) -> Result<Self> {
        let refuse = |problem: &str| {
            let message = format!("the {} instruction {template:?} {problem}", T::ROLE.as_str());
            Err(Error::new(ErrorKind::Config, message))
        };
        let (before, after) = template.split_once(TEXT).unwrap_or((template, ""));
        if after.contains(TEXT) {
            return refuse("contains {text} more than once");
        }
        let Some((before, joint)) = before.split_once(TITLE) else {
            if after.contains(TITLE) {
                return refuse("has {title} after {text}, allowed: before it");
            }
            return Ok(Self { before: before.into(), title: None, after: after.into(), role: PhantomData });
        };
        if T::ROLE == Role::Query {
            return refuse("has {title}, which only documents have");
        }
        if !template.contains(TEXT) || joint.contains(TITLE) || after.contains(TITLE) {
            return refuse("has {title}, but not once and before {text}");
        }
        let joint = match joint {
            SEPARATOR => Joint::Segments,
            joint if joint.contains(SEPARATOR) => {
                return refuse("has {sep} and more between {title} and {text}, allowed: {sep} alone");
            }
            joint => Joint::Text(joint.into()),
        };
        Ok(Self { before: before.into(), title: Some(joint), after: after.into(), role: PhantomData })
    }

    /// The template with its `{text}`; the empty string if there is no instruction.
    pub fn template(&self) -> String {
        let Self { before, title, after, .. } = self;
        match title {
            None if before.is_empty() && after.is_empty() => String::new(),
            None => format!("{before}{TEXT}{after}"),
            Some(Joint::Text(joint)) => format!("{before}{TITLE}{joint}{TEXT}{after}"),
            Some(Joint::Segments) => format!("{before}{TITLE}{SEPARATOR}{TEXT}{after}"),
        }
    }

    /// The part before the text, if nothing follows the text and the title has no place of its own.
    pub fn prefix(&self) -> Option<&str> {
        (self.after.is_empty() && self.title.is_none()).then_some(self.before.as_str())
    }

    /// Whether title and text are two segments.
    pub fn is_pair(&self) -> bool {
        self.title == Some(Joint::Segments)
    }

    /// The text with the instruction applied, as the tower reads it.
    ///
    /// If title and text are two segments, the character U+001F is between them; it is taken out of the title.
    pub fn apply(&self, text: &T) -> String {
        let (title, body) = text.parts();
        let content = match &self.title {
            None => text.content(),
            Some(Joint::Segments) => Cow::Owned(format!("{}{SEGMENT}{body}", title.replace(SEGMENT, ""))),
            Some(Joint::Text(joint)) if !title.is_empty() && !body.is_empty() => {
                Cow::Owned(format!("{title}{joint}{body}"))
            }
            Some(Joint::Text(_)) => Cow::Owned(format!("{title}{body}")),
        };
        format!("{}{content}{}", self.before, self.after)
    }

    /// The two segments of a text to which this instruction was [applied](Self::apply), if it has two.
    pub fn segments<'a>(&self, applied: &'a str) -> Option<(&'a str, &'a str)> {
        self.is_pair().then(|| applied.split_once(SEGMENT).unwrap_or(("", applied)))
    }
}

/// Checks that a template, which `name` names, has only these placeholders, and line breaks rather than a backslash and
/// an `n`.
///
/// # Errors
/// If it has other placeholders: `{` and `}` with at most 40 letters, digits, inner blanks, `_`, `-` and `.` between
/// them.
pub fn check_template(name: &str, template: &str, allowed: &[&str]) -> Result<()> {
    let refuse = |problem: String| Err(Error::new(ErrorKind::Config, format!("{name} {template:?} {problem}")));
    for (start, _) in template.match_indices('{') {
        let group = template[start..].split_inclusive('}').next().unwrap_or_default();
        let name = group.strip_prefix('{').and_then(|group| group.strip_suffix('}'));
        let is_name = |name: &str| {
            name.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.'))
                && name.trim() == name
                && name.chars().count() <= LONGEST_PLACEHOLDER
        };
        if name.is_some_and(is_name) && !allowed.contains(&group) {
            let allowed = allowed.join(", ");
            return refuse(format!("contains {group}, which is no placeholder, allowed: {allowed}"));
        }
    }
    for (escape, meaning) in [("\\n", "a line break"), ("\\t", "a tab"), ("\\r", "a carriage return")] {
        if template.contains(escape) {
            return refuse(format!(
                "contains a backslash and a letter; write {meaning} itself, in a shell $'{escape}'"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_and_text_are_joined_as_beir_does() {
        assert_eq!(Document::with_title("感冒", "多喝水").content(), "感冒 多喝水");
        assert_eq!(Document::with_title("感冒", "").content(), "感冒");
        assert_eq!(Document::new(" 原样 ").content(), " 原样 ");
    }

    #[test]
    fn trimmed_documents_lose_what_python_strips() {
        for space in [" ", "\n\r\n", "\t\u{3000}", "\u{1c}\u{1f}", "\u{a0}\u{2028}\u{85}"] {
            let around = format!("{space}头 痛{space}");
            assert_eq!(Document::new(&*around).trimmed(), Document::new("头 痛"));
            assert_eq!(Document::with_title("", &*around).trimmed().content(), "头 痛");
            assert_eq!(Document::with_title(space, &*around).trimmed().content(), "头 痛");
            assert_eq!(Document::with_title("题", &*around).trimmed().content(), format!("题 {space}头 痛"));
        }
        // A zero-width space and a byte-order mark are not white space.
        assert_eq!(Document::new("\u{200b}a\u{feff}").trimmed().text(), "\u{200b}a\u{feff}");
    }

    #[test]
    fn a_template_survives_its_own_text_form() {
        for template in ["", "query: ", "<s>{text}</s>"] {
            let one = Instruction::<Document>::new(template).expect("valid");
            assert_eq!(Instruction::new(&one.template()).expect("valid"), one);
        }
        let error = Instruction::<Query>::new("{text} {text}").expect_err("twice");
        assert_eq!(error.to_string(), "the query instruction \"{text} {text}\" contains {text} more than once");
    }

    #[test]
    fn a_template_has_a_place_for_the_title() {
        let both = Document::with_title("感冒", "多喝水");
        let (title, text) = (Document::with_title("感冒", ""), Document::new("多喝水"));
        for (template, of_both, of_title, of_text) in [
            ("{title}\n{text}", "感冒\n多喝水", "感冒", "多喝水"),
            ("passage: {title}。{text}!", "passage: 感冒。多喝水!", "passage: 感冒!", "passage: 多喝水!"),
            ("{title}{text}", "感冒多喝水", "感冒", "多喝水"),
            ("{title}{sep}{text}", "感冒\u{1f}多喝水", "感冒\u{1f}", "\u{1f}多喝水"),
            ("a {title}{sep}{text} b", "a 感冒\u{1f}多喝水 b", "a 感冒\u{1f} b", "a \u{1f}多喝水 b"),
        ] {
            let one = Instruction::<Document>::new(template).expect("valid");
            assert_eq!([&both, &title, &text].map(|document| one.apply(document)), [of_both, of_title, of_text]);
            assert_eq!(one.template(), template);
            assert_eq!(one.prefix(), None);
            assert_eq!(one.segments(of_both), of_both.split_once('\u{1f}'));
        }
        let pair = Instruction::<Document>::new("{title}{sep}{text}").expect("valid");
        let odd = Document::with_title("a\u{1f}b", "c\u{1f}d");
        assert_eq!(pair.segments(&pair.apply(&odd)), Some(("ab", "c\u{1f}d")));
        assert_eq!(Instruction::<Document>::default().segments("a\u{1f}b"), None);
    }

    #[test]
    fn templates_of_other_programs_are_refused() {
        for (template, problem) in [
            ("{}{}", "contains {}, which is no placeholder, allowed: {text}"),
            ("Instruct: {}\nQuery: {}", "contains {}, which is no placeholder, allowed: {text}"),
            ("Instruct: {task}\nQuery: {text}", "contains {task}, which is no placeholder, allowed: {text}"),
            ("{query}", "contains {query}, which is no placeholder, allowed: {text}"),
            ("{任务 1}{text}", "contains {任务 1}, which is no placeholder, allowed: {text}"),
            ("{{text}", ""),
            ("{title}{text}", "contains {title}, which is no placeholder, allowed: {text}"),
            ("a\\nb", "contains a backslash and a letter; write a line break itself, in a shell $'\\n'"),
            ("\\t{text}", "contains a backslash and a letter; write a tab itself, in a shell $'\\t'"),
            ("JSON {\"a\": 1} { and }: ", ""),
            ("<query>{text}", ""),
        ] {
            match Instruction::<Query>::new(template) {
                Ok(_) => assert_eq!(problem, "", "{template}"),
                Err(error) => assert_eq!(error.to_string(), format!("the query instruction {template:?} {problem}")),
            }
        }
        for (template, problem) in [
            ("{text}{title}", "has {title} after {text}, allowed: before it"),
            ("{title}", "has {title}, but not once and before {text}"),
            ("{title}{title}{text}", "has {title}, but not once and before {text}"),
            ("{title} {sep}{text}", "has {sep} and more between {title} and {text}, allowed: {sep} alone"),
            ("{sep}{text}", "has {sep}, whose one place is between {title} and {text}"),
            ("{title}{sep}{text}{sep}", "has {sep}, whose one place is between {title} and {text}"),
            ("{passage}", "contains {passage}, which is no placeholder, allowed: {text}, {title}, {sep}"),
        ] {
            let error = Instruction::<Document>::new(template).expect_err("refused");
            assert_eq!(error.to_string(), format!("the document instruction {template:?} {problem}"));
        }
    }

    #[test]
    fn what_is_stored_with_a_model_is_text() {
        for template in ["Instruct: {}\nQuery: {}", "a\\nb: ", "{task}{text}"] {
            let stored = Instruction::<Query>::stored(template).expect("literal");
            let expected = template.replace("{text}", "") + "头";
            assert_eq!(stored.apply(&Query::new("头")), expected);
            assert_eq!(Instruction::stored(&stored.template()).expect("literal"), stored);
        }
        Instruction::<Query>::stored("{title}{text}").expect_err("queries have no title");
    }
}
