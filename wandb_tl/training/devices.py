"""What a run computes on: its precision, its speed's measure, its name, its memory and its energy."""

from __future__ import annotations

import math
import platform
import re
import resource
import sys
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Where Linux tells a process's peak memory, and where it is made to forget it.
PROCESS_STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`precision` with auto resolved by what the device computes in natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Not mkldnn's own answer: it also says yes where it emulates bf16, which is slower than fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def chunk_size(device: torch.device, image_size: int) -> int:
    """Images a forward pass without gradients takes at a time; a CPU's caches like few."""
    if device.type != "cuda":
        return 64
    # 512 at ImageNet's 224 px keep a GPU busy; larger images are fewer, in the same memory.
    return max(32, min(512, 512 * 224**2 // image_size**2))


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    described = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    threads = torch.get_num_threads()
    return f"{name[1] if name else platform.processor() or 'CPU'}, {threads} thread{'s' * (threads > 1)}"


def forget_peak_memory(device: torch.device) -> None:
    """Begin to measure anew: this process may have had runs before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory the run held: allocated on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if PROCESS_STATUS.exists():
        return int(re.search(r"^VmHWM:\s*(\d+)", PROCESS_STATUS.read_text(), re.MULTILINE)[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def energy_wh(device: torch.device) -> float:
    """Energy that the GPU has used since its driver was loaded, in watt-hours; NaN where nothing counts it.

    NVML's counter, which GPUs have since Volta. It is the whole GPU's, whichever processes share it.
    """
    if device.type != "cuda":
        return math.nan
    try:
        import pynvml
    except ImportError:
        return math.nan
    # Not by its number: CUDA_VISIBLE_DEVICES renumbers the GPUs for CUDA, but not for NVML.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        pynvml.nvmlInit()
        millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return math.nan
    return millijoules / 3.6e6
