"""Data for the tests of whole CLIP models: one tiny random model in three forms, and what the libraries make of it.

    python3 tests/gen/clip_models.py tests/golden/image assets/clip_merges.txt.gz tests/golden/clip/tiny
    (numpy, torch, torchvision, transformers 5, open_clip, Pillow, safetensors)

hf/: a CLIPModel folder (float16, preprocessor_config.json, no tokenizer: CLIP's own vocabulary, cut). script.pt: a TorchScript with OpenAI's
names and marks. open_clip_config.json: other heads and another activation for the same weights. golden.safetensors: pixels; the hidden
states, pooled state and embeddings of transformers for them. golden.json: vectors of texts and pictures by transformers, OpenAI's rules (heads
of 64 channels: here one) and open_clip; probabilities of labels; CRC-32 of preprocessed pictures (float32, little-endian) by configuration."""
import gzip, json, math, os, sys, tempfile, warnings, zlib
warnings.filterwarnings('ignore')
import numpy as np
import torch, transformers, open_clip
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

images, merges_file, out = sys.argv[1:4]
torch.set_grad_enabled(False)
torch.set_num_threads(1)
MERGES, CONTEXT, IMAGE, PATCH, DIMS = 40, 16, 20, 6, 7
TEXTS = ['a photo of a cat', 'dogs on the beach', '', 'the ' * 40, "it's 12 o'clock"]
PICTURES = ['src/icon_rgb.png', 'src/shapes_rgba.png', 'src/shapes_l.png', 'src/zone_rgb.png', 'files/exif_orientation6.png']
LABELS, TEMPLATES = ['cat', 'dog', 'house'], ['a photo of a {}.', 'the {} of {}']


def vocabulary():
    """CLIP's numbering: printable bytes, the others, both with </w>, merges, special tokens."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in printable]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
    lines = gzip.open(merges_file, 'rt', encoding='utf-8').read().split('\n')
    merges = [tuple(x.split()) for x in lines if x and not x.startswith('#version')][:MERGES]
    words = letters + [x + '</w>' for x in letters] + [a + b for a, b in merges] + ['<|startoftext|>', '<|endoftext|>']
    return {w: i for i, w in enumerate(words)}, merges


def tokenizer(vocab, merges):
    folder = tempfile.mkdtemp()
    json.dump(vocab, open(folder + '/vocab.json', 'w'))
    open(folder + '/merges.txt', 'w').write('#version: 0.2\n' + ''.join('%s %s\n' % m for m in merges))
    json.dump(dict(bos_token='<|startoftext|>', eos_token='<|endoftext|>', pad_token='<|endoftext|>', unk_token='<|endoftext|>', model_max_length=CONTEXT),
              open(folder + '/tokenizer_config.json', 'w'))
    t = CLIPTokenizer.from_pretrained(folder)
    return lambda texts: t(texts, padding='max_length', max_length=CONTEXT, truncation=True, return_tensors='pt').input_ids


def model(vocab):
    layers = dict(num_hidden_layers=2, hidden_act='quick_gelu')
    config = CLIPConfig(text_config=dict(layers, vocab_size=len(vocab), hidden_size=8, intermediate_size=20, num_attention_heads=2, max_position_embeddings=CONTEXT,
                                         bos_token_id=len(vocab) - 2, eos_token_id=len(vocab) - 1, pad_token_id=len(vocab) - 1),
                        vision_config=dict(layers, hidden_size=12, intermediate_size=40, num_attention_heads=3, image_size=IMAGE, patch_size=PATCH), projection_dim=DIMS)
    m, g = CLIPModel(config).eval(), torch.Generator().manual_seed(700)
    for k, p in m.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if k == 'logit_scale':
            r = torch.tensor(3.0)
        elif 'embedding' in k and 'patch' not in k:
            r = r * 0.5
        elif p.ndim == 1:
            r = 1 + 0.2 * r if 'norm' in k and k.endswith('weight') or 'layrnorm.weight' in k else 0.1 * r
        else:
            r = r * (1.5 / math.sqrt(p[0].numel()))
        p.copy_(r.half().float())
    return m


def to_open_clip(sd):
    o = {'logit_scale': sd['logit_scale'], 'visual.proj': sd['visual_projection.weight'].T, 'text_projection': sd['text_projection.weight'].T}
    v, t = 'vision_model.', 'text_model.'
    o['visual.class_embedding'], o['visual.positional_embedding'] = sd[v + 'embeddings.class_embedding'], sd[v + 'embeddings.position_embedding.weight']
    o['visual.conv1.weight'] = sd[v + 'embeddings.patch_embedding.weight']
    o['token_embedding.weight'], o['positional_embedding'] = sd[t + 'embeddings.token_embedding.weight'], sd[t + 'embeddings.position_embedding.weight']
    for w in ('weight', 'bias'):
        o['visual.ln_pre.' + w], o['visual.ln_post.' + w], o['ln_final.' + w] = sd[v + 'pre_layrnorm.' + w], sd[v + 'post_layernorm.' + w], sd[t + 'final_layer_norm.' + w]
        for ours, theirs in ((v, 'visual.'), (t, '')):
            for i in range(2):
                a, b = f'{ours}encoder.layers.{i}.', f'{theirs}transformer.resblocks.{i}.'
                o[b + 'attn.in_proj_' + w] = torch.cat([sd[a + f'self_attn.{q}_proj.{w}'] for q in 'qkv'])
                for x, y in (('self_attn.out_proj', 'attn.out_proj'), ('layer_norm1', 'ln_1'), ('layer_norm2', 'ln_2'), ('mlp.fc1', 'mlp.c_fc'), ('mlp.fc2', 'mlp.c_proj')):
                    o[b + y + '.' + w] = sd[a + x + '.' + w]
    return {k: x.contiguous().clone() for k, x in o.items()}


def script(sd, path):
    """A TorchScript whose modules are named as the tensors are; what it computes does not matter."""
    class Empty(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x
    root = Empty()
    for k, x in sd.items():
        at = root
        *modules, last = k.split('.')
        for name in modules:
            if not hasattr(at, name):
                at.add_module(name, Empty())
            at = getattr(at, name)
        at.register_buffer(last, x)
    torch.jit.save(torch.jit.script(root), path)


def read(name):
    im = Image.open(f'{images}/{name}')
    return ImageOps.exif_transpose(im)


def rows(x):
    return [[float('%.9g' % v) for v in r] for r in torch.nn.functional.normalize(x.double(), dim=-1).tolist()]


def crc(x):
    return zlib.crc32(np.ascontiguousarray(x, '<f4').tobytes())


os.makedirs(out + '/hf', exist_ok=True)
vocab, merges = vocabulary()
m, ids = model(vocab), tokenizer(vocab, merges)
sd = {k: x for k, x in m.state_dict().items() if 'position_ids' not in k}
config = {**m.config.to_dict(), 'architectures': ['CLIPModel']}
keep = ('architectures', 'model_type', 'projection_dim', 'text_config', 'vision_config')
small = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads', 'hidden_act', 'layer_norm_eps', 'model_type', 'vocab_size', 'max_position_embeddings',
         'eos_token_id', 'image_size', 'patch_size', 'num_channels')
config = {k: {a: b for a, b in config[k].items() if a in small} if k.endswith('_config') else config[k] for k in keep}
processor = CLIPImageProcessorPil(size={'shortest_edge': IMAGE}, crop_size=IMAGE)
prepared = {'size': {'shortest_edge': IMAGE}, 'crop_size': {'height': IMAGE, 'width': IMAGE}, 'resample': 3}
dump = lambda x, name: open(f'{out}/{name}', 'w').write(json.dumps(x, indent=1, sort_keys=True) + '\n')
save_file({k: x.half().contiguous() for k, x in sd.items()}, out + '/hf/model.safetensors', metadata={'format': 'pt'})
dump(config, 'hf/config.json')
dump(prepared, 'hf/preprocessor_config.json')

golden = {'versions': {'torch': torch.__version__.split('+')[0], 'transformers': transformers.__version__, 'open_clip': open_clip.__version__, 'Pillow': Image.__version__},
          'texts': TEXTS, 'pictures': PICTURES, 'labels': LABELS, 'templates': TEMPLATES, 'logit_scale': m.logit_scale.exp().item()}
pixels = torch.tensor(np.stack([processor(read(p), return_tensors='np')['pixel_values'][0] for p in PICTURES]))
text = lambda ids: m.text_projection(m.text_model(input_ids=ids).pooler_output)
picture = lambda x: m.visual_projection(m.vision_model(x).pooler_output)
golden['hf'] = {'texts': rows(text(ids(TEXTS))), 'pictures': rows(picture(pixels))}
unit = lambda x: torch.nn.functional.normalize(x, dim=-1)
labels = torch.stack([unit(unit(text(ids([t.replace('{}', l) for t in TEMPLATES]))).mean(0)) for l in LABELS])
golden['probabilities'] = (m.logit_scale.exp() * unit(picture(pixels)) @ labels.T).softmax(-1).tolist()

double = CLIPModel(m.config).double().eval()
double.load_state_dict({k: x.double() for k, x in sd.items()}, strict=False)
a, b = (x.vision_model(pixels[:2].to(t), output_hidden_states=True) for x, t in ((m, torch.float32), (double, torch.float64)))
taps = {f'hidden.{i}': (x, y) for i, (x, y) in enumerate(zip(a.hidden_states, b.hidden_states))}
taps['pooled'] = (a.pooler_output, b.pooler_output)
taps['embeds'] = (m.visual_projection(a.pooler_output), double.visual_projection(b.pooler_output))
save_file({'pixels': pixels[:2].contiguous(), **{k: x.contiguous().clone() for k, (x, y) in taps.items()}}, out + '/golden.safetensors')
golden['tolerance'] = {k: float('%.3g' % max(32 * (x - y).abs().max().item(), 2e-5 * y.pow(2).mean().sqrt().item())) for k, (x, y) in taps.items()}

oc = to_open_clip(sd)
script({**{k: x.half() for k, x in oc.items()}, 'input_resolution': torch.tensor(IMAGE), 'context_length': torch.tensor(CONTEXT), 'vocab_size': torch.tensor(len(vocab))}, out + '/script.pt')
base = {'embed_dim': DIMS, 'vision_cfg': {'image_size': IMAGE, 'layers': 2, 'width': 12, 'patch_size': PATCH, 'mlp_ratio': 40 / 12 + 1e-9},
        'text_cfg': {'context_length': CONTEXT, 'vocab_size': len(vocab), 'width': 8, 'heads': 1, 'layers': 2, 'mlp_ratio': 2.5}}
theirs = json.loads(json.dumps(base))
theirs['vision_cfg']['head_width'], theirs['text_cfg']['heads'] = 4, 4
dump({'model_cfg': theirs, 'preprocess_cfg': {'resize_mode': 'longest', 'fill_color': 77, 'interpolation': 'bilinear', 'mean': [0.5, 0.4, 0.3], 'std': [0.2, 0.3, 0.25]}}, 'open_clip_config.json')
openai = json.loads(json.dumps(base))
openai['vision_cfg']['head_width'], openai['quick_gelu'] = 12, True
for name, cfg, prep in (('openai', openai, {}), ('open_clip', theirs, json.load(open(out + '/open_clip_config.json'))['preprocess_cfg'])):
    o = open_clip.CLIP(**cfg).eval()
    missing = o.load_state_dict(oc, strict=False)
    assert not missing.unexpected_keys and all('mask' in k for k in missing.missing_keys)
    prepare = image_transform_v2(PreprocessCfg(size=IMAGE, **prep), is_train=False)
    x = torch.stack([prepare(read(p)) for p in PICTURES])
    golden[name] = {'texts': rows(o.encode_text(ids(TEXTS))), 'pictures': rows(o.encode_image(x))}

# Preprocessing: [family, side, configuration, {picture: CRC}].
hf = [(32, {}), (31, dict(size={'shortest_edge': 40}, crop_size={'height': 31, 'width': 31}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.25])),
      (32, dict(size={'height': 32, 'width': 32}, do_center_crop=False, resample=2)), (33, dict(size=20, crop_size=33)), (32, dict(do_resize=False, crop_size=32)),
      (48, dict(size=48, crop_size=48, do_normalize=False, rescale_factor=0.01, resample=1)), (32, dict(size=32, crop_size=32, do_rescale=False, resample=0))]
oc_prep = [(32, {}), (33, dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.25])), (32, dict(resize_mode='longest')), (31, dict(resize_mode='longest', fill_color=77)),
           (48, dict(resize_mode='squash', interpolation='bilinear'))]
names = ['src/' + n for n in sorted(os.listdir(images + '/src'))] + ['files/' + n for n in ('graya8.png', 'rgb8_trns.png', 'exif_orientation6.png', 'one_pixel.png')]
golden['preprocess'] = []
for side, cfg in hf:
    p = CLIPImageProcessorPil(**(cfg or dict(size={'shortest_edge': side}, crop_size=side)))
    golden['preprocess'].append(['transformers', side, cfg, {n: crc(p(read(n), return_tensors='np')['pixel_values'][0]) for n in names}])
for side, cfg in oc_prep:
    p = image_transform_v2(PreprocessCfg(size=side, **cfg), is_train=False)
    golden['preprocess'].append(['open_clip', side, {'preprocess_cfg': cfg}, {n: crc(p(read(n)).numpy()) for n in names}])
open(out + '/golden.json', 'w').write(json.dumps(golden) + '\n')
for folder, _, files in os.walk(out):
    for f in files:
        os.chmod(f'{folder}/{f}', 0o644)
