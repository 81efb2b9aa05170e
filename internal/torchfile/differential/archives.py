"""Archives and files of the older format, as torch.save writes them or nearly."""
import pickle
import struct
import zlib


def archive(r, entries, oddity):
    """A zip file as torch.save writes it, or nearly."""
    trick = lambda share=1.0: r.random() < oddity * share
    entries = list(entries)
    if trick():
        r.shuffle(entries)
    if trick():
        entries.append(r.choice([("ARCHIVE/data.pkl", b"\x80\x02}."), ("archive/DATA.pkl", b"\x80\x02}."), ("archive/Data/0", b"\0" * 48), ("archive/other", b"x"),
                                 ("archive/byteorder", b"big"), ("archive/byteorder", b"little"), ("archive/constants.pkl", b"\x80\x02)."), ("archive/data/99", b"1234"),
                                 ("b/data.pkl", b"\x80\x02}."), ("archive/.data/version", b"3\n"), entries[0], ("", b""), ("archive/", b"")]))
        if r.random() < 0.3:
            entries.insert(0, entries.pop())
    if trick(0.3):
        entries = [e for e in entries if not e[0].endswith("version")]
    if trick(0.3):
        entries = [(n, b"%d\n" % r.choice([0, 1, 2, 10, 11, 99])) if n.endswith("/version") else (n, b) for n, b in entries]
    out, directory = bytearray(), bytearray()
    if trick(0.3):
        out += r.choice([b"PK\x03\x04", b"x", b"\0" * 512])
    stream, align = r.random() < 0.7, r.random() < 0.7
    for name, data in entries:
        name = name.encode()
        at, flags, method, body = len(out), 0x808 if stream else 0x800, 0, data
        if trick(0.2):
            flags ^= r.choice([1, 8, 0x800, 0x2000, 64])
        if trick(0.3):
            c = zlib.compressobj(9, zlib.DEFLATED, -15)
            method, body = 8, c.compress(data) + c.flush()
        sum_, size, stored = zlib.crc32(data), len(data), len(body)
        if trick(0.2):
            sum_ ^= 1
        if trick(0.2):
            size += r.choice([-1, 1, 4])
        if trick(0.2):
            stored += r.choice([-1, 1])
        size, stored = max(0, size), max(0, stored)
        extra = b""
        if align:
            pad = -(len(out) + 30 + len(name) + 4) % 64
            extra = b"FB" + struct.pack("<H", pad) + b"Z" * pad
        local = (sum_, stored, size) if not flags & 8 else (0, 0, 0)
        if trick(0.2):
            extra += r.choice([b"\x01\0\x10\0" + struct.pack("<QQ", 1, 2), b"x", b"\x75\x70\x05\0abcde"])
            if r.random() < 0.5:
                local = (sum_, 0xFFFFFFFF, 0xFFFFFFFF)
        shown = r.choice([name.upper(), name[:-1], name + b"x"]) if trick(0.2) else name
        noise = lambda bits: r.getrandbits(bits) if trick(0.3) else 0
        made, needed, hour, day, internal, external = noise(16), noise(16), noise(16), noise(16), noise(16), noise(32)
        out += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", needed, flags, method, hour, day, *local, len(shown), len(extra)) + shown + extra + body
        if flags & 8 and not trick(0.2):
            out += struct.pack("<4sIII", b"PK\7\b", sum_, stored, size)
        if trick(0.1):
            out += r.choice([b"x", b"PK\7\b" + b"\0" * 12])
        wide = b""
        entry = [sum_, stored, size]
        if trick(0.2):
            wide = b"\x01\0\x18\0" + struct.pack("<QQQ", size, stored, at if r.random() < 0.7 else 0)
            entry = [sum_, 0xFFFFFFFF, 0xFFFFFFFF]
        comment = b"c" if trick(0.1) else b""
        place = 0xFFFFFFFF if wide else at + (r.choice([1, -1, 64]) if trick(0.1) else 0)
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", made, needed, flags, method, hour, day, *entry, len(name), len(wide),
                                 len(comment), 0, internal, external, max(0, place)) + name + wide + comment
    at = len(out)
    out += directory
    count, size = len(entries), len(directory)
    if trick(0.2):
        count += r.choice([-1, 1])
    if trick(0.2):
        size += r.choice([-1, 1])
    count = max(0, count)
    if r.random() < 0.5:
        end64 = len(out) + (r.choice([-1, 1]) if trick(0.2) else 0)
        out += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 0, 0, 0, count, count, size, at + (r.choice([-1, 1, 8]) if trick(0.2) else 0))
        out += struct.pack("<4sIQI", b"PK\6\7", 0, end64, 1)
    comment = b"PK\5\6" + b"\0" * 18 if trick(0.2) else b""
    shown = 0xFFFFFFFF if b"PK\6\7" in out and r.random() < 0.2 else at
    out += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, shown, len(comment) if r.random() < 0.8 else 0) + comment
    if trick(0.3):
        out += r.choice([b"\0", b"PK\5\6" + b"\0" * 18, bytes(out)])
    return bytes(out)


def legacy(r, program, storages, oddity):
    trick = lambda share=1.0: r.random() < oddity * share
    p = lambda v: pickle.dumps(v, 2)
    system = dict(protocol_version=1001, little_endian=not trick(0.3), type_sizes=dict(short=2, int=4, long=4))
    keys = sorted(storages)
    if trick():
        r.shuffle(keys)
    if trick(0.3) and keys:
        keys.append(r.choice(keys + ["77"]))
    if trick(0.3) and keys:
        keys.pop(0)
    items = b"".join(b"\x8c" + bytes([len(k)]) + k.encode() for k in keys)
    shown = p(keys) if not trick(0.2) else r.choice([p(tuple(keys)), b"\x80\x04\x8f(" + items + b"\x90.", b"\x80\x04(" + items + b"\x91."])
    out = p(0x1950A86A20F9469CFC6C) + p(1001 if not trick(0.2) else 1000) + p(system) + program + shown
    for k in keys:
        kind, n, _, data = storages.get(k, ("Byte", 1, "", b"1"))
        n = n if not trick(0.2) else max(0, n + r.choice([-1, 1]))
        out += struct.pack("<q", n) + data
    if trick(0.3):
        out += r.choice([b"\0", b"PK\5\6" + b"\0" * 18])
    if trick(0.3) and len(out) > 512:
        out = bytearray(out)
        out[148:156] = b" " * 8
        out[148:156] = b"%06o\0 " % sum(out[:512])
    return bytes(out)
