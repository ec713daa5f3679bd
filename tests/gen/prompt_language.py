#!/usr/bin/env python3
"""prompt_language.py MODULES TOKENIZER OUT: what other programs make of prompts, as OUT/prompt/{language,chunks,templates}.json.

MODULES: a folder with prompt_parser.py of AUTOMATIC1111's web UI v1.10 (not ours to give away; its last lines import torch, which may go), run with
lark 1.1.2 as that program has it. Its Earley parser is undecided by hash seed where an edit is followed by a bracket that belongs to
nothing; such strings are left out. TOKENIZER: a CLIPTokenizer folder of the full vocabulary. Chunks are written after the rules of
modules/sd_hijack_clip.py and comfy/sd1_clip.py. Templates: dynamicprompts 0.31. Needs lark, transformers, dynamicprompts."""
import json, os, random, subprocess, sys

STEPS = 10
NAMED = ["", "test", "a [b:3]", "a [b: 3]", "a [[[b]]:2]", "[(a:2):3]", "a [b : c : 1] d", "a[b:[c:d:2]:1]e", "a [unbalanced", "a [b:.5] c", "a [{b|d{:.5] c",
         "((a][:b:c [d:3]", "[a|(b:1.1)]", "[fe|]male", "[fe|||]male", "a | b [c:d:3]", "[a|b:3]", "[a:b|c:3]", "[[a|b]:3]", "a\\", "a\\\nb [c:3]", "a\\[b:3]", "[a:b:c:3]",
         "[a:-.5]", "[a:1e1]", "[a:+3.]", "[a::.]", "[ a : 3 ]", "normal text", "an (important) word", "(unbalanced", "\\(literal\\]", "(unnecessary)(parens)",
         "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "(a:1.5) BREAK b", "(a BREAK b)", "(a BREAK b:1.0)", "BREAK", "aBREAK b BREAKc BREAK BREAK d", "(x:-1) BREAK y",
         "a AND b", "a AND b :0.5 AND c:-1.2", "aspect ratio 16:9", "a ANDb AND", "a\nb AND c : 2 \n", "x :1:2", "[a AND b:c:3]", "(a:1.2", "a) b] c: d", "(a : 1.2 )", ":)", "(:1.2)",
         "Stra\u00dfe \u00e9AND b \u2003AND\u2003 c", "x\u00a0BREAK\u00a0y", "(\u6f22\u5b57:1.3) [\u65e5|\u672c]"]


def random_string(r):
    atoms = ["(", ")", "[", "]", "[", "]", ":", ":", "|", " ", " ", "a", "b", "cat", ",", "0.5", "3", "1.2", ".25", "-1", "5.", "1e1", "\\", "\\(", "\\]", "\\\\", "AND", " AND ", "BREAK",
             " BREAK ", "\n", "\u00e9", "+", "_", "(", ")", "x:1.3)", "[d:e:0.4]", "[p|q]", "[z:2]", "[y::7]", "(w:0.8)", "\t", "  "]

    def nested(d):
        k = r.random()
        if d <= 0 or k < .3: return r.choice(["a", "cat", " b", "c d", ", e", "", "x "])
        if k < .4: return "(" + nested(d - 1) + ")"
        if k < .5: return "(" + nested(d - 1) + ":" + r.choice(["1.2", ".5", " 1.1 ", "-1", "2.", "1.0", "-1.0"]) + ")"
        if k < .6: return "[" + nested(d - 1) + "]"
        if k < .7: return "[" + nested(d - 1) + ":" + nested(d - 1) + ":" + r.choice([".5", "3", " 4 ", "0.25", "12", "1.5", "0", "-2", "1e0", "+.3"]) + "]"
        if k < .82: return "[" + nested(d - 1) + r.choice([":", "::"]) + r.choice([".5", "3", " 4", "0.25 ", "9", "0.05"]) + "]"
        if k < .9: return "[" + "|".join(nested(d - 1) for _ in range(r.randint(2, 4))) + "]"
        return nested(d - 1) + r.choice([" ", ", ", " BREAK ", " AND ", ""]) + nested(d - 1)

    if r.random() < .4: return "".join(r.choice(atoms) for _ in range(r.randint(0, 12)))
    s = nested(3)
    if s and r.random() < .3:
        k = r.randrange(len(s))
        s = s[:k] + r.choice(["(", ")", "[", "]", ":", "|", "\\", ""]) + s[k + r.randint(0, 1):]
    return s


CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import prompt_parser as p
for s in json.load(sys.stdin):
    try: schedule = p.get_learned_conditioning_prompt_schedules([s], %d)[0]
    except OverflowError: schedule = None
    index, flat, _ = p.get_multicond_prompt_list([s])
    try: spans = p.parse_prompt_attention(s)
    except ValueError: spans = None
    print(json.dumps({"text": s, "schedule": schedule, "parts": [[flat[i], w] for i, w in index[0]], "spans": spans}))
""" % STEPS


def language(modules):
    r = random.Random(1)
    strings = NAMED + [random_string(r) for _ in range(420)]
    runs = []
    for seed in range(8):
        p = subprocess.run([sys.executable, "-c", CHILD, modules], input=json.dumps(strings), capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)})
        runs.append([json.loads(x) for x in p.stdout.splitlines()])
    seen, out = set(), []
    for same in zip(*runs):
        c = same[0]
        if c["text"] not in seen and c["schedule"] and all(x == c for x in same[1:]):
            seen.add(c["text"])
            out.append(c)
    return out


# ---- spans and chunks: modules/sd_hijack_clip.py and comfy/sd1_clip.py, as rules

def comfy_spans(text, weight=1.0):
    text, out, at, depth, item = text, [], 0, 0, ""
    items = []
    for ch in text:
        if ch == "(":
            if depth == 0 and item: items.append(item); item = ""
            depth += 1
            item += ch
        elif ch == ")":
            depth -= 1
            item += ch
            if depth == 0: items.append(item); item = ""
        else: item += ch
    if item: items.append(item)
    for x in items:
        if len(x) >= 2 and x[0] == "(" and x[-1] == ")":
            inner, w = x[1:-1], weight * 1.1
            k = inner.rfind(":")
            if k > 0:
                try: w, inner = float(inner[k + 1:]), inner[:k]
                except ValueError: pass
            out += comfy_spans(inner, w)
        else: out.append([x, weight])
    return out


def comfy(text):
    hidden = text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    return [[t.replace("\0\1", ")").replace("\0\2", "("), w] for t, w in comfy_spans(hidden)] or [["", 1.0]]


class Chunker:
    START, END, ROOM, BACKTRACK = 49406, 49407, 75, 20

    def __init__(self, tokenizer, pad=49407):
        self.tokenizer, self.pad, self.comma = tokenizer, pad, tokenizer(",", add_special_tokens=False)["input_ids"][0]

    def ids(self, text): return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def finish(self, chunk):
        ids = [self.START] + [i for i, _ in chunk] + [self.END] * (self.ROOM + 1 - len(chunk))
        if self.pad != self.END:
            k = ids.index(self.END)
            ids[k + 1:] = [self.pad] * (len(ids) - k - 1)
        return ids, [1.0] + [w for _, w in chunk] + [1.0] * (self.ROOM + 1 - len(chunk))

    def a1111(self, spans):
        chunks, now, comma = [], [], -1
        for text, weight in spans:
            if text == "BREAK" and weight == -1:
                chunks.append(now); now, comma = [], -1
                continue
            for i in self.ids(text):
                if i == self.comma: comma = len(now)
                elif len(now) == self.ROOM and comma != -1 and len(now) - comma <= self.BACKTRACK:
                    chunks.append(now[:comma + 1]); now, comma = now[comma + 1:], -1
                if len(now) == self.ROOM: chunks.append(now); now, comma = [], -1
                now.append((i, weight))
        if now or not chunks: chunks.append(now)
        return [self.finish(c) for c in chunks]

    def comfyui(self, spans):
        chunks, now = [], []
        for text, weight in spans:
            for word in text.replace("\n", " ").split(" "):
                ids = self.ids(word) if word else []
                large = len(ids) >= 8
                while ids:
                    room = self.ROOM - len(now)
                    if len(ids) > room:
                        take = room if large else 0
                        now += [(i, weight) for i in ids[:take]]
                        ids = ids[take:]
                        chunks.append(now); now = []
                    else:
                        now += [(i, weight) for i in ids]
                        ids = []
        out = []
        for c in chunks + [now]:
            fill = self.ROOM - len(c)
            out.append(([self.START] + [i for i, _ in c] + [self.END] + [self.pad] * fill, [1.0] + [w for _, w in c] + [1.0] * (fill + 1)))
        return out


def packed(chunks):  # tokens without start, end and padding behind the last that is neither; weights as runs
    out = []
    for ids, weights in chunks:
        runs = []
        for w in weights:
            if runs and runs[-1][0] == w: runs[-1][1] += 1
            else: runs.append([w, 1])
        out.append({"ids": ids, "weights": runs})
    return out


def chunk_cases(modules, tokenizer):
    sys.path.insert(0, modules)
    import prompt_parser
    r = random.Random(2)
    words = "red green house lake sunset , , photograph, of a the (old:1.2) tree supercalifragilisticexpialidocious".split(" ")
    texts = ["", "a (red:1.3) house", "a BREAK b", "BREAK", "a BREAK BREAK (b:0.5)", "x <|endoftext|> y"]
    texts += [" ".join(r.choice(words) for _ in range(n)) for n in (60, 72, 74, 75, 76, 90, 120, 160)]
    texts += [", ".join(r.choice(words) for _ in range(n)) for n in (34, 38, 41, 60)]
    texts += ["word " * 73 + ", a b c d", "word " * 55 + "," + " b" * 25, "word " * 54 + "," + " b" * 25, "(word " * 20 + ":1.1)" * 20 + " more" * 60]
    for _ in range(12): texts.append(" ".join(random_string(r).replace("AND", "") + r.choice([" word", ", x", " a b c"]) * r.randint(1, 12) for _ in range(6)))
    out = []
    for t in texts:
        for pad in (49407, 0):
            c = Chunker(tokenizer, pad)
            try: a = packed(c.a1111(prompt_parser.parse_prompt_attention(t)))
            except ValueError: continue
            if pad == 0 and len(t) > 200: continue
            out.append({"text": t, "pad": pad, "a1111": a, "comfyui": packed(c.comfyui(comfy(t)))})
    return out


# ---- templates

WILDCARDS = {"color.txt": "red\nblue\n# no\n\n  green \nblue\n", "animals/furry.txt": "cat\r\nbig {dog|wolf}\r\nmouse in __color__\r\n", "pet.txt": "a __animals/furry__\nlizard", "single.txt": "one\n"}


def template_cases(out):
    import logging, warnings
    from dynamicprompts.generators import RandomPromptGenerator
    from dynamicprompts.wildcards import WildcardManager
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for name, text in WILDCARDS.items():
        os.makedirs(os.path.dirname(f"{out}/prompt/wildcards/{name}"), exist_ok=True)
        with open(f"{out}/prompt/wildcards/{name}", "w", newline="") as f: f.write(text)
    g = RandomPromptGenerator(wildcard_manager=WildcardManager(f"{out}/prompt/wildcards"))
    r = random.Random(3)

    def nested(d):
        k = r.random()
        if d <= 0 or k < .3: return r.choice(["a", "cat, ", " b", "c d", "e", "x ", "", "y (z:1.2)"])
        if k < .7:
            options = [r.choice(["", "", "0.5::", "2::", ".25::"]) + r.choice(["", " ", ""]) + nested(d - 1) + r.choice(["", " "]) for _ in range(r.randint(1, 4))]
            return "{" + r.choice(["", "", "", "", "2$$", "1-2$$", "0-2$$", "-2$$", "2-$$", "2$$ and $$", "3-1$$"]) + "|".join(options) + "}"
        if k < .85: return r.choice(["__color__", "__animals/furry__", "__pet__", "__*__", "__a*__", "__furry__", "{2$$__color__}", "__single__", "{2$$__single__}", "{1-2$$__color__|x}"])
        return nested(d - 1) + r.choice([" ", ", ", ""]) + nested(d - 1)

    cases = []
    while len(cases) < 150:
        text, seed = nested(4), r.choice([r.randrange(1, 100), r.randrange(1, 2**32), r.randrange(2**32, 2**62)])
        if text: cases.append({"template": text, "seed": seed, "prompt": g.generate(text, 1, seeds=[seed])[0]})
    return cases


def lines(path, cases):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f: f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


if __name__ == "__main__":
    from transformers import CLIPTokenizer
    modules, tokenizer, out = sys.argv[1:4]
    lines(f"{out}/prompt/language.json", language(modules))
    lines(f"{out}/prompt/chunks.json", chunk_cases(modules, CLIPTokenizer.from_pretrained(tokenizer)))
    lines(f"{out}/prompt/templates.json", template_cases(out))
