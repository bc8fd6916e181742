//! Sheets as CSV, written for Excel, WPS and LibreOffice, and read as those save them.

use std::path::Path;

use care_core::files::read_file;
use care_core::{Error, Result};
use encoding_rs::{Encoding, GB18030};

use super::table::{Table, guard};

/// A CSV file: UTF-8 with a byte-order mark, without which Excel shows Chinese as GBK, and texts guarded against being
/// taken for formulas.
pub(super) fn to_csv(columns: &[&str], rows: &[Vec<String>]) -> Result<Vec<u8>> {
    let mut writer =
        ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer("\u{feff}".as_bytes().to_vec());
    let failed = |e: ::csv::Error| Error::io("write", "a CSV file", e.into());
    writer.write_record(columns).map_err(failed)?;
    for row in rows {
        // The number of a row is meant as one.
        let cells = row.iter().enumerate().map(|(at, cell)| if at == 0 { cell.clone() } else { guard(cell) });
        writer.write_record(cells).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| Error::io("write", "a CSV file", e.into_error()))
}

/// Reads a CSV file in UTF-8, GB18030 (which Excel saves in Chinese Windows) or UTF-16 with a byte-order mark, separated
/// by commas, semicolons or tabs.
pub(super) fn read_csv(path: &Path) -> Result<Table> {
    let bytes = read_file(path)?;
    let (text, encoding) = decode(&bytes)
        .ok_or_else(|| Error::format(path, "neither UTF-8 nor GB18030 nor UTF-16; save the sheet as \"CSV UTF-8\""))?;
    let start = text.lines().next().unwrap_or_default();
    let count = |separator: &u8| start.matches(char::from(*separator)).count();
    let separator = [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',');
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text.as_bytes());
    let rows = reader.records().map(|row| row.map(|row| row.iter().map(str::to_owned).collect()));
    let rows = rows.collect::<std::result::Result<_, _>>().map_err(|e| Error::format(path, &e).with_source(e))?;
    Ok(Table { path: path.to_owned(), rows, encoding })
}

fn decode(bytes: &[u8]) -> Option<(String, Option<&'static str>)> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes[mark..])?;
        return Some((text.into_owned(), None));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some((text.to_owned(), None));
    }
    let text = GB18030.decode_without_bom_handling_and_without_replacement(bytes)?;
    Some((text.into_owned(), Some("GBK")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> std::result::Result<Table, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.csv");
        std::fs::write(&path, content).expect("written");
        read_csv(&path).map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "F"))
    }

    #[test]
    fn sheets_are_read_in_every_encoding_and_with_every_separator() {
        let text = "编号,问题\r\n1,\"头痛,\n怎么办\"\r\n";
        let expected = [["编号", "问题"], ["1", "头痛,\n怎么办"]];
        let utf16: Vec<u8> =
            "\u{feff}编号\t问题\r\n1\t\"头痛,\n怎么办\"\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (content, encoding) in [
            (text.as_bytes().to_vec(), None),
            (format!("\u{feff}{text}").into_bytes(), None),
            (GB18030.encode(text).0.into_owned(), Some("GBK")),
            (utf16, None),
            (text.replace(",问", ";问").replace("1,", "1;").into_bytes(), None),
        ] {
            let table = read(&content).expect("read");
            assert_eq!(
                (table.rows, table.encoding),
                (expected.map(|row| row.map(str::to_owned).to_vec()).to_vec(), encoding)
            );
        }
        let problem = read(&[0x80, 0xff, 0xff]).expect_err("no text");
        assert_eq!(problem, "F/a.csv: neither UTF-8 nor GB18030 nor UTF-16; save the sheet as \"CSV UTF-8\"");
    }

    #[test]
    fn texts_are_guarded_and_numbers_of_rows_are_not() {
        let written = to_csv(&["编号", "问题"], &[vec!["1".into(), "=1+1".into()]]).expect("written");
        assert_eq!(String::from_utf8(written).expect("UTF-8"), "\u{feff}编号,问题\r\n1,'=1+1\r\n");
    }
}
