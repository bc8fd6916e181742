//! JSON Lines, with rows of any form and with rows of texts.

#![no_main]

use std::sync::LazyLock;

use care_core::jsonl::read_jsonl;
use care_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

#[derive(serde::Deserialize)]
struct Row {
    #[expect(dead_code, reason = "only parsed")]
    query: String,
    #[expect(dead_code, reason = "only parsed")]
    pos: Vec<String>,
}

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|input: &[u8]| {
    let path = FOLDER.write("rows.jsonl", input);
    let _ = read_jsonl::<serde_json::Value>(&path);
    let _ = read_jsonl::<Row>(&path);
});
