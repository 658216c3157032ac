"""What one source holds, before sources are named and merged: every file is filed under what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from augscale.data.bad_files import MISSING, BadFile
from augscale.data.dicom import can_read_dicom
from augscale.data.folders import is_thumbnail
from augscale.data.image_tables import Row
from augscale.data.parallel import map_in_order, num_workers
from augscale.data.passed_over import (
    THUMBNAILS,
    IsImage,
    Kind,
    UnsupportedImage,
    Verdict,
    count_passed,
    passed_over_lines,
    verdict_by_content,
    verdict_by_name,
)


@dataclass(kw_only=True)
class Listing:
    """The files of one source.

    Attributes:
        base: the folder that paths below the source start at.
        files: of each image: the file, its path below the source, what is known about it, and the folder below the
            source that holds its table.
        bad: files set aside.
        passed: files that are no images: path below the source, and kind.
        excluded: files that a pattern excludes.
        notes, label_notes: see `SourceScan`.
        reasons: why a file that a table names is not there, as far as that can be told.
    """

    base: Path
    files: list[tuple[Path, PurePosixPath, Row, PurePosixPath]] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    passed: dict[Path, tuple[str, Kind]] = field(default_factory=dict)
    excluded: set[Path] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    label_notes: list[str] = field(default_factory=list)
    reasons: dict[Path, str] = field(default_factory=dict)

    def put(self, found: dict[PurePosixPath, Path], inside: PurePosixPath, path: Path, verdict: Verdict) -> None:
        """Files one file of a folder under what it is; images go to `found`."""
        if isinstance(verdict, Kind):
            self.passed[path] = (str(inside), verdict)
        elif isinstance(verdict, UnsupportedImage):
            self.bad.append(BadFile(path=path, reason=verdict.reason))
        elif verdict.dicom and not can_read_dicom():
            by_name = verdict_by_name(path.name) is not None
            what = f"{path.suffix.lower()} files need" if by_name else "a DICOM file; reading it needs"
            self.bad.append(BadFile(path=path, reason=f"{what} `pip install augscale[dicom]`"))
        else:
            found[inside] = path

    def look_inside(self, found: dict[PurePosixPath, Path], unknown: Mapping[PurePosixPath, Path]) -> None:
        """Files those whose names do not tell what they are, by their content."""
        if not unknown:
            return
        with ThreadPoolExecutor(num_workers(), thread_name_prefix="look") as pool:
            verdicts = map_in_order(pool, _verdict, unknown.values())
            for (inside, path), verdict in zip(unknown.items(), verdicts, strict=True):
                if isinstance(verdict, BadFile):
                    self.bad.append(verdict)
                else:
                    self.put(found, inside, path, verdict)

    def pass_over_thumbnails(self, found: dict[PurePosixPath, Path], named: Iterable[PurePosixPath]) -> None:
        """Takes files in folders of thumbnails out, unless a table names them or nothing else is there."""
        small = {inside for inside in found if is_thumbnail(inside)} - {*named}
        if len(small) < len(found):
            self.passed |= {found.pop(inside): (str(inside), THUMBNAILS) for inside in small}

    def set_aside_by_name(self) -> None:
        """Sets aside what a table or a person names as an image and is of a kind that is not read."""
        kept = []
        for entry in self.files:
            verdict = verdict_by_name(entry[0].name)
            if verdict is None or isinstance(verdict, IsImage) or not entry[0].is_file():
                kept.append(entry)
            else:
                self.bad.append(BadFile(path=entry[0], reason=_reason(entry[0], verdict)))
        self.files = kept

    def what_else(self) -> str:
        """What a source without images holds instead, in brackets; empty for nothing."""
        parts = [f"{len(self.bad)} files were set aside: {self.bad[0].reason}"] if self.bad else []
        parts += [f"{len(self.excluded)} files were excluded"] if self.excluded else []
        parts += passed_over_lines(count_passed(self.passed))
        return f" ({'; '.join(parts)})" if parts else ""


def _verdict(path: Path) -> Verdict | BadFile:
    try:
        return verdict_by_content(path)
    except FileNotFoundError:
        return BadFile(path=path, reason=MISSING)
    except OSError as error:
        return BadFile(path=path, reason=f"cannot be read ({error.strerror})")


def _reason(path: Path, verdict: Kind | UnsupportedImage) -> str:
    if isinstance(verdict, UnsupportedImage):
        return verdict.reason
    return f"{path.suffix.lower()} files are {verdict.name}" + (f"; {verdict.advice}" if verdict.advice else "")
