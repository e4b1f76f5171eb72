"""The mapping net: features → code → cores."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from metalora.adapters.cp import CP
from metalora.adapters.tr import TR
from metalora.models.mapping_net import INITIAL_STD, PRIOR_STD, ConstantCore, MappingNet, mean_by_group
from metalora.models.standardised_features import MAX_SCORE
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


def gaussian(**settings):
    """A net with Gaussian cores, whose variances differ from code to code."""
    net = make(gaussian=True, **settings)
    with torch.no_grad():
        net.log_variance.weight.copy_(numbers(*net.log_variance.weight.shape))
        net.log_variance.bias.copy_(numbers(net.total))
    return net


def moments(net, codes):
    """Mean and standard deviation of the offsets, by the equations; of latent codes."""
    log_variance = codes @ net.log_variance.weight.T + net.log_variance.bias + math.log(INITIAL_STD**2)
    return codes @ net.head.weight.T, log_variance.exp().sqrt()


def test_gaussian_cores_start_with_the_means_of_point_cores_and_one_small_variance():
    point, net = make(), make(gaussian=True)
    codes = point.codes(numbers(5, 7))
    assert torch.equal(codes, net.codes(numbers(5, 7)))
    normal = net.distribution(codes)
    assert torch.equal(normal.loc, point.head(codes))
    torch.testing.assert_close(normal.scale, torch.full((5, 7), INITIAL_STD))
    assert set(net.state_dict()) - set(point.state_dict()) == {"log_variance.weight", "log_variance.bias"}


def test_in_use_a_gaussian_core_is_its_mean():
    net, codes = gaussian().eval(), 0.1 * numbers(5, 4)
    wanted = net.split(moments(net, codes)[0])
    state = torch.get_rng_state()
    assert torch.equal(net.cores(codes).flatten(), wanted.flatten())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("mode", [True, False])
def test_point_cores_draw_nothing(mode):
    net, codes = make().train(mode), numbers(5, 4)
    state = torch.get_rng_state()
    assert torch.equal(net.cores(codes).flatten(), net.split(net.head(codes)).flatten())
    assert torch.equal(state, torch.get_rng_state())


def test_in_training_every_image_draws_a_core_by_torchs_generator():
    net, codes = gaussian().train(), (0.1 * numbers(1, 4)).expand(20000, 4)
    torch.manual_seed(3)
    first = net.cores(codes).flatten()
    torch.manual_seed(3)
    assert torch.equal(first, net.cores(codes).flatten())
    assert not torch.equal(first, net.cores(codes).flatten())
    mean, std = moments(net, codes[:1])
    torch.testing.assert_close(first.mean(0), (mean + net.identity)[0], rtol=0, atol=0.03 * std.max().item())
    torch.testing.assert_close(first.std(0), std[0], rtol=0.03, atol=0)


def test_noise_that_is_given_decides_the_draw():
    net, codes, noise = gaussian(), 0.1 * numbers(5, 4), numbers(1, 7)
    mean, std = moments(net, codes)
    drawn = net.sample_cores(codes, noise).flatten()
    torch.testing.assert_close(drawn, mean + std * noise + net.identity)


def test_the_divergence_is_that_of_two_normal_distributions():
    net, codes = gaussian(), 0.1 * numbers(5, 4)
    mean, std = moments(net, codes)
    by_hand = (PRIOR_STD / std).log() + (std**2 + mean**2) / (2 * PRIOR_STD**2) - 0.5
    torch.testing.assert_close(net.kl_divergence(codes), by_hand.sum(1))
    by_torch = kl_divergence(Normal(mean, std), Normal(0.0, PRIOR_STD)).sum(1)
    torch.testing.assert_close(net.kl_divergence(codes), by_torch)


def test_cores_like_the_prior_do_not_diverge():
    net = make(gaussian=True)
    with torch.no_grad():
        net.head.weight.zero_()
        net.log_variance.bias.fill_(2 * math.log(PRIOR_STD / INITIAL_STD))
    torch.testing.assert_close(net.kl_divergence(numbers(5, 4)), torch.zeros(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["draw", "divergence"])
def test_draw_and_divergence_have_gradients_to_mean_and_variance(part):
    net, codes = gaussian().train(), 0.1 * numbers(5, 4)
    result = net.cores(codes).flatten().square().sum() if part == "draw" else net.kl_divergence(codes).sum()
    result.backward()
    for parameter in (net.head.weight, *net.log_variance.parameters()):
        assert (parameter.grad != 0).all()


def test_variances_stay_finite_for_codes_of_any_length():
    net = gaussian()
    assert net.distribution(1e6 * numbers(5, 4)).scale.isfinite().all()
    assert net.kl_divergence(1e3 * numbers(5, 4)).isfinite().all()


def test_gaussian_cores_of_factor_codes_read_products_of_pairs_too():
    net = gaussian(factors=(2, 3))
    codes = net.codes(numbers(5, 7))
    pairs = (codes[:, :2, None] * codes[:, None, 2:]).flatten(1)
    scores = torch.cat([codes, pairs], 1) @ net.log_variance.weight.T + net.log_variance.bias
    torch.testing.assert_close(net.distribution(codes).scale, INITIAL_STD * (scores / 2).exp())


def test_a_width_learnt_from_data_leaves_the_first_variances_the_same():
    lazy = make(features=None, gaussian=True)
    lazy.materialise(numbers(2, 7))
    assert not any(parameter.any() for parameter in lazy.log_variance.parameters())


def test_autocast_leaves_distributions_in_the_modules_own_precision():
    net = gaussian(like=LIKE.double()).train()
    with torch.autocast("cpu", torch.bfloat16):
        codes = net.codes(numbers(5, 7).bfloat16())
        assert net.cores(codes)["first"].dtype == net.kl_divergence(codes).dtype == torch.float64


@pytest.mark.parametrize("call", ["distribution", "sample_cores", "kl_divergence"])
def test_point_cores_have_no_distribution(call):
    with pytest.raises(InputError, match="train one with core_distribution gaussian"):
        getattr(make(), call)(numbers(5, 4))
