"""Run by inference/test_mesh.py, with 8 fake devices: a model on meshes of 1, 6 and 8 of them.

Writes DEVICES.npz to the directory given: embeddings, texts that a Y-Decoder and a VLM write, and
likelihoods. It checks what can be seen only here: how a call is divided, and that attention is told
the mesh.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from tests.helpers.random_run import random_params
from tests.helpers.tiny import tiny_train_config, tiny_vlm_config, tiny_y_decoder_config
from vljepa_jax.config import ShardingConfig
from vljepa_jax.inference.model import Model
from vljepa_jax.inference.text_decoder import TextDecoder
from vljepa_jax.inference.vlm import VisionLanguageModel
from vljepa_jax.models import vit_layer
from vljepa_jax.models.placement import accelerator, mesh_here
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh

TEXTS = ["a dog", "", "two cats and a light bulb that spins", "moves left", "a red car"]


def watched(calls):
    """Attention that notes the mesh, and the platform whose kernel it asks for."""
    attention = vit_layer.attention

    def noted(*arguments, **settings):
        calls.append((mesh_here(), accelerator().platform))
        return attention(*arguments, **settings)

    vit_layer.attention = noted


def main(directory):
    assert jax.device_count() == 8
    config, decoder_config = tiny_train_config(), tiny_y_decoder_config()
    params = random_params(config)
    decoder_params = make_objective(decoder_config).init(jax.random.key(0))[0]
    vlm_config = tiny_vlm_config()
    vlm_params = make_objective(vlm_config).init(jax.random.key(0))[0]
    rng = np.random.default_rng(1)
    clips = rng.integers(0, 256, (7, 4, 32, 32, 3), dtype=np.uint8)
    vectors = rng.normal(size=(5, config.model.embedding_size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    calls = []
    watched(calls)
    for devices in (1, 6, 8):
        sharding = ShardingConfig(data=-1, fsdp=1, tensor=1, rules=())
        mesh = make_mesh(sharding, jax.devices()[:devices])
        model = Model(config, params, batch_size=4, mesh=mesh)
        decoder = TextDecoder(decoder_config, decoder_params, batch_size=4, mesh=mesh)
        calls.clear()
        found = {
            "texts": model.embed_text(TEXTS),
            "videos": model.predict(clips, [f"query {index}" for index in range(7)]),
            "pairs": model.predict_tokens(
                model.encode_clips(clips[:3]), np.array([2, 0, 2]), ["", "What?", "Who moves?"]
            ),
        }
        assert calls, "the X-Encoder's attention was not seen"
        assert all(call == (mesh, "cpu") for call in calls)
        for method in ("greedy", "beam", "top_p"):
            found[method] = np.array(decoder.decode(vectors, method, max_tokens=6))
        vlm = VisionLanguageModel(vlm_config, vlm_params, batch_size=4, mesh=mesh)
        asked = (vlm.encode_clips(clips[:3]), np.array([2, 0, 1]), ["", "What?", "Who moves?"])
        found["vlm"] = np.array(vlm.generate(*asked, max_tokens=6))
        found["likelihoods"] = vlm.likelihoods(*asked, TEXTS).log_probability
        np.savez(Path(directory) / f"{devices}.npz", **found)
        # The default is all devices; of a call, each has its own rows and all of the parameters.
        assert Model(config, params).mesh.size == 8
        rows = devices * -(-4 // devices)
        tokens = model.encode_clips(clips[:4])
        assert {shard.data.shape[0] for shard in tokens.addressable_shards} == {rows // devices}
        compiled = model._encode_video.lower(
            model._params, (np.zeros((rows, *clips.shape[1:]), np.uint8),)
        ).compile()
        of_params, (of_video,) = compiled.input_shardings[0]
        assert of_video.shard_shape((rows, *clips.shape[1:]))[0] == rows // devices
        assert all(sharding.is_fully_replicated for sharding in jax.tree.leaves(of_params))
        assert f"u8[{rows // devices},{','.join(map(str, clips.shape[1:]))}]" in compiled.as_text()
        collectives = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
        assert not any(f" {name}(" in compiled.as_text() for name in collectives)


main(sys.argv[1])
