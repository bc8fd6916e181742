//! Which questions can be used.

use std::fmt;

use care_core::{Error, Result};
use care_data::normalise;
use serde::Serialize;

/// Why a question is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reject {
    /// It has no letter and no digit.
    Empty,
    /// It is the document, or a long part of it word by word.
    Copied,
    /// It is longer than [`Filter::longest`].
    TooLong,
    /// It reads like no question, though its kind is one of questions.
    NoQuestion,
    /// It is in another script than the document: Han or not.
    OtherLanguage,
    /// The same question was written for the same document before.
    Duplicate,
}

impl Reject {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Copied => "copied from the document",
            Self::TooLong => "too long",
            Self::NoQuestion => "not a question",
            Self::OtherLanguage => "another language",
            Self::Duplicate => "a duplicate",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Words of which a question has one.
const INTERROGATIVE: [&str; 40] = [
    "?",
    "吗",
    "呢",
    "么",
    "什",
    "啥",
    "咋",
    "怎",
    "如何",
    "何",
    "哪",
    "谁",
    "多少",
    "多久",
    "多大",
    "多长",
    "多高",
    "几",
    "为何",
    "是否",
    "能否",
    "可否",
    "有无",
    "有没有",
    "是不是",
    "能不能",
    "会不会",
    "要不要",
    "该不该",
    "需不需",
    "可不可",
    "好不好",
    "行不行",
    "what",
    "how",
    "which",
    "when",
    "why",
    "who",
    "can ",
];
/// Share of Han characters among the letters from which a text is Chinese.
const HAN: f64 = 0.3;

/// What a question must be like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Filter {
    /// Most characters of a question, >= 1. Default 100.
    pub longest: usize,
    /// A question that is word by word a part of the document, is copied from this many characters on, >= 1; shorter parts
    /// are terms, as keywords are. Compared after [`normalise`]. Default 16.
    pub copied: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { longest: 100, copied: 16 }
    }
}

impl Filter {
    /// Sets [`Filter::longest`].
    #[must_use]
    pub fn with_longest(self, characters: usize) -> Self {
        Self { longest: characters, ..self }
    }

    /// Sets [`Filter::copied`].
    #[must_use]
    pub fn with_copied(self, characters: usize) -> Self {
        Self { copied: characters, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("longest", self.longest), ("copied", self.copied)] {
            if value == 0 {
                return Err(Error::setting(name, value, ">= 1"));
            }
        }
        Ok(())
    }

    /// Whether a question for a document can be used; the first reason against it that holds, in the order of [`Reject`].
    /// `is_question` is false for kinds that need not read like one.
    ///
    /// # Errors
    /// The reason.
    pub fn accepts(&self, question: &str, document: &str, is_question: bool) -> std::result::Result<(), Reject> {
        if !question.contains(char::is_alphanumeric) {
            return Err(Reject::Empty);
        }
        let (form, document_form) = (normalise(question), normalise(document));
        let length = form.chars().count();
        if form == document_form || (length >= self.copied && document_form.contains(&form)) {
            return Err(Reject::Copied);
        }
        if question.trim().chars().count() > self.longest {
            return Err(Reject::TooLong);
        }
        let lower = question.to_lowercase().replace('？', "?");
        if is_question && !INTERROGATIVE.iter().any(|word| lower.contains(word)) {
            return Err(Reject::NoQuestion);
        }
        let (of_question, of_document) = (han_share(question), han_share(document));
        let is_other = of_document.zip(of_question).is_some_and(|(document, question)| match document >= HAN {
            // Terms may be Latin, as in `CT 增强`, but not all.
            true => question == 0.0,
            false => question >= HAN,
        });
        if is_other { Err(Reject::OtherLanguage) } else { Ok(()) }
    }
}

/// The share of Han characters among the letters of a text; `None` without letters.
fn han_share(text: &str) -> Option<f64> {
    let is_han = |c: &char| matches!(u32::from(*c), 0x3400..0xa000 | 0xf900..0xfb00 | 0x2_0000..0x3_2400);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    (letters > 0).then(|| text.chars().filter(is_han).count() as f64 / letters as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "良性甲状腺结节一般不必开刀，每半年到一年做一次超声；结节过大压迫气管，应手术切除。";

    #[test]
    fn bad_questions_are_refused_by_reason() {
        let filter = Filter::default();
        for (question, is_question, expected) in [
            ("甲状腺结节多大需要手术？", true, Ok(())),
            ("我妈脖子上长了个疙瘩要不要开刀", true, Ok(())),
            ("甲状腺结节 手术", false, Ok(())),
            ("甲状腺结节 手术", true, Err(Reject::NoQuestion)),
            ("甲状腺结节的治疗方法。", true, Err(Reject::NoQuestion)),
            (" ？。", true, Err(Reject::Empty)),
            ("", false, Err(Reject::Empty)),
            (DOCUMENT, true, Err(Reject::Copied)),
            ("良性甲状腺结节，一般不必开刀，每半年到一年做一次超声", false, Err(Reject::Copied)),
            ("压迫气管", false, Ok(())),
            ("do thyroid nodules need surgery?", true, Err(Reject::OtherLanguage)),
            ("TSH", false, Err(Reject::OtherLanguage)),
            ("TSH 增高", false, Ok(())),
        ] {
            assert_eq!(filter.accepts(question, DOCUMENT, is_question), expected, "{question}");
        }
        let long = format!("{}怎么办", "甲".repeat(100));
        assert_eq!(filter.accepts(&long, DOCUMENT, true), Err(Reject::TooLong));
        assert_eq!(filter.clone().with_longest(103).accepts(&long, DOCUMENT, true), Ok(()));
        assert_eq!(filter.accepts("头痛怎么办", "What to do about headaches", true), Err(Reject::OtherLanguage));
        assert_eq!(filter.accepts("What helps?", "Rest helps.", true), Ok(()));
        assert_eq!(filter.with_copied(0).check().expect_err("none").to_string(), "`copied` is 0, allowed: >= 1");
    }
}
