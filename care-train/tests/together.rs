//! Several processes execute a run as one does, are interrupted, and go on in another number.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use care_core::Result;
use care_train::{Alone, CheckedTrainConfig, Collective, Event, Outcome, Run, TcpGroup, Timeouts, TrainConfig};

/// Two stages: a cached teacher, a dev set and best weights; then LoRA with dropout, and accumulated batches.
fn config(folder: &Path, output: &str) -> CheckedTrainConfig {
    let path = folder.join(format!("{output}.toml"));
    let text = format!(
        r#"
        output = "{output}"
        seed = 3
        checkpoint_every = 2
        [evaluation]
        data = "dev"
        every = 2
        [model]
        pair = "pair"
        [[stage]]
        kind = "query-alignment"
        data = ["align.jsonl"]
        batch_size = 5
        grad_cache = 2
        learning_rate = 0.003
        epochs = 2
        [[stage]]
        kind = "joint-finetuning"
        data = ["train.jsonl"]
        batch_size = 4
        grad_cache = 2
        group_size = 3
        epochs = 2
        accumulation = 2
        document = {{ train = "lora", lora = {{ rank = 2, dropout = 0.2 }} }}
        learning_rate = 0.002
        "#
    );
    fs::write(&path, text).unwrap();
    TrainConfig::from_file(&path).unwrap().check().unwrap()
}

/// Runs the configuration with `count` processes until so many steps are reported. Returns what each has, by rank.
fn run(config: &CheckedTrainConfig, count: usize, resume: bool, stop_after: usize) -> Vec<Result<Outcome>> {
    let start = |group: Arc<dyn Collective>| {
        let (rank, mut steps) = (group.rank(), 0);
        Run::new(config).resume(resume).with_collective(group).start(&mut |event| {
            assert_eq!(rank, 0, "only the first process reports");
            steps += usize::from(matches!(event, Event::Step(_)));
            if steps >= stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    if count == 1 {
        return vec![start(Arc::new(Alone))];
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (address, start) = (&address, &start);
    thread::scope(|scope| {
        let join = |rank| {
            let join = move || TcpGroup::join(address, rank, count, Timeouts::default());
            scope.spawn(move || join().and_then(|group| start(Arc::new(group))))
        };
        let others: Vec<_> = (1..count).map(join).collect();
        let first = TcpGroup::host(&listener, count, Timeouts::default(), &mut || Ok(()));
        let first = first.and_then(|group| start(Arc::new(group)));
        [first].into_iter().chain(others.into_iter().map(|other| other.join().unwrap())).collect()
    })
}

/// The weights and settings of a saved pair.
fn pair(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(std::result::Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => {
                found.extend(pair(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)))
            }
            false if name == "README.md" => {}
            false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
    found
}

/// The lines of the log without times.
fn log(output: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(output.join("log.jsonl")).unwrap();
    let untimed = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["seconds"], line["time"]) = Default::default();
        line
    };
    text.lines().map(untimed).collect()
}

fn prepare(folder: &Path) {
    common::pair(0.1).save(folder.join("pair")).unwrap();
    let (mut align, mut train) = (String::new(), String::new());
    for example in common::examples() {
        align += &format!("{}\n", serde_json::json!({"query": example.query, "pos": [example.query], "neg": []}));
        let row = serde_json::json!({"query": example.query, "pos": example.positives, "neg": example.negatives});
        train += &format!("{row}\n");
    }
    fs::write(folder.join("align.jsonl"), align).unwrap();
    fs::write(folder.join("train.jsonl"), train).unwrap();
    common::dev_set(&folder.join("dev"));
}

#[test]
fn a_run_of_many_processes_is_that_of_one_wherever_it_is_resumed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let straight = config(folder, "straight");
    assert!(matches!(run(&straight, 1, false, usize::MAX)[..], [Ok(Outcome::Finished { .. })]));
    let (expected, lines) = (pair(&folder.join("straight/model")), log(&folder.join("straight")));
    assert!(lines.len() > 9, "{}", lines.len());

    // Each run is interrupted twice, in both stages, and goes on in another number of processes.
    for counts in [[2, 2, 2], [4, 1, 4], [1, 4, 2]] {
        let name = format!("run-{counts:?}");
        let config = config(folder, &name);
        for (number, count) in counts.into_iter().enumerate() {
            let stop_after = if number < 2 { 4 } else { usize::MAX };
            let outcomes = run(&config, count, number > 0, stop_after);
            let is_last = number == 2;
            match &outcomes[0] {
                Ok(Outcome::Finished { .. }) => assert!(is_last),
                Ok(Outcome::Interrupted { checkpoint: Some(_) }) => assert!(!is_last),
                other => panic!("{other:?}"),
            }
            assert!(outcomes[1..].iter().all(|outcome| matches!(outcome, Ok(Outcome::Followed))), "{outcomes:?}");
        }
        assert!(pair(&folder.join(&name).join("model")) == expected, "{counts:?}");
        assert_eq!(log(&folder.join(&name)), lines, "{counts:?}");
    }
    // Whoever starts a finished run again is told so, and the others end.
    let outcomes = run(&straight, 2, true, usize::MAX);
    assert!(matches!(outcomes[..], [Ok(Outcome::AlreadyFinished { .. }), Ok(Outcome::Followed)]), "{outcomes:?}");
}

#[test]
fn what_fails_on_one_process_ends_all_with_its_reason() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let config = config(folder, "out");
    fs::create_dir_all(folder.join("out/model")).unwrap();
    let outcomes = run(&config, 3, false, usize::MAX);
    let messages: Vec<String> = outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string()).collect();
    assert!(messages[0].contains("already holds a run: resume it with --resume"), "{}", messages[0]);
    assert_eq!(messages[1], format!("process 0 of 3 failed: {}", messages[0]));
    assert_eq!(messages[2], messages[1]);
}
