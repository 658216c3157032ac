"""Files that are damaged, or made to do harm: one line that names the file, and nothing of them is run."""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import safetensors.torch
import torch
from vit_oracle import tiny_state

from augscale.errors import CheckpointError
from augscale.networks.checkpoints import load_checkpoint
from augscale.networks.tensor_files import plain_settings


@pytest.fixture(scope="module")
def vit():
    return tiny_state(depth=1)


class _Runs:
    """Leaves a trace where it is unpickled as Python would."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.system, (f"touch {self.trace}",))


def _refused(file, words=None):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert len(message) < 600
    return message


# Code


@pytest.mark.parametrize("place", ["weights", "args", "optimizer", "namespace"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_of_torch_save_is_not_run(tmp_path, vit, place, legacy):
    evil = _Runs(tmp_path / "trace")
    content = {
        "weights": vit | {"evil": evil},
        "args": {"teacher": vit, "args": evil},
        "optimizer": {"teacher": vit, "optimizer": {"state": [evil]}},
        "namespace": {"teacher": vit, "args": argparse.Namespace(arch=evil)},
    }[place]
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    assert "system" in _refused(tmp_path / "evil.pth", "nothing but tensors and plain data is loaded")
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(evil))
    assert (tmp_path / "trace").exists(), "the test's own payload must work"


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_not_run(tmp_path, protocol):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Runs(tmp_path / "trace"), protocol=protocol))
    _refused(tmp_path / "evil.pt", "cannot be read as weights")
    assert not (tmp_path / "trace").exists()


def _archive(path, pickled, vit):
    """A file of torch.save with another pickle inside."""
    buffer = io.BytesIO()
    torch.save(vit, buffer)
    with zipfile.ZipFile(buffer) as good, zipfile.ZipFile(path, "w") as bad:
        for entry in good.infolist():
            bad.writestr(entry.filename, pickled if entry.filename.endswith("data.pkl") else good.read(entry))


_NAMESPACE = b"cargparse\nNamespace\n"


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02" + _NAMESPACE + b"(cposix\nsystem\nX\x04\x00\x00\x00trueu.",
        b"\x80\x02" + _NAMESPACE + b"X\x05\x00\x00\x00_get_\x86R.",
        b"\x80\x02cargparse\nArgumentParser\n)R.",
        b"\x80\x02cargparse\nNamespace.__init__.__globals__\n.",
        b"\x80\x02cargparse\n_sys\n.",
        b"\x80\x02" + _NAMESPACE + b"}X\x08\x00\x00\x00__init__X\x01\x00\x00\x00xsb.",
        b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
        b"\x80\x02cbuiltins\ngetattr\n.",
        b"\x80\x02ctorch.serialization\nload\n.",
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x40\x85R.",
    ],
    ids=["namespace then system", "namespace with arguments", "parser", "globals", "module", "build on the class",
         "eval", "getattr", "load", "70 TB of nothing"],
)  # fmt: skip
def test_nothing_is_reached_through_the_one_class_that_is_let_in(tmp_path, vit, pickled):
    _archive(tmp_path / "evil.pth", pickled, vit)
    _refused(tmp_path / "evil.pth")


def test_a_namespace_that_poses_as_something_else_changes_nothing(tmp_path, vit):
    posing = argparse.Namespace()
    posing.__dict__.update(
        {"items": 1, "arch": "vit_tiny", "keys": None, "__getattr__": "x", "__class__": "dict", 3: 4}
    )
    torch.save({"teacher": vit, "args": posing}, tmp_path / "posing.pth")
    loaded = load_checkpoint(tmp_path / "posing.pth")
    assert loaded.training.args["arch"] == "vit_tiny"
    assert all(type(key) is str for key in loaded.training.args)


def test_a_dict_whose_methods_are_shadowed_is_read_by_dicts_own(tmp_path, vit):
    text = lambda word: b"X" + struct.pack("<I", len(word)) + word  # noqa: E731
    shadows = b"}(" + b"".join(text(name) + b"K\x01" for name in (b"items", b"keys", b"get", b"values")) + b"u"
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R" + shadows + b"b" + text(b"epoch") + b"K\x07s."
    _archive(tmp_path / "shadowed.pth", pickled, vit)
    _refused(tmp_path / "shadowed.pth", "holds no tensors under epoch$")


def test_what_other_libraries_let_in_stays_out_and_is_put_back(tmp_path, vit):
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([collections.deque])
    try:
        torch.save({"teacher": vit, "extra": collections.deque([1])}, tmp_path / "deque.pth")
        assert "collections.deque" in _refused(tmp_path / "deque.pth")
        assert set(torch.serialization.get_safe_globals()) == {*before, collections.deque}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_settings_are_plain_and_bounded():
    endless: list = []
    endless.append(endless)
    settings = argparse.Namespace(
        arch="vit_small", scale=(0.4, 1.0), lr=float("inf"), loop=endless, inner={"a": 1}, tensor=torch.zeros(2),
        text="x" * 10_000, surrogate="\ud800", many=list(range(10_000)), none=None,
    )  # fmt: skip
    plain = plain_settings(settings)
    json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    assert plain["arch"] == "vit_small"
    assert plain["scale"] == [0.4, 1.0]
    assert set(plain) == {"arch", "scale", "text", "surrogate", "many", "none"}
    assert len(plain["text"]) < 1000
    assert len(plain["many"]) < 100
    assert plain_settings([1]) == plain_settings(None) == {}


# Archives and headers


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "archive/../../evil", "archive\\..\\evil"])
def test_an_archive_with_a_member_outside_of_itself_is_refused(tmp_path, vit, name):
    file = tmp_path / "outside.pth"
    torch.save(vit, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, b"x")
    _refused(file, "refused: the archive has a member named .*evil")


def test_a_compressed_archive_is_refused_before_it_unfolds(tmp_path, vit):
    buffer = io.BytesIO()
    torch.save(vit, buffer)
    with zipfile.ZipFile(buffer) as good, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bad:
        for entry in good.infolist():
            bad.writestr(entry.filename, good.read(entry))
    _refused(tmp_path / "bomb.pth", "is compressed")


def _safetensors(header, data=b"\x00" * 64):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(start, end, shape=(4,)):
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63 - 1) + b"{}",
        struct.pack("<Q", 10**8) + b"{}",
        _safetensors({"a": _entry(0, 16), "b": _entry(8, 24)}, b"\x00" * 24),
        _safetensors({"a": _entry(0, 16), "b": _entry(0, 16)}, b"\x00" * 16),
        _safetensors({"a": _entry(0, 16), "b": _entry(32, 48)}, b"\x00" * 48),
        _safetensors({"a": _entry(0, 16, (2**40, 2**40))}),
        _safetensors({"a": _entry(16, 0)}),
        _safetensors([1]),
        b"\x00" * 7,
    ],
    ids=["absurd length", "length beyond the file", "overlap", "same bytes twice", "hole", "absurd shape", "backwards",
         "no table", "short"],
)  # fmt: skip
def test_a_wrong_safetensors_header_is_refused(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    _refused(tmp_path / "bad.safetensors", "cannot be read as weights")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("kind", [".safetensors", ".pt", "legacy.pt"])
def test_a_truncated_file_is_refused(tmp_path, vit, kind, share):
    file = tmp_path / f"short{kind}"
    if kind == ".safetensors":
        safetensors.torch.save_file(vit, file)
    else:
        torch.save(vit, file, _use_new_zipfile_serialization=kind == ".pt")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    _refused(file, "cannot be read as weights")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>Not found</html>\n" * 40, "cannot be read"),
        (bytes(range(256)) * 8, "cannot be read"),
    ],
    ids=["empty", "text", "noise"],
)
def test_what_is_no_weights_file_is_refused(tmp_path, suffix, content, words):
    (tmp_path / f"other{suffix}").write_bytes(content)
    _refused(tmp_path / f"other{suffix}", words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.pth", b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        ("a.pth", b'{"error": "not found"}', "a JSON text"),
        ("a.pth.gz", b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
        ("a.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX graph"),
        ("a.bin", (20).to_bytes(8, "little") + b'{"w": {}}' + bytes(20), "a safetensors file under another name"),
        ("a.safetensors", b"PK\x03\x04" + bytes(50), "a file of torch.save under another name"),
    ],
)
def test_what_a_file_is_instead_of_weights_is_said(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    _refused(tmp_path / name, words)


def test_archives_and_folders_of_other_kinds_are_named(tmp_path):
    for name, members, words in (
        ("script.pt", ["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"], "a TorchScript program"),
        ("folder.zip", ["model/weights.pth"], "a zip archive, not one of torch.save"),
        ("arrays.npz", ["a.npy", "b.npy"], "a NumPy archive"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, b"x")
        _refused(tmp_path / name, words)
    (tmp_path / ".metadata").touch()
    (tmp_path / "__0_0.distcp").touch()
    _refused(tmp_path, "a distributed checkpoint of PyTorch")
    (tmp_path / ".metadata").unlink()
    (tmp_path / "latest").touch()
    (tmp_path / "zero_to_fp32.py").touch()
    _refused(tmp_path, "a checkpoint of DeepSpeed")


def test_a_folder_named_like_a_file_and_nothing_at_all(tmp_path):
    (tmp_path / "folder.pt").mkdir()
    _refused(tmp_path / "folder.pt", "is a folder")
    _refused(tmp_path / "nothing.pt", "no such weights file")


# Contents


def _looped():
    content: dict = {}
    content["model"] = content
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no tensors"),
        ({"epoch": 3, "note": "x"}, "holds no tensors under epoch, note"),
        ({"model": {}}, "holds no tensors"),
        ([torch.zeros(3)], "holds a list; expected a state dict"),
        (torch.zeros(3), "holds a Tensor"),
        ({0: torch.zeros(3)}, "named by an int"),
        ({"model": {("a",): torch.zeros(3)}}, "named by a tuple"),
        ({"a\nb\x1b[31m": torch.zeros(3)}, r"unprintable name a\\nb\\x1b"),
        (_looped(), "holds no tensors"),
        ({"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}, "claims 1000000x1000000 numbers"),
        ({"w": torch.zeros(4, 4).to_sparse()}, "tensor w is not a dense array"),
        ({"w": torch.zeros(4, dtype=torch.complex64)}, "tensor w is not a dense array"),
        ({"w": torch.zeros(4, device="meta")}, "tensor w is not a dense array"),
        ({f"w{'x' * 5000}": torch.zeros(3)}, "neither a ViT nor a ResNet"),
        ({"patch_embed.proj.weight": torch.zeros(3)}, "expected square patches"),
        ({"patch_embed.proj.weight": torch.zeros(64, 3, 8, 8), "pos_embed": torch.zeros(3)}, "not a plain ViT"),
    ],
)  # fmt: skip
def test_contents_that_are_no_network_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "odd.pth")
    _refused(tmp_path / "odd.pth", words)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantised_network_is_refused(tmp_path):
    tensor = torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)
    torch.save({"w": tensor}, tmp_path / "odd.pth")
    _refused(tmp_path / "odd.pth", "tensor w is not a dense array")


@pytest.mark.parametrize(
    ("name", "value"),
    [("cls_token", torch.zeros(3)), ("reg_token", torch.zeros(3)), ("pos_embed", torch.zeros(1, 17)),
     ("register_tokens", torch.zeros(1)), ("blocks.0.attn.q_norm.weight", torch.zeros(())),
     ("blocks.0.mlp.fc2.weight", torch.zeros(0, 0)), ("blocks.0.ls1.gamma", torch.zeros(5)),
     ("patch_embed.proj.weight", torch.zeros(192, 3, 0, 0)), ("patch_embed.proj.weight", torch.zeros(0, 3, 16, 16)),
     ("blocks.0.attn.qkv.weight", torch.zeros(576, 192, dtype=torch.int8)), ("pos_embed", torch.zeros(1, 0, 192)),
     ("blocks.0.mlp.fc1.weight", torch.zeros(0, 192))],
)  # fmt: skip
def test_a_tensor_of_any_wrong_shape_is_an_error_and_not_a_crash(tmp_path, vit, name, value):
    torch.save(vit | {name: value}, tmp_path / "odd.pth")
    _refused(tmp_path / "odd.pth")
