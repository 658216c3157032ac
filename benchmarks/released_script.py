"""The evaluation script of the paper's authors, written plainly: one seed, the network run on every image in every
epoch, torchvision transforms in DataLoader workers, autograd and torch's SGD. Images come as uint8 arrays instead of
files, and the test split is scored once and not in every epoch: both make it faster than the original.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision import transforms as T

from augscale.evaluation.interface import Labelled
from augscale.evaluation.protocol_config import ReleasedConfig
from augscale.networks.backbones import Backbone

_TENSOR = [T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
_BICUBIC = T.InterpolationMode.BICUBIC


class _Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, dataset: Labelled, split: str, transform: T.Compose) -> None:
        part = dataset.part(split)
        self.images, self.rows, self.labels = dataset.images, dataset.rows[part], dataset.labels[part]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[self.rows[place]])), int(self.labels[place])


class ReleasedScript:
    """One network on one dataset.

    Args:
        encoder_gradients: compute, as the authors do, gradients of the network that nobody uses.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Labelled,
        view_size: int,
        config: ReleasedConfig,
        *,
        device: str,
        workers: int,
        encoder_gradients: bool = False,
    ) -> None:
        self.backbone = backbone.to(device).requires_grad_(True)
        self.config = config
        self.device = device
        self.encoder_gradients = encoder_gradients
        self.num_classes = len(dataset.classes)
        crop = T.Compose([T.RandomResizedCrop(view_size), *_TENSOR])
        middle = T.Compose([T.Resize(int(view_size * 256 / 224), _BICUBIC), T.CenterCrop(view_size), *_TENSOR])
        train = _Images(dataset, "train", crop)
        self.sampler: DistributedSampler[int] = DistributedSampler(train, num_replicas=1, rank=0)
        options = {"batch_size": config.batch_size, "num_workers": workers, "persistent_workers": workers > 0}
        self.train = DataLoader(train, sampler=self.sampler, **options)
        self.val = DataLoader(_Images(dataset, "val", middle), **options)
        self.test = DataLoader(_Images(dataset, "test", middle), **options)

    def run(self, seed: int) -> np.ndarray:
        """Trains with one seed; class probabilities on test of the epoch that was best on validation."""
        torch.manual_seed(seed)
        head = nn.Linear(self._features(next(iter(self.val))[0]).shape[1], self.num_classes).to(self.device)
        head.weight.data.normal_(mean=0.0, std=0.01)
        head.bias.data.zero_()
        rate = self.config.lr * self.config.batch_size / 256
        optimizer = torch.optim.SGD(head.parameters(), rate, momentum=self.config.momentum, weight_decay=0)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.config.epochs, eta_min=0)
        best, best_auroc = head.state_dict(), 0.0
        for epoch in range(self.config.epochs):
            self.sampler.set_epoch(epoch)
            self.train_epoch(head, optimizer)
            scheduler.step()
            scores, labels = self._predict(head, self.val)
            auroc = macro_auroc(labels, scores)
            if auroc > best_auroc:
                best_auroc = auroc
                best = {name: value.clone() for name, value in head.state_dict().items()}
        head.load_state_dict(best)
        return self._predict(head, self.test)[0]

    def train_epoch(self, head: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        for x, labels in self.train:
            loss = nn.CrossEntropyLoss()(head(self._features(x)), labels.to(self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def throwaway_epoch(self) -> float:
        """Trains a fresh head for one epoch; its CPU seconds without DataLoader workers, else wall seconds."""
        head = nn.Linear(self._features(next(iter(self.val))[0]).shape[1], self.num_classes).to(self.device)
        clock = time.perf_counter if self.train.num_workers or self.device != "cpu" else time.process_time
        start = clock()
        self.train_epoch(head, torch.optim.SGD(head.parameters(), 1e-5))
        return clock() - start

    def _features(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.encoder_gradients and torch.is_grad_enabled()):
            layers = self.backbone.model.get_intermediate_layers(
                x.to(self.device), 4, return_prefix_tokens=True, norm=True
            )
            return torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)

    @torch.no_grad()
    def _predict(self, head: nn.Linear, loader: DataLoader) -> tuple[np.ndarray, np.ndarray]:
        scores, labels = [], []
        for x, targets in loader:
            scores.append(head(self._features(x)).softmax(dim=1).cpu().numpy())
            labels.append(targets.numpy())
        return np.concatenate(scores), np.concatenate(labels)


def macro_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """scikit-learn's, class against rest, mean over all classes."""
    return float(np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(scores.shape[1])]))
