"""What a browser sees of a Hub: the list of what it holds, and for each repository its card, its files and a form to try the model out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

from unpad.serve import views

MOST_ROWS = 1000
"""Repositories or files that a page lists."""
_FORMS: dict[str, list[tuple[str, str]]] = {
    "text-classification": [("inputs", "Write a text here."), ("text_pair", "")],
    "question-answering": [("question", "Who wrote it?"), ("context", "The text that holds the answer.")],
    "zero-shot-classification": [
        ("inputs", "The cable broke after a week."),
        ("candidate_labels", "returns, praise, question"),
    ],
    "fill-mask": [("inputs", "This is a great [MASK].")],
}
"""Task -> the fields of its form and what stands in them at first; other tasks have one field."""
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
  if (given.text_pair) body.inputs = {text: given.inputs, text_pair: given.text_pair};
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
    models: Sequence[tuple[str, Mapping[str, Any]]], datasets: Sequence[tuple[str, Mapping[str, Any]]]
) -> Response:
    """The page of all repositories, (id, card) each."""
    parts = ["<h1>This Hub</h1>"]
    for heading, start, found in (("Models", "/", models), ("Data sets", "/datasets/", datasets)):
        rows = [(f"{start}{quote(name)}", name, _tag(card.get("pipeline_tag"))) for name, card in found]
        parts.append(f"<h2>{heading}</h2>" + (_table(rows) if rows else "<p>None yet.</p>"))
    return page("Hub", "".join(parts))


def repository(
    kind: str, name: str, card: dict[str, Any], text: str, files: Mapping[str, int], commit: str | None = None
) -> Response:
    """The page of a repository, or of one commit of it: `text` is its README without the metadata, `files` are paths and bytes."""
    start = f"{'/datasets/' if kind == 'dataset' else '/'}{quote(name)}"
    task = views.task(card)
    parts = [f'<p><a href="/">Hub</a></p><h1>{escape(name)}</h1><p>{_tag(card.get("pipeline_tag"))}</p>']
    tried = kind == "model" and "config.json" in files and task != "multiple-choice" and commit is None
    if commit is not None:
        parts.append(f'<p>At the commit {commit}; <a href="{start}">the newest one</a>.</p>')
    if tried:
        fields = _FORMS.get(str(task), [("inputs", "Write a text here.")])
        boxes = "".join(
            f'<label for="{field}">{field.replace("_", " ")}</label><textarea id="{field}" name="{field}" rows="2">{escape(example)}</textarea>'
            for field, example in fields
        )
        parts.append(
            f'<h2>Try it</h2><form action="/models/{quote(name)}">{boxes}<button>Compute</button></form><output>The answer comes here.</output>'
        )
    parts.append(f"<h2>Use it</h2><pre>{escape(_snippet(kind, name, task, files, commit))}</pre>")
    if text.strip():
        more = "\n...\nThe rest is in README.md." if files.get("README.md", 0) > views.LONGEST_CARD else ""
        parts.append(f"<h2>Card</h2><pre>{escape(text.strip())}{more}</pre>")
    rows = [(f"{start}/resolve/{commit or 'main'}/{quote(path)}", path, _bytes(size)) for path, size in files.items()]
    parts.append(f"<h2>Files</h2>{_table(rows)}")
    return page(name, "".join(parts), _SCRIPT if tried else "")


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Addresses and names of links, each with HTML that stands beside it."""
    lines = [
        f'<tr><td><a href="{to}">{escape(name)}</a></td><td>{beside}</td></tr>' for to, name, beside in rows[:MOST_ROWS]
    ]
    more = len(rows) - MOST_ROWS
    return f"<table>{''.join(lines)}</table>" + (f"<p>And {more:,} more.</p>" if more > 0 else "")


def _snippet(kind: str, name: str, task: str | None, files: Mapping[str, int], commit: str | None) -> str:
    given = json.dumps(name) + (f", revision={json.dumps(commit)}" if commit else "")
    if kind == "dataset":
        return f"from unpad import load_dataset\n\ndata = load_dataset({given})"
    if "config.json" not in files:
        return f"from huggingface_hub import snapshot_download\n\nfolder = snapshot_download({given})"
    what = f"{json.dumps(task)}, " if task else ""
    return f"from unpad import pipeline\n\nanswer = pipeline({what}model={given})"


def _tag(task: Any) -> str:
    return f'<span class="tag">{escape(str(task)[:60])}</span>' if task else ""


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
