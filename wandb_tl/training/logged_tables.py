"""Tables of W&B from columns, also of many rows, without what makes wandb slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb
from PIL import Image
from torch import Tensor

# Rows of a Table from which wandb infers the types of its columns.
TYPED_ROWS = 100


class PlainTable(wandb.Table):
    """A Table whose cells after the first TYPED_ROWS rows are strings and numbers.

    wandb looks into every cell of a Table for types that JSON does not have, which takes longer than a short
    training. These rows have none.
    """

    def to_json(self, run_or_artifact: Any) -> dict[str, Any]:
        rows = self.data
        self.data = rows[:TYPED_ROWS]
        try:
            described: dict[str, Any] = super().to_json(run_or_artifact)
        finally:
            self.data = rows
        described["nrows"] = len(rows)
        if "data" in described:
            described["data"] += rows[TYPED_ROWS:]
        return described


def of_columns(columns: Mapping[str, list[Any]]) -> wandb.Table:
    """A Table of columns, each N values by its name; an image is a uint8 tensor (C, H, W)."""

    def cell(value: Any) -> Any:
        return wandb.Image(_pil(value)) if isinstance(value, Tensor) else value

    rows: list[Any] = [[cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    has_images = any(isinstance(value, Tensor) for values in columns.values() for value in values[:1])
    kind = wandb.Table if has_images else PlainTable
    # wandb infers the types of the columns from every row that it is given here, which is slow.
    table = kind(columns=list(columns), data=rows[:TYPED_ROWS])
    table.data += rows[TYPED_ROWS:]
    return table


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())
