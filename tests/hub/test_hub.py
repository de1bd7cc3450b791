"""What the server answers to clients that mean well."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubs import Server, api, ask, commit, make


def test_a_large_file_goes_by_lfs_and_its_ranges_are_its_bytes(hub: Server, online: None, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import http_get

    data = os.urandom(3 << 20)
    api(hub).create_repo("team/ranges")
    api(hub).upload_file(path_or_fileobj=data, path_in_repo="a/w.safetensors", repo_id="team/ranges")
    info = api(hub).get_paths_info("team/ranges", "a/w.safetensors")[0]
    assert info.lfs.size == len(data)
    path = hf_hub_url("team/ranges", "a/w.safetensors", endpoint=hub.url).removeprefix(hub.url)
    status, headers, body = ask(hub, "HEAD", path)
    assert (status, body, headers["content-length"]) == (200, b"", str(len(data)))
    assert headers["etag"] == headers["x-linked-etag"] == f'"{info.lfs.sha256}"'
    assert headers["x-repo-commit"] == api(hub).model_info("team/ranges").sha
    end = len(data)
    spans = {"bytes=0-9": (0, 10), "bytes=5-": (5, end), "bytes=-7": (end - 7, end), "bytes=100-99999999": (100, end)}
    for asked, (start, stop) in spans.items():
        status, headers, body = ask(hub, "GET", path, Range=asked)
        assert (status, body) == (206, data[start:stop])
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{end}"
    assert ask(hub, "GET", path, Range=f"bytes={len(data)}-")[0] == 416
    assert ask(hub, "GET", path, Range="bytes=0-9", If_Range='"other"')[2] == data
    assert ask(hub, "GET", path, If_None_Match=headers["etag"])[0] == 304
    got = hf_hub_download("team/ranges", "a/w.safetensors", endpoint=hub.url, local_dir=tmp_path / "there", token=False)
    assert Path(got).read_bytes() == data
    with open(tmp_path / "half", "w+b") as file:  # what a broken download left
        file.write(data[: 1 << 20])
        http_get(hub.url + path, file, resume_size=1 << 20, expected_size=len(data))
    assert (tmp_path / "half").read_bytes() == data


def test_the_api_of_repositories(hub: Server, online: None, tmp_path: Path) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors, snapshot_download

    client = api(hub)
    url = client.create_repo("team/whole", repo_type="dataset")
    assert (url.repo_id, url.repo_type) == ("team/whole", "dataset")
    client.create_repo("team/whole", repo_type="dataset", exist_ok=True)
    here: dict[str, Any] = {"repo_id": "team/whole", "repo_type": "dataset"}
    for name in ("a.txt", "b/c d.txt", "b/ü.txt", "b/e/f.txt"):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(name)
    first = client.upload_folder(folder_path=tmp_path / "up", **here).oid
    assert client.list_repo_files(**here) == ["a.txt", "b/c d.txt", "b/e/f.txt", "b/ü.txt"]
    assert sorted(f.path for f in client.list_repo_tree(path_in_repo="b", **here)) == ["b/c d.txt", "b/e", "b/ü.txt"]
    client.create_tag(tag="v1", **here)
    client.create_branch(branch="try/this", **here)
    operations = [CommitOperationDelete("b/e/"), CommitOperationAdd("b/c d.txt", b"new")]
    client.create_commit(operations=operations, commit_message="fewer", revision="try/this", **here)
    assert client.list_repo_files(revision="try/this", **here) == ["a.txt", "b/c d.txt", "b/ü.txt"]
    old = Path(snapshot_download(revision="v1", endpoint=hub.url, token=False, **here))
    assert (old.name, (old / "b/c d.txt").read_text(), (old / "b/ü.txt").read_text()) == (first, "b/c d.txt", "b/ü.txt")
    new = Path(snapshot_download(revision="try/this", endpoint=hub.url, token=False, **here))
    assert (new / "b/c d.txt").read_text() == "new" and not (new / "b/e").exists()
    assert (
        client.upload_file(path_or_fileobj=b"a.txt", path_in_repo="a.txt", **here).oid == first
    )  # nothing new: no commit
    refs = client.list_repo_refs(**here)
    assert {r.name for r in refs.branches} == {"main", "try/this"} and [r.target_commit for r in refs.tags] == [first]
    client.delete_tag(tag="v1", **here)
    with pytest.raises(errors.RevisionNotFoundError):
        client.dataset_info("team/whole", revision="v1")
    with pytest.raises(errors.EntryNotFoundError):
        client.hf_hub_download(filename="none", **here)
    with pytest.raises(errors.EntryNotFoundError):
        client.delete_file("none", **here)
    assert [d.id for d in client.list_datasets(search="WHOLE")] == ["team/whole"] and not list(
        client.list_datasets(author="x")
    )
    client.delete_repo(**here)
    with pytest.raises(errors.RepositoryNotFoundError):
        client.dataset_info("team/whole")


# ---- ids, cards, lists

CARD = b"""---
license: mit
language: [en, fr]
tags: [tiny, "2024"]
datasets: glue
pipeline_tag: text-classification
library_name: unpad
base_model: bert-base-uncased
model-index:
- name: m
  results: []
---
# A model
"""


def test_what_a_model_card_says_is_what_models_are_found_by(hub: Server, online: None) -> None:
    client = api(hub)
    make(hub, "carded", **{"README.md": CARD})
    make(hub, "bare", a=b"x")
    info = client.model_info("team/carded")
    assert (info.pipeline_tag, info.library_name, info.card_data.license) == ("text-classification", "unpad", "mit")
    assert info.card_data.language == ["en", "fr"] and info.card_data.datasets == "glue"
    said = {"tiny", "2024", "en", "fr", "unpad", "text-classification", "license:mit", "dataset:glue"}
    assert set(info.tags) == said | {"base_model:bert-base-uncased"}
    for tag in said:
        assert [m.id for m in client.list_models(filter=tag, author="team")] == ["team/carded"], tag
    assert [m.id for m in client.list_models(filter=["en", "license:mit"], pipeline_tag="text-classification")] == [
        "team/carded"
    ]
    assert not list(client.list_models(filter=["en", "de"])) and not list(client.list_models(pipeline_tag="fill-mask"))
    assert next(iter(client.list_models(filter="tiny", cardData=True))).card_data.library_name == "unpad"
    assert client.model_info("team/bare").pipeline_tag is None and client.model_info("team/bare").tags == []
    make(hub, "carded", **{"README.md": CARD.replace(b"fr]", b"de]")})  # what is shown is of the newest commit
    assert [m.id for m in client.list_models(filter=["en", "de"])] == ["team/carded"]


def test_what_a_data_set_card_says_is_what_data_sets_are_found_by(hub: Server, online: None) -> None:
    client = api(hub)
    card = b"---\nlanguage: en\ntask_categories:\n- text-classification\ntags: [tiny]\npretty_name: Rows\n---\n"
    for name, data in (("said", card), ("plain", b"# no metadata")):
        client.create_repo(f"team/{name}", repo_type="dataset")
        client.upload_file(path_or_fileobj=data, path_in_repo="README.md", repo_id=f"team/{name}", repo_type="dataset")
    assert client.dataset_info("team/said").card_data.pretty_name == "Rows"
    for wanted in ({"language": "en"}, {"task_categories": "text-classification"}, {"filter": "tiny"}):
        assert [d.id for d in client.list_datasets(**wanted)] == ["team/said"], wanted
    assert not list(client.list_datasets(language="de")) and not list(client.list_models(filter="tiny", author="none"))


@pytest.mark.parametrize(
    "matter",
    [
        b"tags: [", b"- a list", b"a: &x [1]\nb: *x", b"tags: {a: 1}\nlicense: 3", b"x: .nan\ny: 2024-01-01", b"\xff: 1", b"? [a, b]\n: c",
        b"tags: \"\\ud800\"", b"a: " + b"[" * 9000, b"!!python/object/apply:os.system [ls]", b"<<: {tags: x}",
        b"a: &a [x]\n" + b"".join(b"%c: &%c [%s]\n" % (i, i, b", ".join([b"*%c" % (i - 1)] * 9)) for i in range(98, 104)),
    ],
    ids=lambda m: repr(m)[:20],
)  # fmt: skip
def test_front_matter_that_is_odd_is_no_error(hub: Server, online: None, matter: bytes) -> None:
    make(hub, "odd", **{"README.md": b"---\n" + matter + b"\n---\ntext"})
    assert api(hub).model_info("team/odd").id == "team/odd"
    assert len(ask(hub, "GET", "/api/models/team/odd")[2]) < 20_000
    assert "team/odd" in [m.id for m in api(hub).list_models(author="team", cardData=True)]


def test_an_id_without_an_owner_is_ones_own_or_that_of_local(
    serve: Callable[..., Server], online: None, tmp_path: Path
) -> None:
    from huggingface_hub import errors, snapshot_download

    from unpad.serve.server import open_store

    server = serve("--lfs_from_mb", "1")
    client = api(server)
    for kind in ("model", "dataset"):
        made = client.create_repo("tiny", repo_type=kind).repo_id
        assert made == "local/tiny"  # who sends without a token is `local`
        data = os.urandom(2 << 20)
        for name in ("tiny", made):
            client.upload_file(path_or_fileobj=name.encode(), path_in_repo="a/b", repo_id=name, repo_type=kind)
            client.upload_file(path_or_fileobj=data, path_in_repo="large", repo_id=name, repo_type=kind)
        client.create_tag("tiny", tag="v1", repo_type=kind)
        got = snapshot_download("tiny", repo_type=kind, revision="v1", endpoint=server.url, token=False)
        assert (Path(got, "a/b").read_bytes(), Path(got, "large").read_bytes()) == (b"local/tiny", data)
        assert sorted(client.list_repo_files("tiny", repo_type=kind)) == ["a/b", "large"]
        assert client.repo_info("tiny", repo_type=kind).id == "local/tiny"
        assert client.get_paths_info("tiny", "a", repo_type=kind)[0].path == "a"
    with pytest.raises(errors.RepositoryNotFoundError):
        client.model_info("none")
    store = open_store(server.folder)
    anna, ben = (type(client)(endpoint=server.url, token=store.add_token(name, "write")) for name in ("anna", "ben"))
    assert anna.create_repo("tiny").repo_id == "anna/tiny"
    assert [who.model_info("tiny").id for who in (anna, ben)] == ["anna/tiny", "local/tiny"]
    for name in ("tree", "Resolve"):
        with pytest.raises(errors.HfHubHTTPError):
            anna.create_repo(f"anna/{name}")


def test_long_lists_come_in_pages_without_gap_or_double(hub: Server, online: None) -> None:
    from huggingface_hub.utils import paginate

    names = [f"f{i:04}" for i in range(2345)]
    make(hub, "long")
    empty = [{"key": "file", "value": {"path": name, "content": ""}} for name in names]
    assert commit(hub, "long", {}, *empty)[0] == 200
    shown = api(hub).list_repo_tree("team/long")
    first = next(shown)
    make(hub, "long", f0000a=b"x")  # a page that is asked for later is still one of the same list
    assert [first.path, *(f.path for f in shown)] == names
    assert len(api(hub).list_repo_files("team/long")) == 2346
    for i in range(7):
        make(hub, f"paged{i}", a=b"x")
    wanted = [f"team/paged{i}" for i in reversed(range(7))]
    for more in ({}, {"sort": "lastModified"}):
        pages = paginate(f"{hub.url}/api/models", {"limit": 2, "search": "paged", **more}, {})
        assert [model["id"] for model in pages] == wanted
    assert [m.id for m in api(hub).list_models(search="paged", limit=3)] == wanted[:3]
    make(hub, "paged3", b=b"y")
    assert next(iter(api(hub).list_models(search="paged", sort="last_modified"))).id == "team/paged3"


def test_a_repository_moves_is_hidden_and_loses_its_history(hub: Server, online: None) -> None:
    from huggingface_hub import errors

    client = api(hub)
    make(hub, "old", a=b"1", b=b"2")
    make(hub, "taken")
    client.update_repo_settings("team/old", private=True)
    assert client.model_info("team/old").private
    client.update_repo_settings("team/old", visibility="public")
    assert not client.model_info("team/old").private
    for to in ("team/taken", "team/tree", "team/a..b"):
        with pytest.raises((errors.HfHubHTTPError, errors.HFValidationError)):
            client.move_repo("team/old", to)
    client.move_repo("team/old", "other/new")
    assert client.list_repo_files("other/new") == ["a", "b"] and not client.repo_exists("team/old")
    client.auth_check("other/new")
    client.super_squash_history("other/new", commit_message="one")
    assert [c.title for c in client.list_repo_commits("other/new")] == ["one"]
    assert client.list_repo_files("other/new") == ["a", "b"]


def test_prune_frees_what_nothing_holds_and_nothing_else(
    serve: Callable[..., Server], online: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from unpad.cli.__main__ import main

    server = serve("--lfs_from_mb", "1")
    client, folder = api(server), str(server.folder)
    make(server, "kept", a=b"in the history", b=b"shared")
    client.delete_file("a", "team/kept")
    make(server, "gone", a=os.urandom(9999), b=b"shared")
    make(server, "squashed", a=b"first", b=b"x")
    client.create_tag("team/squashed", tag="v1")
    client.upload_file(path_or_fileobj=b"second", path_in_repo="a", repo_id="team/squashed")
    client.upload_file(path_or_fileobj=b"third", path_in_repo="a", repo_id="team/squashed")
    client.super_squash_history("team/squashed")
    client.delete_repo("team/gone")
    assert main(["hub", "prune", folder]) == 2 and "served" in capsys.readouterr().err
    server.stop()
    assert main(["hub", "prune", folder]) == 0
    assert capsys.readouterr().out.startswith("removed 2 contents")  # of `gone`, and "second"
    contents = {p.read_bytes() for p in (server.folder / "contents").iterdir()}
    assert contents == {b"in the history", b"shared", b"first", b"x", b"third"}
    server.start()
    server.check()
    client = api(server)
    assert ask(server, "GET", "/team/squashed/resolve/v1/a")[2] == b"first"
    assert len(client.list_repo_commits("team/kept")) == 4 and client.list_repo_files("team/kept") == ["b"]
    assert main(["hub", "prune", str(tmp_path / "no-hub")]) == 2 and not (tmp_path / "no-hub").exists()
