"""Who sends: tokens and names, and one line for everything that a Hub refuses."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from unpad.errors import ArgumentError, HubError, UnpadError, listing
from unpad.notices import say

Token = str | bool | None
"""A token; None or True for the one of HF_TOKEN or of `login`; False for none."""

_NO_TOKEN = "no token was given; run: unpad login, or set HF_TOKEN"
_UNREACHABLE = ("ConnectionError", "TransportError", "TimeoutError")
"""Classes of errors, of several libraries, that mean that nobody answered."""


def whoami(token: Token = None) -> dict[str, Any]:
    """What the Hub knows about the owner of a token: `name`, `orgs`, `auth`. Raises HubError."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    with refusals("who you are cannot be asked", token=token):
        # not HfApi.whoami: an open Hub answers those without a token, too
        answer = get_session().get(f"{constants.ENDPOINT}/api/whoami-v2", headers=build_hf_headers(token=token))
        hf_raise_for_status(answer)
        found: dict[str, Any] = answer.json()
    return found


def get_full_repo_name(
    model_id: str, organization: str | None = None, token: Token = None, *, use_auth_token: Token = None
) -> str:
    """`owner/model_id`; the owner is `organization`, or the owner of the token. Raises HubError."""
    if organization is None:
        organization = whoami(use_auth_token if token is None else token)["name"]
    return f"{organization}/{model_id}"


def login(token: str | None = None, *, force: bool = False, **_: Any) -> dict[str, Any]:
    """Check a token with the Hub and keep it for this and later processes; returns what `whoami` does.

    Without `token`: who is logged in already stays so, unless `force`; else it is asked for, unseen. Raises HubError for a token
    that the Hub does not know, ArgumentError for none.
    """
    from huggingface_hub import get_token
    from huggingface_hub import login as keep

    if token is None and not force and (found := _already()) is not None:
        say(f"already logged in as {found['name']}" if get_token() else "this Hub needs no token")
        return found
    token = _asked() if token is None else token
    if not isinstance(token, str) or not (token := token.strip()) or not token.isprintable() or " " in token:
        raise ArgumentError("login: this is no token; copy one from the page of access tokens of the Hub")
    found = whoami(token)
    with refusals("the token cannot be kept", token=token):
        keep(token=token, skip_if_logged_in=False)
    return found


def notebook_login(**_: Any) -> None:
    """`login()` in a notebook: a code to enter at huggingface.co, a field for the token with any other Hub."""
    from huggingface_hub import constants
    from huggingface_hub import notebook_login as show
    from huggingface_hub.utils import is_notebook

    if is_notebook() and is_hugging_face(constants.ENDPOINT) and _already() is None:
        with refusals("the login cannot be shown"):
            show(skip_if_logged_in=False)
    else:
        login()


def _already() -> dict[str, Any] | None:
    """Who is logged in, None for nobody."""
    try:
        return whoami()
    except HubError as error:
        if status_of(error) == 401:
            return None
        raise


def logout() -> None:
    """Forget the tokens that `login` kept on this machine. Raises HubError."""
    from huggingface_hub import logout as forget

    with refusals("the tokens cannot be removed"):
        forget()


def _asked() -> str:
    """The token from a terminal, without showing it, or the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from huggingface_hub import constants

    end = constants.ENDPOINT
    where = f"from {end}/settings/tokens" if is_hugging_face(end) else f"for {end}"
    return getpass.getpass(f"Token {where} (it is not shown): ")


def writable(found: dict[str, Any]) -> list[str]:
    """The names under which the owner of a token may have repositories."""
    return [str(found.get("name")), *(str(o.get("name")) for o in found.get("orgs") or [] if isinstance(o, dict))]


def role(found: dict[str, Any]) -> str:
    """What the token may, in the Hub's word: read, write, fineGrained; empty where it does not say."""
    token = (found.get("auth") or {}).get("accessToken") or {}
    return str(token.get("role") or "")


@contextmanager
def refusals(doing: str, repo_id: str = "", token: Token = None) -> Iterator[None]:
    """Turn whatever `huggingface_hub` raises inside into a HubError of one line, "`doing`: reason; what next"."""
    try:
        yield
    except UnpadError:
        raise
    except Exception as error:
        if not (isinstance(error, (OSError, ValueError, RuntimeError, LookupError)) or _causes(error, _UNREACHABLE)):
            raise
        raise HubError(f"{doing}: {reason(error, repo_id, token)}") from error


def reason(error: BaseException, repo_id: str = "", token: Token = None) -> str:
    """Why, and what to do next, in one line."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    end = constants.ENDPOINT
    if _causes(error, ("OfflineModeIsEnabled",)):
        return "offline mode is on; unset HF_HUB_OFFLINE to send"
    if isinstance(error, HFValidationError):
        return "an id is owner/name or name, of letters, digits, '-', '_' and '.'; check the spelling"
    if isinstance(error, LocalTokenNotFoundError):
        return _NO_TOKEN
    if isinstance(error, (json.JSONDecodeError, LookupError)):
        return f"{end} does not answer as a Hub does; check HF_ENDPOINT"
    if isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError):  # found before anything was sent
        return one_line(str(error))
    answered = next((e for e in chain(error) if isinstance(e, HfHubHTTPError)), None)
    if answered is None:
        if _causes(error, _UNREACHABLE):
            return f"{end} cannot be reached; check the network (and HF_ENDPOINT), then try again"
        return one_line(str(error) or type(error).__name__)
    status = answered.response.status_code
    said = one_line(answered.server_message or str(answered))
    if status == 401:
        unknown = f"{end} does not know this token; make one there, and run: unpad login"
        return unknown if _sent(token) else _NO_TOKEN
    if status == 403:
        return _forbidden(repo_id, token, said)
    if status == 404:
        return f"{end} has no such repository or revision for this token ({said}); check the id"
    if status in (409, 412):
        return f"somebody else changed the repository at the same moment ({said}); try again"
    if status == 429:
        return f"{end} asks to send less often ({said}); wait some minutes, then try again"
    if status >= 500:
        return f"{end} failed with status {status} ({said}); try again later"
    return f"{end} refuses with status {status} ({said})"


def _forbidden(repo_id: str, token: Token, said: str) -> str:
    try:
        found = whoami(token)
    except UnpadError:
        return f"this token may not do that ({said}); use one with write rights"
    if role(found) == "read":
        return f"the token of {found.get('name')} may only read; make one with write rights, and run: unpad login"
    owner = repo_id.rpartition("/")[0]
    if owner and owner not in writable(found):
        return f"the token has no rights under {owner!r}; use an id under {listing(writable(found))}, or another token"
    return f"the token of {found.get('name')} may not do that ({said}); use one with write rights"


def status_of(error: BaseException) -> int:
    """The status with which the Hub refused; 0 when it did not answer."""
    found = (getattr(getattr(e, "response", None), "status_code", 0) for e in chain(error))
    return next((status for status in found if status), 0)


def _sent(token: Token) -> bool:
    """Whether a request carries a token."""
    from huggingface_hub import get_token

    return bool(get_token() if token is None or token is True else token)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _causes(error: BaseException, names: tuple[str, ...]) -> bool:
    """Whether the error, or one that led to it, is of a class with one of these names."""
    return any(kind.__name__ in names for e in chain(error) for kind in type(e).__mro__)


def one_line(text: str, most: int = 300) -> str:
    """The text without breaks of lines, and cut after `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def is_hugging_face(endpoint: str) -> bool:
    """Whether an endpoint is that of Hugging Face, whose Hub has more than others: Xet storage, a login page."""
    host = urlsplit(endpoint).hostname or ""
    return any(host == known or host.endswith("." + known) for known in ("huggingface.co", "hf.co"))
