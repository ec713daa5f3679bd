"""CLIP's byte-pair tokenizer over a prefix of CLIP's merge list: the merges are ordered by frequency, so the first M of them are
a smaller tokenizer of the same kind (a vocabulary of 512 + M + 2)."""
import gzip
import html
import json
import os
import regex
import configs

WORD = regex.compile(r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE)
MERGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../assets/clip_merges.txt.gz')


def byte_symbols():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, order, n = {b: chr(b) for b in keep}, keep[:], 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            order.append(b)
            n += 1
    return out, order


class Tokenizer:
    def __init__(self, merges=configs.MERGES, length=configs.LENGTH):
        lines = [l for l in gzip.open(MERGES).read().decode().split('\n') if l and not l.startswith('"bpe') and not l.startswith('#version')]
        self.merges = [tuple(l.split()) for l in lines[:merges]]
        self.bytes, order = byte_symbols()
        base = [self.bytes[b] for b in order]
        tokens = base + [c + '</w>' for c in base] + [''.join(m) for m in self.merges] + ['<|startoftext|>', '<|endoftext|>']
        self.vocab = {t: i for i, t in enumerate(tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.start, self.end, self.length, self.cache = len(tokens) - 2, len(tokens) - 1, length, {}

    def word(self, word):
        if word not in self.cache:
            w = [self.bytes[b] for b in word.encode()]
            w[-1] += '</w>'
            while len(w) > 1:
                best = min(zip(w, w[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                if best not in self.rank:
                    break
                out, j = [], 0
                while j < len(w):
                    both = j + 1 < len(w) and (w[j], w[j + 1]) == best
                    out.append(w[j] + w[j + 1] if both else w[j])
                    j += 2 if both else 1
                w = out
            self.cache[word] = [self.vocab[t] for t in w]
        return self.cache[word]

    def __call__(self, text):
        """Ids, cut and padded to the model's length."""
        text = regex.sub(r'\s+', ' ', html.unescape(html.unescape(text))).strip().lower()
        ids = [t for w in WORD.findall(text) for t in self.word(w)][:self.length - 2]
        return [self.start] + ids + [self.end] * (self.length - 1 - len(ids))

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)
        json.dump(self.vocab, open(f'{folder}/vocab.json', 'w'), ensure_ascii=False)
        open(f'{folder}/merges.txt', 'w').write('#version: 0.2\n' + '\n'.join(' '.join(m) for m in self.merges) + '\n')
        special = lambda s: {'content': s, 'lstrip': False, 'normalized': True, 'rstrip': False, 'single_word': False}
        ends = {'bos_token': special('<|startoftext|>'), 'eos_token': special('<|endoftext|>'), 'pad_token': '<|endoftext|>', 'unk_token': special('<|endoftext|>')}
        json.dump(dict(ends, add_prefix_space=False, do_lower_case=True, errors='replace', model_max_length=self.length, tokenizer_class='CLIPTokenizer'),
                  open(f'{folder}/tokenizer_config.json', 'w'), indent=2)
        json.dump(ends, open(f'{folder}/special_tokens_map.json', 'w'), indent=2)
