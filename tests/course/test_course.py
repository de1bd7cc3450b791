"""Every code block of the documents runs, in their order, against a local Hub; what does not depend on weights is as printed there."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import blocks
import check
import pytest


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """Folder of a Hub with all stand-ins, built once by whichever process comes first."""
    shared = Path(tmp_path_factory.getbasetemp()).parent
    folder = shared / "course"
    with (shared / "course.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            script = f"import standins; from pathlib import Path; standins.build(Path({str(folder / 'hub')!r}), Path({str(real_data)!r}))"
            env = {
                "PYTHONPATH": f"{check.HERE}:{check.HERE.parents[1] / 'src'}",
                "HF_HUB_OFFLINE": "1",
                "HOME": str(folder),
            }
            folder.mkdir()
            subprocess.run([sys.executable, "-c", script], check=True, env=env)
            (folder / "done").touch()
    return folder / "hub"


@pytest.mark.parametrize("file", check.FILES, ids=lambda file: file.stem)
def test_the_blocks_of_a_document_run_in_order(file: Path, hub: Path) -> None:
    wrong = [result for result in check.run(file, hub) if not result["passed"]]
    assert not wrong, "\n".join(f"block {result['number']} ({result['kind']}): {result['error']}" for result in wrong)


def test_every_block_of_the_documents_has_a_counterpart_that_asks_for_the_same() -> None:
    documents: list[Any] = blocks.documents()
    if not documents:
        pytest.skip("the documents are not beside the project")
    wrong = {key: problem for key, problem in check.coverage(documents).items() if problem}
    assert not wrong, wrong
