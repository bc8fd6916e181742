//! A digest of everything that determines the final weights of a run.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use care_core::files::hex;
use care_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::config::{CheckedTrainConfig, StageConfig};
use crate::dataset::{Source, TrainingExample};

/// A digest of everything that determines the final weights of a run: settings, texts, dev set and the towers it starts
/// from, but not the locations of files.
///
/// # Errors
/// Returns an error if a file of a starting tower or of the dev set cannot be read.
pub(crate) fn fingerprint(config: &CheckedTrainConfig, sources: &[Vec<Source>]) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(config.seed.to_le_bytes());
    digest.update([u8::from(config.cache_teacher)]);
    if let Some(pair) = &config.model.pair {
        digest_folder(&mut digest, pair)?;
    }
    for tower in [&config.model.query, &config.model.document].into_iter().flatten() {
        digest_folder(&mut digest, &tower.encoder)?;
        if let Some(adapter) = &tower.options.adapter {
            digest_folder(&mut digest, adapter)?;
        }
        let mut options = tower.options.clone();
        options.adapter = None;
        digest_text(&mut digest, &format!("{options:?}"));
    }
    if let Some(evaluation) = &config.evaluation {
        digest_folder(&mut digest, &evaluation.data)?;
        digest_text(&mut digest, &format!("{:?} {} {:?}", evaluation.split, evaluation.every, evaluation.patience));
    }
    for (stage, sources) in config.stages().iter().zip(sources) {
        let settings = StageConfig { data: Vec::new(), ..(**stage).clone() };
        digest_text(&mut digest, &format!("{settings:?}"));
        for source in sources {
            digest.update(source.examples().len().to_le_bytes());
            source.examples().iter().for_each(|example| digest_example(&mut digest, example));
        }
    }
    Ok(hex(digest.finalize()))
}

fn digest_example(digest: &mut Sha256, example: &TrainingExample) {
    digest_text(digest, &example.query);
    for (texts, scores) in
        [(&example.positives, &example.positive_scores), (&example.negatives, &example.negative_scores)]
    {
        digest.update(texts.len().to_le_bytes());
        texts.iter().for_each(|text| digest_text(digest, text));
        digest.update(scores.len().to_le_bytes());
        scores.iter().for_each(|score| digest.update(score.to_le_bytes()));
    }
    digest_text(digest, &format!("{:?} {:?}", example.prompt, example.row_type));
}

fn digest_text(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text.as_bytes());
}

/// Digests the names and contents of a folder's files, sorted by name.
fn digest_folder(digest: &mut Sha256, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        digest_text(digest, &path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            digest_folder(digest, &path)?;
            continue;
        }
        let failed = |e| Error::io("read", &path, e);
        let mut file = fs::File::open(&path).map_err(failed)?;
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block).map_err(failed)? {
                0 => break,
                count => digest.update(&block[..count]),
            }
        }
    }
    Ok(())
}
