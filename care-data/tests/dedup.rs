//! De-duplication of files: what is kept, against comparing everything with everything, and what bad input leads to.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use care_core::embedder::StoredEmbedder;
use care_core::{Document, Embedder, Embeddings, ErrorKind, Query, Result, Role, Text};
use care_data::dedup::{Cluster, DedupOptions, Deduplication, EmbeddedTexts, Keep, TextField, VectorOptions, Vectors};
use care_data::near::NearDuplicates;
use care_data::normalise;
use proptest::prelude::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    fn name(&self, text: impl ToString) -> String {
        text.to_string().replace(&self.0.path().display().to_string(), "F")
    }
}

fn rows(texts: &[impl AsRef<str>]) -> String {
    texts.iter().map(|text| format!("{}\n", serde_json::json!({ "query": text.as_ref() }))).collect()
}

fn kept(found: &Deduplication) -> Vec<String> {
    let mut out = Vec::new();
    found.write_rows(&mut out).expect("written");
    String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
}

fn kept_texts(found: &Deduplication) -> Vec<String> {
    let text = |line: String| {
        let row: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        row["query"].as_str().expect("a text").to_owned()
    };
    kept(found).into_iter().map(text).collect()
}

fn clusters(found: &Deduplication, leaks: bool) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    let mut add = |cluster| {
        clusters.push(cluster);
        Ok(())
    };
    found.for_each_cluster(leaks, &mut add).expect("in memory");
    clusters
}

fn near() -> DedupOptions {
    DedupOptions::default().with_near(NearDuplicates::default())
}

/// Embeds a text as its counts of four characters.
struct Counts;

impl Counts {
    fn vector(text: &str) -> [f32; 4] {
        ['a', 'b', 'c', 'd'].map(|wanted| text.chars().filter(|character| *character == wanted).count() as f32)
    }

    fn embed(texts: &[impl Text]) -> Result<Embeddings> {
        Embeddings::from_rows(4, texts.iter().map(|text| Self::vector(&text.content())))
    }
}

impl Embedder for Counts {
    fn embedding_dim(&self) -> usize {
        4
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        Self::embed(queries)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        Self::embed(documents)
    }

    fn fingerprint(&self, _: Role) -> Result<Option<String>> {
        Ok(Some("counts".to_owned()))
    }
}

fn jaccard(a: &str, b: &str) -> f64 {
    let [a, b] = [a, b].map(|text| {
        let characters: Vec<char> = text.chars().collect();
        match characters.len() {
            0..3 => HashSet::from([characters]),
            _ => characters.windows(3).map(<[char]>::to_vec).collect(),
        }
    });
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

fn cosine(a: &str, b: &str) -> f64 {
    let [a, b] = [a, b].map(|text| Embeddings::from_rows(4, [Counts::vector(text)]).expect("one row"));
    a.cosine(0, &b, 0)
}

/// What is left if each text is compared with all that is kept, by one method after the other.
fn reference(texts: &[String], near: f64, cosines: f64) -> Vec<usize> {
    let forms: Vec<String> = texts.iter().map(|text| normalise(text)).collect();
    let stage = |left: Vec<usize>, similar: &dyn Fn(usize, usize) -> bool| {
        let mut kept: Vec<usize> = Vec::new();
        for row in left {
            if forms[row].is_empty() || !kept.iter().any(|other| !forms[*other].is_empty() && similar(*other, row)) {
                kept.push(row);
            }
        }
        kept
    };
    let exact = stage((0..texts.len()).collect(), &|a, b| forms[a] == forms[b]);
    let near = stage(exact, &|a, b| jaccard(&forms[a], &forms[b]) >= near);
    stage(near, &|a, b| cosine(&texts[a], &texts[b]) >= cosines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn three_methods_in_one_pass_keep_what_comparing_everything_keeps(
        texts in prop::collection::vec("[abcd，。 ]{0,9}", 1..60), split in 0_usize..60, threads in 1_usize..4,
        similarity in prop::sample::select(vec![0.5, 0.8]),
        // No cosine of two vectors of so few counts is one of these, where rounding would decide.
        cosines in prop::sample::select(vec![0.905, 0.985]),
    ) {
        let folder = Folder::new();
        let (first, second) = texts.split_at(split.min(texts.len()));
        let inputs = [folder.file("1.jsonl", rows(first)), folder.file("2.jsonl", rows(second))];
        let near = NearDuplicates::new(3, similarity).expect("in range");
        let options = DedupOptions::default().with_near(near).with_vectors(VectorOptions::new(cosines, 0, 0));
        let model = EmbeddedTexts::new(&Counts, Role::Query);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let found = pool.install(|| Deduplication::with_vectors(&inputs, &[], &options, Vectors::new(&model, &model)));
        let found = found.expect("found");
        let expected: Vec<String> =
            reference(&texts, similarity, cosines).into_iter().map(|row| texts[row].clone()).collect();
        prop_assert_eq!(kept_texts(&found), expected);
        let counts = found.counts();
        prop_assert_eq!(counts.kept + counts.exact + counts.near + counts.vectors, texts.len());
        // Every dropped row is in one cluster, whose head is kept.
        let clusters = clusters(&found, false);
        prop_assert_eq!(clusters.iter().map(|cluster| cluster.dropped.len()).sum::<usize>(), texts.len() - counts.kept);
        for cluster in clusters {
            let before = if cluster.kept.file.ends_with("1.jsonl") { 0 } else { first.len() };
            prop_assert!(found.is_kept(before + cluster.kept.line as usize - 1));
        }
    }
}

/// text-dedup splits at non-word characters and filters out texts of fewer than five tokens, as most Chinese ones are.
#[test]
fn short_chinese_texts_stay_and_are_compared() {
    let folder = Folder::new();
    let texts =
        ["咳", "咳嗽", "咳。", "头痛怎么办", "头痛，怎么办？", "发烧", "糖尿病人能吃西瓜吗", "糖尿病人能吃西瓜么"];
    let input = folder.file("rows.jsonl", rows(&texts));
    let found = Deduplication::of(&[input], &[], &near()).expect("found");
    assert_eq!(kept_texts(&found), ["咳", "咳嗽", "头痛怎么办", "发烧", "糖尿病人能吃西瓜吗", "糖尿病人能吃西瓜么"]);
    // At 6 of 8 trigrams.
    let input = folder.0.path().join("rows.jsonl");
    let options = DedupOptions::default().with_near(NearDuplicates::new(3, 0.75).expect("in range"));
    let found = Deduplication::of(&[input], &[], &options).expect("found");
    assert_eq!((kept(&found).len(), found.counts().near), (5, 1));
}

/// DataDesigner compares within the list of one row only; NeMo keeps by a rule that needs its clusters.
#[test]
fn rows_are_compared_through_all_files_and_the_rule_says_which_stays() {
    let folder = Folder::new();
    let inputs = [
        folder.file("1.jsonl", "{\"query\":\"头痛\",\"pos\":[\"a\"]}\n{\"query\":\"咳嗽\",\"pos\":[\"b\"]}\n"),
        folder.file(
            "2.jsonl",
            "{\"query\":\"头 痛!\",\"pos\":[\"c\",\"d\"]}\n\n  {\"query\": \"咳嗽\", \"pos\": \"e\", \"more\": 1}\r\n{\"query\":\"头痛\",\"pos\":[\"c\",\"d\"]}\n",
        ),
    ];
    let by = |keep| kept(&Deduplication::of(&inputs, &[], &DedupOptions::default().with_keep(keep)).expect("found"));
    assert_eq!(by(Keep::First), ["{\"query\":\"头痛\",\"pos\":[\"a\"]}", "{\"query\":\"咳嗽\",\"pos\":[\"b\"]}"]);
    let most = by(Keep::MostPositives);
    assert_eq!(most, ["{\"query\":\"咳嗽\",\"pos\":[\"b\"]}", "{\"query\":\"头 痛!\",\"pos\":[\"c\",\"d\"]}"]);
    // Verbatim, as they were, without their line ends.
    let options = DedupOptions::default().with_field(TextField::Named(vec!["query".into(), "pos".into()]));
    let found = Deduplication::of(&inputs, &[], &options).expect("found");
    assert_eq!(kept(&found)[3], "  {\"query\": \"咳嗽\", \"pos\": \"e\", \"more\": 1}");
    assert_eq!(found.counts().exact, 1);
}

#[test]
fn the_longest_of_near_duplicates_stays() {
    let folder = Folder::new();
    let texts = [
        "糖尿病人早上空腹能吃西瓜和葡萄吗",
        "糖尿病人早上空腹能吃西瓜和葡萄吗？谢谢",
        "糖尿病人早上空腹能吃西瓜和葡萄",
    ];
    let input = [folder.file("rows.jsonl", rows(&texts))];
    let by = |keep| kept_texts(&Deduplication::of(&input, &[], &near().with_keep(keep)).expect("found"));
    assert_eq!(by(Keep::First), [texts[0]]);
    assert_eq!(by(Keep::Longest), [texts[1]]);
}

#[test]
fn texts_of_a_test_set_leave_the_training_rows() {
    let folder = Folder::new();
    let test = folder
        .file("test.jsonl", "{\"_id\":\"1\",\"text\":\"头痛怎么办？\"}\n{\"_id\":\"2\",\"text\":\"头痛怎么办\"}\n");
    let train = folder.file("train.jsonl", rows(&["发烧", "头痛，怎么办", "发烧。", "咳嗽", "头痛怎么办呀"]));
    let options = DedupOptions::default().with_near(NearDuplicates::new(3, 0.7).expect("in range"));
    let found = Deduplication::of(&[train], &[test], &options).expect("found");
    assert_eq!(kept_texts(&found), ["发烧", "咳嗽"]);
    let counts = found.counts();
    assert_eq!((counts.rows, counts.exact, counts.near, counts.leaks), (5, 2, 1, 2));
    let leaks = serde_json::to_string(&clusters(&found, true)).expect("JSON");
    assert_eq!(
        folder.name(leaks),
        r#"[{"kept":{"file":"F/test.jsonl","line":1},"dropped":[{"file":"F/train.jsonl","line":2,"method":"exact","similarity":1.0},{"file":"F/train.jsonl","line":5,"method":"near","similarity":0.75}]}]"#
    );
    assert_eq!(clusters(&found, false).len(), 2);
}

#[test]
fn vectors_may_be_a_matrix_and_a_row_that_is_dropped_late_is_named() {
    let folder = Folder::new();
    let texts = ["头痛", "糖尿病人能吃西瓜吗谢谢", "糖尿病人能吃西瓜吗谢谢啊", "", "咳嗽"];
    let train = [folder.file("train.jsonl", rows(&texts))];
    let matrix = Embeddings::from_rows(2, [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]).expect("rows");
    let options = near().with_vectors(VectorOptions::new(0.9, 0, 0));
    let none = Embeddings::zeros(0, 2);
    let vectors = Vectors::new(&matrix, &none);
    let found = Deduplication::with_vectors(&train, &[], &options, vectors).expect("found");
    // Row 3 is near to row 2, which is near to row 1 by its vector. The empty text is compared with nothing.
    assert_eq!(kept_texts(&found), ["头痛", "", "咳嗽"]);
    let text = serde_json::to_string(&clusters(&found, false)[0].dropped[1]).expect("JSON");
    assert_eq!(
        folder.name(text),
        r#"{"file":"F/train.jsonl","line":3,"method":"near","similarity":0.9,"of":{"file":"F/train.jsonl","line":2}}"#
    );
    let few = Embeddings::zeros(3, 2);
    let error = Deduplication::with_vectors(&train, &[], &options, Vectors::new(&few, &none)).expect_err("too few");
    assert_eq!(error.to_string(), "there are 3 vectors for 5 rows");
    let error = Deduplication::of(&train, &[], &options).expect_err("no vectors");
    assert_eq!(error.to_string(), "`vectors` is set, allowed: none, as no vectors are given");
}

#[test]
fn a_vector_that_is_not_finite_names_its_row() {
    let folder = Folder::new();
    let train = [folder.file("train.jsonl", rows(&["头痛", "头痛", "咳嗽"]))];
    let matrix = Embeddings::from_rows(2, [[1.0, 0.0], [f32::NAN, 0.0], [f32::NAN, 0.0]]).expect("rows");
    let options = DedupOptions::default().with_vectors(VectorOptions::default());
    let vectors = Vectors::new(&matrix, &matrix);
    let error = Deduplication::with_vectors(&train, &[], &options, vectors).expect_err("refused");
    assert_eq!(error.to_string(), "there are 3 vectors for 0 rows");
    let none = Embeddings::zeros(0, 2);
    let error = Deduplication::with_vectors(&train, &[], &options, Vectors::new(&matrix, &none)).expect_err("refused");
    // The vector of line 2 is not looked at: its text was dropped before.
    assert_eq!(folder.name(&error), "F/train.jsonl:3: the vector of this row is not finite");
    assert_eq!(error.kind(), ErrorKind::NonFinite);
}

#[test]
fn vectors_of_another_tower_are_not_taken_from_the_store() {
    struct Other;
    impl Embedder for Other {
        fn embedding_dim(&self) -> usize {
            4
        }
        fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
            Embeddings::from_rows(4, queries.iter().map(|_| [1.0, 0.0, 0.0, 0.0]))
        }
        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            Embeddings::from_rows(4, documents.iter().map(|_| [1.0, 0.0, 0.0, 0.0]))
        }
        fn fingerprint(&self, _: Role) -> Result<Option<String>> {
            Ok(Some("other".to_owned()))
        }
    }
    let folder = Folder::new();
    let train = [folder.file("train.jsonl", rows(&["a", "b", "ab"]))];
    let options = DedupOptions::default().with_vectors(VectorOptions::new(0.9, 2, 1));
    let store = folder.0.path().join("store");
    let kept_by = |model: &dyn Embedder| {
        let model = EmbeddedTexts::new(model, Role::Query);
        let found = Deduplication::with_vectors(&train, &[], &options, Vectors::new(&model, &model)).expect("found");
        kept(&found).len()
    };
    assert_eq!(kept_by(&StoredEmbedder::open(Other, &store).expect("opened")), 1);
    assert_eq!(kept_by(&StoredEmbedder::open(Counts, &store).expect("opened")), 3);
}

#[test]
fn broken_rows_are_errors_or_listed() {
    let folder = Folder::new();
    let mut content = rows(&["a"]).into_bytes();
    content.extend_from_slice(b"{\"query\":\n\n{\"query\":\"\xff\"}\n{\"answer\":\"a\"}\n");
    content.extend_from_slice(rows(&["b", "a"]).as_bytes());
    let input = [folder.file("rows.jsonl", content)];
    let error = Deduplication::of(&input, &[], &near()).expect_err("broken");
    assert_eq!(folder.name(&error), "F/rows.jsonl:2: EOF while parsing a value (column 9)");
    let found = Deduplication::of(&input, &[], &near().with_skip_bad(true)).expect("skipped");
    assert_eq!(kept_texts(&found), ["a", "b"]);
    let bad: Vec<String> = found.bad().iter().map(|error| folder.name(error)).collect();
    assert_eq!((bad.len(), found.counts().bad), (3, 3));
    assert!(bad[1].starts_with("F/rows.jsonl:4: not valid UTF-8"), "{}", bad[1]);
    assert_eq!(bad[2], "F/rows.jsonl:5: no `query`, `anchor` or `text`; the row has `answer`");
}

#[test]
fn texts_of_no_and_of_100_000_characters_are_compared_or_kept() {
    let folder = Folder::new();
    let long: String = (0..100_000_u32).filter_map(|n| char::from_u32(0x4e00 + n * 7919 % 20_000)).collect();
    let texts = ["", &long, " ", &format!("{long}了"), "\u{3000}", "。"];
    let input = [folder.file("rows.jsonl", rows(&texts))];
    let found = Deduplication::of(&input, &[], &near()).expect("found");
    assert_eq!(kept_texts(&found), ["", &long, " ", "\u{3000}", "。"]);
    assert_eq!((found.counts().empty, found.counts().near), (3, 1));
    let none = [folder.file("none.jsonl", "")];
    assert_eq!(Deduplication::of(&none, &none, &near()).expect("nothing").counts().rows, 0);
}

struct FullDisk(usize);

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_and_a_changed_file_are_errors() {
    let folder = Folder::new();
    let path = folder.file("rows.jsonl", rows(&["a", "b", "c"]));
    let found = Deduplication::of(std::slice::from_ref(&path), &[], &near()).expect("found");
    let error = found.write_rows(&mut FullDisk(20)).expect_err("full");
    assert_eq!((error.to_string().as_str(), error.kind()), ("cannot write the kept rows", ErrorKind::Io));
    for texts in [&["a", "b", "x"][..], &["a", "b"], &["a", "b", "c", "d"]] {
        std::fs::write(&path, rows(texts)).expect("written");
        let error = found.write_rows(&mut Vec::new()).expect_err("changed");
        assert_eq!(folder.name(error), "F/rows.jsonl: the file has changed since it was first read");
    }
    std::fs::write(&path, "").expect("written");
    assert!(found.write_rows(&mut Vec::new()).is_err());
    let error = found.save_rows(folder.0.path().join("kept.jsonl")).expect_err("changed");
    assert!(error.path() == Some(&path) && std::fs::read_dir(folder.0.path()).expect("read").count() == 1, "{error}");
    assert!(Deduplication::of(&[Path::new("no/such/file.jsonl").to_owned()], &[], &near()).is_err());
}

#[test]
fn files_are_written_plain_and_packed() {
    let folder = Folder::new();
    let input = folder.file("rows.jsonl", rows(&["头痛", "头痛。", "咳嗽"]));
    let found = Deduplication::of(&[input], &[], &near()).expect("found");
    let path = |name: &str| folder.0.path().join(name);
    for name in ["kept.jsonl", "kept.jsonl.gz"] {
        found.save_rows(path(name)).expect("written");
        let again = Deduplication::of(&[path(name)], &[], &near()).expect("read");
        assert_eq!(kept(&again), kept(&found));
    }
    found.save_clusters(path("clusters.jsonl"), false).expect("written");
    let line = std::fs::read_to_string(path("clusters.jsonl")).expect("read");
    assert!(line.contains(r#""dropped":[{"file":"#) && line.lines().count() == 1, "{line}");
    let error = found.save_rows(path("kept.csv")).expect_err("a table");
    assert_eq!(folder.name(error), "F/kept.csv: rows are written as .jsonl or .jsonl.gz");
}

/// NeMo keeps the hardest, the easiest or any of a cluster; here seeds come first, then the order of the rule.
#[test]
fn seeds_are_considered_first_and_are_compared_with_each_other() {
    let folder = Folder::new();
    let texts = ["头痛", "糖尿病", "咳嗽", "发烧"];
    let train = [folder.file("train.jsonl", rows(&texts))];
    let matrix = Embeddings::from_rows(2, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).expect("rows");
    let none = Embeddings::zeros(0, 2);
    let kept_with = |seeds, seed| {
        let options = DedupOptions::default().with_vectors(VectorOptions::new(0.9, seeds, seed));
        let vectors = Vectors::new(&matrix, &none);
        kept_texts(&Deduplication::with_vectors(&train, &[], &options, vectors).expect("found"))
    };
    let one: HashSet<Vec<String>> = (0..20).map(|seed| kept_with(1, seed)).collect();
    assert_eq!(one.len(), 3, "the first, or a seed instead of it: {one:?}");
    assert!(one.iter().all(|kept| kept.len() == 2 && kept.contains(&"糖尿病".to_owned())));
    for seed in 0..20 {
        assert_eq!((kept_with(0, seed), kept_with(4, seed)), (kept_with(0, 0), kept_with(0, 0)));
    }
}
