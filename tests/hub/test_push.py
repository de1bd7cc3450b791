"""Sending to a Hub: a real server in a process of its own, and what people do with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubs import ROOT, Server, run_client

from unpad.errors import ArgumentError, HubError, UnpadError
from unpad.hub import account, push, repository
from unpad.hub.push import Uploads, check_rights, push_folder
from unpad.hub.repository import Repository


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, online: None) -> Iterator[Callable[..., Any]]:
    """Let this process speak to a server with a token (or none), with Xet on as people have it; gives its `HfApi`."""
    from huggingface_hub import HfApi, constants, hf_api

    def choose(server: Server | str, token: str = "") -> HfApi:
        url = server if isinstance(server, str) else server.url
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(hf_api.api, "endpoint", url)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        return HfApi()

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "home" / "stored_tokens"))
    yield choose


@pytest.fixture
def closed(serve: Callable[..., Server], tmp_path: Path) -> tuple[Server, dict[str, str]]:
    """A server that asks for tokens, and those of anna, who may write, and ben, who may read."""
    tokens = {}
    for name, scope in (("anna", "write"), ("ben", "read")):
        words = ["hub", "token", str(tmp_path / "hub"), "--name", name, "--scope", scope]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        tokens[name] = subprocess.check_output([sys.executable, "-m", "unpad.cli", *words], text=True, env=env).strip()
    return serve(), tokens


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds uploads until it is set, at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def files(folder: Path, **contents: bytes) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def titles(api: Any, repo_id: str) -> list[str]:
    return [commit.title for commit in api.list_repo_commits(repo_id)][::-1][1:]


def content(api: Any, repo_id: str, path: str, revision: str | None = None) -> bytes:
    from huggingface_hub import hf_hub_download

    found = hf_hub_download(repo_id, path, revision=revision, endpoint=api.endpoint)
    return Path(found).read_bytes()


# ---- folders


def test_a_model_and_its_tokenizer_pushed_by_unpad_load_in_transformers_and_unpad(hub: Server, tmp_path: Path) -> None:
    script = """
    import torch, transformers, unpad
    torch.manual_seed(0)
    open("vocab.txt", "w").write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]))
    config = unpad.BertConfig(vocab_size=15, hidden_size=192, num_hidden_layers=1, num_attention_heads=2, intermediate_size=1024)
    model = unpad.BertForSequenceClassification(config).eval()
    tokenizer = unpad.AutoTokenizer.from_pretrained("vocab.txt", tokenizer_class="BertTokenizer")
    made = model.push_to_hub("team/ours", commit_message="the model")
    tokenizer.save_pretrained("kept", push_to_hub=True, repo_id="team/ours")
    from huggingface_hub import HfApi
    assert HfApi().get_paths_info("team/ours", "model.safetensors")[0].lfs
    ids = tokenizer("a b c", return_tensors="pt")
    for library in (unpad, transformers):
        again = library.AutoModelForSequenceClassification.from_pretrained("team/ours").eval()
        encoded = library.AutoTokenizer.from_pretrained("team/ours")("a b c", return_tensors="pt")
        torch.testing.assert_close(again(**encoded).logits, model(**ids).logits, atol=1e-5, rtol=1e-5)
    model.save_pretrained("other", push_to_hub=True)
    assert {"config.json", "model.safetensors"} <= set(HfApi().list_repo_files("local/other"))
    print(made.repo_url.repo_id, [c.title for c in HfApi().list_repo_commits("team/ours")][:2])
    """
    assert run_client(hub, script, tmp_path).endswith("team/ours ['Upload tokenizer', 'the model']\n")


def test_a_folder_goes_as_one_commit_without_what_a_training_keeps_for_itself(
    hub: Server, at: Callable[..., Any], tmp_path: Path
) -> None:
    api = at(hub)
    folder = files(tmp_path / "run", **{"model.safetensors": os.urandom(2 << 20), "README.md": b"# hello"})
    files(
        folder, **{"checkpoint-5/model.safetensors": b"1", ".cache/x": b"1", "training_state.json": b"{}", ".lock": b""}
    )
    files(folder, **{"sub/deep/a.txt": b"a", "checkpoint-notes.txt": b"n", "big.bin": os.urandom(2 << 20)})
    made = push_folder(folder, "one", commit_message="first", commit_description="more")
    sent = ["README.md", "big.bin", "checkpoint-notes.txt", "model.safetensors", "sub/deep/a.txt"]
    assert api.list_repo_files("local/one") == sent
    assert titles(api, "local/one") == ["first"]
    assert made.repo_url.repo_id == "local/one" and made.oid == api.model_info("local/one").sha
    assert content(api, "local/one", "big.bin") == (folder / "big.bin").read_bytes()
    assert push_folder(folder, "one").oid == made.oid  # nothing has changed
    push_folder(folder, "one", ignore_patterns="*.bin", revision="dev", commit_message="all but bin")
    assert "checkpoint-5/model.safetensors" in api.list_repo_files("local/one", revision="dev")
    assert api.model_info("local/one").sha == made.oid
    push_folder(
        folder,
        "one",
        delete=["big.bin", "not-there", "README.md"],
        ignore_patterns=["big.bin", "check*", "*.lock", "t*"],
    )
    assert api.list_repo_files("local/one") == [name for name in sent if name != "big.bin"]


def test_what_was_public_is_not_taken_for_private(hub: Server, at: Callable[..., Any], tmp_path: Path) -> None:
    api, folder = at(hub), files(tmp_path / "run", a=b"1")
    push_folder(folder, "open")
    with pytest.raises(HubError, match="is public"):
        push_folder(folder, "open", private=True)
    push_folder(folder, "shut", private=True)
    push_folder(files(folder, a=b"2"), "shut", private=True)
    assert api.model_info("local/shut").private and titles(api, "local/shut") == ["Upload with unpad"] * 2


def test_a_conflict_with_another_commit_is_tried_again(
    hub: Server, at: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = at(hub)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    check_rights("both")
    before = api.model_info("local/both").sha
    push_folder(files(tmp_path / "run", a=b"1"), "both")
    real, refused = type(api).create_commit, []

    def late(self: Any, *given: Any, **options: Any) -> Any:
        if len(refused) < 2:
            refused.append(1)
            options["parent_commit"] = before  # the server refuses with 412
        return real(self, *given, **options)

    monkeypatch.setattr(type(api), "create_commit", late)
    push_folder(files(tmp_path / "run", a=b"2"), "both")
    assert content(api, "local/both", "a") == b"2" and len(refused) == 2
    refused.clear()
    monkeypatch.setattr(push, "_TRIES", 2)
    with pytest.raises(HubError, match=r"'local/both' failed: .*changed the repository at the same moment.*try again"):
        push_folder(files(tmp_path / "run", a=b"3"), "both")


def test_data_sets_are_sent_without_any_setting(hub: Server, tmp_path: Path) -> None:
    script = """
    import unpad
    data = unpad.Dataset.from_dict({"text": ["a", "b"] * 500, "label": [0, 1] * 500})
    both = unpad.DatasetDict({"train": data, "test": data.select(range(3))})
    data.push_to_hub("team/one-split")
    both.push_to_hub("team/two-splits")
    found = unpad.load_dataset("team/two-splits")
    print(unpad.load_dataset("team/one-split")["train"].to_list() == data.to_list(), {k: len(v) for k, v in found.items()})
    """
    assert run_client(hub, script, tmp_path).splitlines()[-1] == "True {'train': 1000, 'test': 3}"


# ---- what a Hub refuses, each in one line


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(UnpadError) as told:
        call()
    text = str(told.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_each_refusal_is_one_line_that_says_what_to_do(
    closed: tuple[Server, dict[str, str]], at: Callable[..., Any], tmp_path: Path
) -> None:
    server, tokens = closed
    folder = files(tmp_path / "run", a=b"1")
    empty = tmp_path / "empty"
    files(empty, **{"checkpoint-1/x": b"1"})

    at(server, tokens["anna"])
    push_folder(folder, "kept")
    assert check_rights("kept") == "anna/kept"
    for name in ("a/b/c", "", "-x", "a b", "team/na:me", "x" * 97):
        assert "is owner/name or name" in refused(lambda name=name: push_folder(folder, name)), name
    assert "does not exist" in refused(lambda: push_folder(tmp_path / "none", "x"))
    assert "is a file, not a folder" in refused(lambda: push_folder(folder / "a", "x"))
    assert "has no files to send" in refused(lambda: push_folder(empty, "x"))
    assert "model, dataset or space" in refused(lambda: push_folder(folder, "x", repo_type="models"))
    bad = files(tmp_path / "bad", **{"README.md": b"---\nlicense: [\n---\n"})
    assert "README.md" in refused(lambda: push_folder(bad, "kept"))

    for send in (
        lambda: push_folder(folder, "anna/kept"),
        lambda: check_rights("anna/kept"),
        lambda: check_rights("new"),
    ):
        at(server, tokens["ben"])
        assert "the token of ben may only read; make one with write rights" in refused(send)
        at(server)
        assert "no token was given; run: unpad login, or set HF_TOKEN" in refused(send)
        at(server, "hf_" + "0" * 40)
        assert "does not know this token" in refused(send)
    at(server)
    assert (
        push_folder(folder, "kept", token=tokens["anna"]).oid
        == push_folder(folder, "kept", use_auth_token=tokens["anna"]).oid
    )
    server.kill()
    assert f"{server.url} cannot be reached; check the network" in refused(lambda: push_folder(folder, "x"))
    assert "cannot be reached" in refused(lambda: account.whoami())


def test_offline_mode_sends_nothing(
    hub: Server, at: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    at(hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = files(tmp_path / "run", a=b"1")
    for call in (lambda: push_folder(folder, "x"), lambda: check_rights("x"), lambda: account.whoami()):
        assert "offline mode is on; unset HF_HUB_OFFLINE" in refused(call)
    assert "offline" in refused(lambda: Repository(tmp_path / "clone", "local/x"))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "no rights under 'team'; use an id under anna, lab, or another token"),
        (404, "has no such repository or revision"),
        (409, "try again"),
        (413, "refuses with status 413 (the reason)"),
        (429, "wait some minutes"),
        (500, "failed with status 500 (the reason); try again later"),
        (503, "failed with status 503"),
    ],
)
def test_statuses_of_other_hubs(at: Callable[..., Any], status: int, said: str, tmp_path: Path) -> None:
    with fake_hub(status) as url:
        at(url, "hf_x")
        if status in (409, 500, 503):
            with pytest.raises(HubError) as told, account.refusals("sending failed", "team/x"):
                from huggingface_hub.utils import get_session, hf_raise_for_status

                hf_raise_for_status(get_session().post(f"{url}/api/repos/create"))
            assert said in str(told.value)
        else:
            assert said in refused(lambda: push_folder(files(tmp_path, a=b"1"), "team/x"))


class fake_hub:  # noqa: N801
    """A server that knows anna, of the organization lab, and refuses all else with one status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __enter__(self) -> str:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self, status: int = self.status) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                found: dict[str, Any] = {"error": "the reason"}
                if self.path.endswith("whoami-v2"):
                    status = 200
                    token = {"role": "fineGrained", "displayName": "laptop"}
                    found = {"name": "anna", "orgs": [{"name": "lab"}], "auth": {"accessToken": token}}
                body = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


# ---- in the background


def test_uploads_are_what_the_folder_was_when_it_was_put(
    hub: Server, at: Callable[..., Any], tmp_path: Path, gate: threading.Event
) -> None:
    api, folder = at(hub), tmp_path / "run"
    real = push.push_folder
    uploads = Uploads("local/shots", send=lambda *given, **options: gate.wait() and real(*given, **options))
    for number in range(3):
        weights = folder / ".new"
        files(folder, **{"a.txt": b"%d" % number, f"only-{number}": b"x", ".new": b"%d" % number * (2 << 20)})
        weights.replace(folder / "model.safetensors")
        uploads.put(folder, f"number {number}", keep_only_newest=False)
        (folder / f"only-{number}").unlink()
    (folder / "a.txt").write_bytes(b"changed since")
    (folder / "model.safetensors").unlink()
    assert not uploads.done
    gate.set()
    last = uploads.wait()
    assert uploads.done and last is not None and last.oid == api.model_info("local/shots").sha
    assert titles(api, "local/shots") == ["number 0", "number 1", "number 2"]
    for number, commit in enumerate(api.list_repo_commits("local/shots")[::-1][1:]):
        there = api.list_repo_files("local/shots", revision=commit.commit_id)
        assert there == ["a.txt", "model.safetensors", *(f"only-{n}" for n in range(number + 1))]
        assert content(api, "local/shots", "a.txt", commit.commit_id) == b"%d" % number
        assert content(api, "local/shots", "model.safetensors", commit.commit_id) == b"%d" % number * (2 << 20)
    assert not list(tmp_path.glob(".unpad-upload-*"))


def test_one_that_waits_gives_way_to_a_newer_one(
    hub: Server, at: Callable[..., Any], tmp_path: Path, gate: threading.Event
) -> None:
    api, folder, running = at(hub), tmp_path / "run", threading.Event()

    def send(*given: Any, **options: Any) -> Any:
        running.set()
        gate.wait()
        return push_folder(*given, **options)

    uploads = Uploads("local/newest", send=send)
    commands = [uploads.put(files(folder, a=b"0"), "0")]
    running.wait()
    commands += [uploads.put(files(folder, a=b"%d" % n), str(n)) for n in (1, 2, 3)]
    assert [c.replaced for c in commands] == [False, True, True, False]
    gate.set()
    uploads.wait()
    assert titles(api, "local/newest") == ["0", "3"] and content(api, "local/newest", "a") == b"3"
    assert [c.status for c in commands] == [0, 0, 0, 0] and uploads.done


def test_a_failure_in_the_background_is_said_and_the_next_one_goes_on(
    closed: tuple[Server, dict[str, str]], at: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, tokens = closed
    api = at(server, tokens["anna"])
    check_rights("kept")
    uploads, folder = Uploads("anna/kept", tokens["anna"]), files(tmp_path / "run", a=b"1")
    port = server.port
    server.kill()
    caplog.set_level("INFO", "unpad")
    for _ in range(2):
        failed = uploads.put(folder)
        failed.ended.wait()
    assert failed.failed and failed.status == 1
    with pytest.raises(HubError, match="cannot be reached"):
        uploads.wait()
    said = [record.message for record in caplog.records if "cannot be reached" in record.message]
    assert len(said) == 1 and "'anna/kept'" in said[0] and "\n" not in said[0]
    server.start(port)
    uploads.put(folder, "at last")
    assert uploads.wait() is not None and titles(api, "anna/kept") == ["at last"]
    with pytest.raises(HubError, match="does not exist"):
        uploads.put(tmp_path / "none")


def test_weights_that_are_overwritten_in_place_are_not_sent_half(
    hub: Server, at: Callable[..., Any], tmp_path: Path, gate: threading.Event
) -> None:
    api, running = at(hub), threading.Event()
    folder = files(tmp_path / "run", **{"model.safetensors": b"old" * 1000})

    def send(*given: Any, **options: Any) -> Any:
        running.set()
        gate.wait()
        return push_folder(*given, **options)

    uploads = Uploads("local/place", send=send)
    commands = [uploads.put(folder, "first")]
    running.wait()
    commands.append(uploads.put(folder, "second"))
    (folder / "model.safetensors").write_bytes(b"new" * 1001)
    gate.set()
    with pytest.raises(HubError, match="written to in place"):
        uploads.wait()
    assert [command.failed for command in commands] == [True, True]
    assert "second" not in titles(api, "local/place")


def test_a_process_that_ends_sends_what_was_put(hub: Server, tmp_path: Path) -> None:
    script = """
    import os, unpad
    from unpad.hub import Uploads
    uploads = Uploads("team/late")
    os.mkdir("run")
    for number in range(3):
        for name in ("a.bin", "b.bin"):  # two large files: sent by a pool of threads
            open(f"run/{name}", "wb").write(name.encode() * 300000 + bytes([number]))
        uploads.put("run", f"late {number}", keep_only_newest=False)
    raise SystemExit(0)
    """
    run_client(hub, script, tmp_path, HF_HUB_DISABLE_PROGRESS_BARS="1")
    from huggingface_hub import HfApi, constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        assert titles(HfApi(endpoint=hub.url), "team/late") == ["late 0", "late 1", "late 2"]
    assert not list(tmp_path.glob(".unpad-upload-*"))


def test_ctrl_c_leaves_a_process_that_waits_for_its_uploads(hub: Server, tmp_path: Path) -> None:
    script = """
    import os, threading, time, signal
    from unpad.hub import Uploads
    def never(*given, **options):
        threading.Event().wait()
    os.mkdir("run"); open("run/a", "w").write("a")
    Uploads("team/never", send=never).put("run")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    """
    run_client(hub, script, tmp_path, UNPAD_QUIET="0")


# ---- Repository


def test_three_pushes_in_the_background_are_three_commits(hub: Server, at: Callable[..., Any], tmp_path: Path) -> None:
    api = at(hub)
    repo = Repository(tmp_path / "clone", clone_from=account.get_full_repo_name("thrice"))
    for number in range(3):
        files(tmp_path / "clone", **{"weights.bin": os.urandom(2 << 20), "step.txt": b"%d" % number})
        address, command = repo.push_to_hub(commit_message=f"epoch {number}", blocking=False)
        assert address == f"{hub.url}/local/thrice" and command in [*repo.commands_in_progress, command]
    repo.wait_for_commands()
    assert command.is_done and command.status == 0 and not repo.commands_in_progress
    assert titles(api, "local/thrice") == ["epoch 0", "epoch 1", "epoch 2"]
    assert repo.git_head_hash() == command.commit.oid == api.model_info("local/thrice").sha
    assert content(api, "local/thrice", "weights.bin") == (tmp_path / "clone" / "weights.bin").read_bytes()


def test_a_clone_follows_and_sends_what_was_added_changed_and_deleted(
    hub: Server, at: Callable[..., Any], tmp_path: Path
) -> None:
    api = at(hub)
    push_folder(files(tmp_path / "run", **{"a": b"1", "sub/b": b"2", "c.bin": os.urandom(2 << 20)}), "followed")
    repo = Repository(tmp_path / "clone", "followed", git_user="x", git_email="y")
    assert repo.push_to_hub() == f"{hub.url}/local/followed/commit/{repo.git_head_hash()}"
    assert titles(api, "local/followed") == ["Upload with unpad"]
    (tmp_path / "clone" / "a").unlink()
    files(tmp_path / "clone", **{"sub/b": b"22", "new": b"3", "checkpoint-1/x": b"not sent"})
    assert repo.push_to_hub("change") == f"{hub.url}/local/followed/commit/{api.model_info('local/followed').sha}"
    assert api.list_repo_files("local/followed") == ["c.bin", "new", "sub/b"]
    # another clone, and one that is opened again
    other = Repository(tmp_path / "other", clone_from=f"{hub.url}/local/followed")
    files(tmp_path / "other", new=b"33", theirs=b"4")
    (tmp_path / "other" / "c.bin").unlink()
    other.push_to_hub("theirs")
    files(tmp_path / "clone", mine=b"5")
    repo = Repository(tmp_path / "clone", clone_from="local/followed")
    here = {p.relative_to(tmp_path / "clone").as_posix() for p in push.files_of(tmp_path / "clone").values()}
    assert here == {"mine", "new", "sub/b", "theirs"} and (tmp_path / "clone" / "new").read_bytes() == b"33"
    repo.push_to_hub("mine")
    assert api.list_repo_files("local/followed") == ["mine", "new", "sub/b", "theirs"]
    assert Repository(tmp_path / "clone").repo_id == "local/followed"


def test_changes_of_others_are_kept_and_a_conflict_touches_nothing(
    hub: Server, at: Callable[..., Any], tmp_path: Path
) -> None:
    api = at(hub)
    mine, theirs = (Repository(tmp_path / name, "local/shared") for name in ("mine", "theirs"))
    files(tmp_path / "theirs", card=b"theirs", other=b"1")
    theirs.push_to_hub("theirs")
    files(tmp_path / "mine", model=b"mine")
    mine.push_to_hub("beside it")  # nobody changed the same file
    assert api.list_repo_files("local/shared") == ["card", "model", "other"]
    files(tmp_path / "mine", card=b"mine")
    for call in (
        mine.git_pull,
        lambda: mine.push_to_hub("over it"),
        lambda: Repository(tmp_path / "mine", "local/shared"),
    ):
        assert "card; move these files away" in refused(call)
    assert (tmp_path / "mine" / "card").read_bytes() == b"mine" and not (tmp_path / "mine" / "other").exists()
    assert content(api, "local/shared", "card") == b"theirs"
    (tmp_path / "mine" / "card").rename(tmp_path / "card")
    mine.git_pull()
    assert (tmp_path / "mine" / "card").read_bytes() == b"theirs" and (tmp_path / "mine" / "other").exists()


@pytest.mark.parametrize("path", ["card", "other"])
def test_a_commit_that_comes_in_between_is_not_overwritten(
    hub: Server, at: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    api, name = at(hub), f"local/between-{path}"
    repo = Repository(tmp_path / "clone", name)
    files(tmp_path / "clone", card=b"ours")
    real = repository.commit

    def late(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(repository, "commit", real)
        api.upload_file(path_or_fileobj=b"theirs", path_in_repo=path, repo_id=name)
        return real(*given, **options)

    monkeypatch.setattr(repository, "commit", late)
    if path == "card":
        assert "changed by somebody else, too, in card" in refused(repo.push_to_hub)
    else:
        repo.push_to_hub()
        assert content(api, name, "card") == b"ours"
    assert content(api, name, path) == b"theirs"


def test_a_folder_that_holds_something_else_is_not_cloned_into(
    hub: Server, at: Callable[..., Any], tmp_path: Path
) -> None:
    at(hub)
    push_folder(files(tmp_path / "run", a=b"remote"), "there")
    folder = files(tmp_path / "full", a=b"local")
    assert "is not empty and no clone of 'local/there'" in refused(lambda: Repository(folder, "local/there"))
    assert (folder / "a").read_bytes() == b"local"
    assert "is not empty and no clone" in refused(lambda: Repository(folder / "a", "local/there"))
    with pytest.raises(ArgumentError, match="clone_from="):
        Repository(tmp_path / "empty")
    Repository(tmp_path / "clone", "local/there")
    assert "repo_id 'local/there', not 'local/else'" in refused(lambda: Repository(tmp_path / "clone", "local/else"))
    assert "revision 'main', not 'dev'" in refused(lambda: Repository(tmp_path / "clone", "there", revision="dev"))


def test_a_clone_that_was_interrupted_goes_on(
    hub: Server, at: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(hub)
    push_folder(files(tmp_path / "run", a=b"1", b=b"2"), "broken")
    with monkeypatch.context() as patch:
        real = Repository._fetch
        patch.setattr(Repository, "_fetch", lambda self, names, head: (real(self, names[:1], head), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            Repository(tmp_path / "clone", "broken")
    Repository(tmp_path / "clone", "broken")
    assert (tmp_path / "clone" / "b").read_bytes() == b"2"


def test_a_branch_is_cloned_and_followed(hub: Server, at: Callable[..., Any], tmp_path: Path) -> None:
    api = at(hub)
    push_folder(files(tmp_path / "run", a=b"1"), "branched", repo_type="dataset")
    repo = Repository(tmp_path / "clone", "branched", repo_type="dataset", revision="dev")
    files(tmp_path / "clone", a=b"2")
    address = repo.push_to_hub("on dev")
    assert isinstance(address, str) and address.startswith(f"{hub.url}/datasets/local/branched/commit/")
    info = api.dataset_info
    assert info("local/branched").sha != info("local/branched", revision="dev").sha == repo.git_head_hash()


def test_a_repository_cannot_lead_out_of_its_folder(
    hub: Server, at: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.hf_api import HfApi, RepoFile

    at(hub)
    evil = RepoFile(path="../outside", size=1, oid="0" * 40)
    monkeypatch.setattr(HfApi, "list_repo_tree", lambda *given, **options: [evil])
    assert "outside of its folder" in refused(lambda: Repository(tmp_path / "clone", "local/evil"))


# ---- accounts


def test_login_checks_the_token_and_keeps_it(
    closed: tuple[Server, dict[str, str]], at: Callable[..., Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    import io

    from unpad.cli.__main__ import main

    server, tokens = closed
    at(server)
    assert main(["login", "--token", "hf_wrong"]) == 2
    assert "does not know this token" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(tokens["ben"] + "\n"))
    assert main(["login"]) == 0
    told = capsys.readouterr()
    assert "ben at" in told.out and "may read\n" in told.out and tokens["ben"] not in told.out + told.err
    assert account.get_full_repo_name("x") == "ben/x"
    monkeypatch.setattr("sys.stdin", io.StringIO(tokens["anna"] + "\n"))
    assert main(["login"]) == 0
    assert "read and write" in (told := capsys.readouterr().out) and "unpad push FOLDER anna/NAME" in told
    assert account.get_full_repo_name("x") == "anna/x" and account.get_full_repo_name("x", "team") == "team/x"
    assert account.get_full_repo_name("x", token=tokens["ben"]) == "ben/x"
    account.notebook_login()  # who is logged in is not asked again
    account.logout()
    assert "no token was given" in refused(lambda: account.get_full_repo_name("x"))
    for nothing in ("", "  ", "a b", "a\nb"):
        with pytest.raises(ArgumentError, match="this is no token"):
            account.login(nothing)


def test_the_command_sends_a_folder_and_says_how_to_load_it(
    hub: Server, at: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unpad.checkpoint.card import CardFacts, model_card
    from unpad.cli.__main__ import main

    api = at(hub)
    config = json.dumps({"model_type": "bert", "architectures": ["BertForTokenClassification"]}).encode()
    folder = str(files(tmp_path / "run", **{"config.json": config}))
    assert main(["push", folder, "cli", "--private", "--message", "by hand", "--revision=dev"]) == 0
    said = capsys.readouterr().out
    assert f"{hub.url}/local/cli/commit/{api.model_info('local/cli', revision='dev').sha}" in said
    assert "unpad.AutoModelForTokenClassification.from_pretrained(\"local/cli\", revision='dev')" in said
    assert (
        api.model_info("local/cli").private and api.list_repo_commits("local/cli", revision="dev")[0].title == "by hand"
    )
    (tmp_path / "run" / "README.md").write_text(model_card(CardFacts("run", "run", head="sequence-classification")))
    assert main(["push", folder, "cli"]) == 0
    assert 'model="local/cli"' in Path(api.hf_hub_download("local/cli", "README.md")).read_text()
    assert main(["push", "--type", "dataset", folder, "rows"]) == 0
    assert 'unpad.load_dataset("local/rows")' in capsys.readouterr().out
    for words, wrong in (
        (["push"], "FOLDER is missing"), (["push", folder], "ID is missing"), (["push", folder, "x", "y"], "'y' is one word"),
        (["push", folder, "x", "--type", "models"], "did you mean 'model'"), (["push", str(tmp_path / "no"), "x"], "does not exist"),
    ):  # fmt: skip
        assert main(words) == 2
        assert wrong in capsys.readouterr().err


def test_xet_is_left_alone_at_hugging_face_and_switched_back_elsewhere(at: Callable[..., Any], hub: Server) -> None:
    from huggingface_hub import constants

    for address, off in {hub.url: True, "https://huggingface.co": False, "https://hf.co.evil.org": True}.items():
        at(address)
        with push.plain_uploads(), push.plain_uploads():
            assert constants.HF_HUB_DISABLE_XET is off
        assert constants.HF_HUB_DISABLE_XET is False
