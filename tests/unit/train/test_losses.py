import math

import pytest
import torch

from vivavoz.train.losses import choice_error, flow_error, gradient_l1, mask_error, paint_error, place_error, weighted_l1
from vivavoz.vae.warp import WarpFields


def video(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_weighted_l1_is_the_weighted_mean():
    prediction, target = torch.zeros(1, 3, 1, 2, 2), torch.zeros(1, 3, 1, 2, 2)
    prediction[..., 0, 0] = 0.5
    weight = torch.ones(1, 1, 1, 2, 2)
    assert float(weighted_l1(prediction, target, weight)) == pytest.approx(0.5 / 4)
    weight[..., 0, 0] = 5
    assert float(weighted_l1(prediction, target, weight)) == pytest.approx(0.5 * 5 / 8)
    assert float(weighted_l1(target, target, weight)) == 0


def test_gradients_see_edges_not_levels():
    target = video(0, 1, 3, 2, 16, 16)
    weight = torch.ones(1, 1, 2, 16, 16)
    assert float(gradient_l1(target + 0.3, target, weight)) < 1e-6
    assert float(gradient_l1(target, target, weight)) == 0
    assert float(gradient_l1(torch.roll(target, 1, -1), target, weight)) > 0.1


def test_gradient_of_a_ramp():
    # A slope of 0.1 per pixel is 0.2 and 0.4 per pixel of the halved pictures.
    ramp = (0.1 * torch.arange(16.0)).expand(1, 3, 1, 16, 16)
    sizes = (16, 8, 4)
    expected = sum(0.1 * 2**scale * (size - 1) / size for scale, size in enumerate(sizes)) / 3
    value = gradient_l1(ramp, torch.zeros_like(ramp), torch.ones(1, 1, 1, 16, 16))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_the_weight_moves_the_gradient_loss_to_where_it_is():
    target = torch.zeros(1, 3, 1, 8, 8)
    prediction = target.clone()
    prediction[..., 2, 2] = 1
    near, far = torch.ones(1, 1, 1, 8, 8), torch.ones(1, 1, 1, 8, 8)
    near[..., :4, :4] = 10
    far[..., 4:, 4:] = 10
    plain = gradient_l1(prediction, target, torch.ones(1, 1, 1, 8, 8))
    assert gradient_l1(prediction, target, near) > plain > gradient_l1(prediction, target, far)


def fields(flow, mask, paint):
    extra = {}
    for name in WarpFields.__dataclass_fields__:
        if name not in ("flow", "mask", "paint"):
            extra[name] = torch.zeros_like(mask)
    return WarpFields(flow=flow, mask=mask, paint=paint, **extra)


def test_flow_error_counts_cells_of_every_reference():
    true = torch.zeros(1, 2, 2, 1, 8, 8)
    true[:, 1] = 0.5
    flow = true.clone()
    flow[:, 0, 0] += 2 / 8  # the first reference's is one cell off to the right, the second's is right
    weight = torch.ones(1, 1, 1, 8, 8)
    given = fields(flow, torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 3, 1, 8, 8))
    assert float(flow_error(given, true, weight)) == pytest.approx(0.5)
    flow[:, 1, 1, ..., 4:] -= 4 / 8  # the second's is two up in the right half, which does not count
    weight[..., 4:] = 0
    assert float(flow_error(given, true, weight)) == pytest.approx(0.5)
    weight[..., 4:] = 1
    assert float(flow_error(given, true, weight)) == pytest.approx(1.0)


def test_place_error_counts_places_on_the_face_only():
    uv = torch.zeros(2, 3, 4, 4)
    uv[..., :2] = 1  # the left half is face, at (1, 1)
    told = torch.zeros(2, 3, 4, 4)
    told[:, :2], told[:, 2] = 1, 40 * (uv[:, 2] - 0.5)
    exact = float(place_error(told, uv))
    assert exact < 1e-6
    told[:, 0, :, 2:] = 7  # beside the face anything goes
    assert float(place_error(told, uv)) == exact
    told[:, 0, :, :2] = 1.5
    assert float(place_error(told, uv)) == pytest.approx(0.25, rel=0.05)
    told[:, 2] = 0
    assert float(place_error(told, uv)) == pytest.approx(0.25 + math.log(2), rel=0.05)


def test_mask_error_is_the_weighted_cross_entropy():
    logits = torch.full((1, 1, 1, 4, 4), 2.0)
    given = fields(torch.zeros(1, 1, 2, 1, 4, 4), logits, torch.zeros(1, 3, 1, 4, 4))
    true, weight = torch.zeros(1, 1, 1, 4, 4), torch.ones(1, 1, 1, 4, 4)
    true[..., :2] = 1
    hit, miss = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert float(mask_error(given, true, weight)) == pytest.approx((hit + miss) / 2)
    weight[..., :2] = 3
    assert float(mask_error(given, true, weight)) == pytest.approx((3 * hit + miss) / 4)


def test_paint_is_compared_where_it_shows():
    paint = torch.zeros(1, 3, 1, 4, 4)
    target = torch.full((1, 3, 1, 8, 8), 0.5)
    mask = torch.zeros(1, 1, 1, 4, 4)
    given = fields(torch.zeros(1, 1, 2, 1, 4, 4), torch.zeros_like(mask), paint)
    assert float(paint_error(given, target, mask)) == 0
    mask[..., 1:3, 1:3] = 1
    paint[..., 0, 0] = 100.0
    assert float(paint_error(given, target, mask)) == pytest.approx(0.5 * 12 / 13)


def test_choice_is_the_mean_error_by_confidence_and_teaches_confidences_only():
    photos = torch.stack([torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), -0.5)])[None]
    target = torch.full((1, 3, 1, 8, 8), 0.5)  # the first reference is right, the second off by 1
    share = torch.full((1, 2, 1, 1, 4, 4), 0.5)
    share[:, 0], share[:, 1] = 0.75, 0.25
    flow, paint, mask = torch.zeros(1, 2, 2, 1, 4, 4), torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 1, 1, 4, 4)
    leaves = [share.requires_grad_(), flow.requires_grad_(), torch.ones_like(share).requires_grad_()]
    given = WarpFields(flow=leaves[1], confidence=leaves[0], shade=leaves[2], paint=paint, mask=mask)
    loss = choice_error(given, photos, target, torch.ones(1, 1, 1, 4, 4))
    assert float(loss.detach()) == pytest.approx(0.25)
    loss.backward()
    assert leaves[0].grad is not None
    assert leaves[0].grad[:, 1].sum() > leaves[0].grad[:, 0].abs().max()
    assert leaves[1].grad is None
    assert leaves[2].grad is None
