//! Cleaning of files: every mode, missing scores, and bad input.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use care_data::clean::{
    Agreement, CleanOptions, Finding, Limits, Mode, Report, Scorer, Unknown, Verdict, clean_rows, for_each_inspected,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Cleans `rows.jsonl` without its bad rows; the report, and what is wrong with them.
    fn clean_usable(&self, options: &CleanOptions) -> (Report, Vec<String>) {
        let (rows, output, mut bad) = (self.path("rows.jsonl"), self.path("clean.jsonl"), Vec::new());
        let report = clean_rows(&rows, &output, None, options, &mut |_| Ok(()), &mut |error| {
            bad.push(error.to_string().replace(&self.0.path().display().to_string(), "F"));
            Ok(())
        });
        (report.unwrap(), bad)
    }

    /// Cleans `rows.jsonl`; the lines of the output and of the list.
    fn clean(&self, options: &CleanOptions) -> Result<(Report, Vec<String>, Vec<Value>), String> {
        let (output, list) = (self.path("clean.jsonl"), self.path("list.jsonl"));
        let rows = self.path("rows.jsonl");
        let report = clean_rows(&rows, &output, Some(&list), options, &mut |_| Ok(()), &mut Err);
        let report = report.map_err(|e| e.to_string().replace(&self.0.path().display().to_string(), "F"))?;
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let list = lines(&list).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        Ok((report, lines(&output), list))
    }
}

/// Clean, suspected, without a score, and the positive itself.
const ROW: &str = r#"{"query": "q", "pos": ["P"], "neg": ["a", "b", "c", " p。"], "pos_scores": [0.8], "neg_scores": [0.1, 0.9, null, 0.2], "source": "x"}"#;

fn by_margin() -> CleanOptions {
    CleanOptions::default().with_scorer(Scorer::new("scores", Limits::default().with_absolute_margin(0.0)))
}

#[test]
fn every_mode_does_what_it_says_and_unknown_is_never_clean_in_silence() {
    let place = Place::new();
    place.file("rows.jsonl", &format!("{ROW}\n"));
    let changed = |positives: &str, negatives: &str, scores: (&str, &str)| {
        let (of_positives, of_negatives) = scores;
        format!(
            r#"{{"query":"q","pos":[{positives}],"neg":[{negatives}],"pos_scores":[{of_positives}],"neg_scores":[{of_negatives}],"source":"x"}}"#
        )
    };
    let without = |unknown: &str, score: &str| changed("\"P\"", &format!("\"a\"{unknown}"), ("0.8", score));
    for (mode, unknown, expected) in [
        (Mode::Keep, Unknown::DropNegative, vec![ROW.to_owned()]),
        (Mode::DropNegative, Unknown::DropNegative, vec![without("", "0.1")]),
        (Mode::DropNegative, Unknown::Keep, vec![without(",\"c\"", "0.1,null")]),
        (Mode::DropNegative, Unknown::DropRow, vec![]),
        (Mode::MakePositive, Unknown::Keep, vec![changed("\"P\",\"b\"", "\"a\",\"c\"", ("0.8,0.9", "0.1,null"))]),
        (Mode::DropRow, Unknown::Keep, vec![]),
    ] {
        let options = by_margin().with_mode(mode).with_unknown(unknown);
        let (report, lines, list) = place.clean(&options).unwrap();
        assert_eq!(lines, expected, "{mode} {unknown}");
        assert_eq!((report.negatives, report.clean, report.false_negatives, report.unknown), (4, 1, 2, 1));
        let found: Vec<_> = list.iter().filter(|row| row["negative"].is_u64()).collect();
        assert_eq!(found.len(), 3, "{list:?}");
        assert_eq!(found[0]["reasons"], json!(["scores: absolute-margin"]));
        assert_eq!((&found[0]["scores"], &found[0]["verdict"]), (&json!({"scores": 0.9}), &json!("false-negative")));
        assert_eq!((&found[1]["reasons"], &found[1]["verdict"]), (&json!(["scores: no score"]), &json!("unknown")));
        assert_eq!(found[2]["reasons"], json!(["is a positive"]));
    }
    let refused = place.clean(&by_margin().with_unknown(Unknown::Error)).expect_err("unknown");
    assert_eq!(
        refused,
        "F/rows.jsonl:1: `neg[2]` is unknown (scores: no score); set what is done about such negatives"
    );
    // An error leaves the outputs of the last run.
    assert_eq!(fs::read_to_string(place.path("clean.jsonl")).unwrap(), "");
}

#[test]
fn rows_with_too_many_false_negatives_or_too_few_negatives_are_dropped() {
    let place = Place::new();
    let row = |scores: &str| {
        format!(r#"{{"query":"q","pos":["p"],"neg":["a","b","c"],"pos_scores":[5],"neg_scores":{scores}}}"#)
    };
    let rows = [row("[1,2,3]"), row("[9,2,3]"), row("[9,9,3]"), row("[9,9,9]")];
    place.file("rows.jsonl", &rows.join("\n"));
    let (report, lines, _) = place.clean(&by_margin()).unwrap();
    assert_eq!((report.written, report.changed, report.without_negatives), (4, 3, 1));
    assert_eq!(lines[0], rows[0]);
    let (report, lines, list) = place.clean(&by_margin().with_max_false_negatives(1).with_min_negatives(3)).unwrap();
    assert_eq!((report.dropped_too_many, report.dropped_short, report.dropped()), (2, 1, 3));
    assert_eq!(lines, rows[..1]);
    let dropped: Vec<_> = list.iter().filter(|row| row["negative"].is_null()).collect();
    assert_eq!(dropped.iter().map(|row| row["line"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(dropped[0]["reasons"], json!(["too few negatives"]));
    assert_eq!(dropped[1]["reasons"], json!(["too many false negatives"]));
    assert!(list.iter().all(|row| row["action"] == "row dropped"));
    let text = report.to_string();
    assert!(text.contains("| dropped for too many false negatives | 2 |"), "{text}");
    assert!(text.contains("| scores: absolute-margin | 6 | 6 | 0 |"), "{text}");
}

#[test]
fn several_scorers_agree_in_lists_of_the_rows_and_in_files() {
    let place = Place::new();
    place.file(
        "rows.jsonl",
        "{\"query\":\"q\",\"pos\":[\"p\"],\"neg\":[\"a\",\"b\",\"c\"],\"pos_bm25\":[7],\"neg_bm25\":[9,9,1]}\n\n",
    );
    let scores = |scores: &str| {
        format!(r#"{{"query":"q","pos":["p"],"neg":["a","b","c"],"pos_scores":[0.5],"neg_scores":{scores}}}"#)
    };
    let file = place.file("rerank.jsonl", &scores("[0.9,0.1,null]"));
    let scorer = |name: &str| Scorer::new(name, Limits::default().with_relative_margin(0.05));
    let options = CleanOptions::default().with_scorer(scorer("bm25")).with_scorer(scorer("rerank").with_file(&file));
    let verdicts = |options: &CleanOptions| {
        let mut verdicts = Vec::new();
        let read = for_each_inspected(place.path("rows.jsonl"), options, &mut |reading| {
            verdicts.extend(reading?.findings);
            Ok(())
        });
        read.map(|()| verdicts).map_err(|e| e.to_string().replace(&place.0.path().display().to_string(), "F"))
    };
    use Verdict::{Clean, FalseNegative, Unknown};
    let of = |agreement: Agreement| -> Vec<Verdict> {
        let findings = verdicts(&options.clone().with_agreement(agreement)).unwrap();
        findings.iter().map(|finding: &Finding| finding.verdict).collect()
    };
    assert_eq!(of(Agreement::Any), [FalseNegative, FalseNegative, Unknown]);
    assert_eq!(of(Agreement::All), [FalseNegative, Clean, Clean]);
    let reasons = &verdicts(&options).unwrap()[0].reasons;
    assert_eq!(reasons.join("; "), "bm25: relative-margin; rerank: relative-margin");
    assert_eq!(
        verdicts(&options.clone().with_agreement(Agreement::AtLeast(3))).expect_err("two"),
        "`agree` is 3, allowed: 1 to 2, the number of scorers"
    );
    // No scorer: nothing is known.
    let none = verdicts(&CleanOptions::default()).unwrap();
    assert!(none.iter().all(|finding| finding.verdict == Unknown && finding.reasons.join("") == "no scorer"));

    // Files that do not belong to the rows.
    let refused = |content: &str| {
        place.file("rerank.jsonl", content);
        verdicts(&options).expect_err("refused")
    };
    assert_eq!(refused(""), "F/rerank.jsonl: `rerank` has fewer lines than there are rows");
    let two = format!("{0}\n{0}", scores("[1,2,3]"));
    assert_eq!(refused(&two), "F/rerank.jsonl:2: `rerank` has more lines than there are rows");
    assert_eq!(
        refused(&scores("[1,2,3]").replace("\"q\"", "\"r\"")),
        "F/rerank.jsonl:1: the query is not that of the row at the same place"
    );
    assert_eq!(
        refused(&scores("[1,2]")),
        "F/rows.jsonl:1: rerank.jsonl:1: `neg_scores` has 2 values, but there are 3 negatives"
    );
    assert_eq!(
        refused(&scores("[1,2]").replace(",\"c\"", "")),
        "F/rows.jsonl:1: rerank.jsonl:1: 1 positives and 2 negatives, but the row has 1 and 3"
    );
}

#[test]
fn bad_rows_are_errors_with_file_and_line_or_counted_and_listed() {
    let place = Place::new();
    let bad = [
        r#"{"query":"q","pos":[]}"#,
        r#"{"query":"q","pos":["p"],"neg":["a"],"pos_scores":[1],"neg_scores":[NaN]}"#,
        r#"{"query":"q","pos":["p"],"neg":["a"],"pos_scores":[1],"neg_scores":[1,2]}"#,
        r#"{"query":"q","pos":["p"],"neg":["a"],"pos_scores":[1],"neg_scores":[1e999]}"#,
        r#"{"query":"q","pos":["p"#,
    ];
    let problems = [
        "`pos` is empty",
        "NaN is no JSON; a score is a finite number, or null if there is none",
        "`neg_scores` has 2 values, but there are 1 negatives",
        "`neg_scores[0]` is 1e999; a finite number or null belongs there",
        "EOF while parsing a string (column 22)",
    ];
    for (line, problem) in bad.iter().zip(problems) {
        place.file("rows.jsonl", &format!("{ROW}\n\n{line}\n"));
        assert_eq!(place.clean(&by_margin()).expect_err(line), format!("F/rows.jsonl:3: {problem}"));
    }
    let mut rows = format!("{ROW}\n{}\n", bad.join("\n")).into_bytes();
    rows.extend(b"\xff\xfe not UTF-8\n");
    rows.extend(ROW.as_bytes());
    fs::write(place.path("rows.jsonl"), rows).unwrap();
    let (report, found) = place.clean_usable(&by_margin());
    assert_eq!((report.rows, report.bad, report.written), (8, 6, 2));
    for (at, problem) in problems.iter().enumerate() {
        assert_eq!(found[at], format!("F/rows.jsonl:{}: {problem}", at + 2));
    }
    assert!(found[5].starts_with("F/rows.jsonl:7: not valid UTF-8 text"), "{}", found[5]);
    // A row that cannot be edited.
    place.file("rows.jsonl", r#"{"query":"q","pos":["p"],"neg":["a"],"pos_scores":[1],"pos_x":[1],"neg_scores":[2]}"#);
    let options = by_margin().with_mode(Mode::MakePositive);
    let problem = "F/rows.jsonl:1: `pos_x` has a value for each positive, but no `neg_x` has one for a new positive";
    assert_eq!(place.clean(&options).expect_err("no value"), problem);
    let (report, found) = place.clean_usable(&options);
    assert_eq!((report.bad, report.negatives, found), (1, 0, vec![problem.to_owned()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is written can be read again, and a second cleaning finds nothing more that it would drop.
    #[test]
    fn a_cleaned_file_is_clean(
        rows in prop::collection::vec((prop::collection::vec(0u8..9, 1..3), prop::collection::vec(prop::option::of(0u8..9), 0..6)), 1..8),
        drop_unknown in any::<bool>(),
    ) {
        let place = Place::new();
        let lines: Vec<String> = rows.iter().enumerate().map(|(at, (positives, negatives))| {
            let texts = |kind: &str, number: usize| (0..number).map(|text| format!("{kind}{at}.{text}x")).collect::<Vec<_>>();
            json!({
                "query": format!("q{at}"), "pos": texts("p", positives.len()), "neg": texts("n", negatives.len()),
                "pos_scores": positives, "neg_scores": negatives,
            }).to_string()
        }).collect();
        place.file("rows.jsonl", &lines.join("\n"));
        let unknown = if drop_unknown { Unknown::DropNegative } else { Unknown::Keep };
        let options = by_margin().with_unknown(unknown);
        let (report, cleaned, _) = place.clean(&options).unwrap();
        prop_assert_eq!(report.written as usize, rows.len());
        prop_assert_eq!(report.clean + report.false_negatives + report.unknown, report.negatives);
        prop_assert_eq!(report.removed, report.false_negatives);
        prop_assert_eq!(report.unknown_removed, if drop_unknown { report.unknown } else { 0 });
        place.file("rows.jsonl", &cleaned.join("\n"));
        let (again, twice, _) = place.clean(&options).unwrap();
        prop_assert_eq!(&twice, &cleaned);
        prop_assert_eq!((again.false_negatives, again.changed), (0, 0));
        prop_assert_eq!(again.unknown, if drop_unknown { 0 } else { report.unknown });
    }
}
