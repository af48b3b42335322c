"""Read the state dicts in a file of safetensors or of torch.save, without running code from it.

Everything that can be checked by sizes is checked before a tensor is read. Objects of a pickle that are not
tensors, such as numpy scalars and configurations, are replaced by empty stand-ins: their classes are never
imported.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wandb_tl.errors import InputError, one_line

# No classifier of timm comes near this size, with the state of its optimizer.
MAX_BYTES = 64 * 2**30
# Headers describe each tensor in about 100 bytes, pickles in about 300.
MAX_HEADER_BYTES = 16 * 2**20
MAX_PICKLE_BYTES = 64 * 2**20
# How deep a checkpoint nests its state dicts.
MAX_DEPTH = 4

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
# get_unsafe_globals_in_checkpoint does not read the format of torch before 1.6; these are common in it.
COMMON_CLASSES = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)


@dataclass(frozen=True)
class WeightsFile:
    """The state dicts of a file, at least one, by their place in it: "", "model", "model.state_dict".

    origin: the file, for messages. has_classifier: whether its classifier has the classes of the run.
    """

    origin: str
    state_dicts: dict[str, dict[str, Tensor]]
    has_classifier: bool = False


def read(path: Path) -> WeightsFile:
    """Read a file, or the only file with weights in a folder.

    InputError, with the reason and what to do, for everything that cannot be read as weights.
    """
    # wandb leaves an empty folder with the name of a run behind when it reads the run.
    if path.is_dir() and any(path.iterdir()):
        path = _only_file(path)
    if not path.is_file():
        raise InputError(f"weights_file: no file {path}{_artifact_of_run(path)}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or one_line(error)}") from error
    if size > MAX_BYTES:
        raise InputError(f"{path}: takes {size / 2**30:,.0f} GiB, more than any model with its optimizer")
    if reason := _no_weights(start):
        raise InputError(f"{path}: {reason}")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        content = read_safetensors(path)
    else:
        content = _read_torch(path, size, is_zip=start.startswith(b"PK"))
    state_dicts = dict(_state_dicts(content, ()))
    if not state_dicts:
        raise InputError(f"{path}: {_without_tensors(content)}")
    return WeightsFile(str(path), state_dicts)


def _artifact_of_run(path: Path) -> str:
    """What to write for the model of a run, if the path may be its name on the server."""
    if len(path.parts) != 3 or path.suffix:
        return ""
    entity, project, run = path.parts
    return f"; the model of a run is {entity}/{project}/model-{run}:latest"


def _only_file(folder: Path) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "none"
        raise InputError(f"{folder}: is a folder with {len(files)} files of weights ({names}); name one file")
    return files[0]


def _no_weights(start: bytes) -> str | None:
    """Why a file that starts with these bytes holds no weights; None if it may hold some."""
    text = start.lstrip().lower()
    if not start:
        return "is empty; download or save it again"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run git lfs pull where it comes from"
    if text.startswith(b"<"):
        return "is a web page, not the weights; download the file itself, such as by the page's raw link"
    if start.startswith(ARCHIVES) or start[257:262] == b"ustar":
        return "is an archive; unpack it and name the file with the weights in it"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, as Keras writes it; takes weights of PyTorch"
    return None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. InputError if it is damaged, ends early, or has a large header; OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise InputError(f"{path}: is not a safetensors file (its header would take {length:,} bytes)")
        header = file.read(length)
    if len(header) == length:
        try:
            entries = json.loads(header)
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
            end = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: is not a safetensors file (its header is damaged)") from error
    else:
        end = 8 + length
    if end > size:
        raise InputError(f"{path}: {_half(size, end)}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as weights ({one_line(error)[:200]})") from error


def _half(size: int, end: int | None = None) -> str:
    of = f" of {end:,}" if end else ""
    return f"ends early, after {size:,}{of} bytes, like half a download; download it again"


def check_zip(path: Path) -> None:
    """Raise InputError for a zip that is not a file of torch.save, or whose members do not fit into it."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        # zipfile raises the last of them for a version of the format that it does not read.
        raise InputError(f"{path}: {_half(size)}") from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(
            f"{path}: is a TorchScript archive; save torch.jit.load(FILE).state_dict() with torch.save"
        )
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(
            f"{path}: is a zip archive that torch.save has not written; unpack it and name the file with the "
            "weights in it"
        )
    is_stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not is_stored or sum(member.file_size for member in members) > size:
        raise InputError(f"{path}: its tensors are compressed, or larger than the file, unlike torch.save's")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise InputError(
            f"{path}: has {pickles[0].file_size:,} bytes besides its tensors; save model.state_dict() alone"
        )


def _read_torch(path: Path, size: int, is_zip: bool) -> Any:
    if is_zip:
        check_zip(path)
    try:
        # The classes that the pickle names and torch does not allow.
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else COMMON_CLASSES
        with torch.serialization.safe_globals(_stand_ins(classes)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:
        # The unpickler and the reader of torch raise errors of many kinds for a file of another format.
        raise InputError(f"{path}: {_reason(error, size)}") from error


def _reason(error: Exception, size: int) -> str:
    message = one_line(error)
    if name := re.search(r"GLOBAL (\S+)", message):
        return f"holds {name[1]}, which could run code and is not loaded; save model.state_dict() instead"
    if isinstance(error, EOFError) or "unexpected EOF" in message:
        return _half(size)
    return (
        f"cannot be read as weights ({type(error).__name__}); takes a file of safetensors, or of "
        "torch.save(model.state_dict(), FILE)"
    )


class _Inert:
    """Stands in for an object whose state is not a mapping."""

    def __init__(self, *_arguments: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


def _stand_ins(classes: Iterable[str]) -> list[Any]:
    """Harmless classes in place of those that a pickle names, as torch's safe_globals takes them."""
    return [(_stand_in(name), name) for name in classes]


def _stand_in(name: str) -> type:
    if name.startswith(("numpy.", "functools.")):
        return type(name, (_Inert,), {})

    def new(_cls: type, *_arguments: object) -> Any:
        # The unpickler fills only these very types; most other objects have a mapping as their state.
        if name == "collections.deque":
            return []
        made: Any = OrderedDict()
        made.class_name = name
        return made

    return type(name, (), {"__new__": new})


def _state_dicts(content: Any, place: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings of tensors in the content, but not in the state of an optimizer."""
    if not isinstance(content, Mapping) or "param_groups" in content or len(place) > MAX_DEPTH:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and _is_plain(value)}
    if tensors:
        yield ".".join(place), tensors
    for name, value in content.items():
        yield from _state_dicts(value, (*place, str(name)))


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with all its numbers in memory, and not one number that is repeated."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    is_whole = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    return is_whole and not value.is_quantized


def _without_tensors(content: Any) -> str:
    """Why a content without state dicts has none, and what to do."""
    entries = [content, *(content.values() if isinstance(content, Mapping) else ())]
    for entry in entries:
        if "_modules" in getattr(entry, "__dict__", {}):
            return (
                f"is a whole pickled model of class {entry.class_name}, which only its code can load; where "
                "that code is, load it and save model.state_dict() instead"
            )
    if any(isinstance(entry, Mapping) and "param_groups" in entry for entry in entries):
        return "has the state of an optimizer and no weights; save model.state_dict()"
    return "has no tensors by name; save model.state_dict()"
