"""How fast the redactor is: recorded events, reads of code, lines made to hurt, start-up.

Prints figures beside the targets, in processor time: what a core spends, whoever else is using the machine. The
lines of a second run over the same text would be known as clean, so each run starts with an empty memory of clean
strings.
"""

import base64
import json
import random
import re
import sysconfig
import tempfile
import time
import uuid
from itertools import islice
from pathlib import Path

from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.redaction.known_values import Memory
from tests.benchmarks import lines as generated

_RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
_HOSTILE_BYTES = 5_000_000
_TOGETHER = 100
"""Lines that a log's reader hands over at once."""


def _mb_per_s(lines: list[bytes]) -> float:
    """The best of five runs, each with an empty memory."""
    redactor = Redactor()
    best = 0.0
    for _ in range(5):
        redactor._memory = Memory({})
        start = time.process_time()
        for at in range(0, len(lines), _TOGETHER):
            redactor.lines(lines[at : at + _TOGETHER])
        best = max(best, sum(map(len, lines)) / 1e6 / (time.process_time() - start))
    return best


def _recorded() -> list[bytes]:
    return [line for path in sorted(_RECORDINGS.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def _reads_of_code() -> list[bytes]:
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::3]
    texts = (path.read_text("utf-8", "replace")[:30_000] for path in sources)
    return [json.dumps({"v": 1, "hook": "tool.execute.after", "output": {"output": text}}).encode() for text in texts]


def _event(text: str) -> bytes:
    return json.dumps({"v": 1, "hook": "tool.execute.after", "output": {"output": text}}).encode()


def _new_text() -> dict[str, list[bytes]]:
    """What an agent reads and has not read before, in outputs of 30 KB: text in which much looks random."""
    rng = random.Random(11)  # noqa: S311 - made-up noise
    stdlib = Path(sysconfig.get_path("stdlib"))
    sources = [path.read_text("utf-8", "replace") for path in sorted(stdlib.glob("*.py"))[1::3]]
    names = [str(path.relative_to(stdlib)) for path in sorted(stdlib.rglob("*"))[:12_000]]
    lock = "".join(
        f'[[package]]\nname = "crate-{n}"\nversion = "1.{n % 9}.0"\nchecksum = "{rng.getrandbits(256):064x}"\n\n'
        for n in range(2_000)
    )
    ids = [
        {"id": str(uuid.UUID(int=rng.getrandbits(128))), "sha": f"{rng.getrandbits(160):040x}"} for _ in range(3_000)
    ]
    key = base64.encodebytes(rng.randbytes(1_200)).decode()
    texts = {
        "sources": "".join(sources),
        "a diff": "".join("+" + line for text in sources for line in text.splitlines(keepends=True)),
        "a lock file": lock,
        "certificates": f"-----BEGIN CERTIFICATE-----\n{key}-----END CERTIFICATE-----\n" * 200,
        "a listing": "\n".join(f"100644 blob {rng.getrandbits(160):040x}\t{name}" for name in names),
        "JSON of ids": json.dumps(ids, indent=1),
        "minified code": re.sub(r"\s+", " ", "".join(sources)),
    }
    return {
        name: [_event(text[at : at + 30_000]) for at in range(0, len(text), 30_000)] for name, text in texts.items()
    }


def _hostile() -> dict[str, bytes]:
    rng = random.Random(7)  # noqa: S311 - made-up noise
    patterns = {
        "PEM headers": b"-----BEGIN RSA PRIVATE KEY-----\\n",
        "key=key=": b"key=key=",
        "password=": b"password=x1y2z3 ",
        "quotes": b'\\"',
        "line ends": b"\\n",
        "URLs": b"http://a:b@",
        "percent": b"%3D",
        "one letter": b"a",
        "JWT heads": b"eyJhbGciOi.eyJ",
        "dollars": b"$2a$10$",
        "random runs": b"a1B2c3D4e5F6g7H8i9J0k1 ",
    }
    texts = {name: (part * (_HOSTILE_BYTES // len(part))) for name, part in patterns.items()}
    texts["base64"] = base64.b64encode(rng.randbytes(_HOSTILE_BYTES * 3 // 4))
    return {name: b'{"v":1,"hook":"event","input":{"x":"' + text + b'"}}' for name, text in texts.items()}


def _start_up_ms() -> float:
    """From the constructor to the first line, with the rules in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        Redactor(cache_dir=Path(folder)).text("x")
        start = time.process_time()
        Redactor(cache_dir=Path(folder)).line(b'{"v":1,"input":{"x":"hello"}}')
        return (time.process_time() - start) * 1000


def main() -> None:
    """Print the figures."""
    print(f"recorded events       {_mb_per_s(_recorded()):8.1f} MB/s   (target 30)")
    print(f"generated log         {_mb_per_s(list(islice(generated.lines(), 9_000))):8.1f} MB/s   (target 30)")
    print(f"reads of code         {_mb_per_s(_reads_of_code()):8.1f} MB/s   (target 30)")
    for name, lines in _new_text().items():
        print(f"new text: {name:13}{_mb_per_s(lines):7.1f} MB/s   (target 5)")
    print(f"start-up, rules cached{_start_up_ms():8.1f} ms     (target 50)")
    redactor = Redactor()
    redactor.line(_hostile()["base64"][:400_000])
    for name, line in _hostile().items():
        start = time.process_time()
        redactor.line(line)
        print(f"hostile 5 MB {name:12} {time.process_time() - start:6.2f} s     (target 1)")


if __name__ == "__main__":
    main()
