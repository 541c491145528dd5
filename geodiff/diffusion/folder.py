"""Model folders: found by name, checked before anything in them is loaded, known by the hash of their weights.

Only safetensors and JSON are read. A folder that holds pickles or Python, or asks for remote code, is refused: loading
either would run whatever its author put there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geodiff.diffusion.fields import CHANNELS
from geodiff.errors import ModelError, TargetError

__all__ = [
    "RESTORED",
    "Calibration",
    "assert_replaceable",
    "check_folder",
    "find_folder",
    "model_hash",
    "put_back",
    "put_in_place",
    "read_calibration",
    "stored_hash",
    "weights_path",
]

RESTORED = ("denoise", "superres2", "superres4", "hole")
"""Kinds of pixel in a restored frame; each has its own calibration."""
_MODELS = Path(__file__).parent.parent / "models"
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".joblib", ".msgpack", ".h5"}
_HASH = re.compile(r"^\s*weights_sha256:\s*([0-9a-f]{64})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes the network's intervals hold, by distance to data; belongs to one sampler and number of steps."""

    factors: tuple[float, ...] = (1.0,) * 5
    """On the value's standard error: distances <= 2, 2-4, 4-8, 8-16 and more pixels."""
    spread: tuple[float, ...] = (1.0,) * 5
    """On the members' departures, once `fillers.members.matched` made them as wide as the value's own; same classes."""
    sampler: str = "edm-dpm2m"
    steps: int = 10
    restore_factors: tuple[float, ...] = (1.0,) * 4
    """On the standard error of restored pixels, in the order of `RESTORED`."""
    restore_spread: tuple[float, ...] = (1.0,) * 4

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Calibration:
        """From JSON; unknown names are refused."""
        try:
            return cls(**{name: _plain(value) for name, value in facts.items()})
        except TypeError as reason:
            raise ModelError(
                f"the model's calibration cannot be read ({reason}); run geodiff model calibrate"
            ) from reason

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return stored


def _plain(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(_plain(part) for part in value) if isinstance(value, list | tuple) else value


def find_folder(model: str | Path) -> Path:
    """The folder of a shipped model's name, or of a path; raises ModelError."""
    path = Path(model)
    shipped = _MODELS / str(model)
    if len(path.parts) == 1 and shipped.is_dir():
        return shipped
    if not path.is_dir():
        names = ", ".join(sorted(p.name for p in _MODELS.iterdir() if p.is_dir())) if _MODELS.is_dir() else ""
        raise ModelError(f"no model folder {str(model)!r}; give the path of one, or a shipped name: {names}")
    return path


def assert_replaceable(out: Path, *, overwrite: bool) -> None:
    """Raise TargetError where something is there that is not to be replaced: other than models never is."""
    if not out.exists():
        return
    if not overwrite:
        raise TargetError(f"{out} already exists; use --overwrite, or name another folder")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "model_index.json").is_file()):
        raise TargetError(f"{out} is not a model folder, and --overwrite would destroy its contents; give another name")


def put_in_place(new: Path, out: Path) -> None:
    """Two renames: at every moment there is a whole model at one of the two places, and `put_back` knows both."""
    was = _was(out)
    shutil.rmtree(was, ignore_errors=True)
    if out.exists():
        out.rename(was)
    new.rename(out)
    shutil.rmtree(was, ignore_errors=True)


def put_back(out: Path) -> None:
    """Give back the model that a kill between the two renames took away; nothing where one is there."""
    if _was(out).is_dir() and not out.exists():
        _was(out).rename(out)


def _was(out: Path) -> Path:
    return out.with_name(f".{out.name}.was")


def check_folder(folder: Path) -> None:
    """Raise ModelError unless the folder is complete, harmless, and its weights are those its card names."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in _PICKLES:
            raise ModelError(
                f"{folder} holds {path.name}, which can run code when loaded; only .safetensors weights are read"
            )
        if path.suffix == ".py":
            raise ModelError(
                f"{folder} holds the script {path.name}; a model folder with code of its own is not loaded"
            )
        if path.suffix == ".json":
            _refuse_remote_code(path)
    _check_hash(folder)
    _check_whole(folder)
    _check_channels(folder)


def _check_whole(folder: Path) -> None:
    """Raise ModelError for weights that are damaged or cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights_path(folder), "np"):
            pass
    except SafetensorError as reason:
        raise ModelError(f"the weights in {folder} cannot be read ({reason}); fetch the model again") from reason


def _check_channels(folder: Path) -> None:
    """Raise ModelError for a network that looks at other planes than fillers make, as one of another version may."""
    looks = read_layout(folder).get("context", CHANNELS)
    if list(looks) != list(CHANNELS):
        apart = ", ".join(sorted(set(looks) ^ set(CHANNELS))) or "their order"
        raise ModelError(
            f"the model in {folder} looks at other channels than this version of geodiff shows it ({apart}); train it "
            "anew, or use the version that it was made with"
        )


def _refuse_remote_code(path: Path) -> None:
    facts = _json(path)
    wanting = {"auto_map", "custom_pipeline", "trust_remote_code"} & set(facts)
    named = [v for v in facts.values() if isinstance(v, list) and len(v) == 2 and isinstance(v[0], str)]
    foreign = [
        v[0] for v in named if path.name == "model_index.json" and v[0].split(".")[0] not in ("geodiff", "diffusers")
    ]
    if wanting or foreign:
        reason = ", ".join(sorted(wanting | set(foreign)))
        raise ModelError(f"{path} asks for code from elsewhere ({reason}); remove it, or use a model that needs none")


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as reason:
        raise ModelError(f"{path} is not valid JSON ({reason}); fetch the model again") from reason
    return facts if isinstance(facts, dict) else {}


def weights_path(folder: Path) -> Path:
    """The network's safetensors file; raises ModelError where it is missing."""
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if not path.is_file():
        raise ModelError(f"{folder} has no unet/{path.name}; it is not a geodiff model folder")
    return path


def model_hash(folder: Path) -> str:
    """SHA-256 of the weights."""
    return hashlib.sha256(weights_path(folder).read_bytes()).hexdigest()


def stored_hash(folder: Path) -> str | None:
    """What the card says the hash is."""
    card = folder / "README.md"
    found = _HASH.search(card.read_text()) if card.is_file() else None
    return found.group(1) if found else None


def _check_hash(folder: Path) -> None:
    said, is_so = stored_hash(folder), model_hash(folder)
    if said is not None and said != is_so:
        raise ModelError(
            f"the weights in {folder} have SHA-256 {is_so[:12]}..., its card says {said[:12]}...; fetch the model again"
        )


def read_layout(folder: Path) -> dict[str, Any]:
    """What the network is built from, as keywords of `unet.UNet`: its configuration without diffusers' own entries."""
    return {name: value for name, value in _json(folder / "unet" / "config.json").items() if not name.startswith("_")}


def read_calibration(folder: Path) -> Calibration:
    """The calibration in model_index.json; neutral where there is none."""
    facts = _json(folder / "model_index.json").get("calibration")
    return Calibration.of(facts) if facts else Calibration()


def front_matter(folder: Path, lines: Sequence[str]) -> str:
    """The card's YAML head with the hash of the weights."""
    return "\n".join(["---", "library_name: diffusers", *lines, f"weights_sha256: {model_hash(folder)}", "---", ""])
