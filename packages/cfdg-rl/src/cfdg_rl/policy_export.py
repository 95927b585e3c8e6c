"""Export of trained policies to files that need none of these packages: ONNX, TorchScript and plain safetensors.

All map ``obs``, float32 ``(n, S)`` as the environment gives it, to ``action``, float32 ``(n, A)`` in its own units.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from cfdg_rl.files import atomic_write
from cfdg_rl.policy_file import METADATA, Policy, read_facts, write_policy

TOLERANCE = 1e-6  # of the largest action bound, where that is above 1
_EXAMPLES = 256
_SPREAD = 5.0  # standard deviations of the observations of the check

Act = Callable[[np.ndarray], np.ndarray]
Arrays = Mapping[str, np.ndarray]


def export_policy(policy: Policy, path: Path | str, format: str) -> float:
    """Write a policy for use elsewhere, read it back with the other library, and compare actions.

    Args:
        policy: from :func:`~cfdg_rl.policy_file.load_policy`.
        path: of the file.
        format: "onnx" (read back by ONNX Runtime), "torchscript" (by ``torch.jit.load``) or "safetensors" (by numpy).

    Returns:
        The largest difference of an action between file and policy.

    Raises:
        ValueError: if the format is unknown, or the file acts differently by more than :data:`TOLERANCE`.
        ImportError: if the libraries of ONNX are missing.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    write, read = FORMATS[format]
    with atomic_write(Path(path)) as draft:
        write(policy, draft)
        difference = _difference(policy, read(draft))
        allowed = TOLERANCE * max(1.0, float(_bounds(policy).max()))
        if not difference <= allowed:
            raise ValueError(f"the {format} file's actions differ by {difference:.3g}, expected at most {allowed:.3g}")
    return difference


def _bounds(policy: Policy) -> torch.Tensor:
    return torch.maximum(policy.network.action_low.abs(), policy.network.action_high.abs())


def _difference(policy: Policy, act: Act) -> float:
    """Compare both on observations around the offline statistics, the same at every call."""
    noise = np.random.default_rng(0).normal(size=(_EXAMPLES, policy.obs_dim))
    obs = policy.network.obs_mean.numpy() + _SPREAD * policy.network.obs_std.numpy() * noise
    obs = obs.astype(np.float32)
    return float(np.abs(act(obs).astype(np.float64) - policy(obs)).max())


def _write_onnx(policy: Policy, path: Path) -> None:
    for name in ("onnx", "onnxscript"):
        _library(name)
    rows = torch.export.Dim("rows", min=1)
    example = torch.zeros(2, policy.obs_dim)
    with _quiet():
        program = torch.onnx.export(
            policy.network, (example,), input_names=["obs"], output_names=["action"], dynamo=True,
            dynamic_shapes=({0: rows},), verbose=False,
        )  # fmt: skip
        if program is None:
            raise ValueError("torch.onnx made no program, expected one")
        program.model.metadata_props[METADATA] = json.dumps(asdict(policy.facts))
        program.save(str(path), external_data=False)


def _read_onnx(path: Path) -> Act:
    session = _library("onnxruntime").InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda obs: session.run(["action"], {"obs": obs})[0]


def _write_torchscript(policy: Policy, path: Path) -> None:
    with _quiet():
        traced: Any = torch.jit.trace(policy.network, torch.zeros(2, policy.obs_dim))
        torch.jit.save(traced, str(path), _extra_files={METADATA: json.dumps(asdict(policy.facts))})


def _read_torchscript(path: Path) -> Act:
    with _quiet():
        module: Any = torch.jit.load(str(path))
    return lambda obs: module(torch.from_numpy(obs)).numpy()


def _read_safetensors(path: Path) -> Act:
    """Act by numpy alone, as a reader of the file would."""
    tensors = load_file(path)

    def act(obs: np.ndarray) -> np.ndarray:
        unit = _unit_action(tensors, (obs.astype(np.float64) - tensors["obs_mean"]) / tensors["obs_std"])
        action = tensors["action_low"] + 0.5 * (unit + 1) * (tensors["action_high"] - tensors["action_low"])
        return np.rint(action) if _is_whole(path) else action

    return act


def _unit_action(tensors: Arrays, obs: np.ndarray) -> np.ndarray:
    """Compute actions in [-1, 1] at standardised observations; of two actors' the one that the critics prefer."""
    actions = [np.tanh(_dense(tensors, name, obs)) for name in _networks(tensors, "actors")]
    if len(actions) == 1:
        return actions[0]
    critics = _networks(tensors, "critics")
    inputs = [np.concatenate([obs, action], axis=1) for action in actions]
    offline, fresh = (np.min([_dense(tensors, name, each) for name in critics], axis=0) for each in inputs)
    return np.where(fresh > offline, actions[1], actions[0])


def _networks(tensors: Arrays, kind: str) -> list[str]:
    return sorted({".".join(key.split(".")[:2]) for key in tensors if key.startswith(f"{kind}.")})


def _dense(tensors: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """Apply a ReLU network; its layers are at even places, "actors.0.2.weight" is the second."""
    places = sorted({int(key.split(".")[2]) for key in tensors if key.startswith(f"{name}.")})
    for place in places:
        x = np.maximum(x, 0) if place else x
        x = x @ tensors[f"{name}.{place}.weight"].T.astype(np.float64) + tensors[f"{name}.{place}.bias"]
    return x


def _is_whole(path: Path) -> bool:
    return np.dtype(read_facts(path).action_dtype).kind in "iu"


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"export to ONNX needs {name}: pip install 'cfdg-rl[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop torch's notices about its exporters: their age, and the steps of ONNX's."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


FORMATS: dict[str, tuple[Callable[[Policy, Path], None], Callable[[Path], Act]]] = {
    "onnx": (_write_onnx, _read_onnx),
    "torchscript": (_write_torchscript, _read_torchscript),
    "safetensors": (write_policy, _read_safetensors),
}
