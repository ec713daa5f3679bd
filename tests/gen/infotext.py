#!/usr/bin/env python3
"""infotext.py REFERENCE OUT: A1111's "parameters" texts. REFERENCE is the reference set's metadata/parameters.json; more cases are made here with
Python's own str, json and re, as A1111's create_infotext and parse_generation_parameters use them. OUT becomes
tests/golden/metadata/parameters.json: fields, the text of them, and what is read from it."""
import json, random, re, sys

PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def quote(v):
    v = str(v)
    return json.dumps(v, ensure_ascii=False) if any(c in v for c in ",\n:") else v


def build(prompt, negative, fields):
    line = ", ".join(k if k == v else f"{k}: {quote(v)}" for k, v in fields if v is not None)
    return (prompt + (f"\nNegative prompt: {negative}" if negative else "") + "\n" + line).strip()


def parse(text):
    *lines, last = text.strip().split("\n")
    if len(PARAM.findall(last)) < 3: lines.append(last); last = ""
    part, k = ["", ""], 0
    for l in lines:
        l = l.strip()
        if l.startswith("Negative prompt:"): k = 1; l = l[16:].strip()
        part[k] += ("" if part[k] == "" else "\n") + l
    out = {"Prompt": part[0].strip(), "Negative prompt": part[1].strip()}
    for key, v in PARAM.findall(last):
        if len(v) > 1 and v[0] == '"' and v[-1] == '"':
            try: v = json.loads(v)
            except ValueError: pass
        m = re.match(r"^(\d+)x(\d+)$", v)
        if m: out[key + "-1"], out[key + "-2"] = m.group(1), m.group(2)
        else: out[key] = v
    return out


cases = []
for c in json.load(open(sys.argv[1], encoding="utf-8")):
    if c.get("fields"): assert build(c["prompt"], c.get("negative"), c["fields"]) == c["parameters"]
    assert parse(c["parameters"]) == c["parsed"], c["id"]
    cases.append({k: c[k] for k in ("prompt", "negative", "fields") if k in c} | {"text": c["parameters"]})

few = [["Steps", 3], ["Seed", 18446744073709551615], ["Size", "64x72"]]
reals = [0.0, 1.0, 7.5, 0.1, 1 / 3, 1e-4, 1e-5, 0.00012345, 123456789.125, 1e15, 1e16, 1.5e22, 5e-324, 1.7976931348623157e308, -2.0, 100.0, 0.3 + 0.6, 2.5e-7]
cases.append(dict(prompt="reals", fields=few + [[f"Real {i}", v] for i, v in enumerate(reals)]))
cases.append(dict(prompt="kinds", fields=few + [["Tiling", True], ["Other thing", False], ["ENSD", -31337], ["Empty text", ""], ["Key", "Key"], ["None", None]]))
cases.append(dict(prompt="  spaces \u3000", negative=" \u00a0x\t", fields=few + [["Model", " padded "]]))
cases.append(dict(prompt="", negative="", fields=few))
cases.append(dict(prompt="\r\na\r\nb\r\n", fields=few))
cases.append(dict(prompt="control", fields=few + [["Comment", "a:\x01\x1f\t\b\f\r\"\\/\x7f\u0080\u2028 \u732b \U0001f600"]]))
cases.append(dict(prompt="keys", fields=few + [["\u00dcber key", 1], ["\u0421\u044d\u043c\u043f\u043b\u0435\u0440", "x"], ["K", "too short a key"], ["a-b/c d_9", "y"], ["(x)", "z"]]))
cases.append(dict(prompt="Negative prompt: first line", fields=few))
for line in ['a: 1, bb: 2, cc: 3, dd: 4', 'Steps: 1, Seed: "2", Size: "3x4"', 'Aa: "", Bb: ",", Cc: "\\"', 'Aa: "x" y, Bb: "z", Cc: 1', 'Aa: "a\\u00e9\\n", Bb: "\\q", Cc: "\\"",Dd:"',
             'Aa:,Bb:,Cc:', 'Aa: 1,, Bb: 2, , Cc: 3', 'Steps: 20, Steps: 30, Seed: 4, Steps: 50', 'lead, Aa: 1, Bb: 2, Cc: 3, tail', 'Aa:  \u00a0 x , Bb: y\u3000, Cc: "q, r"', 'Aa: 1 Bb: 2 Cc: 3', '::::,,,""',
             'Aa: "unclosed, Bb: "x, y", Cc: 3', 'Size: 0x0, Other: 12x, Third: x12, Fourth: 1x2x3', '- Aa: 1, /Bb: 2, _c: 3, -/: 4', 'Aa: "\\ud83d\\ude00", Bb: "tab\there", Cc: 1']:
    cases.append(dict(text="a prompt\n" + line))
random.seed(5)
for _ in range(12):
    alphabet = ['a', 'B', '9', ' ', '-', '/', '_', ':', ',', '"', '\\', '\n', '\t', '\u00e9', '\u732b', '\u00a0', 'Negative prompt: ', ', Key: ', ': "', '", ', '3x4']
    cases.append(dict(text="".join(random.choice(alphabet) for _ in range(60))))
for c in cases:
    if "text" not in c: c["text"] = build(c["prompt"], c.get("negative"), c["fields"])
    c["parsed"] = parse(c["text"])
with open(sys.argv[2], "w", encoding="utf-8") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases) + "\n]\n")
