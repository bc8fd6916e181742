//! Many callers at once: a pair, a queue and a store answer all of them, on the threads that compute and on others.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use care_core::embedder::{QueryQueue, QueueOptions, StoredEmbedder};
use care_core::{Document, Embedder, Embeddings, Query};
use care_encoders::{AsymmetricEncoder, EncoderOptions, load_tower};
use common::{cpu, fixture};
use rayon::prelude::*;

/// What hangs is a failure; nothing here takes a second.
const WATCHDOG: Duration = Duration::from_secs(100);

fn pair() -> AsymmetricEncoder {
    let options = EncoderOptions::default().with_max_length(40);
    let query = load_tower(fixture("bert"), &options, &cpu()).unwrap();
    AsymmetricEncoder::new(query, load_tower(fixture("bert"), &options, &cpu()).unwrap()).unwrap()
}

/// The vectors of a caller's texts in both roles. The texts of callers overlap.
fn ask(model: &dyn Embedder, caller: usize) -> [Embeddings; 2] {
    let texts = (caller / 2..caller / 2 + 3).map(|n| format!("头痛第{n}天怎么办"));
    let (queries, documents): (Vec<Query>, Vec<Document>) =
        texts.map(|text| (text.clone().into(), text.into())).unzip();
    [model.embed_queries(&queries).unwrap(), model.embed_documents(&documents).unwrap()]
}

/// Runs `work` on another thread.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(WATCHDOG).unwrap_or_else(|e| panic!("{what}: {e}"))
}

#[test]
fn every_caller_gets_an_answer_on_threads_of_either_kind() {
    let place = tempfile::tempdir().unwrap();
    let small = QueueOptions::default().with_batch(4).with_capacity(8);
    let queue = |options| QueryQueue::new(pair(), options).unwrap();
    let store = |name: &str| place.path().join(name);
    let models: [(&str, Arc<dyn Embedder>); 5] = [
        ("pair", Arc::new(pair())),
        ("queue", Arc::new(queue(small))),
        ("store", Arc::new(StoredEmbedder::open(pair(), store("pair")).unwrap())),
        ("store over a queue", Arc::new(StoredEmbedder::open(queue(small), store("queue")).unwrap())),
        (
            "queue over a store",
            Arc::new(
                QueryQueue::new(StoredEmbedder::open(pair(), store("under")).unwrap(), QueueOptions::default())
                    .unwrap(),
            ),
        ),
    ];
    let alone: Vec<[Embeddings; 2]> = (0..64).map(|caller| ask(&*models[0].1, caller)).collect();
    // Padding and batches change the last bits.
    let check = |name: &str, answers: Vec<[Embeddings; 2]>| {
        assert_eq!(answers.len(), 64, "{name}");
        for (answer, alone) in answers.iter().flatten().zip(alone.iter().flatten()) {
            let difference = common::difference(&common::rows(answer), &common::rows(alone));
            assert!(difference < 1e-5, "{name}: {difference}");
        }
    };
    for (name, model) in models {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let shared = model.clone();
        let of_pool = in_time(&format!("{name} in a pool of 8"), move || {
            pool.install(|| (0..64).into_par_iter().map(|caller| ask(&*shared, caller)).collect::<Vec<_>>())
        });
        check(name, of_pool);
        let of_threads = in_time(&format!("{name} from 64 threads"), move || {
            std::thread::scope(|scope| {
                let model = &*model;
                let callers: Vec<_> = (0..64).map(|caller| scope.spawn(move || ask(model, caller))).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
            })
        });
        check(name, of_threads);
    }
}
