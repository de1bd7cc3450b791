"""Inputs -> features -> packed batches -> model -> answers, in the order of the inputs, for any task.

Inputs are sorted by length and cut into batches of a token budget, so nothing is padded and nothing is left for a caller to tune.
Answers stay on the device until the last batch is done: there is no wait between batches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.compat import modern
from unpad.config import ModelConfig
from unpad.data.sampler import token_budget_batches
from unpad.engine.precision import choose_precision
from unpad.errors import ArgumentError, CheckpointError, DataError, listing, nearest
from unpad.families import family
from unpad.generate.loop import generate_rows
from unpad.generate.settings import FIELDS, UNSUPPORTED, GenerationConfig, settle
from unpad.hub.pull import split_options
from unpad.models import auto
from unpad.models.model import Model
from unpad.notices import say, say_once
from unpad.tasks import Features, Reader, Task, languages, spent, task_of
from unpad.tasks import task as find_task
from unpad.text.tokenizer import AutoTokenizer, Tokenizer, TruncationReport

WINDOW = 1000
"""Inputs of a generator or a data set that are read, sorted and answered together."""
BAR_FROM = 2000
"""Lists longer than this show progress when standard error is a terminal."""
_TOKENIZER = ("truncation", "max_length")
_IGNORED = ("batch_size", "num_workers", "padding", "framework", "use_fast")
_MOST, _LEAST = ("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")


Progress = Callable[[int], Any]
"""Told how many more sequences are answered."""


class Pipeline:
    """Answers inputs with a model; made by `pipeline(...)`. Attributes: `task`, `model`, `tokenizer`, `device`, `precision`."""

    def __init__(
        self, task: Task, model: Model, tokenizer: Tokenizer, *, precision: str = "auto", max_tokens: int, options: Mapping[str, Any]
    ) -> None:  # fmt: skip
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise ArgumentError(f"max_tokens={max_tokens!r} must be a whole number, 1 or more")
        self._task, self.model, self.tokenizer, self.max_tokens = task, model, tokenizer, max_tokens
        self.precision = choose_precision(precision, model.device)
        self._options = self._checked(options, "pipeline")

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._task.name

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def __call__(self, inputs: Any = None, *more: Any, **options: Any) -> Any:
        """Answer inputs.

        A list gives a list; a generator (any iterator) or a data set gives an iterator that reads on as it is consumed;
        a text or one pair (`(a, b)` or `{"text": a, "text_pair": b}`) gives its answer alone. `options` are those of
        `pipeline(...)` for this call. Texts longer than the model takes are cut, which is said once after the call.

        Raises DataError, naming the input, for what is no text, and ArgumentError for unknown options.
        """
        options = modern("pipeline", options)
        if len(more) > len(self._task.positional):
            raise ArgumentError(f"a pipeline for {self.task} takes one input; give several as a list")
        options.update(zip(self._task.positional, more, strict=False))
        inputs = self._task.inputs(inputs, options)
        if inputs is None:
            raise DataError(f"input 0 is None: a pipeline for {self.task} needs one; give a text, or a list of them")
        called = self._checked(options, "a pipeline call")
        self._remark(options)
        # a length of the call replaces the other way to give it
        others = [name for pair in (_MOST, _LEAST) if not called.keys().isdisjoint(pair) for name in pair]
        merged = {**{name: value for name, value in self._options.items() if name not in others}, **called}
        limit = self._limit(merged)  # wrong options are refused now, also where the answers come later
        if self._task.generates:
            settings = settle(self.model.generation_config, self.model.config, *self._writing(merged))
            if settings.seed is not None:  # one for all windows of a stream, also where nobody gave one
                merged["seed"] = settings.seed
        if hasattr(inputs, "tolist"):  # numpy arrays and pandas columns
            inputs = inputs.tolist()
        if isinstance(inputs, list):
            with _bar(len(inputs)) as bar:
                answers, cost = self._answers(inputs, merged, limit, 0, bar.update)
            self._say_cut([cost], limit)
            return self._task.several(answers)
        if _is_many(inputs):
            return self._stream(_windows(inputs, self._task), merged, limit)
        [answer], cost = self._answers([inputs], merged, limit, 0, _silent)
        self._say_cut([cost], limit)
        return self._task.single(answer, isinstance(inputs, str), called)

    def _stream(self, windows: Iterator[list[Any]], options: Mapping[str, Any], limit: int) -> Iterator[Any]:
        done, costs = 0, []
        try:
            for window in windows:
                found, cost = self._answers(window, options, limit, done, _silent)
                costs.append(cost)
                done += len(window)
                yield from found
        finally:
            self._say_cut(costs, limit)

    def _answers(
        self, inputs: Sequence[Any], options: Mapping[str, Any], limit: int, first: int, progress: Progress
    ) -> tuple[list[Any], TruncationReport]:
        """The answers for some inputs, and what truncation has cost, by inputs; `first` is the number of the first one, for messages."""
        if not inputs:
            return [], TruncationReport()
        truncation = options.get("truncation", True)
        mine = {name: options[name] for name in self._task.options if name in options}
        config, before = self.model.config, self.tokenizer.truncation_report()
        features = self._task.encode(inputs, Reader(self.tokenizer, limit, config, truncation, first), mine)
        tokens = spent(before, self.tokenizer)  # an input may have several sequences
        cost = replace(tokens, texts=len(inputs), truncated=len(features.cut))
        found: Any = []
        if len(features):
            self._check(features, limit, first, len(inputs))
            if self._task.generates:
                found = self._written(features, options, first, progress)
            else:
                found = self._found(features, mine, progress)
        return self._task.answers(found, features, config, mine), cost

    def _written(
        self, features: Features, options: Mapping[str, Any], first: int, progress: Progress
    ) -> list[list[np.ndarray]]:
        """What the model writes for the features: for each the new tokens of `num_return_sequences` answers."""
        rows = np.split(features.input_ids, features.ends[:-1])
        prompts, sources = (None, rows) if self.model.is_encoder_decoder else (rows, None)
        settings, asked = self._writing(options)
        with self.precision.autocast(self.device.type):
            return generate_rows(
                self.model, prompts, sources, settings, tokenizer=self.tokenizer, max_tokens=self.max_tokens, progress=progress, first=first,
                **asked,
            )  # fmt: skip

    def _writing(self, options: Mapping[str, Any]) -> tuple[GenerationConfig, dict[str, Any]]:
        """How it is generated: what the task gives where neither the model's own settings nor the caller say anything, and what the
        caller says. A length anywhere replaces all lengths of the task."""
        asked = {name: value for name, value in options.items() if name in FIELDS}
        given, own = options.get("generation_config"), self.model.generation_config
        given = {} if given is None else given.to_dict()
        stated = asked.keys() | given.keys() | ({} if own is None else own.stated()).keys()
        stated |= set(() if stated.isdisjoint((*_MOST, *_LEAST)) else (*_MOST, *_LEAST))
        of_task = self._task.writing(self.model.config, self.tokenizer, options)
        of_task = {name: value for name, value in of_task.items() if name in FIELDS and name not in stated}
        return GenerationConfig.from_dict({**of_task, **given}), asked

    def _found(self, features: Features, options: Mapping[str, Any], progress: Progress) -> Any:
        """The model's answers on the CPU in the order of the features: [B, C] fp32, or B arrays where they are per token."""
        model, device = self.model, self.model.device
        training = model.training
        if training:  # a model that is being trained is left as it was, and its dropout never reaches an answer
            model.eval()
        per_row = model.labels_of in ("row", "choice") or self._task.by_sequence(options)
        parts: list[Tensor] = []
        rows: list[int] = []
        sizes: list[int] = []
        try:
            with torch.inference_mode(), self.precision.autocast(device.type):
                for chosen in token_budget_batches(features.lengths, self.max_tokens):
                    batch = features.pack(chosen)
                    parts.append(self._task.reduce(model(batch.to(device, non_blocking=True)), batch, options))
                    # answers to choices come in the order of the rows, all others in that of the batch
                    rows.extend(chosen.tolist() if model.labels_of == "choice" else batch.sample_ids)
                    if not per_row:
                        sizes.extend(batch.lengths if batch.asked is None else _counts(batch))
                    progress(len(chosen))
        finally:
            if training:
                model.train()
        values = torch.cat(parts).float().cpu()
        if per_row:
            return torch.empty_like(values).index_copy_(0, torch.tensor(rows), values)
        split = torch.split(values, sizes)
        return [split[place].numpy() for place in np.argsort(rows)]

    def _check(self, features: Features, limit: int, first: int, count: int) -> None:
        """Ids and lengths that would crash inside the model are named here, on the host."""
        longest = int(features.lengths.argmax())
        if features.lengths[longest] > limit:
            # an input may have several sequences
            which = f"input {first + longest}" if len(features) == count else "an input"
            raise DataError(
                f"{which} has {features.lengths[longest]} tokens, the model takes {limit}; "
                "leave truncation on, or shorten the text"
            )
        top, size = int(features.input_ids.max(initial=0)), self.model.config.vocab_size
        if top >= size:
            raise DataError(
                f"the tokenizer gives the id {top}, the model knows 0..{size - 1}: they are not of the same checkpoint; "
                "pass the model's own tokenizer="
            )

    def _limit(self, options: Mapping[str, Any]) -> int:
        """Tokens that an input may have. A prompt leaves room for a token after it."""
        most = self.model.config.longest - (self._task.generates and not self.model.is_encoder_decoder)
        name = "max_source_length" if self._task.generates else "max_length"
        asked = options.get(name)
        if asked is None:
            return min(most, self.tokenizer.model_max_length)
        if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
            raise ArgumentError(f"{name}={asked!r} is outside 1..{most}, the tokens that the model takes")
        return asked

    def _say_cut(self, costs: Sequence[TruncationReport], limit: int) -> None:
        texts, cut = sum(c.texts for c in costs), sum(c.truncated for c in costs)
        before, lost = sum(c.tokens_before for c in costs), sum(c.tokens_lost for c in costs)
        if cut:
            share = f"{lost / max(before, 1):.1%} of all tokens were not read"
            say(f"{cut} of {texts} inputs ({cut / texts:.1%}) were longer than {limit} tokens and were cut: {share}")

    def _checked(self, options: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The options without those that change nothing. Raises ArgumentError for unknown ones."""
        written = ("generation_config", *FIELDS) if self._task.generates else ()
        known = tuple(dict.fromkeys((*self._task.options, *_TOKENIZER, *written)))
        taken = (*known, *_IGNORED, *(UNSUPPORTED if written else ()))
        for name in options:
            if name not in taken:
                raise ArgumentError(
                    f"{where} for {self.task} has no option {name!r}{nearest(name, known)}; there are: {listing(known, 99)}"
                )
        given = options.get("generation_config")
        if given is not None and not isinstance(given, GenerationConfig):
            raise ArgumentError(f"generation_config is a {type(given).__name__}; give an unpad.GenerationConfig")
        if written:  # what would change the text and is not supported is refused here, by name
            GenerationConfig(**{name: value for name, value in options.items() if name in UNSUPPORTED})
        mine = self._task.checked({name: options[name] for name in self._task.options if name in options})
        mine = self._task.settled(mine, self.tokenizer)
        passed = {name: options[name] for name in (*_TOKENIZER, *written) if options.get(name) is not None}
        return {**mine, **passed}

    def _remark(self, options: Mapping[str, Any]) -> None:
        """Say which of these options the model cannot follow."""
        if text := self._task.remark(options, self.model.config, self.tokenizer):
            say_once(text)

    def __repr__(self) -> str:
        return f"Pipeline({self.task!r}, {self.model.class_name} from {self.model.name_or_path!r}, {self.precision.name} on {self.device})"


def _counts(batch: PackedBatch) -> list[int]:
    """Tokens asked of each sequence of the batch."""
    assert batch.asked is not None
    return np.histogram(batch.asked.cpu().numpy(), np.cumsum([0, *batch.lengths]))[0].tolist()


# ---- inputs ----


def _is_many(inputs: Any) -> bool:
    """An iterator or a data set, rather than one input."""
    if isinstance(inputs, (str, bytes, tuple)):
        return False
    if isinstance(inputs, (set, frozenset)):
        raise DataError("the inputs are a set, which has no order to answer in; give a list")
    if isinstance(inputs, Mapping):
        values = list(inputs.values())
        if values and all(hasattr(v, "column_names") for v in values):
            raise DataError(
                f"a pipeline takes one split, this has {', '.join(map(str, inputs))}; pass one of them, as in data['test']"
            )
        return False
    return hasattr(inputs, "__next__") or hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")


def _windows(inputs: Any, task: Task) -> Iterator[list[Any]]:
    """The inputs of an iterator, a column or a data set as lists of up to WINDOW, read when they are needed."""
    if hasattr(inputs, "column_names"):
        columns = task.columns(inputs, labelled=False)
        if hasattr(inputs, "select_columns"):
            inputs = inputs.with_format(None).select_columns(list(dict.fromkeys(columns.used)))
        return _chunks(task.row_input(row, columns) for row in inputs)
    if hasattr(inputs, "__iter__"):
        return _chunks(inputs)
    return _chunks(inputs[i] for i in range(len(inputs)))


def _chunks(inputs: Iterable[Any]) -> Iterator[list[Any]]:
    stream = iter(inputs)
    while window := list(islice(stream, WINDOW)):
        yield window


def _bar(size: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=size, unit=" inputs", leave=False, disable=size <= BAR_FROM or not sys.stderr.isatty())


def _silent(count: int) -> None:
    """Progress that nobody sees."""


# ---- making one ----


def build(
    task: str | None, model: Any, tokenizer: Any, *, device: Any, precision: str, max_tokens: int, **options: Any
) -> Pipeline:
    """See `unpad.pipeline`."""
    found = None if task is None else find_task(task)
    hub, options = split_options(modern("pipeline", options))
    given = options.pop("model_kwargs", None) or {}
    if not isinstance(given, Mapping):
        raise ArgumentError(f"model_kwargs is a {type(given).__name__}; give a dictionary for from_pretrained")
    of_model, rest = split_options(given)
    hub = {**of_model, **hub}
    loading = {**rest, **hub}
    for name in ("dtype", "torch_dtype", "trust_remote_code"):
        if name in options:
            loading[name] = options.pop(name)
    if options.get("framework", "pt") not in ("pt", None):
        raise ArgumentError(f"framework={options['framework']!r} is not possible; leave it out: models are PyTorch's")
    if isinstance(model, torch.nn.Module):
        if not isinstance(model, Model):
            raise ArgumentError(
                f"model is a {type(model).__name__}, which a pipeline cannot run; pass a folder, a Hub id or a model from AutoModel...from_pretrained"
            )
        if loading:
            raise ArgumentError(f"{next(iter(loading))}= is for loading, but the model is loaded already; leave it out")
        found = _task_for(model, found)
        if device is not None:
            model.to(_device(device))
    elif model is None or isinstance(model, (str, Path)):
        place = _device(device)  # before the weights are read: a wrong name costs no wait
        found, model = _load(found, model, loading)
        model.to(place)
    else:
        raise ArgumentError(f"model is a {type(model).__name__}; pass a folder, a Hub id or a loaded model")
    tokenizer = _tokenizer(tokenizer, model, hub)
    every = {**languages(task), **options}
    made = Pipeline(found, model, tokenizer, precision=precision, max_tokens=max_tokens, options=every)
    made._remark(options)  # not of languages that are only in the name of the task
    return made


def _task_for(model: Model, asked: Task | None) -> Task:
    """The task that was asked for, checked against the model's head, or the one that the head is for."""
    found = asked or task_of(model.head_name)
    if found is None:
        raise ArgumentError(f"{model.class_name} has no head for a task; load it with an AutoModelFor... class")
    if model.head_name != found.head:
        raise ArgumentError(f"{model.class_name} cannot do {found.name}; load it with {found.auto_class}")
    return found


def _load(asked: Task | None, name: str | Path | None, loading: dict[str, Any]) -> tuple[Task, Model]:
    if name is None:
        if asked is None:
            raise ArgumentError("pipeline needs a task or a model, e.g. pipeline('sentiment-analysis', model='folder')")
        name = asked.default_model
        revision = loading.get("revision") or "main"
        say_once(f"no model was named: {asked.name} takes {name} (revision {revision}); pass model= to choose")
        try:
            return asked, _from_pretrained(asked, name, loading)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; this is the default for {asked.name}, pass model= to choose another"
            ) from None
    if asked is None:
        hub = {key: value for key, value in loading.items() if key in auto.HUB_OPTIONS}
        config = auto.AutoConfig.from_pretrained(name, **hub)
        asked = next(iter(_tasks_of(config)), None)
        if asked is None:
            what = ", ".join(config.architectures) or "no architecture"
            raise ArgumentError(
                f"model {str(name)!r} names {what}, which tells no task; pass one, e.g. pipeline('text-classification', ...)"
            )
    return asked, _from_pretrained(asked, name, loading)


def _tasks_of(config: ModelConfig) -> list[Task]:
    """The tasks of the Hugging Face classes that a configuration names, such as BertForSequenceClassification or MarianMTModel."""
    kind = family(config.model_type)
    heads = {kind.class_name(head): head for head in kind.heads}
    return [found for name in config.architectures if (found := task_of(heads.get(name, "base"))) is not None]


def _from_pretrained(found: Task, name: str | Path, loading: dict[str, Any]) -> Model:
    model: Model = getattr(auto, found.auto_class).from_pretrained(name, **loading)
    if found.head == "base":
        return model
    heads = {task.head for task in _tasks_of(model.config)}
    if model.load_report is not None and model.load_report.new:
        say(f"{name} was never trained for {found.name}: the answers of its new head mean nothing until it is")
    elif heads and found.head not in heads:  # heads whose weights have the same names and shapes
        what = ", ".join(model.config.architectures)
        say(f"{name} is a {what} and was never trained for {found.name}: its answers mean nothing until it is")
    return model


def _tokenizer(given: Any, model: Model, hub: Mapping[str, Any]) -> Tokenizer:
    if isinstance(given, Tokenizer):
        return given
    if given is not None:
        if not isinstance(given, (str, Path)):
            raise ArgumentError(
                f"tokenizer is a {type(given).__name__}; pass a folder, a Hub id or one from unpad.AutoTokenizer.from_pretrained"
            )
        elsewhere = str(given) != model.name_or_path  # the model's revision says nothing about another repository
        theirs = {key: value for key, value in hub.items() if not (elsewhere and key in ("revision", "subfolder"))}
        return AutoTokenizer.from_pretrained(given, **theirs)
    if not model.name_or_path:
        raise ArgumentError("the model was not loaded from a folder, so its tokenizer is unknown; pass tokenizer=")
    try:
        return AutoTokenizer.from_pretrained(model.name_or_path, **hub)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; there is no tokenizer beside the model, pass tokenizer=") from None


def _device(given: Any) -> torch.device:
    """The device that was asked for; None: a GPU if there is one. Raises ArgumentError where it is not there."""
    if given is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if isinstance(given, int) and not isinstance(given, bool):
            found = torch.device("cpu" if given < 0 else f"cuda:{given}")
        else:
            found = torch.device(given)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device={given!r} is unknown; write 'cpu', 'cuda', 'cuda:1' or a GPU's number") from None
    count = torch.cuda.device_count() if found.type == "cuda" else None
    if count is not None and (found.index or 0) >= count:
        raise ArgumentError(f"device={given!r} is not here: PyTorch can use {count} GPUs; leave device= out")
    return found
