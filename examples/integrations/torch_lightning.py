"""A PyTorch Lightning module with the loss as an attribute."""

import logging
import warnings

import lightning
import torch
from compare import compare
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import xpent.torch


class Classifier(lightning.LightningModule):
    """A network of two layers."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 5))
        self.loss = loss
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Compute the loss of a batch."""
        x, labels = batch
        loss = self.loss(self.model(x), labels)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def train(loss: nn.Module) -> list[float]:
    """Train for three epochs, and return the losses."""
    lightning.seed_everything(0, verbose=False)
    x = torch.randn(2000, 20)
    loader = DataLoader(TensorDataset(x, (x @ torch.randn(20, 5)).argmax(1)), batch_size=100)
    module = Classifier(loss)
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module.losses


def main() -> None:
    """Train with both losses."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers")
    compare("lightning", *map(train, (nn.CrossEntropyLoss(), xpent.torch.CrossEntropyLoss())), u=2.0**-24)


if __name__ == "__main__":
    main()
