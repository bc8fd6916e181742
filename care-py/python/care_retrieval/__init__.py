"""Asymmetric text retrieval: a small query tower, a large document tower, rerankers and retrieval metrics.

>>> import care_retrieval
>>> pair = care_retrieval.Pair.open("mini")
>>> pair.embed_queries(["头痛怎么办"]).shape
(1, 384)
"""

from ._native import (
    CareError,
    Evaluation,
    PairedTest,
    Pair,
    Reranker,
    __version__,
    bootstrap_interval,
    evaluate,
    holm,
    paired_test,
    reciprocal_rank_fusion,
)

__all__ = [
    "CareError",
    "Evaluation",
    "PairedTest",
    "Pair",
    "Reranker",
    "__version__",
    "bootstrap_interval",
    "evaluate",
    "holm",
    "paired_test",
    "reciprocal_rank_fusion",
]
