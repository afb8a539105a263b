"""The training module: what one step is, for Lightning's loop. Importing this imports Lightning."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from xnets.train._recipe import Recipe
from xnets.train._schedule import make_schedule
from xnets.train.data._batches import mix

Batch = tuple[Tensor, Tensor]


class Classifier(pl.LightningModule):
    """Trains a network to classify, as a recipe says.

    Args:
        model: The network, from images to logits.
        recipe: Gives optimizer, schedule, loss and seed.
        num_classes: Number of logits.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, num_classes: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.model(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one training batch."""
        if batch_idx == 0:
            # Dropout too must follow from the seed and the epoch alone, or a resumed run differs.
            torch.manual_seed(mix(self.recipe.seed, self.current_epoch, self.global_rank))
        images, labels = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.train_accuracy(logits, labels)
        self.log(
            "train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(labels)
        )
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Give all processes the same batch statistics; each saw its own part of the batches."""
        if self.trainer.world_size == 1:
            return
        for module in self.model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                for statistic in (module.running_mean, module.running_var):
                    dist.all_reduce(statistic)
                    statistic.div_(self.trainer.world_size)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure one test batch."""
        images, labels = batch
        logits = self.model(images)
        self.test_accuracy(logits, labels)
        loss = F.cross_entropy(logits, labels)
        self.log("test_loss", loss, sync_dist=True, batch_size=len(labels))
        self.log("test_accuracy", self.test_accuracy)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, one step at a time."""
        optimizer = self._make_optimizer()
        total = int(self.trainer.estimated_stepping_batches)
        schedule = make_schedule(self.recipe, optimizer, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _make_optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1]},  # biases and batch norms
        ]
        if not recipe.decay_all:
            groups[1]["weight_decay"] = 0.0
        if recipe.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
