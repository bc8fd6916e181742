//! Where models come from and how they are saved: local folders, the hub, `care convert`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;

use super::{Place, TEXTS, messages, read_npy, tiny};

/// Runs `care` with a hub at this address and its own cache.
fn care_with_hub(place: &Place, line: &str, endpoint: &str, offline: bool) -> (i32, String) {
    let output = Command::cargo_bin("care")
        .unwrap()
        .current_dir(place.path(""))
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", place.path("hub-home"))
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_TOKEN")
        .args(line.split_whitespace())
        .output()
        .unwrap();
    (output.status.code().unwrap(), messages(&String::from_utf8(output.stderr).unwrap()))
}

/// A server that has no files and counts requests.
fn empty_hub() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (endpoint, asked)
}

#[test]
fn a_local_folder_asks_no_hub() {
    let (endpoint, asked) = empty_hub();
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    std::fs::create_dir(place.path("org")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(tiny("bert"), place.path("org/name")).unwrap();
    for model in [tiny("bert"), "org/name".into()] {
        let line = format!("embed --model {model} --role query --input texts.txt --output out.npy");
        let (status, stderr) = care_with_hub(&place, &line, &endpoint, false);
        assert_eq!(status, 0, "{stderr}");
    }
    // A path that does not exist is not looked up on the hub.
    for model in ["./org/nowhere", "nowhere", "/nowhere/at/all"] {
        let line = format!("embed --model {model} --role query --input texts.txt --output out.npy");
        let (status, stderr) = care_with_hub(&place, &line, &endpoint, false);
        assert_eq!((status, stderr.as_str()), (1, format!("error: {model}: no such model folder; a model is a folder, ORG/NAME on the Hugging Face hub, or mini\n").as_str()));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let line = "embed --model org/other --role query --input texts.txt --output out.npy";
    let (status, stderr) = care_with_hub(&place, line, &endpoint, false);
    assert_eq!(status, 1);
    assert!(
        stderr.starts_with("error: there is no folder org/other, and it cannot be loaded from the hub: "),
        "{stderr}"
    );
    assert!(asked.load(Ordering::SeqCst) > 0);
}

/// Puts a model into the hub's cache under the name `org/name`; returns its commit.
fn cached_model(place: &Place) -> &'static str {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = "hub-home/hub/models--org--name";
    place.file(&format!("{repo}/refs/main"), commit);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let target = place.file(&format!("{repo}/snapshots/{commit}/{file}"), "");
        std::fs::copy(format!("{}/{file}", tiny("bert")), target).unwrap();
    }
    commit
}

#[test]
fn a_cached_model_is_used_without_asking_and_its_commit_is_reported() {
    let (endpoint, asked) = empty_hub();
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let commit = cached_model(&place);
    let line = "convert --model org/name --output pair";
    let (status, stderr) = care_with_hub(&place, line, &endpoint, false);
    assert_eq!((status, messages(&stderr).as_str()), (0, "the pair is in pair\n"));
    let manifest = std::fs::read_to_string(place.path("pair/care.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["provenance"]["converted_from"]["model"], "org/name");
    assert_eq!(manifest["provenance"]["converted_from"]["commit"], commit);
    assert_eq!(asked.load(Ordering::SeqCst), 0);

    let (status, stderr) = care_with_hub(&place, "convert --model org/other --output other", &endpoint, true);
    assert_eq!(status, 1);
    assert!(stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_training_starts_from_a_model_of_the_hub() {
    let (endpoint, asked) = empty_hub();
    let place = Place::new();
    let commit = cached_model(&place);
    place.file("rows.jsonl", "{\"query\":\"头痛\",\"pos\":[\"休息\"]}\n{\"query\":\"发烧\",\"pos\":[\"喝水\"]}\n");
    let config = |encoder: &str| {
        let towers = format!("query = {{ encoder = {encoder:?} }}\ndocument = {{ encoder = \"org/name\" }}");
        let stage = "[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"rows.jsonl\"]";
        place.file("train.toml", &format!("output = \"out\"\n[model]\n{towers}\n{stage}\n"));
    };
    config("org/name");
    let (status, stderr) = care_with_hub(&place, "train --config train.toml", &endpoint, false);
    assert_eq!(status, 0, "{stderr}");
    let manifest = std::fs::read_to_string(place.path("out/model/care.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["provenance"]["models"][0], format!("org/name@{commit}"));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let card = std::fs::read_to_string(place.path("out/model/README.md")).unwrap();
    assert!(card.contains(&format!("- query tower: `org/name@{commit}`")), "{card}");

    config("org/other");
    for line in ["train --config train.toml", "train --config train.toml --set model.query.encoder=org/more"] {
        let name = if line.ends_with("more") { "org/more" } else { "org/other" };
        let (status, stderr) = care_with_hub(&place, line, &endpoint, true);
        assert_eq!(status, 1);
        let start = format!("error: there is no folder {name}, and it cannot be loaded from the hub: ");
        assert!(stderr.starts_with(&start) && stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    }
}

#[test]
fn convert_joins_two_models_into_a_pair_that_embeds_as_they_do() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let (query, document) = (tiny("gte_new"), tiny("qwen3"));
    let (status, _, stderr) = place.care(&format!(
        "convert --model {query} --document-model {document} --query-instruction 问： --max-length 48 --output pair"
    ));
    assert_eq!((status, stderr.as_str()), (0, "the pair is in pair\n"));
    for (role, model, more) in [("query", query, "--instruction 问："), ("document", document, "")] {
        for (model, more, output) in [("pair".to_owned(), "", "a.npy"), (model, more, "b.npy")] {
            let line = format!(
                "embed --model {model} --role {role} --max-length 48 --input texts.txt --output {output} {more}"
            );
            let (status, _, stderr) = place.care(&line);
            assert_eq!(status, 0, "{stderr}");
        }
        assert_eq!(read_npy(&place.path("a.npy")), read_npy(&place.path("b.npy")), "{role}");
    }
    place.file("taken/notes.txt", "mine");
    let message = "taken: the folder contains \"notes.txt\", which is not part of a saved pair";
    place.fails(&format!("convert --model {} --output taken", tiny("bert")), message);
}

#[test]
fn an_adapter_changes_vectors_and_a_misfit_is_refused() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let embed = |more: &str| {
        let line = format!("embed --role document --input texts.txt --output out.npy {more}");
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        read_npy(&place.path("out.npy"))
    };
    let (base, adapter) = (tiny("qwen3"), tiny("adapters/qwen3"));
    let given = embed(&format!("--model {base} --adapter {adapter}"));
    assert_eq!(given, embed(&format!("--model {adapter}")), "its folder names its base model");
    assert_ne!(given, embed(&format!("--model {base}")));
    let (status, _, stderr) = place.care(&format!(
        "embed --model {} --adapter {adapter} --role query --input texts.txt --output out.npy",
        tiny("llama")
    ));
    assert_eq!(status, 1);
    assert!(stderr.contains("the adapter does not fit this model: tensor `base_model.model.layers.0."), "{stderr}");
}

#[test]
fn every_command_says_what_the_towers_compute_and_info_says_more() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    for (model, more, expected) in [
        (
            "bert",
            "",
            "query tower: mean pooling (default of sentence-transformers), normalised, compared by cosine (default of \
             sentence-transformers), 64 dimensions (network), at most 64 tokens (tokenizer_config.json), no instruction \
             (default), f32 (default)\n",
        ),
        (
            "qwen3",
            "--dim 8 --no-normalize --max-length 20 --precision int8",
            "query tower: last-token pooling (default), not normalised, compared by dot product (option), 8 dimensions \
             (option), at most 20 tokens (option), no instruction (default), int8 (option)\n",
        ),
    ] {
        let model = tiny(model);
        let line = format!("embed --model {model} --role query --input texts.txt --output out.npy {more}");
        let output = Command::cargo_bin("care")
            .unwrap()
            .current_dir(place.0.path())
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = stderr.split_inclusive('\n').collect();
        assert_eq!(lines[..3], ["reading texts.txt\n", &format!("loading {model}\n"), expected]);
    }
    let model = tiny("qwen3");
    let (status, stdout, stderr) =
        place.care(&format!("info {model} --document-dim 64 --query-max-length 20 --document-pooling mean"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let value = |tower: &str, name: &str| {
        let part = stdout.split("\n\n").find(|part| part.starts_with(tower)).unwrap();
        let line = part.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.trim_start().strip_prefix(name).unwrap().trim_start().to_owned()
    };
    assert_eq!(value("query tower", "architecture"), "qwen3");
    assert_eq!(value("query tower", "pooling"), "last-token  (default)");
    assert_eq!(value("document tower", "pooling"), "mean  (option)");
    assert_eq!(value("query tower", "max length"), "20 tokens  (option)");
    assert_eq!(value("document tower", "max length"), "256 tokens  (tokenizer_config.json)");
    assert_eq!(value("query tower", "terminal token"), "<|endoftext|>");
    let int8 = place.care(&format!("info {model} --query-precision int8 --document-precision bf16")).1;
    let bytes = |text: &str| -> Vec<u64> {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("weights"));
        lines.map(|line| line.trim().strip_suffix(" bytes").unwrap().parse().unwrap()).collect()
    };
    // The weights of the file, which has nothing else, in f32; in bf16 half of them; in int8 what is in linear layers.
    let file = std::fs::read(Path::new(&tiny("qwen3")).join("model.safetensors")).unwrap();
    let all = (file.len() - 8) as u64 - u64::from_le_bytes(file[..8].try_into().unwrap());
    assert_eq!(bytes(&stdout), [all, all]);
    let [query, document] = bytes(&int8)[..] else { panic!("{int8}") };
    assert_eq!(document, all / 2);
    let plain = 320 * 64 * 4..all / 2;
    assert!(plain.contains(&query), "{query} of {all}");
    assert_ne!(value("query tower", "fingerprint"), value("document tower", "fingerprint"));
}

/// A copy of a tiny checkpoint.
fn copy(place: &Place, of: &str, name: &str) -> std::path::PathBuf {
    let folder = place.path(name);
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(tiny(of)).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn a_model_of_a_known_family_without_its_instructions_is_named_with_the_options_that_set_them() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let e5 = "'query: ' --document-instruction 'passage: '";
    let zh = "'为这个句子生成表示以用于检索相关文章：'";
    copy(&place, "bert", "multilingual-e5-small");
    // A folder of another name, whose files tell.
    let named = |name: &str, field: &str| {
        let path = copy(&place, "bert", name).join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["_name_or_path"] = field.into();
        std::fs::write(path, config.to_string()).unwrap();
    };
    named("by-config", "cache/sentence_transformers/BAAI_bge-small-zh/");
    copy(&place, "bert", "by-card");
    place.file(
        "by-card/README.md",
        "---\ntags:\n- mteb\nmodel-index:\n- name: bge-large-en-v1.5\n---\n\n# FlagEmbedding\n",
    );
    copy(&place, "qwen3", "Qwen3-Embedding-0.6B");
    let qwen3 = "$'Instruct: Given a web search query, retrieve relevant passages that answer the query\\nQuery:'";
    let en = "'Represent this sentence for searching relevant passages: '";
    for (model, family, by, options, card) in [
        ("multilingual-e5-small", "e5", "its name", e5, "intfloat/multilingual-e5-base"),
        ("by-config", "bge-zh", "config.json", zh, "BAAI/bge-large-zh-v1.5"),
        ("by-card", "bge-en", "README.md", en, "BAAI/bge-large-en-v1.5"),
        ("Qwen3-Embedding-0.6B", "Qwen3-Embedding", "its name", qwen3, "Qwen/Qwen3-Embedding-0.6B"),
    ] {
        let (status, _, stderr) = place.care(&format!("info {model}"));
        let expected = format!(
            "warning: {model} is a model of the family {family} (by {by}), trained with instructions that its files do \
             not state; without them its vectors are not the published ones; use --query-instruction {options} (or '' to \
             have none), see https://huggingface.co/{card}\n"
        );
        assert_eq!((status, stderr), (0, expected));
    }
    let warning = |line: &str| {
        let (status, _, stderr) = place.care(line);
        assert_eq!(status, 0, "{stderr}");
        stderr.lines().find(|line| line.starts_with("warning: ")).map(str::to_owned)
    };
    // Each tower has its own option, and that of a single tower another name.
    let line = warning("info multilingual-e5-small --query-instruction query:~").unwrap();
    assert!(line.contains("use --document-instruction 'passage: ' (or"), "{line}");
    let line = warning("info by-card --document-model multilingual-e5-small --query-instruction=").unwrap();
    assert!(
        line.starts_with("warning: multilingual-e5-small ") && line.contains("use --document-instruction"),
        "{line}"
    );
    let embed = "embed --model multilingual-e5-small --input texts.txt --output out.npy";
    let line = warning(&format!("{embed} --role document")).unwrap();
    assert!(line.contains("use --instruction 'passage: ' (or"), "{line}");
    let line = warning("convert --model by-config --output pair").unwrap();
    assert!(line.contains(zh), "{line}");

    // Options that are given, also an empty one; a saved pair, whose empty instruction is meant; documents of a family
    // that has none for them; and models of no family.
    named("plain", "pritamdeka/S-PubMedBert-MS-MARCO");
    place.file("plain/README.md", "# S-PubMedBert-MS-MARCO\n\nCompare bge-small-zh and multilingual-e5-small.\n");
    for line in [
        "info multilingual-e5-small --query-instruction query:~ --document-instruction passage:~",
        "info multilingual-e5-small --query-instruction= --document-instruction=",
        &format!("{embed} --role query --instruction query:~"),
        "info pair",
        "embed --model by-config --role document --input texts.txt --output out.npy",
        "info plain",
    ] {
        assert_eq!(warning(line), None, "{line}");
    }
}

#[test]
fn a_model_of_a_known_family_whose_settings_have_prompts_is_not_warned_of() {
    let place = Place::new();
    let folder = copy(&place, "bert", "bge-small-zh-v1.5");
    place.file("bge-small-zh-v1.5/modules.json", r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#);
    place.file("bge-small-zh-v1.5/1_Pooling/config.json", r#"{"pooling_mode_cls_token":true}"#);
    for (prompts, warned) in [
        (r#"{"prompts":{"query":"问："}}"#, false),
        // What version 5 and later save for a model without prompts.
        (r#"{"prompts":{"query":"","document":""}}"#, true),
        ("{}", true),
    ] {
        std::fs::write(folder.join("config_sentence_transformers.json"), prompts).unwrap();
        let (status, _, stderr) = place.care("info bge-small-zh-v1.5");
        assert_eq!((status, stderr.contains("the family bge-zh")), (0, warned), "{prompts}: {stderr}");
    }
}

#[test]
fn a_converted_encoder_is_stored_once_and_has_a_model_card() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    for (name, more, origin) in [
        ("bert", "", "from `bert`."),
        ("qwen3", "--document-model gte", "from `qwen3` for queries and `gte` for documents."),
    ] {
        copy(&place, "gte_new", "gte");
        // As given on the command line: a path of this machine.
        let line = format!("convert --model {} {more} --query-instruction 问： --output pair", tiny(name));
        let (status, _, stderr) = place.care(&line);
        assert_eq!((status, stderr.as_str()), (0, "the pair is in pair\n"));
        let card = std::fs::read_to_string(place.path("pair/README.md")).unwrap();
        for part in [
            "library_name: sentence-transformers".to_owned(),
            format!("- queries: {name}, 2 layers, 64 dimensions, at most "),
            "tokens, instruction `\"问：{text}\"`\n- documents: ".to_owned(),
            format!("Converted by care-cli {} {origin}", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(card.contains(&part), "{part}: {card}");
        }
        assert!(!card.contains(env!("CARGO_MANIFEST_DIR")), "{card}");
        assert_eq!(place.path("pair/document_0_Transformer").exists(), !more.is_empty());
        for role in ["query", "document"] {
            let embed = |model: &str, more: &str, output: &str| {
                let line = format!("embed --model {model} --role {role} --input texts.txt --output {output} {more}");
                assert_eq!(place.care(&line).0, 0);
                read_npy(&place.path(output))
            };
            let (model, more) = match role {
                "query" => (tiny(name), "--instruction 问："),
                _ if more.is_empty() => (tiny(name), ""),
                _ => ("gte".to_owned(), ""),
            };
            assert_eq!(embed("pair", "", "a.npy"), embed(&model, more, "b.npy"), "{name}, {role}");
        }
    }
}

#[test]
fn what_is_special_about_a_tokenizer_is_said_beside_the_towers_line() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let folder = copy(&place, "qwen3", "model");
    let edit = |file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = folder.join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        std::fs::write(path, json.to_string()).unwrap();
    };
    edit("tokenizer_config.json", &|config| {
        config["add_eos_token"] = true.into();
        config["eos_token"] = "<|im_end|>".into();
    });
    let remark = "texts end with \"<|endoftext|>\" as in tokenizer.json, although tokenizer_config.json sets \
                  `add_eos_token` with \"<|im_end|>\"";
    let stderr = |line: &str| {
        let output =
            Command::cargo_bin("care").unwrap().current_dir(place.path("")).args(line.split_whitespace()).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    for (line, roles) in [
        ("embed --model model --role document --input texts.txt --output out.npy", vec!["document"]),
        ("convert --model model --output pair", vec!["query", "document"]),
    ] {
        let stderr = stderr(line);
        for role in roles {
            let lines: Vec<&str> =
                stderr.lines().skip_while(|line| !line.starts_with(&format!("{role} tower: "))).collect();
            assert_eq!(lines[1], format!("{role} tower: note: {remark}"), "{stderr}");
        }
    }
    let (_, stdout, _) = place.care("info model");
    assert_eq!(stdout.matches(&format!("  {:<14} {remark}\n", "note")).count(), 2, "{stdout}");
    edit("tokenizer_config.json", &|config| config["add_eos_token"] = false.into());
    assert!(!stderr("convert --model model --output pair").contains("note: "));
    assert!(!place.care("info model").1.contains("  note "));
}

#[test]
fn a_pruned_model_gives_covered_texts_the_same_vectors() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("other.txt", "肝炎 38.5\n");
    let before = "--model {} --role query --input texts.txt --output before.npy".replace("{}", &tiny("qwen3"));
    assert_eq!(place.care(&format!("embed {before}")).0, 0);
    let prune = format!("prune-vocab --model {} --input texts.txt --check other.txt", tiny("qwen3"));
    let (status, stdout, stderr) = place.care(&format!("{prune} --output small"));
    assert_eq!((status, &*stdout), (0, ""), "{stderr}");
    let lines = TEXTS.lines().count();
    for role in ["query", "document"] {
        let line = format!("as {role}: {lines} of {lines} texts keep their tokens (100.00 %)");
        assert!(stderr.contains(&line), "{stderr}");
    }
    assert!(stderr.contains("of 1 texts that were not used keep their tokens"), "{stderr}");
    assert!(stderr.contains("the pair is in small"), "{stderr}");
    assert_eq!(place.care("embed --model small --role query --input texts.txt --output after.npy").0, 0);
    assert_eq!(read_npy(&place.path("before.npy")), read_npy(&place.path("after.npy")));
    // Rare tokens and single characters may go, too.
    let (status, _, fewer) = place.care(&format!("{prune} --min-count 3 --keep-characters none --output smaller"));
    assert_eq!(status, 0, "{fewer}");
    let size = |folder: &str| {
        std::fs::metadata(place.path(folder).join("query_0_Transformer/model.safetensors")).unwrap().len()
    };
    assert!(size("smaller") < size("small"));
    // A model in int8 stays so, bit by bit.
    assert_eq!(place.care(&format!("convert --model {} --precision int8 --output int8", tiny("qwen3"))).0, 0);
    let (status, _, stderr) = place.care("prune-vocab --model int8 --input texts.txt --output small-int8");
    assert_eq!(status, 0, "{stderr}");
    for (model, output) in [("int8", "before8.npy"), ("small-int8", "after8.npy")] {
        let line = format!("embed --model {model} --role query --input texts.txt --output {output}");
        assert_eq!(place.care(&line).0, 0);
    }
    assert_eq!(read_npy(&place.path("before8.npy")), read_npy(&place.path("after8.npy")));
    let (status, _, stderr) = place.care(&format!("{prune} --precision int4 --output other"));
    assert_eq!(status, 1);
    let problem = "error: `precision` is \"int4\", allowed: f32, bf16, f16, int8, to save a pair\n";
    assert!(stderr.ends_with(problem) && !stderr.contains("keep their tokens"), "{stderr}");
    place.fails(
        &format!("{prune} --keep-characters none,han --output other"),
        "--keep-characters: none excludes the other kinds",
    );
    assert!(!place.path("other").exists());
}
