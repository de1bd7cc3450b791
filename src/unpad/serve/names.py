"""Names that come from outside (repositories, revisions, paths of files), checked before anything is done with them."""

from __future__ import annotations

import re
import unicodedata

from unpad.serve.refusals import Refused

_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_])?")
_WINDOWS = re.compile(r"[A-Za-z]:|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.I)  # drives and devices
OID = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SHARED = "local"
"""Owner of what an open server's clients create, and of repositories that everybody may name without an owner."""
ACTIONS = (
    "auth-check", "branch", "commit", "commits", "paths-info", "preupload", "refs", "resolve", "revision", "settings",
    "super-squash", "tag", "tree", "xet-write-token",
)  # fmt: skip
"""What may follow a repository in an address, and so cannot be the name of one: `glue/tree/main` is the tree of `glue`."""
_PLACES = ("api", "datasets", "lfs", "models", "spaces", "xet")
_LONGEST_PATH = 1024  # bytes of UTF-8
_LONGEST_NAME = 240  # bytes; file systems take 255, and clients add endings such as ".incomplete"


def is_name(text: object) -> bool:
    """Whether `text` can be an owner, the name of a repository or of a token."""
    return (
        isinstance(text, str)
        and bool(_SEGMENT.fullmatch(text))
        and ".." not in text
        and "--" not in text
        and not text.endswith(".git")
    )


def repo_name(owner: object, name: object) -> str:
    """`owner/name`; Refused with 400 when it is no id."""
    if not is_name(owner) or not is_name(name):
        raise Refused(
            400, f"{owner!r:.100}/{name!r:.100} is no repository id: owner/name of letters, digits, '-', '_' and '.'"
        )
    if str(name).lower() in ACTIONS or str(owner).lower() in _PLACES:
        raise Refused(400, f"{owner}/{name}: a part of the server's addresses is called so; choose another name")
    return f"{owner}/{name}"


def ref_name(text: object) -> str:
    """The name of a branch or a tag; Refused with 400 when it is none, or could be taken for a commit."""
    good = isinstance(text, str) and _REVISION.fullmatch(text) and not OID.fullmatch(text)
    if not good or any(part in ("", ".", "..") or part.endswith(".lock") for part in str(text).split("/")):
        raise Refused(400, f"{text!r:.100} cannot be the name of a branch or a tag")
    return str(text)


def file_path(text: object) -> str:
    """A file's path inside a repository; Refused with 400 for what could lead a client or a server out of its
    folder."""
    if not isinstance(text, str):
        raise Refused(400, f"a path is text, not {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refused(400, f"the path {text!r:.100} is not valid Unicode") from None
    # also as a file system would see it that takes letters for others, such as one "‥" for two dots
    parts = [part for form in (text, unicodedata.normalize("NFKC", text)) for part in form.split("/")]
    wrong = (
        size > _LONGEST_PATH
        or any(part in ("", ".", "..") or len(part.encode()) > _LONGEST_NAME for part in parts)
        or any(part.lower() == ".git" or _WINDOWS.match(part) or "\\" in part for part in parts)
        or not text.isprintable()
    )
    if wrong:
        raise Refused(400, f"{text!r:.100} is no path of a file in a repository (relative, without '..', '\\', '.git')")
    return text
