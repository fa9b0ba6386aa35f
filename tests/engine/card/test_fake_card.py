"""Nothing of a decoding step is read by the host, or comes from it, while it is recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chatglm_folder import write_chatglm_folder
from tiny_model import write_tiny_model


def test_whole_steps_are_computed_on_a_card_that_holds_no_numbers(tmp_path: Path) -> None:
    """In a process of its own: a device of torch's that Python plays stays for as long as the process."""
    folders = [
        write_chatglm_folder(tmp_path / "chatglm-6b", "chatglm-6b"),
        write_tiny_model(tmp_path / "llama"),
    ]
    script = Path(__file__).parent / "on_fake_card.py"
    done = subprocess.run(
        [sys.executable, str(script), *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["chatglm-6b decodes", "llama decodes"]
