"""Reads safetensors, files of torch.save and JSON as data, without running code in them.

Pickles are read with `weights_only=True` and never otherwise. Besides tensors and plain containers one class is
accepted: argparse.Namespace, because official DINO stores its command line in the file. This is safe: creating a
Namespace only sets attributes of that object, and no code here calls its methods or trusts its types.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from augscale.errors import CheckpointError

State = dict[str, Tensor]
"""Tensors by name, as in torch's state dicts."""

_MAX_JSON_BYTES = 10_000_000
_MAX_SETTINGS = 300
_MAX_ITEMS = 64
_MAX_TEXT = 300
_MAX_NAME = 80

_HEAD_BYTES = 512
_MAX_JSON_HEADER = 100_000_000
_SAVE = "save its state dict with torch.save or safetensors"
_SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of git-lfs in place of the weights; fetch them with `git lfs pull`"),
    (b"<!doctype", "a web page; the download failed, or needs a login"),
    (b"<html", "a web page; the download failed, or needs a login"),
    (b"<?xml", "an XML text, mostly the error message of a download"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89hdf", f"an HDF5 file, e.g. of Keras; convert it to PyTorch and {_SAVE}"),
    (b"gguf", f"a GGUF file of llama.cpp; {_SAVE} of the network before quantization"),
    (b"\x93numpy", f"a NumPy array; {_SAVE}"),
    (b"{", "a JSON text, no weights; give the weights file that belongs to it"),
)
"""First bytes, in lower case, of files that are not weights."""


def read_tensors(path: Path) -> dict[Any, Any]:
    """The content of a weights file, on the CPU.

    Raises:
        CheckpointError: missing, unreadable, truncated, or holding more than plain data.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; expected .safetensors or a file of torch.save")
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path}: is empty; expected .safetensors or a file of torch.save")
        if kind := _kind_of_file(path):
            raise CheckpointError(f"{path}: cannot be read as weights (it is {kind})")
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        _check_archive(path)
        with _only_namespaces_allowed(), warnings.catch_warnings():
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


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file beside weights.

    Raises:
        CheckpointError: missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: is larger than any configuration")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}; expected a JSON object")
    return values


def own_dict(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """A copy made with dict's own method: a pickled OrderedDict may have a shadowed `items`."""
    return {key: value for key, value in dict.items(mapping)}  # noqa: C416


def checked_tensor(value: Tensor, name: str, source: Path) -> Tensor:
    """The tensor without attributes that a pickle may have attached to it.

    Raises:
        CheckpointError: it is not a dense array of real numbers, or it claims more numbers than the file stores, as an
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
    """Settings stored in a training checkpoint (an argparse.Namespace or a dict), as JSON-ready values.

    Values that are not plain (tensors, nested dicts, infinite numbers) are left out and long ones are cut. Anything
    that is not settings gives {}.
    """
    if type(value) is argparse.Namespace:
        value = vars(value)
    if not isinstance(value, dict):
        return {}
    entries = [(key, _plain(entry)) for key, entry in list(dict.items(value))[:_MAX_SETTINGS] if type(key) is str]
    return {printable(key): entry for key, (known, entry) in entries if known}


def printable(text: str) -> str:
    """A name from a file on one line: control characters escaped, cut to 80 characters."""
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names, printable and separated by commas, with "..." for the rest."""
    return ", ".join(map(printable, names[:most])) + (", ..." if len(names) > most else "")


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _plain(value: Any, nested: bool = False) -> tuple[bool, Any]:
    """True if the value is plain, and the part of it that is kept."""
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


def _kind_of_file(path: Path) -> str | None:
    """The kind of a file that is not weights (from its first bytes), with advice; None for possible weights."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    start = head.lstrip().lower()
    for sign, kind in _SIGNS:
        if start.startswith(sign):
            return kind
    if path.suffix.lower() == ".onnx":
        return f"an ONNX graph; {_SAVE} of the PyTorch network"
    if path.suffix == ".safetensors":
        is_pickle = head.startswith((b"PK\x03\x04", b"\x80\x02"))
        return "a file of torch.save under another name; rename it to end in .pth" if is_pickle else None
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MAX_JSON_HEADER:
        return "a safetensors file under another name; rename it to end in .safetensors"
    return None


def _check_archive(path: Path) -> None:
    """Checks the table of a zip archive before torch reads it: members stay inside and do not grow when read."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        problem = f"truncated or damaged archive: {first_line(error)}"
        raise CheckpointError(f"{path}: cannot be read as weights ({problem})") from None
    if kind := _kind_of_archive([entry.filename for entry in entries]):
        raise CheckpointError(f"{path}: cannot be read as weights (it is {kind})")
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


def _kind_of_archive(names: list[str]) -> str | None:
    """The kind of a zip archive that torch.save did not write (from its members); None if it may have written it."""
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return (
            "a TorchScript program, which is not run; save its weights, where you trust the file: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if names and all(name.endswith(".npy") for name in names):
        return f"a NumPy archive; {_SAVE}"
    if not any(name.endswith("data.pkl") for name in names):
        return "a zip archive, not one of torch.save; unpack it first"
    return None


@contextmanager
def _only_namespaces_allowed() -> Iterator[None]:
    """Allows argparse.Namespace in pickles, and temporarily none of the classes that other libraries allowed."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        # Modules of torch that were imported in between may have added their own classes.
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
