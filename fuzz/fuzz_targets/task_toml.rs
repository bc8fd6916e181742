//! Task files, beside a small task folder.

#![no_main]

use std::sync::LazyLock;

use care_fuzz::Folder;
use cmedteb::{Sources, load_task_file};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    folder.write("corpus.jsonl", b"{\"_id\": \"d1\", \"text\": \"a\"}\n{\"_id\": \"d2\", \"text\": \"b\"}\n");
    folder.write("queries.jsonl", b"{\"_id\": \"q1\", \"text\": \"a?\"}\n");
    folder.write("qrels.tsv", b"query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    folder
});

fuzz_target!(|input: &[u8]| {
    let path = FOLDER.write("task.toml", input);
    let _ = load_task_file(path, &mut Sources::default());
});
