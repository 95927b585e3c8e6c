"""Cases of malformed.py, by kind: a list of known faults each, and damage at random places."""

from __future__ import annotations

import hashlib
import importlib
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml

import cfdg_diffusion.cli
import cfdg_experiments.cli
import cfdg_rl.datasets.cli
import malformed_examples as examples
from cfdg_diffusion import storage
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.table_files import read_table
from cfdg_experiments.cells.cell import Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.cells.run import run_cell
from cfdg_experiments.cluster.stored_plan import load_plan, units_of
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.storage.object_store import Store
from cfdg_rl.checkpoint import load_checkpoint
from cfdg_rl.datasets.load import load_dataset
from malformed_examples import TABLE, recording
from malformed_words import CFDG_WORDS, CSV, DATASETS_WORDS, DIFFUSION_WORDS, OUTCOMES, PROFILES, SETS, WRONG

make_examples = examples.make_examples
LOADED = [f"cfdg_diffusion.cli.{name}" for name in ("fit", "sample", "impute", "report", "inspect")]
LOADED += [f"cfdg_experiments.studies.{name}" for name in ("run", "estimate")]
LOADED += [f"cfdg_experiments.cluster.{name}" for name in ("commands", "unit")]
LOADED += [f"cfdg_experiments.cells.{name}" for name in ("policy_store", "run")]
LOADED += [
    "cfdg_rl.policy_file",
    "cfdg_rl.policy_export",
    "cfdg_experiments.play",
    "pyarrow.parquet",
    "gymnasium.envs.mujoco.hopper_v5",
]
for _module in LOADED:  # once, instead of by each case
    importlib.import_module(_module)
COLUMNS = ("obs", "action", "reward", "next_obs", "terminal")
DRY = ("cfdg", "table1", "--dry-run", "--only", "recorded:hopper-medium", "--seeds", "0")


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        kind: of the input.
        name: what is wrong with it.
        words: program and arguments.
        named: words of which the sentence has at least one.
        make: fills the folder in which the program runs.
        accepts: status 0 is right too.
        expected: output that status 0 has to give; None for any.
        statuses: right ones beside 0.
        works: the program works before it comes to the fault, and may leave whole files.
        seconds: of the processor, after which it hangs.
    """

    kind: str
    name: str
    words: Sequence[str]
    named: Sequence[str]
    make: Callable[[Path], object] = lambda folder: None
    accepts: bool = False
    expected: str | None = None
    statuses: tuple[int, ...] = (2,)
    works: bool = False
    seconds: float = 30.0


Maker = Callable[[Path, random.Random], Iterator[Case]]


def cases(kinds: Sequence[str] | None, folder: Path, least: int, rng: random.Random) -> list[Case]:
    """Take all known faults, and as much random damage as is asked for, shared among the kinds."""
    chosen = {name: KINDS[name] for name in kinds or KINDS}
    known = [case for name, (make, _) in chosen.items() for case in make(folder, rng)]
    random_kinds = [(name, make) for name, (_, make) in chosen.items() if make is not None]
    each = -(-max(0, least - len(known)) // max(1, len(random_kinds)))
    drawn = [case for _, make in random_kinds for case in islice(make(folder, rng), each)]
    order = list(chosen)
    return sorted(known + drawn, key=lambda case: order.index(case.kind.partition(" of ")[0]))


# --- programs that read a file of ours and print a digest of its content ---


def reader(read: Callable[[str], object]) -> Callable[[list[str]], int]:
    """Make a program that ends as the console scripts do."""

    def program(words: list[str]) -> int:
        try:
            found = read(*words)
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        print(hashlib.sha256(plain(found)).hexdigest())
        return 0

    return program


def plain(value: object) -> bytes:
    """Write content as bytes: the same bytes, the same content."""
    if isinstance(value, dict):
        return b"{" + b",".join(plain(key) + b":" + plain(own) for key, own in value.items()) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(plain(own) for own in value) + b"]"
    if isinstance(value, pd.DataFrame):
        return value.to_csv().encode()
    array = np.asarray(value)
    return repr((array.dtype, array.shape)).encode() + (
        repr(value).encode() if array.dtype == object else array.tobytes()
    )


def read_recording(rows: str, seed: str) -> object:
    """Read a recording of the cache."""
    data = load_dataset("hopper-medium", rows=int(rows), seed=int(seed))
    return [*(getattr(data.transitions, name) for name in COLUMNS), data.episode_returns]


def read_model(path: str) -> object:
    """Read a model of the command line, and the format of its table."""
    files = ModelFiles.of(Path(path))
    return [storage.load(files.model), files.load("cpu")[1].state()]


def run_last_cell() -> object:
    """Run the last cell of the store's plan in the folder ``runs``, as a worker of a table does."""
    cell = units_of(load_plan(Store("store")))[-1].cell
    return run_cell(cell, Workspace(Path("runs").resolve()), lambda event: None).scores


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "cfdg": cfdg_experiments.cli.main,
    "cfdg-datasets": cfdg_rl.datasets.cli.main,
    "cfdg-diffusion": cfdg_diffusion.cli.main,
    "read-recording": reader(read_recording),
    "read-checkpoint": reader(lambda path: load_checkpoint(Path(path))),
    "read-result": reader(lambda path: vars(CellResult.from_json(Path(path)))),
    "run-cell": reader(run_last_cell),
    "read-model": reader(read_model),
    "read-fit": reader(lambda path: storage.load(Path(path))),
    "read-table": reader(lambda path: read_table(Path(path)).table),
}


def expected_of(words: Sequence[str], folder: Path) -> str:
    """Run a program on undamaged files in this process and return its output."""
    import contextlib
    import io
    import os

    told = io.StringIO()
    before = Path.cwd()
    os.environ["CFDG_CACHE"] = "cache"
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(told):
            status = PROGRAMS[words[0]](list(words[1:]))
    finally:
        os.chdir(before)
    if status:
        raise SystemExit(f"malformed: {words} failed on undamaged files")
    return told.getvalue()


# --- damage ---


def flip(path: Path, place: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[:size])


def damage(path: Path, rng: random.Random) -> tuple[str, Callable[[Path], None]]:
    """Draw a cut (one in four) or a flipped bit, half of those in the first 2,000 bytes, where headers are."""
    size = path.stat().st_size
    if rng.random() < 0.25:
        left = rng.randrange(size)
        return f"cut to {left} of {size} bytes", lambda own: cut(own, left)
    near = min(size, 2000) if rng.random() < 0.5 else size
    place = rng.randrange(8 * near)
    return f"bit {place} of {8 * size} flipped", lambda own: flip(own, place)


def copied(source: Path, *names: str) -> Callable[[Path], None]:
    """Return a function that copies files and folders of the examples."""

    def make(folder: Path) -> None:
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source / name, target)

    return make


def then(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    """Do one step after the other."""

    def make(folder: Path) -> None:
        for step in steps:
            step(folder)

    return make


def file_with(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Return a function that writes a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def damaged(
    kind: str, source: Path, names: Sequence[str], words: Sequence[str], rng: random.Random, only: str | None = None
) -> Iterator[Case]:
    """Yield cases with a file (the first, or ``only``) damaged somewhere: it is refused, or its content the same."""
    expected = expected_of(words, source)
    name = only or names[0]
    while True:
        about, spoil = damage(source / name, rng)
        make = then(copied(source, *names), lambda folder, spoil=spoil: spoil(folder / name))
        yield Case(kind, f"{name} {about}", words, [Path(name).name], make, accepts=True, expected=expected)


def nothing(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield no known faults."""
    yield from ()


# --- configuration ---


def known_profiles(folder: Path, rng: random.Random) -> Iterator[Case]:
    words = ["cfdg", "table1", "--dry-run", "--profile", "mine.yaml"]
    for number, (text, named) in enumerate(PROFILES.items()):
        yield Case("profile", f"known {number}: {text[:40]!r}", words, [named], file_with("mine.yaml", text))
    for name, content in {
        "bytes": b"name: \xff\n",
        "utf-16": "name: a\n".encode("utf-16"),
        "random": rng.randbytes(5000),
    }.items():
        yield Case("profile", name, words, ["mine.yaml"], file_with("mine.yaml", content))
    yield Case("profile", "folder", words, ["mine.yaml"], lambda folder: (folder / "mine.yaml").mkdir())
    yield Case("profile", "absent", words, ["mine.yaml"])


def wrong_leaves(rng: random.Random) -> Iterator[tuple[dict[str, object], str, str]]:
    """Yield whole settings, the dotted key of a number or a list in them, and a wrong value for it."""
    from dataclasses import asdict

    while True:
        tree = asdict(load_profile("quick"))
        path: list[str] = []
        inner: object = tree
        while isinstance(inner, dict):
            path.append(rng.choice(list(inner)))
            inner = inner[path[-1]]
        if isinstance(inner, int | float | list | tuple):
            yield tree, ".".join(path), rng.choice(WRONG[:3] if isinstance(inner, bool) else WRONG)


def drawn_profiles(folder: Path, rng: random.Random) -> Iterator[Case]:
    words = ["cfdg", "table1", "--dry-run", "--profile", "mine.yaml"]
    for tree, key, value in wrong_leaves(rng):
        *groups, last = key.split(".")
        inner: dict = tree
        for group in groups:
            inner = inner[group]
        if isinstance(inner[last], list | tuple) and value == "[1]":
            continue
        inner[last] = "HERE"
        text = yaml.safe_dump(listed(tree)).replace("HERE", value)
        yield Case("profile", f"{key} = {value}", words, [last], file_with("mine.yaml", text))


def listed(value: object) -> object:
    """Turn tuples into lists at every depth."""
    if isinstance(value, dict):
        return {key: listed(own) for key, own in value.items()}
    return [listed(own) for own in value] if isinstance(value, list | tuple) else value


def known_sets(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield wrong words; devices are looked for by a run alone, since a dry run may be for another machine."""
    for word in SETS:
        name = word.partition("=")[0].rpartition(".")[2]
        words = [own for own in DRY if own != "--dry-run" or not word.startswith(("device=cuda", "capture"))]
        words = words[: -2 if word.startswith("seeds") else None]
        named = [name or "override", "override", "device", "rows", "seeds", "arm nobody:Class"]
        yield Case("overrides", word[:60], [*words, "--set", word], named)


def drawn_sets(folder: Path, rng: random.Random) -> Iterator[Case]:
    for _, key, value in wrong_leaves(rng):
        if value != "[1]":
            yield Case("overrides", f"{key}={value}", [*DRY, "--set", f"{key}={value}"], [key.rpartition(".")[2]])


# --- words of the command line ---


def known_words(folder: Path, rng: random.Random) -> Iterator[Case]:
    import shlex

    parts = {"cfdg-diffusion": ("t.csv", "u.csv", "model", "other"), "cfdg-datasets": ("t.csv", "own.hdf5")}
    parts["cfdg"] = ("t.csv", "own.hdf5", "store", "runs")
    lists = {"cfdg-diffusion": DIFFUSION_WORDS, "cfdg-datasets": DATASETS_WORDS, "cfdg": CFDG_WORDS}
    for program, lines in lists.items():
        for line, named in lines.items():
            words = [program, *shlex.split(line), *["--quiet"] * line.startswith("fit t.csv -o m ")]
            make = copied(folder, *parts[program])
            statuses = OUTCOMES.get(line, (2,))
            yield Case(f"words of {program}", line, words, [named], make, statuses=statuses)


# --- HDF5 ---


def changed_own(folder: Path, change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    """Copy the user's HDF5 file and change it."""

    def make(own: Path) -> None:
        shutil.copyfile(folder / "own.hdf5", own / "own.hdf5")
        with h5py.File(own / "own.hdf5", "r+") as file:
            change(file)

    return make


def replaced(key: str, values: object) -> Callable[[h5py.File], None]:
    """Return a change that puts other values in place of a column."""

    def change(file: h5py.File) -> None:
        del file[key]
        file[key] = values

    return change


def known_own(folder: Path, rng: random.Random) -> Iterator[Case]:
    show = ["cfdg-datasets", "show", "hdf5:own.hdf5@Hopper-v5"]
    with h5py.File(folder / "own.hdf5") as file:
        columns = {key: np.asarray(file[key]) for key in file}
    for key, values in columns.items():
        wrong = {
            "shorter": values[:-1],
            "empty": values[:0],
            "text": np.array(["x"] * len(values), dtype="S1"),
            "complex": values.astype(complex),
            "three axes": values.reshape(len(values), -1, 1, 1),
            "a scalar": 1.0,
            "void": np.zeros(len(values), dtype=[("a", "f4")]),
        }
        if values.ndim == 2:
            wrong |= {"too narrow": values[:, 1:], "flat": values[:, 0]}
        if values.dtype.kind == "f":
            spoilt = np.array(values, dtype=float)
            spoilt[7] = np.nan
            wrong |= {"NaN": spoilt, "too large": spoilt * 0 + 1e300, "infinite": spoilt * np.inf}
        for about, other in wrong.items():
            yield Case("own HDF5", f"{key} {about}", show, [key], changed_own(folder, replaced(key, other)))
        if key != "timeouts":
            yield Case(
                "own HDF5", f"{key} absent", show, [key], changed_own(folder, lambda file, key=key: file.pop(key))
            )
        yield Case("own HDF5", f"{key} a group", show, [key], changed_own(folder, replaced_by_group(key)))
        yield Case(
            "own HDF5",
            f"{key} a link to nothing",
            show,
            [key],
            changed_own(folder, replaced(key, h5py.SoftLink("/no"))),
        )
        outside = h5py.ExternalLink("absent.hdf5", "/x")
        yield Case(
            "own HDF5", f"{key} a link outside", show, [key, "own.hdf5"], changed_own(folder, replaced(key, outside))
        )
    huge = changed_own(
        folder,
        lambda file: (
            file.pop("observations"),
            file.create_dataset("observations", shape=(10**12, 11), chunks=(1000, 11), dtype="f4"),
        ),
    )
    yield Case("own HDF5", "10^12 rows that are not there", show, ["own.hdf5"], huge)
    for name, content in {"empty": b"", "text": b"hello", "zeros": bytes(5000), "random": rng.randbytes(9999)}.items():
        yield Case("own HDF5", name, show, ["own.hdf5"], file_with("own.hdf5", content))
    yield Case(
        "own HDF5",
        "wrong rows by verify",
        ["cfdg-datasets", "verify", *show[2:]],
        ["rewards"],
        changed_own(folder, replaced("rewards", np.ones(3))),
        statuses=(1,),
    )


def replaced_by_group(key: str) -> Callable[[h5py.File], None]:
    """Return a change that puts a group in place of a column."""

    def change(file: h5py.File) -> None:
        del file[key]
        file.create_group(key)

    return change


def drawn_own(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield damage of a file without a checksum: it is refused by name or read as another file."""
    while True:
        about, spoil = damage(folder / "own.hdf5", rng)
        make = then(copied(folder, "own.hdf5"), lambda own, spoil=spoil: spoil(own / "own.hdf5"))
        yield Case(
            "own HDF5", about, ["cfdg-datasets", "show", "hdf5:own.hdf5@Hopper-v5"], ["own.hdf5"], make, accepts=True
        )


def known_recordings(folder: Path, rng: random.Random) -> Iterator[Case]:
    source = recording(folder).relative_to(folder)
    other = recording(folder, 1).relative_to(folder)
    names = {
        "of another seed": str(source).replace("seed0", "seed5"),
        "of other rows": str(source).replace("rows2000", "rows1500"),
        "of another level": str(source).replace("medium", "random"),
    }
    words = {"of another seed": ["2000", "5"], "of other rows": ["1500", "0"]}
    for about, own in words.items():
        make = then(
            copied(folder, str(source)), lambda place, about=about: (place / source).rename(place / names[about])
        )
        yield Case("recordings", about, ["read-recording", *own], [Path(names[about]).name], make)
    swapped = then(copied(folder, str(other)), lambda place: (place / other).rename(place / source))
    yield Case("recordings", "two seeds swapped", ["read-recording", "2000", "0"], [source.name], swapped)
    own = then(
        copied(folder, "own.hdf5"),
        lambda place: ((place / source).parent.mkdir(parents=True), (place / "own.hdf5").rename(place / source)),
    )
    yield Case("recordings", "a user's file under its name", ["read-recording", "2000", "0"], [source.name], own)
    for key in ("rewards", "actions", "terminals", "observations", "next_observations"):
        make = then(copied(folder, str(source)), lambda place, key=key: one_changed(place / source, key))
        yield Case("recordings", f"one of {key} changed", ["read-recording", "2000", "0"], [source.name], make)
    table = then(copied(folder, str(source)), lambda place: one_changed(place / source, "rewards"))
    yield Case(
        "recordings", "table1 on changed rewards", ["cfdg", *TABLE], [source.name], table, works=True, seconds=120
    )


def one_changed(path: Path, key: str) -> None:
    """Change one number of a recording as a faulty disk would behind the compression."""
    with h5py.File(path, "r+") as file:
        values = np.asarray(file[key])
        values.flat[5] = 1 - values.flat[5] if values.dtype != bool else not values.flat[5]
        file[key][...] = values


def drawn_recordings(folder: Path, rng: random.Random) -> Iterator[Case]:
    name = recording(folder).relative_to(folder)
    yield from damaged("recordings", folder, [str(name)], ["read-recording", "2000", "0"], rng)


# --- tables ---


def known_csv(folder: Path, rng: random.Random) -> Iterator[Case]:
    commands = {
        "fit": ["fit", "bad.csv", "-o", "m", "--steps", "3", "--quiet"],
        "inspect": ["inspect", "bad.csv"],
        "impute": ["impute", "model", "bad.csv", "--quiet"],
        "labels": ["sample", "model", "--labels", "bad.csv", "--quiet"],
        "report": ["report", "t.csv", "bad.csv", "--quiet"],
    }
    for about, content in CSV.items():
        for name, words in {"fit": commands["fit"], **dict([rng.choice(list(commands.items()))])}.items():
            make = then(copied(folder, "t.csv", "model"), file_with("bad.csv", content))
            named = ["bad.csv", "column"] if name == "report" else ["bad.csv"]
            yield Case("CSV", f"{name}: {about}", ["cfdg-diffusion", *words], named, make)
    wide = (
        ",".join(f"c{i}" for i in range(5000))
        + "\n"
        + (",".join(["1"] * 5000) + "\n" + ",".join(["2"] * 5000) + "\n") * 6
    )
    text = (
        ",".join(f"c{i}" for i in range(5000))
        + "\n"
        + (",".join(["x"] * 5000) + "\n" + ",".join(["y"] * 5000) + "\n") * 6
    )
    for about, content in {"5,000 columns": wide, "5,000 columns of text": text}.items():
        for words in (commands["fit"], commands["inspect"], ["report", "bad.csv", "bad.csv", "--quiet"]):
            make = file_with("bad.csv", content)
            yield Case(
                "CSV",
                f"{words[0]}: {about}",
                ["cfdg-diffusion", *words],
                ["bad.csv"],
                make,
                accepts=True,
                works=True,
                seconds=60,
            )
    odd = {
        "1e400": "1e400",
        "infinite": "inf",
        "far date": "9999-99-99",
        "long number": "9" * 400,
        "text": "x",
        "two numbers": "1 2",
    }
    for about, cell in odd.items():
        lines = b"x,kind,n,day\n" + f"{cell},a,1,2024-01-01\n0.5,{cell},2,2024-01-02\n1,b,{cell},2024-01-01\n".encode()
        make = then(copied(folder, "model"), file_with("bad.csv", lines))
        yield Case("CSV", f"impute: a cell is {about}", ["cfdg-diffusion", *commands["impute"]], ["bad.csv"], make)


def drawn_csv(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield damage of a user's table, which is another table if it is one at all."""
    while True:
        about, spoil = damage(folder / "t.csv", rng)
        make = then(copied(folder, "t.csv", "model"), lambda own, spoil=spoil: spoil(own / "t.csv"))
        words = rng.choice(
            [["inspect", "t.csv"], ["fit", "t.csv", "--dry-run"], ["impute", "model", "t.csv", "--quiet"]]
        )
        yield Case("CSV", f"{words[0]}: {about}", ["cfdg-diffusion", *words], ["t.csv", "column"], make, accepts=True)


def known_parquet(folder: Path, rng: random.Random) -> Iterator[Case]:
    for name, content in {
        "empty": b"",
        "magic": b"PAR1PAR1",
        "text": b"a,b\n1,2\n",
        "random": b"PAR1" + rng.randbytes(999) + b"PAR1",
    }.items():
        for words in (
            ["fit", "bad.parquet", "-o", "m", "--quiet"],
            ["inspect", "bad.parquet"],
            ["impute", "model", "bad.parquet"],
        ):
            make = then(copied(folder, "model"), file_with("bad.parquet", content))
            yield Case("Parquet", f"{words[0]}: {name}", ["cfdg-diffusion", *words], ["bad.parquet"], make)
    frames = {
        "no rows": pd.DataFrame({"x": []}),
        "no columns": pd.DataFrame(index=range(3)),
        "lists": pd.DataFrame({"x": [[1], [2]]}),
        "structs": pd.DataFrame({"x": [{"a": 1}, {"a": 2}]}),
        "bytes": pd.DataFrame({"x": [b"\xff", b"\x00"]}),
    }
    for name, frame in frames.items():
        make = lambda own, frame=frame: frame.to_parquet(own / "bad.parquet")  # noqa: E731
        accepts = name == "bytes"
        yield Case(
            "Parquet",
            f"fit: {name}",
            ["cfdg-diffusion", "fit", "bad.parquet", "-o", "m", "--steps", "2", "--quiet"],
            ["bad.parquet"],
            make,
            accepts=accepts,
        )


def drawn_parquet(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield damage of a table that sample wrote, which has checksums, and of a user's, which has none."""
    own = damaged("Parquet", folder, ["sampled.parquet"], ["read-table", "sampled.parquet"], rng)
    while True:
        yield next(own)
        about, spoil = damage(folder / "t.parquet", rng)
        make = then(copied(folder, "t.parquet"), lambda place, spoil=spoil: spoil(place / "t.parquet"))
        yield Case(
            "Parquet", f"user's: {about}", ["cfdg-diffusion", "inspect", "t.parquet"], ["t.parquet"], make, accepts=True
        )


# --- models, checkpoints, results ---


def known_models(folder: Path, rng: random.Random) -> Iterator[Case]:
    sample = ["cfdg-diffusion", "sample", "model", "-n", "20", "--seed", "3", "--quiet"]
    path = "model/model.safetensors"
    for name, content in {
        "empty": b"",
        "text": b"hello",
        "zeros": bytes(999),
        "length": b"\xff" * 8,
        "json": b"\x02" + bytes(7) + b"{}",
    }.items():
        yield Case(
            "models", name, sample, ["model.safetensors"], then(copied(folder, "model"), file_with(path, content))
        )
    for name, content in {
        "empty": "",
        "list": "[]",
        "null": "null",
        "no version": "{}",
        "version 9": '{"version": 9}',
        "binary": "\x00",
    }.items():
        yield Case(
            "models",
            f"format {name}",
            sample,
            ["format.json"],
            then(copied(folder, "model"), file_with("model/format.json", content)),
        )
    swapped = then(
        copied(folder, "other"), lambda own: shutil.copyfile(folder / "model/format.json", own / "other/format.json")
    )
    words = [word.replace("model", "other") for word in sample]
    yield Case("models", "format of another model", words, ["format.json"], swapped)
    yield Case(
        "models",
        "a policy",
        sample,
        ["model.safetensors"],
        then(copied(folder, "model"), lambda own: shutil.copyfile(policy(folder), own / path)),
    )
    yield Case(
        "models",
        "a checkpoint",
        sample,
        ["model.safetensors"],
        then(copied(folder, "model"), lambda own: shutil.copyfile(folder / "half.ckpt", own / path)),
    )
    gone = then(copied(folder, "model"), lambda own: (own / path).unlink())
    yield Case("models", "absent", sample, ["model.safetensors"], gone)


def drawn_models(folder: Path, rng: random.Random) -> Iterator[Case]:
    names = ["model/model.safetensors", "model/format.json"]
    kinds = [damaged("models", folder, [name, *names], ["read-model", "model"], rng, only=name) for name in names]
    while True:
        yield next(kinds[0])
        yield next(kinds[0])
        yield next(kinds[1])


def policy(folder: Path, arm: str = "base") -> Path:
    """Return the path of a policy."""
    return next((folder / "runs/policies").glob(f"*-{arm}-*/seed0-final.safetensors"))


def known_checkpoints(folder: Path, rng: random.Random) -> Iterator[Case]:
    fit = ["cfdg-diffusion", "fit", "t.csv", "--steps", "300", "-o", "m", "--checkpoint", "half.ckpt", "--quiet"]
    for name, content in {"empty": b"", "text": b"hello"}.items():
        yield Case(
            "checkpoints",
            f"of fit: {name}",
            fit,
            ["half.ckpt"],
            then(copied(folder, "t.csv"), file_with("half.ckpt", content)),
        )
    other = [word.replace("t.csv", "u.csv") for word in fit]
    yield Case("checkpoints", "of fit: another table", other, ["half.ckpt"], copied(folder, "u.csv", "half.ckpt"))
    model = then(
        copied(folder, "t.csv"), lambda own: shutil.copyfile(folder / "model/model.safetensors", own / "half.ckpt")
    )
    yield Case("checkpoints", "of fit: a model", fit, ["half.ckpt"], model)
    half = ["cfdg", *TABLE]
    unfinished = next((folder / "half/runs/unfinished").glob("*.safetensors")).relative_to(folder / "half")
    rings = next((folder / "half/runs/unfinished").glob("*.rings/*.safetensors")).relative_to(folder / "half")
    pretrained = next((folder / "half/runs/pretrained").glob("*.safetensors")).relative_to(folder / "half")
    tree = copied(folder / "half", "runs", "cache")
    wrong = {
        "a state cut": (unfinished, lambda own: cut(own / unfinished, 5000)),
        "a state that is a policy": (unfinished, lambda own: shutil.copyfile(policy(folder), own / unfinished)),
        "a state that is the pre-trained agent": (
            unfinished,
            lambda own: shutil.copyfile(own / pretrained, own / unfinished),
        ),
        "rings cut": (rings, lambda own: cut(own / rings, 100)),
        "rings absent": (rings, lambda own: (own / rings).unlink()),
        "a pre-trained agent that is the state": (
            pretrained,
            lambda own: shutil.copyfile(own / unfinished, own / pretrained),
        ),
        "a pre-trained agent cut": (pretrained, lambda own: (cut(own / pretrained, 3000), (own / unfinished).unlink())),
        "a pre-trained agent that is a policy": (
            pretrained,
            lambda own: (shutil.copyfile(policy(folder), own / pretrained), (own / unfinished).unlink()),
        ),
    }
    for about, (path, spoil) in wrong.items():
        make = then(tree, copied(folder, "store"), spoil)
        yield Case("checkpoints", f"of a cell: {about}", ["run-cell"], [path.name], make, works=True)
    make = then(tree, lambda own: cut(own / unfinished, 5000))
    yield Case("checkpoints", "table1 with a state cut", half, [unfinished.name], make, works=True, seconds=120)


def drawn_checkpoints(folder: Path, rng: random.Random) -> Iterator[Case]:
    half = folder / "half"
    files = [
        path.relative_to(half)
        for pattern in ("unfinished/*.safetensors", "unfinished/*.rings/*", "pretrained/*")
        for path in half.glob(f"runs/{pattern}")
    ]
    kinds = [
        damaged("checkpoints", half, [str(path)], ["read-checkpoint", str(path)], rng)
        for path in files
        if ".rings" not in str(path)
    ]
    kinds.append(damaged("checkpoints", folder, ["half.ckpt"], ["read-fit", "half.ckpt"], rng))
    while True:
        for kind in kinds:
            yield next(kind)


def known_results(folder: Path, rng: random.Random) -> Iterator[Case]:
    runs = copied(folder, "runs", "cache")
    table = ["cfdg", *TABLE[:1], "--dry-run", *TABLE[1:]]
    base, other = (next((folder / "runs/cells").glob(f"*-{arm}-*.json")) for arm in ("base", "cfdg"))
    own = base.relative_to(folder)
    for name, content in {
        "empty": "",
        "list": "[]",
        "null": "null",
        "no keys": "{}",
        "binary": "\x00\xff",
        "deep": "[" * 100_000,
    }.items():
        yield Case("results", name, table, [base.name], then(runs, file_with(str(own), content)))
    yield Case(
        "results", "of another cell", table, [base.name], then(runs, lambda place: shutil.copyfile(other, place / own))
    )
    yield Case(
        "results",
        "a folder",
        table,
        [base.name],
        then(runs, lambda place: ((place / own).unlink(), (place / own).mkdir())),
    )
    for name, content in {"garbage": b"hello" * 999, "cut": b"SQLite format 3\0" + bytes(100)}.items():
        spoil = file_with("runs/mlflow.db", content)
        more = [*TABLE, "finetune.steps=70"]
        yield Case(
            "results", f"mlflow.db {name}", ["cfdg", *more], ["mlflow.db"], then(runs, spoil), works=True, seconds=120
        )
    for name, content in {"empty": b"", "text": b"hello"}.items():
        spoil = file_with(str(policy(folder).relative_to(folder)), content)
        yield Case("results", f"policy {name}", ["cfdg", "policies"], ["seed0-final"], then(runs, spoil))
        yield Case(
            "results",
            f"play policy {name}",
            ["cfdg", "play", str(policy(folder).relative_to(folder))],
            ["seed0-final"],
            then(runs, spoil),
        )


def drawn_results(folder: Path, rng: random.Random) -> Iterator[Case]:
    result = str(next((folder / "runs/cells").glob("*-cfdg-*.json")).relative_to(folder))
    own = str(policy(folder).relative_to(folder))
    kinds = [
        damaged("results", folder, [result], ["read-result", result], rng),
        damaged("results", folder, [own], ["cfdg", "play", own, "--episodes", "1"], rng),
    ]
    while True:
        for kind in kinds:
            yield next(kind)


def drawn_stores(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Yield a damaged file of a store, which is looked at or reported."""
    store = folder / "store"
    files = [path.relative_to(folder) for path in sorted(store.rglob("*")) if path.is_file()]
    report = ["cfdg", "report", "--store", "store", "--out", "new"]
    while True:
        name = rng.choice(files)
        words = rng.choice([report, ["cfdg", "status", "--store", "store"]]) if name.suffix == ".json" else report
        about, spoil = damage(folder / name, rng)
        make = then(copied(folder, "store"), lambda own, name=name, spoil=spoil: spoil(own / name))
        named = [name.name, name.parent.name]
        yield Case("stores", f"{words[1]}, {name} {about}", words, named, make, accepts=True, works=True, seconds=60)


KINDS: dict[str, tuple[Maker, Maker | None]] = {
    "models": (known_models, drawn_models),
    "checkpoints": (known_checkpoints, drawn_checkpoints),
    "results": (known_results, drawn_results),
    "stores": (nothing, drawn_stores),
    "recordings": (known_recordings, drawn_recordings),
    "own HDF5": (known_own, drawn_own),
    "Parquet": (known_parquet, drawn_parquet),
    "overrides": (known_sets, drawn_sets),
    "profile": (known_profiles, drawn_profiles),
    "words": (known_words, None),
    "CSV": (known_csv, drawn_csv),
}
