"""What a server tells Prometheus."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vivavoz.serve.timeline import Timeline

_SECONDS = (0.02, 0.04, 0.08, 0.12, 0.16, 0.24, 0.32, 0.64, 1.28, 2.56, 5.12)


class ServerMetrics:
    """All figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("vivavoz_sessions", "Sessions that are open", registry=self.registry)
        self.avatars = Gauge("vivavoz_avatars", "Avatars that are kept", registry=self.registry)
        self.frames = Counter("vivavoz_frames_shown", "Moments of 40 ms that were played", registry=self.registry)
        self.repeated = Counter("vivavoz_frames_repeated", "Moments that repeated a picture", registry=self.registry)
        self.skipped = Counter("vivavoz_frames_skipped", "Pictures never made, to catch up", registry=self.registry)
        self.dropped = Counter("vivavoz_frames_dropped", "Moments dropped for slow readers", registry=self.registry)
        self.interrupts = Counter("vivavoz_interrupts", "Interruptions", registry=self.registry)
        self.errors = Counter("vivavoz_errors", "Sessions that broke", registry=self.registry)
        self.refused = Counter("vivavoz_refused", "Requests refused", ["reason"], registry=self.registry)
        self.steps = Gauge(
            "vivavoz_steps", "Denoising steps per block, of the session that reported last", registry=self.registry
        )
        self.levels = Gauge(
            "vivavoz_sessions_at_level",
            "Sessions by what they give up for speed: 0 nothing, then fewer steps, then larger blocks",
            ["level"],
            registry=self.registry,
        )
        self.block_s = Histogram(
            "vivavoz_block_seconds", "Time to a block, from when it was wanted", buckets=_SECONDS, registry=self.registry
        )
        self.first_frame_s = Histogram(
            "vivavoz_first_frame_seconds", "From the first viewer to the first picture", buckets=_SECONDS, registry=self.registry
        )

    def count(self, played: tuple[int, ...], timeline: Timeline) -> None:
        """Add what a session has played since it was asked last: moments, repeated pictures, skipped pictures."""
        for counter, number in zip((self.frames, self.repeated, self.skipped), played, strict=True):
            counter.inc(number)
        self.steps.set(timeline.num_steps)
        if played[0]:
            self.block_s.observe(timeline.block_s)

    def count_levels(self, levels: Iterable[int]) -> None:
        """Set how many sessions are at each level."""
        self.levels.clear()
        for level, number in Counted(levels).items():
            self.levels.labels(level).set(number)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
