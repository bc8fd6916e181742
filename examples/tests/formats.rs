//! `docs/formats.md` names every field of the configuration files: compares it with the structs that read them.

mod source;

use std::fs;

use source::{Sources, sources_of, tokens, workspace};

/// Structs that a file is read into: their crate, name, and the heading in `docs/formats.md` below which each of their
/// fields is named in backticks.
const STRUCTS: [(&str, &str, &str); 53] = [
    ("care-train", "TrainConfig", "### Top level"),
    ("care-train", "ModelConfig", "### `[model]`"),
    ("care-train", "TowerConfig", "### `[model]`"),
    ("care-train", "EvaluationConfig", "### `[evaluation]`"),
    ("care-train", "StageConfig", "### `[[stage]]`"),
    ("care-train", "LossConfig", "#### `loss`"),
    ("care-train", "TowerTraining", "#### `query` and `document` of a stage"),
    ("care-encoders", "LoraConfig", "#### `query` and `document` of a stage"),
    ("care-encoders", "EncoderOptions", "### Tower options"),
    ("care-encoders", "BertConfig", "## Hugging Face folder"),
    ("care-encoders", "GteConfig", "## Hugging Face folder"),
    ("care-encoders", "ModernBertConfig", "## Hugging Face folder"),
    ("care-encoders", "DecoderConfig", "## Hugging Face folder"),
    ("care-encoders", "Manifest", "## Saved pair"),
    ("care-encoders", "TowerManifest", "## Saved pair"),
    ("care-encoders", "HeadConfig", "## Saved pair"),
    ("care-encoders", "ProjectionConfig", "## Saved pair"),
    ("care-encoders", "TransformerSettings", "## sentence-transformers folder"),
    ("care-encoders", "AdapterFields", "## PEFT adapter"),
    ("cmedteb", "TaskFile", "### Task files"),
    ("care-label", "Label", "## Labels"),
    ("care-label", "Pair", "### Pairs"),
    ("care-label", "Found", "### Pairs"),
    ("care-label", "Judges", "### Judges"),
    ("care-label", "Budget", "### Judges"),
    ("care-label", "Judge", "### Judges"),
    ("care-label", "Prompt", "### Prompts"),
    ("care-label", "QuestionKind", "### Prompts"),
    ("care-label", "Vote", "### Votes"),
    ("care-data", "ListedNegative", "### Cleaned rows"),
    ("care-data", "ListedRow", "### Cleaned rows"),
    ("care-label", "WrittenQuestion", "### Generated questions"),
    ("care-core", "Manifest", "### Manifests"),
    ("care-core", "IndexManifest", "## Index on disk"),
    ("care-core", "DocumentTower", "## Index on disk"),
    ("care-core", "SegmentEntry", "## Index on disk"),
    ("care-core", "RemovedEntry", "## Index on disk"),
    ("care-core", "FileSeal", "## Index on disk"),
    ("care-core", "GraphEntry", "## Index on disk"),
    ("care-core", "Approximation", "## Index on disk"),
    ("care-core", "GraphOptions", "## Index on disk"),
    ("care-core", "Loss", "## Index on disk"),
    ("care-core", "Record", "## Index on disk"),
    ("care-core", "Column", "## Index on disk"),
    ("care-shard", "Plan", "## Encoded corpus"),
    ("care-shard", "Input", "## Encoded corpus"),
    ("care-shard", "Fields", "## Encoded corpus"),
    ("care-shard", "Shard", "## Encoded corpus"),
    ("care-shard", "Commit", "## Encoded corpus"),
    ("care-shard", "Lease", "## Encoded corpus"),
    ("care-shard", "WorkerState", "## Encoded corpus"),
    ("care-shard", "Failure", "## Encoded corpus"),
    ("care-shard", "Origin", "## Encoded corpus"),
];

#[test]
fn formats_md_names_every_field() {
    let page = fs::read_to_string(workspace().join("docs/formats.md")).expect("docs/formats.md");
    let missing =
        STRUCTS.map(|(name, of, heading)| missing(name, &sources_of(name), of, section(&page, heading))).concat();
    assert!(missing.is_empty(), "docs/formats.md lacks these fields:\n{}\n", missing.join("\n"));
}

/// The fields that the struct has in files and the section does not name.
fn missing(name: &str, sources: &Sources, of: &str, section: &str) -> Vec<String> {
    // Some share their name with a struct that borrows, which is in no file then.
    let find = |after: &str| sources.iter().find_map(|(path, source)| Some((path, fields(source, of, after)?)));
    let found = find("{").or_else(|| find("<"));
    let (path, fields) =
        found.unwrap_or_else(|| panic!("{name} has no struct {of}: correct STRUCTS in examples/tests/formats.rs"));
    let heading = section.lines().next().unwrap_or_default();
    let unnamed = fields.into_iter().filter(|(_, field)| !names(section, field));
    unnamed.map(|(line, field)| format!("{name}/src/{path}:{line}: `{field}` of {of}, below \"{heading}\"")).collect()
}

/// The fields of a struct by their names in a file, each with its line; nothing if the source has no such struct whose name
/// is followed by `after`.
fn fields(source: &str, of: &str, after: &str) -> Option<Vec<(usize, String)>> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let is_struct = |at: &usize| ["struct", of, after] == [0, 1, 2].map(|offset| text(at + offset));
    let named = (0..tokens.len()).find(is_struct)?;
    let start = (named..tokens.len()).find(|at| text(*at) == "{")?;
    let mut fields = Vec::new();
    let (mut depth, mut kept, mut renamed) = (0, true, None);
    for at in (start..).take_while(|at| *at < tokens.len()) {
        match text(at) {
            // The fields' names stand at depth 1, their attributes and types deeper, or behind the colon.
            "{" | "(" | "[" | "<" => depth += 1,
            "}" | ")" | "]" | ">" => depth -= 1,
            "flatten" | "skip" | "skip_deserializing" if depth == 3 => kept = false,
            "rename" if depth == 3 => renamed = Some(text(at + 2).trim_matches('"').to_string()),
            ":" if depth == 1 => {
                let name = renamed.take().unwrap_or_else(|| text(at - 1).to_string());
                fields.extend(std::mem::replace(&mut kept, true).then_some((tokens[at].line, name)));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    Some(fields)
}

/// The part of a page from a heading to the next one that is not below it.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start =
        page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?} in docs/formats.md")) + 1;
    let level = |line: &str| line.find(|c| c != '#').unwrap_or(0);
    let mut end = start + heading.len() + 1;
    for line in page[end..].split_inclusive('\n') {
        if (1..=level(heading)).contains(&level(line)) {
            break;
        }
        end += line.len();
    }
    &page[start..end]
}

/// Whether a word in backticks is this name.
fn names(section: &str, name: &str) -> bool {
    let spans = section.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.flat_map(|span| span.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == name)
}

#[test]
fn a_missing_field_is_reported() {
    let source = "/// `hidden`\n#[derive(Debug)]\n#[serde(default, deny_unknown_fields)]\npub struct Options {\n\
                  /// Not a field: here.\npub dim: Option<BTreeMap<String, u8>>,\n#[serde(default, rename = \"type\")]\n\
                  kind: String,\n#[serde(flatten)]\nrest: Value,\n#[serde(skip_serializing_if = \"Option::is_none\")]\n\
                  pub(crate) rank: u8 }\nstruct Other { other: u8 }";
    let page = "\n## Options\n| `dim` | size |\n### Deeper\nrank, `type: {..}`\n## Other\n`rank`\n";
    let sources = Sources::from([("options.rs".to_string(), source.to_string())]);
    let expected = ["a/src/options.rs:12: `rank` of Options, below \"## Options\""];
    assert_eq!(missing("a", &sources, "Options", section(page, "## Options")), expected);
    assert_eq!(fields(source, "Unknown", "{"), None);
}
