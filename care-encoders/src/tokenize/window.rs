//! Truncation: which side of a text is cut off, and how much of a long text is tokenized at all, so that its cost is
//! that of the tokens that are kept.

use serde::{Deserialize, Serialize};
use tokenizers::utils::truncation::TruncationDirection;

/// Bytes of the first window for each token that is kept; most texts have fewer.
const BYTES_PER_TOKEN: usize = 16;
/// Bytes that are added to it.
const SPARE: usize = 4096;
/// Each window is this many times as long as the one before.
const GROWTH: usize = 4;
/// The last window has at least this many bytes.
const LAST: usize = 256 << 10;
/// Tokens between those that are kept and a cut. More than the 100 characters that the longest word of BERT has.
const MARGIN: usize = 128;

/// The side of a text that is cut off if it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TruncationSide {
    /// The end is cut off.
    #[default]
    Right,
    /// The beginning is cut off.
    Left,
}

impl TruncationSide {
    pub(super) fn direction(self) -> TruncationDirection {
        match self {
            TruncationSide::Right => TruncationDirection::Right,
            TruncationSide::Left => TruncationDirection::Left,
        }
    }
}

/// The sizes in bytes of the windows, ascending, in which a text is read until it has enough tokens.
pub(super) fn sizes(kept: usize) -> [usize; 3] {
    let first = kept.saturating_mul(BYTES_PER_TOKEN).saturating_add(SPARE);
    let second = first.saturating_mul(GROWTH);
    [first, second, second.saturating_mul(GROWTH).max(LAST)]
}

/// Whether a window with this many tokens has the first (or last) `kept` ones of the whole text.
pub(super) fn suffices(tokens: usize, kept: usize) -> bool {
    tokens >= kept.saturating_add(MARGIN)
}

/// At most `bytes` bytes of a text, from the end that truncation keeps. The cut is at a blank if one is near.
pub(super) fn cut(text: &str, bytes: usize, side: TruncationSide) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let is_blank = |at: &usize| text.as_bytes()[*at] == b' ';
    match side {
        TruncationSide::Right => {
            let end = text.floor_char_boundary(bytes);
            &text[..(end - end / 4..end).rev().find(is_blank).unwrap_or(end)]
        }
        TruncationSide::Left => {
            let start = text.ceil_char_boundary(text.len() - bytes);
            &text[(start..start + bytes / 4).find(is_blank).unwrap_or(start)..]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_at_a_blank_or_at_a_character() {
        let text = "头痛 怎么办 abc";
        for (bytes, right, left) in [
            (100, text, text),
            (text.len(), text, text),
            (18, "头痛 怎么办", " 怎么办 abc"),
            (8, "头痛", "办 abc"),
            (2, "", "bc"),
            (0, "", ""),
        ] {
            assert_eq!(cut(text, bytes, TruncationSide::Right), right, "{bytes}");
            assert_eq!(cut(text, bytes, TruncationSide::Left), left, "{bytes}");
        }
    }
}
