"""FLOPs of a training step, as model FLOPs utilisation (MFU) counts them."""

from denoise_jax.config import Config, ModelConfig


def training_flops(config: Config) -> float:
    """Model FLOPs of one optimizer step on all devices: three times those of `forward_flops`."""
    data = config.data
    return 3 * data.batch_size * forward_flops(config.model, data.input_length, data.target_length)


def forward_flops(model: ModelConfig, input_length: int, target_length: int) -> float:
    """FLOPs of the matrix products of one row, forwards (a multiplication and an addition are two).

    Padding, masked scores and the padding of the vocabulary count; rematerialisation does not (Chowdhery et
    al. 2022, appendix B).
    """
    width, source, target = model.embed_dim, input_length, target_length
    ffn = (6 if model.gated_ffn else 4) * width * model.ffn_dim
    encoder = source * (8 * width**2 + ffn + 4 * source * width)
    cross = 4 * (target + source) * width**2 + 4 * target * source * width
    decoder = target * (8 * width**2 + ffn + 4 * target * width) + cross
    head = 2 * target * width * model.padded_vocab_size
    if model.num_classes is not None:
        head = 2 * target * width * (width + model.num_classes)
    return model.num_encoder_layers * encoder + model.num_decoder_layers * decoder + head
