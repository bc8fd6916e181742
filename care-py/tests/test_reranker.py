"""Rerankers: scores, settings, and what is refused."""

from typing import Any

import numpy as np
import pytest
from conftest import CHECKPOINTS, expected

from care_retrieval import CareError, Reranker


@pytest.mark.parametrize("name", ["bge-reranker-base", "gte-reranker-modernbert-base", "Qwen3-Reranker-0.6B"])
def test_scores_are_those_of_sentence_transformers(name: str) -> None:
    folder = CHECKPOINTS / "rerankers" / name
    known = expected(folder)
    reranker = Reranker.open(folder)
    scores = [reranker.score(query, [document])[0] for query, document in known["pairs"]]
    np.testing.assert_allclose(scores, known["scores"], atol=1e-5)
    raw = Reranker.open(folder, activation="identity")
    logits = [raw.score(query, [document])[0] for query, document in known["pairs"]]
    np.testing.assert_allclose(logits, known["logits"], atol=1e-5)
    assert reranker.fingerprint() != raw.fingerprint()


def test_scores_are_in_the_order_of_the_documents() -> None:
    reranker = Reranker.open(CHECKPOINTS / "rerankers" / "bge-reranker-base")
    documents: list[Any] = ["多喝水", ("感冒", "多喝水"), {"text": "体温38.5度"}]
    scores = reranker.score("发烧怎么办", documents)
    assert scores.shape == (3,) and scores.dtype == np.float32
    alone = [reranker.score("发烧怎么办", [document])[0] for document in documents]
    assert (scores == alone).all()
    assert reranker.score("发烧怎么办", []).shape == (0,)
    assert "bge" not in reranker.summary() and "classifier" in reranker.summary()


def test_what_is_no_reranker_is_refused() -> None:
    with pytest.raises(CareError, match="make an embedding model, no reranker"):
        Reranker.open(CHECKPOINTS / "rerankers" / "bi-encoder")
    with pytest.raises(CareError, match='`activation` is "tanh", allowed: identity, sigmoid'):
        Reranker.open(CHECKPOINTS / "rerankers" / "bge-reranker-base", activation="tanh")  # type: ignore[arg-type]
