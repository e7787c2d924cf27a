"""Trains the judge of randomness: the weights of `redaction/data/judge.toml`, from material of our own.

Values drawn at random on the one side; on the other the names, paths and words of this repository's own sources, and
names made of their words in the ways of code. As a script it trains, prints how often the judge is right on material
that it was not trained with, and with `--write` replaces the file.
"""

import argparse
import math
import random
import re
import string
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_trace_sidecar.redaction.randomness import FEATURES, Model, features

_ROOT: Final = Path(__file__).parents[2]
_FILE: Final = _ROOT / "agent_trace_sidecar" / "redaction" / "data" / "judge.toml"
_SOURCES: Final = (
    "agent_trace_sidecar",
    "tests",
    "docs",
    "opencode-shim",
    "migrations",
    "README.md",
    "CONTRIBUTING.md",
)
_KINDS: Final = {".py", ".md", ".js", ".mjs", ".sql", ".toml"}
_LEFT_OUT: Final = re.compile(r"redaction|secrets|judge|data/recordings|\.jsonl|kinds")
"""What is full of made-up secrets."""
_RUN: Final = re.compile(r"[A-Za-z0-9_+/=.~:-]{8,80}")
_WORD: Final = re.compile(r"[A-Z]?[a-z]{2,14}")
_ALPHABETS: Final = (
    *(string.ascii_letters + string.digits,) * 4,
    string.ascii_letters + string.digits + "+/",
    string.ascii_letters + string.digits + "-_",
    *("0123456789abcdef",) * 3,
    "0123456789ABCDEF",
    string.ascii_lowercase + string.digits,
    string.ascii_uppercase + string.digits,
    string.ascii_uppercase + "234567",
)
_STEPS: Final = 400
_LETTERS: Final = string.ascii_lowercase


def _texts() -> Iterator[str]:
    for name in _SOURCES:
        path = _ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in _KINDS and not _LEFT_OUT.search(str(file.relative_to(_ROOT))):
                yield file.read_text("utf-8", "replace")


def _names(words: list[str], rng: random.Random) -> Iterator[str]:
    """Names as code has them, with and without numbers."""
    while True:
        parts = rng.choices(words, k=rng.randint(1, 4))
        sign = rng.choice(("_", "-", ".", "/", "", "", "::"))
        joined = sign.join(parts) if sign else "".join(part.capitalize() for part in parts)
        number = rng.choice(
            ("", "", "", str(rng.randint(0, 99)), f"-{rng.randint(1, 9)}", f"_v{rng.randint(1, 4)}", "2024")
        )
        yield rng.choice((joined, joined, joined.upper())) + number


def _drawn(rng: random.Random) -> str:
    alphabet = rng.choice(_ALPHABETS)
    length = rng.choice((8, 10, 12, 14, 16, 18, 20, 22, 24, 27, 32, 36, 40, 43, 48, 64, 86))
    value = "".join(rng.choices(alphabet, k=length))
    return value if any(c.isdigit() for c in value) or length >= 16 else _drawn(rng)


def _bigrams(words: list[str]) -> list[int]:
    """For each pair of letters 100 times the logarithm of how much more frequent it is in words than by chance."""
    pairs = Counter(word[i : i + 2] for word in words for i in range(len(word) - 1))
    total = sum(pairs.values())
    table = []
    for one in _LETTERS:
        for two in _LETTERS:
            share = (pairs[one + two] + 0.3) / (total + 0.3 * 26 * 26)
            table.append(max(-300, min(300, round(100 * math.log(share * 26 * 26)))))
    return table


def _trained(rows: list[tuple[list[float], bool]]) -> list[float]:
    """Weights of a logistic regression, the bias last; full gradient with momentum, on features of like size."""
    width = len(rows[0][0])
    means = [sum(x[i] for x, _ in rows) / len(rows) for i in range(width)]
    sizes = [math.sqrt(sum((x[i] - means[i]) ** 2 for x, _ in rows) / len(rows)) or 1.0 for i in range(width)]
    scaled = [([(v - m) / s for v, m, s in zip(x, means, sizes, strict=True)] + [1.0], y) for x, y in rows]
    weights, speed = [0.0] * (width + 1), [0.0] * (width + 1)
    for _ in range(_STEPS):
        slope = [0.0] * (width + 1)
        for x, y in scaled:
            odds = sum(w * v for w, v in zip(weights, x, strict=True))
            miss = 1 / (1 + math.exp(-max(-30.0, min(30.0, odds)))) - y
            for i, v in enumerate(x):
                slope[i] += miss * v
        for i in range(width + 1):
            speed[i] = 0.9 * speed[i] - 0.5 * (slope[i] / len(scaled) + 0.0005 * weights[i])
            weights[i] += speed[i]
    plain = [w / s for w, s in zip(weights, sizes, strict=False)]
    return [*plain, weights[-1] - sum(w * m for w, m in zip(plain, means, strict=True))]


def _samples(rng: random.Random) -> tuple[list[str], list[str], list[int]]:
    """Values drawn, values that are none, and the bigrams of the words."""
    texts = list(_texts())
    words = sorted({word.lower() for text in texts for word in _WORD.findall(text) if len(word) > 2})
    runs = sorted({run for text in texts for run in _RUN.findall(text) if not re.search(r"[0-9a-f]{12}|\d{6}", run)})
    names = _names(words, rng)
    harmless = [*rng.sample(runs, min(3500, len(runs))), *(next(names) for _ in range(3500))]
    return [_drawn(rng) for _ in range(7000)], [value for value in harmless if len(value) >= 8], _bigrams(words)


def main() -> None:
    """Train, test, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace data/judge.toml")
    write = parser.parse_args().write
    rng = random.Random(20_260_107)  # noqa: S311 - made-up secrets
    drawn, harmless, bigrams = _samples(rng)
    model = Model(bigrams, [0.0] * FEATURES, 0.0)
    rows = [(features(value, model), True) for value in drawn] + [(features(value, model), False) for value in harmless]
    rng.shuffle(rows)
    held_out, rows = rows[:2500], rows[2500:]
    *weights, bias = _trained(rows)
    right = [(sum(w * v for w, v in zip(weights, x, strict=True)) + bias > 0) == y for x, y in held_out]
    wrong = [y for (_, y), good in zip(held_out, right, strict=True) if not good]
    print(f"right on {sum(right) / len(right):.2%} of {len(right)} held out")
    print(f"missed {sum(wrong) / sum(y for _, y in held_out):.2%} of the drawn")
    print(f"took {(len(wrong) - sum(wrong)) / sum(not y for _, y in held_out):.2%} of the others for drawn")
    if write:
        lines = textwrap.wrap(", ".join(map(str, bigrams)), 110)
        _FILE.write_text(
            "# Weights of the judge of randomness; tests/benchmarks/train_judge.py makes them.\n\n[model]\n"
            f"weights = {[round(w, 4) for w in weights]}\nbias = {bias:.4f}\n"
            "# Pairs of letters, aa to zz: a hundred times the logarithm of how much more frequent they are in words.\n"
            "bigrams = [\n  " + "\n  ".join(lines) + ",\n]\n",
            "utf-8",
        )


if __name__ == "__main__":
    main()
