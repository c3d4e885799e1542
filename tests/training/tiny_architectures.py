"""Random models of further architectures: those that share prompts and pictures, and some that step aside.

As in `tiny_models`, they speak the embedded model's vocabulary and are small enough to train in a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)

from benchmarks.gpu.models import QWEN_TEMPLATE, QWEN_TOKENS
from trainer.models.loading import TINY_FOLDER
from trainer.patches.processors import image_only
from trainer.tiny import architecture

EDGE, PATCH = 28, 14
"""Pixels of a tile and of a patch."""
TEXT = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
SIGLIP = dict(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=EDGE,
    patch_size=PATCH,
    vision_use_head=False,
)
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
TILES = [[EDGE, EDGE], [EDGE, 2 * EDGE], [2 * EDGE, EDGE], [2 * EDGE, 2 * EDGE]]


def _template(image: str) -> str:
    return QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", image)


def _tokenizer(image: str, *tokens: str, **named: str) -> Any:
    """The embedded model's, with further special tokens; `image` is what a template writes for a picture."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER, **({"extra_special_tokens": named} if named else {}))
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens([*tokens, *named.values()], special_tokens=True)
    tokenizer.chat_template = _template(image)
    return tokenizer


def _special(tokenizer: Any) -> dict[str, int]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}


def _text(tokenizer: Any, kind: str, **further: Any) -> dict[str, Any]:
    return dict(model_type=kind, vocab_size=len(tokenizer), **TEXT, **_special(tokenizer), **further)


def _save(folder: Path, model: Any, processor: Any) -> Path:
    special = _special(processor.tokenizer)
    model.generation_config.update(**{name: value for name, value in special.items() if value is not None})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_smolvlm2(folder: Path) -> Path:
    """SmolVLM2's classes with tiles of 96 pixels, four of them and the whole."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    tokenizer.add_tokens([f"<row_{row}_col_{col}>" for row in (1, 2) for col in (1, 2)], special_tokens=True)
    template = architecture.CHAT_TEMPLATE
    processor = image_only(SmolVLMProcessor)(
        image_processor=SmolVLMImageProcessorPil(
            do_image_splitting=True, size={"longest_edge": 192}, max_image_size={"longest_edge": 96}
        ),
        tokenizer=tokenizer,
        image_seq_len=architecture.image_tokens(96),
        chat_template=template,
    )
    described = architecture.build_model(tokenizer, 96).config.to_dict() | {"model_type": "smolvlm"}
    described["vision_config"] |= {"model_type": "smolvlm_vision"}
    return _save(folder, SmolVLMForConditionalGeneration(SmolVLMConfig.from_dict(described)), processor)


def write_qwen25vl(folder: Path) -> Path:
    tokenizer = _tokenizer("<|vision_start|><|image_pad|><|vision_end|>", *QWEN_TOKENS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=_text(tokenizer, "qwen2_5_vl_text", rope_parameters=ROPE),
            vision_config=dict(
                depth=2,
                hidden_size=64,
                intermediate_size=128,
                num_heads=2,
                out_hidden_size=64,
                patch_size=PATCH,
                window_size=56,
                fullatt_block_indexes=[1],
            ),
            **dict(image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end),
        )
    )
    return _save(folder, model, _qwen(Qwen2_5_VLProcessor, tokenizer, PATCH))


def write_qwen3vl(folder: Path) -> Path:
    tokenizer = _tokenizer("<|vision_start|><|image_pad|><|vision_end|>", *QWEN_TOKENS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config=_text(tokenizer, "qwen3_vl_text", rope_parameters=ROPE, head_dim=16),
            vision_config=dict(
                depth=3,
                hidden_size=64,
                intermediate_size=128,
                num_heads=2,
                out_hidden_size=64,
                patch_size=16,
                num_position_embeddings=64,
                deepstack_visual_indexes=[0, 1],
            ),
            **dict(image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end),
            tie_word_embeddings=True,
        )
    )
    return _save(folder, model, _qwen(Qwen3VLProcessor, tokenizer, 16))


def _qwen(kind: type, tokenizer: Any, patch: int) -> Any:
    area = (2 * patch) ** 2
    return image_only(kind)(
        image_processor=Qwen2VLImageProcessorPil(
            size={"shortest_edge": area, "longest_edge": 16 * area}, patch_size=patch
        ),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def write_internvl(folder: Path, text: str = "qwen2") -> Path:
    """Tiles of 28 pixels, at most four and the whole, an image token each."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer("<IMG_CONTEXT>", **named)
    processor = image_only(InternVLProcessor)(
        image_processor=GotOcr2ImageProcessorPil(
            size={"height": EDGE, "width": EDGE}, crop_to_patches=True, max_patches=4
        ),
        tokenizer=tokenizer,
        image_seq_length=1,
        chat_template=tokenizer.chat_template,
    )
    model = InternVLForConditionalGeneration(
        InternVLConfig(
            text_config=_text(tokenizer, text, head_dim=16),
            vision_config=dict(
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=EDGE,
                patch_size=PATCH,
            ),
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=1,
        )
    )
    return _save(folder, model, processor)


def write_gemma3(folder: Path) -> Path:
    """A window shorter than a prompt, and one layer in two that sees all."""
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer("<start_of_image>", **named)
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    begin, end, image = tokenizer.convert_tokens_to_ids([*named.values()])
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=_text(
                tokenizer,
                "gemma3_text",
                head_dim=16,
                sliding_window=16,
                layer_types=["sliding_attention", "full_attention"],
            ),
            vision_config=SIGLIP | {"image_size": 56, "model_type": "siglip_vision_model"},
            mm_tokens_per_image=4,
            **dict(image_token_index=image, boi_token_index=begin, eoi_token_index=end),
            **_special(tokenizer),
        )
    )
    return _save(folder, model, processor)


def write_onevision(folder: Path) -> Path:
    """A picture as a whole and as two or four tiles, four tokens each."""
    tokenizer = _tokenizer("<image>", "<image>", "<video>")
    processor = image_only(LlavaOnevisionProcessor)(
        image_processor=LlavaOnevisionImageProcessorPil(
            size={"height": EDGE, "width": EDGE}, image_grid_pinpoints=TILES
        ),
        tokenizer=tokenizer,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            text_config=_text(tokenizer, "qwen2"),
            vision_config=SIGLIP | {"model_type": "siglip_vision_model"},
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=TILES,
        )
    )
    return _save(folder, model, processor)


def write_llava(folder: Path) -> Path:
    return _write_llava(folder, LlavaImageProcessorPil, LlavaProcessor, LlavaConfig, LlavaForConditionalGeneration)


def write_llavanext(folder: Path) -> Path:
    kinds = LlavaNextImageProcessorPil, LlavaNextProcessor, LlavaNextConfig, LlavaNextForConditionalGeneration
    return _write_llava(folder, *kinds, image_grid_pinpoints=TILES)


def _write_llava(folder: Path, images: Any, kind: Any, described: Any, model: Any, **further: Any) -> Path:
    tokenizer = _tokenizer("<image>", "<image>")
    edge = {"height": EDGE, "width": EDGE}
    processor = kind(
        image_processor=images(size={"shortest_edge": EDGE}, crop_size=edge, **further),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    made = described(
        text_config=_text(tokenizer, "llama"),
        vision_config=SIGLIP | {"model_type": "siglip_vision_model"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        **further,
    )
    return _save(folder, model(made), processor)


def write_qwen35(folder: Path) -> Path:
    """One layer in two has a recurrent state instead of keys and values."""
    tokenizer = _tokenizer("<|vision_start|><|image_pad|><|vision_end|>", *QWEN_TOKENS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    linear = dict(linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4)
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0}
    model = Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(
            text_config=_text(
                tokenizer,
                "qwen3_5_text",
                head_dim=16,
                rope_parameters=rope,
                layer_types=["linear_attention", "full_attention"],
                **linear,
            ),
            vision_config=dict(
                depth=2,
                hidden_size=64,
                intermediate_size=128,
                num_heads=2,
                out_hidden_size=64,
                patch_size=16,
                num_position_embeddings=64,
            ),
            **dict(image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end),
        )
    )
    return _save(folder, model, _qwen(Qwen3VLProcessor, tokenizer, 16))


SHARING: dict[str, Callable[[Path], Path]] = {
    "smolvlm2": write_smolvlm2,
    "qwen25vl": write_qwen25vl,
    "qwen3vl": write_qwen3vl,
    "internvl": write_internvl,
    "internvl35": partial(write_internvl, text="qwen3"),
    "gemma3": write_gemma3,
    "onevision": write_onevision,
}
STEPPING_ASIDE: dict[str, Callable[[Path], Path]] = {
    "llava": write_llava,
    "llavanext": write_llavanext,
    "qwen35": write_qwen35,
}
