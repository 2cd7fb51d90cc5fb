"""Processes that read survey files, each at the end of a pipe of its own.

A process whose pipe is closed at the other end leaves: none outlives an ingest that was killed. One that dies closes
its own pipe, even in the middle of an answer: the ingest does not wait for ever. With one queue for all processes, as
`concurrent.futures` has, neither is so.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from specxr.readers.base import Reader, SurveyBlock
from specxr.readers.registry import read_files


def read_tasks(
    survey: str | Reader, tasks: Sequence[Sequence[Path]], workers: int
) -> Iterator[list[SurveyBlock]]:
    """Read lists of files, and yield the blocks of each list, in the order of the lists.

    Parameters
    ----------
    survey : str or Reader
        Name of a survey, or its reader.
    tasks : sequence of sequence of Path
        Files that are read together.
    workers : int
        Number of processes; 1 reads in this process.

    Raises
    ------
    RuntimeError
        A process ended early.
    """
    if workers == 1:
        for task in tasks:
            yield read_files(survey, task)
        return
    pool = _Processes(workers)
    running: deque[Future[list[SurveyBlock]]] = deque()
    try:
        for task in tasks:
            running.append(pool.submit(survey, task))
            # A few lists ahead: memory is to hold little more than what is written.
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.stop()


class _Processes:
    def __init__(self, workers: int) -> None:
        # Not fork: the threads of Zarr and torch do not survive it.
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        # A thread for each process waits for its answer, and takes it from the pipe at once.
        self._threads = ThreadPoolExecutor(workers)
        try:
            for _ in range(workers):
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(there,), daemon=True)
                process.start()
                there.close()
                self._processes.append(process)
                self._idle.put(here)
        except BaseException:
            self.stop()
            raise

    def submit(self, survey: str | Reader, files: Sequence[Path]) -> Future[list[SurveyBlock]]:
        return self._threads.submit(self._ask, survey, files)

    def _ask(self, survey: str | Reader, files: Sequence[Path]) -> list[SurveyBlock]:
        connection = self._idle.get()
        try:
            connection.send((survey, files))
            answer: list[SurveyBlock] | Exception = connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(
                "a process that reads files ended early; processes that stay are required. See that there is enough "
                "memory, and that this script can be imported, or use workers=1."
            ) from error
        finally:
            self._idle.put(connection)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.join()


def _serve(connection: Connection) -> None:
    """Read what is asked for until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which stops this one
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        answer: list[SurveyBlock] | Exception
        try:
            answer = read_files(*task)
        except Exception as error:
            answer = error
        try:
            connection.send(answer)
        except OSError:
            return
