"""The schedule is registered as it was asked for, and what cannot be served is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.deploy import listed, main, nightly
from flows.fill import fill_scenes
from geodiff.errors import InputError
from geodiff.job import FillJob

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nobody_there() -> Iterator[None]:
    """A Prefect server that does not answer: port 9 is the one that discards."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def test_a_deployment_says_when_what_and_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = FillJob.build(source="in", target="out/", filler="laplace", gate="unfilled<=0.02")
    made = nightly(job, "30 4 * * 1-5", timezone="Europe/Oslo", at_once=2)
    (schedule,) = made.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("30 4 * * 1-5", "Europe/Oslo")
    assert made.parameters == {
        "job": {
            "source": f"{tmp_path}/in", "target": f"{tmp_path}/out/", "filler": "laplace", "gate": "unfilled<=0.02",
        },
        "at_once": 2,
    }  # fmt: skip
    away = nightly(job.model_copy(update={"target": "s3://bucket/out/"}), "0 3 * * *").parameters["job"]
    assert (away["source"], away["target"]) == (f"{tmp_path}/in", "s3://bucket/out/")
    assert made.concurrency_limit == 1
    assert load_flow_from_entrypoint(made.entrypoint).name == fill_scenes.name
    assert fill_scenes.validate_parameters(made.parameters)["job"].gate == job.gate


@pytest.mark.parametrize("cron", ["every night", "99 3 * * *"])
def test_what_is_no_cron_line_is_named(cron: str) -> None:
    with pytest.raises(InputError, match="every night at three is --cron"):
        nightly(FillJob.build(source="in", target="out/"), cron)


def test_what_prefect_yaml_lists_is_served_as_it_stands_there() -> None:
    entries = {entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    made = {deployment.name: deployment for deployment in listed(ROOT / "prefect.yaml")}
    assert list(made) == list(entries)
    for name, entry in entries.items():
        assert made[name].parameters == entry["parameters"]
        assert [each.schedule.cron for each in made[name].schedules] == [each["cron"] for each in entry["schedules"]]
        assert made[name].concurrency_limit == entry["concurrency_limit"]
        assert made[name].description == entry["description"]
        assert made[name].tags == entry["tags"]
        assert all(each.active for each in made[name].schedules), "README says that all of them are served"


def test_limits_and_hours_that_are_off_are_kept_from_the_list(tmp_path: Path) -> None:
    entry = {
        "name": "x", "entrypoint": "flows/fill.py:fill_scenes", "concurrency_limit": 3,
        "schedules": [{"cron": "0 3 * * *", "active": False}],
    }  # fmt: skip
    text = yaml.safe_dump({"deployments": [entry, {**entry, "concurrency_limit": None}]})
    (tmp_path / "prefect.yaml").write_text(text)
    limited, free = listed(tmp_path / "prefect.yaml")
    assert (limited.concurrency_limit, free.concurrency_limit) == (3, None)
    assert limited.description == fill_scenes.description
    assert [each.active for each in limited.schedules] == [False]


def test_a_list_that_cannot_be_served_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "name FOLDER and OUT" in capsys.readouterr().err
    assert main(["in"]) == 2
    assert "OUT is missing" in capsys.readouterr().err
    for entrypoint in ("flows/fill.py:main", "flows/nothing.py:flow", "os.py:system"):
        (tmp_path / "prefect.yaml").write_text(f"deployments: [{{name: x, entrypoint: '{entrypoint}'}}]")
        with pytest.raises(InputError, match="take the entry out"):
            listed()


FILL = "deployments: [{name: x, entrypoint: 'flows/fill.py:fill_scenes', %s}]"
FRAMES = "deployments: [{name: y, entrypoint: 'flows/planetary.py:reconstruct_planetary', %s}]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments:\n\t- name: x", r"no YAML: .*'\\t' .*line 2, column 1"),
        ("name: geodiff", "^prefect.yaml: deployments: Field required"),
        ("", "^prefect.yaml: the file: Input should be"),
        ("deployments: [{name: x}]", "deployments.0.entrypoint: Field required"),
        (FILL % "schedules: [{interval: 60}]", "deployments.0.schedules.0.cron: Field required"),
        (
            FILL % "schedules: [{cron: '0 3 * * *', timezone: Mars/Gale}]",
            "^prefect.yaml, x: cron '0 3 \\* \\* \\*' timezone 'Mars/Gale': no such hours; .* is cron '0 3",
        ),
        (FILL % "parameters: {job: {source: a, target: b/, gaet: u}}", "^prefect.yaml, x: job.gaet: Extra"),
        (
            FILL % "parameters: {job: {source: a, target: b/, gate: unfiled<0.02}}",
            "^prefect.yaml, x: job.gate: unfiled<0.02 is not",
        ),
        (FILL % "parameters: {job: {source: a}}", "job.target: Field required"),
        (FILL % "parameters: {at_onc: 2}", "at_onc: Extra inputs are not permitted"),
        (FILL % "parameters: {at_once: 0}", "at_once: Input should be greater"),
        (FRAMES % "parameters: {job: {source: a, target: b/, task: [inpaint], detetc: [x]}}", "y: job.detetc: Extra"),
    ],
)
def test_what_is_wrong_in_the_list_is_said_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as found:
        listed()
    assert "--" not in str(found.value), "nobody gave an option"


def test_without_a_server_the_cure_is_said(nobody_there: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["in", "out"]) == 2
    assert "prefect server start" in capsys.readouterr().err


def test_the_server_plans_the_runs_of_a_schedule(server: None, tmp_path: Path) -> None:
    made = nightly(FillJob.build(source=str(tmp_path), target=f"{tmp_path}/out/"), "* * * * *", name="every-minute")
    deployment = run_coro_as_sync(made.aapply())
    with get_client(sync_client=True) as client:
        assert client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}).is_success
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])), limit=3
        )
    assert {run.state_name for run in runs} == {"Scheduled"}
    assert {run.parameters["job"]["source"] for run in runs} == {str(tmp_path)}
