"""python benchmarks/plain.py: one recipe or several, as an experienced engineer writes them.

It computes the frozen layers once and shares their outputs between recipes. Then it trains only the rest, on
tensors that stay on the device, channels last, in bf16. It has no tracking, figures or checkpoints.
"""

from __future__ import annotations

import copy
import itertools
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from work import (
    BATCH_SIZE,
    MEAN,
    MOMENTUM,
    STD,
    WEIGHT_DECAY,
    divided,
    fashion_mnist,
    learning_rates,
    recipe_parser,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHUNK = 512 if DEVICE.type == "cuda" else 64


def pixels(images: Tensor, size: int) -> Tensor:
    """uint8 (N, 28, 28) -> normalised (N, 3, size, size), channels last."""
    resized = F.interpolate(images[:, None].to(DEVICE) / 255, (size, size), mode="bilinear")
    mean, std = (torch.tensor(values, device=DEVICE).view(3, 1, 1) for values in (MEAN, STD))
    return ((resized - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def outputs(module: nn.Module, images: Tensor, dtype: torch.dtype, size: int = 0) -> Tensor:
    """The module's outputs for all images; those that have a size are resized to it first."""
    with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
        return torch.cat([module(pixels(part, size) if size else part) for part in images.split(CHUNK)])


def train(
    module: nn.Module, splits: list[tuple[Tensor, Tensor]], optimizer: str, lr: float, epochs: int
) -> float:
    """Train the module on the first split's inputs; returns its last accuracy on the second's."""
    (inputs, labels), (test_inputs, test_labels) = splits
    if optimizer == "SGD":
        options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
        steps = torch.optim.SGD(module.parameters(), lr, fused=True, **options)
    else:
        steps = torch.optim.Adam(module.parameters(), lr, fused=True)
    for _ in range(epochs):
        module.train()
        for index in torch.randperm(len(labels), device=DEVICE).split(BATCH_SIZE):
            with torch.autocast(DEVICE.type, inputs.dtype, enabled=inputs.dtype != torch.float32):
                loss = F.cross_entropy(module(inputs[index]), labels[index])
            loss.backward()
            steps.step()
            steps.zero_grad()
        predicted = outputs(module.eval(), test_inputs, inputs.dtype).argmax(1)
        accuracy = (predicted == test_labels).float().mean().item()
    return accuracy


def main() -> None:
    parser = recipe_parser(__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the autocast")
    parser.add_argument("--grid", action="store_true", help="two trunks x finetuning x optimizer")
    parser.add_argument("--learning-rates", type=int, default=1, help="as many of them for each recipe")
    parser.add_argument("--model", default="resnet50", help="torchvision's name of a ResNet")
    parser.add_argument("--classes", type=int, default=10, help="divide the ten at random into so many")
    options = parser.parse_args()
    if options.classes % 10:
        parser.error("--classes: takes a multiple of ten, because each of the ten is divided alike")
    finetunings, optimizers = [options.finetuning], [options.optimizer]
    if options.grid:
        finetunings, optimizers = ["true", "false"], ["Adam", "SGD"]
    recipes = list(itertools.product(finetunings, optimizers, learning_rates(options.learning_rates)))
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    data = [fashion_mnist(options, train) for train in (True, False)]
    labels = [divided(labels, options.classes).to(DEVICE) for _, labels in data]
    for seed in range(2 if options.grid else 1):
        torch.manual_seed(seed)
        model = get_model(options.model).to(DEVICE, memory_format=torch.channels_last).eval()
        children = list(model.children())
        trunk, stage = nn.Sequential(*children[:-3]), nn.Sequential(*children[-3:-1], nn.Flatten())
        began = time.perf_counter()
        # For the head alone, the larger outputs of the trunk need not be kept.
        frozen = trunk if "true" in finetunings else nn.Sequential(trunk, stage)
        inputs = {finetunings[0]: [outputs(frozen, images, dtype, options.image_size) for images, _ in data]}
        if options.grid:
            inputs["false"] = [outputs(stage, maps, dtype) for maps in inputs["true"]]
        print(f"frozen layers: {time.perf_counter() - began:.1f} s")
        for finetuning, optimizer, lr in recipes:
            head = nn.Linear(model.fc.in_features, options.classes).to(DEVICE)
            trained = nn.Sequential(copy.deepcopy(stage), head) if finetuning == "true" else head
            began = time.perf_counter()
            splits = list(zip(inputs[finetuning], labels, strict=True))
            accuracy = train(trained, splits, optimizer, lr, options.epochs)
            seconds = time.perf_counter() - began
            recipe = f"finetuning {finetuning}, {optimizer}, lr {lr}"
            print(f"{recipe}: test accuracy {accuracy:.4f}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
