"""A plausible diagnosis.json and its thumbnails: several checkpoints, one of them collapsed, or as little as asked."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&\'"`$\\frac{$ 眼底 ' + "long" * 40
LEVELS = {"strong@0.25": 1.5, "strong@0.5": 1.0, "strong": 0.6, "weak": 1.1, "weak+med": 1.2, "own of run-b": 0.9}
"""By level: d' as a multiple of the checkpoint's quality."""
QUALITY = {"run-b": 1.9, "dinov2": 1.75, "untrained": 0.7, "broken": 0.0}
GLOSSARY = {
    "dprime": ("d'", "higher", "0 to ∞", "pairs"),
    "pair_auroc": ("pair AUROC", "higher", "0 to 1", "pairs"),
    "ratio": ("negative / positive", "higher", "0 to ∞", "pairs"),
    "overlap": ("overlap", "lower", "0 to 1", "pairs"),
    "positive_mean": ("mean positive distance", "none", "0 to 2", "pairs"),
    "negative_mean": ("mean negative distance", "none", "0 to 2", "pairs"),
    "raw_positive_mean": ("mean positive distance, raw", "none", "0 to ∞", "pairs"),
    "raw_negative_mean": ("mean negative distance, raw", "none", "0 to ∞", "pairs"),
    "silhouette": ("silhouette", "higher", "−1 to 1", "clusters"),
    "davies_bouldin": ("Davies-Bouldin", "lower", "0 to ∞", "clusters"),
    "calinski_harabasz": ("Calinski-Harabasz", "higher", "0 to ∞", "clusters"),
    "recall_at_1": ("recall@1", "higher", "0 to 1", "retrieval"),
    "retrieval_error": ("retrieval error", "lower", "0 to 1", "retrieval"),
    "lidar": ("LiDAR", "higher", "1 to D", "spectrum"),
    "rankme": ("RankMe", "higher", "1 to D", "spectrum"),
    "alpha_req": ("α-ReQ", "none", "0 to ∞", "spectrum"),
    "stable_rank": ("stable rank", "none", "1 to D", "spectrum"),
    "feature_sd": ("feature SD", "none", "0 to 1", "spectrum"),
    "knn_accuracy": ("k-NN accuracy", "higher", "0 to 1", "labels"),
    "class_silhouette": ("silhouette of labels", "higher", "−1 to 1", "labels"),
}
OVERALL = ("rankme", "alpha_req", "stable_rank", "feature_sd")
LABELLED = ("knn_accuracy", "class_silhouette")


def diagnosis(
    *,
    names: tuple[str, ...] = tuple(QUALITY),
    levels: tuple[str, ...] = tuple(LEVELS),
    images: int = 96,
    labels: bool = True,
    confusions: int = 7,
    hostile: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The content of diagnosis.json.

    Args:
        names: checkpoints; those of `QUALITY` have its quality, "broken" has collapsed.
        levels: of `LEVELS`.
        images: of the panel.
        labels: whether they have one.
        confusions: listed per checkpoint.
        hostile: names, labels, notes and keys try to break out of the page.
    """
    rng = np.random.default_rng(seed)
    nasty = HOSTILE if hostile else ""
    shown = {name: nasty + name for name in names}
    found = [checkpoint(rng, name, shown[name], levels, images, labels, confusions, nasty) for name in names]
    return {
        "finished": "2025-11-24T03:22:00+00:00",
        "versions": {"python": "3.11.2", "augscale": "0.2.0", "torch": "2.14.1"},
        "seed": 0,
        "bootstrap": 200,
        "view_size": 64,
        "num_images": images,
        "num_views": 4,
        "device": "cpu",
        "data": {
            "sources": [f"photographs{nasty}"],
            "fingerprint": "8d1f0c2a",
            "num_images": 4286,
            "num_bad": 1,
            "bad": [{"path": f"broken{nasty}.jpg", "reason": "cannot be decoded"}],
            "num_patients": 2000,
            "labels": {"0": 60, "1": 36} if labels else {},
            "num_labelled": images if labels else 0,
        },
        "notes": [f"broken{nasty}: clusters were not computed, since all embeddings are the same"],
        "levels": [{"name": name, "kind": "ladder" if name.startswith("strong") else "scales"} for name in levels],
        "glossary": {
            key: {"label": label, "direction": way, "range": span, "meaning": f"What {label} says.", "group": group}
            for key, (label, way, span, group) in GLOSSARY.items()
        },
        "checkpoints": found,
        "comparisons": comparisons(found, levels),
        "images": [
            {
                "image_id": f"IDRiD_{row:03d}{nasty}.jpg",
                "label": (nasty + str(row % 5)) if labels and row % 11 else None,
                "patient": row // 2,
                "source": "photographs",
            }
            for row in range(images)
        ],
        "near_duplicates": [
            {"a": f"IDRiD_003{nasty}.jpg", "b": "IDRiD_050.jpg", "correlation": 0.9981, "same_patient": False}
        ]
        if confusions
        else [],
    }


def checkpoint(
    rng: np.random.Generator,
    name: str,
    shown: str,
    levels: tuple[str, ...],
    images: int,
    labels: bool,
    confusions: int,
    nasty: str,
) -> dict[str, Any]:
    quality, collapsed = QUALITY.get(name, 1.2), name == "broken"
    keys = [key for key in GLOSSARY if key not in OVERALL and key not in LABELLED]
    untrained = name == "untrained"
    health = {"verdict": "healthy", "evidence": ["RankMe 48.1, the limit is 4", "feature SD 0.41"], "advice": []}
    if collapsed:
        health = {
            "verdict": "collapsed",
            "evidence": ["RankMe 1.0 is below 4", f"feature SD 0.000 is below 0.01{nasty}"],
            "advice": ["Check that the keys fit: 12 % matched", "Raise the teacher's temperature or lower the rate"],
        }
    elif untrained:
        health |= {"verdict": "suspicious", "advice": ["This is the untrained network, for comparison"]}
    values, scale = overall(rng, quality, labels), rng.uniform(8, 26)
    by_level = {
        level: collapsed_level(keys) if collapsed else level_of(rng, quality * LEVELS[level], scale, keys)
        for level in levels
    }
    return {
        "name": shown,
        "path": f"/data/{name}{nasty}.pth",
        "kind": "untrained" if untrained else "augscale",
        "arch": "vit_small_patch16_224",
        "embed_dim": 384,
        "num_parameters": 21_700_000,
        "image_size": 224,
        "trained_with": None if untrained else f"strong{nasty}",
        "load": None
        if untrained
        else {
            "matched_share": 0.12 if collapsed else 1.0,
            "matched": 18 if collapsed else 150,
            "missing": [f"blocks.{i}.attn.qkv.weight{nasty}" for i in range(60)] if collapsed else [],
            "mismatched": ["pos_embed: (1, 197, 384) here, (1, 50, 384) there"] if collapsed else [],
            "unexpected": ["head.mlp.0.weight"],
        },
        "health": health,
        "levels": by_level,
        "ladder": {"metrics": on_ladder(by_level)},
        "overall": {key: nothing("all embeddings are the same") for key in values} if collapsed else values,
        "spectrum": [1.0, *[0.0] * 63] if collapsed else spectrum(rng, quality),
        "confusions": confused(rng, images, levels, 0 if collapsed else confusions),
        "maps": maps(rng, quality, images, levels),
    }


def level_of(rng: np.random.Generator, dprime: float, scale: float, keys: list[str]) -> dict[str, Any]:
    negative = np.clip(rng.normal(1.3, 0.12, 20_000), 0, 2)
    positive = np.clip(rng.normal(1.3 - 0.13 * dprime, 0.14, 1500), 0, 2)
    edges, raw_edges = np.linspace(0, 2, 81), np.linspace(0, 2 * scale, 81)
    auroc = 0.5 * (1 + math.erf(dprime / 2))
    values = dict.fromkeys(keys, 0.5) | {
        "dprime": dprime,
        "pair_auroc": auroc,
        "ratio": float(negative.mean() / positive.mean()),
        "overlap": 1 - 0.8 * auroc,
        "positive_mean": float(positive.mean()),
        "negative_mean": float(negative.mean()),
        "raw_positive_mean": float(positive.mean() * scale),
        "raw_negative_mean": float(negative.mean() * scale),
        "silhouette": 0.11 * dprime,
        "calinski_harabasz": 1234.5 * dprime,
        "davies_bouldin": 4 - dprime,
        "recall_at_1": min(0.98, 0.4 * dprime),
        "retrieval_error": max(0.02, 1 - 0.4 * dprime),
        "lidar": 30 * dprime,
    }
    return {
        "metrics": {key: metric(value) for key, value in values.items()},
        "positive_histogram": np.histogram(positive, edges)[0].tolist(),
        "negative_histogram": np.histogram(negative, edges)[0].tolist(),
        "histogram_edges": edges.tolist(),
        "raw_positive_histogram": np.histogram(positive * scale, raw_edges)[0].tolist(),
        "raw_negative_histogram": np.histogram(negative * scale, raw_edges)[0].tolist(),
        "raw_histogram_edges": raw_edges.tolist(),
    }


def on_ladder(by_level: dict[str, Any]) -> dict[str, Any]:
    """Mean over the ladder with an interval, as far as there is a number."""
    rungs = [by_level[level]["metrics"] for level in by_level if level.startswith("strong")]
    found = {}
    for key in rungs[0] if rungs else ():
        values = [metrics[key]["value"] for metrics in rungs]
        found[key] = rungs[0][key] if None in values else metric(sum(values) / len(values))
    return found


def collapsed_level(keys: list[str]) -> dict[str, Any]:
    edges = np.linspace(0, 2, 81).tolist()
    counts = [1500, *[0] * 79]
    metrics = {key: nothing("all embeddings are the same") for key in keys}
    metrics |= {"positive_mean": metric(0.0), "negative_mean": metric(0.0), "retrieval_error": metric(0.0)}
    histograms = {"positive_histogram": counts, "negative_histogram": counts, "histogram_edges": edges}
    return {"metrics": metrics} | histograms | {f"raw_{key}": value for key, value in histograms.items()}


def metric(value: float) -> dict[str, Any]:
    reach = 0.06 * abs(value)
    return {"value": value, "interval": [value - reach, value + reach], "reason": None}


def nothing(reason: str) -> dict[str, Any]:
    return {"value": None, "interval": None, "reason": reason}


def overall(rng: np.random.Generator, quality: float, labels: bool) -> dict[str, Any]:
    values = {
        "rankme": 25 * quality + rng.uniform(0, 5),
        "alpha_req": 1.1,
        "stable_rank": 4 * quality,
        "feature_sd": 0.2 * quality,
    }
    values |= {"knn_accuracy": 0.4 + 0.1 * quality, "class_silhouette": -0.02} if labels else {}
    return {key: metric(value) for key, value in values.items()}


def spectrum(rng: np.random.Generator, quality: float) -> list[float]:
    shares = np.arange(1, 257) ** -(2.6 - quality / 2) * rng.uniform(0.95, 1.05, 256)
    return np.sort(shares / shares.sum())[::-1].tolist()


def confused(rng: np.random.Generator, images: int, levels: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    rows = []
    for index in range(count):
        a, b = 2 * rng.choice(images // 2, 2, replace=False)
        distance = 0.4 + 0.02 * index
        places = {"a": int(a), "b": int(b), "level": levels[0]}
        rows.append(places | {"distance": distance, "own_distance": distance + 0.2})
    return rows


def maps(rng: np.random.Generator, quality: float, images: int, levels: tuple[str, ...]) -> dict[str, Any]:
    def places(count: int) -> list[list[float]]:
        return (rng.normal(size=(count, 2)) * 10 * (quality > 0)).round(3).tolist()

    groups = min(24, images)
    rows = np.repeat(np.arange(groups), 6)
    views = (rng.normal(size=(groups, 2)) * 10)[rows] + rng.normal(size=(len(rows), 2)) * 3 / max(quality, 0.1)
    grouped = {"xy": (views * (quality > 0)).round(3).tolist(), "image": rows.tolist(), "level": levels[0]}
    return {
        "views_tsne": grouped,
        "views_pca": grouped,
        "images_tsne": {"xy": places(images)},
        "images_pca": {"xy": places(images)},
    }


def comparisons(found: list[dict[str, Any]], levels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every pair of checkpoints with numbers: apart where their difference is above 0.3."""
    rows = []
    ladder = [level for level in levels if level.startswith("strong")] or list(levels)
    for key, reach in (("dprime", 0.3), ("pair_auroc", 0.04)):
        means = {}
        for entry in found:
            values = [entry["levels"][level]["metrics"][key]["value"] for level in ladder]
            if None not in values:
                means[entry["name"]] = sum(values) / len(values)
        names = list(means)
        for index, a in enumerate(names):
            for b in names[index + 1 :]:
                difference = means[a] - means[b]
                rows.append(
                    {
                        "level": "ladder",
                        "metric": key,
                        "a": a,
                        "b": b,
                        "difference": difference,
                        "interval": [difference - reach, difference + reach],
                        "distinguishable": abs(difference) > reach,
                    }
                )
    return rows


def thumbnails(images: int = 96, side: int = 96) -> dict[int, bytes]:
    """A disc in another colour for each row, JPEG."""
    found = {}
    for row in range(images):
        picture = Image.new("RGB", (side, side), "black")
        color = (150 + row % 100, 60 + (7 * row) % 90, 20 + (13 * row) % 60)
        draw = ImageDraw.Draw(picture)
        draw.ellipse((4, 4, side - 4, side - 4), fill=color)
        draw.ellipse((20 + row % 40, 30, 34 + row % 40, 44), fill=(240, 210, 140))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        found[row] = buffer.getvalue()
    return found
