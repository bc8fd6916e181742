//! Rows after negatives have left or become positives.

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::values;
use super::row::{Form, POSITIVES, Row};

/// What becomes of a negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Leaves,
    BecomesPositive,
}

impl Row {
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

    /// The line of the row with a score of each positive and negative in `pos_NAME` and `neg_NAME`, in place of those that it
    /// has. Other fields stay byte for byte.
    ///
    /// # Errors
    /// Returns the problem, as text: a score is not finite.
    ///
    /// ```
    /// let row = care_data::clean::Row::parse(r#"{"query":"q","pos":["p"],"neg":[],"neg_e5":[],"n":1.0}"#)?;
    /// let scored = row.scored("e5", &[0.5], &[])?;
    /// assert_eq!(scored, r#"{"query":"q","pos":["p"],"neg":[],"n":1.0,"pos_e5":[0.5],"neg_e5":[]}"#);
    /// # Ok::<(), String>(())
    /// ```
    pub fn scored(&self, name: &str, positives: &[f32], negatives: &[f32]) -> Result<String, String> {
        let lists = [(format!("pos_{name}"), positives), (format!("neg_{name}"), negatives)];
        // sentence-transformers' list of all, beside which nothing reads two lists.
        let of_all = (name == "scores" && self.scores_of_all().is_some()).then_some("scores");
        let mut line = Line::default();
        for (field, raw) in &self.fields {
            if Some(field.as_str()) != of_all && lists.iter().all(|(list, _)| list != field) {
                line.field(field, raw);
            }
        }
        for (list, scores) in lists {
            if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
                return Err(format!("`{list}[{at}]` is {}, which is no score", scores[at]));
            }
            let scores: Vec<String> = scores.iter().map(f32::to_string).collect();
            line.name(&list);
            line.0 += &format!("[{}]", scores.join(","));
        }
        Ok(line.finish())
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

#[cfg(test)]
mod tests {
    use super::super::fields::Item;
    use super::*;
    use Fate::{BecomesPositive, Leaves, Stays};

    fn row(line: &str) -> Row {
        Row::parse(line).unwrap_or_else(|problem| panic!("{line}: {problem}"))
    }

    fn texts(items: &[Item]) -> Vec<&str> {
        items.iter().map(Item::text).collect()
    }

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
    fn scores_replace_scores_of_their_name_alone() {
        for (line, name, expected) in [
            (
                r#"{"query": "q\u0041", "neg_scores": [1], "pos": ["p"], "pos_scores": [2], "neg": ["a"], "pos_e5": [0.10], "x": {"y": 1.50}}"#,
                "scores",
                r#"{"query":"q\u0041","pos":["p"],"neg":["a"],"pos_e5":[0.10],"x":{"y": 1.50},"pos_scores":[0.1],"neg_scores":[-3]}"#,
            ),
            (
                r#"{"anchor":"q","positive":"p","negative_1":"a","scores":[9,3.0]}"#,
                "scores",
                r#"{"anchor":"q","positive":"p","negative_1":"a","pos_scores":[0.1],"neg_scores":[-3]}"#,
            ),
            (
                r#"{"anchor":"q","positive":"p","negative_1":"a","scores":[9,3.0]}"#,
                "e5",
                r#"{"anchor":"q","positive":"p","negative_1":"a","scores":[9,3.0],"pos_e5":[0.1],"neg_e5":[-3]}"#,
            ),
        ] {
            assert_eq!(row(line).scored(name, &[0.1], &[-3.0]).as_deref(), Ok(expected));
        }
        let problem = row(r#"{"query":"q","pos":["p"],"neg":["a"]}"#).scored("e5", &[0.1], &[f32::NAN]);
        assert_eq!(problem.as_deref(), Err(&"`neg_e5[0]` is NaN, which is no score".to_owned()));
    }
}
