"""Randomly initialised models of the real architectures, small enough to train in a test, written into a folder.

Both speak the embedded model's vocabulary. Widths are multiples of 64, which bitsandbytes' nf4 needs on the CPU.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from benchmarks.gpu.models import QWEN_TEMPLATE, QWEN_TOKENS
from trainer.models.loading import TINY_FOLDER
from trainer.patches.processors import image_only
from trainer.tiny import architecture

TILE = 96


def write_smolvlm(folder: Path) -> Path:
    """SmolVLM-256M's classes with tiles of 96 pixels (9 image tokens), four of them at its default size."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    rows = [f"<row_{row}_col_{column}>" for row in (1, 2, 3, 4) for column in (1, 2, 3, 4)]
    tokenizer.add_tokens(rows, special_tokens=True)
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            do_image_splitting=True, size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
        ),
        tokenizer=tokenizer,
        image_seq_len=architecture.image_tokens(TILE),
        chat_template=architecture.CHAT_TEMPLATE,
    )
    architecture.build_model(tokenizer, TILE).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_qwen2vl(folder: Path) -> Path:
    """Qwen2-VL's classes with patches of 14 pixels, four of them an image token."""
    torch.manual_seed(0)
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(TINY_FOLDER)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens(list(QWEN_TOKENS), special_tokens=True)
    tokenizer.chat_template = QWEN_TEMPLATE
    processor = image_only(Qwen2VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_parameters=dict(rope_type="default", rope_theta=10_000.0, mrope_section=[2, 3, 3]),
            bos_token_id=None,
            **special,
        ),
        vision_config=dict(depth=2, embed_dim=64, hidden_size=64, num_heads=2, patch_size=14, spatial_merge_size=2),
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.update(**special)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


WRITERS = {"smolvlm": write_smolvlm, "qwen2vl": write_qwen2vl}
