//! `care embed`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::store::{EmbeddingStore, SHARD};
use care_core::{Document, Embeddings, Error, ErrorKind, Query, Text};
use care_encoders::{AnyEncoder, EmbedProgress, Tower, load_tower};
use clap::ValueEnum;

use crate::families::warn_without_instruction;
use crate::model::{CacheArgs, ModelArgs, Own, say, warn_of};
use crate::progress::Progress;
use crate::stderr::note;
use crate::texts::{self, FromRow, GroupSize, VectorFile};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Tower that encodes the texts
    #[arg(long)]
    role: RoleArg,
    /// Texts: one per line (.txt), or rows with `text` or `query` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Vectors in input order: float32 [n, dim] (.npy), or rows (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Instruction: a template with `{text}`, or a prefix; by default as saved
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// PEFT adapter for the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Query,
    Document,
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.role {
        RoleArg::Query => embed::<Query>(&args, GroupSize::default()),
        RoleArg::Document => embed::<Document>(&args, GroupSize::default()),
    }
}

/// Embeds a file group by group, so that memory does not grow with it.
fn embed<T: FromRow>(args: &Args, size: GroupSize) -> Result<()> {
    if is_same_file(&args.input, &args.output) {
        bail!("{} is both the input and the output", args.output.display());
    }
    let mut output = VectorFile::create(&args.output)?;
    let total = texts::count::<T>(&args.input)?;
    if args.model.batch_tokens == 0 {
        return Err(Error::setting("batch_tokens", 0, "at least 1").into());
    }
    let options = args.model.options(Own {
        instruction: args.instruction.as_ref(),
        adapter: args.adapter.as_ref(),
        ..Own::default()
    });
    let folder = args.model.locate()?.folder;
    let tower = load_tower::<T>(&folder, &options, &args.model.device()?)?;
    warn_without_instruction(args.model.name(), &folder, &[("--instruction", tower.summary())]);
    say(&tower);
    let progress = Progress::start("embedding", total, "texts");
    let (mut store, token_budget) = (args.cache.store(&tower)?, args.model.batch_tokens);
    let mut work = Work { tower: &tower, token_budget, progress, cost: EmbedProgress::default(), stored: 0 };
    texts::for_each_group(&args.input, size, &mut |texts: &[T]| {
        let before = work.done();
        let embedded = work.embed(texts, store.as_mut()).map_err(|e| after(before, &args.input, e))?;
        output.write(texts, &embedded)
    })?;
    let Work { progress, cost, stored, .. } = work;
    progress.finish();
    note!("{} tokens, {:.1} % padding", cost.tokens, 100.0 * cost.padding_ratio());
    let rows = output.finish(tower.embedding_dim())?;
    if store.is_some() {
        note!("{stored} of {rows} vectors came from the cache");
    }
    note!("{rows} {} vectors of {} dimensions", T::ROLE.as_str(), tower.embedding_dim());
    Ok(())
}

/// Embedding texts group by group.
struct Work<'a, T: Text> {
    tower: &'a Tower<T, AnyEncoder>,
    token_budget: usize,
    progress: Progress,
    /// What was computed.
    cost: EmbedProgress,
    /// Number of texts whose vectors were stored.
    stored: usize,
}

impl<T: Text> Work<'_, T> {
    /// Number of texts that have their vectors.
    fn done(&self) -> usize {
        self.cost.texts + self.stored
    }

    /// The vectors of a group; with a store, those that it lacks are computed and added.
    fn embed(&mut self, texts: &[T], store: Option<&mut EmbeddingStore>) -> care_core::Result<Embeddings> {
        let prepared = self.tower.prepare(texts);
        match store.map(|store| self.embed_stored(&prepared, store)) {
            Some(Ok(vectors)) => Ok(vectors),
            // Without the store, whose order of missing texts is its own, the message names the text.
            Some(Err(e)) if e.kind() != ErrorKind::NonFinite => Err(e),
            _ => self.compute(&prepared),
        }
    }

    fn embed_stored(&mut self, prepared: &[String], store: &mut EmbeddingStore) -> care_core::Result<Embeddings> {
        let mut vectors = Embeddings::zeros(0, store.dim());
        for shard in prepared.chunks(SHARD) {
            let computed = store.fill(shard, &mut |missing| self.compute(missing))?;
            let found = store.get(shard);
            self.progress.suspend(|| warn_of(store.take_refused()));
            vectors.append(&found?)?;
            self.stored += shard.len() - computed;
            self.progress.set(self.done());
        }
        Ok(vectors)
    }

    fn compute<S: AsRef<str> + Sync>(&mut self, prepared: &[S]) -> care_core::Result<Embeddings> {
        let (tower, before) = (self.tower, self.cost);
        tower.embed_prepared(prepared, self.token_budget, &mut |now| {
            self.cost = before + *now;
            self.progress.set(self.done());
            self.progress.set_message(format!("{:.1} % padding", 100.0 * self.cost.padding_ratio()));
        })
    }
}

/// An error of a group of texts, whose indices in the message are relative to the group.
fn after(before: usize, input: &Path, error: Error) -> Error {
    match before {
        0 => error,
        _ => Error::new(error.kind(), format!("{}, after the first {before} texts: {error}", input.display()))
            .with_source(error),
    }
}

/// Whether two paths lead to one file, by whatever names.
fn is_same_file(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use care_encoders::Device;
    use clap::Parser;
    use ndarray_npy::WriteNpyExt;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    const BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../care-encoders/tests/data/bert");
    const TEXTS: [&str; 7] = ["高血压", "", "糖尿病要多吃药", "肝", "高血压", "感冒", "x"];
    /// All texts, a few by their bytes or their number, and each alone.
    const SIZES: [GroupSize; 4] = [
        GroupSize { bytes: 4 << 20, texts: 4096 },
        GroupSize { bytes: 20, texts: 4096 },
        GroupSize { bytes: 4 << 20, texts: 3 },
        GroupSize { bytes: 0, texts: 1 },
    ];

    fn args(model: &str, input: &Path, output: &Path) -> Args {
        let [input, output] = [input, output].map(|path| path.to_str().expect("UTF-8"));
        let line = ["embed", "--role", "query", "--model", model, "--input", input, "--output", output];
        Line::parse_from(line).args
    }

    #[test]
    fn a_file_is_the_same_whatever_the_groups() {
        let place = tempfile::tempdir().expect("a folder");
        let input = place.path().join("texts.jsonl");
        let rows: String = TEXTS.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect();
        fs::write(&input, rows).expect("written");
        let device = Device::Cpu.open().expect("a CPU");
        let tower = load_tower::<Query>(BERT, &Default::default(), &device).expect("loaded");
        let queries: Vec<Query> = TEXTS.iter().map(|text| Query::new(*text)).collect();
        let expected = tower.embed(&queries, 4096).expect("embedded");
        let mut npy = Vec::new();
        expected.as_array().write_npy(&mut npy).expect("in memory");
        let row = |(index, text): (usize, &&str)| {
            let embedding = expected.row(index).to_vec();
            format!("{{\"text\":{},\"embedding\":{}}}\n", json!(text), serde_json::to_string(&embedding).expect("JSON"))
        };
        let jsonl: String = TEXTS.iter().enumerate().map(row).collect();
        for (number, size) in SIZES.into_iter().enumerate() {
            for (name, expected) in [("out.npy", npy.as_slice()), ("out.jsonl", jsonl.as_bytes())] {
                let output = place.path().join(name);
                embed::<Query>(&args(BERT, &input, &output), size).expect("embedded");
                assert!(fs::read(&output).expect("read") == expected, "{name} in groups of {size:?}");
                fs::remove_file(output).expect("removed");
            }
            assert_eq!(fs::read_dir(place.path()).expect("read").count(), 1, "{number}");
        }
    }

    #[test]
    fn no_texts_are_a_matrix_without_rows() {
        let place = tempfile::tempdir().expect("a folder");
        let (input, output) = (place.path().join("empty.txt"), place.path().join("out.npy"));
        fs::write(&input, "").expect("written");
        embed::<Query>(&args(BERT, &input, &output), GroupSize::default()).expect("embedded");
        let mut npy = Vec::new();
        Embeddings::zeros(0, 64).as_array().write_npy(&mut npy).expect("in memory");
        assert!(fs::read(&output).expect("read") == npy);
    }

    /// A copy of the checkpoint in which one token's vector overflows.
    fn overflowing(folder: &Path, token: &str) {
        for entry in fs::read_dir(BERT).expect("read").flatten() {
            fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
        }
        let read = |name: &str| fs::read(folder.join(name)).expect("read");
        let tokenizer: Value = serde_json::from_slice(&read("tokenizer.json")).expect("JSON");
        let id = tokenizer["model"]["vocab"][token].as_u64().expect("a token") as usize;
        let mut bytes = read("model.safetensors");
        let size = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + size]).expect("JSON");
        let tensor = &header["embeddings.word_embeddings.weight"];
        let offset = |value: &Value| value.as_u64().expect("a number") as usize;
        let row = 4 * offset(&tensor["shape"][1]);
        let start = 8 + size + offset(&tensor["data_offsets"][0]) + id * row;
        for value in bytes[start..start + row].chunks_mut(4) {
            value.copy_from_slice(&3e38f32.to_le_bytes());
        }
        fs::write(folder.join("model.safetensors"), bytes).expect("written");
    }

    #[test]
    fn a_text_that_cannot_be_embedded_is_named_in_any_group_and_leaves_no_output() {
        let place = tempfile::tempdir().expect("a folder");
        let (model, input, output) =
            (place.path().join("model"), place.path().join("t.txt"), place.path().join("o.npy"));
        fs::create_dir(&model).expect("made");
        overflowing(&model, "高");
        fs::write(&input, "肝\n药\n血压\n高血压\n").expect("written");
        let args = args(model.to_str().expect("UTF-8"), &input, &output);
        let message = |texts| {
            let error = embed::<Query>(&args, GroupSize { bytes: 4 << 20, texts }).expect_err("not finite").to_string();
            assert!(!output.exists() && fs::read_dir(place.path()).expect("read").count() == 2);
            error.replace(&place.path().display().to_string(), "F")
        };
        assert_eq!(message(4096), "the vector of query 3 is not finite");
        assert_eq!(message(2), "F/t.txt, after the first 2 texts: the vector of query 1 is not finite");
        assert_eq!(message(1), "F/t.txt, after the first 3 texts: the vector of query 0 is not finite");
    }
}
