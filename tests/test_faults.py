"""Faults, injected: every damage is found and named, nothing is lost, nothing is half-written."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim
from rf8sim import cli
from rf8sim.checkpoints import safetensors as _safetensors
from rf8sim.checkpoints.checkpoint import CheckpointError
from rf8sim.checkpoints.errors import UnreadableError
from rf8sim.checkpoints.header import described
from rf8sim.checkpoints.loading import DamageWarning
from rf8sim.checkpoints.manifest import check_manifest, manifest_path
from rf8sim.checkpoints.plan import Plan, Recipe
from rf8sim.checkpoints.protect import Protection
from rf8sim.checkpoints.quantized import find_damage, open_quantized
from rf8sim.checkpoints.stored import StoredTensor

ROOT = Path(__file__).parents[1]
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def source(tmp_path):
    """A small checkpoint of two files."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    tensors = [
        {"a.weight": rng.laplace(size=(3, 9)).astype(np.float32), "a.norm": np.ones(3, np.float32)},
        {"b.weight": rng.laplace(size=(2, 8)).astype(np.float32)},
    ]
    for name, own in zip(SHARDS, tensors, strict=True):
        save_file(own, folder / name)
    weight_map = {tensor: name for name, own in zip(SHARDS, tensors, strict=True) for tensor in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def quantize(source, output, fmt="int8", **options):
    plan = Plan(Recipe(f"{fmt}/1x4", entropy=options.pop("entropy", "none")))
    return rf8sim.quantize_checkpoint(source, output, plan, **options)


def flipped(data, place, bit):
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def owner(header, place):
    """Return the tensor that a byte of a file belongs to; None for the header."""
    offset = place - len(header.raw)
    return next((entry.name for entry in header.entries.values() if entry.begin <= offset < entry.end), None)


# --- damaged bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fmt", "entropy"), [("int8", "none"), ("e4m3fn", "none"), ("rf8", "rans")])
def test_a_flipped_bit_anywhere_is_found_and_named(tmp_path, source, fmt, entropy):
    """In every byte of codes, scales, places and exact values, and in every eleventh of the header."""
    path = tmp_path / "q.safetensors"
    quantize(source, path, fmt, entropy=entropy, protection=Protection(0.1))
    whole, [header] = path.read_bytes(), open_quantized(path).headers
    named = set()
    for place in [*range(0, len(header.raw), 11), *range(8), *range(len(header.raw), len(whole))]:
        path.write_bytes(flipped(whole, place, place % 8))
        damage = find_damage(path)
        name = owner(header, place)
        assert damage, f"byte {place} of {name or 'the header'}"
        assert str(path) in damage[0]
        if name is not None:
            assert name.removesuffix(".exact_index").removesuffix(".scale").removesuffix("_scale") in damage[0]
            named.add(name)
    assert named == set(header.entries)
    path.write_bytes(whole)
    assert find_damage(path) == []


def test_a_flipped_bit_of_the_index_or_the_manifest_is_found(tmp_path, source):
    quantize(source, tmp_path / "out")
    for name in ("model.safetensors.index.json", "manifest.json"):
        path = tmp_path / "out" / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(flipped(whole, place, place % 7))
            damage = find_damage(tmp_path / "out")
            damage = damage or check_manifest(open_quantized(tmp_path / "out"))
            foreign = name == "manifest.json" and rf8sim.checkpoints.safetensors.SEAL.encode() not in path.read_bytes()
            assert foreign or (damage and name in damage[0]), f"byte {place} of {name}"
        path.write_bytes(whole)
    assert find_damage(tmp_path / "out") == []


def test_every_damaged_tensor_is_named(tmp_path, source):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    whole, [header] = path.read_bytes(), open_quantized(path).headers
    for name in ("a.weight", "b.weight"):
        whole = flipped(whole, len(header.raw) + header.entries[name].begin, 0)
    path.write_bytes(whole)
    damage = find_damage(path)
    assert len(damage) == 2
    assert "'a.weight'" in damage[0]
    assert "'b.weight'" in damage[1]


def test_truncated_and_lengthened_files(tmp_path, source):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 23), len(whole) - 1]:
        path.write_bytes(whole[:length])
        [damage] = find_damage(path)
        assert str(path) in damage
    path.write_bytes(whole + b"\0")
    assert "too long" in find_damage(path)[0]
    with pytest.raises(CheckpointError, match="too long"):
        rf8sim.load_quantized(path)


def test_a_missing_or_exchanged_file(tmp_path, source):
    quantize(source, tmp_path / "out")
    quantize(source, tmp_path / "other", "rf8")
    shard = tmp_path / "out" / SHARDS[1]
    whole = shard.read_bytes()
    shard.write_bytes((tmp_path / "other" / SHARDS[1]).read_bytes())
    assert "is not the file that model.safetensors.index.json was written with" in find_damage(tmp_path / "out")[0]
    shard.unlink()
    assert f"names the file {SHARDS[1]!r}, which is missing" in find_damage(tmp_path / "out")[0]
    with pytest.warns(DamageWarning, match="which is missing.*all tensors are taken from"):
        found = rf8sim.load_quantized(tmp_path / "out", fallback=source)
    assert sorted(found) == ["a.norm", "a.weight", "b.weight"]
    shard.write_bytes(whole)
    assert find_damage(tmp_path / "out") == []
    (tmp_path / "out" / "model.safetensors.index.json").unlink()
    with pytest.raises(UnreadableError, match="holds 2 files"):
        find_damage(tmp_path / "out")


def test_check_says_so_and_exits_1(capsys, tmp_path, source):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    assert cli.main(["check", str(path)]) == 0
    assert "no damage: 3 tensors" in capsys.readouterr().out
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, len(whole) - 1, 3))
    assert cli.main(["check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"rf8sim: damaged: {path}: tensor '")
    assert err.count("\n") == 1
    path.write_bytes(whole)
    manifest = manifest_path(path)
    manifest.write_bytes(manifest.read_bytes().replace(b'"int8/1x4"', b'"rf08/1x4"', 1))
    assert cli.main(["check", str(path)]) == 1
    assert "manifest is damaged" in capsys.readouterr().err
    quantize(source, tmp_path / "r.safetensors", "rf8")
    manifest.write_bytes(manifest_path(tmp_path / "r.safetensors").read_bytes())
    assert cli.main(["check", str(path)]) == 1
    assert "is the manifest of another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.safetensors", "no such file or folder: name what 'rf8sim quantize' wrote"),
        ("m.npz", "a quantized checkpoint is a .safetensors file or the .index.json of several"),
        (f"m/{SHARDS[0]}", "not a quantized checkpoint; create one with 'rf8sim quantize"),
        ("m", "not a quantized checkpoint; create one with 'rf8sim quantize"),
        ("d.safetensors", "not a quantized checkpoint; create one with 'rf8sim quantize"),
        ("empty", "this folder holds no quantized checkpoint"),
    ],
)
def test_what_is_not_quantized_is_not_called_damaged(capsys, tmp_path, source, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.npz").write_bytes(b"")
    quantize(source, tmp_path / "q.safetensors")
    assert cli.main(["dequantize", str(tmp_path / "q.safetensors"), "-o", str(tmp_path / "d.safetensors"), "-q"]) == 0
    source.rename(tmp_path / "m")
    assert cli.main(["check", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "damage" not in err
    assert err.count("\n") == 1


# --- forged bytes: right checksums, wrong numbers -----------------------------------------------------------


def forge(path, name, data):
    """Replace a tensor's bytes, and make its checksum and the seal right again."""
    [header] = open_quantized(path).headers
    entry = header.entries[name]
    assert len(data) == entry.end - entry.begin
    whole = path.read_bytes()
    begin = len(header.raw) + entry.begin
    before = hashlib.sha256(whole[begin : begin + len(data)]).hexdigest().encode()
    text = header.raw.replace(before, hashlib.sha256(data).hexdigest().encode())
    text = text.replace(_safetensors.seal_of(header.raw).encode(), _safetensors.NO_SEAL.encode())
    path.write_bytes(_safetensors.seal(text) + whole[len(header.raw) : begin] + data + whole[begin + len(data) :])


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        ("a.weight_scale", lambda x: np.full_like(x, np.inf), "scales that are not positive finite"),
        ("a.weight_scale", lambda x: -x, "scales that are not positive finite"),
        ("a.weight_scale", lambda x: x * 2, "decodes to numbers up to"),
        ("a.weight", np.zeros_like, "decodes to numbers up to"),
        ("a.weight.exact_index", lambda x: x[::-1], "not in order"),
        ("a.weight.exact_index", lambda x: x + 1000, "at places that it does not have"),
    ],
)
def test_range_checks(tmp_path, source, part, change, what):
    path = tmp_path / "q.safetensors"
    quantize(source, path, protection=Protection(0.1))
    values = open_quantized(path)["a.weight"].part(part)
    forge(path, part, values.tobytes())  # control: the same bytes are right
    assert find_damage(path) == []
    forge(path, part, change(values).tobytes())
    [damage] = find_damage(path)
    assert "'a.weight'" in damage
    assert what in damage
    with pytest.warns(DamageWarning, match=what):
        found = rf8sim.load_quantized(path, fallback=source)
    np.testing.assert_array_equal(found["a.weight"], load(source)["a.weight"])


def reheaded(path, change, seal=True):
    """Change the JSON of a header, and make the seal right again: damage by hand."""
    raw = open_quantized(path).headers[0].raw
    table = json.loads(raw[8:])
    form = json.loads(table["__metadata__"]["rf8sim"])
    change(form, table)
    table["__metadata__"]["rf8sim"] = json.dumps(form, separators=(",", ":"))
    table["__metadata__"][_safetensors.SEAL] = _safetensors.NO_SEAL
    text = json.dumps(table, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    path.write_bytes(_safetensors.seal(len(text).to_bytes(8, "little") + text) + path.read_bytes()[len(raw) :])


def test_codes_that_a_narrow_format_does_not_have(tmp_path, source):
    """Entropy-coded codes are of 8 bits; packed ones are all codes of the format, but for bits after the last one."""
    path = tmp_path / "q.safetensors"
    quantize(source, path, "int8", entropy="rans")

    def change(form, table):
        form["formats"]["rf6"] = msgspec.to_builtins(described(rf8sim.get_format("rf6")))
        form["tensors"]["a.weight"]["scheme"]["format"] = "rf6"

    reheaded(path, change)
    assert "holds codes that rf6 does not have" in find_damage(path)[0]
    quantize(source, path, "rf6")
    forge(path, "a.weight", bytes([255] * 21))
    assert "'a.weight' is damaged: it has bits set after the last code of a row" in find_damage(path)[0]


def places(data, path=()):
    """Yield the path of everything in a JSON value."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("fmt", ["int4", "e4m3fn"])
def test_a_header_changed_by_hand_is_refused_in_a_sentence(tmp_path, source, fmt):
    """Every field of it, in turn, gone or another: damage, or what is as good; never another error."""
    path = tmp_path / "q.safetensors"
    quantize(source, path, fmt, protection=Protection(0.1))
    data = path.read_bytes()
    form = json.loads(open_quantized(path).headers[0].metadata["rf8sim"])
    fields = [place for place in places(form) if place[:1] != ("formats",) or place[-1] in (0, 1, "bits", "values")]
    refused = 0
    for place in fields:
        for value in (None, -1, 3, 10**30, 0.5, "x", "F8_E4M3", [], [1], {}, "gone"):
            if place == ("form",) and value == 2:
                continue

            def change(form, table, place=place, value=value):
                inner = form
                for key in place[:-1]:
                    inner = inner[key]
                if value == "gone":
                    del inner[place[-1]]
                else:
                    inner[place[-1]] = value

            path.write_bytes(data)
            reheaded(path, change)
            for read in (find_damage, rf8sim.load_quantized):
                try:
                    damage = read(path)
                except CheckpointError as error:
                    damage = [str(error)]
                if isinstance(damage, list) and damage:
                    refused += 1
                    assert str(path) in damage[0]
                    assert "\n" not in damage[0]
    assert refused > 5 * len(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, t: f["tensors"]["a.weight"].update(seed=-1), r"field 'tensors\[...\].seed': expected int >= 0"),
        (lambda f, t: f["tensors"]["a.weight"].update(shape="x"), r"field 'tensors\[...\].shape': expected array, got"),
        (lambda f, t: f["tensors"]["a.weight"].update(entropy="zip"), "'a.weight': unknown entropy coder 'zip'"),
        (lambda f, t: f["tensors"]["a.weight"].update(dtype="int3"), "'a.weight': safetensors has no type for int3"),
        (lambda f, t: f["tensors"]["a.weight"].update(shape=[3, 10]), "'a.weight': array 'a.weight' is I8 of shape"),
        (lambda f, t: f["tensors"]["a.weight"].update(scales=[]), "'a.weight': is made of 1 arrays, where its scheme"),
        (lambda f, t: f["tensors"]["a.weight"]["scheme"].update(format="rf9"), "'a.weight': its scheme has the format"),
        (lambda f, t: f["tensors"]["a.weight"]["scheme"].update(rounding="odd"), "'a.weight': unknown rounding"),
        (lambda f, t: f.pop("sha256"), "field 'sha256' is missing"),
        (lambda f, t: f["formats"]["int8"].update(bits=17), r"field 'formats\[...\].bits': expected int <= 16"),
        (lambda f, t: f["formats"]["int8"].pop("values"), "field 'formats': 'int8': it has no values"),
        (lambda f, t: t.pop("b.weight"), "too long: its header says"),
        (lambda f, t: t["a.weight"].update(shape=[-3, -9]), "its header is damaged: a shape is made of numbers"),
    ],
)
def test_a_damaged_field_is_named(tmp_path, source, change, message):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    reheaded(path, change)
    [damage] = find_damage(path)
    assert damage.startswith(f"{path}: ")
    assert re.search(message, damage)
    assert cli.main(["check", str(path)]) == 1


def test_an_origin_changed_by_hand_is_refused_in_a_sentence(tmp_path, source):
    path, plain = tmp_path / "q.safetensors", tmp_path / "d.safetensors"
    quantize(source, path, protection=Protection(0.1))
    rf8sim.dequantize_checkpoint(path, plain)
    data, key = plain.read_bytes(), "rf8sim_dequantized"
    raw = _safetensors.read_header(plain).raw
    origin = json.loads(json.loads(raw[8:])["__metadata__"][key])
    refused = 0
    for place in [place for place in places(origin) if "formats" not in place or place[-1] in (0, "values")]:
        for value in (None, 3, "x", [], {}):
            table = json.loads(raw[8:])
            changed = json.loads(table["__metadata__"][key])
            inner = changed
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = value
            table["__metadata__"][key] = json.dumps(changed)
            text = json.dumps(table).encode()
            plain.write_bytes(len(text).to_bytes(8, "little") + text + data[len(raw) :])
            try:
                rf8sim.quantize_checkpoint(plain, tmp_path / "again.safetensors")
            except CheckpointError:
                refused += 1
    assert refused > 20


# --- falling back -------------------------------------------------------------------------------------------


def load(folder):
    from safetensors.numpy import load_file

    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def test_a_damaged_tensor_is_taken_from_the_original(tmp_path, source):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    right = rf8sim.load_quantized(path)
    whole, [header] = path.read_bytes(), open_quantized(path).headers
    path.write_bytes(flipped(whole, len(header.raw) + header.entries["a.weight"].begin, 5))
    with pytest.raises(CheckpointError, match=r"'a\.weight' is damaged"):
        rf8sim.load_quantized(path)
    with pytest.warns(DamageWarning, match=r"'a\.weight' is damaged.*it is taken from") as warned:
        found = rf8sim.load_quantized(path, fallback=source)
    assert len(warned) == 1
    np.testing.assert_array_equal(found["a.weight"], load(source)["a.weight"])
    np.testing.assert_array_equal(found["b.weight"], right["b.weight"])
    assert not np.array_equal(found["a.weight"], right["a.weight"])
    assert list(found) == list(right)
    # A damaged header: everything.
    path.write_bytes(flipped(whole, 100, 1))
    with pytest.warns(DamageWarning, match="header is damaged.*all tensors are taken from"):
        found = rf8sim.load_quantized(path, fallback=source)
    assert sorted(found) == ["a.norm", "a.weight", "b.weight"]
    np.testing.assert_array_equal(found["b.weight"], load(source)["b.weight"])


def another(source, path):
    """A checkpoint of the same names and shapes, one number apart."""
    tensors = load(source)
    tensors["b.weight"] = tensors["b.weight"] + np.float32(2**-20)
    save_file(tensors, path)
    return path


def test_another_fallback_is_refused_at_once(tmp_path, source, monkeypatch):
    """Before a tensor is read, and without a warning that its tensors are taken."""
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    wrong, whole = another(source, tmp_path / "wrong.safetensors"), path.read_bytes()
    monkeypatch.setattr(StoredTensor, "part", None)
    refused = pytest.raises(
        CheckpointError, match=r"is not the checkpoint that .* was quantized from: its tensor 'b\.w"
    )
    with refused:
        rf8sim.load_quantized(path, fallback=wrong)
    with pytest.raises(CheckpointError, match="no such file"):
        rf8sim.load_quantized(path, fallback=tmp_path / "nowhere.safetensors")
    path.write_bytes(flipped(whole, 100, 1))  # the header is damaged: the manifest tells
    with refused:
        rf8sim.load_quantized(path, fallback=wrong)
    manifest_path(path).unlink()  # now nothing tells
    with pytest.warns(DamageWarning, match="header is damaged.*all tensors are taken from"):
        rf8sim.load_quantized(path, fallback=wrong)


def test_an_original_that_was_saved_anew_is_known_by_its_tensors(tmp_path, source, capsys):
    path, again = tmp_path / "q.safetensors", tmp_path / "again.npz"
    quantize(source, path)
    np.savez(again, **load(source))
    assert list(rf8sim.load_quantized(path, fallback=again)) == ["a.norm", "a.weight", "b.weight"]
    check = ["check", str(path), "--against"]
    assert cli.main([*check, str(source)]) == cli.main([*check, str(again)]) == 0
    first, second = capsys.readouterr().out.split("What each tensor lost")[1:]
    assert "a.weight" in first
    assert first == second
    manifest_path(path).unlink()
    assert cli.main([*check, str(source)]) == 0
    assert cli.main([*check, str(again)]) == 2
    assert "its SHA-256 is not the one recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"b.weight": t["b.weight"] * 2}, "its tensor 'b.weight' holds other numbers"),
        (lambda t: t | {"a.norm": t["a.norm"] * 2}, "its tensor 'a.norm' holds other numbers"),
        (lambda t: {"a.weight": t["a.weight"]}, "it has no tensor 'a.norm'"),
    ],
)
def test_another_original_is_refused(tmp_path, source, capsys, change, message):
    path, wrong = tmp_path / "q.safetensors", tmp_path / "wrong.safetensors"
    quantize(source, path)
    save_file(change(load(source)), wrong)
    assert cli.main(["check", str(path), "--against", str(wrong)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{wrong}: is not the checkpoint that {path} was quantized from: {message}" in err


# --- writing that fails -------------------------------------------------------------------------------------


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


FULL_DISK = """
    import contextlib, io, json, resource, signal, sys
    from pathlib import Path
    from rf8sim.cli import main
    folder, source, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    main([*command, str(folder / "warm.safetensors"), "-q"])   # everything is compiled and imported
    size = (folder / "warm.safetensors").stat().st_size
    for name in ("warm.safetensors", "warm.safetensors.manifest.json"):
        (folder / name).unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in [*range(0, size, max(size // 12, 1)), size - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = main([*command, str(folder / "out.safetensors"), "-q"])
        assert code == 1, (limit, code)
        assert "out.safetensors: cannot be written: File too large" in errors.getvalue(), errors.getvalue()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    assert main([*command, str(folder / "out.safetensors"), "-q"]) == 0
    assert (folder / "out.safetensors").read_bytes() != before["out.safetensors"]
    print("kept")
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["quantize", "dequantize"])
def test_a_full_disk(tmp_path, source, command):
    """Files may grow to a limit and no further, as on a full disk: what was there stays, and nothing else is there."""
    place = tmp_path / "out"
    place.mkdir()
    quantize(source, place / "out.safetensors", "rf8")
    given = source
    if command == "dequantize":
        given = tmp_path / "q.safetensors"
        quantize(source, given)
    options = ["-f", "e5m2", "-o"] if command == "quantize" else ["-o"]
    done = run(FULL_DISK, place, given, command, given, *options)
    assert (done.stdout.strip(), done.returncode) == ("kept", 0), done.stderr


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_an_error_at_the_very_end(capsys, monkeypatch, tmp_path, source, call):
    """The disk is found full when the file is flushed, or the rename fails."""
    path = tmp_path / "out" / "q.safetensors"
    path.parent.mkdir()
    quantize(source, path)
    before = {one: one.read_bytes() for one in path.parent.iterdir()}

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    code = cli.main(["quantize", str(source), "-o", str(path), "-f", "rf8", "-q"])
    if call == "rename":  # not used: a control
        assert code == 0
        return
    assert code == 1
    assert f"{path}: cannot be written: No space left on device" in capsys.readouterr().err
    assert {one: one.read_bytes() for one in path.parent.iterdir()} == before


KILL = """
    import os, signal, sys
    from pathlib import Path
    from rf8sim import cli
    from rf8sim.checkpoints import safetensors as _safetensors
    folder, source, output = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    arguments = ["quantize", source, "-o", output, "-f", "e5m2", "-q"]
    def after(function, count):
        calls = 0
        def counted(*given, **named):
            nonlocal calls
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)
        return counted
    def see():
        return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}
    before = see()
    killed = 0
    places = [(_safetensors.Writer, "write", n) for n in (1, 2, 4)] + [(_safetensors.Writer, "finish", 1)]
    places += [(os, "fsync", 1), (os, "fsync", 2), (os, "replace", 1)]
    for owner, name, count in places:
        child = os.fork()
        if not child:
            setattr(owner, name, after(getattr(owner, name), count))
            cli.main(arguments)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, count)
        assert see() == before, (name, count)
        assert any(p.name.startswith(".") and p.name.endswith(".part") for p in folder.iterdir()), (name, count)
        killed += 1
    child = os.fork()
    if not child:
        os._exit(cli.main(arguments))
    assert os.waitpid(child, 0)[1] == 0
    print("kept", killed)
"""


@pytest.mark.parametrize("output", ["q.safetensors", "folder"])
def test_kill_9_in_the_middle(tmp_path, source, output):
    place = tmp_path / "out"
    place.mkdir()
    (place / "other").write_text("of somebody else")
    if output != "folder":
        quantize(source, place / output)
    done = run(KILL, place, source, place / output)
    assert (done.stdout.split(), done.returncode) == (["kept", "7"], 0), done.stderr
    assert find_damage(place / output) == []
    assert open_quantized(place / output)["a.weight"].format.name == "e5m2"
    assert visible(place) == sorted({"other", output, *(["q.safetensors.manifest.json"] if output != "folder" else [])})


def test_a_damaged_source_writes_nothing(capsys, tmp_path, source):
    shard = source / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-3])
    for output in ("q.safetensors", "folder"):
        assert cli.main(["quantize", str(source), "-o", str(tmp_path / output)]) == 2
        assert f"{shard}: not a whole safetensors file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_damaged_file_is_not_dequantized(capsys, tmp_path, source):
    path = tmp_path / "q.safetensors"
    quantize(source, path)
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 1, 0))
    (tmp_path / "d.safetensors").write_text("before")
    assert cli.main(["dequantize", str(path), "-o", str(tmp_path / "d.safetensors")]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert (tmp_path / "d.safetensors").read_text() == "before"
    assert visible(tmp_path) == ["d.safetensors", "in", "q.safetensors", "q.safetensors.manifest.json"]


def test_bytes_that_do_not_read_back_are_refused(monkeypatch, tmp_path, source):
    """A disk that returns other bytes than were written: the file never takes its place."""
    from rf8sim.checkpoints.manifest import RefusedError

    path = tmp_path / "q.safetensors"
    quantize(source, path)
    before = path.read_bytes()
    read = _safetensors.Header.read
    monkeypatch.setattr(
        _safetensors.Header, "read", lambda header, name: read(header, name) + (1 if name.endswith(".scale") else 0)
    )
    with pytest.raises(RefusedError, match=r"not written: .*'a\.weight\.scale' is damaged"):
        quantize(source, path, "rf8")
    assert path.read_bytes() == before
