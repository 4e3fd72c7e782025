"""TRL's GRPO trainer, told where a sample can have been drawn and what each drawn token is learned by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..policies.vla.model import Mode
from ..policies.vla.tokens import Vocabulary


def written_columns(vocabulary: Vocabulary, mode: Mode, ids: Tensor, begin: int) -> Tensor:
    """Columns of ids [B, L] from `begin` on in which any row may have drawn its token.

    In fast mode these are the two numbers that follow `<act>`, drawn or held; in slow mode, where thoughts have any length, all.
    """
    places = torch.arange(begin, ids.shape[1], device=ids.device)
    if mode == "slow":
        return places
    opened = ids == vocabulary.ids["<act>"]
    after = torch.zeros_like(opened)
    after[:, 1:] |= opened[:, :-1]
    after[:, 2:] |= opened[:, :-2]
    return places[after[:, begin:].any(0)]


def trainer_class(
    vocabulary: Vocabulary,
    mode: Mode,
    advantages: Callable[[], Tensor | None] = lambda: None,
    beside: Callable[[Any, int], Tensor] | None = None,
) -> Any:
    """A GRPOTrainer that reads probabilities off the columns of `written_columns` alone, and takes those of the draws from the driver.

    The world's tokens are most of a sample. TRL's own loss gives all of them probabilities, which off a GPU takes most of the time,
    and masks them afterwards. Before it learns, TRL works out the probabilities of the draws once more; the driver's own are the same.

    Args:
        vocabulary: of the VLA.
        mode: that it drives in.
        advantages: gives those of the last rollout's tokens [samples, L], L at most a completion's length, in place of TRL's own, or None.
        beside: a further loss of the model, added to each batch's; told the number of the batch.
    """
    from trl import GRPOTrainer

    class Trainer(GRPOTrainer):
        rolling_out = False
        batches = 0  # learned in this process

        def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
            loss = super()._compute_loss(model, inputs)
            if beside is None:
                return loss
            per_step = self.args.gradient_accumulation_steps
            further = beside(model, self.state.global_step * per_step + self.batches % per_step)
            self.batches += 1
            self._metrics["train"]["imitation_loss"].append(further.item())
            return loss + further / self.current_gradient_accumulation_steps

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self.rolling_out = True
            try:
                output, own = super()._generate_and_score_completions(inputs), advantages()
            finally:
                self.rolling_out = False
            if "old_per_token_logps" in output:  # the driver's own, noted as it drew
                output["old_per_token_logps"] = output["sampling_per_token_logps"]
            if own is not None:
                own = own.to(output["advantages"].device)
                output["advantages"] = torch.nn.functional.pad(own, (0, output["completion_ids"].shape[1] - own.shape[1]))
            return output

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: Tensor,
            attention_mask: Tensor,
            logits_to_keep: int,
            batch_size: int | None = None,
            compute_entropy: bool = False,
            **others: Any,
        ) -> tuple[Tensor, Tensor | None, None]:
            if self.rolling_out and model is self.model:
                return torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device), None, None
            begin = input_ids.shape[1] - logits_to_keep
            logprobs, entropies = [], []
            for ids, mask in zip(*(t.split(batch_size or len(input_ids)) for t in (input_ids, attention_mask)), strict=True):
                columns = written_columns(vocabulary, mode, ids, begin)
                with self.accelerator.autocast():
                    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=columns - 1, use_cache=False).logits
                table = torch.log_softmax(logits.float() / self.temperature, -1)
                spread = lambda values, columns=columns, ids=ids: values.new_zeros(len(ids), logits_to_keep).index_copy(
                    1, columns - begin, values
                )
                logprobs.append(spread(table.gather(-1, ids[:, columns].unsqueeze(-1)).squeeze(-1)))
                if compute_entropy:
                    with torch.no_grad():
                        entropies.append(spread(-(table.exp() * table).sum(-1)))
            return torch.cat(logprobs), torch.cat(entropies) if compute_entropy else None, None

    return Trainer
