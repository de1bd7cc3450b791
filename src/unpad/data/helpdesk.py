"""`helpdesk`: the bundled data set, synthetic support tickets made by a seeded grammar (no file, no download).

Configurations: `tickets` (topic, named entities, subject line, question with its answer span), `pairs` (is the second
message a duplicate of the first?), `entities` (the words of the tickets and their entity tags alone), `questions`
(the same of their questions, as SQuAD has them) and `subjects` (a ticket and four subject lines, of which one
is its own). How it is kept from being trivial: a quarter of the phrasings and of the names never occur in train, tickets mention other topics in passing, and pairs that differ in one decisive word,
product or version look more alike than true duplicates in other words. About 4 percent of the tickets report two
problems at once and carry the label of one: honest noise.

Bits are stable on every platform and Python version, because all randomness comes from `random.Random(seed).random()`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpad.data import _helpdesk_grammar as grammar
from unpad.data._helpdesk_grammar import CITIES, FIRST, ORGS, PRODUCTS, TOPICS
from unpad.errors import DataError, nearest

if TYPE_CHECKING:
    import datasets

TICKET_SIZES = {"train": 1200, "validation": 200, "test": 200}
PAIR_SIZES = {"train": 1600, "validation": 300, "test": 300}
PAIR_LABELS = ["different", "duplicate"]
NER_TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-PRODUCT", "I-PRODUCT"]
CONFIGS = ("tickets", "pairs", "entities", "questions", "subjects")

_ASKS = ("why ", "can ", "is ", "what can ")
_TOKEN = re.compile(r"\w+(?:[.\-]\w+)*|'\w+|[^\w\s]")
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_PIECE = re.compile(r"\{(\w+)\}|([<>])")


class _Dice:
    """Choices from nothing but `random()`, whose bits are the same on every Python version and platform."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.below(len(items))]

    def chance(self, p: float) -> bool:
        return self.random() < p

    def name_from(self, names: list[str], unseen: bool) -> str:
        """One of the first three quarters; where `unseen`, one of the last quarter half of the time."""
        cut = len(names) * 3 // 4
        return self.pick(names[cut:]) if unseen and self.chance(0.5) else self.pick(names[:cut])


@dataclass
class _Message:
    """A finished text and the character spans (start, end, slot) of what was filled into it."""

    text: str
    spans: list[tuple[int, int, str]]


def _date(dice: _Dice) -> str:
    kind, day = dice.below(4), 1 + dice.below(28)
    if kind == 0:
        return dice.pick(grammar.WEEKDAYS)
    if kind == 1:
        return f"{dice.pick(grammar.MONTHS)} {day}"
    return f"{day} {dice.pick(grammar.MONTHS)}" if kind == 2 else f"{day:02d}/{1 + dice.below(12):02d}"


def _facts(dice: _Dice, unseen: bool) -> dict[str, str]:
    """One value for every slot. Prices and amounts, towns and depots differ, so that a question has one answer."""
    currency, whole = dice.pick(["$", "€", "£"]), 9 + dice.below(240)
    cents = dice.pick(["", ".90", ".50", ".00"])
    cities = [dice.name_from(CITIES, unseen)]
    cities.append(dice.pick([c for c in CITIES[: len(CITIES) * 3 // 4] if c not in cities]))
    person = [f"{dice.name_from(FIRST, unseen)} {dice.name_from(grammar.LAST, unseen)}" for _ in range(2)]
    org = dice.name_from(ORGS, unseen)
    return {
        "product": dice.name_from(PRODUCTS, unseen),
        "amount": f"{currency}{whole}{cents}",
        "price": f"{currency}{whole - 1 - dice.below(8)}{dice.pick(['', '.90', '.50'])}",
        "since": _date(dice), "ordered": _date(dice), "wrote": _date(dice),
        "name": person[0] if dice.chance(0.7) else person[0].split()[0], "agent": person[1],
        "org": org, "carrier": dice.pick([o for o in ORGS[: len(ORGS) * 3 // 4] if o != org]),
        "city": cities[0], "depot": cities[1],
        "version": f"{1 + dice.below(9)}.{dice.below(10)}" + (f".{dice.below(10)}" if dice.chance(0.4) else ""),
        "code": f"{dice.pick(['E', 'ERR', 'X'])}-{100 + dice.below(9900)}",
        "order": f"{dice.pick(['A', 'B', 'HD'])}-{10000 + dice.below(89999)}",
        "device": dice.pick(grammar.DEVICES),
    }  # fmt: skip


def _expand(dice: _Dice, template: str) -> str:
    return _CHOICE.sub(lambda m: dice.pick(m.group(1).split("|")), template)


def _typo(dice: _Dice, plain: str, rate: float) -> str:
    """Swap or drop a letter inside some of the longer words (never a word's first letter)."""

    def spoil(match: re.Match[str]) -> str:
        word = match.group()
        if not dice.chance(rate):
            return word
        i = 1 + dice.below(len(word) - 2)
        return word[:i] + (word[i + 1] + word[i] + word[i + 2 :] if dice.chance(0.5) else word[i + 1 :])

    return re.sub(r"[a-z]{5,}", spoil, plain)


def _write(dice: _Dice, sentences: list[str], facts: dict[str, str]) -> _Message:
    """Fill the slots of the sentences and join them in one person's habits (case, full stops, typos)."""
    rate = 0.05 if dice.chance(0.3) else 0.0
    lower = dice.chance(0.08)
    stop = dice.pick([".", ".", ".", ".", "!", "..."])
    text, spans, opened = "", [], 0
    for n, sentence in enumerate(sentences):
        text += " " if n else ""
        begin, at = len(text), 0
        template = _expand(dice, sentence)
        for piece in _PIECE.finditer(template):
            text += _typo(dice, template[at : piece.start()], rate)
            at = piece.end()
            if piece.group(2) == "<":
                opened = len(text)
            elif piece.group(2) == ">":
                spans.append((opened, len(text), "complaint"))
            else:
                value = facts[piece.group(1)]
                spans.append((len(text), len(text) + len(value), piece.group(1)))
                text += value
        text += _typo(dice, template[at:], rate)
        text = text[:begin] + text[begin].upper() + text[begin + 1 :]
        if template.startswith(_ASKS):
            text += "?"
        elif template in grammar.GREETINGS:
            text += ","
        else:
            text += stop if dice.chance(0.5) else "."
    return _Message(text.lower() if lower else text, spans)


def _say(dice: _Dice, topic: str, problem: int, unseen: bool, other_than: int = -1, rate: float = 0.15) -> int:
    """Which phrasing: one of the shared ones, or where `unseen`, at this rate, the one that train never has."""
    last = len(grammar.PROBLEMS[topic][problem]) - 1
    if unseen and other_than != last and dice.chance(rate):
        return last
    return dice.pick([i for i in range(1, last) if i != other_than])


def _led(dice: _Dice, sentence: str) -> str:
    """Now and then a statement begins with a word or two of filler."""
    return sentence if sentence.startswith((*_ASKS, "please ", "kindly ")) else dice.pick(grammar.LEADS) + sentence


def _around(dice: _Dice, topic: str, sentences: list[str], passing: float, context: float) -> list[str]:
    """Put the core sentences among what people say besides: greeting, context, other topics, mood, closing."""
    body = list(sentences)
    if dice.chance(passing):
        other = dice.pick([t for t in TOPICS if t != topic])
        body.insert(dice.below(len(body) + 1), dice.pick(grammar.PASSING[other].split("|")))
    if dice.chance(context):
        body.insert(dice.below(2), dice.pick(grammar.CONTEXTS))
    if len(body) < 4 and dice.chance(0.4):
        body.append(dice.pick(grammar.MOODS))
    if len(body) < 5 and dice.chance(0.3):
        body.insert(0, dice.pick(grammar.GREETINGS))
    if len(body) < 5 and dice.chance(0.4):
        body.append(dice.pick(grammar.CLOSINGS))
    return body


def _ticket(dice: _Dice, unseen: bool) -> dict[str, Any]:
    topic = dice.pick(TOPICS)
    problem = dice.below(5)
    facts = _facts(dice, unseen)
    core = [_led(dice, grammar.PROBLEMS[topic][problem][_say(dice, topic, problem, unseen, rate=0.25)])]
    if topic in grammar.WITH_VERSION and dice.chance(0.4):
        core.append(dice.pick(grammar.DETAILS))
    if dice.chance(0.04):  # two problems in one ticket: honestly ambiguous
        other = dice.pick([t for t in TOPICS if t != topic])
        second = grammar.PROBLEMS[other][dice.below(5)][1].replace("<", "").replace(">", "")
        core.insert(dice.below(2), dice.pick(["", "also, ", "besides, "]) + second)
    message = _write(dice, _around(dice, topic, core, passing=0.45, context=0.5), facts)
    subject = dice.pick(_expand(dice, grammar.PROBLEMS[topic][problem][0]).split("|")).format(**facts)
    roles = sorted({role for _, _, role in message.spans})
    asked = "complaint" if dice.chance(0.33) else dice.pick(roles)
    begin, end, role = next(span for span in message.spans if span[2] == asked)
    tokens, tags = _tagged(message)
    answers = {"text": [message.text[begin:end]], "answer_start": [begin]}
    return {
        "text": message.text, "topic": TOPICS.index(topic), "tokens": tokens, "ner_tags": tags,
        "subject": subject, "question": dice.pick(grammar.QUESTIONS[role]), "answers": answers,
    }  # fmt: skip


def _tagged(message: _Message) -> tuple[list[str], list[int]]:
    """Words and punctuation of the text, and their IOB2 tags from the spans of the entities."""
    tokens, tags = [], []
    entities = sorted(
        (begin, end, grammar.ENTITY[role]) for begin, end, role in message.spans if role in grammar.ENTITY
    )
    for match in _TOKEN.finditer(message.text):
        tag = "O"
        for begin, end, kind in entities:
            if begin <= match.start() < end:
                tag = ("B-" if match.start() == begin else "I-") + kind
        tokens.append(match.group())
        tags.append(NER_TAGS.index(tag))
    return tokens, tags


def _pair(dice: _Dice, unseen: bool) -> dict[str, Any]:
    """Two messages: the same case told by two customers, or two cases that look alike.

    A case is its problem, its product and, where both messages state one, its version or error code.
    """
    topic, problem = dice.pick(TOPICS), dice.below(5)
    first, second = _facts(dice, unseen), _facts(dice, unseen)
    second.update({slot: first[slot] for slot in ("product", "version", "code")})
    shown = topic in grammar.WITH_VERSION and dice.chance(0.35)
    says = _say(dice, topic, problem, unseen)
    topic_b, problem_b, says_b = topic, problem, says
    duplicate = dice.chance(0.5)
    kind = dice.random()
    if duplicate:
        if dice.chance(0.5):
            says_b = _say(dice, topic, problem, unseen, other_than=says)
    elif kind < 0.25:  # the twin, or another problem of the topic
        others = [i for i in range(5) if i != problem]
        problem_b = problem ^ 1 if problem < 4 and dice.chance(0.75) else dice.pick(others)
        says_b = says if dice.chance(0.4) else _say(dice, topic, problem_b, unseen)
    elif kind < 0.34 and topic in grammar.WITH_VERSION:  # the same words, another version or error code
        shown = True
        while second["version"] == first["version"] or second["code"] == first["code"]:
            second.update({slot: value for slot, value in _facts(dice, unseen).items() if slot in ("version", "code")})
        says_b = says if dice.chance(0.5) else _say(dice, topic, problem, unseen)
    elif kind < 0.46:  # another product
        while second["product"] == first["product"]:
            second["product"] = dice.name_from(PRODUCTS, unseen)
        says_b = _say(dice, topic, problem, unseen)
    else:  # another topic, half of the time with the same product
        topic_b, problem_b = dice.pick([t for t in TOPICS if t != topic]), dice.below(5)
        says_b = _say(dice, topic_b, problem_b, unseen)
        if dice.chance(0.5):
            second["product"] = dice.name_from(PRODUCTS, unseen)
    texts = []
    for t, p, s, facts in ((topic, problem, says, first), (topic_b, problem_b, says_b, second)):
        core = [_led(dice, grammar.PROBLEMS[t][p][s])] + ([dice.pick(grammar.DETAILS)] if shown else [])
        texts.append(_write(dice, _around(dice, t, core, passing=0.15, context=0.2), facts).text)
    return {"sentence1": texts[0], "sentence2": texts[1], "label": int(duplicate)}


def _made(
    seed: int, make: Any, sizes: dict[str, int], texts: tuple[str, ...], key: str
) -> dict[str, list[dict[str, Any]]]:
    """Rows of every split; no text occurs twice, so none is in two splits. Ids run on through the splits."""
    dice, number = _Dice(seed), 0
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in sizes.items():
        splits[split] = []
        while len(splits[split]) < size:
            row = make(dice, unseen=split != "train")
            said = {row[column].lower() for column in texts}
            if len(said) < len(texts) or said & seen:
                continue
            seen |= said
            splits[split].append({key: number, **row} if key == "id" else {**row, key: number})
            number += 1
    return splits


def tickets(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The tickets of every split, as plain rows.

    A row has `id` (int), `text` (1 to 5 sentences), `topic` (index into `TOPICS`), `tokens` (words and punctuation
    of the text), `ner_tags` (per token an index into `NER_TAGS`, IOB2), `subject`, `question` and `answers`
    (`{"text": [str], "answer_start": [int]}`, a span of `text` counted in characters).
    """
    return _made(seed, _ticket, TICKET_SIZES, ("text",), "id")


def pairs(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The message pairs of every split, as plain rows.

    A row has `sentence1`, `sentence2`, `label` (index into `PAIR_LABELS`; 1: both tell the same case) and `idx` (int).
    """
    return _made(seed, _pair, PAIR_SIZES, ("sentence1", "sentence2"), "idx")


def subjects(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The tickets of every split with subject lines to choose from, as plain rows.

    A row has `id` (int), `prompt` (its text), `choices` (four subject lines; three are of tickets of the same split with other topics) and
    `label` (the place of its own).
    """
    dice, splits = _Dice(seed), tickets(seed)
    for rows in splits.values():
        for row in rows:
            choices = [row["subject"]]
            while len(choices) < 4:
                other = dice.pick(rows)
                if other["topic"] != row["topic"] and other["subject"] not in choices:
                    choices.append(other["subject"])
            row["label"] = dice.below(4)
            row["choices"] = [*choices[1 : row["label"] + 1], choices[0], *choices[row["label"] + 1 :]]
    columns = {"id": "id", "prompt": "text", "choices": "choices", "label": "label"}
    return {split: [{name: row[of] for name, of in columns.items()} for row in rows] for split, rows in splits.items()}


def load(config: str = "tickets", seed: int = 0) -> datasets.DatasetDict:
    """One configuration (a name of `CONFIGS`) as a `DatasetDict` in memory, with the names of its labels.

    Raises `DataError` for any other configuration.
    """
    if config not in CONFIGS:
        near = nearest(str(config), CONFIGS)
        raise DataError(f"helpdesk has no configuration {config!r}{near}; take one of: {', '.join(CONFIGS)}.")
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

    text, number = Value("string"), Value("int64")
    if config == "pairs":
        rows, label = pairs(seed), ClassLabel(names=PAIR_LABELS)
        features = Features({"sentence1": text, "sentence2": text, "label": label, "idx": number})
    elif config == "subjects":
        rows = subjects(seed)
        features = Features({"id": number, "prompt": text, "choices": List(text), "label": number})
    else:
        rows, topic, tags = tickets(seed), ClassLabel(names=TOPICS), List(ClassLabel(names=NER_TAGS))
        answers = {"text": List(text), "answer_start": List(Value("int32"))}
        features = Features({
            "id": number, "text": text, "topic": topic, "tokens": List(text), "ner_tags": tags,
            "subject": text, "question": text, "answers": answers,
        })  # fmt: skip
    made = DatasetDict({split: Dataset.from_list(rows[split], features=features, split=split) for split in rows})
    if config == "questions":
        made = made.rename_column("text", "context").select_columns(["id", "question", "context", "answers"])
    return made.select_columns(["id", "tokens", "ner_tags"]) if config == "entities" else made
