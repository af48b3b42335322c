"""The device of a run: its name, its native precision, its free and peak memory, and its energy.

A GPU is one of NVIDIA or AMD (cuda), of Intel (xpu) or of Apple (mps).
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from wandb_tl.errors import one_line

# Gives the context of a forward pass; keyword arguments are those of torch.autocast.
Autocast = Callable[..., AbstractContextManager[Any]]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Where Linux reports a process's peak memory, and where it resets it.
PROCESS_STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Rows and columns of the matrix that a GPU multiplies before it is used.
CHECKED_SIZE = 256
GPUS = ("cuda", "xpu", "mps")


def fastest() -> torch.device:
    """The GPU that this process uses; the CPU if it has none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None and accelerator.type in GPUS else torch.device("cpu")


def problem() -> str:
    """Why the GPU that this process has been given cannot be used or computes wrong numbers; empty if not."""
    device = fastest()
    if device.type == "cpu":
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if names in ("", "-1") or not torch.backends.cuda.is_built():
            return ""
        return (
            f"CUDA_VISIBLE_DEVICES names the GPU {names}, and PyTorch finds none there; nvidia-smi may say "
            "why, and an empty CUDA_VISIBLE_DEVICES trains on the CPU"
        )
    # Products and sums of small integers are exact in every format of the multiplication.
    matrix = torch.arange(CHECKED_SIZE**2).reshape(CHECKED_SIZE, CHECKED_SIZE).remainder(7.0)
    try:
        product = (matrix.to(device) @ matrix.to(device)).cpu()
    except RuntimeError as error:
        return f"the {device_name(device)} cannot be used: {one_line(error)[:200]}"
    if not torch.equal(product, matrix @ matrix):
        return f"the {device_name(device)} computes wrong products of matrices"
    return ""


def resolve_precision(precision: str, device: torch.device) -> str:
    """`precision` with auto resolved to the device's native precision."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "xpu":
        return "bf16" if torch.xpu.is_bf16_supported() else "fp32"
    if device.type == "mps":
        # Its fp16 is not faster for most layers, and only newer systems have bf16.
        return "fp32"
    # PyTorch has no public question for this. torch.backends.mkldnn answers yes also for processors that
    # emulate bf16, which is slower than fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def make_autocast(device: torch.device, precision: str) -> Autocast:
    """Mixed precision on a device; precision is fp32, bf16 or fp16."""
    return partial(torch.autocast, device.type, DTYPES[precision], enabled=precision != "fp32")


def chunk_size(device: torch.device, image_size: int) -> int:
    """Images per forward pass without gradients; small chunks stay in a CPU's caches."""
    if device.type == "cpu":
        return 64
    # 512 images of ImageNet's 224 px keep a GPU busy; of larger images, as many as take the same memory.
    return max(32, min(512, 512 * 224**2 // image_size**2))


def device_name(device: torch.device) -> str:
    """The manufacturer's name of the GPU or processor, and a processor's number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    if device.type == "mps":
        return f"GPU of {_processor()}"
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    description = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: (.+)$", description, re.MULTILINE)
    return name[1] if name else platform.processor() or "CPU"


def free_memory(device: torch.device) -> int:
    """Free bytes of a device's memory, within the limit of the process's control group if it has one."""
    if device.type == "mps":
        return total_memory(device) - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        unused = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
        return torch.accelerator.get_memory_info(device)[0] + unused
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (maximum := limit.read_text().strip()) != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Cached files count as used, but the system drops them as soon as a process needs their memory.
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])
        free = min(free, int(maximum) - used)
    return free


def total_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory; of Apple's, which it shares with the processor, those that it may use."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return torch.accelerator.get_memory_info(device)[1]


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement: earlier runs of this process may have held more memory."""
    if device.type in ("cuda", "xpu"):
        torch.accelerator.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory the run held: allocated on a GPU, else the process's resident set.

    Apple's GPU shares the memory of the process.
    """
    if device.type in ("cuda", "xpu"):
        return torch.accelerator.max_memory_allocated(device) / 2**20
    if PROCESS_STATUS.exists():
        lines = PROCESS_STATUS.read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kilobytes) / 2**10
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    # Windows has no such module.
    import resource

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
