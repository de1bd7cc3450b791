"""A classifier of sentence pairs, from the tokenizer to a training loop of one's own."""
# mypy: ignore-errors

# %% given
from unpad import AutoTokenizer, DataCollatorWithPadding, load_dataset

mrpc = load_dataset("local/glue", "mrpc")

# %% 1 code
name = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(name)
encoded = tokenizer("This is the first sentence.", "This is the second one.")

# %% 2 output
assert list(encoded.items()) == [
    ("input_ids", [101, 2023, 2003, 1996, 2034, 6251, 1012, 102, 2023, 2003, 1996, 2117, 2028, 1012, 102]),
    ("token_type_ids", [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
    ("attention_mask", [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
]

# %% 3 code
encoded = tokenizer(["Short sentence.", "This is a much longer sentence."], padding=True)
print(encoded)

# %% 4 output
assert printed.endswith(
    "[[101, 2460, 6251, 1012, 102, 0, 0, 0, 0], [101, 2023, 2003, 1037, 2172, 2936, 6251, 1012, 102]], "
    "'token_type_ids': [[0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]], "
    "'attention_mask': [[1, 1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]]}\n"
)

# %% 5 output
assert tokenizer.convert_tokens_to_ids(["[CLS]", "short", "sentence", ".", "[SEP]"]) == [101, 2460, 6251, 1012, 102]
assert encoded["input_ids"][0][:5] == [101, 2460, 6251, 1012, 102]

# %% 6 code
tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])

# %% 7 output
assert _ == ["[CLS]", "short", "sentence", ".", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"]


# %% 8 code
def tokenize_pairs(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


tokenized = mrpc.map(tokenize_pairs, batched=True)
collator = DataCollatorWithPadding(tokenizer=tokenizer)
# check
assert {split: part.num_rows for split, part in tokenized.items()} == {"train": 3668, "validation": 408, "test": 1725}
lengths = [len(ids) for ids in tokenized["train"][:8]["input_ids"]]
few = [{"input_ids": ids} for ids in tokenized["train"][:8]["input_ids"]]
assert collator(few)["input_ids"].shape == (8, max(lengths))

# %% 9 code
from unpad import TrainingArguments

arguments = TrainingArguments("test-trainer")

# %% 10 code
from unpad import AutoModelForSequenceClassification

model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
# check
assert model.config.num_labels == 2

# %% 11 code
from unpad import Trainer

trainer = Trainer(
    model,
    arguments,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    data_collator=collator,
    processing_class=tokenizer,
)

# %% 12 code
trainer.train()
# check
assert trainer.state.global_step == 1377
assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [500, 1000]

# %% 13 code
from unpad import AutoTokenizer, DataCollatorWithPadding, load_dataset

mrpc = load_dataset("glue", "mrpc")
name = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(name)


def tokenize_pairs(rows):
    return tokenizer(rows["sentence1"], rows["sentence2"], truncation=True)


tokenized = mrpc.map(tokenize_pairs, batched=True)
collator = DataCollatorWithPadding(tokenizer=tokenizer)
# check
assert tokenized["train"].num_rows == 3668

# %% 14 code
tokenized = tokenized.remove_columns(["sentence1", "sentence2", "idx"])
tokenized = tokenized.rename_column("label", "labels")
tokenized.set_format("torch")
tokenized["train"].column_names
# check
assert _ == ["labels", "input_ids", "token_type_ids", "attention_mask"]
assert tokenized["train"][0]["input_ids"].shape == (50,) and tokenized["train"][0]["labels"].item() == 1

# %% given
from torch.utils.data import DataLoader

feed = DataLoader(tokenized["train"], shuffle=True, batch_size=8, collate_fn=collator)

# %% 15 code
from torch.optim import AdamW

optimizer = AdamW(model.parameters(), lr=5e-5)

# %% 16 code
from unpad import get_scheduler

epochs = 3
steps = epochs * len(feed)
scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=steps)
# check
assert steps == 1377
assert scheduler.get_last_lr() == [5e-5]

# %% 17 code
import torch

device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
model.to(device)
device
# check
assert {parameter.device.type for parameter in model.parameters()} == {_.type}

# %% shorter
feed = DataLoader(tokenized["train"].select(range(800)), shuffle=True, batch_size=8, collate_fn=collator)

# %% 18 code
from tqdm.auto import tqdm

bar = tqdm(range(steps))

model.train()
for _epoch in range(epochs):
    for batch in feed:
        batch = {key: value.to(device) for key, value in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()

        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        bar.update(1)
# check
assert bar.n == 300 == 3 * len(feed)
assert loss.shape == () and torch.isfinite(loss)
assert abs(scheduler.get_last_lr()[0] - 5e-5 * (1 - 300 / 1377)) < 1e-12
