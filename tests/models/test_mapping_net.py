"""The mapping net: features → code → cores."""

import pytest
import torch
from torch import nn

from metalora.adapters.cp import CP
from metalora.adapters.tr import TR
from metalora.models.mapping_net import MAX_SCORE, ConstantCore, MappingNet, mean_by_group
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

FORMATS = {"first": CP(3), "second": TR(2)}
LIKE = torch.zeros(1)


def make(features=7, like=LIKE, seed=0, formats=FORMATS, **settings):
    given = {
        "hidden": 8,
        "code": 4,
        "head_init_std": 0.1,
        "code_norm_limit": 0.0,
        "rng": seeded_generator(seed),
    } | settings
    return MappingNet(formats, like, features=features, **given)


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_cores_have_the_shapes_of_their_formats():
    cores = make().cores(make().codes(numbers(5, 7)))
    assert {name: tuple(core.shape) for name, core in cores.items()} == {"first": (5, 3), "second": (5, 2, 2)}


def test_cores_are_the_identity_core_plus_a_linear_map_of_the_code():
    net, codes = make(), numbers(5, 4)
    offsets = codes @ net.head.weight.T
    cores = net.cores(codes)
    torch.testing.assert_close(cores["first"], 1 + offsets[:, :3])
    torch.testing.assert_close(cores["second"], torch.eye(2) + offsets[:, 3:].reshape(5, 2, 2))


def test_codes_are_a_small_network_of_standardised_features():
    net, features = make(), numbers(50, 7) * 3 + 5
    net.standardise(features)
    scores = (features - features.mean(0)) / features.std(0, correction=0)
    wanted = net.code(net.hidden(scores).relu())
    assert net.standardised and not make().standardised
    torch.testing.assert_close(net.codes(features), wanted)


def test_a_feature_that_never_varied_has_a_bounded_effect():
    net = make(features=2)
    net.standardise(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert torch.equal(net.codes(torch.tensor([[50.0, 0.5]])), net.codes(torch.tensor([[5000.0, 0.5]])))
    score = torch.tensor([[MAX_SCORE, 0.0]])
    torch.testing.assert_close(net.codes(torch.tensor([[50.0, 0.5]])), net.code(net.hidden(score).relu()))


def test_the_last_layer_starts_small_and_without_bias():
    net = make(features=3, formats={"layer": TR(30)}, code=16)
    assert net.head.bias is None
    assert net.head.weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_first_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(2)
    second, other = make(), make(seed=1)
    assert torch.equal(first.hidden.weight, second.hidden.weight)
    assert not torch.equal(first.hidden.weight, other.hidden.weight)


def test_a_width_learnt_from_data_gives_the_same_first_weights():
    lazy = make(features=None)
    assert not lazy.materialised
    lazy.materialise(numbers(2, 7))
    assert lazy.materialised
    known = make().state_dict()
    assert lazy.state_dict().keys() == known.keys()
    assert all(torch.equal(value, known[name]) for name, value in lazy.state_dict().items())
    assert type(lazy.hidden) is nn.Linear


def test_a_latent_code_keeps_its_direction_and_stays_below_its_norm_limit():
    unbounded, bounded = make(), make(code_norm_limit=2.0)
    for scale in (1e-3, 1.0, 1e3):  # far below, and far above
        features = scale * numbers(50, 7)
        codes, lengths = unbounded.codes(features), unbounded.codes(features).norm(dim=1)
        found = bounded.codes(features)
        torch.testing.assert_close(found.norm(dim=1), 2 * lengths / (4 + lengths**2).sqrt())
        torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), codes / lengths[:, None])
    assert lengths.min() > 10 and found.norm(dim=1).max() <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_leaves_codes_and_cores_in_the_modules_own_precision(dtype):
    net = make(like=LIKE.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        codes = net.codes(numbers(5, 7).bfloat16())
        cores = net.cores(codes)
    assert codes.dtype == cores["first"].dtype == dtype
    torch.testing.assert_close(codes, net.codes(numbers(5, 7).bfloat16()))


def test_a_constant_core_starts_as_the_identity_core_and_learns():
    constant = ConstantCore(FORMATS, LIKE)
    cores = constant.cores()
    assert cores["first"].tolist() == [[1.0, 1.0, 1.0]]
    assert cores["second"].tolist() == [[[1.0, 0.0], [0.0, 1.0]]]
    cores.flatten().sum().backward()
    assert torch.equal(constant.offset.grad, torch.ones(1, 7))


def test_pooling_gives_every_member_the_mean_of_its_group():
    codes = torch.tensor([[1.0], [2.0], [3.0], [10.0]])
    assert mean_by_group(codes, torch.tensor([7, -2, 7, 1000])).flatten().tolist() == [2.0, 2.0, 2.0, 10.0]


def test_pooling_needs_a_group_number_for_each_code():
    with pytest.raises(InputError, match="3 group numbers for 4 images"):
        mean_by_group(torch.ones(4, 2), torch.zeros(3, dtype=torch.long))


def predicting(seed=0):
    return make(seed=seed, factors=(2, 3), code_norm_limit=0.5)


def test_a_factor_code_has_a_distribution_for_each_factor():
    codes = predicting().codes(numbers(5, 7))
    assert codes.shape == (5, 5)
    for part in codes.split([2, 3], dim=1):
        torch.testing.assert_close(part.sum(1), torch.ones(5))


def test_cores_of_a_factor_code_are_linear_in_it_and_in_its_products():
    net, codes = predicting(), predicting().codes(numbers(5, 7))
    wide = torch.stack([torch.cat([c, torch.outer(c[:2], c[2:]).flatten()]) for c in codes])
    torch.testing.assert_close(net.cores(codes).flatten(), net.identity + wide @ net.head.weight.T)


def test_an_open_factor_gives_the_mean_of_the_cores_in_question():
    net = predicting()
    first, second = (net.cores(net.factor_codes(torch.tensor([[1, value]]))).flatten() for value in (0, 2))
    between = net.cores(torch.tensor([[0.0, 1.0, 0.5, 0.0, 0.5]])).flatten()
    torch.testing.assert_close(between, (first + second) / 2)


def test_factor_codes_are_pooled_by_their_product():
    net = predicting()
    codes = torch.tensor([[0.8, 0.2, 0.6, 0.3, 0.1], [0.8, 0.2, 1 / 3, 1 / 3, 1 / 3], [0.1, 0.9, 0.2, 0.2, 0.6]])
    pooled = net.pool(codes, torch.tensor([4, 4, 7]))
    torch.testing.assert_close(pooled[0, :2], torch.tensor([0.64, 0.04]) / 0.68)
    torch.testing.assert_close(pooled[0, 2:], codes[0, 2:])  # the second image leaves this factor open
    torch.testing.assert_close(pooled[1], pooled[0])
    torch.testing.assert_close(pooled[2], codes[2])


INDICES = torch.tensor([[0, 2], [1, 1], [0, 0], [1, 2]])


def test_factor_loss_is_the_cross_entropy_of_every_factor_where_all_combinations_are_trained():
    net, codes = predicting(), predicting().codes(numbers(4, 7))
    every = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    wanted = -sum(codes[i, a].log() + codes[i, 2 + b].log() for i, (a, b) in enumerate(INDICES.tolist())) / 4
    torch.testing.assert_close(net.factor_loss(codes, INDICES, every), wanted)
    torch.testing.assert_close(net.factor_loss(net.factor_codes(INDICES), INDICES, every), torch.tensor(0.0))


def test_factor_loss_gains_nothing_by_ruling_out_combinations_that_are_not_trained():
    codes = predicting().codes(numbers(4, 7))
    trained = INDICES.unique(dim=0)  # four of six
    products = codes[:, trained[:, 0]] * codes[:, 2 + trained[:, 1]]
    own = torch.stack([codes[i, a] * codes[i, 2 + b] for i, (a, b) in enumerate(INDICES.tolist())])
    torch.testing.assert_close(predicting().factor_loss(codes, INDICES, trained), -(own / products.sum(1)).log().mean())
    alone = torch.tensor([[0, 2]])  # where one combination is trained there is nothing to learn
    torch.testing.assert_close(predicting().factor_loss(codes[:1], alone, alone), torch.tensor(0.0))
