"""Several real processes that train together, started quickly: they fork from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch", "torch.distributed", "datasets", "unpad.train.trainer", "unpad.models.auto", "unpad.metrics", "many"]
)


def many(processes: int, function: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> list[Any]:
    """What `function(*args)` gives in each of the processes, by rank; an error that it raises is given back as it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(processes)]
    children = [
        CONTEXT.Process(target=_child, args=(rank, processes, port, pipe[1], function, args, env or {}))
        for rank, pipe in enumerate(pipes)
    ]
    for child in children:
        child.start()
    for _, sender in pipes:
        sender.close()
    results = []
    for receiver, _ in pipes:
        try:
            results.append(
                pickle.loads(receiver.recv_bytes()) if receiver.poll(120) else TimeoutError("a process did not answer")
            )
        except EOFError:
            results.append(RuntimeError("a process died"))
    for child in children:
        child.join(5)
        child.kill()
    return results


def _child(
    rank: int, size: int, port: int, pipe: Any, function: Callable[..., Any], args: Any, env: dict[str, str]
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "UNPAD_TIMEOUT_MINUTES": "2",
        "OMP_NUM_THREADS": "1",
    }
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)} | env
    try:
        result = function(*args)
    except (Exception, SystemExit) as error:
        result = error
        if not hasattr(error, "code") and not type(error).__module__.startswith("unpad"):
            traceback.print_exc()
    pipe.send_bytes(
        pickle.dumps(result)
    )  # by value: tensors sent otherwise need this process to live until they are read
    pipe.close()
    import torch.distributed as dist

    if dist.is_initialized() and not isinstance(result, Exception):
        dist.destroy_process_group()
    os._exit(0)  # what others wait for must not keep this one
