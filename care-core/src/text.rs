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
}

/// A search query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query(String);

impl Text for Query {
    const ROLE: Role = Role::Query;

    fn content(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
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
}

impl Document {
    /// A document with this text and no title.
    pub fn new(text: impl Into<String>) -> Self {
        Self::with_title("", text)
    }

    /// A document whose tower reads `title + " " + text`, trimmed.
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

/// Where the text goes in an [`Instruction`] template.
const PLACEHOLDER: &str = "{text}";

/// An instruction template bound to one role.
///
/// The template either contains `{text}` once or is a prefix: `"query: "` means `"query: {text}"`. Training and
/// inference use the same template, and it is stored with the model.
///
/// ```
/// use care_core::{Instruction, Query};
/// let ask = Instruction::<Query>::new("Instruct: 检索医学答案\nQuery:")?;
/// assert_eq!(ask.apply(&Query::new("头痛怎么办")), "Instruct: 检索医学答案\nQuery:头痛怎么办");
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction<T> {
    before: String,
    after: String,
    role: PhantomData<T>,
}

impl<T> Default for Instruction<T> {
    /// The empty instruction: the text alone.
    fn default() -> Self {
        Self { before: String::new(), after: String::new(), role: PhantomData }
    }
}

impl<T: Text> Instruction<T> {
    /// Parses a template or a prefix.
    ///
    /// # Errors
    /// If it contains `{text}` more than once.
    pub fn new(template: &str) -> Result<Self> {
        let mut parts = template.split(PLACEHOLDER);
        let before = parts.next().unwrap_or_default().to_owned();
        let after = parts.next().unwrap_or_default().to_owned();
        if parts.next().is_some() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the {} instruction {template:?} contains {PLACEHOLDER} more than once", T::ROLE.as_str()),
            ));
        }
        Ok(Self { before, after, role: PhantomData })
    }

    /// The template with its `{text}`; the empty string if there is no instruction.
    pub fn template(&self) -> String {
        if self.before.is_empty() && self.after.is_empty() {
            String::new()
        } else {
            format!("{}{PLACEHOLDER}{}", self.before, self.after)
        }
    }

    /// The part before the text, if nothing follows the text.
    pub fn prefix(&self) -> Option<&str> {
        self.after.is_empty().then_some(self.before.as_str())
    }

    /// The text with the instruction applied, as the tower reads it.
    pub fn apply(&self, text: &T) -> String {
        let content = text.content();
        let mut out = String::with_capacity(self.before.len() + content.len() + self.after.len());
        out.push_str(&self.before);
        out.push_str(&content);
        out.push_str(&self.after);
        out
    }
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
}
