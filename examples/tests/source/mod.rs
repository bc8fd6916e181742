//! Reads Rust sources for the tests of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The sources of a crate by their path in `src`.
pub type Sources = BTreeMap<String, String>;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source of a crate of the workspace.
pub fn sources_of(name: &str) -> Sources {
    let root = workspace().join(name).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Sources::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(&root).expect("a file below src");
                sources.insert(path.display().to_string().replace('\\', "/"), source);
            }
        }
    }
    sources
}

/// A name, number, string, `::` or single character of a source, with its line.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

/// The tokens of a source outside comments and outside items for tests (`#[cfg(test)]`).
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let comment = rest.starts_with("//") || rest.starts_with("/*");
        let length = match first {
            _ if comment => comment_length(rest),
            '"' => string_length(rest, "\"", true),
            'r' | 'b' | 'c' if prefixed_string(rest).is_some() => prefixed_string(rest).expect("just seen"),
            '\'' => character_length(rest),
            _ if first.is_alphanumeric() || first == '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        if !comment && !first.is_whitespace() {
            tokens.push(Token { line, text: &rest[..length] });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    without_tests(&tokens)
}

fn comment_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    let (mut depth, mut at) = (1, 2);
    while depth > 0 && at < rest.len() {
        let (change, length) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        at += length;
    }
    at
}

/// The length of a string whose first byte is its opening quote, up to `end`.
fn string_length(rest: &str, end: &str, escapes: bool) -> usize {
    let mut at = 1;
    while at < rest.len() && !rest.as_bytes()[at..].starts_with(end.as_bytes()) {
        at += if escapes && rest.as_bytes()[at] == b'\\' { 2 } else { 1 };
    }
    (at + end.len()).min(rest.len())
}

/// The length of a string with a prefix: `b".."`, `r#".."#`, `br".."`.
fn prefixed_string(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'r' | 'b' | 'c'))?;
    let hashes = rest[prefix..].find(|c| c != '#')?;
    let raw = rest[..prefix].ends_with('r');
    let quote = prefix + hashes;
    let string = rest[quote..].starts_with('"') && prefix <= 2 && (raw || hashes == 0);
    string.then(|| quote + string_length(&rest[quote..], &format!("\"{}", &rest[prefix..quote]), !raw))
}

/// The length of a character; of a lifetime, the length of its quote.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest[escaped + 1..].find('\'').map_or(rest.len(), |end| escaped + 1 + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
        if ["#", "[", "cfg", "("].iter().enumerate().all(|(offset, expected)| text(offset) == *expected) {
            let end = closing(tokens, at + 1);
            if tokens[at..end].iter().any(|token| matches!(token.text, "test" | "doctest")) {
                at = item_end(tokens, end);
                continue;
            }
        }
        kept.push(tokens[at]);
        at += 1;
    }
    kept
}

/// The token after the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The token after the item that starts at `at`: after its `;` or its `}`.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}
