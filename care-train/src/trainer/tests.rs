//! Gradients of a batch: cached, accumulated, with dropout.

use care_core::Embedder;

use super::*;
use crate::config::StageConfig;
use crate::gradient::{Gradient, collect_gradients};
use crate::pass::select;
use crate::testing::{alone, common};

/// The gradients of a stage's first batch.
fn gradients(dropout: f64, kind: StageKind, change: impl FnOnce(&mut StageConfig)) -> BTreeMap<String, Vec<f32>> {
    let mut config = StageConfig::new(kind).with(|stage| {
        stage.batch_size = 7;
        stage.group_size = 3;
    });
    change(&mut config);
    let stage = config.check().expect("good");
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let trainer = Trainer::new(common::pair(dropout), &stage, &sources, 5).expect("a trainer");
    host(of_batch(&trainer, 0))
}

/// The gradients of the batch with this number.
fn of_batch(trainer: &Trainer<'_>, number: usize) -> NamedGradients {
    let mut sum = trainer.no_gradients();
    trainer.batch(number, 1.0, &mut sum).expect("a batch");
    sum.finish().expect("alone")
}

fn host(gradients: NamedGradients) -> BTreeMap<String, Vec<f32>> {
    let host = |gradient: Gradient| gradient.whole().into_data().try_to_vec::<f32>().expect("f32");
    gradients.into_iter().map(|(name, gradient)| (name, host(gradient))).collect()
}

/// Asserts that the same weights have gradients, equal to within 1e-5 of each weight's largest.
fn equal(found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>) {
    assert!(found.keys().eq(expected.keys()));
    let length = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let longest = expected.values().map(|values| length(values)).fold(0.0, f32::max);
    for (name, expected) in expected {
        // The gradient of a bias before a softmax is pure rounding error, so it is compared on the scale of the others.
        let size = length(expected).max(1e-3 * longest);
        for (found, expected) in found[name].iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-5 * size, "{name}: {found} instead of {expected}");
        }
    }
}

#[test]
fn cached_gradients_are_those_of_the_whole_batch() {
    let _alone = alone();
    for kind in [StageKind::JointFinetuning, StageKind::SymmetricDocument, StageKind::QueryAlignment] {
        let group = if kind == StageKind::QueryAlignment { 1 } else { 3 };
        let plain = gradients(0.0, kind, |stage| stage.group_size = group);
        assert!(plain.values().any(|values| values.iter().any(|value| *value != 0.0)));
        for size in [1, 2, 5, 100] {
            let cached = gradients(0.0, kind, |stage| {
                stage.group_size = group;
                stage.grad_cache = Some(size);
            });
            equal(&cached, &plain);
        }
    }
}

#[test]
fn gradients_of_repeated_layers_are_those_of_the_whole_batch() {
    let _alone = alone();
    let of = |layers: bool, grad_cache| {
        gradients(0.0, StageKind::JointFinetuning, |stage| {
            stage.gradient_checkpointing = layers;
            stage.grad_cache = grad_cache;
        })
    };
    let plain = of(false, None);
    for grad_cache in [None, Some(3)] {
        equal(&of(true, grad_cache), &plain);
    }
    // A layer that is repeated draws the same dropout masks: the gradients of two runs agree, and dropout has an effect.
    let dropped = || gradients(0.3, StageKind::JointFinetuning, |stage| stage.gradient_checkpointing = true);
    assert_eq!(dropped(), dropped());
    assert_ne!(dropped(), plain);
}

#[test]
fn gradients_on_the_kernels_are_those_of_burn() {
    let _alone = alone();
    for kind in [StageKind::JointFinetuning, StageKind::QueryAlignment] {
        let of =
            || gradients(0.0, kind, |stage| stage.group_size = if kind == StageKind::JointFinetuning { 3 } else { 1 });
        equal(&of(), &care_encoders::internals::without_training_kernels(of));
    }
}

#[test]
fn cached_gradients_of_one_network_in_both_roles() {
    let _alone = alone();
    let both = |grad_cache| {
        let (_, document) = common::pair(0.0).into_towers();
        let (tokenizer, network) = (document.tokenizer().clone(), document.network().clone());
        let query = care_encoders::Tower::new(tokenizer, network, Default::default()).expect("a tower");
        let pair = AsymmetricEncoder::new(query, document).expect("a pair");
        let config = StageConfig::new(StageKind::Symmetric).with(|stage| {
            stage.batch_size = 7;
            stage.group_size = 2;
            stage.grad_cache = grad_cache;
        });
        let stage = config.check().expect("good");
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let trainer = Trainer::new(pair, &stage, &sources, 5).expect("a trainer");
        host(of_batch(&trainer, 0))
    };
    let plain = both(None);
    assert!(plain.keys().all(|name| name.starts_with("document.")));
    equal(&both(Some(3)), &plain);
}

#[test]
fn accumulated_gradients_are_the_mean_of_the_batches() {
    let _alone = alone();
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.batch_size = 4;
        stage.group_size = 2;
    });
    let stage = config.check().expect("good");
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
    let mut together = trainer.no_gradients();
    let mut expected = BTreeMap::<String, Vec<f32>>::new();
    for number in 0..3 {
        trainer.batch(number, 1.0 / 3.0, &mut together).expect("a batch");
        for (name, values) in host(of_batch(&trainer, number)) {
            let sum = expected.entry(name).or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / 3.0);
        }
    }
    equal(&host(together.finish().expect("alone")), &expected);
}

#[test]
fn dropout_is_the_same_on_the_way_back() {
    let _alone = alone();
    let whole = |grad_cache| gradients(0.3, StageKind::JointFinetuning, |stage| stage.grad_cache = grad_cache);
    let undropped = gradients(0.0, StageKind::JointFinetuning, |_| {});
    assert_ne!(whole(None), undropped, "dropout has an effect");
    equal(&whole(Some(100)), &whole(None));
}

/// Compares cached gradients with those of the same chunks, under the same seeds, in one graph.
fn every_chunk_goes_the_same_way(dropout: f64, change: impl FnOnce(&mut StageConfig)) -> BTreeMap<String, Vec<f32>> {
    let _alone = alone();
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let mut config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        stage.batch_size = 7;
        stage.group_size = 3;
        stage.grad_cache = Some(4);
    });
    change(&mut config);
    let stage = config.check().expect("good");
    let trainer = Trainer::new(common::pair(dropout), &stage, &sources, 5).expect("a trainer");
    let batch = trainer.ahead.batcher().batch(0).expect("rows");
    let batch = trainer.towers.read(&stage, batch).expect("texts");
    let cached = of_batch(&trainer, 0);

    let encoded = trainer.towers.encode(&stage, &batch, batch_seed(5, 0, 0)).expect("encoded");
    let mut input = encoded.input.clone();
    for (role, pass) in &encoded.passes {
        let (vectors, places) = pass.with_graph(trainer.network(*role));
        let vectors = select(&vectors, &places);
        match role {
            Role::Query => input.queries = vectors,
            Role::Document => input.documents = vectors,
        }
    }
    let mut of_batch = trainer.objective.forward(&input).expect("losses").0.backward();
    let mut plain = NamedGradients::new();
    for role in [Role::Query, Role::Document] {
        collect_gradients(trainer.network(role), role.as_str(), &mut of_batch, None, &mut plain);
    }
    let (cached, plain) = (host(cached), host(plain));
    equal(&cached, &plain);
    cached
}

#[test]
fn dropout_is_the_same_on_the_way_back_of_every_chunk() {
    let dropped = every_chunk_goes_the_same_way(0.3, |_| {});
    assert_ne!(dropped, every_chunk_goes_the_same_way(0.0, |_| {}), "dropout has an effect");
    let adapter = |dropout: f64| {
        every_chunk_goes_the_same_way(0.0, |stage| {
            stage.document.train = Some(TrainMode::Lora);
            stage.document.lora = Some(LoraConfig::reference().with(|lora| {
                lora.rank = 4;
                lora.dropout = dropout;
            }));
        })
    };
    let dropped = adapter(0.3);
    assert!(dropped.keys().any(|name| name.ends_with("lora.b")));
    assert_ne!(dropped, adapter(0.0), "dropout has an effect");
}

#[test]
fn the_towers_embed_in_the_middle_of_a_stage_without_dropout() {
    let _alone = alone();
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let stage = StageConfig::new(StageKind::JointFinetuning).with(|stage| stage.batch_size = 4).check().expect("good");
    let mut trainer = Trainer::new(common::pair(0.5), &stage, &sources, 5).expect("a trainer");
    trainer.step().expect("a step");
    let queries = ["头痛".into()];
    let once = trainer.embedder().embed_queries(&queries).expect("embedded");
    assert_eq!(once, trainer.embedder().embed_queries(&queries).expect("embedded"));
    assert_eq!(once, trainer.finish().expect("a pair").embed_queries(&queries).expect("embedded"));
}

#[test]
fn frozen_networks_stay_packed_and_the_dev_set_is_encoded_with_the_trained_weights() {
    use care_core::{Document, Query};
    use care_encoders::DEFAULT_TOKEN_BUDGET;

    use crate::checkpoint::{Checkpoints, Place, Progress, Written};
    use crate::fingerprint::Settings;

    let _alone = alone();
    let packed = |network: &Network<AnyEncoder>| {
        let mut packed = Vec::new();
        network.encoder().clone().for_each_linear(&mut |linear| packed.push(linear.prepacked().is_some()));
        assert!(packed.len() > 5);
        assert!(packed.iter().all(|one| *one == packed[0]), "all layers or none");
        packed[0]
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, frozen) in [(StageKind::QueryAlignment, Role::Document), (StageKind::JointFinetuning, Role::Query)] {
        let mut config = StageConfig::new(kind).with(|stage| {
            stage.batch_size = 4;
            stage.learning_rate = 0.01;
        });
        if frozen == Role::Query {
            config.query.train = Some(TrainMode::Frozen);
            config.document.train = Some(TrainMode::Lora);
        }
        let stage = config.check().expect("good");
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
        trainer.open_teacher(&folder.path().join("cache")).expect("a cache");
        assert_eq!(trainer.towers().teacher.is_some(), frozen == Role::Document);
        while let Some(mut lot) = trainer.coming_teacher_texts().expect("texts") {
            while lot.fill_next(trainer.towers()).expect("encoded").is_some() {}
        }
        let before = trainer.embedder().embed_queries(&[Query::new("头痛怎么办")]).expect("encoded");
        trainer.step().expect("a step");
        let written = Written { name: "frozen", network: trainer.network(frozen).clone(), whole: false };
        let (settings, progress) = (Settings::new(), Progress::default());
        let place = Place { stage: 1, step: 1, settings: &settings, changes: &[], progress: &progress };
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"), 1);
        checkpoints.write(place, &[written], trainer.optimizer()).expect("written");
        let queries = [Query::new("头痛怎么办"), Query::new("发烧")];
        let documents = [Document::new("多休息"), Document::new("头痛的处理：多休息，必要时就医。")];
        let snapshot = trainer.towers().snapshot();
        assert!(packed(snapshot.query.network()) && packed(snapshot.document.network()), "{kind:?}");
        let found = [snapshot.embed_queries(&queries), snapshot.embed_documents(&documents)]
            .map(|found| found.expect("encoded"));
        drop(snapshot);
        assert!(packed(trainer.network(frozen)), "{kind:?}");
        assert!(!packed(trainer.network(if frozen == Role::Query { Role::Document } else { Role::Query })), "{kind:?}");
        if kind == StageKind::QueryAlignment {
            let changed = before.row(0).iter().zip(found[0].row(0)).any(|(a, b)| (a - b).abs() > 1e-4);
            assert!(changed, "the weights are those after the step");
        }
        // The plain weights give the same vectors, up to rounding.
        let towers = trainer.towers();
        let plain = [
            towers
                .query
                .clone()
                .map_network(|network| network.unpacked_copy().valid())
                .embed(&queries, DEFAULT_TOKEN_BUDGET),
            towers
                .document
                .clone()
                .map_network(|network| network.unpacked_copy().valid())
                .embed(&documents, DEFAULT_TOKEN_BUDGET),
        ];
        for (found, plain) in found.iter().zip(plain) {
            let plain = plain.expect("encoded");
            for row in 0..2 {
                for (a, b) in found.row(row).iter().zip(plain.row(row)) {
                    assert!((a - b).abs() < 1e-5, "{kind:?}: {a} instead of {b}");
                }
            }
        }
    }
}

#[test]
fn the_teachers_texts_come_lot_by_lot_wherever_a_stage_starts() {
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let lots = |from: usize, change: &dyn Fn(&mut StageConfig)| {
        let mut config = StageConfig::new(StageKind::QueryAlignment).with(|stage| {
            stage.batch_size = 2;
            stage.epochs = 2;
        });
        change(&mut config);
        let stage = config.check().expect("good");
        let folder = tempfile::tempdir().expect("a folder");
        let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
        trainer.open_teacher(folder.path()).expect("opened");
        (trainer.lots, trainer.step) = (TeacherLots::of(2), from);
        let mut found = Vec::new();
        loop {
            while let Some(mut lot) = trainer.coming_teacher_texts().expect("texts") {
                found.push((trainer.step, lot.len()));
                while lot.fill_next(trainer.towers()).expect("filled").is_some() {}
            }
            let before = trainer.towers().teacher.as_ref().map(|store| store.lock().expect("a store").len());
            if trainer.step().expect("a step").is_none() {
                return found;
            }
            let after = trainer.towers().teacher.as_ref().map(|store| store.lock().expect("a store").len());
            assert_eq!(before, after, "the step finds what it reads");
        }
    };
    // A batch reads 2 queries and 2 positives, and an epoch has 6 batches.
    assert_eq!(lots(0, &|_| {}), [(0, 8), (2, 8), (4, 8)], "the second epoch reads nothing new");
    // In the middle of a stage the lots are the same. The second epoch reads what the first did not get to.
    let resumed = lots(3, &|_| {});
    assert_eq!(resumed[..2], [(3, 8), (4, 8)]);
    assert!(resumed[2..].iter().all(|&(step, texts)| step % 2 == 0 && texts == 8) && resumed.len() > 2, "{resumed:?}");
    assert_eq!(lots(0, &|stage| stage.max_steps = Some(3)), [(0, 8), (2, 4)]);
    assert_eq!(lots(0, &|stage| stage.accumulation = 3), [(0, 8), (0, 8), (1, 8)]);
}

#[test]
fn an_error_of_a_batch_belongs_to_the_step_that_wants_it() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("rows.jsonl");
    let rows = |name: &str| {
        (0..8).map(|row| format!("{{\"query\":\"{name}{row}\",\"pos\":[\"{row}\"]}}\n")).collect::<String>()
    };
    std::fs::write(&path, rows("a")).expect("written");
    let sources = [crate::dataset::read_source(&path).expect("rows")];
    let stage = StageConfig::new(StageKind::JointFinetuning).with(|stage| stage.batch_size = 4).check().expect("good");
    let mut trainer = Trainer::new(common::pair(0.0), &stage, &sources, 3).expect("a trainer");
    assert_eq!(trainer.total_steps(), 2);
    trainer.ahead.meanwhile(0, &trainer.towers, &stage, || ());
    std::fs::write(&path, rows("b")).expect("written");
    assert!(trainer.step().expect("its batch was read before").is_some());
    let error = trainer.step().expect_err("changed").to_string();
    assert!(error.ends_with("rows.jsonl: the file has changed since it was opened"), "{error}");
    assert_eq!(trainer.steps_done(), 1);
    std::fs::write(&path, rows("a")).expect("written");
    assert!(trainer.step().expect("the rows are back").is_some());
    assert!(trainer.step().expect("complete").is_none());
}

/// The most tokens of a batch of the trained towers, over some epochs.
fn most_tokens(kind: StageKind, change: impl FnOnce(&mut StageConfig)) -> (usize, usize) {
    let mut config = StageConfig::new(kind).with(|stage| {
        stage.batch_size = 12;
        stage.epochs = 4;
    });
    change(&mut config);
    let stage = config.check().expect("good");
    let mut rows = common::examples();
    for (number, row) in rows.iter_mut().enumerate() {
        row.prompt = (number % 2 == 0).then(|| "Find it".to_owned());
        row.positives.push("长".repeat(1 + 5 * (number % 3)));
        row.negatives.truncate(1 + number % 2);
    }
    let sources = [Source::new("built in", rows).expect("rows")];
    let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
    let last = trainer.batches_of(trainer.total_steps() - 1).end;
    let tokens = |number| {
        let read = trainer.ahead.take(number, &trainer.towers, &stage).expect("rows");
        let encoded = trainer.towers.encode(&stage, &read, 1).expect("encoded");
        encoded.passes.iter().map(|(_, pass)| pass.tokens()).sum::<usize>()
    };
    ((0..last).map(tokens).max().expect("a batch"), last)
}

#[test]
fn the_trained_towers_never_read_more_than_the_token_budget() {
    let _alone = alone();
    let frozen = |stage: &mut StageConfig| stage.document.train = Some(TrainMode::Frozen);
    let group = |stage: &mut StageConfig| stage.group_size = 3;
    let prompted = |stage: &mut StageConfig| {
        (stage.group_size, stage.prompt_template) = (2, Some("{prompt}: {text}".into()));
    };
    let holds = |kind, change: &dyn Fn(&mut StageConfig)| {
        let (whole, _) = most_tokens(kind, change);
        for share in [2, 3] {
            let budget = whole.div_ceil(share) + 20;
            let (most, batches) = most_tokens(kind, |stage| {
                change(stage);
                stage.max_batch_tokens = Some(budget);
            });
            assert!(most <= budget, "{kind:?}: {most} of {budget}");
            assert!(batches > 4, "{kind:?}: the budget divides an epoch");
        }
    };
    holds(StageKind::QueryAlignment, &|_| {});
    holds(StageKind::QueryAlignment, &group);
    holds(StageKind::JointFinetuning, &group);
    holds(StageKind::JointFinetuning, &prompted);
    holds(StageKind::JointFinetuning, &frozen);
    holds(StageKind::SymmetricDocument, &prompted);
}
