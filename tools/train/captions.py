"""What is said of a picture. Plain captions ("a red apple") belong to the house style, all other styles are named, so that a plain prompt has one answer."""
import re
import data

HOUSE = 'fluent flat'
ALSO = {    # names that people type for what Unicode calls otherwise
    'automobile': ['car', 'red car'], 'hot beverage': ['coffee', 'cup of coffee', 'cup of tea'], 'mobile phone': ['phone', 'smartphone'], 'red heart': ['heart'],
    'deciduous tree': ['tree'], 'evergreen tree': ['pine tree', 'fir tree'], 'closed book': ['book', 'red book'], 'laptop': ['computer', 'notebook computer'],
    'french fries': ['fries', 'chips'], 'hamburger': ['burger'], 'doughnut': ['donut'], 'honeybee': ['bee'], 'lady beetle': ['ladybug', 'ladybird'], 'baby chick': ['chick'],
    'shortcake': ['cake', 'piece of cake'], 'wrapped gift': ['gift', 'present'], 'high voltage': ['lightning bolt', 'lightning'], 'droplet': ['water drop', 'drop of water'],
    'smiling face with sunglasses': ['cool face'], 'smiling face': ['smiley'], 'slightly smiling face': ['smile', 'smiley face'], 'pile of poo': ['poo', 'poop'],
    'ringed planet': ['planet', 'saturn'], 'soccer ball': ['football ball', 'soccer'], 'sport utility vehicle': ['suv', 'blue car'], 'taxi': ['yellow car'], 'delivery truck': ['truck', 'van'],
    'locomotive': ['steam train'], 'flying saucer': ['ufo', 'spaceship'], 'magnifying glass tilted left': ['magnifying glass'], 'locked': ['lock', 'padlock'],
    'fire engine': ['fire truck'], 'horizontal traffic light': ['traffic light'], 'twelve o’clock': ['clock'], 'studio microphone': ['microphone on a stand'],
    'musical keyboard': ['piano', 'piano keys'], 'long drum': ['conga'], 'potted plant': ['plant', 'plant in a pot'], 'crescent moon': ['moon'], 'sauropod': ['dinosaur'],
    'T-Rex': ['tyrannosaurus'], 'bell': ['golden bell'], 'star': ['yellow star'], 'fire': ['flame'], 'hibiscus': ['red flower'], 'blossom': ['flower', 'yellow flower'],
    'artist palette': ['palette', 'paint palette'], 'clinking beer mugs': ['beer'], 'cut of meat': ['steak', 'meat'], 'glass of milk': ['milk'], 'cup with straw': ['soda', 'soft drink'],
    'tropical fish': ['yellow fish'], 'house with garden': ['home'], 'basketball': ['basket ball'], 'green salad': ['salad'], 'high-heeled shoe': ['red shoe', 'high heel'],
    'running shoe': ['sneaker', 'shoe'], 't-shirt': ['shirt', 'blue shirt'], 'jeans': ['trousers', 'blue jeans'], 'passenger ship': ['ocean liner'],
}


def article(text):
    first = text.split()[0] if text.split() else ''
    plural = re.search(r'[^su]s$', first) or re.search(r'[^su]s$', text)
    return text if plural or first in ('a', 'an', 'the') else f"{'an' if re.match(r'[aeio]|um|up|u[a-z]l', text) else 'a'} {text}"


def of(row):
    """[(caption, weight)] of one picture."""
    name = data.plain(row['caption'] or row['name'])
    out = []
    names = [(name, 1.0)] + [(n, 0.7) for n in ALSO.get(row['name'], [])]
    total = sum(w for _, w in names)
    styled = row['style'] + ' style'
    for n, w in names:
        w /= total
        if row['style'] == HOUSE:
            out += [(n, 0.35 * w), (article(n), 0.35 * w), (f'{article(n)}, {styled}', 0.06 * w), (f'{n}, {styled}', 0.06 * w), (f'a picture of {article(n)}', 0.06 * w)]
        else:
            out += [(f'{n}, {styled}', 0.44 * w), (f'{article(n)}, {styled}', 0.44 * w)]
    keywords = [data.plain(k) for k in row['keywords'] or [] if data.plain(k) != name][:6]
    for k in keywords:
        out.append((f'{name}, {k}' if row['style'] == HOUSE else f'{name}, {k}, {styled}', 0.12 / len(keywords)))
    return out


def weight(row):
    """How often a picture is shown, beside others of its style: less of what nobody asks for by name."""
    if row['group'] in ('People & Body', 'Flags'):
        return 0.3
    if row['group'] == 'Symbols':
        plain = re.search(r'circle|square|arrow|triangle|mark|plus|minus|multiply|infinity|peace|recycling|check', row['name']) and 'button' not in row['name']
        return 0.5 if plain else 0.1
    if re.search(r'o’clock|-thirty|mailbox|moon$|Japanese|banknote|mahjong|suit$|flower playing|chart|shrine|tanabata|ledger|cabinet|dividers', row['name']):
        return 0.3 if row['name'] not in ('full moon', 'crescent moon') else 1.0
    if row['group'] == 'Smileys & Emotion':
        return 0.6
    return 1.0
