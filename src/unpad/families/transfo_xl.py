"""Transformer-XL (Dai et al., 2019, arXiv:1901.02860): post-norm decoder that reads a text segment by segment, with a memory of the
hidden states before; distances instead of positions, and a vocabulary in parts.

As in `transformers`, the memory of a first segment is `mem_len` zeros, which are attended to like others, and `logits` are
log-probabilities. A Trainer takes each row for a first segment. Its checkpoints keep the words in a pickle, which is never read: there
is no tokenizer of theirs here.
"""

from unpad.families import gpt2
from unpad.families._family import BASE, Family, rename, same, stack, vocabulary

BIASES = ("r_w_bias", "r_r_bias")
COPIES = {
    "crit.out_layers.{i}.weight": "transformer.word_emb.emb_layers.{i}.weight",
    "crit.out_projs.{i}": "transformer.word_emb.emb_projs.{i}",
    **{f"transformer.layers.{{i}}.dec_attn.{name}": f"transformer.{name}" for name in BIASES},
}

FAMILY = Family(
    model_type="transfo-xl",
    prefix="TransfoXL",
    fields={
        **same("vocab_size", "cutoffs", "dropout", "pad_token_id", "bos_token_id", "eos_token_id"),
        "d_model": "width",
        "d_embed": "embedding_width",
        "n_head": "heads",
        "d_head": "head_size",
        "d_inner": "ffn_width",
        "div_val": "narrowing",
        "tie_projs": "tied_projections",
        "pre_lnorm": "pre_norm",
        "n_layer": "layers",
        "mem_len": "memory_length",
        "clamp_len": "distance_limit",
        "same_length": "even_reach",
        "untie_r": "block_biases",
        "dropatt": "attention_dropout",
        "init_std": "initializer_range",
        "layer_norm_epsilon": "norm_eps",
        "tie_word_embeddings": "tied",
    },
    defaults={
        "vocab_size": 267735,
        "cutoffs": (20000, 40000, 200000),
        "width": 1024,
        "embedding_width": 1024,
        "heads": 16,
        "head_size": 64,
        "ffn_width": 4096,
        "narrowing": 4,
        "layers": 18,
        "memory_length": 1600,
        "distance_limit": 1000,
        "even_reach": True,
        "activation": "relu",
        "input_positions": False,
        "ffn_dropout": None,
        "final_dropout": True,
        "classifier_dropout": 0.0,
        "norm_eps": 1e-5,
        "eos_token_id": 0,
        "pad_row": False,
        "causal": True,
        "final_norm": False,
        "embedding_norm": False,
        "embedding_scale": True,
        "attention_bias": False,
    },
    only={"attn_type": (0,), "sample_softmax": (-1, 0), "ext_len": (0,), "proj_share_all_but_first": (True,)},
    base_prefix="transformer.",
    keys=[
        rename("word_emb.emb_layers.{i}", "transformer.embeddings.tokens.tables.{i}"),
        rename("word_emb.emb_projs.{i}", "transformer.embeddings.tokens.projections.{i}.weight"),
        rename("layers.{i}.dec_attn.qkv_net", "transformer.blocks.{i}.qkv"),
        rename("layers.{i}.dec_attn.r_net", "transformer.blocks.{i}.recurrent.distance"),
        stack(
            [f"layers.{{i}}.dec_attn.{name}" for name in BIASES],
            "transformer.blocks.{i}.recurrent.biases.weight",
            where="block_biases",
        ),
        stack(BIASES, "transformer.blocks.0.recurrent.biases.weight"),
        rename("layers.{i}.dec_attn.o_net", "transformer.blocks.{i}.out"),
        rename("layers.{i}.dec_attn.layer_norm", "transformer.blocks.{i}.attention_norm"),
        rename("layers.{i}.pos_ff.CoreNet.0", "transformer.blocks.{i}.up"),
        rename("layers.{i}.pos_ff.CoreNet.3", "transformer.blocks.{i}.down"),
        rename("layers.{i}.pos_ff.layer_norm", "transformer.blocks.{i}.ffn_norm"),
    ],
    heads={
        "base": BASE,
        "causal-lm": vocabulary(
            rename("crit.out_layers", "head.adaptive.outputs"),
            rename("crit.cluster_weight", "head.adaptive.others.weight"),
            rename("crit.cluster_bias", "head.adaptive.others.bias"),
            rename("crit.out_projs.{i}", "head.adaptive.projections.{i}.weight", transposed=True),
        ),
        "sequence-classification": gpt2.SCORE,
    },
    copies={copy.format(i=i): name.format(i=i) for copy, name in COPIES.items() for i in range(64)},
    suffixes=gpt2.FAMILY.suffixes,
    dropped=(r"(.+\.)?pos_emb\.inv_freq",),
)
