"""Job files: written, read back, overridden, and described by their schema."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from geodiff.job import FillJob
from geodiff.jobfile import commented_toml
from tests.cli.console import Run


def test_init_writes_a_job_that_is_read_back_at_its_defaults(geodiff_cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    assert geodiff_cli("init", path).code == 0
    assert FillJob.from_toml(path) == FillJob.build(source="scene.tif", target="filled.tif")
    assert geodiff_cli("init", path).code == 2
    assert geodiff_cli("init", path, "--overwrite").code == 0


def test_every_commented_field_is_valid_as_it_stands() -> None:
    fields = tomllib.loads(uncommented())
    assert set(fields) == set(FillJob.model_fields)
    job = FillJob.build(**fields)
    for name, field in FillJob.model_fields.items():
        if field.default is not None and not field.is_required():
            assert getattr(job, name) == field.default


def uncommented() -> str:
    return re.sub(r"^# (\w+ = )", r"\1", commented_toml(), flags=re.MULTILINE)


def test_options_override_the_job_file(geodiff_cli: Run, scene: Path) -> None:
    job = scene.with_name("job.toml")
    job.write_text(f'source = "{scene}"\ntarget = "{scene.with_name("a.tif")}"\nfiller = "nearest"\n')
    done = geodiff_cli("fill", "--job", job, "--filler", "laplace", "--json", "-q")
    assert "--filler laplace" in json.loads(done.out)["command"]


@pytest.mark.parametrize(
    ("text", "said"),
    [('source = "a.tif"\ntarget = "b.tif"\nmember = 3\n', "--member 3"), ("source = [", "cannot read the job file")],
)
def test_a_wrong_job_file_is_2(geodiff_cli: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    refused = geodiff_cli("fill", "--job", tmp_path / "job.toml")
    assert refused.code == 2
    assert said in refused.err


def test_the_schema_describes_the_job_file(geodiff_cli: Run) -> None:
    schema = json.loads(geodiff_cli("schema").out)
    fields = tomllib.loads(uncommented())
    assert set(schema["properties"]) == set(fields)
    assert set(schema["required"]) == {"source", "target"}
    assert schema["additionalProperties"] is False
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, which comes with the flows")
    jsonschema.validate(fields, schema)
    with pytest.raises(jsonschema.ValidationError, match=r"steps|minimum"):
        jsonschema.validate({**fields, "steps": 1}, schema)
