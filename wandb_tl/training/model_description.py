"""What a trained model needs besides its tensors: written as JSON into model folders and exported files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.colours import GreyLevels

# Increased whenever an earlier version of this package would misread a description.
FORMAT = 2


@dataclass(frozen=True)
class ModelDescription:
    """The hyperparameters of a trained model, its classes, and how its outputs become answers.

    class_names: by class index. levels: how deep grey pictures are shown. precision: of the forward pass in
    the run: fp32, bf16 or fp16; auto if the folder does not say. temperature: the number that divides the
    logits before the softmax, chosen on the validation images of the run; 1 if there were none. results: what
    the run has measured, such as test_accuracy in per cent and test_images. test_pictures: the digest of the
    names of the run's test pictures; "" if they have none. trunk_digest: SHA-256 of the tensors that come
    from the original source of the weights; "" if all tensors are in the model folder.
    """

    config: RunConfig
    class_names: list[str]
    levels: GreyLevels = field(default_factory=GreyLevels)
    precision: str = "auto"
    temperature: float = 1.0
    results: dict[str, float] = field(default_factory=dict)
    test_pictures: str = ""
    trunk_digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The description as plain data, readable as JSON."""
        return {
            "format": FORMAT,
            "config": self.config.as_dict(),
            "class_names": self.class_names,
            "grey_levels": dataclasses.asdict(self.levels),
            "precision": self.precision,
            "temperature": self.temperature,
            "results": self.results,
            "test_pictures": self.test_pictures,
            "trunk_digest": self.trunk_digest,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str) -> ModelDescription:
        """The inverse of `as_dict`; earlier versions have written fewer entries.

        origin: the file, for messages. InputError for values that do not describe a model.
        """
        if not {"config", "class_names"} <= set(values) or not isinstance(values["config"], dict):
            raise InputError(f"{origin}: does not describe a model of this package")
        try:
            version = int(values.get("format", FORMAT))
            levels = {name: (pair[0], pair[1]) for name, pair in values.get("grey_levels", {}).items()}
            names = [_text(name) for name in values["class_names"]]
            temperature = float(values.get("temperature", 1))
            results = {_text(name): float(value) for name, value in values.get("results", {}).items()}
            grey_levels = GreyLevels(**levels)
            precision = _text(values.get("precision", values["config"].get("precision", "auto")))
            pictures, trunk = (_text(values.get(name, "")) for name in ("test_pictures", "trunk_digest"))
            if not (0 < temperature < math.inf and names):
                raise ValueError
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise InputError(f"{origin}: is damaged ({type(error).__name__})") from error
        if version > FORMAT:
            raise InputError(f"{origin}: was written by a later version of this package; update it")
        try:
            config = RunConfig.from_mapping(values["config"])
        except InputError as error:
            raise InputError(f"{origin}: {one_line(error)}") from error
        return cls(
            config=config,
            class_names=names,
            levels=grey_levels,
            precision=precision,
            temperature=temperature,
            results=results,
            test_pictures=pictures,
            trunk_digest=trunk,
        )

    @classmethod
    def from_json(cls, text: str, origin: str) -> ModelDescription:
        """The description in a JSON document. InputError as in `from_dict`, or if it is not JSON."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{origin}: is damaged (it is not JSON)") from error
        return cls.from_dict(values if isinstance(values, dict) else {}, origin)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def names_digest(names: Iterable[str]) -> str:
    """A digest of the names of pictures, in any order; "" without names."""
    ordered = sorted(names)
    return hashlib.sha256("\n".join(ordered).encode()).hexdigest() if ordered else ""
