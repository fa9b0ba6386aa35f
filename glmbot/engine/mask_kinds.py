"""What the masks hide that models ask Transformers for; the shared engine makes none of them.

Transformers describes a mask by a function of two places in a sequence, made of a few that it has names for.
https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

__all__ = ["Window", "window_of"]

# Those that hide what comes later, or other sequences: the layout says that anyway.
_KNOWN = frozenset({
    "causal_mask_function", "and_masks", "padding_mask_function", "packed_sequence_mask_function",
    "remap_positions_for_packed_sequence", "add_offsets_to_mask_function",
})  # fmt: skip
_WINDOWS = {"sliding_window_overlay": ("sliding_window", False), "chunked_overlay": ("chunk_size", True)}


@dataclass(frozen=True, slots=True)
class Window:
    """In place of a mask: a token sees `size` tokens at most, itself included."""

    size: int
    chunked: bool
    """Those of its own chunk instead of the last ones: every `size` tokens a new one begins."""

    def __getitem__(self, _: object) -> Window:
        """A model may cut a mask to the length of its keys."""
        return self


def window_of(mask_function: Any = None, **_: Any) -> Window | None:
    """Called by Transformers in place of making a mask. None for one that hides nothing of a token's own past.

    Raises NotImplementedError for one that is not known here.
    """
    windows: list[Window] = []
    for name, kept in _parts(mask_function):
        if name in _WINDOWS:
            field, chunked = _WINDOWS[name]
            windows.append(Window(int(kept[field]), chunked))
        elif name not in _KNOWN:
            raise NotImplementedError(f"its attention sees tokens by {name}, which glmbot's does not know")
    if len(windows) > 1:
        raise NotImplementedError("its attention has several windows at once, which glmbot's does not know")
    return windows[0] if windows else None


def _parts(function: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The functions that one is made of, by the names of what made them, and the values that they hold."""
    if not isinstance(function, FunctionType):
        return
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    kept = {name: cell.cell_contents for name, cell in cells}
    yield function.__qualname__.partition(".")[0], kept
    for value in kept.values():
        for inner in value if isinstance(value, tuple) else (value,):
            yield from _parts(inner)
