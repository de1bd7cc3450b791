"""GPT-2 (Radford et al., 2019): pre-norm decoder with learned positions; its matrices stand inputs first."""

from unpad.families._family import BASE, SPANS, TOKENS, Family, head, rename, same, vocabulary

# Tables that GPT and CTRL have in common with it.
FIELDS = {
    **same("vocab_size", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id"),
    "n_positions": "max_positions",
    "n_embd": "width",
    "n_layer": "layers",
    "n_head": "heads",
    "resid_pdrop": "dropout",
    "embd_pdrop": "embedding_dropout",
    "tie_word_embeddings": "tied",
}
DEFAULTS = {
    "width": 768,
    "layers": 12,
    "heads": 12,
    "ffn_width": None,
    "embedding_dropout": 0.1,
    "attention_dropout": 0.1,
    "classifier_dropout": 0.1,
    "norm_eps": 1e-5,
    "pad_row": False,
    "embedding_norm": False,
    "causal": True,
    "vocabulary_bias": False,
}
BLOCK = [
    rename("h.{i}.attn.c_attn", "transformer.blocks.{i}.qkv", transposed=True),
    rename("h.{i}.attn.c_proj", "transformer.blocks.{i}.out", transposed=True),
    rename("h.{i}.ln_1", "transformer.blocks.{i}.attention_norm"),
    rename("h.{i}.mlp.c_fc", "transformer.blocks.{i}.up", transposed=True),
    rename("h.{i}.mlp.c_proj", "transformer.blocks.{i}.down", transposed=True),
    rename("h.{i}.ln_2", "transformer.blocks.{i}.ffn_norm"),
]
WORDS = vocabulary(rename("lm_head", "head.table"))
SCORE = head([rename("score", "head.classifier")], reads="last", drop=None, output_bias=False)
"""Classes as decoders tell them: one layer without a bias on the last token, which has seen all others."""

FAMILY = Family(
    model_type="gpt2",
    prefix="GPT2",
    fields={
        **FIELDS,
        **same("classifier_dropout"),
        "n_inner": "ffn_width",
        "activation_function": "activation",
        "attn_pdrop": "attention_dropout",
        "layer_norm_epsilon": "norm_eps",
        "scale_attn_weights": "scaled_scores",
    },
    defaults={
        **DEFAULTS,
        "vocab_size": 50257,
        "max_positions": 1024,
        "activation": "gelu_new",
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "pre_norm": True,
        "narrow_residuals": True,
    },
    only={"scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,)},
    base_prefix="transformer.",
    keys=[
        rename("wte", "transformer.embeddings.tokens"),
        rename("wpe", "transformer.embeddings.positions"),
        *BLOCK,
        rename("ln_f", "transformer.final_norm"),
    ],
    heads={
        "base": BASE,
        "causal-lm": WORDS,
        "sequence-classification": SCORE,
        "token-classification": TOKENS,
        "question-answering": SPANS,
    },
    copies={"lm_head.weight": "transformer.wte.weight"},
    suffixes={"causal-lm": "LMHeadModel"},
    dropped=(r"(.+\.)?attn\.(masked_)?bias",),
)
