"""Model cards: README.md as the Hub reads it, YAML facts in front and a text for people behind them.

`model_card` is a pure function of `CardFacts`. It tells only what is known: what nobody measured or said is left out, or said to be
unknown. Cards end with a line by which a later one may replace them; a card that somebody wrote or changed is never replaced.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unpad.checkpoint.files import atomic_write
from unpad.core.heads import HEADS
from unpad.hub.account import Token, refusals
from unpad.tasks import task, task_of

CARD = "README.md"
_MARK = re.compile(r"<!-- unpad made this card; it is replaced only while unchanged: ([0-9a-f]{64}) -->\n")
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_NAME = re.compile(r"[\w./:+=-]+")
_WORDS = re.compile(r"[^\W_](?:[^\W_]|,? (?=[^\W_])|[._-](?=[^\W_]))*")
_MOST_LABELS, _MOST_EVALUATIONS = 50, 20
_CLOCKS = ("_runtime", "_per_second")


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set."""

    name: str | None = None
    """Its name, or its id on the Hub."""
    hub_id: str | None = None
    """The id alone, where it has one."""
    config: str | None = None
    """Its configuration ("mrpc" of "glue")."""
    split: str | None = None
    """"train", "validation", ..."""
    rows: int | None = None
    """Rows that were used."""
    tokens: int | None = None
    """Tokens in them."""
    longest: int | None = None
    """Tokens of the longest row."""


@dataclass(frozen=True)
class CardFacts:
    """All that a card can tell. What is None or empty is not told."""

    name: str
    """What the model is called: the heading."""
    load: str
    """What `from_pretrained` gets: an id on the Hub, or the name of the folder."""
    head: str | None = None
    """Head of a model of this library; None: a module of another one."""
    task: str | None = None
    """Name of the task; None: that of the head."""
    class_name: str = ""
    """Architecture ("BertForSequenceClassification")."""
    model_type: str | None = None
    """Family ("bert")."""
    parameters: int = 0
    """Number of parameters."""
    longest: int | None = None
    """Tokens of the longest input; None: without a bound."""
    labels: Sequence[str] = ()
    """Names of the classes."""
    problem_type: str | None = None
    """One of `core.losses.PROBLEM_TYPES`."""
    library: str = "transformers"
    """Which library's files they are."""
    base: str | None = None
    """What the model was loaded from, where that is known."""
    base_id: str | None = None
    """The id of `base` on the Hub, where it has one."""
    pairs: bool = False
    """Its inputs are pairs of texts."""
    language: Sequence[str] = ()
    """Codes of the languages, where somebody told them."""
    license: str | None = None
    """Code of the license, where somebody chose one."""
    tags: Sequence[str] = ()
    """Further tags."""
    datasets: Sequence[str] = ()
    """Ids on the Hub of the data it learned from."""
    train: DataFacts | None = None
    """What it learned from; None: it was not trained here."""
    judged: Mapping[str, DataFacts] = field(default_factory=dict)
    """By prefix of the metrics ("eval"), what it was judged on."""
    history: Sequence[Mapping[str, Any]] = ()
    """Every logged record of the run, in order."""
    step: int = 0
    """Optimizer steps that the weights have behind them."""
    last_step: int = 0
    """Optimizer steps that the run has done."""
    total_steps: int = 0
    """Optimizer steps that the run was to do."""
    epochs: float = 0.0
    """Passes over the data at `last_step`."""
    chosen_by: str | None = None
    """The metric by which these weights were chosen among those of the run."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that differ from their defaults, and those that people always ask for."""
    precision: str | None = None
    """Number format of the matrix products."""
    hardware: str | None = None
    """What it was trained on."""
    cut: tuple[int, int, float] | None = None
    """Texts that the tokenizer cut, of how many, and the share of their tokens that was lost."""
    picture: str | None = None
    """File of the learning curves beside the card."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Name of a package -> its version."""


def model_facts(model: Any) -> dict[str, Any]:
    """The fields of `CardFacts` that a model itself tells."""
    config, labels_of = model.config, model.labels_of
    named = labels_of in ("row", "token") and not model.vocabulary and config.problem_type != "regression"
    base = model.name_or_path or None
    return {
        "head": model.head_name,
        "class_name": model.class_name,
        "model_type": config.model_type,
        "parameters": model.num_parameters(),
        "longest": config.longest if config.longest < 1 << 20 else None,  # where no table ends
        "labels": list(config.id2label.values()) if named and model.head.spec.output == "labels" else [],
        "problem_type": config.problem_type,
        "base": base if base is None or hub_id(base) else Path(base).name,
        "base_id": None if base == "minilm" else hub_id(base),
    }


def hub_id(name: str | None) -> str | None:
    """`name` where it is an id on the Hub rather than a file or folder here."""
    return name if name and _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def write_card(folder: Path, text: str) -> bool:
    """Write a card into a folder, unless there is one that a person wrote or changed; whether it was written."""
    if not replaceable(folder):
        return False
    atomic_write(folder / CARD, text)
    return True


def replaceable(folder: Path) -> bool:
    """Whether the folder has no card, or one that was made here and is unchanged."""
    try:
        text = (folder / CARD).read_bytes().decode()
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    return unchanged(text)


def unchanged(text: str) -> bool:
    """Whether a card is one that was made here, as it was made."""
    mark = text.rfind("<!-- ")
    found = _MARK.fullmatch(text[mark:]) if mark >= 0 else None
    return found is not None and found[1] == _digest(text[:mark])


def addressed(text: str, name: str) -> str:
    """A card that was made here and is unchanged, with `name` as what its script loads; other cards as they are."""
    if not unchanged(text):
        return text
    before, fence, after = text[: text.rfind("<!-- ")].partition("\n```python\n")
    script, end, rest = after.partition("\n```\n")
    loads = r'(model=|from_pretrained\()"(?:[^"\\]|\\.)*"'
    script = re.sub(loads, lambda found: found[1] + json.dumps(name, ensure_ascii=False), script)
    return _marked(before + fence + script + end + rest)


def card_on_hub(repo_id: str, token: Token = None, revision: str | None = None) -> str | None:
    """The card that a repository has; None: it has none. Raises HubError when nobody answers."""
    from urllib.parse import quote

    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    address = f"{constants.ENDPOINT}/{repo_id}/resolve/{quote(revision or 'main', safe='')}/{CARD}"
    with refusals(f"the card of {repo_id!r} cannot be read", repo_id, token):
        answer = get_session().get(address, headers=build_hf_headers(token=token), follow_redirects=True)
    return answer.text if answer.status_code == 200 else None


def model_card(facts: CardFacts) -> str:
    """The text of README.md."""
    import yaml

    versions = ", ".join(f"{name} {code(version)}" for name, version in facts.versions.items())
    parts = [
        f"---\n{yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True, width=10**6)}---",
        f"# {inline(facts.name)}",
        _what(facts),
        _use(facts),
        _results(facts),
        _training(facts),
        _limits(facts),
        f"## Versions\n\n{versions}" if versions else "",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n\n"
    return _marked(text)


def _marked(text: str) -> str:
    return f"{text}<!-- unpad made this card; it is replaced only while unchanged: {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- what comes from users


def line(value: Any) -> str:
    """Any value as one line of visible characters."""
    text = str(value).encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def inline(value: Any) -> str:
    """Any value as Markdown that shows it and does nothing else, also inside a table."""
    text = line(value)
    return text if _WORDS.fullmatch(text) else re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text) or "(empty)"


def code(value: Any) -> str:
    """The same, in the type of code where it looks like a name."""
    text = line(value)
    return f"`{text}`" if _NAME.fullmatch(text) else inline(text)


# ---- the facts in front


def _metadata(facts: CardFacts) -> dict[str, Any]:
    measured = [name for prefix in facts.judged for name in _measured(facts, prefix)]
    found: dict[str, Any] = {
        "language": _lines(facts.language),
        "license": facts.license and line(facts.license),
        "library_name": facts.library,
        "pipeline_tag": _task(facts),
        "base_model": facts.base_id,
        "datasets": _lines(facts.datasets),
        "metrics": list(dict.fromkeys(name for name in measured if name != "loss")),
        "tags": list(dict.fromkeys(["unpad", *_lines(facts.tags)])),
        "model-index": _index(facts),
    }
    return {key: value for key, value in found.items() if value}


def _lines(values: Sequence[str]) -> list[str]:
    return [text for value in values if (text := line(value))]


def _task(facts: CardFacts) -> str | None:
    if facts.task is not None or facts.head is None:
        return facts.task
    if facts.head == "base":
        return "feature-extraction"
    found = task_of(facts.head)
    return found.name if found else None


def _index(facts: CardFacts) -> list[dict[str, Any]]:
    kind, results = _task(facts), []
    for prefix, data in facts.judged.items():
        measured = _measured(facts, prefix)
        if not measured or kind is None:
            continue
        dataset = {
            "type": line(data.hub_id or "") or "unknown",  # an id on the Hub
            "name": line(data.name or "") or "unknown",
            "config": data.config and line(data.config),
            "split": data.split and line(data.split),
        }
        metrics = [{"type": name, "name": name.replace("_", " "), "value": value} for name, value in measured.items()]
        shown = {key: value for key, value in dataset.items() if value}
        results.append({"task": {"type": kind, "name": kind.replace("-", " ")}, "dataset": shown, "metrics": metrics})
    return [{"name": line(facts.name) or "model", "results": results}] if results else []


def _measured(facts: CardFacts, prefix: str) -> dict[str, float]:
    """The metrics of the weights that the card is about; the loss only where there is nothing else."""
    found = _figures(_record(facts, prefix), prefix)
    return {name: value for name, value in found.items() if name != "loss"} or found


def _record(facts: CardFacts, prefix: str) -> Mapping[str, Any]:
    """The record of the evaluation of these weights, or an empty one."""
    step = facts.step if prefix == "eval" else facts.last_step  # others are made after the run, of what it kept
    records = [r for r in facts.history if r.get("step") == step and _figures(r, prefix)]
    return records[-1] if records else {}


def _figures(record: Mapping[str, Any], prefix: str) -> dict[str, float]:
    names = [n for n in record if n.startswith(f"{prefix}_") and not n.endswith(_CLOCKS)]
    values = {line(n.removeprefix(f"{prefix}_")): record[n] for n in names}
    return {n: float(v) for n, v in values.items() if _is_number(v) and math.isfinite(v)}


# ---- the text


def _what(facts: CardFacts) -> str:
    name, kind = facts.class_name or "model", _task(facts)
    came = "" if facts.base is None else f" from {code(facts.base)}"
    first = f"A {code(name)}{f' for {kind}' if kind else ''}"
    if facts.train is not None:
        first += f", {'fine-tuned' if came else 'trained'}{came} on {_data(facts.train)}"
    elif came:
        first += f", loaded{came}"
    first += "."
    rows = {
        "task": kind,
        "architecture": None if facts.model_type is None else f"{code(name)} ({code(facts.model_type)})",
        "parameters": f"{facts.parameters:,}",
        "longest input": None if facts.longest is None else f"{facts.longest:,} tokens",
        "labels": _labels(facts),
        "judged on": "; ".join(_data(data) for data in facts.judged.values()),
        "language": ", ".join(code(each) for each in facts.language),
        "license": facts.license and code(facts.license),
    }
    return f"{first}\n\n{_table(rows)}"


def _table(rows: Mapping[str, str | None]) -> str:
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value)


def _labels(facts: CardFacts) -> str:
    shown = ", ".join(code(label) for label in facts.labels[:_MOST_LABELS])
    more = len(facts.labels) - _MOST_LABELS
    return f"{shown}, and {more:,} more" if more > 0 else shown


def _data(data: DataFacts) -> str:
    """A data set in a sentence."""
    rows = "rows" if data.rows is None else f"{data.rows:,} row{'s'[: data.rows != 1]}"
    where = " of data without a name" if data.name is None else f" of {code(data.name)}"
    parts = [code(part) for part in (data.config, data.split) if part]
    return rows + where + (f" ({', '.join(parts)})" if parts else "")


_ASK = {
    "text-classification": 'print(answer("A text to classify."))',
    "token-classification": 'print(answer("Ada Lovelace lived in London."))',
    "fill-mask": 'print(answer(f"This is a {answer.tokenizer.mask_token}."))',
    "question-answering": 'print(answer(question="Where did she live?", context="Ada Lovelace lived in London."))',
    "multiple-choice": 'print(answer({"prompt": "The lamp is on,", "choices": ["so it is dark.", "so it is bright."]}))',
    "zero-shot-classification": 'print(answer("The parcel never came.", candidate_labels=["delivery", "billing"]))',
    "feature-extraction": 'print(len(answer("A text.")))',
    "text2text-generation": 'print(answer("A text to answer."))',
    "translation": 'print(answer("A text to translate."))',
    "summarization": 'print(answer("A long text to summarize."))',
    "text-generation": 'print(answer("A text begins with", max_new_tokens=20))',
}
"""Task -> the line that asks a pipeline called `answer`."""
_OPTIONS = {"token-classification": ', aggregation_strategy="simple"'}


def _use(facts: CardFacts) -> str:
    if facts.head is None:
        made = f"a {code(facts.class_name)}" if facts.class_name else "a module"
        return f"## Use\n\nThe weights are those of {made}, a PyTorch module that is not part of this library."
    kind, name = _task(facts), json.dumps(line(facts.load), ensure_ascii=False)
    if kind in _ASK:
        ask = _ASK[kind]
        if kind == "text-classification" and facts.pairs:
            ask = 'print(answer({"text": "A first text.", "text_pair": "A second text."}))'
        made = f'pipeline("{kind}", model={name}{_OPTIONS.get(kind, "")})'
        script = f"from unpad import pipeline\n\nanswer = {made}\n{ask}"
    else:
        maker = f"AutoModel{HEADS[facts.head].suffix}"
        script = (
            f"from unpad import {maker}, AutoTokenizer\n\ntokenizer = AutoTokenizer.from_pretrained({name})\n"
            f'model = {maker}.from_pretrained({name})\nprint(model(**tokenizer("A text.", return_tensors="pt")))'
        )
    said = "The files are in the Hugging Face format; the tokenizer is read from the same place."
    return f"## Use\n\n```python\n{script}\n```\n\n{said}"


def _results(facts: CardFacts) -> str:
    parts = []
    for prefix, data in facts.judged.items():
        records = [(r, _figures(r, prefix)) for r in facts.history]
        records = [(r, found) for r, found in records if found]
        if not records:
            continue
        names = list(dict.fromkeys(name for _, found in records for name in found))
        this = _record(facts, prefix)
        shown = _thinned(records, next((i for i, (r, _) in enumerate(records) if r is this), None))
        title = "validation" if prefix == "eval" else prefix
        lines = [f"On {_data(data)}:" if data != DataFacts() else f"{inline(title)}:", ""]
        lines.append(_row(["step", "epoch", "training loss", *(code(n) for n in names)]))
        lines.append(_row(["---:"] * (3 + len(names))))
        for record, found in shown:
            cells = [f"{record.get('step', '')}", _number(record.get("epoch")), _number(_loss_before(facts, record))]
            cells += [_number(found.get(name)) for name in names]
            lines.append(_row([f"**{cell}**" if record is this and cell else cell for cell in cells]))
        if len(shown) < len(records):
            lines += ["", f"{len(shown)} of {len(records)} evaluations are shown."]
        other = f"The weights of this model, those of step {facts.step:,}, were not judged on these rows."
        parts.append("\n".join([*lines, "", "In bold: the weights of this model." if this else other]))
    return "## Results\n\n" + "\n\n".join(parts) if parts else ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _thinned(records: list[Any], kept: int | None) -> list[Any]:
    """At most 20 of them, evenly spread, with the first, the last and the one of this model."""
    count = len(records)
    if count <= _MOST_EVALUATIONS:
        return records
    places = {round(i * (count - 1) / (_MOST_EVALUATIONS - 1)) for i in range(_MOST_EVALUATIONS)}
    return [records[i] for i in sorted(places | ({kept} if kept is not None else set()))]


def _loss_before(facts: CardFacts, record: Mapping[str, Any]) -> Any:
    """The training loss that was logged last when the evaluation was made."""
    losses = [r["loss"] for r in facts.history if "loss" in r and r.get("step", 0) <= record.get("step", 0)]
    return losses[-1] if losses else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if not _is_number(value):
        return ""
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 10**6 else f"{value:.4g}"


def _training(facts: CardFacts) -> str:
    if facts.train is None:
        return ""
    data = facts.train
    tokens = "" if data.tokens is None else f", {data.tokens:,} tokens, the longest row {data.longest:,}"
    rows: dict[str, str | None] = {
        "rows": None if data.rows is None else f"{data.rows:,}{tokens}",
        "steps": f"{facts.last_step:,}" + (f" of {facts.total_steps:,}" if facts.last_step < facts.total_steps else ""),
        "epochs": _number(facts.epochs),
        "precision": facts.precision and code(facts.precision),
        "hardware": facts.hardware and inline(facts.hardware),
        **{f"{code(name)}": code(value) for name, value in facts.recipe.items()},
    }
    picture = f"\n\n![Learning curves: loss and metrics by step]({facts.picture})" if facts.picture else ""
    return (
        f"## Training\n\n{_table(rows)}\n\nThe other arguments that decide what is learned had their defaults.{picture}"
    )


def _limits(facts: CardFacts) -> str:
    said = []
    if facts.train is not None and facts.last_step < facts.total_steps:
        said.append(f"The run was to take {facts.total_steps:,} steps; these weights have {facts.step:,} behind them.")
    if facts.cut is not None and facts.cut[0]:
        count, of, share = facts.cut
        what = f"{count:,} of {of:,} tokenized texts were longer than allowed and were cut"
        said.append(f"{what}; {share:.1%} of their tokens were lost.")
    if facts.longest is not None and facts.head is not None:
        longest = facts.train.longest if facts.train else None
        seen = f" The longest row that it learned from has {longest:,}." if longest else ""
        said.append(f"It reads at most {facts.longest:,} tokens at once.{seen}")
    kind = _task(facts)
    several = facts.problem_type == "multi_label_classification"
    if facts.labels and kind in ("text-classification", "token-classification") and not several:
        each = "word" if kind == "token-classification" else "text"
        said.append(f"It gives each {each} one of its {len(facts.labels):,} labels, also where none of them is right.")
    if kind is not None and task(kind).generates:
        said.append("What it writes may be wrong, however sure it sounds.")
    if facts.train is not None:
        if not facts.language:
            said.append("Which languages its data are in, was not told.")
        measured = {prefix: _measured(facts, prefix) for prefix in facts.judged}
        if not any(measured.values()):
            said.append("These weights were not judged on any data: how good they are, is not known.")
        else:
            on = "; ".join(_data(facts.judged[prefix]) for prefix, found in measured.items() if found)
            said.append(f"They were judged on {on} alone; how good they are on other texts, is not known.")
        if facts.chosen_by is not None:
            how = f"{code(facts.chosen_by)} on the evaluation data"
            said.append(f"These weights were chosen by {how}, so these figures flatter them.")
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in said) if said else ""
