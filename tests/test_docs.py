"""What README and pages say exists: commands parse, options are there, snippets compile, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import geodiff
from geodiff import cli
from geodiff.job import FillJob
from geodiff.restoring.job import RestoreJob

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "pages"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"console", "python", "toml", "text"}
FOREIGN = {"cd", "dask", "git", "huggingface-cli", "prefect", "python3.11", "source", "ssh"}
"""Commands of others: shown, not checked."""
ELSEWHERE = {"dask_jobqueue", "dask_kubernetes", "torchgeo"}
"""Packages of others that no extra of ours brings."""


def at(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=at)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, language, code in FENCE.findall(page.read_text()):
        if language in languages:
            yield re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page's blocks, one command a list; pipes and redirections cut off."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            end = next((i for i, word in enumerate(words) if word in {">", "|", "&&"}), len(words))
            if words:
                yield words[:end]


def verb(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left for it."""
    command, rest = get_command(cli.app), list(words[1:])
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"geodiff has no verb {name!r}: {' '.join(words)}"
        command = command.commands[name]
    return command, rest


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def all_options() -> set[str]:
    found, waiting = {"--help", "--version"}, [get_command(cli.app)]
    while waiting:
        command = waiting.pop()
        waiting += list(getattr(command, "commands", {}).values())
        found |= options_of(command)
    return found


# -- commands


@every_page
def test_blocks_have_a_language_that_is_checked(page: Path) -> None:
    assert {language for _, language, _ in FENCE.findall(page.read_text())} <= LANGUAGES, at(page)


@every_page
def test_every_command_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(page):
        name = Path(words[0]).name
        if name == "geodiff":
            parses(words, monkeypatch)
        elif name == "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        elif name == "python":
            program_exists(words)
        elif name == "pip":
            installs(words)
        elif name == "docker":
            stands_in_the_dockerfile(words)
        else:
            assert name in FOREIGN, f"{at(page)}: {' '.join(words)}: nobody checks {name!r}"


def parses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command, rest = verb(words)
    if {"--help", "--version", "-h"} & set(rest):
        return
    context = command.make_context(" ".join(words), rest)  # raises what typer would tell the user
    if command.name in ("fill", "restore"):
        builds(command, context.params, monkeypatch)


def stands_in_the_dockerfile(words: list[str]) -> None:
    """Whether the head of the Dockerfile says the same command."""
    head = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("# docker "))
    assert words in [shlex.split(line[2:])[: len(words)] for line in head], words


class _BuiltError(Exception):
    """Raised in place of the run: the job was valid."""


def builds(command: Any, chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the verb make its job, and stop it where it would begin to run."""

    def stop(job: FillJob | RestoreJob, **_: Any) -> None:
        assert job.target.endswith((".tif", ".zarr", ".nc", ".png", ".xml", "/")), job.target
        raise _BuiltError

    if chosen.get("job") is not None:
        return  # a file that `geodiff init` writes
    monkeypatch.setattr("geodiff.report.run_and_report", stop)
    monkeypatch.setattr("geodiff.restoring.run", stop)
    monkeypatch.setattr(f"geodiff.cli.{command.name}.talk", lambda *_, **__: None)
    with pytest.raises(_BuiltError):
        command.callback(**chosen)


def program_exists(words: list[str]) -> None:
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    if words[1] == "-m":
        module = words[2]
        if module.startswith("flows."):
            flow(module, words[3:])
        else:
            assert importlib.util.find_spec(module), words
        return
    text = (ROOT / words[1]).read_text()
    assert all(f'"{option}"' in text for option in options), words


def flow(module: str, words: list[str]) -> None:
    pytest.importorskip("prefect", reason="the flows need prefect: pip install '.[flows]'")
    parser = importlib.import_module(module)._parser()
    try:
        parser.parse_args(words)
    except SystemExit as left:
        pytest.fail(f"python -m {module} {' '.join(words)}: exit {left.code}")


def installs(words: list[str]) -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for word in words[2:]:
        asked = re.fullmatch(r"(?:geodiff|\.)\[([\w,]+)\]", word)
        if asked:
            assert set(asked[1].split(",")) <= extras, words
        elif "/" in word or word.endswith(".txt"):
            assert (ROOT / word).exists(), words


@every_page
def test_options_and_verbs_in_the_prose_exist(page: Path) -> None:
    for said in re.findall(r"`([^`\n]+)`", prose(page)):
        if said.startswith("geodiff ") and not said.startswith("geodiff VERB"):
            words = [word.strip("[]") for word in said.split() if word != "..."]
            command, rest = verb(words)
            named = {word.split("=")[0] for word in rest if word.startswith("--")}
            assert named <= options_of(command) | {"--help"}, f"{at(page)}: {said}"
        elif re.match(r"--[a-z]", said) and not foreign_option(page, said):
            assert said.split()[0].split("=")[0] in all_options(), f"{at(page)}: {said}"


def foreign_option(page: Path, said: str) -> bool:
    """Whether an option belongs to the flows, whose parsers the blocks of the same pages are checked by."""
    flows = "".join(path.read_text() for path in (ROOT / "flows").glob("*.py"))
    return "flows." in page.read_text() and f'"{said.split(maxsplit=1)[0]}"' in flows


# -- Python


@every_page
def test_snippets_compile_and_what_they_import_exists(page: Path) -> None:
    for code in blocks(page, "python"):
        tree = ast.parse(code, at(page))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    imported(alias.name, ())
            elif isinstance(node, ast.ImportFrom):
                imported(str(node.module), [alias.name for alias in node.names])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "geodiff":
                assert node.attr in geodiff.__all__, f"{at(page)}: geodiff.{node.attr}"
            elif isinstance(node, ast.Call):
                takes(node, page)


def imported(module: str, names: Sequence[str]) -> None:
    top = module.partition(".")[0]
    if top in ELSEWHERE:
        return
    if top not in ("geodiff", "flows"):
        assert importlib.util.find_spec(top), f"{module} is not installed, and no extra brings it"
        return
    found = importlib.import_module(module)
    offered = set(getattr(found, "__all__", ())) | set(vars(found))
    assert all(name in offered or importlib.util.find_spec(f"{module}.{name}") for name in names), (module, names)


def takes(call: ast.Call, page: Path) -> None:
    """Keywords of the calls whose options are those of the command line."""
    called = ast.unparse(call.func)
    fields = {"geodiff.fill": FillJob, "geodiff.plan_fill": FillJob, "geodiff.restore": RestoreJob}.get(called)
    if called.endswith(".geodiff.fill"):
        fields = FillJob
    if fields:
        assert {keyword.arg for keyword in call.keywords} <= set(fields.model_fields), f"{at(page)}: {called}"


def test_settings_on_the_pages_are_fields_of_the_training() -> None:
    from geodiff.diffusion.trainconfig import TrainConfig

    shown = [tomllib.loads(block) for page in PAGES for block in blocks(page, "toml")]
    assert any(TrainConfig(work=Path("w"), **settings) for settings in shown if "loss" in settings)


# -- pages


def slug(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain)).strip("-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=at)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{at(page)}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
            assert anchor in map(slug, headings), f"{at(page)}: {link}"


def test_the_table_of_contents_holds_every_page_and_no_other() -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- .*?([\w/-]+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert "hooks: [generated.py]" in text


def test_the_figures_of_the_readme_are_those_of_the_page_of_results() -> None:
    section = (ROOT / "README.md").read_text().partition("## How good it is")[2].partition("| claim |")[0]
    figures = re.findall(r"\d\.\d+(?: \(\d\.\d+ to \d\.\d+\))?", section.replace("**", ""))
    assert len(figures) > 12
    results = (DOCS / "results.md").read_text()
    assert not [figure for figure in figures if figure not in results]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


# -- what the pages take from the code


@pytest.fixture(scope="module")
def generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_mark_is_made_and_none_is_left(generated: Any) -> None:
    used = set()
    for page in PAGES:
        used |= set(re.findall(r"^<!-- generated: ([\w-]+) -->$", page.read_text(), re.MULTILINE))
        assert "<!-- generated" not in generated.on_page_markdown(page.read_text()), at(page)
    assert used == set(generated.PARTS)


def test_the_page_of_commands_has_every_verb_and_option(generated: Any) -> None:
    page = generated.commands()
    for words, command in generated.verbs():
        part = page.split(f"## {words}\n")[1].split("\n## ")[0]
        for option in options_of(command) - {"--help", "-h"}:
            if option.startswith("--"):
                assert option in part, f"{words} {option}"
        assert all(parameter.help for parameter in command.params), f"{words}: an option without a word of help"


def test_tables_from_the_code_are_whole(generated: Any) -> None:
    assert all(f"`{name}`" in generated.job() for name in FillJob.model_fields)
    assert generated.reasons().count("\n") == 17
    assert "landsat-c2" in generated.presets()
    assert "## Limits" in generated.card()
    assert not generated.card().startswith("---")
