"""Where a platform's token comes from: the environment or the configuration, or a file of its own."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from glmbot.errors import AdapterError

__all__ = ["TokenSettings"]


class TokenSettings(BaseModel):
    """The part that the settings of every platform with a token share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr | None = Field(
        default=None, description="Better in the environment (GLMBOT_SECTION__TOKEN), or in token_file."
    )
    token_file: Path | None = Field(default=None, description="A file with the token alone in it.")

    def read_token(self, section: str) -> str:
        """Raises AdapterError that says where a token may come from."""
        if self.token is not None:
            return self.token.get_secret_value().strip()
        if self.token_file is None:
            raise AdapterError(
                f"[{section}] no token; set GLMBOT_{section.upper()}__TOKEN in the environment, or token_file"
                " in the configuration"
            )
        try:
            return self.token_file.read_text("utf-8").strip()
        except OSError as error:
            raise AdapterError(f"[{section}] token_file: {error}") from error
