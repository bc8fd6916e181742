"""Writes `tokenizers.json`: ids of BERT's `vocab.txt`, and pairs of texts, from Hugging Face's transformers.

Needs torch and transformers (made with torch 2.15, transformers 5.24). Run without arguments; `bert/` is an input, and
`bert_vocab/vocab.txt`, and `byte_bpe/vocab.json` and `merges.txt` after `qwen3/tokenizer.json`, are written too.
"""

import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer, BertTokenizer

HERE = Path(__file__).parent

CHARACTERS = "的高血压患者能吃党参吗头痛怎么办发烧感冒，。？！ａabcdeéèüßnñoöstıİ0123456789.,-()/%℃"
WORDS = ["Fever", "fever", "FEVER", "cafe", "café", "##ing", "##er", "头痛", "##痛", "über", "uber", "ﬁ", "##[SEP]"]

TEXTS = [
    "",
    "高血压患者能吃党参吗？",
    "头痛 怎么办,fever 38.5℃",
    "Fever FEVER fevering cafe CAFÉ Café café",
    "über Über ÜBER ueber",
    "İstanbul ıİ ß ẞ ﬁ",
    "a\u0301b\u0308 n\u0303",
    "a\u00a0b\u3000c\td\ne\r\nf\u200bg\ufeffh\x00i\x7fj\u001fk",
    "[CLS] a [SEP] b [MASK] c [PAD] d [UNK] [X1] cls [sep]",
    "頭痛𠀀㐀豈あいう한국어",
    "b" * 101 + " " + "b" * 100,
    "（１２３）ａｂｃ",
    "e" * 40,
]

SETTINGS = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
    {"do_lower_case": False, "cls_token": "[X1]", "sep_token": {"__type": "AddedToken", "content": "[X2]"}},
]

PAIRS = [
    ["Aspirin", "used for pain and fever"],
    ["头痛", "头痛先休息"],
    ["", "多喝水"],
    ["感冒", ""],
    ["高血压患者能吃党参吗" * 4, "头痛"],
    ["头痛", "高血压患者能吃党参吗" * 8],
    ["高血压患者能吃党参吗" * 8, "high blood pressure " * 20],
]


BYTE_BPE_TEXTS = [
    "", "高血压患者能吃党参吗？", " lead", "a  b\n\n c\t", "It's 38.5℃ I'LL", "e\u0301 é", "12345", "头痛 怎么办,fever",
    "x <s> y</s><mask>  z <|endoftext|><|im_start|><|im_start|> <pad>",
]
IM_START = {"content": "<|im_start|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
BYTE_BPE_SETTINGS = [
    {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "added_tokens_decoder": {"323": IM_START}},
    {"tokenizer_class": "Qwen2TokenizerFast", "add_prefix_space": True},
    {"tokenizer_class": "GPT2Tokenizer"},
    {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "pad_token": "<pad>"},
    {"tokenizer_class": "RobertaTokenizer"},
    {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True,
     "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}},
    {},
]


def byte_bpe():
    model = json.loads((HERE / "qwen3" / "tokenizer.json").read_text())["model"]
    vocab = dict(model["vocab"])
    for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    folder = HERE / "byte_bpe"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(merge + "\n" for merge in merges))
    golden = []
    for settings in BYTE_BPE_SETTINGS:
        with tempfile.TemporaryDirectory() as place:
            for file in ("vocab.json", "merges.txt"):
                (Path(place) / file).write_text((folder / file).read_text())
            # transformers takes the class of a model type that it knows, whatever the settings name.
            kind = settings.get("tokenizer_class", "Qwen2").split("Tokenizer")[0].lower()
            (Path(place) / "config.json").write_text(json.dumps({"model_type": kind}))
            (Path(place) / "tokenizer_config.json").write_text(json.dumps(settings))
            tokenizer = AutoTokenizer.from_pretrained(place)
            pair = tokenizer("头痛", "fever")["input_ids"]
            golden.append({"settings": settings, "ids": [tokenizer(text)["input_ids"] for text in BYTE_BPE_TEXTS], "pair": pair})
    return {"texts": BYTE_BPE_TEXTS, "kinds": golden}


def vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[X1]", "[X2]", "twice", ""]
    for character in CHARACTERS:
        tokens += [character, "##" + character]
    tokens += WORDS + ["twice"]
    return [token for at, token in enumerate(tokens) if token == "twice" or token not in tokens[:at]]


def with_settings(text, settings):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text(text, newline="")
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
        tokenizer = BertTokenizer.from_pretrained(folder)
        return [tokenizer(text, truncation=True, max_length=64)["input_ids"] for text in TEXTS]


def main():
    text = "".join(token + "\n" for token in vocabulary())
    (HERE / "bert_vocab").mkdir(exist_ok=True)
    (HERE / "bert_vocab" / "vocab.txt").write_text(text, newline="")
    golden = {"texts": TEXTS, "vocab": [{"settings": one, "ids": with_settings(text, one)} for one in SETTINGS]}

    golden["byte_bpe"] = byte_bpe()
    tokenizer = AutoTokenizer.from_pretrained(HERE / "bert")
    model = AutoModel.from_pretrained(HERE / "bert").eval()
    golden["pairs"] = {"texts": PAIRS, "by_length": []}
    for side, max_length in [("right", 64), ("right", 12), ("left", 13), ("right", 5)]:
        tokenizer.truncation_side = side
        one = {"side": side, "max_length": max_length, "ids": [], "cls": []}
        for title, text in PAIRS:
            # A list of pairs, as MedCPT is used: an empty text is a segment too.
            batch = tokenizer([[title, text]], truncation=True, max_length=max_length, return_tensors="pt")
            one["ids"].append(batch["input_ids"][0].tolist())
            if side == "left" or max_length == 5:
                continue
            with torch.no_grad():
                state = model(**batch).last_hidden_state[0, 0]
            one["cls"].append([float(f"{x:.7g}") for x in torch.nn.functional.normalize(state, dim=-1).tolist()])
        golden["pairs"]["by_length"].append(one)
    (HERE / "tokenizers.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
