//! `care embed`, and the model folders that every command reads.

use std::fs;
use std::path::Path;

use ndarray::Array2;
use serde_json::{Value, json};

use super::{Place, TEXTS, copy_tiny, read_npy, tiny};

#[test]
fn embed_writes_vectors_in_input_order_whatever_the_batches() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("texts.jsonl", "{\"text\":\"高血压患者能吃党参吗？\"}\n{\"text\":\"\"}\n{\"query\":\"头痛发烧三天\"}\n");
    let base = format!("embed --model {} --role query --max-length 40", tiny("bert"));
    for (input, output, more) in [
        ("texts.txt", "a.npy", ""),
        ("texts.jsonl", "b.npy", "--batch-tokens 1"),
        ("texts.txt", "c.jsonl", ""),
        ("texts.txt", "d.npy", "--precision bf16"),
        ("texts.txt", "e.npy", "--precision int8"),
    ] {
        let (status, stdout, stderr) = place.care(&format!("{base} --input {input} --output {output} {more}"));
        assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
        // The CPU's kernels compute packed (varlen) sequences, without padding.
        assert_eq!(stderr, "23 tokens, 0.0 % padding\n3 query vectors of 64 dimensions\n");
    }
    let one = read_npy(&place.path("a.npy"));
    assert_eq!(one.dim(), (3, 64));
    let two = read_npy(&place.path("b.npy"));
    assert_eq!(one, two, "vectors do not depend on the batch");
    for reduced in ["d.npy", "e.npy"] {
        let reduced = read_npy(&place.path(reduced));
        let cosines = one.rows().into_iter().zip(reduced.rows()).map(|(a, b)| a.dot(&b)).collect::<Vec<_>>();
        assert!(cosines.iter().all(|cosine| (0.99..0.9999999).contains(cosine)), "{cosines:?}");
    }
    for (line, row) in fs::read_to_string(place.path("c.jsonl")).unwrap().lines().zip(one.rows()) {
        let parsed: Value = serde_json::from_str(line).unwrap();
        let vector: Vec<f32> = serde_json::from_value(parsed["embedding"].clone()).unwrap();
        assert_eq!(vector, row.to_vec());
    }
}

#[test]
fn one_text_is_embedded_to_stdout_or_a_file() {
    let place = Place::new();
    let base = format!("embed --model {} --role query --text 头痛~发烧", tiny("bert"));
    let (status, stdout, stderr) = place.care(&base);
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.ends_with("\n1 query vector of 64 dimensions\n"), "{stderr}");
    let row: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&row["text"], row.get("_id"), stdout.lines().count()), (&json!("头痛 发烧"), None, 1));
    let (status, stdout, stderr) = place.care(&format!("{base} --output one.npy --cache cache"));
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    let vector: Vec<f32> = serde_json::from_value(row["embedding"].clone()).unwrap();
    assert_eq!(read_npy(&place.path("one.npy")).row(0).to_vec(), vector);
    place.file("texts.txt", TEXTS);
    place.refuses(&format!("{base} --input texts.txt"), "cannot be used with");
    let line = format!("embed --model {} --role query", tiny("bert"));
    place.refuses(&format!("{line} --input texts.txt"), "--output <FILE>");
    place.refuses(&format!("{line} --output a.npy"), "--input <FILE>");
    place.fails(&format!("{line} --text ~"), "the text is empty");
}

#[test]
fn ids_are_kept_or_refused_by_line() {
    let place = Place::new();
    let line = |input: &str| format!("embed --model {} --role query --input {input} --output o.jsonl", tiny("bert"));
    place.file("ids.csv", "query,_id\n头痛,q1\n发烧,\n咳嗽,7\n");
    assert_eq!(place.care(&line("ids.csv")).0, 0);
    let rows = fs::read_to_string(place.path("o.jsonl")).unwrap();
    let ids: Vec<Value> = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["_id"].clone()).collect();
    assert_eq!(ids, [json!("q1"), Value::Null, json!("7")]);
    place.file("bad.jsonl", "{\"_id\":1,\"text\":\"a\"}\n{\"_id\":1.5,\"text\":\"a\"}\n");
    let (status, _, stderr) = place.care(&line("bad.jsonl"));
    let problem = "error: bad.jsonl:2: invalid type: floating point `1.5`, expected a string or an integer";
    assert!(status == 1 && stderr.starts_with(problem), "{stderr}");
}

#[test]
fn embed_options_change_what_they_say() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let embed = |more: &str| {
        let line = format!("embed --model {} --role document --input texts.txt --output o.npy {more}", tiny("bert"));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        read_npy(&place.path("o.npy"))
    };
    let plain = embed("");
    let length = |row: usize, matrix: &Array2<f32>| matrix.row(row).dot(&matrix.row(row)).sqrt();
    assert!((length(0, &plain) - 1.0).abs() < 1e-5);
    assert!((length(0, &embed("--no-normalize")) - 1.0).abs() > 0.1);
    assert_eq!(embed("--dim 16").dim(), (3, 16));
    assert_eq!(embed("--pooling mean"), plain);
    assert_ne!(embed("--pooling cls"), plain);
    assert_ne!(embed("--instruction passage:~"), plain);
    assert_eq!(embed("--instruction {text}"), plain);
    assert_ne!(embed("--max-length 5").row(0), plain.row(0));
    let half = embed("--precision bf16");
    assert!(half != plain && half.row(0).dot(&plain.row(0)) > 0.999);
}

#[test]
fn odd_texts_have_vectors() {
    let place = Place::new();
    let odd = [json!(""), json!("  \t "), json!("🤒😷"), json!("痛".repeat(100_000)), json!("\u{0}\u{feff}")];
    let rows: String = odd.iter().map(|text| format!("{}\n", json!({"text": text}))).collect();
    place.file("odd.jsonl", &rows);
    for model in ["bert", "qwen3"] {
        let line = format!("embed --model {} --role document --input odd.jsonl --output odd.npy", tiny(model));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        let vectors = read_npy(&place.path("odd.npy"));
        assert_eq!(vectors.nrows(), 5);
        assert!(vectors.iter().all(|component| component.is_finite()));
    }
}

#[test]
fn bad_embed_input_is_refused_and_leaves_no_output() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    place.file("broken.jsonl", "{\"text\":\"a\"}\n{\"text\":\n");
    place.file("missing.jsonl", "{\"text\":\"a\"}\n\n{\"title\":\"b\"}\n");
    place.file("number.jsonl", "{\"text\":5}\n");
    let bert = tiny("bert");
    let embed = |model: &str, input: &str, more: &str| {
        format!("embed --model {model} --role query --input {input} --output out.npy {more}")
    };
    place.fails(
        &embed("nowhere", "texts.txt", ""),
        "nowhere: no such model folder; a model is a folder, ORG/NAME on the Hugging Face hub, or mini",
    );
    place.fails(&embed(&bert, "none.txt", ""), "cannot open none.txt: No such file or directory (os error 2)");
    place.fails(&embed(&bert, "none.jsonl", ""), "cannot open none.jsonl: No such file or directory (os error 2)");
    place.fails(&embed(&bert, "broken.jsonl", ""), "broken.jsonl:2: EOF while parsing a value (column 8)");
    place.fails(&embed(&bert, "missing.jsonl", ""), "missing.jsonl:3: missing field `text` (or `query`)");
    place.fails(
        &embed(&bert, "number.jsonl", ""),
        "number.jsonl:1: invalid type: integer `5`, expected a string (column 9)",
    );
    place.fails(
        &embed(&bert, "texts.pdf", ""),
        "texts.pdf: texts are read from .txt, .jsonl, .csv, .tsv (each also .gz) or .parquet files",
    );
    place.file("gb.txt", "");
    std::fs::write(place.path("gb.txt"), b"ok\n\xb7\xa2\xc9\xd5\n").unwrap();
    place.fails(
        &embed(&bert, "gb.txt", ""),
        "gb.txt:2: not valid UTF-8 text; it looks like GB18030 (GBK): convert it, e.g. with iconv -f GB18030 -t UTF-8",
    );
    place.file("array.jsonl", "[{\"text\":\"a\"},\n{\"text\":\"b\"}]\n");
    place.fails(
        &embed(&bert, "array.jsonl", ""),
        "array.jsonl:1: the file is a JSON array; JSON Lines holds one object per line: convert it, e.g. with jq -c",
    );
    place.fails(
        &embed(&bert, "texts.txt", "--max-length 0"),
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens",
    );
    place.fails(
        &embed(&bert, "texts.txt", "--dim 65"),
        "an embedding of 65 dimensions cannot be cut from the tower's 64",
    );
    place.fails(&embed(&bert, "texts.txt", "--batch-tokens 0"), "`batch_tokens` is 0, allowed: at least 1");
    #[cfg(not(feature = "cuda"))]
    place.fails(
        &embed(&bert, "texts.txt", "--device cuda:0"),
        "device `cuda:0` is not compiled in: build with the Cargo feature `cuda`",
    );
    let line = format!("embed --model {bert} --role query --input texts.txt --output");
    place.fails(&format!("{line} none/out.npy"), "cannot write none/out.npy: there is no folder none");
    place.fails(&format!("{line} out.bin"), "out.bin: vectors are written to .npy, .jsonl or .parquet files");
    let left: Vec<_> = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "only the inputs are left: {left:?}");

    place.refuses("embed", "the following required arguments were not provided");
    let allowed = care_encoders::head::Pooling::names().join(", ");
    place.refuses(
        &format!("{line} out.npy --pooling none-such"),
        &format!("`pooling` is \"none-such\", allowed: {allowed}"),
    );
    place.refuses(&format!("{line} out.npy --device gpu"), "`device` is \"gpu\", allowed: cpu, wgpu, cuda, cuda:0");
    place.refuses(&format!("{line} out.npy --precision f64"), "`precision` is \"f64\", allowed: f32, bf16, f16");
    place.refuses(&format!("{line} out.npy --dim x"), "invalid value 'x' for '--dim <N>'");
    place.refuses("embed --role both", "possible values: query, document");
    place.refuses("wobble", "unrecognized subcommand 'wobble'");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once_and_a_bad_row_in_it_leaves_no_output() {
    let place = Place::new();
    let rows = "{\"text\":\"头痛\"}\n{\"text\":\"发烧三天\"}\n";
    place.file("file.jsonl", rows);
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe.jsonl")).status().unwrap().success());
    let embed = |input: &str, output: &str| {
        place.care(&format!("embed --model {} --role document --input {input} --output {output}", tiny("bert")))
    };
    let through_pipe = |content: String| {
        let pipe = place.path("pipe.jsonl");
        std::thread::scope(|scope| {
            scope.spawn(move || fs::write(pipe, content).unwrap());
            embed("pipe.jsonl", "pipe.npy")
        })
    };
    assert_eq!(embed("file.jsonl", "file.npy").0, 0);
    let (status, _, stderr) = through_pipe(rows.to_owned());
    assert_eq!(status, 0, "{stderr}");
    assert!(fs::read(place.path("pipe.npy")).unwrap() == fs::read(place.path("file.npy")).unwrap());
    fs::remove_file(place.path("pipe.npy")).unwrap();
    let (status, _, stderr) = through_pipe(format!("{rows}{{\"text\":7}}\n"));
    assert!(status == 1 && stderr.contains("error: pipe.jsonl:3: invalid type: integer `7`"), "{stderr}");
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 3, "no output, and nothing half written");
}

#[test]
fn a_spoiled_model_folder_is_refused() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let spoil = |name: &str, change: &dyn Fn(&Path)| {
        let folder = place.path(name);
        copy_tiny("bert", &folder);
        change(&folder);
        format!("embed --model {name} --role query --input texts.txt --output out.npy")
    };
    let config = |field: &str, value: Value| {
        let field = field.to_owned();
        move |folder: &Path| {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[&field] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        }
    };
    place.fails(
        &spoil("type", &config("model_type", json!("t5"))),
        "type/config.json: `model_type` is \"t5\", allowed: bert, distilbert, ernie, roberta, xlm-roberta, mpnet, gte, new, \
             modernbert, qwen2, qwen3, llama, mistral, eurobert, gemma3_text",
    );
    place.fails(
        &spoil("shape", &config("type_vocab_size", json!(3))),
        "shape: tensor `embeddings.token_type_embeddings.weight` has shape [2, 64], expected [3, 64]",
    );
    place.fails(
        &spoil("lacks", &|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap()),
        "lacks: no tokenizer.json",
    );
    place.fails(
        &spoil("swap", &|folder| {
            fs::copy(Path::new(&tiny("qwen3")).join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
        }),
        "swap/tokenizer.json: has no token \"[UNK]\", which tokenizer_config.json names as unk_token: \
         the tokenizer belongs to another model",
    );
    place.fails(
        &spoil("half", &|folder| fs::create_dir(folder.join("query_0_Transformer")).unwrap()),
        "half: half written: it has a tower but no care.json",
    );
}

#[test]
fn cached_vectors_are_not_computed_again() {
    let place = Place::new();
    // One twice, and one longer than the tower reads.
    let texts = ["头痛", "发烧三天", "", "头痛", &"咳嗽".repeat(50)];
    let row = |(number, text): (usize, &&str)| format!("{}\n", json!({"_id": number, "text": text}));
    place.file("texts.jsonl", &texts.iter().enumerate().map(row).collect::<String>());
    place.file("more.jsonl", "{\"text\":\"感冒\"}\n{\"text\":\"发烧三天\"}\n");
    let embed = |input: &str, more: &str| {
        let bert = tiny("bert");
        let line =
            format!("embed --model {bert} --role document --max-length 40 --input {input} --output o.npy {more}");
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        (fs::read(place.path("o.npy")).unwrap(), stderr)
    };
    let (expected, tokens) = embed("texts.jsonl", "");
    assert!(!tokens.contains("cache"), "{tokens}");
    for (found, computed) in [(1, true), (5, false), (5, false)] {
        let (vectors, stderr) = embed("texts.jsonl", "--cache cache");
        assert!(vectors == expected);
        assert_eq!(stderr.contains("\n0 tokens") || stderr.starts_with("0 tokens"), !computed, "{stderr}");
        let end = format!("\n{found} of 5 vectors came from the cache\n5 document vectors of 64 dimensions\n");
        assert!(stderr.ends_with(&end), "{stderr}");
    }
    let (_, stderr) = embed("more.jsonl", "--cache cache");
    assert!(stderr.contains("1 of 2 vectors came from the cache"), "{stderr}");
    // Another instruction makes other texts, another length another tower.
    let (_, stderr) = embed("texts.jsonl", "--cache cache --instruction 文:{text}");
    assert!(stderr.contains("1 of 5 vectors came from the cache"), "{stderr}");
    let (_, stderr) = embed("texts.jsonl", "--cache cache --dim 16");
    assert!(stderr.contains("1 of 5 vectors came from the cache"), "{stderr}");

    // A search has the same vectors.
    let bert = tiny("bert");
    place.file("corpus.jsonl", "{\"_id\":1,\"text\":\"高血压\"}\n{\"_id\":2,\"text\":\"发烧三天\"}\n");
    let search = format!("search --model {bert} --max-length 40 --corpus corpus.jsonl --cache cache --query 高血压");
    assert_eq!(place.care(&search).0, 0);
    let (_, stderr) = embed("corpus.jsonl", "--cache cache");
    assert!(stderr.contains("\n2 of 2 vectors came from the cache") && stderr.starts_with("0 tokens"), "{stderr}");
}

#[test]
fn a_damaged_file_of_the_cache_is_named_and_computed_again() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let line = format!("embed --model {} --role query --input texts.txt --output o.npy --cache cache", tiny("bert"));
    assert_eq!(place.care(&line).0, 0);
    let expected = fs::read(place.path("o.npy")).unwrap();
    let folder = fs::read_dir(place.path("cache")).unwrap().next().unwrap().unwrap().path();
    let shard = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&shard).unwrap();
    // Within the vectors, within the keys, and cut off.
    let flipped = |at: usize| [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat();
    for damaged in [flipped(whole.len() / 2), flipped(whole.len() - 1), whole[..whole.len() - 1].to_vec()] {
        fs::write(&shard, damaged).unwrap();
        let (status, _, stderr) = place.care(&line);
        let name = shard.file_name().unwrap().to_str().unwrap();
        assert!(status == 0 && stderr.matches("warning: ignoring ").count() == 1 && stderr.contains(name), "{stderr}");
        assert!(stderr.contains("\n0 of 3 vectors came from the cache"), "{stderr}");
        assert!(fs::read(place.path("o.npy")).unwrap() == expected && fs::read(&shard).unwrap() == whole);
        let (_, _, stderr) = place.care(&line);
        assert!(!stderr.contains("warning") && stderr.contains("\n3 of 3 vectors came from the cache"), "{stderr}");
    }
}

/// The tokenizer and the Parquet library panic on some damaged files.
#[test]
fn a_panic_of_a_library_is_one_error() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    for (name, field, damage) in [
        ("template", "/post_processor/special_tokens", json!({})),
        ("map", "/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
    ] {
        copy_tiny("bert", &place.path(name));
        let path = place.path(name).join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *json.pointer_mut(field).unwrap() = damage;
        fs::write(path, json.to_string()).unwrap();
        let line = format!("embed --model {name} --role query --input texts.txt --output o.npy");
        is_one_error(&place, &line, &format!("{name}/tokenizer.json: not a tokenizer: the tokenizer is damaged ("));
    }

    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cmedteb/tests/data/columns/gzip.parquet");
    let whole = fs::read(data).unwrap();
    let problem = ": not a readable Parquet file: it is damaged or of an unsupported type";
    let path = place.path("d.parquet");
    let panics = |at: &usize| {
        let mut damaged = whole.clone();
        damaged[*at] = 0xff;
        fs::write(&path, damaged).unwrap();
        let read = cmedteb::for_each_row(&path, &mut |_, _: Value| Ok(()));
        read.is_err_and(|error| error.to_string().ends_with(problem))
    };
    assert!((0..whole.len()).any(|at| panics(&at)));
    let line = format!("embed --model {} --role query --input d.parquet --output o.npy", tiny("bert"));
    is_one_error(&place, &line, &format!("d.parquet{problem}"));
}

/// Asserts that a command ends with this error and writes nothing else to stderr.
fn is_one_error(place: &Place, line: &str, begin: &str) {
    let (status, _, stderr) = place.care(line);
    let is_one = stderr.starts_with(&format!("error: {begin}")) && stderr.lines().count() == 1;
    assert!(status == 1 && is_one && !stderr.contains("panicked"), "{stderr}");
}

/// Byte-level BPE, which would read a byte-order mark as text.
#[test]
fn the_same_texts_in_any_format_have_the_same_vectors() {
    let place = Place::new();
    place.file("plain.txt", "头痛\n发烧\n");
    place.file("mark.txt", "\u{feff}头痛\r\n发烧\r\n");
    place.file("mark.jsonl", "\u{feff}{\"text\":\"头痛\"}\n{\"text\":\"发烧\"}\n");
    place.file("table.csv", "\u{feff}_id,text\n1,头痛\n2,发烧\n");
    place.file("table.tsv", "query\ttitle\n头痛\t\n发烧\t\n");
    let vectors = |name: &str, role: &str| {
        let line = format!("embed --model {} --role {role} --input {name} --output {name}.npy", tiny("qwen3"));
        let (status, _, stderr) = place.care(&line);
        assert_eq!(status, 0, "{stderr}");
        fs::read(place.path(&format!("{name}.npy"))).unwrap()
    };
    for role in ["query", "document"] {
        let expected = vectors("plain.txt", role);
        for name in ["mark.txt", "mark.jsonl", "table.csv", "table.tsv"] {
            assert_eq!(vectors(name, role), expected, "{name}");
        }
    }
    place.file("instructed.jsonl", "{\"text\":\"头痛\",\"instruction\":\"短\"}\n");
    place.file("whole.txt", "头痛 短\n");
    assert_eq!(vectors("instructed.jsonl", "query"), vectors("whole.txt", "query"));
}
