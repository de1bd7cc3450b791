"""A Hub's folder with small stand-ins under the ids that the course uses: real vocabularies and rows, small random weights.

`build` fills a folder that `unpad hub serve` serves. A stand-in has the architecture, labels and vocabulary of the model it stands for, and a
hidden size that trains in seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Value

import unpad
from unpad.serve import names, views
from unpad.serve.store import Change, Entry, Store

TINY_BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TINY_DISTILBERT = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}


class Shelf:
    """The folder of a Hub while it is filled; `data` holds real data sets and vocabularies."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.store, self.data = Store(folder), data

    def put(self, kind: str, name: str, folder: Path) -> None:
        """A repository (`kind` is "model" or "dataset") with the files of a folder, in one commit."""
        repo = self.store.create(kind, name if "/" in name else f"{names.SHARED}/{name}", False, "course")
        changes = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            content = path.read_bytes()
            entry = Entry(self.store.contents.add(content), len(content), views.git_oid(content), False)
            changes.append(Change("add", path.relative_to(folder).as_posix(), entry))
        self.store.commit(repo, "main", changes, "stand-in", "", "course", None)

    def model(self, name: str, made: Callable[[], Any], tokenizer: Any) -> None:
        """A model with its tokenizer; `tokenizer` is a folder of vocabulary files below `tokenizers`, or a tokenizer."""
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            made().save_pretrained(folder)
            if isinstance(tokenizer, str):
                tokenizer = unpad.AutoTokenizer.from_pretrained(self.data / "tokenizers" / tokenizer)
            tokenizer.save_pretrained(folder)
            self.put("model", name, Path(folder))

    def rows(self, name: str, configs: Mapping[str, Mapping[str, Dataset]]) -> None:
        """A data set: configuration -> split -> rows; a set without configurations has one named "default"."""
        with tempfile.TemporaryDirectory() as folder:
            lines = ["---", "configs:"]
            for config, splits in configs.items():
                lines += [f"- config_name: {config}", "  data_files:"]
                for split, part in splits.items():
                    file = Path(folder) / config / f"{split}.parquet"
                    file.parent.mkdir(exist_ok=True)
                    part.to_parquet(str(file))
                    lines += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
            (Path(folder) / "README.md").write_text("\n".join([*lines, "---", ""]))
            self.put("dataset", name, Path(folder))

    def real(self, name: str) -> dict[str, Dataset]:
        """The splits of a real data set."""
        return dict(unpad.load_dataset(str(self.data / name)))


def glue(shelf: Shelf) -> None:
    """MRPC with the spaced text, the row numbers and the label names of GLUE."""
    features = Features(
        {
            "sentence1": Value("string"),
            "sentence2": Value("string"),
            "label": ClassLabel(names=["not_equivalent", "equivalent"]),
            "idx": Value("int32"),
        }
    )
    shelf.rows(
        "glue",
        {
            "mrpc": {
                split: part.select_columns(list(features)).cast(features)
                for split, part in shelf.real("mrpc_tokenized").items()
            }
        },
    )


def distilbert_words(shelf: Shelf) -> Any:
    """BERT's vocabulary as DistilBERT has it: without types of tokens."""
    return unpad.AutoTokenizer.from_pretrained(
        shelf.data / "tokenizers" / "bert-base-uncased", tokenizer_class="DistilBertTokenizer"
    )


def berts(shelf: Shelf) -> None:
    """BERT and DistilBERT as they were pretrained: with a vocabulary head."""
    shelf.model("bert-base-uncased", lambda: unpad.BertForMaskedLM(unpad.BertConfig(**TINY_BERT)), "bert-base-uncased")
    cased = {**TINY_BERT, "vocab_size": 28996}
    shelf.model("bert-base-cased", lambda: unpad.BertForMaskedLM(unpad.BertConfig(**cased)), "bert-base-cased")
    distilled = lambda: unpad.DistilBertForMaskedLM(unpad.DistilBertConfig(**TINY_DISTILBERT))  # noqa: E731
    shelf.model("distilbert-base-uncased", distilled, distilbert_words(shelf))


def sentiment(shelf: Shelf) -> None:
    """The classifier behind `pipeline("sentiment-analysis")`."""
    labels = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
    made = lambda: unpad.DistilBertForSequenceClassification(unpad.DistilBertConfig(**TINY_DISTILBERT, **labels))  # noqa: E731
    shelf.model("distilbert-base-uncased-finetuned-sst-2-english", made, distilbert_words(shelf))


STANDINS = [glue, berts, sentiment]
"""What `build` puts there; more in `standins_tasks` and `standins_texts`."""


def build(folder: Path, data: Path) -> None:
    """Fill the folder of a Hub with all stand-ins; `data` holds the real data sets and vocabularies."""
    import standins_tasks
    import standins_texts

    shelf = Shelf(folder, data)
    for standin in [*STANDINS, *standins_tasks.STANDINS, *standins_texts.STANDINS]:
        standin(shelf)
