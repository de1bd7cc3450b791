"""ELECTRA (Clark et al., 2020, arXiv:2003.10555): BERT's encoder without a pooler, trained to find tokens that a small generator replaced.

The discriminator is the head "pre-training" (one logit per token: was it replaced?), the generator is "masked-lm".
"""

from unpad.families import bert
from unpad.families._family import BASE, CLASSIFIER, SPANS, TOKENS, Family, head, rename, words

FAMILY = Family(
    model_type="electra",
    prefix="Electra",
    fields={**bert.FAMILY.fields, "embedding_size": "embedding_width", "summary_last_dropout": "summary_dropout"},
    defaults={
        **bert.FAMILY.defaults,
        "embedding_width": 128,
        "width": 256,
        "heads": 4,
        "ffn_width": 1024,
        "summary_dropout": 0.1,
    },
    only={
        **bert.FAMILY.only,
        "summary_type": ("first",),
        "summary_use_proj": (True,),
        "summary_activation": ("gelu",),
        "summary_first_dropout": (0, None),
    },
    base_prefix="electra.",
    keys=[*bert.FAMILY.keys, rename("embeddings_project", "transformer.embeddings.projection")],
    heads={
        "base": BASE,
        "sequence-classification": head(
            [rename("classifier.dense", "head.dense"), rename("classifier.out_proj", "head.classifier")],
            drop_in="classifier_dropout",
            dense=True,
            activation="gelu",
        ),
        "token-classification": TOKENS,
        "question-answering": SPANS,
        "multiple-choice": head(
            [rename("sequence_summary.summary", "head.dense"), CLASSIFIER],
            dense=True,
            activation="gelu",
            drop="summary_dropout",
            output=1,
        ),
        "masked-lm": words(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head.bias",
            activation="gelu",
        ),
        "pre-training": head(
            [
                rename("discriminator_predictions.dense", "head.dense"),
                rename("discriminator_predictions.dense_prediction", "head.classifier"),
            ],
            reads="each",
            dense=True,
            activation=None,
            drop=None,
            output=1,
        ),
    },
    copies={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
)
