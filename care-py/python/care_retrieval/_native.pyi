import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CareError",
    "Evaluation",
    "Pair",
    "PairedTest",
    "Reranker",
    "__version__",
    "bootstrap_interval",
    "evaluate",
    "holm",
    "paired_test",
    "reciprocal_rank_fusion",
]

__version__: str

_Vectors: TypeAlias = npt.NDArray[np.float32]
_Precision: TypeAlias = Literal["f32", "bf16", "f16", "int8", "int4"]
_Role: TypeAlias = Literal["query", "document"]
_Ties: TypeAlias = Literal["trec_eval", "input_order", "pessimistic", "doc_id_ascending", "expected"]
# A text, a title and a text, or a mapping with `text` and, if there is one, `title`.
_Document: TypeAlias = str | tuple[str, str] | Mapping[str, Any]

class CareError(Exception):
    """A model, a file, a setting or data that cannot be used."""

    kind: str
    path: Path | None
    line: int | None
    field: str | None

@final
class Pair:
    """A query tower and a document tower whose vectors are comparable."""

    @staticmethod
    def open(
        model: str | os.PathLike[str],
        *,
        document_model: str | os.PathLike[str] | None = None,
        precision: _Precision | None = None,
        query_precision: _Precision | None = None,
        document_precision: _Precision | None = None,
        query_instruction: str | None = None,
        document_instruction: str | None = None,
        pooling: str | None = None,
        dim: int | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        query_max_length: int | None = None,
        document_max_length: int | None = None,
        batch_tokens: int = ...,
        device: str = "cpu",
    ) -> Pair:
        """Loads a folder in any supported layout, ORG/NAME on the hub, or "mini", the pair in this package."""
    @property
    def dimensions(self) -> int:
        """Dimensions of a vector."""
    def embed_queries(self, queries: Iterable[str]) -> _Vectors:
        """The vectors of queries, float32 [n, dimensions], in their order."""
    def embed_documents(self, documents: Iterable[_Document]) -> _Vectors:
        """The vectors of documents, float32 [n, dimensions], in their order."""
    def fingerprint(self, role: _Role) -> str:
        """Identifies everything in a tower that determines its vectors but the instruction."""
    def summary(self, role: _Role) -> str:
        """What decides a tower's vectors, and where each setting comes from, in one line."""

@final
class Reranker:
    """A model that scores how well a document answers a query, reading both together."""

    @staticmethod
    def open(
        model: str | os.PathLike[str],
        *,
        precision: _Precision | None = None,
        max_length: int | None = None,
        activation: Literal["identity", "sigmoid"] | None = None,
        instruction: str | None = None,
        batch_tokens: int = ...,
        device: str = "cpu",
    ) -> Reranker:
        """Loads a folder of a cross-encoder or of Qwen3-Reranker, or ORG/NAME on the hub."""
    def score(self, query: str, documents: Iterable[_Document]) -> _Vectors:
        """The scores of documents for a query, float32 [n], in their order; a higher score is a better document."""
    def fingerprint(self) -> str | None:
        """Identifies everything that determines the scores."""
    def summary(self) -> str:
        """What decides the scores, and where each setting comes from, in one line."""

@final
class Evaluation:
    """Means over queries, the values of each query, and the conventions behind them."""

    @property
    def measures(self) -> dict[str, float]:
        """The mean of each measure."""
    @property
    def per_query(self) -> dict[str, dict[str, float]]:
        """The values of each query, by query id."""
    @property
    def queries(self) -> int:
        """Number of queries that the means are over."""
    @property
    def missing_queries(self) -> int:
        """Number of judged queries that are not in the run."""
    @property
    def surplus_queries(self) -> int:
        """Number of queries of the run without judgements, which are ignored."""
    @property
    def warnings(self) -> list[str]:
        """Remarks on measures that the rankings may be too short for."""
    def values(self, measure: str) -> dict[str, float]:
        """One measure's value for each query, for tests and intervals."""
    def __getitem__(self, measure: str, /) -> float: ...

@final
class PairedTest:
    """The result of a paired test."""

    @property
    def difference(self) -> float:
        """The mean difference, second minus first."""
    @property
    def p_value(self) -> float:
        """The probability of a difference at least this large if the systems do not differ."""

def evaluate(
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    measures: Sequence[str],
    *,
    ties: _Ties = "trec_eval",
    missing: Literal["drop", "zero"] = "drop",
) -> Evaluation:
    """Scores a run against qrels, by trec_eval's rules."""

def reciprocal_rank_fusion(
    runs: Sequence[Mapping[str, Mapping[str, float]]], *, k: float = 60.0, ties: _Ties = "trec_eval"
) -> dict[str, dict[str, float]]:
    """Reciprocal rank fusion of several runs."""

def paired_test(
    first: Mapping[str, float] | Iterable[float],
    second: Mapping[str, float] | Iterable[float],
    *,
    method: Literal["t", "randomisation"] = "t",
    samples: int = 100_000,
    seed: int = 42,
) -> PairedTest:
    """A paired test, two-sided, of the values of two systems on the same queries."""

def bootstrap_interval(
    values: Mapping[str, float] | Iterable[float], *, level: float = 0.95, samples: int = 10_000, seed: int = 42
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean, as (low, high)."""

def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for their number, in the given order."""
