"""Malformed inputs of every kind, which have to end in one sentence that names the file, column or key.

    python benchmarks/malformed.py --cases 600 --seed 0

Small examples of all files are made first: tables, a model, recordings, a finished and an interrupted table of cells, a
store. Then each case damages one of them, or gives a wrong word, and runs a command of the three console scripts in a
process of its own (forked, so that nothing is imported twice) and a folder of its own. It has to end

* with status 2 (or the one that the command documents) and one line on standard error that names what is wrong,
* without a traceback, a crash or a hang, with no file added or changed,
* or, where only a bit was flipped, with exactly what the undamaged file gives.

The cases are a list of known faults, and damage at random places, of which ``--cases`` chooses how much. Status 1 if a
case failed; the failures are listed behind the tally.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import malformed_inputs
from malformed_inputs import Case

MEMORY = 10 << 30  # bytes of address space of a case; more is a bomb
BUSY = 10  # seconds of a busy machine's clock for one of its processor's
DRAFTS = ("partial", ".tmp", ".lock")  # parts of names that a command leaves only while it runs


@dataclass(frozen=True)
class Outcome:
    """End of a command.

    Attributes:
        status: exit status; minus the signal of one that ran out of time, or crashed.
        out: its standard output.
        err: its standard error.
    """

    status: int
    out: str
    err: str


def main() -> int:
    """Run every case; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=600, help="at least so many, all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=sorted(malformed_inputs.KINDS), help="only these")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no further case is begun")
    parser.add_argument("--examples", type=Path, help="a folder of them that was made before")
    parser.add_argument("--verbose", action="store_true", help="print what every case says")
    arguments = parser.parse_args()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="malformed-") as name:
        folder = Path(name).resolve()
        examples = arguments.examples or malformed_inputs.make_examples(folder / "examples")
        cases = malformed_inputs.cases(arguments.kinds, examples, arguments.cases, random.Random(arguments.seed))
        return run_all(cases, folder, time.monotonic() + 60 * arguments.minutes, arguments.verbose)


def run_all(cases: list[Case], folder: Path, end: float, verbose: bool) -> int:
    """Run the cases one after the other and print the tally."""
    tried: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    failures: list[tuple[Case, str, Outcome]] = []
    for case in cases:
        if time.monotonic() > end:
            break
        outcome, fault = run_case(case, folder / "case")
        tried[case.kind] += 1
        accepted[case.kind] += outcome.status == 0
        if verbose or fault:
            print(
                f"{case.kind}: {case.name}: {fault or 'right'} [{outcome.status}] {outcome.err.strip()[:300]}",
                flush=True,
            )
        if fault:
            failures.append((case, fault, outcome))
    return tell(tried, accepted, failures)


def tell(tried: Counter[str], accepted: Counter[str], failures: list[tuple[Case, str, Outcome]]) -> int:
    """Print the tally by kind, and by fault."""
    failed = Counter(case.kind for case, _, _ in failures)
    print("| kind | tried | refused in one sentence | unchanged or valid | failed |\n| -- | -- | -- | -- | -- |")
    for kind, count in tried.items():
        right = count - failed[kind]
        passed = accepted[kind] - sum(case.kind == kind and outcome.status == 0 for case, _, outcome in failures)
        print(f"| {kind} | {count} | {right - passed} | {passed} | {failed[kind]} |")
    print(f"{tried.total()} cases, {len(failures)} failed")
    for fault, count in Counter(fault.split(":")[0] for _, fault, _ in failures).most_common():
        print(f"  {count} x {fault}")
    return int(bool(failures))


def run_case(case: Case, folder: Path) -> tuple[Outcome, str]:
    """Make the input in an empty folder, run the command there, and judge it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    case.make(folder)
    before = contents(folder)
    outcome = run(case, folder)
    after = contents(folder)
    for path in (folder, *folder.rglob("*")):  # an unwritable one could not be removed
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    return outcome, judge(case, outcome, before, after)


def judge(case: Case, outcome: Outcome, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say what is wrong with the end of a case; empty if nothing is."""
    if outcome.status in (-signal.SIGKILL, -signal.SIGXCPU):
        return f"hang: more than {case.seconds:.0f} s"
    if outcome.status < 0:
        return f"crash: signal {-outcome.status}"
    if "Traceback" in outcome.err or "internal error" in outcome.err:
        return "traceback"
    if outcome.status == 0:
        if not case.accepts:
            return "accepted"
        return "silently different" if case.expected not in (None, outcome.out) else ""
    if outcome.status not in case.statuses:
        return f"status {outcome.status}"
    return _words_fault(case, outcome) or _files_fault(case, before, after)


def _words_fault(case: Case, outcome: Outcome) -> str:
    said = [line for line in outcome.err.splitlines() if line.strip()] or outcome.out.splitlines()[-1:]
    if len(said) != 1:
        return f"{len(said)} lines instead of one sentence"
    return "" if any(word in said[0] for word in case.named) else f"not named: {' or '.join(case.named)}"


def _files_fault(case: Case, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if case.works:  # it may have done a part of its work, and has to keep it whole
        changed = [name for name in changed if name in before or any(part in name for part in DRAFTS)]
        changed = [name for name in changed if not name.endswith((".db", ".yaml"))]
    return f"files: {', '.join(changed[:3])} left or changed" if changed else ""


def contents(folder: Path) -> dict[str, str]:
    """Hash every file of a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(case: Case, folder: Path) -> Outcome:
    """Run the command of a case in a process and a session of its own, with a time limit."""
    files = [folder.with_suffix(f".{name}") for name in ("out", "err")]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(case, folder, files)
    end = time.monotonic() + BUSY * case.seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.005)
    out, err = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    return Outcome(os.waitstatus_to_exitcode(status), out, err)


def _child(case: Case, folder: Path, files: list[Path]) -> None:
    """Be the command; never returns."""
    status = 1
    try:
        os.setsid()
        for number, path in enumerate(files, start=1):
            os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        os.environ |= {"CFDG_CACHE": "cache", "HOME": str(folder), "CFDG_D4RL_URL": "http://127.0.0.1:9"}
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(case.seconds), int(case.seconds) + 5))
        status = malformed_inputs.PROGRAMS[case.words[0]](list(case.words[1:]))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
