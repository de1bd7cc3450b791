"""Names of people, firms, places and products in a text: a token classifier trained step by step."""

import argparse
import json

import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from unpad import (
    Accelerator,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    get_scheduler,
    load_dataset,
    load_metric,
    set_seed,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="folder of a checkpoint with its tokenizer")
parser.add_argument("--output_dir", required=True, help="where the trained model goes")
parser.add_argument("--mixed_precision", help="precision of the matrix products; left out: what the hardware has")
args = parser.parse_args()
set_seed(0)

# Data: words with one tag each
raw_datasets = load_dataset("helpdesk", "entities")
raw_datasets["train"] = raw_datasets["train"].select(range(35))
raw_datasets["validation"] = raw_datasets["validation"].select(range(19))
label_names = raw_datasets["train"].features["ner_tags"].feature.names
tokenizer = AutoTokenizer.from_pretrained(args.model)


def align_labels_with_tokens(tags, word_ids):
    """One label per token: that of its word, from its second token on inside an entity; -100 on special tokens."""
    labels, before = [], None
    for word in word_ids:
        if word is None:
            labels.append(-100)
        else:
            begins_inside = word == before and tags[word] % 2 == 1
            labels.append(tags[word] + 1 if begins_inside else tags[word])
        before = word
    return labels


def tokenize_and_align_labels(examples):
    tokenized_inputs = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    tokenized_inputs["labels"] = [
        align_labels_with_tokens(tags, tokenized_inputs.word_ids(i)) for i, tags in enumerate(examples["ner_tags"])
    ]
    return tokenized_inputs


tokenized_datasets = raw_datasets.map(
    tokenize_and_align_labels, batched=True, remove_columns=raw_datasets["train"].column_names
)
data_collator = DataCollatorForTokenClassification(tokenizer=tokenizer)
metric = load_metric("seqeval")
train_dataloader = DataLoader(tokenized_datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=8)
eval_dataloader = DataLoader(tokenized_datasets["validation"], collate_fn=data_collator, batch_size=8)

# Model, optimizer, schedule
id2label = {str(i): label for i, label in enumerate(label_names)}
label2id = {label: i for i, label in id2label.items()}
model = AutoModelForTokenClassification.from_pretrained(args.model, id2label=id2label, label2id=label2id)
optimizer = AdamW(model.parameters(), lr=5e-3)
accelerator = Accelerator(mixed_precision=args.mixed_precision)
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

num_train_epochs = 10
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)


def postprocess(predictions, labels):
    """Predicted and true names of tags, without the places that have no label."""
    predictions = predictions.detach().cpu().clone().numpy()
    labels = labels.detach().cpu().clone().numpy()
    asked = labels != -100
    named = [
        [[label_names[tag] for tag in row[where]] for row, where in zip(grid, asked, strict=True)]
        for grid in (predictions, labels)
    ]
    return named[0], named[1]


progress_bar = tqdm(range(num_training_steps))
losses = []

for _epoch in range(num_train_epochs):
    model.train()
    for batch in train_dataloader:
        outputs = model(**batch)
        loss = outputs.loss
        accelerator.backward(loss)

        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        progress_bar.update(1)

        terms = torch.tensor([[float(outputs.loss_sum.detach()), float(outputs.loss_count)]])
        total, count = accelerator.gather_for_metrics(terms).sum(0).tolist()
        losses.append(total / count)

    model.eval()
    for batch in eval_dataloader:
        with torch.no_grad():
            outputs = model(**batch)
        predictions = outputs.logits.argmax(dim=-1)
        labels = batch["labels"]

        predictions = accelerator.pad_across_processes(predictions, dim=1, pad_index=-100)
        labels = accelerator.pad_across_processes(labels, dim=1, pad_index=-100)
        predictions_gathered = accelerator.gather(predictions)
        labels_gathered = accelerator.gather(labels)

        true_predictions, true_labels = postprocess(predictions_gathered, labels_gathered)
        metric.add_batch(predictions=true_predictions, references=true_labels)
    results = metric.compute()
    metrics = {key: results[f"overall_{key}"] for key in ["precision", "recall", "f1", "accuracy"]}

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(args.output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(args.output_dir)

accelerator.print(json.dumps({"losses": losses, "metrics": metrics}))
