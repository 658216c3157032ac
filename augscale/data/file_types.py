"""File types: readable images, images of unsupported types, and other kinds, which are passed over and counted.

The type is given by the file's extension if that is known, otherwise by its first bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from augscale.data.formats.dicom import DICOM_SUFFIXES, looks_like_dicom
from augscale.data.formats.tiff import TIFF_MAGICS

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
_MAX_LINES = 8
_HEAD_BYTES = 560
_JPEG_MAGIC = b"\xff\xd8\xff"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of files that are not images.

    Attributes:
        name: their name, in the plural.
        advice: how to use them anyway.
        said: True if a message names them; manifest and report list all kinds.
    """

    name: str
    advice: str = ""
    said: bool = True


@dataclass(frozen=True, kw_only=True)
class UnsupportedImage:
    """An image of an unsupported type; it is set aside with this reason."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class IsImage:
    """An image that may be read."""

    dicom: bool = False


Verdict = IsImage | UnsupportedImage | Kind

VOLUMES = Kind(name="volumes", advice="export slices as PNG or DICOM")
ARRAYS = Kind(name="arrays", advice="save each image as PNG or TIFF")
SLIDES = Kind(name="whole slides or microscopy containers", advice="export tiles or planes as PNG or TIFF")
ARCHIVES = Kind(name="archives", advice="unpack them first")
DOCUMENTS = Kind(name="documents", advice="export the images in them as PNG")
SHEETS = Kind(name="spreadsheets", advice="save them as CSV to have them read as tables")
VIDEOS = Kind(name="videos", advice="export frames as PNG")
RECORDS = Kind(name="databases or record files", advice="export the images in them as PNG")
WEIGHTS = Kind(name="weights or tensors", advice="save images as PNG or TIFF")
TEXT = Kind(name="text, tables or code", said=False)
EMPTY = Kind(name="empty files", said=False)
INDEX = Kind(name="indexes of DICOM media", said=False)
OWN_FOLDERS = Kind(name="folders written by augscale", said=False)
OWN_PICTURES = Kind(name="pictures written by augscale", said=False)
STORES = Kind(name="array stores", advice="save each image as PNG or TIFF")
THUMBNAILS = Kind(name="files in folders of thumbnails", advice="give such a folder itself with --data to use it")
UNKNOWN = Kind(name="no images by their content", advice="rename or convert them if they are")
SPECIAL = Kind(name="sockets, pipes or devices", said=False)

_SUFFIXES: Mapping[Kind, str] = {
    VOLUMES: ".nii .nii.gz .mha .mhd .nrrd .nhdr .mgz .mgh .hdr .img .img.gz .raw .zraw .mnc .mnc.gz .vtk .vti .par "
    ".rec .v3draw",
    ARRAYS: ".npy .npz .h5 .hdf5 .hdf .he5 .mat .nc",
    SLIDES: ".svs .ndpi .ndpis .scn .mrxs .vms .vmu .bif .czi .lif .nd2 .oib .oif .vsi .isyntax .zvi .ims .qptiff",
    ARCHIVES: ".zip .tar .gz .tgz .bz2 .tbz2 .xz .txz .7z .rar .zst .lz4 .z .iso",
    DOCUMENTS: ".pdf .doc .docx .ppt .pptx .odt .odp .rtf .ps .eps .djvu .key .pages",
    SHEETS: ".xlsx .xls .xlsm .ods .numbers .sav .dta .sas7bdat",
    VIDEOS: ".mp4 .avi .mov .mkv .m4v .mpg .mpeg .wmv .webm .mts .flv",
    RECORDS: ".lmdb .mdb .tfrecord .tfrecords .parquet .feather .arrow .sqlite .sqlite3 .db .rosbag .bson",
    WEIGHTS: ".pt .pth .ckpt .safetensors .onnx .pkl .pickle .joblib",
    TEXT: ".txt .md .rst .csv .tsv .json .jsonl .ndjson .xml .yaml .yml .toml .ini .cfg .conf .html .htm .css .js .py "
    ".ipynb .m .r .c .h .cpp .java .sh .bat .ps1 .log .bib .tex .url .webloc .lnk .md5 .sha1 .sha256 .lock .svg",
}
_KIND_OF = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_UNREAD_IMAGES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
    | {".psd", ".xcf", ".exr", ".ico", ".dds", ".pcx", ".nef", ".cr2", ".cr3", ".arw", ".dng", ".orf", ".rw2", ".raf"}
)
_DOUBLE = (".gz", ".bz2", ".xz", ".zst")
_MAGICS: Mapping[Kind | UnsupportedImage, tuple[tuple[int, bytes], ...]] = {
    UnsupportedImage(reason="a GIF image; convert it to PNG"): ((0, b"GIF8"),),
    UnsupportedImage(reason="a Photoshop image; convert it to PNG"): ((0, b"8BPS"),),
    UnsupportedImage(reason="a JPEG 2000 image; convert it to PNG"): ((0, b"\0\0\0\x0cjP  "),),
    UnsupportedImage(reason="a JPEG XL image; convert it to PNG or JPEG"): ((0, b"\0\0\0\x0cJXL "), (0, b"\xff\x0a")),
    UnsupportedImage(reason="a HEIC image; convert it to PNG or JPEG"): ((4, b"ftypheic"),),
    UnsupportedImage(reason="a HEIF image; convert it to PNG or JPEG"): ((4, b"ftypmif1"),),
    UnsupportedImage(reason="an AVIF image; convert it to PNG or JPEG"): ((4, b"ftypavif"),),
    VIDEOS: ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3")),
    ARCHIVES: (
        *((0, magic) for magic in (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")),
        (257, b"ustar"),
    ),
    DOCUMENTS: ((0, b"%PDF"), (0, b"\xd0\xcf\x11\xe0")),
    ARRAYS: ((0, b"\x89HDF"), (0, b"\x93NUMPY"), (0, b"MATLAB 5.0")),
    VOLUMES: ((0, b"NRRD"), (0, b"ObjectType = Image"), (344, b"n+1\0"), (344, b"ni1\0")),
    RECORDS: ((0, b"SQLite format 3"),),
}
"""First bytes and their offsets; the first match counts."""
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """Files of one kind and extension that were found and not used.

    Attributes:
        suffix: their extension, lower case; may be empty.
        count: number of files.
        kind, advice, said: see `Kind`.
        example: path of one of them below its source.
    """

    suffix: str
    count: int
    kind: str
    advice: str
    example: str
    said: bool

    def line(self) -> str:
        """`24 .nii.gz files passed over: volumes; export slices as PNG or DICOM (e.g. a.nii.gz)`."""
        files = f"{self.count} {self.suffix} file" if self.suffix else f"{self.count} file"
        many = "" if self.count == 1 else "s"
        bare = "" if self.suffix else " without a known ending"
        advice = f"; {self.advice}" if self.advice else ""
        return f"{files}{many}{bare} passed over: {self.kind}{advice} (e.g. {self.example})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for manifests."""
        return asdict(self)


def full_suffix(name: str) -> str:
    """The extension in lower case, e.g. `.nii.gz`; empty if there is none or it is a number, as in a DICOM UID."""
    path = PurePath(name)
    suffix = path.suffix.lower()
    if suffix in _DOUBLE:
        before = PurePath(path.stem).suffix.lower()
        return before + suffix if before + suffix in _KIND_OF or before == ".tar" else suffix
    return "" if suffix[1:].isdigit() else suffix


def verdict_by_name(name: str) -> Verdict | None:
    """The type of a file by its name; None if only its content can tell."""
    suffix = full_suffix(name)
    if suffix in IMAGE_SUFFIXES:
        return IsImage()
    if suffix in DICOM_SUFFIXES:
        return IsImage(dicom=True)
    if suffix in _UNREAD_IMAGES:
        return UnsupportedImage(reason=f"{suffix} files are not supported; convert them to PNG or JPEG")
    if name.upper() == "DICOMDIR":
        return INDEX
    return _KIND_OF.get(suffix) or (ARCHIVES if suffix.endswith(_DOUBLE) else None)


def verdict_by_content(path: Path) -> Verdict:
    """The type of a file by its first bytes.

    Raises:
        OSError: the file does not exist, or cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        return SPECIAL
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return EMPTY
    if looks_like_dicom(head[:132]):
        return IsImage(dicom=True)
    if _is_image(head):
        return IsImage()
    for verdict, magics in _MAGICS.items():
        if any(head.startswith(magic, at) for at, magic in magics):
            return verdict
    return TEXT if _is_text(head) else UNKNOWN


def why_not_an_image(path: Path) -> str:
    """The reason to refuse a file that Pillow does not recognize.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "not an image file (a web page)"
    if start.startswith(_LFS_POINTER):
        return "not an image file (a pointer of git-lfs in its place; fetch the images with `git lfs pull`)"
    if start.startswith(_JPEG_MAGIC):
        return "a JPEG file of a kind that is not read (12 bits, JPEG-LS), or its header is damaged; convert it to PNG"
    verdict = verdict_by_content(path)
    if isinstance(verdict, UnsupportedImage):
        return f"not an image file that is read: {verdict.reason}"
    return "not an image file (no JPEG, PNG, TIFF, WebP, BMP or DICOM, or its header is damaged)"


def count_passed(found: Mapping[Path, tuple[str, Kind]]) -> tuple[PassedOver, ...]:
    """Counts files by extension and kind, the most frequent first.

    Args:
        found: for each file, its path below the source and its kind.
    """
    groups: dict[tuple[str, Kind], list[str]] = {}
    for inside, kind in found.values():
        groups.setdefault((_counted_suffix(inside, kind), kind), []).append(inside)
    counted = [
        PassedOver(
            suffix=suffix, count=len(names), kind=kind.name, advice=kind.advice, example=min(names), said=kind.said
        )
        for (suffix, kind), names in groups.items()
    ]
    return tuple(sorted(counted, key=lambda entry: (-entry.count, entry.suffix, entry.kind)))


def passed_over_lines(passed: Iterable[PassedOver]) -> list[str]:
    """Lines to print, one for each entry; entries beyond the eighth share one line."""
    said = [entry for entry in passed if entry.said]
    lines = [entry.line() for entry in said[:_MAX_LINES]]
    more = said[_MAX_LINES:]
    if more:
        lines.append(f"{sum(entry.count for entry in more)} files of {len(more)} further kinds passed over")
    return lines


def _counted_suffix(inside: str, kind: Kind) -> str:
    return "" if kind in (THUMBNAILS, OWN_FOLDERS) else full_suffix(inside)


def _is_image(head: bytes) -> bool:
    if head.startswith((_JPEG_MAGIC, b"\x89PNG\r\n\x1a\n", *TIFF_MAGICS)):
        return True
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return True
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut; Latin-1 text has few bytes above 127.
        return error.start > len(head) - 4 or sum(byte > 127 for byte in head) < 0.1 * len(head)
    return True
