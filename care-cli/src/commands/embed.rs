//! `care embed`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::{Document, Error, Query};
use care_encoders::load_tower;
use clap::ValueEnum;

use crate::embedding::Embedding;
use crate::families::warn_without_instruction;
use crate::model::{CacheArgs, ModelArgs, Own, say};
use crate::progress::Progress;
use crate::stderr::note;
use crate::texts::{self, FromRow, GroupSize, Ids, Row, VectorFile};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tower that encodes the texts
    #[arg(long)]
    role: RoleArg,
    /// Texts: one per line (.txt), or rows with `text` or `query` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE", required_unless_present = "text")]
    input: Option<PathBuf>,
    /// A single text, instead of a file
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    text: Option<String>,
    /// Vectors in input order: float32 [n, dim] (.npy), or rows of `_id` (if the input has ids), `text` and `embedding`
    /// (.jsonl, .parquet); by default the row of --text goes to stdout
    #[arg(long, value_name = "FILE", required_unless_present = "text")]
    output: Option<PathBuf>,
    /// Instruction: a template with `{text}`, or a prefix; by default as saved
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// PEFT adapter for the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    model: ModelArgs,
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

/// Embeds a text, or a file group by group, so that memory does not grow with it.
fn embed<T: FromRow>(args: &Args, size: GroupSize) -> Result<()> {
    args.check()?;
    let mut output = args.output.as_deref().map_or_else(|| Ok(VectorFile::stdout()), VectorFile::create)?;
    let total = match &args.input {
        Some(input) => {
            note!("reading {}", input.display());
            texts::count::<T>(input)?
        }
        None => Some(1),
    };
    if args.model.batch_tokens == 0 {
        return Err(Error::setting("batch_tokens", 0, "at least 1").into());
    }
    let options = args.model.options(Own {
        instruction: args.instruction.as_ref(),
        adapter: args.adapter.as_ref(),
        ..Own::default()
    });
    note!("loading {}", args.model.name());
    let folder = args.model.locate()?.folder;
    let tower = load_tower::<T>(&folder, &options, &args.model.device()?)?;
    warn_without_instruction(args.model.name(), &folder, &[("--instruction", tower.summary())]);
    say(&tower);
    let (store, place) = (args.cache.store(&tower)?, args.input.as_deref().unwrap_or(Path::new("--text")));
    let progress = Progress::start("embedding", total, "texts");
    let mut embedding = Embedding::start(&tower, args.model.batch_tokens, store, place, progress);
    let mut write = |ids: &Ids, texts: &[T]| output.write(ids, texts, &embedding.embed(texts)?);
    if let Some(text) = &args.text {
        write(&[None], &[T::from_row(text.clone(), Row::default())])?;
    } else if let Some(input) = &args.input {
        texts::for_each_group(input, size, &mut write)?;
    }
    let (cost, stored) = embedding.finish();
    note!("{} tokens, {:.1} % padding", cost.tokens, 100.0 * cost.padding_ratio());
    let rows = output.finish(tower.embedding_dim())?;
    if let Some(stored) = stored {
        note!("{stored} of {rows} vectors came from the cache");
    }
    let vectors = if rows == 1 { "vector" } else { "vectors" };
    note!("{rows} {} {vectors} of {} dimensions", T::ROLE.as_str(), tower.embedding_dim());
    Ok(())
}

impl Args {
    /// Refuses what cannot be embedded.
    fn check(&self) -> Result<()> {
        if self.text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            bail!("the text is empty");
        }
        match (&self.input, &self.output) {
            (Some(input), Some(output)) if is_same_file(input, output) => {
                bail!("{} is both the input and the output", output.display())
            }
            _ => Ok(()),
        }
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

    use care_core::Embeddings;
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
