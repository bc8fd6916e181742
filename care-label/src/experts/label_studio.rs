//! Label Studio: tasks and labelling interface for a project of all experts, and its export.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use care_core::files::read_file;
use care_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::guide::{guide, points};
use super::labels::{Answer, ExpertLabels};
use super::read::{Missing, join, unanswered};
use super::sample::{Sample, positive, text_hash};
use super::score::parse_score;
use super::sheet::Sheets;
use crate::prompt::Prompt;

/// Names of the controls in the labelling interface.
const SCORE: &str = "score";
const NOTE: &str = "note";

/// The sample's pairs as Label Studio tasks (a JSON array), queries in random order and without predictions, so that
/// experts stay blind. Label Studio assigns tasks itself: set its overlap to the number of experts per pair.
///
/// # Errors
/// If the prompt needs a known positive and a pair has none.
pub fn label_studio_tasks(sheets: &Sheets<'_>) -> Result<String> {
    let task = |at: usize| {
        let pair = sheets.texts[at];
        let mut data = serde_json::json!({
            "query": pair.query,
            "document": pair.document,
            "sample": sheets.sample.short_id(),
            "row": sheets.sample.row_code("", at),
        });
        if let Some(positive) = positive(pair, sheets.prompt)? {
            data["positive"] = positive.into();
        }
        Ok(serde_json::json!({ "data": data }))
    };
    let order = sheets.sample.assigned(1, 1).into_iter().flatten();
    let tasks = order.map(task).collect::<Result<Vec<Value>>>()?;
    Ok(format!("{:#}\n", Value::Array(tasks)))
}

/// The labelling interface for the tasks: one choice per point with its digit as hotkey, and a remark.
pub fn label_studio_config(prompt: &Prompt) -> String {
    let text = |name: &str, title: &str| {
        format!(
            "  <Header value=\"{title}\" size=\"4\"/>\n  <Text name=\"{name}\" value=\"${name}\" granularity=\"word\"/>\n"
        )
    };
    let positive = if prompt.wants_positive() { text("positive", "已知正确文档") } else { String::new() };
    let choice = |(point, shown): (i32, &String)| {
        let hotkey = if (0..=9).contains(&point) { format!(" hotkey=\"{point}\"") } else { String::new() };
        format!("    <Choice value=\"{}\" alias=\"{point}\"{hotkey}/>\n", escape(shown))
    };
    let shown = points(prompt);
    let choices: String = prompt.scale.points().zip(&shown).map(choice).collect();
    format!(
        "<View>\n{}{positive}{}  <Header value=\"评分\" size=\"4\"/>\n  <Choices name=\"{SCORE}\" toName=\"document\" \
         choice=\"single-radio\" required=\"true\" showInline=\"true\">\n{choices}  </Choices>\n  <Header value=\"备注\" \
         size=\"4\"/>\n  <TextArea name=\"{NOTE}\" toName=\"document\" rows=\"2\" maxSubmissions=\"1\" editable=\"true\"/>\n  \
         <Collapse>\n    <Panel value=\"说明与评分标准\">\n{}    </Panel>\n  </Collapse>\n</View>\n",
        text("query", "问题"),
        text("document", "文档"),
        guide(prompt)
            .iter()
            .map(|line| format!("      <Header value=\"{}\" size=\"6\"/>\n", escape(line)))
            .collect::<String>(),
    )
}

/// A text in an attribute. A dollar sign would name a field of the task.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('$', "＄")
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    id: Value,
    data: BTreeMap<String, Value>,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    completed_by: Value,
    #[serde(default)]
    was_cancelled: bool,
    #[serde(default)]
    result: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    from_name: String,
    #[serde(default)]
    value: Content,
}

#[derive(Deserialize, Default)]
struct Content {
    choices: Option<Vec<String>>,
    /// A list in a text area, one text elsewhere.
    text: Option<Value>,
}

/// Reads the JSON export of a project made with [`label_studio_tasks`]. The experts are those who annotated, sorted by
/// name; `names` maps their numbers or e-mail addresses in Label Studio to names. Skipped tasks are missing answers.
///
/// # Errors
/// If the file is no such export; a task is of another sample, altered or duplicated; an expert annotated a task twice; a
/// score is off the scale or, with [`Missing::Refuse`], absent, or pairs have no annotation.
pub fn read_label_studio(
    path: impl AsRef<Path>,
    sample: &Sample,
    names: &BTreeMap<String, String>,
    missing: Missing,
) -> Result<ExpertLabels> {
    let path = path.as_ref();
    let tasks: Vec<Task> = serde_json::from_slice(&read_file(path)?).map_err(|e| {
        Error::format(path, format!("not a JSON export of Label Studio (choose JSON, not JSON-MIN): {e}"))
            .with_source(e)
    })?;
    let codes: HashMap<String, usize> = (0..sample.pairs.len()).map(|pair| (sample.row_code("", pair), pair)).collect();
    let (mut answers, mut seen) = (BTreeMap::new(), HashMap::new());
    let (mut unscored, mut problems) = (Vec::new(), Vec::new());
    for (at, task) in (1..).zip(&tasks) {
        let named = if task.id.is_null() { format!("task {at} of the file") } else { format!("task {}", task.id) };
        let pair = match pair_of(task, sample, &codes) {
            Ok(pair) => pair,
            Err(problem) => {
                problems.push(format!("{named}: {problem}"));
                continue;
            }
        };
        if let Some(first) = seen.insert(pair, named.clone()) {
            problems.push(format!("{named} is a duplicate of {first}"));
            continue;
        }
        let Some(annotations) = &task.annotations else {
            problems.push(format!("{named} has no `annotations`; export the project as JSON, not JSON-MIN"));
            continue;
        };
        for annotation in annotations {
            let expert = name_of(&annotation.completed_by, names);
            match answer(annotation, sample) {
                Err(problem) => problems.push(format!("{named}, annotator `{expert}`: {problem}")),
                Ok((score, note)) => {
                    if score.is_none() {
                        unscored.push(format!("{named} by `{expert}`"));
                    }
                    if answers.insert((expert.clone(), pair), (score, note)).is_some() {
                        problems.push(format!("{named} has two annotations by `{expert}`; delete one"));
                    }
                }
            }
        }
    }
    let answered = |pair: &usize| answers.keys().any(|(_, of)| of == pair);
    let open = (0..sample.pairs.len()).filter(|pair| !answered(pair)).count();
    if missing == Missing::Refuse && problems.is_empty() {
        if open > 0 {
            problems.push(format!("{open} of {} pairs have no annotation", sample.pairs.len()));
        }
        problems.extend(unscored.into_iter().map(|task| format!("{task} was skipped or has no score")));
    }
    if !problems.is_empty() {
        return Err(Error::format(path, join(&problems)));
    }
    let mut experts: Vec<String> = answers.keys().map(|(expert, _)| expert.clone()).collect();
    experts.dedup();
    let mut labels = unanswered(sample, experts);
    for ((name, pair), (score, note)) in answers {
        let expert = labels.experts.iter().position(|expert| *expert == name).unwrap_or_default();
        labels.pairs[pair].answers.push(Answer { expert, score, note });
    }
    Ok(labels)
}

fn pair_of(task: &Task, sample: &Sample, codes: &HashMap<String, usize>) -> std::result::Result<usize, String> {
    let field = |name: &str| task.data.get(name).and_then(Value::as_str).unwrap_or_default();
    if field("sample") != sample.short_id() {
        return Err(format!("it is of sample `{}`, not of this one, `{}`", field("sample"), sample.short_id()));
    }
    let pair = *codes
        .get(field("row"))
        .ok_or_else(|| format!("`row` is `{}`, which is none of the sample's", field("row")))?;
    let of = &sample.pairs[pair];
    let texts = [
        ("query", Some(&of.query_hash)),
        ("document", Some(&of.document_hash)),
        ("positive", of.positive_hash.as_ref()),
    ];
    match texts.iter().find(|(name, hash)| hash.is_some_and(|hash| text_hash(field(name)) != *hash)) {
        Some((name, _)) => Err(format!("the text `{name}` was altered")),
        None => Ok(pair),
    }
}

/// The annotator, who is a number or, in some versions, an object with an e-mail address.
fn name_of(by: &Value, names: &BTreeMap<String, String>) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let keys = [by.get("email"), by.get("id"), Some(by)].into_iter().flatten().filter(|key| !key.is_null()).map(plain);
    let known = keys.clone().find_map(|key| names.get(&key).cloned());
    known.or_else(|| keys.clone().next()).unwrap_or_else(|| "unknown".to_owned())
}

fn answer(annotation: &Annotation, sample: &Sample) -> std::result::Result<(Option<i32>, Option<String>), String> {
    let items = |name: &'static str| annotation.result.iter().filter(move |item| item.from_name == name);
    let choices: Vec<&String> = items(SCORE).filter_map(|item| item.value.choices.as_ref()).flatten().collect();
    let text = |value: &Value| match value {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let notes: Vec<String> = items(NOTE).filter_map(|item| item.value.text.as_ref()).map(text).collect();
    let note = Some(notes.join("\n").trim().to_owned()).filter(|note| !note.is_empty());
    let score = match choices.as_slice() {
        // A skipped task may hold a draft.
        _ if annotation.was_cancelled => None,
        [] => None,
        [score] => parse_score(score, sample.prompt.scale, &sample.prompt.labels)?,
        several => return Err(format!("{} scores", several.len())),
    };
    Ok((score, note))
}
