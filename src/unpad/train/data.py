"""What a Trainer knows about its data: how they reach the model, what makes batches of them, and what no row may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.data.collators import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PackingCollator,
    default_data_collator,
)
from unpad.data.stream import TokenStream
from unpad.data.tokens import LABEL_FIELDS, TokenStore
from unpad.engine.accelerator import Accelerator
from unpad.errors import ArgumentError, DataError, listing
from unpad.notices import say
from unpad.train.arguments import TrainingArguments
from unpad.train.evaluate import learn_length
from unpad.train.feed import Feed, StreamFeed, collated_feed, len_of, packed_feed
from unpad.train.frozen import FrozenBase


class TrainerData:
    """The part of a Trainer between its data sets and the micro-batches of a step."""

    model: Any
    args: TrainingArguments
    accelerator: Accelerator
    train_dataset: Any
    data_collator: Any
    processing_class: Any
    _frozen: FrozenBase | None
    _stores: dict[int, tuple[Any, TokenStore]]

    @property
    def _native(self) -> bool:
        return hasattr(self.model, "row_embeddings")

    def _packs(self) -> bool:
        """Whether batches go to the model without padding: it is native, and the collator (if any) can pack."""
        collator = self.data_collator
        can = collator is None or hasattr(collator, "pack") or isinstance(collator, PackingCollator)
        return self._native and can

    @property
    def _guesses_words(self) -> bool:
        """Whether the exponential of the loss is a perplexity."""
        return getattr(self.model, "vocabulary", False) or hasattr(self.data_collator, "mask")

    def _change(self, epoch: int | None) -> Callable[[PackedBatch], PackedBatch] | None:
        """What the collator does to packed batches: it masks words, anew in each epoch, and always alike where `epoch` is None.

        Without a collator, data that come with labels are masked already."""
        collator = given = self.data_collator
        masks = self._native and self.model.head_name == "masked-lm" and self.processing_class is not None
        if collator is None and masks:
            collator = DataCollatorForLanguageModeling(self.processing_class)
        mask = getattr(collator, "mask", None)
        if mask is None and self._native and self.model.next:  # where the data have no labels, they are the ids
            return lambda batch: batch if batch.labels is not None else replace(batch, labels=batch.input_ids)
        if mask is None:
            return None

        def change(batch: PackedBatch) -> PackedBatch:
            masked = given is None and batch.labels is not None
            return batch if masked else mask(batch, seed=self.args.seed, epoch=epoch)

        return change

    def _collator(self) -> Callable[[Any], Any]:
        if self.data_collator is not None:
            return self.data_collator
        tokenizer = self.processing_class
        return default_data_collator if tokenizer is None else DataCollatorWithPadding(tokenizer)

    def _store(self, dataset: Any, split: str) -> TokenStore:
        known = self._stores.get(id(dataset))
        if known is not None and known[0] is dataset:
            return known[1]
        trained = self._stores.get(id(self.train_dataset))
        names = trained[1].label_names if trained is not None else None  # string labels get the numbers of training
        model, config = self.model, self.model.config
        store = TokenStore.from_dataset(dataset, split=split, label_names=names, labels_of=model.labels_of)
        of_token = config.vocab_size if model.vocabulary else config.num_labels
        labels = {"row": config.num_labels, "token": of_token, "choice": store.choices}.get(model.labels_of)
        store.check(config.vocab_size, config.longest, labels, token_types=config.segments, split=split)
        if store.dropped:
            say(f"{split}: the model reads {listing(store.kept)}; not used: {listing(store.dropped)}")
        self._stores[id(dataset)] = (dataset, store)
        return store

    def _feed(self) -> Feed | StreamFeed:
        if self.train_dataset is None:
            raise ArgumentError("Trainer.train() needs a train_dataset=")
        if isinstance(self.train_dataset, TokenStream):
            if not (self._packs() and self.model.next):
                trains = "a TokenStream trains causal language models of this library"
                raise ArgumentError(f"{trains}; give a data set with rows")
            return StreamFeed(self.train_dataset, self.args, self.model, self._change, self.accelerator.world)
        len_of(self.train_dataset)
        if not self._packs():
            return collated_feed(self.train_dataset, self._collator(), self.model, self.args, self.accelerator.world)
        store = self._store(self.train_dataset, "train")
        if self.model.head_name == "base":
            how = "load it with a class such as AutoModelForSequenceClassification"
            raise ArgumentError(f"{self.model.class_name} has no head and so no loss to train; {how}")
        if not store.has_labels and self._change(0) is None:
            column = next((name for name in LABEL_FIELDS if name in store.kept), None)
            if column is not None:
                hidden = f"all labels in {column!r} of the training data are -1 or missing, which marks hidden answers"
                raise DataError(f"{hidden}; train on a split that has them")
            spans = self.model.labels_of == "span"
            needed = "columns 'start_positions' and 'end_positions'" if spans else "a column 'label' or 'labels'"
            raise DataError(f"the training data have no labels; they need {needed}")
        if store.asks_nothing:
            how = "give those that are (for a causal language model the ids)"
            raise DataError(f"all labels of the training data are -100, which are not learned; {how}")
        if store.longest_target is not None:
            learn_length(self.model.generation_config, store.longest_target, self.model.config.longest - 1)
        fill = None if self._frozen is None else self._frozen.filler(store, "train")
        change = self._change if fill is None else lambda epoch: fill
        return packed_feed(store, self.args, self.accelerator.world, change, self.model.next)

    def _used_ids(self) -> Tensor | None:
        """The token ids of the training data, where a good part of the vocabulary is not among them and these are all that the model
        reads: masking makes others, and a decoder reads its start token and what it is to write."""
        streamed = isinstance(self.train_dataset, TokenStream)
        if not self._packs() or streamed or self.model.is_encoder_decoder:
            return None
        if self._change(0) is not None and not self.model.next:
            return None
        ids = self._store(self.train_dataset, "train").vocabulary(self.model.config.vocab_size)
        if len(ids) > 0.7 * self.model.config.vocab_size:
            return None
        return torch.from_numpy(ids).to(self.accelerator.device)
