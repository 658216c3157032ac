"""The folder of one full pre-training: what lies where, and whether a run may go on in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig, study_text
from augscale.data.cache import ImageCache
from augscale.errors import CheckpointError, ConfigError
from augscale.runs.files import read_json, write_json, write_text_atomic
from augscale.runs.folders import now, this_host, versions, writable_folder
from augscale.settings import changes, flatten

_SECTIONS = ("data", "backbone", "crops", "pretrain", "probe")


class FullRunFolder:
    """Names of everything in the folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.study_file = self.path / "study.toml"
        self.manifest_file = self.path / "manifest.json"
        self.log_file = self.path / "log.jsonl"
        self.evaluations_file = self.path / "evaluations.json"
        self.result_file = self.path / "result.json"
        self.state_file = self.path / "state.pt"
        self.last_weights = self.path / "last.safetensors"
        self.best_weights = self.path / "best.safetensors"
        self.tensorboard_dir = self.path / "tensorboard"
        self.lock_file = self.path / "lock"

    def create(self) -> None:
        """Makes the folder and checks that it can be written.

        Raises:
            ConfigError: a file is in the way, the folder cannot be written, or it holds a search.
        """
        if (self.path / "study.db").exists() or (self.path / "trials").is_dir():
            raise ConfigError(f"--out {self.path}: holds a search; expected a folder of its own for a full run")
        writable_folder(self.path)

    def log(self, event: str, **fields: Any) -> None:
        """Appends a line to log.jsonl.

        Raises:
            CheckpointError: it cannot be written.
        """
        line = json.dumps({"time": now(), "event": event, **fields}) + "\n"
        try:
            with open(self.log_file, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise CheckpointError(
                f"{self.log_file}: cannot be written ({error.strerror}); the last saved state is intact, and the same "
                "command continues from it"
            ) from None

    def forget_log_from(self, step: int) -> None:
        """Takes out what an interrupted session logged at or after a step that is about to be taken again."""
        try:
            lines = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError:
            return
        kept = [line for line in lines if _comes_before(line, step)]
        if len(kept) < len(lines):
            write_text_atomic(self.log_file, "".join(kept), error_type=CheckpointError)


def _comes_before(line: str, step: int) -> bool:
    """Whether a line of the log stays; one that was cut off does not."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return entry.get("event") not in ("step", "evaluation") or entry["step"] < step


def prepare_folder(
    folder: FullRunFolder,
    config: StudyConfig,
    scales: AugmentationScales,
    *,
    seed: int,
    cache: ImageCache,
    resume: bool,
    facts: dict[str, Any],
) -> None:
    """Lays out a new run, or checks that the one there was begun with the same settings and images.

    Args:
        resume: there has to be a state to go on from.
        facts: further entries of the manifest, which may differ from session to session.
    Raises:
        ConfigError: another run lies there, there is nothing to resume, or the folder cannot be written.
    """
    folder.create()
    settings = _settings(config, scales, seed)
    old = read_json(folder.manifest_file)
    if old is None and (folder.manifest_file.exists() or folder.state_file.exists()):
        raise ConfigError(f"{folder.path}: its manifest.json is missing or damaged; expected another --out")
    if old is not None:
        if old.get("kind") != "pretrain":
            raise ConfigError(f"--out {folder.path}: holds another kind of run; expected a folder of its own")
        _refuse_changes(folder, old, settings, cache)
    if resume and not folder.state_file.exists():
        raise ConfigError(f"--resume: {folder.path} holds no state to continue from; leave it out to start the run")
    manifest = {
        "kind": "pretrain",
        "created": old["created"] if old else now(),
        "host": this_host(),
        "seed": seed,
        "scales": scales.model_dump(mode="json"),
        "settings": settings,
        "cache": str(cache.directory),
        "versions": versions(),
        **facts,
    }
    write_text_atomic(folder.study_file, study_text(config), error_type=CheckpointError)
    write_json(folder.manifest_file, manifest, error_type=CheckpointError)


def rewrite_evaluations(
    folder: FullRunFolder, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Changes evaluations.json, and returns what it then holds: records of all evaluations, by step."""
    evaluations = sorted(change(read_json(folder.evaluations_file) or []), key=lambda record: record["step"])
    write_json(folder.evaluations_file, evaluations, error_type=CheckpointError)
    return evaluations


def _settings(config: StudyConfig, scales: AugmentationScales, seed: int) -> dict[str, Any]:
    """Everything that decides the result, flat, as it comes back from JSON."""
    values = config.model_dump(mode="json", include=set(_SECTIONS))
    flat = flatten(values | {"scales": scales.model_dump(mode="json"), "seed": seed})
    plain: dict[str, Any] = json.loads(json.dumps(flat))
    return {key: value for key, value in plain.items() if key not in StudyConfig.FREE}


def _refuse_changes(folder: FullRunFolder, old: dict[str, Any], settings: dict[str, Any], cache: ImageCache) -> None:
    default = _settings(StudyConfig(), AugmentationScales(), 0)
    if changed := changes(flatten(old["settings"]), settings, default, StudyConfig.FREE):
        raise ConfigError(
            f"{folder.path} was begun with other settings ({changed}); "
            "expected the same settings, or another folder for a new run (this one may be moved away)"
        )
    fingerprint = old["data"]["fingerprint"]
    if fingerprint != cache.fingerprint:
        raise ConfigError(
            f"{folder.path}: the images are not those this run began with (fingerprint {cache.fingerprint[:12]}, "
            f"then {fingerprint[:12]}); expected the same images or another --out"
        )
