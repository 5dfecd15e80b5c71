"""CPU time and memory of a server, from outside."""

import asyncio
import os
import time
from pathlib import Path

import numpy as np

from end_to_end import Figures


def stolen_s() -> float:
    """Processor time that the host of a virtual machine has given to others, in steps of 10 ms; 0 where there is no telling."""
    try:
        return int(Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


class ServerProcess:
    """CPU time and memory of a process, read once a second. Nothing where there is no /proc."""

    def __init__(self, pid: int | None) -> None:
        self._folder = None if pid is None or not Path(f"/proc/{pid}").exists() else Path(f"/proc/{pid}")
        self.at_s: list[float] = []
        self.memory_mb: list[float] = []
        self.cpu_s: list[float] = []

    async def watch(self) -> None:
        """Until cancelled."""
        while self._folder is not None:
            fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
            pages = int((self._folder / "statm").read_text().split()[1])
            self.at_s.append(time.perf_counter())
            self.cpu_s.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
            self.memory_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            await asyncio.sleep(1)

    def figures(self) -> Figures | None:
        """CPUs used and memory; its growth is that of the second half, when caches are warm."""
        if len(self.at_s) < 4:
            return None
        half = len(self.at_s) // 2
        growth = np.polyfit(self.at_s[half:], self.memory_mb[half:], 1)[0] * 60
        return {
            "cpus": round((self.cpu_s[-1] - self.cpu_s[0]) / (self.at_s[-1] - self.at_s[0]), 2),
            "memory_mb": round(self.memory_mb[-1]),
            "memory_most_mb": round(max(self.memory_mb)),
            "memory_mb_per_minute": round(float(growth), 2),
        }
