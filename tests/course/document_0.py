"""Sentence pairs become a batch: from a classifier and two sentences to MRPC, tokenized and padded."""
# mypy: ignore-errors

# %% 1 code
import torch

from unpad import AdamW, AutoModelForSequenceClassification, AutoTokenizer

# check
assert callable(AdamW)

# %% 2 code
name = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(name)
classifier = AutoModelForSequenceClassification.from_pretrained(name)
texts = ["I've been waiting for a HuggingFace course my whole life.", "This course is amazing!"]
pair = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
# check
assert {key: value.shape for key, value in pair.items()} == dict.fromkeys(
    ["input_ids", "token_type_ids", "attention_mask"], (2, 16)
)
assert pair["attention_mask"].sum(1).tolist() == [16, 7]
assert classifier.config.num_labels == 2

# %% 3 code
pair["labels"] = torch.tensor([1, 1])
# check
assert list(pair) == ["input_ids", "token_type_ids", "attention_mask", "labels"]
before = [parameter.detach().clone() for parameter in classifier.parameters()]

# %% 4 code
optimizer = torch.optim.AdamW(classifier.parameters())
loss = classifier(**pair).loss
loss.backward()
optimizer.step()
# check
assert loss.shape == () and torch.isfinite(loss)
assert any(not torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True))

# %% 5 code
from unpad import load_dataset

mrpc = load_dataset("glue", "mrpc")

# %% 6 code
mrpc
# check
columns = ["sentence1", "sentence2", "label", "idx"]
assert list(_) == ["train", "validation", "test"]
assert {split: (part.column_names, part.num_rows) for split, part in _.items()} == {
    "train": (columns, 3668),
    "validation": (columns, 408),
    "test": (columns, 1725),
}
assert "".join(repr(_).split()) == (
    "DatasetDict({"
    + "".join(
        f"{split}:Dataset({{features:['sentence1','sentence2','label','idx'],num_rows:{count}}})"
        for split, count in (("train", 3668), ("validation", 408), ("test", 1725))
    )
    + "})"
)

# %% 7 code
training = mrpc["train"]
training[22]
# check
assert _ == {
    "sentence1": "A BMI of 25 or above is considered overweight ; 30 or above is considered obese .",
    "sentence2": "A BMI between 18.5 and 24.9 is considered normal , over 25 is considered overweight "
    "and 30 or greater is defined as obese .",
    "label": 0,
    "idx": 24,
}

# %% 8 code
training.features
# check
from datasets import ClassLabel, Value

assert list(_) == columns
assert _ == {
    "sentence1": Value(dtype="string", id=None),
    "sentence2": Value(dtype="string", id=None),
    "label": ClassLabel(names=["not_equivalent", "equivalent"], id=None),
    "idx": Value(dtype="int32", id=None),
}

# %% 9 code
from unpad import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(name)
first_sentences = tokenizer(training["sentence1"])
second_sentences = tokenizer(training["sentence2"])
# check
assert len(first_sentences["input_ids"]) == len(second_sentences["input_ids"]) == 3668

# %% 10 code
two = tokenizer("this is the first sentence", "this is number 2")
two
# check
assert dict(_) == {
    "input_ids": [101, 2023, 2003, 1996, 2034, 6251, 102, 2023, 2003, 2193, 1016, 102],
    "token_type_ids": [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    "attention_mask": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}
assert repr(_) == repr(dict(_))

# %% 11 code
two.token_type_ids
# check
assert _ == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]

# %% 12 code
tokenizer.convert_ids_to_tokens(two["input_ids"])
# check
assert _ == ["[CLS]", "this", "is", "the", "first", "sentence", "[SEP]", "this", "is", "number", "2", "[SEP]"]

# %% 13 code
tokenized = tokenizer(training["sentence1"], training["sentence2"], truncation=True, padding=True)
# check
assert len(tokenized["input_ids"]) == 3668
assert len({len(ids) for ids in tokenized["input_ids"]}) == 1


# %% 14 code
def tokenize_pairs(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


# %% 15 code
tokenized = mrpc.map(tokenize_pairs, batched=True)
# check
assert {split: part.num_rows for split, part in tokenized.items()} == {"train": 3668, "validation": 408, "test": 1725}

# %% 16 code
tokenized["train"][55].keys()
# check
assert list(_) == ["sentence1", "sentence2", "label", "idx", "input_ids", "token_type_ids", "attention_mask"]

# %% 17 code
from unpad import DataCollatorWithPadding

collator = DataCollatorWithPadding(tokenizer=tokenizer)

# %% 18 code
rows = tokenized["train"][:8]
rows = {key: value for key, value in rows.items() if key not in ["idx", "sentence1", "sentence2"]}
[len(ids) for ids in rows["input_ids"]]
# check
assert _ == [50, 59, 47, 67, 59, 50, 62, 32]

# %% 19 code
rows.keys()
# check
assert list(_) == ["label", "input_ids", "token_type_ids", "attention_mask"]

# %% 20 code
padded = collator(rows)
{key: value.shape for key, value in padded.items()}
# check
assert list(_.items()) == [
    ("input_ids", torch.Size([8, 67])),
    ("token_type_ids", torch.Size([8, 67])),
    ("attention_mask", torch.Size([8, 67])),
    ("labels", torch.Size([8])),
]

# %% 21 code
[len(ids) for ids in padded["input_ids"]]
# check
assert _ == [67] * 8
