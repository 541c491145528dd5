"""What a training says of itself: a CSV log, TensorBoard where asked for, and whether it still learns or overfits."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodiff.errors import InputError

__all__ = ["LOG", "SCORES", "TENSORBOARD", "Journal", "Verdict"]

LOG, SCORES, TENSORBOARD = "log.csv", "scores.csv", "tensorboard"

_TOLERANCE = 0.002
"""Relative change of the mean score that is taken for noise."""


class Verdict:
    """Follows the mean validation score: lower is better."""

    def __init__(self) -> None:
        self.best = float("inf")
        self.since = 0
        """Validations since the best one."""
        self._training: list[float] = []

    @classmethod
    def after(cls, folder: Path, step: int) -> Verdict:
        """Of the finished validations up to a step in a folder's scores.csv; none where there is no such file."""
        verdict, told = cls(), dict[str, dict[str, dict[str, float]]]()
        path = folder / SCORES
        rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
        whole = {row["step"] for row in rows if row["part"] == "verdict"}  # a killed run leaves some scores of one
        for row in rows:
            if int(row["step"]) <= step and row["step"] in whole and row["part"] != "verdict":
                told.setdefault(row["step"], {}).setdefault(row["part"], {})[row["name"]] = float(row["score"])
        for parts in told.values():
            verdict.add(parts.get("validation", {}), parts.get("training", {}))
        return verdict

    def add(self, validation: Mapping[str, float], training: Mapping[str, float]) -> str:
        """`better`, `level`, `worse`, or `overfitting`: worse than the best while training still improves."""
        score, seen = _mean(validation), _mean(training)
        self._training.append(seen)
        if score < self.best * (1 - _TOLERANCE):
            self.best, self.since = score, 0
            return "better"
        self.since += 1
        if score <= self.best * (1 + _TOLERANCE):
            return "level"
        learning = len(self._training) > 1 and seen < min(self._training[:-1])
        return "overfitting" if learning and self.since >= 2 else "worse"


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / max(len(scores), 1)


class Journal:
    """log.csv of steps and scores.csv of validations in a folder; appended to when a training is resumed.

    Steps beyond the one that it goes on from, which a killed run had told of, are taken out: they come again.
    """

    def __init__(self, folder: Path, *, after: int = 0, tensorboard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        _cut(folder / LOG, after)
        self._writer: Any = _tensorboard(folder, after) if tensorboard else None

    def close(self) -> None:
        """Write what TensorBoard's thread still holds, and end it."""
        if self._writer is not None:
            self._writer.close()

    def step(self, step: int, facts: Mapping[str, float]) -> None:
        """One row of means since the last."""
        self._append(LOG, {"step": step, **facts})
        self._tell(step, facts)

    def scores(self, step: int, validation: Mapping[str, float], training: Mapping[str, float], verdict: str) -> None:
        """One row a score: which part, its name and number."""
        for part, scores in (("validation", validation), ("training", training)):
            for name, score in scores.items():
                self._append(SCORES, {"step": step, "part": part, "name": name, "score": score})
        self._append(SCORES, {"step": step, "part": "verdict", "name": verdict, "score": ""})
        self._tell(step, {f"validation/{name}": score for name, score in validation.items()})

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        path = self._folder / name
        new = not path.exists()
        with path.open("a", newline="") as opened:
            writer = csv.DictWriter(opened, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _tell(self, step: int, facts: Mapping[str, float]) -> None:
        for name, number in facts.items() if self._writer is not None else ():
            self._writer.add_scalar(name, number, step)


def _cut(path: Path, step: int) -> None:
    """Take the rows of later steps out of a log."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if not line[:1].isdigit() or int(line.partition(",")[0]) <= step]
    if kept != lines:
        path.write_text("".join(kept))


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard = true needs the tensorboard package; pip install tensorboard, or leave it out"
        ) from None
    return SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1 if step else None)
