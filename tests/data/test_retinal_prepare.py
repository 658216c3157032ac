"""`prepare`, `check` and `list_datasets`: splits, what is written, what is found, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from downloads_in_miniature import aptos, idrid, jsiec, messidor, papila, photo, published, retina, table

from augscale.data.image_tables import read_table
from augscale.data.retinal import check, prepare
from augscale.data.retinal.prepared import default_data_root, list_datasets, missing_text
from augscale.data.retinal.registry import get_dataset
from augscale.data.sources import scan_sources
from augscale.errors import ConfigError, DataError

MAKERS = {
    "APTOS2019": aptos,
    "MESSIDOR-2": messidor,
    "IDRiD": idrid,
    "PAPILA": papila,
    "JSIEC": jsiec,
    "Retina": retina,
}


def _rows(prepared):
    return read_table(prepared.manifest).rows


@pytest.mark.parametrize("name", MAKERS)
def test_every_download_becomes_a_manifest_that_opens(tmp_path: Path, name: str) -> None:
    source = MAKERS[name](tmp_path / "download")
    prepared = prepare(name, source, tmp_path / "root")
    dataset = get_dataset(name)
    assert prepared.manifest == tmp_path / "root" / dataset.name / "manifest.csv"
    records = scan_sources([str(prepared.manifest)]).records
    assert all(record.path is not None and record.path.is_relative_to(source) for record in records)
    assert {record.label for record in records} == set(dataset.classes)
    assert Counter(record.split for record in records) == prepared.counts
    assert len({record.image_id for record in records}) == len(records) == prepared.facts["counts"]["total"]
    facts = json.loads((prepared.directory / "dataset.json").read_text())
    assert facts["asked"] == {"source": str(source), "split": "published", "seed": 0}
    assert facts["counts"]["classes"].keys() == set(dataset.classes)
    # Only the manifest is written; nothing is copied.
    assert sorted(path.name for path in prepared.directory.iterdir()) == ["dataset.json", "manifest.csv"]


def test_a_full_download_is_split_as_table_1_says(tmp_path: Path) -> None:
    """Images are not opened, so empty files will do."""
    for folder, count in (("1_normal", 300), ("2_cataract", 100), ("2_glaucoma", 101), ("3_retina_disease", 100)):
        (tmp_path / "dataset" / folder).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "dataset" / folder / f"{number:03d}.png").touch()
    prepared = prepare("Retina", tmp_path, tmp_path / "root")
    assert prepared.counts == {"train": 336, "val": 84, "test": 181}
    assert prepared.facts["counts"]["classes"]["normal"] == [168, 42, 90]
    assert not any("Table 1 has" in note for note in prepared.facts["notes"])


def test_idrid_keeps_its_official_test_set(tmp_path: Path) -> None:
    prepared = prepare("IDRiD", idrid(tmp_path / "in"), tmp_path / "root")
    for file, row in _rows(prepared).items():
        assert ("Testing" in file) == (row.split == "test")
    assert prepared.counts == {"train": 29, "val": 8, "test": 17}
    pooled = prepare("IDRiD", tmp_path / "in", tmp_path / "other", split="image")
    assert any("Testing" in file and row.split != "test" for file, row in _rows(pooled).items())


def test_published_folders_keep_their_split_whatever_the_seed(tmp_path: Path) -> None:
    source = published(tmp_path / "APTOS2019", get_dataset("APTOS2019").published_folders)
    prepared = prepare("APTOS2019", source, tmp_path / "root", seed=1)
    assert prepared.counts == {"train": 20, "val": 10, "test": 15}
    assert all(f"/{row.split}/" in file for file, row in _rows(prepared).items())
    assert prepare("APTOS2019", source, tmp_path / "root", seed=2).changed is False


@pytest.mark.parametrize(("name", "make"), [("PAPILA", papila), ("MESSIDOR-2", messidor)])
def test_a_split_by_patient_leaves_no_patient_on_two_sides(tmp_path: Path, name: str, make) -> None:
    source = make(tmp_path / "in")
    by_image, by_patient = (prepare(name, source, tmp_path / kind, split=kind) for kind in ("image", "patient"))
    splits: dict[str, list[dict[str | None, set[str | None]]]] = {}
    for kind, prepared in (("image", by_image), ("patient", by_patient)):
        found: dict[str | None, set[str | None]] = {}
        for row in _rows(prepared).values():
            found.setdefault(row.patient_id, set()).add(row.split)
        splits.setdefault(kind, []).append(found)
    assert max(map(len, splits["patient"][0].values())) == 1
    assert max(map(len, splits["image"][0].values())) > 1
    leaks = {
        kind: [f.severity for f in check(name, tmp_path / kind).findings if f.kind == "patients"] for kind in splits
    }
    assert leaks == {"image": ["warning"], "patient": []}


@pytest.mark.parametrize("name", ["APTOS2019", "IDRiD", "JSIEC", "Retina"])
def test_a_split_by_patient_needs_patients(tmp_path: Path, name: str) -> None:
    source = MAKERS[name](tmp_path / "in")
    with pytest.raises(ConfigError, match=f"no release of {name} tells which images belong to one patient"):
        prepare(name, source, tmp_path / "root", split="patient")


def test_messidor_without_pairs_refuses_a_split_by_patient(tmp_path: Path) -> None:
    source = messidor(tmp_path / "in", pairs=False)
    with pytest.raises(ConfigError, match=r"known from the left;right pairs of messidor-2\.csv, which this download"):
        prepare("MESSIDOR-2", source, tmp_path / "root", split="patient")
    assert "messidor-2.csv is not there" in " ".join(prepare("MESSIDOR-2", source, tmp_path / "root").facts["notes"])


def test_the_split_depends_on_seed_and_names_not_on_where_the_download_lies(tmp_path: Path) -> None:
    splits = []
    for place, seed in (("a", 0), ("b/c", 0), ("a", 1)):
        source = aptos(tmp_path / place) if not (tmp_path / place).exists() else tmp_path / place
        prepared = prepare("APTOS2019", source, tmp_path / f"root{len(splits)}", seed=seed)
        splits.append({Path(file).name: row.split for file, row in _rows(prepared).items()})
    assert splits[0] == splits[1] != splits[2]


def test_preparing_again_changes_nothing_and_otherwise_asks_for_force(tmp_path: Path) -> None:
    source, root = papila(tmp_path / "in"), tmp_path / "root"
    first = prepare("PAPILA", source, root)
    assert first.changed
    before = {path: path.stat().st_mtime_ns for path in first.directory.iterdir()}
    assert prepare("papila", source, root).changed is False
    assert {path: path.stat().st_mtime_ns for path in first.directory.iterdir()} == before
    with pytest.raises(ConfigError, match=r"prepared already \(split 'published' then, 'patient' now\); --force"):
        prepare("PAPILA", source, root, split="patient")
    with pytest.raises(ConfigError, match=r"\(seed 0 then, 3 now\)"):
        prepare("PAPILA", source, root, seed=3)
    assert prepare("PAPILA", source, root, split="patient", force=True).changed
    assert prepare("PAPILA", source, root, split="patient").changed is False


def test_a_download_that_has_changed_asks_for_force(tmp_path: Path) -> None:
    source = retina(tmp_path / "in")
    prepare("Retina", source, tmp_path / "root")
    photo(source / "dataset" / "1_normal" / "NL_999.png", 4321)
    with pytest.raises(ConfigError, match=r"held 25 then and holds 26 now"):
        prepare("Retina", source, tmp_path / "root")


def test_a_crash_before_the_last_file_leaves_nothing_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = retina(tmp_path / "in"), tmp_path / "root"
    prepare("Retina", source, root)
    real = os.replace

    def full_disk(start, end):
        if str(end).endswith("dataset.json"):
            raise OSError(28, "No space left on device")
        real(start, end)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(DataError, match=r"dataset\.json: cannot be written \(No space left on device\)"):
        prepare("Retina", source, root, split="image", force=True)
    monkeypatch.undo()
    assert [status.prepared for status in list_datasets(root) if status.dataset.name == "Retina"] == [None]
    assert prepare("Retina", source, root, split="image").changed


def test_images_below_the_prepared_folder_are_named_relative_to_it(tmp_path: Path) -> None:
    source = retina(tmp_path / "root" / "Retina" / "download")
    prepared = prepare("Retina", source, tmp_path / "root")
    assert all(file.startswith("download/dataset/") for file in _rows(prepared))
    shutil.move(tmp_path / "root", tmp_path / "moved")
    assert all(
        record.path and record.path.is_file()
        for record in scan_sources([str(tmp_path / "moved/Retina/manifest.csv")]).records
    )


def test_the_data_root_is_a_setting_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUGSCALE_DATA", str(tmp_path / "own"))
    assert default_data_root() == tmp_path / "own"
    assert prepare("Retina", retina(tmp_path / "in")).directory == tmp_path / "own" / "Retina"
    monkeypatch.delenv("AUGSCALE_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert default_data_root() == tmp_path / "xdg" / "augscale"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_data_root() == Path.home() / ".local" / "share" / "augscale"


def test_an_unknown_split_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--split 'patients'; expected published, image, patient"):
        prepare("Retina", tmp_path, tmp_path, split="patients")  # type: ignore[arg-type]


def _kinds(result):
    return {(finding.severity, finding.kind) for finding in result.findings}


def test_check_of_a_complete_download_against_table_1(tmp_path: Path) -> None:
    source = tmp_path / "in" / "dataset"
    for folder, count in (("1_normal", 300), ("2_cataract", 100), ("2_glaucoma", 101), ("3_retina_disease", 100)):
        for number in range(count):
            photo(source / folder / f"{number:03d}.png", len(folder) * 1000 + ord(folder[2]) * 10_000 + number)
    prepare("Retina", source, tmp_path / "root")
    seen: list[tuple[int, int]] = []
    result = check("Retina", tmp_path / "root", on_progress=lambda done, total: seen.append((done, total)))
    assert result.ok
    assert _kinds(result) == {("note", "patients")}
    assert result.counts == result.table1 == {"train": 336, "val": 84, "test": 181}
    assert seen[-1] == (601, 601)
    # A copy into another split under another label, a file that is gone, and one that is no image any more.
    rows = scan_sources([str(tmp_path / "root" / "Retina" / "manifest.csv")]).records
    train = next(r for r in rows if r.split == "train" and r.label == "normal")
    test = next(r for r in rows if r.split == "test" and r.label == "glaucoma")
    gone, broken = [r for r in rows if r.split == "val"][:2]
    shutil.copy(train.path, test.path)
    gone.path.unlink()
    broken.path.write_bytes(b"no image")
    result = check("Retina", tmp_path / "root")
    assert not result.ok
    found = {finding.kind: finding for finding in result.findings}
    assert set(found) == {"missing", "unreadable", "conflicting labels", "duplicates", "counts", "patients"}
    assert found["missing"].files == (str(gone.path),)
    assert found["unreadable"].files == (str(broken.path),)
    assert set(found["duplicates"].files) == set(found["conflicting labels"].files) == {train.image_id, test.image_id}
    assert [finding.severity for finding in result.findings] == sorted(
        (finding.severity for finding in result.findings), key=("error", "warning", "note").index
    )
    assert all("\n" not in finding.text for finding in result.findings)


def test_check_finds_unknown_classes_and_edits(tmp_path: Path) -> None:
    prepared = prepare("Retina", retina(tmp_path / "in"), tmp_path / "root")
    text = prepared.manifest.read_text()
    prepared.manifest.write_text(text.replace(",cataract,", ",katarakt,"))
    result = check("Retina", tmp_path / "root")
    assert {("error", "classes"), ("warning", "manifest")} <= _kinds(result)
    assert any("unknown classes (katarakt)" in finding.text for finding in result.findings)


def test_check_of_papila_expects_its_489th_image_to_be_absent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(244):
        for eye in ("OD", "OS"):
            path = photo(tmp_path / "img" / f"RET{patient:03d}{eye}.jpg", patient * 2 + (eye == "OS"))
            rows.append((path, rng.choice(["normal", "suspect", "glaucoma"]), f"{patient:03d}"))
    splits = ["train"] * 311 + ["val"] * 79 + ["test"] * 98
    prepared = prepare("PAPILA", papila(tmp_path / "in"), tmp_path / "root")
    lines = [[str(path), label, split, patient] for (path, label, patient), split in zip(rows, splits, strict=True)]
    table(prepared.manifest, ["file", "label", "split", "patient_id"], lines)
    counts = [finding for finding in check("PAPILA", tmp_path / "root").findings if finding.text.startswith("train:")]
    assert [(finding.severity, finding.text) for finding in counts] == [("note", "train: 311 images, Table 1 has 312")]


def test_check_of_what_is_not_prepared_says_how(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JSIEC is not prepared; expected first: augscale data prepare JSIEC --from"):
        check("jsiec", tmp_path)


def test_list_tells_what_is_where_and_how_to_get_the_rest(tmp_path: Path) -> None:
    source = retina(tmp_path / "in")
    prepare("Retina", source, tmp_path / "root")
    next(source.rglob("NL_001.png")).unlink()
    (tmp_path / "root" / "JSIEC").mkdir()
    (tmp_path / "root" / "JSIEC" / "manifest.csv").write_text("file\n")
    (tmp_path / "root" / "JSIEC" / "dataset.json").write_text("{")
    listed = {status.dataset.name: status for status in list_datasets(tmp_path / "root")}
    assert len(listed) == 6
    assert listed["Retina"].files == (25, 24)
    assert listed["Retina"].problem == "1 of its 25 images are missing"
    assert "damaged" in (listed["JSIEC"].problem or "")
    assert listed["PAPILA"].prepared is None
    assert listed["PAPILA"].problem is None
    assert "figshare" in listed["PAPILA"].how_to_get[0]
    assert missing_text(get_dataset("PAPILA")).startswith("PAPILA: not prepared; get it from figshare, DOI")
    assert json.loads(json.dumps([status.to_dict() for status in listed.values()]))[5]["files_present"] == 24
