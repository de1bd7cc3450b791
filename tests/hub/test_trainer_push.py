"""What a Trainer sends to a Hub while it trains and at its end, and that nothing a Hub does ends a training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hubs import ROOT, Server
from run_tiny import rows, trainer

import unpad
from unpad.checkpoint.files import verify
from unpad.engine.stop import Stopped
from unpad.errors import ArgumentError, HubError
from unpad.hub import Uploads, push
from unpad.train import push as train_push


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, online: None) -> Callable[[Server], Any]:
    """Let this process speak to a server; gives its `HfApi`."""
    from huggingface_hub import HfApi, constants, hf_api

    def choose(server: Server) -> Any:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        return HfApi()

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    return choose


def run(folder: Path, steps: int, name: str, **changes: Any) -> unpad.Trainer:
    return trainer(str(folder), steps, **{"push_to_hub": True, "hub_model_id": f"team/{name}", **changes})


def titles(api: Any, name: str) -> list[str]:
    """Titles of the commits, the oldest first, without that of the empty repository."""
    return [commit.title for commit in api.list_repo_commits(f"team/{name}")][::-1][1:]


def fetched(api: Any, name: str, folder: Path) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(f"team/{name}", endpoint=api.endpoint, local_dir=folder))


def test_each_save_is_sent_and_the_end_when_it_is_asked_for(hub: Server, at: Any, tmp_path: Path) -> None:
    api, folder = at(hub), tmp_path / "run"
    own = run(folder, 4, "saves", save_steps=4)
    own.train()
    assert titles(api, "saves")[-1] == "Training in progress, step 4"
    there = fetched(api, "saves", tmp_path / "there")
    names = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file() and ".cache" not in p.parts}
    assert names - {".gitattributes"} == {"README.md", "config.json", "metrics.jsonl", "model.safetensors"}
    saved = folder / "checkpoint-4"
    assert (there / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()
    own.model.head.classifier.bias.data += 1
    made = own.push_to_hub(license="mit", tags=["desk"])
    assert made.repo_url.repo_id == "team/saves" and titles(api, "saves")[-1] == "End of training"
    from huggingface_hub import ModelCard

    card: Any = ModelCard(Path(api.hf_hub_download("team/saves", "README.md")).read_text())
    assert card.data.license == "mit" and card.data.tags == ["unpad", "desk"] and 'model="team/saves"' in card.text
    assert card.data.eval_results[0].metric_type == "accuracy"
    again = unpad.AutoModelForSequenceClassification.from_pretrained("team/saves")
    assert again.head.classifier.bias.equal(own.model.head.classifier.bias)
    with pytest.raises(ArgumentError, match=r"licence.*license"):
        own.push_to_hub(licence="mit")
    own.save_model()
    assert titles(api, "saves")[-1] == "End of training", "what has not changed makes no commit"
    assert not list(folder.glob(".unpad-upload-*"))


class StopAt(unpad.TrainerCallback):
    """A stop signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_goes_on_elsewhere_from_the_checkpoint_on_the_hub_to_the_same_end(
    hub: Server, at: Any, tmp_path: Path
) -> None:
    api, alone = at(hub), {"push_to_hub": False, "load_best_model_at_end": False, "save_steps": 2}
    whole = run(tmp_path / "whole", 6, "goes-on", **alone)
    whole.train()
    stopped = run(tmp_path / "stopped", 6, "goes-on", **{**alone, "push_to_hub": True, "hub_strategy": "checkpoint"})
    stopped.callbacks.append(StopAt(3))
    with pytest.raises(Stopped):
        stopped.train()
    there = fetched(api, "goes-on", tmp_path / "there")
    assert verify(there / "last-checkpoint") == [] and not list(there.glob("training_state*"))
    other = run(tmp_path / "other", 6, "goes-on", **alone)
    assert other.train(resume_from_checkpoint=there / "last-checkpoint").global_step == 6
    for name in ("model.safetensors", "training_state.safetensors"):
        last = [tmp_path / place / "checkpoint-6" / name for place in ("whole", "other")]
        assert last[0].read_bytes() == last[1].read_bytes()


def test_every_checkpoint_is_there_when_all_are_asked_for(hub: Server, at: Any, tmp_path: Path) -> None:
    api = at(hub)
    first = run(tmp_path / "run", 6, "all", hub_strategy="all_checkpoints", save_total_limit=None)
    first.train()
    there = fetched(api, "all", tmp_path / "there")
    steps = [p.name for p in sorted((tmp_path / "run").glob("checkpoint-*"))]
    assert len(steps) >= 3
    for name in steps:
        assert verify(there / name) == []
        assert (there / name / "manifest.json").read_bytes() == (tmp_path / "run" / name / "manifest.json").read_bytes()


def test_the_strategy_end_sends_when_the_model_is_saved(hub: Server, at: Any, tmp_path: Path, caplog: Any) -> None:
    api = at(hub)
    own = run(tmp_path / "run", 2, "end", hub_strategy="end", hub_revision="try")
    with caplog.at_level("INFO", logger="unpad"):
        own.train()
    assert "save_model() or push_to_hub()" in caplog.text and titles(api, "end") == []
    own.save_model()
    assert api.list_repo_commits("team/end", revision="try")[0].title == "Model save"
    assert titles(api, "end") == []
    sent = own.push_to_hub("later", blocking=False)
    sent.ended.wait(60)
    assert sent.status == 0


def test_a_hub_that_goes_away_never_ends_a_training_and_gets_the_rest_when_it_is_back(
    serve: Any, at: Any, tmp_path: Path, caplog: Any
) -> None:
    server = serve()
    api, port = at(server), server.port
    own = run(tmp_path / "run", 6, "away", hub_strategy="all_checkpoints", save_total_limit=None, save_steps=2)

    class Down(unpad.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1:
                server.kill()
            if state.global_step == 5 and not own._uploads.done:
                own._uploads._last.ended.wait(60)
            if state.global_step == 5:
                server.start(port)

    own.callbacks.append(Down())
    with caplog.at_level("INFO", logger="unpad"):
        assert own.train().global_step == 6
    assert caplog.text.count("cannot be reached") == 1, "it is said once"
    there = fetched(api, "away", tmp_path / "there")
    for path in (tmp_path / "run").glob("checkpoint-*"):
        assert verify(there / path.name) == []
    server.kill()

    class Back(unpad.TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            late._uploads._last.ended.wait(60)
            server.start(port)

    late = run_without_connecting(tmp_path / "late", own)
    late.callbacks.append(Back())
    late.train()
    assert titles(api, "away")[-1] == "Training in progress, step 2", "what failed is sent at the end"
    server.kill()
    caplog.clear()
    other = run_without_connecting(tmp_path / "gone", own)
    with caplog.at_level("INFO", logger="unpad"):
        assert other.train().global_step == 2
    assert f"unpad push {tmp_path / 'gone' / 'checkpoint-2'} team/away" in caplog.text
    with pytest.raises(HubError, match=r"unpad push .*gone team/away"):
        other.push_to_hub()
    assert (tmp_path / "gone" / "model.safetensors").is_file()


def run_without_connecting(folder: Path, other: unpad.Trainer) -> unpad.Trainer:
    """A Trainer that was connected when the server was still there."""
    own = trainer(str(folder), 2)
    own.args.push_to_hub, own.hub_model_id = True, other.hub_model_id
    own._uploads = Uploads(str(other.hub_model_id))
    return own


def test_a_token_that_may_not_write_is_refused_before_training(serve: Any, at: Any, tmp_path: Path) -> None:
    words = ["hub", "token", str(tmp_path / "hub"), "--name", "ben", "--scope", "read"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    token = subprocess.check_output([sys.executable, "-m", "unpad.cli", *words], text=True, env=env).strip()
    at(serve())
    for given in ({"hub_token": token}, {}):
        with pytest.raises(HubError):
            run(tmp_path / "run", 2, "refused", **given)
    assert not (tmp_path / "run").exists()


def test_a_card_that_a_person_wrote_on_the_hub_stays(hub: Server, at: Any, tmp_path: Path) -> None:
    api = at(hub)
    api.create_repo("team/own")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="README.md", repo_id="team/own")
    own = run(tmp_path / "run", 2, "own")
    own.train()
    own.push_to_hub()
    own.model.push_to_hub("team/own")
    assert (fetched(api, "own", tmp_path / "there") / "README.md").read_bytes() == b"mine"
    assert titles(api, "own")[-1] == "End of training"
    own.model.push_to_hub("team/own-small")
    assert 'model="team/own-small"' in (fetched(api, "own-small", tmp_path / "small") / "README.md").read_text()


def test_a_run_that_is_asked_to_stop_does_not_wait_for_a_slow_hub(
    hub: Server, at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    at(hub)
    own, free = run(tmp_path / "run", 6, "slow", save_steps=1), threading.Event()
    monkeypatch.setattr(push, "push_folder", lambda *_, **__: free.wait(60))
    monkeypatch.setattr(train_push, "FAIR", 0.1)

    own.callbacks.append(StopAt(2))
    start = time.monotonic()
    with caplog.at_level("INFO", logger="unpad"), pytest.raises(Stopped):
        own.train()
    assert time.monotonic() - start < 30 and "does not have all yet" in caplog.text
    assert own._uploads.done, "the end of the process does not wait either"
    free.set()


def test_the_command_line_sends_the_model_with_its_picture_and_keeps_no_token(
    hub: Server,
    at: Any,
    tmp_path: Path,
    minilm: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unpad.cli.__main__ import main

    api = at(hub)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    unpad.AutoModel.from_config(unpad.AutoConfig.from_pretrained(minilm, **small)).save_pretrained(tmp_path / "small")
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path / "small")
    texts = [{"text": f"parcel {row['input_ids'][0]}", "label": "ab"[row["labels"]]} for row in rows(12, 0)]
    (tmp_path / "desk.jsonl").write_text("\n".join(map(json.dumps, texts)))
    words = ["train", "text-classification", "--model", str(tmp_path / "small"), "--data", str(tmp_path / "desk.jsonl"),
             "--max_steps", "1", "--output_dir", str(tmp_path / "run"), "--disable_tqdm"]  # fmt: skip
    assert main(words) == 0
    assert f"unpad push {tmp_path / 'run'} you/run" in capsys.readouterr().out
    more = ["--overwrite_output_dir", "--push_to_hub", "--hub_model_id", "team/command", "--hub_token", "hf_secret"]
    assert main([*words, *more]) == 0
    out = capsys.readouterr().out
    assert "team/command" in out and "unpad push" not in out
    there = fetched(api, "command", tmp_path / "there")
    card = (there / "README.md").read_text()
    assert "](curves.png)" in card and (there / "curves.png").is_file() and "`desk.jsonl`" in card
    assert str(tmp_path) not in card
    assert not [p for p in (tmp_path / "run").rglob("*") if p.is_file() and b"hf_secret" in p.read_bytes()]
