"""Stand-ins of the chapters about text that comes out of a model: Marian, mT5, pairs of KDE's messages, reviews of products; see `standins`.

Where the documents print a row, that row stands at the place where shuffling with their seed finds it; all other reviews are made here.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Translation, Value
from standins import Shelf
from tokenizers import Tokenizer

import unpad

KDE_ROWS, KDE_SEED = 210_173, 20
MT5_IDS = {
    "▁": 259,
    "▁the": 287,
    "er": 295,
    "▁I": 336,
    "▁reading": 11807,
    "▁Games": 12507,
    "loved": 28387,
    "▁Hung": 62893,
}
"""Pieces of the sentence that the documents tokenize, and their ids in mT5's vocabulary (which is too large to lie beside the project)."""


def kde(shelf: Shelf) -> None:
    """As many pairs as KDE4 has, from a smaller set of the same kind, over and over."""
    pairs = [row for part in shelf.real("kde_en_fr").values() for row in part["translation"]]
    rows = list(islice(cycle({"en": pair["en"], "fr": pair["fr"]} for pair in pairs), KDE_ROWS))
    first_of_train = KDE_ROWS - int(KDE_ROWS * 0.9)
    printed = np.random.default_rng(KDE_SEED).permutation(KDE_ROWS)[first_of_train + 1]
    rows[printed] = {"en": "Default to expanded threads", "fr": "Par défaut, développer les fils de discussion"}
    features = Features({"id": Value("string"), "translation": Translation(["en", "fr"])})
    data = Dataset.from_dict({"id": [str(i) for i in range(KDE_ROWS)], "translation": rows}, features=features)
    shelf.rows("kde4", {"en-fr": {"train": data}})


def marian(shelf: Shelf) -> None:
    """English to French: the vocabulary of a model for the other direction, with its two sides exchanged."""
    shape = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    words = {
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "vocab_size": 53017,
        "pad_token_id": 53016,
        "eos_token_id": 43311,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "en-fr"
        shutil.copytree(shelf.data / "tokenizers" / "opus-mt-tc-big-fr-en", folder, copy_function=shutil.copyfile)
        for file in [folder, *folder.iterdir()]:
            file.chmod(0o755)
        source, target = (folder / "source.spm").read_bytes(), (folder / "target.spm").read_bytes()
        (folder / "source.spm").write_bytes(target)
        (folder / "target.spm").write_bytes(source)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"source_lang": "en", "target_lang": "fr"}))
        tokenizer = unpad.AutoTokenizer.from_pretrained(folder)
        special = {
            "decoder_start_token_id": 53016,
            "eos_token_id": tokenizer.eos_token_id,
            "forced_eos_token_id": tokenizer.eos_token_id,
        }
        config = lambda: unpad.MarianConfig(**{**shape, **words, **special})  # noqa: E731
        for owner in ("Helsinki-NLP/opus-mt-en-fr", "huggingface-course/marian-finetuned-kde4-en-to-fr"):
            shelf.model(owner, lambda: unpad.MarianMTModel(config()), tokenizer)


def mt5_tokenizer(data: Path) -> Any:
    """mT5's pieces of one sentence at their ids, and T5's pieces around them."""
    layout = json.loads((data / "tokenizers" / "t5-small" / "tokenizer.json").read_text())
    scores = dict(layout["model"]["vocab"])
    size = max(MT5_IDS.values()) + 1
    table: list[list[Any]] = [[f"<unused_{i}>", -100.0] for i in range(size)]
    table[0], table[1], table[2] = ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]
    for piece, place in MT5_IDS.items():
        table[place] = [piece, -5.0]
    left_out = {"<pad>", "</s>", "<unk>", "▁loved", "▁Hunger", "▁lo", *MT5_IDS}
    others = (item for item in scores.items() if item[0] not in left_out and not item[0].startswith("<extra_id_"))
    free = (i for i in range(3, size) if table[i][0].startswith("<unused_"))
    for place, (piece, score) in zip(free, others, strict=False):
        table[place] = [piece, score]
    layout["model"]["vocab"], layout["model"]["unk_id"] = table, 2
    layout["added_tokens"] = [
        token for token in layout["added_tokens"] if not token["content"].startswith("<extra_id_")
    ]
    with tempfile.TemporaryDirectory() as name:
        Tokenizer.from_str(json.dumps(layout)).save(f"{name}/tokenizer.json")
        settings = {
            "tokenizer_class": "T5Tokenizer",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "extra_ids": 0,
        }
        (Path(name) / "tokenizer_config.json").write_text(json.dumps(settings))
        return unpad.AutoTokenizer.from_pretrained(name)


def mt5(shelf: Shelf) -> None:
    """mT5, before and after it has learned to summarize."""
    tokenizer = mt5_tokenizer(shelf.data)
    shape = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 2,
        "vocab_size": len(tokenizer),
    }
    for name in ("google/mt5-small", "huggingface-course/mt5-small-finetuned-amazon-en-es"):
        shelf.model(name, lambda: unpad.MT5ForConditionalGeneration(unpad.MT5Config(**shape)), tokenizer)


_WORDS = {
    "en": (
        ["The lamp", "This cable", "My new kettle", "The second volume", "Our garden chair"],
        ["works well", "broke after a week", "came late", "looks better than in the picture", "is worth its price"],
        ["I would buy it again.", "I sent it back.", "My brother wants one too.", "Nobody answered my letter."],
        ["Good but not great", "A pleasant surprise today", "Broken", "Would not buy again", "As described"],
    ),
    "es": (
        ["La lámpara", "Este cable", "Mi nueva tetera", "El segundo tomo", "Nuestra silla de jardín"],
        ["funciona bien", "se rompió en una semana", "llegó tarde", "es mejor que en la foto", "vale su precio"],
        ["Lo compraría otra vez.", "Lo devolví.", "Mi hermano quiere uno.", "Nadie contestó a mi carta."],
        ["Bueno pero no perfecto", "Una sorpresa muy agradable", "Roto", "No lo compraría otra vez", "Como se describe"],
    ),
}  # fmt: skip
_CATEGORIES = ("home", "wireless", "toy", "kitchen", "book", "digital_ebook_purchase")
_BOOKS = ("book", "digital_ebook_purchase")


def _reviews(language: str, split: str, count: int) -> list[list[Any]]:
    """Rows of (title, body, category), seeded."""
    chance = random.Random(f"{language} {split}")
    subjects, verbs, ends, titles = _WORDS[language]
    rows = []
    for _ in range(count):
        body = f"{chance.choice(subjects)} {chance.choice(verbs)}. {chance.choice(ends)} {chance.choice(ends)}"
        rows.append([chance.choice(titles), body, chance.choice(_CATEGORIES)])
    return rows


def amazon(shelf: Shelf) -> None:
    """Reviews in two languages, in the sizes of the set they stand for, with the rows that the documents print."""
    sizes = {"train": 200_000, "validation": 5_000, "test": 5_000}
    made = {language: {split: _reviews(language, split, size) for split, size in sizes.items()} for language in _WORDS}
    shown = np.random.default_rng(42).permutation(sizes["train"])[:2]
    for place, (title, body) in zip(shown, PRINTED_SAMPLES, strict=False):
        made["en"]["train"][place] = [title, body, "home"]
    books = [row for row in made["es"]["train"] if row[2] in _BOOKS and len(row[0].split()) > 2]
    books[1][:2] = ["A book to remember", PRINTED_BODY]
    # 100 Spanish books in the test split, so that the first English one is number 100
    test = [row for row in made["es"]["test"] if row[2] in _BOOKS and len(row[0].split()) > 2]
    for row in test[100:]:
        row[2] = "home"
    test[0][:2] = PRINTED_SUMMARIES[0]
    next(row for row in made["en"]["test"] if row[2] in _BOOKS and len(row[0].split()) > 2)[:2] = PRINTED_SUMMARIES[100]
    configs = {
        language: {split: _table(language, split, rows) for split, rows in splits.items()}
        for language, splits in made.items()
    }
    shelf.rows("amazon_reviews_multi", configs)


def _table(language: str, split: str, rows: list[list[Any]]) -> Dataset:
    titles, bodies, categories = (list(column) for column in zip(*rows, strict=False))
    ids = [f"{language}_{split}_{i:07}" for i in range(len(rows))]
    return Dataset.from_dict(
        {
            "review_id": ids,
            "product_id": [f"product_{name}" for name in ids],
            "reviewer_id": [f"reviewer_{name}" for name in ids],
            "stars": [i % 5 + 1 for i in range(len(rows))],
            "review_body": bodies,
            "review_title": titles,
            "language": [language] * len(rows),
            "product_category": categories,
        }
    )


PRINTED_SAMPLES = [
    (
        "Worked in front position, not rear",
        "3 stars because these are not rear brakes as stated in the item description. At least the mount adapter only worked on the front fork of the bike that I got it for.",
    ),
    (
        "meh",
        "Does it’s job and it’s gorgeous but mine is falling apart, I had to basically put it together again with hot glue",
    ),
]
PRINTED_BODY = (
    'I grew up reading Koontz, and years ago, I stopped,convinced i had "outgrown" him. Still,when a friend was looking for something '
    "suspenseful too read, I suggested Koontz. She found Strangers. We both liked it."
)
PRINTED_SUMMARIES = {
    0: (
        "Buena literatura para adolescentes",
        "Es una trilogia que se hace muy facil de leer. Me ha gustado, no me esperaba el final para nada",
    ),
    100: (
        "Not impressed at all... buy something else",
        "Nothing special at all about this product... the book is too small and stiff and hard to write in. The huge sticker on the back doesn’t come off and looks super tacky. I would not purchase this again. I could have just bought a journal from the dollar store and it would be basically the same thing. It’s also really expensive for what it is.",
    ),
}

STANDINS: list[Callable[[Shelf], None]] = [kde, marian, mt5, amazon]
"""Functions that put a stand-in on a `Shelf`."""
