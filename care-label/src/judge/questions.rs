//! Reads a list of questions from a chat answer, whatever its form.

use serde_json::Value;

use super::text::{LONGEST_SEARCH, without_thoughts};

/// Names that models give to the list.
const LISTS: [&str; 6] = ["questions", "queries", "question", "query", "问题", "检索词"];
/// Names that models give to a question in an object.
const NAMES: [&str; 5] = ["question", "query", "text", "问题", "检索词"];

/// The questions of an answer: of the last list in it, alone or in an object, of strings or of objects with a question; or
/// else its numbered lines. Thoughts are not searched. `None` if there is no list; an empty list is a list.
pub fn read_questions(content: &str) -> Option<Vec<String>> {
    let content = without_thoughts(content);
    let text = &content[content.ceil_char_boundary(content.len().saturating_sub(LONGEST_SEARCH))..];
    let (mut last, mut rest) = (None, text);
    while let Some(start) = rest.find(['{', '[']) {
        rest = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                rest = &rest[values.byte_offset()..];
                last = listed(&value).or(last);
            }
            _ => rest = &rest[1..],
        }
    }
    last.or_else(|| numbered(text))
}

/// The questions of a value that is a list or has one.
fn listed(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(question).collect(),
        Value::Object(fields) => LISTS.iter().find_map(|name| match fields.get(*name)? {
            list @ Value::Array(_) => listed(list),
            _ => None,
        }),
        _ => None,
    }
}

fn question(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => NAMES.iter().find_map(|name| Some(fields.get(*name)?.as_str()?.to_owned())),
        _ => None,
    }
}

/// The lines that begin with a number or a dash.
fn numbered(text: &str) -> Option<Vec<String>> {
    let of_line = |line: &str| {
        let line = line.trim();
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = match rest.len() == line.len() {
            true => line.strip_prefix(['-', '*', '•'])?,
            false => rest.strip_prefix(['.', '、', ')', '）', '．', ':', '：'])?,
        };
        // `1.5 mg` is no number of a line.
        let is_text = !rest.starts_with(|c: char| c.is_ascii_digit());
        is_text.then(|| rest.trim().trim_matches(['"', '“', '”']).to_owned()).filter(|rest| !rest.is_empty())
    };
    let questions: Vec<String> = text.lines().filter_map(of_line).collect();
    (!questions.is_empty()).then_some(questions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_in_every_form_that_models_write() {
        let two = Some(vec!["头痛怎么办".to_owned(), "头痛吃什么药".to_owned()]);
        for content in [
            r#"{"questions": ["头痛怎么办", "头痛吃什么药"]}"#,
            r#"["头痛怎么办","头痛吃什么药"]"#,
            "好的：\n```json\n{\"questions\": [\"头痛怎么办\",\n \"头痛吃什么药\"]}\n```\n以上。",
            r#"{"问题": ["头痛怎么办", "头痛吃什么药"], "n": 2}"#,
            r#"[{"question": "头痛怎么办", "type": "a"}, {"question": "头痛吃什么药"}]"#,
            "<think>[\"甲\"]</think>[\"头痛怎么办\",\"头痛吃什么药\"]",
            "例如 [\"甲\"]，所以 [\"头痛怎么办\",\"头痛吃什么药\"]",
            "1. 头痛怎么办\n2、“头痛吃什么药”",
            "以下是问题：\n- 头痛怎么办\n- 头痛吃什么药\n",
        ] {
            assert_eq!(read_questions(content), two, "{content}");
        }
        assert_eq!(read_questions(r#"{"questions": []}"#), Some(vec![]));
        for content in
            ["", "抱歉，我不能回答。", r#"{"questions": ["头痛怎么办", "头"#, "{\"score\": 3}", "[1, 2]", "1.5 mg"]
        {
            assert_eq!(read_questions(content), None, "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_back_with_any_text_around(questions in prop::collection::vec(".*", 0..4), before in "[^\\[{<0-9*•-]*") {
            let list = serde_json::json!({ "questions": questions }).to_string();
            prop_assume!(!list.contains("<think>") && !list.contains("</think>"));
            prop_assert_eq!(read_questions(&format!("{before}{list}\n以上。")), Some(questions));
        }
    }
}
