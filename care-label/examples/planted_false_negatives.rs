//! How well each rule and mode of cleaning finds planted false negatives: precision and recall, as Markdown.
//!
//! ```sh
//! python care-label/examples/planted_false_negatives.py TOYHOM ME5 OUT   # rows and scores
//! cargo run --release -p care-label --example planted_false_negatives -- OUT
//! ```
//!
//! The judges are stand-ins, not models: they know the planted texts and err at the rates below, by a hash of the texts, and
//! answer through the real path: a chat endpoint on the loopback address, the journal, and the votes.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use care_core::Result;
use care_core::lines::Lines;
use care_data::clean::{
    Agreement, CleanOptions, Inspected, Limits, Mode, Row, Scorer, Unknown, Verdict, clean_rows, for_each_inspected,
};
use care_label::ballots::Ballots;
use care_label::clean::{Judged, triage};
use care_label::judge::Judges;
use care_label::resolve::{ResolveOptions, Rule, resolve};
use care_label::run::{Options, judge_pairs};
use care_label::{Journal, Prompt};
use common::{Request, Response, Server, judge};

/// Name, sensitivity and specificity of each stand-in.
const STAND_INS: [(&str, f64, f64); 3] = [("a", 0.90, 0.95), ("b", 0.85, 0.90), ("c", 0.80, 0.97)];
/// Share of questions to which a stand-in never gives a readable answer, and which it always declines.
const UNPARSABLE: f64 = 0.02;
const REFUSED: f64 = 0.01;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder with planted.jsonl"));
    let rows = folder.join("planted.jsonl");
    let truth = Arc::new(Truth::read(&rows));
    let (total, planted) = (truth.negatives, truth.hidden.len());
    println!("{} rows with {total} negatives, {planted} of them planted, in as many rows.\n", truth.rows);
    println!("| rule | suspected | precision | recall | unknown |\n|---|--:|--:|--:|--:|");
    let rules = rules(&truth.scorers);
    for (name, options) in &rules {
        println!("| {name} | {} |", Found::of(&rows, options, &truth, &mut |_| Ok(())).cells());
    }

    println!(
        "\n| judges | asked about | pairs | calls | precision | recall | unknown |\n|---|---|--:|--:|--:|--:|--:|"
    );
    let mut asked = vec![("all negatives".to_owned(), CleanOptions::default())];
    asked.extend(rules.iter().filter(|(name, _)| TRIAGE.contains(&name.as_str())).cloned());
    let mut chosen = Vec::new();
    for (by, options) in &asked {
        for (joined, judges, rule) in
            [("one", 1, Rule::Majority), ("majority of 3", 3, Rule::Majority), ("unanimity of 3", 3, Rule::Unanimous)]
        {
            let panel = Panel::ask(&rows, options, judges, &truth);
            let judged = panel.resolve(rule);
            let found = Found::of(&rows, options, &truth, &mut |inspected| {
                judged.inspect(inspected);
                Ok(())
            });
            let (pairs, calls, unknown) = (panel.pairs, panel.calls, found.unknown);
            let (precision, recall) = (found.precision(), found.recall());
            println!("| {joined} | {by} | {pairs} | {calls} | {precision:.3} | {recall:.3} | {unknown} |");
            if joined == "majority of 3" {
                chosen.push((format!("majority of 3, {by}"), options.clone(), judged));
            }
        }
    }

    println!(
        "\n| decided by | mode | rows | planted left | other negatives lost | positives added | of them planted |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|");
    for (name, options) in rules.iter().filter(|(name, _)| TRIAGE.contains(&name.as_str())) {
        for mode in Mode::ALL {
            let after = After::of(&rows, &folder, &options.clone().with_mode(mode), &truth, &mut |_| Ok(()));
            println!("| {name} | {mode} | {} |", after.cells());
        }
    }
    for (name, options, judged) in &chosen {
        for mode in Mode::ALL {
            let after = After::of(&rows, &folder, &options.clone().with_mode(mode), &truth, &mut |inspected| {
                judged.inspect(inspected);
                Ok(())
            });
            println!("| {name} | {mode} | {} |", after.cells());
        }
    }
}

/// The rules by which judges are asked, and modes shown.
const TRIAGE: [&str; 4] = ["bm25: relative margin 0.3", "ce: above the positive", "any of all", "a majority of all"];

/// The rules of the scorers that the rows have.
fn rules(scorers: &[String]) -> Vec<(String, CleanOptions)> {
    let above = Limits::default().with_absolute_margin(0.0);
    let relative = |margin: f64| Limits::default().with_relative_margin(margin);
    let of_scorer = |name: &str| match name {
        "bm25" => vec![
            ("above the positive", above),
            ("relative margin 0.05", relative(0.05)),
            ("relative margin 0.3", relative(0.3)),
            ("relative margin -0.3", relative(-0.3)),
        ],
        "e5" => vec![
            ("above the positive", above),
            ("relative margin 0.05", relative(0.05)),
            ("absolute margin -0.02", Limits::default().with_absolute_margin(-0.02)),
        ],
        _ => vec![
            ("above the positive", above),
            ("relative margin 0.05", relative(0.05)),
            ("score above 0.5", Limits::default().with_max_score(0.5)),
            ("above the positive and 0.5", above.with_min_score(0.5)),
        ],
    };
    let mut rules = Vec::new();
    for name in scorers {
        for (rule, limits) in of_scorer(name) {
            rules.push((format!("{name}: {rule}"), CleanOptions::default().with_scorer(Scorer::new(name, limits))));
        }
    }
    if scorers.len() > 1 {
        let all = scorers
            .iter()
            .fold(CleanOptions::default(), |options, name| options.with_scorer(Scorer::new(name.as_str(), above)));
        for (name, agreement) in
            [("any of all", Agreement::Any), ("a majority of all", Agreement::Majority), ("all", Agreement::All)]
        {
            rules.push((name.to_owned(), all.clone().with_agreement(agreement)));
        }
    }
    rules
}

/// What was planted.
struct Truth {
    /// Query and text.
    hidden: HashSet<(String, String)>,
    rows: usize,
    negatives: usize,
    /// Those of which the rows have scores.
    scorers: Vec<String>,
}

fn read(path: &Path, each: &mut dyn FnMut(Row)) {
    let mut lines = Lines::open(path).unwrap();
    while let Some((_, line)) = lines.next_line().unwrap() {
        each(Row::parse(line).unwrap());
    }
}

impl Truth {
    fn read(path: &Path) -> Self {
        let mut truth = Self { hidden: HashSet::new(), rows: 0, negatives: 0, scorers: Vec::new() };
        read(path, &mut |row| {
            let marks: Vec<u8> = serde_json::from_str(row.field("neg_hidden").unwrap().get()).unwrap();
            let has = |name: &&str| row.field(&format!("neg_{name}")).is_some();
            truth.scorers = ["bm25", "e5", "ce"].into_iter().filter(has).map(str::to_owned).collect();
            truth.rows += 1;
            truth.negatives += marks.len();
            let marked = row.negatives().iter().zip(marks).filter(|(_, mark)| *mark == 1);
            truth.hidden.extend(marked.map(|(item, _)| (row.query().to_owned(), item.text().to_owned())));
        });
        truth
    }

    fn contains(&self, query: &str, text: &str) -> bool {
        self.hidden.contains(&(query.to_owned(), text.to_owned()))
    }
}

/// What verdicts found.
#[derive(Default)]
struct Found {
    right: u64,
    wrong: u64,
    unknown: u64,
    planted: u64,
}

impl Found {
    fn of(
        rows: &Path,
        options: &CleanOptions,
        truth: &Truth,
        inspect: &mut dyn FnMut(&mut Inspected<'_>) -> Result<()>,
    ) -> Self {
        let mut found = Self { planted: truth.hidden.len() as u64, ..Self::default() };
        for_each_inspected(rows, options, &mut |inspected| {
            let mut inspected = inspected?;
            inspect(&mut inspected)?;
            for (item, finding) in inspected.row.negatives().iter().zip(&inspected.findings) {
                let is_planted = truth.contains(inspected.row.query(), item.text());
                match finding.verdict {
                    Verdict::FalseNegative if is_planted => found.right += 1,
                    Verdict::FalseNegative => found.wrong += 1,
                    Verdict::Unknown => found.unknown += 1,
                    Verdict::Clean => {}
                }
            }
            Ok(())
        })
        .unwrap();
        found
    }

    fn precision(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong).max(1) as f64
    }

    fn recall(&self) -> f64 {
        self.right as f64 / self.planted as f64
    }

    fn cells(&self) -> String {
        let suspected = self.right + self.wrong;
        format!("{suspected} | {:.3} | {:.3} | {}", self.precision(), self.recall(), self.unknown)
    }
}

/// The votes of stand-ins.
struct Panel {
    pairs: usize,
    calls: u64,
    ballots: Option<Ballots>,
}

impl Panel {
    fn ask(rows: &Path, options: &CleanOptions, judges: usize, truth: &Arc<Truth>) -> Self {
        let prompt = Prompt::open("false-negative").unwrap();
        let pairs = triage(rows, options, &mut Err).unwrap().pairs;
        let knows = Arc::clone(truth);
        let server = Server::start(move |request| Some(answer(request, &knows)));
        let fields = "concurrency = 8";
        let toml: String = STAND_INS[..judges].iter().map(|(name, ..)| judge(name, &server, fields)).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path().join("votes.jsonl")).unwrap();
        let judges = Judges::from_toml(&toml).unwrap();
        let summary = judge_pairs(&pairs, &judges, &prompt, &mut journal, &Options::default(), &mut |_| {}).unwrap();
        assert!(summary.is_complete(), "{summary:?}");
        let mut builder = Ballots::builder(prompt.scale).pairs(&pairs);
        builder.read(journal.path()).unwrap();
        Self { pairs: pairs.len(), calls: summary.calls(), ballots: Some(builder.finish().unwrap()) }
    }

    fn resolve(&self, rule: Rule) -> Judged {
        let resolution = resolve(self.ballots.as_ref().unwrap(), rule, &ResolveOptions::default()).unwrap();
        Judged::new(&resolution.labels).unwrap()
    }
}

/// The answer of a stand-in.
fn answer(request: &Request, truth: &Truth) -> Response {
    let last = request.body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let between = |from: &str, to: &str| last.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
    let (query, text) = (between("问题：", "\n\n已知的正确文档："), between("候选文档：", "\n\n请先用"));
    let name = request.body["model"].as_str().unwrap().trim_start_matches("model-");
    let (_, sensitivity, specificity) = STAND_INS.into_iter().find(|(known, ..)| *known == name).unwrap();
    // Uniform in 0 to 1, by judge and texts.
    let draw = |what: &str| {
        let mut hasher = DefaultHasher::new();
        (name, what, &query, &text).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    };
    let fault = draw("fault");
    if fault < UNPARSABLE {
        return Response::content("无法判断");
    }
    if fault < UNPARSABLE + REFUSED {
        return Response::message(serde_json::json!({"content": null}), "content_filter");
    }
    let is_planted = truth.contains(&query, &text);
    let is_right = draw("error") < if is_planted { sensitivity } else { specificity };
    Response::score(if is_planted == is_right { 4 } else { 2 })
}

/// The rows after a cleaning.
#[derive(Default)]
struct After {
    rows: u64,
    planted: u64,
    others: u64,
    added: u64,
    added_planted: u64,
    negatives: u64,
}

impl After {
    fn of(
        rows: &Path,
        folder: &Path,
        options: &CleanOptions,
        truth: &Truth,
        inspect: &mut dyn FnMut(&mut Inspected<'_>) -> Result<()>,
    ) -> Self {
        let output = folder.join("cleaned.jsonl");
        let options = options.clone().with_unknown(Unknown::DropNegative);
        clean_rows(rows, &output, None, &options, inspect, &mut Err).unwrap();
        let mut after = Self { negatives: (truth.negatives - truth.hidden.len()) as u64, ..Self::default() };
        read(&output, &mut |row| {
            after.rows += 1;
            for item in row.negatives() {
                *if truth.contains(row.query(), item.text()) { &mut after.planted } else { &mut after.others } += 1;
            }
            for item in &row.positives()[1..] {
                after.added += 1;
                after.added_planted += u64::from(truth.contains(row.query(), item.text()));
            }
        });
        after
    }

    fn cells(&self) -> String {
        let lost = self.negatives - self.others;
        format!("{} | {} | {lost} | {} | {}", self.rows, self.planted, self.added, self.added_planted)
    }
}
