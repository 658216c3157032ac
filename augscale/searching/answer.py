"""The answer of a search: contenders compared with each other on fresh seeds, and with the network before training.

`answer_words.headline` writes the answer, or says that there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from augscale.augmentation.scales import describe
from augscale.config import StudyConfig
from augscale.records.answer import AnswerRecord, BackboneRecord, ContenderRecord, UntrainedComparison, VersusRecord
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import PanelRecord, UntrainedRecord
from augscale.records.trial import TrialRecord
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder, now, versions
from augscale.searching.answer_words import caveats, headline, sentences, unfinished_sentence
from augscale.searching.budget import unfinished_work
from augscale.searching.confirm import ConfirmationRun, complete_seeds, planned_runs, trial_name
from augscale.searching.failures import all_failed, failure_groups, failure_sentence
from augscale.searching.importance import parameter_importance
from augscale.searching.null import null_record, null_sentence
from augscale.searching.scale_card import scale_card
from augscale.searching.space import searched
from augscale.searching.study import control_of, ranked, trial_scales, trials_started
from augscale.searching.trials_table import write_trials_table
from augscale.statistics.intervals import seed_interval_t
from augscale.statistics.paired_comparisons import differences_to


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A contender, and the scores that its comparison needs."""

    record: ContenderRecord
    scores: Mapping[int, float]
    """Score on each fresh seed, keyed by the seed's number."""
    replicates: Mapping[int, Sequence[float]]
    """Bootstrap replicates of these scores over images of the panel; seeds without a bootstrap are left out."""
    search_replicates: Sequence[float] = ()
    """Bootstrap replicates of the search score."""


def write_answer(
    run: RunFolder, config: StudyConfig, study: optuna.Study, seconds: Mapping[str, float], budget: str | None = None
) -> AnswerRecord:
    """Compares the contenders and writes `answer.json`, `best.toml` and `trials.csv`.

    Args:
        run: the run folder.
        config: its settings.
        study: the Optuna study, whose workers have ended; trials that the end of a budget paused are left out.
        seconds: wall-clock time of the search by stage.
        budget: time of this call as it was given; the command that goes on repeats it.
    Returns:
        The answer; `best` is None when no trial completed without collapsing.
    """
    runs = complete_seeds(planned_runs(run, config)) if config.confirm.seeds else []
    scored = _contenders(run, config, study, runs)
    place = _best(scored)
    before = UntrainedRecord.read_if_there(run.untrained_file)
    null = null_record(run, config, before)
    untrained = versus_untrained(place, scored, before, null.gain if null else 0.0)
    contenders = _compared(scored, place)
    best = None if place is None else contenders[place]
    manifest = ManifestRecord.read(run.manifest_file)
    labelled = [dataset.name for dataset in manifest.labelled]
    importance, by_chance = parameter_importance(study, searched(config))
    trials, score = trials_started(study), config.probe.score
    null_words, unfinished = null_sentence(null, score), unfinished_work(run, config, study, budget)
    answer = AnswerRecord(
        study=config.name,
        finished=now(),
        versions=versions(),
        device=manifest.device,
        data=manifest.data,
        backbone=BackboneRecord.model_validate(config.backbone.model_dump() | {"parameters": manifest.parameters}),
        steps=config.pretrain.steps,
        batch_size=config.pretrain.batch_size,
        score_name=score,
        local_crops=config.draws_local_crops,
        labels_used=manifest.labelled,
        best=best.name if best else None,
        headline=headline(
            best,
            contenders,
            untrained,
            labelled,
            score,
            pretrained=config.backbone.init != "none",
            failures=failure_sentence(trials) if all_failed(trials) else "",
            unfinished=unfinished,
        ),
        sentences=tuple(sentences(best, contenders, untrained, score)),
        untrained=untrained,
        null=null,
        null_sentence=null_words,
        caveats=(
            *([unfinished_sentence(unfinished)] if unfinished else []),
            *caveats(config, best, contenders, labelled),
            *(() if null and null.still else (null_words,)),
            *micro_batch_caveats(run),
        ),
        contenders=tuple(contenders),
        importance=importance,
        importance_by_chance=by_chance,
        counts=dict(Counter(trial.state.name for trial in trials)),
        failures=tuple(failure_groups(trials)),
        unfinished=unfinished,
        seconds={name: round(value, 1) for name, value in seconds.items()},
    )
    answer.write(run.answer_file)
    write_trials_table(run, config, study)
    if best:
        write_text_atomic(run.best_card, scale_card(config, answer, best, manifest.data.fingerprint))
    return answer


def _contenders(
    run: RunFolder, config: StudyConfig, study: optuna.Study, runs: Sequence[ConfirmationRun]
) -> list[Scored]:
    """The confirmed trials (without confirmation, the best of the search), followed by all other controls."""
    order, started = ranked(study), {trial.number: trial for trial in trials_started(study)}
    confirmed = list(dict.fromkeys(run.number for run in runs))
    numbers = confirmed or [trial.number for trial in order[: max(1, config.confirm.top_k)]]
    numbers += [number for number, trial in started.items() if control_of(trial) and number not in numbers]
    usable = {trial.number for trial in order}
    contenders = []
    for number in numbers:
        trial = started[number]
        record = TrialRecord.in_folder(run.trial_dir(number))
        final, scales = record.final if record else None, trial_scales(config, trial)
        contender = ContenderRecord(
            name=trial_name(trial),
            kind="control" if control_of(trial) else "candidate",
            number=number,
            state=trial.state.name,
            usable=number in usable,
            scales=scales.model_dump(),
            description=describe(scales, local_crops=config.draws_local_crops),
            search_score=final.score if final else trial.value,
            search_interval=final.interval if final else None,
            health=record.health if record else None,
        )
        repeats = [repeat for repeat in runs if repeat.number == number]
        contenders.append(_confirmed(contender, repeats, final.bootstrap_scores if final else ()))
    return contenders


def _confirmed(
    contender: ContenderRecord, runs: Sequence[ConfirmationRun], search_replicates: Sequence[float]
) -> Scored:
    """Adds the scores on fresh seeds; failed and collapsed runs count as missing."""
    finals: dict[int, PanelRecord] = {}
    for confirmation in runs:
        record = confirmation.record
        final = record.final if record and record.state == "COMPLETE" else None
        if final and not (final.health and final.health.verdict == "collapsed"):
            finals[confirmation.seed_index] = final
    scores = {seed: final.score for seed, final in finals.items()}
    values = list(scores.values())
    found = {
        "confirm_scores": tuple(values),
        "confirm_missing": len(runs) - len(values),
        "confirm_mean": float(np.mean(values)) if values else None,
        "confirm_interval": seed_interval_t(values),
    }
    return Scored(
        record=contender.model_copy(update=found),
        scores=scores,
        replicates={seed: final.bootstrap_scores for seed, final in finals.items() if final.bootstrap_scores},
        search_replicates=search_replicates,
    )


def _best(contenders: Sequence[Scored]) -> int | None:
    """Index of the contender with the highest mean on fresh seeds (without confirmation, the highest search score)."""
    usable = [place for place, contender in enumerate(contenders) if contender.record.usable]
    means = {p: contenders[p].record.confirm_mean for p in usable if not contenders[p].record.confirm_missing}
    found = {place: mean for place, mean in means.items() if mean is not None}
    if not found:
        scores = {place: contenders[place].record.search_score for place in usable}
        found = {place: score for place, score in scores.items() if score is not None}
    return max(found, key=lambda place: found[place]) if found else None


def _compared(contenders: Sequence[Scored], best: int | None) -> list[ContenderRecord]:
    """The records, with each difference to the best."""
    if best is None:
        return [contender.record for contender in contenders]
    versus = differences_to(best, [c.scores for c in contenders], [c.replicates for c in contenders])
    records = []
    for place, (contender, difference) in enumerate(zip(contenders, versus, strict=True)):
        kind = contender.record.kind
        if kind == "candidate":
            kind = "best" if place == best else "runner-up"
        found = None if difference is None else VersusRecord.model_validate(difference)
        records.append(contender.record.model_copy(update={"kind": kind, "versus_best": found}))
    return records


def versus_untrained(
    place: int | None, contenders: Sequence[Scored], untrained: UntrainedRecord | None, not_learned: float
) -> UntrainedComparison | None:
    """The best minus the networks before training, on the same panel.

    Each trained network is compared with its own initial network, seed by seed, because most of the differences between
    initial networks remain after training. The interval treats the initial networks as one more contender: it covers
    seeds and images, and accounts for the best being picked among several. With fewer than two seeds, as in a search
    without confirmation, it covers images only.

    Args:
        place: index of the best contender; None if there is none.
        contenders: all contenders that were compared.
        untrained: scores of the networks before training; None if none was scored.
        not_learned: gain of the null runs, which did not learn; it is subtracted from the difference.
    """
    if place is None or untrained is None:
        return None
    best = contenders[place]
    starts: dict[int, PanelRecord] = {0: untrained}
    scores: Mapping[int, float] = {0: best.record.search_score or 0.0}
    replicates: Mapping[int, Sequence[float]] = {0: best.search_replicates}
    if best.record.confirm_scores:
        starts, scores, replicates = dict(enumerate(untrained.confirm)), best.scores, best.replicates
    shared = sorted({*starts} & {*scores})
    if not shared:
        return None
    before = {seed: starts[seed].score for seed in shared}
    images = {seed: starts[seed].bootstrap_scores for seed in shared}
    difference = float(np.mean([scores[seed] - before[seed] for seed in shared]))
    interval = None
    if len(shared) > 1:
        others = [contender for contender in contenders if contender is not best]
        found = differences_to(
            0,
            [scores, before, *(other.scores for other in others)],
            [replicates, images, *(other.replicates for other in others)],
        )[1]
        assert found is not None
        low, high = found["interval"]
        interval = -high, -low
    elif images[shared[0]] and replicates.get(shared[0]):
        gains = np.subtract(replicates[shared[0]], images[shared[0]])
        low, high = np.percentile(gains, [2.5, 97.5])
        interval = float(low), float(high)
    difference -= not_learned
    if interval is not None:
        interval = interval[0] - not_learned, interval[1] - not_learned
    return UntrainedComparison(
        score=float(np.mean([*before.values()])),
        difference=difference,
        interval=interval,
        beaten=interval[0] > 0 if interval else difference > 0,
        seeds=len(shared),
    )


def micro_batch_caveats(run: RunFolder) -> list[str]:
    """The caveat about trials and confirmation runs in which batch norm saw micro-batches of different sizes."""
    files = [*run.path.glob("trials/*/trial.json"), *run.confirm_dir.glob("*/trial.json")]
    records = [TrialRecord.read_if_there(path) for path in files]
    cuts = [record.micro_batches for record in records if record and record.micro_batches]
    sizes = sorted({cut.size for cut in cuts})
    constant = all(change.step == 1 for cut in cuts for change in cut.changes)
    if not any(cut.note for cut in cuts) or (len(sizes) == 1 and constant):
        return []
    return [
        f"Memory was short, and trials ran in different micro-batches ({', '.join(map(str, sizes))} images; "
        "micro_batches in trial.json says which and from which step on). Batch norm sees its micro-batch alone, so "
        "their scores are not strictly comparable; --max-memory, or a smaller pretrain.batch_size, makes all the same."
    ]
