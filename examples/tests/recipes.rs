//! The training recipes of the examples, and the cells of the paper's grid, are valid configurations.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use care_train::TrainConfig;
use toml::{Table, Value};

/// The recipes in a folder of the examples.
fn recipes(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|of| of == "toml") && file.file_stem().unwrap() != "grid")
        .collect()
}

fn check(file: &Path, settings: &[String]) {
    let checked = TrainConfig::from_file_with(file, settings).and_then(TrainConfig::check);
    assert!(checked.is_ok(), "{} with {settings:?}: {}", file.display(), checked.unwrap_err());
}

#[test]
fn every_recipe_is_valid() {
    for folder in ["toyhom", "mini", "paper"] {
        let files = recipes(folder);
        assert!(files.len() > 2, "{folder}");
        files.iter().for_each(|file| check(file, &[]));
    }
}

#[test]
fn every_cell_is_valid_at_every_scale_and_every_row_has_its_cells() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("paper");
    let grid: Table = fs::read_to_string(folder.join("grid.toml")).unwrap().parse().unwrap();
    let cells = grid["cell"].as_table().unwrap();
    for (scale, changes) in grid["scale"].as_table().unwrap() {
        for (name, cell) in cells {
            let file = folder.join(cell["recipe"].as_str().unwrap());
            let recipe: Table = fs::read_to_string(&file).unwrap().parse().unwrap();
            let kind = recipe["stage"][0]["kind"].as_str().unwrap();
            let set = cell.get("set").and_then(Value::as_table).into_iter().flatten();
            let mut settings: Vec<String> = set.map(|(key, value)| format!("{key}={value}")).collect();
            let of_scale = changes.get(kind).and_then(Value::as_table).into_iter().flatten();
            settings.extend(of_scale.map(|(key, value)| format!("stage.0.{key}={value}")));
            check(&file, &settings);
            assert!(!settings.iter().any(|set| set.starts_with("output=")), "{scale} {name}");
        }
    }
    let text = fs::read_to_string(folder.join("grid.toml")).unwrap();
    let texts = recipes("paper").into_iter().map(|file| fs::read_to_string(file).unwrap()).chain([text]);
    for text in texts {
        for name in text.split("../../runs/paper/cells/").skip(1) {
            let name = name.split(['/', '"']).next().unwrap();
            assert!(cells.contains_key(name), "{name}");
        }
    }
    let baselines = grid["row"].as_array().unwrap().iter().filter(|row| row.get("baseline").is_some());
    assert_eq!(baselines.count(), 1);
}
