"""A tiny chat model, trained tokenizer and random weights, in a folder laid out like any other."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    "The quick brown fox jumps over the lazy dog. What is the capital of France? Paris, of course!",
    "你好，世界。今天天气很好，我们去公园散步吧。人工智能可以回答很多问题。",
    "def main():\n    print('hello')\n\n- one\n- two\n\n1. first\n2. second\n",
    'Numbers 0 1 2 3 4 5 6 7 8 9, (brackets), "quotes" and emoji 🙂🎉 belong to a chat.',
]

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_tiny_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", additional_special_tokens=SPECIAL
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return fast


def write_tiny_model(
    folder: Path, *, seed: int = 1, heads: int = 4, kv_heads: int = 2, hidden: int = 64, layers: int = 2
) -> Path:
    """Vocabulary about 500, 2048 positions."""
    fast = write_tiny_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        eos_token_id=fast.convert_tokens_to_ids("<|im_end|>"),
        bos_token_id=None,
        initializer_range=1.6 * hidden**-0.5,
    )
    model = LlamaForCausalLM(config)
    # Its greedy answers never end by themselves, so that tests decide how long they are.
    for token in SPECIAL:
        model.lm_head.weight.data[fast.convert_tokens_to_ids(token)] = 0
    # And they are mostly words rather than loose bytes.
    model.lm_head.weight.data[len(SPECIAL) : len(SPECIAL) + 256] *= 0.4
    model.save_pretrained(folder)
    return folder
