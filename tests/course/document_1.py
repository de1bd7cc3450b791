"""A classifier of sentence pairs with the Trainer: training, predicting, judging."""
# mypy: ignore-errors

# %% given
from unpad import AutoTokenizer, load_dataset

mrpc = load_dataset("local/glue", "mrpc")
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")


# %% 1 code
def tokenize_pairs(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


# check
assert sorted(tokenize_pairs(mrpc["train"][0])) == ["attention_mask", "input_ids", "token_type_ids"]

# %% 2 code
tokenized = mrpc.map(tokenize_pairs, batched=True)
# check
assert {split: part.num_rows for split, part in tokenized.items()} == {"train": 3668, "validation": 408, "test": 1725}
assert {"input_ids", "attention_mask", "token_type_ids"} < set(tokenized["train"].column_names)

# %% 3 code
from unpad import DataCollatorWithPadding

collator = DataCollatorWithPadding(tokenizer=tokenizer)
# check
assert collator([{"input_ids": [101, 102]}, {"input_ids": [101, 2023, 102]}])["input_ids"].tolist() == [
    [101, 102, 0],
    [101, 2023, 102],
]

# %% 4 code
from unpad import TrainingArguments

arguments = TrainingArguments("test-trainer")
# check
assert str(arguments.output_dir) == "test-trainer"
assert arguments.num_train_epochs == 3 and arguments.per_device_train_batch_size == 8

# %% 5 code
from unpad import AutoModelForSequenceClassification

name = "bert-base-uncased"
model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
# check
assert model.config.num_labels == 2

# %% 6 code
from unpad import Trainer

trainer = Trainer(
    model,
    arguments,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    data_collator=collator,
    tokenizer=tokenizer,
)

# %% 7 code
trainer.train()
# check
assert _.global_step == trainer.state.global_step == 1377
assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [500, 1000]
assert not any(key.startswith("eval_") for entry in trainer.state.log_history for key in entry)

# %% 8 code
found = trainer.predict(tokenized["validation"])
print(found.predictions.shape, found.label_ids.shape)
# check
assert printed == "(408, 2) (408,)\n"
assert found._fields == ("predictions", "label_ids", "metrics")
assert {"test_loss", "test_runtime", "test_samples_per_second"} <= set(found.metrics)
assert not {"test_accuracy", "test_f1"} & set(found.metrics)

# %% 9 code
import numpy as np

classes = np.argmax(found.predictions, axis=-1)
# check
assert classes.shape == (408,) and set(classes.tolist()) <= {0, 1}

# %% 10 code
from unpad import evaluate

metric = evaluate.load("glue", "mrpc")
metric.compute(predictions=classes, references=found.label_ids)
# check
right = (classes == found.label_ids).mean()
positives = 2 * ((classes == 1) & (found.label_ids == 1)).sum() / ((classes == 1).sum() + (found.label_ids == 1).sum())
assert list(_) == ["accuracy", "f1"]
assert abs(_["accuracy"] - right) < 1e-12 and abs(_["f1"] - positives) < 1e-12


# %% 11 code
def judge(outcome):
    metric = evaluate.load("glue", "mrpc")
    logits, labels = outcome
    answers = np.argmax(logits, axis=-1)
    return metric.compute(predictions=answers, references=labels)


# check
assert judge((np.array([[0.0, 1], [2, 0], [0, 3], [1, 0]]), np.array([1, 0, 0, 0]))) == {"accuracy": 0.75, "f1": 2 / 3}

# %% 12 code
arguments = TrainingArguments("test-trainer", evaluation_strategy="epoch")
model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)

trainer = Trainer(
    model,
    arguments,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    data_collator=collator,
    tokenizer=tokenizer,
    compute_metrics=judge,
)
# check
assert arguments.eval_strategy == "epoch"
trainer.train_dataset = tokenized["train"].select(range(64))
trainer.train()
judged = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
assert [entry["epoch"] for entry in judged] == [1, 2, 3]
assert all({"eval_accuracy", "eval_f1"} <= set(entry) for entry in judged)
