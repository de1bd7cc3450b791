"""Named entities and masked words: with the Trainer, in a loop of one's own, and in a pipeline."""
# ruff: noqa
# mypy: ignore-errors

# %% 1 code
from unpad import load_dataset

news = load_dataset("conll2003")
news
news["train"][0]["tokens"]
news["train"][0]["ner_tags"]
tags_feature = news["train"].features["ner_tags"]
tags_feature
tag_names = tags_feature.feature.names
tag_names
# check
assert {split: part.num_rows for split, part in news.items()} == {"train": 14041, "validation": 3250, "test": 3453}
assert all(part.column_names == ["chunk_tags", "id", "ner_tags", "pos_tags", "tokens"] for part in news.values())
assert news["train"][0]["tokens"] == "EU rejects German call to boycott British lamb .".split()
assert news["train"][0]["ner_tags"] == [3, 0, 7, 0, 0, 0, 7, 0, 0]
assert tags_feature.feature.num_classes == 9 and tags_feature.length == -1
assert _ == ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]

# %% 2 code
first = news["train"][0]["tokens"]
tags = news["train"][0]["ner_tags"]
above = ""
below = ""
for one, tag in zip(first, tags):
    written = tag_names[tag]
    width = max(len(one), len(written))
    above += one + " " * (width - len(one) + 1)
    below += written + " " * (width - len(written) + 1)

print(above)
print(below)
# check
assert printed == (
    "EU    rejects German call to boycott British lamb . \n"
    "B-ORG O       B-MISC O    O  O       B-MISC  O    O \n"
)  # fmt: skip

# %% 3 code
from unpad import AutoTokenizer

source = "bert-base-cased"
tokenizer = AutoTokenizer.from_pretrained(source)
encoded = tokenizer(news["train"][0]["tokens"], is_split_into_words=True)
encoded.tokens()
encoded.word_ids()


def tags_of_tokens(tags, word_ids):
    found = []
    before = None
    for word_id in word_ids:
        if word_id != before:
            before = word_id
            found.append(-100 if word_id is None else tags[word_id])
        elif word_id is None:
            found.append(-100)
        else:
            tag = tags[word_id]
            if tag % 2 == 1:
                tag += 1
            found.append(tag)

    return found


tags = news["train"][0]["ner_tags"]
word_ids = encoded.word_ids()
print(tags)
print(tags_of_tokens(tags, word_ids))


def tokenize_and_tag(rows):
    out = tokenizer(rows["tokens"], truncation=True, is_split_into_words=True)
    every = rows["ner_tags"]
    found = []
    for i, tags in enumerate(every):
        word_ids = out.word_ids(i)
        found.append(tags_of_tokens(tags, word_ids))

    out["labels"] = found
    return out


tokenized = news.map(tokenize_and_tag, batched=True, remove_columns=news["train"].column_names)
# check
assert encoded.tokens() == [
    "[CLS]",
    "EU",
    "rejects",
    "German",
    "call",
    "to",
    "boycott",
    "British",
    "la",
    "##mb",
    ".",
    "[SEP]",
]
assert encoded.word_ids() == [None, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8, None]
assert printed == "[3, 0, 7, 0, 0, 0, 7, 0, 0]\n[-100, 3, 0, 7, 0, 0, 0, 7, 0, 0, 0, -100]\n"
assert {split: part.num_rows for split, part in tokenized.items()} == {"train": 14041, "validation": 3250, "test": 3453}
assert sorted(tokenized["train"].column_names) == ["attention_mask", "input_ids", "labels", "token_type_ids"]

# %% 4 code
from unpad import DataCollatorForTokenClassification

collator = DataCollatorForTokenClassification(tokenizer=tokenizer)
batch = collator([tokenized["train"][i] for i in range(2)])
batch["labels"]
# check
assert _.tolist() == [
    [-100, 3, 0, 7, 0, 0, 0, 7, 0, 0, 0, -100],
    [-100, 1, 2, -100, -100, -100, -100, -100, -100, -100, -100, -100],
]
assert {name: tuple(part.shape) for name, part in batch.items()} == dict.fromkeys(batch, (2, 12))

# %% 5 code
from unpad import load_metric

metric = load_metric("seqeval")

import numpy as np


def judge(given):
    scores, labels = given
    guesses = np.argmax(scores, axis=-1)
    true = [[tag_names[t] for t in row if t != -100] for row in labels]
    guessed = [[tag_names[g] for (g, t) in zip(guess, row) if t != -100] for guess, row in zip(guesses, labels)]
    figures = metric.compute(predictions=guessed, references=true)
    return {
        "precision": figures["overall_precision"],
        "recall": figures["overall_recall"],
        "f1": figures["overall_f1"],
        "accuracy": figures["overall_accuracy"],
    }


# check
perfect = np.where(batch["labels"][..., None].numpy() == np.arange(9), 1.0, 0.0)
assert judge((perfect, batch["labels"].numpy())) == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "accuracy": 1.0}
nothing = np.zeros_like(perfect)  # the first tag of all, which is none
assert judge((nothing, batch["labels"].numpy())) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 7 / 12}

# %% 6 code
id2label = {str(i): name for i, name in enumerate(tag_names)}
label2id = {v: k for k, v in id2label.items()}

from unpad import AutoModelForTokenClassification

model = AutoModelForTokenClassification.from_pretrained(source, id2label=id2label, label2id=label2id)
# check
assert model.config.num_labels == 9
assert model.config.id2label == dict(enumerate(tag_names)) and model.config.label2id["I-MISC"] == 8

# %% 7 shell
from unpad import login

login()

# %% shorter
tokenized["train"] = tokenized["train"].select(range(64))
tokenized["validation"] = tokenized["validation"].select(range(32))

# %% 8 code
from unpad import TrainingArguments

arguments = TrainingArguments(
    "bert-finetuned-ner",
    evaluation_strategy="epoch",
    save_strategy="epoch",
    learning_rate=2e-5,
    num_train_epochs=3,
    weight_decay=0.01,
    push_to_hub=True,
)

from unpad import Trainer

trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    data_collator=collator,
    compute_metrics=judge,
    tokenizer=tokenizer,
)
trainer.train()
trainer.train()
trainer.push_to_hub(commit_message="Training complete")
# check
from huggingface_hub import HfApi

from unpad import whoami

judged = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
assert [round(entry["epoch"]) for entry in judged] == [1, 2, 3] and trainer.state.global_step == 24
assert {"eval_loss", "eval_precision", "eval_recall", "eval_accuracy"} <= judged[-1].keys()
user = whoami()["name"]
sent = {file.rpartition("/")[2] for file in HfApi().list_repo_files(f"{user}/bert-finetuned-ner")}
assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= sent
assert "Training complete" in {commit.title for commit in HfApi().list_repo_commits(f"{user}/bert-finetuned-ner")}
assert AutoModelForTokenClassification.from_pretrained(f"{user}/bert-finetuned-ner").config.id2label[3] == "B-ORG"

# %% 9 code
from torch.utils.data import DataLoader

train_dataloader = DataLoader(tokenized["train"], shuffle=True, collate_fn=collator, batch_size=8)
eval_dataloader = DataLoader(tokenized["validation"], collate_fn=collator, batch_size=8)

model = AutoModelForTokenClassification.from_pretrained(source, id2label=id2label, label2id=label2id)

from torch.optim import AdamW

optimizer = AdamW(model.parameters(), lr=2e-5)

from unpad import Accelerator

accelerator = Accelerator()
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

from unpad import get_scheduler

epochs = 3
steps_per_epoch = len(train_dataloader)
steps = epochs * steps_per_epoch

schedule = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=steps)

from unpad import Repository, get_full_repo_name

name = "bert-finetuned-ner-accelerate"
full_name = get_full_repo_name(name)

folder = "bert-finetuned-ner-accelerate"
repo = Repository(folder, clone_from=full_name)


def named(guesses, truth):
    guesses = guesses.detach().cpu().clone().numpy()
    truth = truth.detach().cpu().clone().numpy()
    true = [[tag_names[t] for t in row if t != -100] for row in truth]
    guessed = [[tag_names[g] for (g, t) in zip(guess, row) if t != -100] for guess, row in zip(guesses, truth)]
    return true, guessed


from tqdm.auto import tqdm
import torch

bar = tqdm(range(steps))

for epoch in range(epochs):
    model.train()
    for batch in train_dataloader:
        outputs = model(**batch)
        loss = outputs.loss
        accelerator.backward(loss)

        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.update(1)

    model.eval()
    for batch in eval_dataloader:
        with torch.no_grad():
            outputs = model(**batch)

        guesses = outputs.logits.argmax(dim=-1)
        truth = batch["labels"]

        guesses = accelerator.pad_across_processes(guesses, dim=1, pad_index=-100)
        truth = accelerator.pad_across_processes(truth, dim=1, pad_index=-100)

        all_guesses = accelerator.gather(guesses)
        all_truth = accelerator.gather(truth)

        guessed, true_labels = named(all_guesses, all_truth)
        metric.add_batch(predictions=guessed, references=true_labels)

    results = metric.compute()
    print(f"epoch {epoch}:", {key: results[f"overall_{key}"] for key in ["precision", "recall", "f1", "accuracy"]})

    accelerator.wait_for_everyone()
    unwrapped = accelerator.unwrap_model(model)
    unwrapped.save_pretrained(folder, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
        repo.push_to_hub(commit_message=f"Training in progress epoch {epoch}", blocking=False)
# check
import ast

assert full_name == f"{user}/bert-finetuned-ner-accelerate"
lines = [line.partition(": ") for line in printed.splitlines()]
assert [start for start, _, _ in lines] == ["epoch 0", "epoch 1", "epoch 2"]
assert all(list(ast.literal_eval(figures)) == ["precision", "recall", "f1", "accuracy"] for _, _, figures in lines)
assert (bar.n, schedule.get_last_lr()) == (24, [0.0])
repo.wait_for_commands()
titles = [commit.title for commit in HfApi().list_repo_commits(full_name)]
assert titles[:3] == [f"Training in progress epoch {epoch}" for epoch in (2, 1, 0)]
assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(HfApi().list_repo_files(full_name))

# %% 10 code
from unpad import pipeline

source = "huggingface-course/bert-finetuned-ner"
tagger = pipeline("token-classification", model=source, aggregation_strategy="simple")
tagger("My name is Sylvain and I work at Hugging Face in Brooklyn.")
# check
assert [{key: value for key, value in group.items() if key != "score"} for group in _] == [
    {"entity_group": "PER", "word": "Sylvain", "start": 11, "end": 18},
    {"entity_group": "ORG", "word": "Hugging Face", "start": 33, "end": 45},
    {"entity_group": "LOC", "word": "Brooklyn", "start": 49, "end": 57},
]
assert all(0.9 < group["score"] <= 1 for group in _)

# %% 11 code
from unpad import AutoModelForMaskedLM

source = "distilbert-base-uncased"
model = AutoModelForMaskedLM.from_pretrained(source)

millions = model.num_parameters() / 1_000_000
print(f"'>>> DistilBERT number of parameters: {round(millions)}M'")
print("'>>> BERT number of parameters: 110M'")
# check
import torch
from unpad import BertConfig, BertModel, DistilBertConfig, DistilBertForMaskedLM

assert printed == f"'>>> DistilBERT number of parameters: {round(millions)}M'\n'>>> BERT number of parameters: 110M'\n"
with torch.device("meta"):  # the stand-in is small; these are as large as the models
    assert round(DistilBertForMaskedLM(DistilBertConfig()).num_parameters() / 1_000_000) == 67
    assert round(BertModel(BertConfig()).num_parameters() / 10_000_000) == 11

# %% given
text = "This is a great [MASK]."

# %% 12 code
from unpad import AutoTokenizer
import torch

tokenizer = AutoTokenizer.from_pretrained(source)

encoded = tokenizer(text, return_tensors="pt")
scores = model(**encoded).logits
place = torch.where(encoded["input_ids"] == tokenizer.mask_token_id)[1]
scores_there = scores[0, place, :]
best = torch.topk(scores_there, 5, dim=1).indices[0].tolist()

for token in best:
    print(f"'>>> {text.replace(tokenizer.mask_token, tokenizer.decode([token]))}'")
# check
assert encoded["input_ids"].tolist() == [[101, 2023, 2003, 1037, 2307, 103, 1012, 102]] and place.tolist() == [5]
assert scores.shape == (1, 8, 30522)
lines = printed.splitlines()
assert len(set(lines)) == 5 and all(line.startswith("'>>> This is a great ") and line.endswith(".'") for line in lines)

# %% 13 code
from unpad import load_dataset

reviews = load_dataset("imdb")
reviews
# check
assert {split: part.num_rows for split, part in _.items()} == {"train": 25000, "test": 25000, "unsupervised": 50000}
assert all(part.column_names == ["text", "label"] for part in reviews.values())

# %% 14 code
few = reviews["train"].shuffle(seed=42).select(range(2))

for row in few:
    print(f"\n'>>> Review: {row['text']}'")
    print(f"'>>> Label: {row['label']}'")
# check
one, other = printed.strip().split("\n\n")
assert one.startswith(
    "'>>> Review: This is your typical Priyadarshan movie--a bunch of loony characters out on some silly mission."
)
assert one.endswith("Kunal Khemu is OK, and Sharman Joshi is the best.'\n'>>> Label: 0'")
assert other.startswith("'>>> Review: Okay, the story makes no sense, the characters lack any dimensionally,")
assert other.endswith("Watch the great Peckinpah films. Skip this mess.'\n'>>> Label: 0'")

# %% shorter
whole = dict(reviews)
for split in whole:
    reviews[split] = whole[split].select(range(1200))


# %% 15 code
def tokenize(rows):
    out = tokenizer(rows["text"])
    if tokenizer.is_fast:
        out["word_ids"] = [out.word_ids(i) for i in range(len(out["input_ids"]))]
    return out


tokenized = reviews.map(tokenize, batched=True, remove_columns=["text", "label"])
tokenized
# check
assert {split: part.num_rows for split, part in _.items()} == dict.fromkeys(("train", "test", "unsupervised"), 1200)
assert all(sorted(part.column_names) == ["attention_mask", "input_ids", "word_ids"] for part in tokenized.values())

# %% 16 code
chunk_size = 128

three = tokenized["train"][:3]

for i, one in enumerate(three["input_ids"]):
    print(f"'>>> Review {i} length: {len(one)}'")

joined = {k: sum(three[k], []) for k in three.keys()}
total = len(joined["input_ids"])
print(f"'>>> Concatenated reviews length: {total}'")

chunks = {k: [t[i : i + chunk_size] for i in range(0, total, chunk_size)] for k, t in joined.items()}

for chunk in chunks["input_ids"]:
    print(f"'>>> Chunk length: {len(chunk)}'")
# check
# the first review is not in our copy of the data: a text of as many tokens stands in its place
assert printed.splitlines() == [
    *(f"'>>> Review {i} length: {length}'" for i, length in enumerate((200, 559, 192))),
    "'>>> Concatenated reviews length: 951'",
    *(f"'>>> Chunk length: {length}'" for length in (128, 128, 128, 128, 128, 128, 128, 55)),
]


# %% 17 code
def chunked(rows):
    joined = {k: sum(rows[k], []) for k in rows.keys()}
    total = len(joined[list(rows.keys())[0]])
    total = (total // chunk_size) * chunk_size
    out = {k: [t[i : i + chunk_size] for i in range(0, total, chunk_size)] for k, t in joined.items()}
    out["labels"] = out["input_ids"].copy()
    return out


pieces = tokenized.map(chunked, batched=True)
pieces
# check
assert all(sorted(part.column_names) == ["attention_mask", "input_ids", "labels", "word_ids"] for part in _.values())


def count(lengths):
    """Chunks of texts of so many tokens, when they are joined 1000 at a time, as `map` does."""
    return sum(sum(lengths[i : i + 1000]) // chunk_size for i in range(0, len(lengths), 1000))


for split, part in pieces.items():
    assert part.num_rows == count([len(ids) for ids in tokenized[split][:]["input_ids"]])
# Of the whole: 4 of the 25,000 reviews of a split are not in our copy, and what stands in for them is as long as it takes. The reviews
# without labels are not there at all, so that their 122,963 chunks are not to be had.
counts = [count([len(ids) for ids in tokenizer(whole[split][:]["text"])["input_ids"]]) for split in ("train", "test")]
assert counts == [61289, 59905]

# %% 18 code
from unpad import DataCollatorForLanguageModeling

collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)

samples = [pieces["train"][i] for i in range(2)]
for sample in samples:
    _ = sample.pop("word_ids")

for chunk in collator(samples)["input_ids"]:
    print(f"\n'>>> {tokenizer.decode(chunk)}'")
# check
shown = printed.split("\n'>>> ")[1:]
assert len(shown) == 2 and shown[0].startswith("[CLS] ") and all("[MASK]" in one for one in shown)
behind_the_first = tokenizer.decode(pieces["train"][1]["input_ids"][200 - chunk_size :])
assert behind_the_first == (
    "[CLS] homelessness ( or houselessness as george carlin stated ) has been an issue for years but never a plan to help those on the "
    "street that were once considered human who did everything from going to school, work, or vote for the matter. most people think of "
    "the homeless"
)
masked = collator([{k: v for k, v in row.items() if k != "word_ids"} for row in pieces["train"].select(range(200))])
share = (masked["labels"] != -100).float().mean()
assert masked["input_ids"].shape == masked["labels"].shape == (200, chunk_size) and 0.13 < share < 0.17

# %% 19 code
import collections
import numpy as np
from unpad import default_data_collator

share_of_words = 0.2


def hide_whole_words(rows):
    for row in rows:
        word_ids = row.pop("word_ids")

        places = collections.defaultdict(list)
        number = -1
        before = None
        for i, word_id in enumerate(word_ids):
            if word_id is not None:
                if word_id != before:
                    before = word_id
                    number += 1
                places[number].append(i)

        chosen = np.random.binomial(1, share_of_words, (len(places),))
        ids = row["input_ids"]
        truth = row["labels"]
        asked = [-100] * len(truth)
        for word in np.where(chosen)[0]:
            word = word.item()
            for i in places[word]:
                asked[i] = truth[i]
                ids[i] = tokenizer.mask_token_id

    return default_data_collator(rows)


samples = [pieces["train"][i] for i in range(2)]
batch = hide_whole_words(samples)

for chunk in batch["input_ids"]:
    print(f"\n'>>> {tokenizer.decode(chunk)}'")
# check
assert {name: tuple(part.shape) for name, part in batch.items()} == dict.fromkeys(
    ("input_ids", "attention_mask", "labels"), (2, chunk_size)
)
assert printed.count("[MASK]") == (batch["input_ids"] == tokenizer.mask_token_id).sum() > 0
for ids, sample in zip(batch["input_ids"].tolist(), pieces["train"].select(range(2))):
    hidden = [i == tokenizer.mask_token_id for i in ids]
    assert all(i == j or h for i, j, h in zip(ids, sample["input_ids"], hidden))
    words = sample["word_ids"]
    assert all(
        hidden[i] == hidden[i + 1] for i in range(chunk_size - 1) if words[i] is not None and words[i] == words[i + 1]
    )

# %% shorter
# as many rows, of fewer tokens
few_tokens = 8


def cut(rows):
    return {
        k: [row[i : i + few_tokens] for row in v for i in range(0, chunk_size, few_tokens)] for k, v in rows.items()
    }


pieces["train"] = pieces["train"].map(cut, batched=True).select(range(11_000))

# %% 20 code
from unpad import TrainingArguments
from unpad import Trainer
import math

train_size = 10_000
test_size = int(0.1 * train_size)

parts = pieces["train"].train_test_split(train_size=train_size, test_size=test_size, seed=42)

batch_size = 64
logging_steps = len(parts["train"]) // batch_size
name = source.split("/")[-1]

arguments = TrainingArguments(
    output_dir=f"{name}-finetuned-imdb",
    overwrite_output_dir=True,
    evaluation_strategy="epoch",
    learning_rate=2e-5,
    weight_decay=0.01,
    per_device_train_batch_size=batch_size,
    per_device_eval_batch_size=batch_size,
    push_to_hub=True,
    fp16=True,
    logging_steps=logging_steps,
)

trainer = Trainer(
    model=model, args=arguments, train_dataset=parts["train"], eval_dataset=parts["test"], data_collator=collator
)

figures = trainer.evaluate()
print(f">>> Perplexity: {math.exp(figures['eval_loss']):.2f}")

trainer.train()

figures = trainer.evaluate()
print(f">>> Perplexity: {math.exp(figures['eval_loss']):.2f}")
# check
assert {split: part.num_rows for split, part in parts.items()} == {
    "train": 10_000,
    "test": 1000,
} and logging_steps == 156
before, after = (
    float(line.removeprefix(">>> Perplexity: ")) for line in printed.splitlines() if line.startswith(">>> ")
)
assert after < before
assert trainer.state.global_step == 3 * math.ceil(10_000 / 64)
assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [156, 312, 468]
assert "model.safetensors" in HfApi().list_repo_files(f"{user}/distilbert-base-uncased-finetuned-imdb")


# %% 21 code
def masked_once(rows):
    features = [dict(zip(rows, t)) for t in zip(*rows.values())]
    masked = collator(features)
    return {"masked_" + k: v.numpy() for k, v in masked.items()}


parts = parts.remove_columns(["word_ids"])
judged = parts["test"].map(masked_once, batched=True, remove_columns=parts["test"].column_names)
judged = judged.rename_columns(
    {"masked_input_ids": "input_ids", "masked_attention_mask": "attention_mask", "masked_labels": "labels"}
)
# check
assert sorted(judged.column_names) == ["attention_mask", "input_ids", "labels"] and judged.num_rows == 1000
assert {t for row in judged["labels"][:] for t in row} - {-100} and all(
    len(row) == few_tokens for row in judged["input_ids"][:]
)

# %% shorter
parts["train"] = parts["train"].select(range(256))
judged = judged.select(range(100))

# %% 22 code
from torch.utils.data import DataLoader
from unpad import default_data_collator

batch_size = 64
train_dataloader = DataLoader(parts["train"], shuffle=True, batch_size=batch_size, collate_fn=collator)
eval_dataloader = DataLoader(judged, batch_size=batch_size, collate_fn=default_data_collator)
# check
assert (len(train_dataloader), len(eval_dataloader)) == (4, 2)
assert next(iter(eval_dataloader))["labels"].tolist() == judged[:64]["labels"]

# %% 23 code
model = AutoModelForMaskedLM.from_pretrained(source)

from torch.optim import AdamW

optimizer = AdamW(model.parameters(), lr=5e-5)

from unpad import Accelerator

accelerator = Accelerator()
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

from unpad import get_scheduler

epochs = 3
steps_per_epoch = len(train_dataloader)
steps = epochs * steps_per_epoch

schedule = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=steps)
# check
assert steps == 12 and schedule.get_last_lr() == [5e-5]

# %% 24 code
from tqdm.auto import tqdm
import torch
import math

bar = tqdm(range(steps))

for epoch in range(epochs):
    model.train()
    for batch in train_dataloader:
        outputs = model(**batch)
        loss = outputs.loss
        accelerator.backward(loss)

        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.update(1)

    model.eval()
    losses = []
    for step, batch in enumerate(eval_dataloader):
        with torch.no_grad():
            outputs = model(**batch)

        loss = outputs.loss
        losses.append(accelerator.gather(loss.repeat(batch_size)))

    losses = torch.cat(losses)
    losses = losses[: len(judged)]
    try:
        perplexity = math.exp(torch.mean(losses))
    except OverflowError:
        perplexity = float("inf")

    print(f">>> Epoch {epoch}: Perplexity: {perplexity}")

    accelerator.wait_for_everyone()
    unwrapped = accelerator.unwrap_model(model)
    unwrapped.save_pretrained(folder, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
        repo.push_to_hub(commit_message=f"Training in progress epoch {epoch}", blocking=False)
# check
lines = [line.split(": ") for line in printed.splitlines() if line.startswith(">>> ")]
assert [line[:2] for line in lines] == [[f">>> Epoch {epoch}", "Perplexity"] for epoch in range(3)]
assert all(1 < float(line[2]) < math.inf for line in lines) and float(lines[2][2]) < float(lines[0][2])
assert (bar.n, len(losses), schedule.get_last_lr()) == (12, 100, [0.0])
repo.wait_for_commands()
assert len(HfApi().list_repo_commits(full_name)) == len(titles) + 3
assert isinstance(AutoModelForMaskedLM.from_pretrained(full_name), DistilBertForMaskedLM)

# %% 25 code
from unpad import pipeline

filler = pipeline("fill-mask", model="huggingface-course/distilbert-base-uncased-finetuned-imdb")

guesses = filler(text)

for guess in guesses:
    print(f">>> {guess['sequence']}")
# check
assert printed.splitlines() == [
    f">>> this is a great {word}." for word in ("movie", "film", "story", "movies", "character")
]
assert all(guess.keys() == {"score", "token", "token_str", "sequence"} for guess in guesses)
