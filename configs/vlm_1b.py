"""The token-space baseline at full size: all 16 layers of Llama-3.2-1B (paper 4.5).

It is the VLM of ``configs/vljepa_1b.py:sft``: same data, schedule, steps and precision, frozen
V-JEPA 2 ViT-L, and a language model of twice the layers that writes the target (PerceptionLM).
"""

from ml_collections import ConfigDict

from configs import vljepa_1b, vlm


def get_config() -> ConfigDict:
    vljepa = vljepa_1b.get_config("sft")
    llama = vljepa.model.predictor.copy_and_resolve_references()
    llama.first_layer, llama.num_layers = 0, 16  # published: all of them
    llama.causal = True  # published
    config = vlm.in_token_space(vljepa, llama, end_token="<|end_of_text|>")  # Llama 3.2's own
    config.init_from = "weights/vlm_1b"  # published backbones, by launch/convert.py
    return config
