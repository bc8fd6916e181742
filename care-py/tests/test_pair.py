"""Towers: values, forms of texts, settings, and what is refused."""

from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHECKPOINTS, TEXTS, expected

from care_retrieval import CareError, Pair

PUBLISHED = sorted(folder.parent.name for folder in CHECKPOINTS.glob("real/*/expected.json"))


@pytest.mark.parametrize("name", ["bge-small-zh-v1.5", "Qwen3-Embedding-0.6B", "gte-large-zh", "LaBSE"])
def test_vectors_are_those_of_sentence_transformers(name: str) -> None:
    assert name in PUBLISHED
    known = expected(CHECKPOINTS / "real" / name)
    pair = Pair.open(CHECKPOINTS / "real" / name)
    queries, documents = pair.embed_queries(known["texts"]), pair.embed_documents(known["texts"])
    np.testing.assert_allclose(queries, known["query"], atol=1e-5)
    np.testing.assert_allclose(documents, known["document"], atol=1e-5)
    assert queries.shape == (len(known["texts"]), pair.dimensions)


def test_a_matrix_is_numpy_s_own(bert: Pair) -> None:
    vectors = bert.embed_queries(TEXTS)
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous and vectors.flags.writeable
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors[0] == vectors[4]).all() and (vectors[0] == bert.embed_queries(TEXTS[:1])[0]).all()
    kept = vectors.copy()
    vectors *= 2
    assert (bert.embed_queries(TEXTS) == kept).all()
    assert bert.embed_queries([]).shape == (0, bert.dimensions)


def test_every_iterable_of_texts_is_read(bert: Pair) -> None:
    vectors = bert.embed_queries(TEXTS)
    for texts in (tuple(TEXTS), iter(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object), dict.fromkeys(TEXTS).keys()):
        found = bert.embed_queries(texts)
        assert (found == vectors[: len(found)]).all()


def test_titles_are_read_in_every_form(bert: Pair) -> None:
    joined = bert.embed_documents(["感冒 多喝水", "多喝水"])
    forms: list[list[Any]] = [
        [("感冒", "多喝水"), ("", "多喝水")],
        [{"title": "感冒", "text": "多喝水", "_id": 7}, {"text": "多喝水"}],
        [UserDict({"title": "感冒", "text": "多喝水"}), {"title": None, "text": "多喝水"}],
    ]
    for form in forms:
        assert (bert.embed_documents(form) == joined).all()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("one text", "documents is str, allowed: a list or another iterable of texts"),
        ({"text": "a"}, "documents is dict, allowed: a list or another iterable of texts"),
        (["a", 3], "documents[1] is int, allowed: str, a tuple (title, text), or a mapping with `text`"),
        ([("a", "b", "c")], "documents[0] is tuple, allowed: str, a tuple (title, text)"),
        ([{"title": "a"}], "documents[0] is dict, allowed: str, a tuple (title, text)"),
        ([{"text": None}], "documents[0] is dict, allowed: str, a tuple (title, text)"),
        (["a", None], "documents[1] is NoneType, allowed: str, a tuple (title, text)"),
        (7, "'int' object is not iterable"),
    ],
)
def test_what_is_no_document_is_named(bert: Pair, documents: Any, message: str) -> None:
    with pytest.raises(TypeError) as error:
        bert.embed_documents(documents)
    assert str(error.value).startswith(message)
    with pytest.raises(TypeError, match=r"queries\[0\] is int, allowed: str"):
        bert.embed_queries([1])  # type: ignore[list-item]


def test_settings_override_the_folder(bert: Pair) -> None:
    folder = CHECKPOINTS / "bert"
    pair = Pair.open(
        folder, pooling="cls", dim=16, normalize=False, query_instruction="问：", query_max_length=8, precision="int8",
        document_precision="f32", batch_tokens=64,
    )
    assert pair.dimensions == 16
    assert "int8" in pair.summary("query") and "f32" in pair.summary("document")
    assert pair.fingerprint("query") != pair.fingerprint("document")
    assert bert.fingerprint("query") == Pair.open(str(folder)).fingerprint("query")
    prefixed = Pair.open(folder, query_instruction="问：").embed_queries(["头痛"])
    assert (prefixed == bert.embed_queries(["问：头痛"])).all()


def test_two_folders_make_a_pair() -> None:
    query, document = (CHECKPOINTS / "real" / f"MedCPT-{name}-Encoder" for name in ("Query", "Article"))
    pair = Pair.open(query, document_model=document, normalize=False)
    known = expected(query)
    assert pair.embed_queries(known["texts"]).shape == (len(known["texts"]), pair.dimensions)
    assert pair.fingerprint("query") != pair.fingerprint("document")


def test_the_pair_in_the_wheel_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pair = Pair.open("mini")
    query = pair.embed_queries(["血压高的人吃饭要注意什么"])
    documents = pair.embed_documents(["高血压患者每天食盐宜少于5克。", "偏头痛发作时应在安静避光处休息。"])
    (scores,) = query @ documents.T
    assert scores[0] > scores[1]


def test_errors_have_the_messages_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = CHECKPOINTS / "bert"
    absent = tmp_path / "no" / "such" / "folder"
    cases: list[tuple[Callable[[], Any], str, str]] = [
        (lambda: Pair.open(folder, precision="int3"), "config",  # type: ignore[arg-type]
         '`precision` is "int3", allowed: f32, bf16, f16, int8, int4'),
        (lambda: Pair.open(folder, device="gpu"), "config", '`device` is "gpu", allowed: cpu, wgpu, cuda, cuda:0'),
        (lambda: Pair.open(folder, device="cuda:0"), "device", "device `cuda:0` is not compiled in"),
        (lambda: Pair.open(folder, dim=65), "dimension", "an embedding of 65 dimensions cannot be cut from the tower's 64"),
        (lambda: Pair.open(folder, batch_tokens=0), "config", "`batch_tokens` is 0, allowed: at least 1"),
        (lambda: Pair.open(folder).fingerprint("both"), "config",  # type: ignore[arg-type]
         '`role` is "both", allowed: query, document'),
        (lambda: Pair.open(absent), "io", str(absent)),
        (lambda: Pair.open("org/name"), "hub", "there is no folder org/name, and it cannot be loaded from the hub: "),
    ]
    for open_model, kind, message in cases:
        with pytest.raises(CareError) as error:
            open_model()
        assert message in str(error.value), error.value
        assert error.value.kind == kind, error.value
    with pytest.raises(CareError) as error:
        Pair.open(folder, batch_tokens=0)
    assert error.value.field == "batch_tokens" and error.value.line is None


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for file in (CHECKPOINTS / "bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    with pytest.raises(CareError) as error:
        Pair.open(tmp_path)
    assert error.value.path == tmp_path / "config.json"
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: ")
