//! Writes the sheets of a sample's experts into a folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use care_core::files::write_atomic;
use care_core::{Error, Result};

use super::csv::to_csv;
use super::guide::guide;
use super::label_studio::{label_studio_config, label_studio_tasks};
use super::page::page;
use super::sheet::Sheets;

/// A form of sheets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `NAME.csv` per expert, and `README.txt` with instructions in Chinese.
    Csv,
    /// `NAME.xlsx` per expert, with the instructions as a second worksheet. Needs the feature `xlsx`.
    Xlsx,
    /// `NAME.html` per expert: a page that works offline and saves `NAME.csv`.
    Page,
    /// `label-studio/tasks.json` and `label-studio/config.xml` for one project of all experts.
    LabelStudio,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "csv" => Ok(Self::Csv),
            "xlsx" => Ok(Self::Xlsx),
            "html" => Ok(Self::Page),
            "label-studio" => Ok(Self::LabelStudio),
            _ => Err(Error::setting("format", format!("`{name}`"), "csv, xlsx, html, label-studio")),
        }
    }
}

impl Sheets<'_> {
    /// Writes the sheets into a folder, which is made if it does not exist, and returns the files. Each file is replaced
    /// atomically: keep filled sheets elsewhere.
    ///
    /// # Errors
    /// If a file cannot be written, a text is too long for a cell, the sample has no experts but the form needs them, or
    /// the form is not compiled in.
    pub fn write(&self, folder: impl AsRef<Path>, formats: &[Format]) -> Result<Vec<PathBuf>> {
        let folder = folder.as_ref();
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for format in formats {
            if *format != Format::LabelStudio && self.sample.experts.is_empty() {
                return Err(Error::setting("experts", "empty", "one name at least, except for Label Studio"));
            }
            match format {
                Format::Csv => {
                    self.check_cells()?;
                    let text = format!("\u{feff}{}\r\n", guide(self.prompt).join("\r\n"));
                    files.push((folder.join("README.txt"), text.into_bytes()));
                }
                Format::Xlsx => self.check_cells()?,
                Format::Page => {}
                Format::LabelStudio => {
                    let folder = folder.join("label-studio");
                    files.push((folder.join("tasks.json"), label_studio_tasks(self)?.into_bytes()));
                    files.push((folder.join("config.xml"), label_studio_config(self.prompt).into_bytes()));
                    continue;
                }
            }
            for expert in &self.sample.experts {
                let (extension, content) = match format {
                    Format::Csv => ("csv", to_csv(&self.columns(), &self.rows(expert)?)?),
                    Format::Page => ("html", page(self, expert)?.into_bytes()),
                    #[cfg(feature = "xlsx")]
                    Format::Xlsx => ("xlsx", super::xlsx::to_xlsx(self, expert)?),
                    _ => {
                        return Err(Error::setting(
                            "format",
                            "xlsx",
                            "csv, html, label-studio in a build without `xlsx`",
                        ));
                    }
                };
                files.push((folder.join(format!("{}.{extension}", expert.name)), content));
            }
        }
        for (path, content) in &files {
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
            write_atomic(path, content)?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }
}
