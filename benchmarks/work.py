"""The work that tutorial.py, plain.py and this package are given: flags, hyperparameters, Fashion-MNIST."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_SIZE, LR, MOMENTUM, WEIGHT_DECAY = 64, 0.001, 0.9, 0.1
CACHE = os.environ.get("WANDB_TL_CACHE") or Path.home() / ".cache" / "wandb_tl"


def add_size_flags(parser: argparse.ArgumentParser, train_images: int, test_images: int) -> None:
    """How much work it is: the flags of every benchmark that trains."""
    parser.add_argument("--train-images", type=int, default=train_images, help="0: all 60,000")
    parser.add_argument("--test-images", type=int, default=test_images, help="0: all 10,000")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)


def size_flags(options: argparse.Namespace) -> list[str]:
    """The same flags again, for tutorial.py and plain.py."""
    names = ("train_images", "test_images", "image_size", "epochs")
    return [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]


def hyperparameters(options: argparse.Namespace) -> dict[str, int | str]:
    """The same for this package. The weights are random, which cost as much as pretrained ones."""
    return {
        "train_limit": options.train_images,
        "test_limit": options.test_images,
        "image_size": options.image_size,
        "epochs": options.epochs,
        # By default random weights are calibrated, unlike pretrained ones.
        "norm": "source",
    }


def amount(options: argparse.Namespace) -> str:
    """How much work it is, for a person."""
    images = f"{options.train_images:,} training and {options.test_images:,} test images"
    return f"{images} at {options.image_size} px, epochs: {options.epochs}, whole processes"


def recipe_parser(description: str) -> argparse.ArgumentParser:
    """The flags of a script that trains one recipe."""
    parser = argparse.ArgumentParser(description=description)
    add_size_flags(parser, 2000, 500)
    parser.add_argument("--finetuning", choices=("true", "false"), default="false", help="train layer4, too")
    parser.add_argument("--optimizer", choices=("Adam", "SGD"), default="Adam")
    parser.add_argument("--data-dir", default=CACHE, help="folder with FashionMNIST/raw")
    return parser


def learning_rates(count: int) -> list[float]:
    """As many learning rates, from the usual one on: recipes that share all frozen layers."""
    return [round(LR * 2 ** (number / 8), 6) for number in range(count)]


def divided(labels: Tensor, classes: int) -> Tensor:
    """Labels of more classes: each of the ten in equal parts that mean nothing."""
    parts = classes // 10
    numbers = torch.empty_like(labels)
    for label in range(10):
        members = labels == label
        numbers[members] = label * parts + torch.arange(int(members.sum())) % parts
    return numbers


def fashion_mnist(options: argparse.Namespace, train: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) uint8 and labels (N,): the same subset of a split that this package takes."""
    data = FashionMNIST(options.data_dir, train=train)
    limit = options.train_images if train else options.test_images
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: limit or None]
    return data.data[order], data.targets[order]
