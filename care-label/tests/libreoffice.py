"""Fills experts' sheets in LibreOffice, saves them in every form, and checks what the reader makes of the files.

LibreOffice opens the CSV or XLSX file (as a user does, with its own conversions), a scripted cursor types the scores, and
it saves CSV, XLSX, XLS and ODS. Needs LibreOffice with its Python bridge (`python3-uno`; run with the interpreter that has
it); outside CI:

    cargo build -p care-label --features xlsx --example expert_sheets
    python3 care-label/tests/libreoffice.py target/debug/examples/expert_sheets FOLDER
"""

import json
import pathlib
import subprocess
import sys
import time

import uno
from com.sun.star.beans import PropertyValue

program, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
subprocess.run([program, "write", folder], check=True)
sample = json.loads((folder / "sample.json").read_text())
SCORES = [1, 2, 3, 4, 5, 5, 4, 3, 2, "完全回答", "４", "4 基本回答", 5, 1, 2, 3, 5]
POINTS = [1, 2, 3, 4, 5, 5, 4, 3, 2, 5, 4, 4, 5, 1, 2, 3, 5]
# Comma, quote, UTF-8, from line 1; nothing more, so that LibreOffice guesses types as it does by default.
CSV_IN = "44,34,76,1"
SAVED = {
    "csv": ("Text - txt - csv (StarCalc)", "44,34,76,1,,0,false,true,false"),
    "xlsx": ("Calc MS Excel 2007 XML", None),
    "xls": ("MS Excel 97", None),
    "ods": ("calc8", None),
}


def properties(**values):
    return tuple(PropertyValue(Name=name, Value=value) for name, value in values.items() if value is not None)


def connect():
    address = "pipe,name=care-label-sheets"
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    arguments = ["soffice", "--headless", "--norestore", "--nologo", profile, f"--accept={address};urp;"]
    office = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resolver = uno.getComponentContext().ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
    for _ in range(240):
        try:
            context = resolver.resolve(f"uno:{address};urp;StarOffice.ComponentContext")
            return office, context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
        except Exception:  # Not there yet.
            time.sleep(0.5)
    raise SystemExit("LibreOffice did not start")


def fill(desktop, source, into):
    """Fills a sheet and saves it in every form; returns the cells that LibreOffice shows otherwise than the file has."""
    is_csv = source.suffix == ".csv"
    opened = properties(
        Hidden=True,
        FilterName=SAVED["csv"][0] if is_csv else None,
        FilterOptions=CSV_IN if is_csv else None,
    )
    document = desktop.loadComponentFromURL(source.as_uri(), "_blank", 0, opened)
    sheet = document.Sheets.getByIndex(0)
    assert sheet.getCellByPosition(3, 0).String == "评分"
    formulas = []
    for row, score in enumerate(SCORES):
        for column in range(8):
            cell = sheet.getCellByPosition(column, row + 1)
            if cell.Type.value == "FORMULA":
                formulas.append((source.name, row + 2, column, cell.Formula))
        # As typed: digits become a number.
        sheet.getCellByPosition(3, row + 1).setFormula(str(score))
    sheet.getCellByPosition(4, 3).setString("=备注")
    for extension, (name, options) in SAVED.items():
        target = into / source.suffix[1:] / extension / f"{source.stem}.{extension}"
        target.parent.mkdir(parents=True, exist_ok=True)
        document.storeToURL(target.as_uri(), properties(FilterName=name, FilterOptions=options))
    document.close(True)
    return formulas


def check(form):
    subprocess.run([program, "read", folder, form], check=True)
    answers = {}
    for line in (folder / "labels.jsonl").read_text().splitlines():
        answer = json.loads(line)
        answers[answer["expert"], answer["query_id"], answer["doc_id"]] = (answer["score"], answer.get("note"))
    for expert in sample["experts"]:
        for row, pair in enumerate(expert["pairs"]):
            of = sample["pairs"][pair]
            found = answers.pop((expert["name"], of["query_id"], of["doc_id"]))
            expected = (POINTS[row], "=备注" if row == 2 else None)
            assert found == expected, (form, expert["name"], row, found, expected)


office, desktop = connect()
try:
    formulas = []
    for expert in sample["experts"]:
        for extension in ["csv", "xlsx"]:
            formulas += fill(desktop, folder / "sheets" / f"{expert['name']}.{extension}", folder / "filled")
finally:
    try:
        desktop.terminate()
    except Exception:  # It closes the bridge as it ends.
        pass
    office.wait(60)
assert not formulas, f"texts became formulas: {formulas}"
for source in ["csv", "xlsx"]:
    for extension in SAVED:
        check(folder / "filled" / source / extension)
        print(f"{source} filled in LibreOffice, saved as {extension}: the same labels")
