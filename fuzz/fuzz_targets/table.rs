//! Tables of text with a header, separated by commas and by tabs.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use care_fuzz::Folder;
use cmedteb::for_each_row;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|input: &[u8]| {
    for name in ["rows.csv", "rows.tsv", "rows.csv.gz"] {
        let path = FOLDER.write(name, input);
        let _ = for_each_row(&path, &mut |_, _: BTreeMap<String, String>| Ok(()));
    }
});
