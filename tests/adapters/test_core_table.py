"""Stored cores of many sources."""

import pytest
import torch

import metalora
from metalora.adapters.core_table import CoreTable
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def model():
    return metalora.load("resnet20/metalora-tr")


@pytest.fixture
def cores(model):
    return model.generate(torch.rand(5, 3, 16, 16, generator=seeded_generator(0)))


@pytest.fixture
def table(cores):
    return CoreTable([f"camera {i}" for i in range(5)], cores)


def test_a_mixed_batch_gets_each_source_s_core(table, cores, model):
    found = table[["camera 3", "camera 0", "camera 3"]]
    images = torch.rand(3, 3, 16, 16, generator=seeded_generator(1))
    wanted = torch.cat([model(images[i : i + 1], cores=cores[row]) for i, row in enumerate((3, 0, 3))])
    torch.testing.assert_close(model(images, cores=found), wanted, atol=1e-5, rtol=1e-4)
    assert len(table["camera 1"]) == 1 and "camera 4" in table and "camera 9" not in table


def test_thousands_are_kept_in_one_file(table, tmp_path):
    table.save(tmp_path / "cores.safetensors")
    loaded = CoreTable.load(tmp_path / "cores.safetensors")
    assert list(loaded) == list(table) and repr(loaded) == repr(table)
    for layer, core in table[list(table)].items():
        assert torch.equal(loaded[list(table)][layer], core)


def test_unknown_sources_get_a_default_or_are_named(table, cores):
    default = cores.mean()
    found = table.get(["camera 2", "new"], default)
    for layer, core in found.items():
        assert torch.equal(core[0], cores[layer][2]) and torch.equal(core[1], default[layer][0])
    with pytest.raises(InputError, match="There is no core of 'new' among 5"):
        table[["camera 2", "new"]]


def test_sources_are_added_and_renewed(table, cores):
    later = table.with_cores(["camera 1", "camera 9"], cores[[4, 3]])
    assert len(later) == 6
    for layer, _ in cores.items():
        assert torch.equal(later["camera 1"][layer][0], cores[layer][4])
        assert torch.equal(later["camera 9"][layer][0], cores[layer][3])
        assert torch.equal(later["camera 0"][layer][0], cores[layer][0])


def test_what_does_not_belong_together_is_refused(table, cores, tmp_path):
    with pytest.raises(InputError, match="2 names for 5 cores"):
        CoreTable(["a", "b"], cores)
    with pytest.raises(InputError, match="name 'a' is there twice"):
        CoreTable(["a", "b", "a", "c", "d"], cores)
    other = metalora.load("mixer_nano/metalora-tr").generate(torch.rand(1, 3, 16, 16))
    with pytest.raises(InputError, match="of another adapter"):
        table.with_cores(["a"], other)
    with pytest.raises(InputError, match="of another adapter"):
        table.get(["a"], other)
    cores.save(tmp_path / "cores.safetensors")
    with pytest.raises(InputError, match="holds no table of cores"):
        CoreTable.load(tmp_path / "cores.safetensors")
