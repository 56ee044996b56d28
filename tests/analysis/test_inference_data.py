"""Draws for ArviZ: groups, dimensions and coordinates, and the way to disk and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeDesigner
from pyro_hcvae.analysis.inference_data import datasets, read_netcdf, write_netcdf
from pyro_hcvae.posterior.importance import log_marginal

DRAWS = 6


def rows(designer: RecipeDesigner) -> pd.DataFrame:
    return designer.table.frame.iloc[[0, 3, 6, 9]]


def test_groups_have_named_dimensions_and_coordinates(designer: RecipeDesigner) -> None:
    data = designer.to_inference_data(rows(designer), draws=DRAWS, seed=1)
    sizes = {"draw": DRAWS, "member": 3, "recipe": 4}
    for group in ("posterior", "prior"):
        assert data[group]["z_metal"].sizes == {**sizes, "z_metal_unit": 3}
        assert set(data[group].data_vars) == {"z_metal", "z_support", "z_treatment"}
    for group in ("posterior_predictive", "prior_predictive"):
        assert data[group]["metals"].sizes == {**sizes, "metals_component": 3}
        assert data[group]["reduction_state"].sizes == sizes
        assert list(data[group]["reduction_setting"].values) == ["Red T", "Red H2"]
    assert list(data["log_likelihood"]["site"].values)[:2] == ["metals.presence", "metals.amount"]
    assert list(data["log_likelihood"]["stage"].values)[:3] == ["metal", "metal", "support"]
    assert data["sample_stats"]["log_weight"].sizes == sizes
    assert list(data["observed_data"]["recipe"].values) == list(rows(designer).index)
    assert "chain" not in {name for group in ("posterior", "prior", "log_likelihood") for name in data[group].sizes}
    assert data["posterior_predictive"]["metals"].attrs["units"] == "wt%"
    assert data["posterior_predictive"]["method"].attrs["flag_meanings"] == ["wet", "dry"]


def test_what_is_observed_is_the_table(designer: RecipeDesigner) -> None:
    frame = rows(designer)
    groups = datasets(designer.network, designer.codec, frame, draws=2)
    observed, constant = groups["observed_data"], groups["constant_data"]
    np.testing.assert_array_equal(observed["metals"].sel(metals_component="A"), frame["A"])
    assert [["wet", "dry"][i] for i in observed["method"].values] == list(frame["Method"])
    done = frame["Red T"] > 0
    settings = observed["reduction"].sel(reduction_setting="Red T")
    np.testing.assert_array_equal(settings[done.to_numpy()], frame["Red T"][done])
    assert np.isnan(settings[~done.to_numpy()]).all()
    np.testing.assert_array_equal(constant["conditions"].sel(condition="T"), frame["T"])
    np.testing.assert_array_equal(constant["conditions"].sel(condition="Yield"), frame["Yield"])


def test_draws_are_valid_and_scored_without_weights(designer: RecipeDesigner) -> None:
    frame = rows(designer)
    groups = datasets(designer.network, designer.codec, frame, draws=400, seed=2)
    drawn = groups["posterior_predictive"]
    shares = drawn["supports"].sum("supports_component")
    assert (np.isclose(shares, 1, atol=1e-5) | (shares == 0)).all()
    missing = np.isnan(drawn["reduction"].sel(reduction_setting="Red T"))
    assert (missing == (drawn["reduction_state"] == 0)).all()
    # Log weights average to the marginal likelihood, which is computed elsewhere and never weighted.
    batch = designer.codec.layout.unpack(designer.codec.encode(frame)[None]).expand_members(3)
    marginal = log_marginal(designer.network, batch, draws=400, seed=5).numpy()
    weights = groups["sample_stats"]["log_weight"].values
    estimate = np.logaddexp.reduce(weights.astype(float), axis=0) - np.log(400)
    np.testing.assert_allclose(estimate, marginal, atol=0.5)
    ratio = weights - groups["log_likelihood"]["sites"].sum("site").values
    assert (ratio.mean(axis=0) < 0.05).all()  # minus a KL


def test_netcdf_round_trip(designer: RecipeDesigner, tmp_path: Path) -> None:
    data = designer.to_inference_data(rows(designer), draws=DRAWS, seed=1)
    write_netcdf(data, tmp_path / "draws.nc")
    back = read_netcdf(tmp_path / "draws.nc")
    for group in (
        "posterior", "posterior_predictive", "prior", "prior_predictive", "log_likelihood", "sample_stats", "observed_data",
        "constant_data",
    ):  # fmt: skip
        one, two = data[group], back[group]
        assert dict(two.sizes) == dict(one.sizes), group
        for name in one.variables:
            np.testing.assert_array_equal(two[name].values, one[name].values, err_msg=f"{group} {name}")
    assert back["posterior_predictive"]["metals"].attrs["units"] == "wt%"
    assert list(back["posterior_predictive"]["method"].attrs["flag_meanings"]) == ["wet", "dry"]
    (tmp_path / "text.nc").write_text("no such thing")
    with pytest.raises(InputError, match="no netCDF file"):
        read_netcdf(tmp_path / "text.nc")
    with pytest.raises(InputError, match="no such file"):
        read_netcdf(tmp_path / "nothing.nc")


def test_conditions_alone_have_no_posterior(designer: RecipeDesigner) -> None:
    alone = rows(designer).assign(**dict.fromkeys(designer.schema.recipe_columns, np.nan))
    groups = datasets(designer.network, designer.codec, alone, draws=DRAWS)
    assert set(groups) == {"prior", "prior_predictive", "constant_data"}


def test_all_recipes_of_the_table_by_default(designer: RecipeDesigner) -> None:
    data = designer.to_inference_data(draws=1)
    assert data["posterior"].sizes["recipe"] == designer.table.report.facts["recipes"] == 40
    assert set(data["observed_data"]["recipe"].values) <= set(designer.table.frame.index)


def test_independent_draws_have_no_r_hat(designer: RecipeDesigner) -> None:
    data = designer.to_inference_data(rows(designer), draws=DRAWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    with pytest.raises((ValueError, KeyError)):  # there is no such dimension as a chain
        arviz.rhat(data)


def test_wrong_input_is_refused(designer: RecipeDesigner) -> None:
    frame = rows(designer)
    with pytest.raises(InputError, match="at least 1"):
        designer.to_inference_data(frame, draws=0)
    with pytest.raises(InputError, match="must differ"):
        designer.to_inference_data(frame.set_axis([1, 1, 2, 3], axis=0))
    with pytest.raises(InputError, match="leaves 'metals' open"):
        designer.to_inference_data(frame.assign(A=np.nan))
