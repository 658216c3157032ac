"""Ten steps of DINO on your images with lightly-train (`pip install lightly-train`, tried with 0.18).

    python examples/with_lightly_train.py best.toml IMAGES out --steps 10

`augscale export CARD --to lightly-train` prints `transform_args`, the argument of `lightly_train.pretrain`. For a real
run, leave `--steps` out and give `--epochs`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightly_train

import augscale


def main() -> None:
    parser = argparse.ArgumentParser(description="Ten steps of DINO with lightly-train")
    parser.add_argument("card", help="scale card (best.toml), or a name such as weak")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("out", type=Path, help="folder for checkpoints and logs")
    parser.add_argument("--model", default="timm/resnet18")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--steps", type=int, help="stop earlier, after this many steps")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    arguments = parser.parse_args()

    names: dict[str, Any] = {}
    exec(augscale.export_scales(augscale.load_scales(arguments.card), "lightly-train"), names)
    lightly_train.pretrain(
        out=arguments.out,
        data=arguments.images,
        model=arguments.model,
        method="dino",
        transform_args=names["transform_args"],
        epochs=arguments.epochs,
        trainer_args={} if arguments.steps is None else {"max_steps": arguments.steps},
        batch_size=arguments.batch_size,
        num_workers=0,
        accelerator=arguments.accelerator,
        overwrite=True,
    )


if __name__ == "__main__":
    main()
