"""What the tests share: the tiny checkpoints of care-encoders."""

import json
from pathlib import Path
from typing import Any

import pytest

from care_retrieval import Pair

CHECKPOINTS = Path(__file__).parents[2] / "care-encoders" / "tests" / "data"
TEXTS = ["高血压患者能吃党参吗？", "", "头痛发烧三天，吃什么药好得快？体温38.5度。", "x", "高血压患者能吃党参吗？"]


def expected(folder: Path) -> Any:
    """The values that Python's own libraries gave for a checkpoint."""
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def bert() -> Pair:
    return Pair.open(CHECKPOINTS / "bert")
