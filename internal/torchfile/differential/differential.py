"""Compares internal/torchfile with the PyTorch that runs this: every file is read as the same tensors, or refused.

    go build -o /tmp/reader ./internal/torchfile/differential
    python internal/torchfile/differential/differential.py --reader /tmp/reader --files 100000 --seed 1

made.py makes the files. Of six files

- two are composed: pickles of what trainers' files have and of tricks (pickles.py), in archives that are composed likewise
  (archives.py);
- two are files of torch.save in whose pickle an opcode or an argument was changed for another that is likely to be read;
- one is a file of torch.save in whose pickle bytes were changed;
- one is a file in which bytes were changed anywhere. Of all others the sums of the archive are made right again.

What is read here is also loaded by torch.load (loaded.py), with weights_only and without. A difference is a file that torch.load
reads as other tensors in one of the two ways, or in neither. Nothing dangerous can run: names outside of a list of harmless ones
are not resolved.

PyTorch is asked in a child process, since some files make it crash. The next child goes on behind that file. File N of seed S is
the same in every run with the same PyTorch: --only N writes it to differential-N.pt and prints both answers. The exit status is 1
if there is a difference.
"""
import argparse
import collections
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import torch

from loaded import answer
from made import make


def here(reader, files):
    """What the project reads of each file, None where it refuses it, and why."""
    p = subprocess.run([reader], input=b"".join(struct.pack("<Q", len(raw)) + raw for raw in files), capture_output=True, check=True)
    out = []
    for line in p.stdout.splitlines():
        a = json.loads(line)
        ours = None if "Error" in a else {k: [t["DType"], t["Shape"], t["Sum"]] for k, t in (a.get("Tensors") or {}).items()}
        out.append((ours, a.get("Error", "")))
    return out


def compare(path, raw, ours):
    """Loads a file that is read here; returns whether PyTorch loads it, whether as something else, and what torch.load gives."""
    with open(path, "wb") as f:
        f.write(raw)
    theirs = {only: answer(path, only) for only in (True, False)}
    loaded = [t for t in theirs.values() if t is not None]
    return "read-loaded" if loaded else "read-failed", not loaded or any(t != ours for t in loaded), theirs


def child(o, first, path, fd):
    """Says of each file its number and "refused", or "asked" and, once PyTorch survived it, its number, what it counts as and whether
    that is a difference. Each in one write: a crash loses no line."""
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    say = lambda *words: os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    for begin in range(first, o.files, 200):
        batch = range(begin, min(o.files, begin + 200))
        files = [make(o.seed, n) for n in batch]
        for n, raw, (ours, _) in zip(batch, files, here(o.reader, files)):
            if ours is None:
                say(n, "refused", 0)
                continue
            say(n, "asked")
            signal.setitimer(signal.ITIMER_PROF, 30)  # seconds of the processor; then it counts as a crash
            word, wrong, _ = compare(path, raw, ours)
            signal.setitimer(signal.ITIMER_PROF, 0)
            say(n, word, int(wrong))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--reader", required=True, help="the program that `go build ./internal/torchfile/differential` makes")
    a.add_argument("--files", type=int, default=1000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--first", type=int, default=0)
    a.add_argument("--only", type=int)
    o = a.parse_args()
    if o.only is not None:
        path, raw = f"differential-{o.only}.pt", make(o.seed, o.only)
        os.environ["VERBOSE"] = "1"
        ours, why = here(o.reader, [raw])[0]
        word, wrong, theirs = compare(path, raw, ours)
        if ours is None:
            word, wrong = "refused", False
        print(word, "DIFFERENCE" if wrong else "", "\nhere:", ours, why, "\ntorch, weights_only:", theirs[True], "\ntorch:", theirs[False])
        return None
    counts, differences, n, begin = collections.Counter(), [], o.first, time.time()
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    path = os.path.join(folder.name, "file.pt")

    def count(word, wrong):
        nonlocal n
        counts[word] += 1
        if wrong:
            differences.append(n)
            print("DIFFERENCE: file", n, word, flush=True)
        n += 1
        if n % 1000 == 0:
            print(f"{n} files, {time.time() - begin:.0f} s, {dict(sorted(counts.items()))}", flush=True)

    while n < o.files:
        ours, its = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            try:
                child(o, n, path, its)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(its)
        before, asked = n, False
        with os.fdopen(ours) as lines:
            for line in lines:
                number, word, *wrong = line.split()
                if int(number) != n:
                    raise SystemExit(f"file {n}: the child says {line!r}")
                asked = not wrong
                if wrong:
                    count(word, wrong == ["1"])
        os.waitpid(pid, 0)
        if asked:
            count("read-crashed", True)
        elif n == before:
            raise SystemExit(f"the child does not begin with file {n}")
    print(f"torch {torch.__version__}, seed {o.seed}: {o.files - o.first} files in {time.time() - begin:.0f} s, "
          f"{dict(sorted(counts.items()))}, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
