//! Conditions on metadata, and their forms as JSON and as text.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};

/// A value that a [`Filter`] compares with. As JSON, the value itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// A number. Numbers are compared as f64.
    Number(f64),
    /// A string. Strings are ordered by code point, so ISO dates are in order.
    String(String),
}

/// What a field must be. A field that is a list of strings satisfies it if one of them does, and an absent field, or one
/// of another type, does not.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One of these values.
    In(Vec<Scalar>),
    /// Between two bounds, of one type: both numbers, or both strings.
    Range(Bound<Scalar>, Bound<Scalar>),
    /// Present, and neither null nor an empty list.
    Exists,
}

/// Which rows of a [`DiskIndex`](super::DiskIndex) a search considers.
///
/// As JSON it has the operators of MongoDB, which vector databases share: an object of fields, all of which must fit, each
/// with a value or an object of `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`, `$exists`; and `$and`, `$or`
/// (lists of filters) and `$not` (a filter). As text it is that JSON or one comparison.
///
/// ```
/// use care_core::index::Filter;
/// let filter: Filter = serde_json::from_str(
///     r#"{"department": "内科", "year": {"$gte": 2020, "$lt": 2025}, "$or": [{"tags": "急诊"}, {"icu": true}]}"#,
/// ).unwrap();
/// assert!(matches!(&filter, Filter::And(parts) if parts.len() == 3));
/// assert_eq!("department=内科".parse::<Filter>()?, Filter::equal("department", "内科"));
/// assert_eq!("year >= 2020".parse::<Filter>()?, serde_json::from_str(r#"{"year": {"$gte": 2020}}"#).unwrap());
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Filter {
    /// A field fits a condition.
    Field(String, Condition),
    /// All of these; every row if there are none.
    And(Vec<Filter>),
    /// At least one of these; no row if there are none.
    Or(Vec<Filter>),
    /// All rows but these.
    Not(Box<Filter>),
}

impl Filter {
    /// The rows in which a field has this value, among others if it is a list.
    pub fn equal(field: impl Into<String>, value: impl Into<Scalar>) -> Self {
        Self::Field(field.into(), Condition::In(vec![value.into()]))
    }

    /// The filter of its JSON form.
    ///
    /// # Errors
    /// If an operator is unknown or a value has a type that it does not take.
    pub fn from_json(json: &Value) -> Result<Self> {
        let Value::Object(object) = json else { return Err(refused(format!("{json} is not an object"))) };
        let mut parts = Vec::new();
        for (name, value) in object {
            match name.as_str() {
                "$and" => parts.push(Self::And(list(name, value)?)),
                "$or" => parts.push(Self::Or(list(name, value)?)),
                "$not" => parts.push(Self::Not(Box::new(Self::from_json(value)?))),
                _ if name.starts_with('$') => {
                    return Err(refused(format!("unknown operator `{name}`, allowed: $and, $or, $not, or a field")));
                }
                _ => of_field(name, value, &mut parts)?,
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Self::And(parts) })
    }

    /// The names of the fields that the filter asks for.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Field(name, _) => vec![name],
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(part) => part.fields(),
        }
    }
}

/// A condition in a form that compares many values quickly.
pub(super) enum Matcher<'a> {
    In { bools: Vec<bool>, numbers: Vec<f64>, strings: HashSet<&'a str> },
    Range(&'a Bound<Scalar>, &'a Bound<Scalar>),
    Exists,
}

impl Condition {
    pub(super) fn matcher(&self) -> Matcher<'_> {
        match self {
            Self::In(values) => {
                let bools = values.iter().filter_map(Scalar::as_bool).collect();
                // Adding 0 turns -0 into 0, which `total_cmp` would tell apart.
                let mut numbers: Vec<f64> =
                    values.iter().filter_map(Scalar::as_number).map(|number| number + 0.0).collect();
                numbers.sort_unstable_by(f64::total_cmp);
                Matcher::In { bools, numbers, strings: values.iter().filter_map(Scalar::as_str).collect() }
            }
            Self::Range(low, high) => Matcher::Range(low, high),
            Self::Exists => Matcher::Exists,
        }
    }
}

impl Matcher<'_> {
    /// Whether no number fits, so that none needs to be read.
    pub(super) fn fits_no_number(&self) -> bool {
        matches!(self, Self::In { numbers, .. } if numbers.is_empty())
    }

    pub(super) fn fits_bool(&self, value: bool) -> bool {
        match self {
            Self::In { bools, .. } => bools.contains(&value),
            Self::Range(..) => false,
            Self::Exists => true,
        }
    }

    pub(super) fn fits_number(&self, value: f64) -> bool {
        match self {
            Self::In { numbers, .. } => numbers.binary_search_by(|number| number.total_cmp(&(value + 0.0))).is_ok(),
            Self::Range(low, high) => is_between(&value, low, high, Scalar::as_number),
            Self::Exists => true,
        }
    }

    pub(super) fn fits_str(&self, value: &str) -> bool {
        match self {
            Self::In { strings, .. } => strings.contains(value),
            Self::Range(low, high) => is_between(&value, low, high, Scalar::as_str),
            Self::Exists => true,
        }
    }
}

impl Scalar {
    fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    fn as_str(&self) -> Option<&str> {
        if let Self::String(string) = self { Some(string) } else { None }
    }
}

/// Whether a value is between bounds of its type.
fn is_between<'a, T: PartialOrd>(
    value: &T,
    low: &'a Bound<Scalar>,
    high: &'a Bound<Scalar>,
    of_type: impl Fn(&'a Scalar) -> Option<T>,
) -> bool {
    let fits = |bound: &'a Bound<Scalar>, fits: &dyn Fn(&T, bool) -> bool| match bound {
        Bound::Unbounded => true,
        Bound::Included(scalar) => of_type(scalar).is_some_and(|bound| fits(&bound, true)),
        Bound::Excluded(scalar) => of_type(scalar).is_some_and(|bound| fits(&bound, false)),
    };
    let is_typed = !matches!((low, high), (Bound::Unbounded, Bound::Unbounded));
    is_typed
        && fits(low, &|bound, included| value > bound || (included && value == bound))
        && fits(high, &|bound, included| value < bound || (included && value == bound))
}

fn refused(problem: String) -> Error {
    Error::new(ErrorKind::Config, format!("filter: {problem}"))
}

fn list(name: &str, value: &Value) -> Result<Vec<Filter>> {
    let Value::Array(parts) = value else { return Err(refused(format!("`{name}` takes a list of filters"))) };
    parts.iter().map(Filter::from_json).collect()
}

fn scalar(operator: &str, value: &Value) -> Result<Scalar> {
    Scalar::deserialize(value).map_err(|_| {
        let instead = if value.is_null() { r#"; {"$exists": false} fits rows without a value"# } else { "" };
        refused(format!("`{operator}` takes a string, a number or a boolean, not {value}{instead}"))
    })
}

fn scalars(operator: &str, value: &Value) -> Result<Vec<Scalar>> {
    let Value::Array(values) = value else { return Err(refused(format!("`{operator}` takes a list, not {value}"))) };
    values.iter().map(|value| scalar(operator, value)).collect()
}

/// The conditions of one field.
fn of_field(name: &str, value: &Value, parts: &mut Vec<Filter>) -> Result<()> {
    let field = |condition| Filter::Field(name.to_owned(), condition);
    let Value::Object(operators) = value else {
        parts.push(field(Condition::In(vec![scalar(name, value)?])));
        return Ok(());
    };
    let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
    for (operator, value) in operators {
        let bound = |side: &mut Bound<Scalar>, new: fn(Scalar) -> Bound<Scalar>| match scalar(operator, value)? {
            Scalar::Bool(_) => Err(refused(format!("`{operator}` takes a number or a string, not {value}"))),
            _ if *side != Bound::Unbounded => Err(refused(format!("the field `{name}` has two bounds on one side"))),
            limit => {
                *side = new(limit);
                Ok(())
            }
        };
        match operator.as_str() {
            "$eq" => parts.push(field(Condition::In(vec![scalar(operator, value)?]))),
            "$ne" => parts.push(not(field(Condition::In(vec![scalar(operator, value)?])))),
            "$in" => parts.push(field(Condition::In(scalars(operator, value)?))),
            "$nin" => parts.push(not(field(Condition::In(scalars(operator, value)?)))),
            "$gt" => bound(&mut low, Bound::Excluded)?,
            "$gte" => bound(&mut low, Bound::Included)?,
            "$lt" => bound(&mut high, Bound::Excluded)?,
            "$lte" => bound(&mut high, Bound::Included)?,
            "$exists" => match value {
                Value::Bool(true) => parts.push(field(Condition::Exists)),
                Value::Bool(false) => parts.push(not(field(Condition::Exists))),
                _ => return Err(refused(format!("`$exists` takes true or false, not {value}"))),
            },
            _ => {
                let allowed = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists";
                return Err(refused(format!(
                    "unknown operator `{operator}` of the field `{name}`, allowed: {allowed}"
                )));
            }
        }
    }
    match (&low, &high) {
        (Bound::Unbounded, Bound::Unbounded) if operators.is_empty() => {
            Err(refused(format!("the field `{name}` has no operator")))
        }
        (Bound::Unbounded, Bound::Unbounded) => Ok(()),
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b))
            if std::mem::discriminant(a) != std::mem::discriminant(b) =>
        {
            Err(refused(format!("the bounds of the field `{name}` are of two types")))
        }
        _ => {
            parts.push(field(Condition::Range(low, high)));
            Ok(())
        }
    }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

impl TryFrom<Value> for Filter {
    type Error = Error;

    fn try_from(json: Value) -> Result<Self> {
        Self::from_json(&json)
    }
}

impl From<Filter> for Value {
    fn from(filter: Filter) -> Self {
        let all = |parts: Vec<Filter>| parts.into_iter().map(Value::from).collect::<Vec<_>>();
        match filter {
            Filter::And(parts) => json!({ "$and": all(parts) }),
            Filter::Or(parts) => json!({ "$or": all(parts) }),
            Filter::Not(part) => json!({ "$not": Value::from(*part) }),
            Filter::Field(name, condition) => json!({ name: Value::from(condition) }),
        }
    }
}

impl From<Condition> for Value {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::In(values) => json!({ "$in": values }),
            Condition::Exists => json!({ "$exists": true }),
            Condition::Range(low, high) => {
                let mut operators = Map::new();
                let sides = [(low, "$gte", "$gt"), (high, "$lte", "$lt")];
                for (bound, included, excluded) in sides {
                    match bound {
                        Bound::Included(value) => drop(operators.insert(included.to_owned(), json!(value))),
                        Bound::Excluded(value) => drop(operators.insert(excluded.to_owned(), json!(value))),
                        Bound::Unbounded => {}
                    }
                }
                Value::Object(operators)
            }
        }
    }
}

/// A comparison, `FIELD OPERATOR VALUE` with one of `=` (or `==`), `!=`, `<`, `<=`, `>`, `>=`, or the JSON form. A value that
/// is a number, `true`, `false` or a string in quotation marks is read as JSON, `null` is refused as it is there, and any
/// other value is a string. One that begins with `=`, `!`, `<` or `>` must be in quotation marks, so that a misspelt operator
/// (`=>`) is not read as part of it.
impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with('{') {
            let json: Value =
                serde_json::from_str(text).map_err(|e| refused(format!("not JSON: {e}")).with_source(e))?;
            return Self::from_json(&json);
        }
        // The first operator of the text; of two that begin there, the longer.
        let operators =
            [("==", "$eq"), ("!=", "$ne"), ("<=", "$lte"), (">=", "$gte"), ("=", "$eq"), ("<", "$lt"), (">", "$gt")];
        let at = |sign: &str| text.find(sign).map(|at| (at, std::cmp::Reverse(sign.len())));
        let first = operators.into_iter().filter(|(sign, _)| at(sign).is_some()).min_by_key(|(sign, _)| at(sign));
        let parts = first.and_then(|(sign, operator)| Some((text.split_once(sign)?, operator)));
        let Some(((name, value), operator)) = parts.filter(|((name, _), _)| !name.trim().is_empty()) else {
            let allowed = "FIELD=VALUE (or !=, <, <=, >, >=) or a JSON object";
            return Err(refused(format!("{text:?} is not understood, allowed: {allowed}")));
        };
        let value = value.trim();
        if value.starts_with(['=', '!', '<', '>']) {
            let allowed = "=, ==, !=, <, <=, >, >=; a value that begins like an operator must be in quotation marks";
            return Err(refused(format!("the operator of {text:?} is unknown, allowed: {allowed}")));
        }
        let json = serde_json::from_str(value).ok().filter(|json: &Value| !json.is_array() && !json.is_object());
        Self::from_json(&json!({ name.trim(): { operator: json.unwrap_or_else(|| Value::from(value)) } }))
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Value::from(self.clone()))
    }
}

impl From<&str> for Scalar {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Scalar {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_filter_agree() {
        let parse = |text: &str| text.parse::<Filter>().unwrap_or_else(|e| panic!("{text}: {e}"));
        for (text, json) in [
            ("dept=内科", r#"{"dept": "内科"}"#),
            ("dept != 内 科 ", r#"{"dept": {"$ne": "内 科"}}"#),
            ("year>=2020", r#"{"year": {"$gte": 2020}}"#),
            ("year==2020", r#"{"year": 2020}"#),
            ("year == 2020", r#"{"year": 2020}"#),
            ("sign=\"=>\"", r#"{"sign": "=>"}"#),
            ("field=\"null\"", r#"{"field": "null"}"#),
            ("year<2020.5", r#"{"year": {"$lt": 2020.5}}"#),
            ("code=\"007\"", r#"{"code": "007"}"#),
            ("open=true", r#"{"open": {"$eq": true}}"#),
            ("formula=a<b", r#"{"formula": "a<b"}"#),
            ("date>2024-01-05", r#"{"date": {"$gt": "2024-01-05"}}"#),
        ] {
            assert_eq!(parse(text), parse(json), "{text}");
        }
        let nested = r#"{"a": {"$gt": 1, "$lte": 2}, "$not": {"$or": [{"b": {"$nin": ["x", 2, false]}}, {"c": {"$exists": false}}]}, "$and": []}"#;
        let filter = parse(nested);
        assert_eq!(parse(&filter.to_string()), filter);
        assert_eq!(
            serde_json::from_str::<Filter>(&serde_json::to_string(&filter).expect("JSON")).expect("JSON"),
            filter
        );
        assert_eq!(filter.fields(), ["b", "c", "a"]);
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        let fields = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists";
        let unknown = |text: &str| {
            let allowed = "=, ==, !=, <, <=, >, >=; a value that begins like an operator must be in quotation marks";
            format!("the operator of {text:?} is unknown, allowed: {allowed}")
        };
        let null = |operator: &str| {
            let instead = r#"{"$exists": false} fits rows without a value"#;
            format!("`{operator}` takes a string, a number or a boolean, not null; {instead}")
        };
        for (text, problem) in [
            ("year=>2020", unknown("year=>2020")),
            ("year = <2020", unknown("year = <2020")),
            ("year===2020", unknown("year===2020")),
            ("year<>2020", unknown("year<>2020")),
            ("year=!2020", unknown("year=!2020")),
            ("x=null", null("$eq")),
            ("x != null", null("$ne")),
            (r#"{"a": {"$in": ["b", null]}}"#, null("$in")),
            (r#"{"a": [1]}"#, "`a` takes a string, a number or a boolean, not [1]".to_owned()),
            (
                "内科",
                "\"内科\" is not understood, allowed: FIELD=VALUE (or !=, <, <=, >, >=) or a JSON object".to_owned(),
            ),
            ("=x", "\"=x\" is not understood, allowed: FIELD=VALUE (or !=, <, <=, >, >=) or a JSON object".to_owned()),
            ("{", "not JSON: EOF while parsing an object at line 1 column 1".to_owned()),
            (r#"{"$xor": []}"#, "unknown operator `$xor`, allowed: $and, $or, $not, or a field".to_owned()),
            (r#"{"a": {"$regex": "x"}}"#, format!("unknown operator `$regex` of the field `a`, allowed: {fields}")),
            (r#"{"a": {}}"#, "the field `a` has no operator".to_owned()),
            (r#"{"a": null}"#, null("a")),
            (r#"{"a": {"$in": 3}}"#, "`$in` takes a list, not 3".to_owned()),
            (r#"{"a": {"$gt": true}}"#, "`$gt` takes a number or a string, not true".to_owned()),
            (r#"{"a": {"$gt": 1, "$gte": 2}}"#, "the field `a` has two bounds on one side".to_owned()),
            (r#"{"a": {"$gt": 1, "$lt": "x"}}"#, "the bounds of the field `a` are of two types".to_owned()),
            (r#"{"a": {"$exists": 1}}"#, "`$exists` takes true or false, not 1".to_owned()),
            (r#"{"$or": {}}"#, "`$or` takes a list of filters".to_owned()),
            (r#"{"$not": 3}"#, "3 is not an object".to_owned()),
        ] {
            let error = text.parse::<Filter>().expect_err(text);
            assert_eq!((error.to_string(), error.kind()), (format!("filter: {problem}"), ErrorKind::Config));
        }
    }
}
