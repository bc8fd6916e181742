//! Writers of an index that are killed at any moment, and one whose disk fills.
//!
//! In a file of their own: a process that is started holds the locks of all others of its test binary for a moment.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use care_core::Embeddings;
use care_core::index::{Codes, DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter, Record, SearchOptions};

/// Where a process of this test finds its folder: then it changes the index there.
const CHILD: &str = "CARE_INDEX_TEST_FOLDER";
/// Ids that the changes are about.
const IDS: u64 = 60;
const DIM: usize = 16;

fn tower() -> DocumentTower {
    DocumentTower::new("tower")
}

/// A hash of two numbers.
fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    x ^= x >> 29;
    x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

enum Change {
    Add(Vec<u64>),
    Remove(Vec<u64>),
    Compact,
}

/// The number of a change that adds all ids.
const ALL: u64 = 1_000_000;

/// The change of a number: always the same.
fn change(number: u64) -> Change {
    if number == ALL {
        return Change::Add((0..IDS).collect());
    }
    let start = mix(number, 1) % IDS;
    let ids = (0..1 + mix(number, 2) % 12).map(|at| (start + at * 7) % IDS).collect();
    match mix(number, 3) % 8 {
        0..5 => Change::Add(ids),
        5..7 => Change::Remove(ids),
        _ => Change::Compact,
    }
}

fn vector(id: u64, number: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| (mix(id * 1000 + at, number) % 21) as f32 - 10.0).chain([1.0]).skip(1).collect()
}

/// Rows by id and the change that added them, in order.
fn apply(rows: &mut Vec<(u64, u64)>, number: u64) {
    match change(number) {
        Change::Add(ids) => {
            rows.retain(|(id, _)| !ids.contains(id));
            rows.extend(ids.into_iter().map(|id| (id, number)));
        }
        Change::Remove(ids) => rows.retain(|(id, _)| !ids.contains(id)),
        Change::Compact => {}
    }
}

fn record(id: u64, number: u64) -> Record {
    Record::new(id.to_string()).with_text("x".repeat(id as usize)).with_field("change", number)
}

/// Makes one change after the other, and writes a line when one is acknowledged.
fn change_in_folder(folder: &Path) {
    let mut writer = IndexWriter::open(folder.join("index")).unwrap();
    let mut log = File::options().append(true).open(folder.join("log")).unwrap();
    let first = fs::read_to_string(folder.join("next")).unwrap().parse().unwrap();
    for number in first.. {
        let changed = match change(number) {
            Change::Add(ids) => {
                let records: Vec<Record> = ids.iter().map(|id| record(*id, number)).collect();
                let vectors = Embeddings::from_rows(DIM, ids.iter().map(|id| vector(*id, number))).unwrap();
                writer.add(&tower(), &records, &vectors).map(drop)
            }
            Change::Remove(ids) => {
                let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
                writer.remove(&ids).map(drop)
            }
            Change::Compact => writer.compact(),
        };
        if let Err(e) = changed {
            fs::write(folder.join("stopped"), e.to_string()).unwrap();
            return;
        }
        log.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
}

fn spawn(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn prepare(folder: &Path) {
    let options = DiskIndexOptions::default().with_codes([Codes::Int8, Codes::Binary]);
    IndexWriter::create(folder.join("index"), &tower(), DIM, &options).unwrap();
    fs::write(folder.join("log"), "").unwrap();
    fs::write(folder.join("next"), "0").unwrap();
}

/// The changes that were acknowledged.
fn acknowledged(folder: &Path) -> u64 {
    let log = fs::read_to_string(folder.join("log")).unwrap();
    log.lines().count() as u64
}

/// Whether the index has exactly these rows.
fn has(index: &DiskIndex, rows: &[(u64, u64)]) -> bool {
    let numbers: Vec<usize> = index.rows().collect();
    let records: Vec<Record> = numbers.iter().map(|row| index.record(*row).unwrap()).collect();
    let expected: Vec<Record> = rows.iter().map(|(id, number)| record(*id, *number)).collect();
    records == expected
        && index.vectors(&numbers).unwrap()
            == Embeddings::from_rows(DIM, rows.iter().map(|(id, number)| vector(*id, *number))).unwrap()
}

/// Checks that the index holds the acknowledged changes, and perhaps one that was made and not yet acknowledged, which is
/// then counted. Returns its rows.
fn check(folder: &Path) -> Vec<(u64, u64)> {
    let index = DiskIndex::open(folder.join("index")).unwrap();
    index.verify().unwrap();
    let (count, mut rows) = (acknowledged(folder), Vec::new());
    (0..count).for_each(|number| apply(&mut rows, number));
    if !has(&index, &rows) {
        apply(&mut rows, count);
        assert!(has(&index, &rows), "neither {count} changes nor one more");
        File::options()
            .append(true)
            .open(folder.join("log"))
            .unwrap()
            .write_all(format!("{count}\n").as_bytes())
            .unwrap();
    }
    let query = Embeddings::from_rows(DIM, [vector(1, 1)]).unwrap();
    let exact = index.search(&query, &SearchOptions::new(5)).unwrap();
    let by_codes = SearchOptions::new(5).with_codes(Codes::Binary).with_oversampling(100);
    assert_eq!(index.search(&query, &by_codes).unwrap(), exact);
    rows
}

#[test]
fn a_writer_killed_a_hundred_times_leaves_what_was_acknowledged() {
    let test = "a_writer_killed_a_hundred_times_leaves_what_was_acknowledged";
    if let Some(folder) = std::env::var_os(CHILD) {
        return change_in_folder(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (mut rest, limit) = (0, Instant::now() + Duration::from_secs(60));
    for round in 0..100 {
        let before = acknowledged(folder.path());
        fs::write(folder.path().join("next"), before.to_string()).unwrap();
        let mut child = spawn(test, folder.path());
        // From the first change on, which is after the process has started; then at any moment of the next changes.
        let started = Instant::now();
        while acknowledged(folder.path()) == before && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_micros(mix(round, 9) % 20_000));
        // SIGKILL on Unix.
        child.kill().unwrap();
        child.wait().unwrap();
        let folders = || fs::read_dir(folder.path().join("index")).unwrap().count();
        let index = DiskIndex::open(folder.path().join("index")).unwrap();
        rest += usize::from(folders() > index.segments() + 2);
        check(folder.path());
        assert!(Instant::now() < limit || round >= 20, "the machine is too slow for this test");
        if Instant::now() > limit {
            break;
        }
    }
    // The test proves little if no change was interrupted.
    assert!(rest >= 3, "{rest} kills left files behind");
    drop(IndexWriter::open(folder.path().join("index")).unwrap());
    let index = DiskIndex::open(folder.path().join("index")).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("index")).unwrap().count(), index.segments() + 2);
}

/// The limit of file sizes stands in for a full disk: writing fails in the middle of a file.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_loses_only_the_change_that_did_not_fit() {
    let test = "a_disk_that_fills_loses_only_the_change_that_did_not_fit";
    if let Some(folder) = std::env::var_os(CHILD) {
        return change_in_folder(Path::new(&folder));
    }
    // In blocks of 512 bytes: the manifest of several segments, and the records of all ids, do not fit.
    for (limit, first, file) in [(4, 0, "index.json"), (8, ALL, "segment-")] {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        fs::write(folder.path().join("next"), first.to_string()).unwrap();
        let limited = Command::new("sh")
            .args(["-c", &format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" --exact \"$1\"")])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(limited.success());
        let stopped = fs::read_to_string(folder.path().join("stopped")).unwrap();
        assert!(stopped.starts_with("cannot write ") && stopped.contains(file), "{stopped}");
        let count = acknowledged(folder.path());
        let rows = check(folder.path());
        assert_eq!((rows.is_empty(), acknowledged(folder.path())), (first == ALL, count));
        // With room again, the next writer goes on.
        let mut writer = IndexWriter::open(folder.path().join("index")).unwrap();
        writer.add(&tower(), &[Record::new("new")], &Embeddings::from_rows(DIM, [vector(1, 1)]).unwrap()).unwrap();
        assert_eq!(writer.index().len(), rows.len() + 1);
    }
}
