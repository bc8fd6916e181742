//! CARE's growing index over random vectors around centres: how many are dropped, and how long it takes.
//!
//! ```sh
//! cargo run --release -p care-data --example growing_index -- 1000000 384 0.9 200000
//! ```
//!
//! The numbers: vectors, dimensions, threshold, centres. The cosine of a vector and its centre is between 0.8 and 1, so
//! that those of two vectors around one centre are on both sides of the threshold.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use care_core::Embeddings;
use care_core::ndarray::Array2;
use care_data::dedup::GrowingIndex;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [n, dim, threshold, centres] = arguments.as_slice() else {
        return Err("growing_index VECTORS DIMENSIONS THRESHOLD CENTRES".into());
    };
    let (n, dim, centres): (usize, usize, usize) = (n.parse()?, dim.parse()?, centres.parse()?);
    let vectors = clustered(n, dim, centres);
    let begin = Instant::now();
    let mut index = GrowingIndex::new(Arc::new(vectors), threshold.parse()?)?;
    let order: Vec<u32> = (0..n as u32).collect();
    let (mut kept, mut seen) = (0, 0);
    for part in order.chunks(50_000) {
        index.grow(part, &mut |_, found| {
            kept += usize::from(found.is_none());
            found.is_none()
        });
        seen += part.len();
        println!("{seen} vectors, {kept} kept, {:.1} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn clustered(n: usize, dim: usize, centres: usize) -> Embeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let centres = Array2::from_shape_simple_fn((centres, dim), || normal(&mut rng));
    let mut vectors = Array2::zeros((n, dim));
    for mut vector in vectors.rows_mut() {
        let centre = centres.row(rng.random_range(0..centres.nrows()));
        // The tangent of the angle to the centre.
        let spread = 0.75 * rng.random::<f32>();
        vector.zip_mut_with(&centre, |value, centre| *value = centre + spread * normal(&mut rng));
    }
    vectors.into()
}

/// A number of about the standard normal distribution.
fn normal(rng: &mut impl Rng) -> f32 {
    (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 3.0_f32.sqrt()
}
