"""What a browser sees of a Hub: the list of what it holds, and for each repository its card, its files and a form to try the model out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

_FORMS: dict[str, list[tuple[str, str]]] = {
    "question-answering": [("question", "Who wrote it?"), ("context", "The text that holds the answer.")],
    "zero-shot-classification": [
        ("inputs", "The cable broke after a week."),
        ("candidate_labels", "returns, praise, question"),
    ],
    "fill-mask": [("inputs", "This is a great [MASK].")],
}
"""Task -> the fields of its form and what stands in them at first; other tasks have one field."""
_UNTRIED = ("multiple-choice", None)
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}
pre,output{display:block;white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f5;padding:.8rem;border-radius:.4rem}
label{display:block;margin:.6rem 0 .2rem}textarea{width:100%;box-sizing:border-box;font:inherit;padding:.5rem}
button{margin:.8rem 0;font:inherit;padding:.4rem 1.2rem}table{border-collapse:collapse}td{padding:.15rem 1.2rem .15rem 0}
.tag{background:#e8eefc;border-radius:.6rem;padding:.1rem .6rem;font-size:.9rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre,output{background:#262626}a{color:#8ab4f8}.tag{background:#2b3a55}
textarea,button{background:#262626;color:#ddd;border:1px solid #555}}
"""
_SCRIPT = """
const form = document.querySelector("form"), out = document.querySelector("output");
form.addEventListener("submit", async event => {
  event.preventDefault();
  out.textContent = "…";
  const given = Object.fromEntries(new FormData(form)), body = {inputs: given.inputs, parameters: {}};
  if ("question" in given) body.inputs = given;
  if ("candidate_labels" in given) body.parameters.candidate_labels = given.candidate_labels.split(",").map(s => s.trim());
  try {
    const answer = await fetch(form.action, {method: "POST", body: JSON.stringify(body)});
    const found = await answer.json();
    out.textContent = found.error ?? JSON.stringify(found, null, 2);
  } catch (error) { out.textContent = String(error); }
});
"""


def page(title: str, body: str, script: str = "") -> Response:
    """A whole page, with headers that let nothing run in it but our own lines."""
    nonce = secrets.token_urlsafe(16)
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    code = f'<script nonce="{nonce}">{script}</script>' if script else ""
    text = f'<!doctype html><html lang="en"><head>{head}<style nonce="{nonce}">{_STYLE}</style></head><body>{body}{code}</body></html>'
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, headers=headers)


def home(
    models: Iterable[tuple[str, Mapping[str, Any]]], datasets: Iterable[tuple[str, Mapping[str, Any]]]
) -> Response:
    """The page of all repositories, (id, card) each."""
    parts = ["<h1>This Hub</h1>"]
    for heading, start, found in (("Models", "/", list(models)), ("Data sets", "/datasets/", list(datasets))):
        rows = "".join(
            f'<tr><td><a href="{start}{quote(name)}">{escape(name)}</a></td><td>{_tag(card.get("pipeline_tag"))}</td></tr>'
            for name, card in found
        )
        parts.append(f"<h2>{heading}</h2>" + (f"<table>{rows}</table>" if rows else "<p>None yet.</p>"))
    return page("Hub", "".join(parts))


def repository(kind: str, name: str, card: Mapping[str, Any], text: str, files: Iterable[tuple[str, int]]) -> Response:
    """The page of a repository: `text` is its README without the metadata, `files` are paths and bytes."""
    start = "/datasets/" if kind == "dataset" else "/"
    task = card.get("pipeline_tag")
    parts = [f'<p><a href="/">Hub</a></p><h1>{escape(name)}</h1><p>{_tag(task)}</p>']
    tried = kind == "model" and task not in _UNTRIED
    if tried:
        fields = _FORMS.get(str(task), [("inputs", "Write a text here.")])
        boxes = "".join(
            f'<label for="{field}">{field.replace("_", " ")}</label><textarea id="{field}" name="{field}" rows="2">{escape(example)}</textarea>'
            for field, example in fields
        )
        parts.append(
            f'<h2>Try it</h2><form action="/models/{quote(name)}">{boxes}<button>Compute</button></form><output>The answer comes here.</output>'
        )
    parts.append(f"<h2>Use it</h2><pre>{escape(_snippet(kind, name, task))}</pre>")
    if text.strip():
        parts.append(f"<h2>Card</h2><pre>{escape(text.strip())}</pre>")
    rows = "".join(
        f'<tr><td><a href="{start}{quote(name)}/resolve/main/{quote(path)}">{escape(path)}</a></td><td>{_bytes(size)}</td></tr>'
        for path, size in files
    )
    parts.append(f"<h2>Files</h2><table>{rows}</table>")
    return page(name, "".join(parts), _SCRIPT if tried else "")


def _snippet(kind: str, name: str, task: str | None) -> str:
    if kind == "dataset":
        return f"from unpad import load_dataset\n\ndata = load_dataset({json.dumps(name)})"
    what = f"{json.dumps(task)}, " if task else ""
    return f"from unpad import pipeline\n\nanswer = pipeline({what}model={json.dumps(name)})"


def _tag(task: Any) -> str:
    return f'<span class="tag">{escape(str(task))}</span>' if task else ""


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
