"""Describe this machine's devices, memory and threads. Run it in a separate process, because it loads torch."""

from __future__ import annotations

from typing import Any

import psutil
import torch


def describe() -> dict[str, Any]:
    """Return `devices` (name, total and free bytes of each GPU), `cuda` (torch's), `threads` and memory in bytes."""
    memory = psutil.virtual_memory()
    return {
        "devices": [_device(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "memory": memory.total,
        "memory_available": memory.available,
    }


def _device(index: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(index)
    return {"name": torch.cuda.get_device_name(index), "total": total, "free": free}
