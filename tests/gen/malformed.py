"""Small good files for tests/malformed, where the goldens have none of that kind: python3 tests/gen/malformed.py tests/malformed/seeds"""
import gzip, json, struct, sys, zlib
out = sys.argv[1] + '/'

def safetensors(name, header, data):
    text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
    text += b' ' * (-len(text) % 8)
    open(out + name, 'wb').write(struct.pack('<Q', len(text)) + text + data)

safetensors('names.safetensors', {'__metadata__': {'format': 'pt', 'quote"': 'back\\slash \n'},
            'b': {'dtype': 'F16', 'shape': [2, 2], 'data_offsets': [0, 8]}, 'ä "x"': {'dtype': 'I64', 'shape': [], 'data_offsets': [8, 16]},
            'empty': {'dtype': 'F32', 'shape': [3, 0, 2], 'data_offsets': [16, 16]}}, bytes(range(16)))
index = {'metadata': {'total_size': 32}, 'weight_map': {'a': 'a.safetensors', 'b': 'b.safetensors', 'ä "x"': 'b.safetensors', 'empty': 'b.safetensors'}}
json.dump(index, open(out + 'index.json', 'w'), indent=1, ensure_ascii=False)
json.dump(index, open(out + 'index-escaped.json', 'w'))

# CLIP's order: 256 bytes, the same with </w>, merges, start and end
byte = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
chars = [chr(b) for b in byte]
chars += [chr(256 + i) for i in range(256 - len(byte))]
merges = ['h o', 'u s', 'ho us', 'hous e</w>', '1 2</w>', "' s</w>", 'a f', 'i t</w>']
tokens = chars + [c + '</w>' for c in chars] + [m.replace(' ', '') for m in merges] + ['<|startoftext|>', '<|endoftext|>']
json.dump({t: i for i, t in enumerate(tokens)}, open(out + 'vocab.json', 'w'), ensure_ascii=False, separators=(',', ':'))
text = '#version: 0.2\n' + '\n'.join(merges) + '\n'
open(out + 'merges.txt', 'w').write(text)
gzip.GzipFile(out + 'merges.txt.gz', 'wb', mtime=0).write(text.encode())
special = {'__type': 'AddedToken', 'content': '<|endoftext|>', 'lstrip': False, 'normalized': True, 'rstrip': False, 'single_word': False}
json.dump({'add_prefix_space': False, 'bos_token': dict(special, content='<|startoftext|>'), 'do_lower_case': True, 'eos_token': special,
           'errors': 'replace', 'model_max_length': 77, 'pad_token': '<|endoftext|>', 'tokenizer_class': 'CLIPTokenizer', 'unk_token': special},
          open(out + 'tokenizer_config.json', 'w'), indent=2)
json.dump({'<new>': len(tokens)}, open(out + 'added_tokens.json', 'w'))

def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

open(out + 'text.png', 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0)) +
     chunk(b'tEXt', b'parameters\0a red apple\nSteps: 20') + chunk(b'eXIf', b'MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0') +
     chunk(b'IDAT', zlib.compress(b'\0\0')) + chunk(b'IEND', b''))
