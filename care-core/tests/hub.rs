//! Tests hub downloads against a local server that responds like the hub.
//!
//! If a proxy is set in the environment, `NO_PROXY` must include 127.0.0.1.

#![allow(clippy::unwrap_used)]

mod hub_server;

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::ErrorKind;
use care_core::hub::{Download, Hub, HubConfig, RepoId, RepoKind, Snapshot};
use hub_server::{COMMIT_A, COMMIT_B, HubServer, git_blob, sha256};
use tempfile::TempDir;

const CONFIG: &[u8] = br#"{"model_type": "bert"}"#;
const TOKENIZER: &[u8] = br#"{"version": "1.0"}"#;
const POOLING: &[u8] = br#"{"pooling_mode_cls_token": true}"#;

/// Weights that are larger than any buffer.
fn weights() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A server with the model `org/tower` at commit A, the head of its branch `main`.
fn server() -> HubServer {
    let server = HubServer::start();
    server.set_branch("org/tower", "main", COMMIT_A);
    server.add("org/tower", COMMIT_A, "config.json", CONFIG);
    server.add("org/tower", COMMIT_A, "tokenizer.json", TOKENIZER);
    server.add("org/tower", COMMIT_A, "1_Pooling/config.json", POOLING);
    server.add_large("org/tower", COMMIT_A, "model.safetensors", &weights());
    server.add_large("org/tower", COMMIT_A, "pytorch_model.bin", b"pickle");
    server.add_large("org/tower", COMMIT_A, "onnx/model.onnx", b"onnx");
    server.add("org/tower", COMMIT_A, "onnx/config.json", CONFIG);
    server.add("org/tower", COMMIT_A, "README.md", b"# tower");
    server
}

/// An empty cache and the settings of a hub that uses it.
struct Cache {
    folder: TempDir,
    config: HubConfig,
}

impl Cache {
    fn new(server: &HubServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = HubConfig::new(folder.path()).with_endpoint(server.endpoint());
        Self { folder, config }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.config.clone()).unwrap()
    }

    fn offline(&self) -> Hub {
        Hub::new(self.config.clone().with_offline(true)).unwrap()
    }

    fn with_token(&self, token: &str) -> Hub {
        Hub::new(self.config.clone().with_token(token)).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("models--org--tower").join(path)
    }

    /// Stores a model as the Python library does: blobs, links and the branch's commit.
    fn fill_as_python(&self, files: &[(&str, &[u8])]) {
        fs::create_dir_all(self.path("refs")).unwrap();
        fs::write(self.path("refs/main"), COMMIT_A).unwrap();
        for (file, content) in files {
            let (blob, pointer) = (self.path("blobs").join(sha256(content)), self.snapshot().join(file));
            fs::create_dir_all(blob.parent().unwrap()).unwrap();
            fs::create_dir_all(pointer.parent().unwrap()).unwrap();
            fs::write(&blob, content).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(&blob, &pointer).unwrap();
            #[cfg(not(unix))]
            fs::copy(&blob, &pointer).unwrap();
        }
    }

    fn snapshot(&self) -> PathBuf {
        self.path("snapshots").join(COMMIT_A)
    }

    /// An error message with the cache's path and the endpoint replaced by placeholders.
    fn message(&self, error: &care_core::Error) -> String {
        let text = error.to_string().replace(&self.folder.path().display().to_string(), "CACHE");
        text.replace(&self.config.endpoint, "HUB")
    }
}

fn id(text: &str) -> RepoId {
    text.parse().unwrap()
}

fn model(hub: &Hub, text: &str) -> care_core::Result<Snapshot> {
    hub.model(&id(text), &mut |_| ())
}

/// Every file below a folder except lock files, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_model_is_downloaded_into_the_layout_of_the_python_library() {
    let server = server();
    let cache = Cache::new(&server);
    let snapshot = model(&cache.hub(), "org/tower").unwrap();
    assert_eq!((snapshot.folder.clone(), snapshot.commit.as_str()), (cache.snapshot(), COMMIT_A));

    let mut blobs = [CONFIG, TOKENIZER, POOLING].map(|content| format!("blobs/{}", git_blob(content))).to_vec();
    blobs.push(format!("blobs/{}", sha256(&weights())));
    blobs.sort();
    let mut expected = if cfg!(unix) { blobs } else { Vec::new() };
    expected.push(format!("care/{COMMIT_A}.json"));
    expected.push("refs/main".into());
    for file in ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"] {
        expected.push(format!("snapshots/{COMMIT_A}/{file}"));
    }
    assert_eq!(files(&cache.path("")), expected);
    assert_eq!(fs::read_to_string(cache.path("refs/main")).unwrap(), COMMIT_A);
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(snapshot.folder.join("1_Pooling/config.json")).unwrap(),
        Path::new("../../../blobs").join(git_blob(POOLING))
    );
    // Files that no loader reads are not requested.
    assert!(server.requests().iter().all(|request| !request.path.contains("onnx") && !request.path.contains("README")));
}

#[test]
fn a_complete_model_is_used_without_a_request() {
    let server = server();
    let cache = Cache::new(&server);
    let first = model(&cache.hub(), "org/tower").unwrap();
    server.clear();
    assert_eq!(model(&cache.hub(), "org/tower").unwrap(), first);
    assert_eq!(model(&cache.offline(), "org/tower").unwrap(), first);
    assert_eq!(model(&cache.hub(), &format!("org/tower@{COMMIT_A}")).unwrap(), first);
    assert_eq!(server.requests(), []);
}

#[test]
fn a_cache_that_python_filled_is_used_without_a_request() {
    let server = server();
    let cache = Cache::new(&server);
    cache.fill_as_python(&[("config.json", CONFIG), ("tokenizer.json", TOKENIZER), ("model.safetensors", b"w")]);
    for hub in [cache.hub(), cache.offline()] {
        assert_eq!(model(&hub, "org/tower").unwrap().folder, cache.snapshot());
    }
    assert_eq!(server.requests(), []);
}

#[test]
fn what_a_cache_lacks_is_named_offline_and_downloaded_online() {
    let server = server();
    let cache = Cache::new(&server);
    cache.fill_as_python(&[("config.json", CONFIG), ("model.safetensors", &weights())]);
    let error = model(&cache.offline(), "org/tower").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hub);
    assert_eq!(
        cache.message(&error),
        format!(
            "org/tower at revision main: the cache CACHE has commit {COMMIT_A} without tokenizer.json, and \
             HF_HUB_OFFLINE is set"
        )
    );
    assert_eq!(server.requests(), []);

    let mut seen = Vec::new();
    let mut note = |download: Download<'_>| {
        if seen.last() != Some(&download.file.to_string()) {
            seen.push(download.file.to_string());
        }
        assert_eq!((seen.len() - 1, 2), (download.index, download.files));
    };
    cache.hub().model(&id("org/tower"), &mut note).unwrap();
    assert_eq!(seen, ["1_Pooling/config.json", "tokenizer.json"]);
}

#[test]
fn a_shard_that_a_cache_lacks_is_named() {
    let server = server();
    let cache = Cache::new(&server);
    let index =
        br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    cache.fill_as_python(&[
        ("config.json", CONFIG),
        ("tokenizer.json", TOKENIZER),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"w"),
    ]);
    let error = model(&cache.offline(), "org/tower").unwrap_err();
    assert!(error.to_string().contains(" without model-00002-of-00002.safetensors, and"), "{error}");
}

#[test]
fn a_content_that_is_gone_is_downloaded_again() {
    let server = server();
    let cache = Cache::new(&server);
    let snapshot = model(&cache.hub(), "org/tower").unwrap();
    let target = fs::canonicalize(snapshot.folder.join("tokenizer.json")).unwrap();
    fs::remove_file(target).unwrap();
    let error = model(&cache.offline(), "org/tower").unwrap_err();
    assert!(error.to_string().contains(" without tokenizer.json, and HF_HUB_OFFLINE is set"), "{error}");
    model(&cache.hub(), "org/tower").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("tokenizer.json")).unwrap(), TOKENIZER);
}

#[test]
fn an_absent_model_is_an_error_offline() {
    let server = server();
    let cache = Cache::new(&server);
    let error = model(&cache.offline(), "org/tower@v1").unwrap_err();
    assert_eq!(
        cache.message(&error),
        "org/tower at revision v1: it is not in the cache CACHE, and HF_HUB_OFFLINE is set"
    );
    assert_eq!(server.requests(), []);
}

#[test]
fn the_token_is_sent_and_never_shown() {
    let server = server();
    server.require_token("hf_secret");
    let cache = Cache::new(&server);

    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(
        cache.message(&error),
        "org/tower at revision main: status 401: it is private, gated or does not exist; set HF_TOKEN to a token with \
         access"
    );
    assert!(error.source().is_some());

    let hub = cache.with_token("hf_wrong");
    let error = model(&hub, "org/tower").unwrap_err();
    assert_eq!(
        cache.message(&error),
        "org/tower at revision main: status 403: it is private, gated or does not exist, and the token has no access; \
         accept a gated repository's terms at HUB/org/tower"
    );
    assert!(!format!("{hub:?} {error:?}").contains("hf_wrong"));

    model(&cache.with_token("hf_secret"), "org/tower").unwrap();
}

#[test]
fn the_token_goes_to_the_endpoint_and_to_no_other_host() {
    let server = server();
    server.require_token("hf_secret");
    server.store_elsewhere();
    let cache = Cache::new(&server);
    model(&cache.with_token("hf_secret"), "org/tower").unwrap();
    let (elsewhere, endpoint): (Vec<_>, Vec<_>) =
        server.requests().into_iter().partition(|request| request.path.starts_with("/store/"));
    assert!(elsewhere.len() == 1 && elsewhere.iter().all(|request| request.authorization.is_none()));
    let bearer = Some("Bearer hf_secret".to_owned());
    assert!(endpoint.len() > 4 && endpoint.iter().all(|request| request.authorization == bearer));
}

#[test]
fn a_server_that_sends_nothing_or_a_byte_at_a_time_is_given_up() {
    for slow in [hub_server::Slow::Silent, hub_server::Slow::Drip] {
        let server = server();
        let mut cache = Cache::new(&server);
        server.slow_down(slow);
        cache.config.timeout = std::time::Duration::from_millis(400);
        let start = std::time::Instant::now();
        let error = model(&cache.hub(), "org/tower").unwrap_err();
        let expected =
            "org/tower at revision main: (almost) no data for 0.4 s; it is not in the cache CACHE, try again to resume";
        assert_eq!(cache.message(&error), expected);
        assert!(start.elapsed().as_secs() < 20);
    }
    // The list of files arrives, a large file does not.
    let server = server();
    let mut cache = Cache::new(&server);
    let started = std::sync::atomic::AtomicBool::new(false);
    cache.config.timeout = std::time::Duration::from_millis(400);
    let hub = cache.hub();
    let slowed = &mut |download: Download<'_>| {
        if download.file == "config.json" && !started.swap(true, std::sync::atomic::Ordering::Relaxed) {
            server.slow_down(hub_server::Slow::Silent);
        }
    };
    let error = hub.model(&id("org/tower"), slowed).unwrap_err();
    let expected = "org/tower at revision main: model.safetensors: (almost) no data for 0.4 s; received data is kept, try again to resume";
    assert_eq!(cache.message(&error), expected);
}

#[test]
fn a_listener_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = HubConfig::new(folder.path())
        .with_endpoint(format!("http://{}", listener.local_addr().unwrap()))
        .with_timeout(std::time::Duration::from_millis(300));
    let error = model(&Hub::new(config.clone()).unwrap(), "org/tower").unwrap_err().to_string();
    let expected = format!("org/tower at revision main: {} did not answer within 0.3 s; ", config.endpoint);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let server = server();
    let cache = Cache::new(&server);
    // Two responses end early within one call.
    server.cut_bodies(&[100_000, 50_000]);
    let mut last = (0, 0);
    let mut watch = |download: Download<'_>| {
        if download.file == "model.safetensors" {
            assert!(download.done >= last.0 && download.done <= download.size);
            last = (download.done, download.size);
        }
    };
    let snapshot = cache.hub().model(&id("org/tower"), &mut watch).unwrap();
    assert_eq!(last, (400_000, 400_000));
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(server.content_ranges(), ["bytes=0-", "bytes=100000-", "bytes=150000-"]);
}

#[test]
fn a_new_call_goes_on_with_a_download_that_broke_off() {
    let server = server();
    let cache = Cache::new(&server);
    // The second response has no content at all, so the call gives up.
    server.cut_bodies(&[100_000, 0]);
    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(
        cache.message(&error),
        "org/tower at revision main: model.safetensors: the download was interrupted; received data is kept, try again \
         to resume"
    );
    assert!(error.source().is_some());
    server.clear();

    let error = model(&cache.offline(), "org/tower").unwrap_err();
    assert!(error.to_string().contains(" without model.safetensors, and HF_HUB_OFFLINE is set"), "{error}");
    let snapshot = model(&cache.hub(), "org/tower").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(server.content_ranges(), ["bytes=100000-"]);
}

#[test]
fn a_part_that_is_whole_is_not_downloaded_again() {
    let server = server();
    let cache = Cache::new(&server);
    fs::create_dir_all(cache.path("blobs")).unwrap();
    fs::write(cache.path("blobs").join(sha256(&weights())).with_extension("part"), weights()).unwrap();
    let snapshot = model(&cache.hub(), "org/tower").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(server.content_ranges(), [""; 0]);
}

#[test]
fn a_content_that_differs_from_its_checksum_is_refused_and_removed() {
    for file in ["model.safetensors", "config.json"] {
        let server = server();
        let cache = Cache::new(&server);
        server.corrupt("org/tower", COMMIT_A, file);
        let error = model(&cache.hub(), "org/tower").unwrap_err();
        let (algorithm, expected, found) = match file {
            "config.json" => ("git blob", git_blob(CONFIG), git_blob(&hub_server::corrupted(CONFIG))),
            _ => ("SHA-256", sha256(&weights()), sha256(&hub_server::corrupted(&weights()))),
        };
        assert_eq!(
            cache.message(&error),
            format!(
                "org/tower at revision main: {file}: expected {algorithm} {expected}, found {found}; the file was \
                 removed, try again"
            )
        );
        assert!(!cache.snapshot().join(file).exists() && !cache.path("blobs").join(expected).exists());

        server.repair();
        let snapshot = model(&cache.hub(), "org/tower").unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
        assert_eq!(fs::read(snapshot.folder.join("config.json")).unwrap(), CONFIG);
    }
}

#[test]
fn a_commit_hash_pins_the_revision_and_writes_no_ref() {
    let server = server();
    let cache = Cache::new(&server);
    let snapshot = model(&cache.hub(), &format!("org/tower@{COMMIT_A}")).unwrap();
    assert_eq!(snapshot.commit, COMMIT_A);
    assert!(!cache.path("refs").exists() || files(&cache.path("refs")).is_empty());

    server.set_branch("org/tower", COMMIT_B, COMMIT_A);
    let error = model(&cache.hub(), &format!("org/tower@{COMMIT_B}")).unwrap_err();
    assert_eq!(cache.message(&error), format!("org/tower at revision {COMMIT_B}: HUB answers with commit {COMMIT_A}"));
}

#[test]
fn every_file_is_of_the_commit_that_the_branch_was_at_first() {
    let server = server();
    server.set_branch("org/tower", "dev/next", COMMIT_A);
    server.add("org/tower", COMMIT_B, "config.json", b"{}");
    let cache = Cache::new(&server);
    let moved = &mut |_: Download<'_>| server.set_branch("org/tower", "dev/next", COMMIT_B);
    let snapshot = cache.hub().model(&id("org/tower@dev/next"), moved).unwrap();
    assert_eq!(snapshot.commit, COMMIT_A);
    assert_eq!(fs::read(snapshot.folder.join("tokenizer.json")).unwrap(), TOKENIZER);
    assert_eq!(fs::read_to_string(cache.path("refs/dev/next")).unwrap(), COMMIT_A);
    let content = |request: &hub_server::Request| request.path.contains("/resolve/");
    assert!(server.requests().iter().filter(|request| content(request)).all(|request| request.path.contains(COMMIT_A)));
    assert_eq!(server.requests().iter().filter(|request| request.path.contains("/api/")).count(), 1);
}

#[test]
fn a_content_of_another_commit_is_not_downloaded_again() {
    let server = server();
    let cache = Cache::new(&server);
    model(&cache.hub(), "org/tower").unwrap();
    server.set_branch("org/tower", "next", COMMIT_B);
    server.add("org/tower", COMMIT_B, "1_Pooling/config.json", b"{}");
    server.add_large("org/tower", COMMIT_B, "2_Dense/model.safetensors", &weights());
    server.clear();
    let snapshot = model(&cache.hub(), "org/tower@next").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("2_Dense/model.safetensors")).unwrap(), weights());
    assert_eq!(server.content_ranges(), [""; 0]);
    #[cfg(unix)]
    assert!(fs::read_link(snapshot.folder.join("2_Dense/model.safetensors")).unwrap().is_relative());
}

#[test]
fn a_renamed_repository_is_followed() {
    let server = server();
    server.rename("old-tower", "org/tower");
    let cache = Cache::new(&server);
    let snapshot = model(&cache.hub(), "old-tower").unwrap();
    assert!(snapshot.folder.ends_with(format!("models--old-tower/snapshots/{COMMIT_A}")));
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_data_set_is_downloaded_as_far_as_it_is_wanted() {
    let server = HubServer::start();
    server.set_branch("datasets/org/qa", "main", COMMIT_A);
    server.add("datasets/org/qa", COMMIT_A, "corpus.jsonl", b"{}\n");
    server.add("datasets/org/qa", COMMIT_A, "qrels/test.tsv", b"q\td\t1\n");
    server.add("datasets/org/qa", COMMIT_A, "big.parquet", b"PAR1");
    let cache = Cache::new(&server);
    let wanted = |file: &str| !file.ends_with(".parquet");
    let lacking = |folder: &Path| (!folder.join("corpus.jsonl").exists()).then(|| "corpus.jsonl".to_string());
    let get = |hub: &Hub, wanted: &dyn Fn(&str) -> bool| {
        hub.snapshot(RepoKind::Dataset, &id("org/qa"), wanted, &lacking, &mut |_| ())
    };
    let snapshot = get(&cache.hub(), &wanted).unwrap();
    assert_eq!(files(&snapshot.folder), ["corpus.jsonl", "qrels/test.tsv"]);
    assert!(snapshot.folder.starts_with(cache.folder.path().join("datasets--org--qa")));
    // A file of the same commit that is requested later is noticed.
    assert_eq!(get(&cache.offline(), &wanted).unwrap(), snapshot);
    let error = get(&cache.offline(), &|_| true).unwrap_err();
    assert!(error.to_string().contains(" without big.parquet, and HF_HUB_OFFLINE is set"), "{error}");
    let error = cache.hub().snapshot(RepoKind::Dataset, &id("org/qa@main"), &|_| false, &lacking, &mut |_| ());
    assert!(error.is_ok(), "nothing is requested, so nothing is missing");
}

#[test]
fn the_rows_and_judgements_of_a_data_set_are_downloaded() {
    let server = HubServer::start();
    server.set_branch("datasets/org/qa", "main", COMMIT_A);
    let wanted = ["corpus/test-00000-of-00001.parquet", "qrels/test.tsv", "queries.jsonl"];
    for file in wanted.into_iter().chain(["README.md", ".cache/rows.jsonl", "build.py"]) {
        server.add("datasets/org/qa", COMMIT_A, file, b"content");
    }
    let cache = Cache::new(&server);
    let get = |hub: &Hub| hub.data_set(&id("org/qa"), &mut |_| ());
    let snapshot = get(&cache.hub()).unwrap();
    assert_eq!(files(&snapshot.folder), wanted);
    assert_eq!(get(&cache.offline()).unwrap(), snapshot);
}

#[test]
fn a_repository_without_a_wanted_file_is_refused() {
    let server = HubServer::start();
    server.set_branch("org/tower", "main", COMMIT_A);
    server.add("org/tower", COMMIT_A, "model.gguf", b"GGUF");
    let cache = Cache::new(&server);
    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(cache.message(&error), "org/tower at revision main: the repository has none of the requested files");
    assert_eq!(files(cache.folder.path()), [""; 0]);
}

#[test]
fn a_repository_or_revision_that_does_not_exist_is_named() {
    let server = server();
    let cache = Cache::new(&server);
    for (text, name) in [("org/other", "org/other at revision main"), ("org/tower@v9", "org/tower at revision v9")] {
        let error = model(&cache.hub(), text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hub);
        assert_eq!(cache.message(&error), format!("{name}: HUB has no such repository, revision or file"));
    }
}

#[test]
fn without_a_network_the_error_says_what_the_cache_has() {
    let server = server();
    let mut cache = Cache::new(&server);
    cache.config.endpoint = hub_server::closed_endpoint();
    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(
        cache.message(&error),
        "org/tower at revision main: cannot reach HUB, check the network; it is not in the cache CACHE"
    );
    assert!(error.source().is_some());
    cache.fill_as_python(&[("config.json", CONFIG)]);
    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(
        cache.message(&error),
        format!(
            "org/tower at revision main: cannot reach HUB, check the network; the cache CACHE has commit {COMMIT_A} \
             without model.safetensors"
        )
    );
}

#[test]
fn a_server_cannot_write_outside_of_the_cache() {
    for name in ["../../escaped.json", "/escaped.json", "a//b.json", "a\\..\\b.json", "a?b.json"] {
        let server = server();
        server.add("org/tower", COMMIT_A, name, b"{}");
        let cache = Cache::new(&server);
        let error = model(&cache.hub(), "org/tower").unwrap_err();
        assert_eq!(
            cache.message(&error),
            format!("org/tower at revision main: `{name}` is not a file name that can be requested")
        );
        assert_eq!(server.requests().len(), 1);
        assert_eq!(files(cache.folder.path()), [""; 0]);
    }
}

#[test]
fn an_answer_of_something_else_is_no_hub() {
    let server = HubServer::start();
    server.answer_all_with("<html>log in first</html>");
    let cache = Cache::new(&server);
    let error = model(&cache.hub(), "org/tower").unwrap_err();
    assert_eq!(cache.message(&error), "org/tower at revision main: HUB does not respond like a Hugging Face hub");
}

#[test]
fn names_of_repositories_are_told_from_paths() {
    for (text, name, revision) in [
        ("org/name", "org/name", None),
        ("bert-base-chinese", "bert-base-chinese", None),
        ("Qwen/Qwen3-Embedding-0.6B@v1.0", "Qwen/Qwen3-Embedding-0.6B", Some("v1.0")),
        ("org/_a.b@refs/pr/1", "org/_a.b", Some("refs/pr/1")),
    ] {
        let id = id(text);
        assert_eq!((id.name(), id.revision()), (name, revision));
        assert_eq!(id.to_string(), text);
        assert_eq!(RepoId::new(name, revision).unwrap(), id);
    }
    for text in [
        "",
        "/",
        "/abs/name",
        "/name",
        "org/",
        "./name",
        "../name",
        "~/name",
        "a/b/c",
        "a//b",
        "a b",
        "a/b..c",
        "a--b",
        "a\\b",
        "模型",
    ] {
        let error = text.parse::<RepoId>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            format!(
                "`repository` is `{text}`, allowed: org/name or org/name@revision, of letters, digits and `._-`, a \
                 letter or digit first and last in each part, and no `--` or `..`"
            )
        );
    }
    for revision in ["", "/", "a/../b", "..", ".hidden", "a b", "a@b", "a?b", "/a"] {
        let error = format!("org/name@{revision}").parse::<RepoId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`revision` is `{revision}`, allowed: a branch, a tag or a commit hash, of letters, digits and \
                 `._+-/`, without `..`"
            )
        );
    }
}

#[test]
fn weights_of_pytorch_are_downloaded_where_there_are_no_safetensors() {
    let server = HubServer::start();
    server.set_branch("org/old", "main", COMMIT_A);
    server.add("org/old", COMMIT_A, "config.json", CONFIG);
    server.add("org/old", COMMIT_A, "tokenizer.json", TOKENIZER);
    server.add_large("org/old", COMMIT_A, "pytorch_model.bin", b"pickle");
    server.add_large("org/old", COMMIT_A, "training_args.bin", b"pickle");
    let cache = Cache::new(&server);
    let folder = model(&cache.hub(), "org/old").unwrap().folder;
    assert_eq!(fs::read(folder.join("pytorch_model.bin")).unwrap(), b"pickle");
    assert!(!folder.join("training_args.bin").exists());
}

#[test]
fn weights_of_other_frameworks_only_are_refused_before_anything_is_downloaded() {
    for file in ["tf_model.h5", "flax_model.msgpack", "model-q4.gguf"] {
        let server = HubServer::start();
        server.set_branch("org/old", "main", COMMIT_A);
        server.add("org/old", COMMIT_A, "config.json", CONFIG);
        server.add_large("org/old", COMMIT_A, file, b"weights");
        let cache = Cache::new(&server);
        let error = model(&cache.hub(), "org/old").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hub);
        let message = format!(
            "has {file} but neither safetensors nor pytorch_model.bin: save the model in Python with PyTorch or \
             safetensors"
        );
        assert!(error.to_string().contains(&message), "{error}");
        assert!(!cache.folder.path().join("models--org--old/snapshots").exists());
    }
}
