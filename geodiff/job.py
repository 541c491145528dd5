"""FillJob: everything one fill needs to know, validated once.

The same object is the command line's options, the TOML job file, the Prefect form and what workers receive. Fields that
can change a pixel enter the fingerprint; fields that only say how the work is done do not.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from geodiff.codes import CODES
from geodiff.credentials import redacted
from geodiff.errors import JobError
from geodiff.samplers import check_sampler

__all__ = [
    "REPEATED",
    "FillJob",
    "Gate",
    "as_fields",
    "as_list",
    "parse_gates",
    "spelled",
    "without_places",
    "wrong",
]

GATES = {
    "coverage90": "share of hidden known pixels inside value +- 1.645 standard errors",
    "unfilled": "share of the gap pixels that stayed unfilled",
    "seam": "mean gradient across window edges over mean gradient elsewhere, beyond what chance explains",
}
_GATE = re.compile(r"^\s*(\w+)\s*(>=|<=)\s*([0-9.eE+-]+)\s*$")
_HOW = frozenset(
    {"block_size", "workers", "scheduler", "work", "dry_run", "overwrite", "append", "refit", "report", "stac", "gate"}
    | {"target", "fail_if_empty", "batch"}
)
"""Fields that cannot change a pixel."""
_DEVICES = "choose auto, cpu, cuda, cuda:1 (or another number) or mps"
"""For the one field with a pattern."""
REPEATED = ("qa", "mask")
"""Options that are given once for each of their values, which may have commas of their own."""
_SEVERAL = ("variable", "bands", "detect", "quantiles", "valid_range")
"""Options of which one text gives several, apart by commas."""


class Gate(BaseModel):
    """One bound on the finished product, such as coverage90 >= 0.85."""

    model_config = ConfigDict(frozen=True)

    figure: str
    relation: Literal[">=", "<="]
    bound: float

    def holds(self, measured: float) -> bool:
        """Whether the measured figure respects the bound."""
        return measured >= self.bound if self.relation == ">=" else measured <= self.bound


def parse_gates(text: str | None) -> tuple[Gate, ...]:
    """`"coverage90>=0.85,seam<=1.05"` to gates; JobError names what cannot be measured."""
    gates = []
    for part in filter(None, (text or "").split(",")):
        match = _GATE.match(part)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:  # digits and signs in an order that is no number
            bound = math.nan
        if not match or match[1] not in GATES or math.isnan(bound):
            raise JobError(f"{part.strip()} is not FIGURE>=BOUND or FIGURE<=BOUND; figures: {', '.join(GATES)}")
        gates.append(Gate(figure=match[1], relation=match[2], bound=bound))
    return tuple(gates)


def as_list(given: Any) -> Any:
    """What a job file may write for a list: one value alone, and bands by number.

    >>> as_list("landsat-c2"), as_list([1, "red"])
    (('landsat-c2',), ('1', 'red'))
    """
    several = given if isinstance(given, (list, tuple)) else (given,)
    return tuple(str(each) if type(each) is int else each for each in several)


def as_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """What Python functions are given as fields of a job: paths as text, words of one text apart, no None.

    >>> as_fields({"mask": Path("a,b.tif"), "bands": "1, red", "qa": ["hls-fmask"], "work": None})
    {'mask': ('a,b.tif',), 'bands': ('1', 'red'), 'qa': ('hls-fmask',)}
    """
    return {name: _as_field(name, value) for name, value in options.items() if value is not None}


def _as_field(name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(str(each) if isinstance(each, PathLike) else each for each in value)
    value = str(value) if isinstance(value, PathLike) else value
    if name in _SEVERAL and isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return (value,) if name in (*_SEVERAL, *REPEATED) else value


def _clouds_need_a_detector(name: Any) -> Any:
    if name == "clouds":
        raise ValueError(
            "clouds cannot be found without a named detector (s2cloudless with its 10 bands); "
            "give the product's own flags with --qa or a mask with --mask"
        )
    return name


_Damage = Literal["dropouts", "stripes", "reseau", "hotpixels"]


class FillJob(BaseModel):
    """One `geodiff fill`: its source, its target, and every option of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    source: str = Field(description="raster, Zarr store, scene folder, directory or glob, STAC item, or URL to fill")
    target: str = Field(description="product to write: .tif, .zarr, .nc, .png, .xml (PDS4) or a folder ending in /")
    variable: tuple[str, ...] = Field((), description="variables to fill; default every continuous one with gaps")
    bands: tuple[str, ...] = Field((), description="band numbers (from 1) or names to fill; default all continuous")
    dates: str | None = Field(None, description="fill only these dates, D[,D..] or A:B; the others stay context")
    qa: tuple[str, ...] = Field(("auto",), description="quality flags: PRESET[:PATH or band], auto or none")
    mask: tuple[str, ...] = Field((), description="raster (nonzero) or vector (inside) files that mark missing pixels")
    fillable: str = Field("auto", description="where filling is allowed: auto, all, or a raster or vector file")
    nodata: float | None = Field(None, description="a stored value that means missing, in addition to the file's own")
    valid_range: tuple[float, float] | None = Field(None, description="physical bounds A,B of the variable")
    buffer: int = Field(0, ge=0, le=256, description="dilate gaps by this many pixels")
    detect: tuple[Annotated[_Damage, BeforeValidator(_clouds_need_a_detector)], ...] = Field(
        (), description="damage to detect that no mask marks"
    )
    resolution: float | None = Field(None, gt=0, description="ground resolution for scenes with bands on several grids")
    filler: str = Field("auto", description="auto, diffusion, a classical filler or a registered one")
    model: str = Field("default", description="model folder, or the name of a shipped one")
    members: int | None = Field(
        None, ge=0, le=1000, description="ensemble members; default 4, with a classical filler 0"
    )
    product: Literal["value", "member"] = Field("value", description="what TARGET itself holds")
    seed: int = Field(0, description="random seed of the members")
    steps: int = Field(10, ge=4, le=1000, description="network calls per member (at least 4)")
    sampler: str = Field("edm-dpm2m", description="a tested diffusers scheduler")
    max_error: float | None = Field(
        None, gt=0, description="leave a pixel missing where its standard error exceeds this"
    )
    gate: str | None = Field(None, description='refuse the product unless, e.g., "coverage90>=0.85,unfilled<=0.02"')
    quantiles: tuple[float, ...] = Field((), description="also write these quantile layers")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="where the network runs")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="number format of the network")
    block_size: int | None = Field(None, ge=1, description="smallest unit of I/O in pixels")
    workers: int | None = Field(
        None,
        ge=0,
        description="local processes; 0, the default of the command line: as many as fit, if that saves time",
    )
    scheduler: str | None = Field(None, description="address of an existing Dask cluster")
    batch: int = Field(8, ge=1, le=1024, description="windows x bands x members per network call on a GPU")
    work: str | None = Field(None, description="folder for the working store; default beside TARGET")
    zarr_format: Literal[2, 3] = Field(3, description="2 for programs with GDAL before 3.13")
    dry_run: bool = Field(False, description="print the plan only")
    overwrite: bool = Field(False, description="replace TARGET")
    append: bool = Field(False, description="extend TARGET with new dates, using the fit stored with it")
    refit: bool = Field(False, description="with append: fit again, and refill all gaps")
    fail_if_empty: bool = Field(False, description="exit with 4 if there is nothing to fill")
    report: str | None = Field(None, description="HTML report to write: a file, or a folder ending in /")
    stac: str | None = Field(None, description="STAC Item JSON to write")

    _lists = field_validator("variable", "bands", "qa", "mask", "detect", "quantiles", mode="before")(as_list)

    @field_validator("quantiles")
    @classmethod
    def _between_0_and_1(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        for q in quantiles:
            if not 0.0 < q < 1.0:
                raise ValueError(f"quantile {q} is not between 0 and 1; write 5 % as 0.05")
        if len(set(quantiles)) < len(quantiles):  # a coordinate that nothing could be selected by
            raise ValueError("a quantile is there twice; name each once")
        return quantiles

    @field_validator("valid_range")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError("the range is empty; give the lower bound first")
        return bounds

    @field_validator("sampler")
    @classmethod
    def _sampler_is_there(cls, sampler: str) -> str:
        try:
            check_sampler(sampler)
        except JobError as error:
            raise ValueError(str(error)) from None
        return sampler

    @field_validator("gate")
    @classmethod
    def _gate_parses(cls, gate: str | None) -> str | None:
        try:
            parse_gates(gate)
        except JobError as error:
            raise ValueError(str(error)) from None
        return gate

    @model_validator(mode="after")
    def _zarr_format_belongs_to_zarr(self) -> FillJob:
        assert_zarr_format(self.target, self.zarr_format)
        return self

    @model_validator(mode="after")
    def _member_product_needs_members(self) -> FillJob:
        if self.product == "member" and not self.draws_members:
            raise ValueError(f"--product member: --filler {self.filler} draws no members; use auto or diffusion")
        if self.product == "member" and self.drawn_members == 0:
            raise ValueError("--product member needs at least one member; use --members 1 or more")
        if self.members and not self.draws_members:
            raise ValueError(f"--filler {self.filler} draws no members; use --members 0, or --filler auto or diffusion")
        return self

    @property
    def draws_members(self) -> bool:
        """Whether the filler can draw realisations; registered ones may, built-in classical ones do not."""
        return self.filler in ("auto", "diffusion") or self.filler not in CODES

    @property
    def drawn_members(self) -> int:
        """How many members to draw and write."""
        if self.members is None:
            return 4 if self.filler in ("auto", "diffusion") else 0
        return self.members

    @property
    def layers(self) -> tuple[str, ...]:
        """What the layers beside a value are called behind its name."""
        more = [name for name, given in (("member", self.drawn_members), ("quantile", self.quantiles)) if given]
        return ("source", "reason", "standard_error", *more)

    @property
    def gates(self) -> tuple[Gate, ...]:
        return parse_gates(self.gate)

    def pixels(self) -> dict[str, Any]:
        """The fields that can change a pixel, with defaults resolved; the job's part of the fingerprint."""
        chosen = self.model_dump(mode="json", exclude=set(_HOW))
        return {**chosen, "source": redacted(self.source), "members": self.drawn_members}

    def fingerprint(self, *identities: str) -> str:
        """SHA-256 over what can change a pixel and the given identities (content of all files, model, version)."""
        text = json.dumps([without_places(self.pixels()), *identities], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def command(self) -> str:
        """The command line that gives these pixels, options at their defaults left out."""
        return spelled("fill", self, _HOW - {"target", "gate"})

    @classmethod
    def build(cls, **fields: Any) -> FillJob:
        """A validated job; raises JobError with one line per wrong field."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise JobError(wrong("fill", error)) from None

    @classmethod
    def from_toml(cls, path: str | Path, **overrides: Any) -> FillJob:
        """The job a TOML file describes, with overrides from the command line on top."""
        try:
            fields = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows begins files with a mark
        except (OSError, ValueError, RecursionError) as error:  # endless numbers and nests among them
            why = error.strerror if isinstance(error, OSError) else f"{error}; it has to be TOML"
            raise JobError(f"cannot read the job file {path}: {why}; `geodiff init` writes a commented one") from None
        return cls.build(**{**fields, **overrides})


def without_places(pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job without where its files are: their content decides, however the way to it is spelt.

    >>> without_places({"source": "a.tif", "mask": ["b.gpkg"], "fillable": "c.tif", "qa": ["auto", "pds:4"], "seed": 1})
    {'mask': 1, 'fillable': 'file', 'qa': ['auto', 'pds'], 'seed': 1}
    """
    bare = {name: value for name, value in pixels.items() if name != "source"}
    bare["mask"] = len(pixels["mask"])
    bare["fillable"] = pixels["fillable"] if pixels["fillable"] in ("auto", "all") else "file"
    bare["qa"] = [text.partition(":")[0] for text in pixels["qa"]]
    return bare


def spelled(verb: str, job: BaseModel, without: Collection[str]) -> str:
    """The command line of a job, as a shell reads it: options at their defaults and those of `without` left out."""
    default = {name: field.default for name, field in type(job).model_fields.items()}
    fields = job.model_dump(exclude=set(without))
    words = ["geodiff", verb, fields.pop("source"), fields.pop("target")]
    for name, value in fields.items():
        given = (value or ("none",)) if name in REPEATED else (value,)
        if value != default[name]:
            words += [word for each in given for word in (f"--{name.replace('_', '-')}", _as_word(each))]
    return shlex.join(map(redacted, words))


def _as_word(value: Any) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def wrong(verb: str, error: ValidationError) -> str:
    """Every field that a verb's job cannot take, in one line: `--field value: reason`."""
    return "; ".join(_lines(verb, error.errors()))


def assert_zarr_format(target: str, zarr_format: int) -> None:
    """Raise ValueError where an older format is asked for of what is no Zarr store."""
    if zarr_format != 3 and not target.rstrip("/").endswith(".zarr"):
        raise ValueError(f"--zarr-format {zarr_format} is for a Zarr store, which {target} is none; leave it out")


def _lines(verb: str, errors: Sequence[Any]) -> list[str]:
    """Pydantic's errors, one line each; what is not given at all in one line together."""
    absent = [_spelled_name(e["loc"][0]) for e in errors if e["type"] == "missing" and len(e["loc"]) == 1]
    be, them = ("are", "them") if len(absent) > 1 else ("is", "it")
    file = ", or a job file with --job" if verb == "fill" else ""
    first = [f"{' and '.join(absent)} {be} missing; give {them}{file}"] if absent else []
    return first + [_one_line(verb, e) for e in errors if e["type"] != "missing" or len(e["loc"]) > 1]


def _spelled_name(field: object) -> str:
    return str(field).upper() if field in ("source", "target") else f"--{field}"


def _one_line(verb: str, error: Any) -> str:
    """One pydantic error as `--field value: reason`."""
    where = str(error["loc"][0]) if error["loc"] else ""
    option = f"--{where.replace('_', '-')}"
    if where == "valid_range" and error["type"] in ("missing", "tuple_type", "too_long"):
        return f"{option} {_as_word(error['input'])} is not two numbers; give A,B, such as 0,10000"
    if error["type"] == "extra_forbidden":
        return f"{option} {error['input']!r}: there is no such option; `geodiff {verb} --help` lists them"
    reason = error["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    if error["type"] == "string_pattern_mismatch":
        reason = _DEVICES
    return f"{option} {_as_word(error['input'])}: {reason}" if where else reason
