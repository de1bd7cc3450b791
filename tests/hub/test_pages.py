"""A Hub in the browser: pages that run nothing but our own lines, and models that can be tried out."""

from __future__ import annotations

import json
from pathlib import Path

from hubs import Server, ask, commit, make, run_client


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
