"""A subject line for a message: an encoder-decoder trained and judged by ROUGE, step by step."""

import argparse
import json

import numpy as np
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from unpad import (
    Accelerator,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    get_scheduler,
    load_dataset,
    load_metric,
    set_seed,
)
from unpad.metrics.rouge import split_sentences

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="folder of a checkpoint with its tokenizer")
parser.add_argument("--output_dir", required=True, help="where the trained model goes")
parser.add_argument("--mixed_precision", help="precision of the matrix products; left out: what the hardware has")
args = parser.parse_args()
set_seed(0)

# Data: messages of one topic whose subject has more than two words
raw_datasets = load_dataset("helpdesk", "tickets")
topic = raw_datasets["train"].features["topic"].str2int("shipping")
raw_datasets = raw_datasets.filter(lambda row: row["topic"] == topic)
raw_datasets = raw_datasets.filter(lambda row: len(row["subject"].split()) > 2)
raw_datasets["train"] = raw_datasets["train"].select(range(35))
raw_datasets["validation"] = raw_datasets["validation"].select(range(19))
tokenizer = AutoTokenizer.from_pretrained(args.model)
max_input_length = 64
max_target_length = 12


def preprocess_function(examples):
    model_inputs = tokenizer(examples["text"], max_length=max_input_length, truncation=True)
    with tokenizer.as_target_tokenizer():
        labels = tokenizer(examples["subject"], max_length=max_target_length, truncation=True)
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs


tokenized_datasets = raw_datasets.map(preprocess_function, batched=True)
tokenized_datasets = tokenized_datasets.remove_columns(raw_datasets["train"].column_names)
tokenized_datasets.set_format("torch")

# Model, loaders, optimizer, schedule
rouge_score = load_metric("rouge")
model = AutoModelForSeq2SeqLM.from_pretrained(args.model)
data_collator = DataCollatorForSeq2Seq(tokenizer, model=model)
batch_size = 8
train_dataloader = DataLoader(
    tokenized_datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=batch_size
)
eval_dataloader = DataLoader(tokenized_datasets["validation"], collate_fn=data_collator, batch_size=batch_size)
optimizer = AdamW(model.parameters(), lr=1e-2)
accelerator = Accelerator(mixed_precision=args.mixed_precision)
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

num_train_epochs = 10
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)


def postprocess_text(preds, labels):
    """Each text with one sentence a line, as rougeLsum reads it."""
    return (["\n".join(split_sentences(text.strip())) for text in texts] for texts in (preds, labels))


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
            decoded_preds = tokenizer.batch_decode(generated_tokens, skip_special_tokens=True)
            decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
            decoded_preds, decoded_labels = postprocess_text(decoded_preds, decoded_labels)
            rouge_score.add_batch(predictions=decoded_preds, references=decoded_labels)
    result = rouge_score.compute()
    metrics = {name: round(value.mid.fmeasure * 100, 4) for name, value in result.items()}

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(args.output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(args.output_dir)

accelerator.print(json.dumps({"losses": losses, "metrics": metrics}))
