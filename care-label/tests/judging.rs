//! Judging against a real endpoint on the loopback address: faults, limits and budgets.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use care_label::journal::read_votes;
use care_label::judge::Judges;
use care_label::run::{Options, Stop, Summary, judge_pairs};
use care_label::{Journal, Pair, State};
use common::{Response, Server, judge, lines, options, pairs, prompt};
use serde_json::json;

struct Bench {
    folder: tempfile::TempDir,
    judges: Judges,
    pairs: Vec<Pair>,
}

impl Bench {
    fn new(judges: &str, pairs: Vec<Pair>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), judges: Judges::from_toml(judges).unwrap(), pairs }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("votes.jsonl")
    }

    fn run(&self) -> Summary {
        self.run_with(&options()).unwrap()
    }

    fn run_with(&self, options: &Options) -> care_core::Result<Summary> {
        let mut journal = Journal::open(self.path()).unwrap();
        judge_pairs(&self.pairs, &self.judges, &prompt(), &mut journal, options, &mut |_| {})
    }
}

#[test]
fn a_judge_with_a_wrong_key_stops_and_the_others_go_on() {
    let good = Server::start(|request| Some(Response::score(request.score())));
    // It repeats the key, as some do.
    let bad = Server::start(|request| {
        Some(Response::error(401, &format!("wrong key: {}", request.headers["authorization"])))
    });
    // A variable that is always set; its value is the secret.
    let secret = std::env::var("PATH").unwrap();
    let toml = judge("good", &good, "") + &judge("bad", &bad, "api_key_env = 'PATH'\nconcurrency = 1");
    let bench = Bench::new(&toml, pairs(5, 4));
    let summary = bench.run();
    assert_eq!((summary.judges[0].scored, summary.judges[1].open(), bad.requests()), (20, 20, 1));
    let why = summary.judges[1].stopped.clone().unwrap();
    let expected = "HTTP 401: wrong key: Bearer [key]; check the key in the variable that `api_key_env` names";
    assert_eq!(why, expected);
    assert!(!summary.is_complete() && summary.stopped.is_none());
    assert!(!std::fs::read_to_string(bench.path()).unwrap().contains(&secret));

    let absent = judge("good", &good, "") + &judge("bad", &bad, "api_key_env = 'CARE_NO_SUCH_VARIABLE'");
    let error = Bench::new(&absent, pairs(1, 1)).run_with(&options()).unwrap_err().to_string();
    assert!(error.contains("judge `bad`") && error.contains("CARE_NO_SUCH_VARIABLE"), "{error}");
    assert_eq!(good.requests(), 20);
}

#[test]
fn errors_of_one_text_are_its_own_and_errors_of_all_stop_the_judge() {
    let of_all = |status: u16, message: &'static str| {
        let server = Server::start(move |_| Some(Response::error(status, message)));
        let summary = Bench::new(&judge("a", &server, "concurrency = 1"), pairs(4, 1)).run();
        assert_eq!((summary.judges[0].failed, summary.judges[0].open(), server.requests()), (0, 4, 1));
        summary.judges[0].stopped.clone().unwrap()
    };
    assert_eq!(of_all(402, "Insufficient Balance"), "HTTP 402: Insufficient Balance; the account has no funds left");
    assert_eq!(of_all(404, "no such model"), "HTTP 404: no such model; check `endpoint` and `model`");
    assert!(
        of_all(400, "json_schema is unknown")
            .ends_with("choose another `structured`: json_schema, json_object or none")
    );

    let server = Server::start(|request| {
        let text = request.body["messages"].to_string();
        Some(match () {
            () if text.contains("问题3：") => Response::error(400, "odd text"),
            () if text.contains("问题0：") => Response::error(400, "maximum context length is 4096"),
            () => Response::score(4),
        })
    });
    let summary = Bench::new(&judge("a", &server, "concurrency = 1"), pairs(6, 1)).run();
    assert_eq!((summary.judges[0].scored, summary.judges[0].failed, server.requests()), (4, 2, 6));
    assert_eq!(summary.judges[0].stopped, None);

    let elsewhere = Server::start(|_| Some(Response::score(5)));
    let target = elsewhere.address.clone();
    let moved = Server::start(move |_| {
        Some(Response { headers: vec![("Location", target.clone())], ..Response::new(307, "") })
    });
    let summary = Bench::new(&judge("a", &moved, "concurrency = 1"), pairs(2, 1)).run();
    assert_eq!(elsewhere.requests(), 0);
    assert!(summary.judges[0].stopped.clone().unwrap().starts_with("redirected to `http://127.0.0.1:"));
}

#[test]
fn an_endpoint_that_is_down_stops_its_judge_and_nothing_is_lost() {
    let is_down = Arc::new(AtomicBool::new(true));
    let flag = is_down.clone();
    let server = Server::start(move |request| match flag.load(Ordering::SeqCst) {
        true => Some(Response::error(503, "down")),
        false => Some(Response::score(request.score())),
    });
    let bench = Bench::new(&judge("a", &server, "concurrency = 2"), pairs(10, 2));
    let summary = bench.run();
    let why = summary.judges[0].stopped.clone().unwrap();
    assert_eq!(why, "no answer to 3 questions in a row: HTTP 503: down (after 3 tries)");
    assert!((3..=4).contains(&summary.judges[0].failed) && server.requests() <= 12, "{summary:?}");
    is_down.store(false, Ordering::SeqCst);
    let summary = bench.run();
    assert_eq!((summary.judges[0].scored, summary.is_complete()), (20, true));
    assert_eq!(summary.judges[0].calls, 20);

    // Nobody listens.
    let closed = "[[judge]]\nname = 'x'\nendpoint = 'http://127.0.0.1:1'\nmodel = 'm'\nconcurrency = 1";
    let summary = Bench::new(closed, pairs(5, 1)).run();
    assert!(summary.judges[0].stopped.clone().unwrap().starts_with("no answer to 3 questions in a row: "));
    // Too slow.
    let slow = Server::start(|_| Some(Response { wait: Duration::from_secs(5), ..Response::score(1) }));
    let summary = Bench::new(&judge("s", &slow, "timeout = 0.05"), pairs(3, 1)).run();
    assert!(summary.judges[0].stopped.clone().unwrap().contains("timed out; raise `timeout`"));
}

#[test]
fn a_storm_of_rate_limits_lowers_the_concurrency_and_loses_nothing() {
    let busy = Arc::new(AtomicU64::new(0));
    let server = Server::start(move |request| {
        let now = busy.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(8));
        busy.fetch_sub(1, Ordering::SeqCst);
        match now < 4 {
            true => Some(Response::score(request.score())),
            false => Some(Response { headers: vec![("Retry-After", "0.01".into())], ..Response::error(429, "storm") }),
        }
    });
    let bench = Bench::new(&judge("a", &server, "concurrency = 24"), pairs(20, 10));
    let summary = bench.run();
    let judge = &summary.judges[0];
    assert_eq!((judge.scored, judge.failed, judge.stopped.clone()), (200, 0, None));
    assert!(judge.retries > 0 && judge.concurrency < 24, "{judge:?}");
    assert_eq!(server.calls(), 200);
}

#[test]
fn everybody_waits_as_long_as_the_endpoint_asks() {
    let first = Arc::new(AtomicBool::new(true));
    let server = Server::start(move |_| match first.swap(false, Ordering::SeqCst) {
        true => Some(Response { headers: vec![("Retry-After", "0.5".into())], ..Response::error(429, "wait") }),
        false => Some(Response::score(2)),
    });
    let bench = Bench::new(&judge("a", &server, "concurrency = 1"), pairs(2, 1));
    let start = Instant::now();
    let summary = bench.run();
    assert!(start.elapsed() >= Duration::from_millis(500) && summary.is_complete());
    assert_eq!((summary.judges[0].retries, server.requests()), (1, 3));
}

#[test]
fn a_judge_that_never_gives_a_score_is_stopped() {
    let server = Server::start(|_| Some(Response::message(json!({"content": "", "reasoning": "嗯"}), "length")));
    let bench = Bench::new(&judge("a", &server, "concurrency = 2"), pairs(100, 3));
    let summary = bench.run();
    let why = summary.judges[0].stopped.clone().unwrap();
    let expected =
        "100 of the last 100 calls brought no score; the last problem: reasoning without an answer; raise `max_tokens`";
    assert_eq!(why, expected);
    assert!((100..=102).contains(&server.requests()), "{}", server.requests());
    // Three attempts each; none is a vote.
    let (lines, last) = lines(&bench.path());
    assert!(last.values().all(|(state, score)| (*state, *score) == (State::Unparsable, None)));
    assert_eq!(lines.len() as u64, server.requests());
    assert!(summary.judges[0].unparsable >= 32);
}

#[test]
fn a_budget_below_the_estimate_is_refused_and_one_that_runs_out_stops_the_run() {
    let server = Server::start(|request| Some(Response::score(request.score())));
    let with = |budget: &str| {
        format!("budget = {{ {budget} }}\n")
            + &judge("a", &server, "concurrency = 3\nmax_tokens = 64\ninput_price = 1.0\noutput_price = 10.0")
    };
    let mut bench = Bench::new(&with("tokens = 1000"), pairs(10, 2));
    let error = bench.run_with(&options()).unwrap_err();
    assert_eq!((error.field(), server.requests()), (Some("budget.tokens"), 0));
    assert!(error.to_string().contains("tokens for 20 calls, guessed from characters"), "{error}");
    bench.judges = Judges::from_toml(&with("cost = 0.001, currency = 'CNY'")).unwrap();
    let error = bench.run_with(&options()).unwrap_err().to_string();
    assert!(
        error.starts_with("`budget.cost` is 0.001, allowed: at least 0.0") && error.contains(" CNY: 0.0000 spent"),
        "{error}"
    );
    assert_eq!(server.requests(), 0);

    // The estimate is right for what this endpoint said before, and it takes more now.
    let dear = Server::start(|_| {
        let usage = json!({"prompt_tokens": 3000, "completion_tokens": 60});
        let body = json!({"choices": [{"message": {"content": "{\"score\": 3}"}}], "usage": usage});
        Some(Response::new(200, body.to_string()))
    });
    let with = |tokens: u64| {
        format!("budget = {{ tokens = {tokens} }}\n") + &judge("a", &dear, "concurrency = 3\nmax_tokens = 64")
    };
    bench.judges = Judges::from_toml(&with(30_000)).unwrap();
    let summary = bench.run();
    let spent = summary.tokens();
    // Until the estimate is corrected, three calls in flight may exceed what is reserved for them.
    assert!((20_000..=36_000).contains(&spent), "{spent}");
    assert!(
        matches!(&summary.stopped, Some(Stop::Budget(why)) if why.starts_with("the budget is spent (") && why.contains(" of 30000 tokens")),
        "{:?}",
        summary.stopped
    );
    let before = dear.requests();
    assert!(bench.run_with(&options()).unwrap_err().to_string().contains(&format!("{spent} spent")));
    assert_eq!(dear.requests(), before);
    bench.judges = Judges::from_toml(&with(100_000)).unwrap();
    let summary = bench.run();
    assert_eq!((summary.judges[0].scored, summary.is_complete(), dear.requests()), (20, true, 20));
}

#[test]
fn a_run_that_is_interrupted_finishes_its_calls_and_resumes() {
    let server =
        Server::start(|request| Some(Response { wait: Duration::from_millis(10), ..Response::score(request.score()) }));
    let bench = Bench::new(&judge("a", &server, "concurrency = 3"), pairs(20, 3));
    let stop = Arc::new(AtomicBool::new(false));
    let mut journal = Journal::open(bench.path()).unwrap();
    let mut seen = 0;
    let summary = judge_pairs(
        &bench.pairs,
        &bench.judges,
        &prompt(),
        &mut journal,
        &options().with_stop(stop.clone()),
        &mut |summary| {
            seen = summary.calls();
            stop.store(seen >= 10, Ordering::SeqCst);
        },
    )
    .unwrap();
    assert!(matches!(summary.stopped, Some(Stop::Interrupted)));
    assert_eq!((summary.calls(), seen), (server.requests(), server.requests()));
    assert!((10..60).contains(&seen), "{seen}");
    drop(journal);
    let summary = bench.run();
    assert!(summary.is_complete() && summary.stopped.is_none());
    assert_eq!((server.requests(), server.calls(), summary.judges[0].scored), (60, 60, 60));
    assert!(summary.calls_per_second() > 0.0 && server.most_in_flight() <= 3);
    assert_eq!(bench.run().calls(), 0);
    assert_eq!(server.requests(), 60);
}

#[test]
fn samples_ask_in_every_form_and_requests_have_what_they_need() {
    let server = Server::start(|request| Some(Response::score(request.score())));
    let toml = "samples = 3\n".to_owned()
        + &judge("a", &server, "structured = 'json_schema'\nheaders = { 'X-Team' = 'labels' }");
    let bench = Bench::new(&toml, pairs(2, 1));
    assert_eq!(bench.run().judges[0].scored, 6);
    let request = server.last();
    assert_eq!((request.path.as_str(), request.headers["x-team"].as_str()), ("/v1/chat/completions", "labels"));
    assert_eq!(request.body["response_format"]["type"], "json_schema");
    assert!(!request.headers.contains_key("authorization"));
    let mut bodies = HashSet::new();
    read_votes(bench.path(), &mut |_, vote| {
        assert_eq!((vote.input_tokens, vote.output_tokens, vote.cost), (Some(600), Some(30), None));
        bodies.insert((vote.query_id.clone().into_owned(), vote.sample));
        Ok(())
    })
    .unwrap();
    assert_eq!(bodies.len(), 6);
}
