"""A masked language model goes on learning on texts of one field; it is judged on masks that stay the same."""

import argparse
import json
import math

import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from unpad import (
    Accelerator,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    default_data_collator,
    get_scheduler,
    load_dataset,
    set_seed,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="folder of a checkpoint with its tokenizer")
parser.add_argument("--output_dir", required=True, help="where the trained model goes")
parser.add_argument("--mixed_precision", help="precision of the matrix products; left out: what the hardware has")
args = parser.parse_args()
set_seed(0)

# Data: all texts in a row, cut into chunks
raw_datasets = load_dataset("helpdesk", "tickets")
raw_datasets["train"] = raw_datasets["train"].select(range(80))
tokenizer = AutoTokenizer.from_pretrained(args.model)
chunk_size = 32


def tokenize_function(examples):
    result = tokenizer(examples["text"])
    if tokenizer.is_fast:
        result["word_ids"] = [result.word_ids(i) for i in range(len(result["input_ids"]))]
    return result


def group_texts(examples):
    joined = {name: [value for row in examples[name] for value in row] for name in examples}
    end = len(joined["input_ids"]) // chunk_size * chunk_size
    result = {
        name: [column[start : start + chunk_size] for start in range(0, end, chunk_size)]
        for name, column in joined.items()
    }
    result["labels"] = result["input_ids"].copy()
    return result


tokenized_datasets = raw_datasets.map(
    tokenize_function, batched=True, remove_columns=raw_datasets["train"].column_names
)
lm_datasets = tokenized_datasets.map(group_texts, batched=True)
data_collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)
downsampled_dataset = lm_datasets["train"].train_test_split(train_size=35, test_size=19, seed=42)
downsampled_dataset = downsampled_dataset.remove_columns(["word_ids"])


def insert_random_mask(batch):
    features = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    masked_inputs = data_collator(features)
    return {"masked_" + name: tensor.numpy() for name, tensor in masked_inputs.items()}


eval_dataset = downsampled_dataset["test"].map(
    insert_random_mask, batched=True, remove_columns=downsampled_dataset["test"].column_names
)
eval_dataset = eval_dataset.rename_columns(
    {"masked_input_ids": "input_ids", "masked_attention_mask": "attention_mask", "masked_labels": "labels"}
)

batch_size = 8
train_dataloader = DataLoader(
    downsampled_dataset["train"], shuffle=True, batch_size=batch_size, collate_fn=data_collator
)
eval_dataloader = DataLoader(eval_dataset, batch_size=batch_size, collate_fn=default_data_collator)

# Model, optimizer, schedule
model = AutoModelForMaskedLM.from_pretrained(args.model)
optimizer = AdamW(model.parameters(), lr=1e-2)
accelerator = Accelerator(mixed_precision=args.mixed_precision)
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

num_train_epochs = 3
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)
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
    repeated = []
    for batch in eval_dataloader:
        with torch.no_grad():
            outputs = model(**batch)
        loss = outputs.loss
        repeated.append(accelerator.gather(loss.repeat(batch_size)))
    eval_losses = torch.cat(repeated)
    eval_losses = eval_losses[: len(eval_dataset)]
    try:
        perplexity = math.exp(torch.mean(eval_losses))
    except OverflowError:
        perplexity = float("inf")

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(args.output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(args.output_dir)

accelerator.print(json.dumps({"losses": losses, "metrics": {"perplexity": perplexity}}))
