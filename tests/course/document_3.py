"""From a pipeline to what it is made of, and a classifier of sentence pairs with the Trainer."""

# %% 1 code
from unpad import pipeline

classifier = pipeline("sentiment-analysis")
classifier("I've been waiting for a HuggingFace course my whole life.")

# %% 2 output
alone = _
assert [set(answer) for answer in alone] == [{"label", "score"}]
assert alone[0]["label"] in ("POSITIVE", "NEGATIVE") and 0.5 <= alone[0]["score"] <= 1
assert classifier.model.name_or_path.endswith("distilbert-base-uncased-finetuned-sst-2-english")

# %% 3 code
classifier(["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"])

# %% 4 output
two = _
assert [set(answer) for answer in two] == [{"label", "score"}] * 2
assert two[0]["label"] == alone[0]["label"] and abs(two[0]["score"] - alone[0]["score"]) < 0.01

# %% 5 code
from unpad import pipeline

classifier = pipeline("sentiment-analysis")
classifier(["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"])

# %% 6 output
assert _ == two

# %% 7 code
from unpad import AutoTokenizer

checkpoint = "distilbert-base-uncased-finetuned-sst-2-english"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)

# %% 8 code
sentences = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
inputs = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
print(inputs)

# %% 9 output
long = [101, 1045, 1005, 2310, 2042, 3403, 2005, 1037, 17662, 12172, 2607, 2026, 2878, 2166, 1012, 102]
short = [101, 1045, 5223, 2023, 2061, 2172, 999, 102]
assert list(inputs) == ["input_ids", "attention_mask"]
assert inputs["input_ids"].tolist() == [long, short + [0] * 8]
assert inputs["attention_mask"].tolist() == [[1] * 16, [1] * 8 + [0] * 8]
assert printed.startswith("{'input_ids': tensor([[") and "'attention_mask': tensor([[1, 1, 1," in printed

# %% 10 code
from unpad import AutoModel

checkpoint = "distilbert-base-uncased-finetuned-sst-2-english"
model = AutoModel.from_pretrained(checkpoint)
# check
assert model(**inputs).last_hidden_state.shape == (2, 16, model.config.dim)

# %% 11 code
from unpad import AutoModelForSequenceClassification

checkpoint = "distilbert-base-uncased-finetuned-sst-2-english"
model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
outputs = model(**inputs)

# %% 12 code
print(outputs.logits.shape)

# %% 13 output
assert printed == "torch.Size([2, 2])\n"

# %% 14 code
print(outputs.logits)

# %% 15 output
import torch

assert outputs.logits.grad_fn is not None and outputs.logits.dtype == torch.float32
assert printed.startswith("tensor([[") and "grad_fn=<" in printed

# %% 16 code
import torch

predictions = torch.nn.functional.softmax(outputs.logits, dim=-1)
print(predictions)

# %% 17 output
assert "grad_fn=<SoftmaxBackward" in printed
assert predictions.shape == (2, 2) and torch.allclose(predictions.sum(-1), torch.ones(2))
for row, answer in zip(predictions, two, strict=True):  # what the pipeline did, step by step
    assert abs(float(row[model.config.label2id[answer["label"]]]) - answer["score"]) < 0.01

# %% 18 code
model.config.id2label

# %% 19 output
assert _ == {0: "NEGATIVE", 1: "POSITIVE"}

# %% 20 code
from unpad import load_dataset

raw_datasets = load_dataset("glue", "mrpc")
raw_datasets

# %% 21 output
columns = ["sentence1", "sentence2", "label", "idx"]
assert {name: (part.column_names, part.num_rows) for name, part in _.items()} == {
    "train": (columns, 3668),
    "validation": (columns, 408),
    "test": (columns, 1725),
}
assert list(_) == ["train", "validation", "test"]
assert str(_).startswith("DatasetDict({\n    train: Dataset({\n")
assert "features: ['sentence1', 'sentence2', 'label', 'idx'],\n        num_rows: 3668\n" in str(_)

# %% 22 code
train_part = raw_datasets["train"]
train_part[0]

# %% 23 output
assert _ == {
    "idx": 0,
    "label": 1,
    "sentence1": 'Amrozi accused his brother , whom he called " the witness " , of deliberately distorting his evidence .',
    "sentence2": 'Referring to him as only " the witness " , Amrozi accused his brother of deliberately distorting his evidence .',
}

# %% 24 code
import pandas as pd

table = pd.DataFrame(raw_datasets["validation"])
table
# check
assert table.shape == (408, 4) and list(table.columns) == columns

# %% 25 code
train_part.features

# %% 26 output
kinds = _
assert list(kinds) == columns
assert (kinds["sentence1"].dtype, kinds["sentence2"].dtype, kinds["idx"].dtype) == ("string", "string", "int32")
assert kinds["label"].num_classes == 2 and kinds["label"].names == ["not_equivalent", "equivalent"]

# %% 27 code
from unpad import AutoTokenizer

checkpoint = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)

# %% 28 code
inputs = tokenizer("This is the first sentence.", "This is the second one.")
inputs

# %% 29 output
assert _ == {
    "input_ids": [101, 2023, 2003, 1996, 2034, 6251, 1012, 102, 2023, 2003, 1996, 2117, 2028, 1012, 102],
    "token_type_ids": [0] * 8 + [1] * 7,
    "attention_mask": [1] * 15,
}
assert list(_) == ["input_ids", "token_type_ids", "attention_mask"]

# %% 30 code
all_at_once = tokenizer(
    raw_datasets["train"]["sentence1"], raw_datasets["train"]["sentence2"], padding=True, truncation=True
)
# check
lengths = {len(ids) for ids in all_at_once["input_ids"]}
assert len(all_at_once["input_ids"]) == 3668 and lengths == {max(sum(mask) for mask in all_at_once["attention_mask"])}


# %% 31 code
def encode(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


# %% 32 code
tokenized_datasets = raw_datasets.map(encode, batched=True)
tokenized_datasets

# %% 33 output
more = ["attention_mask", "idx", "input_ids", "label", "sentence1", "sentence2", "token_type_ids"]
assert {name: (sorted(part.column_names), part.num_rows) for name, part in _.items()} == {
    "train": (more, 3668),
    "validation": (more, 408),
    "test": (more, 1725),
}

# %% 34 code
from unpad import AutoTokenizer, DataCollatorWithPadding, load_dataset

raw_datasets = load_dataset("glue", "mrpc")
checkpoint = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)


def encode(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


tokenized_datasets = raw_datasets.map(encode, batched=True)

data_collator = DataCollatorWithPadding(tokenizer=tokenizer)
# check
assert data_collator([{"input_ids": [5, 6]}, {"input_ids": [7]}])["input_ids"].tolist() == [[5, 6], [7, 0]]

# %% 35 code
from unpad import TrainingArguments

training_args = TrainingArguments("test-trainer")
# check
assert training_args.output_dir == "test-trainer"
assert (training_args.per_device_train_batch_size, training_args.gradient_accumulation_steps) == (8, 1)
assert (training_args.num_train_epochs, training_args.logging_steps) == (3, 500)

# %% 36 code
from unpad import AutoModelForSequenceClassification

model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
# check
assert model.config.num_labels == 2

# %% 37 code
from unpad import Trainer

trainer = Trainer(
    model,
    training_args,
    train_dataset=tokenized_datasets["train"],
    eval_dataset=tokenized_datasets["validation"],
    data_collator=data_collator,
    tokenizer=tokenizer,
)

# %% 38 code
trainer.train()

# %% 39 code
result = _
figures = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss", "epoch"}
shown = type(result)(global_step=1377, training_loss=result.training_loss, metrics=result.metrics)
# check
assert result == shown and trainer.state.max_steps == 1377
assert result.metrics.keys() >= figures and result.metrics["epoch"] == 3.0
assert result.metrics["train_loss"] == result.training_loss > 0
assert str(result).startswith("TrainOutput(global_step=1377, training_loss=")
assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [500, 1000]

# %% 40 code
tokenized_datasets["validation"]

# %% 41 output
assert sorted(_.column_names) == more and _.num_rows == 408

# %% 42 code
predictions = trainer.predict(tokenized_datasets["validation"])
print(predictions.predictions.shape, predictions.label_ids.shape)

# %% 43 output
assert printed == "(408, 2) (408,)\n"

# %% 44 code
metrics = predictions.metrics
# check
assert metrics.keys() >= {"test_loss", "test_runtime", "test_samples_per_second", "test_steps_per_second"}
assert str(predictions).startswith("PredictionOutput(predictions=array([[")
assert "metrics={'test_loss': " in str(predictions)

# %% 45 code
import numpy as np

chosen = np.argmax(predictions.predictions, axis=-1)
# check
assert chosen.shape == (408,) and set(chosen) <= {0, 1}

# %% 46 code
from unpad import load_metric

metric = load_metric("glue", "mrpc")
metric.compute(predictions=chosen, references=predictions.label_ids)

# %% 47 output
right = np.array(raw_datasets["validation"]["label"])
hits = (chosen & right).sum()
assert list(_) == ["accuracy", "f1"]
assert _["accuracy"] == (chosen == right).mean()
assert abs(_["f1"] - 2 * hits / (chosen.sum() + right.sum())) < 1e-12


# %% 48 code
def judged(eval_preds):
    metric = load_metric("glue", "mrpc")
    logits, labels = eval_preds
    best = np.argmax(logits, axis=-1)
    return metric.compute(predictions=best, references=labels)


# check
assert judged((np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 1]))) == {"accuracy": 0.5, "f1": 2 / 3}

# %% 49 code
training_args = TrainingArguments("test-trainer", evaluation_strategy="epoch")
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)

# %% 50 code
trainer = Trainer(
    model,
    training_args,
    train_dataset=tokenized_datasets["train"],
    eval_dataset=tokenized_datasets["validation"],
    data_collator=data_collator,
    tokenizer=tokenizer,
    compute_metrics=judged,
)

# %% 51 code
trainer.train()

# %% 52 code
result = _
shown = type(result)(global_step=1377, training_loss=result.training_loss, metrics=result.metrics)
# check
assert result == shown and trainer.state.max_steps == 1377
assert result.metrics.keys() >= figures and result.metrics["epoch"] == 3.0
judgements = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
assert [entry["epoch"] for entry in judgements] == [1.0, 2.0, 3.0]
assert [entry["step"] for entry in judgements] == [459, 918, 1377]
assert all(entry.keys() >= {"eval_loss", "eval_accuracy", "eval_f1"} for entry in judgements)
assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [500, 1000]

# %% 53 code
from unpad import BertConfig, BertModel

config = BertConfig()

model = BertModel(config)
# check
assert sum(weight.numel() for weight in model.parameters()) == 109_482_240

# %% 54 code
print(config)

# %% 55 output
assert printed.startswith("BertConfig {\n") and printed.rstrip().endswith("\n}")
for line in (
    '"hidden_size": 768,',
    '"intermediate_size": 3072,',
    '"max_position_embeddings": 512,',
    '"num_attention_heads": 12,',
    '"num_hidden_layers": 12,',
):
    assert f"\n  {line}\n" in printed, line

# %% 56 code
from unpad import BertConfig, BertModel

config = BertConfig()
model = BertModel(config)

# %% 57 code
from unpad import BertModel

model = BertModel.from_pretrained("bert-base-cased")
# check
assert model.config.vocab_size == 28996

# %% 58 code
from unpad import DataCollatorWithPadding

data_collator = DataCollatorWithPadding(tokenizer=tokenizer)

# %% 59 code
samples = tokenized_datasets["train"][:8]
samples = {name: column for name, column in samples.items() if name not in ["idx", "sentence1", "sentence2"]}
[len(ids) for ids in samples["input_ids"]]

# %% 60 output
assert _ == [50, 59, 47, 67, 59, 50, 62, 32]

# %% 61 code
batch = data_collator(samples)
{name: tensor.shape for name, tensor in batch.items()}

# %% 62 output
assert _ == {"attention_mask": (8, 67), "input_ids": (8, 67), "token_type_ids": (8, 67), "labels": (8,)}
