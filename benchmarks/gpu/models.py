"""Write models with the real shapes of SmolVLM and Qwen2-VL and random weights, so that no download is needed.

The shapes are those of the public configurations. The tokenizer is the embedded model's, with a vocabulary of the real
size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from trainer.models import loading
from trainer.patches.processors import image_only
from trainer.tiny import architecture

SMOLVLM_256M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49280,
}
SMOLVLM_500M = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "vocab_size": 49280,
}
SMOLVLM_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
QWEN2_VL_2B = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
QWEN2_VL_VISION = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16}
SMALL_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 640,
}
"""Replacements of the real shape for a check on a CPU."""
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(name: str, folder: Path, *, small: bool) -> Path:
    """Return the model's folder, written if necessary, in bfloat16 (float32 on a CPU); `small` is for a check."""
    place = folder / (f"{name}-small" if small else name)
    if not (place / "config.json").exists():
        WRITERS[name](place, small)
    return place


def _save(folder: Path, model_of: Callable[[], Any], processor: Any) -> None:
    torch.manual_seed(0)
    device = loading.device()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with torch.device(device):  # random numbers for two billion weights take minutes on a CPU
            model = model_of()
    finally:
        torch.set_default_dtype(before)
    special = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    model.generation_config.update(**special)
    processor.save_pretrained(folder)
    model.save_pretrained(folder)


def _smolvlm(text: dict[str, Any], folder: Path, small: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loading.TINY_FOLDER)
    tokenizer.add_tokens([f"<row_{r}_col_{c}>" for r in range(1, 6) for c in range(1, 6)], special_tokens=True)
    tile = 96 if small else 512
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            do_image_splitting=True, size={"longest_edge": 4 * tile}, max_image_size={"longest_edge": tile}
        ),
        tokenizer=tokenizer,
        image_seq_len=architecture.image_tokens(tile) if small else 64,
        chat_template=architecture.CHAT_TEMPLATE,
    )
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    special["eos_token_id"] = tokenizer.eos_token_id
    looked = SMOLVLM_VISION | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "image_size": tile}
    described = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2 if small else 4,
        tie_word_embeddings=False,
        vision_config=looked | {"num_attention_heads": 2} if small else SMOLVLM_VISION,
        text_config={
            "model_type": "llama",
            "max_position_embeddings": 8192,
            "tie_word_embeddings": False,
            **(SMALL_TEXT if small else text),
            **special,
        },
        **special,
    )
    _save(folder, lambda: Idefics3ForConditionalGeneration(described), processor)


def _qwen2_vl(folder: Path, small: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loading.TINY_FOLDER)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens(list(QWEN_TOKENS), special_tokens=True)
    tokenizer.chat_template = QWEN_TEMPLATE
    processor = image_only(Qwen2VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    described = Qwen2VLConfig(
        text_config={"bos_token_id": None, **(SMALL_TEXT | rope if small else QWEN2_VL_2B), **special},
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 2} if small else QWEN2_VL_VISION,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    _save(folder, lambda: Qwen2VLForConditionalGeneration(described), processor)


WRITERS: dict[str, Callable[[Path, bool], None]] = {
    "smolvlm-256m": lambda folder, small: _smolvlm(SMOLVLM_256M, folder, small),
    "smolvlm-500m": lambda folder, small: _smolvlm(SMOLVLM_500M, folder, small),
    "qwen2-vl-2b": _qwen2_vl,
}
