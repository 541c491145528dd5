"""Scoring: hide known pixels under realistic gaps, let every filler and peer fill them, and print the league.

`score(job)` does it for a source; `score_cube` for a cube, as the benches do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from geodiff.errors import InputError, JobError
from geodiff.fillers import FillerSettings, filler_names, load_filler
from geodiff.io.cube import files_closed
from geodiff.io.places import local_path, upload
from geodiff.peers import PEERS, load_peers
from geodiff.peers.null import NAME as NULL
from geodiff.progress import Progress
from geodiff.scene import open_scene
from geodiff.score.league import Row, league, remarks
from geodiff.score.pictures import as_table
from geodiff.score.running import Budget, Scored, score_cube
from geodiff.score.table import as_csv, as_text, wrapped

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.scene import Cube

__all__ = ["PEER_NAMES", "Budget", "League", "Scored", "as_text", "fillers_for", "league", "score", "score_cube"]

logger = logging.getLogger(__name__)

PEER_NAMES = (*PEERS, NULL)
"""The fixed list of peers."""


@dataclass(frozen=True)
class League:
    """A finished score of one source."""

    source: str
    scored: tuple[Scored, ...]
    tables: Mapping[str, list[Row]]
    """By variable."""
    encoder: str = ""
    """What realism was judged by; empty where it was not."""

    def facts(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {"source": self.source, "variables": {s.name: self._variable(s) for s in self.scored}}

    def _variable(self, scored: Scored) -> dict[str, Any]:
        return {
            "units": scored.units,
            "area": scored.area,
            "hidden": {"gaps": len(scored.outcomes), "pixels": sum(o.pixels for o in scored.outcomes)},
            "masks_sha256": scored.masks,
            "shapes": scored.gaps,
            "remarks": remarks(scored.outcomes),
            "peer_settings": scored.settings,
            "fit_seconds": {name: round(spent, 2) for name, spent in scored.fit_seconds.items()},
            "places": [{"place": o.place, "shape": o.shape, "pixels": o.pixels} for o in scored.outcomes],
            "rows": [row.facts() for row in self.tables[scored.name]],
            "realism": [row.as_json() for row in scored.realism],
        }

    def __str__(self) -> str:
        return "\n\n".join(self._text(scored) for scored in self.scored)

    def _text(self, scored: Scored) -> str:
        pixels = sum(o.pixels for o in scored.outcomes)
        shapes = "shapes the scene's own" if scored.gaps == "own" else scored.gaps
        title = (
            f"{scored.name}: {pixels:,} known values hidden under {len(scored.outcomes)} gaps ({shapes}); "
            f"units: {scored.units}; masks {scored.masks}"
        )
        notes = [f"note: {text}" for text in remarks(scored.outcomes)]
        if not scored.area.startswith("the whole"):
            notes.insert(0, f"note: scored on {scored.area}")
        looks = [] if self.encoder == "" else [as_table(scored.realism)]
        told = "".join(f"{wrapped(note)}\n" for note in notes)
        return "\n".join([as_text(title, self.tables[scored.name]), "", told + "\n".join(looks)]).rstrip()

    def save(self, folder: str | Path) -> list[str]:
        """Write score.json, league.csv and the pictures; with several variables, each in a folder of its own."""
        local, place = local_path(str(folder)), str(folder).rstrip("/")
        if local is not None:
            return [str(path) for path in self._saved(local)]
        with TemporaryDirectory(prefix="geodiff-upload-") as scratch:
            made = {f"{place}/{path.relative_to(scratch)}": path for path in self._saved(Path(scratch))}
            for address, path in made.items():
                upload(path, address)
        return list(made)

    def _saved(self, folder: Path) -> list[Path]:
        from geodiff.score.plots import draw_plots

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.json").write_text(json.dumps(self.facts(), indent=1) + "\n")
        paths = [folder / "score.json"]
        for scored in self.scored:
            own = folder if len(self.scored) == 1 else folder / scored.name.strip("/").replace("/", "_")
            own.mkdir(parents=True, exist_ok=True)
            (own / "league.csv").write_text(as_csv(self.tables[scored.name]))
            paths += [own / "league.csv", *draw_plots(scored.outcomes, own)]
        return paths


def fillers_for(cube: Cube, wanted: Sequence[str] | None) -> list[str]:
    """The wanted fillers, or every one that can work on the cube; raises JobError for a wanted one that cannot.

    Where none is named, a third party's that cannot be imported is left out with a warning.
    """
    stack = len(cube.variable.dates) > 1
    able = []
    for name in filler_names():
        try:
            loaded = load_filler(name)
        except JobError as reason:  # only of a third party; whoever named it is told below
            if not wanted:
                logger.warning("left out: %s", reason)
            continue
        if stack or not getattr(loaded, "needs_dates", False):
            able.append(name)
    for name in wanted or ():
        if name not in able:
            load_filler(name)
            raise JobError(
                f"--fillers {name}: it works on several dates and {cube.name} has one; choose from {', '.join(able)}"
            )
    return list(wanted) if wanted else able


@files_closed()
def score(
    job: FillJob,
    *,
    budget: Budget | None = None,
    fillers: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
    quiet: bool = False,
) -> League:
    """Score every filler and peer on a source.

    Parameters
    ----------
    job : says what is opened and how; its target, filler and members are not looked at.
    fillers, peers : restrict the lists; an empty sequence of peers leaves them out.

    Raises
    ------
    InputError : a peer is not installed, or there is too little to hide.
    """
    spent, chosen = budget or Budget(), tuple(PEER_NAMES if peers is None else peers)
    load_peers([name for name in chosen if name != NULL])
    settings = FillerSettings(job.model, 0, job.steps, job.sampler, job.device, job.dtype, job.batch)
    scored = []
    for cube in open_scene(job).cubes:
        own = fillers_for(cube, fillers)
        with Progress(
            f"scoring {cube.name}", spent.trials * (len(own) + len(chosen)), "fills", quiet=quiet
        ) as progress:
            scored.append(
                score_cube(
                    cube, spent, fillers=own, peers=chosen, settings=settings, seed=job.seed, tick=progress.advance
                )
            )
    if not scored:
        raise InputError(f"{job.source} has no continuous variable to score")
    tables = {s.name: league(s.outcomes, seed=job.seed) for s in scored}
    return League(job.source, tuple(scored), tables, spent.encoder)
