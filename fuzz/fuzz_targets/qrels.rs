//! Qrels: BEIR, TREC and JSON.

#![no_main]

use std::sync::LazyLock;

use care_eval::io::read_qrels;
use care_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|input: &[u8]| {
    let _ = read_qrels(FOLDER.write("qrels.tsv", input));
    let _ = read_qrels(FOLDER.write("qrels.json", input));
});
