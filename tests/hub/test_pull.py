"""Models, tokenizers, settings and data sets by id: what is fetched, from where, and what is said when it cannot be had."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hubs import Server, run_client

import unpad
from unpad.errors import ArgumentError, CheckpointError, UnpadError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]


@pytest.fixture
def use(online: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Let `huggingface_hub` in this process talk to an address; gives its API."""
    from huggingface_hub import HfApi, constants

    def point(url: str) -> Any:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        return HfApi(endpoint=url)

    return point


def tiny(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = unpad.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return unpad.AutoModelForSequenceClassification.from_config(config)


def saved(folder: Path, seed: int = 0) -> Path:
    """A model and its tokenizer in a folder."""
    tiny(seed).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


def weight(model: Any) -> float:
    return float(next(model.parameters()).detach().sum())


def fetched(name: str) -> set[str]:
    """Files of a model in the cache."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots")
    return {file.relative_to(folder).as_posix() for folder in place.iterdir() for file in folder.rglob("*.*")}


def line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 500, text
    return text


# ---- models


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Server, use: Any, tmp_path: Path) -> None:
    api = use(hub.url)
    api.create_repo("team/revisions")
    sums, commits = [], []
    for seed in (1, 2):
        folder = saved(tmp_path / str(seed), seed)
        commits.append(api.upload_folder(repo_id="team/revisions", folder_path=folder).oid)
        sums.append(weight(unpad.AutoModelForSequenceClassification.from_pretrained(folder)))
        if seed == 1:
            api.create_tag("team/revisions", tag="v1")
            api.create_branch("team/revisions", branch="try/this")
    assert sums[0] != sums[1]
    for revision, expected in ((None, 1), ("main", 1), ("v1", 0), ("try/this", 0), (commits[0], 0), (commits[1], 1)):
        model = unpad.AutoModelForSequenceClassification.from_pretrained("team/revisions", revision=revision)
        assert weight(model) == sums[expected], revision
    with pytest.raises(CheckpointError) as error:
        unpad.AutoTokenizer.from_pretrained("team/revisions", revision="try/that")
    assert "no revision 'try/that' of it; did you mean 'try/this'?; there are: main, try/this, v1" in line(error)


def test_only_the_files_that_are_read_are_fetched(hub: Server, use: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    api = use(hub.url)
    folder = saved(tmp_path / "whole")
    weights = load_file(folder / "model.safetensors")
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "onnx/model.onnx",
        "adapter_model.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not for us")
    api.create_repo("team/whole")
    api.upload_folder(repo_id="team/whole", folder_path=folder)
    unpad.AutoConfig.from_pretrained("team/whole")
    assert fetched("team/whole") == {"config.json"}
    whole = unpad.AutoModelForSequenceClassification.from_pretrained("team/whole")
    assert fetched("team/whole") == {"config.json", "model.safetensors"}

    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"first.safetensors": names[::2], "second.safetensors": names[1::2], "third.safetensors": []}
    for part, inside in parts.items():
        save_file({name: weights[name] for name in inside}, folder / part)
    index = {name: part for part, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    api.create_repo("team/parts")
    api.upload_folder(repo_id="team/parts", folder_path=folder)
    shards = unpad.AutoModelForSequenceClassification.from_pretrained("team/parts")
    assert weight(shards) == weight(whole)
    found = fetched("team/parts")
    assert found == {"config.json", "model.safetensors.index.json", "first.safetensors", "second.safetensors"}

    api.create_repo("team/pickle")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    for file in (folder / "config.json", tmp_path / "pytorch_model.bin"):
        api.upload_file(repo_id="team/pickle", path_or_fileobj=file, path_in_repo=file.name)
    assert weight(unpad.AutoModelForSequenceClassification.from_pretrained("team/pickle")) == weight(whole)
    assert fetched("team/pickle") == {"config.json", "pytorch_model.bin"}


def test_a_subfolder_an_id_without_an_owner_and_generation_settings(hub: Server, use: Any, tmp_path: Path) -> None:
    api = use(hub.url)
    folder = saved(tmp_path / "saved")
    unpad.GenerationConfig(max_new_tokens=7).save_pretrained(folder)
    api.create_repo("local/plain")
    api.upload_folder(repo_id="local/plain", folder_path=folder, path_in_repo="inner/one")
    for name in ("local/plain", "plain"):
        model = unpad.AutoModelForSequenceClassification.from_pretrained(name, subfolder="inner/one")
        assert weight(model) == weight(unpad.AutoModelForSequenceClassification.from_pretrained(folder))
        assert unpad.AutoTokenizer.from_pretrained(name, subfolder="inner/one")("a b")["input_ids"] == [2, 5, 6, 3]
    read = unpad.GenerationConfig.from_pretrained("plain", subfolder="inner/one", num_beams=2)
    assert (read.max_new_tokens, read.num_beams) == (7, 2)
    local = unpad.AutoModelForSequenceClassification.from_pretrained(tmp_path, subfolder="saved")
    assert weight(local) == weight(model)
    for load in (unpad.AutoModel, unpad.AutoTokenizer, unpad.AutoConfig):
        with pytest.raises(CheckpointError) as error:
            load.from_pretrained("plain", subfolder="other")
        assert "'other'" in line(error) and "inner/one" in line(error)
    with pytest.raises(CheckpointError, match="no subfolder 'other'"):
        unpad.AutoModel.from_pretrained(tmp_path, subfolder="other")


def test_a_generating_model_by_id_has_the_settings_beside_it(hub: Server, use: Any, tmp_path: Path) -> None:
    api = use(hub.url)
    config = unpad.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1
    )
    unpad.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt")
    unpad.GenerationConfig(max_new_tokens=3, num_beams=2).save_pretrained(tmp_path / "gpt")
    api.create_repo("team/gpt")
    api.upload_folder(repo_id="team/gpt", folder_path=tmp_path / "gpt")
    model = unpad.AutoModelForCausalLM.from_pretrained("team/gpt")
    assert (model.generation_config.max_new_tokens, model.generation_config.num_beams) == (3, 2)


def test_a_damaged_file_in_the_cache_is_fetched_anew_with_force_download(hub: Server, use: Any, tmp_path: Path) -> None:
    from huggingface_hub import constants

    api = use(hub.url)
    api.create_repo("team/forced")
    api.upload_folder(repo_id="team/forced", folder_path=saved(tmp_path / "saved"))
    before = weight(unpad.AutoModelForSequenceClassification.from_pretrained("team/forced"))
    blob = next(Path(constants.HF_HUB_CACHE, "models--team--forced").glob("snapshots/*/model.safetensors")).resolve()
    blob.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="damaged"):
        unpad.AutoModelForSequenceClassification.from_pretrained("team/forced")
    again = unpad.AutoModelForSequenceClassification.from_pretrained("team/forced", force_download=True)
    assert weight(again) == before
    with pytest.raises(CheckpointError, match="offline mode"):
        unpad.AutoModel.from_pretrained("team/forced", force_download=True, local_files_only=True)


def test_what_lacks_files_says_what_it_has_instead(hub: Server, use: Any, tmp_path: Path) -> None:
    api = use(hub.url)
    config = (saved(tmp_path / "saved") / "config.json").read_bytes()
    cases = {
        "gguf": (["model.Q4.gguf", "config.json"], "model.Q4.gguf (GGUF)", "convert"),
        "keras": (["tf_model.h5", "config.json"], "tf_model.h5 (TensorFlow)", "convert"),
        "jax": (["flax_model.msgpack", "config.json"], "flax_model.msgpack (Flax)", "convert"),
        "lora": (["adapter_model.safetensors", "config.json"], "an adapter of PEFT", "model.safetensors"),
        "deeper": (["config.json", "float16/model.safetensors"], "no weights", "subfolder='float16'"),
        "nothing": (["config.json"], "no weights", "another model"),
        "files": (["readme.md", "run.sh"], "no config.json", "it has readme.md, run.sh"),
    }  # fmt: skip
    for name, (files, *said) in cases.items():
        api.create_repo(f"team/{name}")
        for file in files:
            data = config if file == "config.json" else b"data"
            api.upload_file(repo_id=f"team/{name}", path_or_fileobj=data, path_in_repo=file)
        with pytest.raises(CheckpointError) as error:
            unpad.AutoModel.from_pretrained(f"team/{name}")
        assert all(part in line(error) for part in said), (name, line(error))
    with pytest.raises(CheckpointError) as error:
        unpad.AutoTokenizer.from_pretrained("team/nothing")
    assert "tokenizer.json" in line(error) and "it has config.json" in line(error)
    with pytest.raises(CheckpointError) as error:
        unpad.GenerationConfig.from_pretrained("team/nothing")
    assert "no generation_config.json" in line(error)


# ---- tokens


def test_a_closed_hub_gives_its_files_to_those_with_a_token_by_any_spelling(
    serve: Callable[..., Server], use: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from unpad.cli.__main__ import main

    assert main(["hub", "token", str(tmp_path / "hub"), "--name", "anna", "--scope", "write"]) == 0
    token = capsys.readouterr().out.strip()
    server = serve()
    use(server.url)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=server.url, token=token)
    api.create_repo("anna/kept", private=True)
    api.upload_folder(repo_id="anna/kept", folder_path=saved(tmp_path / "saved"))
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("anna/kept")
    assert "does not exist, or it is private" in line(error) and "`unpad login`, or set HF_TOKEN" in line(error)
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("anna/kept", token="hf_" + "0" * 40)
    assert "does not accept the token (401" in line(error) and "hf_0" not in line(error)
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("anna/kept", token=True)
    assert "this machine, which has none" in line(error)

    answer = unpad.pipeline("text-classification", "anna/kept", revision="main", use_auth_token=token)("a b c")
    assert answer[0]["label"].startswith("LABEL_")
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("anna/keep", token=token)
    assert "to the owner of this token" in line(error) and "did you mean 'anna/kept'" in line(error)
    for options in ({"token": token + "\n"}, {"use_auth_token": token}):
        assert unpad.AutoTokenizer.from_pretrained("anna/kept", force_download=True, **options)("a")["input_ids"] == [
            2,
            5,
            3,
        ]
        assert unpad.AutoConfig.from_pretrained("anna/kept", force_download=True, **options).hidden_size == 16
    monkeypatch.setenv("HF_TOKEN", token)
    for given in (True, None):
        assert unpad.AutoConfig.from_pretrained("anna/kept", force_download=True, token=given).hidden_size == 16
    with pytest.raises(CheckpointError):
        unpad.AutoConfig.from_pretrained("anna/kept", force_download=True, token=False)
    for wrong in ({"token": 3}, {"token": " "}, {"revision": 3}, {"token": token, "use_auth_token": token}):
        with pytest.raises(ArgumentError):
            unpad.AutoConfig.from_pretrained("anna/kept", **wrong)
        with pytest.raises(ArgumentError):
            unpad.load_dataset("anna/data", **wrong)


def test_another_tokenizer_is_not_asked_for_the_models_revision(hub: Server, use: Any, tmp_path: Path) -> None:
    api = use(hub.url)
    for name in ("team/left", "team/right"):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=saved(tmp_path / name))
    api.create_tag("team/left", tag="v1")
    made = unpad.pipeline("text-classification", "team/left", "team/right", model_kwargs={"revision": "v1"})
    assert made.tokenizer.name_or_path == "team/right"


# ---- what is said


class _Refusing(BaseHTTPRequestHandler):
    """Answers every request as the name of the repository says."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str]]]] = {}

    def do_GET(self) -> None:
        name = next((name for name in self.answers if f"/{name}" in self.path), "")
        status, headers = self.answers.get(name, (404, {"X-Error-Code": "RepoNotFound"}))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": "2"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"{}")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """Address of a Hub that has nothing but refusals."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


REFUSALS: dict[str, tuple[int, dict[str, str], str | None, tuple[str, ...]]] = {
    "hidden": (401, {}, None, ("does not exist, or it is private", "login")),
    "missing": (404, {"X-Error-Code": "RepoNotFound"}, "hf_x", ("does not exist, or it is private to others", "spelling")),
    "stale": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "hf_x", ("not accept the token", "token=False")),
    "gate": (401, {"X-Error-Code": "GatedRepo"}, None, ("let in (gated)", "/team/gate", "login")),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, "hf_x", ("not to the owner of this token", "/team/gated")),
    "off": (403, {"X-Error-Message": "Access to this resource is disabled."}, None, ("has disabled it",)),
    "barred": (403, {"X-Error-Message": "no rights"}, "hf_x", ("forbids it to this token", "no rights")),
    "busy": (429, {"RateLimit": '"api";r=0;t=77'}, None, ("answers no more requests", "sign in for a higher limit")),
    "broken": (503, {"X-Error-Message": "maintenance"}, None, ("fails (503: maintenance", "not in the cache")),
    "odd": (418, {}, None, ("refuses it (418",)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_is_one_line_with_the_reason_and_a_way_on(name: str, refusing: str, use: Any) -> None:
    use(refusing)
    status, headers, token, said = REFUSALS[name]
    _Refusing.answers[f"team/{name}"] = (status, headers)
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained(f"team/{name}", token=token)
    assert all(part in line(error) for part in said), line(error)
    assert line(error).startswith(f"model 'team/{name}': ") and "hf_x" not in line(error)


def test_an_id_that_is_none_and_a_network_that_is_not_there(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    use("http://127.0.0.1:9")
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("team/some")
    assert "cannot be reached (ConnectionRefusedError)" in line(error) and "127.0.0.1:9" in line(error)
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("team/some", revision="v1", local_files_only=True)
    assert "local_files_only=True" in line(error) and "at revision 'v1'" in line(error)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as error:
        unpad.AutoModel.from_pretrained("miniml")
    assert "HF_HUB_OFFLINE" in line(error) and "did you mean 'minilm'" in line(error)
    for name in ("a b", "team/--", "team/x:y"):
        with pytest.raises(UnpadError) as wrong:
            unpad.AutoModel.from_pretrained(name)
        assert "valid Hub id" in line(wrong)


# ---- data sets, and everything without the server

CLIENT = r"""
import contextlib, io, os, resource, signal
import datasets, unpad
from huggingface_hub import CommitOperationAdd, HfApi

api = HfApi()

def put(name, **numbers):
    # a data set with a number in each of the configurations
    card = "---\nconfigs:\n" + "".join(f"- config_name: {c}\n  data_files: {c}.jsonl\n" for c in numbers) + "---\n"
    files = {"README.md": card, **{f"{c}.jsonl": '{"n": %d}\n' % n for c, n in numbers.items()}}
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    added = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    api.create_commit(name, added, commit_message="rows", repo_type="dataset")

def said(load, *args, **options):
    try:
        return load(*args, **options)
    except unpad.errors.UnpadError as error:
        assert "\n" not in str(error), error
        return str(error)

def rows(found):
    return found["train"]["n"][:]
"""


def test_data_sets_by_id_their_labels_configurations_revisions_and_copies_of_scripts(
    hub: Server, tmp_path: Path
) -> None:
    script = """
    features = datasets.Features({"n": datasets.Value("int64"), "label": datasets.ClassLabel(names=["no", "yes"])})
    def table(n):
        return datasets.DatasetDict({"train": datasets.Dataset.from_dict({"n": [n], "label": [1]}, features=features)})
    table(1).push_to_hub("local/named")
    api.create_tag("local/named", tag="v1", repo_type="dataset")
    table(2).push_to_hub("local/named")
    for name in ("local/named", "named"):
        assert rows(unpad.load_dataset(name)) == [2]
        assert rows(unpad.load_dataset(name, revision="v1", token=False)) == [1]
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        found = unpad.load_dataset("named", force_download=True)
    assert shown.getvalue() == "", shown.getvalue()
    assert found["train"].features == features and unpad.data.load.class_names(found, "label") == ["no", "yes"]
    assert "no revision 'v2'" in said(unpad.load_dataset, "named", revision="v2")
    assert "the data has: ['train']" in said(unpad.load_dataset, "named", split="test")
    assert "README.md, data/train" in said(unpad.load_dataset, "named", data_files="none.csv")
    assert "does not exist, or it is private" in said(unpad.load_dataset, "team/nowhere")

    put("team/pairs", **{"de-en": 3, "en-fr": 4})
    assert rows(unpad.load_dataset("team/pairs", "de-en")) == [3]
    assert rows(unpad.load_dataset("team/pairs", lang1="en", lang2="fr")) == [4]
    assert rows(unpad.load_dataset("team/pairs", lang1="en", lang2="de")) == [3]
    assert said(unpad.load_dataset, "team/pairs", lang1="en", lang2="it").endswith("lang2='it'; did you mean 'en-fr'?; there are: de-en, en-fr.")
    assert said(unpad.load_dataset, "team/pairs").endswith("name one; there are: de-en, en-fr.")
    assert said(unpad.load_dataset, "team/pairs", "en-it").endswith("'en-it'; did you mean 'en-fr'?; there are: de-en, en-fr.")

    api.create_repo("local/kde", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"raise SystemExit", path_in_repo="kde.py", repo_id="local/kde", repo_type="dataset")
    assert "is a script (kde.py), which is never run" in said(unpad.load_dataset, "kde")
    api.create_branch("local/kde", branch="refs/convert/parquet", repo_type="dataset")
    for n, name in enumerate(["en-fr", "fi-nl"]):
        table(n)["train"].to_parquet("part.parquet")
        api.upload_file(path_or_fileobj="part.parquet", path_in_repo=f"{name}/train/0000.parquet", repo_id="local/kde",
                        repo_type="dataset", revision="refs/convert/parquet")
    for options in ({}, {"local_files_only": True}):
        found = unpad.load_dataset("kde", lang1="en", lang2="fr", **options)
        assert rows(found) == [0] and found["train"].features == features
    assert rows(unpad.load_dataset("kde", "fi-nl")) == [1]
    assert said(unpad.load_dataset, "kde", lang1="en", lang2="nl").endswith("there are: en-fr, fi-nl.")
    print("done")
    """
    assert run_client(hub, CLIENT + script.replace("\n    ", "\n"), tmp_path, HF_HUB_DISABLE_XET="1").endswith("done\n")


def test_what_was_pulled_once_is_there_without_the_server_and_at_the_revision_that_is_asked_for(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    saved(tmp_path / "saved")
    everything = """
def everything():
    model = unpad.AutoModelForSequenceClassification.from_pretrained("team/model")
    ids = unpad.AutoTokenizer.from_pretrained("team/model")("a b")["input_ids"]
    answer = unpad.pipeline("text-classification", "team/model")("a b")[0]["score"]
    data = [rows(unpad.load_dataset("team/data", **options)) for options in ({}, {"revision": "v1"}, {"revision": "main"})]
    two = rows(unpad.load_dataset("team/two", "b"))
    streamed = [row["n"] for row in unpad.load_dataset("team/data", split="train", streaming=True)]
    return [float(next(model.parameters()).detach().sum()), ids, answer, data, two, rows(unpad.load_dataset("short")), streamed]
"""
    first = """
api.create_repo("team/model")
api.upload_folder(repo_id="team/model", folder_path="saved")
put("team/data", default=1)
api.create_tag("team/data", tag="v1", repo_type="dataset")
put("team/data", default=2)
put("team/two", a=3, b=4)
put("local/short", default=5)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
for load, name in ((unpad.AutoModel.from_pretrained, "team/model"), (unpad.load_dataset, "team/data")):
    assert "cannot be written to (File too large); make room" in said(load, name, cache_dir="full")
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
before = everything()
assert before[3:] == [[[2], [1], [2]], [4], [5], [2]], before
os.kill(PID, signal.SIGKILL)
assert everything() == before
assert "cannot be reached" in said(unpad.load_dataset, "team/data", revision="v0")
assert "cannot be reached" in said(unpad.load_dataset, "team/two", "a")
assert "cannot be reached" in said(unpad.load_dataset, "team/other")
assert "cannot be reached" in said(unpad.AutoModel.from_pretrained, "team/model", force_download=True)
assert "cannot be reached" in said(unpad.AutoModel.from_pretrained, "team/model", revision="v0")
print(before)
"""
    second = """
found = everything()
assert "HF_HUB_OFFLINE" in said(unpad.load_dataset, "team/data", revision="v0")
assert "HF_HUB_OFFLINE" in said(unpad.load_dataset, "team/two", "a")
assert "HF_HUB_OFFLINE" in said(unpad.AutoModel.from_pretrained, "team/model", revision="v0")
print(found)
"""
    code = CLIENT + everything + first.replace("PID", str(server.process.pid))
    before = run_client(server, code, tmp_path, HF_HUB_DISABLE_XET="1")
    assert run_client(server, CLIENT + everything + second, tmp_path, HF_HUB_OFFLINE="1") == before
