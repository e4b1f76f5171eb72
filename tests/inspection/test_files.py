"""Cores and strengths as files: every number once, with its indices."""

import numpy as np
import pandas as pd
import pytest
import torch

from metalora.adapters.cores import Cores
from metalora.inspection.files import CSV, NPZ, value_table, write_inspection
from metalora.inspection.inspect_images import Inspection
from metalora.util.errors import InputError


@pytest.fixture
def generated():
    """Three images, a layer in TR format and one in CP format."""
    rng = torch.Generator().manual_seed(0)
    cores = Cores({"conv": torch.randn(3, 2, 2, generator=rng), "head": torch.randn(3, 4, generator=rng)})
    names = ("a.png", 'b, "quoted".png', "a.png")
    strength = pd.DataFrame({"conv": [0.1, 0.2, 0.3], "head": [0.4, 0.5, 0.6]}, index=list(names))
    return Inspection(names, cores, strength, torch.eye(3, dtype=torch.float64), False)


@pytest.fixture
def static():
    strength = pd.DataFrame({"conv": [0.1, 0.1]}, index=["a", "b"])
    return Inspection(("a", "b"), None, strength, None, True)


def test_every_value_has_a_row_with_its_indices(generated):
    table = value_table(generated)
    assert list(table) == ["image", "name", "layer", "quantity", "row", "column", "value"]
    assert len(table) == 3 * (1 + 4) + 3 * (1 + 4)
    matrix = table.query("image == 2 and layer == 'conv' and quantity == 'core' and row == 1 and column == 2")
    assert matrix["value"].item() == pytest.approx(generated.cores["conv"][1, 0, 1].item())
    vector = table.query("image == 3 and layer == 'head' and quantity == 'core' and row == 4")
    assert vector["value"].item() == pytest.approx(generated.cores["head"][2, 3].item())
    assert vector["column"].isna().all()
    strength = table.query("quantity == 'strength' and layer == 'head'")
    assert strength["value"].tolist() == [0.4, 0.5, 0.6] and strength["row"].isna().all()
    assert table.query("image == 2")["name"].unique().tolist() == ['b, "quoted".png']


def test_both_files_hold_what_was_generated(generated, tmp_path):
    csv, npz = write_inspection(generated, tmp_path / "new" / "folder")
    assert (csv.name, npz.name) == (CSV, NPZ)
    read = pd.read_csv(csv).astype({"row": "Int64", "column": "Int64"})
    pd.testing.assert_frame_equal(read, value_table(generated), check_dtype=False)
    with np.load(npz, allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(generated.names)
        assert arrays["layers"].tolist() == ["conv", "head"]
        assert np.array_equal(arrays["strength"], generated.strength.to_numpy())
        assert np.array_equal(arrays["cores/conv"], generated.cores["conv"].numpy())
        assert np.array_equal(arrays["cores/head"], generated.cores["head"].numpy())
        assert np.array_equal(arrays["similarity"], np.eye(3))


def test_a_static_method_has_strengths_alone(static, tmp_path):
    csv, npz = write_inspection(static, tmp_path)
    assert set(pd.read_csv(csv)["quantity"]) == {"strength"}
    with np.load(npz, allow_pickle=False) as arrays:
        assert set(arrays) == {"names", "layers", "strength"}


def test_later_files_replace_earlier_ones(generated, static, tmp_path):
    write_inspection(generated, tmp_path)
    csv, _ = write_inspection(static, tmp_path)
    assert len(pd.read_csv(csv)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CSV, NPZ])


def test_a_disk_that_refuses_is_an_input_error(generated, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(InputError):
        write_inspection(generated, tmp_path / "taken" / "looks")
