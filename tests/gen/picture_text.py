#!/usr/bin/env python3
"""picture_text.py OUT: small JPEG and WebP files with text, as Pillow and piexif (and, by hand, other programs) write them, and what Pillow
reads from them. OUT becomes tests/golden/image/text. Needs Pillow and piexif."""
import io, json, os, struct, sys
import piexif, piexif.helper
from PIL import Image, ImageOps

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
W, H = 20, 14
picture = Image.new("RGB", (W, H))
picture.putdata([(12 * x, 18 * y, 255 - 6 * x - 8 * y) for y in range(H) for x in range(W)])
rgba = picture.copy()
rgba.putalpha(Image.frombytes("L", (W, H), bytes((x * 13) & 255 for y in range(H) for x in range(W))))
LONG = "a cat, na\u00efve \u732b \U0001f600\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512"
rows = []


def comment(value):
    return piexif.dump({"Exif": {piexif.ExifIFD.UserComment: value}})


def utf16(text):
    return piexif.helper.UserComment.dump(text, encoding="unicode")


def note(name, **more):
    rows.append({"file": name, **more})


def save(name, image, exif=None, **how):
    image.save(f"{out}/{name}", **how)
    if exif: piexif.insert(exif, f"{out}/{name}")


save("a1111.jpg", picture, comment(utf16(LONG)), quality=80)
note("a1111.jpg", parameters=LONG)
save("a1111.webp", picture, comment(utf16(LONG)), quality=80)
note("a1111.webp", parameters=LONG)
save("lossless.webp", picture, comment(utf16(LONG)), lossless=True)
note("lossless.webp", parameters=LONG, pixels="RGB")
save("alpha.webp", rgba, lossless=True, exact=True)
note("alpha.webp", pixels="RGBA")
save("gray.webp", picture.convert("L"), lossless=True)
note("gray.webp", pixels="RGB")
save("ascii.jpg", picture, comment(piexif.helper.UserComment.dump("plain, Steps: 3", encoding="ascii")), quality=60)
note("ascii.jpg", parameters="plain, Steps: 3")
save("little.jpg", picture, comment(b"UNICODE\0" + LONG.encode("utf-16-le")), quality=60)
note("little.jpg", parameters=LONG)
save("utf8.jpg", picture, comment(b"\0" * 8 + LONG.encode()), quality=60)
note("utf8.jpg", parameters=LONG)

# Pillow's own EXIF writer: little-endian blocks, orientation, ComfyUI's tags
exif = Image.Exif()
exif[0x0110] = 'prompt:{"3": {"class_type": "KSampler", "inputs": {}}}'
exif[0x010f] = 'workflow:{"nodes": []}'
picture.save(f"{out}/comfyui.webp", exif=exif, quality=50)
note("comfyui.webp", prompt='{"3": {"class_type": "KSampler", "inputs": {}}}', workflow='{"nodes": []}')
exif = Image.Exif()
exif[0x0112] = 6
picture.save(f"{out}/turned.webp", exif=exif, lossless=True)
note("turned.webp", pixels="RGB")

# stable-diffusion.cpp: a comment segment in JPEG, XMP in WebP
text = "a <cat> & \"dog\"\nSteps: 4, Seed: 1, Size: 64x64"
buffer = io.BytesIO()
picture.save(buffer, "JPEG", quality=60)
body = b"parameters\0" + text.encode() + b"\0"
jpeg = buffer.getvalue()
open(f"{out}/sdcpp.jpg", "wb").write(jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body + jpeg[2:])
note("sdcpp.jpg", parameters=text)
escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
packet = f'<?xpacket begin=""?><x:xmpmeta><rdf:RDF><rdf:Description>\n<sdcpp:parameters>{escaped}</sdcpp:parameters></rdf:Description></rdf:RDF></x:xmpmeta>'
save("sdcpp.webp", picture, xmp=packet.encode(), quality=50)
note("sdcpp.webp", parameters=text)

frames = [picture, picture.transpose(Image.FLIP_LEFT_RIGHT)]
frames[0].save(f"{out}/animated.webp", save_all=True, append_images=frames[1:], lossless=True)
note("animated.webp", error=True)

for r in rows:
    if "pixels" not in r: continue
    image = Image.open(f"{out}/{r['file']}")
    image = ImageOps.exif_transpose(image).convert(r.pop("pixels"))
    r["mode"], r["size"] = image.mode, list(image.size)
    bytes_, k = image.tobytes(), image.size[0] * len(image.mode)
    r["ends"] = (bytes_[:k] + bytes_[-k:]).hex()  # the first and the last row
rows.append({"exif": comment(utf16(LONG)).hex(), "text": LONG})
with open(f"{out}/pictures.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
