//! The value of a column in a file that is not JSON, as serde reads it.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A value. What makes it unusable is an error only where a row has a field for it.
#[derive(Debug, PartialEq)]
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "a table holds text only"))]
pub(super) enum Cell {
    Null,
    /// Text that may stand for nothing: an empty cell of a table.
    Blank,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(String),
    List(Vec<Cell>),
    Map(Vec<(String, Cell)>),
    Json(Value),
    /// A value that is neither text nor a number nor a list, with the problem.
    Unusable(String),
}

/// A row from its columns.
pub(super) fn row_of<R: DeserializeOwned>(columns: Vec<(String, Cell)>) -> Result<R, Error> {
    R::deserialize(MapDeserializer::new(columns.into_iter()))
}

impl<'de> Deserializer<'de> for Cell {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Blank => visitor.visit_str(""),
            Self::Text(text) => visitor.visit_string(text),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Int(value) => visitor.visit_i64(value),
            Self::UInt(value) => visitor.visit_u64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::List(cells) => visitor.visit_seq(SeqDeserializer::new(cells.into_iter())),
            Self::Map(columns) => visitor.visit_map(MapDeserializer::new(columns.into_iter())),
            Self::Json(value) => value.deserialize_any(visitor),
            Self::Unusable(problem) => Err(Error::custom(problem)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null | Self::Blank => visitor.visit_none(),
            Self::Json(Value::Null) => visitor.visit_none(),
            cell => visitor.visit_some(cell),
        }
    }

    /// Tables hold numbers as text.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self {
            Self::Text(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier
    }
}

impl IntoDeserializer<'_, Error> for Cell {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
