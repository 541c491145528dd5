"""RestoreJob: everything one restoration needs to know, validated once."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from geodiff.errors import JobError
from geodiff.job import FillJob, as_list, assert_zarr_format, spelled, without_places, wrong

__all__ = ["RestoreJob"]

_TASKS = ("denoise", "superres", "inpaint")
_HOW = {"target", "overwrite"}
"""Fields that cannot change a pixel."""
_FILL = (
    "source", "target", "variable", "bands", "qa", "mask", "fillable", "nodata", "valid_range", "buffer", "detect",
    "model", "members", "seed", "steps", "device", "dtype", "zarr_format", "overwrite",
)  # fmt: skip
"""Fields that mean what they mean in a fill."""


class RestoreJob(BaseModel):
    """One `geodiff restore`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    source: str = Field(description="anything `fill` takes")
    target: str = Field(description="product to write: .tif, .zarr, .nc, .png, .xml (PDS4) or a folder ending in /")
    task: tuple[Literal["denoise", "superres", "inpaint"], ...] = Field(
        description="what to do: denoise, superres, inpaint, or several of them"
    )
    noise: float | None = Field(None, gt=0, description="standard deviation of the noise; default estimated by band")
    poisson: float | None = Field(None, gt=0, description="units of the variable per photon")
    factor: Literal[2, 4] | None = Field(None, description="upscaling factor of superres; default 2")
    variable: tuple[str, ...] = Field((), description="variables to restore; default all")
    bands: tuple[str, ...] = Field((), description="band numbers (from 1) or names; default all continuous")
    qa: tuple[str, ...] = Field(("auto",), description="quality flags: PRESET[:PATH or band], auto or none")
    mask: tuple[str, ...] = Field((), description="raster (nonzero) or vector (inside) files that mark missing pixels")
    fillable: str = Field("auto", description="where inpainting is allowed: auto, all, or a raster or vector file")
    nodata: float | None = Field(None, description="a stored value that means missing, in addition to the file's own")
    valid_range: tuple[float, float] | None = Field(None, description="physical bounds A,B of the variable")
    buffer: int = Field(0, ge=0, le=256, description="dilate gaps by this many pixels")
    detect: tuple[str, ...] = Field((), description="damage to detect that no mask marks")
    model: str = Field("default", description="model folder, or the name of a shipped one")
    members: int = Field(4, ge=0, le=1000, description="ensemble members to draw (default 4)")
    seed: int = Field(0, description="random seed of the members")
    steps: int = Field(10, ge=4, le=1000, description="network calls per member (at least 4)")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="where the network runs")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="number format of the network")
    zarr_format: Literal[2, 3] = Field(3, description="2 for programs with GDAL before 3.13")
    overwrite: bool = Field(False, description="replace TARGET")

    _lists = field_validator("variable", "bands", "qa", "mask", "detect", mode="before")(as_list)

    @field_validator("task", mode="before")
    @classmethod
    def _tasks_of_words(cls, task: Any) -> Any:
        """Words with commas or a list; each once, in the order in which they are done."""
        words = [w.strip() for w in task.split(",")] if isinstance(task, str) else list(task)
        for word in words:
            if word not in _TASKS:
                raise ValueError(f"there is no task {word!r}; name one or several of {', '.join(_TASKS)}")
        if not words:
            raise ValueError(f"nothing to do; name one or several of {', '.join(_TASKS)}")
        return tuple(t for t in _TASKS if t in words)

    @model_validator(mode="after")
    def _options_belong_to_tasks(self) -> RestoreJob:
        assert_zarr_format(self.target, self.zarr_format)
        for option, task in {"noise": "denoise", "poisson": "denoise", "factor": "superres"}.items():
            if getattr(self, option) is not None and task not in self.task:
                raise ValueError(f"--{option} belongs to {task}; use --task {','.join((task, *self.task))}")
        return self

    @property
    def denoises(self) -> bool:
        return "denoise" in self.task

    @property
    def inpaints(self) -> bool:
        return "inpaint" in self.task

    @property
    def enlargement(self) -> int:
        """Pixels of the product a side for one of the source."""
        return (self.factor or 2) if "superres" in self.task else 1

    @property
    def only_inpaints(self) -> bool:
        """Every known pixel is exact: the fillers of `geodiff fill` know more about such gaps."""
        return self.task == ("inpaint",)

    @property
    def scene(self) -> FillJob:
        """The fill of the same gaps: how the source is opened, and what is done where nothing but gaps is restored."""
        return FillJob.build(**{name: getattr(self, name) for name in _FILL})

    def fingerprint(self, *identities: str) -> str:
        """SHA-256 over what can change a pixel and the given identities (source content, model, version)."""
        chosen = without_places(self.model_dump(mode="json", exclude=_HOW))
        return hashlib.sha256(json.dumps(["restore", chosen, *identities], sort_keys=True).encode()).hexdigest()

    def command(self) -> str:
        """The command line that gives these pixels, options at their defaults left out."""
        return spelled("restore", self, {"overwrite"})

    @classmethod
    def build(cls, **fields: Any) -> RestoreJob:
        """A validated job; raises JobError with one line per wrong field."""
        try:
            job = cls(**fields)
        except ValidationError as error:
            raise JobError(wrong("restore", error)) from None
        assert job.scene  # what a fill refuses is refused here
        return job
