"""The same work on many tensors: in threads, or on a Dask cluster, and continued where a killed run stopped.

Wherever and whenever a result is computed, results are returned in the order of the tensors, so that what is made of
them does not depend on it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import pickle
import threading
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from .._base.files import write_files
from .._base.threads import WORKER, available_threads
from .._version import __version__
from ..checkpoints.checkpoint import CheckpointError, TensorInfo, open_checkpoint

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "Journal", "Parts", "map_tensors"]

_Result = TypeVar("_Result")
Advance = Callable[[int], None]
"""Called with the number of elements of a tensor that are done."""
Work = Callable[[TensorInfo, Advance], _Result]
Progress = Callable[[str, int, int], None]


@runtime_checkable
class Parts(Protocol):
    """Work that can be done on a large tensor in parts: two passes over its rows, and a step between and after them.

    For any parts, its result is that of calling it with all of the tensor.
    """

    def parts(self, tensor: TensorInfo) -> list[range]:
        """Return the rows of each part, in order; a single part for a tensor that is not worth it."""

    def summarize(self, tensor: TensorInfo, rows: range) -> Any:
        """Pass over a part for the first time."""

    def prepare(self, tensor: TensorInfo, summaries: list[Any]) -> Any:
        """Return what the second pass needs to know of all parts."""

    def measure(self, tensor: TensorInfo, rows: range, prepared: Any, advance: Advance) -> Any:
        """Pass over a part again."""

    def merge(self, tensor: TensorInfo, prepared: Any, measured: list[Any]) -> Any:
        """Return the result for the tensor."""


_SHARES = 8
"""A tensor smaller than such a share of a thread's work leaves the others without work for no longer than that."""


class _StoppedError(Exception):
    """Raised in a thread whose result nobody waits for any more."""


class Journal(Generic[_Result]):
    """A file of finished results, a line for each, which a killed run leaves behind and the next one reads.

    It belongs to one task: the same work, the same version and files that have not changed since. A journal of
    another task is begun anew. A line that was cut off, or damaged, is computed again.

    Parameters
    ----------
    path : Path
        The file.
    task : str
        What the work is, settings and all.
    to_json, from_json : callable
        From a result to plain data, and back to an equal result.
    """

    def __init__(
        self, path: Path, task: str, to_json: Callable[[_Result], Any], from_json: Callable[[Any], _Result]
    ) -> None:
        self.path, self._task, self._to_json, self._from_json = path, task, to_json, from_json
        self._lock = threading.Lock()

    def open(self, tensors: Sequence[TensorInfo]) -> dict[int, _Result]:
        """Return the results that are there, by the places of their tensors, and be ready to add more.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        begin = json.dumps([__version__, self._task, [_identity(file) for file in _files(tensors)]])
        names = {(str(tensor.source), tensor.name): index for index, tensor in enumerate(tensors)}
        finished: dict[int, _Result] = {}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            head, *lines = self.path.read_text("ascii").split("\n")
            for line in lines if head == begin else ():
                with contextlib.suppress(ValueError, KeyError, TypeError, zlib.error):
                    data = json.loads(zlib.decompress(base64.b64decode(line, validate=True)))
                    finished[names[data["source"], data["name"]]] = self._from_json(data["result"])
        lines = [begin, *(self._line(tensors[index], result) for index, result in sorted(finished.items()))]
        write_files({self.path: "".join(f"{line}\n" for line in lines).encode()})
        return finished

    def add(self, tensor: TensorInfo, result: _Result) -> None:
        """Write down a result."""
        with self._lock, self.path.open("a", encoding="ascii") as file:
            file.write(self._line(tensor, result) + "\n")

    def _line(self, tensor: TensorInfo, result: _Result) -> str:
        data = {"source": str(tensor.source), "name": tensor.name, "result": self._to_json(result)}
        return base64.b64encode(zlib.compress(json.dumps(data).encode(), 1)).decode()

    def remove(self) -> None:
        """Remove the file: everything is done."""
        self.path.unlink(missing_ok=True)


def _files(tensors: Sequence[TensorInfo]) -> list[Path]:
    return sorted({tensor.source for tensor in tensors})


def _identity(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file.absolute()), state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Cluster:
    """Where to compute with Dask distributed.

    Attributes
    ----------
    scheduler : str or None
        Address of a scheduler whose workers see the same files under the same paths.
    workers : int or None
        Otherwise, how many processes to start on this machine.
    """

    scheduler: str | None = None
    workers: int | None = None

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """Connect, and disconnect or stop the processes at the end.

        Raises
        ------
        ValueError
            If Dask is missing or the scheduler does not answer.
        """
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise ValueError(
                "Dask distributed is not installed, which other processes and machines need: "
                "pip install distributed, or leave out --scheduler and --workers"
            ) from None
        if self.scheduler is None:
            with (
                LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None
                ) as local,
                Client(local) as client,
            ):
                yield client
            return
        try:
            connected = Client(self.scheduler, timeout="5s")
        except (OSError, ValueError) as error:
            raise ValueError(f"no Dask scheduler answers at {self.scheduler}: {error}") from None
        with connected as client:
            yield client


def map_tensors(
    work: Work[_Result],
    tensors: Sequence[TensorInfo],
    *,
    threads: int | None = None,
    cluster: Cluster | None = None,
    journal: Journal[_Result] | None = None,
    progress: Progress | None = None,
) -> Iterator[_Result]:
    """Do the same work on tensors, and yield the results in their order.

    Parameters
    ----------
    work : callable
        Takes a tensor and a function to call with the elements that are done; for a cluster, it and its result can be
        pickled. If it is `Parts` besides, large tensors are divided between the processes of a cluster, or between the
        threads where each thread has few tensors of that size.
    tensors : sequence of TensorInfo
        Whose results are wanted.
    threads : int, optional
        Tensors worked on at a time, and parts of a large one; by default as many as the process has processors. One
        tensor alone that is not divided is left to the threads inside the work.
    cluster : Cluster, optional
        Where to work instead.
    journal : Journal, optional
        Keeps finished results; removed at the end.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.

    Yields
    ------
    object
        What the work returned for each tensor.

    Raises
    ------
    ValueError
        If ``threads`` is below 1, a cluster cannot be reached, or the work raised it.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    known = journal.open(tensors) if journal else {}
    counter = _Progress(tensors, known, progress)

    def finish(index: int, result: _Result) -> _Result:
        counter.at(index, tensors[index].size)
        if journal:
            journal.add(tensors[index], result)
        return result

    left = [index for index in range(len(tensors)) if index not in known]
    count = threads or available_threads()
    # What comes before, between and after the passes is done by one thread: many tensors are better done side by side.
    least = 0 if cluster else sum(tensors[index].size for index in left) // (_SHARES * count)
    large = [index for index in left if tensors[index].size > least]
    divided = {index: rows for index in large if len(rows := _parts(work, tensors[index])) > 1}
    count = min(count, len(left) + sum(map(len, divided.values())))
    computed: Generator[_Result]
    if cluster is not None and left:
        computed = _on_cluster(cluster, work, tensors, left, divided, finish)
    elif count <= 1:
        computed = (finish(i, work(tensors[i], lambda elements, i=i: counter.at(i, elements))) for i in left)  # type: ignore[misc]
    else:
        computed = _in_threads(count, work, tensors, left, divided, counter, finish)
    with contextlib.closing(computed):
        for index in range(len(tensors)):
            yield known.pop(index) if index in known else next(computed)
    if journal:
        journal.remove()


def _parts(work: Work[Any], tensor: TensorInfo) -> list[range]:
    return work.parts(tensor) if isinstance(work, Parts) else []


class _Progress:
    """Adds up what several threads have done of several tensors."""

    def __init__(self, tensors: Sequence[TensorInfo], known: Sequence[int] | dict[int, Any], show: Progress | None):
        self._tensors, self._show, self._lock = tensors, show, threading.Lock()
        self._parts = {index: tensors[index].size for index in known}
        self._done, self._all = sum(self._parts.values()), sum(tensor.size for tensor in tensors)
        self.stopped = False

    def at(self, index: int, elements: int) -> None:
        if self.stopped:
            raise _StoppedError
        with self._lock:
            self._done += elements - self._parts.get(index, 0)
            self._parts[index] = elements
            if self._show:
                self._show(self._tensors[index].name, self._done, self._all)


def _in_order(
    ready: dict[int, _Result],
    futures: dict[Any, int],
    wait_for_some: Callable[[set[Any]], set[Any]],
    finish: Callable[[int, _Result], _Result],
) -> Generator[_Result]:
    """Yield the results in the order of their places, and note each one as soon as it is there."""
    waiting = set(futures)
    for wanted in sorted([*ready, *futures.values()]):
        while wanted not in ready:
            done = wait_for_some(waiting)
            waiting -= done
            for future in sorted(done, key=futures.__getitem__):
                ready[futures[future]] = finish(futures[future], future.result())
        yield ready.pop(wanted)


def _in_threads(
    count: int,
    work: Work[_Result],
    tensors: Sequence[TensorInfo],
    left: Sequence[int],
    divided: Mapping[int, list[range]],
    counter: _Progress,
    finish: Callable[[int, _Result], _Result],
) -> Generator[_Result]:
    """Work on the large tensors with all threads, one after the other, then on the rest, each with one thread."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=WORKER)
    try:
        ready = {
            index: finish(index, _in_parts(pool, work, tensors[index], rows, functools.partial(counter.at, index)))
            for index, rows in divided.items()
        }
        futures: dict[Future[_Result], int] = {
            pool.submit(work, tensors[index], functools.partial(counter.at, index)): index
            for index in left
            if index not in divided
        }
        yield from _in_order(ready, futures, lambda some: wait(some, return_when=FIRST_COMPLETED).done, finish)
    finally:
        counter.stopped = True  # threads that still work stop at their next piece
        pool.shutdown(wait=True, cancel_futures=True)


def _in_parts(pool: ThreadPoolExecutor, work: Any, tensor: TensorInfo, parts: list[range], advance: Advance) -> Any:
    done = [0] * len(parts)

    def measure(number: int, prepared: Any) -> Any:
        def advance_part(elements: int) -> None:
            done[number] = elements
            advance(sum(done))

        return work.measure(tensor, parts[number], prepared, advance_part)

    advance(0)
    prepared = work.prepare(tensor, list(pool.map(functools.partial(work.summarize, tensor), parts)))
    measured = list(pool.map(lambda number: measure(number, prepared), range(len(parts))))
    return work.merge(tensor, prepared, measured)


def _on_cluster(
    cluster: Cluster,
    work: Work[_Result],
    tensors: Sequence[TensorInfo],
    left: Sequence[int],
    divided: Mapping[int, list[range]],
    finish: Callable[[int, _Result], _Result],
) -> Generator[_Result]:
    with cluster.client() as client:
        from distributed import wait as wait_on_cluster

        blob = pickle.dumps(work)

        def submit(step: str, tensor: TensorInfo, *arguments: Any) -> Any:
            return client.submit(
                _remote, blob, str(tensor.source.absolute()), tensor.name, step, *arguments, pure=False
            )

        def submitted(index: int) -> Any:
            tensor = tensors[index]
            if index not in divided:
                return submit("__call__", tensor, _no_progress)
            prepared = submit("prepare", tensor, [submit("summarize", tensor, rows) for rows in divided[index]])
            measured = [submit("measure", tensor, rows, prepared, _no_progress) for rows in divided[index]]
            return submit("merge", tensor, prepared, measured)

        futures = {submitted(index): index for index in left}

        def wait_for_some(waiting: set[Any]) -> set[Any]:
            return set(wait_on_cluster(list(waiting), return_when="FIRST_COMPLETED").done)

        yield from _in_order({}, futures, wait_for_some, finish)


def _remote(work: bytes, source: str, name: str, step: str, *arguments: Any) -> Any:
    """Do a step of the work on a tensor of a file, in a process that knows it by name only."""
    state = os.stat(source)
    tensor = _tensors(source, state.st_size, state.st_mtime_ns).get(name)
    if tensor is None:
        raise CheckpointError(f"{source}: holds no tensor {name!r} any more: it changed while it was read")
    return getattr(pickle.loads(work), step)(tensor, *arguments)


def _no_progress(elements: int) -> None:
    """Take no notice of progress, which other processes do not show."""


@functools.cache
def _tensors(source: str, size: int, changed: int) -> dict[str, TensorInfo]:
    return {tensor.name: tensor for tensor in open_checkpoint(source)}
