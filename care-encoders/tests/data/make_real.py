#!/usr/bin/env python3
"""Makes real/: tiny checkpoints in the exact form of published models, and the vectors that Python computes with them.

    pip install torch transformers sentence-transformers safetensors sentencepiece protobuf
    python3 make_real.py            (made with torch 2.15, transformers 5.24, sentence-transformers 6.2)

Each folder has the files of the published repository: config.json with its keys, modules.json, pooling, Dense,
sentence_bert_config.json, config_sentence_transformers.json, the tokenizer's files and its settings, and the tensors
under the published names and dtype, as safetensors or as pytorch_model.bin. Only sizes and vocabularies are cut, and
weights are random (seeded).

expected.json of a folder: {"query", "document"}: the L2-normalised vectors of TEXTS by `encode_query` and
`encode_document` of sentence-transformers, with no option given. A model whose published code differs from the
transformers class of its `model_type` is computed on a copy in which that difference is spelled out (`twin`).
REFUSED models have no expected.json: the test knows their message.
"""
import base64
import functools
import json
import os
import shutil
import tempfile

import torch
import sentencepiece
import transformers as hf
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentencepiece import sentencepiece_model_pb2

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = os.path.join(HERE, "real")
TEXTS = [
    "高血压患者能吃党参吗？",
    "Aspirin 100mg，每天一次，饭后服用。",
    "头痛发烧三天，吃什么药好得快？体温38.5度。\n血常规正常，没有咳嗽。",
]
SECOND_HALF = "糖尿病病人的饮食要注意哪些问题，平时应该怎么护理，能不能运动，会不会传给孩子？"


def write(folder, name, content):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if isinstance(content, str):
            file.write(content)
        else:
            json.dump(content, file, ensure_ascii=False, indent=1)


def fill(model, seed):
    """Random weights, in order of names; norms and biases too, so that none can be missed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                weight.copy_((0 if "Gemma" in type(model).__name__ else 1) + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(0.25 * noise)
    return model.eval()


# Tokenizers

def load_tokenizer(name):
    with open(os.path.join(HERE, name, "tokenizer.json"), encoding="utf-8") as file:
        return json.load(file)


def word_piece():
    """BERT's, with the Latin letters."""
    content = load_tokenizer("bert")
    vocab = content["model"]["vocab"]
    for letter in "abcdefghijklmnopqrstuvwxyz":
        for piece in (letter, "##" + letter):
            vocab.setdefault(piece, len(vocab))
    return content


BERT_SETTINGS = {
    "cls_token": "[CLS]", "do_basic_tokenize": True, "do_lower_case": True, "mask_token": "[MASK]",
    "model_max_length": 1000000000000000019884624838656, "never_split": None, "pad_token": "[PAD]",
    "sep_token": "[SEP]", "strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}
XLMR_SETTINGS = {
    "bos_token": "<s>", "clean_up_tokenization_spaces": True, "cls_token": "<s>", "eos_token": "</s>",
    "mask_token": "<mask>", "model_max_length": 512, "pad_token": "<pad>", "sep_token": "</s>",
    "tokenizer_class": "XLMRobertaTokenizer", "unk_token": "<unk>",
}
QWEN_SETTINGS = {
    "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>",
    "errors": "replace", "model_max_length": 131072, "pad_token": "<|endoftext|>", "padding_side": "left",
    "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
}


def bert_tokenizer(folder, files=("json", "txt"), **settings):
    content = word_piece()
    if settings.get("do_lower_case", True) is False:
        content["normalizer"]["lowercase"] = False
    for key in ("truncation", "padding"):
        content[key] = settings.pop(key, None)
    if "json" in files:
        write(folder, "tokenizer.json", content)
    if "txt" in files:
        vocab = content["model"]["vocab"]
        write(folder, "vocab.txt", "".join(token + "\n" for token in sorted(vocab, key=vocab.get)))
    write(folder, "tokenizer_config.json", {**BERT_SETTINGS, **settings})
    write(folder, "special_tokens_map.json", {key: BERT_SETTINGS[key] for key in BERT_SETTINGS if key.endswith("_token")})
    return len(content["model"]["vocab"])


@functools.cache
def charsmap():
    """A normaliser as sentencepiece compiles it, of a few rules of NFKC: full width, units, U+3000."""
    rules = {chr(0xFF01 + offset): chr(0x21 + offset) for offset in range(94)}
    rules.update({"\u3000": " ", "㎎": "mg", "℃": "°C", "①": "1"})
    with tempfile.TemporaryDirectory() as place:
        lines = (" ".join(f"{ord(c):X}" for c in old) + "\t" + " ".join(f"{ord(c):X}" for c in new) for old, new in sorted(rules.items()))
        write(place, "rules.tsv", "\n".join(lines) + "\n")
        write(place, "text.txt", "\n".join([*TEXTS, SECOND_HALF] * 20))
        sentencepiece.SentencePieceTrainer.train(
            input=os.path.join(place, "text.txt"), model_prefix=os.path.join(place, "m"), vocab_size=90,
            normalization_rule_tsv=os.path.join(place, "rules.tsv"), hard_vocab_limit=False, minloglevel=2, num_threads=1)
        model = sentencepiece_model_pb2.ModelProto()
        with open(os.path.join(place, "m.model"), "rb") as file:
            model.ParseFromString(file.read())
        return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def xlmr_tokenizer(folder, **settings):
    content = load_tokenizer("gte_new")
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap()}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, content["pre_tokenizer"]]}
    write(folder, "tokenizer.json", content)
    write(folder, "tokenizer_config.json", {**XLMR_SETTINGS, **settings})
    return len(content["model"]["vocab"])


def qwen_tokenizer(folder, terminal=True, **settings):
    content = load_tokenizer("qwen3")
    if not terminal:
        content["post_processor"] = content["post_processor"]["processors"][0]
    write(folder, "tokenizer.json", content)
    write(folder, "tokenizer_config.json", {**QWEN_SETTINGS, **settings})
    return 320


# Networks

def save_network(folder, model, published, prefix="", drop=(), rename=None, dtype=None, extra=None, form="safetensors"):
    """Tensors as published, and config.json with the published keys in the place of what transformers 5 writes."""
    state = {f"{prefix}{name}": weight for name, weight in model.state_dict().items() if not name.startswith(tuple(drop) or ("\0",))}
    if rename:
        state = {rename(name): weight for name, weight in state.items()}
    if dtype:
        state = {name: weight.to(dtype) if weight.is_floating_point() else weight for name, weight in state.items()}
    state = {name: weight.contiguous().clone() for name, weight in {**state, **(extra or {})}.items()}
    if form == "safetensors":
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    else:
        torch.save(state, os.path.join(folder, "pytorch_model.bin"))
    write(folder, "config.json", published)


def bert_config(vocab, dim=16, layers=2, heads=2, positions=64, **changes):
    return {
        "_name_or_path": "published", "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None, "directionality": "bidi", "gradient_checkpointing": False, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": dim, "id2label": {"0": "LABEL_0"}, "initializer_range": 0.02,
        "intermediate_size": 2 * dim, "label2id": {"LABEL_0": 0}, "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions, "model_type": "bert", "num_attention_heads": heads,
        "num_hidden_layers": layers, "output_past": True, "pad_token_id": 0, "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform", "position_embedding_type": "absolute", "torch_dtype": "float32",
        "transformers_version": "4.30.0", "type_vocab_size": 2, "use_cache": True, "vocab_size": vocab, **changes,
    }


def bert(folder, seed, published, **saving):
    model = fill(hf.BertModel(hf.BertConfig(**{key: value for key, value in published.items() if key != "model_type"})), seed)
    save_network(folder, model, published, **saving)


def xlmr(folder, seed, vocab, dim=16, layers=2, positions=66, published=None, **saving):
    published = {
        "architectures": ["XLMRobertaModel"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
        "classifier_dropout": None, "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": dim, "initializer_range": 0.02, "intermediate_size": 2 * dim, "layer_norm_eps": 1e-05,
        "max_position_embeddings": positions, "model_type": "xlm-roberta", "num_attention_heads": 2,
        "num_hidden_layers": layers, "output_past": True, "pad_token_id": 1, "position_embedding_type": "absolute",
        "torch_dtype": "float32", "transformers_version": "4.33.0", "type_vocab_size": 1, "use_cache": True,
        "vocab_size": vocab, **(published or {}),
    }
    config = hf.XLMRobertaConfig(**{key: value for key, value in published.items() if key != "model_type"})
    save_network(folder, fill(hf.XLMRobertaModel(config), seed), published, **saving)


def qwen(folder, seed, kind="qwen2", dim=16, layers=2, published=None, dtype=None, **saving):
    published = {
        "architectures": [{"qwen2": "Qwen2Model", "qwen3": "Qwen3ForCausalLM"}[kind]], "attention_dropout": 0.0,
        "bos_token_id": 317, "eos_token_id": 317, "hidden_act": "silu", "hidden_size": dim, "initializer_range": 0.02,
        "intermediate_size": 2 * dim, "max_position_embeddings": 512, "max_window_layers": 21, "model_type": kind,
        "num_attention_heads": 2, "num_hidden_layers": layers, "num_key_value_heads": 1, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "float32",
        "transformers_version": "4.41.2", "use_cache": True, "use_sliding_window": False, "vocab_size": 320,
        **({"head_dim": 16, "attention_bias": False, "rope_scaling": None} if kind == "qwen3" else {}), **(published or {}),
    }
    config_class, model_class = {"qwen2": (hf.Qwen2Config, hf.Qwen2Model), "qwen3": (hf.Qwen3Config, hf.Qwen3Model)}[kind]
    known = {key: value for key, value in published.items() if key not in ("model_type", "auto_map", "rope_theta", "rope_scaling")}
    config = config_class(**known, rope_parameters={"rope_type": "default", "rope_theta": published["rope_theta"]})
    save_network(folder, fill(model_class(config), seed), published, dtype=dtype, **saving)


# The files of sentence-transformers

OLD = "sentence_transformers.models."


def modules(folder, *chain, pooling, dim, max_length=None, lower=None, about=None, pool_extra=None, dtype=None):
    """modules.json and what it names. `chain`: kinds of the modules; "Dense:OUT:ACTIVATION:BIAS" for a Dense."""
    entries, width = [], dim
    for index, kind in enumerate(chain):
        name, *arguments = kind.split(":")
        path = "" if name == "Transformer" else f"{index}_{name}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": OLD + name})
        if name == "Pooling":
            flags = {
                "word_embedding_dimension": width, "pooling_mode_cls_token": pooling == "cls",
                "pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False, **(pool_extra or {}),
            }
            if pooling == "lasttoken":
                flags.update({"pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": True, "include_prompt": True})
            write(folder, f"{path}/config.json", flags)
        elif name == "Dense":
            out, activation, bias = int(arguments[0]), arguments[1], arguments[2] == "bias"
            form = arguments[3] if len(arguments) > 3 else "safetensors"
            write(folder, f"{path}/config.json", {
                "in_features": width, "out_features": out, "bias": bias,
                "activation_function": f"torch.nn.modules.{activation}",
            })
            generator = torch.Generator().manual_seed(1000 + index)
            state = {"linear.weight": 0.3 * torch.randn(out, width, generator=generator)}
            if bias:
                state["linear.bias"] = 0.1 * torch.randn(out, generator=generator)
            state = {key: weight.to(dtype or torch.float32) for key, weight in state.items()}
            if form == "safetensors":
                save_file(state, os.path.join(folder, path, "model.safetensors"))
            else:
                torch.save(state, os.path.join(folder, path, "pytorch_model.bin"))
            width = out
    write(folder, "modules.json", entries)
    if max_length is not None:
        write(folder, "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": bool(lower)})
    if about is not None:
        versions = {"sentence_transformers": "2.2.2", "transformers": "4.28.1", "pytorch": "1.13.0+cu117"}
        write(folder, "config_sentence_transformers.json", {"__version__": versions, **about})


IDENTITY, TANH = "linear.Identity", "activation.Tanh"


def bert_family(name, seed, chain, pooling, dim=16, layers=2, lower=False, max_length=48, about=None, files=("json", "txt"),
                saving=None, config=None, tokenizer=None):
    folder = os.path.join(REAL, name)
    os.makedirs(folder)
    vocab = bert_tokenizer(folder, files, **(tokenizer or {}))
    bert(folder, seed, bert_config(vocab, dim, layers, **(config or {})), **(saving or {}))
    if chain:
        modules(folder, *chain, pooling=pooling, dim=dim, max_length=max_length, lower=lower, about=about, dtype=(saving or {}).get("dtype"))


def xlmr_family(name, seed, chain, pooling, max_length=48, about=None, saving=None, kind="xlmr", **sizes):
    folder = os.path.join(REAL, name)
    os.makedirs(folder)
    vocab = xlmr_tokenizer(folder, **sizes.pop("tokenizer", {}))
    if kind == "bert":
        bert(folder, seed, bert_config(vocab, **sizes), **(saving or {}))
    else:
        xlmr(folder, seed, vocab, **sizes, **(saving or {}))
    modules(folder, *chain, pooling=pooling, dim=sizes.get("dim", 16), max_length=max_length, about=about)


def qwen_family(name, seed, chain, pooling, terminal=True, max_length=512, about=None, tokenizer=None, **network):
    folder = os.path.join(REAL, name)
    os.makedirs(folder)
    qwen_tokenizer(folder, terminal, **(tokenizer or {}))
    dim = network.get("dim", 16)
    qwen(folder, seed, **network)
    modules(folder, *chain, pooling=pooling, dim=dim, max_length=max_length, about=about)


T, P, N = "Transformer", "Pooling", "Normalize"
INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def chinese():
    versions = {}
    for seed, (name, layers) in enumerate([("bge-small-zh-v1.5", 1), ("bge-base-zh-v1.5", 2), ("bge-large-zh-v1.5", 3)]):
        bert_family(name, seed + 1, (T, P, N), "cls", layers=layers, lower=True, about=versions)
    bert_family("bge-base-en-v1.5", 4, (T, P, N), "cls", lower=True, about=versions, files=("json",))
    # Dense to 1,792 dimensions, here to 24.
    bert_family("Conan-embedding-v1", 5, (T, P, f"Dense:24:{IDENTITY}:bias"), "mean", about=versions)
    bert_family("stella-mrl-large-zh-v3.5-1792d", 6, (T, P, f"Dense:24:{IDENTITY}:bias:bin"), "mean", about=versions,
                saving={"dtype": torch.float16}, config={"torch_dtype": "float16"})
    bert_family("xiaobu-embedding-v2", 7, (T, P, f"Dense:24:{IDENTITY}:bias", N), "mean", about=versions,
                saving={"form": "bin"})
    bert_family("acge_text_embedding", 8, (T, P, f"Dense:24:{IDENTITY}:bias"), "mean", about=versions)
    bert_family("m3e-base", 9, (T, P), "mean", about=versions)
    bert_family("text2vec-base-chinese", 10, (T, P), "mean", files=("txt",), saving={"form": "bin"},
                tokenizer={"do_lower_case": True})
    bert_family("gte-large-zh", 11, (T, P, N), "mean", about=versions, saving={"dtype": torch.float16},
                config={"torch_dtype": "float16"})


def plain():
    """Checkpoints of masked language models, without any file of sentence-transformers."""
    def masked(name, seed, form="safetensors", older=False, files=("json", "txt"), **tokenizer):
        folder = os.path.join(REAL, name)
        os.makedirs(folder)
        vocab = bert_tokenizer(folder, files, **tokenizer)
        published = bert_config(vocab, architectures=["BertForMaskedLM"])
        for key in ("position_embedding_type", "torch_dtype", "classifier_dropout"):
            published.pop(key)
        config = hf.BertConfig(**{key: value for key, value in published.items() if key != "model_type"})
        model = fill(hf.BertForMaskedLM(config), seed)
        pooler = {"bert.pooler.dense.weight": torch.zeros(16, 16), "bert.pooler.dense.bias": torch.zeros(16)}
        seq = {"cls.seq_relationship.weight": torch.zeros(2, 16), "cls.seq_relationship.bias": torch.zeros(2)}
        def old_names(text):
            if not older:
                return text
            return text.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        buffers = {"bert.embeddings.position_ids": torch.arange(64)[None]} if older else {}
        save_network(folder, model, published, rename=old_names, extra={**pooler, **seq, **buffers}, form=form)

    masked("chinese-roberta-wwm-ext", 20, form="bin", older=True)
    masked("chinese-macbert-base", 21, form="bin", older=True)
    masked("BiomedNLP-PubMedBERT-base-uncased-abstract", 22, form="bin", files=("txt",), model_max_length=512)
    for seed, name in ((23, "MedCPT-Query-Encoder"), (24, "MedCPT-Article-Encoder")):
        bert_family(name, seed, None, None, saving={"form": "bin"}, files=("json", "txt"), tokenizer={"model_max_length": 512})


def english():
    bert_family("all-MiniLM-L6-v2", 30, (T, P, N), "mean", layers=3, about={}, max_length=40, files=("json", "txt"), tokenizer={
        "truncation": {"direction": "Right", "max_length": 24, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 24}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "model_max_length": 512,
    })
    bert_family("S-PubMedBert-MS-MARCO", 31, (T, P), "mean", saving={"form": "bin"}, files=("txt",), max_length=48)
    bert_family("pubmedbert-base-embeddings", 32, (T, P), "mean", about={}, max_length=48)
    bert_family("mxbai-embed-large-v1", 33, (T, P), "cls", about={
        "prompts": {"query": "Represent this sentence for searching relevant passages: "}, "default_prompt_name": None},
        saving={"dtype": torch.float16}, config={"torch_dtype": "float16"}, max_length=48)
    bert_family("snowflake-arctic-embed-m-v1.5", 34, (T, P, N), "cls", about={
        "prompts": {"query": "Represent this sentence for searching relevant passages: "}, "default_prompt_name": None,
        "similarity_fn_name": "cosine"}, max_length=48)
    bert_family("mdbr-leaf-ir", 35, (T, P, f"Dense:24:{IDENTITY}:bias", N), "mean", about={
        "prompts": {"query": "Represent this sentence for searching relevant passages: ", "document": ""},
        "default_prompt_name": None, "similarity_fn_name": "cosine"}, max_length=48)
    bert_family("LaBSE", 36, (T, P, f"Dense:16:{TANH}:bias", N), "cls", about=None, max_length=48,
                tokenizer={"do_lower_case": False})
    routed()


def routed():
    """mdbr-leaf-ir-asym: a Router of a small query network with a Dense and a larger document network."""
    name = "mdbr-leaf-ir-asym"
    folder = os.path.join(REAL, name)
    os.makedirs(folder)
    for seed, role, layers, dense in ((37, "query", 1, True), (38, "document", 2, False)):
        network = os.path.join(folder, f"{role}_0_Transformer")
        os.makedirs(network)
        dim = 16 if dense else 24
        vocab = bert_tokenizer(network, ("json", "txt"))
        bert(network, seed, bert_config(vocab, dim, layers))
        write(network, "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
        pooling = "mean" if dense else "cls"
        write(folder, f"{role}_1_Pooling/config.json", {
            "word_embedding_dimension": dim, "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False, "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": False, "include_prompt": True,
        })
        if dense:
            write(folder, f"{role}_2_Dense/config.json", {
                "in_features": 16, "out_features": 24, "bias": True,
                "activation_function": "torch.nn.modules.linear.Identity"})
            generator = torch.Generator().manual_seed(39)
            save_file({"linear.weight": 0.3 * torch.randn(24, 16, generator=generator),
                       "linear.bias": 0.1 * torch.randn(24, generator=generator)},
                      os.path.join(folder, f"{role}_2_Dense/model.safetensors"))
    module = "sentence_transformers.models."
    write(folder, "router_config.json", {
        "types": {"query_0_Transformer": module + "Transformer", "query_1_Pooling": module + "Pooling",
                  "query_2_Dense": module + "Dense", "document_0_Transformer": module + "Transformer",
                  "document_1_Pooling": module + "Pooling"},
        "structure": {"query": ["query_0_Transformer", "query_1_Pooling", "query_2_Dense"],
                      "document": ["document_0_Transformer", "document_1_Pooling"]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    })
    write(folder, "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": module + "Router"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": module + "Normalize"},
    ])
    os.makedirs(os.path.join(folder, "1_Normalize"), exist_ok=True)
    write(folder, "1_Normalize/config.json", {})
    write(folder, "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "5.1.0", "transformers": "4.55.0", "pytorch": "2.8.0"},
        "prompts": {"query": "Represent this sentence for searching relevant passages: ", "document": ""},
        "default_prompt_name": None, "similarity_fn_name": "cosine", "model_type": "SentenceTransformer"})


def multilingual():
    xlmr_family("multilingual-e5-small", 40, (T, P, N), "mean", kind="bert", about=None, layers=2)
    for seed, name in ((41, "multilingual-e5-base"), (42, "multilingual-e5-large"), (43, "multilingual-e5-large-instruct")):
        xlmr_family(name, seed, (T, P, N), "mean", layers=seed - 40, saving=(
            {"dtype": torch.float16, "published": {"torch_dtype": "float16"}} if seed == 43 else None))
    # Positions for 8,192 tokens in the published model, for 1,024 here.
    xlmr_family("bge-m3", 44, (T, P, N), "cls", about={}, max_length=1024, dim=8, positions=1026, saving={"form": "bin"},
                tokenizer={"model_max_length": 1024, "sp_model_kwargs": {}})
    xlmr_family("snowflake-arctic-embed-l-v2.0", 45, (T, P, N), "cls", about={
        "prompts": {"query": "query: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
    xlmr_family("paraphrase-multilingual-MiniLM-L12-v2", 46, (T, P), "mean", kind="bert", about={}, max_length=40)
    gte = os.path.join(REAL, "gte-multilingual-base")
    shutil.copytree(os.path.join(HERE, "gte_new"), gte)
    with open(os.path.join(gte, "config.json")) as file:
        config = json.load(file)
    code = "Alibaba-NLP/new-impl--"
    config["auto_map"] = {"AutoConfig": code + "configuration.NewConfig", "AutoModel": code + "modeling.NewModel",
                          "AutoModelForMaskedLM": code + "modeling.NewForMaskedLM"}
    write(gte, "config.json", config)
    xlmr_tokenizer(gte, model_max_length=32768)
    modules(gte, T, P, N, pooling="cls", dim=64, max_length=48, about={})


def decoders():
    for seed, (name, layers) in enumerate([("Qwen3-Embedding-0.6B", 2), ("Qwen3-Embedding-4B", 1), ("Qwen3-Embedding-8B", 3)]):
        qwen_family(name, 50 + seed, (T, P, N), "lasttoken", kind="qwen3", layers=layers, max_length=None, dtype=torch.bfloat16,
                    published={"torch_dtype": "bfloat16"}, about={
                        "prompts": {"query": INSTRUCT, "document": ""}, "default_prompt_name": None,
                        "similarity_fn_name": "cosine"})
    custom = {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM",
              "AutoModelForSequenceClassification": "modeling_qwen.Qwen2ForSequenceClassification"}
    tokenizer = {"add_eos_token": True, "auto_map": {
        "AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]}}
    for seed, name in ((54, "gte-Qwen2-1.5B-instruct"), (55, "gte-Qwen2-7B-instruct")):
        qwen_family(name, seed, (T, P, N), "lasttoken", terminal=False, tokenizer=tokenizer, published={
            "auto_map": custom, "is_causal": False, "architectures": ["Qwen2ForCausalLM"]}, about={
            "prompts": {"query": INSTRUCT + " "}, "default_prompt_name": None, "similarity_fn_name": None})
    qwen_family("stella_en_1.5B_v5", 56, (T, P, f"Dense:24:{IDENTITY}:bias"), "mean", terminal=False, tokenizer=tokenizer,
                published={"auto_map": custom, "architectures": ["Qwen2ForCausalLM"]}, about={
                    "prompts": {"s2p_query": INSTRUCT + " ", "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: "},
                    "default_prompt_name": None})
    qwen_family("KaLM-embedding-multilingual-mini-instruct-v1", 57, (T, P, N), "mean", terminal=False, published={
        "torch_dtype": "float32"}, about={})
    # v2 and v2.5 attend in both directions, by code of their own and `is_causal`.
    qwen_family("KaLM-embedding-multilingual-mini-instruct-v2", 58, (T, P, N), "mean", terminal=False, published={
        "auto_map": {"AutoModel": "modeling.Qwen2Model"}, "is_causal": False, "torch_dtype": "bfloat16"},
        dtype=torch.bfloat16, about={})


def others():
    """Architectures other than BERT, XLM-R and Qwen."""
    def folder_of(name):
        folder = os.path.join(REAL, name)
        os.makedirs(folder)
        return folder

    folder = folder_of("distiluse-base-multilingual-cased-v2")
    vocab = bert_tokenizer(folder, ("json", "txt"), do_lower_case=False)
    published = {
        "activation": "gelu", "architectures": ["DistilBertModel"], "attention_dropout": 0.1, "dim": 16, "dropout": 0.1,
        "hidden_dim": 32, "initializer_range": 0.02, "max_position_embeddings": 64, "model_type": "distilbert",
        "n_heads": 2, "n_layers": 2, "output_past": True, "pad_token_id": 0, "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False, "tie_weights_": True, "vocab_size": vocab,
    }
    config = hf.DistilBertConfig(**{key: value for key, value in published.items() if key != "model_type"})
    save_network(folder, fill(hf.DistilBertModel(config), 60), published)
    modules(folder, T, P, f"Dense:24:{TANH}:bias", pooling="mean", dim=16, max_length=40, about=None)

    folder = folder_of("all-mpnet-base-v2")
    content = word_piece()
    names = {"[PAD]": "<pad>", "[UNK]": "[UNK]", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    text = json.dumps(content, ensure_ascii=False)
    for old, new in names.items():
        text = text.replace(old, new)
    content = json.loads(text)
    # <pad> is 1 in MPNet, where positions begin after it.
    vocab = content["model"]["vocab"]
    first, second = "<pad>", "[UNK]"
    vocab[first], vocab[second] = vocab[second], vocab[first]
    for token in content["added_tokens"]:
        token["id"] = vocab[token["content"]]
    content["added_tokens"].sort(key=lambda token: token["id"])
    write(folder, "tokenizer.json", content)
    write(folder, "tokenizer_config.json", {
        "bos_token": "<s>", "cls_token": "<s>", "do_lower_case": True, "eos_token": "</s>", "mask_token": "<mask>",
        "model_max_length": 512, "pad_token": "<pad>", "sep_token": "</s>", "tokenizer_class": "MPNetTokenizer",
        "unk_token": "[UNK]"})
    published = {
        "architectures": ["MPNetForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 16, "initializer_range": 0.02,
        "intermediate_size": 32, "layer_norm_eps": 1e-05, "max_position_embeddings": 66, "model_type": "mpnet",
        "num_attention_heads": 2, "num_hidden_layers": 2, "pad_token_id": 1, "relative_attention_num_buckets": 32,
        "vocab_size": len(vocab),
    }
    config = hf.MPNetConfig(**{key: value for key, value in published.items() if key != "model_type"})
    save_network(folder, fill(hf.MPNetModel(config), 61), published)
    modules(folder, T, P, N, pooling="mean", dim=16, max_length=40, about={})

    for seed, (name, chain, pooling) in enumerate([("ModernBERT-base", None, None), ("gte-modernbert-base", (T, P), "cls")]):
        folder = folder_of(name)
        vocab = bert_tokenizer(folder, ("json",), tokenizer_class="PreTrainedTokenizerFast",
                               model_input_names=["input_ids", "attention_mask"], model_max_length=8192)
        published = {
            "architectures": ["ModernBertForMaskedLM" if chain is None else "ModernBertModel"], "attention_bias": False,
            "attention_dropout": 0.0, "bos_token_id": 2, "classifier_activation": "gelu", "classifier_bias": False,
            "classifier_dropout": 0.0, "classifier_pooling": "mean", "cls_token_id": 2, "decoder_bias": True,
            "deterministic_flash_attn": False, "embedding_dropout": 0.0, "eos_token_id": 3, "global_attn_every_n_layers": 3,
            "global_rope_theta": 160000.0, "gradient_checkpointing": False, "hidden_activation": "gelu", "hidden_size": 16,
            "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 24, "layer_norm_eps": 1e-05,
            "local_attention": 8, "local_rope_theta": 10000.0, "max_position_embeddings": 256, "mlp_bias": False,
            "mlp_dropout": 0.0, "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 2,
            "num_hidden_layers": 4, "pad_token_id": 0, "position_embedding_type": "absolute", "sep_token_id": 3,
            "tie_word_embeddings": True, "torch_dtype": "float32", "vocab_size": vocab,
        }
        config = hf.ModernBertConfig(**{key: value for key, value in published.items() if key not in ("model_type", "position_embedding_type")})
        if chain is None:
            save_network(folder, fill(hf.ModernBertForMaskedLM(config), 62 + seed), published)
        else:
            save_network(folder, fill(hf.ModernBertModel(config), 62 + seed), published, dtype=torch.float16)
            modules(folder, *chain, pooling=pooling, dim=16, max_length=256, about={"similarity_fn_name": "cosine"})

    eurobert = {"AutoConfig": "configuration_eurobert.EuroBertConfig", "AutoModel": "modeling_eurobert.EuroBertModel",
                "AutoModelForMaskedLM": "modeling_eurobert.EuroBertForMaskedLM"}
    for seed, (name, network, chain, about) in enumerate([
        ("EuroBERT-210m", hf.EuroBertForMaskedLM, None, None),
        ("jina-embeddings-v5-text-nano-retrieval", hf.EuroBertModel, (T, P, N), {
            "prompts": {"query": "Query: ", "document": "Document: "}, "default_prompt_name": None,
            "similarity_fn_name": "cosine"}),
    ]):
        folder = folder_of(name)
        qwen_tokenizer(folder, tokenizer_class="PreTrainedTokenizerFast", padding_side="right")
        published = {
            "architectures": [network.__name__], "attention_bias": False, "attention_dropout": 0.0, "auto_map": eurobert,
            "bos_token_id": 318, "clf_pooling": "late", "eos_token_id": 317, "head_dim": 8, "hidden_act": "silu",
            "hidden_dropout": 0.0, "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 32,
            "mask_token": "<|mask|>", "mask_token_id": 319, "max_position_embeddings": 256, "mlp_bias": False,
            "model_type": "eurobert", "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 2,
            "pad_token": "<|endoftext|>", "pad_token_id": 317, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
            "rope_scaling": None, "rope_theta": 250000, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
            "transformers_version": "4.40.0", "use_cache": False, "vocab_size": 320,
        }
        known = {key: value for key, value in published.items() if key not in (
            "model_type", "auto_map", "rope_theta", "rope_scaling", "mask_token", "pad_token", "clf_pooling", "hidden_dropout")}
        config = hf.EuroBertConfig(**known, rope_parameters={"rope_type": "default", "rope_theta": 250000.0})
        save_network(folder, fill(network(config), 67 + seed), published, dtype=torch.bfloat16)
        if chain:
            modules(folder, *chain, pooling="lasttoken", dim=16, max_length=256, about=about)

    folder = folder_of("embeddinggemma-300m")
    qwen_tokenizer(folder, tokenizer_class="PreTrainedTokenizerFast", padding_side="right")
    published = {
        "_sliding_window_pattern": 3, "architectures": ["Gemma3TextModel"], "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": None, "bos_token_id": 317, "dtype": "float32", "eos_token_id": 317,
        "final_logit_softcapping": None, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 16,
        "initializer_range": 0.02, "intermediate_size": 32,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "max_position_embeddings": 256,
        "model_type": "gemma3_text", "num_attention_heads": 2, "num_hidden_layers": 3, "num_key_value_heads": 1,
        "pad_token_id": 317, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0,
        "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": 9, "use_bidirectional_attention": True,
        "use_cache": True, "vocab_size": 320,
    }
    config = hf.Gemma3TextConfig(**{key: value for key, value in published.items() if key != "model_type"})
    save_network(folder, fill(hf.Gemma3TextModel(config), 65), published)
    modules(folder, T, P, f"Dense:32:{IDENTITY}:plain", f"Dense:16:{IDENTITY}:plain", N, pooling="mean", dim=16, max_length=None, about={
        "prompts": {"query": "task: search result | query: ", "document": "title: none | text: ", "STS": "task: sentence similarity | query: "},
        "default_prompt_name": None, "similarity_fn_name": "cosine"})


REFUSED = {
    # Networks of their own code, which transformers has under no name.
    "jina-embeddings-v2-base-zh": {
        "architectures": ["JinaBertModel"], "model_type": "bert", "position_embedding_type": "alibi", "emb_pooler": "mean",
        "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
        "feed_forward_type": "geglu"},
    "jina-embeddings-v3": {
        "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "position_embedding_type": "rotary",
        "auto_map": {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"}},
    "voyage-4-nano": {
        "architectures": ["VoyageQwen3BidirectionalEmbedModel"], "model_type": "qwen3",
        "auto_map": {"AutoModel": "modeling_voyage.VoyageQwen3BidirectionalEmbedModel"}},
    "jina-embeddings-v5-text-nano": {
        "architectures": ["JinaEmbeddingsV5Model"], "model_type": "jina_embeddings_v5",
        "auto_map": {"AutoModel": "modeling_jina_embeddings_v5.JinaEmbeddingsV5Model"}},
    "NV-Embed-v2": {
        "architectures": ["NVEmbedModel"], "model_type": "nvembed",
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"}},
}


def refused():
    for name, changes in REFUSED.items():
        folder = os.path.join(REAL, name)
        os.makedirs(folder)
        base = bert_config(252)
        base.update(changes)
        write(folder, "config.json", base)


def expected(name):
    """The vectors of both roles, of a copy in which custom code is spelled out."""
    folder = os.path.join(REAL, name)
    with tempfile.TemporaryDirectory() as place:
        twin = os.path.join(place, "twin")
        shutil.copytree(folder, twin)
        if name == "gte-multilingual-base":
            # The same weights as GteModel has them; see make_reference.py.
            for file in ("config.json", "model.safetensors"):
                shutil.copy(os.path.join(HERE, "gte_hf", file), os.path.join(twin, file))
        elif name.startswith(("gte-Qwen2", "stella_en_1.5B")):
            # Both directions and a terminal token, which the published code adds.
            with open(os.path.join(twin, "config.json")) as file:
                config = json.load(file)
            config.pop("auto_map")
            config["is_causal"] = False
            write(twin, "config.json", config)
            qwen_tokenizer(twin, True)
        elif name.startswith(("KaLM-embedding-multilingual-mini-instruct-v2", "EuroBERT", "jina-embeddings-v5")):
            # What the published code computes, `is_causal` included, transformers does too.
            with open(os.path.join(twin, "config.json")) as file:
                config = json.load(file)
            config.pop("auto_map")
            write(twin, "config.json", config)
        model = SentenceTransformer(twin, device="cpu")
        model[0].auto_model = model[0].auto_model.float() if hasattr(model[0], "auto_model") else None
        model = model.float()
        texts = [*TEXTS, SECOND_HALF]
        values = {
            "query": model.encode_query(texts, batch_size=1, convert_to_tensor=True),
            "document": model.encode_document(texts, batch_size=1, convert_to_tensor=True),
        }
        unit = {role: torch.nn.functional.normalize(rows.float(), dim=-1) for role, rows in values.items()}
        digits = {role: [[float(f"{value:.8g}") for value in row] for row in rows.tolist()] for role, rows in unit.items()}
        path = os.path.join(folder, "expected.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"texts": texts, **digits}, file, ensure_ascii=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(REAL, ignore_errors=True)
    os.makedirs(REAL)
    chinese()
    plain()
    english()
    multilingual()
    decoders()
    others()
    refused()
    for name in sorted(os.listdir(REAL)):
        if name not in REFUSED:
            expected(name)
    for folder, _, files in os.walk(REAL):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
