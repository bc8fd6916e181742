"""The search page in headless Chromium, on a wide and a narrow window, by keyboard alone.

    cargo run -p care-serve --example fake_server -- 8080 INDEX &
    pip install playwright requests
    python search_page.py http://127.0.0.1:8080 /usr/bin/chromium FOLDER

It adds five documents, and writes a picture of each window to FOLDER. The exit status is 1 if a check fails.
"""

import sys
from pathlib import Path

import requests
from playwright.sync_api import expect, sync_playwright

BASE, CHROMIUM, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
ROWS = [
    ("偏头痛", "偏头痛发作时应在安静避光的房间休息，可以冷敷额头，必要时服用布洛芬。", "神经内科", 2023),
    ("高血压饮食", "高血压患者每天食盐宜少于5克，少吃腌制食品，多吃蔬菜水果。", "心内科", 2022),
    ("发热", "发烧超过38.5度应就医，幼儿高热时防止惊厥。", "儿科", 2024),
    ("", "咳嗽有痰一周以上，应拍胸片排除肺炎。", "呼吸科", 2021),
    ("紧张性头痛", "长时间低头看手机会引起紧张性头痛，注意颈部放松。", "神经内科", 2024),
]


def document(row):
    (number, (title, text, department, year)) = row
    return {"id": number, "title": title, "text": text, "metadata": {"department": department, "year": year}}


answer = requests.post(f"{BASE}/documents", json={"documents": [document(row) for row in enumerate(ROWS)]}, timeout=60)
answer.raise_for_status()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM)
    for name, width, height in [("wide", 1280, 900), ("narrow", 360, 800)]:
        page = browser.new_page(viewport={"width": width, "height": height})
        problems, outside = [], []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(BASE) else outside.append(request.url))
        page.goto(f"{BASE}/")
        expect(page.locator("#status")).to_contain_text("documents")
        # The question has the focus from the start.
        page.keyboard.type("头痛怎么办")
        page.keyboard.press("Enter")
        page.wait_for_selector("#hits li")
        hits = page.locator("#hits li")
        first = hits.first.inner_text()
        assert "头痛" in first and "vectors" in first and "words" in first, first
        assert "ms" in page.inner_text("#status")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement === document.querySelectorAll('#hits li')[1]")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "query"
        page.select_option("#field", "department")
        page.keyboard.type("神经内科")
        page.keyboard.press("Enter")
        expect(hits).to_have_count(2)
        page.select_option("#field", "year")
        page.fill("#value", "2024")
        page.keyboard.press("Enter")
        expect(hits.filter(has_text="2024")).to_have_count(2)
        expect(hits).to_have_count(2)
        page.select_option("#field", "")
        expect(hits).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than its window"
        page.screenshot(path=FOLDER / f"search-{name}.png")
        page.goto(f"{BASE}/docs")
        page.wait_for_selector("details")
        page.locator("details").first.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than its window"
        page.screenshot(path=FOLDER / f"docs-{name}.png")
        assert not problems and not outside, (problems, outside)
        page.close()
        print(f"ok  {name}: {width} x {height}")
    browser.close()
