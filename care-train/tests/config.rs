//! What a configuration file may contain, and how everything else is refused.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use care_core::Role;
use care_train::{LossKind, StageKind, TrainConfig, TrainMode};

const HEAD: &str =
    "output = \"out\"\n[model]\npair = \"pair\"\n[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"a.jsonl\"]\n";
const ALIGN: &str =
    "output = \"out\"\n[model]\npair = \"pair\"\n[[stage]]\nkind = \"query-alignment\"\ndata = [\"a.jsonl\"]\n";

fn refusal(text: &str) -> String {
    text.parse::<TrainConfig>().and_then(TrainConfig::check).expect_err(text).to_string()
}

#[test]
fn a_symmetric_stage_after_one_that_trains_the_towers_apart_is_refused() {
    let text = |kinds: &[&str]| {
        let stage = |kind: &&str| format!("[[stage]]\nkind = \"{kind}\"\ndata = [\"a.jsonl\"]\n");
        let stages: String = kinds.iter().map(stage).collect();
        format!("output = \"out\"\n[model]\npair = \"pair\"\n{stages}")
    };
    for kind in ["query-alignment", "joint-finetuning", "symmetric-document"] {
        assert_eq!(
            refusal(&text(&["symmetric", kind, kind, "symmetric"])),
            "stage 4: `kind` is \"symmetric\", allowed: any other after stage 2, which trains the towers apart"
        );
        text(&["symmetric", "symmetric", kind]).parse::<TrainConfig>().and_then(TrainConfig::check).unwrap();
    }
}

#[test]
fn every_bad_value_is_refused_with_its_field_and_what_is_allowed() {
    for (line, message) in [
        ("epochs = 0", "`epochs` is 0, allowed: 1..=100000"),
        ("max_steps = 0", "`max_steps` is 0, allowed: 1..=99999999"),
        ("batch_size = 0", "`batch_size` is 0, allowed: 1..=1048576"),
        ("max_batch_tokens = 0", "`max_batch_tokens` is 0, allowed: 1..=1073741824"),
        ("max_batch_tokens = 1073741825", "`max_batch_tokens` is 1073741825, allowed: 1..=1073741824"),
        ("group_size = 0", "`group_size` is 0, allowed: 1..=4096"),
        ("accumulation = 0", "`accumulation` is 0, allowed: 1..=1048576"),
        ("grad_cache = 0", "`grad_cache` is 0, allowed: 1..=1048576"),
        ("epochs = 9000000000000000000", "`epochs` is 9000000000000000000, allowed: 1..=100000"),
        ("max_steps = 100000000", "`max_steps` is 100000000, allowed: 1..=99999999"),
        ("batch_size = 1048577", "`batch_size` is 1048577, allowed: 1..=1048576"),
        ("group_size = 100000000", "`group_size` is 100000000, allowed: 1..=4096"),
        ("batch_size = 1024\ngroup_size = 1025", "`group_size` is 1025, allowed: 1..=1024 with a batch_size of 1024"),
        ("accumulation = 1048577", "`accumulation` is 1048577, allowed: 1..=1048576"),
        ("grad_cache = 1048577", "`grad_cache` is 1048577, allowed: 1..=1048576"),
        ("learning_rate = -1.0", "`learning_rate` is -1, allowed: above 0"),
        ("learning_rate = nan", "`learning_rate` is NaN, allowed: above 0"),
        ("max_grad_norm = 0.0", "`max_grad_norm` is 0, allowed: above 0"),
        ("weight_decay = -0.1", "`weight_decay` is -0.1, allowed: at least 0"),
        ("weight_decay = inf", "`weight_decay` is inf, allowed: at least 0"),
        ("warmup_ratio = 1.5", "`warmup_ratio` is 1.5, allowed: 0..=1"),
        (
            "prompt_template = \"{text}\"",
            "`prompt_template` is \"{text}\", allowed: a text with exactly one {prompt} and one {text}",
        ),
        (
            "prompt_template = \"{instruction}: {prompt} {text}\"",
            "`prompt_template` \"{instruction}: {prompt} {text}\" contains {instruction}, which is no placeholder, \
             allowed: {prompt}, {text}",
        ),
        (
            "prompt_template = '{prompt}\\n{text}'",
            "`prompt_template` \"{prompt}\\\\n{text}\" contains a backslash and a letter; write a line break itself, in a \
             shell $'\\n'",
        ),
        ("loss = [{ kind = \"info-nce\", weight = 0.0 }]", "loss[0]: `weight` is 0, allowed: above 0"),
        ("loss = [{ kind = \"info-nce\", temperature = 0.0 }]", "loss[0]: `temperature` is 0, allowed: above 0"),
        (
            "loss = [{ kind = \"info-nce\", teacher_temperature = 1.0 }]",
            "loss[0]: `teacher_temperature` is 1, allowed: only for distillation",
        ),
        (
            "group_size = 2\nloss = [{ kind = \"distillation\", teacher_temperature = 0.0 }]",
            "loss[0]: `teacher_temperature` is 0, allowed: above 0",
        ),
        (
            "group_size = 2\nloss = [{ kind = \"distillation\", false_negative_margin = 0.1 }]",
            "loss[0]: `false_negative_margin` is 0.1, allowed: only for info-nce",
        ),
        (
            "loss = [{ kind = \"info-nce\", false_negative_margin = 3.0 }]",
            "loss[0]: `false_negative_margin` is 3, allowed: -2..=2",
        ),
        (
            "loss = [{ kind = \"info-nce\", dims = [64, 32] }]",
            "loss[0]: `dims` is [64, 32], allowed: ascending values, each at least 1",
        ),
        (
            "loss = [{ kind = \"info-nce\", dims = [32, 64], dim_weights = [1.0] }]",
            "loss[0]: `dim_weights` is [1.0], allowed: 2 weights, one for each of `dims`",
        ),
        (
            "loss = [{ kind = \"info-nce\", dims = [32], dim_weights = [0.0] }]",
            "loss[0]: `dim_weights` is [0.0], allowed: each at least 0, not all 0",
        ),
        (
            "loss = [{ kind = \"cosine\", temperature = 0.1 }]",
            "loss[0]: `temperature` is 0.1, allowed: only for info-nce, distillation and embedding-kl",
        ),
        (
            "loss = [{ kind = \"embedding-kl\" }]",
            "`loss[0].kind` is \"embedding-kl\", allowed: info-nce, distillation in joint-finetuning stages",
        ),
        (
            "loss = [{ kind = \"embedding-mse\" }]",
            "`loss[0].kind` is \"embedding-mse\", allowed: info-nce, distillation in joint-finetuning stages",
        ),
        (
            "query = { train = \"frozen\" }\ndocument = { train = \"frozen\" }",
            "`document.train` is \"frozen\", allowed: full or lora, since the query tower is frozen",
        ),
        ("loss = [{ kind = \"distillation\" }]", "`group_size` is 1, allowed: at least 2 with the distillation loss"),
        ("document = { learning_rate = 0.0 }", "`document.learning_rate` is 0, allowed: above 0"),
        (
            "document = { train = \"frozen\", learning_rate = 1e-4 }",
            "`document.learning_rate` is 0.0001, allowed: unset for a frozen tower",
        ),
        ("query = { dropout = 1.0 }", "`query.dropout` is 1, allowed: [0, 1)"),
        ("query = { train = \"frozen\", dropout = 0.1 }", "`query.dropout` is 0.1, allowed: unset for a frozen tower"),
        (
            "document = { train = \"lora\", freeze_token_table = true }",
            "`document.freeze_token_table` is true, allowed: only with train = \"full\"",
        ),
        ("document = { lora = { rank = 4 } }", "`document.lora` is set, allowed: only with train = \"lora\""),
        ("document = { train = \"lora\", lora = { rank = 0 } }", "document.lora: `rank` is 0, allowed: 1..=4096"),
        (
            "document = { train = \"lora\", lora = { rank = 9223372036854775807 } }",
            "document.lora: `rank` is 9223372036854775807, allowed: 1..=4096",
        ),
        ("document = { train = \"lora\", lora = { alpha = 0.0 } }", "document.lora: `alpha` is 0, allowed: above 0"),
        ("query = { train = \"lora\", lora = { alpha = -8.0 } }", "query.lora: `alpha` is -8, allowed: above 0"),
        (
            "teacher_instruction = \"query: \"",
            "`teacher_instruction` is \"query: \", allowed: only in query-alignment stages",
        ),
        (
            "document = { train = \"lora\", lora = { dropout = 1.0 } }",
            "document.lora: `dropout` is 1, allowed: 0 to below 1",
        ),
    ] {
        assert_eq!(refusal(&format!("{HEAD}{line}\n")), format!("stage 1: {message}"));
    }
    for (line, message) in [
        (
            "teacher_instruction = \"{text} {text}\"",
            "`teacher_instruction` is \"{text} {text}\", allowed: a text with at most one {text}",
        ),
        (
            "group_size = 2\nloss = [{ kind = \"distillation\" }]",
            "`loss[0].kind` is \"distillation\", allowed: info-nce, embedding-mse, embedding-kl, cosine in query-alignment \
             stages",
        ),
        (
            "prompt_template = \"{prompt}{text}\"",
            "`prompt_template` is \"{prompt}{text}\", allowed: unset in query-alignment stages, whose texts have no task",
        ),
        (
            "query = { train = \"frozen\" }",
            "`query.train` is \"frozen\", allowed: full or lora in query-alignment stages",
        ),
        (
            "document = { train = \"full\" }",
            "`document` is set, but query-alignment stages do not train the document tower separately",
        ),
    ] {
        assert_eq!(refusal(&format!("{ALIGN}{line}\n")), format!("stage 1: {message}"));
    }
}

#[test]
fn rules_of_the_whole_run() {
    let stage = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"a\"]\n";
    for (text, message) in [
        (
            "output = \"o\"\n[model]\npair = \"p\"\n".to_owned(),
            "`stage` is empty, allowed: at least one [[stage]] table",
        ),
        (
            "output = \"o\"\n[model]\npair = \"p\"\n[[stage]]\nkind = \"joint-finetuning\"\n".to_owned(),
            "stage 1: `data` is empty, allowed: at least one file",
        ),
        (
            format!("output = \"o\"\n[model]\n{stage}"),
            "`model` is ambiguous, allowed: either `pair`, or both `query` and `document`",
        ),
        (format!("keep_checkpoints = 0\n{HEAD}"), "`keep_checkpoints` is 0, allowed: at least 1"),
        (
            format!("cache_teacher = false\ncache = \"c\"\n{HEAD}"),
            "`cache` is c, allowed: only with cache_teacher = true",
        ),
        (format!("{HEAD}[evaluation]\ndata = \"dev\"\nevery = 0\n"), "`evaluation.every` is 0, allowed: at least 1"),
        (
            format!("{HEAD}[evaluation]\ndata = \"dev\"\npatience = 0\n"),
            "`evaluation.patience` is 0, allowed: at least 1",
        ),
    ] {
        assert_eq!(refusal(&text), message);
    }
}

#[test]
fn a_file_says_where_it_is_wrong_and_what_was_probably_meant() {
    for (line, parts) in [
        ("temprature = 1.0", vec!["line 7", "unknown field `temprature`"]),
        ("batchsize = 8", vec!["line 7", "did you mean `batch_size`?"]),
        ("batch_size = \"8\"", vec!["line 7", "invalid type: string \"8\", expected usize"]),
        ("preset = \"reference-stage3\"", vec!["unknown variant `reference-stage3`", "did you mean `reference-stage"]),
        ("loss = [{ kind = \"infonce\" }]", vec!["line 7", "did you mean `info-nce`?"]),
        ("loss = [{ kind = \"info-nce\", margin = 1.0 }]", vec!["line 7", "unknown field `margin`"]),
        ("document = { train = \"loar\" }", vec!["line 7", "did you mean `lora`?"]),
        ("schedule = \"cosin\"", vec!["line 7", "did you mean `cosine`?"]),
        (
            "loss = [{ kind = \"info-nce\", dims = [] }]",
            vec!["line 7", "the list is empty, allowed: at least one value"],
        ),
        (
            "loss = [{ kind = \"info-nce\", dims = [8], dim_weights = [] }]",
            vec!["line 7", "the list is empty, allowed: at least one value"],
        ),
        ("= 3", vec!["line 7"]),
    ] {
        let message = format!("{HEAD}{line}\n").parse::<TrainConfig>().expect_err(line).to_string();
        for part in parts {
            assert!(message.contains(part), "{line}: {message}");
        }
    }
    // The preset supplies the omitted fields, so the message is about the unknown field, not about a missing one.
    let presets = "output = \"o\"\n[model]\npair = \"p\"\n[[stage]]\npreset = \"reference-stage1\"\ndata = [\"a\"]\nbatchsize = 3\n";
    let message = presets.parse::<TrainConfig>().unwrap_err().to_string();
    assert!(message.ends_with("did you mean `batch_size`?"), "{message}");
    let kind = HEAD.replace("joint-finetuning", "joint-finetunning");
    let message = kind.parse::<TrainConfig>().unwrap_err().to_string();
    assert!(message.contains("line 5") && message.ends_with("did you mean `joint-finetuning`?"), "{message}");
    let message = HEAD.replace("pair =", "pear =").parse::<TrainConfig>().unwrap_err().to_string();
    assert!(message.contains("line 3") && message.ends_with("did you mean `pair`?"), "{message}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    let text = format!("cache = \"c\"\n{HEAD}[evaluation]\ndata = \"dev\"\n");
    std::fs::write(&path, text).unwrap();
    let config = TrainConfig::from_file(&path).unwrap();
    let inside = |name: &str| folder.path().join(name);
    assert_eq!(config.output, inside("out"));
    assert_eq!(config.model.pair, Some(inside("pair")));
    assert_eq!(config.stage[0].data, [inside("a.jsonl")]);
    assert_eq!(config.cache, Some(inside("c")));
    assert_eq!(config.evaluation.as_ref().unwrap().data, inside("dev"));
    assert!(config.check().is_ok());
    let error = TrainConfig::from_file(Path::new("none.toml")).unwrap_err().to_string();
    assert_eq!(error, "cannot read none.toml");
}

#[test]
fn no_path_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    let towers = "output = \"o\"\n[model]\nquery = { encoder = \"q\" }\n\
        document = { encoder = \"d\", options = { adapter = \"a\" } }\n\
        [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"a\"]\n";
    let whole = format!("cache = \"c\"\n{HEAD}[evaluation]\ndata = \"dev\"\n");
    for (text, from, field) in [
        (whole.as_str(), "\"out\"", "output"),
        (&whole, "\"c\"", "cache"),
        (&whole, "\"pair\"", "model.pair"),
        (&whole, "\"dev\"", "evaluation.data"),
        (&whole, "\"a.jsonl\"", "stage 1 data"),
        (towers, "\"q\"", "model.query.encoder"),
        (towers, "\"d\"", "model.document.encoder"),
        (towers, "\"a\" }", "model.document.options.adapter"),
    ] {
        for empty in ["\"\"", "\" \""] {
            assert!(text.contains(from), "{field}");
            let to = if from.ends_with('}') { format!("{empty} }}") } else { empty.to_owned() };
            let text = text.replacen(from, &to, 1);
            let message = format!("`{field}` is {empty}, allowed: a path");
            assert_eq!(refusal(&text), message);
            std::fs::write(&path, text).unwrap();
            let error = TrainConfig::from_file(&path).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {message}", path.display()));
        }
    }
}

#[test]
fn models_are_found_by_name_where_no_folder_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    std::fs::create_dir_all(folder.path().join("models/local")).unwrap();
    let text = "output = \"o\"\n[model]\nquery = { encoder = \"org/name@v1\" }\n\
        document = { encoder = \"models/local\", options = { adapter = \"org/adapter\" } }\n\
        [[stage]]\nkind = \"joint-finetuning\"\ndata = [\"a/b\"]\n";
    std::fs::write(&path, text).unwrap();
    let mut config = TrainConfig::from_file(&path).unwrap();
    let mut asked = Vec::new();
    let found = config.locate_models(|name| {
        asked.push(name.to_owned());
        Ok::<_, ()>(Some((format!("/cache/{}", asked.len()).into(), format!("{name}@0123"))))
    });
    assert_eq!((found, asked), (Ok(2), vec!["org/name@v1".to_owned(), "org/adapter".to_owned()]));
    assert_eq!(config.model.query.as_ref().unwrap().encoder, Path::new("/cache/1"));
    let document = config.model.document.as_ref().unwrap();
    assert_eq!(document.encoder, folder.path().join("models/local"));
    assert_eq!(document.options.adapter.as_deref(), Some(Path::new("/cache/2")));
    assert_eq!(config.stage[0].data, [folder.path().join("a/b")], "only models are on the hub");
    // What is no model's name stays a path, and what cannot be found an error.
    let mut config = TrainConfig::from_file(&path).unwrap();
    assert_eq!(config.locate_models(|_| Ok::<_, ()>(None)), Ok(0));
    assert_eq!(config.model.query.as_ref().unwrap().encoder, folder.path().join("org/name@v1"));
    assert_eq!(config.locate_models(|name| Err::<_, String>(format!("no {name}"))), Err("no org/name@v1".to_owned()));
}

#[test]
fn a_preset_gives_what_the_stage_leaves_out() {
    let text = "output = \"o\"\n[model]\npair = \"p\"\n[[stage]]\npreset = \"reference-stage1\"\ndata = [\"a\"]\n\
        [[stage]]\npreset = \"reference-stage2\"\ndata = [\"a\"]\nbatch_size = 24\n[stage.document.lora]\nrank = 8\n";
    let config = text.parse::<TrainConfig>().unwrap().check().unwrap();
    let [first, second] = config.stages() else { panic!("two stages") };
    assert_eq!((first.kind, first.epochs, first.batch_size, first.group_size), (StageKind::QueryAlignment, 2, 320, 1));
    assert_eq!((first.learning_rate, first.warmup_ratio, first.weight_decay), (1e-4, 0.05, 0.05));
    let losses = |stage: &care_train::CheckedStage| {
        stage.losses().iter().map(|loss| (loss.kind, loss.temperature, loss.weight)).collect::<Vec<_>>()
    };
    assert_eq!(losses(first), [(LossKind::InfoNce, Some(0.1), 1.0), (LossKind::EmbeddingMse, None, 1.0)]);
    assert_eq!((second.kind, second.epochs, second.group_size), (StageKind::JointFinetuning, 1, 8));
    assert_eq!(second.batch_size, 24, "the stage overrides its preset");
    assert_eq!(losses(second), [(LossKind::InfoNce, Some(0.02), 1.0)]);
    assert_eq!((second.mode(Role::Query), second.mode(Role::Document)), (TrainMode::Full, TrainMode::Lora));
    let lora = second.document.lora.clone().unwrap();
    assert_eq!((lora.rank, lora.alpha, lora.dropout, lora.target_modules.len()), (8, 64.0, 0.1, 7));
    // The configuration survives a round trip through TOML.
    let again: TrainConfig = toml::to_string(&*config).unwrap().parse().unwrap();
    assert_eq!(again.check().unwrap().stages(), config.stages());
}

#[test]
fn defaults_follow_the_kind_of_a_stage() {
    let losses = |text: &str| {
        let config = text.parse::<TrainConfig>().unwrap().check().unwrap();
        config.stages()[0].losses().iter().map(|loss| (loss.kind, loss.temperature)).collect::<Vec<_>>()
    };
    assert_eq!(losses(ALIGN), [(LossKind::InfoNce, Some(0.1)), (LossKind::EmbeddingMse, None)]);
    assert_eq!(losses(HEAD), [(LossKind::InfoNce, None)]);
}

/// A configuration of two stages in a file, with settings beside it.
fn with_settings(settings: &[&str]) -> Result<TrainConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    let second = "[[stage]]\npreset = \"reference-stage2\"\ndata = [\"b.jsonl\"]\nloss = [{ kind = \"info-nce\" }]\n";
    std::fs::write(&path, format!("{HEAD}{second}")).unwrap();
    let place = format!("{}: ", path.display());
    let read = TrainConfig::from_file_with(&path, settings);
    let mut config = read.map_err(|e| e.to_string().replace(&place, "F: "))?;
    config.output = config.output.strip_prefix(folder.path()).unwrap().to_owned();
    config.model.pair = config.model.pair.map(|pair| pair.strip_prefix(folder.path()).unwrap().to_owned());
    for data in config.stage.iter_mut().flat_map(|stage| &mut stage.data) {
        *data = data.strip_prefix(folder.path()).unwrap().to_owned();
    }
    Ok(config)
}

#[test]
fn settings_stand_for_what_the_file_could_say() {
    let config = with_settings(&[
        "output=elsewhere",
        "seed = 7",
        "model.pair=org/name",
        "stage.0.learning_rate=1e-3",
        "stage.0.query.dropout=0.2",
        "stage.0.data=[\"x.jsonl\", \"y.jsonl\"]",
        "stage.1.schedule=cosine",
        "stage.1.loss.0.temperature=0.5",
        "stage.1.document.lora.rank=8",
        "evaluation.data='dev'",
        "evaluation.every=5",
    ])
    .unwrap();
    assert_eq!((config.output.as_path(), config.seed), (Path::new("elsewhere"), 7));
    assert_eq!(config.model.pair.as_deref(), Some(Path::new("org/name")));
    let [first, second] = config.stage.as_slice() else { panic!("two stages") };
    assert_eq!((first.learning_rate, first.query.dropout), (1e-3, Some(0.2)));
    assert_eq!(first.data, [Path::new("x.jsonl"), Path::new("y.jsonl")], "relative to the file");
    assert_eq!(second.loss.as_ref().unwrap()[0].temperature, Some(0.5));
    let lora = second.document.lora.as_ref().unwrap();
    assert_eq!((lora.rank, lora.alpha), (8, 64.0), "the preset gives the rest");
    assert_eq!(config.evaluation.as_ref().unwrap().every, 5);
    // The same as a file that says so.
    let (mut written, set) = (with_settings(&[]).unwrap(), with_settings(&["stage.1.epochs=3"]).unwrap());
    written.stage[1].epochs = 3;
    assert_eq!(written.stage, set.stage);
    // A preset takes effect from there, too, and what is set later is not lost.
    let preset = with_settings(&["stage.0.preset=reference-stage1", "stage.0.kind=query-alignment"]).unwrap();
    assert_eq!((preset.stage[0].batch_size, preset.stage[0].epochs), (320, 2));
}

#[test]
fn bad_settings_are_refused_by_name() {
    for (setting, message) in [
        ("stage.0.learning_rate", "no `=`; write KEY=VALUE, e.g. stage.0.learning_rate=1e-4"),
        ("=3", "`` is no key, e.g. stage.0.learning_rate"),
        ("stage..epochs=3", "`stage..epochs` is no key, e.g. stage.0.learning_rate"),
        ("seed=", "no value; an empty text is \"\""),
        ("stage.0.data=[\"a\"", "[\"a\" is no TOML value"),
    ] {
        assert_eq!(with_settings(&[setting]).unwrap_err(), format!("the setting `{setting}`: {message}"));
    }
    assert_eq!(
        with_settings(&["seed=1", "output=x", "seed=2"]).unwrap_err(),
        "the setting `seed=2`: the key is given twice"
    );
    for (setting, message) in [
        ("stage.learning_rate=1", "`stage` is a list, whose entries are stage.0 to stage.1"),
        ("stage.2.epochs=1", "`stage` is a list, whose entries are stage.0 to stage.1"),
        ("stage.1.loss.1.weight=2", "`stage.1.loss` is a list, whose only entry is stage.1.loss.0"),
        ("stage.0.loss.0.weight=2", "the file has no list `stage.0.loss`; set `stage.0.loss` as a whole"),
        ("stage.0.kind.x=2", "`stage.0.kind` is a value without fields"),
        ("seed=x", "invalid type: string \"x\", expected u64"),
        ("stage.0.epochs=1.5", "invalid type: floating point `1.5`, expected usize"),
        ("model.query.encoder=a", ""),
    ] {
        let refused = with_settings(&[setting]);
        match message {
            // Complete only with the document tower, which the check says.
            "" => assert!(refused.unwrap().check().is_err()),
            _ => assert_eq!(refused.unwrap_err(), format!("F: the setting `{setting}`: {message}")),
        }
    }
    for (setting, end) in [
        ("stage.0.learningrate=1", "; did you mean `learning_rate`?"),
        ("sede=1", "; did you mean `seed`?"),
        ("stage.0.schedule=cosin", "; did you mean `cosine`?"),
        ("stage.1.document.lora.rnak=2", "; did you mean `rank`?"),
        ("evaluation.every=3", "missing field `data`"),
    ] {
        let message = with_settings(&[setting]).unwrap_err();
        assert!(message.starts_with(&format!("F: the setting `{setting}`: ")) && message.ends_with(end), "{message}");
    }
    // An error of the file stays one, with its place.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    std::fs::write(&path, format!("{HEAD}batchsize = 3\n")).unwrap();
    let message = TrainConfig::from_file_with(&path, &["stage.0.epochs=2"]).unwrap_err().to_string();
    assert!(message.contains("line 7") && message.ends_with("did you mean `batch_size`?"), "{message}");
    let message = TrainConfig::from_file_with(&path, &["stage.0.batchsize=2"]).unwrap_err().to_string();
    assert!(message.contains("line 7"), "{message}");
}
