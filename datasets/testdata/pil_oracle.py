#!/usr/bin/env python3
"""Regenerates pil.json and the small pictures beside it: python3 pil_oracle.py. Needs numpy and Pillow below 13.

Pillow 13 (pull request 9549) scales vertically first when the height shrinks much more than the width or the picture is
very tall; every published CLIP result used the older order, horizontally first, and so does resize.go.

Every input is made from an integer hash that preprocess_test.go repeats, so only sha256 sums of the outputs are kept.
The clip cases are CLIP's transform: shorter side to S, longer to int(S * long / short), bicubic, centre crop at
round((side - S) / 2), as torchvision does for PIL pictures.
"""
import hashlib
import json
import pathlib

import numpy
import PIL
from PIL import Image

assert int(PIL.__version__.split(".")[0]) < 13, "use Pillow below 13"

HERE = pathlib.Path(__file__).parent


def picture(width, height, channels=3):
    i = numpy.arange(width * height * channels, dtype=numpy.uint64)
    h = (i * 2654435761 + 40503 * width + height) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    v = (h >> 24).astype(numpy.int64)
    v[h % 5 == 0] = 0
    v[h % 5 == 1] = 255
    return v.astype(numpy.uint8).reshape(height, width, channels)


def smooth(width, height):
    y, x = numpy.mgrid[0:height, 0:width]
    return numpy.stack([x * 255 // width, y * 255 // height, (x * 7 + y * 5) % 256], 2).astype(numpy.uint8)


def sha(img):
    return hashlib.sha256(numpy.asarray(img.convert("RGB")).tobytes()).hexdigest()


def clip(img, size):
    w, h = img.size
    if w <= h:
        ow, oh = size, int(size * h / w)
    else:
        ow, oh = int(size * w / h), size
    img = img.resize((ow, oh), Image.BICUBIC)
    x, y = int(round((ow - size) / 2.0)), int(round((oh - size) / 2.0))
    return img.crop((x, y, x + size, y + size))


resize = []
for w, h, ow, oh in [(1, 1, 5, 3), (2, 3, 7, 1), (7, 5, 7, 5), (13, 9, 13, 31), (31, 17, 8, 17), (64, 48, 224, 168),
                     (97, 61, 33, 101), (200, 301, 51, 20), (500, 375, 298, 224), (375, 500, 17, 1000), (640, 3, 11, 40)]:
    for name, f in [("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)]:
        out = Image.fromarray(picture(w, h)).resize((ow, oh), f)
        resize.append(dict(width=w, height=h, out_width=ow, out_height=oh, filter=name, sha256=sha(out)))
crops = []
for w, h in [(224, 224), (500, 375), (375, 500), (301, 200), (199, 300), (64, 64), (65, 64), (64, 67), (33, 47), (1000, 31), (31, 400), (3, 2)]:
    for size in [7, 32, 64, 224]:
        crops.append(dict(width=w, height=h, size=size, sha256=sha(clip(Image.fromarray(picture(w, h)), size))))

decode = []


def keep(name, img, **options):
    path = HERE / name
    img.save(path, **options)
    decode.append(dict(file=name, sha256=sha(Image.open(path))))


keep("lossy-odd.webp", Image.fromarray(smooth(37, 23)), quality=60)
keep("lossy-even.webp", Image.fromarray(smooth(32, 20)), quality=90)
keep("lossy-thin.webp", Image.fromarray(smooth(1, 9)), quality=90)
keep("alpha.webp", Image.fromarray(numpy.dstack([smooth(21, 18), smooth(21, 18)[:, :, :1]])), quality=80, exact=True)
keep("lossless.webp", Image.fromarray(picture(9, 7)), lossless=True)
keep("rgb.png", Image.fromarray(picture(9, 7)))
keep("alpha.png", Image.fromarray(picture(9, 7, 4)))
keep("grey.png", Image.fromarray(picture(9, 7)[:, :, 0]))
keep("palette.png", Image.fromarray(smooth(16, 12)).quantize(16))
keep("rgb.bmp", Image.fromarray(picture(9, 7)))
keep("palette.gif", Image.fromarray(smooth(16, 12)).quantize(16))



def table(rows):
    return "[\n    " + ",\n    ".join(json.dumps(r) for r in rows) + "\n  ]"


(HERE / "pil.json").write_text('{\n  "resize": %s,\n  "clip": %s,\n  "decode": %s\n}\n' % (table(resize), table(crops), table(decode)))
