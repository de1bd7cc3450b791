"""Beam search over 1,000 sentences here and in CTranslate2, the figure to approach on CPUs: same weights, same tokens, 4 beams.

    python benchmarks/generation.py translation quality --side unpad --data FOLDER --keep RUN      train the model
    python benchmarks/ctranslate2_side.py --data FOLDER --model RUN

Needs `pip install --no-deps ctranslate2 pyyaml` beside `transformers`, which CTranslate2 reads the checkpoint with.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import transformers as reading
from generation import job, written
from sides import interleaved, row, table

import unpad


class _AnyPad(reading.MarianMTLoader):
    """Marian checkpoints whose padding token is not the last one, and starts the decoder with an embedding of its own."""

    set_decoder = reading.BartLoader.set_decoder
    get_vocabulary = reading.BartLoader.get_vocabulary

    def _remove_pad_weights(self, spec: Any) -> None:
        pass

    def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
        super().set_config(config, model, tokenizer)
        config.decoder_start_token = tokenizer.pad_token


def converted(model: Path, folder: str) -> str:
    """The checkpoint in CTranslate2's format."""
    reading._MODEL_LOADERS["MarianConfig"] = _AnyPad()
    return str(reading.TransformersConverter(str(model)).convert(folder, force=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with multi30k/ (parquet)")
    parser.add_argument("--model", type=Path, required=True, help="a Marian checkpoint that generation.py kept")
    parser.add_argument("--segments", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = job("translation", options.data, Path(folder) / "first", options.model)
        ours = unpad.AutoModelForSeq2SeqLM.from_pretrained(options.model).eval()
        pieces = [work.tokenizer.convert_ids_to_tokens(ids) for ids in work.data["test"]["input_ids"]]
        path, texts, rows = converted(options.model, f"{folder}/converted"), {}, []
        for kind in ("float32", "int8"):
            theirs = ctranslate2.Translator(path, device="cpu", intra_threads=2, inter_threads=1, compute_type=kind)

            def segment(side: str, theirs: Any = theirs) -> float:
                started = time.perf_counter()
                if side == "unpad":
                    texts[side] = written(work, ours, side, "test", 4)
                else:
                    found = theirs.translate_batch(
                        pieces, beam_size=4, max_decoding_length=64, max_batch_size=1024, batch_type="tokens"
                    )
                    texts[side] = work.tokenizer.batch_decode(
                        [work.tokenizer.convert_tokens_to_ids(f.hypotheses[0]) for f in found], skip_special_tokens=True
                    )
                return time.perf_counter() - started

            name = f"{len(pieces)} sentences, 4 beams, s (last column: CTranslate2 {kind} / unpad fp32)"
            rows.append(row(name, interleaved(segment, options.segments)))
            print(
                f"{kind}: {np.mean([a == b for a, b in zip(*texts.values(), strict=True)]):.1%} of the texts are the same"
            )
    table(rows)


if __name__ == "__main__":
    main()
