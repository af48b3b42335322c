"""The model card of an exported model: README.md, with the front matter of the Hugging Face hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from wandb_tl.analysis.proportions import exact_interval
from wandb_tl.errors import printable
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.pictures.framing import Framing
from wandb_tl.training.model_description import ModelDescription

FRONT_MATTER = """---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- wandb_tl
---"""

# Labels that the card lists before it only counts the rest.
LABELS_SHOWN = 100
SPLITS = {"train": "training", "val": "validation", "test": "test"}
# Hyperparameters that are about files and speed, or stand elsewhere in the card.
NOT_OF_THE_RECIPE = {
    *("model_name", "weights_file", "dataset", "data_dir"),
    *("compile", "save_weights", "on_bad_image"),
}

USE = {
    "onnx": """### model.onnx

With wandb_tl: `python -m wandb_tl.predict model.onnx PICTURES`.

Without it, `pip install onnxruntime numpy pillow` is enough for the script in this folder:
`python classify.py PICTURE ...`. In Python:

```python
import json, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
logits, probabilities = session.run(None, {{"images": images}})
```

`images` is a uint8 array (N, 3, {size}, {size}) of RGB images with any N. The file contains the
normalisation.""",
    "torchscript": """### model.pt

With wandb_tl: `python -m wandb_tl.predict model.pt PICTURES`. In Python:

```python
import json, torch

texts = {{"labels": ""}}
model = torch.jit.load("model.pt", _extra_files=texts)
labels = json.loads(texts["labels"])
logits, probabilities = model(images)
```

`images` is a uint8 tensor (N, 3, {size}, {size}) of RGB images with any N. The file contains the
normalisation. A TorchScript file is a program: load only files whose origin you trust.""",
    "safetensors": """### model.safetensors

With wandb_tl: `python -m wandb_tl.predict FOLDER PICTURES`, with the path of this folder. With timm:

```python
import json, pathlib, timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
labels = json.loads(pathlib.Path("FOLDER/config.json").read_text())["label_names"]
logits = model((images / 255 - mean) / std)
probabilities = (logits / {temperature:.6g}).softmax(1)
```

`images` is a tensor (N, {channels}, {size}, {size}) of {colour} images with any N; `mean` and `std`, of shape
({channels}, 1, 1), are those of `model.pretrained_cfg`.""",
}


def text(name: str, description: ModelDescription, framing: Framing, formats: Sequence[str]) -> str:
    """The card. name: of the model, such as the id of its run. formats: of the files in its folder."""
    config = description.config
    is_grey = config.model_arguments.get("in_chans") == 1
    values = {
        "size": framing.size,
        "temperature": description.temperature,
        "channels": 1 if is_grey else 3,
        "colour": "grey" if is_grey else "RGB",
    }
    use = [USE[form].format_map(values) for form in formats]
    data = code(Path(config.data_dir).name) if config.data_dir else code(config.dataset)
    parts = [
        FRONT_MATTER,
        f"# {printable(name)}: {config.model_name} for {len(description.class_names)} classes of {data}",
        "## What it classifies",
        _labels(description.class_names),
        "## Data",
        _data(data, description.results),
        "## Recipe",
        _recipe(description),
        "## Results",
        _results(description),
        "## Calibration",
        _calibration(description),
        "## Pictures",
        _pictures(framing, description.levels),
        "## How to use it",
        *use,
    ]
    return "\n\n".join(parts) + "\n"


def code(words: str) -> str:
    """Words as a code span of Markdown, on one line."""
    line = printable(words)
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(code(label) for label in labels[:LABELS_SHOWN])
    rest = f", and {len(labels) - LABELS_SHOWN:,} more" if len(labels) > LABELS_SHOWN else ""
    return (
        f"It gives each picture one of {len(labels):,} labels, with probabilities: {shown}{rest}.\n"
        "A picture that shows none of them gets one of these labels as well."
    )


def _data(data: str, results: dict[str, float]) -> str:
    counts = [
        f"{results[f'{split}_images']:,.0f} {word} images"
        for split, word in SPLITS.items()
        if f"{split}_images" in results
    ]
    return f"The data set {data}: {', '.join(counts) or 'the numbers of its images are not recorded'}."


def _recipe(description: ModelDescription) -> str:
    config = description.config
    idle = config.without_effect | NOT_OF_THE_RECIPE
    rows = [
        f"| {name} | {value} |"
        for name, value in config.as_dict().items()
        if name not in idle and value != ""
    ]
    start = {
        (True, False): "The run started from the weights of this name in timm.",
        (True, True): f"The run started from the weights in {code(Path(config.weights_file).name)}.",
    }.get((config.pretrained, bool(config.weights_file)), "The run started from random weights.")
    table = ["| hyperparameter | value |", "|:--|:--|", *rows]
    return "\n".join([f"The model is {code(config.model_name)}. {start}", "", *table])


def _results(description: ModelDescription) -> str:
    results = description.results
    rows = []
    for split in ("test", "val"):
        images = round(results.get(f"{split}_images", 0))
        if not images or f"{split}_accuracy" not in results:
            continue
        percent = results[f"{split}_accuracy"]
        hits = round(percent * images / 100)
        low, high = exact_interval(hits, images)
        others = [results.get(f"{split}_{name}", math.nan) for name in ("f1_macro", "ece")]
        rows.append(
            f"| {images:,} {SPLITS[split]} images | {percent:.2f} % ({hits:,}) | {low:.2f} to {high:.2f} % | "
            f"{' | '.join(f'{value:.4f}' for value in others)} |"
        )
    if not rows:
        return "The accuracy of the run is not recorded."
    table = [
        "| images | accuracy (correct) | 95 % interval | macro F1 | calibration error |",
        "|:--|--:|:--|--:|--:|",
        *rows,
    ]
    note = (
        "The intervals are exact binomial ones, by Clopper and Pearson. The run has measured these numbers "
        "at its end, in its own precision and without the temperature; the exported network computes in fp32."
    )
    if "test_accuracy" in results:
        note += "\nTest images are those of the run, and took no part in training."
    if "val_accuracy" in results:
        note += "\nValidation images have chosen the temperature, and may have chosen the recipe."
    return "\n".join([*table, "", note])


def _calibration(description: ModelDescription) -> str:
    images = description.results.get("val_images")
    if not images:
        return (
            "The probabilities are the softmax of the logits (temperature 1). The run had no validation "
            "images to choose another temperature on, so they are not calibrated."
        )
    return (
        f"The probabilities are the softmax of the logits divided by the temperature "
        f"{description.temperature:.4g}, which was chosen on the {images:,.0f} validation images."
    )


def _pictures(framing: Framing, levels: GreyLevels) -> str:
    size, shorter = framing.size, math.floor(framing.size / framing.crop_fraction)
    square = {
        "crop": f"scaled until the shorter side has {shorter} pixels, and cropped to the {size} x {size} "
        "pixels in the centre",
        "squash": f"scaled to {size} x {size} pixels, which changes their aspect ratio",
        "pad": f"scaled until the longer side has {size} pixels, and padded to {size} x {size} pixels in the "
        "mean colour of ImageNet",
    }[framing.resize]
    black, white = levels.integer
    return (
        f"Pictures are turned upright, converted to RGB with transparent pixels over white, {square} "
        f"({framing.interpolation}, antialiased by Pillow).\n"
        f"Grey pictures of 16 or 32 bits show {black:g} as black and {white:g} as white."
    )
