"""Each patch: without it the library fails as its docstring says, with it the library works.

The first kind of test fails once the library no longer needs the patch, and says so.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.golden import golden_traces
from vilasr.messages import Picture
from vilasr.training import compat, when_imported

GOLDEN = {golden.name: golden for golden in golden_traces()}
SPELLED = "<|image_pad|>"


def both(name: str) -> tuple[Any, Any]:
    """What a patch replaced, and what stands there now."""
    patch = next(patch for patch in compat.PATCHES if patch.make.__name__ == name)
    now: Any = importlib.import_module(patch.module)
    for part in patch.attribute.split("."):
        now = getattr(now, part)
    original = compat.original_of(now)
    assert original is not None, f"{name} was not applied"
    return original, now


def must_fail(patch: str, call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    try:
        call()
    except kind as exc:
        failure = str(exc)
    else:
        pytest.fail(f"the library works without it: remove the patch {patch}")
    assert message in failure, f"fails in another way than the docstring of {patch} says"


# --- 3-D position ids ------------------------------------------------------------------------------------------------


def fetched(lengths: list[int]) -> tuple[Any, list[Any]]:
    """A step of sequences as TransferQueue hands it to a worker, and the position ids of each."""
    import torch
    from tensordict import TensorDict
    from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager

    rows = [torch.arange(4 * length).reshape(4, length) + 1000 * i for i, length in enumerate(lengths)]
    manager: Any = AsyncSimpleStorageManager  # a decorator hides the class
    packed = manager._pack_field_values(rows)
    return TensorDict({"position_ids": packed}, batch_size=[len(rows)]), rows


def read_back(fix: Callable[[Any], None], lengths: list[int]) -> bool:
    import torch

    data, rows = fetched(lengths)
    fix(data)
    fix(data)  # verl does so on the way
    read = data["position_ids"].unbind()
    return len(read) == len(rows) and all(torch.equal(a, b) for a, b in zip(read, rows, strict=True))


@pytest.mark.engine
@pytest.mark.parametrize(("lengths", "message"), [([7, 7, 7], "Expected cond"), ([7], "split_with_sizes expects")])
def test_equal_lengths_fail_without_the_patch(lengths, message):
    original, _ = both("equal_length_position_ids")
    must_fail("equal_length_position_ids", lambda: read_back(original, lengths), RuntimeError, message)


@pytest.mark.engine
def test_equal_lengths_are_mixed_up_without_the_patch():
    """Where the offsets happen to end at the length, without an error."""
    original, _ = both("equal_length_position_ids")
    assert not read_back(original, [8, 8]), "the library works without it: remove the patch equal_length_position_ids"


@pytest.mark.engine
@pytest.mark.parametrize(
    "lengths", [[7, 7, 7], [7], [8, 8], [4, 4], [2, 2], [4], [1, 1, 1, 1], [3, 7, 7], [1, 3]], ids=str
)
def test_position_ids_come_back_whole(lengths):
    _, patched = both("equal_length_position_ids")
    assert read_back(patched, lengths)


@pytest.mark.engine
def test_position_ids_that_are_not_nested_are_left_alone():
    import torch
    from tensordict import TensorDict

    _, patched = both("equal_length_position_ids")
    data = TensorDict({"position_ids": torch.arange(24).reshape(2, 4, 3)}, batch_size=[2])
    patched(data)
    assert torch.equal(data["position_ids"], torch.arange(24).reshape(2, 4, 3))
    patched(TensorDict({"input_ids": torch.zeros(2, 3)}, batch_size=[2]))


# --- images of a finished episode ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(nano: Path) -> Any:
    """verl's worker with what the two methods use; the rest of it wants a cluster."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.utils import hf_processor, hf_tokenizer

    worker: Any = object.__new__(AgentLoopWorker)
    worker.processor, worker.tokenizer = hf_processor(str(nano)), hf_tokenizer(str(nano))
    worker.mm_processor_kwargs = {}
    return worker


def finished(worker: Any, golden_name: str, reply: str = "", spelled: int = 0) -> tuple[Any, Any]:
    """A finished episode as the agent loop hands it over, and its token ids with expanded placeholders."""
    import torch

    episode = GOLDEN[golden_name].run()
    images, text = [], ""
    for part in (part for message in episode.messages for part in message.parts):
        if isinstance(part, Picture):
            images.append(part.image)
            text += "<|vision_start|><|image_pad|><|vision_end|>"
        else:
            text += str(part)
    ids = worker.processor(text=[text + reply], images=images, return_tensors="pt")["input_ids"][0]
    letters = [token for letter in SPELLED for token in worker.tokenizer(letter)["input_ids"]]
    ids = torch.cat([ids, ids.new_tensor(letters * spelled)])
    output = SimpleNamespace(multi_modal_data={"images": images}, mm_processor_kwargs={})
    return output, ids


@pytest.fixture(scope="module")
def spelled_too_often(worker: Any) -> tuple[Any, Any]:
    output, _ = finished(worker, next(iter(GOLDEN)))
    return finished(worker, next(iter(GOLDEN)), spelled=len(output.multi_modal_data["images"]) + 1)


@pytest.mark.engine
def test_spelled_placeholders_fail_without_the_patch(worker, spelled_too_often):
    original, _ = both("images_without_text")
    output, ids = spelled_too_often
    assert SPELLED in worker.tokenizer.decode(ids, skip_special_tokens=True)
    must_fail("images_without_text", lambda: original(worker, output, ids), IndexError, "out of bounds")


@pytest.mark.engine
def test_spelled_placeholders_change_nothing(worker, spelled_too_often):
    import torch

    original, patched = both("images_without_text")
    output, ids = spelled_too_often
    expected = original(worker, *finished(worker, next(iter(GOLDEN))))
    inputs = patched(worker, output, ids)
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])
    mask = torch.ones_like(ids)
    assert worker._compute_position_ids(ids[None], mask[None], inputs).shape == (1, 4, len(ids))


@pytest.mark.engine
@pytest.mark.parametrize(("name", "batched"), [*((name, False) for name in GOLDEN), (next(iter(GOLDEN)), True)])
def test_inputs_are_those_of_verl(name, batched, worker):
    """Bit by bit, for every golden trace; verl calls it with a list of tokens and with a batch of one."""
    import torch

    original, patched = both("images_without_text")
    output, ids = finished(worker, name, "<think> I look. </think>")
    given = ids[None] if batched else ids
    expected, inputs = original(worker, output, given), patched(worker, output, given)
    assert list(inputs) == list(expected)
    for key in set(expected) - {"mm_token_type_ids"}:  # verl only asks whether it is there, and makes its own
        assert inputs[key].dtype == expected[key].dtype
        assert torch.equal(inputs[key], expected[key])
    positions = [
        worker._compute_position_ids(ids[None], torch.ones_like(ids)[None], made) for made in (expected, inputs)
    ]
    assert torch.equal(*positions)
    assert list(inputs) == list(expected)  # what is stored


@pytest.mark.engine
def test_an_episode_without_images(worker):
    original, patched = both("images_without_text")
    ids = worker.tokenizer("only words", return_tensors="pt")["input_ids"][0]
    output = SimpleNamespace(multi_modal_data={}, mm_processor_kwargs={})
    assert set(patched(worker, output, ids)) == set(original(worker, output, ids)) == {"mm_token_type_ids"}


@pytest.mark.engine
def test_a_model_without_processor(worker):
    _, patched = both("images_without_text")
    assert patched(SimpleNamespace(processor=None), SimpleNamespace(multi_modal_data=None), None) == {}


# --- a micro-batch without image -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(nano: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(nano, attn_implementation="sdpa")


@pytest.mark.engine
def test_no_image_fails_without_the_patch(model):
    import torch

    original, _ = both("batch_without_image")
    ids = torch.arange(8)[None]
    must_fail("batch_without_image", lambda: original(model.model, ids, torch.ones_like(ids)), AttributeError, "'mean'")


@pytest.mark.engine
def test_no_image_leaves_the_embeddings_and_reaches_the_vision_tower(model):
    import torch

    _, patched = both("batch_without_image")
    ids = torch.arange(8)[None]
    embeds, mask = patched(model.model, ids, torch.ones_like(ids))
    assert torch.equal(embeds, model.get_input_embeddings()(ids))
    assert torch.equal(mask, torch.ones_like(ids))
    embeds.sum().backward()  # FSDP waits for ever where one rank's vision tower takes no part
    gradients = [p.grad for p in model.model.visual.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    model.zero_grad(set_to_none=True)


@pytest.mark.engine
def test_a_batch_with_images_is_verls(model, worker):
    import torch

    original, patched = both("batch_without_image")
    output, ids = finished(worker, next(iter(GOLDEN)))
    made = worker.processor.image_processor(images=output.multi_modal_data["images"], return_tensors="pt")
    arguments: dict[str, Any] = {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}
    with torch.no_grad():
        results = [call(model.model, ids[None], None, **arguments)[0] for call in (original, patched)]
    assert torch.equal(*results)


# --- on a CPU, in a process started as verl starts its own -----------------------------------------------------------

ON_CPU = """
    import json, os, sys
    import torch
    import verl  # loads the patches
    early = [name for name in ("verl.utils.fsdp_utils", "verl.utils.distributed", "verl.experimental.agent_loop")
             if name in sys.modules]
    from vilasr.training import compat, when_imported
    import verl.workers.engine_workers as workers
    from verl.workers.engine.fsdp import transformer_impl

    def outcome(call):
        try:
            return str(call())
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"

    start, policy = workers.initialize_global_process_group_ray, transformer_impl.CPUOffloadPolicy

    def offloaded(policy):
        from torch.distributed.fsdp import fully_shard
        layer = torch.nn.Linear(4, 4)
        fully_shard(layer, offload_policy=policy(pin_memory=True),
                    mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
        return tuple(layer(torch.ones(2, 4)).shape)

    def untied(select):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy
        from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration
        from verl.models.transformers.monkey_patch import apply_monkey_patch
        from verl.utils import fsdp_utils

        config = AutoConfig.from_pretrained(os.environ["NANO"])
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        model = Qwen2_5_VLForConditionalGeneration(config).float()
        apply_monkey_patch(model=model, use_remove_padding=False, ulysses_sp_size=1, use_fused_kernels=True,
                           fused_kernels_backend="torch")
        patched, fsdp_utils._select_fsdp2_wrap_targets = fsdp_utils._select_fsdp2_wrap_targets, select
        try:
            fsdp_utils.apply_fsdp2(model, {
                "mesh": init_device_mesh("cpu", (1,)), "offload_policy": None, "reshard_after_forward": True,
                "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=True),
            }, {})
        finally:
            fsdp_utils._select_fsdp2_wrap_targets = patched
        ids = torch.arange(20)[None]
        positions = torch.arange(20).expand(4, 1, 20).clone()
        made = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False)
        made.log_probs.mean().backward()
        return bool(model.lm_head.weight.grad.full_tensor().norm() > 0)

    from verl.utils import fsdp_utils
    select = fsdp_utils._select_fsdp2_wrap_targets

    print(json.dumps({
        "early": early,
        "taken": [compat.original_of(thing) is not None
                  for thing in (start, policy, workers.maybe_fix_3d_position_ids)],
        "without gloo": outcome(lambda: compat.original_of(start)(60)),
        "gloo": outcome(lambda: start(60) or torch.distributed.get_backend()),
        "pinned": outcome(lambda: offloaded(compat.original_of(policy))),
        "unpinned": outcome(lambda: offloaded(policy)),
        "own group": outcome(lambda: untied(compat.original_of(select))),
        "root": outcome(lambda: untied(select)),
    }))
"""


@pytest.fixture(scope="module")
def on_cpu(nano, tmp_path_factory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("store") / "ranks"
    environment = os.environ | {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "vilasr.training.compat,vilasr.training.cpu_platform",
        "PYTHONPATH": str(ROOT),
        "NANO": str(nano),
        "DIST_INIT_METHOD": store.as_uri(),
        "RANK": "0",
        "WORLD_SIZE": "1",
    }
    command = [sys.executable, "-c", textwrap.dedent(ON_CPU)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.engine
def test_workers_take_the_patched_names(on_cpu):
    assert all(on_cpu["taken"])
    assert not on_cpu["early"], "the patches import what a process may not need"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("patch", "without", "message", "within", "works"),
    [
        ("gloo_alone", "without gloo", "Duplicate device type cpu", "gloo", "gloo"),
        ("offload_without_pinning", "pinned", "RuntimeError", "unpinned", "(2, 4)"),
        ("output_layer_in_the_root", "own group", "mixed torch.Tensor and DTensor", "root", "True"),
    ],
    ids=["gloo", "offload", "untied"],
)
def test_patches_within_a_worker(on_cpu, patch, without, message, within, works):
    assert message in on_cpu[without], f"the library works without it: remove the patch {patch}"
    assert on_cpu[within] == works


# --- how patches are applied -----------------------------------------------------------------------------------------


def doubled(original: Any) -> Any:
    """One is too few: a made-up bug."""
    return lambda value: 2 * original(value)


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch) -> Any:
    """A package with a function, one that takes its name, and a patch that waits for the first."""
    package = tmp_path / "vilasr_made_up"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "library.py").write_text("def one(value):\n    return value\n")
    (package / "user.py").write_text("from vilasr_made_up.library import one\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compat, "PATCHES", [compat.Patch("vilasr_made_up.library", "one", ("value",), doubled)])
    monkeypatch.setattr(when_imported, "_finder", finder := when_imported._Finder())
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr("importlib.metadata.version", lambda name: compat.VERIFIED)
    yield SimpleNamespace(folder=package, finder=finder)
    for name in [name for name in sys.modules if name.startswith("vilasr_made_up")]:
        del sys.modules[name]


def test_a_patch_waits_for_its_module(made_up):
    compat.install()
    compat.install()
    assert "vilasr_made_up" not in sys.modules
    assert importlib.import_module("vilasr_made_up.user").one(1) == 2
    compat.install()
    assert importlib.import_module("vilasr_made_up.library").one(1) == 2


def test_a_patch_is_applied_to_a_module_that_is_there(made_up):
    library = importlib.import_module("vilasr_made_up.library")
    compat.install()
    compat.install()
    assert library.one(1) == 2
    assert compat.original_of(library.one)(1) == 1


def test_a_module_that_fails_first_is_patched_when_it_comes(made_up):
    compat.install()
    library = made_up.folder / "library.py"
    good = library.read_text()
    library.write_text("raise ImportError('not yet')\n")
    with pytest.raises(ImportError, match="not yet"):
        importlib.import_module("vilasr_made_up.library")
    library.write_text(good + "# of another size\n")
    assert importlib.import_module("vilasr_made_up.library").one(1) == 2


def test_names_taken_before_are_replaced(made_up, monkeypatch):
    library = importlib.import_module("vilasr_made_up.library")
    user: Any = ModuleType("verl.vilasr_made_up")
    user.one = library.one
    monkeypatch.setitem(sys.modules, "verl.vilasr_made_up", user)
    compat.install()
    assert user.one(1) == 2


def test_another_version_is_patched_with_a_warning(made_up, monkeypatch, caplog):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.0")
    with caplog.at_level(logging.WARNING):
        compat.install()
        assert importlib.import_module("vilasr_made_up.user").one(1) == 2
    assert "0.10.0" in caplog.text
    assert "unverified" in caplog.text


@pytest.mark.parametrize("source", ["def one(value, more):\n    return value\n", "one = 1\n", "two = 2\n"])
def test_what_has_changed_is_left_alone_with_a_warning(source, made_up, caplog):
    (made_up.folder / "library.py").write_text(source)
    with caplog.at_level(logging.WARNING):
        compat.install()
        library = importlib.import_module("vilasr_made_up.library")
    assert compat.original_of(getattr(library, "one", None)) is None
    assert "made-up bug" in caplog.text


def test_cpu_patches_need_the_cpu(made_up, monkeypatch):
    patch = compat.Patch("vilasr_made_up.library", "one", ("value",), doubled, cpu_only=True)
    monkeypatch.setattr(compat, "PATCHES", [patch])
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    compat.install()
    assert not made_up.finder.waiting
    monkeypatch.setenv("VERL_PLATFORM", " CPU ")  # verl reads it so
    compat.install()
    assert made_up.finder.waiting
