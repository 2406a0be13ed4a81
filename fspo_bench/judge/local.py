"""Models that judge in this process: transformers (`hf/ORG/NAME`, a folder, a bundled one) and vLLM."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from fspo_bench.errors import UserError
from fspo_bench.judge.calls import Completion, Keep, Request
from fspo_bench.judge.spec import Parameters
from fspo_bench.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from fspo_bench.lm.policy import Policy
    from fspo_bench.serving import Served

BATCH = 16  # requests that a model on this machine reads together
VLLM_BATCH = 512  # requests handed to vLLM at a time, which schedules them itself

Top = tuple[tuple[str, float], ...]


@dataclass
class Transformers:
    """A causal language model on this machine; what requests share at their beginning is read once."""

    model: str

    @cached_property
    def _policy(self) -> Policy:
        import torch

        from fspo_bench.lm.policy import Policy

        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
        return Policy.open(self.model, lora_rank=0, dtype=dtype, seed=0)

    @property
    def key(self) -> str:
        return f"transformers/{self._policy.fingerprint}"

    def complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        """Answer requests in batches, by the likeliest tokens whatever `temperature` says."""
        while batch := list(islice(requests, BATCH)):
            start = time.monotonic()
            answered = self._answer(batch, parameters)
            seconds = round((time.monotonic() - start) / len(batch), 3)
            for request, ids, top, written in answered:
                text = str(self._policy.tokenizer.decode(written, skip_special_tokens=True))
                keep(request, Completion(text, top, len(ids), len(written), 0, seconds, self.model))
            fits = {request for request, *_ in answered}
            for request in batch:
                if request not in fits:
                    keep(request, Completion("", refused="longer than the model's context window"))

    def _answer(
        self, batch: list[Request], parameters: Parameters
    ) -> list[tuple[Request, list[int], Top, list[int]]]:
        """(request, its ids, likeliest first tokens, ids written) of the requests that fit the window."""
        from fspo_bench.lm.generate import Asked, generate, likeliest
        from fspo_bench.lm.shared_context import causal_lm

        window = int(causal_lm(self._policy.model).config.max_position_embeddings) - parameters.max_tokens
        encoded = [(r, ids) for r in batch if len(ids := self._encode(r)) <= window]
        first: list[Tensor] = []

        def choose(logits: Tensor) -> Tensor:
            if not first:
                first.append(logits.float().log_softmax(-1))
            return likeliest(logits)

        asked = []
        for _, group in groupby(encoded, key=lambda e: (e[0].system, e[0].shared)):
            together = [ids for _, ids in group]
            columns = enumerate(zip(*(ids[:-1] for ids in together), strict=False))
            common = next((n for n, column in columns if len(set(column)) > 1), min(map(len, together)) - 1)
            asked.append(Asked(tuple(together[0][:common]), tuple(tuple(ids[common:]) for ids in together)))
        if not asked:
            return []
        tokenizer = self._policy.tokenizer
        written = generate(
            self._policy.model, asked, int(tokenizer.eos_token_id), parameters.max_tokens, choose=choose
        )
        tops = (
            self._tops(first[0], parameters.top_logprobs or 0) if parameters.logprobs else [()] * len(encoded)
        )
        return [(r, ids, top, new) for (r, ids), top, new in zip(encoded, tops, written, strict=True)]

    def _tops(self, logprobs: Tensor, n: int) -> list[Top]:
        values, ids = logprobs.topk(max(1, n))
        return [
            tuple((str(self._policy.tokenizer.decode([i])), p) for i, p in zip(row_ids, row, strict=True))
            for row, row_ids in zip(values.tolist(), ids.tolist(), strict=True)
        ]

    def _encode(self, request: Request) -> list[int]:
        tokenizer = self._policy.tokenizer
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
        else:
            text = (tokenizer.bos_token or "") + "\n\n".join(m["content"] for m in request.messages) + "\n"
        return list(tokenizer(str(text), add_special_tokens=False).input_ids)


@dataclass
class Vllm:
    """vLLM in this process (extra `vllm`), for a machine with a GPU: a model by name, or a run's policy."""

    model: str

    @cached_property
    def _served(self) -> Served:
        from fspo_bench.serving import served
        from fspo_bench.store import Store

        return served(self.model, Store())

    @property
    def key(self) -> str:
        return f"vllm/{self._served.key}"

    @cached_property
    def _engine(self) -> Any:
        try:
            from vllm import LLM
        except ImportError:
            raise UserError(
                f"vllm/{self.model}: no vLLM in this environment; install the extra (pip install "
                "'fspo-bench[vllm]'), or serve the model elsewhere and name it openai/NAME@http://HOST:8000/v1"
            ) from None
        say(f"loading {self.model} into vLLM")
        of = self._served
        lora = {"enable_lora": True, "max_lora_rank": of.room} if of.adapters else {}
        return LLM(
            str(of.model), tokenizer=str(of.tokenizer), dtype=of.dtype, enable_prefix_caching=True, **lora
        )

    @cached_property
    def _adapter(self) -> Any:
        """What a request says to be answered by a run's adapter."""
        if not self._served.adapters:
            return None
        from vllm.lora.request import LoRARequest

        name, folder = next(iter(self._served.adapters.items()))
        return LoRARequest(name, 1, str(folder))

    def complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        """Answer requests; vLLM batches them and finds shared beginnings itself."""
        engine = self._engine
        from vllm import SamplingParams

        sampling = SamplingParams(
            max_tokens=parameters.max_tokens, temperature=parameters.temperature, seed=0,
            logprobs=parameters.top_logprobs if parameters.logprobs else None,
        )  # fmt: skip
        while batch := list(islice(requests, VLLM_BATCH)):
            start = time.monotonic()
            outputs = engine.chat(
                [r.messages for r in batch], sampling, use_tqdm=False, lora_request=self._adapter
            )
            seconds = round((time.monotonic() - start) / len(batch), 3)
            for request, output in zip(batch, outputs, strict=True):
                said = output.outputs[0]
                first = (said.logprobs or [{}])[0].values()
                top = tuple((str(t.decoded_token), float(t.logprob)) for t in first)
                keep(request, Completion(
                    said.text, top, len(output.prompt_token_ids), len(said.token_ids),
                    output.num_cached_tokens or 0, seconds, self.model,
                ))  # fmt: skip
