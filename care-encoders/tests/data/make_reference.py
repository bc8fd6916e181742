#!/usr/bin/env python3
"""Makes the tiny checkpoints in this folder, and the vectors that transformers computes with them.

    pip install torch transformers tokenizers safetensors        (made with torch 2.15, transformers 5.24)
    python3 make_reference.py

Writes one folder per checkpoint (seeded random weights; norms and biases are random too, so that none can be
missed), golden.json, and for newer checkpoints FOLDER/golden.json. The tokenizers (tokenizer.json, tokenizer_config.json) are inputs: those of bert/,
qwen3/ and gte_new/ are copied to the checkpoints with the same vocabulary.

golden.json: {checkpoint: VALUES}; FOLDER/golden.json: VALUES. VALUES are {"ids" | "text": {ids, texts?, unpadded,
right, left?}, "gradients"}, without gradients in the folders; each padding has the pooled vectors `cls`, `mean`,
`last`, L2-normalised, and `<pooling>_raw` without normalisation. Networks with absolute positions are not run with
left padding. `gradients` are the norms of the gradients of every weight, in ascending order, of the loss in
`gradients` below. On another CPU the last digits differ, by less than 1e-5.

No version of transformers has the network `model_type: new` without remote code. `gte_new` has the weights of
`gte_hf` under the names of that code, so its vectors are those of GteModel; `gte_new_plain` lacks token types
and rotary scaling, and its vectors are those of a GteModel built from the same weights.

`qwen2_bidirectional` sets `is_causal: false`, which transformers 5 respects in every decoder: its vectors are
bit-identical to those of the model with a 4-D mask that hides nothing.

The checkpoints with sliding windows mix windows of 3 and 4 tokens, in layers that `layer_types` or `max_window_layers`
chooses, with texts that are shorter and longer. `embedding_gemma` is a folder of sentence-transformers with two
projections; `text.embeddings` are the vectors after them.
"""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModel, EuroBertConfig, EuroBertModel, BertConfig, BertModel, DistilBertConfig, DistilBertForMaskedLM, DistilBertModel, ErnieConfig,
    ErnieForMaskedLM, Gemma3TextConfig, Gemma3TextModel, GteConfig, GteModel, LlamaConfig, LlamaForCausalLM,
    LlamaModel, MistralConfig, MistralModel, ModernBertConfig, ModernBertForMaskedLM, ModernBertModel, MPNetConfig,
    MPNetForMaskedLM, Qwen2Config, Qwen2Model, Qwen3Config, Qwen3ForCausalLM, Qwen3Model, RobertaConfig,
    RobertaForMaskedLM, XLMRobertaConfig, XLMRobertaModel,
)

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [
    "高血压患者能吃党参吗？",
    "你好",
    "头痛发烧三天，吃什么药好得快？体温38.5度。",
    "癫痫病人的饮食要注意哪些问题呢，平时应该怎么护理？能不能运动，会不会遗传给孩子，多久复查一次？",
]
END = 317  # <|endoftext|>: the terminal token of the Qwen checkpoints, and their padding token too


def path(*parts):
    return os.path.join(HERE, *parts)


def fill(model, seed, kept=None, norm=1):
    """Fills a model with random weights, in order of names, except those with `kept` in their name; those of norms are
    around `norm`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if kept and kept in name:
                continue
            if "norm" in name.lower() and name.endswith("weight"):
                weight.copy_(norm + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(0.12 * noise)
    return model.eval()


def write_json(*parts, value):
    with open(path(*parts), "w") as file:
        json.dump(value, file, indent=1)


def edit_config(name, change):
    with open(path(name, "config.json")) as file:
        config = json.load(file)
    change(config)
    with open(path(name, "config.json"), "w") as file:
        json.dump(config, file, indent=1)


def older_spelling(config):
    """Renames keys to those of published checkpoints; transformers 5 writes rope_parameters and dtype."""
    if "rope_parameters" in config:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype", "float32")


def save(model, name, changes=None, older=True, **kwargs):
    model.save_pretrained(path(name), **kwargs)
    edit_config(name, lambda config: (older and older_spelling(config), config.update(changes or {})))
    for file in os.listdir(path(name)):
        os.chmod(path(name, file), 0o644)


def copy_tokenizer(source, *names):
    for name in names:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            if os.path.exists(path(source, file)):
                shutil.copy(path(source, file), path(name, file))


def default_rope(theta=1e6):
    return {"rope_type": "default", "rope_theta": theta}


def bert():
    config = BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0,
    )
    save(fill(BertModel(config), 1), "bert")


def distilbert():
    """With prefix and head; and without either, with sinusoidal positions, which are in the checkpoint too."""
    sizes = dict(vocab_size=200, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64, pad_token_id=0)
    save(fill(DistilBertForMaskedLM(DistilBertConfig(**sizes)), 12), "distilbert")
    sizes |= dict(vocab_size=100, max_position_embeddings=34, activation="relu", sinusoidal_pos_embds=True)
    save(fill(DistilBertModel(DistilBertConfig(**sizes)), 13, "position"), "distilbert_sinusoidal")
    copy_tokenizer("bert", "distilbert")


def ernie():
    """With prefix, head and the table of task types, and a row of it that is the only one in use."""
    config = ErnieConfig(
        vocab_size=100, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=34, type_vocab_size=4, use_task_id=True, task_type_vocab_size=5, hidden_act="relu",
        layer_norm_eps=1e-5, pad_token_id=0,
    )
    save(fill(ErnieForMaskedLM(config), 17), "ernie")


def roberta():
    """Positions start after the padding id; the longest text uses all of them. Has heads to be ignored."""
    sizes = dict(
        vocab_size=100, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )
    save(fill(RobertaForMaskedLM(RobertaConfig(**sizes)), 6), "roberta")
    save(fill(XLMRobertaModel(XLMRobertaConfig(**sizes)), 7), "xlm_roberta", older=False)


def mpnet():
    """With prefix and head. The longest text is past the last of the buckets of distances, which begins at 91."""
    sizes = dict(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=130, layer_norm_eps=1e-5, pad_token_id=1,
    )
    model = fill(MPNetForMaskedLM(MPNetConfig(**sizes)), 14)
    with torch.no_grad():
        model.mpnet.encoder.relative_attention_bias.weight.mul_(10)
    save(model, "mpnet")
    copy_tokenizer("gte_new", "mpnet")


def qwen3():
    config = Qwen3Config(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=128, max_position_embeddings=256, rms_norm_eps=1e-6,
        rope_parameters=default_rope(), tie_word_embeddings=True, hidden_act="silu",
        attention_bias=False, use_sliding_window=False, bos_token_id=256, eos_token_id=256, pad_token_id=256,
    )
    ends = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END}
    model = fill(Qwen3Model(config), 2)
    save(model, "qwen3", ends)
    save(model, "qwen3_sharded", ends, max_shard_size="150KB")
    with_head = Qwen3ForCausalLM(config)
    with_head.model.load_state_dict(model.state_dict())
    with_head.tie_weights()
    save(with_head.eval(), "qwen3_causal_lm", ends)
    half = Qwen3Model(config)
    half.load_state_dict(model.state_dict())
    save(half.to(torch.bfloat16), "qwen3_bf16", {**ends, "torch_dtype": "bfloat16"})
    copy_tokenizer("qwen3", "qwen3_sharded", "qwen3_causal_lm", "qwen3_bf16")


def qwen3_bias():
    """Biases in attention, head_dim != hidden / heads, linear rotary scaling."""
    config = Qwen3Config(
        vocab_size=100, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        head_dim=16, intermediate_size=96, max_position_embeddings=128, attention_bias=True, pad_token_id=0,
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    )
    save(fill(Qwen3Model(config), 8), "qwen3_bias", older=False)


def qwen2():
    config = dict(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=256, rms_norm_eps=1e-6,
        rope_parameters=default_rope(), tie_word_embeddings=True, use_sliding_window=False,
        bos_token_id=256, eos_token_id=256, pad_token_id=256,
    )
    ends = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END}
    save(fill(Qwen2Model(Qwen2Config(**config)), 3), "qwen2", ends)
    copy_tokenizer("qwen3", "qwen2")
    # As in gte-Qwen2, every position attends to every other.
    small = {**config, "vocab_size": 100, "hidden_size": 48, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    save(fill(Qwen2Model(Qwen2Config(**small)), 9), "qwen2_bidirectional", {"is_causal": False})


def llama():
    """9 query heads for 3 key/value heads, an untied language-model head, the newer spelling of settings."""
    config = LlamaConfig(
        vocab_size=100, hidden_size=72, num_hidden_layers=2, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=96, max_position_embeddings=40, rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=0,
        rope_parameters=default_rope(1e5),
    )
    save(fill(LlamaForCausalLM(config), 10), "llama", older=False)
    # Biases everywhere, head_dim != hidden / heads, Llama 3's scaling with all three bands.
    config = LlamaConfig(
        vocab_size=100, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        intermediate_size=96, max_position_embeddings=128, attention_bias=True, mlp_bias=True, pad_token_id=0,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )
    save(fill(LlamaModel(config), 11), "llama_bias")


def sliding():
    """Layers with sliding windows, mixed with others and not, causal and not."""
    sizes = dict(
        vocab_size=100, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=64, pad_token_id=0, rope_parameters=default_rope(),
    )
    mixed = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    config = Qwen3Config(**sizes, head_dim=8, use_sliding_window=True, sliding_window=3, layer_types=mixed)
    save(fill(Qwen3Model(config), 12), "qwen3_sliding")
    # Older files lack layer_types.
    config = Qwen2Config(**sizes, use_sliding_window=True, sliding_window=4, max_window_layers=2)
    save(fill(Qwen2Model(config), 13), "qwen2_sliding")
    edit_config("qwen2_sliding", lambda config: config.pop("layer_types"))
    config = Qwen2Config(**sizes, use_sliding_window=True, sliding_window=3, layer_types=mixed[::-1])
    save(fill(Qwen2Model(config), 14), "qwen2_sliding_bidirectional", {"is_causal": False})
    config = MistralConfig(**{**sizes, "num_hidden_layers": 2}, sliding_window=4)
    save(fill(MistralModel(config), 15), "mistral")


def eurobert():
    """Both directions, with biases and three queries to a key."""
    config = EuroBertConfig(
        vocab_size=100, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        intermediate_size=40, max_position_embeddings=64, pad_token_id=0, attention_bias=True, mlp_bias=True,
        rope_parameters=default_rope(250000.0), rms_norm_eps=1e-5,
    )
    save(fill(EuroBertModel(config), 19), "eurobert")


def scaled():
    """Rotary scaling: YaRN with defaults and without, in both spellings, and dynamic NTK, for texts of all positions."""
    sizes = dict(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=48, max_position_embeddings=64, pad_token_id=0,
    )
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    config = LlamaConfig(**sizes, head_dim=32, rope_parameters=rope)
    save(fill(LlamaModel(config), 16), "llama_yarn")
    rope = {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8,
        "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False,
    }
    config = Qwen3Config(**sizes, head_dim=32, rope_parameters=rope)
    save(fill(Qwen3Model(config), 17), "qwen3_yarn", older=False)
    config = Qwen2Config(**sizes, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0})
    save(fill(Qwen2Model(config), 18), "qwen2_dynamic")


def gemma():
    """Gemma 3, causal with nested settings, and as EmbeddingGemma: in both directions, with the older spelling."""
    sizes = dict(
        vocab_size=100, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
        intermediate_size=48, max_position_embeddings=64, query_pre_attn_scalar=24, sliding_window=4,
    )
    rope = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e5, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    }
    mixed = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(**sizes, rope_parameters=rope, layer_types=mixed)
    save(fill(Gemma3TextModel(config), 19, norm=0), "gemma3", older=False)
    rope = {"rope_theta": 1e5, "rope_local_base_freq": 100.0, "rope_scaling": None}
    sizes["vocab_size"] = 320
    config = Gemma3TextConfig(**sizes, **rope, sliding_window_pattern=3, use_bidirectional_attention=True)
    name = "embedding_gemma"
    save(fill(Gemma3TextModel(config), 20, norm=0), name, {**rope, "sliding_window_pattern": 3}, older=False)
    edit_config(name, lambda config: [config.pop(field) for field in ("layer_types", "rope_parameters")])
    copy_tokenizer("qwen3", name)
    generator = torch.Generator().manual_seed(21)
    dense = [("2_Dense", 48, 32), ("3_Dense", 24, 48)]
    for folder, outputs, inputs in dense:
        os.makedirs(path(name, folder), exist_ok=True)
        weight = 0.2 * torch.randn(outputs, inputs, generator=generator)
        save_file({"linear.weight": weight}, path(name, folder, "model.safetensors"))
        os.chmod(path(name, folder, "model.safetensors"), 0o644)
        write_json(name, folder, "config.json", value={
            "in_features": inputs, "out_features": outputs, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        })
    os.makedirs(path(name, "1_Pooling"), exist_ok=True)
    write_json(name, "1_Pooling", "config.json", value={"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    chain = [("", "Transformer"), ("1_Pooling", "Pooling"), *((folder, "Dense") for folder, _, _ in dense), ("4_Normalize", "Normalize")]
    write_json(name, "modules.json", value=[
        {"idx": idx, "name": str(idx), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for idx, (folder, kind) in enumerate(chain)
    ])
    write_json(name, "sentence_bert_config.json", value={"max_seq_length": 48, "do_lower_case": False})


def gte():
    """Hugging Face's form, and the same weights in the authors' form, with fused and prefixed tensors or neither."""
    head_dim, theta, factor = 16, 20000.0, 8.0
    config = GteConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=128, type_vocab_size=1, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=1,
        rope_parameters={
            "rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / head_dim),
        },
    )
    model = fill(GteModel(config), 4)
    save(model, "gte_hf", older=False)
    state = model.state_dict()
    weights = {name: weight for name, weight in state.items() if name.startswith("embeddings.")}
    for layer in range(2):
        ours, theirs = f"layers.{layer}.", f"encoder.layer.{layer}."
        names = {
            "self_attn.q_proj": "attention.q_proj", "self_attn.k_proj": "attention.k_proj",
            "self_attn.v_proj": "attention.v_proj", "self_attn.o_proj": "attention.o_proj",
            "post_attention_layernorm": "attn_ln", "post_mlp_layernorm": "mlp_ln", "mlp.down_proj": "mlp.down_proj",
        }
        for name, new in names.items():
            for leaf in ("weight", "bias"):
                weights[f"{theirs}{new}.{leaf}"] = state[f"{ours}{name}.{leaf}"]
        up, gate = (state[f"{ours}mlp.{name}_proj.weight"] for name in ("up", "gate"))
        weights[f"{theirs}mlp.up_gate_proj.weight"] = torch.cat([up, gate])
    plain = {name: weight.clone() for name, weight in weights.items() if "token_type" not in name}
    for layer in range(2):
        for leaf in ("weight", "bias"):
            start = f"encoder.layer.{layer}.attention."
            parts = [weights.pop(f"{start}{part}_proj.{leaf}") for part in "qkv"]
            weights[f"{start}qkv_proj.{leaf}"] = torch.cat(parts)
    packed = {f"new.{name}": weight.clone() for name, weight in weights.items()}
    generator = torch.Generator().manual_seed(5)
    packed["classifier.weight"] = torch.randn(1, 64, generator=generator)
    packed["classifier.bias"] = torch.randn(1, generator=generator)
    settings = {
        "architectures": ["NewModel"], "model_type": "new", "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 128,
        "layer_norm_eps": 1e-12, "layer_norm_type": "layer_norm", "logn_attention_scale": False,
        "max_position_embeddings": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "pack_qkv": True,
        "pad_token_id": 1, "position_embedding_type": "rope", "rope_scaling": {"factor": factor, "type": "ntk"},
        "rope_theta": 20000, "torch_dtype": "float32", "type_vocab_size": 1, "vocab_size": 200,
    }
    changes = {"pack_qkv": False, "rope_scaling": None, "rope_theta": 10000, "type_vocab_size": 0}
    for name, tensors, config in (("gte_new", packed, settings), ("gte_new_plain", plain, {**settings, **changes})):
        os.makedirs(path(name), exist_ok=True)
        save_file(tensors, path(name, "model.safetensors"), metadata={"format": "pt"})
        os.chmod(path(name, "model.safetensors"), 0o644)
        with open(path(name, "config.json"), "w") as file:
            json.dump(config, file, indent=1)
    copy_tokenizer("gte_new", "gte_hf", "gte_new_plain")
    plain_config = {**model.config.to_dict(), "type_vocab_size": 0, "rope_parameters": default_rope(1e4)}
    plain_model = GteModel(GteConfig(**plain_config), add_pooling_layer=False)
    kept = {name: weight for name, weight in state.items() if "token_type" not in name and "pooler" not in name}
    plain_model.load_state_dict(kept)
    return plain_model.eval()


def modernbert():
    """Texts longer than the window of most layers. Prefix, head and older spelling; then biases and the newer one."""
    special = dict(bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3)
    sizes = dict(
        vocab_size=200, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=128, local_attention=8, pad_token_id=0, **special,
    )
    save(fill(ModernBertForMaskedLM(ModernBertConfig(**sizes)), 15), "modernbert", older=False)

    def older(config):
        del config["layer_types"], config["rope_parameters"]
        config.update(global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=10000.0)
        config["torch_dtype"] = config.pop("dtype")

    edit_config("modernbert", older)
    copy_tokenizer("bert", "modernbert")
    sizes |= dict(
        vocab_size=100, num_hidden_layers=3, local_attention=7, norm_bias=True, attention_bias=True, mlp_bias=True,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 2.0},
            "sliding_attention": default_rope(500.0),
        },
    )
    save(fill(ModernBertModel(ModernBertConfig(**sizes)), 16), "modernbert_bias", older=False)


def padded(ids, side, pad):
    length = max(map(len, ids))
    tokens = torch.full((len(ids), length), pad)
    mask = torch.zeros(len(ids), length, dtype=torch.long)
    for row, text in enumerate(ids):
        place = slice(0, len(text)) if side == "right" else slice(length - len(text), length)
        tokens[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return tokens, mask


def pooled(hidden, mask):
    count, first = mask.sum(1), mask.argmax(1)
    rows = torch.arange(len(hidden))
    weights = mask[..., None].float()
    raw = {
        "cls": hidden[rows, first],
        "mean": (hidden * weights).sum(1) / count[:, None].float(),
        "last": hidden[rows, first + count - 1],
    }
    unit = {name: torch.nn.functional.normalize(vector, dim=-1) for name, vector in raw.items()}
    return {**{f"{name}_raw": vector for name, vector in raw.items()}, **unit}


def numbers(rows):
    """Nine digits, enough for a 32-bit float."""
    return [[float(f"{value:.9g}") for value in row] for row in rows]


def golden(name, start, end, pad, sides, model=None, lengths=(5, 1, 17, 30, 9)):
    """Vectors of made-up ids, and of texts if there is a tokenizer."""
    model = model or AutoModel.from_pretrained(path(name), attn_implementation="eager", dtype=torch.float32).eval()
    vocab, positions = model.config.vocab_size, model.config.max_position_embeddings
    made_up = [
        start + [(7 * i * i + 11 * i + 13 * row) % (vocab - 60) + 20 for i in range(length)] + end
        for row, length in enumerate(lengths)
    ]
    cases = {"ids": {"ids": made_up}}
    if os.path.exists(path(name, "tokenizer.json")):
        tokenizer = Tokenizer.from_file(path(name, "tokenizer.json"))
        tokenizer.enable_truncation(min(48, positions))
        tokenizer.no_padding()
        cases["text"] = {"ids": [tokenizer.encode(text).ids for text in TEXTS], "texts": TEXTS}
    with torch.no_grad():
        for case in cases.values():
            run = lambda ids, side: (lambda tokens, mask: pooled(
                model(input_ids=tokens, attention_mask=mask).last_hidden_state, mask))(*padded(ids, side, pad))
            alone = [run([text], "right") for text in case["ids"]]
            case["unpadded"] = {key: numbers(vectors[key][0].tolist() for vectors in alone) for key in alone[0]}
            for side in sides:
                vectors = run(case["ids"], side)
                case[side] = {key: numbers(vectors[key].tolist()) for key in ("cls", "mean", "last")}
    cases["gradients"] = gradients(model, *padded(made_up, "right", pad))
    return cases


def gradients(model, tokens, mask):
    """Gradient norms of the weights, for the sum of `mean_raw * (1..=size) / size` over the dimensions of all texts."""
    # torch would leave out the terminal token of the Qwen checkpoints, which is also their padding token.
    model.get_input_embeddings().padding_idx = None
    mean = pooled(model(input_ids=tokens, attention_mask=mask).last_hidden_state, mask)["mean_raw"]
    size = mean.shape[1]
    (mean * torch.arange(1, size + 1) / size).sum().backward()
    norms = [weight.grad.norm().item() for weight in model.parameters() if weight.grad is not None]
    return sorted(float(f"{norm:.7g}") for norm in norms)


def write_golden(name, *args, dense=(), **kwargs):
    """The values of a checkpoint in a file of its own; with `dense`, those of its texts after these projections too."""
    values = golden(name, *args, **kwargs)
    if dense:
        vectors = torch.tensor(values["text"]["unpadded"]["mean_raw"])
        for folder in dense:
            vectors = vectors @ load_file(path(name, folder, "model.safetensors"))["linear.weight"].T
        values["text"]["embeddings"] = numbers(torch.nn.functional.normalize(vectors, dim=-1).tolist())
    with open(path(name, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(values, file, ensure_ascii=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    bert()
    distilbert()
    ernie()
    roberta()
    mpnet()
    qwen3()
    qwen3_bias()
    qwen2()
    modernbert()
    llama()
    sliding()
    eurobert()
    scaled()
    gemma()
    plain_gte = gte()
    right, both = ["right"], ["right", "left"]
    # With start and end, the longest text has as many tokens as the network has positions: 34 - 2, and 40.
    all_of_roberta, all_of_llama = (5, 1, 17, 30, 9), (5, 1, 17, 39, 9)
    values = {
        "bert": golden("bert", [2], [3], 0, right),
        "distilbert": golden("distilbert", [2], [3], 0, right),
        "distilbert_sinusoidal": golden("distilbert_sinusoidal", [2], [3], 0, right, lengths=all_of_roberta),
        "ernie": golden("ernie", [2], [3], 0, right, lengths=all_of_roberta),
        "roberta": golden("roberta", [0], [2], 1, right, lengths=all_of_roberta),
        "xlm_roberta": golden("xlm_roberta", [0], [2], 1, right, lengths=all_of_roberta),
        "mpnet": golden("mpnet", [0], [2], 1, both, lengths=(5, 1, 17, 126, 40)),
        "gte_hf": golden("gte_hf", [0], [2], 1, both),
        "gte_new": golden("gte_new", [0], [2], 1, both, AutoModel.from_pretrained(path("gte_hf"), attn_implementation="eager").eval()),
        "gte_new_plain": golden("gte_new_plain", [0], [2], 1, both, plain_gte),
        "modernbert": golden("modernbert", [2], [3], 0, both),
        "modernbert_bias": golden("modernbert_bias", [2], [3], 0, both, lengths=(5, 1, 17, 90, 9)),
        **{name: golden(name, [], [END], END, both)
           for name in ("qwen2", "qwen3", "qwen3_causal_lm", "qwen3_sharded", "qwen3_bf16")},
        "qwen3_bias": golden("qwen3_bias", [], [2], 0, both),
        "qwen2_bidirectional": golden("qwen2_bidirectional", [], [2], 0, both),
        "llama": golden("llama", [], [2], 0, both, lengths=all_of_llama),
        "llama_bias": golden("llama_bias", [], [2], 0, both, lengths=(5, 1, 17, 90, 9)),
    }
    with open(path("golden.json"), "w", encoding="utf-8") as file:
        json.dump(values, file, ensure_ascii=False)
    for name in ("qwen3_sliding", "qwen2_sliding", "qwen2_sliding_bidirectional", "mistral"):
        write_golden(name, [], [2], 0, both)
    write_golden("eurobert", [1], [2], 0, both)
    write_golden("gemma3", [2], [1], 0, both)
    write_golden("embedding_gemma", [2], [1], 0, both, dense=("2_Dense", "3_Dense"))
    for name in ("llama_yarn", "qwen3_yarn", "qwen2_dynamic"):
        write_golden(name, [], [2], 0, both, lengths=(5, 1, 17, 63, 9))
