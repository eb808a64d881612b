"""Every system's answers, from one quantized base model on which the adapters are switched."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base import folder_of
from training.config import Quantization
from training.data.rows import Example
from training.evaluation.answers import answer, batches, likelihoods
from training.evaluation.asking import Question, Said, is_text
from training.evaluation.cache import Cache, Found, row_key
from training.evaluation.calibration import chances
from training.evaluation.prompts import fits, label_endings, prompt_with, wanted_ending
from training.evaluation.systems import System
from training.fitting.model import Base, load_base
from training.fitting.room import in_parts
from training.fitting.template import Template
from training.fitting.unpacking import unpacked_while_judged
from training.progress import Progress
from training.publishing.lineage import packages

BATCH = 32


class Scorer:
    """The base model with all adapters loaded, and the answers that are kept of them.

    A system that is a whole model is loaded when it first speaks, and put away when another one does.
    """

    def __init__(
        self,
        source: str,
        systems: Sequence[System],
        *,
        instruction: str | None,
        base_key: str,
        progress: Progress,
        cache: Path | None,
        batch_size: int = BATCH,
        quantization: Quantization = "nf4",
    ) -> None:
        """Load the base model, quantized as it is served, and the adapters of `systems`.

        `base_key` stands for the base model in the names of kept answers.

        Raises:
            OSError: the base model or an adapter can't be read.
            ValueError: an adapter does not fit the base model, or the base model can't chat.
        """
        with progress.stage("Loading the base model"):
            self.base: Base = load_base(str(folder_of(source) or source), quantization=quantization)
            self.template = Template(self.base.tokenizer, self.base.stop_ids, instruction=instruction)
        self._instruction = instruction
        self.progress = progress
        self._cache = cache
        self._batch_size = batch_size
        self._base_key = base_key
        self._names: dict[str, str] = {}
        self._whole: tuple[str, Any] | None = None
        self._quantization = quantization
        with progress.stage("Loading the adapters"):
            self.model = self._loaded(systems)

    def ask(self, system: System, rows: Sequence[Example], question: Question, *, what: str) -> Said:
        """Return what a system says to the rows.

        Rows that were asked under the same conditions before are not asked again. A batch is asked whole or
        not at all, so that an evaluation that was killed and goes on ends like one that was not.
        """
        prompts = [self._prompt(row, question) for row in rows]
        endings = [self._endings(row, question) for row in rows]
        cache = Cache(self._cache, self._conditions(system, question))
        keys = [row_key(row) for row in rows]
        lengths = [
            len(prompt) + max(question.room, *map(len, ends), 1)
            for prompt, ends in zip(prompts, endings, strict=True)
        ]
        with (
            self.progress.stage(f"Judging {what}", total=len(rows)) as stage,
            self.speaking(system) as model,
            unpacked_while_judged(model),
        ):

            def asked(places: Sequence[int]) -> Sequence[Found]:
                return self._ask(
                    model,
                    [prompts[place] for place in places],
                    [endings[place] for place in places],
                    question.room,
                )

            for batch in batches(lengths, self._batch_size):
                if not cache.has(keys[place] for place in batch):
                    found = in_parts(asked, batch, longest=lengths[batch[0]])
                    cache.add(dict(zip([keys[place] for place in batch], found, strict=True)))
                stage.advance(len(batch))
        return _said([cache.get(key) or {} for key in keys], question)

    def fits(self, row: Example, room: int) -> bool:
        """Whether a row with its wanted answer, and with `room` for another, is within the context window.

        A text always is, since it is cut.
        """
        return fits(self.template, row, room=room, most=self.base.max_position)

    def cuts(self, row: Example) -> bool:
        """Whether a text is judged by its beginning alone."""
        return is_text(row) and len(self.template.text_ids(row.completion)) > self.base.max_position

    @contextmanager
    def speaking(self, system: System) -> Iterator[Any]:
        """Yield the model that speaks as one system for the length of a block.

        Raises:
            ValueError: a whole model has another tokenizer or chat template than the base model.
            OSError: it can't be read.
        """
        if system.whole:
            yield self._whole_model(system)
            return
        self.model.eval()
        if system.digest is None:
            with self.model.disable_adapter() if self._names else nullcontext():
                yield self.model
            return
        self.model.set_adapter(self._names[system.digest], inference_mode=True)
        yield self.model

    def _whole_model(self, system: System) -> Any:
        digest = str(system.digest)
        if self._whole is None or self._whole[0] != digest:
            self._whole = None  # before the next one is loaded: two may not fit
            found = load_base(str(system.folder), quantization=self._quantization)
            ours, theirs = self.base.tokenizer, found.tokenizer
            if ours.get_vocab() != theirs.get_vocab() or ours.chat_template != theirs.chat_template:
                raise ValueError(
                    f"{system.name} has another tokenizer or chat template than the base model; name the one "
                    "that it was trained from with --base"
                )
            found.model.eval()
            self._whole = (digest, found.model)
        return self._whole[1]

    def _loaded(self, systems: Sequence[System]) -> Any:
        from peft import PeftModel  # noqa: PLC0415 - seconds; the rows' errors come first

        model: Any = None
        for system in systems:
            if system.folder is None or system.digest is None or system.whole or system.digest in self._names:
                continue
            name = f"v{len(self._names)}"
            try:
                if model is None:
                    model = PeftModel.from_pretrained(self.base.model, str(system.folder), adapter_name=name)
                else:
                    model.load_adapter(str(system.folder), adapter_name=name)
            except RuntimeError as error:
                first = str(error).splitlines()[0]
                raise ValueError(f"{system.name} does not fit the base model: {first}") from error
            self._names[system.digest] = name
        if model is None:
            if not any(system.whole for system in systems):
                raise ValueError("there is no adapter to judge; name a version or a folder")
            model = self.base.model
        model.requires_grad_(requires_grad=False)
        return model

    def _prompt(self, row: Example, question: Question) -> list[int]:
        room = max(question.room, len(self._wanted(row)))
        return prompt_with(self.template, row, question.shots, room=room, most=self.base.max_position)

    def _wanted(self, row: Example) -> list[int]:
        return wanted_ending(self.template, row, most=self.base.max_position)

    def _endings(self, row: Example, question: Question) -> list[list[int]]:
        wanted = [self._wanted(row)] if question.likely else []
        return [*wanted, *label_endings(self.template, question.labels)]

    def _ask(
        self, model: Any, prompts: Sequence[list[int]], endings: Sequence[list[list[int]]], room: int
    ) -> list[Found]:
        tokenizer = self.base.tokenizer
        texts = answer(model, tokenizer, prompts, max_new_tokens=room) if room else [""] * len(prompts)
        values = likelihoods(model, prompts, endings) if endings[0] else [[]] * len(prompts)
        return [
            {
                "answer": text,
                "values": [round(value, 6) for value in own],
                "tokens": len(ends[0]) if ends else 0,
            }
            for text, own, ends in zip(texts, values, endings, strict=True)
        ]

    def _conditions(self, system: System, question: Question) -> dict[str, Any]:
        template = hashlib.sha256(str(self.base.tokenizer.chat_template).encode()).hexdigest()
        return {
            "system": system.digest,
            "base": self._base_key,
            "quantization": self.base.quantization,
            "template": template,
            "instruction": self._instruction,
            "room": question.room,
            "labels": question.labels,
            "likely": question.likely,
            "shots": [row_key(row) for row in question.shots],
            "batch": self._batch_size,
            "packages": packages(),
        }


def _said(found: Sequence[Found], question: Question) -> Said:
    values = np.array([row["values"] for row in found], dtype=np.float64)
    first = int(question.likely)
    return Said(
        answers=tuple(row["answer"] for row in found),
        nats=-values[:, 0] if question.likely else None,
        tokens=np.array([row["tokens"] for row in found], dtype=np.float64) if question.likely else None,
        chances=chances(values[:, first:]) if question.labels else None,
    )
