import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import gymnasium
import mujoco
import numpy as np
import pytest

from cfdg_rl.datasets.scores import MAZES as FAMILIES
from cfdg_rl.envs import make_env
from cfdg_rl.envs.antmaze import AntMaze

MAZES = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}
MOTORS = ["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"]


@pytest.fixture
def medium():
    env = AntMaze("medium")
    env.reset(seed=0)
    return env


def still(env, xy=(0.0, 0.0)):
    """The default pose at a place."""
    qpos = env.model.qpos0.copy()
    qpos[:2] = xy
    env.set_state(qpos, np.zeros(14))


@pytest.mark.parametrize("maze", MAZES)
def test_the_registered_environment_is_that_of_the_family(maze):
    family = FAMILIES[f"antmaze-{maze}"]
    assert family.env == f"cfdg/AntMaze{MAZES[maze]}-v2"
    env = make_env(family.env)
    assert (
        (env.observation_space.shape, env.action_space.shape)
        == ((family.obs_dim,), (family.action_dim,))
        == ((29,), (8,))
    )
    assert (env.action_space.low.min(), env.action_space.high.max()) == (-1.0, 1.0)
    assert env.spec.max_episode_steps == family.max_episode_steps == (700 if maze == "umaze" else 1000)


def test_the_time_limit_truncates():
    env = make_env("cfdg/AntMazeUMaze-v2")
    env.reset(seed=0)
    flags = [env.step(np.zeros(8))[2:4] for _ in range(700)]
    assert flags == [(False, False)] * 699 + [(False, True)]


def test_motors_come_in_the_order_of_d4rl_and_joints_in_their_own(medium):
    model = medium.model
    joints = [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)]
    assert joints == MOTORS
    assert [model.joint(i).name for i in range(model.njnt)] == [
        "root",
        *sorted(MOTORS, key=lambda m: (m[-1], m[0] == "a")),
    ]


@pytest.mark.parametrize("motor", range(8))
def test_each_action_turns_its_own_joint_forwards(medium, motor):
    address = medium.model.joint(MOTORS[motor]).dofadr[0]
    medium.set_state(medium.model.qpos0 + np.eye(15)[2] * 5, np.zeros(14))  # high up: no contacts
    medium.step(np.eye(8)[motor])
    torque = medium.data.qfrc_actuator
    assert torque[address] == pytest.approx(30.0)
    assert np.count_nonzero(torque) == 1


def test_physical_constants_are_those_of_d4rls_file(medium):
    model = medium.model
    hinges = [model.joint(name) for name in MOTORS]
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    assert model.opt.timestep == pytest.approx(0.02)
    assert medium.world.dt == pytest.approx(0.1)
    assert {(*joint.damping, *joint.armature) for joint in hinges} == {(1.0, 1.0)}
    np.testing.assert_allclose(model.geom_friction, np.tile([1.0, 0.5, 0.5], (model.ngeom, 1)))
    np.testing.assert_allclose(model.geom_solref, np.tile([0.02, 1.0], (model.ngeom, 1)))
    np.testing.assert_allclose(model.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (model.ngeom, 1)))
    np.testing.assert_allclose(model.geom_margin, 0.01)
    torso = model.body("torso").id
    assert model.body_mass[torso] == pytest.approx(5 * (4 / 3 * np.pi * 0.25**3))  # density 5
    assert medium.model.qpos0[2] == 0.75


def test_joint_ranges_are_those_of_d4rls_file(medium):
    degrees = {name: np.degrees(medium.model.joint(name).range) for name in MOTORS}
    for leg in "1234":
        np.testing.assert_allclose(degrees[f"hip_{leg}"], (-30, 30))
        np.testing.assert_allclose(degrees[f"ankle_{leg}"], (30, 70) if leg in "14" else (-70, -30))


def d4rls_ant(folder):
    """D4RL's model as its own file states it: motors of gear 1 and up to 30 N m, instead of gear 30."""
    root = ElementTree.parse(Path(gymnasium.__file__).parent / "envs/mujoco/assets/ant.xml").getroot()
    root.find("option").set("timestep", "0.02")
    root.find("default/geom").attrib.update(solref=".02 1", solimp=".8 .8 .01")
    for motor in root.find("actuator"):
        motor.attrib.update(ctrlrange="-30.0 30.0")
        del motor.attrib["gear"]
    ElementTree.ElementTree(root).write(folder / "ant.xml")
    return str(folder / "ant.xml")


def test_away_from_walls_it_moves_as_gymnasiums_ant_with_d4rls_file(medium, tmp_path):
    oracle = gymnasium.make("Ant-v5", xml_file=d4rls_ant(tmp_path), frame_skip=5).unwrapped
    oracle.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        medium.reset()
        qpos = medium.data.qpos.copy()
        qvel = medium.data.qvel.copy()
        oracle.set_state(qpos, qvel)
        medium.set_state(qpos, qvel)
        for _ in range(20):
            action = rng.uniform(-1, 1, 8)
            medium.step(action)
            oracle.do_simulation(30 * action, oracle.frame_skip)
            assert np.abs(medium.data.qpos[:2]).max() < 1.0  # a leg is shorter than the 2 m to the walls
            np.testing.assert_allclose(medium.data.qpos, oracle.data.qpos, atol=1e-9)
            np.testing.assert_allclose(medium.data.qvel, oracle.data.qvel, atol=1e-8)


def test_actions_are_clipped(medium):
    action = np.array([0.3, -0.2, 1.0, -1.0, 0.5, 1.0, -1.0, 0.0])
    ends = []
    for sent in (action, np.where(np.abs(action) == 1, 40 * action, action)):
        still(medium)
        ends.append(medium.step(sent)[0])
    np.testing.assert_array_equal(*ends)


def test_observations_are_positions_then_velocities(medium):
    obs, *_ = medium.step(np.full(8, 0.5))
    np.testing.assert_array_equal(obs, np.concatenate([medium.data.qpos[:15], medium.data.qvel[:14]]))
    before = obs.copy()
    medium.step(np.zeros(8))
    np.testing.assert_array_equal(obs, before)  # it is no view of the simulator


def test_a_reset_is_the_default_pose_with_noise(medium):
    obs = np.stack([medium.reset()[0] for _ in range(1_500)])
    noise = obs[:, :15] - (0, 0, 0.75, 1, *[0] * 11)
    assert np.abs(noise).max() <= 0.1
    np.testing.assert_allclose(noise.std(axis=0), 0.1 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(obs[:, 15:].std(axis=0), 0.1, rtol=0.1)
    np.testing.assert_allclose(obs[:, 15:].mean(axis=0), 0.0, atol=0.012)


def test_the_same_seed_gives_the_same_goals_and_trajectories_whatever_another_environment_does(medium):
    actions = np.random.default_rng(1).uniform(-1, 1, (20, 8))

    def run(env, disturb=None):
        rows = [np.concatenate([env.reset(seed=7)[0], env.goal])]
        for action in actions:
            rows.append(np.concatenate([env.step(action)[0], env.goal]))
            if disturb:
                disturb.step(-action)
        return np.stack([*rows, np.concatenate([env.reset()[0], env.goal])])

    alone = run(AntMaze("medium"))
    np.testing.assert_array_equal(run(AntMaze("medium"), disturb=medium), alone)
    assert (alone[0, -2:] != alone[-1, -2:]).all()  # a reset without a seed draws another goal
    assert (alone[0, -2:] == alone[-2, -2:]).all()


def test_success_pays_and_terminates(medium):
    still(medium, medium.goal + np.array([0.3, 0.0]))
    _, reward, terminated, truncated, info = medium.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    np.testing.assert_array_equal(info["goal"], medium.goal)
    still(medium, medium.goal + np.array([0.7, 0.0]))
    _, reward, terminated, _, info = medium.step(np.zeros(8))
    assert (reward, terminated, info["success"]) == (0.0, False, False)


def test_an_overturned_ant_goes_on(medium):
    qpos = medium.model.qpos0.copy()
    qpos[3:7] = (0.0, 1.0, 0.0, 0.0)  # upside down
    medium.set_state(qpos, np.zeros(14))
    ends = [medium.step(np.zeros(8))[1:4] for _ in range(50)]
    assert set(ends) == {(0.0, False, False)}
    assert medium.data.body("torso").xmat[8] < -0.9  # still upside down


def test_the_task_state_brings_the_goal_to_another_copy(medium):
    other = AntMaze("medium")
    other.reset(seed=5)
    saved = medium.task_state
    other.task_state = saved
    saved[:] = 0
    np.testing.assert_array_equal(other.goal, medium.goal)
    still(other, medium.goal)
    assert other.step(np.zeros(8))[2]


@pytest.mark.parametrize(("axis", "sign", "face"), [(0, 1, 6), (0, -1, -2), (1, 1, 6), (1, -1, -2)])
def test_a_wall_stops_an_ant_that_is_pushed(medium, axis, sign, face):
    """The start of the medium maze has a wall to the left, one below, and others one cell further on."""
    still(medium)
    medium.data.xfrc_applied[medium.model.body("torso").id, axis] = sign * 10.0  # more than its weight
    places = [medium.step(np.zeros(8))[0][axis] for _ in range(150)]
    assert (sign * np.array(places) < sign * face - 0.2).all()  # the torso's radius is 0.25
    assert sign * places[-1] > sign * face - 1.5  # and it got there


DRAW = """
import numpy as np
from cfdg_rl.envs.antmaze import AntMaze
env = AntMaze("large", render_mode="rgb_array")
env.reset(seed=0)
pictures = []
for xy in ((0, 0), (32, 24)):
    qpos = env.model.qpos0.copy()
    qpos[:2] = xy
    env.set_state(qpos, np.zeros(14))
    pictures.append(env.render().astype(int))
assert env.render().dtype == np.uint8
height, width, _ = pictures[0].shape
assert width * 9 == height * 12, (height, width)
rows, columns = np.nonzero(np.abs(pictures[0] - pictures[1]).sum(-1) > 30)
cells = {(int(8 - r * 9 // height), int(c * 12 // width)) for r, c in zip(rows, columns)}
assert cells == {(1, 1), (7, 9)}, cells  # only the ant's two cells differ, row 0 at the bottom
env.close()
"""


@pytest.mark.parametrize("library", ["egl", "osmesa"])
def test_pictures_show_the_ant_where_it_is(library):
    probe = "import mujoco; mujoco.GLContext(8, 8).make_current()"
    environment = os.environ | {"MUJOCO_GL": library}
    if subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False).returncode:
        pytest.skip(f"OpenGL through {library} does not work on this machine")
    done = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_render_mode_there_is_no_picture(medium):
    assert medium.render() is None
    medium.close()
