//! The part of an answer's text that is the answer.

/// Longest part of an answer that is searched for JSON, in bytes, from its end: where the final answer is.
pub(super) const LONGEST_SEARCH: usize = 1 << 16;

/// The text without `<think>` blocks. A block that does not end has no answer after it; one without a beginning, as
/// templates make that begin it in the prompt, is all that comes before its end.
pub(super) fn without_thoughts(text: &str) -> &str {
    let text = text.rsplit_once("</think>").map_or(text, |(_, rest)| rest);
    text.split_once("<think>").map_or(text, |(before, _)| before)
}
