//! What `verify` finds, and what `repair` does about it.

use std::fs;
use std::path::{Path, PathBuf};

use care_core::files::sha256_hex;
use care_shard::{Job, Stores, Verification};
use serde_json::Value;

use super::embedders::Hashing;
use super::{corpus, merged, options, work};

const TOWER: Hashing = Hashing("tower-1");

struct Place {
    folder: tempfile::TempDir,
    job: Job,
}

impl Place {
    /// A finished job on disk.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus");
        fs::create_dir(&corpus).unwrap();
        corpus::write(&corpus);
        let stores = Stores::new().unwrap();
        let place = folder.path().join("job").to_str().unwrap().to_owned();
        let options = options().with_shard_bytes(Some(20_000));
        let plan = care_shard::Plan::new(&stores, &[corpus.to_str().unwrap().to_owned()], &TOWER, &options).unwrap();
        plan.create(&stores.open(&place).unwrap()).unwrap();
        let error = plan.create(&stores.open(&place).unwrap());
        // The same plan again is the same job.
        error.unwrap();
        let job = Job::open(&stores, &place).unwrap();
        work(&job, &TOWER).unwrap();
        Self { folder, job }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("job").join(name)
    }

    fn vectors_of(&self, shard: usize) -> PathBuf {
        let commit: Value = serde_json::from_slice(&fs::read(self.commit(shard)).unwrap()).unwrap();
        self.path(&format!("vectors/{shard:08}-{}.parquet", commit["attempt"].as_str().unwrap()))
    }

    fn commit(&self, shard: usize) -> PathBuf {
        self.path(&format!("commits/{shard:08}.json"))
    }

    fn verify(&self) -> Verification {
        self.job.verify(true, &mut |_| ()).unwrap()
    }

    /// Expects one damaged shard, and has it encoded again.
    fn mend(&self, shard: usize, problem: &str) {
        let found = self.verify();
        assert_eq!(found.damaged.len(), 1, "{found:?}");
        assert!(found.damaged[0].shard == shard && found.damaged[0].problem.contains(problem), "{found:?}");
        assert!(self.job.merge(self.path("no.parquet"), &mut |_| ()).is_err() && !self.path("no.parquet").exists());
        self.job.repair(&found).unwrap();
        assert_eq!(self.verify().missing, [shard]);
        assert_eq!(work(&self.job, &TOWER).unwrap().shards, 1);
        assert!(self.verify().is_complete());
    }
}

fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    edit(&mut content);
    fs::write(path, content).unwrap();
}

#[test]
fn a_finished_job_is_complete() {
    let place = Place::new();
    let found = place.verify();
    assert!(found.is_complete() && found.leftovers.is_empty());
    assert_eq!((found.rows, found.shards), (1000, place.job.plan().shards.len()));
    assert_eq!(merged(&place.job), corpus::expected(&TOWER));
    let names = |folder: &str| fs::read_dir(place.path(folder)).map_or(0, Iterator::count);
    assert_eq!((names("leases"), names("commits"), names("vectors")), (0, found.shards, found.shards));
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let place = Place::new();
    let path = place.vectors_of(1);
    let intact = fs::read(&path).unwrap();
    for at in [0, 5, intact.len() / 3, intact.len() - 100, intact.len() - 1] {
        edit(&path, |content| content[at] ^= 1);
        let found = place.verify();
        assert!(found.damaged.len() == 1 && found.damaged[0].shard == 1, "{at}: {found:?}");
        fs::write(&path, &intact).unwrap();
    }
    edit(&path, |content| content.truncate(100));
    place.mend(1, "the file has 100 bytes, not ");
}

#[test]
fn a_missing_shard_and_missing_vectors_are_found() {
    let place = Place::new();
    fs::remove_file(place.vectors_of(2)).unwrap();
    place.mend(2, "the file of vectors is missing");
    fs::remove_file(place.commit(0)).unwrap();
    let found = place.verify();
    assert_eq!((found.missing.as_slice(), found.leftovers.len()), (&[0][..], 1));
    let error = place.job.merge(place.path("x.npy"), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("shard 0 is missing"), "{error}");
}

#[test]
fn vectors_of_another_tower_are_found() {
    let place = Place::new();
    let path = place.vectors_of(1);
    edit(&path, |content| {
        let at = content.windows(7).position(|bytes| bytes == b"tower-1").unwrap();
        content[at + 6] = b'2';
    });
    let content = fs::read(&path).unwrap();
    let mut commit: Value = serde_json::from_slice(&fs::read(place.commit(1)).unwrap()).unwrap();
    commit["sha256"] = sha256_hex(&content).into();
    fs::write(place.commit(1), commit.to_string()).unwrap();
    place.mend(1, "vectors of the document tower tower-2, not of tower-1");
    let error = work(&place.job, &Hashing("tower-2")).unwrap_err().to_string();
    assert_eq!(error, "the plan is for the document tower tower-1, not for tower-2");
}

#[test]
fn markers_that_are_torn_or_leave_a_gap_are_found() {
    let place = Place::new();
    edit(&place.commit(1), |content| content.truncate(40));
    place.mend(1, "EOF");
    let mut commit: Value = serde_json::from_slice(&fs::read(place.commit(1)).unwrap()).unwrap();
    commit["start"] = (commit["start"].as_u64().unwrap() + 50).into();
    fs::write(place.commit(1), commit.to_string()).unwrap();
    place.mend(1, "does not begin where the one before ends");
}

#[test]
fn an_input_that_was_changed_is_refused() {
    let place = Place::new();
    fs::remove_file(place.commit(0)).unwrap();
    edit(&place.folder.path().join("corpus/a.jsonl"), |content| content.extend(b"\n"));
    let error = work(&place.job, &TOWER).unwrap_err().to_string();
    assert!(error.ends_with("the file was changed after the plan was made: make a new plan"), "{error}");
}

#[test]
fn a_bad_row_fails_its_shard_alone() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    edit(&folder.path().join("b.jsonl"), |content| {
        let at = content.windows(5).position(|bytes| bytes == b"\"text").unwrap();
        content[at + 1] = b'T';
    });
    let job = super::plan(&super::in_memory(), folder.path(), &TOWER, &options());
    let state = work(&job, &TOWER).unwrap();
    let found = job.verify(true, &mut |_| ()).unwrap();
    assert_eq!((state.failed, found.failed.len(), found.missing.len()), (1, 1, 0));
    assert!(found.failed[0].problem.contains("b.jsonl: the row at byte 0: missing field `text`"), "{found:?}");
    assert_eq!(job.status(std::time::Duration::from_secs(300)).unwrap().failed, 1);
    // It is tried again after a repair.
    job.repair(&found).unwrap();
    assert_eq!(work(&job, &TOWER).unwrap().failed, 1);
}
