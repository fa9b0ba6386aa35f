"""Which stored tensors a module's parameters are made of: published names are not always those of Transformers 5.

Transformers renames and fuses while it loads (experts of a mixture into one tensor, for one). Its own mapping says
how, and its own operations do it; here they are done for one parameter at a time, when that is read.
https://huggingface.co/docs/transformers/weightconverter
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from glmbot.models.checkpoint import Conversion

__all__ = ["conversions", "renamed"]

_Read = Callable[[str], Tensor]


class _Outline:
    """A module as it was when it was made: an operation that looks for a parameter's size finds it, whatever has
    taken its place since."""

    def __init__(self, module: nn.Module) -> None:
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self.config = cast(Any, module).config

    def get_parameter(self, name: str) -> nn.Parameter:
        return self._parameters[name]


@dataclass(frozen=True, slots=True)
class _Names:
    """The mapping of one module's classes."""

    renamings: list[WeightRenaming]
    converters: list[WeightConverter]
    base: str
    state: Mapping[str, Any]

    def of(self, stored: str) -> tuple[str, str | None]:
        """The parameter's name, and the pattern of a converter where one makes it."""
        name, pattern = self._renamed(stored, self.renamings, self.converters)
        if name not in self.state and stored in self.state:
            name, pattern = self._renamed(stored, [], [])
        return name, pattern

    def _renamed(
        self, stored: str, renamings: list[WeightRenaming], converters: list[WeightConverter]
    ) -> tuple[str, str | None]:
        return rename_source_key(stored, renamings, converters, self.base, cast(dict[str, Any], self.state))


def conversions(module: nn.Module, stored: Set[str]) -> dict[str, Conversion]:
    """How each parameter of `module` whose name is not among the `stored` ones is made of those."""
    owner: Any = module
    mapping = get_model_conversion_mapping(owner)
    names = _Names(
        [entry for entry in mapping if isinstance(entry, WeightRenaming)],
        [entry for entry in mapping if isinstance(entry, WeightConverter)],
        owner.base_model_prefix,
        module.state_dict(),
    )
    by_pattern = {pattern: each for each in names.converters for pattern in each.source_patterns}
    outline = _Outline(module)
    made: dict[str, Conversion] = {}
    gathered: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(stored, key=dot_natural_key):
        target, pattern = names.of(name)
        if target not in names.state:
            continue
        if pattern is not None:
            gathered.setdefault(target, []).append((name, pattern))
        elif target != name:
            made[target] = renamed(name)
    for first, parts in gathered.items():
        converter = by_pattern[parts[0][1]]
        sources = tuple(name for name, _ in parts)
        patterns = converter.target_patterns
        for target in {first.replace(patterns[0], pattern, 1) for pattern in patterns}:
            made[target] = Conversion(sources, partial(_converted, outline, converter, first, parts, target))
    _share_tied(owner, stored, made)
    return made


def renamed(name: str) -> Conversion:
    """The stored tensor as it is."""
    return Conversion((name,), lambda read: read(name), lambda codes: codes)


def _converted(
    outline: _Outline,
    converter: WeightConverter,
    first: str,
    parts: list[tuple[str, str]],
    target: str,
    read: _Read,
) -> Tensor:
    work: Any = deepcopy(converter)
    for name, pattern in parts:
        work.add_tensor(first, name, pattern, partial(read, name))
    found = work.convert(first, model=cast(Any, outline), config=outline.config)[target]
    return found[0] if isinstance(found, list) else found


def _share_tied(owner: Any, stored: Set[str], made: dict[str, Conversion]) -> None:
    """Tied weights may be stored under either name."""
    tied = getattr(owner, "_tied_weights_keys", None)
    if not isinstance(tied, dict) or not getattr(
        owner.config.get_text_config(), "tie_word_embeddings", False
    ):
        return
    for name, source in cast(dict[str, str], tied).items():
        there = stored | made.keys()
        if source not in there and name in there:
            made[source] = made.get(name) or renamed(name)
