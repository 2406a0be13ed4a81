"""Preference ranking in lm-eval: which of two answers does the model find likelier for this user?

This file stands beside the task files that `fspo-bench export-tasks` writes, and needs lm-eval alone. Each
row brings its whole prompt: as chat messages for `--apply_chat_template`, else as plain text.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask


class PreferenceRanking(ConfigurableTask):  # type: ignore[misc]  # lm-eval is untyped here
    """Pairs of answers to a user's questions, read from the file beside this one."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        lines = Path(__file__).with_name(self.DATASET_PATH).read_text(encoding="utf-8").splitlines()
        self.dataset = {"test": Dataset.from_list([json.loads(line) for line in lines])}

    def fewshot_context(
        self,
        doc: dict[str, Any],
        num_fewshot: int,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[[list[dict[str, str]]], str] | None = None,
        gen_prefix: str | None = None,
    ) -> str:
        """The row's own prompt; its shots are the user's, so there are no others to add.

        Raises:
            ValueError: a system instruction was given.
        """
        if system_instruction:
            raise ValueError("these tasks bring their own system message; leave --system_instruction out")
        if apply_chat_template and chat_template:
            return chat_template(doc["messages"])
        prompt: str = doc["prompt"]
        return prompt
