"""RoBERTa (Liu et al., 2019, arXiv:1907.11692): BERT's encoder; positions start after the padding id, no pooler before classes."""

from dataclasses import replace

from unpad.families import bert
from unpad.families._family import CLASSIFIER, head, pooled, rename, words

FAMILY = replace(
    bert.FAMILY,
    model_type="roberta",
    prefix="Roberta",
    defaults={**bert.FAMILY.defaults, "vocab_size": 50265, "pad_token_id": 1, "positions_after_pad": True},
    base_prefix="roberta.",
    heads={
        **pooled(
            "roberta.pooler.dense", words("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", activation="gelu")
        ),
        "sequence-classification": head(
            [rename("classifier.dense", "head.dense"), rename("classifier.out_proj", "head.classifier")],
            drop_in="classifier_dropout",
            dense=True,
        ),
        "multiple-choice": head(
            [rename("roberta.pooler.dense", "head.dense"), CLASSIFIER], dense=True, drop="dropout", output=1
        ),
    },
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)
