"""Data for the tests of the text towers and the tokenizer.

    python3 tests/gen/clip.py towers REFERENCE tests/golden/clip      (numpy, safetensors, torch, transformers)
    python3 tests/gen/clip.py tokens REFERENCE MERGES_FOLDER tests/golden/clip   (transformers)

towers: NAME.json (config, tolerance) and NAME.safetensors (weights as in.ids, normed.K and the wanted hidden.K, last_hidden_state,
pooled). sd2v and sdxl are REFERENCE's (its models/ and cases/) with the rows of the token table that the prompts use, ids numbered
anew in the same order, so that the numbers stay those of the whole model. The others are tiny random CLIPTextModels of transformers.
Tolerance: 32 times the distance between float32 and float64 arithmetic, at most 2 % of the RMS, at least 2e-5 of it.

tokens: REFERENCE/ids.json is copied in short form, tokens.json = [[text, ids], ...]; MERGES_FOLDER is a folder of SD 1.x's tokenizer
(vocab.json, merges.txt, ...): special.json says what transformers makes of some texts with other settings of the special tokens,
unicode.json of odd characters."""
import json, math, os, random, sys
import numpy as np


def write(path, x):
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(x, f, ensure_ascii=True, indent=1)
        f.write('\n')


# ---- towers ---------------------------------------------------------------------------------------------------------

def tolerance(a, b):
    d, rms = (a.double() - b.double()).abs().max().item(), a.double().pow(2).mean().sqrt().item()
    return float('%.3g' % max(min(32 * d, 0.02 * rms), 2e-5 * rms))


def reduced(reference, out, model, part):
    import torch
    from safetensors.torch import load_file, save_file
    folder = f'{reference}/models/{model}/text_encoder'
    w, want = load_file(folder + '/model.safetensors'), load_file(f'{reference}/cases/{model}/modules/text.safetensors')
    config, case = json.load(open(folder + '/config.json')), json.load(open(f'{reference}/cases/{model}/modules/case.json'))
    table, ids = 'text_model.embeddings.token_embedding.weight', want.pop('input_ids')
    used, small = torch.unique(ids, return_inverse=True)  # in order: the largest id stays the largest
    w[table] = w[table][used]
    assert config['eos_token_id'] == 2 and all(t.dtype == torch.float16 for t in w.values())
    config['vocab_size'] = len(used)
    save_file({**{k: v.contiguous() for k, v in w.items()}, 'in.ids': small.to(torch.int32), **want}, f'{out}/{model}.safetensors')
    write(f'{out}/{model}.json', {'versions': case['versions'], 'config': config, 'tolerance': case['text']['tolerance']})


# name: (config, projection, ids, stored type, names without text_model., one layer more in the file)
def variants():
    base = dict(vocab_size=40, hidden_size=12, num_attention_heads=3, num_hidden_layers=3, intermediate_size=20, max_position_embeddings=9, hidden_act='quick_gelu',
                bos_token_id=1, pad_token_id=0)
    return {
        # larger ids behind the end token, one text with two end tokens, one without any
        'first-end': (dict(base, eos_token_id=30, hidden_act='gelu', layer_norm_eps=1e-3), False, [[1, 5, 30, 39, 38, 0], [1, 30, 7, 30, 2, 2], [1, 39, 4, 5, 6, 7]], 'float32', False, False),
        'projected': (dict(base, eos_token_id=2, projection_dim=7, num_attention_heads=4), True, [[1, 5, 6, 39, 0, 0, 0, 39, 0], [1, 2, 3, 4, 5, 6, 7, 8, 39]], 'float16', False, False),
        'bare': (dict(base, eos_token_id=39, num_attention_heads=1, num_hidden_layers=2), False, [[1, 39]], 'bfloat16', True, True),
        'one-token': (dict(base, eos_token_id=2, num_hidden_layers=1, num_attention_heads=12), True, [[17]], 'float16', False, False),
    }


def random_tower(out, k, name, config, projection, ids, dtype, bare, extra):
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    from transformers import __version__ as transformers_version
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    kind, stored = CLIPTextModelWithProjection if projection else CLIPTextModel, getattr(torch, dtype)
    model = kind(CLIPTextConfig(**config)).eval()
    g = torch.Generator().manual_seed(300 + k)
    for n, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if p.ndim == 2:
            r *= 0.7 if 'embedding' in n else (2 if 'q_proj' in n or 'k_proj' in n else 1) / math.sqrt(p.shape[1])
        else:
            r = 1 + 0.2 * r if n.endswith('weight') else 0.1 * r
        p.copy_(r.to(stored).float())
    ids = torch.tensor(ids)

    def run(precision):
        m = model.to(precision)
        o = m(input_ids=ids, output_hidden_states=True)
        norm = next(x for n, x in m.named_modules() if n.endswith('final_layer_norm'))
        got = {f'hidden.{i}': h for i, h in enumerate(o.hidden_states)}
        got.update({f'normed.{i}': norm(h) for i, h in enumerate(o.hidden_states)})
        got.update(last_hidden_state=o.last_hidden_state, pooled=o.text_embeds if projection else o.pooler_output)
        return {n: x.float() for n, x in got.items()}
    a, b = run(torch.float32), run(torch.float64)
    model.float()
    w = {n: x for n, x in model.state_dict().items() if 'position_ids' not in n}
    w = {n if n.startswith(('text_model.', 'text_projection')) else 'text_model.' + n: x for n, x in w.items()}
    if extra:
        w.update({n.replace('layers.0', 'layers.%d' % config['num_hidden_layers']): x + 1 for n, x in w.items() if 'layers.0' in n})
    if bare:
        w = {n.removeprefix('text_model.'): x for n, x in w.items()}
    save_file({**{n: x.to(stored).contiguous().clone() for n, x in w.items()}, 'in.ids': ids.to(torch.int32), **{n: x.contiguous().clone() for n, x in a.items()}},
              f'{out}/{name}.safetensors')
    write(f'{out}/{name}.json', {'versions': {'torch': torch.__version__.split('+')[0], 'transformers': transformers_version},
                                 'config': {**config, 'architectures': [kind.__name__], 'model_type': 'clip_text_model'}, 'tolerance': {n: tolerance(a[n], b[n]) for n in a}})
    os.chmod(f'{out}/{name}.safetensors', 0o644)


def towers(reference, out):
    for model in ('sd2v', 'sdxl'):
        reduced(reference, out, model, 'text')
        os.chmod(f'{out}/{model}.safetensors', 0o644)
    for k, (name, args) in enumerate(variants().items()):
        random_tower(out, k, name, *args)


# ---- tokens -----------------------------------------------------------------------------------------------------------

S, E = '<|startoftext|>', '<|endoftext|>'


def added(text, normalized=True, **more):
    return {'__type': 'AddedToken', 'content': text, 'lstrip': False, 'rstrip': False, 'normalized': normalized, 'single_word': False, **more}


# name: {file: content}
SETTINGS = {
    'no files': {},
    'strings': {'tokenizer_config.json': dict(bos_token=S, eos_token=E, unk_token=E, pad_token=E, model_max_length=77)},
    'objects': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), unk_token=added(E), pad_token=added(E), model_max_length=24)},
    'SD 1': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), unk_token=added(E), pad_token=E, model_max_length=77)},
    'SD 2': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), unk_token=added(E), pad_token='!', model_max_length=77)},
    'the later one decides': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E, False), unk_token=E, pad_token=added(E))},
    'the map wins': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), unk_token=added(E), pad_token=E), 'special_tokens_map.json': dict(pad_token='!')},
    'the map wins, object': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), unk_token=added(E), pad_token='!'),
                             'special_tokens_map.json': dict(pad_token=dict(content=E, lstrip=False, rstrip=False, normalized=True, single_word=False))},
    'added_tokens_decoder': {'tokenizer_config.json': dict(added_tokens_decoder={'0': added('!', False, special=True), '49406': added(S, special=True), '49407': added(E, special=True)},
                                                           bos_token=S, eos_token=E, pad_token='!', unk_token=E, model_max_length=10**30 + 19884624838656),
                             'special_tokens_map.json': dict(pad_token=E)},
    'learned, decoder': {'tokenizer_config.json': dict(added_tokens_decoder={'49406': added(S, special=True), '49407': added(E, special=True), '49408': added('<Cat Toy>', special=False)},
                                                       bos_token=S, eos_token=E, pad_token=E, unk_token=E)},
    'learned, added_tokens.json': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), pad_token=E, unk_token=added(E)), 'added_tokens.json': {'<b>': 49409, '<Cat-Toy>': 49408}},
    'added again': {'tokenizer_config.json': dict(bos_token=added(S), eos_token=added(E), pad_token='!', unk_token=added(E)), 'added_tokens.json': {'!': 0, E: 49407}},
    'new padding': {'tokenizer_config.json': dict(bos_token=S, eos_token=E, pad_token='[PAD]', unk_token=E)},
    'one in another': {'tokenizer_config.json': dict(bos_token=S, eos_token=E, pad_token=E, unk_token=E, additional_special_tokens=['ho', 'hor', 'h', 'hous']),
                       'added_tokens.json': {'<b': 49408, '<b>': 49409, '<b><': 49410, '<': 27}},
    'more tokens': {'tokenizer_config.json': dict(additional_special_tokens=['cat', added('Dog')], mask_token='a', cls_token='b</w>')},
}
TEXTS = ['<b> <b><b><b', 'horse house h hous', 'hello!', 'a !b!! !', 'x!<|startoftext|>!', f'a{E}b {S}c', '<|EndOfText|><|STARTOFTEXT|>', '|<|ENDOFTEXT|>|', '<|EndOfText|>!!', 'a <Cat Toy> <cat  toy>', '<CAT-TOY>s <b><B>',
         '[PAD] [pad]', 'cat catalogue Dog dog', 'ab</w>', '']


def reference_tokenizer(files, source, folder):
    from transformers import CLIPTokenizer
    os.makedirs(folder)
    for name in ('vocab.json', 'merges.txt'):
        os.symlink(os.path.abspath(f'{source}/{name}'), f'{folder}/{name}')
    for name, x in files.items():
        write(f'{folder}/{name}', x)
    return CLIPTokenizer.from_pretrained(folder)


def special(source, out):
    import tempfile
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, files) in enumerate(SETTINGS.items()):
            t = reference_tokenizer(json.loads(json.dumps(files)), source, f'{folder}/{i}')
            cases.append({'name': name, 'files': {n: json.dumps(x) for n, x in files.items()}, 'length': t.model_max_length if t.model_max_length < 4096 else 77, 'start': t.bos_token_id, 'end': t.eos_token_id, 'pad': t.pad_token_id, 'size': len(t),
                          'ids': [t(x, add_special_tokens=False)['input_ids'] for x in TEXTS]})
    with open(f'{out}/special.json', 'w') as f:
        f.write('{"texts": %s,\n "cases": [\n  ' % json.dumps(TEXTS) + ',\n  '.join(json.dumps(c) for c in cases) + '\n]}\n')


def odd_text(r):
    """characters that differ between versions of Unicode or that NFC, white space and case treat in their own way"""
    pools = [range(0x20, 0x7f), range(0x20, 0x7f), range(0x61, 0x7b), range(0xa0, 0x250), range(0x300, 0x370), range(0x370, 0x530), range(0x5d0, 0x700), range(0x7f0, 0x800), range(0x890, 0x900),
             range(0x900, 0xa00), range(0x1100, 0x1200), range(0x1ab0, 0x1ad0), range(0x1c80, 0x1c90), range(0x1df0, 0x2070), range(0x3000, 0x3100), range(0xa7c0, 0xa7e0), range(0xac00, 0xad00),
             range(0xfb00, 0xfb50), range(0x10d20, 0x10d90), range(0x11380, 0x113e0), range(0x11930, 0x11945), range(0x16100, 0x16140), range(0x16d40, 0x16d80), range(0x16ea0, 0x16ec0),
             range(0x1d160, 0x1d170), range(0x1f1e6, 0x1f200), range(0x1f300, 0x1f650), range(0x2ebe0, 0x2ec00), range(0x2f800, 0x2fa20), range(0, 0x21), range(0, 0xd800), range(0xe000, 0x110000)]
    words = ["don't", "THEY'LL", "x'S", "''s", "'t't", "'re're", "!'s", S, E, '<|EndOfText|>', '<|', '|>', 'endoftext', '</w>', '1234', '\u0130stanbul', 'I\u0307', '\u03a3\u0391\u03a3', 'Stra\xdfe',
             '\u200d', '\ufb2c', 'a\u0323\u0307', 'q\u0307\u0323', '\u1112\u1161\u11ab', '\u212b', '\u0958', '\u0344', 'photo']
    s = ''
    for _ in range(r.randint(2, 9)):
        s += r.choice(words) if r.random() < .3 else ' ' if r.random() < .2 else ''.join(chr(r.choice(pool)) for pool in [r.choice(pools)] for _ in range(r.choice((1, 2, 4))))
    return s.replace('\0', '')


def edges():
    """texts of the characters on which the reference and Python's Unicode disagree: the first and last of each run of letters and
    numbers that are newer, with their neighbours; newer small letters; marks that NFC leaves where they are"""
    import unicodedata
    from tokenizers import Regex, normalizers, pre_tokenizers
    known, small, nfc = pre_tokenizers.Split(Regex(r'[\p{L}\p{N}]'), behavior='removed', invert=True), normalizers.Lowercase(), normalizers.NFC()
    all_ = [c for c in range(0x80, 0x110000) if not 0xd800 <= c < 0xe000]
    newer = [c for c in all_ if unicodedata.category(chr(c)) == 'Cn' and known.pre_tokenize_str(chr(c))]
    odd = {x for c in newer if c - 1 not in newer or c + 1 not in newer for x in (c - 1, c, c + 1)}
    odd |= {c for c in all_ if small.normalize_str(chr(c)) != chr(c).lower()}
    marks = {c for c in all_ if unicodedata.combining(chr(c)) and nfc.normalize_str(f'a{chr(c)}\u0323\u0334') != unicodedata.normalize('NFC', f'a{chr(c)}\u0323\u0334')}
    marks |= {*range(0x10efd, 0x10f00), 0x11f41, 0x11f42, 0x1e08f, *range(0x1e4ec, 0x1e4f0)}  # newer than Python 3.10's
    words = [f'a{chr(c)}1' for c in sorted(odd)] + [f'a{chr(c)}\u0323\u0334' for c in sorted(marks)] + ['\U00011935\U00011930']
    return [' '.join(words[i:i + 12]) for i in range(0, len(words), 12)]


def tokens(reference, source, out):
    from transformers import CLIPTokenizer
    with open(f'{reference}/ids.json', encoding='utf-8') as f:
        rows = [(x['text'], x['transformers']) for x in json.load(f)]
    with open(f'{out}/tokens.json', 'w') as f:
        f.write('[\n' + ',\n'.join(json.dumps(x, separators=(',', ':')) for x in rows) + '\n]\n')
    special(source, out)
    t, r = CLIPTokenizer.from_pretrained(source), random.Random(9)
    rows = [(s, t(s, add_special_tokens=False)['input_ids']) for s in [odd_text(r) for _ in range(500)] + edges()]
    with open(f'{out}/unicode.json', 'w') as f:
        f.write('[\n' + ',\n'.join(json.dumps(x, separators=(',', ':')) for x in rows) + '\n]\n')


{'towers': towers, 'tokens': tokens}[sys.argv[1]](*sys.argv[2:])
