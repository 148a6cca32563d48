"""A format of one's own as a file: what is written is read back, what is no table is refused in a sentence."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import rf8sim
from rf8sim import cli
from rf8sim.checkpoints.plan import by_channel
from rf8sim.formats.base import Format
from rf8sim.formats.files import FormatFile, read_format, write_format
from rf8sim.quantization.scheme import _parsed

registry = sys.modules["rf8sim.formats"]
PARAMETRIC = ("rf(4,2)", "rf(4,4,12)", "int(6)", "uint(5)", "quantile(5,0.7)")
QUARTERS = "code,value\n0,0\n1,0.25\n2,0.5\n3,-0.25\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder; what is read there is forgotten after the test."""
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))
    monkeypatch.setattr(registry, "_built", dict(registry._built))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    _parsed.cache_clear()


def forget():
    registry._built.pop("mine")
    _parsed.cache_clear()


def run(capsys, *arguments, code=0):
    assert cli.main([*map(str, arguments)]) == code, capsys.readouterr().err
    return capsys.readouterr()


# --- round trips --------------------------------------------------------------------------------------------


def names():
    return [*rf8sim.format_names(16), *PARAMETRIC]


@pytest.mark.parametrize("name", names())
def test_what_formats_prints_is_read_back(capsys, folder, name):
    fmt = rf8sim.get_format(name)
    for option, file in (("--csv", "printed.csv"), ("--json", "printed.json")):
        (folder / file).write_text(run(capsys, "formats", name, option).out)
        again = read_format(file)
        assert again.name == "printed"
        assert again.bits == fmt.bits
        assert again.nan == fmt.nan
        np.testing.assert_array_equal(again.values, fmt.values)
        np.testing.assert_array_equal(np.signbit(again.values), np.signbit(fmt.values) & ~np.isnan(fmt.values))
        np.testing.assert_array_equal(again.canonical, fmt.canonical)


@pytest.mark.parametrize("name", names())
def test_a_written_format_is_read_back_in_every_field(capsys, name):
    fmt = rf8sim.get_format(name)
    assert run(capsys, "formats", name, "-o", "mine.json").out == "mine.json\n"
    again = read_format("mine.json")
    assert again == fmt
    for field in dataclasses.fields(Format):
        if field.name != "values":
            assert getattr(again, field.name) == getattr(fmt, field.name), field.name
    assert rf8sim.get_format("mine.json") == fmt
    run(capsys, "formats", name, "-o", "mine.csv")
    assert read_format("mine.csv").canonical.tolist() == fmt.canonical.tolist()


def test_every_field_of_a_format_is_in_the_file():
    assert {field.name for field in dataclasses.fields(Format)} == set(FormatFile.__struct_fields__)


def test_sixteen_bits_are_read_back(capsys, folder):
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    half = rf8sim.register(Format("half", 16, "minifloat", "", values, 65536.0, nan=0x7E00, subnormals_below=2.0**-14))
    write_format(half, "a.json")
    assert read_format("a.json") == half
    (folder / "b.csv").write_text(run(capsys, "formats", "half", "--csv").out)
    again = read_format("b.csv")
    assert again.nan == 0x7E00
    assert again.canonical.dtype == np.uint16
    np.testing.assert_array_equal(again.values, values)


# --- names --------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_stem(folder):
    (folder / "mine.csv").write_text(QUARTERS)
    fmt = rf8sim.get_format("mine.csv")
    assert (fmt.name, fmt.family, fmt.bits, fmt.description) == ("mine", "user", 2, "from mine.csv")
    assert rf8sim.get_format("mine") is fmt
    assert rf8sim.get_format(folder / "mine.csv") is fmt
    assert rf8sim.get_format("./mine.csv") is fmt
    assert "mine" not in rf8sim.format_names(16)


def test_a_name_stands_for_one_table(folder):
    (folder / "other").mkdir()
    (folder / "mine.csv").write_text(QUARTERS)
    (folder / "other" / "mine.csv").write_text(QUARTERS)
    assert rf8sim.get_format("mine.csv") is rf8sim.get_format("other/mine.csv")
    (folder / "other" / "mine.csv").write_text(QUARTERS.replace("0.5", "0.75"))
    with pytest.raises(ValueError, match=r"other.mine.csv: a format named 'mine' exists already and is another"):
        rf8sim.get_format("other/mine.csv")
    with pytest.raises(ValueError, match=r"other.mine.csv: a format named 'mine' exists already and is another"):
        rf8sim.as_scheme("other/mine.csv/channel")
    for name in ("rf8", "float32", "rf(4,4)"):
        (folder / f"{name}.csv").write_text(QUARTERS)
        with pytest.raises(ValueError, match="exists already and is another: choose another name"):
            rf8sim.get_format(f"{name}.csv")
    with pytest.raises(ValueError, match="unknown format 'float32'"):
        rf8sim.get_format("float32")


def test_a_scheme_has_a_file(folder):
    (folder / "tables").mkdir()
    (folder / "tables" / "mine.csv").write_text(QUARTERS)
    (folder / "powers.csv").write_text("code,value\n" + "".join(f"{k},{2.0**k}\n" for k in range(8)))
    assert rf8sim.as_scheme("tables/mine.csv").text == "mine"
    assert rf8sim.as_scheme("tables/mine.csv@up").text == "mine@up"
    assert rf8sim.as_scheme("tables/mine.csv/1x32:float16@up").text == "mine/1x32:float16@up"
    assert rf8sim.as_scheme("rf8/1x32:powers.csv,max").text == "rf8/1x32:powers,max"
    assert rf8sim.as_scheme("tables/mine.csv/1x16:powers.csv,max").text == "mine/1x16:powers,max"
    assert by_channel("tables/mine.csv").text == "mine/channel"
    assert by_channel("rf8/1x32:powers.csv").text == "rf8/1x32:powers"
    (folder / "mxfp4.csv").write_text(QUARTERS)
    with pytest.raises(ValueError, match=r"mxfp4.csv: a scheme is named 'mxfp4': choose another name"):
        rf8sim.as_scheme("mxfp4.csv")


@pytest.mark.parametrize("name", ["int(12)", "int12", "posit(16,1)", "posit16", "fp16", "minifloat(5,10)", "takum(12)"])
def test_any_name_of_a_format_alone_is_a_scale_for_each_channel(name):
    fmt = rf8sim.get_format(name)
    assert by_channel(name) == by_channel(fmt)
    assert by_channel(f"{name}/tensor").scales.block is None
    with pytest.raises(ValueError, match=r"format 'int\(\)': expected int\(n\), such as int\(12\)"):
        rf8sim.get_format("int()")


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "model.npz", **{"a.weight": rng.laplace(size=(20, 32)).astype(np.float32)})
    return folder / "model.npz"


@pytest.fixture
def mine(capsys, folder):
    """An RF8 table of another name, with the rules of its edges."""
    run(capsys, "formats", "rf8", "-o", "mine.json")
    record = json.loads((folder / "mine.json").read_text())
    (folder / "mine.json").write_text(json.dumps({**record, "name": "mine"}))
    return "mine.json"


def test_report(capsys, folder, checkpoint, mine):
    run(capsys, "report", checkpoint, "-f", mine, "-f", f"{mine}/tensor", "-f", "rf8", "--no-figures", "-o", "r.json")
    [tensor] = json.loads((folder / "r.json").read_text())["tensors"]
    records = {record["scheme"]["format"]: record for record in tensor["schemes"][::2]}
    assert len(tensor["schemes"]) == 3
    assert records["mine"]["sqnr_db"] == records["rf8"]["sqnr_db"]


def test_compare(capsys, folder, checkpoint, mine):
    """Another process knows the format of a report by its file alone."""
    run(capsys, "report", checkpoint, "-f", mine, "--no-figures", "-o", "r.json")
    forget()
    err = run(capsys, "compare", "r.json", "r.json", code=2).err
    assert "unknown format 'mine': did you mean 'mine.json'?" in err
    run(capsys, "compare", "r.json", "r.json", "-f", mine)


def test_quantize(capsys, folder, checkpoint, mine):
    run(capsys, "quantize", checkpoint, "-o", "q.safetensors", "-f", f"*.weight={mine}/1x16:e8m0fnu,max", "-q")
    assert rf8sim.open_quantized("q.safetensors")["a.weight"].recipe.scheme.text == "mine/1x16,max"
    run(capsys, "quantize", checkpoint, "-o", "p.safetensors", "-f", mine, "-q")
    assert rf8sim.open_quantized("p.safetensors")["a.weight"].recipe.scheme.text == "mine/channel"
    usual = rf8sim.quantize(np.load(checkpoint)["a.weight"], "rf8/channel").dequantize()
    forget()  # the file has the table
    np.testing.assert_array_equal(rf8sim.load_quantized("p.safetensors")["a.weight"], usual)


def test_vectors_and_verify(capsys, folder, mine):
    made, usual = (run(capsys, "vectors", "multiply", "-f", fmt).out for fmt in (mine, "rf8"))
    assert made == usual
    (folder / "answers.txt").write_text(made)
    run(capsys, "verify", "multiply", "-f", mine, "answers.txt")


def test_tradeoff_and_formats(capsys, checkpoint, mine):
    run(capsys, "tradeoff", checkpoint, "-f", mine, "-f", "int8", "-o", "t.json", "-q")
    text = run(capsys, "formats", mine, "int8").out
    assert "mine" in text
    assert "0x7F" in run(capsys, "formats", mine).out


# --- what is refused ----------------------------------------------------------------------------------------

BAD_CSV = {
    "": "line 1: expected columns 'code' and 'value', got nothing",
    "a,b\n1,2\n": "line 1: expected columns 'code' and 'value', got 'a', 'b'",
    "code,value\n": "code 0x00 is missing: expected all 2 codes of 1 bits",
    "code,value\n0,x\n": "line 2: expected a number, inf, -inf, or nothing for NaN, got 'x'",
    "code,value\nz,1\n": "line 2: expected a code such as 0x1F, at most 16 bits, got 'z'",
    "code,value\n0,1\n65536,1\n": "line 3: expected a code such as 0x1F, at most 16 bits, got '65536'",
    "code,value\n-1,1\n": "line 2: expected a code such as 0x1F, at most 16 bits, got '-1'",
    "code,value\n0,1\n\n0x0,2\n": "line 4: code 0x00 is on line 2 already: expected each code once",
    "code,value\n0,1\n2,2\n": "code 0x01 is missing: expected all 4 codes of 2 bits",
    "code,value\n0,0\n1,0.1\n": "line 3: expected a value of at most 24 significant bits, such as a float32, got 0.1",
    "code,value\n0,0\n1,0x1p600\n": "line 3: expected a number, inf, -inf, or nothing for NaN, got '0x1p600'",
    f"code,value\n0,0\n1,{2.0**600}\n": "line 3: expected a magnitude between 2**-500 and 2**500",
    "code,value\n0,0\n1,-1\n": "expected at least one positive finite value",
    "code,value,canonical\n0,1,0\n1,,0\n": "line 3: canonical code 0x00: expected one code of NaN for all that are NaN",
}
BAD_JSON = {
    "": "line 1: expected JSON: Input data was truncated",
    '{\n"values":\n}': "line 3: expected JSON: ",
    "3": "expected object, got int",
    "{}": "field 'values' is missing",
    '{"values": [0, 1, 2]}': "field 'values': expected 2**bits values, at most 65536, got 3",
    '{"values": [0, 1], "bits": 3}': "field 'values': expected 2**bits values, at most 65536, got 2 and 3 bits",
    '{"values": [0, "x"]}': "field 'values[1]': expected a number, 'inf', '-inf' or null, got 'x'",
    '{"values": [0, 0.1]}': "field 'values[1]': expected a value of at most 24 significant bits",
    '{"values": [0, 1], "nan": 1}': "code 1 is given as NaN, but its value is not NaN",
    '{"values": [0, 1], "nans": 1}': "Object contains unknown field nans",
    '{"values": [0, 1], "depth": "4"}': "field 'depth': expected int | null, got str",
    '{"values": [0, 1, 2, 3], "beyond": 2}': "'beyond': expected the next magnitude after the largest, 3.0, got 2",
    '{"values": [0, 1], "family": "banana"}': "field 'family': expected one of user, residual, minifloat",
    '{"values": [0, 1], "name": "a/b"}': "in the name of a format, got 'a/b'",
    "[3]": "item 1: expected a code such as 0x1F, at most 16 bits, got nothing",
    '[{"code": 0, "value": true}]': "item 1: expected a number, inf, -inf, or nothing for NaN, got True",
}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        *(("bad.csv", text, message) for text, message in BAD_CSV.items()),
        *(("bad.json", text, message) for text, message in BAD_JSON.items()),
        ("a b.csv", QUARTERS, "in the name of a format, got 'a b'"),
        ("a.csv.csv", QUARTERS, "in the name of a format, got 'a.csv'"),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(capsys, folder, file, text, message):
    (folder / file).write_text(text)
    err = run(capsys, "formats", file, code=2).err
    assert err.startswith(f"rf8sim: error: {file}")
    assert message in err
    assert err.count("\n") == 1
    with pytest.raises(ValueError) as refusal:
        rf8sim.as_scheme(file)
    assert len(str(refusal.value).splitlines()) <= 2


def test_a_file_that_cannot_be_read(capsys, folder):
    assert "no.csv: a format cannot be read from it: No such file" in run(capsys, "formats", "no.csv", code=2).err
    (folder / "folder.json").mkdir()
    assert "folder.json: a format cannot be read from it: Is a" in run(capsys, "formats", "folder.json", code=2).err
    (folder / "latin.csv").write_bytes(b"code,value\n0,\xe9\n")
    assert "latin.csv: expected text in UTF-8" in run(capsys, "formats", "latin.csv", code=2).err
    with pytest.raises(ValueError, match=r"table.txt: a format is read from a .csv or a .json file"):
        rf8sim.get_format(folder / "table.txt")


def test_infinities_and_zeros_of_both_signs(folder):
    (folder / "edges.csv").write_text("\ufeffcode, value\n0b00,-0.0\n0x1,inf\n2,-inf\n3,1e0\n")
    fmt = rf8sim.get_format("edges.csv")
    assert fmt.negative_zero == 0
    assert [side.infinity for side in fmt.sides] == [1, 2]
    assert fmt.max == 1


def test_a_file_that_cannot_be_written_stays(tmp_path, monkeypatch):
    """What is written stands beside the old file until it is complete."""
    place = tmp_path / "mine.json"
    write_format(rf8sim.get_format("int4"), place)
    before = place.read_bytes()

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_format(rf8sim.get_format("rf8"), place)
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
