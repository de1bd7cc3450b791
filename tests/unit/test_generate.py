"""Generation: what comes out is what the peer's search gives for each prompt alone, in any batch, and bad wishes get one line."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unpad import notices
from unpad.batch import pack
from unpad.errors import CheckpointError, UnpadError
from unpad.generate.loop import GenerateOutput, generate, generate_rows
from unpad.generate.search import draw, top, uniform
from unpad.generate.settings import DEFAULTS, FIELDS, UNSUPPORTED, GenerationConfig, settle
from unpad.generate.streamers import TextIteratorStreamer, TextStreamer

V, EOS, PAD, START = 24, [1, 3], 2, 4


class Session:
    """The session's contract over a peer's model without a cache: rows of the same lengths run together, nothing is padded."""

    def __init__(self, peer: Any, prompts: list[np.ndarray], sources: Any) -> None:
        self.peer, self.rows, self.memory = peer, [torch.from_numpy(p) for p in prompts], None
        if sources is not None:
            parts = sources.input_ids.split(list(sources.lengths))
            self.memory = [parts[sources.order.index(i)] for i in range(len(prompts))]
        self.steps: list[int] = []

    def first(self) -> torch.Tensor:
        out = torch.empty(len(self.rows), V)
        groups: dict[Any, list[int]] = {}
        for i, row in enumerate(self.rows):
            groups.setdefault((len(row), None if self.memory is None else len(self.memory[i])), []).append(i)
        for members in groups.values():
            ids = torch.stack([self.rows[i] for i in members])
            if self.memory is None:
                out[members] = self.peer(ids).logits[:, -1].float()
            else:
                source = torch.stack([self.memory[i] for i in members])
                out[members] = self.peer(input_ids=source, decoder_input_ids=ids).logits[:, -1].float()
        self.steps.append(len(self.rows))
        return out

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        assert tokens.shape == (len(self.rows),)
        self.rows = [torch.cat((row, token[None])) for row, token in zip(self.rows, tokens, strict=True)]
        return self.first()

    def keep(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[i] for i in rows.tolist()]
        self.memory = None if self.memory is None else [self.memory[i] for i in rows.tolist()]


class Model(nn.Module):
    """A model as generation sees it."""

    def __init__(self, peer: Any, longest: int = 64) -> None:
        super().__init__()
        self.peer = peer
        self.is_encoder_decoder = bool(getattr(getattr(peer, "config", None), "is_encoder_decoder", False))
        self.config = SimpleNamespace(
            longest=longest,
            vocab_size=V,
            eos_token_id=EOS,
            pad_token_id=PAD,
            bos_token_id=0,
            decoder_start_token_id=START,
            extra={},
        )
        self.device, self.sessions = torch.device("cpu"), list[Session]()

    def session(self, prompts: list[np.ndarray], sources: Any = None, use_cache: bool = True) -> Session:
        assert not self.training and not torch.is_grad_enabled()
        assert sources is None or (len(sources) == len(prompts))
        self.sessions.append(Session(self.peer, prompts, sources))
        return self.sessions[-1]


class Bigrams(nn.Module):
    """Logits that only the last token decides: a [V, V] table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.table[ids])


def gpt2_of(seed: int, spread: float) -> Model:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=spread,
        bos_token_id=0, eos_token_id=EOS, pad_token_id=PAD,
    )  # fmt: skip
    return Model(transformers.GPT2LMHeadModel(config).eval())


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return gpt2_of(1, 0.4)


@pytest.fixture(scope="module")
def bart() -> Model:
    torch.manual_seed(2)
    config = transformers.BartConfig(
        vocab_size=V, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, init_std=0.5, bos_token_id=0, eos_token_id=EOS,
        pad_token_id=PAD, decoder_start_token_id=START, forced_eos_token_id=None,
    )  # fmt: skip
    return Model(transformers.BartForConditionalGeneration(config).eval())


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [generator.integers(5, V, n) for n in (3, 9, 1, 6, 2, 12, 3)]


def peer_answers(model: Model, row: np.ndarray, **options: Any) -> list[list[int]]:
    """New tokens that the peer gives for one prompt alone, each up to its first end token."""
    with torch.no_grad():
        out = model.peer.generate(torch.from_numpy(row)[None], **options)
    first = 1 if model.is_encoder_decoder else len(row)
    answers = []
    for answer in out[:, first:].tolist():
        ends = [i for i, token in enumerate(answer) if token in options.get("eos_token_id", EOS)]
        answers.append(answer[: ends[0] + 1] if ends else answer)
    return answers


def answers_of(model: Model, rows: list[np.ndarray], **options: Any) -> list[list[list[int]]]:
    inputs = {"sources": rows} if model.is_encoder_decoder else {"prompts": rows}
    return [[text.tolist() for text in texts] for texts in generate_rows(model, **inputs, **options)]


def bigrams(seed: int = 0, scale: float = 1.0, size: int = V) -> Model:
    return Model(
        Bigrams(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) * scale), longest=10_000
    )


COMMON = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 9, "min_new_tokens": 5, "repetition_penalty": 1.7},
    {"max_length": 20, "min_length": 8, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 8, "bad_words_ids": [[7], [8, 9], [1]], "suppress_tokens": [10, 11], "no_repeat_ngram_size": 3},
    {"max_new_tokens": 6, "forced_bos_token_id": 7, "forced_eos_token_id": 1},
]
BEAMS = [
    {"num_beams": 4},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "num_return_sequences": 3},
    {
        "num_beams": 3,
        "length_penalty": 0.4,
        "early_stopping": "never",
        "num_return_sequences": 3,
        "renormalize_logits": True,
    },
    {"num_beams": 2, "length_penalty": -0.5, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": 1.3, "early_stopping": False, "num_return_sequences": 5},
]
MIXED = [*COMMON, *(COMMON[i % 5] | beams for i, beams in enumerate([*BEAMS, *BEAMS[1:], BEAMS[0]]))]


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
@pytest.mark.parametrize("options", MIXED)
def test_a_batch_of_prompts_of_any_length_gives_what_the_peer_gives_for_each_alone(
    kind: str, options: dict, rows: list[np.ndarray], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    found = answers_of(model, rows, **options)
    for row, texts in zip(rows, found, strict=True):
        assert texts == peer_answers(model, row, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2, "length_penalty": 1.0, "early_stopping": "never", "max_new_tokens": 25},
        {"num_beams": 2, "length_penalty": 2.0, "early_stopping": "never", "max_new_tokens": 25},
        {"num_beams": 2, "eos_token_id": [*range(1, 12)], "max_new_tokens": 8, "length_penalty": 2.0},
        {"num_beams": 4, "eos_token_id": [1, 3, 5, 6, 7, 8], "max_new_tokens": 10, "num_return_sequences": 4},
    ],
)
def test_a_model_that_is_unsure_goes_on_and_ends_where_the_peer_does(options: dict) -> None:
    model, rows = gpt2_of(0, 0.3), [np.random.default_rng(3).integers(5, V, n) for n in (3, 9, 6, 2, 12, 4, 7)]
    for row, texts in zip(rows, answers_of(model, rows, **options), strict=True):
        assert texts == peer_answers(model, row, **options)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}])
def test_padded_tensors_come_back_as_the_peer_gives_them(gpt2: Model, rows: list[np.ndarray], options: dict) -> None:
    ids = torch.full((len(rows), 12), PAD)
    for number, row in enumerate(rows):
        ids[number, 12 - len(row) :] = torch.from_numpy(row)
    mask = (ids != PAD).long()
    options = {"max_new_tokens": 10} | options
    found = generate(gpt2, ids, mask, **options)
    with torch.no_grad():
        expected = gpt2.peer.generate(ids, attention_mask=mask, **options)
    assert torch.equal(found, expected)
    assert torch.equal(generate(gpt2, inputs=ids, **options), expected)  # the pad token tells where padding is


def test_padding_may_stand_on_either_side(gpt2: Model, bart: Model) -> None:
    left, right = torch.tensor([[PAD, PAD, 7, 8], [9, 6, 7, 5]]), torch.tensor([[7, 8, PAD, PAD], [9, 6, 7, 5]])
    for model, begins in ((gpt2, 4), (bart, 0)):
        a, b = (generate(model, ids, ids != PAD, max_new_tokens=6) for ids in (left, right))
        assert torch.equal(a[:, begins:], b[:, begins:])
    assert torch.equal(generate(gpt2, right, max_new_tokens=6)[:, :4], right)


def test_an_encoder_decoder_begins_with_its_start_token(bart: Model) -> None:
    ids = torch.tensor([[7, 8, 9], [5, 6, PAD]])
    assert generate(bart, ids, max_new_tokens=5)[:, 0].tolist() == [START, START]
    bos = generate(bart, ids, max_new_tokens=5, decoder_start_token_id=None)
    assert torch.equal(bos, generate(bart, ids, max_new_tokens=5, decoder_start_token_id=0))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 5, "num_return_sequences": 2}])
@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_how_rows_are_put_into_batches_changes_nothing(
    kind: str, options: dict, rows: list[np.ndarray], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    done: list[int] = []
    whole = answers_of(model, rows, max_new_tokens=7, **options)
    for budget in (1, 30):
        assert answers_of(model, rows, max_new_tokens=7, max_tokens=budget, progress=done.append, **options) == whole
    assert sum(done) == 2 * len(rows)
    if kind == "bart":
        found = generate_rows(model, sources=pack(rows), max_new_tokens=7, **options)
        assert [[text.tolist() for text in texts] for texts in found] == whole


@pytest.mark.parametrize("beams", [1, 2])
def test_what_is_finished_leaves_the_batch(gpt2: Model, rows: list[np.ndarray], beams: int) -> None:
    found = answers_of(gpt2, rows * 2, max_new_tokens=30, num_beams=beams)
    steps = gpt2.sessions[-1].steps
    assert steps == [len(rows) * 2, *sorted(steps[1:], reverse=True)]  # before the first token there are no beams yet
    if beams == 1:
        assert sum(steps) == sum(len(texts[0]) for texts in found)
    else:
        assert 0 < steps[-1] < len(rows) * 2 * beams


def test_scores_and_sums_are_those_of_the_peer(gpt2: Model, rows: list[np.ndarray]) -> None:
    wanted = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
    ids = torch.from_numpy(rows[0])[None]
    for options in ({"repetition_penalty": 1.2}, {"num_beams": 3, "num_return_sequences": 2}):
        found = generate(gpt2, ids, **wanted, **options)
        with torch.no_grad():
            expected = gpt2.peer.generate(ids, **wanted, **options)
        assert isinstance(found, GenerateOutput)
        assert torch.equal(found.sequences, expected.sequences)
        assert torch.equal(found[0], found.sequences)
        assert len(found.scores) == len(expected.scores)
        for ours, theirs in zip(found.scores, expected.scores, strict=True):
            torch.testing.assert_close(ours, theirs)
        if "num_beams" in options:
            torch.testing.assert_close(found.sequences_scores, expected.sequences_scores)


# ---- Sampling. Seeds are fixed, so these tests give the same answer every time; for a new seed a right sampler fails with 1e-6.

FALSE_ALARM = 1e-6


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Probability that counts [n] deviate so much from the expected ones or more; classes expected below 5 are put together."""
    from scipy.stats import chi2

    few = expected < 5
    assert not counts[expected == 0].any()
    counts = np.append(counts[~few], counts[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    there = expected > 0
    return float(chi2.sf((((counts - expected) ** 2)[there] / expected[there]).sum(), max(there.sum() - 1, 1)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6, "top_k": 0},
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2, "temperature": 1.5},
        {"repetition_penalty": 1.5},
    ],
)
def test_tokens_are_drawn_with_the_probabilities_of_the_peer(options: dict) -> None:
    model, count = bigrams(scale=1.5), 20_000
    config = transformers.GenerationConfig(do_sample=True, **options)
    config.update(**transformers.GenerationConfig._get_default_generation_params(), defaults_only=True)
    config._eos_token_tensor = None
    process = transformers.GPT2LMHeadModel._get_logits_processor(SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False),
        _merge_criteria_processor_list=lambda a, b: a), config, input_ids_seq_length=1)  # fmt: skip
    ids = torch.full((count, 1), 6)
    found = generate(model, ids, do_sample=True, seed=11, max_new_tokens=1, **options)[:, 1].numpy()
    likely = process(ids[:1], model.peer.table[ids[:1, 0]]).softmax(-1)[0].double().numpy()
    assert chi_square(np.bincount(found, minlength=V), likely / likely.sum() * count) > FALSE_ALARM


def test_draws_of_rows_and_steps_are_independent() -> None:
    rows, cells = 20_000, 8
    draws = np.stack([uniform(3, np.arange(rows), step) for step in range(3)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert len(np.unique(draws)) == draws.size
    cell = (draws * cells).astype(int)
    other = (uniform(4, np.arange(rows), 0) * cells).astype(int)
    for a, b in (
        (cell[0], cell[1]),
        (cell[1], cell[2]),
        (cell[0, :-1], cell[0, 1:]),
        (cell[0, :-1], cell[1, 1:]),
        (cell[0], other),
    ):
        pairs = np.bincount(a * cells + b, minlength=cells**2)
        assert chi_square(pairs, np.full(cells**2, len(a) / cells**2)) > FALSE_ALARM


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    likely = torch.tensor([[0.0, 0.4, 0.0, 0.6, 0.0]]).expand(3, -1)
    assert draw(likely, np.array([0.0, 0.3999, 1 - 2.0**-52])).tolist() == [1, 1, 3]


def test_a_seed_gives_the_same_text_again_and_another_seed_another() -> None:
    model, ids = bigrams(), torch.tensor([[5], [5], [6]])
    texts = [
        generate(model, ids, do_sample=True, seed=seed, max_new_tokens=30, eos_token_id=None) for seed in (1, 1, 2)
    ]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert not torch.equal(texts[0][0], texts[0][1])  # rows have their own streams
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(generate(model, ids, do_sample=True, max_new_tokens=30))
    assert torch.equal(*states)


def test_beams_are_sampled_with_the_probabilities_of_the_peer() -> None:
    torch.manual_seed(0)
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=V,
            n_embd=8,
            n_layer=1,
            n_head=1,
            n_positions=8,
            initializer_range=0.8,
            eos_token_id=1,
            bos_token_id=0,
        )
    ).eval()
    ids, options = (
        torch.full((4000, 1), 6),
        {"do_sample": True, "num_beams": 2, "max_new_tokens": 2, "top_k": 6, "temperature": 1.3},
    )
    model = Model(peer)
    ours = generate(model, ids, seed=1, eos_token_id=1, pad_token_id=PAD, **options)
    with torch.no_grad():
        theirs = peer.generate(ids, pad_token_id=PAD, attention_mask=torch.ones_like(ids), **options)
    a, b = (np.bincount((x[:, 1] * V + x[:, 2]).numpy(), minlength=V * V) for x in (ours, theirs))
    both = a + b  # two samples of one distribution: each has half of the sum in every class, within its own noise
    rare = both < 10
    a, both = np.append(a[~rare], a[rare].sum()), np.append(both[~rare], both[rare].sum())
    from scipy.stats import chi2

    there = both > 0
    assert chi2.sf(((2 * a - both)[there] ** 2 / both[there]).sum(), there.sum() - 1) > FALSE_ALARM


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 2000), st.integers(1, 9), st.integers(0, 2**31))
def test_the_best_candidates_are_the_best_of_all(rows: int, columns: int, k: int, seed: int) -> None:
    values = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(seed)).view(rows, columns).float()
    values[:, ::3] = -torch.inf
    k = min(k, max(1, columns * 2 // 3 - 1))
    for ours, theirs in zip(top(values, k), values.topk(k), strict=True):
        keep = torch.isfinite(values.topk(k)[0])
        assert torch.equal(ours[keep], theirs[keep])


# ---- Stop strings and streamers.


class Letters:
    """A tokenizer whose tokens are short texts, some of them parts of words."""

    words = (
        "<s>",
        "</s>",
        "<pad>",
        "</u>",
        "<start>",
        "a",
        "b",
        " a",
        " b",
        "ab",
        "ba",
        ".",
        "\n",
        " ",
        "bab",
        "好",
        "c",
        " c",
        "ca",
        "a.",
        ". ",
        "\n\n",
        "x",
        "y",
    )

    def decode(
        self, ids: list[int], clean_up_tokenization_spaces: bool = False, skip_special_tokens: bool = False
    ) -> str:
        return "".join(self.words[i] for i in ids if not (skip_special_tokens and i < 5))


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_a_text_ends_with_the_token_that_completes_a_stop_string(options: dict) -> None:
    letters, model, stops = Letters(), bigrams(4, 2.0), ["bab", "a.", "\n"]
    prompts = [
        np.array([8, 14, 6]),
        np.array([19]),
        np.array([5, 6]),
        np.array([9]),
        *(np.array([i]) for i in range(5, V)),
    ]
    options = {"do_sample": True, "seed": 2, "max_new_tokens": 25, "eos_token_id": None} | options
    found = answers_of(model, prompts, stop_strings=stops, tokenizer=letters, **options)
    ended = 0
    for prompt, texts in zip(prompts, found, strict=True):
        text, ids = letters.decode(prompt.tolist()), []
        for number, token in enumerate(texts[0]):
            before, ids = text, [*ids, token]
            text += letters.words[token]
            hit = any(
                before[-(len(x) - 1) :].__add__(letters.words[token]).find(x) >= 0
                if len(x) > 1
                else x in letters.words[token]
                for x in stops
            )
            assert hit == (number == len(texts[0]) - 1 and len(texts[0]) < 25) or len(ids) == 25
            ended += hit
    assert ended > len(prompts) // 2


def test_a_stop_string_in_the_prompt_does_not_stop() -> None:
    table = torch.full((V, V), -9.0)
    for a, b in ((6, 16), (16, 17), (17, 16)):
        table[a, b] = 9.0
    found = answers_of(
        Model(Bigrams(table)), [np.array([6, 5, 6])], stop_strings="bab", tokenizer=Letters(), max_new_tokens=4
    )
    assert found == [[[16, 17, 16, 17]]]


class Pieces(TextStreamer):
    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.__dict__.setdefault("pieces", []).append((text, stream_end))


class PeerPieces(transformers.TextStreamer):
    on_finalized_text = Pieces.on_finalized_text


@given(
    st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=12), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_a_streamer_shows_the_pieces_that_the_peers_shows(texts: list[list[int]], skip: bool, special: bool) -> None:
    ours, theirs = (kind(Letters(), skip_prompt=skip, skip_special_tokens=special) for kind in (Pieces, PeerPieces))
    for ids in texts:
        for streamer in (ours, theirs):
            streamer.put(torch.tensor([ids[:3]]))
            for token in ids[3:]:
                streamer.put(torch.tensor([token]))
            streamer.end()
    assert ours.pieces == theirs.pieces


def test_a_thread_reads_the_text_while_it_is_generated(gpt2: Model, capsys: pytest.CaptureFixture[str]) -> None:
    ids = torch.tensor([[7, 8, 9]])
    streamer = TextIteratorStreamer(Letters(), timeout=20)
    thread = threading.Thread(target=generate, args=(gpt2, ids), kwargs={"streamer": streamer, "max_new_tokens": 9})
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == Letters().decode(generate(gpt2, ids, max_new_tokens=9)[0].tolist())
    generate(gpt2, ids, streamer=TextStreamer(Letters()), max_new_tokens=9)
    assert capsys.readouterr().out == text + "\n"


def test_who_reads_in_another_thread_never_waits_for_a_generation_that_failed(gpt2: Model) -> None:
    streamer = TextIteratorStreamer(Letters(), timeout=5)
    with pytest.raises(UnpadError, match="max_new_tokens=0"):
        generate(gpt2, torch.tensor([[7, 8]]), streamer=streamer, max_new_tokens=0)
    assert "".join(streamer) == ""


# ---- Settings.


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    notices._said.clear()
    caplog.set_level(logging.INFO, logger="unpad")
    return caplog


def test_a_file_is_written_back_with_what_is_not_known_and_the_peer_reads_it(tmp_path: Path) -> None:
    content = {
        "max_length": 99,
        "eos_token_id": [1, 3],
        "transformers_version": "9",
        "num_beams": 4,
        "typical_p": 1.0,
        "new_idea": {"a": 1},
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    read = GenerationConfig.from_pretrained(tmp_path)
    assert (read.max_length, read.eos, read.do_sample) == (99, [1, 3], None)
    read.save_pretrained(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "generation_config.json").read_text()) == content
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "new").num_beams == 4
    transformers.GenerationConfig(do_sample=True, top_p=0.5, eos_token_id=7).save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).top_p == 0.5


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"^[^\n]*generation_config.json[^\n]*$"):
        GenerationConfig.from_pretrained(tmp_path)


def test_a_call_comes_before_its_settings_before_the_models_own() -> None:
    config = SimpleNamespace(eos_token_id=9, pad_token_id=8)
    own = GenerationConfig(
        num_beams=4, max_length=50, min_length=10, temperature=0.5, eos_token_id=7, top_k=9, do_sample=True
    )
    s = settle(
        own,
        config,
        GenerationConfig(num_beams=2),
        {"max_new_tokens": 3, "top_k": None, "temperature": None, "min_length": 1},
    )
    assert (s.num_beams, s.max_new_tokens, s.max_length, s.min_length) == (2, 3, None, 1)
    assert (s.eos, s.pad_token_id, s.top_k, s.temperature, s.length_penalty) == ([7], 8, 0, 1.0, 1.0)
    assert settle(own, config, None, {"eos_token_id": None}).eos == []


def test_settings_of_old_models_come_from_their_config() -> None:
    of_task = {"max_length": 142, "min_length": 56, "prefix": "summarize: "}
    extra = {"num_beams": 4, "task_specific_params": {"summarization": of_task}}
    config = SimpleNamespace(
        extra=extra,
        task_settings=extra["task_specific_params"],
        eos_token_id=2,
        pad_token_id=None,
        forced_bos_token_id=0,
    )
    read = GenerationConfig.from_model_config(config, "summarization")
    assert read.to_dict() == {
        "eos_token_id": 2,
        "forced_bos_token_id": 0,
        "max_length": 142,
        "min_length": 56,
        "num_beams": 4,
    }
    assert GenerationConfig.from_model_config(config).max_length is None


def test_defaults_are_those_of_the_peer_but_for_its_length() -> None:
    theirs = transformers.GenerationConfig._get_default_generation_params()
    assert {name: theirs[name] for name in DEFAULTS if name in theirs} == {
        n: v for n, v in DEFAULTS.items() if n in theirs
    }
    neutral = {name: value for name, value in theirs.items() if value is not None and name in UNSUPPORTED}
    settle(GenerationConfig.from_dict(neutral), None)


BAD = [
    ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ({"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is more than num_beams=2"),
    ({"num_return_sequences": 2}, "do_sample=True"),
    ({"min_length": 9, "max_length": 8}, "min_length=9 is more than max_length=8"),
    ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens=9 is more"),
    ({"max_new_tokens": 9, "max_length": 20}, "contradict"),
    ({"do_sample": True, "temperature": 0.0}, "temperature=0.0 must be a number above 0; .*do_sample=False"),
    ({"do_sample": True, "top_p": 1.2}, "top_p=1.2"),
    ({"top_k": -1}, "top_k=-1"),
    ({"early_stopping": "yes"}, "early_stopping='yes'"),
    ({"bad_words_ids": [[]]}, "bad_words_ids"),
    ({"suppress_tokens": [5], "forced_eos_token_id": 5}, "forced and forbidden"),
    ({"max_length": 3}, "row 0 with a prompt of 3 tokens"),
    ({"max_new_token": 5}, "did you mean 'max_new_tokens'"),
    ({"penalty_alpha": 0.6}, "penalty_alpha=0.6 is not supported"),
    ({"num_beam_groups": 2}, "num_beam_groups=2"),
    ({"logits_processor": [1]}, "no setting 'logits_processor'"),
    ({"stop_strings": "."}, "pass tokenizer="),
    ({"attention_mask": torch.ones(1, 2)}, r"attention_mask is \[1, 2\]"),
    ({"attention_mask": torch.zeros(1, 3)}, "row 0 has no tokens"),
    ({"input_ids": torch.ones(3).long()}, r"\[B, S\]"),
    ({"input_ids": [1, 2]}, "a list"),
    ({"num_beams": 2, "streamer": object()}, "streamer"),
    ({"streamer": 5}, "streamer is a int"),
    ({"input_ids": torch.tensor([[5, V]])}, f"row 0 holds the id {V}, the model takes 0..{V - 1}"),
    ({"input_ids": torch.tensor([[5, -100]])}, "row 0 holds the id -100"),
    ({"attention_mask": [[1, 1, 1]]}, "attention_mask is a list"),
    ({"generation_config": {"max_new_tokens": 3}}, "generation_config is a builtins.dict"),
    (
        {"generation_config": transformers.GenerationConfig()},
        "generation_config is a transformers.*; give an unpad.GenerationConfig",
    ),
    ({"do_sample": "yes"}, "do_sample='yes' must be True or False"),
    ({"eos_token_id": "</s>"}, "eos_token_id='</s>' must be token ids"),
    ({"pad_token_id": "x"}, "pad_token_id='x' must be a token id"),
    ({"suppress_tokens": ["a"]}, "suppress_tokens"),
    ({"bad_words_ids": [1, 2]}, r"bad_words_ids=\[1, 2\] must be a list of lists"),
    ({"bad_words_ids": 5}, "bad_words_ids=5 must be a list of lists"),
    ({"forced_bos_token_id": V}, f"forced_bos_token_id={V} is no token of the model"),
    ({"forced_eos_token_id": [1, V]}, f"forced_eos_token_id={V} is no token of the model"),
    ({"decoder_start_token_id": -2}, "decoder_start_token_id=-2 is no token"),
    ({"stop_strings": [""]}, "stop_strings=.* none of them empty"),
    ({"stop_strings": "x", "tokenizer": "gpt2"}, "tokenizer is a str"),
    ({"length_penalty": 1000, "num_beams": 2}, "length_penalty=1000 must be a number in -10..10"),
]


@pytest.mark.parametrize(("options", "line"), BAD)
def test_what_cannot_be_is_one_line(gpt2: Model, options: dict, line: str) -> None:
    with pytest.raises(UnpadError, match=line) as caught:
        generate(gpt2, **({"input_ids": torch.tensor([[5, 6, 7]])} | options))
    assert "\n" not in str(caught.value)


def test_a_source_longer_than_the_model_reads_is_one_line(bart: Model) -> None:
    with pytest.raises(UnpadError, match="row 0 has 70 tokens, the model reads 64; tokenize with truncation=True"):
        generate(bart, torch.full((1, 70), 5), max_new_tokens=2)


def test_numbers_and_ids_may_be_those_of_numpy_and_torch(gpt2: Model) -> None:
    ids = torch.tensor([[5, 6, 7]])
    plain = generate(gpt2, ids, max_new_tokens=4, eos_token_id=[1, 3], suppress_tokens=[9])
    other = {"max_new_tokens": np.int64(4), "eos_token_id": torch.tensor([1, 3]), "suppress_tokens": np.array([9])}
    assert torch.equal(generate(gpt2, ids, **other), plain)


def test_without_a_pad_token_no_id_passes_for_padding(gpt2: Model) -> None:
    with pytest.raises(UnpadError, match="row 0 holds the id -1"):
        generate(gpt2, torch.tensor([[5, -1]]), pad_token_id=None, max_new_tokens=2)


def test_a_strong_penalty_of_length_never_loses_a_text(gpt2: Model) -> None:
    asked = {"num_beams": 2, "max_new_tokens": 20, "min_new_tokens": 20, "return_dict_in_generate": True}
    found = generate(gpt2, torch.tensor([[5, 6, 7]]), length_penalty=-10.0, **asked)
    assert found.sequences.shape == (1, 23) and found.sequences_scores[0] < -1e9


def test_a_least_length_beyond_the_greatest_is_said(gpt2: Model, notes: pytest.LogCaptureFixture) -> None:
    generate(gpt2, torch.tensor([[5, 6]]), min_length=30, max_new_tokens=3)
    assert "min_length=30 is more than max_new_tokens=3 allow" in notes.text


def test_an_unsupported_key_of_a_file_is_refused_when_text_is_asked_for(gpt2: Model) -> None:
    own = GenerationConfig.from_dict({"penalty_alpha": 0.6, "guidance_scale": 1})
    with pytest.raises(UnpadError, match=r"penalty_alpha=0\.6"):
        generate(gpt2, torch.tensor([[5, 6]]), generation_config=own)


def test_a_length_that_nobody_named_is_said_and_never_twenty(notes: pytest.LogCaptureFixture) -> None:
    loop = torch.full((V, V), -9.0)
    loop[:, 6] = 9.0
    assert len(generate(Model(Bigrams(loop), 10_000), torch.tensor([[5]]))[0]) == 1 + 256
    assert "no length was given: at most 256 new tokens" in said(notes)
    model = Model(Bigrams(loop), 10_000)
    model.generation_config = GenerationConfig(max_new_tokens=7)  # as training stores it
    assert len(generate(model, torch.tensor([[5]]))[0]) == 8


def test_a_prompt_longer_than_the_context_loses_its_beginning_and_that_is_said(
    gpt2: Model, notes: pytest.LogCaptureFixture
) -> None:
    prompt = np.random.default_rng(0).integers(5, V, 70)
    assert answers_of(gpt2, [prompt], max_new_tokens=3) == answers_of(gpt2, [prompt[-63:]], max_new_tokens=1)
    assert "a prompt of 70 tokens" in said(notes)
    assert len(answers_of(gpt2, [prompt[:60]], max_new_tokens=30, eos_token_id=None)[0][0]) == 4
    assert "max_new_tokens=30 is more than the context of 64 tokens" in said(notes)


def test_sampling_settings_without_sampling_are_said(gpt2: Model, notes: pytest.LogCaptureFixture) -> None:
    generate(gpt2, torch.tensor([[5]]), temperature=0.7, top_k=50, max_new_tokens=1)
    assert "temperature=0.7 has no effect without do_sample=True" in said(notes)


def test_generation_leaves_training_mode_and_the_settings_as_they_were(gpt2: Model) -> None:
    own = GenerationConfig(num_beams=2, max_new_tokens=3)
    gpt2.train()
    gpt2.peer.transformer.eval()
    try:
        generate(gpt2, torch.tensor([[5, 6]]), generation_config=own, num_beams=1)
        assert gpt2.training
        assert gpt2.peer.training
        assert not gpt2.peer.transformer.training
    finally:
        gpt2.eval()
    assert own.to_dict() == {"max_new_tokens": 3, "num_beams": 2}
    assert set(own.to_dict()) < set(FIELDS)


def test_a_decoder_without_a_prompt_begins_with_its_first_token(gpt2: Model) -> None:
    assert torch.equal(generate(gpt2, max_new_tokens=5), generate(gpt2, torch.tensor([[0]]), max_new_tokens=5))
