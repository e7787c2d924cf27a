"""What this process has done since its start, in Prometheus' text format (version 0.0.4).

Written by hand: the format is small, and its client library costs more start-up time than all of our own code.
Counters count what this process did; what the database holds is in its views.
"""

import os
import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

from agent_trace_sidecar.records.rows import Counts

PREFIX: Final = "agent_trace_sidecar_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_FLUSH_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MAX_LABELS: Final = 500
"""Of a label whose values come from outside (rules of the user's own, causes): what is beyond counts as `other`."""
_MAX_INSTANCES: Final = 1000
"""Whose gaps are kept apart; those of older ones are only summed up."""
_MAX_CALLS: Final = 1000
"""Calls whose masked secrets are kept apart, so that each counts once."""

_REASONS: Final = (
    "refused",
    "conflict",
    "truncated",
    "invalid_json",
    "too_deep",
    "missing_field",
    "wrong_type",
    "unsupported_version",
    "too_long",
    "deadline",
    "overload",
    "envelope",
    "damaged",
    "missing",
)
"""Of dead letters. A counter that appears with its first event has no increase: an alert would miss that event."""
_CAUSES: Final = ("connection", "too_slow", "target_session_attrs", "address", "tls")
"""Of retries, beside the SQLSTATEs."""
_OTHER: Final = "other"

Sample = tuple[Mapping[str, str], float]


class Metrics:
    """Counters and gauges. Used from the event loop only."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        healthy: Callable[[], bool] = lambda: True,
        spool_bytes: Callable[[], tuple[int, int]] = lambda: (0, 0),
        otlp: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """The callbacks run at each scrape.

        `spool_bytes` returns the bytes on disk, and those not in the database; `otlp` failed exports and lost points.
        """
        self._clock = clock
        self._started_at = clock()
        self._outcomes: Counter[str] = Counter(dict.fromkeys(("stored", "duplicate", "dead", "denied"), 0))
        self._retries: Counter[str] = Counter(dict.fromkeys((*_CAUSES, _OTHER), 0))
        self._dead: Counter[str] = Counter(dict.fromkeys(_REASONS, 0))
        self._masked: Counter[str] = Counter({_OTHER: 0})
        self._masked_of_call: OrderedDict[tuple[str | None, str], dict[str, int]] = OrderedDict()
        self._buckets = [0] * (len(_FLUSH_BUCKETS_S) + 1)
        self._flush_sum_s = 0.0
        self._gaps: dict[UUID, tuple[int, int]] = {}
        self._gone = (0, 0)
        self._waiting: dict[object, float] = {}
        self._spool_bytes = spool_bytes
        self._otlp = otlp
        self._healthy = healthy

    # -- what happens ----------------------------------------------------------------------------------------

    def counted(self, outcome: str, number: int) -> None:
        """This many lines were committed as `stored`, `duplicate` or `dead`, or `denied` and not stored."""
        self._outcomes[outcome] += number

    def moved(self, before: Counts, after: Counts) -> None:
        """A log's counts have changed by a commit; a database that fell back takes nothing away."""
        for outcome in ("stored", "duplicate", "dead", "denied"):
            self.counted(outcome, max(0, getattr(after, outcome) - getattr(before, outcome)))

    def flushed(self, seconds: float) -> None:
        """A batch was committed."""
        self._buckets[bisect_left(_FLUSH_BUCKETS_S, seconds)] += 1
        self._flush_sum_s += seconds

    def retried(self, cause: str) -> None:
        """A statement failed and will be tried again."""
        _add(self._retries, cause)

    def dead(self, reason: str) -> None:
        """A line went to the dead letters."""
        _add(self._dead, reason)

    def masked(self, by_rule: Mapping[str, int], session_id: str | None = None, call_id: str | None = None) -> None:
        """Secrets were masked in an event on its way to the database; what its call has shown before is not new."""
        known: dict[str, int] = {}
        if call_id is not None:
            known = self._masked_of_call.setdefault((session_id, call_id), known)
            self._masked_of_call.move_to_end((session_id, call_id))
            if len(self._masked_of_call) > _MAX_CALLS:
                self._masked_of_call.popitem(last=False)
        for rule, number in by_rule.items():
            if number > known.get(rule, 0):
                _add(self._masked, rule, number - known.get(rule, 0))
                known[rule] = number

    def gaps(self, instance: UUID, missing: int, lost: int) -> None:
        """How many events of a run of the shim never came, and how many it reports as dropped."""
        self._gaps.pop(instance, None)
        self._gaps[instance] = (missing, lost)
        if len(self._gaps) > _MAX_INSTANCES:
            old = self._gaps.pop(next(iter(self._gaps)))
            self._gone = (self._gone[0] + old[0], self._gone[1] + old[1])

    def waiting(self, log: object, since: float | None) -> None:
        """The oldest line of a log that is not committed is of this time, seconds since the epoch; None: all are."""
        if since is None:
            self._waiting.pop(log, None)
        else:
            self._waiting[log] = min(since, self._waiting.get(log, since))

    # -- the text -------------------------------------------------------------------------------------------

    def render(self, version: str) -> bytes:
        """Everything as the text of one scrape."""
        now = self._clock()
        oldest = min(self._waiting.values(), default=now)
        spool, unshipped = self._spool_bytes()
        failed, dropped = self._otlp()
        missing = sum(m for m, _ in self._gaps.values()) + self._gone[0]
        lost = sum(n for _, n in self._gaps.values()) + self._gone[1]
        blocks = [
            _block(PREFIX + "build_info", "gauge", "Version of the sidecar.", [({"version": version}, 1)]),
            _block(
                PREFIX + "healthy",
                "gauge",
                "1 while events reach the database, else 0.",
                [({}, int(self._healthy()))],
            ),
            _block(
                PREFIX + "events_total",
                "counter",
                "Events committed, by outcome.",
                _by("outcome", self._outcomes),
            ),
            _block(
                PREFIX + "lag_seconds",
                "gauge",
                "Age of the oldest event that is not in the database.",
                [({}, max(0.0, now - oldest))],
            ),
            _block(PREFIX + "spool_bytes", "gauge", "Size of this sidecar's spool.", [({}, spool)]),
            _block(
                PREFIX + "spool_unshipped_bytes",
                "gauge",
                "Undelivered bytes of the spool.",
                [({}, unshipped)],
            ),
            self._flushes(),
            _block(PREFIX + "retries_total", "counter", "Failed attempts, by cause.", _by("cause", self._retries)),
            _block(
                PREFIX + "dead_letters_total", "counter", "Events that could not be stored.", _by("reason", self._dead)
            ),
            _block(PREFIX + "missing_lines", "gauge", "Missing sequence numbers.", [({}, missing)]),
            _block(PREFIX + "lost_lines", "gauge", "Events that shims dropped.", [({}, lost)]),
            _block(PREFIX + "secrets_masked_total", "counter", "Secrets masked, by rule.", _by("rule", self._masked)),
            _block(PREFIX + "otlp_failures_total", "counter", "Failed exports to the collector.", [({}, failed)]),
            _block(PREFIX + "otlp_dropped_total", "counter", "Measurements not exported.", [({}, dropped)]),
            _block("process_start_time_seconds", "gauge", "Start time of the process.", [({}, self._started_at)]),
            _block("process_cpu_seconds_total", "counter", "CPU time used.", [({}, sum(os.times()[:2]))]),
        ]
        return "".join(blocks).encode()

    def _flushes(self) -> str:
        name = PREFIX + "flush_duration_seconds"
        lines = [f"# HELP {name} Time to commit a batch.\n# TYPE {name} histogram\n"]
        total = 0
        for bound, number in zip((*map(str, _FLUSH_BUCKETS_S), "+Inf"), self._buckets, strict=True):
            total += number
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}\n')
        lines.append(f"{name}_sum {self._flush_sum_s!r}\n{name}_count {total}\n")
        return "".join(lines)


def _add(counter: Counter[str], label: str, number: int = 1) -> None:
    counter[label if label in counter or len(counter) < _MAX_LABELS else _OTHER] += number


def _by(label: str, counter: Mapping[str, int]) -> list[Sample]:
    return [({label: value}, number) for value, number in sorted(counter.items())]


def _block(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}\n# TYPE {name} {kind}\n"]
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{'{' + pairs + '}' if pairs else ''} {value!r}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
