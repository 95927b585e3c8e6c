"""Episodes of a trained policy in its environment, and a film of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from cfdg_rl.datasets.minari import register_environment
from cfdg_rl.datasets.scores import reference_of
from cfdg_rl.envs.errors import told
from cfdg_rl.envs.make import make_plain_env
from cfdg_rl.files import atomic_write
from cfdg_rl.policy_file import Policy, PolicyFacts
from cfdg_rl.streams import derive_seed

FRAMES_PER_SECOND = 30  # of a film at most; of faster environments every k-th frame is taken

Show = Callable[[np.ndarray], None]


def play(policy: Policy, *, episodes: int, seed: int = 0, video: Path | None = None) -> Iterator[tuple[float, int]]:
    """Play whole episodes by the policy's mean action; yields the undiscounted return and length of each.

    Args:
        policy: from :func:`cfdg_rl.load_policy`.
        episodes: how many.
        seed: of the first states.
        video: an mp4 file for the film of all episodes; None films nothing.

    Raises:
        ValueError: if the environment cannot be made, or draws no pictures for a film.
        FileNotFoundError: if the environment is one that a Minari dataset has stored, and this is not there.
        ImportError: if a film is asked for and imageio-ffmpeg is missing.
    """
    register_environment(policy.facts.env_id)
    env = make_plain_env(policy.facts.env_id, None if video is None else _render_mode(policy.facts.env_id))
    try:
        if video is None:
            yield from _episodes(env, policy, episodes, seed, lambda step: None)
            return
        rate = float(env.metadata.get("render_fps") or FRAMES_PER_SECOND)
        stride = max(1, round(rate / FRAMES_PER_SECOND))
        with film(video, rate / stride) as show:
            yield from _episodes(env, policy, episodes, seed, lambda step: _show(env, show, step, stride))
    finally:
        env.close()


def scale_of(facts: PolicyFacts) -> tuple[float, float] | None:
    """Return the raw returns that score 0 and 100, on the scale of the policy's own score; None without any.

    An older file does not tell them: they are D4RL's, but for Minari, whose datasets may have their own.
    """
    if facts.reference is not None or (facts.dataset or "").startswith("minari:"):
        return facts.reference
    return reference_of(facts.env_id, sparse=False)


def _episodes(
    env: gymnasium.Env, policy: Policy, episodes: int, seed: int, watch: Callable[[int], None]
) -> Iterator[tuple[float, int]]:
    """Play the episodes; ``watch`` is told the step of each state, 0 for the first."""
    for episode in range(episodes):
        obs, _ = env.reset(seed=derive_seed(seed, f"play {episode}") % 2**31)
        total = 0.0
        step = 0
        over = False
        watch(step)
        while not over:
            obs, reward, terminated, truncated, _ = env.step(policy(obs))
            total += float(reward)
            step += 1
            over = terminated or truncated
            watch(step)
        yield total, step


def _show(env: gymnasium.Env, show: Show, step: int, stride: int) -> None:
    if step % stride == 0:
        with told(env.spec.id if env.spec else "", "drawing"):
            picture = np.asarray(env.render())
        show(picture)


def _render_mode(env_id: str) -> str:
    """Choose pictures as arrays."""
    modes = _modes(env_id)
    if "rgb_array" not in modes:
        raise ValueError(f"environment {env_id!r} draws {modes or 'nothing'}, expected the render mode 'rgb_array'")
    return "rgb_array"


def _modes(env_id: str) -> list[str]:
    env = make_plain_env(env_id)
    env.close()
    return list(env.metadata.get("render_modes", []))


@contextmanager
def film(path: Path, rate: float) -> Iterator[Show]:
    """Open an mp4 file that takes pictures ``(height, width, 3)`` uint8, ``rate`` to the second of the film.

    Raises:
        ImportError: if imageio-ffmpeg is missing.
        OSError: if the film cannot be written whole; what was there before stays.
    """
    try:
        ffmpeg: Any = import_module("imageio_ffmpeg")
    except ImportError as error:
        raise ImportError("a film needs imageio-ffmpeg: pip install 'cfdg-experiments[video]'") from error
    writer: Any = None
    target = path.with_suffix(".mp4")

    with atomic_write(target) as draft:
        shown = 0

        def show(picture: np.ndarray) -> None:
            nonlocal writer, shown
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = ffmpeg.write_frames(str(draft), size, fps=rate, macro_block_size=2, ffmpeg_log_level="error")
                writer.send(None)
            with _one_sentence(target):
                writer.send(np.ascontiguousarray(picture, dtype=np.uint8))
            shown += 1

        try:
            yield show
        finally:
            if writer is not None:
                writer.close()
        if writer is not None:
            _check_whole(ffmpeg, draft, shown, target)


def _check_whole(ffmpeg: Any, draft: Path, shown: int, target: Path) -> None:  # noqa: ANN401 - a module
    """Count the pictures of a film: ffmpeg tells nobody that its last bytes did not fit on the disk."""
    with _one_sentence(target):
        found, _ = ffmpeg.count_frames_and_secs(str(draft))
        if found != shown:
            raise OSError(f"{found} pictures of {shown}")


@contextmanager
def _one_sentence(target: Path) -> Iterator[None]:
    """Name the film in place of ffmpeg's own words, which are a page.

    Raises:
        OSError: if ffmpeg has failed.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OSError(f"film {target} cannot be written whole: the disk is full, or ffmpeg has failed") from error
