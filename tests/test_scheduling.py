"""Many tensors at a time: threads, Dask, and going on after a stop; the result is the same to the last bit."""

import base64
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from rf8sim._base.threads import available_threads
from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint
from rf8sim.studies import measuring, scheduling
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run, survey
from rf8sim.studies.scheduling import Cluster, Journal, map_tensors

SETTINGS = Settings(("rf8/channel", "e4m3fn/channel"))


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(5)
    tensors = {f"w{i}": (rng.normal(size=(60 + i, 50)) * 3.0**i).astype(np.float32) for i in range(7)}
    tensors["w3"][0, :3] = [np.nan, np.inf, 0.0]
    save_file(tensors, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def text(experiment):
    return json.dumps(experiment.to_json())


def square(tensor, tell):
    """A piece of work that can be pickled: the sum of squares of a tensor."""
    total = 0.0
    for chunk in tensor.chunks(500):
        tell(chunk.row * tensor.matrix_shape[1])
        total += float(np.nansum(np.where(np.isfinite(chunk.values), chunk.values, 0).astype(np.float64) ** 2))
    return total


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(checkpoint, threads):
    alone = run([checkpoint], SETTINGS, chunk_elements=777, threads=1)
    assert text(run([checkpoint], SETTINGS, chunk_elements=777, threads=threads)) == text(alone)
    one, several = survey([checkpoint], threads=1)[0], survey([checkpoint], threads=threads)[0]
    assert json.dumps(one.to_json()) == json.dumps(several.to_json())


def test_results_come_in_order_although_the_first_is_the_slowest(checkpoint):
    tensors, finished = list(open_checkpoint(checkpoint)), []

    def work(tensor, tell):
        assert available_threads() == 1  # the work inside a worker is not spread further
        time.sleep(0.2 if tensor.name == "w0" else 0.0)
        finished.append(tensor.name)
        return tensor.name

    assert list(map_tensors(work, tensors, threads=3)) == [f"w{i}" for i in range(7)]
    assert finished[0] != "w0"


def test_one_tensor_is_left_to_the_threads_inside(checkpoint):
    tensors = list(open_checkpoint(checkpoint))[:1]
    assert list(map_tensors(lambda tensor, tell: threading.current_thread().name, tensors)) == ["MainThread"]


def test_an_error_stops_the_others(checkpoint):
    tensors, started = list(open_checkpoint(checkpoint)), []

    def work(tensor, tell):
        started.append(tensor.name)
        if tensor.name == "w1":
            raise CheckpointError("w1 is damaged")
        for step in range(2000):
            tell(step)
            time.sleep(0.005)

    began = time.monotonic()
    with pytest.raises(CheckpointError, match="w1 is damaged"):
        list(map_tensors(work, tensors, threads=2))
    assert time.monotonic() - began < 5
    assert set(started) <= {"w0", "w1", "w2"}


def test_progress_only_grows_and_reaches_the_end(checkpoint):
    tensors, told = list(open_checkpoint(checkpoint)), []
    list(map_tensors(square, tensors, threads=3, progress=lambda *step: told.append(step)))
    total = sum(tensor.size for tensor in tensors)
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert done[-1] == total
    assert {step[2] for step in told} == {total}


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_counted_from_one(checkpoint, threads):
    with pytest.raises(ValueError, match="threads must be at least 1, got"):
        run([checkpoint], SETTINGS, threads=threads)


# --- tensors in parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schemes",
    [
        ("rf8", "int8"),
        ("rf8/tensor,ggd@stochastic", "int8"),
        ("rf8/channel", "int8/channel"),
        ("rf8", "int8/channel,ggd"),
        ("rf8/1x16,max", "nvfp4", "q4_1"),
        ("rf8/none@stochastic",),
        ("int8/4x5", "rf8/6x*"),
        ("int8/1x*x*", "e2m1fn/1x16:e4m3fn,max/2x1:float32,max"),
    ],
    ids="-".join,
)
def test_parts_change_nothing(checkpoint, schemes, monkeypatch):
    monkeypatch.setattr(measuring, "_fit", lambda histogram: (None, ""))  # of what was counted: no part of this
    work = measuring._Measuring(Settings(schemes, seed=3), 100)
    tensors = [tensor for tensor in open_checkpoint(checkpoint) if tensor.name in ("w3", "w6")]
    alone, pieces = [json.dumps(work(tensor, lambda part: None).to_json()) for tensor in tensors], set()
    for size in (1, 9):
        monkeypatch.setattr(measuring, "_PART", size)
        pieces.add(len(work.parts(tensors[1])))
        found = map_tensors(work, tensors, threads=3)
        assert [json.dumps(measured.to_json()) for measured in found] == alone
    if "ggd" in schemes[-1] or "x1:" in schemes[-1]:  # a shape is fitted to all pieces
        assert pieces == {1}
    else:
        assert pieces == ({6, 3} if schemes[0] == "int8/4x5" else {33, 3})


def test_parts_are_all_rows_in_order(checkpoint):
    for tensor in open_checkpoint(checkpoint):
        for chunk in (60, 100, 160, 400, 5000):
            parts = measuring._Measuring(SETTINGS, chunk).parts(tensor)
            assert [row for part in parts for row in part] == list(range(tensor.shape[0]))
            assert all(part.start * 50 % (chunk // 50 * 50) == 0 for part in parts)  # the chunks stay what they are


def test_what_is_read_from_its_beginning_only_is_not_divided(tmp_path):
    values = np.ones((64, 50), np.float32)
    np.savez(tmp_path / "a.npz", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    np.save(tmp_path / "c.npy", values)
    found = [
        len(measuring._Measuring(SETTINGS, 100).parts(tensor))
        for name in ("a.npz", "f.npy", "c.npy")
        for tensor in open_checkpoint(tmp_path / name)
    ]
    assert found == [1, 1, 4]


class Ways:
    """Work that says how it was done."""

    def __call__(self, tensor, advance):
        return "at once"

    def parts(self, tensor):
        return [range(1), range(1, 2)]

    def summarize(self, tensor, rows):
        return rows

    def prepare(self, tensor, summaries):
        return summaries

    def measure(self, tensor, rows, prepared, advance):
        return rows

    def merge(self, tensor, prepared, measured):
        return f"in {len(measured)} parts"


@pytest.mark.parametrize(("threads", "largest"), [(2, "in 2 parts"), (4, "in 2 parts"), (1, "at once")])
def test_threads_divide_what_is_a_large_share_of_their_work(threads, largest):
    tensors = [SimpleNamespace(name=str(i), size=size) for i, size in enumerate([10] * 90 + [400] + [10] * 90)]
    assert list(map_tensors(Ways(), tensors, threads=threads)) == ["at once"] * 90 + [largest] + ["at once"] * 90
    alike = [SimpleNamespace(name=str(i), size=10) for i in range(8 * threads)]
    assert set(map_tensors(Ways(), alike, threads=threads)) == {"at once"}
    assert set(map_tensors(Ways(), alike[1:], threads=threads)) == {"at once" if threads == 1 else "in 2 parts"}


def test_progress_in_parts(checkpoint):
    work, tensors, told = measuring._Measuring(SETTINGS, 100), list(open_checkpoint(checkpoint))[:1], []
    list(map_tensors(work, tensors, threads=3, progress=lambda *step: told.append(step)))
    assert told[-1][1:] == (3000, 3000)
    assert len(told) >= 30, "each chunk is told"


def test_an_error_in_a_part_stops_the_others(checkpoint, monkeypatch):
    measured = []

    def broken(self, tensor, rows, prepared, advance):
        measured.append(rows)
        raise CheckpointError("damaged")

    monkeypatch.setattr(measuring._Measuring, "measure", broken)
    with pytest.raises(CheckpointError, match="damaged"):
        list(map_tensors(measuring._Measuring(SETTINGS, 100), list(open_checkpoint(checkpoint)), threads=2))
    assert len(measured) <= 3


# --- going on after a stop ---------------------------------------------------------------------------------------


def journal(path, task="squares"):
    return Journal(path, task, float, float)


def stopped_after(count, checkpoint, path, task="squares"):
    """Run until some results are there, then leave the journal behind as a killed run does."""
    results = map_tensors(square, list(open_checkpoint(checkpoint)), threads=1, journal=journal(path, task))
    return [next(results) for _ in range(count)]


def again(checkpoint, path, task="squares"):
    """Run again; return the results and the names of the tensors that were read for it."""
    read = []

    def work(tensor, tell):
        read.append(tensor.name)
        return square(tensor, tell)

    return list(map_tensors(work, list(open_checkpoint(checkpoint)), threads=1, journal=journal(path, task))), read


@pytest.fixture
def whole(checkpoint):
    return list(map_tensors(square, list(open_checkpoint(checkpoint)), threads=1))


def test_finished_tensors_are_not_read_again(checkpoint, tmp_path, whole):
    path = tmp_path / "journal"
    assert stopped_after(3, checkpoint, path) == whole[:3]
    results, read = again(checkpoint, path)
    assert results == whole
    assert read == ["w3", "w4", "w5", "w6"]
    assert not path.exists()


def test_a_journal_of_another_task_is_begun_anew(checkpoint, tmp_path, whole):
    path = tmp_path / "journal"
    stopped_after(3, checkpoint, path)
    assert again(checkpoint, path, "cubes")[1] == [f"w{i}" for i in range(7)]
    stopped_after(3, checkpoint, path)
    os.utime(checkpoint, ns=(0, 0))
    assert again(checkpoint, path)[1] == [f"w{i}" for i in range(7)]


def test_what_is_cut_off_or_damaged_is_computed_again(checkpoint, tmp_path, whole):
    path = tmp_path / "journal"
    stopped_after(3, checkpoint, path)
    data = path.read_bytes()
    for cut in (0, 5, len(data.splitlines()[0]) + 20, len(data) - 2):
        path.write_bytes(data[:cut])
        assert again(checkpoint, path)[0] == whole
    lines = data.splitlines(keepends=True)
    for lineno in (0, 2):
        broken = bytearray(lines[lineno])
        broken[len(broken) // 2] ^= 0x15
        path.write_bytes(b"".join([*lines[:lineno], bytes(broken), *lines[lineno + 1 :]]))
        results, read = again(checkpoint, path)
        assert results == whole
        assert "w1" in read
    path.write_bytes(b"\xff\xfe something else")
    assert again(checkpoint, path)[0] == whole


def test_a_line_is_checked_by_its_sum(checkpoint, tmp_path):
    """zlib's checksum guards a line: a flipped bit of its compressed data never becomes another number."""
    path = tmp_path / "journal"
    stopped_after(1, checkpoint, path)
    head, line = path.read_text().splitlines()
    packed = base64.b64decode(line)
    for place in range(2, len(packed)):
        broken = bytes([*packed[:place], packed[place] ^ 4, *packed[place + 1 :]])
        path.write_text(f"{head}\n{base64.b64encode(broken).decode()}\n")
        found = journal(path).open(list(open_checkpoint(checkpoint)))
        assert found in ({}, {0: square(next(iter(open_checkpoint(checkpoint))), lambda part: None)})


def test_a_killed_report_goes_on_and_says_the_same(checkpoint, tmp_path):
    """Kill a run with SIGKILL in the middle, let another go on, and compare with one that was not disturbed."""
    code = """
import sys, time, rf8sim.studies.measuring as m
from pathlib import Path
from rf8sim.studies.experiment import Settings
measure = m._Measuring.__call__
def slow(self, tensor, tell):
    if tensor.name == "w4":
        print("there", flush=True)
        time.sleep(60)
    return measure(self, tensor, tell)
m._Measuring.__call__ = slow
m.run([sys.argv[1]], Settings(("rf8/channel", "e4m3fn/channel")), threads=1, journal=Path(sys.argv[2]))
"""
    path = tmp_path / "journal"
    environment = {**os.environ, "PYTHONPATH": str(Path(scheduling.__file__).parents[1])}
    command = [sys.executable, "-c", code, checkpoint, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
    assert len(path.read_text().splitlines()) == 1 + 4
    told = []
    resumed = run([checkpoint], SETTINGS, threads=1, journal=path, progress=lambda *step: told.append(step[0]))
    assert set(told) == {"w4", "w5", "w6"}
    assert text(resumed) == text(run([checkpoint], SETTINGS, threads=1))
    assert not path.exists()


# --- Dask ----------------------------------------------------------------------------------------------------------


def die_once(marker, tensor, tell):
    """Kill the process that works on one tensor, the first time."""
    if tensor.name == "w2":
        try:
            with open(marker, "x"):
                os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return square(tensor, tell)


@pytest.fixture(scope="module")
def scheduler():
    distributed = pytest.importorskip("distributed", reason="Dask distributed is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")  # of Dask's own making
def test_a_cluster_says_the_same_to_the_last_bit(checkpoint, scheduler, tmp_path):
    alone = text(run([checkpoint], SETTINGS, threads=1))
    assert text(run([checkpoint], SETTINGS, cluster=Cluster(scheduler))) == alone
    kept = tmp_path / "journal"
    assert text(run([checkpoint], SETTINGS, cluster=Cluster(scheduler), journal=kept)) == alone
    assert json.dumps(survey([checkpoint], cluster=Cluster(scheduler))[0].to_json()) == json.dumps(
        survey([checkpoint], threads=1)[0].to_json()
    )


@pytest.mark.filterwarnings("ignore")
def test_parts_on_a_cluster(checkpoint, scheduler):
    work, tensors = measuring._Measuring(SETTINGS, 100), list(open_checkpoint(checkpoint))[3:5]
    assert [len(work.parts(tensor)) for tensor in tensors] == [3, 4]
    alone = [work(tensor, lambda part: None).to_json() for tensor in tensors]
    assert [found.to_json() for found in map_tensors(work, tensors, cluster=Cluster(scheduler))] == alone


@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_the_middle_changes_nothing(checkpoint, scheduler, tmp_path, whole):
    work = functools.partial(die_once, str(tmp_path / "marker"))
    assert list(map_tensors(work, list(open_checkpoint(checkpoint)), cluster=Cluster(scheduler))) == whole
    assert (tmp_path / "marker").exists()


@pytest.mark.filterwarnings("ignore")
def test_processes_of_its_own(checkpoint, whole):
    pytest.importorskip("distributed", reason="Dask distributed is not installed")
    assert list(map_tensors(square, list(open_checkpoint(checkpoint)), cluster=Cluster(workers=1))) == whole


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there(checkpoint, monkeypatch):
    pytest.importorskip("distributed", reason="Dask distributed is not installed")
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        run([checkpoint], SETTINGS, cluster=Cluster("tcp://127.0.0.1:1"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="Dask distributed is not installed"):
        run([checkpoint], SETTINGS, cluster=Cluster(workers=1))


def test_the_command_line(checkpoint, tmp_path, monkeypatch, capsys):
    from rf8sim.cli import main

    def report(folder, *arguments):
        return main(["report", str(checkpoint), "-o", str(tmp_path / folder), "-q", "--no-figures", *arguments])

    assert report("one", "--threads", "1") == 0
    assert report("two", "--threads", "2") == 0
    assert (tmp_path / "one" / "report.json").read_bytes() == (tmp_path / "two" / "report.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "one", "two"]
    assert report("three", "--workers", "1", "--scheduler", "tcp://h:1") == 2
    assert "exclude each other" in capsys.readouterr().err


# --- memory ----------------------------------------------------------------------------------------------------------

# The process's own peak: what the system reports of a child includes the memory of the parent which started it.
PEAK = """
import resource, sys
from pathlib import Path
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run
run([sys.argv[1]], Settings(("rf8", "int8")), threads=2)
own = Path("/proc/self/status")
peaks = [line.split()[1] for line in own.read_text().splitlines() if line.startswith("VmHWM")] if own.exists() else []
print(int(peaks[0]) * 1024 if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def sparse(path, tensors, elements):
    """Write a safetensors file of bfloat16 zeros that takes no room on the disk."""
    size = 2 * elements
    header = {
        f"w{i}": {"dtype": "BF16", "shape": [256, elements // 256], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(tensors)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + tensors * size)
    return path


@pytest.mark.slow
def test_memory_does_not_grow_with_the_checkpoint(tmp_path):
    """512 MB of weights, by two threads: no more than 200 MB above what a small checkpoint takes, as documented."""
    environment = {**os.environ, "PYTHONPATH": str(Path(scheduling.__file__).parents[1])}
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, path], env=environment, check=True, capture_output=True).stdout)
        for path in (sparse(tmp_path / "s.safetensors", 2, 1 << 10), sparse(tmp_path / "l.safetensors", 4, 1 << 26))
    ]
    assert peaks[1] - peaks[0] < 200e6, peaks
