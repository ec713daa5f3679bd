#!/usr/bin/env python3
"""clip_clean.py OUT [N]: token ids that open_clip gives for texts which it cleans first. Writes OUT/clean.json: text, how many ids, their CRC-32. Left out is
what diffc does not do: guesses at wrong encodings, HTML's names in capitals, combining marks that were escaped. Needs open_clip_torch; OUT becomes
tests/golden/clip."""
import json
import random
import re
import sys
import zlib

import ftfy
import numpy as np
from open_clip.tokenizer import SimpleTokenizer

R, T = random.Random(1), SimpleTokenizer()
WORDS = ("a photo of the dog's Cat it's I'm HOUSE 1920x1080 café naïve Straße ÀÉÎ 東京 こんにちは Привет ΑΣ ΟΔΥΣΣΕΥΣ ελλάδα مرحبا हिन्दी 🐶 👩‍🚀 € “quoted” ‘x’ it’s ‚low‘ "
         "„Low“ ﬁsh oﬃce Ｆｕｌｌ ｶﾞ １２３ － &amp; &lt;b&gt; &quot;hi&quot; &#39;s &#x27; &nbsp; &eacute; &copy &reg &rsquo; &mdash; &hellip; &AMP; &amp;amp; &amp;lt; "
         "&#128; &#0; &#xD800; &#7; &#x1F436; &#; R&D AT&T &notit; &x; &; & < <b> > é ... --- C:\\dir ½ ŉ Ĳ ǆ \x01 \ufeff \u200b \u2028 \x85 \x93 \t \u3000").split(" ")
rows = []
while len(rows) < int((sys.argv + ["120"])[2]):
    text = "".join((R.choice(WORDS).upper() if R.random() < 0.1 else R.choice(WORDS)) + R.choice((" ", " ", "  ", "", "\n", "\u3000")) for _ in range(R.randint(1, 7)))
    if re.search("&[A-Z]{3,}", text) or ftfy.fixes.fix_c1_controls(text) != ftfy.fix_encoding(text):
        continue
    ids = np.array(T.encode(text), "<i4")
    rows.append([text, len(ids), zlib.crc32(ids.tobytes())])
with open(f"{sys.argv[1]}/clean.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":"), ensure_ascii=False) for r in rows) + "\n]\n")
