"""DeBERTa v2 and v3 (He et al., 2021, arXiv:2006.03654 and 2111.09543): disentangled attention over contents and relative positions."""

from typing import Any

from unpad.families import bert
from unpad.families._family import BASE, CLASSIFIER, SPANS, Family, head, rename, same

POOLER = rename("pooler.dense", "head.dense")
POOLED: dict[str, Any] = {"drop_in": "pooler_dropout", "dense": True, "activation": "gelu"}

FAMILY = Family(
    model_type="deberta-v2",
    prefix="DebertaV2",
    fields={
        **bert.FIELDS,
        **same("pooler_dropout", "relative_attention"),
        "cls_dropout": "classifier_dropout",
        "position_biased_input": "input_positions",
        "pos_att_type": "relative_scores",
        "share_att_key": "relative_shared",
        "max_relative_positions": "relative_reach",
        "position_buckets": "relative_buckets",
        "norm_rel_ebd": "relative_norm",
    },
    defaults={
        "vocab_size": 128100,
        "width": 1536,
        "layers": 24,
        "heads": 24,
        "ffn_width": 6144,
        "attention_dropout": 0.1,
        "max_positions": 512,
        "norm_eps": 1e-7,
        "pad_token_id": 0,
        "relative_norm": "none",
    },
    only={
        "conv_kernel_size": (0,),
        "legacy": (True,),  # the other masked LM head has other weight names
        "pooler_hidden_act": ("gelu",),
        "tie_word_embeddings": (True,),
    },
    base_prefix="deberta.",
    keys=[
        *bert.EMBEDDINGS,
        rename("encoder.rel_embeddings", "transformer.relative.table"),
        rename("encoder.LayerNorm", "transformer.relative.norm"),
        bert.qkv("query_proj", "key_proj", "value_proj"),
        rename("encoder.layer.{i}.attention.self.pos_key_proj", "transformer.blocks.{i}.disentangled.key"),
        rename("encoder.layer.{i}.attention.self.pos_query_proj", "transformer.blocks.{i}.disentangled.query"),
        *bert.BLOCK,
    ],
    heads={
        "base": BASE,
        "sequence-classification": head([POOLER, CLASSIFIER], **POOLED),
        "token-classification": head([CLASSIFIER], reads="each", drop="dropout"),
        "question-answering": SPANS,
        "multiple-choice": head([POOLER, CLASSIFIER], **POOLED, output=1),
        "masked-lm": bert.FAMILY.heads["masked-lm"],
    },
    copies={**bert.FAMILY.copies, "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight"},
)
