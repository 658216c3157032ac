"""Writes a solo-learn augmentation file from a scale card, and prints the command that trains with it.

    python examples/with_solo_learn.py best.toml SOLO_CLONE IMAGES

`augscale export CARD --to solo-learn` prints the list that solo-learn keeps in files of its folders `augmentations`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import augscale

GROUP = Path("scripts/pretrain/imagenet-100/augmentations")


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare solo-learn for a scale card")
    parser.add_argument("card", help="scale card (best.toml), or a name such as weak")
    parser.add_argument("clone", type=Path, help="folder of vturrisi/solo-learn")
    parser.add_argument("images", type=Path, help="folder of class folders of images")
    arguments = parser.parse_args()

    target = arguments.clone / GROUP / "augscale.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = augscale.export_scales(augscale.load_scales(arguments.card), "solo-learn")
    target.write_text(text, encoding="utf-8")
    print(
        f"python3 {arguments.clone / 'main_pretrain.py'} --config-path {GROUP.parent} --config-name dino.yaml "
        f"augmentations=augscale data.dataset=custom data.train_path={arguments.images} "
        f"data.val_path={arguments.images}"
    )


if __name__ == "__main__":
    main()
