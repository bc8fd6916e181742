//! What each stage trains, and what it leaves unchanged.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use care_core::{Embedder, Embeddings, Instruction, Role};
use care_encoders::lora::LoraConfig;
use care_encoders::tokenize::Tokenizer;
use care_encoders::{AsymmetricEncoder, Precision, tower_fingerprint};
use care_train::{
    Event, Loss, LossConfig, LossInput, LossKind, RowType, Source, StageConfig, StageKind, StepReport, TowerTraining,
    TrainMode, Trainer, TrainingExample, train_stage,
};

fn vectors(pair: &AsymmetricEncoder) -> (Embeddings, Embeddings) {
    let texts = ["头痛怎么办", "牙疼的处理"];
    (pair.embed_queries(&texts.map(Into::into)).unwrap(), pair.embed_documents(&texts.map(Into::into)).unwrap())
}

fn train(
    kind: StageKind,
    change: impl FnOnce(&mut StageConfig),
) -> (AsymmetricEncoder, AsymmetricEncoder, Vec<StepReport>) {
    let mut stage = StageConfig::new(kind).with(|stage| {
        stage.epochs = 15;
        stage.batch_size = 6;
        stage.learning_rate = 5e-3;
    });
    change(&mut stage);
    let before = common::pair(0.0);
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let mut reports = Vec::new();
    let after = train_stage(before.clone(), &stage.check().unwrap(), &sources, 7, &mut |event| {
        reports.extend(step(event));
        ControlFlow::Continue(())
    })
    .unwrap();
    (before, after, reports)
}

fn step(event: &Event) -> Option<StepReport> {
    if let Event::Step(report) = event { Some(report.clone()) } else { None }
}

fn falls(reports: &[StepReport]) {
    let total = reports.len();
    assert!(reports.iter().zip(1..).all(|(report, step)| report.step == step && report.total_steps == total));
    let mean = |some: &[StepReport]| some.iter().map(|report| report.loss).sum::<f64>() / some.len() as f64;
    let (first, last) = (mean(&reports[..4]), mean(&reports[total - 4..]));
    assert!(last < 0.7 * first, "the loss went from {first} to {last}");
}

#[test]
fn alignment_moves_the_query_tower_to_a_document_tower_that_stays() {
    let (before, after, reports) = train(StageKind::QueryAlignment, |_| {});
    falls(&reports);
    for report in &reports {
        let sum = report.losses["info-nce"] + report.losses["embedding-mse"];
        assert!((report.loss - sum).abs() < 1e-4, "{report:?}");
    }
    assert_ne!(vectors(&before).0, vectors(&after).0);
    assert_eq!(vectors(&before).1, vectors(&after).1, "the frozen document tower is bit-identical");
}

/// Each number of threads has a process of its own, since rayon's pool is made once.
#[test]
fn trained_weights_do_not_depend_on_the_number_of_threads() {
    const PRINTS: &str = "CARE_TEST_PRINTS_WEIGHTS";
    if std::env::var_os(PRINTS).is_some() {
        // Of several batch sizes, since only some leave few rows for a last pass, and of a size at which burn's matmul and
        // the kernels round differently.
        let trained = |batch_size| {
            let mut stage = StageConfig::new(StageKind::QueryAlignment);
            stage.batch_size = batch_size;
            let sources = [Source::new("built in", common::examples()).unwrap()];
            let pair = common::pair_of_size(256, 0.0);
            let mut observer = |_: &Event| ControlFlow::Continue(());
            let after = train_stage(pair, &stage.check().unwrap(), &sources, 7, &mut observer).unwrap();
            tower_fingerprint(after.query()).unwrap()
        };
        return println!("weights {}", (2..=12).map(trained).collect::<String>());
    }
    let weights = |threads: usize| {
        let test = std::process::Command::new(std::env::current_exe().unwrap())
            .env(PRINTS, "")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .args(["trained_weights_do_not_depend", "--nocapture"])
            .output()
            .unwrap();
        let output = String::from_utf8(test.stdout).unwrap();
        let line = output.lines().find_map(|line| line.split_once("weights ")).unwrap_or_else(|| panic!("{output}"));
        line.1.to_owned()
    };
    let one = weights(1);
    assert_eq!(one.len(), 11 * 64, "a fingerprint per batch size");
    for threads in [2, 5] {
        assert_eq!(weights(threads), one, "{threads} threads");
    }
}

#[test]
fn alignment_reports_the_losses_it_has_before_their_weights() {
    let kinds = [LossKind::EmbeddingMse, LossKind::EmbeddingKl, LossKind::Cosine].map(LossConfig::new);
    for loss in kinds.into_iter().chain([LossConfig::info_nce(0.1)]) {
        let loss = loss.with(|loss| loss.weight = 0.5);
        let (_, _, reports) = train(StageKind::QueryAlignment, |stage| {
            stage.loss = Some(vec![loss]);
            stage.epochs = 40;
        });
        falls(&reports);
        for report in &reports {
            let [value] = report.losses.values().copied().collect::<Vec<_>>()[..] else { panic!("{report:?}") };
            assert!((report.loss - 0.5 * value).abs() < 1e-5, "{report:?}");
        }
    }
}

#[test]
fn joint_finetuning_moves_both_towers() {
    let (before, after, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.group_size = 3;
        stage.epochs = 60;
    });
    falls(&reports);
    assert_ne!(vectors(&before).0, vectors(&after).0);
    assert_ne!(vectors(&before).1, vectors(&after).1);
}

#[test]
fn symmetric_training_moves_the_document_tower_alone() {
    let (before, after, reports) = train(StageKind::SymmetricDocument, |_| {});
    falls(&reports);
    let query = |pair: &AsymmetricEncoder| pair.fingerprint(Role::Query).unwrap();
    assert_eq!(query(&before), query(&after));
    assert_ne!(vectors(&before).1, vectors(&after).1);
}

#[test]
fn the_learning_rate_and_the_clipped_length_are_reported() {
    let (_, _, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.learning_rate = 1e-3;
        stage.warmup_ratio = 0.1;
    });
    let rates: Vec<f64> = reports.iter().map(|report| report.learning_rate).collect();
    assert!((rates[0] - 1e-3 / 3.0).abs() < 1e-12 && (rates[2] - 1e-3).abs() < 1e-12, "{rates:?}");
    assert!((rates[29] - 1e-3 / 27.0).abs() < 1e-12, "{rates:?}");
    assert!(reports.iter().all(|report| report.gradient_norm > 0.0));
    // A tower's own rate overrides the stage's; the higher of the two is reported.
    let (_, _, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.epochs = 1;
        stage.warmup_ratio = 0.0;
        stage.learning_rate = 1e-3;
        stage.document.learning_rate = Some(4e-3);
    });
    assert_eq!(reports[0].learning_rate, 4e-3);
}

#[test]
fn max_steps_ends_the_stage_and_its_schedule() {
    let (_, _, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.max_steps = Some(4);
        stage.warmup_ratio = 0.0;
        stage.learning_rate = 1e-3;
    });
    let rates: Vec<f64> = reports.iter().map(|report| report.learning_rate).collect();
    assert_eq!(rates, [1e-3, 0.75e-3, 0.5e-3, 0.25e-3]);
}

#[test]
fn a_source_without_hard_negatives_is_refused_by_row() {
    let mut examples = common::examples();
    examples[4].negatives.clear();
    let sources = [Source::new("built in", examples).unwrap()];
    let stage = StageConfig::new(StageKind::JointFinetuning).with(|stage| stage.group_size = 2).check().unwrap();
    let error = train_stage(common::pair(0.0), &stage, &sources, 7, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "built in, row 4: `neg` is empty, but a group of 2 needs hard negatives; \
         set `group_size = 1` to use in-batch negatives only"
    );
}

#[test]
fn a_frozen_tower_may_have_16_or_8_bits_and_one_that_learns_may_not() {
    let document_in = |precision| {
        let (query, document) = common::pair(0.0).into_towers();
        let document = document.map_network(|network| network.with_precision(precision));
        AsymmetricEncoder::new(query, document).unwrap()
    };
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let run = |kind, pair| {
        let stage = StageConfig::new(kind).with(|stage| stage.batch_size = 6).check().unwrap();
        train_stage(pair, &stage, &sources, 7, &mut |event| {
            assert!(step(event).unwrap().loss.is_finite());
            ControlFlow::Break(())
        })
    };
    for precision in [Precision::Bf16, Precision::Int8] {
        let before = vectors(&document_in(precision));
        let after = vectors(&run(StageKind::QueryAlignment, document_in(precision)).unwrap());
        assert_ne!(before.0, after.0);
        assert_eq!(before.1, after.1);
        let error = run(StageKind::SymmetricDocument, document_in(precision)).unwrap_err().to_string();
        let found = format!("`precision` is \"{}\"", precision.as_str());
        assert_eq!(error, format!("{found}, allowed: f32, since this stage trains the document tower"));
    }
    let (query, unpacked) = document_in(Precision::Int8).into_towers();
    let error = run(StageKind::QueryAlignment, AsymmetricEncoder::new(query, unpacked).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "`precision` is \"int8\", allowed: only as it was loaded, packed");
}

/// LoRA on the attention of the document tower.
fn lora() -> TowerTraining {
    let target_modules = ["q_proj", "v_proj", "o_proj"].map(String::from).to_vec();
    let lora = LoraConfig::reference().with(|lora| {
        lora.rank = 4;
        lora.alpha = 8.0;
        lora.target_modules = target_modules;
    });
    TowerTraining { train: Some(TrainMode::Lora), lora: Some(lora), ..TowerTraining::default() }
}

#[test]
fn low_rank_additions_learn_over_weights_of_16_bits_and_are_saved_as_an_adapter() {
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.epochs = 30;
        stage.batch_size = 6;
        stage.group_size = 3;
        stage.learning_rate = 1e-2;
        stage.document = lora();
    });
    let stage = config.check().unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let (query, document) = common::pair(0.0).into_towers();
        let document = document.map_network(|network| network.with_precision(precision));
        let before = AsymmetricEncoder::new(query, document).unwrap();
        let mut trainer = Trainer::new(before.clone(), &stage, &sources, 7).unwrap();
        let mut reports = Vec::new();
        while let Some(report) = trainer.step().unwrap() {
            reports.push(report);
        }
        falls(&reports);
        let folder = tempfile::tempdir().unwrap();
        trainer.save_adapters(folder.path(), [Some("query-base"), Some("document-base")]).unwrap();
        assert!(!folder.path().join("query").exists(), "the query tower has no adapter");
        let after = trainer.finish().unwrap();
        assert_eq!(Precision::of(after.document().network().encoder()), precision);
        // The base with the adapter is the trained tower.
        let again = before.document().clone().try_map_network(|network| {
            network.try_map_encoder(|encoder| Ok(encoder.with_adapter(folder.path().join("document"))?.merge_lora()))
        });
        let texts = ["头痛怎么办".into(), "牙疼".into()];
        assert_eq!(again.unwrap().embed(&texts, 100).unwrap(), after.document().embed(&texts, 100).unwrap());
        assert_ne!(after.document().embed(&texts, 100).unwrap(), before.document().embed(&texts, 100).unwrap());
    }
}

#[test]
fn a_frozen_document_tower_and_a_frozen_token_table_stay() {
    let (before, after, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.epochs = 40;
        stage.document.train = Some(TrainMode::Frozen);
        stage.query.freeze_token_table = true;
    });
    falls(&reports);
    assert_eq!(vectors(&before).1, vectors(&after).1);
    assert_ne!(vectors(&before).0, vectors(&after).0);
    let folder = tempfile::tempdir().unwrap();
    let table = |pair: &AsymmetricEncoder, name: &str| {
        pair.save(folder.path().join(name)).unwrap();
        let bytes = std::fs::read(folder.path().join(name).join("query_0_Transformer/model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        ["embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"]
            .map(|name| file.tensor(name).unwrap().data().to_vec())
    };
    let ([words_before, places_before], [words, places]) = (table(&before, "before"), table(&after, "after"));
    assert!(words_before == words && places_before != places);
}

#[test]
fn symmetric_training_makes_both_towers_one_network() {
    let document = common::pair(0.0).into_towers().1;
    let query = care_encoders::Tower::new(
        document.tokenizer().clone(),
        document.network().clone(),
        care_core::Instruction::new("query: ").unwrap(),
    );
    let before = AsymmetricEncoder::new(query.unwrap(), document).unwrap();
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let config = StageConfig::new(StageKind::Symmetric).with(|stage| {
        stage.epochs = 15;
        stage.batch_size = 6;
        stage.learning_rate = 5e-3;
    });
    let mut reports = Vec::new();
    let after = train_stage(before.clone(), &config.clone().check().unwrap(), &sources, 7, &mut |event| {
        reports.extend(step(event));
        ControlFlow::Continue(())
    });
    falls(&reports);
    let after = after.unwrap();
    assert_ne!(vectors(&before).1, vectors(&after).1);
    let prefixed = after.embed_documents(&["query: 头痛怎么办".into(), "query: 牙疼的处理".into()]).unwrap();
    assert_eq!(vectors(&after).0, prefixed, "queries are read by the trained network, with their own instruction");
    let error =
        train_stage(common::pair(0.0), &config.check().unwrap(), &sources, 7, &mut |_| ControlFlow::Continue(()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "a symmetric stage trains one network in both roles; start both towers from the same encoder"
    );
}

#[test]
fn a_symmetric_stage_refuses_towers_of_one_form_with_other_weights() {
    let document = common::pair(0.0).into_towers().1;
    let tower = |network| {
        care_encoders::Tower::new(document.tokenizer().clone(), network, care_core::Instruction::default()).unwrap()
    };
    let device = care_encoders::Device::Cpu.open().unwrap();
    let head = document.network().head().clone();
    let other = care_encoders::random_encoder(&document.network().encoder().config(), 9, &device).unwrap();
    let other = care_encoders::network_with_head(other, head, 9, &device).unwrap();
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let stage = StageConfig::new(StageKind::Symmetric).check().unwrap();
    let open = |network| {
        let pair = AsymmetricEncoder::new(tower(network), document.clone()).unwrap();
        Trainer::new(pair, &stage, &sources, 7).map(drop)
    };
    open(document.network().clone()).unwrap();
    assert_eq!(
        open(other).unwrap_err().to_string(),
        "a symmetric stage trains one network in both roles; start both towers from the same encoder"
    );
}

/// A custom loss: half the mean square of the queries' first components.
struct FirstComponent;

impl Loss for FirstComponent {
    fn name(&self) -> String {
        "first-component".into()
    }

    fn forward(&self, input: &LossInput) -> Tensor<1> {
        input.queries.clone().narrow(1, 0, 1).square().mean().mul_scalar(0.5)
    }
}

#[test]
fn a_custom_loss_is_added_and_reported() {
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.epochs = 10;
        stage.batch_size = 6;
    });
    let stage = config.check().unwrap();
    let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 7)
        .and_then(|trainer| trainer.with_loss(100.0, Box::new(FirstComponent)))
        .unwrap();
    let mut values = Vec::new();
    while let Some(report) = trainer.step().unwrap() {
        let custom = report.losses["first-component"];
        assert!((report.loss - report.losses["info-nce"] - 100.0 * custom).abs() < 1e-4, "{report:?}");
        values.push(custom);
    }
    assert!(values[values.len() - 1] < 0.7 * values[0], "{values:?}");
}

#[test]
fn accumulated_batches_make_fewer_steps() {
    let steps = |accumulation| {
        let (_, _, reports) = train(StageKind::JointFinetuning, |stage| {
            stage.epochs = 1;
            stage.batch_size = 4;
            stage.accumulation = accumulation;
        });
        (reports.len(), reports.iter().map(|report| report.tokens).sum::<usize>())
    };
    let (single, tokens) = steps(1);
    assert_eq!((single, steps(2), steps(3)), (3, (2, tokens), (1, tokens)));
}

#[test]
fn a_stage_may_have_its_own_loss_alone() {
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.batch_size = 6;
        stage.loss = Some(vec![]);
    });
    let stage = config.check().unwrap();
    let bare = || Trainer::new(common::pair(0.0), &stage, &sources, 7).unwrap();
    let report = bare().with_loss(1.0, Box::new(FirstComponent)).unwrap().step().unwrap().unwrap();
    assert_eq!(report.losses.keys().collect::<Vec<_>>(), ["first-component"]);
    let error = bare().step().unwrap_err().to_string();
    assert_eq!(error, "`loss` is empty, allowed: at least one loss, configured or custom");
}

#[test]
fn prompts_and_row_types_reach_the_towers() {
    let rows = |row_type, prompt: Option<&str>| {
        let rows = common::examples().into_iter().map(|example| {
            example.with(|row| {
                row.row_type = row_type;
                row.prompt = prompt.map(str::to_owned);
            })
        });
        [Source::new("rows", rows.collect()).unwrap()]
    };
    let loss = |sources: &[Source], template: Option<&str>| {
        let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
            stage.batch_size = 6;
            stage.group_size = 2;
            stage.prompt_template = template.map(str::to_owned);
        });
        let stage = config.check().unwrap();
        let mut trainer = Trainer::new(common::pair(0.0), &stage, sources, 7).unwrap();
        trainer.step().unwrap().unwrap().loss
    };
    let template = Some("{prompt}：{text}");
    let plain = loss(&rows(RowType::Normal, None), None);
    assert_eq!(loss(&rows(RowType::Normal, Some("头痛")), None), plain, "prompts have no effect without a template");
    assert_eq!(loss(&rows(RowType::Normal, None), template), plain, "nor a template without prompts");
    let prompted = loss(&rows(RowType::Normal, Some("头痛")), template);
    assert_ne!(prompted, plain);
    assert_ne!(loss(&rows(RowType::SymmetricSts, Some("头痛")), template), prompted, "documents are prompted too");
    let groups_alone = loss(&rows(RowType::SymmetricClass, None), None);
    assert!(groups_alone < plain, "fewer candidates give a lower loss: {groups_alone} and {plain}");
}

/// The small pair with these instructions of its towers.
fn instructed(query: &str, document: &str) -> AsymmetricEncoder {
    let (query_tower, document_tower) = common::pair(0.0).into_towers();
    let query_tower = query_tower.with_instruction(Instruction::new(query).unwrap());
    AsymmetricEncoder::new(query_tower, document_tower.with_instruction(Instruction::new(document).unwrap())).unwrap()
}

#[test]
fn the_teacher_reads_with_an_instruction_that_is_not_saved() {
    let train = |pair: AsymmetricEncoder, teacher: Option<&str>| {
        let config = StageConfig::new(StageKind::QueryAlignment).with(|stage| {
            stage.batch_size = 6;
            stage.max_steps = Some(1);
            stage.teacher_instruction = teacher.map(str::to_owned);
        });
        let (stage, sources) = (config.check().unwrap(), [Source::new("built in", common::examples()).unwrap()]);
        let mut trainer = Trainer::new(pair, &stage, &sources, 7).unwrap();
        let loss = trainer.step().unwrap().unwrap().loss;
        (loss, trainer.finish().unwrap())
    };
    let (as_query, _) = train(instructed("", "耳鸣{text}"), None);
    let (as_document, _) = train(instructed("", "牙疼"), None);
    assert_ne!(as_query, as_document);
    for (teacher, loss) in [("耳鸣", as_query), ("耳鸣{text}", as_query), ("牙疼", as_document)] {
        let (found, pair) = train(instructed("", "牙疼"), Some(teacher));
        assert_eq!(found, loss, "{teacher}");
        assert_eq!(pair.document().instruction().template(), "牙疼{text}");
    }
}

#[test]
fn symmetric_rows_are_read_with_the_instruction_of_the_tower_that_reads_the_queries() {
    let loss = |kind, row_type, instructions: [&str; 2]| {
        let rows = common::examples().into_iter().map(|example| example.with(|row| row.row_type = row_type));
        let sources = [Source::new("rows", rows.collect()).unwrap()];
        let stage = StageConfig::new(kind).with(|stage| {
            stage.batch_size = 6;
            stage.group_size = 2;
        });
        let stage = stage.check().unwrap();
        let pair = instructed(instructions[0], instructions[1]);
        Trainer::new(pair, &stage, &sources, 7).unwrap().step().unwrap().unwrap().loss
    };
    let (one, joint) = (StageKind::SymmetricDocument, StageKind::JointFinetuning);
    for (query, document) in [("耳鸣", "牙疼"), ("", "牙疼"), ("耳鸣", "")] {
        let normal = loss(one, RowType::Normal, [query, document]);
        assert_eq!(loss(one, RowType::SymmetricSts, [query, document]), normal, "one tower reads both sides");
        let symmetric = loss(joint, RowType::SymmetricSts, [query, document]);
        assert_eq!(symmetric, loss(joint, RowType::Normal, [query, query]), "the query's instruction on both sides");
        assert_ne!(symmetric, loss(joint, RowType::Normal, [query, document]));
    }
}

#[test]
fn a_text_that_answers_two_queries_is_no_negative_of_either() {
    let loss = |rows: Vec<TrainingExample>, kind, grad_cache| {
        let config = StageConfig::new(kind).with(|stage| {
            stage.batch_size = 8;
            stage.grad_cache = grad_cache;
            stage.loss = Some(vec![LossConfig::info_nce(0.1)]);
        });
        let (stage, sources) = (config.check().unwrap(), [Source::new("rows", rows).unwrap()]);
        let report = Trainer::new(common::pair(0.0), &stage, &sources, 7).unwrap().step().unwrap().unwrap();
        (report.loss, report.gradient_norm)
    };
    let row = |query: &str, positive: &str| TrainingExample::new(query, vec![positive.into()], vec![]);
    let one_answer = || vec![row("头痛怎么办", "多休息"), row("发烧怎么办", "多休息")];
    let one_query = || vec![row("头痛怎么办", "多休息"), row("头痛怎么办", "少熬夜")];
    for grad_cache in [None, Some(1)] {
        for rows in [one_answer(), one_query()] {
            assert_eq!(loss(rows, StageKind::JointFinetuning, grad_cache), (0.0, 0.0));
        }
        // In stage 1 a repeated text is no negative of itself.
        let twice = vec![row("头痛", "头痛"), row("头痛", "头痛")];
        assert_eq!(loss(twice, StageKind::QueryAlignment, grad_cache), (0.0, 0.0));
    }
    let different = vec![row("头痛怎么办", "多休息"), row("发烧怎么办", "少熬夜")];
    assert!(loss(different, StageKind::JointFinetuning, None).0 > 0.0);
}

#[test]
fn info_nce_without_any_negative_is_refused() {
    let refusal = |rows: usize, change: &dyn Fn(&mut StageConfig), kind| {
        let mut config = StageConfig::new(kind);
        change(&mut config);
        let (stage, rows) = (config.check().unwrap(), common::examples()[..rows].to_vec());
        let sources = [Source::new("rows", rows).unwrap()];
        let error = |loss: Option<FirstComponent>| {
            let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 7).unwrap();
            let trainer = loss.into_iter().try_fold(trainer, |trainer, loss| trainer.with_loss(1.0, Box::new(loss)));
            trainer.unwrap().step().err().map(|error| error.to_string())
        };
        assert_eq!(error(Some(FirstComponent)), None, "another loss may need none");
        error(None)
    };
    let (joint, align) = (StageKind::JointFinetuning, StageKind::QueryAlignment);
    let message = "info-nce needs negatives, but every batch is one query with one positive: its loss is always 0; set \
                   `batch_size` or `group_size` to at least 2, and use more rows than one per file";
    assert_eq!(refusal(4, &|stage| stage.batch_size = 1, joint).as_deref(), Some(message));
    assert_eq!(refusal(1, &|_| {}, joint).as_deref(), Some(message));
    assert_eq!(refusal(2, &|_| {}, joint), None);
    let groups = |stage: &mut StageConfig| (stage.batch_size, stage.group_size) = (1, 2);
    assert_eq!(refusal(4, &groups, joint), None);
    assert_eq!(refusal(4, &|stage| stage.batch_size = 1, align), None, "the other loss is the MSE");
}

/// What is warned of before the first step, and while all steps are made.
fn warned(
    pair: AsymmetricEncoder,
    rows: Vec<TrainingExample>,
    change: impl FnOnce(&mut StageConfig),
) -> (Vec<String>, Vec<String>) {
    let mut config = StageConfig::new(StageKind::JointFinetuning);
    change(&mut config);
    let (mut before, mut later, mut steps) = (Vec::new(), Vec::new(), 0);
    train_stage(pair, &config.check().unwrap(), &[Source::new("rows", rows).unwrap()], 7, &mut |event| {
        match event {
            Event::Warning(warning) if steps == 0 => before.push(warning.clone()),
            Event::Warning(warning) => later.push(warning.clone()),
            _ => steps += 1,
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    (before, later)
}

#[test]
fn vectors_that_are_not_normalised_are_warned_of_at_a_low_temperature() {
    let pair = |normalize: [bool; 2]| {
        let (query, document) = common::pair(0.0).into_towers();
        let head = |head: &care_encoders::head::HeadConfig, normalize| {
            let mut head = head.clone();
            head.normalize = normalize;
            head
        };
        let heads = [head(query.network().head(), normalize[0]), head(document.network().head(), normalize[1])];
        let [of_query, of_document] = heads;
        AsymmetricEncoder::new(
            query.map_network(|network| network.with_head(of_query).unwrap()),
            document.map_network(|network| network.with_head(of_document).unwrap()),
        )
        .unwrap()
    };
    let at = |normalize, temperature| {
        let (before, later) = warned(pair(normalize), common::examples(), |stage| {
            stage.max_steps = Some(1);
            stage.loss = Some(vec![LossConfig::info_nce(temperature)]);
        });
        assert_eq!(later, [] as [String; 0]);
        before
    };
    for temperature in [0.01, 0.02] {
        let [warning] = &at([false, false], temperature)[..] else { panic!("one warning at {temperature}") };
        assert!(warning.starts_with("similarities reach "), "{warning}");
        assert!(warning.contains(&format!("over the temperature of {temperature} that is ")), "{warning}");
        assert!(warning.contains("normalize = true"), "{warning}");
    }
    assert!(at([false, false], 1.0).is_empty());
    assert!(at([true, true], 0.01).is_empty());
}

#[test]
fn prompts_without_effect_and_steps_without_gradient_are_warned_of() {
    let with = |prompt: Option<&str>| {
        let rows = common::examples().into_iter().map(|row| row.with(|row| row.prompt = prompt.map(str::to_owned)));
        rows.collect::<Vec<_>>()
    };
    let template = |stage: &mut StageConfig| stage.prompt_template = Some("{prompt}：{text}".into());
    let warned_before = |prompt, change: &dyn Fn(&mut StageConfig)| warned(common::pair(0.0), with(prompt), change).0;
    let no_template = |tower: &str| {
        let problem = format!("the rows' `prompt` is not used, and the {tower} tower has no instruction");
        [format!("{problem}; set the stage's `prompt_template` to use it")]
    };
    assert_eq!(warned_before(Some("头痛"), &|_| {}), no_template("query"));
    let instructed = |query, document, kind| {
        warned(self::instructed(query, document), with(Some("头痛")), |stage| stage.kind = kind).0
    };
    let (joint, document) = (StageKind::JointFinetuning, StageKind::SymmetricDocument);
    assert!(instructed("问：", "", joint).is_empty() && instructed("", "答：", document).is_empty());
    assert_eq!(instructed("", "答：", joint), no_template("query"));
    assert_eq!(instructed("问：", "", document), no_template("document"));
    let no_prompt = ["`prompt_template` is set, but no row has a `prompt`: it has no effect"];
    assert_eq!(warned_before(None, &template), no_prompt);
    assert!(warned_before(Some("头痛"), &template).is_empty() && warned_before(None, &|_| {}).is_empty());

    let row = |query: &str| TrainingExample::new(query, vec!["多休息".into()], vec![]);
    let still = |epochs| warned(common::pair(0.0), vec![row("头痛"), row("发烧")], |stage| stage.epochs = epochs);
    let warning = "the gradient norm was 0 in the last 20 steps: nothing is being trained";
    assert_eq!(still(45), (vec![], vec![warning.to_owned()]), "once");
    assert_eq!(still(19), (vec![], vec![]));
}

#[test]
fn a_last_token_that_is_a_word_is_warned_of() {
    let pair = |query, document| {
        let (query_tower, document_tower) = common::pair(0.0).into_towers();
        let plain = |tokenizer: &Tokenizer, is_plain| {
            let mut json: serde_json::Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
            if is_plain {
                json["post_processor"] = serde_json::Value::Null;
            }
            Tokenizer::from_json(&json.to_string(), tokenizer.pad_id(), 24).unwrap()
        };
        AsymmetricEncoder::new(
            care_encoders::Tower::new(
                plain(query_tower.tokenizer(), query),
                query_tower.network().clone(),
                Default::default(),
            )
            .unwrap(),
            care_encoders::Tower::new(
                plain(document_tower.tokenizer(), document),
                document_tower.network().clone(),
                Default::default(),
            )
            .unwrap(),
        )
        .unwrap()
    };
    let of = |pair, kind| warned(pair, common::examples(), |stage| stage.kind = kind).0;
    // The query tower takes the first token, which such a tokenizer leaves out as well.
    for kind in [StageKind::JointFinetuning, StageKind::SymmetricDocument, StageKind::QueryAlignment] {
        assert!(of(pair(true, false), kind).is_empty());
        let [warning] = &of(pair(false, true), kind)[..] else { panic!("one warning") };
        assert!(warning.starts_with("the document tower takes the last token's state, but its tokenizer"), "{warning}");
    }
}

#[test]
fn a_negative_that_is_a_positive_is_used_with_a_warning() {
    let mut rows = common::examples();
    rows[2].negatives = rows[2].positives.clone();
    let answer = format!(" {}", rows[5].positives[0]);
    rows[5].negatives.push(answer);
    let source = Source::new("mined", rows).unwrap();
    assert_eq!(
        source.warnings(),
        ["mined, row 2: `neg[0]` is in `pos` too; it is not used as a negative, nor are such texts of 1 other row"]
    );
    assert!(Source::new("built in", common::examples()).unwrap().warnings().is_empty());
}

#[test]
fn distillation_wants_scores_and_learns_them() {
    let scored: Vec<TrainingExample> = common::examples()
        .into_iter()
        .map(|example| {
            example.with(|row| {
                row.positive_scores = vec![1.0];
                row.negative_scores = vec![3.0, 0.0];
            })
        })
        .collect();
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.epochs = 30;
        stage.batch_size = 6;
        stage.group_size = 3;
        stage.learning_rate = 5e-3;
        stage.loss = Some(vec![LossConfig::new(LossKind::Distillation).with(|loss| loss.temperature = Some(0.2))]);
    });
    let stage = config.check().unwrap();
    let sources = [Source::new("scored", scored).unwrap()];
    let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 7).unwrap();
    let mut reports = Vec::new();
    while let Some(report) = trainer.step().unwrap() {
        reports.push(report);
    }
    falls(&reports);
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let error = Trainer::new(common::pair(0.0), &stage, &sources, 7).err().unwrap().to_string();
    assert_eq!(error, "built in, row 0: `pos_scores` is missing, but the distillation loss needs it");
}

#[test]
fn settings_that_do_not_fit_the_towers_are_refused() {
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let refusal = |change: &dyn Fn(&mut StageConfig)| {
        let mut config = StageConfig::new(StageKind::JointFinetuning);
        change(&mut config);
        Trainer::new(common::pair(0.0), &config.check().unwrap(), &sources, 7).err().unwrap().to_string()
    };
    let wide = LossConfig::new(LossKind::InfoNce).with(|loss| loss.dims = vec![8, 17]);
    assert_eq!(
        refusal(&|stage| stage.loss = Some(vec![wide.clone()])),
        "`dims` is 17, allowed: at most 16, the dimension of the towers' vectors"
    );
    assert_eq!(
        refusal(&|stage| stage.document.dropout = Some(0.1)),
        "`dropout` is 0.1, allowed: unset, qwen3 networks have no dropout"
    );
    let none = LoraConfig::reference().with(|lora| lora.target_modules = vec!["c_attn".into()]);
    assert_eq!(
        refusal(&|stage| stage.document = TowerTraining { lora: Some(none.clone()), ..lora() }),
        "`target_modules` [\"c_attn\"] match no linear layer"
    );
    let stage = StageConfig::new(StageKind::JointFinetuning).check().unwrap();
    assert_eq!(stage.mode(Role::Document), TrainMode::Full);
    let error = Trainer::new(common::pair(0.0), &stage, &[], 7).err().unwrap().to_string();
    assert_eq!(error, "a stage needs at least one source of training rows");
    let (query, document) = common::pair(0.0).into_towers();
    let document = document.with_instruction(care_core::Instruction::new("{title}{sep}{text}").unwrap());
    let error = Trainer::new(AsymmetricEncoder::new(query, document).unwrap(), &stage, &sources, 7).err().unwrap();
    assert_eq!(
        error.to_string(),
        "`instruction` is \"{title}{sep}{text}\", allowed: without {sep}: training rows have no titles"
    );
}
