"""Quantized files of formats of 9 to 16 bits: every code, there and back to the byte, and every damage refused."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file
from test_faults import reheaded

import rf8sim
from rf8sim.checkpoints.checkpoint import open_checkpoint
from rf8sim.checkpoints.comparison import compare
from rf8sim.checkpoints.dequantization import dequantize_checkpoint
from rf8sim.checkpoints.errors import CheckpointError, UnreadableError
from rf8sim.checkpoints.layouts import NATIVE
from rf8sim.checkpoints.plan import Plan, Recipe, read_plan, write_plan
from rf8sim.checkpoints.quantized import find_damage, open_quantized
from rf8sim.studies.rate_distortion import cost_of

FORMATS = ["int9", "int12", "takum12", "posit(10,1)", "posit16_es2", "float16", "bfloat16", "rf(6,16)"]
CODERS = ("none", "rans", "huffman", "eg", "zstd")


def values_of(name: str) -> np.ndarray:
    """Return the value of every code that is a finite number, as float64."""
    values = rf8sim.get_format(name).values
    return values[np.isfinite(values)]


def store(path, tensor, scheme, entropy="none", **options):
    save_file({"w": tensor}, path / "m.safetensors")
    target = path / "q.safetensors"
    rf8sim.quantize_checkpoint(
        path / "m.safetensors", target, Plan(Recipe(scheme, entropy=entropy), kept=()), **options
    )
    return target


@pytest.mark.parametrize("entropy", ["none", "rans"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_code_of_a_format_is_stored_and_read(tmp_path, name, entropy):
    fmt, values = rf8sim.get_format(name), values_of(name)
    target = store(tmp_path, values[:, None].T.copy(), f"{name}/none", entropy)
    assert find_damage(target) == []
    opened = open_quantized(target)["w"]
    expected = rf8sim.encode(values, fmt)
    assert opened.read().codes.dtype == np.uint16
    np.testing.assert_array_equal(opened.read().codes[0], expected)
    np.testing.assert_array_equal(opened.dequantize(np.float64)[0], values)
    if entropy == "none":
        assert opened.bits_per_weight == pytest.approx(fmt.bits, abs=8 / values.size)
        width = {16: "U16"}.get(fmt.bits, "U8")
        assert opened.entry.dtype == NATIVE.get(name, width)
    else:
        assert opened.entry.dtype == "U8"


@pytest.mark.parametrize(("name", "dtype"), [("float16", "float16"), ("bfloat16", "bfloat16")])
def test_native_codes_are_the_numbers_themselves(tmp_path, name, dtype):
    """A reader that knows nothing of the format reads float16 numbers: those of the codes."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    values = rf8sim.get_format(name).values
    with np.errstate(invalid="ignore"):  # signalling NaN
        native = np.arange(65536, dtype=np.uint16).view(kind).astype(np.float64)
    np.testing.assert_array_equal(values, native)
    tensor = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    target = store(tmp_path, tensor, f"{name}/none")
    if name == "float16":
        np.testing.assert_array_equal(load_file(target)["w"], tensor.astype(np.float16))
    raw = open_quantized(target)["w"].part("w").view(np.uint16)
    np.testing.assert_array_equal(raw, tensor.astype(kind).view(np.uint16))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    tensor=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.floats(-4, 4, width=32)),
    bits=st.integers(9, 16),
    kind=st.sampled_from(["int{}/none", "int{}/channel,max", "posit({},1)/none", "posit({},2)/1x4:e8m0fnu,max"]),
    entropy=st.sampled_from(CODERS),
)
def test_there_and_back_to_the_byte(tmp_path, tensor, bits, kind, entropy):
    scheme = kind.format(bits)
    target = store(tmp_path, tensor, scheme, entropy)
    quantized = rf8sim.quantize(tensor, scheme)
    np.testing.assert_array_equal(open_quantized(target)["w"].read().codes, quantized.codes)
    np.testing.assert_array_equal(rf8sim.load_quantized(target)["w"], quantized.dequantize())
    plain, again = tmp_path / "p.safetensors", tmp_path / "again.safetensors"
    dequantize_checkpoint(target, plain)
    rf8sim.quantize_checkpoint(plain, again)
    assert again.read_bytes() == target.read_bytes()


@pytest.mark.parametrize("name", ["int12", "float16", "posit16_es2"])
def test_constant_and_zero_tensors(tmp_path, name):
    for value in (0.0, 0.25):
        tensor = np.full((40, 50), value, np.float32)
        for entropy in CODERS:
            target = store(tmp_path, tensor, f"{name}/channel,max", entropy)
            assert find_damage(target) == []
            np.testing.assert_allclose(rf8sim.load_quantized(target)["w"], tensor, rtol=2e-3)


@pytest.mark.parametrize("entropy", [coder for coder in CODERS if coder != "zstd"])  # its size is known of a file alone
@pytest.mark.parametrize("name", ["int12", "bfloat16"])
def test_figures_are_those_of_the_file(tmp_path, name, entropy):
    """Bits of a cost, before anything is coded, and of the file; the requirement counts them."""
    tensor = np.random.default_rng(0).laplace(size=(300, 300)).astype(np.float32)
    recipe = Recipe(f"{name}/channel,max", entropy=entropy)
    cost, _ = cost_of(tensor, recipe)
    target = store(tmp_path, tensor, recipe.scheme, entropy, require=["bits<=16.6", "sqnr>=40dB"])
    opened = open_quantized(target)
    assert opened["w"].bits_per_weight == pytest.approx(cost.bits_per_weight, abs=0.01)
    [compared] = compare(open_checkpoint(tmp_path / "m.safetensors"), opened)
    assert compared.sqnr_db == pytest.approx(cost.sqnr_db, rel=1e-6)
    assert compared.bits_per_weight == opened["w"].bits_per_weight
    if entropy == "rans":
        assert cost.entropy_per_weight < compared.bits_per_weight < rf8sim.get_format(name).bits


def test_protected_weights_and_plans(tmp_path):
    from rf8sim.checkpoints.protect import Protection

    write_plan(tmp_path / "plan.toml", Plan(Recipe("int12/channel,max", entropy="rans"), kept=()))
    plan = read_plan(tmp_path / "plan.toml")
    tensor = np.random.default_rng(0).standard_t(3, size=(30, 70)).astype(np.float32)
    save_file({"w": tensor}, tmp_path / "m.safetensors")
    target = tmp_path / "q.safetensors"
    rf8sim.quantize_checkpoint(tmp_path / "m.safetensors", target, plan, protection=Protection(0.02))
    opened = open_quantized(target)["w"]
    places, values = opened.exact()
    assert (str(opened.scheme), opened.recipe.entropy) == ("int12/channel,max", "rans")
    np.testing.assert_array_equal(values, tensor.ravel()[places])
    assert find_damage(target) == []


# --- the header -------------------------------------------------------------------------------------------------------


def test_a_registered_format_is_named_by_its_digest(tmp_path):
    target = store(tmp_path, np.ones((4, 4), np.float32), "posit16_es2/none")
    raw = open_quantized(target).headers[0].raw
    form = json.loads(json.loads(raw[8:])["__metadata__"]["rf8sim"])
    values = rf8sim.get_format("posit16_es2").values
    digest = hashlib.sha256(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()).hexdigest()
    assert form["formats"] == {"posit16_es2": {"bits": 16, "family": "posit", "values_sha256": digest}}
    assert len(raw) < 10_000


def test_another_format_has_its_table_in_the_file(tmp_path):
    table = np.sort(np.random.default_rng(0).normal(size=512).astype(np.float32).astype(np.float64))
    table[100] = 0.0
    mine = rf8sim.Format("mine9", 9, "user", "a table", np.sort(table), beyond=10.0)
    target = store(tmp_path, np.random.default_rng(1).normal(size=(6, 7)).astype(np.float32), rf8sim.Scheme(mine, None))
    opened = open_quantized(target)["w"]
    np.testing.assert_array_equal(opened.format.values, mine.values)
    assert find_damage(target) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda form: form["formats"]["int12"].update(values_sha256="0" * 64), UnreadableError, "has other values"),
        (lambda form: form["formats"]["int12"].pop("values_sha256"), CheckpointError, "'int12': it has no values"),
        (lambda form: form["formats"]["int12"].update(bits=17), CheckpointError, "expected int <= 16"),
    ],
)
def test_a_header_changed_by_hand_is_refused(tmp_path, change, error, message):
    target = store(tmp_path, np.ones((4, 4), np.float32), "int12/none")
    reheaded(target, lambda form, table: change(form))
    with pytest.raises(error, match=message):
        open_quantized(target)


def test_a_digest_of_an_unknown_format_is_refused(tmp_path):
    target = store(tmp_path, np.ones((4, 4), np.float32), "int12/none")

    def change(form, table):
        form["formats"]["novel12"] = form["formats"].pop("int12")
        form["tensors"]["w"]["scheme"]["format"] = "novel12"

    reheaded(target, change)
    with pytest.raises(UnreadableError, match="its format 'novel12' is unknown here, and the file has no values of it"):
        open_quantized(target)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entropy", ["none", "rans"])
@pytest.mark.parametrize("name", ["int12", "bfloat16"])
def test_every_damaged_byte_and_truncation_is_found(tmp_path, name, entropy):
    tensor = np.random.default_rng(0).normal(size=(3, 31)).astype(np.float32)
    target = store(tmp_path, tensor, f"{name}/channel,max", entropy)
    data = target.read_bytes()
    begin = len(open_quantized(target).headers[0].raw)
    for place in range(begin, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        target.write_bytes(damaged)
        [sentence] = find_damage(target)
        assert "is damaged" in sentence
        assert "\n" not in sentence
    for size in range(begin, len(data), 7):
        target.write_bytes(data[:size])
        assert "truncated" in find_damage(target)[0]


def forged(path, data: bytes):
    """Put other bytes in the place of the codes, with their checksum made right."""
    header = open_quantized(path).headers[0]
    begin = len(header.raw) + header.entries["w"].begin
    raw = path.read_bytes()
    assert len(data) == header.entries["w"].end - header.entries["w"].begin
    path.write_bytes(raw[:begin] + data + raw[begin + len(data) :])
    reheaded(path, lambda form, table: form["sha256"].update(w=hashlib.sha256(data).hexdigest()))


def test_bits_after_the_last_code_of_a_row(tmp_path):
    target = store(tmp_path, np.ones((2, 3), np.float32), "int12/none")  # 36 bits in 5 bytes
    forged(target, bytes([0, 0, 0, 0, 0x1F] * 2))
    assert "has bits set after the last code of a row" in find_damage(target)[0]


@pytest.mark.parametrize(
    ("stored", "claimed", "message"),
    [
        ("int16", "int12", "holds codes that int12 does not have"),
        ("int8", "int12", "holds codes that int12 does not have"),
        ("int12", "int8", "holds codes that int8 does not have"),
    ],
)
def test_coded_codes_of_another_format(tmp_path, stored, claimed, message):
    """All codes are read before the format's table is: one that is too wide, or of another width, is refused."""
    import msgspec

    from rf8sim.checkpoints.header import described

    target = store(tmp_path, np.linspace(-9, 9, 60).reshape(6, 10), f"{stored}/tensor,max", "rans")

    def change(form, table):
        form["formats"][claimed] = msgspec.to_builtins(described(rf8sim.get_format(claimed)))
        form["tensors"]["w"]["scheme"]["format"] = claimed

    reheaded(target, change)
    assert message in find_damage(target)[0]


@pytest.mark.parametrize(("name", "dtype"), [("posit16_es2", "F16"), ("float16", "U16"), ("int12", "U16")])
def test_codes_of_another_type_are_refused(tmp_path, name, dtype):
    target = store(tmp_path, np.ones((4, 8), np.float32), f"{name}/none")

    def change(form, table):
        table["w"]["dtype"] = dtype
        if name == "int12":
            table["w"]["shape"] = [4, 6]

    reheaded(target, change)
    with pytest.raises(CheckpointError, match=f"array 'w' is {dtype} of shape"):
        open_quantized(target)


def test_a_wide_format_of_ones_own_is_in_the_file_for_another_process(tmp_path):
    """What quantized has read the format from a file; what dequantizes has never heard of it."""
    source = tmp_path / "model.safetensors"
    weights = np.random.default_rng(0).normal(0, 0.02, (8, 32)).astype(np.float32)
    save_file({"w": weights}, source)
    values = rf8sim.get_format("posit16_es1").values
    text = "code,value\n" + "".join(f"{code},{value!r}\n" for code, value in enumerate(values.tolist()))
    (tmp_path / "mine16.csv").write_text(text)
    quantized, back = tmp_path / "q.safetensors", tmp_path / "back.safetensors"
    for command in (
        ["quantize", source, "-o", quantized, "-f", f"{tmp_path / 'mine16.csv'}/none"],
        ["dequantize", quantized, "-o", back],
        ["check", quantized],
    ):
        run = subprocess.run(
            [sys.executable, "-m", "rf8sim", *map(str, command)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    wanted = rf8sim.decode(rf8sim.encode(weights, "posit16_es1"), "posit16_es1")
    np.testing.assert_array_equal(load_file(back)["w"], wanted)
