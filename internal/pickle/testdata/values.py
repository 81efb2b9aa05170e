"""Pickles one value of every kind that checkpoints hold. Usage: python values.py PROTOCOL > values-PROTOCOL.pkl"""
import collections
import pickle
import sys

ordered = collections.OrderedDict()
ordered["b"], ordered["a"] = 1, None
value = (None, True, False, 0, 255, 65535, -1, 1 << 40, -123456789012345678901234567890, 1.5, -0.1, "ascii", "käse 猫",
         b"\x00\xff", (), (1,), (1, 2), (1, 2, 3, 4), [1, "two"], {"x": [], 2: "y"}, collections.OrderedDict, ordered)
sys.stdout.buffer.write(pickle.dumps(value, int(sys.argv[1])))
