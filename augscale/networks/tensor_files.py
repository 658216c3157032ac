"""Weights files as data: what safetensors and torch.save wrote, read without running anything that they hold.

A pickle is read with `weights_only=True`, never otherwise. Besides tensors and plain containers one class is let
in: argparse.Namespace, because official DINO keeps its command line in the file. It gives a file nothing: creating one
sets attributes of that object, and nothing here calls a method or trusts a type that a file could have replaced.
"""

from __future__ import annotations

import argparse
import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.file_signs import what_archive, what_it_is

_MAX_SETTINGS = 300
_MAX_ITEMS = 64
_MAX_TEXT = 300
_MAX_NAME = 80


def read_tensors(path: Path) -> dict[Any, Any]:
    """The content of a weights file, on the CPU.

    Raises:
        CheckpointError: missing, unreadable, truncated, or holding more than plain data.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; expected a weights file (.safetensors, or a file of torch.save)")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; expected .safetensors or a file of torch.save")
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path}: is empty; expected .safetensors or a file of torch.save")
        if what := what_it_is(path):
            raise CheckpointError(f"{path}: cannot be read as weights (it is {what})")
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        _check_archive(path)
        with _nothing_but_namespaces(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights ({first_line(error)})") from None
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read as weights ({_torch_problem(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a state dict")
    return own_dict(content)


def own_dict(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """A copy by dict's own method: an OrderedDict out of a pickle can have its `items` shadowed."""
    return {key: value for key, value in dict.items(mapping)}  # noqa: C416


def checked_tensor(value: Tensor, name: str, source: Path) -> Tensor:
    """The tensor itself, without what a pickle may have hung on it.

    Raises:
        CheckpointError: it is not a dense array of real numbers, or claims more numbers than the file stores, as an
            expanded tensor does (one number can claim to be a terabyte).
    """
    tensor = Tensor.detach(value)
    dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
    if not dense or tensor.is_complex():
        raise CheckpointError(f"{source}: tensor {printable(name)} is not a dense array of real numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        shape = "x".join(map(str, tensor.shape))
        raise CheckpointError(f"{source}: tensor {printable(name)} claims {shape} numbers; the file stores fewer")
    return tensor


def plain_settings(value: Any) -> dict[str, Any]:
    """Settings kept in a training checkpoint (an argparse.Namespace or a dict), as JSON-ready values.

    Entries that are not plain (tensors, nested dicts, infinite numbers) are left out, long ones cut; {} for anything
    else than settings.
    """
    if type(value) is argparse.Namespace:
        value = vars(value)
    if not isinstance(value, dict):
        return {}
    entries = [(key, _plain(entry)) for key, entry in list(dict.items(value))[:_MAX_SETTINGS] if type(key) is str]
    return {printable(key): entry for key, (known, entry) in entries if known}


def printable(text: str) -> str:
    """Names from a file on one line: control characters escaped, long ones cut."""
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _plain(value: Any, nested: bool = False) -> tuple[bool, Any]:
    """Whether the value is plain, and what to keep of it."""
    if value is None or type(value) in (bool, int):
        return True, value
    if type(value) is float:
        return math.isfinite(value), value
    if type(value) is str:
        return True, value[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    if type(value) in (list, tuple) and not nested:
        items = [_plain(item, nested=True) for item in value[:_MAX_ITEMS]]
        return all(known for known, _ in items), [item for _, item in items]
    return False, None


def _check_archive(path: Path) -> None:
    """Looks at the table of a torch.save archive before torch does: names stay inside, nothing unfolds when read."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights (truncated or damaged archive: {first_line(error)})"
        ) from None
    if what := what_archive([entry.filename for entry in entries]):
        raise CheckpointError(f"{path}: cannot be read as weights (it is {what})")
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise CheckpointError(
                f"{path}: refused: the archive has a member named {printable(entry.filename)}, outside of itself"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: refused: member {printable(entry.filename)} is compressed; torch never is")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(f"{path}: refused: its members claim more bytes than the file has")


@contextmanager
def _nothing_but_namespaces() -> Iterator[None]:
    """Lets in argparse.Namespace, and keeps out what other libraries have let in for themselves."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        # torch may have imported parts of itself meanwhile, which let in their own.
        new = [entry for entry in torch.serialization.get_safe_globals() if entry is not argparse.Namespace]
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others + new)


def _torch_problem(error: Exception) -> str:
    text = str(error)
    named = re.search(r"GLOBAL (\S+)", text)
    if named:
        return (
            f"it holds the Python object {printable(named[1])}, and nothing but tensors and plain data is loaded; "
            "save the state dict alone, where you trust the file: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
        )
    if "weights_only" in text or "Unsupported" in text or not text:
        return "it is damaged, no file of torch.save, or holds Python objects besides tensors, which are not loaded"
    return first_line(error)
