"""GPT (Radford et al., 2018): post-norm decoder with learned positions, feed-forward layers four times as wide as the rest."""

from unpad.families import gpt2
from unpad.families._family import BASE, Family, rename

FAMILY = Family(
    model_type="openai-gpt",
    prefix="OpenAIGPT",
    fields={**gpt2.FIELDS, "afn": "activation", "attn_pdrop": "attention_dropout", "layer_norm_epsilon": "norm_eps"},
    defaults={**gpt2.DEFAULTS, "vocab_size": 40478, "max_positions": 512, "activation": "gelu", "tanh_gelu": True},
    base_prefix="transformer.",
    keys=[
        rename("tokens_embed", "transformer.embeddings.tokens"),
        rename("positions_embed", "transformer.embeddings.positions"),
        *gpt2.BLOCK,
    ],
    heads={"base": BASE, "causal-lm": gpt2.WORDS, "sequence-classification": gpt2.SCORE},
    copies={"lm_head.weight": "transformer.tokens_embed.weight"},
    suffixes=gpt2.FAMILY.suffixes,
    dropped=(r"(.+\.)?attn\.bias", r"(.+\.)?position_ids"),
)
