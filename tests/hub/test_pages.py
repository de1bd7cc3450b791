"""A Hub in the browser: pages that run nothing but our own lines, and models that can be tried out."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hubs import Server, ask, commit, make, run_client
from starlette.concurrency import run_in_threadpool

from unpad.errors import CheckpointError
from unpad.generate.settings import GenerationConfig
from unpad.serve import inference, pages
from unpad.serve.inference import MOST_WAITING, Inference
from unpad.serve.refusals import Refused
from unpad.serve.server import open_store
from unpad.serve.store import Change, Entry, Repo, Store


def test_a_client_of_the_inference_api_gets_what_the_pipeline_gives(hub: Server, tmp_path: Path) -> None:
    script = """
    import json, os
    from huggingface_hub import HfApi, InferenceClient
    from pathlib import Path
    import torch
    folder = Path("model")
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\\n".join(vocabulary))
    shape = {"vocab_size": 15, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    unpad.BertForSequenceClassification(unpad.BertConfig(**shape, **labels)).save_pretrained(folder)
    unpad.AutoTokenizer.from_pretrained(folder / "vocab.txt").save_pretrained(folder)
    HfApi().create_repo("team/tried")
    HfApi().upload_folder(repo_id="team/tried", folder_path=folder)
    client = InferenceClient(model=os.environ["HF_ENDPOINT"] + "/models/team/tried")
    theirs = [(found.label, found.score) for found in client.text_classification("a b c")]
    ours = [(found["label"], found["score"]) for found in unpad.pipeline("text-classification", model=folder)("a b c", top_k=None)]
    assert theirs == ours and len(ours) == 2, (theirs, ours)
    (folder / "README.md").write_text("---\\npipeline_tag: zero-shot-classification\\n---\\n")
    labels = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
    unpad.BertForSequenceClassification(unpad.BertConfig(**shape, **labels)).save_pretrained(folder)
    HfApi().upload_folder(repo_id="team/tried", folder_path=folder)
    theirs = [(found.label, found.score) for found in client.zero_shot_classification("a b", ["c", "d e"])]
    ours = unpad.pipeline("zero-shot-classification", model=folder)("a b", ["c", "d e"])
    assert theirs == list(zip(ours["labels"], ours["scores"])), (theirs, ours)
    print("same")
    """
    assert run_client(hub, "    import unpad\n" + script, tmp_path, HF_HUB_DISABLE_XET="1").endswith("same\n")


def test_nothing_that_a_repository_holds_runs_in_a_browser(hub: Server) -> None:
    make(hub, "page")
    card = b"---\nlicense: mit\n---\n# Mine\n<script>alert(1)</script><img src=x onerror=alert(2)>"
    assert commit(hub, "page", {"README.md": card, "<b>.txt": b"x"})[0] == 200
    status, headers, body = ask(hub, "GET", "/team/page")
    text = body.decode()
    assert status == 200 and "text/html" in headers["content-type"]
    assert "<script>alert" not in text and "<img" not in text and "<b>.txt" not in text
    assert "&lt;script&gt;alert(1)" in text and "license" not in text
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert b"/team/page" in ask(hub, "GET", "/")[2]
    assert ask(hub, "GET", "/team/nowhere")[0] == 404


def test_models_answer_programs_and_their_own_page_alone(hub: Server) -> None:
    make(hub, "asked", **{"config.json": b"{}"})
    body: dict[str, object] = {"inputs": "a text"}
    assert ask(hub, "POST", "/models/team/asked", body, Origin="http://elsewhere.example")[0] == 403
    for origin in ({}, {"Origin": hub.url}):
        status, _, answer = ask(hub, "POST", "/models/team/asked", body, **origin)
        assert status == 400 and "\n" not in json.loads(answer)["error"], answer
    assert ask(hub, "POST", "/models/team/asked", {"inputs": "a" * 200_000})[0] == 413
    status, _, answer = ask(hub, "POST", "/models/team/asked", {"inputs": "a", "parameters": {"precision": "fp64"}})
    assert status == 400 and "precision" in json.loads(answer)["error"]


def test_a_page_shows_what_a_repository_can_be_used_for(hub: Server) -> None:
    card = b"---\npipeline_tag: text-classification\n---\n"
    first = make(hub, "shown", **{"README.md": card})
    head = make(hub, "shown", **{"config.json": b"{}", "odd/#1?.txt": b"inside"})
    newest, old = (ask(hub, "GET", f"/team/shown{end}")[2].decode() for end in ("", f"/commit/{first}"))
    assert "<form" in newest and "text_pair" in newest and "pipeline(" in newest
    assert "<form" not in old and "config.json" not in old and first in old and "snapshot_download" in old
    same = ask(hub, "GET", "/team/shown/commit/main")[2].decode()
    assert "<form" not in same and same.count(head) > 2  # a form would ask the newest commit
    assert "/team/shown/resolve/main/odd/%231%3F.txt" in newest
    assert ask(hub, "GET", "/team/shown/commit/nowhere")[0] == 404


def test_cards_of_other_tools_do_not_break_a_page(hub: Server) -> None:
    make(hub, "foreign", **{"config.json": b"{}"})
    for tag in ("[text-classification, fill-mask]", "{a: 1}", "3", "image-classification", "<b>"):
        assert commit(hub, "foreign", {"README.md": f"---\npipeline_tag: {tag}\n---\nx".encode()})[0] == 200
        status, _, body = ask(hub, "GET", "/team/foreign")
        assert status == 200 and b"pipeline(model=" in body and b"<b>" not in body
        assert ask(hub, "POST", "/models/team/foreign", {"inputs": "a"})[0] == 400
    assert commit(hub, "foreign", {"README.md": b"---\n---\n" + b"x" * (300 << 10)})[0] == 200
    assert b"The rest is in README.md." in ask(hub, "GET", "/team/foreign")[2]


def test_a_page_lists_no_more_than_a_browser_can_show() -> None:
    files = {f"{i}.txt": 1 for i in range(pages.MOST_ROWS + 7)}
    assert bytes(pages.repository("model", "a/b", {}, "", files).body).endswith(b"<p>And 7 more.</p></body></html>")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"[]", 400, "not a JSON object"),
        (b"{", 400, "not valid JSON"),
        (b'{"inputs": "a", "parameters": [1]}', 400, "parameters must be a JSON object"),
        (b'{"inputs": "a", "parameters": {"generate_parameters": 3}}', 400, "generate_parameters"),
        (b'{"inputs": "a", "parameters": {"generate_parameters": {"num_beams": 9}}}', 400, "num_beams=9"),
        (b'{"inputs": "a", "normalize": true}', 400, "normalize"),
        (b'{"inputs": "\\ud800"}', 400, "Unicode"),
        (b'{"inputs": ' + b"[" * 800 + b"]" * 800 + b"}", 400, "config.json"),
        (json.dumps({"inputs": ["a"] * 300}).encode(), 413, "200 texts"),
        (json.dumps({"inputs": "a", "parameters": {"candidate_labels": ["a" * 1000] * 150}}).encode(), 413, "100000"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(hub: Server, body: bytes, status: int, told: str) -> None:
    make(hub, "empty", **{"vocab.txt": b""})
    got, _, answer = ask(hub, "POST", "/models/team/empty", body)
    assert got == status and told in json.loads(answer)["error"], answer


# ---- many models, many requests; the pipelines are stand-ins


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield open_store(tmp_path / "hub")


def put(store: Store, name: str, text: str) -> tuple[Repo, str]:
    """A repository whose file `config.json` is `text`, new or not, and its newest commit."""
    repo = store.find("model", name) or store.create("model", name, False, "anna")
    entry = Entry(store.contents.add(text.encode()), len(text), "0" * 40, False)
    return repo, store.commit(repo, "main", [Change("add", "config.json", entry)], "files", "", "anna", None)


class Opened:
    """Opens pipelines that answer with the text of their `config.json`, and remembers the folders."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.go = threading.Event()
        self.go.set()
        self.at_once = self.most_at_once = 0

    def __call__(self, task: str | None, model: str) -> Any:
        self.folders.append(Path(model))
        text = (Path(model) / "config.json").read_text()
        if text == "broken":
            raise CheckpointError(f"{model}/config.json is damaged; copy it again")
        if text == "huge":
            raise RuntimeError("you tried to allocate 4503599627370496 bytes")
        return Stated(self, text)


class Stated:
    """A pipeline that says what it was told; its model asks for `settings`."""

    task = None
    settings: GenerationConfig | None = None

    def __init__(self, opened: Opened, text: str) -> None:
        self.opened, self.text = opened, text
        self.model = SimpleNamespace(
            generation_config=self.settings, config=SimpleNamespace(extra={}, task_settings={})
        )

    def __call__(self, inputs: Any, **options: Any) -> Any:
        self.opened.at_once += 1
        self.opened.most_at_once = max(self.opened.most_at_once, self.opened.at_once)
        assert self.opened.go.wait(20)
        self.opened.at_once -= 1
        return float("nan") if self.text == "nan" else self.text


def test_the_answer_is_that_of_the_newest_commit_and_nothing_stays_on_the_disk(store: Store) -> None:
    opened = Opened()
    asked = Inference(store, opened, most=2)

    def answer(repo: Repo, oid: str) -> Any:
        return json.loads(bytes(asyncio.run(asked.answer(repo, oid, {"inputs": "a"}, None)).body))

    for _ in range(2):
        assert answer(*put(store, "team/a", "one")) == "one"
        assert answer(*put(store, "team/a", "two")) == "two"
    b, c = put(store, "team/b", "b"), put(store, "team/c", "c")
    assert [answer(*b), answer(*c), answer(*b)] == ["b", "c", "b"]
    assert len(opened.folders) == 6 and len(asked._loaded) == 2
    assert not any(folder.exists() for folder in opened.folders)
    with pytest.raises(
        Refused, match=r"^team/c/config\.json is damaged"
    ) as refused:  # no word of folders of the server
        answer(*put(store, "team/c", "broken"))
    assert refused.value.status == 400 and not opened.folders[-1].exists()
    with pytest.raises(Refused, match="team/c cannot be opened here"):
        answer(*put(store, "team/c", "huge"))
    with pytest.raises(Refused, match="not finite"):
        answer(*put(store, "team/c", "nan"))


def test_the_files_of_a_model_ask_for_no_more_than_a_request_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place, asked = put(store, "team/greedy", "said"), {"inputs": "a"}
    for wrong in ({"num_beams": 10**6}, {"num_return_sequences": 10**6}):
        monkeypatch.setattr(Stated, "settings", GenerationConfig(**wrong))
        with pytest.raises(Refused, match="team/greedy asks for num_"):
            asyncio.run(Inference(store, Opened()).answer(*place, asked, None))
    settings = GenerationConfig(max_length=10**9, num_beams=4)
    monkeypatch.setattr(Stated, "settings", settings)
    asyncio.run(Inference(store, Opened()).answer(*place, asked, None))
    assert (settings.max_length, settings.num_beams) == (512, 4)


def test_a_slow_model_leaves_the_rest_of_the_server_its_threads(store: Store) -> None:
    opened = Opened()
    asked, place = Inference(store, opened), put(store, "team/slow", "slow")
    opened.go.clear()

    async def crowd() -> list[Any]:
        asking = [asyncio.create_task(asked.answer(*place, {"inputs": "a"}, None)) for _ in range(100)]
        try:
            for _ in range(50):  # more than there are threads
                assert await asyncio.wait_for(run_in_threadpool(lambda: 1), 10) == 1
            while sum(task.done() for task in asking) < 99 - MOST_WAITING:
                await asyncio.sleep(0.01)
        finally:
            opened.go.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    found = asyncio.run(asyncio.wait_for(crowd(), 30))
    refused = [one for one in found if isinstance(one, Refused)]
    assert len(refused) == 99 - MOST_WAITING and {one.status for one in refused} == {503}
    assert {bytes(one.body) for one in found if one not in refused} == {b'"slow"'}
    assert opened.most_at_once == 1 and len(opened.folders) == 1


def test_clients_parameters_reach_the_pipeline_under_its_names() -> None:
    asked = {"inputs": "a", "stream": False, "options": {"use_cache": False}, "top_k": 3}
    asked["parameters"] = {"stop": ["."], "top_p": None, "generate_parameters": {"num_beams": 2}}
    options = {"stop_strings": ["."], "num_beams": 2, "top_k": 3}
    assert inference._question(asked) == ("a", options)
