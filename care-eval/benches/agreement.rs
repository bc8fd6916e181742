//! Time of all coefficients of a million ratings with both intervals; `agreement_peer.py` is the same in Python.
//!
//! ```text
//! cargo bench -p care-eval --bench agreement -- FILE
//! python3 care-eval/benches/agreement_peer.py FILE
//! ```
//!
//! The first command writes FILE unless it exists: 333,333 rows of 3 grades from 0 to 3, of which one in twenty is missing.
//! Each command reads it untimed, and prints one JSON object with seconds. Ours has standard errors and 1000 bootstrap
//! resamples of each coefficient; the Python libraries have neither, except irrCAC's standard errors.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::time::Instant;

use care_eval::agreement::{Coefficient, Icc, IntervalOptions, Level, Ratings, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const UNITS: usize = 333_333;

fn text() -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut text = String::from("a,b,c\n");
    for _ in 0..UNITS {
        let truth = rng.random_range(0..4_u8).min(rng.random_range(0..4_u8));
        let cells = [0; 3].map(|_| {
            let grade = if rng.random_bool(0.8) { truth } else { rng.random_range(0..4) };
            if rng.random_bool(0.95) { grade.to_string() } else { String::new() }
        });
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    text
}

fn main() {
    // Cargo passes `--bench` too.
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).expect("a file");
    if !fs::exists(&path).unwrap() {
        fs::write(&path, text()).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    let rows: Vec<Vec<Option<f64>>> =
        text.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().ok()).collect()).collect();

    let start = Instant::now();
    let ratings = Ratings::from_rows(&rows).unwrap();
    let table = start.elapsed().as_secs_f64();
    let pair = ratings.select(&[0, 1]).unwrap();
    let options = IntervalOptions::default();
    let mut values = serde_json::Map::new();
    for (coefficient, ratings) in [
        (Coefficient::PercentAgreement(Weights::Identity), &ratings),
        (Coefficient::Cohen(Weights::Identity), &pair),
        (Coefficient::Cohen(Weights::Quadratic), &pair),
        (Coefficient::Fleiss(Weights::Identity), &ratings),
        (Coefficient::Krippendorff(Level::Nominal), &ratings),
        (Coefficient::Krippendorff(Level::Ordinal), &ratings),
        (Coefficient::Krippendorff(Level::Interval), &ratings),
        (Coefficient::Gwet(Weights::Identity), &ratings),
        (Coefficient::Gwet(Weights::Quadratic), &ratings),
        (Coefficient::BrennanPrediger(Weights::Identity), &ratings),
    ] {
        let estimate = coefficient.estimate(ratings, &options).unwrap();
        values.insert(coefficient.to_string(), serde_json::to_value(estimate).unwrap());
    }
    for &icc in Icc::ALL {
        values.insert(icc.to_string(), serde_json::to_value(icc.estimate(&ratings, &options).unwrap()).unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "table_s": table, "all_s": seconds, "estimates": values }));
}
