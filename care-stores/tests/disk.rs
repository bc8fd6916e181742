//! The index on disk passes the conformance test of the databases.

mod conformance;

use conformance::disk::DiskStore;
use conformance::{Limits, conform};

#[test]
fn an_index_on_disk_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { no_digests: true, ..Limits::default() };
    conform("disk", limits, &|name, tower, dim, format| {
        Ok(Box::new(DiskStore::open(&folder.path().join(name), tower, dim, format)?))
    });
}
