"""The video model: layout, warp, denoiser, sampler, tokenizer and their training."""
