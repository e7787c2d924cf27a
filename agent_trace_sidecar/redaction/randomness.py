"""The judge of randomness: a small logistic model that decides whether a value was drawn at random.

Its weights are data; `tests/benchmarks/train_judge.py` trains them.
"""

import math
import re
from collections import Counter
from functools import cache, lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.rules import known

FEATURES: Final = 13
_ALPHA: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TURNS: Final = re.compile(r"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")
_CASES: Final = re.compile(r"(?<=[a-z])[A-Z]|(?<=[A-Z]{2})[a-z]")
_SEPARATORS: Final = re.compile(r"[._/:~-]")
_HEX: Final = re.compile(r"(?=.*[0-9])(?:[0-9a-f]+|[0-9A-F]+)$")
_LONGEST: Final = 128
_WORD: Final = 4
_A: Final = ord("a")


class Model(NamedTuple):
    """What was learnt."""

    bigrams: list[int]
    """For aa to zz a hundred times the logarithm of how much more frequent the pair is in words than by chance."""
    weights: list[float]
    bias: float


@cache
def _model() -> Model:
    model = known().model
    return Model(model["bigrams"], model["weights"], model["bias"])


@lru_cache(maxsize=8192)
def odds(value: str) -> float:
    """The logarithm of the odds that `value` was drawn at random: above 0 it rather was. ASCII, no blanks."""
    model = _model()
    return model.bias + sum(w * x for w, x in zip(model.weights, features(value[:_LONGEST], model), strict=True))


def features(value: str, model: Model) -> list[float]:
    """The model's features: length, entropy, letters as in words, how often letters, digits and cases take turns."""
    size = len(value) or 1
    runs = [run.lower() for run in _ALPHA.findall(value)]
    letters = sum(map(len, runs))
    pairs = [[model.bigrams[(ord(a) - _A) * 26 + ord(b) - _A] for a, b in pairwise(run)] for run in runs]
    flat = [score for run in pairs for score in run]
    words = sum(
        len(run)
        for run, scores in zip(runs, pairs, strict=True)
        if len(run) >= _WORD and sum(scores) > 40 * len(scores)
    )
    entropy = -sum(n / size * math.log2(n / size) for n in Counter(value).values())
    return [
        min(size, 48) / 10,
        entropy,
        entropy / math.log2(min(size, 62) + 1),
        sum(flat) / len(flat) / 100 if flat else 0.0,
        words / size,
        letters / size,
        sum(map(str.isdigit, value)) / size,
        len(_TURNS.findall(value)) / size * 10,
        len(_CASES.findall(value)) / size * 10,
        len(runs) / size * 10,
        len(_SEPARATORS.findall(value)) / size * 10,
        1.0 if _HEX.match(value) else 0.0,
        min(letters / len(runs), 9.0) / 3 if runs else 0.0,
    ]
