//! Sheets for two experts, and their labels read back.
//!
//! ```sh
//! cargo run -p care-label --features xlsx --example expert_sheets -- write FOLDER
//! # fill the sheets in FOLDER, then:
//! cargo run -p care-label --features xlsx --example expert_sheets -- read FOLDER FILE.. > labels.jsonl
//! ```
//!
//! The texts are ones that spreadsheet programs and browsers like to change. The scripts `tests/libreoffice.py` and
//! `tests/page.py` fill these sheets.

use std::path::Path;

use care_core::{Error, ErrorKind, Result};
use care_label::experts::{By, Candidate, Format, Missing, Sample, SampleOptions, Sheets, read_sheets, sheet_files};
use care_label::pair::{read_pairs, write_pairs};
use care_label::{Pair, Prompt};

/// Texts that are no formulas, numbers, dates or markup, but look like it.
const TEXTS: [&str; 16] = [
    "=1+1",
    "-2 度发热怎么办",
    "+86 开头的电话",
    "@儿科医生 在吗",
    "'带撇号的文字",
    "007",
    "3月5日",
    "1-2",
    "2024/1/2 发病",
    "TRUE",
    "第一行\n第二行，\"带引号\"；分号",
    "</script><script>document.title='broken'</script><!--",
    "罕用字：㐂𠮷，表情：😀，符号：≥38.5℃ μg",
    "_x000D_ 与 _x0041_",
    "  前后有空格  ",
    "＝全角等号",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", folder] => write(folder.as_ref()),
        ["read", folder, files @ ..] => read(folder.as_ref(), files),
        _ => Err(Error::new(ErrorKind::Config, "usage: expert_sheets write FOLDER | expert_sheets read FOLDER FILE..")),
    }
}

fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    let pairs = pairs();
    write_pairs(folder.join("pairs.jsonl"), &pairs)?;
    let prompt = Prompt::open("relevance")?;
    let candidates: Vec<Candidate<'_>> =
        pairs.iter().map(|pair| Candidate { pair, label: None, range: None }).collect();
    let options =
        SampleOptions::new(pairs.len(), &["王医生", "Dr Li"]).with_strata(&[By::Group]).with_overlap(2).with_seed(1);
    let sample = Sample::draw(&candidates, &prompt, &options)?;
    sample.write(folder.join("sample.json"))?;
    let mut formats = vec![Format::Csv, Format::Page, Format::LabelStudio];
    if cfg!(feature = "xlsx") {
        formats.push(Format::Xlsx);
    }
    Sheets::new(&sample, &pairs, &prompt)?.write(folder.join("sheets"), &formats)?;
    Ok(())
}

fn read(folder: &Path, files: &[&str]) -> Result<()> {
    let sample = Sample::read(folder.join("sample.json"))?;
    read_pairs(folder.join("pairs.jsonl")).and_then(|pairs| sample.texts(&pairs).map(drop))?;
    let files = match files {
        [folder] if Path::new(folder).is_dir() => sheet_files(folder)?,
        files => files.iter().map(Into::into).collect(),
    };
    let labels = read_sheets(&files, &sample, Missing::Accept)?;
    labels.write(folder.join("labels.jsonl"))
}

/// A pair per text as a question and as a document, and a long document.
fn pairs() -> Vec<Pair> {
    let long = (1..=60).map(|at| {
        format!("第{at}段：高血压患者应限盐、规律服药，并定期监测血压；出现胸痛、呼吸困难或意识改变时应立即就医。")
    });
    let long = long.collect::<Vec<_>>().join("\n");
    let documents = TEXTS.iter().copied().chain([long.as_str()]);
    let pair = |(at, document): (usize, &str)| Pair {
        query_id: format!("q{}", at / 3),
        doc_id: format!("d{at}"),
        query: TEXTS[at / 3].to_owned(),
        document: document.to_owned(),
        positive: None,
        group: Some(if at % 2 == 0 { "内科" } else { "儿科" }.to_owned()),
        grade: None,
        systems: vec![],
    };
    documents.enumerate().map(pair).collect()
}
