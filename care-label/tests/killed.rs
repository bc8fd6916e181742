//! Judging processes that are killed at any moment, and one whose disk fills.
//!
//! In a file of their own: a process that is started holds the locks of all others of its test binary for a moment.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use care_label::judge::Judges;
use care_label::judge::client::request_body;
use care_label::pair::{read_pairs, write_pairs};
use care_label::run::judge_pairs;
use care_label::{Journal, State};
use common::{FAULTS, Fault, Request, Response, Server, faulty, judge, lines, options, pairs, prompt};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where a process of this test finds its folder: then it judges and is to be killed.
const CHILD: &str = "CARE_LABEL_TEST_FOLDER";

/// One in ten requests has a fault.
fn fault_of(request: &Request) -> Option<Fault> {
    let hash = request.hash();
    hash.is_multiple_of(10).then(|| FAULTS[(hash / 10 % FAULTS.len() as u64) as usize])
}

fn broken_one_in_ten(request: &Request) -> Option<Response> {
    thread::sleep(Duration::from_millis(2));
    match fault_of(request) {
        Some(fault) => faulty(fault, request),
        None => Some(Response::score(request.score())),
    }
}

/// What `judging` in another process does.
fn judge_in_folder(folder: &Path) {
    let judges = Judges::open(folder.join("judges.toml")).unwrap();
    let pairs = read_pairs(folder.join("pairs.jsonl")).unwrap();
    let mut journal = Journal::open(folder.join("votes.jsonl")).unwrap();
    let summary = judge_pairs(&pairs, &judges, &prompt(), &mut journal, &options(), &mut |_| {}).unwrap();
    if let Some(stopped) = summary.stopped {
        std::fs::write(folder.join("stopped.txt"), stopped.to_string()).unwrap();
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

/// Judges with three judges, kills the process 20 times, and compares with a run that nobody disturbed.
fn kill_and_compare(test: &str, queries: usize, documents: usize) {
    if let Some(folder) = std::env::var_os(CHILD) {
        return judge_in_folder(Path::new(&folder));
    }
    let all = pairs(queries, documents);
    let toml = |server: &Server| ["a", "b", "c"].map(|name| judge(name, server, "concurrency = 4")).concat();
    let calm = Server::start(broken_one_in_ten);
    let judges = Judges::from_toml(&toml(&calm)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path().join("votes.jsonl")).unwrap();
    let summary = judge_pairs(&all, &judges, &prompt(), &mut journal, &options(), &mut |_| {}).unwrap();
    let (expected_lines, expected) = lines(journal.path());
    let calls = calm.requests();

    let server = Server::start(broken_one_in_ten);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("judges.toml"), toml(&server)).unwrap();
    write_pairs(folder.path().join("pairs.jsonl"), &all).unwrap();
    let votes = folder.path().join("votes.jsonl");
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let mut torn = 0;
    for kill in 0..20 {
        let (start, most) = (server.requests(), rng.random_range(1..calls / 14));
        let mut child = spawn(test, folder.path());
        while server.requests() < start + most {
            assert!(child.try_wait().unwrap().is_none(), "run {kill} ended before it was killed");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
        // SIGKILL on Unix.
        child.kill().unwrap();
        child.wait().unwrap();
        let content = std::fs::read(&votes).unwrap();
        torn += usize::from(content.last().is_some_and(|byte| *byte != b'\n'));
        server.forbid(lines(&votes).0.into_iter().map(|(key, attempt, ..)| format!("{key}-{attempt}")));
    }
    assert!(spawn(test, folder.path()).wait().unwrap().success());
    let (lines, last) = lines(&votes);
    assert_eq!(server.repeated(), Vec::<String>::new(), "calls that the journal had were made again");
    assert_eq!(lines, expected_lines);
    assert_eq!(last, expected);

    // By the rules of the endpoint.
    let mut by_judge = BTreeMap::<&str, [u64; 4]>::new();
    for judge in &judges.judges {
        for pair in &all {
            let body = request_body(judge, &prompt(), pair, 0).unwrap();
            let request = Request { path: String::new(), headers: HashMap::new(), body, attempt: 3, tried: 3 };
            let state = match fault_of(&request) {
                Some(Fault::Half) => 1,
                Some(Fault::Refused | Fault::Filtered) => 2,
                Some(Fault::Broken) => 3,
                _ => 0,
            };
            by_judge.entry(&judge.name).or_default()[state] += 1;
        }
    }
    let mut met = HashSet::new();
    for judge in &judges.judges {
        for pair in &all {
            let body = request_body(judge, &prompt(), pair, 0).unwrap();
            met.extend(fault_of(&Request { path: String::new(), headers: HashMap::new(), body, attempt: 1, tried: 1 }));
        }
    }
    assert!(met.len() >= 15, "{met:?}");
    for judge in &summary.judges {
        let counts = [judge.scored, judge.unparsable, judge.refused, judge.failed];
        assert_eq!(counts, by_judge[judge.judge.as_str()], "{}", judge.judge);
        assert_eq!((judge.open(), judge.stopped.clone()), (0, None));
    }
    let state = |wanted: State| last.values().filter(|(state, _)| *state == wanted).count() as u64;
    let sum = |at: usize| by_judge.values().map(|counts| counts[at]).sum::<u64>();
    let states = [State::Scored, State::Unparsable, State::Refused, State::Failed];
    assert_eq!(states.map(state), [0, 1, 2, 3].map(sum));
    eprintln!(
        "{} questions, {} kinds of faults, {calls} requests undisturbed, {} with 20 kills ({torn} torn lines), states {:?}",
        last.len(),
        met.len(),
        server.requests(),
        states.map(state)
    );
}

#[test]
fn a_run_killed_twenty_times_gives_the_votes_of_an_undisturbed_one() {
    kill_and_compare("a_run_killed_twenty_times_gives_the_votes_of_an_undisturbed_one", 20, 15);
}

#[test]
#[ignore = "2,000 pairs: a minute"]
fn a_long_run_killed_twenty_times_gives_the_votes_of_an_undisturbed_one() {
    kill_and_compare("a_long_run_killed_twenty_times_gives_the_votes_of_an_undisturbed_one", 40, 50);
}

/// The limit of file sizes stands in for a full disk: writing fails in the middle of a line.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_stops_the_run_and_keeps_what_is_written() {
    let test = "a_disk_that_fills_stops_the_run_and_keeps_what_is_written";
    if let Some(folder) = std::env::var_os(CHILD) {
        return judge_in_folder(Path::new(&folder));
    }
    let server = Server::start(|request| Some(Response::score(request.score())));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("judges.toml"), judge("a", &server, "")).unwrap();
    write_pairs(folder.path().join("pairs.jsonl"), &pairs(10, 10)).unwrap();
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(limited.success());
    let stopped = std::fs::read_to_string(folder.path().join("stopped.txt")).unwrap();
    assert!(stopped.contains("votes.jsonl: File too large") && stopped.contains("are not recorded"), "{stopped}");
    let votes = folder.path().join("votes.jsonl");
    let (before, _) = lines(&votes);
    assert!((10..100).contains(&before.len()), "{}", before.len());
    server.forbid(before.iter().map(|(key, attempt, ..)| format!("{key}-{attempt}")));
    assert!(spawn(test, folder.path()).wait().unwrap().success());
    assert_eq!((lines(&votes).0.len(), server.repeated().len()), (100, 0));
}
