"""How the next tokens are chosen: the best one, a drawn one, or by beam search. Rows and prompts that are finished leave the batch.

Shape names: B live prompts, K beams, R live rows, W tokens so far of the longest row, V vocabulary, M candidates per prompt.
A session gives the scores: `first()` [R, V] after the prompts, `advance(tokens [R])` [R, V] after one more token of each row, and
`keep(rows)` makes its rows those of that number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.data.sampler import GOLDEN, mix
from unpad.generate.processors import NONE, Rows, processors
from unpad.generate.settings import GenerationConfig

NEVER = -1e9
"""Log-probability of what is not to be chosen; finite, as sums with it must stay numbers."""
_BLOCK = 64

Stop = Callable[[Tensor], Tensor]
"""Of rows of tokens [R, W], which end with a stop string: bool [R]."""
Put = Callable[[Tensor], Any]


@dataclass
class Found:
    """What a search found for each prompt of the batch."""

    texts: list[list[np.ndarray]]
    """New tokens of each answer, the end token included."""
    sums: list[list[float]] = field(default_factory=list)
    """Beam search: log-probability of each answer divided by length ** length_penalty."""
    scores: list[Tensor] = field(default_factory=list)
    """Where asked for, the processed scores of each step, [answers or beams, V] with 0 for what has left."""


def uniform(seed: int, rows: np.ndarray, count: int) -> np.ndarray:
    """One number in 0 <= u < 1 for each row [R] of a random stream: a function of seed, row and count only, 52 bits deep."""
    key = mix(np.array([seed], dtype=np.uint64) + GOLDEN)
    of_row = mix(key + (rows.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    return (mix(of_row + np.array([count + 1], dtype=np.uint64) * GOLDEN) >> np.uint64(12)) * 2.0**-52


def draw(likely_RV: Tensor, u_R: np.ndarray) -> Tensor:
    """[R] int64: for each row the first token at which the running sum of its (unnormalised) probabilities exceeds u of their sum."""
    sums = likely_RV.cumsum(-1, dtype=torch.float64)
    at = torch.from_numpy(u_R).to(sums.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, at, right=True).clamp_(max=sums.shape[1] - 1)[:, 0]


def one_by_one(
    session: Any, rows: Rows, s: GenerationConfig, numbers: np.ndarray, stop: Stop | None = None, put: Put | None = None
) -> Found:
    """Greedy search or sampling; `numbers` [B] name the prompts' random streams, `put` gets the tokens of each step."""
    prompts, each, width = len(rows.ids), int(s.num_return_sequences or 1), rows.ids.shape[1]
    device, process = rows.ids.device, processors(s)
    eos = torch.tensor(s.eos, device=device)
    live = torch.arange(prompts * each, device=device)
    at, logits = live // each, session.first()
    found, moved = Found([[np.empty(0)] * each for _ in range(prompts)]), each > 1
    if moved:
        rows, logits = rows.select(at), logits.index_select(0, at)
    while True:
        scores = logits.float()
        for step in process:
            scores = step(rows, scores)
        if s.output_scores:
            found.scores.append(scores.new_zeros(prompts * each, scores.shape[1]).index_copy(0, live, scores))
        if s.do_sample:
            streams = numbers[live.cpu().numpy() // each] * each + live.cpu().numpy() % each
            tokens = draw(scores.softmax(-1), uniform(int(s.seed or 0), streams, rows.new))
        else:
            tokens = scores.max(-1)[1]  # several times faster than argmax on CPU
        rows = rows.append(tokens)
        if put is not None:
            put(tokens.cpu())
        done = torch.isin(tokens, eos) | (rows.limit == rows.new)
        if stop is not None:
            done |= stop(rows.ids)
        if bool(done.any()):
            for row in done.nonzero().view(-1).tolist():
                answer = int(live[row])
                found.texts[answer // each][answer % each] = rows.ids[row, width:].cpu().numpy()
            left = (~done).nonzero().view(-1)
            if not len(left):
                return found
            live, tokens, rows, at, moved = live[left], tokens[left], rows.select(left), at[left], True
        if moved:
            session.keep(at)
        logits, moved, at = session.advance(tokens), False, torch.arange(len(live), device=device)


def beam_search(session: Any, rows: Rows, s: GenerationConfig, numbers: np.ndarray, stop: Stop | None = None) -> Found:
    """Beam search as `transformers` 5 has it for each prompt alone: the same candidates, length penalty and stopping rule."""
    total, K, width, returned = len(rows.ids), int(s.num_beams or 1), rows.ids.shape[1], s.num_return_sequences
    device, penalty, process = rows.ids.device, float(s.length_penalty or 0.0), processors(s)
    eos = torch.tensor(s.eos, device=device)
    M = max(2, 1 + len(eos)) * K  # even if all ends are among the best, K candidates can go on
    live, beams = torch.arange(total, device=device), torch.arange(K, device=device)
    rows = rows.select(live.repeat_interleave(K))
    running_BK = torch.where(beams == 0, 0.0, NEVER).repeat(total, 1)  # all beams begin alike: only the first counts
    best_BK, ended_BK = torch.full_like(running_BK, -torch.inf), torch.zeros_like(running_BK, dtype=torch.bool)
    texts_BKn = rows.ids.new_empty(total, K, 0)
    found = Found([[] for _ in range(total)], [[] for _ in range(total)])
    logits = session.first().repeat_interleave(K, 0)
    while True:
        base, n = torch.arange(len(live), device=device)[:, None], rows.new + 1
        scores = logits.float().log_softmax(-1)
        for step in process:
            scores = step(rows, scores)
        V = scores.shape[1]
        if s.output_scores:
            places = (live[:, None] * K + beams).view(-1)
            found.scores.append(scores.new_zeros(total * K, V).index_copy(0, places, scores))
        sums_BX = scores.view(-1, K, V).add_(running_BK[:, :, None]).view(-1, K * V)
        if s.do_sample:
            top_BM, index = _draw_several(sums_BX, M, numbers[live.cpu().numpy()], int(s.seed or 0), n)
        else:
            top_BM, index = top(sums_BX, M)
        parent, token = index // V, index % V
        rows_BM, limit = base * K + parent, rows.limit.view(-1, K)[:, :1]
        hits_BM = torch.isin(token, eos) | (limit == n)
        if stop is not None:
            hits_BM |= stop(torch.cat((rows.ids[rows_BM.view(-1)], token.view(-1, 1)), 1)).view(-1, M)
        running_BK, chosen = (top_BM + hits_BM * NEVER).topk(K)
        ends = hits_BM[:, :K]  # candidates beyond the first K are there to go on only
        if bool(ends.any()):
            fresh = torch.cat((rows.ids[rows_BM[:, :K], width:], token[:, :K, None]), 2)
            texts_BKn = torch.nn.functional.pad(texts_BKn, (0, n - texts_BKn.shape[2]), value=NONE)
            value = torch.where(ends, top_BM[:, :K] / n**penalty, -torch.inf)  # a penalty may take a text below NEVER
            best_BK, order = torch.cat((best_BK, value), 1).topk(K)
            ended_BK = torch.cat((ended_BK, ends), 1).gather(1, order)
            texts_BKn = torch.cat((texts_BKn, fresh), 1).take_along_dim(order[:, :, None], 1)
        at_most = limit if s.early_stopping == "never" and penalty > 0 else limit.new_tensor(n)
        worst = torch.where(ended_BK, best_BK.amin(1, keepdim=True), -torch.inf)
        better = running_BK[:, :1] / (at_most.double() ** penalty).float() > worst
        done = ~better.any(1) | hits_BM.all(1) | (ended_BK.all(1) & (s.early_stopping is True))
        at, tokens = rows_BM.gather(1, chosen), token.gather(1, chosen)
        place = at if rows.new else base.expand(-1, K)  # before the first token the session has one row per prompt
        if bool(done.any()):
            for row in done.nonzero().view(-1).tolist():
                answers = texts_BKn[row, :returned].cpu().numpy()
                found.texts[int(live[row])] = [answer[answer != NONE] for answer in answers]
                found.sums[int(live[row])] = best_BK[row, :returned].tolist()
            state = (live, running_BK, best_BK, ended_BK, texts_BKn, at, place, tokens)
            live, running_BK, best_BK, ended_BK, texts_BKn, at, place, tokens = (x[~done] for x in state)
            if not len(live):
                return found
        rows = rows.select(at.reshape(-1)).append(tokens.view(-1))
        session.keep(place.reshape(-1))
        logits = session.advance(tokens.view(-1))


def top(values_BX: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values_BX.topk(k)` at the price of one maximum: only the k blocks with the greatest maxima can hold the k greatest values."""
    B, X = values_BX.shape
    blocks = X // _BLOCK
    if blocks < 4 * k:
        return values_BX.topk(k)
    whole = values_BX[:, : blocks * _BLOCK].view(B, blocks, _BLOCK)
    block = whole.amax(-1).topk(k)[1].sort()[0]
    index = (block[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=block.device)).view(B, -1)
    index = torch.cat((index, torch.arange(blocks * _BLOCK, X, device=block.device).expand(B, -1)), 1)
    found, at = values_BX.gather(1, index).topk(k)
    return found, index.gather(1, at)


def _draw_several(sums_BX: Tensor, count: int, numbers: np.ndarray, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """`count` different candidates for each prompt, drawn one after the other by their probabilities: values and places [B, count]."""
    likely, drawn = sums_BX.softmax(-1), list[Tensor]()
    for number in range(count):
        drawn.append(draw(likely, uniform(seed, numbers, step * count + number))[:, None])
        likely.scatter_(1, drawn[-1], 0.0)
    index = torch.cat(drawn, 1)
    return sums_BX.gather(1, index), index
