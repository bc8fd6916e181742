//! A training row whose fields stay as they are written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::score::Scores;

const QUERY: [&str; 2] = ["query", "anchor"];
const POSITIVES: [&str; 3] = ["pos", "positive", "positive_passages"];
const NEGATIVES: [&str; 3] = ["neg", "negative", "negative_passages"];
/// The lists of scores that most tools write.
const SCORES: (&str, &str) = ("pos_scores", "neg_scores");
/// `negative_1`, `negative_2` and so on.
const NUMBERED: &str = "negative_";
/// Ids of objects, as tools name them.
const IDS: [&str; 4] = ["docid", "doc_id", "_id", "id"];

/// A training row in any form that `care train` reads: of FlagEmbedding (`query`, `pos`, `neg`), sentence-transformers
/// (`anchor`, `positive`, `negative` or `negative_1` and so on), or Tevatron (`positive_passages`, `negative_passages`).
///
/// Lists beside the texts, e.g. `neg_scores` and `neg_id`, follow them: when a negative is dropped or becomes a positive, so
/// does its place in every list `neg_..` that has one value per negative, and in `scores`, if it has one per text.
#[derive(Debug, Clone)]
pub struct Row {
    /// The fields in their order.
    fields: Vec<(String, Box<RawValue>)>,
    query: String,
    positives: Vec<Item>,
    negatives: Vec<Item>,
    form: Form,
}

/// A text of a row.
#[derive(Debug, Clone)]
pub struct Item {
    raw: Box<RawValue>,
    text: String,
    id: Option<String>,
}

impl Item {
    /// The text, after its title if it has one.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id, if the text is an object with one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// How the negatives are written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// In this field: a text or a list.
    Field(String),
    /// In `negative_1` and so on: these fields.
    Numbered(Vec<String>),
    /// Not at all.
    Absent,
}

/// What becomes of a negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Leaves,
    BecomesPositive,
}

/// The fields of an object in their order, as they are written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("`{name}` is there twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Row {
    /// Parses a line.
    ///
    /// # Errors
    /// Returns what is wrong with the row, as text: it is no JSON object, has no query or no positive, a text is empty or
    /// no text, or there are more or fewer scores than texts.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Fields(fields) = serde_json::from_str(line).map_err(|error| described(line, &error))?;
        let query = match only(&fields, &QUERY)? {
            Some(at) => item(&fields[at].0, &fields[at].1)?.text,
            None => return Err("no `query` or `anchor`".into()),
        };
        if query.trim().is_empty() {
            return Err("the query is empty".into());
        }
        let Some(at) = only(&fields, &POSITIVES)? else {
            return Err("no `pos`, `positive` or `positive_passages`".into());
        };
        let positives = items(&fields[at].0, &fields[at].1)?;
        if positives.is_empty() {
            return Err(format!("`{}` is empty", fields[at].0));
        }
        let (form, negatives) = negatives(&fields)?;
        let row = Self { fields, query, positives, negatives, form };
        for (list, texts) in [("pos_scores", row.positives.len()), ("neg_scores", row.negatives.len())] {
            let values = row.field(list).map_or(Ok(None), |raw| values(list, raw))?;
            if let Some(values) = values.filter(|values| values.len() != texts) {
                let of = if list == "pos_scores" { "positives" } else { "negatives" };
                return Err(format!("`{list}` has {} values, but there are {texts} {of}", values.len()));
            }
        }
        Ok(row)
    }

    /// The text of the query.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The positives, at least one.
    pub fn positives(&self) -> &[Item] {
        &self.positives
    }

    /// The negatives.
    pub fn negatives(&self) -> &[Item] {
        &self.negatives
    }

    /// The value of a field, as it is written; `None` if it is absent or null.
    pub fn field(&self, name: &str) -> Option<&RawValue> {
        let raw = self.fields.iter().find(|(known, _)| known == name).map(|(_, raw)| raw.as_ref());
        raw.filter(|raw| raw.get() != "null")
    }

    /// The scores in two of its lists, one for each positive and each negative.
    ///
    /// # Errors
    /// Returns the problem, as text: a list has more or fewer values than there are texts, or a value is no finite number
    /// and not null.
    pub fn scores(&self, positives: &str, negatives: &str) -> Result<Scores, String> {
        let of = |name: &str, texts: usize| -> Result<Vec<Option<f64>>, String> {
            let Some(values) = self.field(name).map_or(Ok(None), |raw| values(name, raw))? else {
                return Ok(vec![None; texts]);
            };
            if values.len() != texts {
                return Err(format!("`{name}` has {} values, but there are {texts} texts", values.len()));
            }
            values.iter().enumerate().map(|(at, raw)| score(name, at, raw)).collect()
        };
        if let (SCORES, Some(all)) = ((positives, negatives), self.scores_of_all()) {
            let scores: Vec<_> =
                all.iter().enumerate().map(|(at, raw)| score("scores", at, raw)).collect::<Result<_, _>>()?;
            let (positives, negatives) = scores.split_at(self.positives.len());
            return Ok(Scores { positives: positives.to_vec(), negatives: negatives.to_vec() });
        }
        let (of_positives, of_negatives) = (of(positives, self.positives.len())?, of(negatives, self.negatives.len())?);
        Ok(Scores { positives: of_positives, negatives: of_negatives })
    }

    /// The line of the row after each negative has met its fate, in the order of the negatives. Other fields stay byte for
    /// byte.
    ///
    /// # Errors
    /// Returns the problem, as text: a list `pos_..` has a value for every positive, but there is no `neg_..` to take that
    /// of a new positive from.
    pub(super) fn edited(&self, fates: &[Fate]) -> Result<String, String> {
        let joins = fates.contains(&Fate::BecomesPositive);
        let stays = |at: &usize| fates[*at] == Fate::Stays;
        let left: Vec<&RawValue> =
            (0..self.negatives.len()).filter(stays).map(|at| self.negatives[at].raw.as_ref()).collect();
        let mut joined: Vec<&RawValue> = self.positives.iter().map(|item| item.raw.as_ref()).collect();
        joined.extend(self.joining(fates).map(|at| self.negatives[at].raw.as_ref()));
        let (mut line, mut numbered) = (Line::default(), left.iter());
        for (name, raw) in &self.fields {
            if POSITIVES.contains(&name.as_str()) && raw.get() != "null" {
                if joins { line.list(name, &joined) } else { line.field(name, raw) }
            } else if self.form == Form::Field(name.clone()) {
                match (raw.get().starts_with('['), left.first()) {
                    (true, _) => line.list(name, &left),
                    (false, Some(raw)) => line.field(name, raw),
                    (false, None) => {}
                }
            } else if let Form::Numbered(names) = &self.form
                && names.contains(name)
            {
                // The fields are in any order, the texts in that of their numbers.
                if let Some(raw) = numbered.next() {
                    let at = left.len() - numbered.len() - 1;
                    line.field(&names[at], raw);
                }
            } else if let Some(values) = self.parallel(name, raw, fates)? {
                line.list(name, &values);
            } else {
                line.field(name, raw);
            }
        }
        Ok(line.finish())
    }

    /// The list `scores` of sentence-transformers: of the positives, then of the negatives.
    fn scores_of_all(&self) -> Option<Vec<&RawValue>> {
        let values = values("scores", self.field("scores")?).ok().flatten()?;
        (values.len() == self.positives.len() + self.negatives.len()).then_some(values)
    }

    fn joining<'a>(&self, fates: &'a [Fate]) -> impl Iterator<Item = usize> + 'a {
        (0..fates.len()).filter(|at| fates[*at] == Fate::BecomesPositive)
    }

    /// The new values of a list beside the texts; `None` if the field is none.
    fn parallel<'a>(
        &'a self,
        name: &str,
        raw: &'a RawValue,
        fates: &[Fate],
    ) -> Result<Option<Vec<&'a RawValue>>, String> {
        let of = |name: &str, raw: &'a RawValue, texts: usize| -> Option<Vec<&'a RawValue>> {
            values(name, raw).ok().flatten().filter(|values| values.len() == texts && texts > 0)
        };
        if let ("scores", Some(all)) = (name, self.scores_of_all()) {
            let (of_positives, of_negatives) = all.split_at(self.positives.len());
            let mut values = of_positives.to_vec();
            values.extend(self.joining(fates).map(|at| of_negatives[at]));
            values.extend(of_negatives.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Stays).map(|(v, _)| v));
            return Ok(Some(values));
        }
        if let Some(values) = name.strip_prefix("neg_").and_then(|_| of(name, raw, fates.len())) {
            return Ok(Some(
                values.into_iter().zip(fates).filter(|(_, fate)| **fate == Fate::Stays).map(|(v, _)| v).collect(),
            ));
        }
        let Some(rest) = name.strip_prefix("pos_") else { return Ok(None) };
        let Some(mut values) = of(name, raw, self.positives.len()) else { return Ok(None) };
        let mut joining = self.joining(fates).peekable();
        if joining.peek().is_none() {
            return Ok(None);
        }
        let negative = format!("neg_{rest}");
        let Some(from) = self.field(&negative).and_then(|raw| of(&negative, raw, fates.len())) else {
            return Err(format!(
                "`{name}` has a value for each positive, but no `{negative}` has one for a new positive"
            ));
        };
        values.extend(joining.map(|at| from[at]));
        Ok(Some(values))
    }
}

/// A JSON object that is written field by field.
#[derive(Default)]
struct Line(String);

impl Line {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0 += &Value::from(name).to_string();
        self.0.push(':');
    }

    fn field(&mut self, name: &str, raw: &RawValue) {
        self.name(name);
        self.0 += raw.get();
    }

    fn list(&mut self, name: &str, values: &[&RawValue]) {
        self.name(name);
        let values: Vec<&str> = values.iter().map(|raw| raw.get()).collect();
        self.0 += &format!("[{}]", values.join(","));
    }

    fn finish(mut self) -> String {
        self.0 += if self.0.is_empty() { "{}" } else { "}" };
        self.0
    }
}

/// What is wrong with a line that is no JSON object.
pub(super) fn described(line: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    // As Python writes what JSON does not have.
    let at = line.char_indices().map(|(at, _)| at).nth(error.column().saturating_sub(1)).unwrap_or(0);
    let near = &line[line.floor_char_boundary(at.saturating_sub(9))..];
    match ["NaN", "Infinity"].into_iter().find(|word| near.chars().take(20).collect::<String>().contains(word)) {
        Some(word) => format!("{word} is no JSON; a score is a finite number, or null if there is none"),
        None => format!("{problem} (column {})", error.column()),
    }
}

/// The place of the field that the row has of several that mean the same.
fn only(fields: &[(String, Box<RawValue>)], names: &[&str]) -> Result<Option<usize>, String> {
    let is_one = |(name, raw): &(String, Box<RawValue>)| names.contains(&name.as_str()) && raw.get() != "null";
    let mut found = (0..fields.len()).filter(|at| is_one(&fields[*at]));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => {
            Err(format!("`{}` and `{}` are both given; keep one of them", fields[one].0, fields[other].0))
        }
        (found, _) => Ok(found),
    }
}

fn negatives(fields: &[(String, Box<RawValue>)]) -> Result<(Form, Vec<Item>), String> {
    let number = |name: &str| name.strip_prefix(NUMBERED).and_then(|number| number.parse::<usize>().ok());
    let mut numbered: Vec<(usize, &str, &RawValue)> = (fields.iter())
        .filter(|(_, raw)| raw.get() != "null")
        .filter_map(|(name, raw)| Some((number(name)?, name.as_str(), raw.as_ref())))
        .collect();
    numbered.sort_by_key(|(number, ..)| *number);
    match (only(fields, &NEGATIVES)?, numbered.first()) {
        (Some(at), Some((_, other, _))) => {
            Err(format!("`{}` and `{other}` are both given; keep one of them", fields[at].0))
        }
        (Some(at), None) => Ok((Form::Field(fields[at].0.clone()), items(&fields[at].0, &fields[at].1)?)),
        (None, None) => Ok((Form::Absent, Vec::new())),
        (None, Some(_)) => {
            let items = numbered.iter().map(|(_, name, raw)| item(name, raw)).collect::<Result<_, _>>()?;
            Ok((Form::Numbered(numbered.iter().map(|(_, name, _)| (*name).to_owned()).collect()), items))
        }
    }
}

/// One text, or the texts of a list.
fn items(field: &str, raw: &RawValue) -> Result<Vec<Item>, String> {
    match values(field, raw) {
        Ok(Some(values)) => {
            values.into_iter().enumerate().map(|(at, raw)| item(&format!("{field}[{at}]"), raw)).collect()
        }
        _ => Ok(vec![item(field, raw)?]),
    }
}

/// The values of a list; `None` for null.
fn values<'a>(field: &str, raw: &'a RawValue) -> Result<Option<Vec<&'a RawValue>>, String> {
    serde_json::from_str(raw.get()).map_err(|_| format!("`{field}` is no list"))
}

fn score(field: &str, at: usize, raw: &RawValue) -> Result<Option<f64>, String> {
    let parsed: Result<Option<f64>, _> = serde_json::from_str(raw.get());
    match parsed {
        Ok(score) if score.is_none_or(f64::is_finite) => Ok(score),
        _ => {
            let value: String = raw.get().chars().take(40).collect();
            Err(format!("`{field}[{at}]` is {value}; a finite number or null belongs there"))
        }
    }
}

/// A text, a number, or an object with `text` and perhaps `title` and an id.
fn item(field: &str, raw: &RawValue) -> Result<Item, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| format!("`{field}`: {error}"))?;
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let text = match &value {
        Value::Object(object) => {
            let text = object.get("text").and_then(plain).ok_or_else(|| format!("`{field}` has no `text`"))?;
            let title = object.get("title").and_then(plain).unwrap_or_default();
            if title.trim().is_empty() { text } else { format!("{title} {text}") }
        }
        value => plain(value).ok_or_else(|| format!("`{field}` is no text, number or object with `text`"))?,
    };
    if text.trim().is_empty() {
        return Err(format!("`{field}` is an empty text"));
    }
    let id = IDS.iter().find_map(|name| value.get(name).and_then(plain));
    Ok(Item { raw: raw.to_owned(), text, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &str) -> Row {
        Row::parse(line).unwrap_or_else(|problem| panic!("{line}: {problem}"))
    }

    fn texts(items: &[Item]) -> Vec<&str> {
        items.iter().map(Item::text).collect()
    }

    use Fate::{BecomesPositive, Leaves, Stays};

    #[test]
    fn rows_of_every_tool_are_edited_and_other_bytes_stay() {
        for (line, fates, expected) in [
            (
                r#"{"query": "q", "pos": ["p"], "neg": ["a", "b\u0041", "c"], "pos_scores": [1.0], "neg_scores": [0.10, 2e-3, null], "type": "x", "n": 1.50}"#,
                vec![Leaves, Stays, BecomesPositive],
                r#"{"query":"q","pos":["p","c"],"neg":["b\u0041"],"pos_scores":[1.0,null],"neg_scores":[2e-3],"type":"x","n":1.50}"#,
            ),
            (
                r#"{"query":"q","query_id":7,"positive_passages":[{"docid":"1","title":"","text":"p"}],"negative_passages":[{"docid":"2","text":"a"},{"docid":"3","title":"t","text":"b"}]}"#,
                vec![BecomesPositive, Leaves],
                r#"{"query":"q","query_id":7,"positive_passages":[{"docid":"1","title":"","text":"p"},{"docid":"2","text":"a"}],"negative_passages":[]}"#,
            ),
            (
                r#"{"anchor":"q","positive":"p","negative":"a"}"#,
                vec![BecomesPositive],
                r#"{"anchor":"q","positive":["p","a"]}"#,
            ),
            (
                r#"{"anchor":"q","positive":"p","negative_2":"b","negative_1":"a","negative_10":"c","x":[ 1 ]}"#,
                vec![Leaves, Stays, Stays],
                r#"{"anchor":"q","positive":"p","negative_1":"b","negative_2":"c","x":[ 1 ]}"#,
            ),
            (
                r#"{"anchor":"q","positive":"p","negative_1":"a","negative_2":"b","negative_3":"c","scores":[9,3.0,2,1]}"#,
                vec![Leaves, Stays, BecomesPositive],
                r#"{"anchor":"q","positive":["p","c"],"negative_1":"b","scores":[9,1,2]}"#,
            ),
            // A list of another length is no list of texts' values.
            (
                r#"{"query":"q","pos":"p","neg":["a","b"],"neg_tags":["x"],"neg_ids":[1,2],"pos_ids":[9]}"#,
                vec![Leaves, BecomesPositive],
                r#"{"query":"q","pos":["p","b"],"neg":[],"neg_tags":["x"],"neg_ids":[],"pos_ids":[9,2]}"#,
            ),
        ] {
            assert_eq!(row(line).edited(&fates).as_deref(), Ok(expected));
            row(expected);
        }
        let tevatron = row(
            r#"{"query":"q","positive_passages":[{"text":"p"}],"negative_passages":[{"docid":3,"title":"t","text":"b"}]}"#,
        );
        assert_eq!((tevatron.negatives()[0].id(), texts(tevatron.negatives())), (Some("3"), vec!["t b"]));
        let unscored = row(r#"{"query":"q","pos":["p"],"pos_scores":[1],"neg":["a"]}"#);
        assert_eq!(
            unscored.edited(&[BecomesPositive]).expect_err("no score"),
            "`pos_scores` has a value for each positive, but no `neg_scores` has one for a new positive"
        );
        assert_eq!(unscored.edited(&[Leaves]).as_deref(), Ok(r#"{"query":"q","pos":["p"],"pos_scores":[1],"neg":[]}"#));
    }

    #[test]
    fn scores_are_numbers_or_missing() {
        let line = r#"{"query":"q","pos":["p"],"neg":["a","b"],"pos_bm25":[12],"neg_bm25":[3.5,null],"neg_x":[1],"neg_y":["1",2]}"#;
        let row = row(line);
        let scores = row.scores("pos_bm25", "neg_bm25").expect("scores");
        assert_eq!((scores.positives, scores.negatives), (vec![Some(12.0)], vec![Some(3.5), None]));
        let tuple = Row::parse(r#"{"anchor":"q","positive":"p","negative_1":"a","scores":[9,3.0]}"#).expect("a row");
        let scores = tuple.scores("pos_scores", "neg_scores").expect("scores");
        assert_eq!((scores.positives, scores.negatives), (vec![Some(9.0)], vec![Some(3.0)]));
        let absent = row.scores("pos_scores", "neg_scores").expect("none");
        assert_eq!((absent.positives, absent.negatives), (vec![None], vec![None, None]));
        let refused = |negatives: &str| row.scores("pos_bm25", negatives).expect_err("refused");
        assert_eq!(refused("neg_x"), "`neg_x` has 1 values, but there are 2 texts");
        assert_eq!(refused("neg_y"), "`neg_y[0]` is \"1\"; a finite number or null belongs there");
    }

    #[test]
    fn bad_rows_are_refused_with_the_problem() {
        for (line, problem) in [
            (r#"{"query":"q","pos":[]}"#, "`pos` is empty"),
            (r#"{"query":"q","pos":[" "]}"#, "`pos[0]` is an empty text"),
            (r#"{"query":"q","pos":["p"],"neg":["a",""]}"#, "`neg[1]` is an empty text"),
            (r#"{"query":"","pos":["p"]}"#, "`query` is an empty text"),
            (r#"{"query":"q"}"#, "no `pos`, `positive` or `positive_passages`"),
            (r#"{"pos":["p"]}"#, "no `query` or `anchor`"),
            (r#"{"query":"q","pos":["p"],"positive":"p"}"#, "`pos` and `positive` are both given; keep one of them"),
            (r#"{"query":"q","pos":["p"],"pos":["p"]}"#, "`pos` is there twice (column 37)"),
            (
                r#"{"query":"q","pos":["p"],"neg":"a","negative_1":"b"}"#,
                "`neg` and `negative_1` are both given; keep one of them",
            ),
            (r#"{"query":"q","pos":[true]}"#, "`pos[0]` is no text, number or object with `text`"),
            (r#"{"query":"q","pos":[{"docid":1}]}"#, "`pos[0]` has no `text`"),
            (
                r#"{"query":"q","pos":["p"],"neg":["a"],"neg_scores":[1,2]}"#,
                "`neg_scores` has 2 values, but there are 1 negatives",
            ),
            (r#"{"query":"q","pos":["p"],"neg_scores":3}"#, "`neg_scores` is no list"),
            (
                r#"{"query":"q","pos":["p"],"neg":["a"],"neg_scores":[NaN]}"#,
                "NaN is no JSON; a score is a finite number, or null if there is none",
            ),
            (
                r#"{"query":"问题","pos":["p"],"neg":["a"],"neg_scores":[-Infinity]}"#,
                "Infinity is no JSON; a score is a finite number, or null if there is none",
            ),
            (r#"{"query":"q","pos":["p""#, "EOF while parsing a list (column 23)"),
            ("[1]", "invalid type: sequence, expected an object (column 0)"),
        ] {
            assert_eq!(Row::parse(line).expect_err(line), problem);
        }
    }

    #[test]
    fn long_texts_are_texts() {
        let long = "药".repeat(100_000);
        let line = format!(r#"{{"query":"{long}","pos":["{long}"],"neg":["{long}"]}}"#);
        assert_eq!(row(&line).negatives()[0].text().chars().count(), 100_000);
    }
}
