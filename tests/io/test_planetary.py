"""Planetary labels decide what is missing: ISIS special pixels, PDS constants, and nothing that no label says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.encoding import unpack
from geodiff.errors import SourceError
from geodiff.flags import load_preset
from geodiff.gaps import Reason
from geodiff.io import OpenOptions, open_raster
from geodiff.io.planetary import Missing, isis_special, missing_values
from geodiff.lattice import Window

FIRST = Window(0, 0, 4, 6)


def vicar(path: Path, values: np.ndarray) -> str:
    """A minimal VICAR file: the label is padded to a whole number of records."""
    rows, columns = values.shape
    form = {"uint8": "BYTE", "int16": "HALF", "float32": "REAL"}[values.dtype.name]
    size = columns * values.dtype.itemsize
    label = (
        f"LBLSIZE={{0}}  FORMAT='{form}'  TYPE='IMAGE'  BUFSIZ={size}  DIM=3  EOL=0  RECSIZE={size}  "
        f"ORG='BSQ'  NL={rows}  NS={columns}  NB=1  N1={columns}  N2={rows}  N3=1  N4=0  NBB=0  NLB=0  "
        "HOST='X86-LINUX'  INTFMT='LOW'  REALFMT='RIEEE'  "
        "BHOST='X86-LINUX'  BINTFMT='LOW'  BREALFMT='RIEEE'  BLTYPE=''  COMPRESS='NONE'  EOCI1=0  EOCI2=0  "
    )
    length = -(-(len(label) + 10) // size) * size
    path.write_bytes(label.format(length).encode().ljust(length, b"\0") + values.tobytes())
    return str(path)


def pds3(path: Path, values: np.ndarray, keywords: str, *, detached: bool = False) -> str:
    rows, columns = values.shape
    kind = {"uint8": "UNSIGNED_INTEGER", "int16": "LSB_INTEGER", "float32": "PC_REAL"}[values.dtype.name]
    size = columns * values.dtype.itemsize
    image = path.with_suffix(".img")
    place = f'("{image.name}", 1)' if detached else "2049 <BYTES>"
    text = (
        f"PDS_VERSION_ID = PDS3\r\nRECORD_TYPE = FIXED_LENGTH\r\nRECORD_BYTES = {size}\r\nFILE_RECORDS = {rows}\r\n"
        f'^IMAGE = {place}\r\nINSTRUMENT_ID = "NAVCAM"\r\nSTART_TIME = 2004-03-05T10:11:12.5\r\nOBJECT = IMAGE\r\n'
        f" LINES = {rows}\r\n LINE_SAMPLES = {columns}\r\n BANDS = 1\r\n SAMPLE_TYPE = {kind}\r\n"
        f" SAMPLE_BITS = {8 * values.dtype.itemsize}\r\n{keywords}END_OBJECT = IMAGE\r\nEND\r\n"
    )
    if detached:
        image.write_bytes(values.tobytes())
        path.write_text(text)
    else:
        path.write_bytes(text.encode().ljust(2048) + values.tobytes())
    return str(path)


def test_special_pixels_are_null_first_and_bit_exact() -> None:
    assert isis_special("int16") == (-32768, -32767, -32766, -32765, -32764)
    assert isis_special("uint8") == (0, 255)
    assert np.array(isis_special("float32"), "f4").view("u4").tolist() == [
        0xFF7FFFFB,
        0xFF7FFFFC,
        0xFF7FFFFD,
        0xFF7FFFFE,
        0xFF7FFFFF,
    ]
    assert np.array(isis_special("float64")).view("u8")[0] == 0xFFEFFFFFFFFFFFFB
    assert isis_special("int8") == ()


def test_a_label_without_constants_leaves_zeros_alone(tmp_path: Path) -> None:
    values = np.arange(24, dtype="u1").reshape(4, 6)
    for source in (vicar(tmp_path / "a.vic", values), pds3(tmp_path / "b.img", values, "")):
        raster = open_raster(source)
        assert raster.driver in ("VICAR", "PDS")
        encoding = raster.variables[0].bands[0].encoding
        assert (encoding.nodata, encoding.extra_nodata) == (None, ())
        assert raster.quality == ()
        assert not raster.variables[0].georeferenced
        np.testing.assert_array_equal(raster.variables[0].reader.read(0, FIRST)[0], values)


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
def test_pds3_constants_are_missing_for_their_reasons(tmp_path: Path, detached: bool) -> None:
    values = np.arange(24, dtype="<i2").reshape(4, 6)
    path = tmp_path / ("frame.lbl" if detached else "frame.img")
    raster = open_raster(pds3(path, values, " MISSING_CONSTANT = 0\r\n INVALID_CONSTANT = 7\r\n", detached=detached))
    encoding = raster.variables[0].bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata) == (0, (7.0,))
    (quality,) = raster.quality
    assert quality.preset == "pds"
    assert quality.constants == {"MISSING_CONSTANT": 0.0, "INVALID_CONSTANT": 7.0}
    known = set(load_preset("pds").layers[0].constants)
    assert set(quality.constants) <= known
    assert "NAVCAM" in str(raster.attributes)
    if detached:
        assert str(path.with_suffix(".img")) in raster.files


def test_pds3_bit_patterns_of_floats(tmp_path: Path) -> None:
    values = np.zeros((4, 6), "<f4")
    raster = open_raster(pds3(tmp_path / "f.img", values, " MISSING_CONSTANT = 16#FF7FFFFB#\r\n"))
    encoding = raster.variables[0].bands[0].encoding
    assert np.float32(encoding.nodata) == np.uint32(0xFF7FFFFB).view(np.float32)


def test_pds3_constants_as_isis_spells_them_for_the_lunar_orbiter(tmp_path: Path) -> None:
    said = (
        " NULL = -32768\r\n LOW_REPR_SATURATION = -32767\r\n HIGH_REPR_SATURATION = -32764\r\n"
        " VALID_MINIMUM = -32752\r\n SCALING_FACTOR = 0.5\r\n OFFSET = 1.0\r\n"
    )
    raster = open_raster(pds3(tmp_path / "nac.img", np.zeros((4, 6), "<i2"), said))
    encoding = raster.variables[0].bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata) == (-32768, (-32767.0, -32764.0))
    assert encoding.valid_range == (-32752 * 0.5 + 1, np.inf)
    asked = open_raster(str(tmp_path / "nac.img"), OpenOptions(valid_range=(0, 9)))
    assert asked.variables[0].bands[0].encoding.valid_range == (0, 9)


@pytest.mark.parametrize(
    ("dtype", "spelt", "number"),
    [("<i2", "16#8000#", -32768), ("<i2", "16#7FFF#", 32767), ("u1", "16#FF#", 255), ("<i2", "16#FF7FFFFB#", None)],
)
def test_pds3_bit_patterns_of_whole_numbers(tmp_path: Path, dtype: str, spelt: str, number: int | None) -> None:
    raster = open_raster(pds3(tmp_path / "f.img", np.zeros((4, 6), dtype), f" MISSING_CONSTANT = {spelt}\r\n"))
    assert raster.variables[0].bands[0].encoding.nodata == number


def test_a_pds3_constant_for_each_band_and_one_of_a_table(tmp_path: Path) -> None:
    listed = pds3(tmp_path / "f.img", np.zeros((4, 6), "<i2"), " MISSING_CONSTANT = (-9, -8)\r\n")
    assert open_raster(listed).variables[0].bands[0].encoding.nodata == -9
    table = "END_OBJECT = IMAGE\r\nOBJECT = TABLE\r\n MISSING_CONSTANT = 7\r\nEND_OBJECT = TABLE\r\n"
    beside = Path(pds3(tmp_path / "t.img", np.zeros((4, 6), "<i2"), ""))
    content = beside.read_bytes()
    beside.write_bytes(content.replace(b"END_OBJECT = IMAGE\r\n", table.encode(), 1)[: len(content)])
    assert open_raster(str(beside)).variables[0].bands[0].encoding.nodata is None


def pds4(path: Path, values: np.ndarray, special: str) -> str:
    kind = {"u1": "UnsignedByte", "i2": "SignedLSB2", "f4": "IEEE754LSBSingle"}[values.dtype.str[1:]]
    axes = "".join(
        f"<Axis_Array><axis_name>{name}</axis_name><elements>{count}</elements>"
        f"<sequence_number>{number}</sequence_number></Axis_Array>"
        for number, (name, count) in enumerate(zip(("Line", "Sample"), values.shape, strict=True), 1)
    )
    image = path.with_suffix(".img")
    image.write_bytes(values.tobytes())
    path.write_text(
        '<Product_Observational xmlns="http://pds.nasa.gov/pds4/pds/v1"><Identification_Area>'
        "<logical_identifier>urn:nasa:pds:a:b:c</logical_identifier></Identification_Area><File_Area_Observational>"
        f"<File><file_name>{image.name}</file_name></File><Array_2D_Image><offset>0</offset><axes>2</axes>"
        f"<axis_index_order>Last Index Fastest</axis_index_order><Element_Array><data_type>{kind}</data_type>"
        f"</Element_Array>{axes}<Special_Constants>{special}</Special_Constants></Array_2D_Image>"
        "</File_Area_Observational></Product_Observational>"
    )
    return str(path)


def test_pds4_bounds_are_a_valid_range_and_no_constants(tmp_path: Path) -> None:
    values = np.arange(24, dtype="<i2").reshape(4, 6)
    values[0, :3] = -32768, 5000, -7
    said = (
        "<missing_constant>-32768</missing_constant><valid_minimum>0</valid_minimum><valid_maximum>4095</valid_maximum>"
    )
    raster = open_raster(pds4(tmp_path / "f.xml", values, said))
    encoding = raster.variables[0].bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata, encoding.valid_range) == (-32768, (), (0, 4095))
    assert raster.quality[0].constants == {"MISSING_CONSTANT": -32768}
    assert (~unpack(values, encoding)[1]).ravel().nonzero()[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "spelt", "number"),
    [
        ("<f4", "0xFF7FFFFB", float(np.uint32(0xFF7FFFFB).view(np.float32))),
        ("<f4", "16#FF7FFFFB#", float(np.uint32(0xFF7FFFFB).view(np.float32))),
        ("<i2", "0x8000", -32768),
        ("<i2", "N/A", None),
    ],
)
def test_pds4_constants_are_the_labels_however_gdal_reads_them(
    tmp_path: Path, dtype: str, spelt: str, number: float | None
) -> None:
    said = f"<missing_constant>{spelt}</missing_constant><valid_minimum>{spelt}</valid_minimum>"
    encoding = open_raster(pds4(tmp_path / "f.xml", np.zeros((4, 6), dtype), said)).variables[0].bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata) == (number, ())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_isis_cubes_know_their_special_pixels(tmp_path: Path, dtype: str) -> None:
    special = np.array(isis_special(dtype)).astype(dtype)
    values = np.full((4, 6), 100, dtype)
    values[0, : len(special)] = special
    path = tmp_path / "a.cub"
    with rasterio.open(
        path,
        "w",
        driver="ISIS3",
        width=6,
        height=4,
        count=1,
        dtype=dtype,
        crs="IAU_2015:49910",
        transform=Affine(9, 0, 0, 0, -9, 0),
    ) as file:
        file.write(values, 1)
    raster = open_raster(str(path))
    encoding = raster.variables[0].bands[0].encoding
    assert {encoding.nodata, *encoding.extra_nodata} == set(isis_special(dtype))
    (quality,) = raster.quality
    assert (quality.preset, quality.applies_to) == ("isis-special", (raster.variables[0].name,))
    assert raster.variables[0].reader.valid(0, FIRST) is None  # the numbers say it, pixel by pixel and with reasons
    assert "Mars" in raster.variables[0].geobox.crs.to_wkt()
    assert "json:ISIS3" in raster.attributes


def test_real_planetary_files_open_with_their_labels(data_dir: Path) -> None:
    folder = data_dir / "train/isis3-testdata/isis/tests/data"
    vesta = open_raster(str(folder / "demprep/vest64_dtm_specialpixels_downsampled.cub"))
    variable = vesta.variables[0]
    stored = variable.reader.read(0, Window(0, 0, *variable.shape[2:]))
    special = np.isin(stored, np.array(isis_special(str(stored.dtype))).astype(stored.dtype))
    assert 0.5 < special.mean() < 0.95
    assert variable.geobox.crs is not None
    frames = sorted((data_dir / "evaluate/vicar-planetary").rglob("*.vic")) + sorted(
        (data_dir / "evaluate/vicar-planetary").rglob("*.IMG")
    )
    assert len(frames) > 5
    for frame in frames:
        variable = open_raster(str(frame)).variables[0]
        assert not variable.georeferenced
        assert variable.reader.read(0, Window(0, 0, 64, 64)).shape == (len(variable.bands), 64, 64)


def test_a_colour_mosaic_is_refused_with_the_cure() -> None:
    label = "<img:Color_Filter_Array><img:color_filter_array_state>{}</img:color_filter_array_state>"
    for state in ("Decoded", "No CFA"):
        assert missing_values(header_of(label.format(state)), 0) == Missing(None)
    with pytest.raises(SourceError, match="colour planes"):
        missing_values(header_of(label.format("Encoded")), 0)


@pytest.mark.parametrize("keyword", ["BAYER_METHOD", "MSL:BAYER_METHOD"])
def test_a_pds3_label_that_says_raw_bayer_is_refused_and_one_that_says_how_colours_were_made_is_not(
    tmp_path: Path, keyword: str
) -> None:
    values = np.arange(24, dtype="u1").reshape(4, 6)
    group = f" GROUP = INSTRUMENT_STATE_PARMS\r\n  {keyword} = {{}}\r\n END_GROUP = INSTRUMENT_STATE_PARMS\r\n"
    made = open_raster(pds3(tmp_path / "made.img", values, group.format("MALVAR")))
    np.testing.assert_array_equal(made.variables[0].reader.read(0, FIRST)[0], values)
    for said in ('"RAW_BAYER"', "RAW_BAYER"):
        with pytest.raises(SourceError, match=r"BAYER_METHOD RAW_BAYER.*colour planes"):
            open_raster(pds3(tmp_path / "raw.img", values, group.format(said)))


def header_of(label: str) -> Any:
    tags = {"xml:PDS4": {"xml:PDS4": label}}
    return SimpleNamespace(path="m.xml", driver="PDS4", nodata=(None,), dtypes=("uint8",), tags=tags, crs=None)


def test_every_reason_a_label_can_name_is_a_reason() -> None:
    assert set(load_preset("pds").layers[0].constants.values()) <= set(Reason)
