"""What changes the scores of the next token: pure functions of the tokens so far and the scores, in the order of the field.

R rows, W tokens so far of the longest row, V vocabulary. Rows stand right-aligned in [R, W]: their last tokens are in the last
column whatever their prompts' lengths, and `NONE` fills what is before their first. Each function gives a row the numbers that
the Hugging Face processor of its name gives it alone. Scores are copied before they are changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unpad.generate.settings import GenerationConfig, listed

NONE = -1
"""Stands in [R, W] where a row has no token."""


@dataclass(frozen=True)
class Rows:
    """The live rows of a batch, which all have the same number of new tokens."""

    ids: Tensor
    """[R, W] int64 tokens so far, right-aligned."""
    least: Tensor
    """[R] int64 new tokens before which no end token may come."""
    limit: Tensor
    """[R] int64 new tokens at most."""
    new: int = 0
    """New tokens so far."""

    def select(self, rows_R: Tensor) -> Rows:
        """The rows with these numbers, which may repeat."""
        ids, least, limit = (t.index_select(0, rows_R) for t in (self.ids, self.least, self.limit))
        return Rows(ids, least, limit, self.new)

    def append(self, tokens_R: Tensor) -> Rows:
        """Each row with one more token."""
        return replace(self, ids=torch.cat((self.ids, tokens_R[:, None]), dim=1), new=self.new + 1)


Process = Callable[[Rows, Tensor], Tensor]


def processors(settings: GenerationConfig) -> list[Process]:
    """The functions that settled settings ask for, in the order in which they apply to scores [R, V]."""
    s: Any = settings
    words = [list(w) for w in s.bad_words_ids or [] if list(w) not in [[e] for e in s.eos]]
    ends, suppressed, draws = listed(s.forced_eos_token_id), listed(s.suppress_tokens), s.do_sample
    keep = 1 if s.num_beams == 1 else max(2, len(s.eos) + 1)  # a beam needs a token to go on with beside the end
    table: list[tuple[Any, Process]] = [
        (s.repetition_penalty != 1.0, lambda rows, x: repetition_penalty(rows.ids, x, s.repetition_penalty)),
        (s.no_repeat_ngram_size, lambda rows, x: no_repeat_ngram(rows.ids, x, s.no_repeat_ngram_size)),
        (words, lambda rows, x: bad_words(rows.ids, x, words)),
        (s.eos and (s.min_length or s.min_new_tokens), lambda rows, x: minimum(rows, x, s.eos)),
        (s.forced_bos_token_id is not None, lambda rows, x: forced_first(rows, x, s.forced_bos_token_id)),
        (ends, lambda rows, x: forced_last(rows, x, ends)),
        (suppressed, lambda rows, x: forbid(x, suppressed)),
        (draws and s.temperature != 1.0, lambda rows, x: x / s.temperature),
        (draws and s.top_k, lambda rows, x: top_k(x, max(s.top_k, keep))),
        (draws and s.top_p < 1.0, lambda rows, x: top_p(x, s.top_p, keep)),
        (draws and s.min_p is not None, lambda rows, x: min_p(x, s.min_p, keep)),
        (s.renormalize_logits, lambda rows, x: x.log_softmax(-1)),
    ]
    return [step for wanted, step in table if wanted]


def repetition_penalty(ids_RW: Tensor, scores_RV: Tensor, penalty: float) -> Tensor:
    """Scores of tokens that stand in the row are divided by `penalty` if positive, else multiplied (Keskar et al., 2019)."""
    row, tokens = _named(ids_RW, scores_RV)
    seen, out = scores_RV[row, tokens], scores_RV.clone()
    out[row, tokens] = torch.where(seen < 0, seen * penalty, seen / penalty)
    return out


def no_repeat_ngram(ids_RW: Tensor, scores_RV: Tensor, size: int) -> Tensor:
    """Forbid tokens that would end a run of `size` tokens which the row has already."""
    if ids_RW.shape[1] < size:
        return scores_RV
    windows = ids_RW.unfold(1, size, 1)
    again = (windows[..., :-1] == ids_RW[:, None, ids_RW.shape[1] + 1 - size :]).all(-1)
    row, tokens = _named(windows[..., -1].masked_fill(~again, NONE), scores_RV)
    if not len(row):  # most steps repeat nothing, and a copy of the scores costs more than the search
        return scores_RV
    return scores_RV.index_put((row, tokens), scores_RV.new_tensor(-torch.inf))


def bad_words(ids_RW: Tensor, scores_RV: Tensor, words: list[list[int]]) -> Tensor:
    """Forbid the last token of each of `words` where the row ends with the tokens before it."""
    out, width = scores_RV.clone(), ids_RW.shape[1]
    for *before, last in words:
        if len(before) <= width and 0 <= last < out.shape[1]:
            ends = ids_RW[:, width - len(before) :] == torch.tensor(before, dtype=torch.int64, device=out.device)
            out[:, last] = out[:, last].masked_fill(ends.all(1), -torch.inf)
    return out


def minimum(rows: Rows, scores_RV: Tensor, eos: list[int]) -> Tensor:
    """Forbid the end where a row is not long enough."""
    short = rows.least > rows.new
    return torch.where(short[:, None], forbid(scores_RV, eos), scores_RV) if bool(short.any()) else scores_RV


def forced_first(rows: Rows, scores_RV: Tensor, token: int) -> Tensor:
    """Allow nothing but `token` after a prompt of a single token."""
    return scores_RV if rows.new else _only(scores_RV, [token], (rows.ids != NONE).sum(1) == 1)


def forced_last(rows: Rows, scores_RV: Tensor, tokens: list[int]) -> Tensor:
    """Allow nothing but `tokens` at the last place of a row."""
    last = rows.limit == rows.new + 1
    return _only(scores_RV, tokens, last) if bool(last.any()) else scores_RV


def forbid(scores_RV: Tensor, tokens: list[int]) -> Tensor:
    """Forbid `tokens` in every row."""
    known = torch.tensor([t for t in tokens if 0 <= t < scores_RV.shape[1]], dtype=torch.int64, device=scores_RV.device)
    return scores_RV.index_fill(1, known, -torch.inf)


def top_k(scores_RV: Tensor, k: int) -> Tensor:
    """Keep the `k` best tokens, and what equals the last of them."""
    least = scores_RV.topk(min(k, scores_RV.shape[1]))[0][:, -1:]
    return scores_RV.masked_fill(scores_RV < least, -torch.inf)


def top_p(scores_RV: Tensor, p: float, keep: int = 1) -> Tensor:
    """Keep the fewest tokens whose probabilities sum to `p`, at least `keep` (Holtzman et al., 2020)."""
    rising, order = scores_RV.sort(descending=False)
    drop = rising.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -keep:] = False
    return scores_RV.masked_fill(torch.empty_like(drop).scatter_(1, order, drop), -torch.inf)


def min_p(scores_RV: Tensor, p: float, keep: int = 1) -> Tensor:
    """Keep tokens at least `p` times as likely as the likeliest, at least `keep`."""
    likely = scores_RV.softmax(-1)
    drop = likely < p * likely.amax(-1, keepdim=True)
    drop.scatter_(1, likely.topk(min(keep, likely.shape[1])).indices, False)
    return scores_RV.masked_fill(drop, -torch.inf)


def _only(scores_RV: Tensor, tokens: list[int], rows: Tensor) -> Tensor:
    only = torch.full_like(scores_RV, -torch.inf)
    only[:, tokens] = 0.0
    return torch.where(rows[:, None], only, scores_RV)


def _named(ids: Tensor, scores_RV: Tensor) -> tuple[Tensor, Tensor]:
    """Row and token of every entry of `ids` [R, n] that is a token of the scores."""
    row, at = ((ids >= 0) & (ids < scores_RV.shape[1])).nonzero(as_tuple=True)
    return row, ids[row, at]
