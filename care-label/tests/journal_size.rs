//! A journal of a million votes, outside the usual runs:
//! `cargo test --release -p care-label --test journal_size -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use care_core::files::sha256_hex;
use care_label::journal::read_votes;
use care_label::{Journal, State, Vote};

const QUESTIONS: u32 = 900_000;
const VOTES: u64 = 1_000_000;

/// Votes as judges give them: the first tenth of the questions needs two calls.
fn vote(call: u32) -> Vote {
    let question = call % QUESTIONS;
    let is_again = call >= QUESTIONS;
    let state = if question < (VOTES as u32 - QUESTIONS) && !is_again { State::Unparsable } else { State::Scored };
    let reason = "文档谈的是同一疾病，但只讲病因、症状和诊断，没有回答问题所问的饮食和用药，因此不能给更高的分。";
    Vote {
        key: sha256_hex(question.to_string()),
        judge: ["deepseek", "qwen", "doubao"][question as usize % 3].into(),
        model: "a-model-2026-11".into(),
        prompt: sha256_hex("prompt"),
        query_id: format!("query-{}", question / 150),
        doc_id: format!("document-{}", question / 3),
        sample: 0,
        attempt: 1 + u32::from(is_again),
        state,
        score: (state == State::Scored).then_some(1 + (question % 5) as i32),
        reason: Some(reason.into()),
        answer: Some(format!("{{\"reason\": \"{reason}\", \"score\": {}}}", 1 + question % 5)),
        error: None,
        input_tokens: Some(812),
        output_tokens: Some(64),
        cost: Some(0.0021),
        time: "2026-11-29T03:00:00Z".into(),
        seconds: Some(1.234),
    }
}

/// Most memory that this process has had, in MB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[test]
#[ignore = "writes 750 MB"]
fn a_million_votes_are_opened_for_resume_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("votes.jsonl");
    let mut journal = Journal::open(&path).unwrap();
    for group in (0..VOTES as u32).collect::<Vec<_>>().chunks(2000) {
        journal.append(&group.iter().map(|call| vote(*call)).collect::<Vec<_>>()).unwrap();
    }
    let tally = journal.tally("qwen");
    drop(journal);
    let start = Instant::now();
    let journal = Journal::open(&path).unwrap();
    let opened = start.elapsed().as_secs_f64();
    assert_eq!(journal.tallies().map(|(_, tally)| tally.calls()).sum::<u64>(), VOTES);
    assert_eq!(journal.tally("qwen").calls(), tally.calls());
    let start = Instant::now();
    let mut scores = 0;
    read_votes(&path, &mut |_, vote| {
        scores += i64::from(vote.score.unwrap_or(0));
        Ok(())
    })
    .unwrap();
    let read = start.elapsed().as_secs_f64();
    assert_eq!(scores, 2_700_000);
    let bytes = std::fs::metadata(&path).unwrap().len();
    eprintln!(
        "{VOTES} votes, {bytes} bytes: opened in {opened:.2} s, read in {read:.2} s, peak {:?} MB",
        peak_memory()
    );
    assert!(opened <= 5.0, "{opened}");
}
