"""DeBERTa v2 and v3 (He et al., 2021, arXiv:2006.03654 and 2111.09543): disentangled attention over contents and relative positions."""

from unpad.families._family import Family, head, rename, stack

POOLER = rename("pooler.dense", "head.dense")
CLASSIFIER = rename("classifier", "head.classifier")
POOLED = {"drop_in": "pooler_dropout", "dense": True, "activation": "gelu"}

FAMILY = Family(
    model_type="deberta-v2",
    prefix="DebertaV2",
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "width",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "intermediate_size": "ffn_width",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "pooler_dropout": "pooler_dropout",
        "cls_dropout": "classifier_dropout",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "token_types",
        "initializer_range": "initializer_range",
        "layer_norm_eps": "norm_eps",
        "pad_token_id": "pad_token_id",
        "position_biased_input": "input_positions",
        "relative_attention": "relative_attention",
        "pos_att_type": "relative_scores",
        "share_att_key": "relative_shared",
        "max_relative_positions": "relative_reach",
        "position_buckets": "relative_buckets",
        "norm_rel_ebd": "relative_norm",
    },
    defaults={
        "vocab_size": 128100,
        "width": 1536,
        "layers": 24,
        "heads": 24,
        "ffn_width": 6144,
        "activation": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "classifier_dropout": None,
        "max_positions": 512,
        "token_types": 0,
        "initializer_range": 0.02,
        "norm_eps": 1e-7,
        "pad_token_id": 0,
        "relative_norm": "none",
    },
    only={
        "conv_kernel_size": (0,),
        "legacy": (True,),  # the other masked LM head has other weight names
        "pooler_hidden_act": ("gelu",),
        "tie_word_embeddings": (True,),
    },
    base_prefix="deberta.",
    keys=[
        rename("embeddings.word_embeddings", "transformer.embeddings.tokens"),
        rename("embeddings.position_embeddings", "transformer.embeddings.positions"),
        rename("embeddings.token_type_embeddings", "transformer.embeddings.types"),
        rename("embeddings.LayerNorm", "transformer.embeddings.norm"),
        rename("encoder.rel_embeddings", "transformer.relative.table"),
        rename("encoder.LayerNorm", "transformer.relative.norm"),
        stack(
            [f"encoder.layer.{{i}}.attention.self.{part}_proj" for part in ("query", "key", "value")],
            "transformer.blocks.{i}.qkv",
        ),
        rename("encoder.layer.{i}.attention.self.pos_key_proj", "transformer.blocks.{i}.disentangled.key"),
        rename("encoder.layer.{i}.attention.self.pos_query_proj", "transformer.blocks.{i}.disentangled.query"),
        rename("encoder.layer.{i}.attention.output.dense", "transformer.blocks.{i}.out"),
        rename("encoder.layer.{i}.attention.output.LayerNorm", "transformer.blocks.{i}.attention_norm"),
        rename("encoder.layer.{i}.intermediate.dense", "transformer.blocks.{i}.up"),
        rename("encoder.layer.{i}.output.dense", "transformer.blocks.{i}.down"),
        rename("encoder.layer.{i}.output.LayerNorm", "transformer.blocks.{i}.ffn_norm"),
    ],
    heads={
        "base": head([], drop=None, output=None),
        "sequence-classification": head([POOLER, CLASSIFIER], **POOLED),
        "token-classification": head([CLASSIFIER], reads="each", drop="dropout"),
        "question-answering": head([rename("qa_outputs", "head.classifier")], reads="each", drop=None, output=2),
        "multiple-choice": head([POOLER, CLASSIFIER], **POOLED, output=1),
        "masked-lm": head(
            [
                rename("cls.predictions.transform.dense", "head.dense"),
                rename("cls.predictions.transform.LayerNorm", "head.norm"),
                rename("cls.predictions.bias", "head.bias"),
            ],
            reads="each",
            dense=True,
            activation=None,
            norm=True,
            drop=None,
            output="vocabulary",
        ),
    },
    copies={
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
