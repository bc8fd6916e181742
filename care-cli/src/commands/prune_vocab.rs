//! `care prune-vocab`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::{Document, Error, Query, Text};
use care_encoders::{AnyEncoder, AsymmetricEncoder, Precision, Tower};
use clap::ValueEnum;
use serde_json::json;

use crate::model::PairArgs;
use crate::progress::Progress;
use crate::stderr::note;
use crate::texts::{self, FromRow, GroupSize};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Texts whose tokens are kept: one per line (.txt), or rows with `text` or `query` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Texts of the same kind that are not in --input, to report how many of them keep their tokens
    #[arg(long, value_name = "FILE", num_args = 1..)]
    check: Vec<PathBuf>,
    /// Keep only tokens that occur at least so often, or are kept for another reason
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_count: u64,
    /// Single characters whose tokens are kept whether they occur or not
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', default_value = "han,ascii,greek,symbols")]
    keep_characters: Vec<Characters>,
    /// Folder of the smaller pair, which sentence-transformers loads too
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Characters {
    /// Chinese characters
    Han,
    /// Latin letters without accents, digits and ASCII punctuation
    Ascii,
    /// Greek letters
    Greek,
    /// Punctuation, signs and units of Chinese and European texts
    Symbols,
    /// Every character that has a token
    All,
    /// Only those that occur
    None,
}

impl Characters {
    fn contains(self, character: char) -> bool {
        match self {
            Characters::Han => matches!(character,
                '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
                | '\u{20000}'..='\u{3ffff}' | '々' | '〇'),
            Characters::Ascii => character.is_ascii(),
            Characters::Greek => matches!(character, '\u{370}'..='\u{3ff}' | 'µ'),
            // Latin-1; punctuation to enclosed numbers; CJK punctuation; units; full and half width.
            Characters::Symbols => matches!(character,
                '\u{a0}'..='\u{bf}' | '×' | '÷' | '\u{2010}'..='\u{24ff}' | '\u{3000}'..='\u{303f}'
                | '\u{3300}'..='\u{33ff}' | '\u{ff00}'..='\u{ffef}'),
            Characters::All => true,
            Characters::None => false,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    AsymmetricEncoder::check_target(&args.output)?;
    if args.keep_characters.contains(&Characters::None) && args.keep_characters.len() > 1 {
        bail!("--keep-characters: none excludes the other kinds");
    }
    let (pair, source) = args.pair.open()?;
    let provenance = pair.provenance().clone();
    // Weights stay packed as they were loaded, since only those in int8 as loaded can be saved in int8.
    let (query, document) = (pair.query(), pair.document());
    for precision in [query.summary().precision.value, document.summary().precision.value] {
        if precision == Precision::Int4 {
            return Err(Error::setting("precision", "\"int4\"", "f32, bf16, f16, int8, to save a pair").into());
        }
    }
    let mut counts = Counts::default();
    counts.read(&args.input, query, document)?;
    let shared = query.tokenizer().to_json()? == document.tokenizer().to_json()?;
    if shared {
        // The towers may stay one network.
        counts.merge();
    }
    let small_query = args.prune(query.clone(), &counts.query)?;
    let small_document = args.prune(document.clone(), &counts.document)?;
    for (is_new, files) in [(false, &args.input), (true, &args.check)] {
        for (role, same) in [
            (Query::ROLE, Same::of(files, query, &small_query)?),
            (Document::ROLE, Same::of(files, document, &small_document)?),
        ] {
            if same.texts == 0 {
                continue;
            }
            let what = if is_new { "texts that were not used" } else { "texts" };
            let share = 100.0 * same.equal as f64 / same.texts as f64;
            note!("as {}: {} of {} {what} keep their tokens ({share:.2} %)", role.as_str(), same.equal, same.texts);
            if !is_new && args.min_count <= 1 && same.equal < same.texts {
                bail!("{} covered texts would be tokenized differently; nothing is written", same.texts - same.equal);
            }
        }
    }
    let sizes = |large: usize, small: usize| format!("{small} of {large} tokens");
    note!("query tower: {}", sizes(query.tokenizer().vocab_size(), small_query.tokenizer().vocab_size()));
    note!("document tower: {}", sizes(document.tokenizer().vocab_size(), small_document.tokenizer().vocab_size()));
    let pair = AsymmetricEncoder::new(small_query, small_document)?;
    let mut origin = json!({ "pruned_from": source, "texts": counts.texts, "min_count": args.min_count });
    if !provenance.is_null() {
        origin["provenance"] = provenance;
    }
    let card = format!(
        "{}\n## Origin\n\nThe vocabulary is that of {} texts, by `care prune-vocab`.\n",
        pair.card_head(),
        counts.texts
    );
    pair.with_provenance(origin).with_card(card).save(&args.output)?;
    note!("the pair is in {}", args.output.display());
    Ok(())
}

impl Args {
    /// The tower with the tokens that were counted and the characters that are kept anyway.
    fn prune<T: Text>(&self, tower: Tower<T, AnyEncoder>, counts: &BTreeMap<u32, u64>) -> Result<Tower<T, AnyEncoder>> {
        let frequent = counts.iter().filter(|(_, count)| **count >= self.min_count).map(|(id, _)| *id);
        let mut used: BTreeSet<u32> = frequent.collect();
        let is_kept = |character: char| self.keep_characters.iter().any(|kind| kind.contains(character));
        let single = tower.tokenizer().single_characters().into_iter();
        used.extend(single.filter(|(_, character)| is_kept(*character)).map(|(id, _)| id));
        Ok(tower.with_vocabulary(&used)?)
    }
}

/// How often each token occurs, in texts read as queries and as documents.
#[derive(Default)]
struct Counts {
    query: BTreeMap<u32, u64>,
    document: BTreeMap<u32, u64>,
    texts: usize,
}

impl Counts {
    fn read(
        &mut self,
        files: &[PathBuf],
        query: &Tower<Query, AnyEncoder>,
        document: &Tower<Document, AnyEncoder>,
    ) -> Result<()> {
        let progress = Progress::start("tokenizing", None, "texts");
        for file in files {
            self.texts += count(file, query, &mut self.query)?;
            count(file, document, &mut self.document)?;
            progress.set(self.texts);
        }
        progress.finish();
        Ok(())
    }

    /// Takes the larger count of the two roles.
    fn merge(&mut self) {
        for (id, count) in &self.document {
            let larger = self.query.entry(*id).or_default();
            *larger = (*larger).max(*count);
        }
        self.document = self.query.clone();
    }
}

/// Counts the tokens of a file's texts; returns the number of texts.
fn count<T: FromRow>(file: &Path, tower: &Tower<T, AnyEncoder>, counts: &mut BTreeMap<u32, u64>) -> Result<usize> {
    let mut done = 0;
    texts::for_each_group(file, GroupSize::default(), &mut |_, texts: &[T]| {
        for id in tower.tokenize_whole(texts)?.into_iter().flatten() {
            *counts.entry(id).or_default() += 1;
        }
        done += texts.len();
        Ok(())
    })?;
    Ok(done)
}

/// How many texts have the same tokens with two vocabularies.
struct Same {
    texts: usize,
    equal: usize,
}

impl Same {
    fn of<T: FromRow>(files: &[PathBuf], large: &Tower<T, AnyEncoder>, small: &Tower<T, AnyEncoder>) -> Result<Self> {
        let mut same = Self { texts: 0, equal: 0 };
        for file in files {
            texts::for_each_group(file, GroupSize::default(), &mut |_, texts: &[T]| {
                let (before, after) = (large.tokenize_whole(texts)?, small.tokenize_whole(texts)?);
                same.texts += texts.len();
                let token = |tower: &Tower<T, AnyEncoder>, id: &u32| tower.tokenizer().id_to_token(*id);
                let is_same = |(before, after): &(Vec<u32>, Vec<u32>)| {
                    before.iter().map(|id| token(large, id)).eq(after.iter().map(|id| token(small, id)))
                };
                same.equal += before.into_iter().zip(after).filter(is_same).count();
                Ok(())
            })?;
        }
        Ok(same)
    }
}
