//! Fields that several APIs have in several forms.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

use super::list::List;
use crate::failure::{Failure, Kind};
use crate::service::{Input, Service, Truncate};
use crate::tower::Side;

/// What a field of texts or token ids may be.
const ALLOWED: &str = "a string, or a list of strings or of token ids";

/// Texts or token ids: one, or a list. They are read into what they are at once: values of JSON would take many times the
/// memory of the body.
#[derive(Debug, PartialEq)]
pub(super) enum Inputs {
    Texts(List<String>),
    Ids(List<Vec<u32>>),
}

/// The first item of a list, which tells what the others are.
enum First {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl Inputs {
    /// The input, in the field of this name.
    ///
    /// # Errors
    /// If there is none, one is empty, or there are too many.
    pub(super) fn check(self, field: &str, service: &Service) -> Result<Input, Failure> {
        let (input, first_empty) = match self {
            Self::Texts(texts) => {
                let texts = texts.all(field, service)?;
                let first_empty = texts.iter().position(String::is_empty);
                (Input::Texts(texts), first_empty)
            }
            Self::Ids(ids) => {
                let ids = ids.all(field, service)?;
                let first_empty = ids.iter().position(Vec::is_empty);
                (Input::Ids(ids), first_empty)
            }
        };
        match first_empty {
            Some(at) => Err(Failure::field(field, format!("`{field}[{at}]` is empty")).of_kind(Kind::Empty)),
            None => Ok(input),
        }
    }

    /// The texts, in the field of this name.
    ///
    /// # Errors
    /// As [`Inputs::check`], and if there are token ids.
    pub(super) fn texts(self, field: &str, service: &Service) -> Result<Vec<String>, Failure> {
        match self.check(field, service)? {
            Input::Texts(texts) => Ok(texts),
            Input::Ids(_) => Err(Failure::field(field, format!("`{field}` has token ids, allowed: texts"))),
        }
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ALLOWED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs::Texts(List::of_one(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Inputs, A::Error> {
                Ok(match items.next_element()? {
                    None => Inputs::Texts(List::read(None, items)?),
                    Some(First::Text(text)) => Inputs::Texts(List::read(Some(text), items)?),
                    Some(First::Ids(ids)) => Inputs::Ids(List::read(Some(ids), items)?),
                    // One text of many ids.
                    Some(First::Id(id)) => {
                        let mut ids = vec![id];
                        while let Some(id) = items.next_element()? {
                            ids.push(id);
                        }
                        Inputs::Ids(List::of_one(ids))
                    }
                })
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or a list of token ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<First, E> {
                Ok(First::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<First, E> {
                let id = u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))?;
                Ok(First::Id(id))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, ids: A) -> Result<First, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(ids)).map(First::Ids)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// `truncate` as a boolean (text-embeddings-inference) or as NONE, START, END (Cohere, NVIDIA NIM).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "allowed: true, false, \"NONE\", \"START\" or \"END\"")]
pub(super) enum TruncateField {
    Switch(bool),
    Named(Named),
}

/// The end that is cut off.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Named {
    None,
    Start,
    End,
}

/// By default texts are cut as their tower was trained.
pub(super) fn truncate(field: Option<TruncateField>, direction: Option<Direction>) -> Truncate {
    match field {
        Some(TruncateField::Switch(false) | TruncateField::Named(Named::None)) => Truncate::Refuse,
        Some(TruncateField::Named(Named::Start)) => Truncate::Cut(Some(Side::Left)),
        Some(TruncateField::Named(Named::End)) => Truncate::Cut(Some(Side::Right)),
        Some(TruncateField::Switch(true)) | None => Truncate::Cut(direction.map(|direction| match direction {
            Direction::Left => Side::Left,
            Direction::Right => Side::Right,
        })),
    }
}

/// `truncation_direction` of text-embeddings-inference.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum Direction {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

#[cfg(test)]
mod tests {
    use super::super::list::keeping;
    use super::*;

    #[test]
    fn texts_and_ids_are_read_in_every_form_and_lists_no_further_than_needed() {
        let read = |json| keeping(2, || serde_json::from_str::<Inputs>(json)).map_err(|e| e.to_string());
        let keep = |json| keeping(2, || serde_json::from_str::<List<String>>(json).expect("texts"));
        for (json, list) in [(r#""a""#, r#"["a"]"#), (r#"["a"]"#, r#"["a"]"#), ("[]", "[]")] {
            assert_eq!(read(json), Ok(Inputs::Texts(keep(list))));
        }
        assert_eq!(read(r#"["a", "b", "c", "d"]"#), Ok(Inputs::Texts(keep(r#"["a", "b", "", ""]"#))));
        // A text of more ids than a request may have texts.
        assert_eq!(read("[1, 2, 3]"), Ok(Inputs::Ids(List::of_one(vec![1, 2, 3]))));
        assert_eq!(read("[[1, 2, 3]]"), Ok(Inputs::Ids(List::of_one(vec![1, 2, 3]))));
        let many = keeping(2, || serde_json::from_str("[[1], [2], [3], [4]]").expect("lists"));
        assert_eq!(read("[[1], [2], 3, []]"), Ok(Inputs::Ids(many)));
        for (json, problem) in [
            ("null", "invalid type: null, expected a string, or a list of strings or of token ids"),
            ("[true]", "invalid type: boolean `true`, expected a string, a token id or a list of token ids"),
            ("[4294967296]", "invalid value: integer `4294967296`, expected a string, a token id"),
            (r#"["a", 3]"#, "invalid type: integer `3`, expected a string"),
            ("[1, -3]", "invalid value: integer `-3`, expected u32"),
            (r#"[[1, "a"]]"#, "invalid type: string \"a\", expected u32"),
        ] {
            let refused = read(json).expect_err(json);
            assert!(refused.starts_with(problem), "{refused}");
        }
    }
}
