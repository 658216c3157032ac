"""What a file or folder is that was given as weights and is none that is read, and what to do."""

from __future__ import annotations

from pathlib import Path

_HEAD_BYTES = 512
_SAVE = "save its state dict with torch.save or safetensors"
_SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of git-lfs in place of the weights; fetch them with `git lfs pull`"),
    (b"<!doctype", "a web page; the download failed, or needs a login"),
    (b"<html", "a web page; the download failed, or needs a login"),
    (b"<?xml", "an XML text, mostly the error message of a download"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89hdf", f"an HDF5 file, e.g. of Keras; convert it to PyTorch and {_SAVE}"),
    (b"gguf", f"a GGUF file of llama.cpp; {_SAVE} of the network before quantisation"),
    (b"\x93numpy", f"a NumPy array; {_SAVE}"),
)
_MOST_JSON_HEADER = 100_000_000


def what_it_is(path: Path) -> str | None:
    """What the first bytes of a file say, where they are no weights that are read here; None where they tell nothing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    start = head.lstrip().lower()
    found = next((what for sign, what in _SIGNS if start.startswith(sign)), None)
    if found is None and start.startswith(b"{"):
        return "a JSON text, no weights; give the weights file that belongs to it"
    if found is None and path.suffix.lower() == ".onnx":
        return f"an ONNX graph; {_SAVE} of the PyTorch network"
    is_safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MOST_JSON_HEADER
    if found is None and is_safetensors and path.suffix != ".safetensors":
        return "a safetensors file under another name; rename it to end in .safetensors"
    if found is None and path.suffix == ".safetensors" and head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "a file of torch.save under another name; rename it to end in .pth"
    return found


def what_archive(names: list[str]) -> str | None:
    """What a zip archive is by the names in it, where it is none of torch.save; None where it may be one."""
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


def what_folder(path: Path) -> str | None:
    """What a folder of sharded training state is; None for any other."""
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        return (
            "a distributed checkpoint of PyTorch; make one file of it: "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if (path / "latest").is_file() and (path / "zero_to_fp32.py").is_file():
        return "a checkpoint of DeepSpeed; make one file of it: python zero_to_fp32.py . FILE, in that folder"
    return None
