"""RoBERTa (Liu et al., 2019, arXiv:1907.11692): BERT's encoder; positions start after the padding id, no pooler before classes."""

from unpad.families import bert
from unpad.families._family import Family, head, rename

POOLER = rename("roberta.pooler.dense", "head.dense")
CLASSIFIER = rename("classifier", "head.classifier")

FAMILY = Family(
    model_type="roberta",
    prefix="Roberta",
    fields=bert.FAMILY.fields,
    defaults={**bert.FAMILY.defaults, "vocab_size": 50265, "pad_token_id": 1, "positions_after_pad": True},
    only=bert.FAMILY.only,
    base_prefix="roberta.",
    keys=bert.FAMILY.keys,
    heads={
        "base": head([POOLER], dense=True, output=None),
        "sequence-classification": head(
            [rename("classifier.dense", "head.dense"), rename("classifier.out_proj", "head.classifier")],
            drop_in="classifier_dropout",
            dense=True,
        ),
        "token-classification": head([CLASSIFIER], reads="each"),
        "question-answering": head([rename("qa_outputs", "head.classifier")], reads="each", drop=None, output=2),
        "multiple-choice": head([POOLER, CLASSIFIER], dense=True, drop="dropout", output=1),
        "masked-lm": head(
            [
                rename("lm_head.dense", "head.dense"),
                rename("lm_head.layer_norm", "head.norm"),
                rename("lm_head.bias", "head.bias"),
            ],
            reads="each",
            dense=True,
            activation="gelu",
            norm=True,
            drop=None,
            output="vocabulary",
        ),
    },
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)
