"""Getting models and data by name, and sending them: the client's side of a Hub, on `huggingface_hub`."""

from unpad.hub.account import get_full_repo_name, login, logout, notebook_login, whoami
from unpad.hub.pull import MODEL_FILES, PICKLE_FILES, resolve
from unpad.hub.push import Uploads, check_rights, push_folder

__all__ = [
    "MODEL_FILES",
    "PICKLE_FILES",
    "Uploads",
    "check_rights",
    "get_full_repo_name",
    "login",
    "logout",
    "notebook_login",
    "push_folder",
    "resolve",
    "whoami",
]
