import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.generator.masks import block_of_latent, teacher_forcing_mask, token_mask


@pytest.mark.parametrize("num_references", [1, 3])
@pytest.mark.parametrize("blocks", [1, 2, 4, (1, 4, 2, 1)])
def test_mask_is_figure_4(num_references, blocks):
    num_latents = 8
    mask = teacher_forcing_mask(num_references, num_latents, blocks)
    sizes = blocks if isinstance(blocks, tuple) else (blocks,) * (num_latents // blocks)
    block = [index for index, size in enumerate(sizes) for _ in range(size)]
    kinds = [("reference", None)] * num_references
    kinds += [(kind, block[latent]) for kind in ("clean", "noised") for latent in range(num_latents)]

    def sees(query: tuple, key: tuple) -> bool:
        match query[0], key[0]:
            case _, "reference":
                return True
            case "clean", "clean":
                return key[1] <= query[1]
            case "noised", "clean":
                return key[1] < query[1]
            case "noised", "noised":
                return key[1] == query[1]
        return False

    assert mask.tolist() == [[sees(query, key) for key in kinds] for query in kinds]


def test_last_block_may_be_short():
    assert block_of_latent(6, 4) == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("blocks", [(4, 4, 4), (4, 1), (9, -1)])
def test_blocks_that_do_not_make_up_the_window_are_refused(blocks):
    with pytest.raises(ConfigError, match="blocks"):
        block_of_latent(8, blocks)


def test_cached_mask_survives_other_contexts():
    teacher_forcing_mask.cache_clear()
    with torch.device("meta"), torch.inference_mode():
        mask = teacher_forcing_mask(1, 4, 2)
    assert mask.device.type == "cpu"
    assert not token_mask(mask, None, 2).is_inference()


def test_tokens_of_a_latent_are_alike_and_absent_references_unseen():
    frames = teacher_forcing_mask(2, 2, 1)
    everyone = token_mask(frames, None, 3)
    assert everyone.shape == (1, 1, 18, 18)
    assert torch.equal(everyone[0, 0, ::3, 1::3], frames)
    rows = token_mask(frames, torch.tensor([[True, True], [True, False]]), 3)
    assert torch.equal(rows[0], everyone[0])
    assert not rows[1, 0, :, 3:6].any()
    assert torch.equal(rows[1, 0, :, 6:], everyone[0, 0, :, 6:])
