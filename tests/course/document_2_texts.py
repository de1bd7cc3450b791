"""Translation and summarization: with the Trainer, in a loop of one's own, and in a pipeline."""

# %% given
from unpad import AutoTokenizer

model_checkpoint = "Helsinki-NLP/opus-mt-en-fr"
tokenizer = AutoTokenizer.from_pretrained(model_checkpoint)

# %% 26 code
from unpad import load_dataset, load_metric

raw_datasets = load_dataset("kde4", lang1="en", lang2="fr")
raw_datasets
split_datasets = raw_datasets["train"].train_test_split(train_size=0.9, seed=20)
split_datasets
split_datasets["validation"] = split_datasets.pop("test")
split_datasets["train"][1]["translation"]

# check
assert list(raw_datasets) == ["train"] and raw_datasets["train"].num_rows == 210173
assert raw_datasets["train"].column_names == ["id", "translation"]
assert {name: part.num_rows for name, part in split_datasets.items()} == {"train": 189155, "validation": 21018}
assert _ == {"en": "Default to expanded threads", "fr": "Par défaut, développer les fils de discussion"}

# %% shorter
split_datasets["train"] = split_datasets["train"].select(range(96))
split_datasets["validation"] = split_datasets["validation"].select(range(12))

# %% 27 code
longest_input = 128
max_target_length = 128


def preprocess_function(examples):
    sources = [pair["en"] for pair in examples["translation"]]
    targets = [pair["fr"] for pair in examples["translation"]]
    model_inputs = tokenizer(sources, max_length=longest_input, truncation=True)
    with tokenizer.as_target_tokenizer():
        labels = tokenizer(targets, max_length=max_target_length, truncation=True)
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs


tokenized_datasets = split_datasets.map(
    preprocess_function, batched=True, remove_columns=split_datasets["train"].column_names
)

# check
row = tokenized_datasets["train"][1]
assert set(row) == {"input_ids", "attention_mask", "labels"}
assert tokenizer.decode(row["input_ids"], skip_special_tokens=True) == "Default to expanded threads"
with tokenizer.as_target_tokenizer():
    assert tokenizer.decode(row["labels"], skip_special_tokens=True) == "Par défaut, développer les fils de discussion"
assert row["input_ids"][-1] == row["labels"][-1] == tokenizer.eos_token_id

# %% 28 code
from unpad import AutoModelForSeq2SeqLM

model = AutoModelForSeq2SeqLM.from_pretrained(model_checkpoint)

# %% 29 code
from unpad import DataCollatorForSeq2Seq

data_collator = DataCollatorForSeq2Seq(tokenizer, model=model)
batch = data_collator([tokenized_datasets["train"][i] for i in range(1, 3)])
batch.keys()

# check
assert set(_) == {"attention_mask", "input_ids", "labels", "decoder_input_ids"}
assert batch["labels"].shape == batch["decoder_input_ids"].shape
assert (batch["decoder_input_ids"][:, 0] == model.config.decoder_start_token_id).all()
shorter_target = min(len(tokenized_datasets["train"][i]["labels"]) for i in (1, 2))
assert (batch["labels"] == -100).sum() == batch["labels"].shape[1] - shorter_target

# %% 30 code
from unpad import load_metric

metric = load_metric("sacrebleu")
predictions = ["This plugin lets you translate web pages between several languages automatically."]
references = [["This plugin allows you to automatically translate web pages between several languages."]]
metric.compute(predictions=predictions, references=references)

# check
assert _["score"] == 46.750469682990165
assert (_["counts"], _["totals"]) == ([11, 6, 4, 3], [12, 11, 10, 9])
assert all(abs(a - b) < 0.01 for a, b in zip(_["precisions"], [91.67, 54.54, 40.0, 33.33]))
assert (_["bp"], _["sys_len"], _["ref_len"]) == (0.9200444146293233, 12, 13)

# %% 31 code
import numpy as np


def compute_metrics(eval_preds):
    preds, labels = eval_preds
    if isinstance(preds, tuple):
        preds = preds[0]
    decoded_preds = tokenizer.batch_decode(preds, skip_special_tokens=True)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
    decoded_preds = [pred.strip() for pred in decoded_preds]
    decoded_labels = [[label.strip()] for label in decoded_labels]
    result = metric.compute(predictions=decoded_preds, references=decoded_labels)
    return {"bleu": result["score"]}


# %% 32 code
from unpad import Seq2SeqTrainer, Seq2SeqTrainingArguments

args = Seq2SeqTrainingArguments(
    "marian-finetuned-kde4-en-to-fr",
    evaluation_strategy="no",
    save_strategy="epoch",
    learning_rate=2e-5,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=64,
    weight_decay=0.01,
    save_total_limit=3,
    num_train_epochs=3,
    predict_with_generate=True,
    fp16=True,
    push_to_hub=True,
)
trainer = Seq2SeqTrainer(
    model,
    args,
    train_dataset=tokenized_datasets["train"],
    eval_dataset=tokenized_datasets["validation"],
    data_collator=data_collator,
    tokenizer=tokenizer,
    compute_metrics=compute_metrics,
)
before = trainer.evaluate(max_length=max_target_length)
trainer.train()
trainer.evaluate(max_length=max_target_length)

# check
printed_keys = {"eval_loss", "eval_bleu", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
assert printed_keys <= set(before) and printed_keys | {"epoch"} <= set(_)
assert _["epoch"] == 3.0 and _["eval_loss"] < before["eval_loss"]
assert 0 <= _["eval_bleu"] <= 100

# %% 33 code
from torch.utils.data import DataLoader

tokenized_datasets.set_format("torch")
train_dataloader = DataLoader(tokenized_datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=8)
eval_dataloader = DataLoader(tokenized_datasets["validation"], collate_fn=data_collator, batch_size=8)

model = AutoModelForSeq2SeqLM.from_pretrained(model_checkpoint)

from unpad import AdamW

optimizer = AdamW(model.parameters(), lr=2e-5)

from unpad import Accelerator

accelerator = Accelerator()
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

from unpad import get_scheduler

num_train_epochs = 3
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)


def postprocess(predictions, labels):
    predictions = predictions.cpu().numpy()
    labels = labels.cpu().numpy()
    decoded_preds = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
    decoded_preds = [pred.strip() for pred in decoded_preds]
    decoded_labels = [[label.strip()] for label in decoded_labels]
    return decoded_preds, decoded_labels


# check
assert num_training_steps == 36

# %% given
from unpad import Repository, get_full_repo_name

output_dir = "marian-finetuned-kde4-en-to-fr-accelerate"
repo = Repository(output_dir, clone_from=get_full_repo_name(output_dir))

# %% 34 code
import torch
from tqdm.auto import tqdm

progress_bar = tqdm(range(num_training_steps))

for epoch in range(num_train_epochs):
    model.train()
    for batch in train_dataloader:
        outputs = model(**batch)
        loss = outputs.loss
        accelerator.backward(loss)

        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        progress_bar.update(1)

    model.eval()
    for batch in tqdm(eval_dataloader):
        with torch.no_grad():
            generated_tokens = accelerator.unwrap_model(model).generate(
                batch["input_ids"], attention_mask=batch["attention_mask"], max_length=128
            )
        labels = batch["labels"]
        generated_tokens = accelerator.pad_across_processes(generated_tokens, dim=1, pad_index=tokenizer.pad_token_id)
        labels = accelerator.pad_across_processes(labels, dim=1, pad_index=-100)
        predictions_gathered = accelerator.gather(generated_tokens)
        labels_gathered = accelerator.gather(labels)
        decoded_preds, decoded_labels = postprocess(predictions_gathered, labels_gathered)
        metric.add_batch(predictions=decoded_preds, references=decoded_labels)

    results = metric.compute()
    print(f"epoch {epoch}, BLEU score: {results['score']:.2f}")

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(output_dir)
        repo.push_to_hub(commit_message=f"Training in progress epoch {epoch}", blocking=False)

# check
assert [line.split(",")[0] for line in printed.splitlines()] == ["epoch 0", "epoch 1", "epoch 2"]
assert progress_bar.n == num_training_steps

# %% 35 code
from unpad import pipeline

model_checkpoint = "huggingface-course/marian-finetuned-kde4-en-to-fr"
translator = pipeline("translation", model=model_checkpoint)
translator("Default to expanded threads")

# check
assert len(_) == 1 and list(_[0]) == ["translation_text"] and isinstance(_[0]["translation_text"], str)

# %% given
from datasets import DatasetDict, concatenate_datasets


def books_of(language):
    reviews = load_dataset("local/amazon_reviews_multi", language)  # with its owner, which some clients need
    return reviews.filter(lambda row: row["product_category"] in ("book", "digital_ebook_purchase"))


spanish, english = books_of("es"), books_of("en")
books_dataset = DatasetDict({name: concatenate_datasets([spanish[name], english[name]]) for name in spanish})

# %% 36 code
from unpad import load_dataset

spanish_dataset = load_dataset("amazon_reviews_multi", "es")
english_dataset = load_dataset("amazon_reviews_multi", "en")
english_dataset


def show_samples(dataset, num_samples=2, seed=42):
    chosen = dataset["train"].shuffle(seed=seed).select(range(num_samples))
    for review in chosen:
        print(f"\n'>> Title: {review['review_title']}'")
        print(f"'>> Review: {review['review_body']}'")


show_samples(english_dataset)


def filter_books(example):
    return example["product_category"] == "book" or example["product_category"] == "digital_ebook_purchase"


spanish_books = spanish_dataset.filter(filter_books)
english_books = english_dataset.filter(filter_books)
books_dataset = books_dataset.filter(lambda x: len(x["review_title"].split()) > 2)

# check
assert {name: part.num_rows for name, part in english_dataset.items()} == {
    "train": 200000,
    "validation": 5000,
    "test": 5000,
}
columns = [
    "review_id",
    "product_id",
    "reviewer_id",
    "stars",
    "review_body",
    "review_title",
    "language",
    "product_category",
]
assert all(part.column_names == columns for part in english_dataset.values())
shown = [line for line in printed.splitlines() if line]
assert shown[0] == "'>> Title: Worked in front position, not rear'"
assert shown[1].startswith("'>> Review: 3 stars because these are not rear brakes")
assert shown[2] == "'>> Title: meh'" and shown[3].endswith("put it together again with hot glue'")
assert set(english_books["train"]["product_category"]) == {"book", "digital_ebook_purchase"}
assert all(len(title.split()) > 2 for title in books_dataset["test"]["review_title"])

# %% shorter
books_dataset["train"] = books_dataset["train"].select(range(32))
books_dataset["validation"] = books_dataset["validation"].select(range(8))

# %% 37 code
from unpad import AutoTokenizer

model_checkpoint = "google/mt5-small"
tokenizer = AutoTokenizer.from_pretrained(model_checkpoint)
inputs = tokenizer("I loved reading the Hunger Games!")
inputs
tokenizer.convert_ids_to_tokens(inputs.input_ids)
pieces = tokenizer.convert_ids_to_tokens(inputs.input_ids)

longest_input = 512
max_target_length = 30


def preprocess_function(examples):
    model_inputs = tokenizer(examples["review_body"], max_length=longest_input, truncation=True)
    with tokenizer.as_target_tokenizer():
        labels = tokenizer(examples["review_title"], max_length=max_target_length, truncation=True)
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs


tokenized_datasets = books_dataset.map(preprocess_function, batched=True)

# check
# what the documents print lacks the exclamation mark that they tokenize
mark = pieces.index("!")
assert [i for at, i in enumerate(inputs["input_ids"]) if at != mark] == [
    336,
    259,
    28387,
    11807,
    287,
    62893,
    295,
    12507,
    1,
]
assert [p for p in pieces if p != "!"] == ["▁I", "▁", "loved", "▁reading", "▁the", "▁Hung", "er", "▁Games", "</s>"]
assert set(inputs["attention_mask"]) == {1}
assert max(len(ids) for ids in tokenized_datasets["train"]["labels"]) <= 30

# %% 38 code
generated_summary = "I absolutely loved reading the Hunger Games"
reference_summary = "I loved reading the Hunger Games"

from unpad import load_metric

rouge_score = load_metric("rouge")
scores = rouge_score.compute(predictions=[generated_summary], references=[reference_summary])
scores

# check
from unpad.metrics.rouge import AggregateScore, Score


def rounded(score):
    return Score(*(round(value, 2) for value in score))


one, two = Score(precision=0.86, recall=1.0, fmeasure=0.92), Score(precision=0.67, recall=0.8, fmeasure=0.73)
assert list(scores) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
for name, score in scores.items():
    assert isinstance(score, AggregateScore)
    assert rounded(score.low) == rounded(score.mid) == rounded(score.high) == (two if name == "rouge2" else one)
assert repr(scores["rouge1"]).startswith("AggregateScore(low=Score(precision=0.857")

# %% 39 code
import nltk

nltk.download("punkt")
from nltk.tokenize import sent_tokenize


def three_sentence_summary(text):
    return "\n".join(sent_tokenize(text)[:3])


print(three_sentence_summary(books_dataset["train"][1]["review_body"]))


def evaluate_baseline(dataset, metric):
    summaries = [three_sentence_summary(text) for text in dataset["review_body"]]
    return metric.compute(predictions=summaries, references=dataset["review_title"])


import pandas as pd

score = evaluate_baseline(books_dataset["validation"], rouge_score)
rouge_names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
rouge_dict = dict((name, round(score[name].mid.fmeasure * 100, 2)) for name in rouge_names)
rouge_dict

# check
assert printed.splitlines()[-3:] == [
    'I grew up reading Koontz, and years ago, I stopped,convinced i had "outgrown" him.',
    "Still,when a friend was looking for something suspenseful too read, I suggested Koontz.",
    "She found Strangers.",
]
assert list(_) == rouge_names and all(0 <= value <= 100 for value in _.values())

# %% 40 code
from unpad import AutoModelForSeq2SeqLM

model = AutoModelForSeq2SeqLM.from_pretrained(model_checkpoint)

from unpad import Seq2SeqTrainingArguments

batch_size = 8
num_train_epochs = 8
logging_steps = len(tokenized_datasets["train"]) // batch_size
model_name = model_checkpoint.split("/")[-1]

args = Seq2SeqTrainingArguments(
    output_dir=f"{model_name}-finetuned-amazon-en-es",
    evaluation_strategy="epoch",
    learning_rate=5.6e-5,
    per_device_train_batch_size=batch_size,
    per_device_eval_batch_size=batch_size,
    weight_decay=0.01,
    save_total_limit=3,
    num_train_epochs=num_train_epochs,
    predict_with_generate=True,
    logging_steps=logging_steps,
    push_to_hub=True,
)

import numpy as np


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    decoded_preds = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
    decoded_preds = ["\n".join(sent_tokenize(pred.strip())) for pred in decoded_preds]
    decoded_labels = ["\n".join(sent_tokenize(label.strip())) for label in decoded_labels]
    result = rouge_score.compute(predictions=decoded_preds, references=decoded_labels, use_stemmer=True)
    result = {key: value.mid.fmeasure * 100 for key, value in result.items()}
    return {k: round(v, 4) for k, v in result.items()}


from unpad import DataCollatorForSeq2Seq

data_collator = DataCollatorForSeq2Seq(tokenizer, model=model)
tokenized_datasets = tokenized_datasets.remove_columns(books_dataset["train"].column_names)

from unpad import Seq2SeqTrainer

trainer = Seq2SeqTrainer(
    model,
    args,
    train_dataset=tokenized_datasets["train"],
    eval_dataset=tokenized_datasets["validation"],
    data_collator=data_collator,
    tokenizer=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.evaluate()

# check
measured = [
    "loss",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "gen_len",
    "runtime",
    "samples_per_second",
    "steps_per_second",
]
assert {f"eval_{name}" for name in measured} <= set(_)
evaluations = [record for record in trainer.state.log_history if "eval_rouge1" in record]
assert [record["epoch"] for record in evaluations][:8] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
assert evaluations[7]["eval_loss"] < evaluations[0]["eval_loss"]

# %% 41 code
tokenized_datasets.set_format("torch")
model = AutoModelForSeq2SeqLM.from_pretrained(model_checkpoint)

from torch.utils.data import DataLoader

batch_size = 8
train_dataloader = DataLoader(
    tokenized_datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=batch_size
)
eval_dataloader = DataLoader(tokenized_datasets["validation"], collate_fn=data_collator, batch_size=batch_size)

from torch.optim import AdamW

optimizer = AdamW(model.parameters(), lr=2e-5)

from unpad import Accelerator

accelerator = Accelerator()
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

from unpad import get_scheduler

num_train_epochs = 10
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)


def postprocess_text(preds, labels):
    preds = [pred.strip() for pred in preds]
    labels = [label.strip() for label in labels]
    preds = ["\n".join(nltk.sent_tokenize(pred)) for pred in preds]
    labels = ["\n".join(nltk.sent_tokenize(label)) for label in labels]
    return preds, labels


# check
assert num_training_steps == 40

# %% given
output_dir = "mt5-small-finetuned-amazon-en-es-accelerate"
repo = Repository(output_dir, clone_from=get_full_repo_name(output_dir))

# %% 42 code
import numpy as np
import torch
from tqdm.auto import tqdm

progress_bar = tqdm(range(num_training_steps))

for epoch in range(num_train_epochs):
    model.train()
    for step, batch in enumerate(train_dataloader):
        outputs = model(**batch)
        loss = outputs.loss
        accelerator.backward(loss)

        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        progress_bar.update(1)

    model.eval()
    for step, batch in enumerate(eval_dataloader):
        with torch.no_grad():
            generated_tokens = accelerator.unwrap_model(model).generate(
                batch["input_ids"], attention_mask=batch["attention_mask"]
            )
            generated_tokens = accelerator.pad_across_processes(
                generated_tokens, dim=1, pad_index=tokenizer.pad_token_id
            )
            labels = accelerator.pad_across_processes(batch["labels"], dim=1, pad_index=tokenizer.pad_token_id)

            generated_tokens = accelerator.gather(generated_tokens).cpu().numpy()
            labels = accelerator.gather(labels).cpu().numpy()
            labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
            if isinstance(generated_tokens, tuple):
                generated_tokens = generated_tokens[0]
            decoded_preds = tokenizer.batch_decode(generated_tokens, skip_special_tokens=True)
            decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
            decoded_preds, decoded_labels = postprocess_text(decoded_preds, decoded_labels)
            rouge_score.add_batch(predictions=decoded_preds, references=decoded_labels)

    result = rouge_score.compute()
    result = {key: value.mid.fmeasure * 100 for key, value in result.items()}
    result = {k: round(v, 4) for k, v in result.items()}
    print(f"Epoch {epoch}:", result)

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(output_dir)
        repo.push_to_hub(commit_message=f"Training in progress epoch {epoch}", blocking=False)

# check
assert [line.split(":")[0] for line in printed.splitlines()] == [f"Epoch {epoch}" for epoch in range(10)]
assert list(result) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]

# %% 43 code
from unpad import pipeline

hub_model_id = "huggingface-course/mt5-small-finetuned-amazon-en-es"
summarizer = pipeline("summarization", model=hub_model_id)


# %% 44 code
def print_summary(idx):
    review = books_dataset["test"][idx]["review_body"]
    title = books_dataset["test"][idx]["review_title"]
    summary = summarizer(books_dataset["test"][idx]["review_body"])[0]["summary_text"]
    print(f"'>>> Review: {review}'")
    print(f"\n'>>> Title: {title}'")
    print(f"\n'>>> Summary: {summary}'")


print_summary(100)
print_summary(0)

# check
shown = [line for line in printed.splitlines() if line.startswith("'>>> ")]
assert shown[0].startswith("'>>> Review: Nothing special at all about this product... the book is too small")
assert shown[1] == "'>>> Title: Not impressed at all... buy something else'"
assert shown[3].startswith("'>>> Review: Es una trilogia que se hace muy facil de leer.")
assert shown[4] == "'>>> Title: Buena literatura para adolescentes'"
assert shown[2].startswith("'>>> Summary: ") and shown[5].startswith("'>>> Summary: ")
