"""Helpers of the interop checks: running `care`, reading its vectors, comparing."""
import json
import os
import subprocess
import sys

import numpy as np

CARE = os.environ.get("CARE", "care")
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
TEXTS = [
    "高血压患者能吃党参吗？", "你好", "头痛发烧三天，吃什么药好得快？体温38.5度。",
    "癫痫病人的饮食要注意哪些问题呢，平时应该怎么护理？能不能运动，会不会遗传给孩子，多久复查一次？",
    "糖尿病的早期症状有哪些", "孩子咳嗽有痰怎么办", "What are the early symptoms of diabetes?",
    "The patient was advised to rest and drink plenty of water.", "a!! b!", "慢性胃炎需要做胃镜检查吗，多长时间复查一次比较好？",
    "Aspirin 100 mg, once daily", "腰椎间盘突出压迫神经，腿麻，需要手术吗？", "失眠多梦，心慌气短，舌苔厚腻。",
    "Hypertension and salt intake", "乙肝小三阳能结婚吗", "感冒了可以喝酒吗？", "怀孕三个月，血压150/95，正常吗？",
    "Kopfschmerzen nach dem Aufwachen", "皮肤过敏起红疹，瘙痒难忍", "骨折后多久可以下地走路",
]


def care(*arguments):
    run = subprocess.run([CARE, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"care {' '.join(map(str, arguments))}: {run.stderr}")


def embed(folder, model, role, *more):
    """The vectors that `care embed` computes for TEXTS."""
    source, target = os.path.join(folder, "texts.jsonl"), os.path.join(folder, "vectors.npy")
    with open(source, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    care("embed", "--model", model, "--role", role, "--input", source, "--output", target, *more)
    return np.load(target)


FAILED = []


def compare(what, ours, theirs, bound):
    """Prints one row of the table and records a failure."""
    theirs = np.asarray(theirs, dtype=np.float64)
    ours = np.asarray(ours, dtype=np.float64)
    off = np.abs(ours - theirs).max()
    cosine = ((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min()
    print(f"| {what} | {len(ours)} x {ours.shape[1]} | {off:.1e} | {cosine:.7f} | {bound:.0e} |", flush=True)
    if off > bound:
        FAILED.append(what)


def header(title):
    print(f"{title}\n\n| what | vectors | largest difference | least cosine | bound |\n|---|---|---|---|---|")


def finish():
    if FAILED:
        sys.exit(f"over the bound: {', '.join(FAILED)}")
