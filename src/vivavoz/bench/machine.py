"""The machine: its name and kind, what it can do at most, and how much of its memory was used."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vivavoz.bench.clock import now_s

_PEAK_ROUNDS = 5
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What was measured on."""

    kind: str
    """Machines of one kind are compared: processor and number of CPUs, or the graphics card."""
    name: str
    """As it calls itself."""
    threads: int
    """Threads that torch computes with on the CPU."""
    python: str
    torch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The most that this machine was seen to do, by torch, while nothing else was asked of it."""

    dtype: str
    """Of the product: what the model computes in."""
    product_gflops: float
    """1e9 operations a second of one large matrix product, two for a multiply-add."""
    copy_gb_s: float
    """1e9 bytes a second of one large copy, read and written together."""


def this_machine(device: torch.device) -> Machine:
    """The machine, as far as `device` matters."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        kind = slug(name)
    else:
        name = f"{cpu_name()}, {os.cpu_count()} CPUs, {platform.system()}"
        kind = kind_of(name)
    return Machine(
        kind=kind,
        name=name,
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
    )


def cpu_name() -> str:
    """The processor, as it calls itself."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def kind_of(name: str) -> str:
    """The kind of a machine called `name`: `Intel(R) Xeon(R) Processor, 2 CPUs, Linux` is `intel-xeon-2cpu`."""
    if found := re.match(r"(.+), (\d+) CPUs\b", name):
        return f"{slug(found[1])}-{found[2]}cpu"
    return slug(name)


def slug(text: str) -> str:
    """A name for files: `Intel(R) Xeon(R) Processor` is `intel-xeon`."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|cpu|processor|@.*", "", text.lower())).strip("-")


@torch.inference_mode()
def measure_peak(
    device: torch.device, dtype: torch.dtype, *, product_side: int | None = None, copy_bytes: int | None = None
) -> Peak:
    """The best of a few products of two square matrices, and of a few copies too large for any cache.

    `product_side` defaults to 2048 on a CPU and 8192 elsewhere, `copy_bytes` (what is copied once) to half a gigabyte and to two.
    """
    on_cpu = device.type == "cpu"
    return Peak(
        dtype=str(dtype).removeprefix("torch."),
        product_gflops=round(_product_gflops(device, dtype, product_side or (2048 if on_cpu else 8192)), 1),
        copy_gb_s=round(_copy_gb_s(device, copy_bytes or (1 << 29 if on_cpu else 1 << 31)), 2),
    )


def _product_gflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    # Of noise: cards clock themselves higher on numbers that are all the same.
    a, b, product = (torch.randn(side, side, device=device).to(dtype) for _ in range(3))
    return 2 * side**3 / _best_s(lambda: torch.mm(a, b, out=product), device) / 1e9


def _copy_gb_s(device: torch.device, num_bytes: int) -> float:
    source, target = (torch.ones(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * num_bytes / _best_s(lambda: target.copy_(source), device) / 1e9


def _best_s(run: Callable[[], object], device: torch.device) -> float:
    times_s = []
    for _ in range(1 + _PEAK_ROUNDS):  # the first warms up
        started_s = now_s(device)
        run()
        times_s.append(now_s(device) - started_s)
    return min(times_s[1:])


def reset_peak_memory(device: torch.device) -> None:
    """Forget how much memory was used at most so far, where the system can (Linux, and CUDA devices)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # elsewhere the peak is that of the whole process so far
        _CLEAR.write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """Most memory in use since `reset_peak_memory`, in 1e6 bytes: torch's on a CUDA device, the whole process's on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    if _STATUS.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)):
        return round(int(found[1]) * 1024 / 1e6, 1)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((most if sys.platform == "darwin" else most * 1024) / 1e6, 1)
