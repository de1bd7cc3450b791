"""mBART (Liu et al., 2020, arXiv:2001.08210): BART with norms before attention and feed-forward, for many languages.

Its decoder is trained to read first the last token of what it is to write, the code of the language.
"""

from dataclasses import replace

from unpad.families import bart

FAMILY = replace(
    bart.FAMILY,
    model_type="mbart",
    prefix="MBart",
    defaults={**bart.DEFAULTS, "pre_norm": True, "target_wraps": True},
    only=bart.ONLY,
    keys=bart.stacks(bart.POSITIONS, bart.NORM, ("layer_norm", "final_norm")),
)
