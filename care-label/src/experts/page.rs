//! The HTML page on which an expert labels offline.

use care_core::{Error, Result};

use super::guide::guide;
use super::sample::Expert;
use super::sheet::Sheets;

/// The page without data: no network, no dependencies.
const PAGE: &str = include_str!("page.html");
/// Where its data go.
const MARK: &str = "__DATA__";

/// A page with the rows of an expert's sheet. It saves the CSV file that [`read_sheets`](super::read_sheets) reads.
pub(super) fn page(sheets: &Sheets<'_>, expert: &Expert) -> Result<String> {
    let data = serde_json::json!({
        "prompt": sheets.prompt.name,
        "expert": expert.name,
        "sample": sheets.sample.short_id(),
        "columns": sheets.columns(),
        "rows": sheets.rows(expert)?,
        "points": sheets.prompt.scale.points().collect::<Vec<_>>(),
        "words": sheets.prompt.labels,
        "guide": guide(sheets.prompt),
    });
    let (before, after) =
        PAGE.split_once(MARK).ok_or_else(|| Error::setting("page", "without data", &format!("a page with {MARK}")))?;
    Ok(format!("{before}{}{after}", embeddable(&data)))
}

/// JSON that can be the content of a script element: no text in it can end the element or begin a comment.
fn embeddable(data: &serde_json::Value) -> String {
    data.to_string().chars().fold(String::new(), |mut text, c| {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text += &format!("\\u{:04x}", c as u32),
            _ => text.push(c),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_script_element() {
        for text in ["</script><script>alert(1)</script>", "<!--<script>", "a\u{2028}b & \"c\" \\ '"] {
            let data = serde_json::json!({ "text": text });
            let embedded = embeddable(&data);
            assert!(!embedded.contains(['<', '>', '&', '\u{2028}']), "{embedded}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&embedded).expect("JSON"), data);
        }
    }

    #[test]
    fn the_page_has_one_place_for_data_and_needs_no_network() {
        assert_eq!(PAGE.matches(MARK).count(), 1);
        for foreign in ["http:", "https:", "src=", "@import", "url(", "fetch("] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }
}
