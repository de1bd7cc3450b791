"""mBART (Liu et al., 2020, arXiv:2001.08210): BART with norms before attention and feed-forward, for many languages.

Its decoder is trained to read first the last token of what it is to write, the code of the language.
"""

from unpad.families import bart
from unpad.families._family import Family

FAMILY = Family(
    model_type="mbart",
    prefix="MBart",
    fields={**bart.FIELDS, "classifier_dropout": "classifier_dropout"},
    defaults={**bart.DEFAULTS, "pre_norm": True, "target_wraps": True},
    only=bart.ONLY,
    base_prefix="model.",
    keys=bart.stacks(bart.POSITIONS, bart.NORM, ("layer_norm", "final_norm")),
    heads=bart.HEADS,
    copies=bart.COPIES,
    dropped=bart.DROPPED,
)
