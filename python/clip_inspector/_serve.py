"""The process that runs one plugin file for the program: JSON lines over stdin and stdout, tensors as safetensors files.

main gets the path of the file's copy, the file's own path, and the private folder for tensors.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import queue
import shutil
import sys
import threading
import traceback
import types
from typing import Any

import numpy as np

from . import plugin
from ._tensors import floats, read, write

PROTOCOL = 1


class Refused(RuntimeError):
    """The program could not do what the plugin asked for."""


class Server:
    def __init__(self, path: str, folder: str) -> None:
        self.path, self.folder = path, folder
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what the plugin prints is no message
        self.lines: queue.Queue[str] = queue.Queue()
        self.files = 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in os.fdopen(os.dup(0), encoding="utf-8"):
            self.lines.put(line)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)  # the program is gone, whatever the plugin is at

    def put(self, **message: Any) -> None:
        self.out.write(json.dumps(message, allow_nan=False) + "\n")
        self.out.flush()

    def store(self, tensors: dict[str, Any]) -> str:
        self.files += 1
        name = f"plugin-{self.files}.safetensors"
        write(os.path.join(self.folder, name), tensors)
        return name

    def load(self, name: str) -> dict[str, Any]:
        path = os.path.join(self.folder, name)
        tensors = read(path)
        os.remove(path)
        return tensors

    def ask(self, what: str, tensors: dict[str, Any] | None = None, steer: Any = None, **more: Any) -> Any:
        """Ask the program for something, and answer what it asks on the way."""
        if what == "progress":
            return self.put(ask=what, **more)
        if tensors:
            more["file"] = self.store({k: floats(v) for k, v in tensors.items()})
        self.put(ask=what, **more)
        fault: Exception | None = None
        while True:
            m = json.loads(self.lines.get())
            if "steer" in m:
                try:
                    self.put(steer=steer(m["steer"]))
                except Exception as e:
                    fault = e
                    self.put(steer={"fault": self.line(e)})
                continue
            if "refused" in m:
                raise fault or Refused(m["refused"])
            a = m["answer"]
            if not (isinstance(a, dict) and a.get("file")):
                return a
            loaded = self.load(a.pop("file"))
            return {**a, "tensors": loaded} if a else loaded

    def thing(self, name: str) -> Any:
        thing = getattr(self.module, name, None)
        if not callable(thing):
            there = [n for n, x in vars(self.module).items() if callable(x) and getattr(x, "__module__", "") == self.module.__name__]
            raise AttributeError(f"there is no {name}; the file has {', '.join(there) or 'none'}")
        return thing

    def made(self, thing: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """An instance with its settings, or a function and what it is to be called with."""
        own = {p.name.replace("-", "_"): type(p.default)(settings[p.name]) for p in getattr(thing, "params", ())}
        return (thing(**own), {}) if inspect.isclass(thing) else (thing, own)

    def declare(self, m: dict[str, Any]) -> dict[str, Any]:
        thing = self.thing(m["name"])
        method = {"attack": "trigger", "detector": "inspect"}[m["kind"]]
        if inspect.isclass(thing) and not (hasattr(thing, method) or method == "trigger" and "__call__" in vars(thing)):
            raise TypeError(f"the class {m['name']} has no method {method}: it is no {m['kind']}")
        doc = (inspect.getdoc(thing) or "").split("\n")[0]
        params = [
            {"name": p.name, "default": p.default, "type": type(p.default).__name__, "doc": p.doc, "unit": p.unit,
             "min": p.min, "max": p.max, "choices": list(p.choices)}
            for p in getattr(thing, "params", ())
        ]
        return {"doc": doc, "params": params, "draws": getattr(thing, "draws", "") or ""}

    def random(self) -> plugin.Random:
        return plugin.Random(lambda n: list(self.ask("random", n=int(n))) if n > 0 else [])

    def draw(self, m: dict[str, Any]) -> Any:
        thing, own = self.made(self.thing(m["name"]), m["settings"])
        if not inspect.isclass(self.thing(m["name"])):
            return thing(m["size"], self.random(), **own)
        return thing.trigger(m["size"], self.random()) if hasattr(thing, "trigger") else thing

    def trigger(self, m: dict[str, Any]) -> dict[str, Any]:
        t = self.draw(m)
        if isinstance(t, plugin.Trigger):
            return {"kind": t.kind, "file": self.store(dict(t.tensors))}
        if callable(t):
            self.functions[m["handle"]] = t
            return {"kind": "function"}
        raise TypeError(f"{m['name']} gave {type(t).__name__}: want patch(...), perturbation(...), warp(...), dynamic(...) or a function of images")

    def apply(self, m: dict[str, Any]) -> dict[str, Any]:
        images = self.load(m["file"])["images"]
        f = self.functions.get(m["handle"])
        if f is None:
            return {"lost": True}  # the process is a new one
        return {"file": self.store({"images": f(images)})}

    def inspect(self, m: dict[str, Any]) -> dict[str, Any]:
        look = plugin.Look(m["classes"], m["learner"], m["clip"], m["size"], m["seed"], m["settings"], m["optimise"], m["measure"], self.random(), self.ask)
        thing, own = self.made(self.thing(m["name"]), m["settings"])
        found = thing.inspect(look) if hasattr(thing, "inspect") else thing(look, **own)
        if isinstance(found, plugin.Unsure):
            return {"unsure": str(found.why) or "the detector cannot tell"}
        scores = [c if isinstance(c, plugin.ClassScore) else plugin.ClassScore(float(c)) for c in found]
        tensors: dict[str, Any] = {}
        classes = []
        for i, c in enumerate(scores):
            entry: dict[str, Any] = {"reached": bool(c.reached)}
            for name in ("score", "index", "loss", "asr", "norm"):
                v = getattr(c, name)
                if v is not None:
                    v = float(v)
                    if not math.isfinite(v):
                        raise ValueError(f"the {name} of class {i} is {v}")
                    entry[name] = v
            if c.trigger is not None:
                entry["kind"] = c.trigger.kind
                tensors.update({f"{i}.{k}": v for k, v in c.trigger.tensors.items()})
            classes.append(entry)
        return {"classes": classes, **({"file": self.store(tensors)} if tensors else {})}

    def run(self, source: str) -> None:
        self.functions: dict[str, Any] = {}
        self.module = types.ModuleType(os.path.splitext(os.path.basename(self.path))[0])
        self.module.__file__ = self.path
        do = {"declare": self.declare, "trigger": self.trigger, "apply": self.apply, "inspect": self.inspect}
        try:
            with open(source, encoding="utf-8") as f:
                code = compile(f.read(), self.path, "exec")
            sys.modules[self.module.__name__] = self.module
            sys.path.insert(1, os.path.dirname(os.path.abspath(self.path)))
            exec(code, self.module.__dict__)
        except BaseException as e:
            return self.put(error=self.line(e))
        self.put(ready=PROTOCOL, python=sys.version.split()[0], numpy=np.__version__)
        while True:
            m = json.loads(self.lines.get())
            try:
                self.put(done=do[m["do"]](m))
            except Exception as e:
                self.put(error=self.line(e))

    def line(self, e: BaseException) -> str:
        """An error in one line, with the plugin's last line that is part of it."""
        where = ""
        for frame in traceback.extract_tb(e.__traceback__):
            if frame.filename == self.path:
                where = f" ({os.path.basename(self.path)}:{frame.lineno})"
        if isinstance(e, SyntaxError) and e.lineno:
            where = f" ({os.path.basename(self.path)}:{e.lineno})"
        text = " ".join(str(e.msg if isinstance(e, SyntaxError) else e).split())
        return f"{type(e).__name__}: {text}{where}"


def main(args: list[str]) -> None:
    source, path, folder = args
    Server(path, folder).run(source)
