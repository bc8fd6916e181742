//! Sheets as XLSX, and workbooks (XLSX, XLS, ODS) read back.

use std::path::Path;

use calamine::{Data, Reader, open_workbook_auto};
use care_core::files::open_file;
use care_core::{Error, ErrorKind, Result};
use rust_xlsxwriter::{
    Color, DataValidation, DataValidationErrorStyle, Format, FormatAlign, FormatBorder, ProtectionOptions, Workbook,
    Worksheet, XlsxError,
};

use super::guide::{guide, points};
use super::sample::Expert;
use super::sheet::{CODE, DOCUMENT, EXPERT, NOTE, NUMBER, OPINIONS, POSITIVE, QUERY, SAMPLE, SCORE, Sheets};
use super::table::Table;
use crate::scale::Scale;

/// The worksheet that experts fill; the other one tells how.
const TABLE: &str = "标注";
const GUIDE: &str = "说明";
/// Most items of a validation's list, whose text Excel limits to 255 characters.
const LONGEST_LIST: usize = 255;

/// A workbook with an expert's sheet and the instructions. Only scores and notes can be edited; the protection has no
/// password.
pub(super) fn to_xlsx(sheets: &Sheets<'_>, expert: &Expert) -> Result<Vec<u8>> {
    let rows = sheets.rows(expert)?;
    let mut workbook = Workbook::new();
    let written = write_table(workbook.add_worksheet(), sheets, &rows)
        .and_then(|()| write_guide(workbook.add_worksheet(), sheets))
        .and_then(|()| workbook.save_to_buffer());
    written.map_err(|e| {
        Error::new(ErrorKind::Format, format!("cannot make the workbook of `{}`: {e}", expert.name)).with_source(e)
    })
}

fn write_table(sheet: &mut Worksheet, sheets: &Sheets<'_>, rows: &[Vec<String>]) -> std::result::Result<(), XlsxError> {
    sheet.set_name(TABLE)?;
    let border = |format: Format| format.set_border(FormatBorder::Thin).set_border_color(Color::RGB(0xD0_D7DE));
    let text = border(Format::new().set_text_wrap().set_align(FormatAlign::Top));
    let middle = text.clone().set_align(FormatAlign::Center);
    let filled = text.clone().set_unlocked().set_background_color(Color::RGB(0xFF_F8E1));
    let heading =
        border(Format::new().set_bold().set_align(FormatAlign::Center).set_align(FormatAlign::VerticalCenter))
            .set_background_color(Color::RGB(0xE7_EEF7));
    let last = rows.len() as u32;
    let at = |name: &str| sheets.columns().iter().position(|column| *column == name).unwrap_or_default() as u16;
    for (column, name) in (0..).zip(sheets.columns()) {
        sheet.write_string_with_format(0, column, name, &heading)?;
        let (width, format) = match name {
            NUMBER => (6.0, &middle),
            QUERY => (34.0, &text),
            DOCUMENT | POSITIVE => (72.0, &text),
            OPINIONS => (26.0, &text),
            SCORE => (9.0, &filled),
            NOTE => (30.0, &filled),
            _ => (20.0, &text),
        };
        sheet.set_column_width(column, width)?;
        if [EXPERT, SAMPLE, CODE].contains(&name) {
            sheet.set_column_hidden(column)?;
        }
        for (row, cells) in (1..).zip(rows) {
            match (name, &cells[usize::from(column)]) {
                (NUMBER, cell) => {
                    sheet.write_number_with_format(row, column, cell.parse::<u32>().unwrap_or(row), format)?
                }
                (_, cell) if cell.is_empty() => sheet.write_blank(row, column, format)?,
                (_, cell) => sheet.write_string_with_format(row, column, cell, format)?,
            };
        }
    }
    sheet.add_data_validation(1, at(SCORE), last.max(1), at(SCORE), &validation(sheets)?)?;
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofilter(0, 0, last, at(NOTE))?;
    sheet.set_landscape().set_repeat_rows(0, 0)?.set_print_fit_to_pages(1, 0);
    let mut allowed = ProtectionOptions::new();
    (allowed.format_cells, allowed.format_columns, allowed.format_rows) = (true, true, true);
    (allowed.sort, allowed.use_autofilter) = (true, true);
    sheet.protect_with_options(&allowed);
    Ok(())
}

/// A list of the points for the column of scores, with their words beside the selected cell.
fn validation(sheets: &Sheets<'_>) -> std::result::Result<DataValidation, XlsxError> {
    let Scale { min, max, .. } = sheets.prompt.scale;
    let list: Vec<String> = sheets.prompt.scale.points().map(|point| point.to_string()).collect();
    let validation = match list.join(",").len() <= LONGEST_LIST {
        true => DataValidation::new().allow_list_strings(&list)?,
        false => DataValidation::new().allow_whole_number(rust_xlsxwriter::DataValidationRule::Between(min, max)),
    };
    let words: Vec<String> = points(sheets.prompt).into_iter().rev().collect();
    // Excel's limit.
    let words: String = words.join("\n").chars().take(250).collect();
    validation
        .set_input_title("评分")?
        .set_input_message(words)?
        .set_error_title("评分不在范围内")?
        .set_error_message(format!("请填 {min} 到 {max} 的整数；无法判断的请留空，并在备注中说明。"))
        .map(|validation| validation.set_error_style(DataValidationErrorStyle::Stop))
}

fn write_guide(sheet: &mut Worksheet, sheets: &Sheets<'_>) -> std::result::Result<(), XlsxError> {
    sheet.set_name(GUIDE)?.set_column_width(0, 110)?;
    let text = Format::new().set_text_wrap().set_align(FormatAlign::Top);
    let heading = text.clone().set_bold().set_font_size(13);
    for (row, line) in (0..).zip(guide(sheets.prompt)) {
        let is_heading = ["标注说明", "分数", "评分标准"].contains(&line.as_str());
        sheet.write_string_with_format(row, 0, line, if is_heading { &heading } else { &text })?;
    }
    Ok(())
}

/// Reads the worksheet that experts fill, by its name, or else the first.
pub(super) fn read_workbook(path: &Path) -> Result<Table> {
    let refused = |e: calamine::Error| Error::format(path, format!("no workbook that can be read: {e}")).with_source(e);
    // For its words on folders and files that are absent.
    open_file(path)?;
    let mut workbook = open_workbook_auto(path).map_err(refused)?;
    let names = workbook.sheet_names();
    let name = names.iter().find(|name| *name == TABLE).or(names.first());
    let name = name.ok_or_else(|| Error::format(path, "the workbook has no worksheet"))?;
    let range = workbook.worksheet_range(name).map_err(refused)?;
    let (top, left) = range.start().unwrap_or_default();
    let mut rows = vec![Vec::new(); top as usize];
    rows.extend(range.rows().map(|row| {
        let mut cells = vec![String::new(); left as usize];
        cells.extend(row.iter().map(cell));
        cells
    }));
    Ok(Table { path: path.to_owned(), rows, encoding: None })
}

fn cell(data: &Data) -> String {
    match data {
        Data::Empty => String::new(),
        Data::DateTime(_) | Data::DateTimeIso(_) | Data::DurationIso(_) => format!("{data} (a date)"),
        // Display writes 4.0 as 4.
        other => other.to_string(),
    }
}
