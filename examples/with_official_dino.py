"""Prepares facebookresearch/dino for your scales, and prints the command that trains with them.

    python examples/with_official_dino.py best.toml DINO_CLONE IMAGES

`augscale export CARD --to dino` prints flags for the crops. Jitter, blur and the rest are numbers within the class
`DataAugmentationDINO` of main_dino.py, so this script writes main_dino_scaled.py beside it, with other numbers. IMAGES
holds class folders, as torchvision's ImageFolder requires; a single folder will do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import augscale

NEW_NAME = "main_dino_scaled.py"


def replaced(source: str, notes: list[str]) -> tuple[str, list[str]]:
    """The source of main_dino.py with the lines of the export replaced, and the notes that need a hand.

    Args:
        source: of main_dino.py.
        notes: lines of the export, "OFFICIAL  ->  WANTED"; others cannot be replaced and are returned.
    Raises:
        ValueError: an official line is not there exactly once.
    """
    head, marker, body = source.partition("class DataAugmentationDINO")
    by_hand = []
    for note in notes:
        official, arrow, wanted = note.partition("  ->  ")
        if not arrow:
            by_hand.append(note)
            continue
        official = official.partition(" of ")[0]
        if body.count(official) != 1:
            raise ValueError(f"{official!r} stands {body.count(official)} times in DataAugmentationDINO; expected once")
        body = body.replace(official, wanted)
    return head + marker + body, by_hand


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare official DINO for a scale card")
    parser.add_argument("card", help="scale card (best.toml), or a name such as weak")
    parser.add_argument("clone", type=Path, help="folder of facebookresearch/dino")
    parser.add_argument("images", type=Path, help="folder of class folders of images")
    arguments = parser.parse_args()

    flags, _, *notes = augscale.export_scales(augscale.load_scales(arguments.card), "dino").splitlines()
    source = (arguments.clone / "main_dino.py").read_text(encoding="utf-8")
    text, by_hand = replaced(source, [note.removeprefix("#").strip() for note in notes])
    (arguments.clone / NEW_NAME).write_text(text, encoding="utf-8")
    for note in by_hand:
        print(f"change by hand in {arguments.clone / NEW_NAME}: {note}", file=sys.stderr)
    print(
        f"torchrun --nproc-per-node=1 {arguments.clone / NEW_NAME} --arch vit_small "
        f"--data_path {arguments.images} --output_dir dino {flags}"
    )


if __name__ == "__main__":
    main()
