"""The documentation is true: its code runs, its commands run, its links and paths lead somewhere, its tables agree with the code.

Blocks of one page run in order, in one namespace and one empty folder, on a few rows of the bundled data: those of the README
with the bundled model, those of other pages with a small one in its place.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unpad
from unpad.cli.__main__ import COMMANDS, main
from unpad.families import FAMILIES
from unpad.tasks import Task
from unpad.train.arguments import TrainingArguments

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXECUTED = [page for page in PAGES if page.name not in ("CONTRIBUTING.md", "CHANGELOG.md")]
FLOORS_TEST = ROOT / "tests" / "contract" / "test_floors.py"
ROWS = {"train": 24, "validation": 8, "test": 8}
"""Rows of each split that the blocks of a page see: what they do is real, how long they do it is not."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"\.?[\w-]+(?:[/.][\w-]+)*/?")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, and the line of the page on which its text begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """The words of each command line of a bash block; lines that end in a backslash go on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _fewer(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load_dataset` that gives the first few rows of each split, and makes the bundled data once."""
    made: dict[str, Any] = {}

    def load_few(*args: Any, **kwargs: Any) -> Any:
        bundled = str(args[0]) if str(args[0]).startswith("helpdesk/") and not kwargs and len(args) < 3 else None
        found = made[bundled] if bundled in made else load(*args, **kwargs)
        if bundled:
            made[bundled] = found
        if hasattr(found, "keys"):
            return type(found)({name: _cut(split, name) for name, split in found.items()})
        return _cut(found, "train")

    return load_few


def _cut(split: Any, name: str) -> Any:
    return split.select(range(min(len(split), ROWS.get(name, 8))))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> Path:
    """MiniLM with its own tokenizer and a tenth of its weights: checkpoints of the real one are most of the time of a page."""
    folder = tmp_path_factory.mktemp("small")
    config = unpad.AutoConfig.from_pretrained(
        minilm, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    unpad.AutoModel.from_config(config).save_pretrained(folder)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the recipes beside, few rows of data, no bars, and a disk that is not waited for."""
    from datasets import disable_progress_bars

    import unpad.checkpoint.files as files
    import unpad.data.load as load

    monkeypatch.setattr(files, "_fsync", lambda fd: None)  # most of the time of a page; tests/faults/ is about it

    disable_progress_bars()
    few = _fewer(load.load_dataset)
    monkeypatch.setattr(load, "load_dataset", few)
    monkeypatch.setattr(unpad, "load_dataset", few, raising=False)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(words: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command of `unpad`; check of any other that what it names is there."""
    name, *rest = words
    if name == "unpad":
        rest += ["--draw_curves", "false"] if rest[0] == "train" else []  # `curves` and the Trainer draw some
        try:
            code = main(rest)
        except SystemExit as ended:  # --help
            code = int(ended.code or 0)
        assert code == 0, f"{where}: {shlex.join(words)} ended with {code}: {capsys.readouterr().err[-2000:]}"
    elif name == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        variables = re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        for word in rest:
            known = variables if "=" in word else targets
            assert word.partition("=")[0] in known, f"{where}: make knows no {word}"
    elif name.endswith(("python", "ruff", "mypy", "pytest")):
        for word in rest:
            if word.endswith((".py", ".toml")) or word.startswith(("tests", "src", "benchmarks")):
                assert (ROOT / word).exists(), f"{where}: {word} is not there"
    else:
        assert name in ("pip", "git"), f"{where}: nobody checks {name!r}; add it here"


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(
    page: Path, desk: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page.name != "README.md":  # the first page that people try runs on the real model
        monkeypatch.setattr("unpad.hub.pull._minilm", lambda: small)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        assert block.language in ("python", "bash", "text"), f"{where}: a block is python, bash or text"
        if block.language == "python":
            # newlines before it, so that a traceback names the line of the page
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            exec(code, names)
        elif block.language == "bash":
            for words in commands(block.text):
                run_command(words, where, capsys)


def test_commands_in_contributing_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(ROOT / "CONTRIBUTING.md"):
        if block.language == "bash":
            for words in commands(block.text):
                assert words[0] != "unpad", "pages with commands of unpad are run: add this one to EXECUTED"
                run_command(words, f"CONTRIBUTING.md:{block.line}", capsys)


def test_the_example_of_a_family_computes_what_transformers_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import transformers

    text = next(
        b.text for b in blocks(ROOT / "CONTRIBUTING.md") if b.language == "python" and "FAMILY = Family(" in b.text
    )
    module = types.ModuleType("example_of_a_family")
    exec(text, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(FAMILIES, module.FAMILY.model_type, module.__name__)

    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=101, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    )
    config.num_labels = 3
    theirs = transformers.DistilBertForSequenceClassification(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = unpad.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    assert not ours.load_report.new and not ours.load_report.unexpected
    ids = torch.randint(1, 101, (4, 12))
    mask = (torch.arange(12)[None] < torch.tensor([12, 3, 7, 1])[:, None]).long()
    torch.testing.assert_close(ours(ids, mask).logits, theirs(ids, mask).logits, atol=1e-5, rtol=1e-5)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert all(torch.equal(a, again.state_dict()[name]) for name, a in theirs.state_dict().items())
    base = unpad.AutoModel.from_pretrained(tmp_path / "theirs")(ids, mask).last_hidden_state
    expected = theirs.distilbert(ids, mask).last_hidden_state
    torch.testing.assert_close(base[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)


# ---- links, paths, names


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT) and file.exists(), f"{page.name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{page.name}: {file.name} has no heading {anchor!r}"


def missing_paths(text: str) -> list[str]:
    """Paths of the project in `code spans` that do not exist. A path begins with a file or folder at the top of the project or of
    the package; what a run writes (`runs/...`, `metrics.jsonl`) is none."""
    package = ROOT / "src" / "unpad"
    tops = {
        p.name for home in (ROOT, package) for p in home.iterdir() if p.is_dir() and p.name not in ("runs", "build")
    }
    missing = []
    for span in _SPAN.findall(text):
        if not _PATH.fullmatch(span):
            continue
        inside = "/" in span and span.split("/")[0] in tops
        alone = "/" not in span and span.endswith((".py", ".md", ".toml", ".txt")) and span != "vocab.txt"
        if (inside or alone) and not any((home / span).exists() for home in (ROOT, package, FLOORS_TEST.parent)):
            missing.append(span)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    assert not missing_paths(prose(page))


def test_the_check_of_paths_sees_a_wrong_one() -> None:
    text = "`core/attention.py`, `core/attenion.py`, `docs/design.md`, `setup.py`, `tests/contract/`, `runs/x`, `metrics.jsonl`"
    assert missing_paths(text) == ["core/attenion.py", "setup.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_dotted_name_of_the_package_exists(page: Path) -> None:
    for span in re.findall(r"`(unpad(?:\.\w+)+)", prose(page)):
        found: Any = unpad
        for i, part in enumerate(parts := span.split(".")[1:], 1):
            if not hasattr(found, part):
                importlib.import_module(".".join(["unpad", *parts[:i]]))
            found = getattr(found, part)


# ---- what the pages say twice with the code


def test_the_floors_of_the_design_page_are_those_that_are_enforced() -> None:
    tree = ast.parse(FLOORS_TEST.read_text(encoding="utf-8"))
    table = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "FLOORS")
    assert table is not None
    rows = re.findall(
        r"^\| (\d) \| ([^|]+) \|", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {name: int(floor) for floor, names in rows for name in _SPAN.findall(names)}
    assert told == ast.literal_eval(table)


def test_the_guide_names_every_training_argument_and_no_other() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = text.split("## Arguments")[1].split("\n## ")[0]
    told = [name for row in re.findall(r"^\| .+$", table, re.MULTILINE) for name in _SPAN.findall(row)]
    assert sorted(told) == sorted(f.name for f in dataclasses.fields(TrainingArguments))


def test_the_readme_shows_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {
        words[1]
        for b in blocks(ROOT / "README.md")
        if b.language == "bash"
        for words in commands(b.text)
        if words[0] == "unpad"
    }
    assert shown == set(COMMANDS), text


def test_contributing_names_every_method_of_a_task() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## A new task")[1]
    told = re.findall(r"^\| `(\w+)`", text, re.MULTILINE)
    assert told == [name for name, value in vars(Task).items() if callable(value) and not name.startswith("_")]


def test_the_newest_change_is_of_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == unpad.__version__
    assert f'version = "{unpad.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_benchmark_table_has_its_place() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert re.search(r"^<!-- benchmark -->\n(.*\n)*?<!-- /benchmark -->$", text, re.MULTILINE)
