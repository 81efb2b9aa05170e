#!/usr/bin/env python3
"""Regenerates the expected ids of ../oracle_test.go with OpenAI's own tokenizer and ftfy.

    python oracle.py SIMPLE_TOKENIZER.PY BPE_SIMPLE_VOCAB_16E6.TXT.GZ      (needs: pip install regex ftfy)

SIMPLE_TOKENIZER.PY is clip/simple_tokenizer.py of github.com/openai/CLIP. Writes clip.ids (CLIP's vocabulary) and learned.ids
(learned.txt, a small vocabulary of our own) beside this script: 100 lines each of 100 strings, of each the first four digits of the
sha256 of its ids, and "!" where ftfy took the string for one that was decoded with the wrong encoding. A third argument n prints
string n and its ids instead.

The strings come from an integer hash and pieces.json; bpe's test has the same generator in Go. All characters are assigned
since Unicode 13 or earlier: later ones are classified differently by different versions of Python and Go.
"""
import gzip, hashlib, importlib.util, json, os, sys, tempfile

import ftfy

HERE = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1
PIECES = json.load(open(os.path.join(HERE, "pieces.json"), encoding="utf-8"))


def splitmix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def generate(i):
    """String number i."""
    r = splitmix(i)
    pick = lambda n: (next(r) >> 33) % n
    lists, ranges = PIECES["lists"], PIECES["ranges"]
    out = []
    for _ in range(1 + pick(12)):
        k = pick(len(lists) + 3)
        if k < len(lists):
            out.append(lists[k][pick(len(lists[k]))])
        else:
            lo, hi = ranges[pick(len(ranges))]
            for _ in range(1 + pick(5)):
                out.append(chr(lo + pick(hi - lo + 1)))
        if pick(3) == 0:
            out.append(" ")
    return "".join(out)


def load(simple_tokenizer):
    spec = importlib.util.spec_from_file_location("simple_tokenizer", simple_tokenizer)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer


def main(simple_tokenizer, vocabulary):
    Tokenizer = load(simple_tokenizer)
    with tempfile.NamedTemporaryFile(suffix=".gz") as small:
        small.write(gzip.compress(open(os.path.join(HERE, "learned.txt"), "rb").read()))
        small.flush()
        for name, path in (("clip", vocabulary), ("learned", small.name)):
            tokenizer = Tokenizer(path)
            with open(os.path.join(HERE, name + ".ids"), "w") as f:
                for block in range(100):
                    out = []
                    for text in map(generate, range(100 * block, 100 * block + 100)):
                        ids = " ".join(map(str, tokenizer.encode(text)))
                        guessed = ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False)
                        out.append(hashlib.sha256(ids.encode()).hexdigest()[:4] + "!" * guessed)
                    f.write(" ".join(out) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(*sys.argv[1:])
    elif len(sys.argv) == 4:  # print string number argv[3] and its ids, to look into a failure
        text = generate(int(sys.argv[3]))
        print(ascii(text), load(sys.argv[1])(sys.argv[2]).encode(text))
    else:
        sys.exit(__doc__)
