"""BART (Lewis et al., 2019, arXiv:1910.13461): post-norm encoder and decoder with learned positions, which share their token embedding."""

from typing import Any

from unpad.families._family import BASE, SPANS, Family, Rule, head, rename, same, stack, vocabulary

# What Marian, and T5's heads, have in common with it.
FIELDS = {
    **same("vocab_size", "dropout", "attention_dropout", "pad_token_id", "bos_token_id", "eos_token_id"),
    **same("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    "d_model": "width",
    "encoder_layers": "layers",
    "encoder_attention_heads": "heads",
    "encoder_ffn_dim": "ffn_width",
    "decoder_layers": "decoder_layers",
    "decoder_attention_heads": "decoder_heads",
    "decoder_ffn_dim": "decoder_ffn_width",
    "activation_function": "activation",
    "activation_dropout": "ffn_dropout",
    "max_position_embeddings": "max_positions",
    "scale_embedding": "embedding_scale",
    "init_std": "initializer_range",
}
DEFAULTS = {
    "vocab_size": 50265,
    "width": 1024,
    "layers": 12,
    "heads": 16,
    "ffn_width": 4096,
    "decoder_layers": 12,
    "decoder_heads": 16,
    "decoder_ffn_width": 4096,
    "classifier_dropout": 0.0,
    "max_positions": 1024,
    "position_start": 2,
    "norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "fixed_vocabulary_bias": True,
}
ONLY = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "tie_word_embeddings": (True,),
    "encoder_layerdrop": (0,),
    "decoder_layerdrop": (0,),
}


def stacks(*more: tuple[str, str]) -> list[Rule]:
    """The weights of encoder and decoder; `more` are pairs of names there and here that both have."""
    rules = [rename("shared", "transformer.encoder.embeddings.tokens")]
    for side in ("encoder", "decoder"):
        block, ours = f"{side}.layers.{{i}}.", f"transformer.{side}.blocks.{{i}}."
        rules += [
            stack([f"{block}self_attn.{part}_proj" for part in "qkv"], ours + "qkv"),
            rename(block + "self_attn.out_proj", ours + "out"),
            rename(block + "self_attn_layer_norm", ours + "attention_norm"),
            rename(block + "fc1", ours + "up"),
            rename(block + "fc2", ours + "down"),
            rename(block + "final_layer_norm", ours + "ffn_norm"),
            *(rename(f"{side}.{their}", f"transformer.{side}.{our}") for their, our in more),
        ]
    return [
        *rules,
        rename(block + "encoder_attn.q_proj", ours + "cross_q"),
        stack([f"{block}encoder_attn.{part}_proj" for part in "kv"], ours + "cross_kv"),
        rename(block + "encoder_attn.out_proj", ours + "cross_out"),
        rename(block + "encoder_attn_layer_norm", ours + "cross_norm"),
    ]


CLASSIFIER = [
    rename("classification_head.dense", "head.dense"),
    rename("classification_head.out_proj", "head.classifier"),
]
CLASSES: dict[str, Any] = {"reads": "last", "drop_in": "classifier_dropout", "dense": True}  # the end of the text tells
POSITIONS = ("embed_positions", "embeddings.positions")
NORM = ("layernorm_embedding", "embeddings.norm")
WORDS = vocabulary(rename("final_logits_bias", "head.bias", lone_row=True))

FAMILY = Family(
    model_type="bart",
    prefix="Bart",
    fields={**FIELDS, **same("classifier_dropout")},
    defaults={**DEFAULTS, "decoder_start_token_id": 2, "id2label": {i: f"LABEL_{i}" for i in range(3)}},
    only={**ONLY, "normalize_before": (False,)},
    base_prefix="model.",
    keys=stacks(POSITIONS, NORM),
    heads={
        "base": BASE,
        "conditional-generation": WORDS,
        "sequence-classification": head(CLASSIFIER, **CLASSES),
        "question-answering": SPANS,
    },
    copies={
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
    dropped=(r"(.+\.)?(encoder|decoder)\.version",),
)
