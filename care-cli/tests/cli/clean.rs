//! `care data clean` and `care data generate`

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::Place;

/// A chat endpoint on the loopback address that answers by the last message; its address.
fn endpoint(answer: impl Fn(&str) -> String + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let (mut reader, mut stream) = (BufReader::new(stream.try_clone().unwrap()), stream);
                loop {
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    let last = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
                    let choice = json!({"message": {"content": answer(last)}, "finish_reason": "stop"});
                    let text = json!({"choices": [choice]}).to_string();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
                    if stream.write_all((head + &text).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

const ROWS: &str = r#"{"query":"咳嗽怎么办","pos":["吃止咳药"],"neg":["多喝水","喝点蜂蜜","骨折"],"pos_scores":[0.8],"neg_scores":[0.9,0.85,0.1],"source":"x"}
{"query":"头痛怎么办","pos":["休息"],"neg":["打球"],"pos_scores":[0.8],"neg_scores":[0.3]}
"#;

#[test]
fn false_negatives_are_dropped_by_scores_and_told_of() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    let line =
        "data clean --rows rows.jsonl --absolute-margin 0 --output clean.jsonl --dropped dropped.jsonl --report r.md";
    let (code, _, log) = place.care(line);
    assert_eq!(code, 0, "{log}");
    let second = ROWS.lines().nth(1).unwrap();
    let first = r#"{"query":"咳嗽怎么办","pos":["吃止咳药"],"neg":["骨折"],"pos_scores":[0.8],"neg_scores":[0.1],"source":"x"}"#;
    assert_eq!(fs::read_to_string(place.path("clean.jsonl")).unwrap(), format!("{first}\n{second}\n"));
    let dropped = fs::read_to_string(place.path("dropped.jsonl")).unwrap();
    assert!(dropped.contains("\"text\":\"喝点蜂蜜\"") && dropped.contains("\"action\":\"dropped\""), "{dropped}");
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(place.path("clean.jsonl.manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["step"], &manifest["counts"]["removed"]), (&json!("data clean"), &json!(2)));
    assert_eq!(manifest["options"]["scorers"]["scores"]["absolute_margin"], json!(0.0));
    let report = fs::read_to_string(place.path("r.md")).unwrap();
    assert!(report.contains("| scores: absolute-margin | 2 | 2 | 0 |"), "{report}");

    // Judges decide only if they are asked to.
    for (option, value) in [("--judges", "j.toml"), ("--rule", "mean"), ("--estimate", ""), ("--pairs", "p.jsonl")] {
        let line = format!("data clean --rows rows.jsonl --absolute-margin 0 --output none.jsonl {option} {value}");
        let (code, _, log) = place.care(line.trim_end());
        assert!(code == 1 && log.contains(&format!("{option} is for judges, who decide with --by judges")), "{log}");
        assert!(!place.path("none.jsonl").exists());
    }

    // Modes by RLHN's names, rules by scorer.
    let (code, _, log) =
        place.care("data clean --rows rows.jsonl --max-score scores:0.86 --mode rlhn --output clean.jsonl");
    assert_eq!(code, 0, "{log}");
    assert!(fs::read_to_string(place.path("clean.jsonl")).unwrap().contains(r#""pos":["吃止咳药","多喝水"]"#));
}

#[test]
fn bad_rows_and_settings_are_named() {
    let place = Place::new();
    place.file("rows.jsonl", &format!("{ROWS}{{\"query\":\"q\",\"pos\":[]}}\n"));
    let line = "data clean --rows rows.jsonl --absolute-margin 0 --output clean.jsonl";
    place.fails(line, "rows.jsonl:3: `pos` is empty");
    let (code, _, log) = place.care(&format!("{line} --skip-bad"));
    assert!(code == 0 && log.contains("1 rows were left out"), "{log}");
    assert_eq!(fs::read_to_string(place.path("clean.jsonl")).unwrap().lines().count(), 2);
    place.fails(
        "data clean --rows rows.jsonl --output clean.jsonl",
        "`scorer` is `scores`, without a rule, allowed: at least one of max_score, absolute_margin and relative_margin",
    );
    place.fails(
        "data clean --rows rows.jsonl --max-score bm25:1 --output clean.jsonl",
        "a rule is for scorer `bm25`, but there is none; scorers: scores",
    );
    place.fails(
        "data clean --rows rows.jsonl --by judges --output clean.jsonl",
        "--by judges needs --judges and --journal",
    );
    place.refuses(&format!("{line} --mode drop"), "`mode` is `drop`, allowed: keep, drop-negative");
}

#[test]
fn judges_decide_about_what_scores_suspect_and_are_not_asked_twice() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    let address = endpoint(|message| {
        if message.contains("候选文档：喝点蜂蜜") {
            "不好说".into()
        } else {
            "{\"reason\": \"答了\", \"score\": 5}".into()
        }
    });
    place.file("judges.toml", &format!("[[judge]]\nname = \"a\"\nendpoint = \"{address}\"\nmodel = \"m\"\n"));
    let line = "data clean --rows rows.jsonl --by judges --scorer scores --absolute-margin 0 --judges judges.toml \
                --journal votes.jsonl --mode make-positive --output clean.jsonl --dropped dropped.jsonl";
    let (code, _, log) = place.care(&format!("{line} --estimate --pairs pairs.jsonl"));
    assert!(code == 0 && log.contains("a: 2 calls"), "{log}");
    assert_eq!(fs::read_to_string(place.path("pairs.jsonl")).unwrap().lines().count(), 2);
    assert!(!place.path("clean.jsonl").exists());
    let (code, _, log) = place.care(line);
    assert_eq!(code, 0, "{log}");
    // The unparsable one is dropped, and listed.
    let cleaned = fs::read_to_string(place.path("clean.jsonl")).unwrap();
    assert!(cleaned.contains(r#""pos":["吃止咳药","多喝水"],"neg":["骨折"]"#), "{cleaned}");
    let dropped = fs::read_to_string(place.path("dropped.jsonl")).unwrap();
    assert!(dropped.contains("judges: too few votes"), "{dropped}");
    let votes = fs::read_to_string(place.path("votes.jsonl")).unwrap();
    assert_eq!(votes.lines().count(), 1 + 3);
    let (code, _, log) = place.care(line);
    assert_eq!(code, 0, "{log}");
    assert_eq!(fs::read_to_string(place.path("votes.jsonl")).unwrap(), votes);
}

#[test]
fn an_endpoint_that_is_down_leaves_no_rows_unless_they_are_wanted() {
    let place = Place::new();
    place.file("rows.jsonl", ROWS);
    let judge = "name = \"a\"\nendpoint = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\napi_key_env = \"CARE_NO_SUCH\"";
    place.file("judges.toml", &format!("budget = {{ tokens = 5 }}\n[[judge]]\n{judge}\n"));
    let line =
        "data clean --rows rows.jsonl --by judges --judges judges.toml --journal votes.jsonl --output clean.jsonl";
    let (code, _, log) = place.care(line);
    assert!(code == 1 && (log.contains("CARE_NO_SUCH") || log.contains("budget")), "{log}");
    assert!(!place.path("clean.jsonl").exists());
}

#[test]
fn questions_are_written_and_those_that_find_their_document_are_rows() {
    let place = Place::new();
    let corpus = r#"{"_id":"d1","text":"咳嗽可以吃止咳糖浆，每日三次。"}
{"_id":"d2","text":"骨折以后要固定，并到骨科复查。"}
"#;
    place.file("corpus.jsonl", corpus);
    let address = endpoint(|message| {
        let question = match (message.contains("文档：咳嗽"), message.contains("关键词式")) {
            (true, true) => "咳嗽 止咳糖浆",
            (true, false) => "骨折以后咳嗽要固定复查吗？",
            (false, true) => "骨折 固定",
            (false, false) => "骨折了要去哪个科复查？",
        };
        json!({ "questions": [question] }).to_string()
    });
    place.file("writers.toml", &format!("[[judge]]\nname = \"a\"\nendpoint = \"{address}\"\nmodel = \"m\"\n"));
    let line = "data generate --corpus corpus.jsonl --judges writers.toml --journal answers.jsonl --output rows.jsonl";
    place.fails(line, "no system retrieves the documents of the questions: use --bm25, --model or --run");
    let (code, _, log) = place.care(&format!("{line} --bm25 --depth 1 --questions questions.jsonl"));
    assert_eq!(code, 0, "{log}");
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(place.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // Patients and clinicians ask the same, and one question finds the other document.
    assert_eq!((lines("answers.jsonl").len(), lines("questions.jsonl").len()), (6, 4));
    let rows = lines("rows.jsonl");
    let queries: Vec<&str> = rows.iter().map(|row| row["query"].as_str().unwrap()).collect();
    assert_eq!(queries, ["咳嗽 止咳糖浆", "骨折 固定", "骨折了要去哪个科复查？"]);
    assert_eq!((&rows[0]["pos_id"], &rows[0]["neg"]), (&json!(["d1"]), &json!([])));
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(place.path("rows.jsonl.manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["counts"]["left out: a duplicate"], 2);
    assert_eq!((&manifest["counts"]["dropped by retrieval"], &manifest["counts"]["rows"]), (&json!(1), &json!(3)));
}
