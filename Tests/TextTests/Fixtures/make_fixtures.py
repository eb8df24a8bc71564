"""Writes the golden file of TextTests: what transformers 5 gives for many odd texts, and the tokenizers it used.

Usage: python make_fixtures.py   (transformers 5.23, sentencepiece 0.2)

Tokenizer folders made here:
  released/    spiece.model, tokenizer_config.json (added_tokens_decoder), special_tokens_map.json, added_tokens.json:
               the layout of the released CogVideoX checkpoints, with a vocabulary of a few hundred pieces
  saved/       tokenizer.json and tokenizer_config.json alone: what transformers 5 writes for the same model
  plain/       tokenizer.json without a character map, extra ids or special flags
The demo checkpoint's folder is used as it is ("demo") and with spiece.model alone ("demo-spiece").
"""

import contextlib
import json
import pathlib
import random
import shutil
import tempfile

import sentencepiece
from transformers import T5Tokenizer

FOLDER = pathlib.Path(__file__).parent
DEMO = FOLDER.parents[2] / "Shared/DemoModel/cogvideox-demo/tokenizer"
WORDS = """
The sun rises over green hills while a red fox walks through the tall grass and waves break on the shore at night.
A panda plays a guitar in a bamboo forest; its fur shines in the golden light of the setting sun, 1080p, 16:9, "cinematic".
Snow falls on a quiet village. Children throw snowballs, laugh, and run. Smoke drifts from chimneys into the pale sky!
An astronaut rides a horse across the moon's surface - dust rises slowly (low gravity), Earth hangs blue & white above?
Ein Zug fährt über die Brücke. Une fille mange une crème brûlée à Paris. El niño corre rápido. Привет мир. Γειά σου Κόσμε.
猫が走る。 孩子们在雪地里玩耍。 한국어 문장입니다. שלום עולם مرحبا بالعالم नमस्ते दुनिया
""".strip().splitlines()
TEXTS = [
    "", " ", "   \t\n ", "\n", "a", "a ", " a", "a sun rises over hills", "a  sun\n\nrises\t over\u00a0hills\u3000now",
    "The quick brown fox jumps over the lazy dog.", "A PANDA, playing: guitar!?", "1080p 16:9 3.14159 1,000,000 x²",
    "ﬁne ﬂow ＡＢＣ１２３ ①②③ Ⅷ ½ ㎏ ℡ ™", "＜/s＞ ＜extra_id_0＞ ＜unk＞＜pad＞ x＜unk＞y", "e\u0301 é E\u0301\u0302 n\u0303 ñ a\u0308\u0304 ǟ",
    "x\u200by\u200cz\u200dw\ufeffv\u2060u\u00adt", "a\u0000b\u0001c\u0007d\u001be\u007ff\u0080g\u0085h", "\u200b", "\u200b \u200b", "\u0000",
    "▁", "▁▁", "▁a▁▁b▁", "a▁b", "_a_", "日本語の文章です。", "孩子们在雪地里玩耍", "한국어 문장", "ㄱㅏ ㅎㅏㄴ \u1112\u1161\u11ab",
    "שָׁלוֹם עוֹלָם", "مَرْحَبًا", "नमस्ते दुनिया क्षत्रिय", "ภาษาไทย กำลัง", "😀😃 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ☀️ ❤️‍🔥 1️⃣", "a😀b 😀", "ﷺ ﷽ ㍿ ㌀",
    "Z̶̧͉a̷̛l̵g̸o̴ ̷t̶e̸x̵t̴", "ＦＵＬＬ　ＷＩＤＴＨ　ｔｅｘｔ　ｶﾀｶﾅ ｶﾞ", "“quotes” ‘single’ «guillemets» — – … • ′ ″", "ß ẞ ı İ ſ ŉ ǆ K Å Ω",
    "</s>", "</s></s>", "a</s>b", " </s> a", "a </s> b", "<pad>a<unk> b", "<unk>", "<unk><unk>", "x<unk>y", "<extra_id_0>", "<extra_id_1> and <extra_id_99>",
    "a <extra_id_0> b<extra_id_1>c  <extra_id_2>  ", "<extra_id_100> <extra_id_> <extra_id_007>", "< / s >", "<s> <S>", "</s", "<extra_id_0", "<<extra_id_0>>",
    "a\r\nb\rc\u2028d\u2029e\u000bf\u000cg", "tab\tseparated\tvalues", "\u2003em\u2002en\u2009thin\u202fnarrow\u205fmath\u1680ogham", "a\u0301\u0301\u0301\u0301",
    "\u0301leading mark", "\u00b4 \u00a8 \u00af \u00b8", "http://example.com/?q=1&r=%20#x", "C:\\path\\to \\n \\u0041", "a" * 50, "ab" * 120, "🂡" * 20,
    "word " * 60, ("A long prompt about hills, waves and the sun. " * 12).strip(), "ｗｏｒｄ" * 40 + " tail</s>", "\U0001d400\U0001d56c \U0001f130 \U0002f800",
    "\u0958 \u09dc \u0a33 \ufb1d \ufb2c \u2adc \u0f43", "\u1e9b\u0323 q\u0307\u0323", "\uffff \ufffd \U0010ffff", "\ue000 \U000f0000", "ﾞ ﾟ ﾡ ￠ ￦",
]
LIMITS = [1, 2, 8, 32, 226]


def texts():
    rng = random.Random(1)
    pool = list(" \t\n▁abcdeStuvwxyz.,!?<>/_0123456789éñüßøﬁ①Ａａ½\u0301\u0308\u200b\u200d\u00a0\u3000\u0000\u001f日本한猫😀👍🏽🇩🇪ﷺ㎏กำक्षि\u1112\u1161\u11ab")
    pieces = pool + ["the ", "sun ", "hills ", "</s>", "<extra_id_3>", "<unk>", "<pad>", "\r\n"]
    return TEXTS + ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 40))) for _ in range(150)]


def train(folder):
    # The model file records these paths, so they are relative.
    with contextlib.chdir(folder):
        pathlib.Path("corpus.txt").write_text("\n".join(WORDS * 3), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input="corpus.txt", model_prefix="spiece", vocab_size=420, model_type="unigram",
            normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98,
            hard_vocab_limit=False, num_threads=1, minloglevel=2)
    return folder / "spiece.model"


def released(folder, model):
    """The four files that ship with the released checkpoints."""
    folder.mkdir(exist_ok=True)
    shutil.copy(model, folder / "spiece.model")
    processor = sentencepiece.SentencePieceProcessor(str(model))
    count = processor.get_piece_size()
    names = ["<pad>", "</s>", "<unk>"]
    decoder = {
        str(i): dict(content=n, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
        for i, n in enumerate(names)}
    for n in range(99, -1, -1):
        decoder[str(count + 99 - n)] = dict(
            content=f"<extra_id_{n}>", lstrip=True, normalized=False, rstrip=True, single_word=False, special=True)
    extra = [f"<extra_id_{n}>" for n in range(100)]
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        added_tokens_decoder=decoder, additional_special_tokens=extra, clean_up_tokenization_spaces=True,
        eos_token="</s>", extra_ids=100, legacy=True, model_max_length=226, pad_token="<pad>", sp_model_kwargs={},
        tokenizer_class="T5Tokenizer", unk_token="<unk>"), indent=1) + "\n")
    added = {f"<extra_id_{n}>": count + 99 - n for n in range(100)}
    (folder / "added_tokens.json").write_text(json.dumps(added) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(dict(
        additional_special_tokens=extra, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")) + "\n")


def plain(folder):
    folder.mkdir(exist_ok=True)
    vocab = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.5]]
    vocab += [[c, -4.0 - 0.01 * i] for i, c in enumerate("abcdefghijklmnopqrstuvwxyzéÉA")]
    vocab += [[p, s] for p, s in (
        ("▁the", -3.0), ("▁sun", -3.5), ("▁▁", -1.0), ("ing", -3.2), ("▁a", -2.75), ("e\u0301", -5.0))]
    (folder / "tokenizer.json").write_text(json.dumps(dict(
        version="1.0", truncation=None, padding=None, added_tokens=[
            dict(id=0, content="<pad>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True),
            dict(id=1, content="</s>", single_word=False, lstrip=False, rstrip=True, normalized=False, special=True),
            dict(id=60, content="sun", single_word=True, lstrip=False, rstrip=False, normalized=True, special=False),
        ], normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None,
        model=dict(type="Unigram", unk_id=2, vocab=vocab, byte_fallback=False)), ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(tokenizer_class="T5Tokenizer", extra_ids=3)) + "\n")


def golden(folder, all_texts):
    tokenizer = T5Tokenizer.from_pretrained(folder)
    rows = []
    for text in all_texts:
        whole = tokenizer(text, padding="longest", return_tensors="np").input_ids[0].tolist()
        row = dict(text=text, ids=whole, decoded=tokenizer.batch_decode([whole])[0])
        for limit in LIMITS:
            if len(whole) > limit:
                cut = tokenizer(text, padding="max_length", max_length=limit, truncation=True).input_ids
                row.setdefault("cuts", []).append(
                    dict(limit=limit, ids=cut, removed=tokenizer.batch_decode([whole[limit - 1:-1]])[0]))
                break
        rows.append(row)
    return dict(padding=tokenizer.pad_token_id, count=len(tokenizer), rows=rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        released(FOLDER / "released", train(temporary))
        T5Tokenizer.from_pretrained(FOLDER / "released").save_pretrained(FOLDER / "saved")
        plain(FOLDER / "plain")
        spiece = temporary / "demo-spiece"
        spiece.mkdir()
        for name in ("spiece.model", "tokenizer_config.json"):
            shutil.copy(DEMO / name, spiece / name)
        folders = {name: FOLDER / name for name in ("released", "saved", "plain")}
        folders |= {"demo": DEMO, "demo-spiece": spiece}
        result = {name: golden(folder, texts()) for name, folder in folders.items()}
    (FOLDER / "golden.json").write_text(json.dumps(result, ensure_ascii=True, separators=(",", ":")) + "\n")
