//! Data and settings of results, each stated once.

use serde_json::Value;

use crate::results::TaskResult;

/// Keys and values under a title.
type Facts = (String, Vec<(String, String)>);

/// The facts of a result that no title has stated yet.
struct Rest<'a> {
    model: &'a str,
    task: &'a str,
    facts: Vec<(String, String)>,
}

/// The facts that all results have in common, those that each model has in all its results, those that all results of a task
/// have, and what is left of each result.
pub(super) fn common_first<'a>(results: impl Iterator<Item = (&'a str, &'a TaskResult)>) -> Vec<Facts> {
    let rest = |(model, result): (&'a str, &'a TaskResult)| {
        let mut facts = vec![("data".to_owned(), result.data.clone())];
        flatten("", &result.about, &mut facts);
        Rest { model, task: &result.task, facts }
    };
    let mut rests: Vec<Rest<'a>> = results.map(rest).collect();
    let titles: [fn(&Rest<'_>) -> String; 4] = [
        |_| "All results".to_owned(),
        |rest| rest.model.to_owned(),
        |rest| rest.task.to_owned(),
        |rest| format!("{} on {}", rest.model, rest.task),
    ];
    titles.into_iter().flat_map(|title| take_common(&mut rests, title)).collect()
}

/// Takes the facts that all results of the same title have.
fn take_common(rests: &mut [Rest<'_>], title_of: fn(&Rest<'_>) -> String) -> Vec<Facts> {
    let mut titles: Vec<String> = Vec::new();
    for title in rests.iter().map(title_of) {
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    let mut stated = Vec::new();
    for title in titles {
        let mut group: Vec<&mut Rest<'_>> = rests.iter_mut().filter(|rest| title_of(rest) == title).collect();
        let in_all = |fact: &&(String, String)| group.iter().all(|rest| rest.facts.contains(fact));
        let common: Vec<_> = group.iter().take(1).flat_map(|rest| &rest.facts).filter(in_all).cloned().collect();
        group.iter_mut().for_each(|rest| rest.facts.retain(|fact| !common.contains(fact)));
        if !common.is_empty() {
            stated.push((title, common));
        }
    }
    stated
}

/// Collects the leaves of a JSON value with their paths.
fn flatten(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, facts);
            }
        }
        Value::Null => {}
        Value::String(text) => facts.push((path.to_owned(), text.clone())),
        other => facts.push((path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_is_stated_once_where_it_is_the_same() {
        let result = |task: &str, about: Value| TaskResult {
            task: task.to_owned(),
            data: format!("data of {task}"),
            main_score: 0.5,
            scores: Default::default(),
            single: None,
            about,
        };
        let results = [
            ("a", result("r", json!({"version": "1", "settings": {"max_length": 160}, "ties": "x", "seed": 1}))),
            ("a", result("s", json!({"version": "1", "settings": {"max_length": 160}, "seed": 2}))),
            ("b", result("r", json!({"version": "1", "settings": {"max_length": 48}, "ties": "x", "seed": null}))),
            ("b", result("s", json!({"version": "1", "settings": {"max_length": 48}}))),
        ];
        let stated = common_first(results.iter().map(|(model, result)| (*model, result)));
        let stated: Vec<String> = stated
            .iter()
            .map(|(title, facts)| {
                let facts: Vec<_> = facts.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{title}: {}", facts.join(" "))
            })
            .collect();
        let expected = [
            "All results: version=1",
            "a: settings.max_length=160",
            "b: settings.max_length=48",
            "r: data=data of r ties=x",
            "s: data=data of s",
            "a on r: seed=1",
            "a on s: seed=2",
        ];
        assert_eq!(stated, expected);
    }
}
