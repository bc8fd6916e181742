//! Commands that are killed, run out of disk space or share an output lose nothing that was saved and mix nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Place, tiny};

const SUBJECTS: &str = "头痛 发烧 咳嗽 失眠 便秘 鼻炎 贫血 痛风 皮疹 腹泻 牙疼 耳鸣";

/// Writes the training data.
fn prepare(place: &Place, texts: usize) {
    let subjects: Vec<&str> = SUBJECTS.split(' ').collect();
    let text = |n: usize| format!("{}第{n}天", subjects[n % subjects.len()]);
    let align: String = (0..texts).map(|n| format!("{{\"query\":\"{0}\",\"pos\":[\"{0}\"]}}\n", text(n))).collect();
    let row = |subject: &&str| {
        format!("{{\"query\":\"{subject}怎么办\",\"pos\":[\"{subject}多休息\"],\"neg\":[\"别的病\"]}}\n")
    };
    place.file("align.jsonl", &align);
    place.file("train.jsonl", &subjects.iter().map(row).collect::<String>());
}

/// A run over the two tiny checkpoints with dropout, with a checkpoint after every step.
fn configure(place: &Place, output: &str, align_steps: usize) {
    configure_batches(place, output, align_steps, 3);
}

/// The same, with this many texts per batch of the first stage.
fn configure_batches(place: &Place, output: &str, align_steps: usize, align_batch: usize) {
    let config = format!(
        "output = {output:?}\ncheckpoint_every = 1\n\
         [model.query]\nencoder = {:?}\noptions = {{ max_length = 24 }}\n\
         [model.document]\nencoder = {:?}\noptions = {{ max_length = 48 }}\n\
         [[stage]]\nkind = \"query-alignment\"\ndata = [\"align.jsonl\"]\nbatch_size = {align_batch}\nepochs = 5\nmax_steps = {align_steps}\n\
         query = {{ dropout = 0.2 }}\n\
         [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 3\ngroup_size = 2\nepochs = 2\n\
         document = {{ train = \"lora\", lora = {{ rank = 4, dropout = 0.1 }} }}\n",
        tiny("bert"),
        tiny("qwen3")
    );
    place.file(&format!("{output}.toml"), &config);
}

fn start(place: &Place, output: &str, resume: bool) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
    command.current_dir(place.path("")).args(["train", "--config", &format!("{output}.toml")]);
    command.args(resume.then_some("--resume")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a run as soon as `seen` returns true, without a chance to save. Returns false if it ended before.
fn kill_when(mut child: Child, seen: impl Fn() -> bool) -> bool {
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if seen() {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        assert!(Instant::now() < limit, "the run neither ended nor reached the point where it is killed");
        std::thread::yield_now();
    }
}

fn finish(place: &Place, output: &str) {
    let (status, _, stderr) = place.care(&format!("train --config {output}.toml --resume"));
    assert_eq!(status, 0, "{stderr}");
}

/// The files of a saved pair that hold weights.
fn weights(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let path = entry.path().join("model.safetensors");
        if path.exists() {
            found.insert(entry.file_name().into_string().unwrap(), fs::read(path).unwrap());
        }
    }
    assert_eq!(found.len(), 2);
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn straight(place: &Place, align_steps: usize) -> BTreeMap<String, Vec<u8>> {
    configure(place, "straight", align_steps);
    run_straight(place)
}

fn run_straight(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let (status, _, stderr) = place.care("train --config straight.toml");
    assert_eq!(status, 0, "{stderr}");
    weights(&place.path("straight/model"))
}

#[test]
fn a_run_killed_at_any_step_ends_with_the_same_weights() {
    let place = Place::new();
    prepare(&place, 30);
    let expected = straight(&place, 40);
    let lines = |output: &str| {
        let log = place.path(&format!("{output}/log.jsonl"));
        fs::read_to_string(log).map_or(0, |text| text.lines().count())
    };
    // 40 steps of the first stage, 8 of the second. Each run is killed twice.
    for steps in [1, 17, 38, 43] {
        let output = format!("killed-{steps}");
        configure(&place, &output, 40);
        assert!(kill_when(start(&place, &output, false), || lines(&output) >= steps), "killed after {steps} steps");
        assert!(!place.path(&format!("{output}/model")).exists());
        assert!(kill_when(start(&place, &output, true), || lines(&output) >= steps + 2), "killed again");
        finish(&place, &output);
        assert!(weights(&place.path(&format!("{output}/model"))) == expected, "killed after {steps} steps");
        assert_eq!(lines(&output), 48, "no step is in the log twice");
    }
}

#[test]
fn a_run_killed_while_it_writes_a_checkpoint_ends_with_the_same_weights() {
    let place = Place::new();
    prepare(&place, 30);
    let expected = straight(&place, 6);
    let partial = |output: &str| {
        names(&place.path(&format!("{output}/checkpoints"))).into_iter().any(|name| name.ends_with(".partial"))
    };
    // Whether the kill comes in time depends on the machine, so several are tried.
    let mut torn = 0;
    for attempt in 0..20 {
        let output = format!("torn-{attempt}");
        configure(&place, &output, 6);
        kill_when(start(&place, &output, false), || partial(&output));
        if partial(&output) {
            torn += 1;
            finish(&place, &output);
            assert!(weights(&place.path(&format!("{output}/model"))) == expected);
            assert!(!partial(&output), "no partial checkpoint is left");
        }
        if torn == 2 {
            return;
        }
    }
    panic!("no checkpoint was torn in 20 runs");
}

#[test]
fn a_run_killed_while_it_fills_the_teacher_cache_ends_with_the_same_weights() {
    let place = Place::new();
    prepare(&place, 1300);
    // Two steps that read all texts, which are more than two shards.
    configure_batches(&place, "straight", 2, 650);
    let expected = run_straight(&place);
    let shards = |output: &str| {
        let cache = place.path(&format!("{output}/teacher-cache"));
        names(&cache)
            .first()
            .map_or(0, |tower| names(&cache.join(tower)).iter().filter(|name| name.ends_with(".safetensors")).count())
    };
    configure_batches(&place, "killed", 2, 650);
    assert!(kill_when(start(&place, "killed", false), || shards("killed") >= 1));
    let kept = shards("killed");
    assert!(kept < 3, "killed in the middle");
    finish(&place, "killed");
    assert_eq!(shards("killed"), 3);
    assert!(weights(&place.path("killed/model")) == expected);
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let place = Place::new();
    prepare(&place, 30);
    let expected = straight(&place, 6);
    configure(&place, "full", 6);
    let checkpoints = place.path("full/checkpoints");
    let complete = || names(&checkpoints).into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
    assert!(kill_when(start(&place, "full", false), || complete().len() >= 2));
    let before = complete();
    // Files are limited to 32 KiB: the log fits, a checkpoint does not.
    let care = assert_cmd::cargo::cargo_bin!("care");
    let script = format!("trap '' XFSZ; ulimit -f 32; exec {} train --config full.toml --resume", care.display());
    let output = Command::new("bash").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("\nerror: cannot write full/checkpoints/.stage-"), "{stderr}");
    assert_eq!(complete(), before, "what was saved is still there");
    assert!(names(&checkpoints).iter().all(|name| !name.ends_with(".partial")), "and nothing else");
    finish(&place, "full");
    assert!(weights(&place.path("full/model")) == expected);
}

#[test]
fn a_folder_has_one_run_at_a_time_and_a_killed_one_frees_it() {
    let place = Place::new();
    prepare(&place, 300);
    let expected = straight(&place, 6);
    configure(&place, "shared", 200);
    let log = || fs::read_to_string(place.path("shared/log.jsonl")).unwrap_or_default().lines().count();
    let child = start(&place, "shared", false);
    let id = child.id();
    assert!(kill_when(child, || {
        if log() < 2 {
            return false;
        }
        for resume in ["", " --resume"] {
            let (status, _, stderr) = place.care(&format!("train --config shared.toml{resume}"));
            let expected = format!("error: shared is in use by process {id} on ");
            assert!(status == 1 && stderr.starts_with(&expected), "{stderr}");
        }
        true
    }));
    configure(&place, "shared", 6);
    fs::remove_dir_all(place.path("shared/checkpoints")).unwrap();
    fs::remove_file(place.path("shared/log.jsonl")).unwrap();
    let (status, _, stderr) = place.care("train --config shared.toml");
    assert_eq!(status, 0, "{stderr}");
    assert!(weights(&place.path("shared/model")) == expected);
}

/// `care` in a folder of the place.
fn care(place: &Place, folder: &str, line: &str) -> Command {
    fs::create_dir_all(place.path(folder)).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("care"));
    command.current_dir(place.path(folder)).args(line.split(' '));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every file below a folder, by its path in it; a folder ends in `/`. What vanishes meanwhile is left out.
fn paths(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(folder) {
        let inner = folder.join(&name);
        if inner.is_dir() {
            found.push(format!("{name}/"));
            found.extend(paths(&inner).into_iter().map(|path| format!("{name}/{path}")));
        } else {
            found.push(name);
        }
    }
    found
}

/// The content of every file below a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |path: String| fs::read(folder.join(&path)).ok().map(|content| (path, content));
    paths(folder).into_iter().filter_map(read).collect()
}

/// Kills a command at the `count`-th change of the names in a folder; false if it ended before.
fn kill_at_change(child: Child, folder: &Path, count: usize) -> bool {
    let (mut before, mut changes) = (paths(folder), 0);
    let seen = std::cell::RefCell::new(move || {
        let now = paths(folder);
        changes += usize::from(now != before);
        before = now;
        changes >= count
    });
    kill_when(child, || seen.borrow_mut()())
}

#[test]
fn a_command_killed_at_any_rename_can_be_repeated() {
    let place = Place::new();
    let model = tiny("bert");
    let texts = place.file("texts.txt", &"头痛发烧三天\n高血压患者能吃党参吗？\n".repeat(20));
    let sts = |n: usize| {
        let score = n % 6;
        format!("{{\"sentence1\":\"头痛{n}天\",\"sentence2\":\"发烧{score}天\",\"score\":{score}}}\n")
    };
    place.file("own/sts.jsonl", &(0..40).map(sts).collect::<String>());
    let convert = |model: &str| format!("convert --model {model} --output pair");
    let other = convert(&tiny("qwen3"));
    let embed = |output: &str| {
        format!("embed --model {model} --role query --max-length 40 --input {} --output {output}", texts.display())
    };
    let eval = format!("eval --model {model} --max-length 48 --output results --cache kept --task ../own");
    let commands = [
        ("convert", None, convert(&model)),
        ("replace", Some(other), convert(&model)),
        ("embed", None, embed("v.npy")),
        ("lines", Some(embed("v.jsonl")), embed("v.jsonl")),
        ("eval", None, eval),
        ("demo", None, "demo-data --output new/set".to_owned()),
    ];
    let mut killed = 0;
    for (name, first, line) in commands {
        let begin = |folder: &str| {
            fs::create_dir_all(place.path(folder)).unwrap();
            first.iter().for_each(|first| succeed(care(&place, folder, first)));
            contents(&place.path(folder))
        };
        let straight = format!("{name}-straight");
        let before = begin(&straight);
        succeed(care(&place, &straight, &line));
        let expected = contents(&place.path(&straight));
        for count in [1, 2, 3, 5, 8, 10, 11, 12, 13] {
            let folder = format!("{name}-{count}");
            begin(&folder);
            let at = place.path(&folder);
            killed += usize::from(kill_at_change(care(&place, &folder, &line).spawn().unwrap(), &at, count));
            // Under a name that users see, there is the old content or the new.
            let visible: BTreeMap<_, _> = contents(&at)
                .into_iter()
                .filter(|(path, _)| !path.split('/').any(|part| part.starts_with('.')))
                .collect();
            let is_known = |(path, content): (&String, &Vec<u8>)| {
                [&before, &expected].iter().any(|whole| whole.get(path).is_some_and(|whole| whole == content))
            };
            assert!(visible.iter().all(is_known) || name == "eval", "{folder}: {:?}", visible.keys());
            if name == "replace" && !at.join("pair").exists() {
                let (_, _, stderr) = place.care(&format!(
                    "embed --model {folder}/pair --role query --input texts.txt --output {folder}/v.npy"
                ));
                assert!(stderr.contains("/pair is missing, its former content is in "), "{stderr}");
            } else if matches!(name, "convert" | "replace" | "demo") {
                assert!([&before, &expected].contains(&&visible), "{folder}: a mixture");
            }
            succeed(care(&place, &folder, &line));
            let found = contents(&at);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{folder}");
            // A result file says how long it took.
            let differs = |path: &&String| found[*path] != expected[*path] && !path.starts_with("results/");
            assert_eq!(found.keys().find(differs), None, "{folder}");
        }
    }
    assert!(killed > 18, "{killed} commands were killed in time");
}

#[test]
fn training_killed_at_any_rename_ends_with_the_same_weights() {
    let place = Place::new();
    prepare(&place, 30);
    let expected = straight(&place, 3);
    for count in [1, 3, 6, 10, 40, 77] {
        let output = format!("renames-{count}");
        configure(&place, &output, 3);
        kill_at_change(start(&place, &output, false), &place.path(&output), count);
        let (status, _, stderr) = place.care(&format!("train --config {output}.toml --resume"));
        if status != 0 {
            assert!(stderr.ends_with("holds no run to resume\n"), "{stderr}");
            let (status, _, stderr) = place.care(&format!("train --config {output}.toml"));
            assert_eq!(status, 0, "{stderr}");
        }
        assert!(weights(&place.path(&format!("{output}/model"))) == expected, "killed at change {count}");
        let left = paths(&place.path(&output));
        assert!(!left.iter().any(|path| path.contains(".partial") || path.contains(".old")), "{left:?}");
    }
}

#[test]
fn two_conversions_to_one_name_leave_one_of_them_whole() {
    let place = Place::new();
    let convert =
        |model: &str, output: &str| care(&place, ".", &format!("convert --model {} --output {output}", tiny(model)));
    let whole = ["bert", "qwen3"].map(|model| {
        succeed(convert(model, model));
        contents(&place.path(model))
    });
    for round in 0..50 {
        let both = ["bert", "qwen3"].map(|model| convert(model, "both").spawn().unwrap());
        for child in both {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(whole.contains(&contents(&place.path("both"))), "round {round}: mixed");
        assert_eq!(names(&place.path("")), ["bert", "both", "qwen3"], "round {round}");
        // In turn, the folder is new or replaced.
        if round % 2 == 0 {
            fs::remove_dir_all(place.path("both")).unwrap();
        }
    }
}
