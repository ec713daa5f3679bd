#!/usr/bin/env python3
"""Seeds of tests/fuzz/fuzz_index: an index's database with small pages, by Python's sqlite3 and the schema that docs/search.md tells.

    python3 tests/gen/index_seeds.py tests/fuzz/corpus/index
"""
import re, sqlite3, sys, os

source = open(os.path.join(os.path.dirname(__file__), "../../search/store.c")).read()
block = re.search(r"schema\[\] = \{(.*?)\};", source, re.S).group(1)
schema = [re.sub(r'"\s*"', "", s) for s in re.findall(r'((?:"[^"]*"\s*)+),\n', block)]
schema = [s.strip().strip('"') for s in schema]
name = "/tmp/index_seeds.sqlite"
if os.path.exists(name):
    os.remove(name)
db = sqlite3.connect(name)
db.execute("PRAGMA page_size = 512")
for s in schema:
    db.execute(s)
db.execute("PRAGMA application_id = 1684629094")
db.execute("PRAGMA user_version = 1")
for key, value in {"model": b"fake-1", "dims": 16, "rows": 3, "generation": 1, "root": None, "model_path": b""}.items():
    db.execute("INSERT INTO meta VALUES(?, ?)", (key, value))
for i in range(3):
    db.execute("INSERT INTO vectors VALUES(?, ?, ?)", (i, bytes([i] * 16), i * 12345))
    db.execute("INSERT INTO files VALUES(?, ?, 5, 6, ?, ?, 10, 20, NULL)", (i + 1, b"%d.jpg" % i, bytes([i] * 16), i))
db.execute("INSERT INTO files VALUES(9, 'bad.jpg', 5, 6, NULL, NULL, NULL, NULL, 'no picture')".replace("'bad.jpg'", "x'6261642e6a7067'"))
db.execute("DELETE FROM files WHERE id = 2")
db.execute("INSERT INTO dead VALUES(1)")
db.commit()
db.close()
out = sys.argv[1]
open(out + "/database", "wb").write(b"\0" + open(name, "rb").read())
head = b"diffcvec" + b"".join(x.to_bytes(4, "little") for x in (1, 16, 32, 1)) + (1).to_bytes(8, "little") + bytes(32)
row = b"".join((0x3000 + 100 * i).to_bytes(2, "little") for i in range(16)) + bytes(32)
open(out + "/vectors", "wb").write(b"\1" + head + row * 3)
open(out + "/png", "wb").write(b"\2\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x12\x34\0\0\x01\x02")
open(out + "/jpeg", "wb").write(b"\2\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xff\xc2\0\x11\x08\x01\x02\x12\x34\x03")
open(out + "/term", "wb").write(b"\x030.5:@a.jpg")
