"""Getting a model's files from the Hugging Face hub, by the hub's own client library."""

from __future__ import annotations

import os
from pathlib import Path

from glmbot.errors import ModelFileError

__all__ = ["pull_model"]

# Weights, configuration, vocabulary, chat template: never code.
_WANTED = ["*.json", "*.model", "*.safetensors", "*.bin", "*.txt", "*.jinja"]
# Weights twice over, in formats that are not read here.
_UNWANTED = ["*.msgpack", "*.h5", "original/*", "onnx/*", "*.gguf"]


def pull_model(repository: str, folder: Path) -> Path:
    """Download `repository` ("owner/name") into `folder` and return it. What is there already is kept, and an
    interrupted download goes on where it stopped. Raises ModelFileError."""
    # The rest of glmbot never reaches for a network; the library reads this as it is imported.
    os.environ["HF_HUB_OFFLINE"] = "0"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot_download(repository, local_dir=folder, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except HFValidationError as error:
        raise ModelFileError(
            f'{repository}: not a model\'s name on the hub ("owner/name"): {error}'
        ) from error
    except HfHubHTTPError as error:
        raise ModelFileError(f"{repository}: the hub refused it: {_first_line(error)}") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelFileError(
            f"{repository}: the hub can't be reached ({_first_line(error)}); set HF_ENDPOINT to use a mirror, or"
            " copy the model's folder here and set [model] path"
        ) from error
    if not (folder / "config.json").is_file():
        raise ModelFileError(f"{repository}: holds no config.json; it is not a model for Transformers")
    return folder


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
