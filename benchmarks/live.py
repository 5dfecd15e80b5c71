"""What clients of a live server see, for one session and for several: a table, and JSON in benchmarks/reports.

    python benchmarks/live.py --sessions 1,2,4 --seconds 60 --report benchmarks/reports
    python benchmarks/live.py --soak 30 --report benchmarks/reports    # one session for 30 minutes, minute by minute
    python benchmarks/live.py --model runs/lite -- --size-px 256       # after --: flags of `vivavoz serve`
    python benchmarks/live.py --url http://host:8000 --token TOKEN     # a server that runs already

Every session speaks the demo's sentence, is interrupted in the middle, rests and begins again. All times are the client's own, on
its clock; sessions share one client process. Pictures come as JPEG over a WebSocket. The report is written anew every minute, so
one that is stopped early, or breaks, still tells what was seen until then.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import skimage.data
import torch

from end_to_end import SPEECH, Figures, commit
from live_meter import Meter
from server_process import ServerProcess, stolen_s
from vivavoz.bench.machine import cpu_name, slug
from vivavoz.client import connect
from vivavoz.engine.generate import read_speech
from vivavoz.media.image import write_image
from vivavoz.serve.sound import Pcm, RateConverter
from vivavoz.timing import SAMPLE_RATE_HZ

SPEAKS_S = 4.0
"""From an utterance's first sound to its interruption."""
RESTS_S = 2.0
"""From an interruption to the next utterance."""
STARTS_WITHIN_S = 300


def main() -> None:
    options = parse()
    speech = sentence()
    figures: Figures = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{cpu_name()}, {os.cpu_count()} CPUs, {platform.system()}",
        "load_before": round(os.getloadavg()[0], 1),
        "huge_pages": huge_pages(),
        "torch": torch.__version__,
        "model": options.url or options.model,
        "flags": options.server,
        "runs": [],
    }
    kind = "soak" if options.soak else "live"
    name = f"{datetime.now(UTC):%Y-%m-%d}-{kind}-{slug(cpu_name())}-{os.cpu_count()}cpu.json"

    def keep(row: Figures) -> None:
        if options.soak:
            print_minutes(row["minutes"][len(figures["runs"][-1].get("minutes", [])) :])
        figures["runs"][-1] = row
        if options.report is not None:
            options.report.mkdir(parents=True, exist_ok=True)
            (options.report / name).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    for num_sessions in options.sessions:
        figures["runs"].append({})
        with server(options, num_sessions) as (url, token, pid):
            keep(asyncio.run(run(url, token, pid, num_sessions, options.seconds, speech, keep)))
        print_row(figures["runs"][-1], has_head=len(figures["runs"]) == 1 or bool(options.soak))
    if options.report is not None:
        print(f"\n{options.report / name}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a live server from its clients' side.")
    parser.add_argument("--sessions", default="1", help="how many at once, such as 1,2,4")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each number of sessions is measured")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead of --seconds, with figures of every minute")
    parser.add_argument("--model", default="lite", help="a preset, or a folder with weights")
    parser.add_argument("--url", help="a server that runs already (default: one of its own per number of sessions)")
    parser.add_argument("--token", help="its token")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write the figures there as JSON")
    parser.add_argument("server", nargs="*", metavar="-- FLAG", help="flags of `vivavoz serve`")
    options = parser.parse_args()
    options.sessions = [int(part) for part in options.sessions.split(",")]
    options.seconds = 60 * options.soak if options.soak else options.seconds
    return options


def huge_pages() -> str | None:
    """When the kernel backs memory by pages of 2 MB; with `always` a server grows for a while though it asks for no more."""
    with contextlib.suppress(OSError):
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
        return setting.partition("[")[2].partition("]")[0]
    return None


def sentence() -> Pcm:
    """The demo's sentence at the server's rate, from its first sound on."""
    samples = (read_speech(SPEECH) * 32767).astype(np.int16)
    converter = RateConverter(SAMPLE_RATE_HZ)
    samples = np.concatenate([converter.push(samples), converter.flush()])
    return samples[np.flatnonzero(np.abs(samples) > 500)[0] :]


@contextlib.contextmanager
def server(options: argparse.Namespace, num_sessions: int) -> Iterator[tuple[str, str | None, int | None]]:
    """Address, token and process of the server to measure."""
    if options.url:
        yield options.url, options.token, None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["serve", "--no-auth", "--port", port, "--model", options.model, "--max-sessions", num_sessions, *options.server]
    process = subprocess.Popen([sys.executable, "-m", "vivavoz", *map(str, command)])
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", None, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str, process: subprocess.Popen) -> None:
    """Raises `SystemExit` for a server that does not come up."""
    for _ in range(10 * STARTS_WITHIN_S):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("the server did not start")


async def run(
    url: str,
    token: str | None,
    pid: int | None,
    num_sessions: int,
    seconds: float,
    speech: Pcm,
    keep: Callable[[Figures], None],
) -> Figures:
    """Figures of so many sessions at once; `keep` gets those until then every minute, and those until something broke."""
    avatar_id = add_avatar(url, token)
    process = ServerProcess(pid)
    started_s, client_cpu_s = time.perf_counter(), cpu_seconds()
    meters = [Meter(started_s, stolen_s) for _ in range(num_sessions)]
    stolen_before_s = stolen_s()

    def figures() -> Figures:
        so_far_s = time.perf_counter() - started_s
        return summary(meters, so_far_s) | {
            "server": process.figures(),
            "stolen_cpus": round((stolen_s() - stolen_before_s) / so_far_s, 3),
            "client_cpus": round((cpu_seconds() - client_cpu_s) / so_far_s, 2),
            "minutes": minutes(meters, process, started_s),
        }

    async def keep_often() -> None:
        while True:
            await asyncio.sleep(60)
            keep(figures())

    beside = [asyncio.create_task(process.watch()), asyncio.create_task(keep_often())]
    try:
        async with asyncio.TaskGroup() as group:
            for meter in meters:
                group.create_task(converse(url, token, avatar_id, seconds, speech, meter))
    except BaseException as error:
        keep(figures() | {"broke": repr(error)})
        raise
    finally:
        for task in beside:
            task.cancel()
    return figures()


def add_avatar(url: str, token: str | None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder) / "portrait.png", skimage.data.astronaut())
        data = (Path(folder) / "portrait.png").read_bytes()
    answer = httpx.post(f"{url}/v1/avatars", files={"images": data}, headers=headers, timeout=STARTS_WITHIN_S)
    answer.raise_for_status()
    return str(answer.json()["id"])


async def converse(url: str, token: str | None, avatar_id: str, seconds: float, speech: Pcm, meter: Meter) -> None:
    """One session: speak, be interrupted, rest, and so on."""
    ends_s = time.perf_counter() + seconds
    async with connect(url, avatar_id=avatar_id, token=token) as avatar:

        async def read() -> None:
            async for event in avatar:
                meter.came(event, time.perf_counter())

        reading = asyncio.create_task(read())
        try:
            while time.perf_counter() < ends_s and not reading.done():
                meter.spoke(time.perf_counter())
                await avatar.begin_speech()
                await avatar.push_speech(speech)
                await avatar.end_speech()
                async with asyncio.timeout(60):
                    await meter.has_sound.wait()
                await asyncio.sleep(SPEAKS_S)
                meter.interrupted(time.perf_counter())
                await avatar.interrupt()
                await asyncio.sleep(RESTS_S)
                meter.rested()
        finally:
            reading.cancel()
        if reading.done() and not reading.cancelled():
            reading.result()


def summary(meters: list[Meter], seconds: float) -> Figures:
    """All sessions together; repeated and dropped frames are shares of those that were due."""
    num_frames = sum(len(meter.at_s) for meter in meters)
    num_dropped = sum(meter.num_dropped for meter in meters)
    num_due = max(1, num_frames + num_dropped)
    last = [meter.last for meter in meters if meter.last is not None]
    return {
        "sessions": len(meters),
        "seconds": round(seconds, 1),
        "frames": num_frames,
        "first_frame_ms": spread([1000 * meter.first_frame_s for meter in meters if meter.first_frame_s is not None]),
        "interval_ms": spread(together(meters, "intervals_ms")),
        "offset_ms": spread(together(meters, "offsets_ms")),
        "fresh_offset_ms": spread([offset for meter in meters for offset in meter.fresh_offsets_ms]),
        "frozen_ms": spread(together(meters, "frozen_ms")),
        "late_ms": spread(together(meters, "late_ms")),
        "speech_ms": spread(together(meters, "speech_ms")),
        "interrupt_sound_ms": spread(together(meters, "silence_ms")),
        "interrupt_mouth_ms": spread(together(meters, "closing_ms")),
        "interrupt_mouth_undisturbed_ms": spread(together(meters, "undisturbed_closing_ms")),
        "repeated": round(sum(meter.num_repeated for meter in meters) / num_due, 4),
        "dropped": round(num_dropped / num_due, 4),
        "skipped": sum(one.num_skipped for one in last),
        "level_at_end": [one.level for one in last],
        "steps_at_end": [one.num_steps for one in last],
        "block_latents_at_end": [one.block_latents for one in last],
        "lead_ms_at_end": [one.lead_ms for one in last],
    }


def minutes(meters: list[Meter], process: ServerProcess, started_s: float) -> list[Figures]:
    """What a soak is looked at for: whether anything creeps."""
    rows: list[Figures] = []
    ends_s = max((meter.at_s[-1] for meter in meters if meter.at_s), default=started_s)
    for minute in range(int((ends_s - started_s) // 60)):
        low_s, high_s = started_s + 60 * minute, started_s + 60 * (minute + 1)
        offsets, fresh, late, num_frames = [], [], [], 0
        for meter in meters:
            low, high = np.searchsorted(meter.at_s, [low_s, high_s])
            offsets += meter.offsets_ms[low:high]
            fresh += [meter.offsets_ms[at] for at in range(low, high) if meter.is_fresh[at]]
            late += meter.late_ms[low:high]
            num_frames += int(high - low)
        memory = [mb for at_s, mb in zip(process.at_s, process.memory_mb, strict=True) if low_s <= at_s < high_s]
        rows.append(
            {
                "minute": minute + 1,
                "frames": num_frames,
                "offset_ms": spread(offsets),
                "fresh_offset_ms": spread(fresh),
                "late_ms": spread(late),
                "memory_mb": round(memory[-1]) if memory else None,
            }
        )
    return rows


def together(meters: list[Meter], name: str) -> list[float]:
    return [value for meter in meters for value in getattr(meter, name)]


def spread(values: list[float]) -> dict[str, float] | None:
    """Percentiles and the extreme."""
    if not values:
        return None
    percentiles = {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95, 99)}
    return percentiles | {"most": round(max(values), 1), "count": len(values)}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def told(values: dict[str, float] | None, *names: str) -> str:
    return "-" if values is None else " / ".join(f"{values[name]:.0f}" for name in names)


def print_row(row: Figures, *, has_head: bool) -> None:
    if has_head:
        print(
            "\n| sessions | first frame, most | interval p50 / p95 / p99 | picture behind sound p50 / p99 / most | fresh, most "
            "| speech to sound p50 | interrupt: sound p50 / most | mouth p50 / most "
            "| repeated | dropped | server CPUs | memory, MB (per minute) |"
        )
        print("| ---: " * 12 + "|")
    server = row["server"]
    memory = "-" if server is None else f"{server['memory_mb']} ({server['memory_mb_per_minute']:+.1f})"
    print(
        f"| {row['sessions']} | {told(row['first_frame_ms'], 'most')} | {told(row['interval_ms'], 'p50', 'p95', 'p99')} "
        f"| {told(row['offset_ms'], 'p50', 'p99', 'most')} | {told(row['fresh_offset_ms'], 'most')} "
        f"| {told(row['speech_ms'], 'p50')} "
        f"| {told(row['interrupt_sound_ms'], 'p50', 'most')} | {told(row['interrupt_mouth_ms'], 'p50', 'most')} "
        f"| {row['repeated']:.1%} | {row['dropped']:.1%} | {'-' if server is None else server['cpus']} | {memory} |",
        flush=True,
    )


def print_minutes(minutes: list[Figures]) -> None:
    for minute in minutes:
        if minute["minute"] == 1:
            print(
                "\n| minute | frames | picture behind sound p50 / p99 / most | fresh, most | lateness p50 / most | memory, MB |"
            )
            print("| ---: " * 6 + "|")
        print(
            f"| {minute['minute']} | {minute['frames']} | {told(minute['offset_ms'], 'p50', 'p99', 'most')} "
            f"| {told(minute['fresh_offset_ms'], 'most')} | {told(minute['late_ms'], 'p50', 'most')} | {minute['memory_mb']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
