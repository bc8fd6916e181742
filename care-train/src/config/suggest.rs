//! Suggests the name that was probably meant.

/// Appends the closest of the listed names to a message about an unknown one.
///
/// serde writes such messages as ``unknown field `x`, expected one of `a`, `b` ``.
pub(super) fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let last = message.lines().last().unwrap_or_default();
    let is_unknown = last.contains("unknown field `") || last.contains("unknown variant `");
    let mut names = last.split('`').skip(1).step_by(2);
    let nearest = names.next().filter(|_| is_unknown).and_then(|wrong| {
        names
            .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
            .min()
            .filter(|(distance, name)| *distance <= name.len().div_ceil(3).max(1))
    });
    match nearest {
        Some((_, name)) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::with_suggestion;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let suggest = |wrong: &str| {
            with_suggestion(&format!("line 3\nunknown field `{wrong}`, expected `batch_size` or `seed`\n"))
        };
        assert!(suggest("batchsize").ends_with("`seed`; did you mean `batch_size`?"));
        assert!(suggest("sede").ends_with("did you mean `seed`?"));
        assert!(suggest("temperature").ends_with("or `seed`"));
        assert_eq!(with_suggestion("expected `a`, found `b`"), "expected `a`, found `b`");
    }
}
