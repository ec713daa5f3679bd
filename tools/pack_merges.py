#!/usr/bin/env python3
"""pack_merges.py IN OUT: CLIP's published merge list (bpe_simple_vocab_16e6.txt.gz) cut to the 48,894 merges that its
vocabulary of 49,408 uses: 256 bytes, 256 bytes with </w>, the merges, and the two special tokens."""
import gzip, sys

lines = gzip.open(sys.argv[1], "rt", encoding="utf-8").read().split("\n")[1:49152 - 256 - 2 + 1]
assert len(lines) == 48894 and all(len(l.split()) == 2 for l in lines)
with open(sys.argv[2], "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
    z.write(("\n".join(lines) + "\n").encode())
