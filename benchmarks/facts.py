"""What a time depends on beside the program: the processor and the versions.

Synopsis:

    machine_facts(["tensorflow", "keras"])["bfloat16"]      # the instructions for it, such as ["amx_bf16"]
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")
_SHOWN_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile", *BFLOAT16_FLAGS)


def machine_facts(packages: Sequence[str]) -> dict[str, Any]:
    """The processor's name, cores and instructions, how busy it is, and the versions of `packages`."""
    flags = processor_flags()
    return {
        "processor": _field("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "flags": [flag for flag in _SHOWN_FLAGS if flag in flags],
        "bfloat16": [flag for flag in BFLOAT16_FLAGS if flag in flags],
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def processor_flags() -> frozenset[str]:
    """The instruction sets that the processor has, by Linux' names; empty where that cannot be read."""
    return frozenset((_field("flags") or _field("Features") or "").split())


def _field(name: str) -> str | None:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
