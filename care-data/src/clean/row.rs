//! A training row whose fields stay as they are written.

use serde_json::value::RawValue;

use super::fields::{Fields, Item, described, item, items, only, score, values};

const QUERY: [&str; 2] = ["query", "anchor"];
pub(super) const POSITIVES: [&str; 3] = ["pos", "positive", "positive_passages"];
const NEGATIVES: [&str; 3] = ["neg", "negative", "negative_passages"];
/// The lists of scores that most tools write.
const SCORES: (&str, &str) = ("pos_scores", "neg_scores");
/// `negative_1`, `negative_2` and so on.
const NUMBERED: &str = "negative_";

/// A training row in any form that `care train` reads: of FlagEmbedding (`query`, `pos`, `neg`), sentence-transformers
/// (`anchor`, `positive`, `negative` or `negative_1` and so on), or Tevatron (`positive_passages`, `negative_passages`).
///
/// Lists beside the texts, e.g. `neg_scores` and `neg_id`, follow them: when a negative is dropped or becomes a positive, so
/// does its place in every list `neg_..` that has one value per negative, and in `scores`, if it has one per text.
#[derive(Debug, Clone)]
pub struct Row {
    /// The fields in their order.
    pub(super) fields: Vec<(String, Box<RawValue>)>,
    query: String,
    pub(super) positives: Vec<Item>,
    pub(super) negatives: Vec<Item>,
    pub(super) form: Form,
}

/// How the negatives are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// In this field: a text or a list.
    Field(String),
    /// In `negative_1` and so on: these fields.
    Numbered(Vec<String>),
    /// Not at all.
    Absent,
}

/// The scores of a row's texts, `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scores {
    /// One per positive.
    pub positives: Vec<Option<f64>>,
    /// One per negative.
    pub negatives: Vec<Option<f64>>,
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

    /// The list `scores` of sentence-transformers: of the positives, then of the negatives.
    pub(super) fn scores_of_all(&self) -> Option<Vec<&RawValue>> {
        let values = values("scores", self.field("scores")?).ok().flatten()?;
        (values.len() == self.positives.len() + self.negatives.len()).then_some(values)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &str) -> Row {
        Row::parse(line).unwrap_or_else(|problem| panic!("{line}: {problem}"))
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
