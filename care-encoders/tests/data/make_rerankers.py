#!/usr/bin/env python3
"""Makes rerankers/: tiny rerankers in the form of published models, and the scores that Python computes with them.

    pip install torch transformers sentence-transformers safetensors sentencepiece protobuf
    python3 make_rerankers.py       (made with torch 2.15, transformers 5.24, sentence-transformers 6.2)

Each folder has the files of the published repository: config.json with its keys, the tokenizer's files, the files of
sentence-transformers where there are some, and the tensors under the published names and dtype. Only sizes and
vocabularies are cut, and weights are random (seeded).

expected.json of a folder: {"pairs", "logits", "scores", "cut"}. `logits` are those of transformers, one pair at a time,
with `truncation="longest_first"` and the tokenizer's own length limit; `scores` are those of sentence-transformers'
`CrossEncoder.predict`, with no option given. `cut` has a list for each of several length limits: {"max_length", "ids",
"types", "logits"}; `types` is null where the tokenizer passes none. For Qwen3-Reranker the functions of its model card
are run instead. A model of GTE's authors is computed by transformers' GteForSequenceClassification, on a copy with the same weights.
REFUSED models have no expected.json: the test knows their message.
"""
import json
import os
import shutil
import tempfile

import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore

from make_real import (
    bert_config, bert_tokenizer, fill, load_tokenizer, save_network, write, xlmr_tokenizer, QWEN_SETTINGS, HERE,
)

OUT = os.path.join(HERE, "rerankers")
SHORT, MIDDLE = "高血压患者能吃党参吗？", "头痛发烧三天，吃什么药好得快？体温38.5度。"
LONG = "糖尿病病人的饮食要注意哪些问题，平时应该怎么护理，能不能运动，会不会传给孩子？多久复查一次？"
PAIRS = [
    (SHORT, MIDDLE), (MIDDLE, SHORT), (SHORT, LONG), (LONG, SHORT), (LONG, MIDDLE), (LONG, LONG), (SHORT, SHORT),
    ("", LONG), (SHORT, ""), ("Aspirin 100mg，每天一次", "饭后服用。\n没有咳嗽"),
]
# Odd and even; room for both, for the shorter only, for neither.
LIMITS = [8, 9, 13, 16, 24, 31, 40]
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
ONE = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


def folder_of(name):
    folder = os.path.join(OUT, name)
    os.makedirs(folder)
    return folder


def config_of(kind, published):
    known = {key: value for key, value in published.items() if key not in ("model_type", "auto_map", "architectures")}
    return kind(**known)


def bert_like(name, seed, config_class, model_class, architecture, config=None, tokenizer=None, **saving):
    folder = folder_of(name)
    vocab = bert_tokenizer(folder, **(tokenizer or {}))
    published = {**bert_config(vocab), "architectures": [architecture], **ONE, **(config or {})}
    model = fill(model_class(config_of(config_class, published)), seed)
    save_network(folder, model, published, **saving)
    return folder


def xlmr_like(name, seed, positions, config=None, tokenizer=None, **saving):
    folder = folder_of(name)
    vocab = xlmr_tokenizer(folder, **(tokenizer or {}))
    published = {
        "_name_or_path": name, "architectures": ["XLMRobertaForSequenceClassification"],
        "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "classifier_dropout": None, "eos_token_id": 2,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 16, "initializer_range": 0.02,
        "intermediate_size": 32, "layer_norm_eps": 1e-05, "max_position_embeddings": positions,
        "model_type": "xlm-roberta", "num_attention_heads": 2, "num_hidden_layers": 2, "output_past": True,
        "pad_token_id": 1, "position_embedding_type": "absolute", "torch_dtype": "float32",
        "transformers_version": "4.30.0", "type_vocab_size": 1, "use_cache": True, "vocab_size": vocab, **ONE,
        **(config or {}),
    }
    save_network(folder, fill(hf.XLMRobertaForSequenceClassification(config_of(hf.XLMRobertaConfig, published)), seed),
                 published, **saving)
    return folder


def berts():
    bert = (hf.BertConfig, hf.BertForSequenceClassification, "BertForSequenceClassification")
    bert_like("ms-marco-MiniLM-L6-v2", 1, *bert, tokenizer={"model_max_length": 56},
              config={"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0.dev0"}})
    # The name of the activation before version 4, and names of older tensors; a tokenizer that passes no types.
    bert_like("older-cross-encoder", 2, *bert, tokenizer={"model_max_length": 48, "model_input_names": ["input_ids", "attention_mask"]},
              config={"sbert_ce_default_activation_function": SIGMOID}, form="bin",
              rename=lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    bert_like("ernie-reranker", 3, hf.ErnieConfig, hf.ErnieForSequenceClassification, "ErnieForSequenceClassification",
              config={"model_type": "ernie", "use_task_id": True, "task_type_vocab_size": 3})
    folder = folder_of("distilbert-reranker")
    vocab = bert_tokenizer(folder, model_max_length=50)
    published = {
        "activation": "gelu", "architectures": ["DistilBertForSequenceClassification"], "attention_dropout": 0.1,
        "dim": 16, "dropout": 0.1, "hidden_dim": 32, "initializer_range": 0.02, "max_position_embeddings": 64,
        "model_type": "distilbert", "n_heads": 2, "n_layers": 2, "pad_token_id": 0, "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False, "tie_weights_": True, "vocab_size": vocab, **ONE,
    }
    save_network(folder, fill(hf.DistilBertForSequenceClassification(config_of(hf.DistilBertConfig, published)), 4), published)
    folder = folder_of("mpnet-reranker")
    vocab = xlmr_tokenizer(folder, tokenizer_class="PreTrainedTokenizerFast", model_max_length=62)
    published = {
        "architectures": ["MPNetForSequenceClassification"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
        "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 16, "initializer_range": 0.02,
        "intermediate_size": 32, "layer_norm_eps": 1e-05, "max_position_embeddings": 66, "model_type": "mpnet",
        "num_attention_heads": 2, "num_hidden_layers": 2, "pad_token_id": 1, "relative_attention_num_buckets": 32,
        "torch_dtype": "float32", "transformers_version": "4.30.0", "vocab_size": vocab, **ONE,
    }
    save_network(folder, fill(hf.MPNetForSequenceClassification(config_of(hf.MPNetConfig, published)), 5), published)


def robertas():
    xlmr_like("bge-reranker-base", 11, 66, tokenizer={"model_max_length": 64})
    # Weights of PyTorch, with the leftover of a pooler.
    xlmr_like("bge-reranker-large", 12, 66, tokenizer={"model_max_length": 63}, form="bin", extra={"roberta.pooler.dense.weight": torch.ones(16, 16)})
    xlmr_like("bge-reranker-v2-m3", 13, 130, tokenizer={"model_max_length": 128}, dtype=torch.float32)
    folder = folder_of("stsb-roberta-base")
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(os.path.join(HERE, "byte_bpe", file), folder)
    write(folder, "tokenizer_config.json", {"model_max_length": 60, "tokenizer_class": "RobertaTokenizer", "add_prefix_space": False})
    with open(os.path.join(folder, "vocab.json")) as file:
        vocab = len(json.load(file))
    published = {
        "architectures": ["RobertaForSequenceClassification"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
        "eos_token_id": 2, "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 32, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 62, "model_type": "roberta", "num_attention_heads": 2, "num_hidden_layers": 2,
        "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": vocab, **ONE,
    }
    save_network(folder, fill(hf.RobertaForSequenceClassification(config_of(hf.RobertaConfig, published)), 14), published)


def gte_config(kind, vocab, **changes):
    return kind(
        vocab_size=vocab, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=160, type_vocab_size=1, hidden_act="gelu", layer_norm_eps=1e-12, pad_token_id=1,
        num_labels=1, rope_parameters={"rope_type": "default", "rope_theta": 20000.0}, **changes,
    )


def authors(name):
    """The names of GTE's authors: query, key and value in one tensor, and up and gate in one."""
    for old, new in [("gte.", "new."), ("self_attn.", "attention."), ("post_attention_layernorm", "attn_ln"),
                     ("post_mlp_layernorm", "mlp_ln"), ("new.layers.", "new.encoder.layer.")]:
        name = name.replace(old, new)
    return name


def gtes():
    """transformers' own form, and the same weights in that of the authors, in f16."""
    own = folder_of("gte-for-sequence-classification")
    vocab = xlmr_tokenizer(own, model_max_length=128)
    model = fill(hf.GteForSequenceClassification(gte_config(hf.GteConfig, vocab)).half().float(), 21).half()
    model.save_pretrained(own)
    folder = folder_of("gte-multilingual-reranker-base")
    xlmr_tokenizer(folder, model_max_length=128)
    state = {}
    for name, weight in model.state_dict().items():
        if "k_proj" in name or "v_proj" in name or "gate_proj" in name:
            continue
        if "q_proj" in name:
            weight = torch.cat([model.state_dict()[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace("q_proj", "qkv_proj")
        if "up_proj" in name:
            weight = torch.cat([weight, model.state_dict()[name.replace("up_proj", "gate_proj")]])
            name = name.replace("up_proj", "up_gate_proj")
        state[authors(name)] = weight.contiguous().clone()
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    code = "Alibaba-NLP/new-impl--"
    write(folder, "config.json", {
        "architectures": ["NewForSequenceClassification"], "attention_probs_dropout_prob": 0.0,
        "auto_map": {
            "AutoConfig": f"{code}configuration.NewConfig", "AutoModel": f"{code}modeling.NewModel",
            "AutoModelForMaskedLM": f"{code}modeling.NewForMaskedLM",
            "AutoModelForSequenceClassification": f"{code}modeling.NewForSequenceClassification",
        },
        "classifier_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 16, **ONE,
        "initializer_range": 0.02, "intermediate_size": 32, "layer_norm_eps": 1e-12, "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False, "logn_attention_scale": False, "max_position_embeddings": 160,
        "model_type": "new", "num_attention_heads": 2, "num_hidden_layers": 2, "pack_qkv": True, "pad_token_id": 1,
        "position_embedding_type": "rope", "rope_scaling": None, "rope_theta": 20000, "torch_dtype": "float16",
        "transformers_version": "4.39.1", "type_vocab_size": 1, "unpad_inputs": False,
        "use_memory_efficient_attention": False, "vocab_size": vocab,
    })


def moderns():
    def modern(name, seed, config=None, tokenizer=None, dtype=None):
        folder = folder_of(name)
        vocab = bert_tokenizer(folder, ("json",), tokenizer_class="PreTrainedTokenizerFast",
                               model_input_names=["input_ids", "attention_mask"], **(tokenizer or {}))
        published = {
            "architectures": ["ModernBertForSequenceClassification"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": 2, "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0,
            "classifier_pooling": "mean", "cls_token_id": 2, "decoder_bias": True, "deterministic_flash_attn": False,
            "embedding_dropout": 0.0, "eos_token_id": 3, "global_attn_every_n_layers": 2, "global_rope_theta": 160000.0,
            "hidden_activation": "gelu", "hidden_size": 16, **ONE, "initializer_cutoff_factor": 2.0,
            "initializer_range": 0.02, "intermediate_size": 24, "layer_norm_eps": 1e-05, "local_attention": 8,
            "local_rope_theta": 10000.0, "max_position_embeddings": 160, "mlp_bias": False, "mlp_dropout": 0.0,
            "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 2,
            "num_hidden_layers": 3, "pad_token_id": 0, "position_embedding_type": "absolute", "sep_token_id": 3,
            "torch_dtype": "float32", "transformers_version": "4.48.0", "vocab_size": vocab, **(config or {}),
        }
        kept = {key: value for key, value in published.items() if not key.startswith(("layer_norm_eps", "position_emb"))}
        model = fill(hf.ModernBertForSequenceClassification(config_of(hf.ModernBertConfig, kept)), seed)
        save_network(folder, model, published, dtype=dtype)
    modern("gte-reranker-modernbert-base", 31, tokenizer={"model_max_length": 128})
    modern("modernbert-cls", 32, config={
        "classifier_pooling": "cls", "classifier_bias": True, "classifier_activation": "relu", "norm_bias": True,
    }, tokenizer={"model_max_length": 96})


def qwen_tokenizer(folder):
    """That of qwen3/ without a terminal token, with tokens `yes` and `no`."""
    content = load_tokenizer("qwen3")
    content["post_processor"] = content["post_processor"]["processors"][0]
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    for left, right in [("y", "e"), ("ye", "s"), ("n", "o")]:
        vocab[left + right] = len(vocab)
        merges.append([left, right] if isinstance(merges[0], list) else f"{left} {right}")
    for offset, token in enumerate(content["added_tokens"]):
        token["id"] = len(vocab) + offset
    write(folder, "tokenizer.json", content)
    write(folder, "tokenizer_config.json", {**QWEN_SETTINGS, "model_max_length": 131072})
    return len(vocab) + len(content["added_tokens"])


def qwen(name, seed, tied, dtype=None):
    folder = folder_of(name)
    vocab = qwen_tokenizer(folder)
    published = {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": vocab - 3,
        "eos_token_id": vocab - 1, "head_dim": 16, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
        "intermediate_size": 32, "max_position_embeddings": 1024, "max_window_layers": 28, "model_type": "qwen3",
        "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": tied,
        "torch_dtype": "float32", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
        "vocab_size": vocab,
    }
    known = {key: value for key, value in published.items() if key not in ("model_type", "architectures", "rope_theta", "rope_scaling")}
    config = hf.Qwen3Config(**known, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    save_network(folder, fill(hf.Qwen3ForCausalLM(config), seed), published, drop=("lm_head",) if tied else (), dtype=dtype)
    return folder


# In the form of the published one; Jinja takes away the last line break.
FIRST = 'map(attribute="content") | first'
TEMPLATE = f"""{{%- set task = messages | selectattr("role", "eq", "system") | {FIRST} | default("Given a web search query, retrieve relevant passages that answer the query") -%}}
{{%- set asked = messages | selectattr("role", "eq", "query") | {FIRST} -%}}
{{%- set found = messages | selectattr("role", "eq", "document") | {FIRST} -%}}
<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{{{ task }}}}
<Query>: {{{{ asked }}}}
<Document>: {{{{ found }}}}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""


def qwens():
    qwen("Qwen3-Reranker-0.6B", 41, True)
    qwen("Qwen3-Reranker-4B", 42, False)
    folder = qwen("Qwen3-Reranker-0.6B-STv6", 43, True)
    write(folder, "chat_template.jinja", TEMPLATE)
    model = CrossEncoder(folder, device="cpu")
    model.save_pretrained(folder + "-saved")
    shutil.rmtree(folder)
    os.rename(folder + "-saved", folder)
    os.remove(os.path.join(folder, "README.md"))


def saved():
    """As sentence-transformers 6 saves a CrossEncoder."""
    folder = os.path.join(OUT, "ms-marco-MiniLM-L6-v2")
    model = CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Sigmoid(), max_length=40)
    target = os.path.join(OUT, "cross-encoder-v6")
    model.save_pretrained(target)
    os.remove(os.path.join(target, "README.md"))


# What cannot be right.

REFUSED = ("two-labels", "no-labels", "bi-encoder", "masked-language-model", "jina-reranker-v2-base-multilingual", "mxbai-rerank-base-v2")


def refused():
    bert = (hf.BertConfig, hf.BertForSequenceClassification, "BertForSequenceClassification")
    two = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    bert_like("two-labels", 51, *bert, config=two)
    folder = bert_like("no-labels", 52, *bert, config={"num_labels": 1})
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    for key in ("id2label", "label2id", "num_labels"):
        config.pop(key)
    write(folder, "config.json", config)
    bert_like("masked-language-model", 53, hf.BertConfig, hf.BertForMaskedLM, "BertForMaskedLM")
    folder = bert_like("bi-encoder", 54, hf.BertConfig, hf.BertModel, "BertModel")
    write(folder, "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ])
    code = {
        "AutoModel": "modeling_xlm_roberta.XLMRobertaModel",
        "AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification",
    }
    xlmr_like("jina-reranker-v2-base-multilingual", 55, 66, config={"auto_map": code})
    folder = qwen("mxbai-rerank-base-v2", 56, True)
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    config.update(model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    write(folder, "config.json", config)
    for name in REFUSED:
        weights = os.path.join(OUT, name, "model.safetensors")
        os.remove(weights) if name != "two-labels" else None


# Expected scores

def rounded(values):
    return [float(f"{value:.8g}") for value in values]


def by_classifier(folder, max_length=None):
    """Ids, types and logits, pair by pair."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    limit = max_length or min(tokenizer.model_max_length, 1 << 20)
    positions = model.config.max_position_embeddings - (2 if model.config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0)
    ids, types, logits = [], [], []
    for query, document in PAIRS:
        # As lists: an empty document that is given alone is no second text to transformers.
        inputs = tokenizer([query], [document], truncation="longest_first", max_length=min(limit, positions), return_tensors="pt")
        ids.append(inputs["input_ids"][0].tolist())
        types.append(inputs["token_type_ids"][0].tolist() if "token_type_ids" in inputs else None)
        with torch.no_grad():
            logits.append(model(**inputs).logits.view(-1).item())
    return ids, types, logits


def by_model_card(folder, max_length=None):
    """The functions of Qwen3-Reranker's model card."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    no, yes = tokenizer.convert_tokens_to_ids("no"), tokenizer.convert_tokens_to_ids("yes")
    prefix = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n"
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    before = tokenizer.encode(prefix, add_special_tokens=False)
    after = tokenizer.encode(suffix, add_special_tokens=False)
    limit = len(before) + len(after) + max_length if max_length else 1024
    ids, logits = [], []
    for query, document in PAIRS:
        instruction = "Given a web search query, retrieve relevant passages that answer the query"
        text = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        inputs = tokenizer([text], padding=False, truncation="longest_first", return_attention_mask=False,
                           max_length=limit - len(before) - len(after))
        row = before + inputs["input_ids"][0] + after
        ids.append(row)
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([row])).logits[0, -1]
        logits.append((scores[yes] - scores[no]).item())
    return limit, ids, logits


def expected(name):
    folder = os.path.join(OUT, name)
    qwen3 = "Qwen3" in name
    twin = os.path.join(OUT, "gte-for-sequence-classification") if name == "gte-multilingual-reranker-base" else folder
    cut = []
    for limit in [90, 101, 113] if qwen3 else LIMITS:
        if qwen3:
            whole, ids, logits = by_model_card(folder, limit)
            cut.append({"max_length": whole, "ids": ids, "types": None, "logits": rounded(logits)})
        else:
            ids, types, logits = by_classifier(twin, limit)
            types = None if types[0] is None else types
            cut.append({"max_length": limit, "ids": ids, "types": types, "logits": rounded(logits)})
    logits = by_model_card(folder)[2] if qwen3 else by_classifier(twin)[2]
    if qwen3 and "ST" not in name:
        # The probability of the model card.
        scores = torch.sigmoid(torch.tensor(logits)).tolist()
    else:
        model = CrossEncoder(twin, device="cpu").float()
        scores = model.predict(PAIRS, batch_size=1).tolist()
    values = {"pairs": PAIRS, "logits": rounded(logits), "scores": rounded(scores), "cut": cut}
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump(values, file, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    berts()
    robertas()
    gtes()
    moderns()
    qwens()
    saved()
    refused()
    for name in sorted(os.listdir(OUT)):
        if name not in REFUSED:
            expected(name)
            print(name)
    for folder, _, files in os.walk(OUT):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
