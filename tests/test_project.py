"""The frame keeps its promises: dependencies, pins, make targets, container, licence, no traces of anyone's machine."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
TARGETS = {
    "venv",
    "demo",
    "test",
    "lint",
    "ci",
    "bench",
    "soak",
    "train",
    "audit",
    "docs",
    "notebooks",
    "browser",
    "help",
}


# dependencies


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_every_dependency_has_a_floor_and_a_reason(line: str) -> None:
    assert any(bound.operator == ">=" for bound in Requirement(line).specifier), (
        f"{line}: name the oldest release that will do"
    )
    assert re.search(rf'^\s+"{re.escape(line)}",\s+# \S.{{10,}}$', PYPROJECT, re.MULTILINE), (
        f"{line}: say why beside it"
    )


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_constraints_satisfy_every_dependency(line: str) -> None:
    requirement = Requirement(line)
    pinned = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), (
        f"{requirement.name}=={pinned} in constraints.txt is outside {requirement.specifier}"
    )


def test_constraints_pin_exactly() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len(pins()) == len(lines)


def test_every_import_is_declared() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in REQUIREMENTS}
    owners = importlib.metadata.packages_distributions()
    foreign = {top for top in imported_tops() if top not in sys.stdlib_module_names | {"geodiff", "flows"}}
    missing = {top for top in foreign if declared.isdisjoint(map(canonicalize_name, owners.get(top, [top])))}
    assert missing == set(), "name these in pyproject.toml, with a floor and a reason"


def test_extras_and_claims() -> None:
    assert set(EXTRAS) == {"flows", "train", "s3", "score", "test", "dev"}
    assert PROJECT["requires-python"] == ">=3.11"
    claimed = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", name)]
    assert claimed == ["3.11"], "claim only the versions that continuous integration runs"


def test_licence_and_changelog() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "geodiff" / "py.typed").exists()


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, _, version in pairs}


def imported_tops() -> Iterator[str]:
    for path in (*(ROOT / "geodiff").rglob("*.py"), *(ROOT / "flows").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.partition(".")[0]


# make and CI


def test_make_has_the_targets_of_the_contract_and_says_what_each_does() -> None:
    described = dict(re.findall(r"^([a-z-]+):[^\n#]*## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(described) >= TARGETS
    assert phony == set(described)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_can_plan_each_target(target: str) -> None:
    subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, env={**os.environ, "MAKEFLAGS": ""}
    )


def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    run = subprocess.run(
        ["make", "venv", "PYTHON=false"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert run.returncode == 2
    assert "false is older than Python 3.11" in run.stderr


def test_ci_is_a_sound_script() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


# the container


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: its keyword and the rest, continuation lines joined."""

    keyword: str
    rest: str


KEYWORDS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR"}


def test_the_dockerfile_parses() -> None:
    steps = dockerfile()
    assert {step.keyword for step in steps} <= KEYWORDS
    assert all(step.rest for step in steps)
    assert steps[0] == Instruction("ARG", "BASE_IMAGE=python:3.11-slim-bookworm")
    assert "TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu" in [
        step.rest for step in steps if step.keyword == "ARG"
    ]


def test_the_image_has_stages_and_runs_without_privileges() -> None:
    first, *rest = stages()
    last = rest[-1]
    assert all(stage[0].rest.startswith("${BASE_IMAGE} AS ") for stage in (first, last))
    names = {stage[0].rest.rpartition(" ")[2] for stage in stages()}
    copied_from = [match[1] for step in last if (match := re.match(r"--from=(\S+)", step.rest))]
    assert copied_from
    assert set(copied_from) <= names
    user = [step.rest for step in last if step.keyword == "USER"]
    assert user
    assert int(user[-1].partition(":")[0]) > 0, "a numeric, unprivileged user, so that a cluster can check it"
    assert Instruction("ENTRYPOINT", '["geodiff"]') in last
    assert not any("pip install" in step.rest for step in last), "what builds stays in the first stage"


def test_the_build_context_holds_what_is_copied() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(context_paths()) == let_in
    assert [path for path in context_paths() if not (ROOT / path).exists()] == []


def test_a_broken_dockerfile_is_found() -> None:
    assert parse_dockerfile("FROM a \\\n  AS b\n# comment\nRUN x \\\n # inside\n && y") == [
        ("FROM", "a AS b"),
        ("RUN", "x && y"),
    ]
    with pytest.raises(ValueError, match="line 2: FORM"):
        parse_dockerfile("ARG x\nFORM a")
    with pytest.raises(ValueError, match="ends in a continuation"):
        parse_dockerfile("FROM a\nRUN x \\")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_dockerfile_installs_in_a_clean_environment(tmp_path: Path) -> None:
    """Run the first stage's RUN lines on a copy of the build context, as there is no engine to build with."""
    if os.environ.get("GEODIFF_DOCKER_CHECK") != "1":
        pytest.skip("installs everything anew: make docker-check runs it")
    prefix, context = tmp_path / "opt", tmp_path / "src"
    copy_context(context)
    clean = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS"}}
    for line in (step.rest for step in stages()[0] if step.keyword == "RUN"):
        command = (
            line.replace("/opt/geodiff", str(prefix))
            .replace(" --no-cache-dir", "")
            .replace("python3 ", f"{sys.executable} ")
        )
        subprocess.run(["bash", "-euc", command], cwd=context, check=True, env={**clean, "TORCH_INDEX_URL": ""})
    subprocess.run([prefix / "bin" / "python", "-c", "import geodiff, flows"], cwd=tmp_path, check=True, env=clean)
    if (ROOT / "geodiff" / "cli" / "__init__.py").exists():
        subprocess.run(
            [prefix / "bin" / "geodiff", "--help"], cwd=tmp_path, check=True, env=clean, stdout=subprocess.DEVNULL
        )


def dockerfile() -> list[Instruction]:
    return parse_dockerfile((ROOT / "Dockerfile").read_text())


def parse_dockerfile(text: str) -> list[Instruction]:
    steps, joined = [], ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        joined = f"{joined} {line.strip().removesuffix(chr(92)).strip()}".strip()
        if line.rstrip().endswith("\\"):
            continue
        keyword, _, rest = joined.partition(" ")
        if keyword not in KEYWORDS:
            raise ValueError(f"Dockerfile, line {number}: {keyword} is no instruction we use")
        steps.append(Instruction(keyword, rest.strip()))
        joined = ""
    if joined:
        raise ValueError(f"Dockerfile ends in a continuation: {joined}")
    return steps


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for step in dockerfile():
        if step.keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


def context_paths() -> list[str]:
    steps = [
        step for stage in stages() for step in stage if step.keyword == "COPY" and not step.rest.startswith("--from=")
    ]
    return [path for step in steps for path in step.rest.split()[:-1]]


def copy_context(context: Path) -> None:
    context.mkdir()
    for path in context_paths():
        source = ROOT / path
        if source.is_dir():
            shutil.copytree(source, context / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, context / path)


# traces


def test_no_file_names_a_folder_of_a_developers_machine() -> None:
    here = "|".join(re.escape(str(path)) for path in (ROOT, ROOT.parent / "shared"))
    traces = re.compile(rf"(?:{here})/|/(?:home|Users)/\w+/|[A-Z]:\\Users\\|/root/\w".encode())
    found = [
        name for name in tracked() if name != "tests/test_project.py" and traces.search((ROOT / name).read_bytes())
    ]
    assert found == []


def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})
