"""ALBERT (Lan et al., 2020, arXiv:1909.11942): layers that share their weights, and narrow embeddings projected to D."""

from unpad.families import bert
from unpad.families._family import Family, pooled, rename, stack, words

THEIRS = "encoder.albert_layer_groups.{i}.albert_layers.{j}."
OURS = "transformer.blocks.{i}.{j}."

FAMILY = Family(
    model_type="albert",
    prefix="Albert",
    fields={
        **bert.FIELDS,
        "embedding_size": "embedding_width",
        "num_hidden_groups": "groups",
        "inner_group_num": "inner_layers",
        "classifier_dropout_prob": "classifier_dropout",
    },
    defaults={
        "vocab_size": 30000,
        "embedding_width": 128,
        "project_embeddings": True,
        "width": 4096,
        "layers": 12,
        "groups": 1,
        "heads": 64,
        "ffn_width": 16384,
        "activation": "gelu_new",
        "dropout": 0.0,
        "classifier_dropout": 0.1,
        "max_positions": 512,
        "token_types": 2,
        "norm_eps": 1e-12,
        "pad_token_id": 0,
    },
    only={"position_embedding_type": ("absolute",), "tie_word_embeddings": (True,)},
    base_prefix="albert.",
    keys=[
        *bert.EMBEDDINGS,
        rename("encoder.embedding_hidden_mapping_in", "transformer.embeddings.projection"),
        stack([f"{THEIRS}attention.{part}" for part in ("query", "key", "value")], f"{OURS}qkv"),
        rename(f"{THEIRS}attention.dense", f"{OURS}out"),
        rename(f"{THEIRS}attention.LayerNorm", f"{OURS}attention_norm"),
        rename(f"{THEIRS}ffn", f"{OURS}up"),
        rename(f"{THEIRS}ffn_output", f"{OURS}down"),
        rename(f"{THEIRS}full_layer_layer_norm", f"{OURS}ffn_norm"),
    ],
    heads=pooled("albert.pooler", words("predictions.dense", "predictions.LayerNorm", "predictions.bias")),
    copies={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
)
