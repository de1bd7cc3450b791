"""Marian (Junczys-Dowmunt et al., 2018, arXiv:1804.00344): BART's blocks with sines for positions and no norm of the embeddings."""

from dataclasses import replace

from unpad.families import bart
from unpad.families._family import BASE

FAMILY = replace(
    bart.FAMILY,
    model_type="marian",
    prefix="Marian",
    fields={"decoder_vocab_size": "vocab_size", **bart.FIELDS},
    defaults={
        **bart.DEFAULTS,
        "vocab_size": 58101,
        "position_start": 0,
        "fixed_positions": True,
        "embedding_norm": False,
        "pad_token_id": 58100,
        "bos_token_id": None,
        "eos_token_id": 0,
        "decoder_start_token_id": 58100,
        "forced_eos_token_id": 0,
    },
    only={**bart.FAMILY.only, "share_encoder_decoder_embeddings": (True,)},
    keys=bart.stacks(),
    heads={"base": BASE, "conditional-generation": bart.WORDS},
    suffixes={"conditional-generation": "MTModel"},
    dropped=(r"(.+\.)?embed_positions\.weight",),
)
