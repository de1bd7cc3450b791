"""A Hub in a folder: models and data sets with revisions, over the protocol that `huggingface_hub` speaks."""
