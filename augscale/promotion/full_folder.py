"""The folder of one full pre-training: its files, and whether a run may continue in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig, study_text
from augscale.data.cache import ImageCache
from augscale.errors import CheckpointError, ConfigError
from augscale.records.full_run import FullRunFacts, FullRunManifest, FullRunResult, PanelEvaluation
from augscale.runs.files import read_json, write_json, write_text_atomic
from augscale.runs.folders import now, this_host, versions, writable_folder
from augscale.settings import changes, flatten

_SECTIONS = ("data", "backbone", "crops", "pretrain", "probe")


class FullRunFolder:
    """Paths of all files, and access to those that grow. A file that cannot be written raises CheckpointError."""

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
        """Appends a line to log.jsonl."""
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
        """Removes the lines that an interrupted session logged from `step` on, and a last line that was cut off."""
        try:
            lines = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError:
            return
        kept = [line for line in lines if _precedes(line, step)]
        if len(kept) < len(lines):
            write_text_atomic(self.log_file, "".join(kept), error_type=CheckpointError)

    def evaluations(self) -> list[PanelEvaluation]:
        """All evaluations, by step."""
        return [PanelEvaluation.model_validate(entry) for entry in read_json(self.evaluations_file) or []]

    def add_evaluation(self, evaluation: PanelEvaluation) -> list[PanelEvaluation]:
        """Adds an evaluation, which replaces those at and after its step, and returns all."""
        evaluations = [old for old in self.evaluations() if old.step < evaluation.step] + [evaluation]
        write_json(self.evaluations_file, [entry.to_dict() for entry in evaluations], error_type=CheckpointError)
        return evaluations

    def result(self) -> FullRunResult | None:
        """The result; None if the run has not finished."""
        values = read_json(self.result_file)
        return None if values is None else FullRunResult.parse(values, str(self.result_file))


def prepare_folder(
    folder: FullRunFolder,
    config: StudyConfig,
    scales: AugmentationScales,
    *,
    seed: int,
    cache: ImageCache,
    resume: bool,
    facts: FullRunFacts,
) -> None:
    """Lays out a new run, or checks that the existing one was begun with the same settings and images.

    Args:
        resume: a state to continue from must exist.
    Raises:
        ConfigError: the folder holds another run, there is nothing to resume, or the folder cannot be written.
    """
    settings = _settings(config, scales, seed)
    old = read_json(folder.manifest_file)
    if old is None and (folder.manifest_file.exists() or folder.state_file.exists()):
        raise ConfigError(f"{folder.path}: its manifest.json is missing or damaged; expected another --out")
    if old is not None:
        if old.get("kind") != "pretrain":
            raise ConfigError(f"--out {folder.path}: holds another kind of run; expected a folder of its own")
        _refuse_changes(folder, old, settings, cache)
    if resume and not folder.state_file.exists():
        raise ConfigError(f"--resume: {folder.path} holds no state to continue from; without --resume the run starts")
    manifest = FullRunManifest(
        created=old["created"] if old else now(),
        host=this_host(),
        seed=seed,
        scales=scales.model_dump(mode="json"),
        settings=settings,
        cache=str(cache.directory),
        versions=versions(),
        **dict(facts),
    )
    write_text_atomic(folder.study_file, study_text(config), error_type=CheckpointError)
    manifest.write(folder.manifest_file, error_type=CheckpointError)


def _precedes(line: str, step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return entry.get("event") not in ("step", "evaluation") or entry["step"] < step


def _settings(config: StudyConfig, scales: AugmentationScales, seed: int) -> dict[str, Any]:
    """Everything that the result depends on, by dotted key, as it comes back from JSON."""
    values = config.model_dump(mode="json", include=set(_SECTIONS))
    flat = flatten(values | {"scales": scales.model_dump(mode="json"), "seed": seed})
    plain: dict[str, Any] = json.loads(json.dumps(flat))
    return {key: value for key, value in plain.items() if key not in StudyConfig.FREE}


def _refuse_changes(folder: FullRunFolder, old: dict[str, Any], settings: dict[str, Any], cache: ImageCache) -> None:
    defaults = _settings(StudyConfig(), AugmentationScales(), 0)
    if changed := changes(flatten(old["settings"]), settings, defaults, StudyConfig.FREE):
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
