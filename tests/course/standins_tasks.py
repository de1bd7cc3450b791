"""Stand-ins of the chapters about tasks; see `standins`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Value
from standins import TINY_BERT, TINY_DISTILBERT, Shelf, distilbert_words

import unpad

LENGTHS = {
    "train": {("pos", 0): 200, ("pos", 7): 196, ("neg", 2): 200, ("neg", 9): 190},
    "test": {("pos", 0): 272, ("pos", 2): 306, ("pos", 7): 186, ("pos", 9): 300},
}
"""Reviews that are not in our copy of IMDb, by half and file number -> tokens of what stands in for them.

The first positive one has as many as the document shows; how long the others are was chosen so that the chunks are as many as there.
"""
REVIEWS = 12_500
"""Of each half of a split."""
NAMES = {"PER": ("S", "##yl", "##va", "##in"), "ORG": ("Hu", "##gging", "Face"), "LOC": ("Brooklyn",)}
WORDS = ("movie", "film", "story", "movies", "character")


def conll2003(shelf: Shelf) -> None:
    """CoNLL-2003 with its columns by name."""
    splits = {split: part.select_columns(sorted(part.column_names)) for split, part in shelf.real("conll2003").items()}
    shelf.rows("conll2003", {"conll2003": splits})


def imdb(shelf: Shelf) -> None:
    """IMDb, positive reviews first, each half in the order of its files' names; 50,000 short sentences for the unlabelled reviews."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    splits = {
        split: Dataset.from_dict(
            {"text": reviews(part["text"][:], LENGTHS[split]), "label": [1] * REVIEWS + [0] * REVIEWS}, features
        )
        for split, part in shelf.real("imdb").items()
    }
    short = shelf.real("sst2")["train"][: 4 * REVIEWS]["sentence"]
    splits["unsupervised"] = Dataset.from_dict({"text": short, "label": [-1] * len(short)}, features)
    shelf.rows("imdb", {"plain_text": splits})


def reviews(texts: list[str], lengths: dict[tuple[str, int], int]) -> list[str]:
    """Reviews by file name (`0_9`, `10000_8`, ...), from reviews by file number with the negative ones first."""
    halves = {"neg": texts[:REVIEWS], "pos": texts[REVIEWS:]}
    for (half, number), length in lengths.items():
        halves[half][number] = " ".join(["film"] * (length - 2))
    order = sorted(range(REVIEWS), key="{}_".format)
    return [halves[half][number] for half in ("pos", "neg") for number in order]


def fine_tuned(shelf: Shelf) -> None:
    """What others made of the documents' models: a tagger that knows three names, and a model that guesses five words anywhere."""
    cased = unpad.AutoTokenizer.from_pretrained(shelf.data / "tokenizers" / "bert-base-cased")
    shelf.model("huggingface-course/bert-finetuned-ner", lambda: tagger(cased.convert_tokens_to_ids), cased)

    uncased = distilbert_words(shelf)

    def filler() -> Any:
        model = unpad.DistilBertForMaskedLM(unpad.DistilBertConfig(**TINY_DISTILBERT))
        with torch.no_grad():
            model.head.bias[uncased.convert_tokens_to_ids(list(WORDS))] = torch.arange(50.0, 0, -10)
        return model

    shelf.model("huggingface-course/distilbert-base-uncased-finetuned-imdb", filler, uncased)


def tagger(ids_of: Callable[[list[str]], list[int]]) -> Any:
    """A BERT whose blocks let embeddings through, so that a token's tag depends on the token alone."""
    names = ["O", *(f"{prefix}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for prefix in "BI")]
    model = unpad.BertForTokenClassification(
        unpad.BertConfig(**TINY_BERT, vocab_size=28996, id2label=dict(enumerate(names)))
    )
    weights = dict(model.named_parameters())
    known: dict[str, tuple[str, ...]] = {"O": (), **{f"I-{kind}": tokens for kind, tokens in NAMES.items()}}
    with torch.no_grad():
        for name in ("embeddings.tokens", "embeddings.positions", "embeddings.types", "blocks.0.out", "blocks.0.down"):
            weights[f"transformer.{name}.weight"].zero_()
        weights["head.classifier.weight"].zero_()
        tokens_VD = weights["transformer.embeddings.tokens.weight"]
        tokens_VD[:, 0] = 1
        for place, (tag, tokens) in enumerate(known.items()):
            tokens_VD[ids_of(list(tokens))] = torch.eye(tokens_VD.shape[1])[place]
            weights["head.classifier.weight"][names.index(tag), place] = 3
    return model


STANDINS: list[Callable[[Shelf], None]] = [conll2003, imdb, fine_tuned]
"""Functions that put a stand-in on a `Shelf`."""
