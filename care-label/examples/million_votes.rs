//! Times the way from a journal of votes to labels by every rule and to agreement.
//!
//! ```sh
//! cargo run --release -p care-label --example million_votes -- votes.jsonl
//! python care-label/examples/million_votes.py votes.jsonl
//! ```
//!
//! If the file does not exist, it is written first: 333,334 pairs, three judges, one line per vote as in a journal. The script
//! does the same with pandas and statsmodels, as far as they go.
#![allow(clippy::print_stdout, reason = "a program")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use care_core::{Error, Result};
use care_eval::agreement::IntervalOptions;
use care_label::agree::{Checked, ExpertScore, agree};
use care_label::ballots::Ballots;
use care_label::resolve::{ResolveOptions, Rule, compare, resolve};
use care_label::{Scale, State, Vote};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PAIRS: usize = 333_334;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "votes.jsonl".into());
    let path = Path::new(&path);
    if !path.exists() {
        write(path).map_err(|e| Error::io("write", path, e))?;
    }
    let scale = Scale::new(1, 5, 4)?;
    let start = Instant::now();
    let mut builder = Ballots::builder(scale);
    builder.read(path)?;
    let ballots = builder.finish()?;
    let read = start.elapsed();
    let comparison = compare(&ballots, &ResolveOptions::default())?;
    let rules = start.elapsed() - read;
    let labels = resolve(&ballots, Rule::Unanimous, &ResolveOptions::default())?.labels;
    let decided = labels.iter().filter(|label| label.outcome.decided().is_some());
    // Experts who are right on all but every 15th pair.
    let experts: Vec<ExpertScore> = decided
        .step_by(40)
        .take(5000)
        .enumerate()
        .map(|(at, label)| {
            let positive = label.outcome.decided() == Some(at % 15 != 0);
            let (query_id, doc_id) = (label.query_id.clone(), label.doc_id.clone());
            ExpertScore { expert: "expert".into(), query_id, doc_id, score: if positive { 5 } else { 1 } }
        })
        .collect();
    let report = agree(&Checked::new(scale, &labels, &experts).with_ballots(&ballots), &IntervalOptions::default())?;
    let all = start.elapsed();
    println!("{comparison}\n{}\n", report.summary());
    for group in &report.groups {
        for figure in &group.figures {
            println!("{}: {} {figure}", group.name, figure.name);
        }
    }
    let seconds = |duration: std::time::Duration| duration.as_secs_f64();
    println!(
        "\n{} pairs: {:.2} s, of which reading {:.2} s, seven rules {:.2} s, agreement {:.2} s",
        ballots.len(),
        seconds(all),
        seconds(read),
        seconds(rules),
        seconds(all - read - rules)
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}

fn write(path: &Path) -> std::io::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut out = BufWriter::new(File::create(path)?);
    for pair in 0..PAIRS {
        let positive = rng.random::<f64>() < 0.15;
        for (judge, accuracy) in [("deepseek", 0.92), ("doubao", 0.9), ("gpt", 0.87)] {
            let right = rng.random::<f64>() < accuracy;
            let score = if right == positive { rng.random_range(4..=5) } else { rng.random_range(1..=3) };
            let failed = rng.random::<f64>() < 0.01;
            let vote = Vote {
                key: format!("{:064x}", rng.random::<u128>()),
                judge: judge.into(),
                model: format!("{judge}-chat"),
                prompt: "5d41402abc4b2a76b9719d911017c592ae2c4a1d6d0c0ee1f5ffa5d8ee7ad0a1".into(),
                query_id: format!("q{}", pair / 30),
                doc_id: format!("d{pair}"),
                sample: 0,
                attempt: 1,
                state: if failed { State::Refused } else { State::Scored },
                score: (!failed).then_some(score),
                reason: Some("文档谈的是同一疾病，但没有回答问题所问的方面。".into()),
                answer: Some(format!(
                    r#"{{"reason":"文档谈的是同一疾病，但没有回答问题所问的方面。","score":{score}}}"#
                )),
                error: None,
                input_tokens: Some(812),
                output_tokens: Some(41),
                cost: Some(0.00195),
                time: "2026-11-29T03:00:00Z".into(),
                seconds: Some(1.25),
            };
            serde_json::to_writer(&mut out, &vote)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}
