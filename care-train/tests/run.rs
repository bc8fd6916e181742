//! Complete runs, and the files they leave in their folder.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Tensor;
use care_core::{Document, Result};
use care_encoders::head::Pooling;
use care_encoders::{
    AnyEncoder, AsymmetricEncoder, Device, Encoder, EncoderOptions, Precision, load_tower, tower_fingerprint,
};
use care_train::{CheckedTrainConfig, EvaluationReport, Event, Loss, LossInput, Outcome, Run, StepReport, TrainConfig};

/// A pair, alignment and training rows, a dev set.
fn prepare(folder: &Path) {
    common::pair(0.0).save(folder.join("pair")).unwrap();
    let (mut align, mut train) = (String::new(), String::new());
    for example in common::examples() {
        align += &format!("{}\n", serde_json::json!({"query": example.query, "pos": [example.query]}));
        align += &format!("{}\n", serde_json::json!({"query": example.positives[0], "pos": [example.positives[0]]}));
        let row = serde_json::json!({"query": example.query, "pos": example.positives, "neg": example.negatives});
        train += &format!("{row}\n");
    }
    fs::write(folder.join("align.jsonl"), align).unwrap();
    fs::write(folder.join("train.jsonl"), train).unwrap();
    common::dev_set(&folder.join("dev"));
}

fn config(folder: &Path, name: &str, head: &str, stages: &str) -> CheckedTrainConfig {
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, format!("output = \"{name}\"\n{head}\n[model]\npair = \"pair\"\n{stages}")).unwrap();
    TrainConfig::from_file(&path).unwrap().check().unwrap()
}

/// Runs to the end; returns every step, every evaluation and the number of teacher texts.
fn run(config: &CheckedTrainConfig) -> (Vec<StepReport>, Vec<EvaluationReport>, usize) {
    let (mut steps, mut scores, mut taught) = (Vec::new(), Vec::new(), 0);
    let outcome = Run::new(config).start(&mut |event| {
        match event {
            Event::Step(report) => steps.push(report.clone()),
            Event::Evaluation(report) => scores.push(report.clone()),
            Event::Teacher(report) => taught = report.done,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome.unwrap(), Outcome::Finished { .. }));
    (steps, scores, taught)
}

const ALIGN: &str = "[[stage]]\nkind = \"query-alignment\"\ndata = [\"align.jsonl\"]\nbatch_size = 6\nepochs = 8\nlearning_rate = 5e-3\n";

#[test]
fn a_pair_that_is_stored_in_int8_is_trained_in_floats() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let stored = EncoderOptions::default().with_precision(Precision::Int8);
    let plain = EncoderOptions::default().with_precision(Precision::F32);
    let open = |name: &str, options| {
        AsymmetricEncoder::open(folder.join(name), options, options, &Device::Cpu.open().unwrap()).unwrap()
    };
    open("pair", &stored).save(folder.join("int8")).unwrap();
    open("int8", &plain).save(folder.join("floats")).unwrap();
    let losses = |name: &str, model: &str| {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, format!("output = \"{name}\"\n[model]\n{model}\n{ALIGN}")).unwrap();
        let (steps, ..) = run(&TrainConfig::from_file(&path).unwrap().check().unwrap());
        steps.iter().map(|step| step.loss).collect::<Vec<_>>()
    };
    let expected = losses("from-floats", "pair = \"floats\"");
    assert_eq!(losses("from-int8", "pair = \"int8\""), expected);
    assert_eq!(losses("from-towers", &towers("int8", "")).len(), expected.len());
}

/// Both towers of a saved pair, with further options of the document tower.
fn towers(pair: &str, document: &str) -> String {
    let tower = |role: &str, options: &str| {
        format!("{role} = {{ encoder = \"{pair}/{role}_0_Transformer\", options = {{ dim = 16{options} }} }}\n")
    };
    tower("query", "") + &tower("document", document)
}

#[test]
fn a_document_tower_that_no_stage_trains_may_be_int8_and_is_saved_so() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let stages = format!(
        "{ALIGN}[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 4\ngroup_size = 2\n\
         learning_rate = 1e-3\ndocument = {{ train = \"frozen\" }}\n"
    );
    let configured = |name: &str, precision: &str, head: &str| {
        let path = folder.join(format!("{name}.toml"));
        let model = towers("pair", &format!(", precision = \"{precision}\""));
        fs::write(&path, format!("output = \"{name}\"\n{head}\n[model]\n{model}\n{stages}")).unwrap();
        TrainConfig::from_file(&path).unwrap().check().unwrap()
    };
    let losses = |name: &str, precision: &str, head: &str| {
        let (steps, ..) = run(&configured(name, precision, head));
        steps.iter().map(|step| step.loss).collect::<Vec<_>>()
    };
    let device = Device::Cpu.open().unwrap();
    let saved = |name: &str| {
        let pair = AsymmetricEncoder::load(folder.join(name).join("model"), &device).unwrap();
        let quantized = [pair.query().network(), pair.document().network()].map(|n| n.encoder().is_quantized());
        let [query, document] =
            [tower_fingerprint(pair.query()), tower_fingerprint(pair.document())].map(Result::unwrap);
        (quantized, query, document)
    };
    let document = |precision| {
        let options = EncoderOptions::default().with_dim(16).with_precision(precision);
        let tower = load_tower::<Document>(folder.join("pair/document_0_Transformer"), &options, &device).unwrap();
        tower_fingerprint(&tower).unwrap()
    };

    let (exact, quantized) = (losses("exact", "f32", ""), losses("quantized", "int8", ""));
    assert_ne!(exact, quantized);
    // In the first stage, without hard negatives and at a higher temperature.
    for (exact, quantized) in exact.iter().zip(&quantized).take(exact.len() - 3) {
        assert!((exact - quantized).abs() < 0.02 * exact, "{exact} {quantized}");
    }
    assert_eq!(losses("uncached", "int8", "cache_teacher = false"), quantized);
    let (forms, _, frozen) = saved("exact");
    assert_eq!((forms, frozen), ([false, false], document(Precision::F32)));
    let (forms, query, frozen) = saved("quantized");
    assert_eq!((forms, &frozen), ([false, true], &document(Precision::Int8)));

    let config = configured("resumed", "int8", "checkpoint_every = 1");
    // In the first stage, and two steps before the end of the second.
    for end in [3, quantized.len() - 5, usize::MAX] {
        let mut done = 0;
        let outcome = Run::new(&config).resume(end != 3).start(&mut |event| {
            if let Event::Step(_) = event {
                done += 1;
            }
            if done == end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(matches!(outcome.unwrap(), Outcome::Finished { .. }), end == usize::MAX);
    }
    assert_eq!(saved("resumed"), ([false, true], query, frozen));
}

#[test]
fn a_precision_that_a_stage_cannot_use_is_refused_before_any_stage() {
    let joint = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\n";
    let adapter = format!("{joint}document = {{ train = \"lora\" }}\n");
    let symmetric = joint.replace("joint-finetuning", "symmetric");
    for (stages, precision, number, allowed) in [
        (ALIGN.to_owned(), "int4", 1, "f32, bf16, f16 or int8, since the document tower is saved"),
        (symmetric, "int8", 1, "f32, since this stage trains the document tower"),
        (format!("{ALIGN}{joint}"), "int8", 2, "f32, since this stage trains the document tower"),
        (format!("{ALIGN}{joint}"), "bf16", 2, "f32, since this stage trains the document tower"),
        (
            format!("{ALIGN}{adapter}"),
            "int8",
            2,
            "f32, bf16 or f16, since this stage trains an adapter of the document tower",
        ),
    ] {
        let model = towers("pair", &format!(", precision = \"{precision}\""));
        let config: TrainConfig = format!("output = \"out\"\n[model]\n{model}\n{stages}").parse().unwrap();
        let field = format!("stage {number}: model.document.options: `precision`");
        let refused = format!("{field} is \"{precision}\", allowed: {allowed}");
        assert_eq!(config.check().unwrap_err().to_string(), refused);
    }
}

/// Runs to the end; returns the warnings.
fn warnings(config: &CheckedTrainConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let outcome = Run::new(config).start(&mut |event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.clone());
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome.unwrap(), Outcome::Finished { .. }));
    warnings
}

#[test]
fn a_lora_adapter_names_the_encoder_under_it_or_is_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    // The same towers in the layout of the published CARE code.
    for (tower, role) in [("query_encoder", "query"), ("doc_encoder", "document")] {
        fs::create_dir_all(folder.join("published").join(tower)).unwrap();
        for file in fs::read_dir(folder.join(format!("pair/{role}_0_Transformer"))).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, folder.join("published").join(tower).join(file.file_name().unwrap())).unwrap();
        }
    }
    let lora = "max_steps = 1\nquery = { train = \"lora\" }\n";
    let joint = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 6\n";
    for (name, model, bases) in [
        (
            "towers",
            "query = { encoder = \"pair\" }\ndocument = { encoder = \"pair\" }",
            ["pair/query_0_Transformer", "pair/document_0_Transformer"],
        ),
        ("layout", "pair = \"published\"", ["published/query_encoder", "published/doc_encoder"]),
    ] {
        let stages = format!("{ALIGN}{lora}{joint}{lora}document = {{ train = \"lora\" }}\n");
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, format!("output = \"{name}\"\n[model]\n{model}\n{stages}")).unwrap();
        let found = warnings(&TrainConfig::from_file(&path).unwrap().check().unwrap());
        let warning = "the LoRA adapter of the query tower in stage 2 will not be written, since an earlier stage has \
                       changed the encoder under it";
        assert_eq!(found, [warning]);
        for (adapter, base) in ["adapters-stage-1/query", "adapters-stage-2/document"].into_iter().zip(bases) {
            let adapter = folder.join(name).join(adapter);
            let settings = fs::read(adapter.join("adapter_config.json")).unwrap();
            let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
            assert_eq!(settings["base_model_name_or_path"], folder.join(base).display().to_string());
            AsymmetricEncoder::load(&adapter, &Device::Cpu.open().unwrap()).unwrap();
        }
        assert!(!folder.join(name).join("adapters-stage-2/query").exists());
    }
    let cut = "query = { encoder = \"pair\", options = { layers = [0] } }\ndocument = { encoder = \"pair\" }";
    let path = folder.join("cut.toml");
    fs::write(&path, format!("output = \"cut\"\n[model]\n{cut}\n{ALIGN}{lora}")).unwrap();
    let warning = "the LoRA adapter of the query tower in stage 1 will not be written, since an adapter or a choice of \
                   layers has changed the encoder under it on loading";
    assert_eq!(warnings(&TrainConfig::from_file(&path).unwrap().check().unwrap()), [warning]);
}

#[test]
fn a_warning_about_prompts_is_given_once_per_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let row = serde_json::json!({"query": "头痛", "pos": ["多休息"], "neg": ["别的病"], "prompt": "问答"});
    for (name, rows) in [("one", 3), ("two", 4)] {
        fs::write(folder.join(format!("{name}.jsonl")), format!("{row}\n").repeat(rows)).unwrap();
    }
    let stage = |name: &str| {
        format!("[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"{name}.jsonl\"]\ngroup_size = 2\nmax_steps = 1\n")
    };
    let found = warnings(&config(folder, "prompts", "", &(stage("one") + &stage("two"))));
    assert_eq!(found.iter().filter(|warning| warning.contains("`prompt`")).count(), 1, "{found:?}");
}

#[test]
fn an_output_that_does_not_fit_is_refused_before_anything_is_read() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // Neither the pair nor the rows exist.
    let config = config(folder, "out", "", ALIGN);
    let output = folder.join("out");
    let refusal = |resume: bool| {
        Run::new(&config).resume(resume).start(&mut |_| ControlFlow::Continue(())).unwrap_err().to_string()
    };
    assert_eq!(refusal(true), format!("{} holds no run to resume", output.display()));
    assert!(!output.exists(), "nothing was written");
    let error = Run::new(&config).export(None, folder.join("exported")).unwrap_err().to_string();
    assert_eq!(error, format!("{} holds no checkpoint", output.display()));
    fs::create_dir_all(output.join("model")).unwrap();
    let problem = "already holds a run: resume it with --resume, or choose another output";
    assert_eq!(refusal(false), format!("{} {problem}", output.display()));
    let problem = "holds a finished run without checkpoints, which cannot be resumed: choose another output";
    assert_eq!(refusal(true), format!("{} {problem}", output.display()));
}

#[test]
fn the_teacher_cache_changes_no_loss_and_serves_the_next_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let (without, _, taught) = run(&config(folder, "without", "cache_teacher = false", ALIGN));
    assert_eq!(taught, 0);
    let (cold, _, taught) = run(&config(folder, "cold", "cache = \"cache\"", ALIGN));
    assert_eq!(taught, 24);
    let shards = || {
        let tower = fs::read_dir(folder.join("cache")).unwrap().next().unwrap().unwrap().path();
        let mut shards: Vec<_> = fs::read_dir(tower).unwrap().map(|entry| entry.unwrap().path()).collect();
        shards.sort();
        shards
    };
    let written = shards();
    let (warm, _, _) = run(&config(folder, "warm", "cache = \"cache\"", ALIGN));
    assert_eq!(shards(), written, "nothing was computed again");
    let close = |left: &[StepReport], right: &[StepReport]| {
        let pairs = left.iter().zip(right);
        left.len() == right.len() && pairs.into_iter().all(|(a, b)| (a.loss - b.loss).abs() < 1e-4 * a.loss.abs())
    };
    assert!(close(&without, &cold));
    assert!(cold.iter().zip(&warm).all(|(a, b)| a.loss == b.loss), "bit-identical");
    assert!(cold[0].tokens < without[0].tokens, "the teacher reads nothing while training");

    // A flipped byte is detected and reported, and the shard is computed again.
    for (name, from_end) in [("keys", 5), ("vectors", 24 * 16 + 5)] {
        let mut bytes = fs::read(&written[0]).unwrap();
        let at = bytes.len() - from_end;
        bytes[at] ^= 4;
        fs::write(&written[0], bytes).unwrap();
        let mut refused = Vec::new();
        let damaged = config(folder, name, "cache = \"cache\"", ALIGN);
        let mut losses = Vec::new();
        Run::new(&damaged)
            .start(&mut |event| {
                match event {
                    Event::Warning(warning) => refused.push(warning.clone()),
                    Event::Step(report) => losses.push(report.loss),
                    _ => {}
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        let path = written[0].display();
        assert_eq!(refused, [format!("ignoring {path}, which is incomplete, modified or foreign")]);
        assert_eq!(losses, cold.iter().map(|report| report.loss).collect::<Vec<_>>());
        assert_eq!(shards(), written, "the damaged shard was replaced");
    }

    // Another instruction means other texts, another head another tower: neither reuses stale vectors.
    let replace =
        |change: &dyn Fn(care_encoders::DocumentTower<AnyEncoder>) -> care_encoders::DocumentTower<AnyEncoder>| {
            let (query, document) = common::pair(0.0).into_towers();
            fs::remove_dir_all(folder.join("pair")).unwrap();
            AsymmetricEncoder::new(query, change(document)).unwrap().save(folder.join("pair")).unwrap();
        };
    replace(&|document| document.with_instruction(care_core::Instruction::new("答：").unwrap()));
    let (_, _, taught) = run(&config(folder, "instructed", "cache = \"cache\"", ALIGN));
    assert_eq!(taught, 24);
    assert_eq!(shards().len(), written.len() + 1, "the damaged shard was replaced, and the instruction has its own");
    replace(&|document| {
        let mut head = document.network().head().clone();
        head.pooling = Pooling::Mean;
        document.map_network(|network| network.with_head(head).unwrap())
    });
    run(&config(folder, "pooled", "cache = \"cache\"", ALIGN));
    assert_eq!(fs::read_dir(folder.join("cache")).unwrap().count(), 2, "a folder for each tower");
}

#[test]
fn the_teacher_reads_no_more_than_the_steps_need() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let taught = |name: &str, stage: &str, steps: usize| {
        let (reports, _, taught) = run(&config(folder, name, "", stage));
        assert_eq!(reports.len(), steps);
        taught
    };
    assert_eq!(taught("one", &format!("{ALIGN}max_steps = 1\n"), 1), 6);
    assert_eq!(taught("two", &format!("{ALIGN}max_steps = 1\naccumulation = 2\n"), 1), 12);
    let frozen = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 4\nmax_steps = 2\n\
                  document = { train = \"frozen\" }\n";
    assert_eq!(taught("joint", frozen, 2), 8, "a positive per row, and no negatives");
}

#[test]
fn a_file_that_changes_during_a_run_ends_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let config = config(folder, "changed", "cache_teacher = false", ALIGN);
    let error = Run::new(&config).start(&mut |event| {
        if let Event::Step(_) = event {
            fs::write(folder.join("align.jsonl"), "{\"query\":\"头痛\",\"pos\":[\"头痛\"]}\n").unwrap();
        }
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("align.jsonl: the file has changed since it was opened"), "{error}");
}

#[test]
fn rows_of_texts_alone_train_an_alignment_only() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let rows = fs::read_to_string(folder.join("align.jsonl")).unwrap();
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let texts = rows.lines().map(|line| format!("{}\n", serde_json::json!({"text": row(line)["query"]})));
    fs::write(folder.join("texts.jsonl"), texts.collect::<String>()).unwrap();
    let losses = |name, stage: &str| run(&config(folder, name, "", stage)).0.iter().map(|s| s.loss).collect::<Vec<_>>();
    assert_eq!(losses("texts", &ALIGN.replace("align.jsonl", "texts.jsonl")), losses("rows", ALIGN));
    let joint = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"texts.jsonl\"]\n";
    let error = Run::new(&config(folder, "joint", "", joint)).start(&mut |_| ControlFlow::Continue(())).unwrap_err();
    let problem = "a text alone, which only query-alignment stages train on; give `query` and `pos`";
    assert_eq!(error.to_string(), format!("{}:1: {problem}", folder.join("texts.jsonl").display()));
}

#[test]
fn the_best_weights_go_on_and_patience_ends_a_stage() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    // A learning rate at which training diverges: the dev score falls.
    let wild = "[evaluation]\ndata = \"dev\"\nevery = 2\npatience = 3\n[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 6\ngroup_size = 2\nepochs = 40\nlearning_rate = 0.3\nmax_grad_norm = 1e9\nwarmup_ratio = 0.5\n";
    let (steps, scores, _) = run(&config(folder, "wild", "", wild));
    let last = scores.last().unwrap();
    let (at, best) = scores.iter().enumerate().rfind(|(_, score)| score.best).unwrap();
    assert_eq!(scores[0].step, 0, "there is a score before the first step");
    assert!(scores.iter().all(|score| score.score <= best.score));
    assert_eq!(scores.len() - 1 - at, 3, "three evaluations without improvement");
    assert!(steps.len() < 80 && last.step == steps.len(), "the stage ended early");
    // The saved weights are those of the best score, not of the last step.
    let device = care_encoders::Device::Cpu.open().unwrap();
    let saved = AsymmetricEncoder::load(folder.join("wild/model"), &device).unwrap();
    let task = &cmedteb::load(folder.join("dev"), None).unwrap()[0];
    let outcome = cmedteb::evaluate(task, &saved, &cmedteb::Protocol::default(), &mut |_| {}).unwrap();
    let best = best.score.unwrap();
    assert!((outcome.main_score() - best).abs() < 1e-9, "{} {best}", outcome.main_score());
    assert!(last.score.unwrap() < best);
}

#[test]
fn a_run_leaves_a_log_curves_and_a_card() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let stages = format!(
        "[evaluation]\ndata = \"dev\"\nevery = 10\n{ALIGN}[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"train.jsonl\"]\nbatch_size = 6\ngroup_size = 3\ngrad_cache = 4\n"
    );
    let (steps, scores, _) = run(&config(folder, "run", "seed = 9", &stages));
    let log = fs::read_to_string(folder.join("run/log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), steps.len() + scores.len());
    assert_eq!(lines.iter().filter(|line| line["event"] == "step").count(), steps.len());
    #[cfg(feature = "plots")]
    {
        let curves = fs::read_to_string(folder.join("run/curves.svg")).unwrap();
        assert!(curves.contains("stage 2 (joint-finetuning): dev ndcg@10"), "{curves}");
    }
    let card = fs::read_to_string(folder.join("run/model/README.md")).unwrap();
    for part in [
        "library_name: sentence-transformers",
        "seed 9",
        "### Stage 1: query-alignment",
        "align.jsonl`, 24 rows",
        "- document tower: frozen",
        "1 x info-nce at temperature 0.1, 1 x embedding-mse",
        "### Stage 2: joint-finetuning",
        "- batch: 6 queries, groups of 3",
        "| step | dev ndcg@10 |",
        "grad_cache = 4",
    ] {
        assert!(card.contains(part), "{part}:\n{card}");
    }
    let best = scores.iter().rfind(|score| score.best && score.stage == 2).unwrap();
    assert!(card.contains(&format!("| {} | {:.4} | yes |", best.step, best.score.unwrap())), "{card}");
    assert!(scores.iter().all(|score| (score.split.as_str(), score.measure.as_str()) == ("dev", "ndcg@10")));
    assert!(lines.iter().filter(|line| line["event"] == "evaluation").all(|line| line["split"] == "dev"));
}

/// A loss that pulls all query vectors together.
struct Gather;

impl Loss for Gather {
    fn name(&self) -> String {
        "gather".into()
    }

    fn forward(&self, input: &LossInput) -> Tensor<1> {
        (input.queries.clone() - input.queries.clone().mean_dim(0)).square().sum_dim(1).mean()
    }
}

#[test]
fn custom_losses_take_part_in_a_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    prepare(folder);
    let config = config(folder, "own", "", ALIGN);
    let mut reports = Vec::new();
    let outcome: Result<Outcome> =
        Run::new(&config).with_losses(&|_| vec![(200.0, Box::new(Gather))]).start(&mut |event| {
            if let Event::Step(report) = event {
                reports.push(report.losses["gather"]);
            }
            ControlFlow::Continue(())
        });
    outcome.unwrap();
    assert!(reports[reports.len() - 1] < reports[0]);
}
