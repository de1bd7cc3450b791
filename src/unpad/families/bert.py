"""BERT (Devlin et al., 2019, arXiv:1810.04805): post-norm encoder with segment embeddings and a pooler on the first token."""

from unpad.families._family import SIZES, Family, Rule, pooled, rename, same, stack, words

# Tables that descendants of BERT have in common.
FIELDS = {
    **same("vocab_size", "initializer_range", "pad_token_id"),
    **SIZES,
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "type_vocab_size": "token_types",
    "layer_norm_eps": "norm_eps",
}
EMBEDDINGS = [
    rename("embeddings.word_embeddings", "transformer.embeddings.tokens"),
    rename("embeddings.position_embeddings", "transformer.embeddings.positions"),
    rename("embeddings.token_type_embeddings", "transformer.embeddings.types"),
    rename("embeddings.LayerNorm", "transformer.embeddings.norm"),
]
BLOCK = [
    rename("encoder.layer.{i}.attention.output.dense", "transformer.blocks.{i}.out"),
    rename("encoder.layer.{i}.attention.output.LayerNorm", "transformer.blocks.{i}.attention_norm"),
    rename("encoder.layer.{i}.intermediate.dense", "transformer.blocks.{i}.up"),
    rename("encoder.layer.{i}.output.dense", "transformer.blocks.{i}.down"),
    rename("encoder.layer.{i}.output.LayerNorm", "transformer.blocks.{i}.ffn_norm"),
]


def qkv(*parts: str) -> Rule:
    """The three projections of attention under their names there."""
    return stack([f"encoder.layer.{{i}}.attention.self.{part}" for part in parts], "transformer.blocks.{i}.qkv")


FAMILY = Family(
    model_type="bert",
    prefix="Bert",
    fields={**FIELDS, **same("classifier_dropout")},
    defaults={
        "vocab_size": 30522,
        "width": 768,
        "layers": 12,
        "heads": 12,
        "ffn_width": 3072,
        "attention_dropout": 0.1,
        "max_positions": 512,
        "token_types": 2,
        "norm_eps": 1e-12,
        "pad_token_id": 0,
    },
    only={
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    },
    base_prefix="bert.",
    keys=[*EMBEDDINGS, qkv("query", "key", "value"), *BLOCK],
    heads=pooled(
        "bert.pooler.dense",
        words("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    ),
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
