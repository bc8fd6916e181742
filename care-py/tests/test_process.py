"""Beside other code in one process, and in several: threads, signals, forks, pickles."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKPOINTS, TEXTS

from care_retrieval import CareError, Pair


def test_other_threads_run_meanwhile(bert: Pair) -> None:
    texts, done = TEXTS * 4000, threading.Event()

    def embed() -> None:
        bert.embed_documents(texts)
        done.set()

    thread = threading.Thread(target=embed)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 5


def test_callers_on_many_threads_get_what_one_gets(bert: Pair) -> None:
    known, found = bert.embed_queries(TEXTS), []

    def embed() -> None:
        for _ in range(20):
            found.append((bert.embed_queries(TEXTS) == known).all())

    threads = [threading.Thread(target=embed) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all(found)


CALL = """
import sys
from care_retrieval import Pair, Reranker
kind, folder = sys.argv[1:]
if kind == "pair":
    embed = Pair.open(folder).embed_documents
else:
    reranker = Reranker.open(folder)
    embed = lambda documents: reranker.score("发烧怎么办", documents)
texts = ["头痛发烧三天，吃什么药好得快？"] * 1_000_000
print("begin", flush=True)
try:
    embed(texts)
except KeyboardInterrupt:
    print("interrupted", len(embed(["头痛"])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("kind", "folder"), [("pair", "mpnet"), ("reranker", "rerankers/bge-reranker-base")])
def test_ctrl_c_ends_a_long_call(kind: str, folder: str) -> None:
    command = [sys.executable, "-c", CALL, kind, str(CHECKPOINTS / folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "begin\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == ("interrupted 1\n", "", 0)


def in_child(known: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> bool:
    assert PAIR is not None
    return bool((PAIR.embed_queries(TEXTS) == known).all())


PAIR: Pair | None = None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_pair_can_be_used_before_and_after_a_fork(bert: Pair) -> None:
    global PAIR
    PAIR, known = bert, bert.embed_queries(TEXTS)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(in_child, [known] * 4).get(timeout=60) == [True] * 4
    assert (bert.embed_queries(TEXTS) == known).all()


def test_exceptions_travel_between_processes_and_pairs_do_not(bert: Pair) -> None:
    with pytest.raises(CareError) as error:
        Pair.open(CHECKPOINTS / "bert", batch_tokens=0)
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.kind, copy.field) == (str(error.value), "config", "batch_tokens")
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(bert)


def test_types_are_those_at_run_time() -> None:
    pytest.importorskip("mypy")
    root = Path(__file__).parents[1]
    for command in (["mypy"], ["mypy.stubtest", "care_retrieval"]):
        checked = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
