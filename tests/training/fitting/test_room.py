"""Memory that does not suffice: for a base model, and for a batch of questions."""

from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def asking(most: int, asked: list[int]) -> object:
    """Return a model that answers so many rows at once and no more."""

    def ask(places: Sequence[int]) -> list[int]:
        asked.append(len(places))
        if len(places) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [place * 10 for place in places]

    return ask


@pytest.mark.parametrize(
    ("most", "asked"),
    [(8, [7]), (4, [7, 3, 4]), (2, [7, 3, 1, 2, 4, 2, 2]), (1, [7, 3, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1])],
)
def test_a_batch_that_does_not_fit_is_asked_in_halves(most: int, asked: list[int]) -> None:
    """Every row is answered once, in the order in which it was asked for."""
    from training.fitting.room import in_parts

    seen: list[int] = []
    places = [4, 2, 9, 1, 7, 0, 5]
    assert in_parts(asking(most, seen), places, longest=100) == [place * 10 for place in places]  # type: ignore[arg-type]
    assert seen == asked


def test_a_row_that_does_not_fit_alone_is_an_error() -> None:
    """It says how long the row is and what to do; an error of another kind stays what it is."""
    from training.fitting.room import DoesNotFit, in_parts

    with pytest.raises(DoesNotFit, match="one row of up to 812 tokens"):
        in_parts(asking(0, []), [1, 2], longest=812)  # type: ignore[arg-type]

    def broken(_: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        in_parts(broken, [1, 2], longest=1)


@pytest.mark.parametrize(
    ("free", "changes", "said"),
    [
        (200_000, {"quantization": "none"}, "add --quantization nf4"),
        (1_000, {"quantization": "none"}, "take a smaller base model"),
        (1_000, {"quantization": "nf4"}, "take a smaller base model"),
        (1_000, {"quantization": "none", "full": True}, "train an adapter instead of the whole model"),
    ],
)
def test_a_base_model_that_can_not_fit_is_not_loaded(
    free: int, changes: dict[str, object], said: str, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are counted by the shape in its config, before a byte of them is read."""
    from training.fitting import room
    from training.fitting.model import load_base

    monkeypatch.setattr(room, "free_bytes", lambda: free)
    with pytest.raises(room.DoesNotFit, match=f"{said}.*TURNOUT_MEMORY_GIB says what may be taken"):
        load_base(str(tiny_base), **changes)  # type: ignore[arg-type]


def test_memory_that_ends_while_a_base_model_loads_is_said(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size by the shape is not all that loading takes."""
    from transformers import AutoModelForCausalLM

    from training.fitting import model, room

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fails)
    with pytest.raises(room.DoesNotFit, match="add --quantization nf4 or take a smaller one"):
        model.load_base(str(tiny_base), quantization="none")


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are started together would else plan for all of it each."""
    import torch

    from training.fitting import room

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(room, "free_memory", lambda: 1000)
    monkeypatch.delenv("RANK", raising=False)
    assert room.free_bytes() == 1000
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert room.free_bytes() == 500


@pytest.mark.parametrize("gpu", [False, True])
def test_a_person_may_say_what_memory_there_is(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process has taken goes off it: of the GPU where there is one, of the machine otherwise."""
    import psutil
    import torch

    from training.fitting import room

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2**30)
    monkeypatch.setattr(room, "free_memory", lambda: 1000)
    monkeypatch.setenv("TURNOUT_MEMORY_GIB", "512.5")
    taken = 2**30 if gpu else psutil.Process().memory_info().rss
    assert room.free_bytes() == pytest.approx(512.5 * 2**30 - taken, abs=2**27)
    monkeypatch.setenv("TURNOUT_MEMORY_GIB", "0.01")
    assert room.free_bytes() == 0


@pytest.mark.parametrize("said", ["lots", "0", "-3", "nan", "inf"])
def test_memory_that_is_no_number_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained by a typing error."""
    from training.fitting import room

    monkeypatch.setenv("TURNOUT_MEMORY_GIB", said)
    with pytest.raises(ValueError, match=r"TURNOUT_MEMORY_GIB is .* a number of GiB above 0"):
        room.free_bytes()
