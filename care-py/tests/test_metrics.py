"""Metrics beside pytrec_eval, tests beside scipy."""

import random
from typing import Any, cast

import numpy as np
import pytest

from care_retrieval import CareError, bootstrap_interval, evaluate, holm, paired_test, reciprocal_rank_fusion

QRELS = {"cough": {"d1": 2, "d7": 1}, "fever": {"d3": 1}, "rash": {"d9": 1}}
RUN = {"cough": {"d7": 0.9, "d2": 0.8}, "fever": {"d3": 0.7}, "other": {"d1": 1.0}}


def test_values_are_those_of_pytrec_eval() -> None:
    pytrec_eval: Any = pytest.importorskip("pytrec_eval")
    rng = random.Random(7)
    qrels = {f"q{n}": {f"d{rng.randrange(200)}": rng.randrange(4) for _ in range(20)} for n in range(50)}
    run = {f"q{n}": {f"d{d}": float(rng.randrange(30)) for d in range(100)} for n in range(50)}
    names = {"ndcg@10": "ndcg_cut_10", "map": "map", "mrr": "recip_rank", "recall@20": "recall_20", "precision@5": "P_5"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate(run)
    ours = evaluate(qrels, run, list(names))
    for query_id, values in ours.per_query.items():
        for measure, name in names.items():
            assert values[measure] == pytest.approx(theirs[query_id][name], abs=1e-9)
    for measure, name in names.items():
        assert ours[measure] == pytest.approx(np.mean([of_query[name] for of_query in theirs.values()]), abs=1e-9)


def test_conventions_are_settings() -> None:
    dropped = evaluate(QRELS, RUN, ["ndcg@10", "success@1"])
    assert (dropped.queries, dropped.missing_queries, dropped.surplus_queries) == (2, 1, 1)
    assert dropped.values("success@1") == {"cough": 1.0, "fever": 1.0}
    zero = evaluate(QRELS, RUN, ["ndcg@10"], missing="zero")
    assert zero["nDCG@10"] == pytest.approx(dropped.measures["ndcg@10"] * 2 / 3)
    assert "ndcg@10" in zero.warnings[0] and repr(zero).startswith("Evaluation(ndcg@10=")
    tied = {"q": {"a": 1.0, "b": 1.0}}
    assert evaluate({"q": {"a": 1}}, tied, ["mrr"])["mrr"] == 0.5
    assert evaluate({"q": {"a": 1}}, tied, ["mrr"], ties="doc_id_ascending")["mrr"] == 1.0
    assert evaluate({"q": {"a": 1}}, tied, ["mrr"], ties="expected")["mrr"] == 0.75
    assert evaluate({"q": {"a": 1}}, {"q": {}}, ["mrr"]).per_query == {"q": {"mrr": 0.0}}
    numbers: Any = {"q": {"a": np.float32(0.5), "b": 1}}
    grades: Any = {"q": {"a": np.int64(1)}}
    assert evaluate(grades, numbers, ["mrr"])["mrr"] == 0.5
    with pytest.raises(KeyError):
        dropped["map"]


def test_what_cannot_be_scored_is_named() -> None:
    for qrels, run, measures, message in [
        (QRELS, RUN, ["f1"], 'measure "f1": unknown name'),
        (QRELS, {"x": {"d": 1.0}}, ["map"], "no query to evaluate: queries of the qrels: 3"),
        (QRELS, {"cough": {"d": float("nan")}}, ["map"], 'the score of document "d" for query "cough" is NaN'),
    ]:
        with pytest.raises(CareError) as error:
            evaluate(qrels, run, measures)
        assert message in str(error.value)
    wrong: list[tuple[Any, str]] = [
        ({"cough": {"d1": 0.5}}, 'qrels["cough"]["d1"]: '),
        ({"cough": ["d1"]}, 'qrels["cough"] is list, allowed: a mapping'),
        ([], "qrels is list, allowed: a mapping"),
    ]
    for qrels, message in wrong:
        with pytest.raises(TypeError) as type_error:
            evaluate(qrels, RUN, ["map"])
        assert message in str(type_error.value)


def test_tests_are_paired_by_query() -> None:
    first = {"a": 0.1, "b": 0.5, "c": 0.3, "d": 0.9}
    second = {"d": 1.0, "c": 0.5, "b": 0.4, "a": 0.3}
    test = paired_test(first, second)
    assert test.difference == pytest.approx(0.1)
    by_place = paired_test(list(first.values()), [second[key] for key in first])
    assert (by_place.difference, by_place.p_value) == (test.difference, test.p_value)
    scipy_stats: Any = pytest.importorskip("scipy.stats")
    known = scipy_stats.ttest_rel([second[key] for key in first], list(first.values()))
    assert test.p_value == pytest.approx(known.pvalue, abs=1e-12)
    randomised = paired_test(first, second, method="randomisation", samples=20_000, seed=1)
    assert randomised.p_value == paired_test(first, second, method="randomisation", samples=20_000, seed=1).p_value
    # Of 16 exchanges of signs, those whose sum is at least as far from 0.
    assert randomised.p_value == pytest.approx(6 / 16, abs=0.02)
    with pytest.raises(ValueError, match="the second system has no value for 'a'"):
        paired_test(first, {"b": 1.0})
    with pytest.raises(CareError, match="2 values cannot be paired with 1"):
        paired_test([1, 2], [1])
    with pytest.raises(ValueError, match='`method` is "z", allowed: t, randomisation'):
        paired_test(first, second, method="z")  # type: ignore[arg-type]


def test_intervals_corrections_and_fusion() -> None:
    low, high = bootstrap_interval({"a": 0.0, "b": 1.0, "c": 1.0, "d": 0.5}, samples=1000)
    assert low < 0.625 < high
    assert bootstrap_interval(iter([0.0, 1.0, 1.0, 0.5]), samples=1000) == (low, high)
    for wrong in cast("list[dict[str, Any]]", [{"level": 1.5}, {"samples": 0}]):
        with pytest.raises(ValueError, match="allowed"):
            bootstrap_interval([1.0], **wrong)
    with pytest.raises(ValueError, match="at least 1 value"):
        bootstrap_interval([])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    fused = reciprocal_rank_fusion([{"q": {"a": 0.9, "b": 0.8}}, {"q": {"b": 12.0, "c": 7.0}}])
    assert list(fused["q"]) == ["b", "a", "c"]
    assert fused["q"]["b"] == pytest.approx(1 / 62 + 1 / 61, abs=1e-7)
