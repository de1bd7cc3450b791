"""XLM-RoBERTa (Conneau et al., 2020, arXiv:1911.02116): RoBERTa over 100 languages; only the vocabulary is another."""

from dataclasses import replace

from unpad.families import roberta

FAMILY = replace(
    roberta.FAMILY,
    model_type="xlm-roberta",
    prefix="XLMRoberta",
    defaults={**roberta.FAMILY.defaults, "vocab_size": 30522},
)
