"""The settings of every model: backbones, and what is trained of them."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vljepa_jax.config.parsing import ConfigError
from vljepa_jax.config.video_encoders import (
    ImageTowerConfig,
    VJEPA2Config,
    XEncoderConfig,
    check_tower,
)


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3 frequency scaling."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """A slice of Llama-3 decoder layers (predictor, Y-Decoder)."""

    family: Literal["llama"]
    vocab_size: int
    hidden_size: int
    num_layers: int  # layers held, i.e. the length of the slice
    first_layer: int  # index of the slice's first layer in the published model
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    causal: bool


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """EmbeddingGemma text encoder (Y-Encoder)."""

    family: Literal["gemma"]
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    query_scale: float  # attention scores are scaled by query_scale ** -0.5
    sliding_window: int  # full width; a local layer sees |i - j| < sliding_window // 2 + 1
    global_every: int  # every n-th layer is global
    rope_theta_local: float
    rope_theta_global: float
    dense_sizes: tuple[int, ...]  # the published model: (3072, 768); () drops the dense layers


@dataclasses.dataclass(frozen=True)
class Qwen3Config:
    """Qwen3-Embedding text encoder (Y-Encoder): causal, the last token stands for the text."""

    family: Literal["qwen3"]
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    rope_theta: float


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """BERT as sentence-transformers trains it: MiniLM, e5, bge (Y-Encoder)."""

    family: Literal["bert"]
    vocab_size: int
    max_length: int  # positions: tokens of a text, special ones included
    type_vocab_size: int  # segments that a text may consist of; one alone is the first
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float
    pooling: Literal["mean", "cls", "lasttoken", "max"]  # as the model's 1_Pooling/config.json says
    normalised: bool  # whether the model ends in a Normalize module (its modules.json)


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """A text tower of a dual encoder.

    What all models of a publisher have in common are attributes of its class and no fields.
    """

    vocab_size: int
    max_length: int  # tokens, special ones included
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    embedding_size: int  # behind the projection

    norm_eps = 1e-5
    activation = "gelu"
    causal = True
    filled_up = False  # with padding, to max_length; the last place then stands for the text
    pad_id = 0
    lowercase = False  # what the tokenizer is given
    projection_bias = False

    def __post_init__(self) -> None:
        check_tower(self)


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig(TextTowerConfig):
    """CLIP."""

    family: Literal["clip_text"]

    activation = "quick_gelu"


@dataclasses.dataclass(frozen=True)
class SigLIP2TextConfig(TextTowerConfig):
    """SigLIP 2; also a Y-Encoder."""

    family: Literal["siglip2_text"]

    norm_eps = 1e-6
    activation = "gelu_tanh"
    causal = False
    filled_up = True
    lowercase = True
    projection_bias = True


@dataclasses.dataclass(frozen=True)
class PECoreTextConfig(TextTowerConfig):
    """PE-Core; also a Y-Encoder."""

    family: Literal["pe_core_text"]


@dataclasses.dataclass(frozen=True)
class DualEncoderConfig:
    """An image tower and a text tower that embed into one space."""

    family: Literal["clip", "siglip2", "pe_core"]
    image: ImageTowerConfig
    text: TextTowerConfig


# Every family of Y-Encoders; ``models.text_encoder`` has the module of each.
YEncoderConfig = GemmaConfig | Qwen3Config | BertConfig | SigLIP2TextConfig | PECoreTextConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """VL-JEPA: X-Encoder, predictor and Y-Encoder around one shared space."""

    x_encoder: XEncoderConfig
    predictor: LlamaConfig
    y_encoder: YEncoderConfig
    embedding_size: int  # dimension of the shared space
    pooling: Literal["all", "query"]  # tokens averaged by the predictor
    initial_temperature: float
    max_logit_scale: float
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]  # what the backward pass recomputes
    unroll_layers: bool  # compile every layer on its own: faster on CPU, slower to compile
    # The predictor sees one frame at a time, and its embeddings of the frames are averaged, as CLIP
    # embeds a video. Runs of before have no such field.
    average_frames: bool = False

    def __post_init__(self) -> None:
        if self.average_frames and getattr(self.x_encoder, "frames", "apart") == "together":
            raise ConfigError(
                "model.average_frames: needs the tokens of each frame, but "
                "model.x_encoder.frames is 'together'; set it to 'apart'"
            )


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """One kind of multi-block mask (data/masks.py)."""

    block_scale: tuple[float, float]  # area share of a block, drawn between these
    aspect_ratio: tuple[float, float]  # height / width of a block
    masked: float  # share of the patches that the blocks cover together


@dataclasses.dataclass(frozen=True)
class MaskPredictorConfig:
    """V-JEPA 2's predictor of masked tokens."""

    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """V-JEPA 2's self-supervised pretraining of an X-Encoder (stage 0)."""

    x_encoder: VJEPA2Config
    mask_predictor: MaskPredictorConfig
    masks: tuple[MaskConfig, ...]  # each clip is encoded and predicted under all of them
    teacher_momentum: float  # the teacher keeps this share of itself at every step
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class AttentivePoolerConfig:
    """V-JEPA 2's attentive pooler: self-attention layers, then one of cross-attention."""

    num_layers: int  # self-attention layers before the cross-attention; may be 0
    num_heads: int
    mlp_size: int
    norm_eps: float
    query_vocab_size: int  # ids of the query tokenizer; 0: the pooler is not told the question


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """An X-Encoder and a small classifier of its tokens.

    With the X-Encoder frozen (optimizer.rules) it measures what the tokens tell; with the X-Encoder
    trained it is pretraining on labels.
    """

    x_encoder: XEncoderConfig
    pooler: AttentivePoolerConfig | None  # None: the mean of the tokens, a linear probe
    label_sets: dict[str, int]  # label sets of the dataset that are asked for -> their sizes
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class TextPairsConfig:
    """A text encoder alone, pretrained on paraphrases."""

    y_encoder: YEncoderConfig
    initial_temperature: float
    max_logit_scale: float
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig:
    """A causal Llama with its token table, from whose layers a predictor can start."""

    predictor: LlamaConfig
    skip_probability: float  # that a causal step leaves out the first half of the layers
    # That in a step the last half of the layers works as a VL-JEPA's predictor does: every token
    # attends to every other, and the answer is predicted from the mean over the question's.
    bidirectional_probability: float
    # Tokens before the question there, as a clip's patches are: each is a clause of a caption.
    context_length: int
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class VLMConfig:
    """A causal Llama that writes a text after an X-Encoder's tokens and a query."""

    x_encoder: XEncoderConfig
    predictor: LlamaConfig
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class VisualReaderConfig:
    """A Llama that answers questions from an X-Encoder's tokens, as a predictor will read them."""

    x_encoder: XEncoderConfig
    predictor: LlamaConfig
    maxsim_weight: float  # of a second loss, of clauses and single visual tokens; 0 for none
    # That a step has no causal mask, and the answer is predicted from the mean over the question's
    # tokens.
    bidirectional_probability: float
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class YDecoderConfig:
    """A causal Llama that writes the text whose embedding it is given (Y-Decoder)."""

    vljepa: ModelConfig  # whose embeddings are decoded; frozen
    y_decoder: LlamaConfig
    prefix_tokens: int  # made from one embedding, before the first token of the text
    noise: float  # largest length of the Gaussian noise on the unit embedding; 0 for none
    dtype: Literal["float32", "bfloat16"]  # of the decoder's computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool
