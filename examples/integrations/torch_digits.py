"""A convolutional network in PyTorch on scikit-learn's digits, trained in five ways."""

import argparse
import tempfile
from collections.abc import Callable, Iterator

import torch
from compare import compare
from sklearn.datasets import load_digits
from torch import Tensor, nn

import xpent.torch

STEPS, BATCH, PROCESSES = 60, 128, 2
Loss = Callable[..., Tensor]


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images of shape (BATCH, 1, 8, 8) and their labels, in a fixed random order."""
    images, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        indices = torch.randint(len(labels), (BATCH,), generator=generator)
        yield images[indices].float().reshape(-1, 1, 8, 8) / 16, labels[indices]


def network() -> nn.Module:
    """Two convolutions and a linear layer, with fixed random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 9, 10),
    )  # fmt: skip


def plain(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the forward and backward pass, and return the loss."""
    value = loss(model(images), labels, label_smoothing=0.05)
    value.backward()
    return value.detach()


def autocast(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """Compute both passes with bfloat16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(model(images), labels, label_smoothing=0.05)
    value.backward()
    return value.detach()


def accumulation(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """Compute both passes in four parts, with accumulated gradients."""
    total = torch.zeros(())
    for some_images, some_labels in zip(images.chunk(4), labels.chunk(4), strict=True):
        value = loss(model(some_images), some_labels, reduction="sum", label_smoothing=0.05) / len(labels)
        value.backward()
        total += value.detach()
    return total


def train(step: Callable[..., Tensor], model: nn.Module, loss: Loss, rank: int = 0, processes: int = 1) -> list[float]:
    """Train on the part of each batch that belongs to this process, and return the losses."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
    for images, labels in batches():
        optimizer.zero_grad()
        losses.append(step(model, loss, images[rank::processes], labels[rank::processes]).item())
        optimizer.step()
    return losses


def compiled(loss: Loss) -> list[float]:
    """Train with the network and its loss in one compiled function."""

    @torch.compile(fullgraph=True)
    def forward(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return loss(model(images), labels, label_smoothing=0.05)

    def step(model: nn.Module, _: Loss, images: Tensor, labels: Tensor) -> Tensor:
        value = forward(model, images, labels)
        value.backward()
        return value.detach()

    return train(step, network(), loss)


def process(rank: int, store: str, is_ours: bool, losses: Tensor) -> None:
    """Train in one of the processes of `distributed`."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=PROCESSES)
    model = nn.parallel.DistributedDataParallel(network())
    loss = xpent.torch.cross_entropy if is_ours else nn.functional.cross_entropy
    losses[rank] = torch.tensor(train(plain, model, loss, rank, PROCESSES))
    torch.distributed.destroy_process_group()


def distributed(loss: Loss) -> list[float]:
    """Train in two processes, which split each batch and average their gradients."""
    losses = torch.zeros(PROCESSES, STEPS).share_memory_()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"{folder}/store", loss is xpent.torch.cross_entropy, losses)
        torch.multiprocessing.spawn(process, arguments, nprocs=PROCESSES)
    return losses.mean(0).tolist()


WAYS = {
    "plain": lambda loss: train(plain, network(), loss),
    "autocast": lambda loss: train(autocast, network(), loss),
    "compile": compiled,
    "accumulation": lambda loss: train(accumulation, network(), loss),
    "distributed": distributed,
}


def main() -> None:
    """Train in each way with both losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], help="default: all")
    for way in parser.parse_args().ways or WAYS:
        curves = [WAYS[way](loss) for loss in (nn.functional.cross_entropy, xpent.torch.cross_entropy)]
        # Rounding to bfloat16 can turn a tiny difference into one of 2**-8.
        compare(f"digits, {way}", *curves, u=2.0**-24, drift=0.05 if way == "autocast" else 0.01)


if __name__ == "__main__":
    main()
