//! Scores as people write them.

use crate::scale::Scale;

/// The score in a cell or an answer; `None` if it is blank.
///
/// Accepted are whole numbers (`4`, `4.0`, full-width `４`, with white space or `分` after them), the scale's words, and
/// both together (`4 基本回答`, `4：基本回答`).
///
/// # Errors
/// What is wrong, with what is allowed.
pub fn parse_score(text: &str, scale: Scale, labels: &[String]) -> Result<Option<i32>, String> {
    let written = plain(text);
    let written = written.trim_start_matches(['\'', '\u{feff}']);
    if written.is_empty() {
        return Ok(None);
    }
    let words = || scale.points().zip(labels.iter().map(|word| plain(word)));
    if let Some((point, _)) = words().find(|(_, word)| word == written) {
        return Ok(Some(point));
    }
    let sign = written.starts_with(['-', '+']) as usize;
    let end = written[sign..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(written.len(), |end| sign + end);
    let (number, rest) = written.split_at(end);
    let number: f64 = number.parse().unwrap_or(f64::NAN);
    let rest = rest.strip_prefix('分').unwrap_or(rest);
    let word = rest.trim_matches(|c: char| c.is_ascii_punctuation() || "、。·—".contains(c));
    let point = scale.points().find(|point| f64::from(*point) == number);
    let belongs = |point: i32| words().any(|(of, label)| of == point && label == word);
    match point {
        Some(point) if rest.is_empty() || belongs(point) => Ok(Some(point)),
        _ => {
            let allowed = format!("a whole number from {} to {}, or {}", scale.min, scale.max, labels.join(", "));
            Err(format!("the score is `{}`, allowed: {allowed}", text.trim()))
        }
    }
}

/// A text in half-width characters, without white space.
fn plain(text: &str) -> String {
    text.chars().map(half_width).filter(|c| !c.is_whitespace() && !c.is_control()).collect()
}

/// The ASCII form of a full-width character.
fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{2212}' | '\u{2013}' => '-',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<i32>, String> {
        let labels = ["无关", "略有关联", "部分相关", "基本回答", "完全回答"].map(str::to_owned);
        parse_score(text, Scale { min: 1, max: 5, threshold: 4 }, &labels)
    }

    #[test]
    fn numbers_and_words_are_read_as_people_write_them() {
        for text in [
            "4",
            " 4 ",
            "4.0",
            "4.00",
            "4.",
            "４",
            "４．０",
            "+4",
            "4分",
            "'4",
            "\u{3000}4\u{a0}",
            "基本回答",
            " 基本 回答",
        ] {
            assert_eq!(parse(text), Ok(Some(4)), "{text}");
        }
        for text in ["5 完全回答", "5：完全回答", "５、完全回答", "5-完全回答", "5分（完全回答）", "完全回答\n"]
        {
            assert_eq!(parse(text), Ok(Some(5)), "{text}");
        }
        for text in ["", " ", "\u{3000}", "'"] {
            assert_eq!(parse(text), Ok(None));
        }
    }

    #[test]
    fn whatever_else_is_refused() {
        for text in
            ["0", "6", "4.5", "-4", "4/5", "4 完全回答", "很好", "4 5", "NaN", "inf", "1e0", "4a", "五", "?", "相关"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let problem =
            "the score is `4.5`, allowed: a whole number from 1 to 5, or 无关, 略有关联, 部分相关, 基本回答, 完全回答";
        assert_eq!(parse(" 4.5").expect_err("a half"), problem);
        let zero = parse_score("-1", Scale { min: -1, max: 1, threshold: 1 }, &["a", "b", "c"].map(str::to_owned));
        assert_eq!(zero, Ok(Some(-1)));
    }
}
