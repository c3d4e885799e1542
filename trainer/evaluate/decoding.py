"""Decoding options of training, probes and evaluation. All are set here, and none by the model's files.

Recommendations in `generation_config.json` or `config.json` are ignored, except for the tokens that end a turn, because
the model knows no others.
"""

from __future__ import annotations

from typing import Any

from trainer.models import chat_template
from trainer.patches.generation_defaults import base_of

NEUTRAL: dict[str, Any] = {
    # Length is up to the policy, within the run's token limit.
    "min_length": 0,
    "min_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    "exponential_decay_length_penalty": None,
    # One token at a time, of one sequence, by one model.
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "diversity_penalty": 0.0,
    "constraints": None,
    "force_words_ids": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "guidance_scale": None,
    "use_mtp": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "is_assistant": None,
    # The policy's own distribution.
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "token_healing": None,
    "watermarking_config": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
}
"""Options that can change the generated tokens, with their neutral values."""
WHOLE_DISTRIBUTION: dict[str, Any] = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
"""Sampling options that cut the tail of a distribution, with their neutral values."""
WITHOUT_EFFECT = (
    *("max_length", "use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size"),
    *("compile_config", "disable_compile", "continuous_batching_config", "low_memory"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("bos_token_id", "decoder_start_token_id", "num_assistant_tokens", "num_assistant_tokens_schedule"),
    *("assistant_confidence_threshold", "max_matching_ngram_size", "assistant_lookbehind", "target_lookbehind"),
    *("assistant_ensemble_weight", "speculation_type", "transformers_version", "_from_model_config"),
)
"""Fields that decide how a text is computed or returned, or that only affect options in `NEUTRAL`."""
SET_BY_US = ("max_new_tokens", "do_sample", "temperature", "eos_token_id", "pad_token_id", "suppress_tokens")
"""Fields that depend on the run or its model."""


def end_ids(model: Any, processor: Any) -> set[int]:
    """Return the tokens that end a completion: the model's, the tokenizer's, and that which ends a turn."""
    declared = base_of(model).generation_config.eos_token_id
    ids = declared if isinstance(declared, list | tuple) else [declared]
    turn = chat_template.read(processor).end_id(processor.tokenizer)
    return {i for i in (*ids, processor.tokenizer.eos_token_id, turn) if i is not None}


def placeholder_ids(model: Any) -> list[int]:
    """Return the placeholder tokens of images, because a completion with one could not be fed back to the model."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return sorted({i for i in (getattr(model.config, name, None) for name in names) if i is not None})


def options(model: Any, processor: Any, *, sampled: bool = False) -> dict[str, Any]:
    """Return the GenerationConfig arguments shared by training and evaluation; absent options are neutral.

    `sampled` adds those for sampling with transformers; evaluation samples with its own noise.
    """
    neutral = NEUTRAL | (WHOLE_DISTRIBUTION if sampled else {})
    return {
        **{name: value for name, value in neutral.items() if value is not None},
        "eos_token_id": sorted(end_ids(model, processor)),
        "pad_token_id": processor.tokenizer.pad_token_id,
        "suppress_tokens": placeholder_ids(model),
    }


def rules(model: Any, processor: Any) -> dict[str, Any]:
    """Return the options as an evaluation's condition, with tokens as text: related models number them differently."""
    words = processor.tokenizer.convert_ids_to_tokens
    return {
        **NEUTRAL,
        **WHOLE_DISTRIBUTION,
        "stop_tokens": sorted(words(sorted(end_ids(model, processor)))),
        "suppressed_tokens": sorted(words(placeholder_ids(model))),
    }
