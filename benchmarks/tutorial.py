"""python benchmarks/tutorial.py: one recipe as tutorials write it, with torchvision's ResNet-50.

PIL transforms, a DataLoader, fp32; every epoch computes the frozen layers again; every step reads the loss.
Unlike most such loops it keeps frozen BatchNorms in eval mode, so that it does the same work as plain.py.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms
from work import BATCH_SIZE, LR, MEAN, MOMENTUM, STD, WEIGHT_DECAY, fashion_mnist, recipe_parser


class Pictures(Dataset):
    """Grey images as PIL pictures, transformed one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, image_size: int) -> None:
        self.pictures = [Image.fromarray(image.numpy()) for image in images]
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.Grayscale(num_output_channels=3),
                transforms.Resize((image_size, image_size)),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def train(options: argparse.Namespace) -> float:
    """Train by the recipe and test after every epoch. Returns the last test accuracy."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = models.resnet50()
    model.requires_grad_(False)
    model.fc = nn.Linear(model.fc.in_features, 10)
    if options.finetuning == "true":
        model.layer4.requires_grad_(True)
    model = model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.optimizer == "SGD":
        optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    else:
        optimizer = torch.optim.Adam(trained, lr=LR)
    # On a GPU, workers prepare pictures meanwhile; on a CPU they would take the cores from the training.
    loading = {"batch_size": BATCH_SIZE, "num_workers": 4 if device.type == "cuda" else 0}
    train_loader, test_loader = (
        DataLoader(Pictures(*fashion_mnist(options, part), options.image_size), shuffle=part, **loading)
        for part in (True, False)
    )
    accuracy = 0.0
    for epoch in range(1, options.epochs + 1):
        model.eval()
        if options.finetuning == "true":
            model.layer4.train()
        running_loss = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        model.eval()
        hits = 0
        with torch.no_grad():
            for images, labels in test_loader:
                predicted = model(images.to(device)).argmax(1)
                hits += (predicted == labels.to(device)).sum().item()
        accuracy = hits / len(test_loader.dataset)
        print(f"epoch {epoch}: loss {running_loss / len(train_loader):.4f}, test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    print(f"test accuracy {train(recipe_parser(__doc__.splitlines()[0]).parse_args()):.4f}")
