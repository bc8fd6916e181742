//! `care embed`, and the model folders that every command reads.

use std::fs;
use std::path::Path;

use ndarray::Array2;
use serde_json::{Value, json};

use super::{Place, TEXTS, read_npy, tiny};

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
        let padding = if more.contains("bf16") { "41.0" } else { "0.0" };
        assert_eq!(stderr, format!("23 tokens, {padding} % padding\n3 query vectors of 64 dimensions\n"));
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
    place.fails(&embed("nowhere", "texts.txt", ""), "nowhere: no such model folder");
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
    place.fails(&format!("{line} out.bin"), "out.bin: vectors are written to .npy or .jsonl files");
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

#[test]
fn a_spoiled_model_folder_is_refused() {
    let place = Place::new();
    place.file("texts.txt", TEXTS);
    let spoil = |name: &str, change: &dyn Fn(&Path)| {
        let folder = place.path(name);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(tiny("bert")).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
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
