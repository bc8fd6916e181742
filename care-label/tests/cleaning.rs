//! Training rows are cleaned by judges: faults are never clean, a budget stops, and a killed process resumes.
//!
//! A process that is started holds the locks of all others of its test binary for a moment, so the tests that need none are
//! in one binary with it only because nextest runs each test in a process of its own; folders are never shared.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use care_data::clean::{CleanOptions, Limits, Mode, Report, Scorer, Unknown, clean_rows};
use care_label::ballots::Ballots;
use care_label::clean::{Judged, triage};
use care_label::judge::Judges;
use care_label::resolve::{ResolveOptions, Rule, resolve};
use care_label::run::{Summary, judge_pairs};
use care_label::{Journal, Pair, Prompt};
use common::{Fault, Request, Response, Server, faulty, judge, lines, options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where a process of this test finds its folder: then it judges and is to be killed.
const CHILD: &str = "CARE_LABEL_CLEAN_TEST_FOLDER";

/// The text of the candidate in a request.
fn candidate(request: &Request) -> String {
    let messages = request.body["messages"].as_array().unwrap();
    let last = messages.last().unwrap()["content"].as_str().unwrap();
    last.split("候选文档：").nth(1).unwrap().lines().next().unwrap().to_owned()
}

/// Documents say how they are judged: `是` is a false negative, `否` is none, and the rest is a fault.
fn honest(request: &Request) -> Option<Response> {
    let text = candidate(request);
    if text.contains("乱") {
        return Some(Response::content("无法判断"));
    }
    if text.contains("拒") {
        return faulty(Fault::Refused, request);
    }
    if text.contains("断") {
        return Some(Response::error(400, "maximum context length exceeded"));
    }
    Some(Response::score(if text.contains('是') { 5 } else { 2 }))
}

fn prompt() -> Prompt {
    Prompt::open("false-negative").unwrap()
}

fn suspect() -> CleanOptions {
    CleanOptions::default().with_scorer(Scorer::new("scores", Limits::default().with_absolute_margin(0.0)))
}

fn judged(pairs: &[Pair], votes: &Path) -> Judged {
    let mut builder = Ballots::builder(prompt().scale).pairs(pairs);
    builder.read(votes).unwrap();
    let ballots = builder.finish().unwrap();
    Judged::new(&resolve(&ballots, Rule::Majority, &ResolveOptions::default()).unwrap().labels).unwrap()
}

/// Triage, judging and cleaning of `rows.jsonl` in a folder.
fn clean(folder: &Path, toml: &str, cleaning: &CleanOptions) -> (Summary, Report) {
    let rows = folder.join("rows.jsonl");
    let pairs = triage(&rows, cleaning, &mut Err).unwrap().pairs;
    let judges = Judges::from_toml(toml).unwrap();
    let mut journal = Journal::open(folder.join("votes.jsonl")).unwrap();
    let summary = judge_pairs(&pairs, &judges, &prompt(), &mut journal, &options(), &mut |_| {}).unwrap();
    let judged = judged(&pairs, journal.path());
    let (output, list) = (folder.join("clean.jsonl"), folder.join("list.jsonl"));
    let mut inspect = |inspected: &mut care_data::clean::Inspected<'_>| {
        judged.inspect(inspected);
        Ok(())
    };
    let report = clean_rows(&rows, &output, Some(&list), cleaning, &mut inspect, &mut Err);
    (summary, report.unwrap())
}

const ROW: &str = r#"{"query":"问","pos":["答"],"neg":["甲是","乙否","丙乱","丁拒","戊断","己远"],"pos_scores":[0.5],"neg_scores":[0.9,0.9,0.9,0.9,0.9,0.1]}"#;

#[test]
fn unparsable_refused_and_failed_votes_are_never_clean() {
    let server = Server::start(honest);
    let toml = ["a", "b", "c"].map(|name| judge(name, &server, "")).concat();
    for (mode, unknown, expected) in [
        (
            Mode::DropNegative,
            Unknown::DropNegative,
            r#"{"query":"问","pos":["答"],"neg":["乙否","己远"],"pos_scores":[0.5],"neg_scores":[0.9,0.1]}"#,
        ),
        (
            Mode::MakePositive,
            Unknown::DropNegative,
            r#"{"query":"问","pos":["答","甲是"],"neg":["乙否","己远"],"pos_scores":[0.5,0.9],"neg_scores":[0.9,0.1]}"#,
        ),
        (
            Mode::DropNegative,
            Unknown::Keep,
            r#"{"query":"问","pos":["答"],"neg":["乙否","丙乱","丁拒","戊断","己远"],"pos_scores":[0.5],"neg_scores":[0.9,0.9,0.9,0.9,0.1]}"#,
        ),
        (Mode::DropNegative, Unknown::DropRow, ""),
        (Mode::DropRow, Unknown::Keep, ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rows.jsonl"), ROW).unwrap();
        let (summary, report) = clean(folder.path(), &toml, &suspect().with_mode(mode).with_unknown(unknown));
        assert_eq!(summary.judges[0].scored, 2);
        assert_eq!((report.clean, report.false_negatives, report.unknown), (2, 1, 3));
        assert_eq!(report.rules["judges: too few votes"].unknown, 3);
        assert_eq!(fs::read_to_string(folder.path().join("clean.jsonl")).unwrap().trim(), expected, "{mode} {unknown}");
    }
}

/// Rows of which every second negative is a false one, by their texts.
fn rows(number: usize) -> String {
    let negative =
        |row: usize, at: usize| format!("\"文档{row}.{at}{}\"", if at.is_multiple_of(2) { '是' } else { '否' });
    let row = |row: usize| {
        let negatives: Vec<String> = (0..6).map(|at| negative(row, at)).collect();
        format!("{{\"query\":\"问题{row}\",\"pos\":[\"答案{row}\"],\"neg\":[{}]}}\n", negatives.join(","))
    };
    (0..number).map(row).collect()
}

#[test]
fn a_spent_budget_stops_and_what_was_not_judged_is_unknown() {
    let server = Server::start(honest);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows(10)).unwrap();
    // 630 tokens a call are counted: fewer than 60 calls fit.
    let most = 60 * 600;
    let toml = format!("budget = {{ tokens = {most} }}\n{}", judge("a", &server, "max_tokens = 64\nconcurrency = 2"));
    let (summary, report) = clean(folder.path(), &toml, &CleanOptions::default());
    let stopped = summary.stopped.as_ref().unwrap().to_string();
    assert!(stopped.starts_with("the budget is spent ("), "{stopped}");
    let judged = summary.judges[0].scored;
    assert!(summary.tokens() <= most && (40..60).contains(&judged), "{judged}");
    assert_eq!((report.clean + report.false_negatives, report.unknown), (judged, 60 - judged));
    assert_eq!(report.unknown_removed, report.unknown);

    // With more, the rest is asked, and nothing twice.
    let toml = toml.replace(&most.to_string(), "1000000");
    let (summary, report) = clean(folder.path(), &toml, &CleanOptions::default());
    assert!(summary.is_complete());
    assert_eq!((server.calls(), summary.calls()), (60, 60 - judged));
    assert_eq!((report.clean, report.false_negatives, report.unknown), (30, 30, 0));
}

#[test]
fn a_run_killed_ten_times_cleans_as_an_undisturbed_one() {
    let test = "a_run_killed_ten_times_cleans_as_an_undisturbed_one";
    let slow = |request: &Request| {
        thread::sleep(Duration::from_millis(2));
        honest(request)
    };
    if let Some(folder) = std::env::var_os(CHILD) {
        let folder = Path::new(&folder);
        let toml = fs::read_to_string(folder.join("judges.toml")).unwrap();
        clean(folder, &toml, &CleanOptions::default());
        return;
    }
    let toml = |server: &Server| ["a", "b"].map(|name| judge(name, server, "concurrency = 4")).concat();
    let calm = Server::start(slow);
    let expected = tempfile::tempdir().unwrap();
    fs::write(expected.path().join("rows.jsonl"), rows(30)).unwrap();
    let (summary, report) = clean(expected.path(), &toml(&calm), &CleanOptions::default());
    assert_eq!((summary.calls(), report.false_negatives), (360, 90));

    let server = Server::start(slow);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("judges.toml"), toml(&server)).unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows(30)).unwrap();
    let spawn = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let votes = folder.path().join("votes.jsonl");
    let mut rng = ChaCha8Rng::seed_from_u64(18);
    for kill in 0..10 {
        let (start, most) = (server.requests(), rng.random_range(1..30));
        let mut child = spawn();
        while server.requests() < start + most {
            assert!(child.try_wait().unwrap().is_none(), "run {kill} ended before it was killed");
            thread::sleep(Duration::from_millis(1));
        }
        // SIGKILL on Unix.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.path().join("clean.jsonl").exists(), "an output of a run that did not end");
        server.forbid(lines(&votes).0.into_iter().map(|(key, attempt, ..)| format!("{key}-{attempt}")));
    }
    assert!(spawn().wait().unwrap().success());
    assert_eq!(server.repeated(), Vec::<String>::new(), "calls that the journal had were made again");
    for name in ["clean.jsonl", "list.jsonl"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read(folder.path()), read(expected.path()), "{name}");
    }
    let states = lines(&votes).1.into_values().fold(BTreeMap::new(), |mut counts, (state, _)| {
        *counts.entry(state).or_insert(0) += 1;
        counts
    });
    assert_eq!(states.into_values().collect::<Vec<_>>(), [360]);
}
