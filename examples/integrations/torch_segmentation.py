"""Semantic segmentation in PyTorch: (N, C, H, W) images, uint8 masks, and the label 255 for ignored pixels."""

import torch
from compare import compare
from torch import Tensor, nn

import xpent.torch

STEPS, CLASSES = 60, 4


def data() -> tuple[Tensor, Tensor]:
    """Noisy images of squares, and masks with the class of each pixel, in which borders are ignored."""
    torch.manual_seed(0)
    masks = torch.randint(CLASSES, (16, 4, 4), dtype=torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = nn.functional.one_hot(masks.long(), CLASSES).movedim(-1, 1)[:, :3] + 0.5 * torch.randn(16, 3, 32, 32)
    masks[:, ::8] = masks[:, :, ::8] = 255
    return images, masks


def train(loss_module: nn.Module, images: Tensor, masks: Tensor) -> list[float]:
    """Train a small network, and return the losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, CLASSES, 5, padding=2))
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_module(model(images), masks)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Train with both losses, with class weights."""
    images, masks = data()
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5])
    # On a CPU PyTorch requires int64 masks, which are eight times as large.
    original = train(nn.CrossEntropyLoss(weight, ignore_index=255), images, masks.long())
    ours = train(xpent.torch.CrossEntropyLoss(weight, ignore_index=255), images, masks)
    compare("segmentation", original, ours, u=2.0**-24)


if __name__ == "__main__":
    main()
