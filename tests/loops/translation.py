"""Menu entries from English into French: an encoder-decoder trained and judged by BLEU, step by step."""

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

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="folder of a checkpoint with its tokenizer")
parser.add_argument("--output_dir", required=True, help="where the trained model goes")
parser.add_argument("--mixed_precision", help="precision of the matrix products; left out: what the hardware has")
args = parser.parse_args()
set_seed(0)

# Data: 54 pairs
VERBS = {
    "Open": "Ouvrir",
    "Close": "Fermer",
    "Print": "Imprimer",
    "Copy": "Copier",
    "Rename": "Renommer",
    "Show": "Montrer",
}
NOUNS = {
    "file": "le fichier", "folder": "le dossier", "window": "la fenêtre", "page": "la page", "image": "l'image",
    "list": "la liste", "table": "le tableau", "password": "le mot de passe", "message": "le message",
}  # fmt: skip
pairs = [
    {"en": f"{do} the {what}", "fr": f"{faire} {quoi}"} for do, faire in VERBS.items() for what, quoi in NOUNS.items()
]
raw_datasets = load_dataset({"id": [str(i) for i in range(len(pairs))], "translation": pairs})
split_datasets = raw_datasets["train"].train_test_split(train_size=0.65, seed=20)
split_datasets["validation"] = split_datasets.pop("test")
tokenizer = AutoTokenizer.from_pretrained(args.model)
max_input_length = 16
max_target_length = 16


def preprocess_function(examples):
    inputs = [pair["en"] for pair in examples["translation"]]
    targets = [pair["fr"] for pair in examples["translation"]]
    model_inputs = tokenizer(inputs, max_length=max_input_length, truncation=True)
    with tokenizer.as_target_tokenizer():
        labels = tokenizer(targets, max_length=max_target_length, truncation=True)
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs


tokenized_datasets = split_datasets.map(
    preprocess_function, batched=True, remove_columns=split_datasets["train"].column_names
)
tokenized_datasets.set_format("torch")

# Model, loaders, optimizer, schedule
model = AutoModelForSeq2SeqLM.from_pretrained(args.model)
data_collator = DataCollatorForSeq2Seq(tokenizer, model=model)
metric = load_metric("sacrebleu")
train_dataloader = DataLoader(tokenized_datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=8)
eval_dataloader = DataLoader(tokenized_datasets["validation"], collate_fn=data_collator, batch_size=8)
optimizer = AdamW(model.parameters(), lr=5e-3)
accelerator = Accelerator(mixed_precision=args.mixed_precision)
model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader
)

num_train_epochs = 12
num_update_steps_per_epoch = len(train_dataloader)
num_training_steps = num_train_epochs * num_update_steps_per_epoch
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps)


def postprocess(predictions, labels):
    """Generated texts, and for each the list of its one reference."""
    predictions = predictions.cpu().numpy()
    labels = labels.cpu().numpy()
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    decoded_preds = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
    return [pred.strip() for pred in decoded_preds], [[label.strip()] for label in decoded_labels]


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
    for batch in tqdm(eval_dataloader):
        with torch.no_grad():
            generated_tokens = accelerator.unwrap_model(model).generate(
                batch["input_ids"], attention_mask=batch["attention_mask"], max_length=max_target_length
            )
        labels = batch["labels"]

        generated_tokens = accelerator.pad_across_processes(generated_tokens, dim=1, pad_index=tokenizer.pad_token_id)
        labels = accelerator.pad_across_processes(labels, dim=1, pad_index=-100)
        predictions_gathered = accelerator.gather(generated_tokens)
        labels_gathered = accelerator.gather(labels)

        decoded_preds, decoded_labels = postprocess(predictions_gathered, labels_gathered)
        metric.add_batch(predictions=decoded_preds, references=decoded_labels)
    results = metric.compute()
    metrics = {name: results[name] for name in ["score", "counts", "totals", "sys_len", "ref_len"]}

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(args.output_dir, save_function=accelerator.save)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(args.output_dir)

accelerator.print(json.dumps({"losses": losses, "metrics": metrics}))
