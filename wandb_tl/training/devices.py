"""The device of a run: its name, its native precision, its free and peak memory, and its energy."""

from __future__ import annotations

import math
import platform
import re
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

# Gives the context of a forward pass; keyword arguments are those of torch.autocast.
Autocast = Callable[..., AbstractContextManager[Any]]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Where Linux reports a process's peak memory, and where it resets it.
PROCESS_STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`precision` with auto resolved to the device's native precision."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # PyTorch has no public question for this. torch.backends.mkldnn answers yes also for processors that
    # emulate bf16, which is slower than fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def make_autocast(device: torch.device, precision: str) -> Autocast:
    """Mixed precision on a device; precision is fp32, bf16 or fp16."""
    return partial(torch.autocast, device.type, DTYPES[precision], enabled=precision != "fp32")


def chunk_size(device: torch.device, image_size: int) -> int:
    """Images per forward pass without gradients; small chunks stay in a CPU's caches."""
    if device.type != "cuda":
        return 64
    # 512 images of ImageNet's 224 px keep a GPU busy; of larger images, as many as take the same memory.
    return max(32, min(512, 512 * 224**2 // image_size**2))


def device_name(device: torch.device) -> str:
    """The manufacturer's name of the GPU or processor, and a processor's number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    description = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: (.+)$", description, re.MULTILINE)
    threads = torch.get_num_threads()
    return f"{name[1] if name else platform.processor() or 'CPU'}, {threads} thread{'s' * (threads > 1)}"


def free_memory(device: torch.device) -> int:
    """Free bytes of a device's memory, within the limit of the process's control group if it has one."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (maximum := limit.read_text().strip()) != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Cached files count as used, but the system drops them as soon as a process needs their memory.
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])
        free = min(free, int(maximum) - used)
    return free


def total_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory."""
    return torch.cuda.mem_get_info(device)[1]


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement: earlier runs of this process may have held more memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory the run held: allocated on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if PROCESS_STATUS.exists():
        lines = PROCESS_STATUS.read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kilobytes) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def energy_wh(device: torch.device) -> float:
    """Energy that the GPU has used since its driver was loaded, in watt-hours; NaN if there is no counter.

    GPUs have this counter since Volta, and NVML reads it. It includes all processes that share the GPU.
    """
    if device.type != "cuda":
        return math.nan
    try:
        import pynvml
    except ImportError:
        return math.nan
    # By its UUID, because CUDA_VISIBLE_DEVICES renumbers the GPUs for CUDA, but not for NVML.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        pynvml.nvmlInit()
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return math.nan
    return millijoules / 3.6e6
