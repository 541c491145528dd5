"""What the pages take from the code while they are built, so that it cannot differ from it.

A line `<!-- generated: NAME -->` in a page is replaced by what the function of that name in `PARTS` returns.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import geodiff
from geodiff import flags
from geodiff.cli import app
from geodiff.codes import CODES, OBSERVED, OUTSIDE, UNFILLED
from geodiff.gaps import Reason
from geodiff.job import GATES, FillJob

_MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The hook that mkdocs calls for every page."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](), markdown)


def commands() -> str:
    """Every verb with its arguments, options and examples, as `--help` tells them."""
    return "\n\n".join(_verb(words, command) for words, command in verbs())


def verbs() -> Iterator[tuple[str, Any]]:
    """Each verb as typed, and its command."""
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"geodiff {name}", command
        else:
            yield from ((f"geodiff {name} {part}", below) for part, below in inner.items())


def _verb(words: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    usage = " ".join([words, *(_placed(a) for a in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## {words}", " ".join(command.help.split()), f"```text\n{usage}\n```"]
    parts.append(_table(("option", "meaning"), [(f"`{_spelt(p)}`", p.help) for p in (*arguments, *options)]))
    found = re.findall(r"`(geodiff[^`]*)`", command.epilog or "")
    return "\n\n".join([*parts, *(["```console\n" + "\n".join(found) + "\n```"] if found else [])])


def _placed(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _spelt(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    spelt = ", ".join(sorted((*parameter.opts, *parameter.secondary_opts), key=len))
    return spelt if parameter.is_flag or parameter.name == "verbose" else f"{spelt} {parameter.metavar or 'X'}"


def job() -> str:
    """The fields of the job file."""
    rows = []
    for name, field in FillJob.model_fields.items():
        default = "needed" if field.is_required() else _toml(field.default)
        rows.append((f"`{name}`", default, field.description or ""))
    return _table(("field", "default", "meaning"), rows)


def _toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{v}"' for v in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def public() -> str:
    """The directive for mkdocstrings that shows the public names and no others."""
    return f"::: geodiff\n    options:\n      show_root_toc_entry: false\n      members: [{', '.join(geodiff.__all__)}]"


def gates() -> str:
    """What `--gate` can ask for."""
    return _table(("figure", "is the"), [(f"`{name}`", meaning) for name, meaning in GATES.items()])


def codes() -> str:
    """Codes of the source layer."""
    rows = [(OBSERVED, "observed"), *((code, f"`{name}`") for name, code in CODES.items())]
    rows += [("100 and up", "registered fillers, in the order of their names")]
    rows += [(OUTSIDE, "missing, outside the area to fill"), (UNFILLED, "missing, and could not be filled")]
    return _table(("code", "means"), rows)


def reasons() -> str:
    """Bits of the reason layer, with the sentence that stands under each in the code."""
    text = (_ROOT / "geodiff" / "gaps.py").read_text()
    told = dict(re.findall(r'^    ([A-Z_]+) = 1 << \d+\n    """(.+?)"""$', text, re.MULTILINE))
    rows = [(f"{bit.value}", f"`{bit.meaning}`", told.get(str(bit.name), "")) for bit in Reason]
    return _table(("value", "name", "means"), rows)


def presets() -> str:
    """The tables of quality flags, each with the document it was written from."""
    rows = []
    for path in sorted(Path(flags.__file__).parent.glob("*.toml")):
        table = tomllib.loads(path.read_text())
        layers = ", ".join(f"`{layer['name']}`" for layer in table["layer"])
        rows.append((f"`{path.stem}`", layers, table["source"]["title"]))
    return _table(("preset", "reads", "written from"), rows)


def card() -> str:
    """The shipped model's card without its head."""
    text = (_ROOT / "geodiff" / "models" / "default" / "README.md").read_text()
    body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    return re.sub(r"^# .*\n", "", body.strip())


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "job": job,
    "public": public,
    "gates": gates,
    "codes": codes,
    "reasons": reasons,
    "presets": presets,
    "card": card,
}
