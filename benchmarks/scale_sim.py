"""Training on many processes without having them: who computes which rows, and what a step and a checkpoint would cost.

    python benchmarks/scale_sim.py                    everything, for 1,024 processes and 10 million rows; two minutes or less
    python benchmarks/scale_sim.py model              the tables of docs/scale.md that are computed, none of them measured
    python benchmarks/scale_sim.py once               walk through whole epochs: does every row occur exactly once?
    python benchmarks/scale_sim.py balance --data FOLDER    tokens per process; FOLDER/imdb adds lengths of real reviews
    python benchmarks/scale_sim.py cost               milliseconds and bytes of the sampler and of a step's plan
    python benchmarks/scale_sim.py --ranks 64 --rows 100_000 --batch 512    any other size

`once`, `balance` and `cost` run the code that training runs (`BatchSampler`, `shares`) for all processes in turn, on row lengths that are drawn.
`model` is arithmetic on data sheets: nothing in it has run on a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sides import child

from unpad.data.sampler import BatchSampler, shares

Table = tuple[str, list[str], list[list[str]]]
"""Caption, names of the columns, cells."""
WORLDS = (8, 64, 1024)
NODE = 8
"""GPUs in a node."""
GB = 1e9


# ---- The model: FLOP, bytes and seconds of a step and of a checkpoint. Formulas and their sources are in docs/scale.md.


@dataclass(frozen=True)
class Shape:
    """A transformer, and the rows that it is trained on."""

    name: str
    layers: int
    width: int
    ffn: int
    """Parameters of the feed-forward part of a block."""
    vocab: int
    tables: int
    """Matrices of vocabulary times width: 1 where input and output share theirs, or where there is no output."""
    positions: int
    length: int
    """Tokens of a row, averaged over tokens."""
    causal: bool = True

    @property
    def block(self) -> int:
        return 4 * self.width**2 + self.ffn

    @property
    def parameters(self) -> int:
        return self.layers * self.block + (self.tables * self.vocab + self.positions) * self.width

    @property
    def flop(self) -> float:
        """FLOP per token of a forward and a backward pass."""
        head = self.vocab * self.width if self.causal else 0
        attention = (6 if self.causal else 12) * self.layers * self.width * self.length
        return 6 * (self.layers * self.block + head) + attention


SHAPES = (
    Shape("110M (BERT-base)", 12, 768, 8 * 768**2, 30522, 1, 512 + 2, 512, causal=False),
    Shape("1.3B (GPT-3 XL)", 24, 2048, 8 * 2048**2, 50257, 1, 2048, 2048),
    Shape("7B (Llama 2)", 32, 4096, 3 * 4096 * 11008, 32000, 2, 0, 2048),
)


@dataclass(frozen=True)
class Cluster:
    """Nodes of 8 GPUs. Bytes and FLOP per second of the data sheets, in one direction."""

    name: str
    flops: float
    """Dense bf16 of one GPU."""
    memory: float
    """Memory of one GPU, bytes."""
    memory_speed: float
    nvlink: float
    """From one GPU to the others of its node."""
    network: float
    """From one node to the others, all its cards together."""


CLUSTERS = (
    Cluster("A100, 8 links of 200 Gb/s", 312e12, 80e9, 2.0e12, 300e9, 200e9),
    Cluster("H100, 8 links of 400 Gb/s", 989e12, 80e9, 3.35e12, 450e9, 400e9),
    Cluster("A100, 1 link of 100 Gb/s", 312e12, 80e9, 2.0e12, 300e9, 12.5e9),
)

MFU = 0.4
"""Share of the peak that the matrix products of a step reach. Assumed."""
LINK = 0.75
"""Share of a link's nominal speed that large messages reach. Assumed."""
HOP, FAR_HOP = 3.4e-6, 9.6e-6
"""Seconds of a hop inside a node and between nodes: NCCL's own tuning model (`src/graph/tuning.cc`, ring, simple protocol)."""
BUCKET = 25 * 2**20
"""Bytes of gradients that DDP sends at once: PyTorch's default."""
TOKENS = 8192
"""Tokens per GPU and micro-batch."""
STATE, SAVED = 16, 12
"""Bytes per parameter: fp32 weights, gradients and two moments; and what of it a checkpoint holds."""
ONE_WRITER, STORAGE, SHA256 = 2e9, 20e9, 1.5e9
"""Bytes per second: one process into a file, all of them together into a shared file system, hashing on one core. Assumed."""
CPU_FLOPS = 416 / 0.146 * 6 * 10.6e6
"""What docs/performance.md measured: 8 pairs of MRPC, 416 tokens, in 146 ms; MiniLM has 10.6 million parameters in its blocks."""
CPU_LINKS = (("1 Gb/s", 0.125e9), ("10 Gb/s", 1.25e9))
GPU_HOURS_PER_FAILURE = 54 * 24 * 16384 / 419
"""Llama 3 (Dubey et al., 2024, 3.3.4): 419 unexpected interruptions of 16,384 GPUs in 54 days."""


def bandwidth(cluster: Cluster, ranks: int) -> float:
    """Bytes per second through a ring of `ranks` GPUs. It enters each node once per network card, so all cards of a node carry it."""
    return LINK * (cluster.nvlink if ranks <= NODE else min(cluster.nvlink, cluster.network))


def all_reduce(cluster: Cluster, ranks: int, size: float) -> float:
    """Seconds to sum `size` bytes of gradients over all ranks, in buckets; a tree of nodes for the latency, a ring for the bytes."""
    nodes = max(1, ranks // NODE)
    latency = 2 * ((min(ranks, NODE) - 1) * HOP + math.log2(nodes) * FAR_HOP)
    return 2 * (ranks - 1) / ranks * size / bandwidth(cluster, ranks) + math.ceil(size / BUCKET) * latency


def all_gather(cluster: Cluster, ranks: int, size: float, calls: int) -> float:
    """Seconds to gather `size` bytes in `calls` parts, or to reduce and scatter as many: a ring."""
    far = max(0, ranks // NODE - 1)
    return (ranks - 1) / ranks * size / bandwidth(cluster, ranks) + calls * ((ranks - 1 - far) * HOP + far * FAR_HOP)


def compute(shape: Shape, cluster: Cluster, tokens: float) -> float:
    """Seconds of a forward and a backward pass."""
    return shape.flop * tokens / (cluster.flops * MFU)


def update(shape: Shape, cluster: Cluster, parts: int) -> float:
    """Seconds of AdamW, which reads 16 bytes per parameter and writes 12, on one of `parts` parts of the parameters."""
    return 28 * shape.parameters / parts / cluster.memory_speed


def ddp_step(shape: Shape, cluster: Cluster, ranks: int) -> float:
    """Seconds of a step; what is sent hides behind the backward pass as far as it fits."""
    one = compute(shape, cluster, TOKENS)
    sent = all_reduce(cluster, ranks, 4 * shape.parameters)
    return one / 3 + max(one * 2 / 3, sent) + update(shape, cluster, 1)


def fsdp_step(shape: Shape, cluster: Cluster, ranks: int, group: int) -> float:
    """Seconds of a step; weights are split over `group` neighbours, and gradients then summed over the groups where there are several."""
    one, calls = compute(shape, cluster, TOKENS), shape.layers + 1
    gather = all_gather(cluster, group, 2 * shape.parameters, calls)
    scatter = all_gather(cluster, group, 4 * shape.parameters, calls)
    if group < ranks:  # `group` rings at once, one for each part, share the cards of the node
        scatter += all_reduce(cluster, ranks, 4 * shape.parameters)
    return max(one / 3, gather) + max(one * 2 / 3, gather + scatter) + update(shape, cluster, group)


def tokens_that_hide(flops: float, speed: float) -> float:
    """Tokens whose backward pass, 4 FLOP per parameter, takes as long as summing 4 bytes per parameter over many ranks."""
    return 2 * 4 / speed / (4 / flops)


def shapes_table() -> Table:
    rows = []
    for shape in SHAPES:
        state = STATE * shape.parameters / GB
        speeds = [f"{TOKENS / compute(shape, c, TOKENS):,.0f}" for c in CLUSTERS[:2]]
        states = [f"{state:.1f}", f"{state / NODE:.2f}", f"{state / 1024:.3f}"]
        rows.append([shape.name, f"{shape.parameters / 1e6:,.0f}", f"{shape.flop / GB:.2f}", *speeds, *states])
    names = "model | million parameters | GFLOP per token | tokens/s, A100 | tokens/s, H100 | state, DDP, GB | FSDP2 on 8 | on 1,024"
    return "One GPU, nothing sent", names.split(" | "), rows


def hiding_table() -> Table:
    rows = []
    for cluster in CLUSTERS:
        needed = [tokens_that_hide(cluster.flops * MFU, bandwidth(cluster, ranks)) for ranks in (NODE, 1024)]
        rows.append([f"8 × {cluster.name}", *(f"{tokens:,.0f}" for tokens in needed)])
    for name, speed in CPU_LINKS:
        rows.append([f"2 CPU cores, {name}", "", f"{tokens_that_hide(CPU_FLOPS, LINK * speed):,.0f}"])
    return "Tokens per process and step behind which DDP's traffic hides", ["each node", "one node", "many nodes"], rows


def volume_table() -> Table:
    rows = []
    for shape in SHAPES:
        sent = 1023 / 1024 * shape.parameters / GB  # of one gather or scatter, per byte
        rows.append([shape.name, *(f"{each * sent:.2f}" for each in (2 * 4, 2 * 2 + 4, 4 * 2 * 2 + 4, 2 * 4 + 4))])
    names = (
        "model | DDP, any accumulation | FSDP2, 1 micro-batch | FSDP2, 4 micro-batches | FSDP2 in fp32, 1 micro-batch"
    )
    return "GB that each GPU sends per step, 1,024 GPUs", names.split(" | "), rows


def speed_table() -> Table:
    ways = [("DDP", WORLDS, None), ("FSDP2", WORLDS, 0), ("hybrid", WORLDS[1:], NODE)]
    rows = []
    for shape in SHAPES:
        for cluster in CLUSTERS:
            cells = []
            for _, worlds, group in ways:
                for ranks in worlds:
                    parts = 1 if group is None else group or ranks
                    step = ddp_step(shape, cluster, ranks) if group is None else fsdp_step(shape, cluster, ranks, parts)
                    fits = STATE * shape.parameters / parts < cluster.memory
                    cells.append(f"{compute(shape, cluster, TOKENS) / step:.0%}" if fits else "–")
            rows.append([shape.name, cluster.name, *cells])
    names = ["model", "each node: 8 ×", *(f"{way} {ranks:,}" for way, worlds, _ in ways for ranks in worlds)]
    return f"Share of a step spent computing, {TOKENS:,} tokens per GPU and step", names, rows


def checkpoint_seconds(shape: Shape, ranks: int) -> dict[str, float]:
    """Seconds in which nobody trains: all through the main process; a file per rank that the main one hashes; each hashes its own."""
    size = SAVED * shape.parameters
    own = size / ranks / ONE_WRITER
    return {
        "whole": size / ONE_WRITER + size / SHA256,
        "sharded": max(own, size / STORAGE) + size / SHA256,
        "sharded, own hashes": max(own, size / STORAGE) + size / ranks / SHA256,
    }


def interval(seconds: float, ranks: int) -> tuple[float, float]:
    """(seconds between checkpoints, share of time lost to them and to failures) that lose least: Young, 1974."""
    between_failures = GPU_HOURS_PER_FAILURE * 3600 / ranks
    apart = math.sqrt(2 * seconds * between_failures)
    return apart, seconds / apart + apart / 2 / between_failures


def checkpoint_table() -> Table:
    rows = []
    for shape in SHAPES:
        for ranks in WORLDS:
            size, seconds = SAVED * shape.parameters, checkpoint_seconds(shape, ranks)
            apart, lost = interval(seconds["whole"], ranks)
            _, lost_less = interval(seconds["sharded, own hashes"], ranks)
            times = [*(f"{s:.1f}" for s in seconds.values()), f"{apart / 60:,.0f}", f"{lost:.2%}", f"{lost_less:.2%}"]
            rows.append([shape.name, f"{ranks:,}", f"{size / GB:.1f}", f"{size / ranks / 1e6:,.1f}", *times])
    names = (
        "model | GPUs | GB | MB per rank | whole, s | sharded, s | own hashes, s | every, min | lost | lost, own hashes"
    )
    return "A checkpoint, and how often to write it", names.split(" | "), rows


def model_tables() -> list[Table]:
    return [shapes_table(), hiding_table(), volume_table(), speed_table(), checkpoint_table()]


# ---- Rows: lengths as drawn, and every process's part of every step.


def drawn(kind: str, rows: int, data: Path | None) -> np.ndarray:
    """[rows] int32: tokens of each row of a data set of that kind."""
    rng = np.random.default_rng(7)
    if kind == "web text":
        return np.clip(rng.lognormal(math.log(400), 0.9, rows), 8, 2048).astype(np.int32)
    if kind == "sentences":
        return np.clip(rng.lognormal(math.log(20), 0.6, rows), 3, 128).astype(np.int32)
    assert data is not None
    return rng.choice(reviews(data), rows)


def reviews(data: Path) -> np.ndarray:
    """Tokens of every fifth review of IMDB for MiniLM, cut at 512."""
    import pyarrow.parquet as pq

    from unpad import AutoTokenizer

    texts = pq.read_table(data / "imdb" / "train.parquet", columns=["text"])["text"].to_pylist()[::5]
    ids = AutoTokenizer.from_pretrained("minilm")(texts, truncation=True, max_length=512)["input_ids"]
    return np.array([len(row) for row in ids], dtype=np.int32)


@dataclass(frozen=True)
class Plan:
    """How an epoch is cut into steps: `ranks` micro-batches of the sampler each, which all ranks together compute."""

    sampler: BatchSampler
    lengths: np.ndarray
    ranks: int
    per_step: int
    """Batches of the sampler in a step."""
    most: dict[str, int]
    """The limit of a micro-batch, as `shares` takes it."""

    def steps(self, epoch: int) -> int:
        return -(-self.sampler.batches(epoch) // self.per_step)

    def rows(self, epoch: int, k: int) -> list[np.ndarray]:
        last = min((k + 1) * self.per_step, self.sampler.batches(epoch))
        return [self.sampler.batch(epoch, i) for i in range(k * self.per_step, last)]

    def shares(self, rows: np.ndarray) -> list[list[np.ndarray]]:
        return shares(self.lengths[rows], self.ranks, **self.most)


KINDS = ("by count", "by length", "by tokens")


def plan(kind: str, lengths: np.ndarray, args: argparse.Namespace, ranges: bool = False) -> Plan:
    """Steps of `args.batch` rows, or of `args.tokens` tokens per rank. `ranges`: a step by count is one batch of the sampler, which is the same rows."""
    ranks, size = args.ranks, len(lengths)
    if kind == "by tokens":
        sampler = BatchSampler(size, None, seed=1, fingerprint="sim", lengths=lengths, max_tokens=args.tokens)
        return Plan(sampler, lengths, ranks, ranks, {"max_tokens": args.tokens})
    each = max(1, args.batch // ranks)
    batch, per_step = (each * ranks, 1) if ranges and kind == "by count" else (each, ranks)
    sampler = BatchSampler(size, batch, seed=1, fingerprint="sim", lengths=lengths, group_by_length=kind == "by length")
    return Plan(sampler, lengths, ranks, per_step, {"max_rows": each})


def check_epoch(plan: Plan, epoch: int) -> tuple[int, int, int]:
    """Walk through an epoch on all ranks. Raises SystemExit for a row that does not occur exactly once. Gives steps, micro-batches, empty ones."""
    times = np.zeros(plan.sampler.size, dtype=np.uint8)
    micros = empty = 0
    for k in range(steps := plan.steps(epoch)):
        rows = np.concatenate(plan.rows(epoch, k))
        parts = plan.shares(rows)
        if len({len(part) for part in parts}) != 1:
            raise SystemExit(f"step {k}: ranks differ in their number of micro-batches")
        flat = [micro for part in parts for micro in part]
        places = np.concatenate(flat)
        if not (np.bincount(places, minlength=len(rows)) == 1).all():
            raise SystemExit(f"step {k}: a row of the step is not computed exactly once")
        times[rows[places]] += 1
        micros, empty = micros + len(flat), empty + sum(not len(micro) for micro in flat)
    if not (times == 1).all():
        raise SystemExit(f"{int((times != 1).sum())} rows do not occur exactly once in epoch {epoch}")
    return steps, micros, empty


def once_table(args: argparse.Namespace) -> Table:
    cells = []
    for kind, rows in zip(KINDS, (args.rows, args.rows // 5, args.rows), strict=True):
        lengths = drawn("web text", max(rows, args.ranks), None)
        steps, micros, empty = check_epoch(plan(kind, lengths, args, ranges=True), args.epoch)
        cells.append([f"unpad, {kind}", f"{len(lengths):,}", f"{steps:,}", f"{micros:,}", f"{empty:,}", "0", "0"])
    rows = max(args.rows // 1000, 8 * args.ranks) + 1
    again, never = torch_sampler(rows, args.ranks, drop_last=False), torch_sampler(rows, args.ranks, drop_last=True)
    cells.append(["DistributedSampler", f"{rows:,}", "", "", "", f"{again[0]:,}", f"{again[1]:,}"])
    cells.append(["DistributedSampler, drop_last", f"{rows:,}", "", "", "", f"{never[0]:,}", f"{never[1]:,}"])
    names = ["", "rows", "steps", "micro-batches", "empty", "rows twice", "rows left out"]
    return f"Rows of epoch {args.epoch} over {args.ranks:,} ranks, all of them counted", names, cells


def torch_sampler(rows: int, ranks: int, drop_last: bool) -> tuple[int, int]:
    """(rows that occur more than once, rows that do not occur) in an epoch of PyTorch's DistributedSampler over all ranks."""
    from torch.utils.data import DistributedSampler

    times = np.zeros(rows, dtype=np.int64)
    for rank in range(ranks):
        sampler: DistributedSampler[int] = DistributedSampler(range(rows), ranks, rank, seed=1, drop_last=drop_last)  # type: ignore[arg-type]
        np.add.at(times, np.fromiter(sampler, np.int64), 1)
    return int((times > 1).sum()), int((times == 0).sum())


def balance(plan: Plan, args: argparse.Namespace) -> list[str]:
    """Cells of one row of `balance_table`, over `args.steps` steps of one epoch, evenly spread."""
    ratios: dict[str, list[float]] = {"contiguous": [], "strided": [], "ours": []}
    longest = dict.fromkeys(ratios, 0.0)
    mean = 0.0
    micros = empty = fullest = 0
    steps = max(1, plan.sampler.batches(args.epoch) // plan.per_step)  # the last, short step is no example
    for k in np.unique(np.linspace(0, steps - 1, min(args.steps, steps)).astype(int)).tolist():
        batches = plan.rows(args.epoch, k)
        rows = np.concatenate(batches)
        if len(batches) == 1:
            batches = np.array_split(rows, plan.ranks)
        lengths = plan.lengths[rows].astype(np.int64)
        parts = plan.shares(rows)
        ours = np.array([[lengths[micro].sum() for micro in part] for part in parts])
        micros, empty, fullest = micros + ours.size, empty + int((ours == 0).sum()), max(fullest, int(ours.max()))
        sums = {
            "contiguous": np.array([plan.lengths[batch].sum() for batch in batches]),
            "strided": np.bincount(np.arange(len(rows)) % plan.ranks, lengths, plan.ranks),
            "ours": ours.sum(1),
        }
        share = lengths.sum() / plan.ranks
        mean += share
        for name, tokens in sums.items():
            ratios[name].append(float(tokens.max() / share))
            longest[name] += float(tokens.max())
    cells = []
    for name, found in ratios.items():
        cells += [f"{statistics.median(found):.3f}", f"{np.quantile(found, 0.99):.3f}"] if name != "strided" else []
        cells += [f"{1 - mean / longest[name]:.1%}"]
    limit = plan.most.get("max_tokens")
    return [*cells, f"{empty / micros:.1%}", f"{fullest / limit:.1%}" if limit else ""]


def balance_table(args: argparse.Namespace) -> Table:
    cells = []
    for texts in ("web text", "sentences", *(["reviews"] if args.data else [])):
        lengths = drawn(texts, max(args.rows // 5, 2 * args.batch), args.data)
        for kind in KINDS:  # as many rows as the steps take
            step = args.batch if kind != "by tokens" else args.ranks * args.tokens / lengths[:1000].mean()
            some = plan(kind, lengths[: int(args.steps * step)], args, ranges=True)
            cells.append([texts, kind, *balance(some, args)])
    names = "texts | batches | contiguous | 99th | waiting | strided, waiting | ours | 99th | waiting | empty | most of limit"
    limit = f"{args.batch:,} rows, or of {args.tokens:,} tokens per rank"
    return (
        f"Tokens of the fullest rank over the mean rank's, {args.ranks:,} ranks, steps of {limit}",
        names.split(" | "),
        cells,
    )


# ---- What planning costs.


def clock(call: Callable[[], object]) -> float:
    """Milliseconds of a call on one core, as the processor counts them: other work on the machine changes them little."""
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1e3


def traced(call: Callable[[], object]) -> float:
    """MB that are still there after the call, and stay as long as what it returns."""
    tracemalloc.start()
    kept = call()
    held = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    del kept
    return held


def cost_table(args: argparse.Namespace) -> Table:
    lengths = drawn("web text", args.rows, None).astype(np.int64)
    late = args.epoch + 9000

    def first(made: Plan) -> Plan:
        made.rows(late, made.steps(late) // 3)
        return made

    cells = []
    for kind, ranges in (("by count", False), ("by count", True), ("by length", False), ("by tokens", False)):
        made = plan(kind, lengths, args, ranges)
        seek = clock(partial(first, made))
        after = [(made.steps(late) // 2 + i) % made.steps(late) for i in range(11)]
        rows = statistics.median(clock(partial(made.rows, late, k)) for k in after)
        parts = statistics.median(clock(partial(made.shares, np.concatenate(made.rows(late, k)))) for k in after)
        del made
        memory = traced(lambda kind=kind, ranges=ranges: first(plan(kind, lengths, args, ranges)))  # type: ignore[misc]
        name = f"unpad, {kind}" + (", a step as one batch" if ranges else "")
        cells.append([name, f"{memory:.1f}", f"{seek:,.1f}", f"{rows:.1f}", f"{parts:.1f}"])
    theirs = child(_TORCH.format(rows=args.rows, ranks=args.ranks, epoch=late))
    cells.append(["DistributedSampler", f"{theirs['mb']:.1f}", f"{theirs['ms']:,.1f}", "", ""])
    names = ["", "memory, MB", "seek, ms", "rows of a step, ms", "shares, ms"]
    caption = (
        f"One rank of {args.ranks:,}, {args.rows:,} rows (lengths: {lengths.nbytes / 1e6:,.0f} MB), epoch {late:,}"
    )
    return caption, names, cells


_TORCH = """
import json, os, time
from torch.utils.data import DistributedSampler
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
sampler = DistributedSampler(range({rows}), {ranks}, 0)
before, started = resident(), time.process_time()
sampler.set_epoch({epoch})
iterator = iter(sampler)
next(iterator)
print(json.dumps({{"mb": resident() - before, "ms": (time.process_time() - started) * 1e3}}))
"""


def hash_speed() -> str:
    block = bytes(64 << 20)
    speeds = [(name, len(block) / clock(partial(hashlib.new, name, block)) / 1e6) for name in ("sha256", "blake2b")]
    return "Hashing on one core, GB/s: " + ", ".join(f"{name} {speed:.2f}" for name, speed in speeds)


# ---- Output.


def markdown(table: Table) -> str:
    """The table as it stands in docs/scale.md: texts to the left, numbers to the right."""
    caption, names, rows = table
    words = [any(c.isalpha() for row in rows for c in row[i]) for i in range(len(names))]
    rule = [" --- " if left else " ---: " for left in words]
    lines = [
        " | ".join(["", *names, ""]).strip(),
        "|" + "|".join(rule) + "|",
        *(" | ".join(["", *row, ""]).strip() for row in rows),
    ]
    return f"{caption}:\n\n" + "\n".join(lines)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=("all", "model", "once", "balance", "cost"))
    parser.add_argument("--ranks", type=int, default=1024, help="processes")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the data set")
    parser.add_argument("--batch", type=int, default=8192, help="rows of a step, where steps count rows")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of a micro-batch, where they are counted")
    parser.add_argument("--epoch", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="steps that the balance is taken over")
    parser.add_argument("--data", type=Path, help="folder with imdb/train.parquet: real lengths beside the drawn ones")
    return parser.parse_args(words)


def main() -> None:
    args = arguments()
    if args.what in ("all", "model"):
        for table in model_tables():
            print(f"{markdown(table)}\n", flush=True)
    for name, make in (("once", once_table), ("balance", balance_table), ("cost", cost_table)):
        if args.what in ("all", name):
            started = time.perf_counter()
            print(f"{markdown(make(args))}\n\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    if args.what in ("all", "cost"):
        print(hash_speed())


if __name__ == "__main__":
    main()
