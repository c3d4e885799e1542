"""Patches of private functions of TRL, transformers, torch and bitsandbytes. Read this list before you upgrade any of
them. Each module says why, in which versions the library's code was read, and which test is its contract.

Replaced or wrapped names, and the modules that do it:

    trl.trainer.grpo_trainer.shuffle_sequence_dict             grouping
    trl.trainer.utils._use_triton                              vocabulary
    torch.multinomial, while several processes sample          sampling
    generate of a loaded model, and its DynamicCache           decoding_loop
    weights of a base, while its adapter is merged             merging
    model.generation_config, while the model generates         generation_defaults
    GRPOTrainer._get_train_sampler and RepeatSampler           epoch_order, grpo_trainer
    GRPOTrainer._prepare_inputs, _generate                     grpo_trainer
    GRPOTrainer.compute_loss, entropy_coef, _metrics           grpo_trainer
    GRPOTrainer._get_per_token_logps_and_entropies,
        batch_num_images of LLaVA-OneVision                    grpo_trainer
    GRPOTrainer.eos_token_ids                                  trainers
    SFTTrainer.model_accepts_loss_kwargs                       trainers
    SFTTrainer._total_train_tokens                             trainers
    PrinterCallback                                            trainers
    Linear4bit.support_avx512bf16_for_cpu                      quantized
    the logger bitsandbytes.backends.cpu.ops                   quantized
    TRL's cast of a quantized base's adapter to bfloat16       quantized
    forward of a loaded model's backbone                       prefix_sharing
    get_image_features of a loaded model's backbone            vision_cache
    the class of an image processor                            pixels
    the class of a processor with a video part                 processors

One module is elsewhere, because it imports nothing of ours, so that scripts can use it as a single file.

    _generate, _calculate_rewards and
        _generate_and_score_completions of a trainer,
        _metrics and _tokenizer                                trainer/record/vr1z.py

Names that are only called, although they are private or specific to a version: TRL's `parse_response` and
`prepare_multimodal_messages` in trainer/evaluate/reward_arguments.py; `fused_lm_head` of TRL's forward in
trainer/train/calibration.py; `_commit_hash` of a configuration in trainer/models/loading.py.
tests/training/test_trl_contract.py pins TRL's version.
"""
