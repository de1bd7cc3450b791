"""Are two messages about the same problem? The full training of a classifier, written out step by step."""

import argparse
import json

import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from unpad import (
    Accelerator,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
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

# Data
raw_datasets = load_dataset("helpdesk", "pairs")
raw_datasets["train"] = raw_datasets["train"].select(range(35))
raw_datasets["validation"] = raw_datasets["validation"].select(range(19))
tokenizer = AutoTokenizer.from_pretrained(args.model)


def tokenize_function(example):
    return tokenizer(example["sentence1"], example["sentence2"], truncation=True)


tokenized_datasets = raw_datasets.map(tokenize_function, batched=True)
tokenized_datasets = tokenized_datasets.remove_columns(["sentence1", "sentence2", "idx"])
tokenized_datasets = tokenized_datasets.rename_column("label", "labels")
tokenized_datasets.set_format("torch")
data_collator = DataCollatorWithPadding(tokenizer=tokenizer)

train_dataloader = DataLoader(tokenized_datasets["train"], shuffle=True, batch_size=8, collate_fn=data_collator)
eval_dataloader = DataLoader(tokenized_datasets["validation"], batch_size=8, collate_fn=data_collator)

# Model, optimizer, schedule
accelerator = Accelerator(mixed_precision=args.mixed_precision)
model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
optimizer = AdamW(model.parameters(), lr=3e-3)
train_dataloader, eval_dataloader, model, optimizer = accelerator.prepare(
    train_dataloader, eval_dataloader, model, optimizer
)

num_epochs = 12
num_training_steps = num_epochs * len(train_dataloader)
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)
metric = load_metric("glue", "mrpc")
progress_bar = tqdm(range(num_training_steps))
losses = []

for _epoch in range(num_epochs):
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
        predictions = torch.argmax(outputs.logits, dim=-1)
        predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
        metric.add_batch(predictions=predictions, references=references)
    metrics = metric.compute()

accelerator.wait_for_everyone()
unwrapped_model = accelerator.unwrap_model(model)
unwrapped_model.save_pretrained(args.output_dir, save_function=accelerator.save)
if accelerator.is_main_process:
    tokenizer.save_pretrained(args.output_dir)
accelerator.print(json.dumps({"losses": losses, "metrics": metrics}))
