"""Transfer learning as tutorials write it: what the benchmarks compare with.

torchvision's ResNet-50, PIL transforms, a DataLoader, fp32; the frozen part in the graph in every epoch, the
loss read in every step. It leaves BatchNorm in train mode, as most such loops do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from wandb_tl.config import RunConfig
from wandb_tl.datasets import Split

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pictures(Dataset):
    """Grey images as PIL pictures, transformed one by one."""

    def __init__(self, split: Split, image_size: int) -> None:
        self.pictures = [Image.fromarray(image[0].numpy()) for image in split.images]
        self.labels = split.labels.tolist()
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


def train(config: RunConfig, training: Split, testing: Split, device: torch.device) -> float:
    """Train by the config's recipe, testing after every epoch. Returns the last test accuracy."""
    torch.manual_seed(config.seed)
    model = models.resnet50()
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 10)
    if config.finetuning:
        for parameter in model.layer4.parameters():
            parameter.requires_grad = True
    model = model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "SGD":
        optimizer = torch.optim.SGD(
            trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    else:
        optimizer = torch.optim.Adam(trained, lr=config.lr)
    # On a GPU, workers prepare pictures meanwhile; on a CPU they would take the cores from the training.
    loading = {"batch_size": config.batch_size, "num_workers": 4 if device.type == "cuda" else 0}
    train_loader = DataLoader(Pictures(training, config.image_size), shuffle=True, **loading)
    test_loader = DataLoader(Pictures(testing, config.image_size), **loading)
    accuracy = 0.0
    for _ in range(config.epochs):
        model.train()
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
        accuracy = hits / len(testing)
    return accuracy
