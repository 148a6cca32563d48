"""Threads over contiguous pieces of flat arrays. The pieces never change a result, only who computes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .checks import as_integer

__all__ = ["WORKER", "available_threads", "in_pieces"]

WORKER = "rf8sim worker"
"""Name of threads that are all there are to be: the work of one is not spread over others."""

SMALLEST_PIECE = 1 << 18
"""Elements under which a second thread costs more than it saves."""


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="rf8sim")


def available_threads() -> int:
    """Return how many threads this process may run at once; 1 in a thread that is one of them already."""
    if threading.current_thread().name.startswith(WORKER):
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_pieces(work: Callable[[int, int], object], size: int, threads: int | None = None, weight: int = 1) -> None:
    """Call ``work(start, stop)`` over pieces of ``range(size)``, in threads if the size is worth it.

    Parameters
    ----------
    work : callable
        Releases the interpreter lock and touches only its own piece.
    size : int
        Number of elements.
    threads : int, optional
        At most this many; by default as many as the process may use.
    weight : int
        Array elements that one of the ``size`` items stands for.

    Raises
    ------
    ValueError
        If ``threads`` is below 1.
    """
    if threads is not None:
        threads = as_integer("threads", threads, 1, 1 << 31, "of at least 1")
    if size * weight < 2 * SMALLEST_PIECE:
        work(0, size)
        return
    count = min(threads or available_threads(), size * weight // SMALLEST_PIECE, size)
    if count == 1:
        work(0, size)
        return
    step = -(-size // count)
    step += -step % 4 if weight == 1 else 0  # whole blocks of four random words
    pieces = [(start, min(start + step, size)) for start in range(0, size, step)]
    futures = [_pool(count).submit(work, start, stop) for start, stop in pieces[1:]]
    work(*pieces[0])
    for future in futures:
        future.result()


if hasattr(os, "register_at_fork"):  # a forked child has no threads: it must not wait for its parent's
    os.register_at_fork(after_in_child=_pool.cache_clear)
