"""Getting models and data by name, and sending them: the client's side of a Hub, on `huggingface_hub`."""

from unpad.hub.pull import MODEL_FILES, PICKLE_FILES, resolve

__all__ = ["MODEL_FILES", "PICKLE_FILES", "resolve"]
