"""Runs the program that the package carries."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence, Union

PROGRAM_VARIABLE = "CLIPINSPECTOR_PROGRAM"


class ProgramError(RuntimeError):
    """The program could not do what it was asked for. Its text is the line that the program said."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True)
class Progress:
    """How far a task has come, or a line for a person to read, of which done and total are 0."""

    what: str
    done: int = 0
    total: int = 0
    text: str = ""


Shown = Union[None, bool, Callable[[Progress], None]]


def program() -> pathlib.Path:
    """Path of the program: the package's own, unless CLIPINSPECTOR_PROGRAM names another."""
    named = os.environ.get(PROGRAM_VARIABLE)
    path = pathlib.Path(named) if named else pathlib.Path(__file__).parent / "bin" / "clip-inspector"
    if not path.is_file():
        raise ProgramError(f"the program {path} is missing: install the package by  pip install ./python  in a clone of the repository, "
                           f"or name the program by {PROGRAM_VARIABLE}", 127)
    return path


def settings(given: Mapping[str, Any] | None) -> list[str]:
    """The options --set of settings; values are written as JSON, which YAML reads."""
    return [x for path, value in (given or {}).items() for x in ("--set", f"{path}={json.dumps(value)}")]


def options(**given: Any) -> list[str]:
    """Options of the command line; what is None is left out."""
    out: list[str] = []
    for name, value in given.items():
        if value is not None:
            out += [f"--{name.replace('_', '-')}", str(value)]
    return out


class Bars:
    """A bar of tqdm for each task."""

    def __init__(self) -> None:
        from tqdm.auto import tqdm

        self.make: Any = tqdm
        self.bar: Any = None
        self.what = ""

    def __call__(self, p: Progress) -> None:
        if not p.total:
            return
        if self.bar is None or self.what != p.what or self.bar.total != p.total:
            self.close()
            self.bar, self.what = self.make(total=p.total, desc=p.what, bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}"), p.what
        self.bar.update(p.done - self.bar.n)
        if p.text:
            self.bar.set_postfix_str(p.text)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def call(args: Sequence[str], progress: Shown = None, statuses: Sequence[int] = (0,)) -> str:
    """Run the program and return what it prints. Another exit status than those named is a ProgramError."""
    tell = Bars() if progress is True else progress or None
    environment = dict(os.environ)
    environment.setdefault("CLIPINSPECTOR_PYTHON", sys.executable)  # which runs plugins
    process = subprocess.Popen([program(), *args, "--progress", "json" if tell else "none"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
    assert process.stdout and process.stderr
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    said: list[str] = []
    try:
        for line in process.stderr:
            event = None
            if tell and line.startswith("{"):
                try:
                    event = json.loads(line)
                except ValueError:
                    pass
            if event is None:
                said.append(line.rstrip("\n"))
            elif "line" in event:
                tell(Progress(event["line"]))  # type: ignore[misc]
            else:
                tell(Progress(event["what"], event["done"], event["total"], event.get("text", "")))  # type: ignore[misc]
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)  # what is under way is given back
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        reader.join()
        process.stderr.close()
        process.stdout.close()
        if isinstance(tell, Bars):
            tell.close()
    if process.returncode not in statuses:
        own = "clip-inspector: "
        lines = [s[len(own):] for s in said if s.startswith(own)] or [s for s in said if s.strip()]
        raise ProgramError(lines[-1] if lines else f"the program ended with status {process.returncode}", process.returncode)
    return printed[0]


def main() -> None:
    """The command clip-inspector: the program with the arguments of this process."""
    os.environ.setdefault("CLIPINSPECTOR_PYTHON", sys.executable)
    try:
        path = str(program())
    except ProgramError as e:
        sys.exit(f"clip-inspector: {e}")
    os.execv(path, [path, *sys.argv[1:]])
