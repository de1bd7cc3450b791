"""A classifier of sentence pairs, from the tokenizer to a training loop of one's own."""

# %% given
from unpad import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    load_dataset,
)

# %% 1 code
checkpoint = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
inputs = tokenizer("This is the first sentence.", "This is the second one.")

# %% 2 output
assert inputs["input_ids"] == [101, 2023, 2003, 1996, 2034, 6251, 1012, 102, 2023, 2003, 1996, 2117, 2028, 1012, 102]
assert inputs["token_type_ids"] == [0] * 8 + [1] * 7
assert inputs["attention_mask"] == [1] * 15
