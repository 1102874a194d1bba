"""A random Qwen3 embedding model with a byte-level tokenizer, made on the spot and saved as the published one is."""

import sys
from pathlib import Path

import torch

PROMPTS = ["Liver", "left kidney", "the lesion in the upper lobe of the right lung, next to the hilum"]


def write_text_model(folder: Path, width: int = 2560, seed: int = 1) -> None:
    """Write config, weights and tokenizer: two layers, `width` numbers per token."""
    sys.modules.setdefault("torchvision", None)  # as in voxtell.text.encoders, for the same reason
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad = "<|endoftext|>"
    tokenizer.add_special_tokens([pad])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=pad).save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=300, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=8192,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(folder)
