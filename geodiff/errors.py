"""What can go wrong, as one tree. Every message carries the value, the reason and the cure.

GeodiffError                 exit code 1: something failed
├── InputError               exit code 2: the source, the options or the job cannot be used as given
│   ├── JobError             an option or a job file is wrong
│   ├── EncodingError        dtype, nodata, scale or range do not fit together
│   ├── FlagError            a quality band holds what its table does not know
│   ├── GridError            grids, windows or chunks do not match
│   ├── SourceError          the source cannot be opened or read
│   ├── NothingKnownError    no pixel is known, so nothing can be estimated
│   ├── ModelError           a model folder is missing, broken or not to be trusted
│   ├── MemoryPlanError      the plan would not fit in memory
│   ├── LockedError          another job is writing the same target
│   └── TargetError          the target exists, is foreign or cannot be written
├── BlockError               exit code 1: a block could not be filled
├── ClusterError             exit code 1: the Dask scheduler went away in mid-run
├── WriteError               exit code 1: the product could not be written: the disk is full, or took no more
├── NothingMissingError      exit code 4: nothing to fill, and the job asked to be told
└── GateError                exit code 5: a quality gate refused the product
"""

from __future__ import annotations

from geodiff.credentials import legible, unsaid

__all__ = [
    "BlockError",
    "ClusterError",
    "EncodingError",
    "FlagError",
    "GateError",
    "GeodiffError",
    "GridError",
    "InputError",
    "JobError",
    "LockedError",
    "MemoryPlanError",
    "ModelError",
    "NothingKnownError",
    "NothingMissingError",
    "SourceError",
    "TargetError",
    "WriteError",
    "forget_interruption",
    "one_line",
]


class GeodiffError(Exception):
    """Base of everything geodiff raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, *said: object) -> None:
        """Messages name addresses; the secrets in them stay out."""
        super().__init__(*(legible(unsaid(part)) if isinstance(part, str) else part for part in said))


class InputError(GeodiffError):
    """The source, the options or the job cannot be used as given."""

    exit_code = 2


class JobError(InputError):
    """An option or a job file is wrong."""


class EncodingError(InputError):
    """dtype, nodata, scale, offset or valid range do not fit together."""


class FlagError(InputError):
    """A quality band holds a value, or a preset a name, that its table does not know."""


class GridError(InputError):
    """Grids, windows or chunks do not match."""


class SourceError(InputError):
    """The source cannot be opened or read."""


class NothingKnownError(InputError):
    """No pixel is known, so nothing can be estimated; `fingerprint` is that of the run that found it, if one did."""

    def __init__(self, *said: object, fingerprint: str = "") -> None:
        super().__init__(*said)
        self.fingerprint = fingerprint


class ModelError(InputError):
    """A model folder is missing, broken or not to be trusted."""


class MemoryPlanError(InputError):
    """The plan would not fit in memory."""


class LockedError(InputError):
    """Another job is writing the same target."""


class TargetError(InputError):
    """The target exists, is foreign or cannot be written."""


class BlockError(GeodiffError):
    """A block could not be filled."""


class ClusterError(GeodiffError):
    """The Dask scheduler went away while blocks were being filled. Blocks stay, and the next run goes on."""


class WriteError(GeodiffError):
    """The product could not be written: the disk is full, or took no more. Blocks stay, and the next run goes on."""


class NothingMissingError(GeodiffError):
    """There was nothing to fill and the job asked to be told (`--fail-if-empty`)."""

    exit_code = 4


class GateError(GeodiffError):
    """A quality gate refused the product."""

    exit_code = 5


def forget_interruption() -> None:
    """Let a program that was interrupted end with an exit code of its own.

    Where an interruption comes while some text is executed, as modules do while they are imported, Python ends a
    program that `python -m` began by the signal once more, whatever its exit code; executing another text ends that.
    """
    exec("")  # noqa: S102


def one_line(error: BaseException, most: int = 120) -> str:
    """What an exception of another library says, on one line of at most so many characters; its kind if nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
