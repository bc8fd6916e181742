//! `care info`

use std::io::Write;

use anyhow::Result;
use care_core::Text;
use care_encoders::{AnyEncoder, Tower, tower_fingerprint};

use crate::model::PairArgs;

#[derive(clap::Args)]
#[command(mut_arg("model", |model| model.long(None::<&'static str>)))]
pub(crate) struct Args {
    #[command(flatten)]
    pair: PairArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let (pair, _) = args.pair.open_silently()?;
    let mut out = std::io::stdout().lock();
    describe(&mut out, pair.query())?;
    writeln!(out)?;
    describe(&mut out, pair.document())?;
    Ok(out.flush()?)
}

/// Writes one setting per line: its name, its value and where the value comes from.
fn describe<T: Text>(out: &mut impl Write, tower: &Tower<T, AnyEncoder>) -> Result<()> {
    let summary = tower.summary();
    let (network, tokenizer) = (tower.network(), tower.tokenizer());
    let config = network.encoder().config().to_json();
    writeln!(out, "{} tower", T::ROLE.as_str())?;
    let mut line = |name: &str, value: String, source: Option<&dyn std::fmt::Display>| match source {
        Some(source) => writeln!(out, "  {name:<14} {value}  ({source})"),
        None => writeln!(out, "  {name:<14} {value}"),
    };
    line("architecture", config["model_type"].as_str().unwrap_or("unknown").to_owned(), None)?;
    line("pooling", summary.pooling.value.to_string(), Some(&summary.pooling.source))?;
    line("normalised", yes_or_no(summary.normalize.value), Some(&summary.normalize.source))?;
    let similarity = if summary.cosine { "cosine: every vector has length 1" } else { "dot product" };
    line("similarity", similarity.to_owned(), None)?;
    line("dimensions", summary.dim.value.to_string(), Some(&summary.dim.source))?;
    line("max length", format!("{} tokens", summary.max_length.value), Some(&summary.max_length.source))?;
    let instruction = match summary.instruction.value.as_str() {
        "" => "none".to_owned(),
        template => format!("{template:?}"),
    };
    line("instruction", instruction, Some(&summary.instruction.source))?;
    line("dtype", summary.precision.value.as_str().to_owned(), Some(&summary.precision.source))?;
    line("weights", format!("{} bytes", network.weight_bytes()), None)?;
    let terminal = tokenizer.terminal_token().and_then(|id| tokenizer.id_to_token(id));
    line("terminal token", terminal.unwrap_or_else(|| "none".to_owned()), None)?;
    line("vocabulary", tokenizer.vocab_size().to_string(), None)?;
    line("fingerprint", tower_fingerprint(tower)?, None)?;
    tokenizer.remarks().iter().try_for_each(|remark| line("note", remark.clone(), None))?;
    Ok(())
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
