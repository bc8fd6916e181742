//! `care train`

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::{Place, TEXTS, read_npy, tiny};

/// A configuration over the two tiny checkpoints and a few rows.
fn training(place: &Place) -> String {
    let rows: Vec<(String, String)> = "头痛 发烧 咳嗽 失眠 便秘 鼻炎"
        .split(' ')
        .map(|subject| (format!("{subject}怎么办"), format!("{subject}多休息")))
        .collect();
    let lines =
        |row: &dyn Fn(&(String, String)) -> Value| rows.iter().map(|r| format!("{}\n", row(r))).collect::<String>();
    place.file("align.jsonl", &lines(&|(query, _)| json!({"query": query, "pos": [query], "neg": []})));
    place.file("train.jsonl", &lines(&|(query, text)| json!({"query": query, "pos": [text], "neg": ["别的病"]})));
    format!(
        "output = \"out\"\n\
         [model.query]\nencoder = {:?}\noptions = {{ max_length = 24 }}\n\
         [model.document]\nencoder = {:?}\noptions = {{ max_length = 48 }}\n\
         [[stage]]\nkind = \"query-alignment\"\ndata = [\"align.jsonl\"]\nbatch_size = 3\n\
         [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 3\ngroup_size = 2\n",
        tiny("bert"),
        tiny("qwen3")
    )
}

#[test]
fn train_runs_both_stages_and_its_pair_embeds() {
    let place = Place::new();
    let config = training(&place);
    place.file("train.toml", &config);
    let (status, stdout, stderr) = place.care("train --config train.toml");
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("the trained pair is in out/model"), "{stderr}");
    // Without a terminal the first and the last step of a stage have a line.
    for (stage, step) in [("1 query-alignment", 1), ("1 query-alignment", 2), ("2 joint-finetuning", 2)] {
        assert!(stderr.contains(&format!("stage {stage}: step {step}/2 loss ")), "{stderr}");
    }
    let line = |start: &str| stderr.lines().find(|line| line.starts_with(start)).unwrap();
    let words: Vec<&str> = line("stage 1 query-alignment: step 1/2").split(' ').collect();
    assert_eq!([words[5], words[7], words[9], words[12], words[14]], ["loss", "lr", "grad_norm", "tokens/s", "left"]);
    assert!(words[13].starts_with("00:"), "{words:?}");
    assert!(line("stage 1 query-alignment: step 2/2").ends_with(" tokens/s"), "nothing is left");
    assert!(stderr.contains("stage 1 teacher: 6/6 vectors\n"), "{stderr}");
    let log = fs::read_to_string(place.path("out/log.jsonl")).unwrap();
    let steps: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len(), 4);
    assert!(steps.iter().all(|step| step["loss"].as_f64().unwrap().is_finite()));
    assert_eq!(steps[3]["kind"], "joint-finetuning");
    assert!(fs::read_to_string(place.path("out/curves.svg")).unwrap().contains("stage 2 (joint-finetuning): loss"));
    assert!(fs::read_to_string(place.path("out/model/README.md")).unwrap().contains("### Stage 1: query-alignment"));

    place.file("texts.txt", TEXTS);
    for role in ["query", "document"] {
        let (status, _, stderr) =
            place.care(&format!("embed --model out/model --role {role} --input texts.txt --output {role}.npy"));
        assert_eq!(status, 0, "{stderr}");
        assert!(stderr.ends_with(&format!("3 {role} vectors of 64 dimensions\n")), "{stderr}");
    }
    assert_ne!(read_npy(&place.path("query.npy")), read_npy(&place.path("document.npy")));
    place.fails(
        "train --config train.toml",
        "out already holds a run: resume it with --resume, or choose another output",
    );
    let saved = |path: &str| fs::metadata(place.path(path)).unwrap().modified().unwrap();
    let before = saved("out/model/care.json");
    let (status, _, stderr) = place.care("train --config train.toml --resume");
    assert_eq!((status, stderr.as_str()), (0, "the run is finished: its pair is in out/model\n"));
    assert_eq!(saved("out/model/care.json"), before, "nothing was written");

    // A checkpoint becomes a pair without training: the last one is the trained pair.
    let (status, _, stderr) = place.care("train --config train.toml --export last");
    assert_eq!((status, stderr.as_str()), (0, "the pair is in last\n"));
    let (status, _, stderr) =
        place.care("train --config train.toml --export first --checkpoint out/checkpoints/stage-0001-step-00000002");
    assert_eq!(status, 0, "{stderr}");
    let weights =
        |pair: &str, role: &str| fs::read(place.path(&format!("{pair}/{role}_0_Transformer/model.safetensors")));
    for role in ["query", "document"] {
        let trained = weights("out/model", role).unwrap();
        assert!(weights("last", role).unwrap() == trained);
        assert!(weights("first", role).unwrap() != trained, "the second stage trained both");
    }
    let manifest = fs::read_to_string(place.path("first/care.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["provenance"]["checkpoint"], json!({"stage": 1, "step": 2}));
    place.refuses("train --config train.toml --checkpoint out", "--export");

    // Without checkpoints the trained pair is still a run, and stays.
    fs::remove_dir_all(place.path("out/checkpoints")).unwrap();
    for log in [true, false] {
        if !log {
            fs::remove_file(place.path("out/log.jsonl")).unwrap();
        }
        place.fails(
            "train --config train.toml",
            "out already holds a run: resume it with --resume, or choose another output",
        );
        place.fails(
            "train --config train.toml --resume",
            "out holds a finished run without checkpoints, which cannot be resumed: choose another output",
        );
    }
    assert_eq!(saved("out/model/care.json"), before);
    place.fails("train --config train.toml --export more", "out holds no checkpoint");
}

#[test]
fn paths_are_shown_without_the_detour_by_the_folder_of_the_configuration() {
    let place = Place::new();
    let mut config = training(&place);
    for name in ["out", "align.jsonl", "train.jsonl"] {
        config = config.replace(&format!("\"{name}\""), &format!("\"../{name}\""));
    }
    place.file("configs/train.toml", &config);
    let (status, _, stderr) = place.care("train --config configs/train.toml --set stage.1.max_steps=1");
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.ends_with("the trained pair is in out/model, its curves are in out\n"), "{stderr}");
    let (status, _, stderr) = place.care("train --config configs/train.toml --set stage.1.max_steps=1 --resume");
    assert_eq!((status, stderr.as_str()), (0, "the run is finished: its pair is in out/model\n"));
}

/// One batch per epoch in chunks of two texts.
fn in_chunks(place: &Place, output: &str, epochs: usize) {
    let chunks = format!("batch_size = 6\ngrad_cache = 2\nepochs = {epochs}");
    let config = training(place).replace("batch_size = 3", &chunks).replace("\"out\"", &format!("{output:?}"));
    place.file("train.toml", &format!("checkpoint_every = 1\n{config}"));
}

fn weights_of(place: &Place, output: &str) -> [Vec<u8>; 2] {
    ["query", "document"]
        .map(|role| fs::read(place.path(&format!("{output}/model/{role}_0_Transformer/model.safetensors"))).unwrap())
}

#[test]
fn processes_train_what_one_process_trains() {
    let place = Place::new();
    for (output, processes) in [("one", ""), ("two", " --processes 2"), ("three", " --processes 3")] {
        in_chunks(&place, output, 3);
        let (status, stdout, stderr) = place.care(&format!("train --config train.toml{processes}"));
        assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
        assert_eq!(stderr.matches("stage 2 joint-finetuning: step 3/3 loss ").count(), 1, "{stderr}");
        assert_eq!(fs::read_to_string(place.path(&format!("{output}/log.jsonl"))).unwrap().lines().count(), 6);
        assert!(weights_of(&place, output) == weights_of(&place, "one"), "{output}");
    }
    let (status, _, stderr) = place.care("train --config train.toml --processes 2");
    let problem = "three already holds a run: resume it with --resume, or choose another output";
    assert!(status == 1 && stderr.contains(&format!("error: {problem}\n")), "{stderr}");
    assert!(stderr.contains(&format!("error: process 0 of 2 failed: {problem}\n")), "{stderr}");
    place.refuses("train --config train.toml --processes 0", "0 is not in 1..=65535");
    place.refuses("train --config train.toml --rank 1", "--world");
    place.fails(
        "train --config train.toml --rank 2 --world 2 --address 127.0.0.1:1",
        "`rank` is 2, allowed: 0 to 1 in a world of 2",
    );
}

/// Starts process `rank` of two, as a launcher would.
fn start(place: &Place, rank: usize, port: u16, line: &str) -> Child {
    std::process::Command::new(assert_cmd::cargo::cargo_bin!("care"))
        .args(line.split_whitespace())
        .current_dir(place.path(""))
        .envs([("RANK", rank.to_string()), ("WORLD_SIZE", "2".into()), ("MASTER_PORT", port.to_string())])
        .env("MASTER_ADDR", "127.0.0.1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn end_of(process: Child) -> (bool, String) {
    let output = process.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_process_with_other_settings_is_refused_and_a_killed_one_is_named() {
    let place = Place::new();
    in_chunks(&place, "out", 3);
    let port = free_port();
    let first = start(&place, 0, port, "train --config train.toml");
    let second = start(&place, 1, port, "train --config train.toml --set seed=7");
    for process in [first, second] {
        let (is_good, stderr) = end_of(process);
        let problem = "error: process 1 was given another run than process 0: `seed` is 7 instead of 42\n";
        assert!(!is_good && stderr.contains(problem), "{stderr}");
    }
    assert!(!place.path("out").exists(), "nothing was written");

    in_chunks(&place, "straight", 60);
    let (status, _, stderr) = place.care("train --config train.toml");
    assert_eq!(status, 0, "{stderr}");
    in_chunks(&place, "out", 60);
    let port = free_port();
    let first = start(&place, 0, port, "train --config train.toml");
    let mut second = start(&place, 1, port, "train --config train.toml");
    while fs::read_to_string(place.path("out/log.jsonl")).is_ok_and(|log| log.lines().count() < 5)
        || !place.path("out/log.jsonl").exists()
    {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    second.kill().unwrap();
    second.wait().unwrap();
    let (is_good, stderr) = end_of(first);
    assert!(!is_good && stderr.contains("error: process 1 of 2 "), "{stderr}");
    // Another number of processes goes on from the checkpoint.
    let (status, _, stderr) = place.care("train --config train.toml --resume --processes 3");
    assert_eq!(status, 0, "{stderr}");
    assert!(weights_of(&place, "out") == weights_of(&place, "straight"));
}

#[test]
fn a_model_card_names_no_folder_of_its_author() {
    for absolute in [false, true] {
        let place = Place::new();
        let mut config = training(&place);
        if absolute {
            let root = place.path("");
            config = config
                .replace("\"out\"", &format!("{:?}", root.join("out").display().to_string()))
                .replace("\"align.jsonl\"", &format!("{:?}", root.join("align.jsonl").display().to_string()));
        }
        place.file("train.toml", &config);
        // The file's folder is written out, as an editor or a script would.
        let path = place.path("train.toml").display().to_string();
        let (status, _, stderr) = place.care(&format!("train --config {path}"));
        assert_eq!(status, 0, "{stderr}");
        let card = fs::read_to_string(place.path("out/model/README.md")).unwrap();
        let root = place.path("").display().to_string();
        assert!(!card.contains(root.trim_end_matches('/')), "{card}");
        assert!(!card.contains(env!("CARGO_MANIFEST_DIR")), "{card}");
        for part in [
            "- query tower: `bert`",
            "- document tower: `qwen3`",
            "- data: `align.jsonl`, 6 rows",
            "encoder = \"bert\"",
        ] {
            assert!(card.contains(part), "{part}: {card}");
        }
    }
}

#[test]
fn bad_training_input_is_refused_before_the_first_step() {
    let place = Place::new();
    let good = training(&place);
    place.fails("train --config none.toml", "cannot read none.toml: No such file or directory (os error 2)");
    let refused = |from: &str, to: &str, message: &str| {
        assert!(good.contains(from));
        place.file("train.toml", &good.replace(from, to));
        place.fails("train --config train.toml", message);
        assert!(!place.path("out").exists(), "nothing was written");
    };
    refused("group_size = 2", "group_size = 2\nlearning_rate = 0.0", "stage 2: `learning_rate` is 0, allowed: above 0");
    refused(
        "max_length = 24",
        "max_length = 0",
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens",
    );
    refused(
        "max_length = 24",
        "max_length = 24, dim = 99",
        "an embedding of 99 dimensions cannot be cut from the tower's 64",
    );
    refused(
        "max_length = 24",
        "max_length = 24, dim = 32",
        "the query tower has 32 dimensions and the document tower 64; set `dim` of the wider one",
    );
    refused("train.jsonl", "none.jsonl", "cannot open none.jsonl: No such file or directory (os error 2)");
    place.file("bad.jsonl", "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"c\"]}\n{\"query\":\"a\",\"pos\":true}\n");
    refused(
        "train.jsonl",
        "bad.jsonl",
        "bad.jsonl:2: `pos` is true; a text, a number or an object with `text` belongs there",
    );
    refused(
        "train.jsonl",
        "align.jsonl",
        "align.jsonl:1: `neg` is empty, but a group of 2 needs hard negatives; set `group_size = 1` to use in-batch negatives only",
    );
    place.file("train.toml", &good.replace("batch_size = 3", "batchsize = 3"));
    let (status, _, stderr) = place.care("train --config train.toml");
    assert!(
        status == 1 && stderr.contains("train.toml: ") && stderr.contains("did you mean `batch_size`?"),
        "{stderr}"
    );
    place.file("train.toml", &good);
    place.fails("train --config train.toml --resume", "out holds no run to resume");
    place.refuses("train", "--config");
}

#[test]
fn settings_on_the_command_line_stand_for_those_of_the_file() {
    let place = Place::new();
    place.file("train.toml", &training(&place).replace("output = \"out\"\n", "output = \"unused\"\n"));
    let set = "--set output=out --set seed=7 --set stage.1.epochs=2 --set stage.0.max_batch_tokens=60";
    let (status, _, stderr) = place.care(&format!("train --config train.toml {set}"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("stage 2 joint-finetuning: step 4/4 loss "), "{stderr}");
    assert!(!place.path("unused").exists());
    let card = fs::read_to_string(place.path("out/model/README.md")).unwrap();
    for part in ["seed 7", "epochs = 2", "max_batch_tokens = 60", "- batch: 3 queries, groups of 1, at most 60 tokens"]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
    // A resumed run needs the same.
    let (status, _, stderr) = place.care(&format!("train --config train.toml {set} --resume"));
    assert_eq!((status, stderr.as_str()), (0, "the run is finished: its pair is in out/model\n"));
    let (status, _, stderr) = place.care("train --config train.toml --set output=out --resume");
    assert_eq!(status, 1);
    assert!(stderr.contains("changed since this checkpoint: `seed` (was 7, is 42), "), "{stderr}");

    place.fails(
        "train --config train.toml --set seed",
        "the setting `seed`: no `=`; write KEY=VALUE, e.g. stage.0.learning_rate=1e-4",
    );
    place.fails(
        "train --config train.toml --set stage.2.epochs=1",
        "train.toml: the setting `stage.2.epochs=1`: `stage` is a list, whose entries are stage.0 to stage.1",
    );
    place.fails(
        "train --config train.toml --set stage.0.max_batch_tokens=5",
        "`max_batch_tokens` is 5, allowed: at least 14, for batches of two rows of align.jsonl",
    );
    let (status, _, stderr) = place.care("train --config train.toml --set stage.0.learningrate=1");
    assert_eq!(status, 1);
    let start =
        "error: train.toml: the setting `stage.0.learningrate=1`: unknown field `learningrate`, expected one of ";
    assert!(stderr.starts_with(start) && stderr.ends_with("; did you mean `learning_rate`?\n"), "{stderr}");
    assert!(!place.path("unused").exists(), "nothing was written");
}
