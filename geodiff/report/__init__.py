"""The report of a finished fill: one HTML file that opens from disk, with the picture before and after, and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.errors import JobError
from geodiff.identity import assert_writable, target_stem
from geodiff.io.cube import files_closed
from geodiff.io.places import local_path, put
from geodiff.pipeline import run

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["report_path", "run_and_report", "write_report"]


def write_report(target: str, path: str | None = None) -> str:
    """Write the report of an existing product.

    Parameters
    ----------
    target : what `geodiff fill` wrote.
    path : the HTML file, or a folder for it; default `<stem>.report.html` beside the target.

    Returns
    -------
    str : the path written.

    Raises
    ------
    TargetError : where there is no product, nothing says what was filled in it, or nothing can be written there.
    """
    from geodiff.report.budget import embed
    from geodiff.report.page import file_page
    from geodiff.report.product import open_product
    from geodiff.report.pyramid import Pyramid

    product, place = open_product(target), report_path(target, path)
    assert_writable(_folder(place), "the folder of the report")
    pyramids = [Pyramid(picture) for picture in product.pictures]
    put(place, file_page(product, pyramids, embed(pyramids)).encode())
    return place


def report_path(target: str, path: str | None = None) -> str:
    """Where the report of a product goes: `path`, a file in it where it is a folder, or beside the product."""
    folder, stem = target_stem(target)
    name = f"{stem}.report.html"
    if path is None:
        return f"{folder}/{name}"
    local = local_path(path)
    if path.endswith("/") or (local is not None and local.is_dir()):
        return f"{path.rstrip('/')}/{name}"
    return path


@files_closed()
def run_and_report(job: FillJob, *, quiet: bool = False) -> RunRecord:
    """Do a job and, where it asks for one, write its report; the record then lists it among the products.

    Raises
    ------
    GeodiffError : as `run` does; before any work where the report could not be written.
    """
    if job.report is None:
        return run(job, quiet=quiet)
    place = report_path(job.target, job.report)
    _assert_reportable(job, place)
    record = run(job, quiet=quiet)
    if record.status == "planned":
        return record
    return replace(record, products=(*record.products, write_report(job.target, place)))


def _assert_reportable(job: FillJob, place: str) -> None:
    if Path(place).suffix.lower() not in (".html", ".htm"):
        raise JobError(f"--report {job.report}: the report is HTML; give a name that ends in .html, or a folder")
    if not job.dry_run:
        assert_writable(_folder(place), "the folder of --report")


def _folder(place: str) -> str:
    return place.rpartition("/")[0] or "."
