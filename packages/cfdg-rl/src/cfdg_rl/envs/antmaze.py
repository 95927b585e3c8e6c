"""D4RL's antmaze-*-v2 on present MuJoCo: the same body, task, order of actions, and coordinates.

The body is Gymnasium's own ``ant.xml``, changed at run time into the one that D4RL ships: an action is five simulator
steps of 0.02 s, torques reach 30 N m, and contacts are softer. The rest of the two files is equal, the order of the
motors (hip and ankle of legs 4, 1, 2, 3, where joints go 1, 2, 3, 4) included.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import gymnasium.envs.mujoco as gymnasium_mujoco

from cfdg_rl.envs.maze_env import MazeEnv
from cfdg_rl.envs.mazes import MazeWorld, find, find_maze

TORQUE = 30.0  # N m at full action; ctrlrange of D4RL's ant.xml
_TIMESTEP = 0.02  # the same file
_FRAME_SKIP = 5  # D4RL's ant.py; an action lasts 0.1 s
_CONTACTS = {"solref": "0.02 1", "solimp": "0.8 0.8 0.01"}  # default geom of D4RL's ant.xml


class AntMaze(MazeEnv):
    """An ant that has to walk to a goal that is not in the observation.

    Observations ``(29,)`` are the 15 positions (x, y, z, quaternion, joints 1 to 4) and 14 velocities, the start cell
    at (0, 0) and y growing with the row of the map. The 8 actions, clipped to [-1, 1], are torques in the order of
    D4RL's motors: hip 4, ankle 4, hip 1, ankle 1, hip 2, ankle 2, hip 3, ankle 3. A reset draws a goal in the goal
    cell. The reward is 1 within 0.5 m of it, which ends the episode; an overturned ant continues until the time limit.

    Args:
        maze: "umaze", "medium" or "large".
        render_mode: None or "rgb_array".

    Raises:
        ValueError: if there is no such maze.
    """

    def __init__(self, maze: str, render_mode: str | None = None) -> None:
        super().__init__(MazeWorld(_ant_xml(), find_maze(maze), _FRAME_SKIP), render_mode)


def _ant_xml() -> ElementTree.Element:
    """Build D4RL's ant, without a maze."""
    root = ElementTree.parse(Path(gymnasium_mujoco.__file__).parent / "assets" / "ant.xml").getroot()
    find(root, "option").set("timestep", str(_TIMESTEP))
    find(root, "default/geom").attrib.update(_CONTACTS)
    find(root, "asset/texture[@name='texplane']").attrib.update(rgb1="0.5 0.5 0.5", rgb2="0.45 0.45 0.45")
    find(root, "asset/material[@name='MatPlane']").set("reflectance", "0")
    for motor in find(root, "actuator"):
        motor.set("gear", str(TORQUE))
    return root
