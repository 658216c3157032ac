"""Real photographs as one batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def photographs(fundus_dir: Path) -> torch.Tensor:
    """uint8, shape (12, 96, 96, 3): every dataset of the folder contributes."""
    files = [path for folder in sorted(fundus_dir.iterdir()) for path in sorted(folder.rglob("*.jpg"))[:3]]
    images = [np.asarray(Image.open(path).convert("RGB").resize((96, 96), Image.Resampling.BOX)) for path in files]
    return torch.from_numpy(np.stack(images[:12]))
