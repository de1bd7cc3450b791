"""transformers, datasets, huggingface_hub and unpad, as they are installed, against the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hubs import Server, ask, run_client

TINY = """
    import torch, transformers
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=32, max_position_embeddings=32)
"""


def test_a_model_pushed_with_transformers_is_the_same_when_unpad_pulls_it(hub: Server, tmp_path: Path) -> None:
    script = """
    theirs = transformers.BertForSequenceClassification(config).eval()
    open("vocab.txt", "w").write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]))
    tokenizer = transformers.BertTokenizer("vocab.txt")
    theirs.push_to_hub("team/pushed")
    tokenizer.push_to_hub("team/pushed")
    import unpad
    ours = unpad.AutoModelForSequenceClassification.from_pretrained("team/pushed").eval()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 3]])
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-6, rtol=1e-5)
    assert unpad.AutoTokenizer.from_pretrained("team/pushed")("a b c")["input_ids"] == tokenizer("a b c")["input_ids"]
    again = transformers.AutoModelForSequenceClassification.from_pretrained("team/pushed")
    assert all(torch.equal(a, again.state_dict()[name]) for name, a in theirs.state_dict().items())
    print("same")
    """
    assert run_client(hub, TINY + script, tmp_path).endswith("same\n")


def test_a_folder_of_unpad_uploaded_by_hand_loads_in_transformers(hub: Server, tmp_path: Path) -> None:
    script = """
    import unpad
    from huggingface_hub import HfApi
    config = unpad.BertConfig(vocab_size=2000, hidden_size=160, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ours = unpad.BertModel(config).eval()
    ours.save_pretrained("saved")
    HfApi().create_repo("team/saved")
    HfApi().upload_folder(repo_id="team/saved", folder_path="saved")
    assert HfApi().get_paths_info("team/saved", "model.safetensors")[0].lfs
    theirs = transformers.AutoModel.from_pretrained("team/saved")
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 3]])
    a, b = ours(ids).last_hidden_state, theirs(ids).last_hidden_state
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    print("same")
    """
    assert run_client(hub, TINY + script, tmp_path).endswith("same\n")


def test_data_sets_load_by_their_id(hub: Server, tmp_path: Path) -> None:
    script = """
    import datasets
    from huggingface_hub import HfApi
    api = HfApi()
    data = datasets.Dataset.from_dict({"text": ["a", "b", "ü"], "label": [0, 1, 0]})
    for ending, write in {"parquet": data.to_parquet, "csv": data.to_csv, "jsonl": data.to_json}.items():
        write(f"train.{ending}")
        repo = {"repo_id": f"team/rows-{ending}", "repo_type": "dataset"}
        api.create_repo(**repo)
        api.upload_file(path_or_fileobj=f"train.{ending}", path_in_repo=f"data/train.{ending}", **repo)
        api.upload_file(path_or_fileobj=b"---\\nlicense: mit\\n---\\n# rows", path_in_repo="README.md", **repo)
        assert datasets.load_dataset(repo["repo_id"])["train"].to_dict() == data.to_dict(), ending
        assert list(datasets.load_dataset(repo["repo_id"], split="train", streaming=True)) == data.to_list(), ending
    both = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"n": list(range(50))}), "test": datasets.Dataset.from_dict({"n": [7]})})
    both.push_to_hub("team/both")
    found = datasets.load_dataset("team/both")
    assert {k: v.to_dict() for k, v in found.items()} == {k: v.to_dict() for k, v in both.items()}
    print("same")
    """
    assert run_client(hub, script, tmp_path).endswith("same\n")


def test_a_data_set_without_an_owner_loads_with_the_configurations_of_its_card(hub: Server, tmp_path: Path) -> None:
    script = """
    import datasets
    from huggingface_hub import HfApi
    api, card = HfApi(), "---\\nconfigs:\\n"
    rows = {(config, split): [config, split] for config in ("mrpc", "sst2") for split in ("train", "validation")}
    repo = {"repo_id": api.create_repo("glue", repo_type="dataset").repo_id, "repo_type": "dataset"}
    for (config, split), text in rows.items():
        datasets.Dataset.from_dict({"text": text}).to_parquet("rows.parquet")
        api.upload_file(path_or_fileobj="rows.parquet", path_in_repo=f"{config}/{split}-0.parquet", **repo)
    for config in ("mrpc", "sst2"):
        card += f"- config_name: {config}\\n  data_files:\\n"
        card += "".join(f"  - split: {split}\\n    path: {config}/{split}-*\\n" for split in ("train", "validation"))
    api.upload_file(path_or_fileobj=(card + "---\\n").encode(), path_in_repo="README.md", **repo)
    assert datasets.get_dataset_config_names("local/glue") == ["mrpc", "sst2"]
    for config in ("mrpc", "sst2"):
        got = datasets.load_dataset("local/glue", config)
        assert {split: part["text"] for split, part in got.items()} == {s: rows[c, s] for c, s in rows if c == config}
    assert datasets.load_dataset("local/glue", "sst2", split="validation")["text"][:] == ["sst2", "validation"]
    import unpad
    assert unpad.load_dataset("glue", "mrpc")["train"]["text"][:] == ["mrpc", "train"]
    print("same")
    """
    assert run_client(hub, script, tmp_path).endswith("same\n")


@pytest.mark.parametrize("no_xet", ["0", "1"])
def test_large_files_arrive_whole_by_xet_and_by_lfs(serve: Callable[..., Server], tmp_path: Path, no_xet: str) -> None:
    server = serve("--lfs_from_mb", "1")
    script = """
    import hashlib, os, pathlib
    import numpy as np
    from huggingface_hub import HfApi, snapshot_download
    api, noise, up = HfApi(), os.urandom(3 << 20), pathlib.Path("up")
    api.create_repo("team/xet", exist_ok=True)
    files = {
        "noise": noise, "zeros": bytes(5 << 20), "floats": np.random.default_rng(0).normal(size=1 << 20).astype("f4").tobytes(),
        "text": b"the same words again and again, " * 90_000, "twice/noise": noise, "changed": noise[:999_999] + b"!" + noise[1_000_000:],
        "tiny.parquet": b"PAR1", "empty.parquet": b"", "small": b"a",
    }
    for name, data in files.items():
        (up / name).parent.mkdir(parents=True, exist_ok=True)
        (up / name).write_bytes(data)
    api.upload_folder(repo_id="team/xet", folder_path="up")
    files["again"] = b"#" + noise  # most of it was sent before
    api.upload_file(repo_id="team/xet", path_or_fileobj=files["again"], path_in_repo="again")
    got = pathlib.Path(snapshot_download("team/xet", local_dir=f"got-{os.getpid()}"))
    assert {name: (got / name).read_bytes() == data for name, data in files.items()} == dict.fromkeys(files, True)
    for info in api.list_repo_tree("team/xet", recursive=True):
        if getattr(info, "lfs", None):
            assert hashlib.sha256(files[info.path]).hexdigest() == info.lfs.sha256
    assert len(list(api.list_repo_commits("team/xet"))) == 3
    """
    run_client(server, script, tmp_path, HF_HUB_DISABLE_XET=no_xet)
    assert bool(list((server.folder / "incoming").glob("xet-*"))) == (no_xet == "0")
    port = server.port
    server.kill()
    server.folder = tmp_path / "another"  # at the same address, and the client remembers what it has sent there
    server.start(port)
    run_client(
        server,
        script.replace("os.urandom(3 << 20)", "(pathlib.Path('up') / 'noise').read_bytes()"),
        tmp_path,
        HF_HUB_DISABLE_XET=no_xet,
    )
    server.check()


def test_tokens_say_who_may_read_and_who_may_write(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unpad.cli.__main__ import main

    tokens = {}
    for name, scope in (("anna", "write"), ("ben", "read")):
        assert main(["hub", "token", str(tmp_path / "hub"), "--name", name, "--scope", scope]) == 0
        tokens[name] = capsys.readouterr().out.strip()
    assert main(["hub", "token", str(tmp_path / "hub"), "--name", "anna"]) == 2  # the name is taken
    kept = b"".join(p.read_bytes() for p in (tmp_path / "hub").iterdir() if p.is_file())
    assert not any(token.encode() in kept for token in tokens.values())
    server = serve()
    script = """
    import json
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    tokens = json.loads(TOKENS)
    anna, ben = HfApi(token=tokens["anna"]), HfApi(token=tokens["ben"])
    print(anna.whoami()["name"], anna.whoami()["auth"]["accessToken"]["role"], ben.whoami()["auth"]["accessToken"]["role"])
    print(anna.create_repo("kept", private=True).repo_id)
    anna.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="anna/kept")
    print(anna.list_repo_commits("anna/kept")[0].authors)
    print(open(hf_hub_download("anna/kept", "a", token=tokens["ben"])).read())
    def status(call):
        try:
            return call()
        except HfHubHTTPError as error:
            return error.response.status_code
    print(status(lambda: ben.create_repo("other")), status(lambda: ben.delete_repo("anna/kept")),
          status(lambda: ben.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id="anna/kept")))
    forged = tokens["anna"][:-1] + ("A" if tokens["anna"][-1] != "A" else "B")
    print([status(lambda: HfApi(token=t).model_info("anna/kept")) for t in (forged, "hf_" + "0" * 43, False)])
    """
    script = f"TOKENS = {json.dumps(tokens)!r}\n" + "\n".join(line[4:] for line in script.splitlines())
    said = run_client(server, script, tmp_path).splitlines()
    assert ask(server, "GET", "/api/models", Authorization=f"Bearer {tokens['ben']}")[0] == 200
    assert main(["hub", "token", str(tmp_path / "hub"), "--name", "ben", "--remove"]) == 0
    assert ask(server, "GET", "/api/models", Authorization=f"Bearer {tokens['ben']}")[0] == 401
    assert said == ["anna write read", "anna/kept", "['anna']", "1", "403 403 403", "[401, 401, 401]"]
