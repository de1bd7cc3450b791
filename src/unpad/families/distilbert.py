"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): BERT's block, half as many, without segment embeddings and pooler."""

from unpad.families._family import BASE, CLASSIFIER, Family, head, rename, same, stack, words

CLASSIFIERS = [rename("pre_classifier", "head.dense"), CLASSIFIER]

FAMILY = Family(
    model_type="distilbert",
    prefix="DistilBert",
    fields={
        **same("vocab_size", "activation", "dropout", "attention_dropout", "initializer_range", "pad_token_id"),
        "dim": "width",
        "n_layers": "layers",
        "n_heads": "heads",
        "hidden_dim": "ffn_width",
        "seq_classif_dropout": "classifier_dropout",
        "qa_dropout": "span_dropout",
        "max_position_embeddings": "max_positions",
        "sinusoidal_pos_embds": "sinusoidal",
    },
    defaults={
        "vocab_size": 30522,
        "width": 768,
        "layers": 6,
        "heads": 12,
        "ffn_width": 3072,
        "attention_dropout": 0.1,
        "classifier_dropout": 0.2,
        "span_dropout": 0.1,
        "max_positions": 512,
        "norm_eps": 1e-12,
        "pad_token_id": 0,
    },
    only={"tie_word_embeddings": (True,)},
    base_prefix="distilbert.",
    keys=[
        rename("embeddings.word_embeddings", "transformer.embeddings.tokens"),
        rename("embeddings.position_embeddings", "transformer.embeddings.positions"),
        rename("embeddings.LayerNorm", "transformer.embeddings.norm"),
        stack([f"transformer.layer.{{i}}.attention.{part}_lin" for part in "qkv"], "transformer.blocks.{i}.qkv"),
        rename("transformer.layer.{i}.attention.out_lin", "transformer.blocks.{i}.out"),
        rename("transformer.layer.{i}.sa_layer_norm", "transformer.blocks.{i}.attention_norm"),
        rename("transformer.layer.{i}.ffn.lin1", "transformer.blocks.{i}.up"),
        rename("transformer.layer.{i}.ffn.lin2", "transformer.blocks.{i}.down"),
        rename("transformer.layer.{i}.output_layer_norm", "transformer.blocks.{i}.ffn_norm"),
    ],
    heads={
        "base": BASE,
        "sequence-classification": head(CLASSIFIERS, dense=True, activation="relu"),
        "token-classification": head([CLASSIFIER], reads="each", drop="dropout"),
        "question-answering": head(
            [rename("qa_outputs", "head.classifier")], reads="each", drop="span_dropout", output=2
        ),
        "multiple-choice": head(CLASSIFIERS, dense=True, activation="relu", output=1),
        "masked-lm": words("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    },
    copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)
