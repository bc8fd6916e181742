//! Reading and writing TREC, BEIR and JSON files, and the errors for malformed ones.
#![allow(clippy::unwrap_used)]

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;

use care_eval::io::{read_qrels, read_run, write_beir_qrels, write_json_run, write_trec_qrels, write_trec_run};
use care_eval::{Error, ErrorKind, Evaluator, Measure, Missing, Qrels, Run, Ties, reciprocal_rank_fusion};

/// A path for one test's file; names are distinct, since tests run in parallel.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn file(name: &str, text: &str) -> PathBuf {
    fs::write(path(name), text).unwrap();
    path(name)
}

/// The kind of an error, and its message without the folder.
fn describe<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    let folder = format!("{}/", env!("CARGO_TARGET_TMPDIR"));
    (error.kind(), error.to_string().replace(&folder, ""))
}

fn judgements() -> Qrels {
    Qrels::from_judgements([("q1", "d1", 2), ("q1", "d2", -1), ("q2", "d1", 0)]).unwrap()
}

#[test]
fn qrels_are_read_in_either_format() {
    let trec = file("qrels.txt", "\u{feff}q1 0 d1 2\r\n\r\nq1\t0  d2 -1\r\nq2 0 d1 0");
    assert_eq!(read_qrels(trec).unwrap(), judgements());
    let beir = file("qrels.tsv", "\nquery-id\tcorpus-id\tscore\nq1\td1\t2\n\nq1\td2\t-1\nq2\td1\t0\n");
    assert_eq!(read_qrels(beir).unwrap(), judgements());
    let json = file("qrels.json", r#"{"q1": {"d2": -1, "d1": 2}, "q2": {"d1": 0}}"#);
    assert_eq!(read_qrels(json).unwrap(), judgements());
}

#[test]
fn headers_name_the_columns_in_any_order_and_spelling() {
    for (name, text) in [
        ("h1", "query_id\tcorpus_id\tscore\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h2", "qid did score\nq1 d1 2\nq1 d2 -1\nq2 d1 0\n"),
        ("h3", "Query-ID\tCorpus-ID\tScore\nq1 d1 2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h4", "q1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h5", "q1 d1 2\nq1 d2 -1\nq2 d1 0\n"),
        ("h6", "relevance\tdocno\ttopic\n2\td1\tq1\n-1\td2\tq1\n0\td1\tq2\n"),
        ("h7", "score query-id corpus-id\n2 q1 d1\n-1 q1 d2\n0 q2 d1\n"),
        ("h8", "问题\t文档\t分数\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h9", "question\tpassage\trel\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h10", "qid iter docno rel\nq1 0 d1 2\nq1 0 d2 -1\nq2 0 d1 0\n"),
        ("h11", "\"query-id\"\t\"corpus-id\"\t\"score\"\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"),
        ("h12", "q1\t0\td1\t2\nq1\tQ0\td2\t-1\nq2\t0\td1\t0\n"),
    ] {
        assert_eq!(read_qrels(file(name, text)).unwrap(), judgements(), "{text}");
    }
    let spaced = Qrels::from_judgements([("what helps?", "d 1", 1), ("what helps?", "d 2", 0)]).unwrap();
    assert_eq!(read_qrels(file("h13", "what helps?\td 1\t1\nwhat helps?\td 2\t0\n")).unwrap(), spaced);
}

#[test]
fn other_columns_are_named() {
    let usual = "a line is \"query-id corpus-id score\"";
    for (name, text, message) in [
        ("c1", "\tquery-id\tcorpus-id\tscore\n0\tq1\td1\t1\n", format!("c1:1: unexpected column \"\"; {usual}: write the file without an index")),
        ("c2", "index query-id corpus-id score\n0 q1 d1 1\n", format!("c2:1: unexpected column \"index\"; {usual}: write the file without an index")),
        ("c3", "query-id\tcorpus-id\tscore\tsource\nq1\td1\t1\tx\n", format!("c3:1: unexpected column \"source\"; {usual}")),
        ("c4", "qid\tquery\tdocid\tscore\n", "c4:1: the columns [\"qid\", \"query\", \"docid\", \"score\"] are ambiguous at \"query\"".to_owned()),
        ("c5", "query-id,corpus-id,score\n", "c5:1: 1 of the columns of a judgement; a line is \"query-id corpus-id score\" or \"qid 0 docno rel\", separated by tabs or spaces".to_owned()),
        ("c6", "q1\td1\n", "c6:1: 2 of the columns of a judgement; a line is \"query-id corpus-id score\" or \"qid 0 docno rel\", separated by tabs or spaces".to_owned()),
        ("c7", "q1\td1\tyes\nq1\td2\t1\n", "c7:1: score \"yes\" is not an integer".to_owned()),
        ("c8", "score\tdoc key\tnote\n1\td1\tx\n", "c8:1: score \"note\" is not an integer".to_owned()),
    ] {
        assert_eq!(describe(read_qrels(file(name, text))), (ErrorKind::Format, message));
    }
}

#[test]
fn a_whole_grade_may_be_written_as_a_float_or_as_text() {
    for (name, text) in [
        ("g1", "query-id\tcorpus-id\tscore\nq1\td1\t2.0\nq1\td2\t-1.0\nq2\td1\t0.0\n"),
        ("g2", "q1 0 d1 2.0\nq1 0 d2 -1.\nq2 0 d1 0e0\n"),
        ("g3.json", r#"{"q1": {"d1": 2.0, "d2": -1}, "q2": {"d1": "0"}}"#),
        ("g4", "q1\td1\t2.0\nq1\td2\t-1\nq2\td1\t0\n"),
    ] {
        assert_eq!(read_qrels(file(name, text)).unwrap(), judgements(), "{text}");
    }
    for (name, text, message) in [
        ("g5", "q1\td1\t0.5\n", "g5:1: score \"0.5\" is not an integer"),
        ("g6", "q1 0 d1 1\nq1 0 d2 1e10\n", "g6:2: rel \"1e10\" is not an integer"),
        ("g7", "q1 0 d1 nan\n", "g7:1: rel \"nan\" is not an integer"),
    ] {
        assert_eq!(describe(read_qrels(file(name, text))), (ErrorKind::Format, message.to_owned()));
    }
    for (name, grade) in [("g8.json", "0.5"), ("g9.json", "4294967296"), ("g10.json", "null"), ("g11.json", "\"high\"")]
    {
        let error = read_qrels(file(name, &format!("{{\"q\": {{\"d\":\n{grade}}}}}"))).unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("an integer"), "{cause}");
        assert_eq!(error.line_number(), Some(2));
    }
}

#[test]
fn packed_files_are_read_and_utf16_is_named() {
    let packed = |name: &str, text: &str| {
        let mut out = flate2::write::GzEncoder::new(fs::File::create(path(name)).unwrap(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, text.as_bytes()).unwrap();
        out.finish().unwrap();
        path(name)
    };
    assert_eq!(read_qrels(packed("p.tsv.gz", "q1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n")).unwrap(), judgements());
    assert_eq!(
        read_qrels(packed("p.json.gz", r#"{"q1": {"d2": -1, "d1": 2}, "q2": {"d1": 0}}"#)).unwrap(),
        judgements()
    );
    let run = Run::from_scores([("q1", "d9", 0.1), ("q2", "d3", -2.5)]).unwrap();
    assert_eq!(read_run(packed("p.trec.gz", "q1 Q0 d9 1 0.1 t\nq2 Q0 d3 1 -2.5 t\n")).unwrap(), run);
    for (name, mark) in [("u1", [0xff, 0xfe]), ("u2", [0xfe, 0xff])] {
        let text: Vec<u8> = "q 0 d 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(path(name), [&mark[..], &text].concat()).unwrap();
        let problem = (ErrorKind::Format, format!("{name}:1: the text is UTF-16; convert it to UTF-8"));
        assert_eq!(describe(read_qrels(path(name))), problem);
        assert_eq!(describe(read_run(path(name))), problem);
    }
}

#[test]
fn a_query_answered_with_nothing_is_in_a_json_run() {
    let run = read_run(file("nothing.json", r#"{"q1": {"d": 1}, "q2": {}}"#)).unwrap();
    assert_eq!((run.len(), run.contains("q2"), run.contains("q3")), (2, true, false));
    assert_eq!(run.get("q2").map(Iterator::count), Some(0));
    let qrels = Qrels::from_judgements([("q1", "d", 1), ("q2", "d", 1), ("q3", "d", 1)]).unwrap();
    for (missing, mean, count) in [(Missing::Drop, 0.5, 2), (Missing::Zero, 1.0 / 3.0, 3)] {
        let measure: Measure = "ndcg@10".parse().unwrap();
        let evaluation = Evaluator::new([measure]).missing(missing).evaluate(&qrels, &run).unwrap();
        assert_eq!((evaluation.measures.get(measure), evaluation.queries), (Some(mean), count));
        assert_eq!(evaluation.missing_queries, 1);
    }
    let fused = reciprocal_rank_fusion(&[&run], 60.0, Ties::TrecEval).unwrap();
    assert!(fused.contains("q2"));
    write_json_run(path("nothing-again.json"), &run).unwrap();
    assert_eq!(read_run(path("nothing-again.json")).unwrap(), run);
    for text in [r#"{"q": {"d": 1}, "q": {"e": 1}}"#, r#"{"q": {}, "q": {}}"#] {
        let error = read_run(file("twice.json", text)).unwrap_err();
        assert!(error.source().unwrap().to_string().starts_with("duplicate query \"q\""), "{error}");
    }
    let error = read_qrels(file("twice-judged.json", r#"{"q": {"d": 1}, "q": {"e": 1}}"#)).unwrap_err();
    assert!(error.source().unwrap().to_string().starts_with("duplicate query \"q\""), "{error}");
}

#[test]
fn qrels_survive_a_round_trip() {
    write_trec_qrels(path("round.qrels"), &judgements()).unwrap();
    assert_eq!(fs::read_to_string(path("round.qrels")).unwrap(), "q1 0 d1 2\nq1 0 d2 -1\nq2 0 d1 0\n");
    assert_eq!(read_qrels(path("round.qrels")).unwrap(), judgements());

    let spaced = Qrels::from_judgements([("what helps?", "d 1", 1)]).unwrap();
    write_beir_qrels(path("round.tsv"), &spaced).unwrap();
    assert_eq!(fs::read_to_string(path("round.tsv")).unwrap(), "query-id\tcorpus-id\tscore\nwhat helps?\td 1\t1\n");
    assert_eq!(read_qrels(path("round.tsv")).unwrap(), spaced);
}

#[test]
fn runs_are_read_in_either_format_and_keep_their_order() {
    let expected = Run::from_scores([("q1", "d9", 0.1), ("q1", "d1", 0.1), ("q2", "d3", -2.5)]).unwrap();
    let trec = file("run.trec", "\u{feff}q1 Q0 d9 7 0.1 tag\r\nq1 Q0 d1 1 1e-1 tag\r\n\r\nq2 Q0 d3 1 -2.5 tag\r\n");
    assert_eq!(read_run(trec).unwrap(), expected);
    let json = file("run.json", r#"{"q1": {"d9": 0.1, "d1": 0.1}, "q2": {"d3": -2.5}}"#);
    assert_eq!(read_run(json).unwrap(), expected);
    assert_eq!(expected.get("q1").unwrap().collect::<Vec<_>>(), [("d9", 0.1), ("d1", 0.1)]);
    assert!(expected.get("q3").is_none());
}

#[test]
fn runs_survive_a_round_trip() {
    let run = Run::from_scores([("q1", "d2", 0.1), ("q1", "d3", 1.0 / 3.0), ("q1", "d1", 0.1)]).unwrap();
    write_trec_run(path("round.trec"), &run, "care").unwrap();
    assert_eq!(
        fs::read_to_string(path("round.trec")).unwrap(),
        "q1 Q0 d3 1 0.33333334 care\nq1 Q0 d2 2 0.1 care\nq1 Q0 d1 3 0.1 care\n"
    );
    let read = read_run(path("round.trec")).unwrap();
    assert_eq!(read.get("q1").unwrap().collect::<Vec<_>>(), [("d3", 1.0 / 3.0), ("d2", 0.1), ("d1", 0.1)]);
}

#[test]
fn a_run_written_as_json_reads_back() {
    let run = Run::from_scores([("q 1", "d2", 0.1), ("q 1", "d3", 1.0 / 3.0), ("q2", "d1", -0.0)]).unwrap();
    write_json_run(path("round.json"), &run).unwrap();
    assert_eq!(
        fs::read_to_string(path("round.json")).unwrap(),
        r#"{"q 1":{"d2":0.1,"d3":0.33333334},"q2":{"d1":-0.0}}"#
    );
    assert_eq!(read_run(path("round.json")).unwrap(), run);
    let run = Run::from_scores([("q", "d", f32::INFINITY)]).unwrap();
    let message = "the score inf of document \"d\" for query \"q\" cannot be represented in JSON".to_owned();
    assert_eq!(describe(write_json_run(path("infinite.json"), &run)), (ErrorKind::Format, message));
}

/// A file of several blocks and many pieces, whose borders split queries.
#[test]
fn a_large_run_reads_as_it_does_line_by_line_and_errors_keep_their_line() {
    let line = |n: usize| format!("query-{:04} Q0 document-{:06} {n} {} run", n / 1000, n * 7919 % 1_000_003, n % 97);
    let count = 500_000;
    let mut text: String = (0..count).map(|n| line(n) + if n % 1000 == 7 { "\n\r\n" } else { "\n" }).collect();
    assert!(text.len() > 20 << 20);
    let large = read_run(file("large.trec", &text)).unwrap();
    let mut expected = Run::new();
    for n in 0..count {
        let columns: Vec<_> = line(n).split(' ').map(str::to_owned).collect();
        expected.insert(&columns[0], &columns[2], columns[4].parse().unwrap()).unwrap();
    }
    assert_eq!(large, expected);

    // 500 blank lines are among the others.
    for (appended, kind, message) in [
        (line(3), ErrorKind::Duplicate, "document \"document-023757\" is retrieved twice for query \"query-0000\""),
        ("query-0000 Q0 new 1 x run".to_owned(), ErrorKind::Format, "score \"x\" is not a number"),
    ] {
        let start = text.len();
        text.push_str(&appended);
        let expected = (kind, format!("large.trec:500501: {message}"));
        assert_eq!(describe(read_run(file("large.trec", &text))), expected);
        text.truncate(start);
    }
    fs::remove_file(path("large.trec")).unwrap();
}

#[test]
fn a_missing_file_is_named_and_the_cause_kept() {
    for (name, error) in [
        ("absent.tsv", read_qrels(path("absent.tsv")).unwrap_err()),
        ("absent.trec", read_run(path("absent.trec")).unwrap_err()),
        ("absent.json", read_run(path("absent.json")).unwrap_err()),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), format!("cannot open {}", path(name).display()));
        let cause = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
    }
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 4706\n";
    let problem = "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`";
    for name in ["pointer.tsv", "pointer.json"] {
        let expected = (ErrorKind::Format, format!("{name}:1: {problem}"));
        assert_eq!(describe(read_qrels(file(name, pointer))), expected);
        assert_eq!(describe(read_run(file(name, pointer))), expected);
    }
}

#[test]
fn text_that_is_not_utf8_is_located() {
    fs::write(path("latin1"), b"q1 0 d1 1\nq\xe9 0 d1 1\n").unwrap();
    let message = "latin1:2: cannot read the line".to_owned();
    assert_eq!(describe(read_qrels(path("latin1"))), (ErrorKind::Io, message));
}

#[test]
fn malformed_qrels_are_located() {
    use ErrorKind::{Duplicate, Format};
    for (name, text, kind, message) in [
        ("e1", "q1 0 d1 1\n\nq1 0 d2\n", Format, "e1:3: column \"rel\" is missing; a line is \"qid 0 docno rel\""),
        ("e2", "q1 0 d1 1 x\n", Format, "e2:1: unexpected column \"x\"; a line is \"qid 0 docno rel\""),
        ("e3", "q1 0 d1 1.5\n", Format, "e3:1: rel \"1.5\" is not an integer"),
        ("e4", "q1 0 d1 1\nq1 0 d1 0\n", Duplicate, "e4:2: document \"d1\" is judged twice for query \"q1\""),
        (
            "e5",
            "query-id\tcorpus-id\tscore\nq1\t\t1\n",
            Format,
            "e5:2: column \"corpus-id\" is missing; a line is \"query-id corpus-id score\"",
        ),
        ("e6", "query-id\tcorpus-id\tscore\nq1\td1\thigh\n", Format, "e6:2: score \"high\" is not an integer"),
        ("e7.json", "{\"q\": [1]}", Format, "e7.json:1: not judgements of the form {query_id: {doc_id: grade}}"),
        (
            "e8.json",
            "{\"q\": {\"d\": 1,\n\"d\": 2}}",
            Format,
            "e8.json:2: not judgements of the form {query_id: {doc_id: grade}}",
        ),
    ] {
        assert_eq!(describe(read_qrels(file(name, text))), (kind, message.to_owned()));
    }
}

#[test]
fn malformed_runs_are_located() {
    use ErrorKind::{Duplicate, Format, Score};
    for (name, text, kind, message) in [
        (
            "r1",
            "q Q0 d1 1 0.5 t\nq Q0 d2 2 0.4\n",
            Format,
            "r1:2: column \"tag\" is missing; a line is \"qid Q0 docno rank score tag\"",
        ),
        ("r2", "q Q0 d1 1 high t\n", Format, "r2:1: score \"high\" is not a number"),
        ("r3", "q Q0 d1 1 nan t\n", Score, "r3:1: the score of document \"d1\" for query \"q\" is NaN"),
        ("r4", "q Q0 d1 1 1 t\nq Q0 d1 2 0 t\n", Duplicate, "r4:2: document \"d1\" is retrieved twice for query \"q\""),
        (
            "r5.json",
            "{\"q\": {\n\"d\": \"high\"}}",
            Format,
            "r5.json:2: not a run of the form {query_id: {doc_id: score}}",
        ),
    ] {
        assert_eq!(describe(read_run(file(name, text))), (kind, message.to_owned()));
    }

    let error = read_run(file("r6.json", r#"{"q": {"d": 1, "d": 2}}"#)).unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert!(cause.starts_with("document \"d\" is retrieved twice for query \"q\""), "{cause}");
}

#[test]
fn errors_have_their_place_as_data() {
    let place = |error: &Error| {
        let name = error.path().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
        (name, error.line_number(), error.field().map(str::to_owned))
    };
    let expect = |name: &str, line, field: Option<&str>| (Some(name.to_owned()), line, field.map(str::to_owned));
    for (name, text, line, field) in [
        ("p1", "q1 0 d1 1\n\nq1 0 d2\n", Some(3), Some("rel")),
        ("p2", "q1 0 d1 1.5\n", Some(1), Some("rel")),
        ("p3", "q1 0 d1 1\nq1 0 d1 0\n", Some(2), None),
        ("p4.json", "{\"q\": {\"d\": 1,\n\"d\": 2}}", Some(2), None),
    ] {
        let error = read_qrels(file(name, text)).unwrap_err();
        assert_eq!(place(&error), expect(name, line, field));
    }
    let error = read_run(file("p5", "q Q0 d 1 0.5 t\nq Q0 e 1 high t\n")).unwrap_err();
    assert_eq!(place(&error), expect("p5", Some(2), Some("score")));
    let error = read_run(path("absent.trec")).unwrap_err();
    assert_eq!(place(&error), expect("absent.trec", None, None));
}

#[test]
fn ids_that_a_format_cannot_hold_are_refused() {
    let qrels = Qrels::from_judgements([("q1", "d1", 1), ("q1", "e\t2", 1)]).unwrap();
    let message = |format| format!("the id \"e\\t2\" cannot be represented in {format}");
    assert_eq!(
        describe(write_trec_qrels(path("w1"), &qrels)),
        (ErrorKind::Format, format!("w1:2: {}", message("a TREC file")))
    );
    assert_eq!(
        describe(write_beir_qrels(path("w2"), &qrels)),
        (ErrorKind::Format, format!("w2:3: {}", message("a BEIR file")))
    );
    let run = Run::from_scores([("q", "d", 1.0)]).unwrap();
    assert_eq!(
        describe(write_trec_run(path("w3"), &run, "")),
        (ErrorKind::Format, "w3:1: the id \"\" cannot be represented in a TREC file".to_owned())
    );
}
