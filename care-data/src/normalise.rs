//! The form in which texts are compared.

use unicode_normalization::UnicodeNormalization;

/// A text without what makes no difference to its content: width and compatibility forms (NFKC), case, white space, and
/// punctuation.
///
/// Signs that carry meaning in medical texts stay: `<`, `>`, `=`, `+`, `-`, `±`, `%`, `°`, `/`, `~` anywhere, and points
/// between digits (`5.6` is not `56`). Exponents are not folded (`10⁹` is not `109`).
///
/// ```
/// use care_data::normalise;
///
/// assert_eq!(normalise("Ⅱ型糖尿病，ＨｂＡ１ｃ ＞ 7.0%。"), "ii型糖尿病hba1c>7.0%");
/// assert_ne!(normalise("血压<90"), normalise("血压>90"));
/// assert_eq!(normalise("5㎎"), "5mg");
/// ```
pub fn normalise(text: &str) -> String {
    let folded: Vec<char> = text.chars().flat_map(fold).flat_map(char::to_lowercase).collect();
    let is_digit = |at: Option<&char>| at.is_some_and(char::is_ascii_digit);
    let keeps = |at: usize, c: char| match c {
        '.' => at > 0 && is_digit(folded.get(at - 1)) && is_digit(folded.get(at + 1)),
        '<' | '>' | '=' | '≤' | '≥' | '≠' | '+' | '-' | '−' | '±' | '%' | '‰' | '°' | '/' | '~' | '×' | '^' => {
            true
        }
        _ => c.is_alphanumeric(),
    };
    folded.iter().enumerate().filter(|(at, c)| keeps(*at, **c)).map(|(_, c)| *c).collect()
}

/// The compatibility form of a character; exponents and indices are kept.
fn fold(c: char) -> impl Iterator<Item = char> {
    let is_raised = matches!(c, '²' | '³' | '¹' | '\u{2070}'..='\u{209c}');
    let folded = (!is_raised).then(|| std::iter::once(c).nfkc());
    folded.into_iter().flatten().chain(is_raised.then_some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_text_are_equal_and_other_contents_are_not() {
        for (a, b) in
            [("你好，世界！", "你好 世界"), ("ＡＢＣ", "abc"), ("（一）", "一"), ("3．5", "3.5"), ("㎎", "mg")]
        {
            assert_eq!(normalise(a), normalise(b), "{a} {b}");
        }
        for (a, b) in [("5.6", "56"), ("<90", ">90"), ("-3", "3"), ("10⁹", "109"), ("1/2", "12"), ("37~38", "3738")] {
            assert_ne!(normalise(a), normalise(b), "{a} {b}");
        }
        assert_eq!(normalise("……！？"), "");
    }
}
