"""Tiny ChatGLM models in folders laid out exactly as the published ones are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import torch
from torch import Tensor

from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.chatglm.model import ChatGLMForCausalLM
from glmbot.models.chatglm.tokenizer import CONTROL, ChatGLMTokenizer
from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.quantization.formats import pack_nibbles, quantize_rows

Generation = Literal["chatglm-6b", "chatglm2-6b", "chatglm3-6b"]
GENERATIONS: tuple[Generation, ...] = ("chatglm-6b", "chatglm2-6b", "chatglm3-6b")

BILINGUAL = [
    "The quick brown fox jumps over the lazy dog. What is the capital of France? Paris, of course!",
    "你好，世界。今天天气很好，我们去公园散步吧。人工智能可以回答很多问题。",
    "[Round 0] 问：你是谁？ 答：我是一个人工智能助手，可以帮助你。[Round 1] 问：请介绍一下北京。 答：",
    "北京是中国的首都，有很多名胜古迹：长城、故宫、天坛；欢迎你来！",
    "def main(): print('hello') # numbers 0 1 2 3 4 5 6 7 8 9, (brackets), \"quotes\"",
    "机器学习是人工智能的一个分支，它让计算机从数据中学习。深度学习使用神经网络。",
]


def train_ice_text(file: Path, *, normalisation: str = "nmt_nfkc", strip: bool = False) -> None:
    """A SentencePiece model with the pieces of ChatGLM-6B's `ice_text.model`."""
    whitespace = ["<n>", "<|tab|>", *(f"<|blank_{count}|>" for count in range(2, 81))]
    _train(
        file,
        user_defined_symbols=[*whitespace, *CONTROL],
        pad_id=3,
        normalization_rule_name=normalisation,
        remove_extra_whitespaces=strip,
        vocab_size=800,
    )


def train_tokenizer_model(file: Path) -> None:
    """A SentencePiece model like ChatGLM2-6B's and ChatGLM3-6B's `tokenizer.model`."""
    _train(file, normalization_rule_name="identity", remove_extra_whitespaces=False, vocab_size=700)


def _train(file: Path, **settings: Any) -> None:
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(BILINGUAL * 4),
        model_writer=model,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    file.write_bytes(model.getvalue())


def write_chatglm_folder(
    folder: Path,
    generation: Generation,
    *,
    seed: int = 1,
    bits: int | None = None,
    shards: int = 2,
    **changes: Any,
) -> Path:
    """config.json, tokenizer files and weights in `shards` .bin files with their index; `bits` for a
    published quantised checkpoint; `changes` to the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = chatglm_config(folder, generation, **changes)
    first = generation == "chatglm-6b"
    torch.manual_seed(seed)
    model = ChatGLMForCausalLM(config) if first else ChatGLM2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "prefix_encoder.embedding" in name:
            torch.nn.init.normal_(parameter, std=1.0)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=1.2 * parameter.shape[-1] ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    head: Any = model.lm_head if first else model.transformer.output_layer
    # Greedy answers never end by themselves, and are words rather than control tokens and loose bytes.
    quiet = 360 if first else 259
    head.weight.data[:quiet] = 0
    head.weight.data[800 if first else 700 :] = 0
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    # A buffer that the published checkpoints hold and nobody needs.
    owner = "transformer.layers.0.attention.rotary_emb" if first else "transformer.rotary_pos_emb"
    weights[f"{owner}.inv_freq"] = torch.ones(4).half()
    if bits is not None:
        weights = quantised(weights, bits)
    write_shards(folder, weights, shards)
    return folder


def quantised(weights: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """The weights as the published quantised checkpoints hold them."""
    made: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".layers." in name and name.endswith(".weight") and tensor.dim() == 2:
            integers, scale = quantize_rows(tensor, bits)
            made[name] = pack_nibbles(integers) if bits == 4 else integers
            made[f"{name}_scale"] = scale
        else:
            made[name] = tensor
    return made


def write_shards(folder: Path, weights: Mapping[str, Tensor], shards: int) -> None:
    names = list(weights)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05d}-of-{shards:05d}.bin"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        torch.save({name: weights[name].clone() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), "utf-8")


def chatglm_config(folder: Path, generation: Generation, **changes: Any) -> Any:
    """Writes config.json and the tokenizer's files."""
    auto_map = {
        "AutoConfig": "configuration_chatglm.ChatGLMConfig",
        "AutoModel": "modeling_chatglm.ChatGLMModel",
    }
    fields: dict[str, Any] = {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": auto_map,
    }
    fields |= {"hidden_size": 64, "num_layers": 2, "num_attention_heads": 4, "torch_dtype": "float16"}
    settings: dict[str, Any] = {
        "name_or_path": f"THUDM/{generation}",
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    }
    if generation == "chatglm-6b":
        train_ice_text(folder / "ice_text.model")
        settings["num_image_tokens"] = 0
        tokenizer = ChatGLMTokenizer(str(folder / "ice_text.model"), num_image_tokens=0)
        fields |= {
            "vocab_size": -(-tokenizer.vocab_size // 64) * 64,
            "inner_hidden_size": 128,
            "max_sequence_length": 2048,
            "layernorm_epsilon": 1e-5,
            "position_encoding_2d": True,
            "bos_token_id": tokenizer.id_of("<sop>"),
            "eos_token_id": tokenizer.id_of("<eop>"),
            "mask_token_id": tokenizer.id_of("[MASK]"),
            "gmask_token_id": tokenizer.id_of("[gMASK]"),
            "pad_token_id": 3,
        }
    else:
        train_tokenizer_model(folder / "tokenizer.model")
        tokenizer = ChatGLM2Tokenizer(str(folder / "tokenizer.model"))
        fields |= {
            "padded_vocab_size": -(-tokenizer.vocab_size // 64) * 64,
            "kv_channels": 16,
            "ffn_hidden_size": 96,
            "seq_length": 2048,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "add_qkv_bias": True,
            "rmsnorm": True,
            "layernorm_epsilon": 1e-5,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
    fields |= changes
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return (ChatGLMConfig if generation == "chatglm-6b" else ChatGLM2Config)(
        **{name: value for name, value in fields.items() if name not in ("model_type", "auto_map")}
    )
