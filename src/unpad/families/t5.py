"""T5 (Raffel et al., 2020, arXiv:1910.10683): encoder and decoder whose attention knows places by a learned bias; v1.1 is gated.

The published v1.1 and mT5 checkpoints read the vocabulary out with a table of their own, and v1.0 with the token embedding, scaled.
`transformers` 5 writes `tie_word_embeddings: true` for all of them; here the key says what the files hold.
"""

from unpad.families import bart
from unpad.families._family import BASE, SPANS, Family, Rule, head, rename, same, stack, vocabulary

# What mT5 has in common with it.
FIELDS = {
    **same("vocab_size", "classifier_dropout"),
    **same("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    "d_model": "width",
    "d_kv": "head_size",
    "d_ff": "ffn_width",
    "num_layers": "layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "heads",
    "feed_forward_proj": "feed_forward",
    "dense_act_fn": "activation",
    "is_gated_act": "gated",
    "relative_attention_num_buckets": "bias_buckets",
    "relative_attention_max_distance": "bias_reach",
    "dropout_rate": "dropout",
    "layer_norm_epsilon": "norm_eps",
    "initializer_factor": "init_factor",
    "tie_word_embeddings": "tied",
}
DEFAULTS = {
    "vocab_size": 32128,
    "width": 512,
    "head_size": 64,
    "ffn_width": 2048,
    "layers": 6,
    "decoder_layers": 0,
    "heads": 8,
    "activation": "relu",
    "bias_buckets": 32,
    "attention_dropout": None,
    "ffn_dropout": None,
    "final_dropout": True,
    "classifier_dropout": 0.0,
    "input_positions": False,
    "norm_eps": 1e-6,
    "init_factor": 1.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "pad_row": False,
    "decoder_start_token_id": 0,
    "pre_norm": True,
    "rms_norm": True,
    "scaled_scores": False,
    "embedding_norm": False,
    "attention_bias": False,
    "ffn_bias": False,
    "vocabulary_bias": False,
}


def _stack(side: str, last: int) -> list[Rule]:
    """The weights of the encoder or the decoder, whose feed-forward layer is number `last` of a block."""
    block, ours = f"{side}.block.{{i}}.layer.", f"transformer.{side}.blocks.{{i}}."
    dense, bias = f"{block}{last}.DenseReluDense.", f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return [
        rename(bias, f"transformer.{side}.distance_bias.table"),
        stack([f"{block}0.SelfAttention.{part}" for part in "qkv"], ours + "qkv"),
        rename(block + "0.SelfAttention.o", ours + "out"),
        rename(block + "0.layer_norm", ours + "attention_norm"),
        stack([dense + "wi_0", dense + "wi_1"], ours + "up", where="gated"),
        rename(dense + "wi", ours + "up"),
        rename(dense + "wo", ours + "down"),
        rename(f"{block}{last}.layer_norm", ours + "ffn_norm"),
        rename(f"{side}.final_layer_norm", f"transformer.{side}.final_norm"),
    ]


CROSS = "decoder.block.{i}.layer.1."

FAMILY = Family(
    model_type="t5",
    prefix="T5",
    fields={**FIELDS, "scale_decoder_outputs": "scaled_output"},
    defaults={**DEFAULTS, "scaled_output": None},
    only={"is_encoder_decoder": (True,), "is_decoder": (False,)},
    base_prefix="",
    keys=[
        rename("shared", "transformer.encoder.embeddings.tokens"),
        *_stack("encoder", 1),
        *_stack("decoder", 2),
        rename(CROSS + "EncDecAttention.q", "transformer.decoder.blocks.{i}.cross_q"),
        stack([f"{CROSS}EncDecAttention.{part}" for part in "kv"], "transformer.decoder.blocks.{i}.cross_kv"),
        rename(CROSS + "EncDecAttention.o", "transformer.decoder.blocks.{i}.cross_out"),
        rename(CROSS + "layer_norm", "transformer.decoder.blocks.{i}.cross_norm"),
    ],
    heads={
        "base": BASE,
        "conditional-generation": vocabulary(rename("lm_head", "head.table")),
        "sequence-classification": head(bart.CLASSIFIER, "transformer.", **bart.CLASSES),
        "question-answering": SPANS,
    },
    copies={f"{name}.weight": "shared.weight" for name in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")},
    dropped=(r"(.+\.)?layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
)
