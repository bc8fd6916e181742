"""Labels the HTML pages of experts in Chromium by keyboard, saves them, and checks what the reader makes of the files.

Needs playwright and Chromium; outside CI:

    cargo build -p care-label --features xlsx --example expert_sheets
    python care-label/tests/page.py target/debug/examples/expert_sheets FOLDER [CHROMIUM]

Writes FOLDER, with screenshots in FOLDER/pictures: look at them after a change of `page.html`.
"""

import json
import pathlib
import subprocess
import sys

from playwright.sync_api import sync_playwright

program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
chromium = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/chromium"
subprocess.run([program, "write", folder], check=True)
sample = json.loads((folder / "sample.json").read_text())
pictures, saved = folder / "pictures", folder / "saved"
pictures.mkdir(exist_ok=True)
saved.mkdir(exist_ok=True)
# Row numbers from 0: scores by row, notes, and rows left out.
SCORES = [1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 4, 4, 5, 1, 2, 3, 5]
NOTES = {2: "=不确定，“引号”", 5: '第一行\n"第二行", 逗号', 7: "-1"}
OPEN = {9}


def label(context, page, expert):
    rows = len(expert["pairs"])
    assert page.title() == f"标注 · {expert['name']}", page.title()
    assert page.evaluate("data.rows.length") == rows
    for row in range(rows):
        page.wait_for_function(f"at === {row}")
        if row in NOTES:
            page.keyboard.press("n")
            page.keyboard.insert_text(NOTES[row])
            page.keyboard.press("Escape")
        if row in OPEN:
            page.keyboard.press("ArrowRight")
        elif row % 3 == 1:
            page.locator(f"#scores button[data-point='{SCORES[row]}']").click()
        else:
            page.keyboard.press(str(SCORES[row]))
        if row == 3:
            # Half way, the page is closed: another one resumes. Then a wrong score is undone, and one cleared and given again.
            page.wait_for_function("at === 4")
            url = page.url
            page.close()
            page = context.new_page()
            page.goto(url)
            assert page.evaluate("at") == 4 and page.evaluate("done()") == 4
            page.keyboard.press("1")
            page.wait_for_function("at === 5")
            page.keyboard.press("Control+z")
            assert page.evaluate("at") == 4 and page.evaluate("answers[4].score") is None
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("Delete")
            assert page.evaluate("answers[3].score") is None
            page.keyboard.press("Control+z")
            assert page.evaluate("answers[3].score") == SCORES[3]
            page.keyboard.press("Enter")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.evaluate("at") == min(OPEN), "Enter goes to the next row without a score"
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    assert download.value.suggested_filename == f"{expert['name']}.csv"
    download.value.save_as(saved / f"{expert['name']}.csv")
    assert "还有 1 条未评分" in page.inner_text("#warning")
    assert page.title() != "broken"
    return page


def photograph(page, name):
    page.screenshot(path=pictures / f"{name}.png")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    requests, errors = [], []
    for expert in sample["experts"]:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, offline=True)
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.goto((folder / "sheets" / f"{expert['name']}.html").resolve().as_uri())
        page = label(context, page, expert)
        if expert is sample["experts"][0]:
            long = page.evaluate("data.rows.findIndex((row) => row[2].length > 1000)")
            script = page.evaluate("data.rows.findIndex((row) => row[2].includes('</script>'))")
            for scheme in ["light", "dark"]:
                page.emulate_media(color_scheme=scheme)
                page.evaluate(f"go({long})")
                photograph(page, f"long-{scheme}")
                page.evaluate(f"go({script})")
                photograph(page, f"short-{scheme}")
                page.keyboard.press("l")
                photograph(page, f"contents-{scheme}")
                page.keyboard.press("l")
                page.keyboard.press("?")
                photograph(page, f"guide-{scheme}")
                page.keyboard.press("?")
            page.emulate_media(color_scheme="light")
            page.evaluate(f"go({long})")
            before = page.evaluate("document.getElementById('scroll').scrollTop")
            page.keyboard.press("ArrowDown")
            assert page.evaluate("document.getElementById('scroll').scrollTop") > before, "arrows scroll the document"
            for name, width, height in [("narrow", 400, 780), ("tablet", 820, 1100), ("low", 1280, 520)]:
                page.set_viewport_size({"width": width, "height": height})
                page.evaluate(f"go({long})")
                photograph(page, name)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        context.close()
    browser.close()
assert all(url.startswith(("file:", "blob:")) for url in requests), requests
assert not errors, errors

subprocess.run([program, "read", folder, saved], check=True)
answers = {}
for line in (folder / "labels.jsonl").read_text().splitlines():
    answer = json.loads(line)
    answers[answer["expert"], answer["query_id"], answer["doc_id"]] = (answer["score"], answer.get("note"))
for expert in sample["experts"]:
    for row, pair in enumerate(expert["pairs"]):
        of = sample["pairs"][pair]
        expected = (None if row in OPEN else SCORES[row], NOTES.get(row))
        found = answers.pop((expert["name"], of["query_id"], of["doc_id"]))
        assert found == expected, (expert["name"], row, found, expected)
assert not answers
print(f"{len(sample['experts'])} pages labelled by keyboard and read back the same; pictures in {pictures}")
