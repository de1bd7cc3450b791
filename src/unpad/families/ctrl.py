"""CTRL (Keskar et al., 2019, arXiv:1909.05858): pre-norm decoder with fixed sinusoids; its texts begin with a control code."""

from unpad.families import gpt2
from unpad.families._family import BASE, CLASSIFIER, Family, head, rename, stack, vocabulary

FAMILY = Family(
    model_type="ctrl",
    prefix="CTRL",
    fields={**gpt2.FIELDS, "dff": "ffn_width"},
    defaults={
        **gpt2.DEFAULTS,
        "vocab_size": 246534,
        "max_positions": 256,
        "width": 1280,
        "ffn_width": 8192,
        "layers": 48,
        "heads": 16,
        "activation": "relu",
        "attention_dropout": 0.0,
        "norm_eps": 1e-6,
        "pre_norm": True,
        "fixed_positions": True,
        "embedding_scale": True,
        "vocabulary_bias": True,
    },
    only={"layer_norm_epsilon": (1e-6,)},
    base_prefix="transformer.",
    keys=[
        rename("w", "transformer.embeddings.tokens"),
        stack([f"h.{{i}}.multi_head_attention.W{part}" for part in "qkv"], "transformer.blocks.{i}.qkv"),
        rename("h.{i}.multi_head_attention.dense", "transformer.blocks.{i}.out"),
        rename("h.{i}.layernorm1", "transformer.blocks.{i}.attention_norm"),
        rename("h.{i}.ffn.0", "transformer.blocks.{i}.up"),
        rename("h.{i}.ffn.2", "transformer.blocks.{i}.down"),
        rename("h.{i}.layernorm2", "transformer.blocks.{i}.ffn_norm"),
        rename("layernorm", "transformer.final_norm"),
    ],
    heads={
        "base": BASE,
        "causal-lm": vocabulary(rename("lm_head.bias", "head.bias"), rename("lm_head", "head.table")),
        "sequence-classification": head([CLASSIFIER], reads="last", drop=None, output_bias=False),
    },
    copies={"lm_head.weight": "transformer.w.weight"},
    suffixes=gpt2.FAMILY.suffixes,
    dropped=(r"(.+\.)?pos_encoding",),
)
