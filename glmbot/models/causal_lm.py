"""What our model classes share: Transformers' interface, with positions by a scheme and an optional prefix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from glmbot.models.masks import padded_mask
from glmbot.models.positions import PositionScheme
from glmbot.models.prefix import PrefixedTransformer

__all__ = ["GlmCausalLM", "attend"]


class GlmCausalLM(PreTrainedModel, GenerationMixin):
    """Runs with Transformers' caches and masks, and in the shared engine when `layout` is among the arguments."""

    base_model_prefix = "transformer"
    _supports_sdpa = True
    _supports_attention_backend = True
    transformer: PrefixedTransformer
    position_scheme: PositionScheme

    def hidden_states(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        """[batch, tokens, hidden size], after the last layer norm."""
        return self.transformer(input_ids, position_ids, mask, cache, **kwargs)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden: [batch, tokens, hidden size]. Returns [batch, tokens, vocabulary]."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """input_ids: int64 [batch, tokens]; position_ids: int64 [batch, tokens], or [batch, rows, tokens] when
        the scheme has several rows.

        attention_mask: int [batch, past + tokens], 0 for padding at either side. `layout` in kwargs takes its
        place in the shared engine. Returns logits [batch, kept tokens, vocabulary].
        Raises ValueError when a step after the first comes without position_ids.
        """
        mask: Tensor | None = None
        if "layout" not in kwargs:
            if use_cache is None:
                use_cache = bool(self.config.use_cache)
            if cache is None and (use_cache or self.transformer.prefix_length):
                cache = DynamicCache()
            batch, new = input_ids.shape
            past = self.transformer.seed(cache, batch) if cache is not None else 0
            context_end: Tensor | None = None
            if past == 0:
                positions, context_end = self._first_step(input_ids, attention_mask)
                position_ids = positions if position_ids is None else position_ids
            mask = padded_mask(
                attention_mask,
                batch=batch,
                new=new,
                past=past,
                prefix=self.transformer.prefix_length,
                context_end=context_end,
            ).to(input_ids.device)
        if position_ids is None:
            raise ValueError("after the first step position_ids are needed")
        hidden = self.hidden_states(input_ids, position_ids, mask, cache, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(
            logits=cast(Any, self.logits(hidden[:, kept])),
            cache=cache if use_cache else None,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        cache: Cache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `generate` passes on: the tokens that are not cached yet, with positions out of all of them."""
        positions, _ = self._first_step(input_ids, attention_mask)
        past = self.transformer.text_length(cache)
        return {
            "input_ids": input_ids[:, past:],
            "position_ids": positions[..., past:],
            "cache": cache,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache"),
            "logits_to_keep": kwargs.get("logits_to_keep", 1),
        }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Transformers makes modules without memory first, and asks here for what no checkpoint holds."""
        super()._init_weights(module)
        if isinstance(module, PrefixedTransformer):
            module.init_buffers()

    def _first_step(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Positions of all tokens, and the column where each row's context ends [batch]."""
        batch, new = input_ids.shape
        made = torch.zeros(batch, self.position_scheme.rows, new, dtype=torch.int64)
        ends: list[int] = []
        for row, tokens in enumerate(input_ids.tolist()):
            real = list(range(new))
            if attention_mask is not None:
                real = cast(list[int], attention_mask[row].nonzero()[:, 0].tolist())
            prompt = [tokens[column] for column in real]
            made[row][:, real] = torch.tensor(self.position_scheme.positions(prompt, 0, len(prompt)))
            ends.append((real[0] if real else 0) + self.position_scheme.context_length(prompt))
        positions = made if self.position_scheme.rows > 1 else made[:, 0]
        return positions.to(input_ids.device), torch.tensor(ends, device=input_ids.device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    cache: Cache | None,
    **kwargs: Any,
) -> Tensor:
    """Attention as `module.config` names it, over the cache and the new keys.

    query: [batch, heads, tokens, head_dim]; key, value: [batch, kv_heads, tokens, head_dim].
    Returns [batch, tokens, heads · head_dim].
    """
    owner: Any = module
    if cache is not None:
        key, value = cache.update(key, value, owner.layer_idx)
    chosen = cast(
        Callable[..., tuple[Tensor, Any]],
        ALL_ATTENTION_FUNCTIONS.get_interface(owner.config._attn_implementation, sdpa_attention_forward),
    )
    scaling = query.shape[-1] ** -0.5
    out, _ = chosen(module, query, key, value, mask, scaling=scaling, dropout=0.0, **kwargs)
    return out.flatten(2)
