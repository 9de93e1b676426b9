"""A small GPT-2 model, trained by the Trainer of transformers with `xpent.torch.linear_cross_entropy`."""

import tempfile
from typing import Any

import torch
import transformers
from compare import compare
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput

import xpent.torch

STEPS, VOCABULARY = 60, 500


class WithoutLogits(transformers.GPT2LMHeadModel):
    """GPT-2 with a loss that is computed from the last hidden states in blocks."""

    def forward(
        self, input_ids: Tensor, labels: Tensor, num_items_in_batch: Tensor | None = None, **options: Any
    ) -> CausalLMOutput:
        """Compute the loss of all tokens except the first: the mean, or the sum divided by ``num_items_in_batch``."""
        features = self.transformer(input_ids, **options).last_hidden_state[:, :-1].flatten(0, 1)
        targets, weight = labels[:, 1:].flatten(), self.lm_head.weight
        if num_items_in_batch is None:
            return CausalLMOutput(loss=xpent.torch.linear_cross_entropy(features, weight, targets))
        total = xpent.torch.linear_cross_entropy(features, weight, targets, reduction="sum")
        return CausalLMOutput(loss=total / num_items_in_batch)


def texts() -> list[dict[str, Tensor]]:
    """Sequences in which each token determines the next; some labels are -100, which is ignored."""
    generator = torch.Generator().manual_seed(0)
    starts, steps = torch.randint(VOCABULARY, (2, 64, 1), generator=generator)
    tokens = (starts + steps.remainder(3) * torch.arange(32)).remainder(VOCABULARY)
    labels = tokens.masked_fill(torch.rand(tokens.shape, generator=generator) < 0.1, -100)
    return [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]


def train(model_class: type[transformers.GPT2LMHeadModel]) -> list[float]:
    """Train with gradient accumulation, and return the losses."""
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=64, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=8, gradient_accumulation_steps=2, learning_rate=3e-3,
            logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=0,
        )  # fmt: skip
        model = model_class(config)
        model.loss_type = "ForCausalLM"  # without it, transformers averages over each micro-batch
        trainer = transformers.Trainer(model, arguments, train_dataset=texts())
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    """Train with the loss of the model, which computes all logits, and with the blockwise loss."""
    # Products are summed in a different order than in the output layer of the model, so u is that of a sum.
    compare("transformers", train(transformers.GPT2LMHeadModel), train(WithoutLogits), u=2.0**-22)


if __name__ == "__main__":
    main()
