"""Generation from end to end: prompts in, new tokens out. `generate` takes and gives padded tensors, `generate_rows` rows.

B prompts, S padded length, V vocabulary. Nothing is padded between the two: prompts of all lengths share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unpad.batch import PackedBatch, pack
from unpad.data.sampler import token_budget_batches
from unpad.errors import ArgumentError, DataError
from unpad.generate.processors import NONE, Rows
from unpad.generate.search import Found, Put, Stop, beam_search, one_by_one
from unpad.generate.settings import DEFAULT_NEW_TOKENS, GenerationConfig, listed, settle
from unpad.notices import say_once


class GenerateOutput(NamedTuple):
    """What `generate(return_dict_in_generate=True)` answers."""

    sequences: Tensor
    """[B * num_return_sequences, S] int64, as `generate` returns them without a dictionary."""
    scores: tuple[Tensor, ...] | None
    """With `output_scores=True`: each step's processed scores, [B * num_return_sequences, V] logits or with beams
    [B * num_beams, V] log-probabilities; 0 for rows that were finished."""
    sequences_scores: Tensor | None
    """Beam search: [B * num_return_sequences] log-probability divided by length ** length_penalty."""


def generate(
    model: Any, input_ids: Tensor | None = None, attention_mask: Tensor | None = None,
    generation_config: GenerationConfig | None = None, streamer: Any = None, *, tokenizer: Any = None,
    inputs: Tensor | None = None, decoder_input_ids: Tensor | None = None, decoder_attention_mask: Tensor | None = None, **options: Any,
) -> Tensor | GenerateOutput:  # fmt: skip
    """Generate a continuation of each row of `input_ids` [B, S], or for encoder-decoders an answer to it.

    `attention_mask` [B, S] has 0 for padding, which may stand on either side; without it, padding is told by `pad_token_id` if
    that is no end token. `options` are fields of `GenerationConfig`; `tokenizer` is for `stop_strings`; `inputs` is an older name
    of `input_ids`. `decoder_input_ids` [B, S'], with a mask of their own, are what an encoder-decoder has written so far, with or without
    its start token, which they are then given. Gives int64 [B * num_return_sequences, S + new]: the prompt's columns as they came
    (of an encoder-decoder the decoder's) and the new tokens, filled up with the pad token at the right; or a `GenerateOutput`.
    Raises ArgumentError for what is unknown or contradictory.
    """
    ids, written = inputs if input_ids is None else input_ids, (decoder_input_ids, decoder_attention_mask)
    try:
        return _generate(model, ids, attention_mask, generation_config, streamer, tokenizer, written, options)
    except BaseException:
        if hasattr(streamer, "end"):  # who reads it in another thread waits for no more
            streamer.end()
        raise


def _generate(
    model: Any, ids: Any, attention_mask: Tensor | None, generation_config: GenerationConfig | None, streamer: Any, tokenizer: Any,
    written: tuple[Any, Tensor | None], options: dict[str, Any],
) -> Tensor | GenerateOutput:  # fmt: skip
    s = settle(getattr(model, "generation_config", None), model.config, generation_config, options)
    if ids is None and not model.is_encoder_decoder and s.bos_token_id is not None:
        ids = torch.tensor([[s.bos_token_id]])
    prompts, before, sources = _unpadded(ids, attention_mask, s), ids, None
    if model.is_encoder_decoder:
        sources = prompts
        prompts, before = _begun(s, len(ids), *written)
    elif any(part is not None for part in written):
        raise ArgumentError("decoder_input_ids are for encoder-decoders; this model writes on after its input_ids")
    stop, put = _stopper(s, tokenizer), None
    if streamer is not None:
        if not (hasattr(streamer, "put") and hasattr(streamer, "end")):
            raise ArgumentError(f"streamer is a {type(streamer).__name__}; give an unpad.TextStreamer(tokenizer)")
        if len(ids) > 1 or s.num_beams != 1 or s.num_return_sequences != 1:
            raise ArgumentError("a streamer shows one text; pass one row, num_beams=1 and num_return_sequences=1")
        streamer.put(before.cpu())
        put = streamer.put
    with _answering(model):
        found = _search(model, prompts, sources, s, np.arange(len(ids)), stop, put)
    if streamer is not None:
        streamer.end()
    new = [torch.from_numpy(text) for texts in found.texts for text in texts]
    pad = s.pad_token_id if s.pad_token_id is not None else (*s.eos, 0)[0]
    ends = torch.nn.utils.rnn.pad_sequence(new, batch_first=True, padding_value=pad).to(ids.device)
    before = before.to(ids.device, torch.int64).repeat_interleave(int(s.num_return_sequences or 1), 0)
    sequences = torch.cat((before, ends), 1)
    if not s.return_dict_in_generate:
        return sequences
    sums = None if s.num_beams == 1 else torch.tensor([x for xs in found.sums for x in xs], device=ids.device)
    return GenerateOutput(sequences, tuple(found.scores) if s.output_scores else None, sums)


def generate_rows(
    model: Any, prompts: Sequence[np.ndarray] | None = None, sources: Sequence[np.ndarray] | PackedBatch | None = None,
    settings: GenerationConfig | None = None, *, tokenizer: Any = None, max_tokens: int = 4096,
    progress: Callable[[int], Any] | None = None, first: int = 0, **options: Any,
) -> list[list[np.ndarray]]:  # fmt: skip
    """New tokens for any number of rows, in their order: num_return_sequences int64 arrays per row, the end token included.

    `prompts` are 1-D integer arrays; an encoder-decoder takes `sources`, and begins with its start token where there are no
    prompts. Rows of similar length are answered together, so many that inputs times beams stay under `max_tokens`; this does
    not change what is drawn for a row, which is told by the seed and its number, counted from `first`. `progress` is called with the
    number of rows answered since its last call.
    """
    s = settle(getattr(model, "generation_config", None), model.config, settings, options)
    if isinstance(sources, PackedBatch):
        sources = sources.rows(sources.input_ids)
    if prompts is None:
        prompts = _starts(s, len(sources or ()))
    lengths = np.array([len(p) for p in prompts]) + ([len(x) for x in sources] if sources is not None else 0)
    lengths = lengths * max(int(s.num_beams or 1), int(s.num_return_sequences or 1))
    out: list[list[np.ndarray]] = [[] for _ in prompts]
    stop = _stopper(s, tokenizer)
    with _answering(model):
        for numbers in token_budget_batches(lengths, max_tokens):
            theirs = None if sources is None else [sources[i] for i in numbers]
            found = _search(model, [prompts[i] for i in numbers], theirs, s, first + numbers, stop)
            for number, texts in zip(numbers.tolist(), found.texts, strict=True):
                out[number] = texts
            if progress is not None:
                progress(len(numbers))
    return out


def _search(
    model: Any, prompts: Sequence[np.ndarray], sources: Sequence[np.ndarray] | None, s: GenerationConfig,
    numbers: np.ndarray, stop: Stop | None, put: Put | None = None,
) -> Found:  # fmt: skip
    """Answers to one batch of prompts; `numbers` [B] are their places among the caller's rows."""
    longest, size = (getattr(model.config, name, None) or 1 << 40 for name in ("longest", "vocab_size"))
    prompts, limit = _limits(prompts, s, longest, numbers)
    lengths = [len(p) for p in prompts]
    parts = (prompts,) if sources is None else (prompts, sources)
    for number, read in ((number, row) for rows in parts for number, row in zip(numbers, rows, strict=True)):
        if not len(read):
            raise ArgumentError(f"row {number} has no tokens; there must be one or more to begin with")
        if not 0 <= int(np.min(read)) <= int(np.max(read)) < size:
            odd = next(i for i in np.asarray(read).tolist() if not 0 <= i < size)
            raise DataError(
                f"row {number} holds the id {odd}, the model takes 0..{size - 1}; use the model's own tokenizer"
            )
        if len(read) > longest:
            raise DataError(
                f"row {number} has {len(read)} tokens, the model reads {longest}; tokenize with truncation=True"
            )
    ids = np.full((len(prompts), max(lengths)), NONE, dtype=np.int64)
    for row, prompt in zip(ids, prompts, strict=True):
        row[len(row) - len(prompt) :] = prompt
    least = [s.min_new_tokens if s.min_new_tokens is not None else (s.min_length or 0) - n for n in lengths]
    if s.min_length and s.max_new_tokens and max(map(int.__sub__, least, limit)) > 0:
        say_once(f"min_length={s.min_length} is more than max_new_tokens={s.max_new_tokens} allow: texts end there")
    rows = Rows(*(torch.tensor(x, device=model.device) for x in (ids, least, limit)))  # type: ignore[arg-type]
    packed = None if sources is None else pack([np.asarray(x) for x in sources]).to(model.device)
    session = model.session([np.asarray(p, dtype=np.int64) for p in prompts], packed, use_cache=s.use_cache)
    if s.num_beams != 1:
        return beam_search(session, rows, s, numbers, stop)
    return one_by_one(session, rows, s, numbers, stop, put)


def _limits(
    prompts: Sequence[np.ndarray], s: GenerationConfig, longest: int, numbers: np.ndarray
) -> tuple[list[np.ndarray], list[int]]:
    """The prompts as they fit into the context, and for each how many new tokens there may be at most."""
    most = max(len(p) for p in prompts)
    if most >= longest:
        text = f"a prompt of {most} tokens leaves no room in the context of {longest}: its beginning is cut off"
        say_once(text, key="generate: prompt cut")
        prompts = [p[max(0, len(p) - longest + 1) :] for p in prompts]
    wanted = [s.max_new_tokens or (s.max_length or 0) - len(p) for p in prompts]
    if s.max_new_tokens is None and s.max_length is None:
        wanted = [DEFAULT_NEW_TOKENS] * len(prompts)
        say_once(f"no length was given: at most {min(DEFAULT_NEW_TOKENS, longest - 1)} new tokens; pass max_new_tokens")
    elif min(wanted) < 1:
        row = int(np.argmin(wanted))
        where = f"row {numbers[row]} with a prompt of {len(prompts[row])} tokens"
        raise ArgumentError(f"max_length={s.max_length} leaves nothing to generate for {where}; pass max_new_tokens")
    limit = [min(want, longest - len(p)) for want, p in zip(wanted, prompts, strict=True)]
    if s.max_new_tokens is not None and min(limit) < s.max_new_tokens and most < longest:
        text = f"max_new_tokens={s.max_new_tokens} is more than the context of {longest} tokens leaves: texts end there"
        say_once(text, key="generate: context full")
    return list(prompts), limit


def _unpadded(ids: Any, mask: Tensor | None, s: GenerationConfig, of: str = "") -> list[np.ndarray]:
    """The rows of a padded tensor [B, S] without their padding; `of` begins its name."""
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point() or not len(ids):
        what = f"a tensor {list(ids.shape)} of {ids.dtype}" if isinstance(ids, Tensor) else f"a {type(ids).__name__}"
        raise ArgumentError(f"{of}input_ids is {what}; generate takes token ids [B, S] (return_tensors='pt')")
    told = s.pad_token_id is not None and s.pad_token_id not in s.eos
    if mask is not None and not isinstance(mask, Tensor):
        raise ArgumentError(
            f"{of}attention_mask is a {type(mask).__name__}; give a tensor like {of}input_ids (return_tensors='pt')"
        )
    seen: Any = ids != s.pad_token_id if told else torch.ones_like(ids, dtype=torch.bool)
    kept = seen if mask is None else mask != 0
    if kept.shape != ids.shape:
        shapes = f"{of}attention_mask is {list(kept.shape)}, {of}input_ids {list(ids.shape)}"
        raise ArgumentError(f"{shapes}; give the same shape")
    return [row[there].numpy() for row, there in zip(ids.cpu(), kept.cpu(), strict=True)]


def _begun(
    s: GenerationConfig, count: int, ids: Any, mask: Tensor | None
) -> tuple[list[np.ndarray], Tensor]:  # fmt: skip
    """What the decoder reads first, row by row, and as columns [B, S']: its start token, before what is written if that lacks it."""
    if ids is None and mask is not None:
        raise ArgumentError("decoder_attention_mask is the mask of decoder_input_ids; give these too")
    if ids is None:
        rows = _starts(s, count)
        return rows, torch.from_numpy(np.stack(rows))
    every = torch.ones_like(ids) if mask is None and isinstance(ids, Tensor) else mask
    rows = _unpadded(ids, every, s, "decoder_")  # no token is taken for padding: with T5 and Marian that is the start
    if len(rows) != count:
        raise ArgumentError(f"decoder_input_ids has {len(rows)} rows, input_ids {count}; give one for each")
    first = _start(s)
    if first is None or any(len(row) and row[0] == first for row in rows):
        return rows, ids
    return [np.insert(row, 0, first) for row in rows], torch.nn.functional.pad(ids, (1, 0), value=first)


def _start(s: GenerationConfig) -> int | None:
    return s.decoder_start_token_id if s.decoder_start_token_id is not None else s.bos_token_id


def _starts(s: GenerationConfig, count: int) -> list[np.ndarray]:
    start = _start(s)
    if start is None:
        raise ArgumentError("decoder_start_token_id is not set, nor bos_token_id; pass the id the decoder starts with")
    return [np.array([start])] * count


def _stopper(s: GenerationConfig, tokenizer: Any) -> Stop | None:
    """Whether the last token of a row completes one of the stop strings; the text before it may hold them."""
    strings: list[str] = listed(s.stop_strings)
    if strings and tokenizer is None:
        raise ArgumentError(f"stop_strings={strings!r:.60} are texts; pass tokenizer= to compare them with tokens")
    if not strings:
        return None
    if not hasattr(tokenizer, "decode"):
        raise ArgumentError(f"tokenizer is a {type(tokenizer).__name__}; give one from AutoTokenizer.from_pretrained")
    tail = max(len(text.encode()) for text in strings) + 8  # a token has one byte or more; the first may lose its space

    def stops(row: list[int]) -> bool:
        text = tokenizer.decode(row, clean_up_tokenization_spaces=False)
        known = len(tokenizer.decode(row[:-1], clean_up_tokenization_spaces=False).rstrip("\ufffd"))
        return any(text.find(x, max(0, known - len(x) + 1)) >= 0 for x in strings)

    def stop(ids_RW: Tensor) -> Tensor:
        rows = [[token for token in row if token != NONE] for row in ids_RW[:, -tail:].tolist()]
        return torch.tensor([stops(row) for row in rows], device=ids_RW.device)

    return stop


@contextmanager
def _answering(model: Any) -> Iterator[None]:
    """Without gradients and dropout, in the precision that an engine gave the model; afterwards what was in training mode is so again."""
    training = [module for module in model.modules() if module.training]
    try:
        with torch.no_grad(), getattr(model, "autocast", nullcontext)():
            yield model.eval()
    finally:
        for module in training:
            module.training = True
