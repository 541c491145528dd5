"""Standard streams that a program is started without."""

import json
import subprocess
import sys
from pathlib import Path

_WITHOUT = """
import json, os, sys
from geodiff.streams import mend_streams
taken = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)  # by a library, say, while it was imported
mend_streams()
print("talk", file=sys.stderr)
print("results", flush=True)
sys.stderr.flush()
product = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
os.write(product, json.dumps([taken, product, sys.stdin.read()]).encode())
"""


def test_a_program_without_its_streams_speaks_into_no_file_of_its_own(tmp_path: Path) -> None:
    taken, product = tmp_path / "taken", tmp_path / "product"
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", _WITHOUT, str(taken), str(product)]
    assert subprocess.run(words, cwd=Path(__file__).parents[1], check=False).returncode == 0
    first, number, read = json.loads(product.read_text())
    assert first == 0, "the first that is opened gets the number of a stream"
    assert number > 2, "what C libraries print with the numbers 1 and 2 would go into a product"
    assert read == ""
    assert taken.read_text() == ""


def test_what_c_libraries_print_is_not_among_the_results() -> None:
    """GDAL does for GRIB of some centres, a line for each field."""
    code = "import os; from geodiff.streams import mend_streams; mend_streams(); os.write(1, b'talk'); print('results')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("results\n", "")
