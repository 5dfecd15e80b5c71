from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoz.bench import machine
from vivavoz.bench.machine import kind_of, measure_peak, peak_memory_mb, reset_peak_memory, this_machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Intel(R) Xeon(R) Processor, 2 CPUs, Linux", "intel-xeon-2cpu"),
        ("AMD EPYC, 2 CPUs, Linux", "amd-epyc-2cpu"),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz, 12 CPUs, Linux", "intel-core-i7-8700k-12cpu"),
        ("NVIDIA H200", "nvidia-h200"),
    ],
)
def test_kinds_of_machines(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_this_machine_is_of_the_kind_its_name_says() -> None:
    here = this_machine(CPU)
    assert here.kind == kind_of(here.name)
    assert here.threads == torch.get_num_threads()


def test_peaks_are_work_over_the_shortest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Times between readings: 9 s to warm up, then 5 rounds of 4, 2, 4, 4, 4 s; once for the product, once for the copy.
    times_s = [9, 4, 2, 4, 4, 4] * 2

    def clock() -> Iterator[float]:
        now = 0.0
        for time_s in times_s:
            yield now
            now += time_s
            yield now

    readings = clock()
    monkeypatch.setattr(machine, "now_s", lambda device: next(readings))
    peak = measure_peak(CPU, torch.float32, product_side=1000, copy_bytes=50_000_000)
    assert peak.dtype == "float32"
    assert peak.product_gflops == pytest.approx(2 * 1000**3 / 2 / 1e9)
    assert peak.copy_gb_s == pytest.approx(2 * 0.05 / 2)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be reset here")
def test_peak_memory_is_that_since_the_reset() -> None:
    reset_peak_memory(CPU)
    before_mb = peak_memory_mb(CPU)
    taken = np.ones(300_000_000, np.uint8)  # given back to the system when it goes: it is large
    with_it_mb = peak_memory_mb(CPU)
    del taken
    assert with_it_mb > before_mb + 250
    assert peak_memory_mb(CPU) > before_mb + 250  # it is gone, and remembered
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU) < with_it_mb - 250
