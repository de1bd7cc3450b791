"""Text to token ids and back: reading tokenizer files, calling a tokenizer, and what a call returns."""

from unpad.text.encoding import BatchEncoding, CharSpan, TokenSpan
from unpad.text.tokenizer import AutoTokenizer, Tokenizer, TruncationReport

__all__ = ["AutoTokenizer", "BatchEncoding", "CharSpan", "TokenSpan", "Tokenizer", "TruncationReport"]
