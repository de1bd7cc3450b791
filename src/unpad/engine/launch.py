"""Several processes at once: `launch` runs a script on N ranks, `notebook_launcher` a function.

Both stand on PyTorch: its elastic agent starts, watches and restarts the processes of a script, its `multiprocessing` forks those
of a notebook. What is added here is how a run ends: a signal goes on to the workers, which get time to save, and what the
launcher ends with is what they ended with.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import cuda, set_num_threads
from torch.distributed import DistError, TCPStore
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SubprocessContext
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from unpad.errors import EXIT_CONTINUE, ArgumentError, TrainingError, UnpadError
from unpad.notices import logger, say, say_once

_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGQUIT")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
"""What goes on to the workers."""
EXIT_MISTAKE = 2
"""Exit code of a worker that a mistake of the user's has ended: another start would end the same way."""
HOME = "127.0.0.1"
NODES_ARRIVE_SECONDS = 900
"""How long the nodes of a run wait for one another."""


def launch(
    script: str, arguments: Sequence[str] = (), nproc: int = 1, nnodes: int = 1, node_rank: int = 0,
    rdzv_endpoint: str | None = None, max_restarts: int = 0, *, module: bool = False, port: int | None = None,
    shutdown_timeout: float = 120.0,
) -> int:  # fmt: skip
    """Run `script` with `arguments` in `nproc` processes on this machine, and return the exit code when all have ended.

    `script` is a Python file, or with `module` the name of a module. Each process has RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
    MASTER_PORT and the other variables of `torchrun`. With `nnodes` machines, each runs the same command with its own `node_rank`
    (0 to nnodes - 1) and the same `rdzv_endpoint`, host and port of machine 0. `port` (default: a free one) is that of one machine.

    When a process fails, the others are stopped and, up to `max_restarts` times, all start again; not after exit code 2 (a mistake
    in the input) or 75 (saved, wants to be started again by somebody else). Several machines restart together once the processes
    have failed on all, as they do when the connection breaks.

    SIGTERM, SIGINT and SIGUSR1 go on to the processes, which then have `shutdown_timeout` seconds; a second SIGINT ends them at once.

    Returns 0; the exit code of the process that failed first, 128 + n where signal n ended it; after a signal, 75 when all
    processes saved and ended with 75, else 128 + the signal. Raises ArgumentError for arguments that cannot work, TrainingError when
    the machines do not find each other.
    """
    _check_counts(nproc, nnodes, node_rank, max_restarts, shutdown_timeout)
    _check_script(script, module)
    endpoint = _endpoint(nnodes, node_rank, rdzv_endpoint, port)
    if node_rank > 0:
        _wait_for_node_0(endpoint)
    command = ["-u", *(["-m"] if module else []), script, *arguments]
    run = ("static", endpoint, "unpad", nnodes, nnodes)
    rendezvous = RendezvousParameters(*run, rank=node_rank, timeout=NODES_ARRIVE_SECONDS)
    spec = WorkerSpec(
        role="default",
        local_world_size=nproc,
        entrypoint=sys.executable,
        args=tuple(word.replace("$", "$$") for word in command),  # the agent reads them as templates
        rdzv_handler=get_rendezvous_handler(rendezvous),
        max_restarts=max_restarts,
        monitor_interval=0.1,
    )
    with (
        _signals_kept(),
        _quiet("torch.distributed.elastic"),
        _environment(TORCHELASTIC_SIGNALS_TO_HANDLE="", **_threads(nproc)),
    ):
        agent = _Agent(spec, shutdown_timeout)
        try:
            result = agent.run()
        except DistError as error:
            raise TrainingError(
                f"node {node_rank} of {nnodes} cannot meet the others at {endpoint} ({str(error).splitlines()[0][:200]}); "
                "start the same command on every node, with an address and a port that all of them reach"
            ) from None
    return agent.conclude(result)


class _Agent(LocalElasticAgent):
    """PyTorch's agent of one machine, which also passes signals on and gives every restart a store of its own.

    PyTorch's way with signals, an exception in its main thread wherever that is, can leave workers behind (between two starts, or
    while it waits for the first to end). Here a signal is noted, and seen by the loop that watches the workers.
    """

    def __init__(self, spec: WorkerSpec, shutdown_timeout: float) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=os.devnull))
        self._patience = shutdown_timeout
        self._signals: list[int] = []
        self._killed = False
        self._restarts = 0
        self._watchers: list[threading.Thread] = []
        self._ended: list[int] = []
        """Ranks in the order in which they ended; the agent looks ten times a second, and cannot tell."""

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        _on_signals(signal.SIG_DFL)  # no worker runs, and waiting for other nodes happens outside Python
        super()._rendezvous(worker_group)
        self._restarts = worker_group.spec.max_restarts - self._remaining_restarts
        if not self._restarts:
            return
        # the store behind MASTER_PORT still holds the addresses of the processes that ended, and the new ones would call them
        assert worker_group.store is not None
        if worker_group.group_rank == 0:
            self._fresh_store = TCPStore(str(worker_group.master_addr), 0, is_master=True, wait_for_workers=False)
            worker_group.store.set(f"port/{self._restarts}", str(self._fresh_store.port))
        worker_group.master_port = int(worker_group.store.get(f"port/{self._restarts}"))

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        _on_signals(lambda number, frame: self._signals.append(number))
        self._ended = []
        pids = super()._start_workers(worker_group)
        self._watchers = []
        for i, pid in pids.items():
            place = (worker_group.workers[i].global_rank, pid)
            self._watchers.append(threading.Thread(target=self._watch, args=place, daemon=True))
            self._watchers[-1].start()
        return pids

    def _watch(self, rank: int, pid: int) -> None:
        if not hasattr(os, "waitid"):
            return
        with contextlib.suppress(ChildProcessError):  # the agent was faster
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self._ended.append(rank)

    def _exit_barrier(self) -> None:
        _on_signals(signal.SIG_DFL)  # all workers are done, only other nodes are waited for
        super()._exit_barrier()

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        assert isinstance(self._pcontext, SubprocessContext)
        workers = [handler.proc for handler in self._pcontext.subprocess_handlers.values()]
        codes = [worker.poll() for worker in workers]
        if None in codes and (self._signals or EXIT_CONTINUE in codes):
            self._let_them_save(workers)
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            rank, code = self._first_failure(result)
            if self._signals or code in (EXIT_MISTAKE, EXIT_CONTINUE):
                self._remaining_restarts = 0
            elif self._remaining_restarts:
                again = f"restart {self._restarts + 1} of {worker_group.spec.max_restarts}"
                logger.warning(f"rank {rank} of {self._size} {_ending(code)}; all start again ({again})")
        return result

    def _let_them_save(self, workers: list[Any]) -> None:
        """Pass the signals on, also those that still come, and wait until all workers have ended or the time is up."""
        passed = 0
        deadline = time.monotonic() + self._patience
        while any(worker.poll() is None for worker in workers):
            for number in self._signals[passed:]:
                waits = f"waiting up to {self._patience:g} s for all processes to save and stop"
                say(f"{signal.Signals(number).name}: {waits} (a second Ctrl-C kills them)")
                for worker in workers:
                    worker.send_signal(number)  # to the worker alone; its own children stop with it
                passed += 1
            if time.monotonic() > deadline or self._signals.count(signal.SIGINT) > 1:
                self._killed = bool(self._signals)
                break
            time.sleep(0.05)
        if self._killed:
            self._shutdown(signal.SIGKILL)

    @property
    def _size(self) -> int:
        return self._worker_group.workers[0].world_size

    def _first_failure(self, result: RunResult) -> tuple[int, int]:
        for watcher in self._watchers:
            watcher.join(1.0)
        order = [rank for rank in self._ended if rank in result.failures] or list(result.failures)
        return order[0], result.failures[order[0]].exitcode

    def conclude(self, result: RunResult) -> int:
        """Say how the run ended, where it did not end well, and return the exit code."""
        if not result.is_failed():
            return 0
        rank, code = self._first_failure(result)
        which = f"rank {rank} of {self._size} {_ending(code)}"
        if all(failure.exitcode == EXIT_CONTINUE for failure in result.failures.values()):
            logger.warning("all processes saved and stopped; run the same command again to go on")
            return EXIT_CONTINUE
        if self._signals:
            name = signal.Signals(self._signals[0]).name
            why = "not all had ended and were killed" if self._killed else which
            logger.warning(f"stopped by {name}; {why}, so the last steps may not be saved")
            return 128 + self._signals[0]
        used = f" after {self._restarts} of {self._worker_group.spec.max_restarts} restarts" if self._restarts else ""
        logger.warning(f"{which}{used}; {_next_step(code, 'the same command')}")
        return code if code > 0 else 128 - code


def notebook_launcher(function: Callable[..., Any], args: Sequence[Any] = (), num_processes: int | None = None) -> None:
    """Call `function(*args)` in `num_processes` processes, from a notebook; None or 1 calls it in this one.

    The processes are forks of this one, so the function may be defined in a cell. They have RANK, WORLD_SIZE, LOCAL_RANK and the
    other variables that `launch` sets. What the function returns is dropped: let rank 0 write it to a file.

    Raises ArgumentError when this process has used a GPU, which forks cannot share, and TrainingError when a process fails: its
    message is printed, the others are stopped.
    """
    if not isinstance(args, (tuple, list)):
        raise ArgumentError(f"args={args!r:.100} is not a tuple; write args=(value,), with the comma")
    size = 1 if num_processes is None else num_processes
    if size < 1:
        raise ArgumentError(f"num_processes={size} must be 1 or more")
    if size == 1:
        function(*args)
        return
    if cuda.is_initialized():
        raise ArgumentError(
            f"{size} processes cannot share the GPU that this one has used already; restart the notebook's kernel, "
            "and make models and tensors inside the function"
        )
    store = TCPStore(HOME, 0, is_master=True, wait_for_workers=False)
    environment = {
        "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": HOME, "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "unpad", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
        **_threads(size),
    }  # fmt: skip
    said = multiprocessing.get_context("fork").SimpleQueue()
    context = start_processes(_forked, (function, args, environment, said), size, join=False, start_method="fork")
    try:
        with _quiet("torch.multiprocessing.spawn"):
            while not context.join():
                pass
    except ProcessExitedException as ended:
        if not said.empty():
            print(said.get(), file=sys.stderr)
        raise TrainingError(
            f"rank {ended.error_index} of {size} {_ending(ended.exit_code)}, so the others were stopped; "
            f"{_next_step(ended.exit_code, 'the cell')}"
        ) from None
    finally:  # a cell that is interrupted takes its processes with it
        for process in context.processes:
            process.terminate()
        for process in context.processes:
            process.join(30)
            process.kill()


def _forked(
    rank: int, function: Callable[..., Any], args: Sequence[Any], environment: dict[str, str], said: Any
) -> None:
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    exits: list[SystemExit] = []

    def call() -> None:
        if "OMP_NUM_THREADS" in environment:  # PyTorch has read the variable already
            set_num_threads(int(environment["OMP_NUM_THREADS"]))
        try:
            function(*args)
        except SystemExit as ended:
            exits.append(ended)
        except BaseException as error:
            trace = error.__traceback__.tb_next if error.__traceback__ else None
            shown = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
            said.put(f"unpad: error: {error}" if isinstance(error, UnpadError) else shown[-16000:])
            exits.append(SystemExit(1))

    # OpenMP would wait forever for the helpers of the thread that was forked, which are not here; a new thread gets new ones
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join()
    for ended in exits:
        raise ended


def _ending(code: int) -> str:
    """How a process with this exit code (or minus the signal) ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {int(number): number.name for number in signal.Signals}
    return f"was ended by {known.get(-code, f'signal {-code}')}"


def _next_step(code: int, what: str) -> str:
    if code == EXIT_CONTINUE:
        return f"run {what} again to go on"
    if code == -signal.SIGKILL:
        return "the system does so when memory runs out: try a smaller batch or fewer processes"
    return f"mend what its message says and run {what} again"


def _threads(processes: int) -> dict[str, str]:
    """OMP_NUM_THREADS for each of several processes of this machine, where the user has not set it."""
    if processes == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // processes)
    say(f"OMP_NUM_THREADS={threads} for each of {processes} processes ({cores} cores); set it to have another number")
    return {"OMP_NUM_THREADS": str(threads)}


def _check_counts(nproc: int, nnodes: int, node_rank: int, max_restarts: int, shutdown_timeout: float) -> None:
    for name, value, least, what in (
        ("nproc", nproc, 1, "the number of processes on this machine"),
        ("nnodes", nnodes, 1, "the number of machines"),
        ("max_restarts", max_restarts, 0, "how often all processes may start again"),
        ("shutdown_timeout", shutdown_timeout, 0, "the seconds that processes have to save"),
    ):
        if not value >= least:
            raise ArgumentError(f"{name}={value} must be {least} or more: {what}")
    if not 0 <= node_rank < nnodes:
        allowed = "0 (there is one node)" if nnodes == 1 else f"0 to {nnodes - 1}"
        raise ArgumentError(f"node_rank={node_rank} is out of range for nnodes={nnodes}; allowed: {allowed}")


def _check_script(script: str, module: bool) -> None:
    file = Path(script)
    if not module and not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there"
        how = "give the path of a Python file, or -m and the name of a module"
        raise ArgumentError(f"the script {script!r} {what}; {how}")


def _endpoint(nnodes: int, node_rank: int, rdzv_endpoint: str | None, port: int | None) -> str:
    """host:port at which the nodes of the run meet; ArgumentError where that cannot be."""
    if rdzv_endpoint is None:
        if nnodes > 1:
            raise ArgumentError(
                f"nnodes={nnodes} needs rdzv_endpoint, the address of node 0 and a free port there: --rdzv_endpoint host:29500"
            )
        if port is None:
            with socket.create_server((HOME, 0)) as server:
                port = server.getsockname()[1]
        host = HOME
    else:
        if port is not None:
            raise ArgumentError(f"port={port} stands beside rdzv_endpoint={rdzv_endpoint!r}; give one of them")
        host, _, digits = rdzv_endpoint.rpartition(":")
        port = int(digits) if digits.isdecimal() and host else 0
    if not 0 < port < 65536:
        given = f"port={port}" if rdzv_endpoint is None else f"rdzv_endpoint={rdzv_endpoint!r}"
        raise ArgumentError(f"{given} has no port from 1 to 65535; write it as in 29500 or 10.0.0.1:29500")
    if node_rank == 0:
        try:
            with socket.create_server(("", port)):
                pass
        except OSError as error:
            instead = "another --port, or none for a free one" if rdzv_endpoint is None else "another --rdzv_endpoint"
            why = (error.strerror or str(error)).lower()
            raise ArgumentError(f"the port {port} cannot be used ({why}); give {instead}") from None
    return f"{host}:{port}"


def _wait_for_node_0(endpoint: str) -> None:
    """Return when something answers there. PyTorch would wait too, but deaf to Ctrl-C, and end with pages of C++."""
    host, _, port = endpoint.rpartition(":")
    deadline = time.monotonic() + NODES_ARRIVE_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if time.monotonic() > deadline:
            raise TrainingError(
                f"node 0 did not answer at {endpoint} within {NODES_ARRIVE_SECONDS} s ({reason}); "
                "start the same command there with --node_rank 0, and check address and port"
            )
        say_once(f"waiting up to {NODES_ARRIVE_SECONDS} s for node 0 at {endpoint}")
        time.sleep(0.5)


def _on_signals(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
                signal.signal(number, handler)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What this process does on signals is afterwards what it was."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without PyTorch's own account of what happens, unless the user has set LOGLEVEL, which it reads."""
    theirs = logging.getLogger(name)
    before = theirs.propagate
    silence = logging.NullHandler()
    if "LOGLEVEL" not in os.environ:
        theirs.propagate = False
        theirs.addHandler(silence)
    try:
        yield
    finally:
        theirs.propagate = before
        theirs.removeHandler(silence)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """With these environment variables, which the workers inherit."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
