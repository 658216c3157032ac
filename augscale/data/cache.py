"""The decoded images on disk: `[N, S, S, 3]` uint8, memory-mapped, built once and shared by every process.

    <root>/<key>/images.npy      the pixels
    <root>/<key>/cache.json      records, files set aside with reasons, duplicates, notes, settings, fingerprint
    <root>/<key>/set_aside.csv   the same list of files for people
    <root>/lookup/<listing>      from paths, sizes and modification times to the key, so that a second call opens no image

The key is a hash of every file's bytes, of what tables say about the files, and of the decode settings: a changed file
gives another cache, a moved or touched one the same. Exact duplicates are kept once, because a copy in the held-out
panel of an image that was trained on would make the score too good. A cache appears under its name only when complete.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
from filelock import FileLock

from augscale.config import DataConfig
from augscale.data.images import DECODER_VERSION, DecodedImage, Pixels, UnusableImage, decode_image
from augscale.data.manifest import SYNTHETIC_SEED, BadFile, ImageRecord, scan_sources
from augscale.data.splits import choose_subset, patient_groups
from augscale.errors import DataError
