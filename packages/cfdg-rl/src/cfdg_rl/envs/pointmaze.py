"""A ball in D4RL's mazes: AntMaze's task for a body that is fast to simulate and easy to steer.

This is not D4RL's maze2d, which has other mazes, rewards and episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from cfdg_rl.envs.maze_env import MazeEnv
from cfdg_rl.envs.mazes import MazeWorld, find_maze


@dataclass(frozen=True)
class Ball:
    """The ball and its motors, chosen so that a planner needs about a third of the time limits.

    Attributes:
        radius: in metres; corridors are 4 m wide.
        mass: in kg.
        force: of each motor at full action, in N. The top speed along an axis is force / damping = 6 m/s.
        damping: in N s/m. The ball takes up a new speed in mass / damping = 0.25 s.
        timestep: of the simulator, in seconds; at top speed the ball moves 0.12 m in it, and walls are 4 m thick.
        frame_skip: simulator steps per action, so that an action lasts 0.1 s as AntMaze's does.
        reach: distance at which a goal is reached, in metres. AntMaze's is 0.5; but the goal is not in the observation,
            and a ball, unlike an ant that stumbles about, can come to rest where half of the goals are out of reach.
            Every goal is within 1.1 m of their mean.
    """

    radius: float = 0.5
    mass: float = 1.0
    force: float = 24.0
    damping: float = 4.0
    timestep: float = 0.02
    frame_skip: int = 5
    reach: float = 1.1


class PointMaze(MazeEnv):
    """A ball that has to be steered to a goal that is not in the observation.

    Observations are x, y and their velocities; the two actions, clipped to [-1, 1], are forces along x and y. Goals,
    rewards, ends and the noise at a reset are AntMaze's, the distance that counts as reached is :attr:`Ball.reach`.

    Args:
        maze: "umaze", "medium" or "large".
        render_mode: None or "rgb_array".

    Raises:
        ValueError: if there is no such maze.
    """

    def __init__(self, maze: str, render_mode: str | None = None) -> None:
        ball = Ball()
        super().__init__(MazeWorld(_ball_xml(ball), find_maze(maze), ball.frame_skip, ball.reach), render_mode)


def _ball_xml(ball: Ball) -> ElementTree.Element:
    """Build the model without the maze. Friction is the ant's: without it the ball slides to the goal unsteered."""
    slides = "".join(
        f'<joint name="{name}" type="slide" axis="{axis}" damping="{ball.damping}"/>'
        for name, axis in (("x", "1 0 0"), ("y", "0 1 0"))
    )
    motors = "".join(
        f'<motor joint="{name}" gear="{ball.force}" ctrllimited="true" ctrlrange="-1 1"/>' for name in ("x", "y")
    )
    return ElementTree.fromstring(f"""
<mujoco model="point">
  <option timestep="{ball.timestep}" gravity="0 0 0"/>
  <default><geom condim="3" friction="1 0.5 0.5" solref="0.04 1"/></default>
  <worldbody>
    <light directional="true" pos="0 0 10" dir="0 0 -1" diffuse="0.8 0.8 0.8"/>
    <geom name="floor" type="plane" size="100 100 1" contype="0" conaffinity="0" rgba="0.9 0.9 0.9 1"/>
    <body name="ball" pos="0 0 {ball.radius}">
      {slides}
      <geom name="ball" type="sphere" size="{ball.radius}" mass="{ball.mass}" rgba="0.2 0.4 0.8 1"/>
    </body>
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>""")
