"""Masked next token prediction (MNTP): teach a decoder to use its new bidirectional attention.

Tokens are masked as in BERT, but the token at position i is predicted from the hidden state at position i - 1, as in
the training of a decoder's output layer. Only scored positions go through ``lm_head``: with a vocabulary of 128k, the
full logits of one 32 x 512 batch would take 8 GB.

Source: LLM2Vec section 2.1 and appendix D.1 (rank 16, mask probability 0.2 with BERT's 80/10/10, mask token "_"), and
its code, which excludes special tokens (transformers' ``DataCollatorForLanguageModeling``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.architectures import holds_encoder_only, prepare_padding, require_positions, require_transformer
from llm2vec_core.model.bidirectional import switch_attention
from llm2vec_core.model.lora import lora_config
from llm2vec_core.model.weights import require_whole_weights
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import cast_and_compile, draw_order, micro_batches, train_and_merge, trainer_arguments
from llm2vec_core.training.settings import MaskPolicy, MntpSettings, StageCurve

logger = logging.getLogger(__name__)

IGNORED = -100
"""Label of a position that is not scored, by the convention of torch's cross entropy."""

_BLANK = "_"


class MntpModel(PeftModel):  # type: ignore[misc]
    """A causal language model with LoRA whose forward pass is the MNTP loss.

    It is a ``PeftModel``, so that the trainer saves and restores only the adapter. Data-parallel training needs the
    loss in the forward pass.
    """

    def forward(
        self,
        input_ids: Int64[Tensor, "batch seq"],
        attention_mask: Int64[Tensor, "batch seq"],
        labels: Int64[Tensor, "batch seq"],
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Mean cross entropy of the masked tokens.

        Args:
            input_ids: Tokens, some of them masked.
            attention_mask: 1 for tokens, 0 for padding.
            labels: The original token at masked positions, :data:`IGNORED` at all others.
            num_items_in_batch: Masked tokens of the whole update; the trainer sums the losses of its micro batches.
            Default: the mean is over this batch.
        """
        # label_shift: token i is scored from position i - 1.
        targets = labels[:, 1:]
        scored = targets != IGNORED
        logits = _scored_logits(self.get_base_model(), scored, input_ids=input_ids, attention_mask=attention_mask)
        total = functional.cross_entropy(logits.float(), targets[scored], reduction="sum")
        return {"loss": total / (num_items_in_batch if num_items_in_batch is not None else scored.sum().clamp(min=1))}


def _scored_logits(
    causal_model: Any,  # noqa: ANN401 - a transformers model, which ships no types
    scored: Bool[Tensor, "batch shorter"],
    *,
    input_ids: Int64[Tensor, "batch seq"],
    attention_mask: Int64[Tensor, "batch seq"],
) -> Float[Tensor, "num_scored vocab"]:
    """Logits of the scored positions only, by the model's own forward pass.

    A hook drops the other positions before the output layer. The architecture's later steps still apply
    (Gemma 2 caps its logits, others scale them).

    Args:
        causal_model: Decoder with its output layer.
        scored: Whether a position is scored, for all positions except the last.
        input_ids: Tokens.
        attention_mask: 1 for tokens, 0 for padding.
    """

    def keep_scored(_head: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:  # noqa: ANN401
        return (inputs[0][:, :-1][scored].unsqueeze(0),)

    hook = causal_model.get_output_embeddings().register_forward_pre_hook(keep_scored)
    try:
        logits: Tensor = causal_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    finally:
        hook.remove()
    return logits.squeeze(0)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer. The embeddings of a model may have more rows, which were never trained.

    Attributes:
        regular: Ids of the tokens that stand for text.
        special: Ids of the special tokens, such as EOS.
    """

    regular: Int64[Tensor, " regular"]
    special: Int64[Tensor, " special"]


def read_vocabulary(tokenizer: Any) -> Vocabulary:  # noqa: ANN401 - tokenizers ship no types
    """The vocabulary of a tokenizer from transformers."""
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = added | set(tokenizer.all_special_ids)
    regular = set(tokenizer.get_vocab().values()) - special
    return Vocabulary(torch.tensor(sorted(regular)), torch.tensor(sorted(special), dtype=torch.long))


class MaskedChunks(Dataset[dict[str, Tensor]]):
    """Chunks with their masks, in the order of training.

    The mask of the i-th draw depends only on the seed and i, so a resumed run uses the same masks as an uninterrupted
    one.
    """

    def __init__(
        self,
        chunks: Sequence[Int64[Tensor, " chunk"]],
        order: Sequence[int],
        *,
        settings: MntpSettings,
        mask_token_id: int,
        vocabulary: Vocabulary,
    ) -> None:
        """Keep chunks and order; masks are drawn when items are read."""
        self._chunks = chunks
        self._order = order
        self._settings = settings
        self._mask_token_id = mask_token_id
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        """Number of draws: steps times batch size."""
        return len(self._order)

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """Masked chunk of a draw with its labels."""
        generator = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + draw)
        input_ids, labels = mask_tokens(
            self._chunks[self._order[draw]],
            mask_probability=self._settings.mask_probability,
            mask_policy=self._settings.mask_policy,
            mask_token_id=self._mask_token_id,
            vocabulary=self._vocabulary,
            generator=generator,
        )
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": labels}


def mask_tokens(
    tokens: Int64[Tensor, " seq"],
    *,
    mask_probability: float,
    mask_policy: MaskPolicy,
    mask_token_id: int,
    vocabulary: Vocabulary,
    generator: torch.Generator,
) -> tuple[Int64[Tensor, " seq"], Int64[Tensor, " seq"]]:
    """Mask tokens of one chunk.

    Special tokens are never masked, and neither is the first token, because no position before it could predict it. At
    least one other token is masked, if there is one.

    Returns:
        Masked tokens, and labels: the original token if it is masked, otherwise :data:`IGNORED`.
    """
    maskable = ~torch.isin(tokens, vocabulary.special)
    maskable[0] = False
    chosen = (torch.rand(tokens.shape, generator=generator) < mask_probability) & maskable
    candidates = maskable.nonzero().flatten()
    if not chosen.any() and len(candidates):
        chosen[candidates[int(torch.randint(len(candidates), (1,), generator=generator))]] = True
    labels = torch.where(chosen, tokens, IGNORED)
    fate = torch.rand(tokens.shape, generator=generator)
    drawn = torch.randint(len(vocabulary.regular), tokens.shape, generator=generator)
    random_tokens = vocabulary.regular[drawn]
    masked = torch.where(chosen, mask_token_id, tokens)
    if mask_policy == "bert":
        masked = torch.where(chosen & (fate >= 0.8), random_tokens, masked)
        masked = torch.where(chosen & (fate >= 0.9), tokens, masked)
    return masked, labels


def mask_token_id(tokenizer: Any) -> int:  # noqa: ANN401 - tokenizers ship no types
    """The tokenizer's own mask token; without one, the blank ``_`` that LLM2Vec uses.

    The blank is looked up, not tokenized: a tokenizer of the Llama 2 kind would put a word boundary before it.

    Raises:
        BaseModelError: The tokenizer has neither token.
    """
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    blank = tokenizer.get_vocab().get(_BLANK)
    if blank is None:
        raise BaseModelError("The tokenizer has no mask token and no token '_'.", hint="Add a mask token to it.")
    return int(blank)


def pack_chunks(texts: Iterable[str], tokenizer: Any, *, chunk_tokens: int) -> list[Int64[Tensor, " chunk"]]:  # noqa: ANN401
    """Join the tokens of all texts and cut them into chunks of equal length; an incomplete last chunk is dropped."""
    stream: list[int] = []
    for ids in tokenizer(list(texts), verbose=False)["input_ids"]:
        stream.extend(ids)
        if tokenizer.eos_token_id is not None and (not ids or ids[-1] != tokenizer.eos_token_id):
            stream.append(tokenizer.eos_token_id)
    whole = len(stream) - len(stream) % chunk_tokens
    return list(torch.tensor(stream[:whole], dtype=torch.long).view(-1, chunk_tokens))


def train_mntp(job: StageJob) -> tuple[Path, StageCurve]:
    """Train the MNTP stage and merge its adapter.

    ``job.base`` is a decoder with its output layer. The recipe's attention may be causal, for an ablation:
    the same training, but the model cannot see the tokens after a mask.

    Returns:
        Directory of the merged decoder (its configuration states the attention), and the curve.

    Raises:
        BaseModelError: The base model is not a decoder, its architecture ignores the bidirectional switch, or a chunk
            is longer than its positions.
        TrainingError: There is too little text, or the loss is not finite.
    """
    settings, base, name = job.recipe.mntp, job.base, job.recipe.base_model
    if holds_encoder_only(base):
        raise BaseModelError(
            f"{name} is an encoder-only model: it is already bidirectional, and has no output layer for the next "
            "token, which mntp needs.",
            hint="Leave mntp out of train.stages, or choose a decoder as base model.",
        )
    require_positions(AutoConfig.from_pretrained(base, local_files_only=True), settings.chunk_tokens, name=name)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    prepare_padding(tokenizer)
    causal_model = _with_output_layer(base, name=name)
    require_transformer(causal_model, name=name)
    switch_attention(causal_model.base_model, job.recipe.attention, name=name)
    chunks = pack_chunks(job.texts, tokenizer, chunk_tokens=settings.chunk_tokens)
    order = draw_order(job, chunks, unit=f"chunks of {settings.chunk_tokens} tokens")
    micro_batch_size, grad_accum_steps = micro_batches(settings)
    torch.manual_seed(settings.seed)  # LoRA's initial weights
    model = MntpModel(causal_model, lora_config(settings.lora, causal_model))
    cast_and_compile(model, settings)
    trainer = Trainer(
        model=model,
        args=trainer_arguments(
            TrainingArguments,
            settings,
            output_dir=job.saves_dir,
            num_examples=len(chunks),
            per_device_train_batch_size=micro_batch_size,
            gradient_accumulation_steps=grad_accum_steps,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            label_names=["labels"],
        ),
        train_dataset=MaskedChunks(
            chunks,
            order,
            settings=settings,
            mask_token_id=mask_token_id(tokenizer),
            vocabulary=read_vocabulary(tokenizer),
        ),
    )
    tokens_per_step = settings.batch_size * settings.chunk_tokens
    return train_and_merge(trainer, job, tokens_per_step=tokens_per_step, architecture=AutoModelForCausalLM)


def _with_output_layer(base: Path, *, name: str) -> Any:  # noqa: ANN401 - transformers ship no types
    """Load a decoder with all its weights. Transformers would silently draw missing ones at random."""
    with require_whole_weights(name, output_layer=True):
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
