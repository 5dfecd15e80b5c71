import torch

from vivavoz.nn.kv_cache import KVCache


def make_cache() -> KVCache:
    return KVCache.empty(2, num_layers=3, num_heads=2, capacity_tokens=10, head_dim=4)


def test_rows_are_written_at_their_own_slots_in_place():
    cache = make_cache()
    places = [tensor.data_ptr() for tensor in cache.tensors()]
    rng = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 3, 2, 4, 4, generator=rng), torch.randn(2, 3, 2, 4, 4, generator=rng)
    cache.write_(keys, values, torch.tensor([0, 6]))
    expected = torch.zeros(2, 3, 2, 10, 4)
    expected[0, :, :, 0:4], expected[1, :, :, 6:10] = keys[0], keys[1]
    assert torch.equal(cache.keys, expected)
    assert torch.equal(cache.values[1, :, :, 6:10], values[1])
    assert torch.equal(cache.values[1, :, :, :6], torch.zeros(3, 2, 6, 4))
    assert [tensor.data_ptr() for tensor in cache.tensors()] == places


def test_later_writes_leave_earlier_slots_alone():
    cache = make_cache()
    ones = torch.ones(2, 3, 2, 2, 4)
    cache.write_(ones, ones, torch.tensor([0, 0]))
    cache.write_(2 * ones, 2 * ones, torch.tensor([2, 1]))
    assert cache.keys[:, 0, 0, :5, 0].tolist() == [[1, 1, 2, 2, 0], [1, 2, 2, 0, 0]]


def test_stores_its_own_type_without_gradients():
    cache = KVCache.empty(1, num_layers=1, num_heads=1, capacity_tokens=2, head_dim=4, dtype=torch.bfloat16)
    keys = torch.ones(1, 1, 1, 1, 4, requires_grad=True)
    cache.write_(keys, keys, torch.tensor([0]))
    assert cache.keys.dtype == torch.bfloat16
    assert not cache.keys.requires_grad
    assert cache.capacity_tokens == 2
    assert cache.num_bytes == 2 * 2 * 4 * 2
