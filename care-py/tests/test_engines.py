"""The scripts for data engines give the vectors of the package, and of the program where there is one.

An engine that is not installed is skipped. `CARE` is the program `care`; without it, the one on the path.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from care_retrieval import Pair

EXAMPLES = Path(__file__).parents[1] / "examples"
CORPUS = Path(__file__).parents[2] / "cmedteb" / "data" / "mini" / "corpus.jsonl"
PROGRAM = os.environ.get("CARE") or shutil.which("care")


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("script", "engine"), [("daft_embed", "daft"), ("ray_embed", "ray"), ("spark_embed", "pyspark")])
def test_an_engine_gives_the_vectors_of_the_package(script: str, engine: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    import pyarrow.parquet

    output = tmp_path / "vectors"
    command: list[str | Path] = [sys.executable, EXAMPLES / f"{script}.py", "--model", "mini", "--corpus", CORPUS, "--output", output]
    env = {**os.environ, "RAYON_NUM_THREADS": "1", "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pyarrow.parquet.read_table(output).to_pydict()
    found = dict(zip(table["id"], table["vector"], strict=True))
    corpus = rows()
    assert len(table["id"]) == len(corpus) and found.keys() == {row["_id"] for row in corpus}
    vectors = Pair.open("mini").embed_documents(corpus)
    assert (np.array([found[row["_id"]] for row in corpus], dtype=np.float32) == vectors).all()


@pytest.mark.skipif(PROGRAM is None, reason="no program `care`")
def test_vectors_are_those_of_the_program(tmp_path: Path) -> None:
    assert PROGRAM
    pair = Pair.open("mini", query_precision="int8")
    texts = [row["text"] for row in rows()]
    for role, options, vectors in [
        ("document", [], pair.embed_documents(rows())),
        ("query", ["--precision", "int8"], pair.embed_queries(texts)),
    ]:
        output = tmp_path / f"{role}.npy"
        command: list[str | Path] = [PROGRAM, "embed", "--model", "mini", "--role", role, "--input", CORPUS]
        subprocess.run([*command, "--output", output, *options], check=True, capture_output=True)
        assert (np.load(output) == vectors).all()
