"""Ranges of all settings: every number of every profile refuses what it cannot be, from words and from Python alike."""

import dataclasses
import math
import re

import pytest

from cfdg_experiments.profiles.files import PROFILES, load_profile, parse_overrides
from cfdg_experiments.profiles.plain_yaml import check_plain, parse_yaml

NEGATIVE = {"p_mean", "guidance_weight"}  # settings that may be below 0
ZERO = NEGATIVE | {
    "warm_up", "seed", "gate", "gaussian_rows", "fourier_octaves", "sigma_leap", "synthetic_ratio", "online_share",
    "probability", "margin", "inverse_temperature", "conservatism", "discount", "selection_temperature", "epsilon",
    "alpha", "target_noise", "noise_clip", "exploration_noise", "noise", "state_noise", "action_noise", "p_uncond",
    "ema_decay", "updates_per_fit_step", "offline_steps", "weight_decay", "state_weight",
    "action_weight", "transition_weight", "ranges_suffice",
}  # fmt: skip
SHARES = {
    "discount",
    "probability",
    "synthetic_ratio",
    "online_share",
    "epsilon",
    "p_uncond",
    "polyak_rate",
    "expectile",
}
SHARES |= {"ema_decay", "top_fraction"}


def leaves(settings, prefix=""):
    """List every field of nested settings as (dotted key, group that has it, name, value)."""
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", settings, item.name, value


def wrong_values(name, value):
    if isinstance(value, bool):
        return [] if name in ("block_norm", "sparse_reward") else ["yes", 1, None]
    if isinstance(value, float):
        return [math.nan, math.inf, -math.inf, *[-1.0] * (name not in NEGATIVE), *[0.0] * (name not in ZERO)] + [
            2.0
        ] * (name in SHARES)
    if isinstance(value, int):
        return [-1, *[0] * (name not in ZERO)]
    return []


FIELDS = [(key, *rest) for profile in PROFILES for key, *rest in leaves(load_profile(profile))]


def test_every_number_states_its_range():
    checked = 0
    for key, group, name, value in FIELDS:
        for wrong in wrong_values(name, value):
            with pytest.raises(ValueError, match=rf"^{name} is ") as caught:
                dataclasses.replace(group, **{name: wrong})
            assert "expected" in str(caught.value), key
            checked += 1
    assert checked > 600


def test_the_same_holds_for_the_command_line():
    for key, _, name, value in [*leaves(load_profile("quick"))]:
        for wrong in wrong_values(name, value)[:1]:
            with pytest.raises(ValueError, match=rf"profile quick: {key} is ") as caught:
                load_profile("quick", {key: wrong})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        "finetune.steps=[1", "finetune.steps=@x", "finetune.steps=*b", "finetune.steps=\t1", "finetune.steps=!!set {1}",
        "finetune.steps=2020-01-01", "name=2020-01-01", "name=2020-13-45", "finetune.steps=!!binary aGk=",
        "name=!!python/name:os.system", "finetune.steps={1: 2}", "finetune.steps=" + "[" * 24 + "]" * 24,
        "iql.hidden=[]", "iql.hidden=[0]", "iql.log_std_range=[2,-5]", "iql.log_std_range=[.nan,2]", "device=quantum",
        "device=cuda:x", "device=''", "arms=[base,base]", "algorithms=[iql,iql]", "name=/../../x", "name=..",
        "name=a/b",         "data.rows=0", "data.rows=-5", "finetune.steps=1e400",
        "finetune.steps=", "seeds=[0,0]", "finetune.steps=~",
        "finetune.steps={a: {b: 1}}", "iql.hidden={a: 1}", "data.datasets=[3]", "finetune.=1", ".=1", "a.b.c=1",
    ],
)  # fmt: skip
def test_wrong_words_are_one_sentence_that_names_the_key(word):
    key = word.partition("=")[0]
    with pytest.raises(ValueError, match=re.escape(key.rpartition(".")[2][:4] or key)) as caught:
        load_profile("quick", parse_overrides([word]))
    assert "\n" not in str(caught.value)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "key name stands twice"),
        ("name: a\nfinetune:\n  steps: 1\n  steps: 2\n", "key steps stands twice"),
        (BOMB + "name: *j\n", "makes more than"),
        ("name: &x [*x]\n", "makes more than|not YAML"),
        ("2020-01-01: 1\n", "has the key datetime.date"),
        ("1: 1\n", "has the key 1"),
        ("name: 2020-01-01\n", "name is datetime.date"),
        ("name: 2020-02-31\n", "is not YAML"),
        ("\x00", "is not YAML"),
        ("[" * 3000, "is not YAML"),
        ("- a\n", "is a list"),
        ("", "is a NoneType"),
        ("name: !!python/object/apply:os.system [ls]\n", "is not YAML"),
    ],
)
def test_files_that_are_no_profiles_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_profile(str(path))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ValueError, match=r"mine\.yaml is not UTF-8 text"):
        load_profile(str(tmp_path / "mine.yaml"))


def test_plain_values_pass():
    tree = parse_yaml("a: [1, 2.5, x, null, true]\nb: {c: {d: []}}\n", "here")
    check_plain(tree, "here")
    assert tree == {"a": [1, 2.5, "x", None, True], "b": {"c": {"d": []}}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iql.hidden", [10**10]),
        ("diffusion.width", 10**11),
        ("generators.outcomes.width", 10**6),
        ("evaluation.episodes", 10**22),
        ("finetune.steps", 2**63),
        ("seeds", [2**64]),
    ],
)
def test_sizes_that_no_machine_holds_are_refused(key, value):
    with pytest.raises(ValueError, match=key.rpartition(".")[2]):
        load_profile("quick", {key: value})
