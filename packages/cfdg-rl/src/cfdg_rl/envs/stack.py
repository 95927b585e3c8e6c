"""Stacks of environments, stepped together; finished ones can rest, and the state can be saved."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext
from typing import Any

import gymnasium
import mujoco
import numpy as np

from cfdg_rl.envs.errors import check_finite, told
from cfdg_rl.envs.make import make_env
from cfdg_rl.envs.native import FULL_STATE, TASKS, Locomotion, Spread, make_engine, set_physics, time_limit
from cfdg_rl.streams import derive_seed


class EnvStack:
    """A list of copies of one environment.

    A vector environment of Gymnasium steps all members or none: with autoreset it resets finished members itself, and
    with ``AutoresetMode.DISABLED`` it asserts that no member is finished. Here the caller chooses the members of every
    step and reset, so that no reset can be stored as a transition, and finished members rest. Members share nothing, so
    results are the same for any number of workers.

    Args:
        env_id: a Gymnasium id. Those of :data:`cfdg_rl.envs.native.TASKS` are stepped without Gymnasium.
        seeds: one per copy; seeds the copy's first reset, later resets continue its generator.
        workers: threads that step the copies, at least 1; 1 starts none. Only simulators that release the interpreter
            gain by more, so copies of environments that are not MuJoCo's are always stepped by one.
        purpose: of the steps, for messages, such as "training".

    Raises:
        ValueError: if ``workers`` is below 1.
        EnvError: also in every method, if the environment raises an error or gives a number that is not finite.
    """

    def __init__(self, env_id: str, seeds: Sequence[int], workers: int = 1, purpose: str = "its use") -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}, expected at least 1")
        self.env_id = env_id
        self.purpose = purpose
        self.seeds = [int(seed) for seed in seeds]
        self.steps = 0
        self.closed = False
        self._envs: list[gymnasium.Env] = []
        self._crew = Crew(1)
        try:
            self._begin(workers)
        except BaseException:
            self.close()
            raise

    def _begin(self, workers: int) -> None:
        """Make the copies and what steps them."""
        env_id = self.env_id
        seeds = self.seeds
        for _ in seeds:
            self._envs.append(make_env(env_id))
        self._crew = Crew(workers if all(map(_is_mujoco, self._envs)) else 1)
        self._stepper: Locomotion | OneByOne = OneByOne(self._envs, self._crew)
        if env_id in TASKS:
            self._stepper = Locomotion(env_id, self._envs, make_engine(self._envs, workers, self._crew))
        self.obs = np.zeros((len(seeds), *(self._envs[0].observation_space.shape or ())), np.float32)
        self.reset(np.arange(len(seeds)), self.seeds)

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self._envs)

    @property
    def envs(self) -> list[gymnasium.Env]:
        """The copies, up to date. Changes to them before the next step count; read this again after a step."""
        self._stepper.lend()
        return self._envs

    def reset(self, members: np.ndarray, seeds: Sequence[int] | None = None) -> None:
        """Begin a new episode in the given members, with new generators if there are seeds."""
        doing = f"the reset after step {self.steps} of {self.purpose}"
        with told(self.env_id, doing):
            for i, seed in zip(members, [None] * len(members) if seeds is None else seeds, strict=True):
                self.obs[i] = self._envs[i].reset(seed=seed)[0]
        check_finite(self.env_id, doing, observation=self.obs[members])
        self._stepper.take(members)

    def step(self, actions: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step n members with actions ``(n, A)``; new observations are in ``obs``.

        Returns:
            Rewards, terminations and truncations ``(n,)``.
        """
        self.steps += 1
        doing = f"step {self.steps} of {self.purpose}"
        known = isinstance(self._stepper, Locomotion)  # its errors are the caller's
        with nullcontext() if known else told(self.env_id, doing):
            self.obs[members], reward, terminated, truncated = self._stepper.step(actions, members)
        check_finite(self.env_id, doing, reward=reward, observation=self.obs[members])
        return reward, terminated, truncated

    def state(self) -> dict[str, Any]:
        """Return arrays and strings for a checkpoint.

        Gymnasium's MuJoCo environments continue bit for bit: of every copy the physics, the episode clock and the
        random generator are saved. Other MuJoCo environments do the same if they have a property ``task_state`` that
        can be read and set: a numpy array of their further state, such as a maze's goal, possibly empty. The state of
        the rest is unknown; there a restored stack begins new episodes.
        """
        envs = self.envs
        if not all(map(_is_open, envs)):
            return {"obs": self.obs.copy(), "restart": np.array(self.steps)}
        state = {
            "obs": self.obs.copy(),
            "steps": np.array(self.steps),
            "physics": np.stack([_physics(env) for env in envs]),
            "clock": np.array([getattr(time_limit(env), "_elapsed_steps", 0) or 0 for env in envs]),
            "random": json.dumps([env.unwrapped.np_random.bit_generator.state for env in envs]),
        }
        if hasattr(envs[0].unwrapped, "task_state"):
            state["task"] = np.stack([_inner(env).task_state for env in envs])
        return state

    def restore(self, state: dict[str, Any]) -> bool:
        """Continue exactly from :meth:`state` (True), or in new episodes where that is impossible (False)."""
        if "restart" in state:
            self.steps = int(state["restart"])
            seeds = [derive_seed(seed, f"restart {self.steps}") % 2**31 for seed in self.seeds]
            self.reset(np.arange(len(self)), seeds)
            return False
        self.steps = int(state.get("steps", 0))
        copies = zip(self.envs, state["physics"], state["clock"], json.loads(state["random"]), strict=True)
        for i, (env, physics, clock, random) in enumerate(copies):
            if "task" in state:
                _inner(env).task_state = state["task"][i]
            set_physics(_inner(env).model, _inner(env).data, physics)
            if (limit := time_limit(env)) is not None:
                limit._elapsed_steps = int(clock)
            env.unwrapped.np_random.bit_generator.state = random
        self.obs[:] = state["obs"]
        return True

    def close(self) -> None:
        """Free the simulators and the threads; a second time changes nothing."""
        if self.closed:
            return
        self.closed = True
        self._crew.close()
        with ExitStack() as closing:  # all of them, also if one fails
            closing.enter_context(told(self.env_id, "closing"))
            for env in self._envs:
                closing.callback(env.close)


class Crew:
    """A pool of threads that divide work; the caller's thread is one of them."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = ThreadPoolExecutor(workers - 1, "cfdg-env") if workers > 1 else None

    def __call__(self, work: Callable[[int, int], None], count: int) -> None:
        """Run ``work(begin, end)`` on parts of ``range(count)`` that differ by one in length at most."""
        if self.pool is None or count < 2:
            return work(0, count)
        parts = min(self.workers, count)
        cuts = [part * count // parts for part in range(parts + 1)]
        others = [self.pool.submit(work, begin, end) for begin, end in itertools.pairwise(cuts[1:])]
        try:
            work(0, cuts[1])
        finally:
            wait(others)
        for other in others:
            other.result()  # raises what was raised there

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()


class OneByOne:
    """Members stepped by Gymnasium itself; MuJoCo releases the interpreter while it computes."""

    def __init__(self, envs: Sequence[gymnasium.Env], spread: Spread) -> None:
        self.envs = envs
        self.spread = spread

    def step(self, actions: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step n members; observations ``(n, S)``, rewards, terminations and truncations ``(n,)``."""
        obs = np.zeros((len(members), *(self.envs[0].observation_space.shape or ())), np.float32)
        reward, terminated, truncated = (np.zeros(len(members), kind) for kind in (np.float64, bool, bool))

        def work(begin: int, end: int) -> None:
            for k in range(begin, end):
                obs[k], reward[k], terminated[k], truncated[k], _ = self.envs[members[k]].step(actions[k])

        self.spread(work, len(members))
        return obs, reward, terminated, truncated

    def take(self, members: np.ndarray) -> None:
        """Do nothing: the environments themselves are stepped."""

    def lend(self) -> None:
        """Do nothing: the environments themselves are stepped."""


def _inner(env: gymnasium.Env) -> Any:  # noqa: ANN401 - attributes that only some environments have
    return env.unwrapped


def _is_mujoco(env: gymnasium.Env) -> bool:
    kinds = {"model": mujoco.MjModel, "data": mujoco.MjData}
    return all(isinstance(getattr(env.unwrapped, name, None), kind) for name, kind in kinds.items())


def _is_open(env: gymnasium.Env) -> bool:
    """Tell if the whole state of an environment can be read and written."""
    inner = _inner(env)
    own = type(inner).__module__.startswith("gymnasium.envs.mujoco.")
    return _is_mujoco(env) and (own or hasattr(inner, "task_state"))


def _physics(env: gymnasium.Env) -> np.ndarray:
    model = _inner(env).model
    data = _inner(env).data
    state = np.empty(mujoco.mj_stateSize(model, FULL_STATE))
    mujoco.mj_getState(model, data, state, FULL_STATE)
    return state
