"""`RecipeCodec`: a bijection between canonical rows and packed tensors, fitted on the rows that it is given."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data import sites
from pyro_hcvae.data.codec import RecipeCodec, Scaler, condition_features, fit_scalers, step_states
from pyro_hcvae.data.schema import Amounts, Category, Column, Feed, Fractions, Performance, RecipeSchema, Stage, Step
from tests.strategies import QUICK, frames, schemas, schemas_with_frames


def schema_of(*blocks, **fields):
    return RecipeSchema(name="s", stages=(Stage(name="a", blocks=blocks),), performance=Performance(name="X"), **fields)


def table(**columns):
    return pd.DataFrame(columns).assign(X=50.0)


def site(codec, packed, name):
    return packed[:, codec.layout.slices[name]].numpy()


def assert_same_recipes(schema, found, expected):
    """Exact where it must be (presence, codes, states, absence), to float32 elsewhere."""
    assert tuple(found.columns) == schema.recipe_columns
    for block in schema.blocks:
        names = list(block.names())
        if isinstance(block, Category):
            assert found[block.column].tolist() == expected[block.column].tolist()
            continue
        a, b = found[names].to_numpy(float), expected[names].to_numpy(float)
        np.testing.assert_array_equal(a == 0, b == 0)
        scale = np.abs(b).max(initial=1.0)
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * scale)
        if isinstance(block, Step):
            np.testing.assert_array_equal(step_states(found, block), step_states(expected, block))


@QUICK
@given(schemas_with_frames())
def test_decode_inverts_encode(case):
    schema, frame = case
    before = frame.copy(deep=True)
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame)
    assert packed.dtype == torch.float32
    assert packed.shape == (len(frame), codec.layout.width)
    assert not torch.isinf(packed).any()
    assert_same_recipes(schema, codec.decode(packed), frame)
    pd.testing.assert_frame_equal(frame, before)


@QUICK
@given(schemas_with_frames(min_rows=2), st.data())
def test_rows_that_were_not_fitted_are_recovered_too(case, data):
    schema, frame = case
    other = data.draw(frames(schema))
    codec = RecipeCodec.fit(schema, frame)
    assert_same_recipes(schema, codec.decode(codec.encode(other)), other)


@QUICK
@given(schemas((Amounts, Fractions)), st.integers(0, 2**32 - 1))
def test_any_real_vector_is_a_valid_composition_and_comes_back(schema, seed):
    random = np.random.default_rng(seed)
    codec = RecipeCodec(schema, {c: Scaler("log", 0.3, 1.7) for c in schema.component_columns} | dict.fromkeys(
        codec_features(schema), Scaler("linear", 0.0, 1.0)))  # fmt: skip
    rows = 5
    packed = np.zeros((rows, codec.layout.width), dtype=np.float32)
    for block in schema.blocks:
        present = random.random((rows, len(block.columns))) < 0.6
        numbers = np.where(present, random.normal(0, 2, present.shape), np.nan)
        if isinstance(block, Fractions):
            numbers[np.arange(rows), present.argmax(axis=1)] = np.nan  # the reference has no ratio
        names = list(sites.of_block(block))
        packed[:, codec.layout.slices[names[0]]] = present
        packed[:, codec.layout.slices[names[1]]] = numbers
    recipes = codec.decode(torch.from_numpy(packed))
    for block in schema.blocks:
        values = recipes[list(block.columns)].to_numpy()
        present = packed[:, codec.layout.slices[f"{block.name}.presence"]] > 0
        assert ((values > 0) == present).all()
        if isinstance(block, Fractions):
            np.testing.assert_allclose(values.sum(axis=1), block.total * present.any(axis=1), rtol=1e-12)
    again = codec.encode(recipes.assign(**conditions_of(schema, rows)))
    width = len(codec.feature_names)
    np.testing.assert_allclose(again[:, width:], packed[:, width:], rtol=1e-4, atol=1e-5)


def decoded_column_by_column(codec, packed):
    """What `RecipeCodec.decode` computes, written down one column at a time."""
    schema, slices, columns = codec.schema, codec.layout.slices, {}
    for block in schema.blocks:
        first, *rest = (packed[:, slices[name]].double().numpy() for name in sites.of_block(block))
        if isinstance(block, Category):
            codes = [np.nan if np.isnan(x) else block.codes[int(x)] for x in first[:, 0]]
            columns[block.column] = np.array(codes, dtype=object)
        elif isinstance(block, Amounts):
            for i, name in enumerate(block.columns):
                scaler = codec.scalers[name]
                amount = np.exp(np.minimum(rest[0][:, i] * scaler.scale + scaler.loc, 80.0))
                columns[name] = np.where(np.isnan(first[:, i]), np.nan, np.where(first[:, i] > 0, amount, 0.0))
        elif isinstance(block, Fractions):
            columns |= dict(zip(block.columns, shares_row_by_row(codec, block, first, rest[0]).T, strict=True))
        else:
            table = [*block.applies(), (True,) * len(block.columns)]
            state = first[:, 0]
            for i, column in enumerate(block.columns):
                applies = np.array([table[-1 if np.isnan(s) else int(s)][i] for s in state], dtype=bool)
                number = np.clip(codec.scalers[column.name].decode(rest[0][:, i]), *column.bounds)
                done = ~((state == 0) & block.optional)
                columns[column.name] = np.where(done, np.where(applies, number, 0.0), block.absent)
    return pd.DataFrame(columns)


def shares_row_by_row(codec, block, presence, scaled):
    out = np.zeros_like(presence)
    for row, (present, numbers) in enumerate(zip(presence, scaled, strict=True)):
        logits = np.full(len(present), -np.inf)
        for i in np.flatnonzero(present > 0):
            scaler = codec.scalers[block.columns[i]]
            logits[i] = numbers[i] * scaler.scale + scaler.loc
        if (present > 0).any():
            logits[np.flatnonzero(present > 0)[0]] = 0.0  # the reference
            out[row] = np.exp(logits - logits.max())
            out[row] /= out[row].sum()
            out[row, ~(present > 0)] = 0.0  # whatever is not known of the others
        if np.isnan(present).any() or np.isnan(logits).any():
            out[row, present > 0] = np.nan
        out[row, np.isnan(present)] = np.nan
    return block.total * out


@QUICK
@given(schemas_with_frames(min_rows=2), st.integers(0, 2**32 - 1))
def test_decode_is_what_each_column_says(case, seed):
    schema, frame = case
    random = np.random.default_rng(seed)
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame)
    # Draws: a number everywhere, whether it exists or not. Partial rows: something unknown anywhere.
    drawn = torch.where(packed.isnan(), torch.from_numpy(random.normal(0, 3, packed.shape)).float(), packed)
    partial = torch.where(torch.from_numpy(random.random(packed.shape) < 0.2), torch.nan, packed)
    for rows in (packed, drawn, partial, packed[:0]):
        found = codec.decode(rows)
        pd.testing.assert_frame_equal(found, decoded_column_by_column(codec, rows), rtol=1e-13, atol=0)
        assert tuple(found.columns) == schema.recipe_columns


def codec_features(schema):
    names = [c.name for c in schema.conditions] + [schema.performance.name]
    return names + ([*schema.feed.ratios, schema.feed.diluent] if schema.feed else [])


def conditions_of(schema, rows):
    return {name: np.ones(rows) for name in (*schema.condition_columns, schema.performance.name)}


@QUICK
@given(schemas_with_frames(min_rows=2))
def test_json_restores_a_codec_exactly(case):
    schema, frame = case
    codec = RecipeCodec.fit(schema, frame)
    again = RecipeCodec.from_json(schema, codec.to_json())
    assert again.scalers == codec.scalers
    assert again.to_json() == codec.to_json()
    assert torch.equal(torch.nan_to_num(again.encode(frame)), torch.nan_to_num(codec.encode(frame)))


@QUICK
@given(schemas_with_frames(min_rows=3, max_rows=8), st.data())
def test_unknown_cells_stay_unknown_and_spoil_no_other_column(case, data):
    schema, frame = case
    codec = RecipeCodec.fit(schema, frame)
    partial = frame.copy()
    fractions = {c for b in schema.blocks if isinstance(b, Fractions) for c in b.columns}
    steps = {c for b in schema.blocks if isinstance(b, Step) for c in b.names()}
    hidden = data.draw(st.sets(st.sampled_from(schema.recipe_columns), min_size=1))
    for block in schema.blocks:
        names = [c for c in block.names() if c in hidden]
        # A step with an unknown lead is unknown as a whole: nobody can tell a 0 from "not carried out".
        if isinstance(block, Step) and block.names()[0] in names:
            names = list(block.names())
        done = ~(frame[list(block.names())] == 0).all(axis=1) if isinstance(block, Step) and names else slice(None)
        partial.loc[done, names] = np.nan
    packed = codec.encode(partial)
    assert not torch.isinf(packed).any()
    found = codec.decode(packed)
    for name in schema.recipe_columns:
        open_cells = partial[name].isna().to_numpy()
        assert found[name].isna().to_numpy()[open_cells].all(), name
        if name not in fractions:
            # Zeros of a step mean a state, and the state of these rows may be unknown.
            sure = ~open_cells & ~((partial[name] == 0).to_numpy() & (name in steps))
            assert not found[name].isna().to_numpy()[sure].any(), name
    features = len(codec.feature_names)
    assert torch.equal(packed[:, :features].nan_to_num(), codec.encode(frame)[:, :features].nan_to_num())


def test_known_shares_beside_an_unknown_one_are_not_changed():
    schema = schema_of(Fractions(name="support", columns=("A", "B", "C"), may_be_empty=True))
    frame = table(A=[0.5, 0.2], B=[0.5, 0.8], C=[0.0, 0.0])
    codec = RecipeCodec.fit(schema, frame)
    frame.loc[0, "A"] = np.nan
    found = codec.decode(codec.encode(frame)).loc[0]
    assert np.isnan(found["B"]) or found["B"] == pytest.approx(0.5)
    assert found["C"] == 0.0


def test_no_ratio_is_known_beside_an_unknown_share():
    schema = schema_of(Fractions(name="support", columns=("A", "B", "C")))
    frame = table(A=[0.2, 0.2], B=[0.3, 0.3], C=[0.5, 0.5])
    codec = RecipeCodec.fit(schema, frame)
    frame.loc[0, "C"] = np.nan  # the others might be parts of anything
    packed = codec.encode(frame)
    assert np.isnan(site(codec, packed, "support.ratio")).tolist() == [[True, True, True], [True, False, False]]
    np.testing.assert_array_equal(site(codec, packed, "support.presence"), [[1, 1, np.nan], [1, 1, 1]])


def test_states_that_cannot_be_told():
    columns = (
        {"name": "T"},
        {"name": "H2", "transform": "log", "zero_means": "inert"},
        {"name": "w", "zero_means": "dry"},
    )
    schema = schema_of(Step(name="red", optional=True, columns=columns))
    frame = table(T=[700.0, 600.0, 0.0], H2=[0.0, 5.0, 0.0], w=[1.0, 0.0, 0.0])
    codec = RecipeCodec.fit(schema, frame)
    assert not np.isnan(site(codec, codec.encode(frame), "red.state")).any()
    frame.loc[0, "w"] = np.nan  # the step was done, but how?
    frame.loc[1, "T"] = np.nan  # was it done?
    packed = codec.encode(frame)
    assert np.isnan(site(codec, packed, "red.state")).ravel().tolist() == [True, True, False]
    known = ~np.isnan(site(codec, packed, "red.value"))
    assert known.tolist() == [[True, False, False], [False, True, False], [False, False, False]]
    assert not torch.isinf(packed).any()  # the 0 is a state, and no logarithm is taken of it


def test_a_block_whose_columns_lack_is_unknown():
    schema = schema_of(Amounts(name="metal", columns=("Ni", "Co")), Category(name="p", column="P", codes=(1, 2)))
    frame = table(Ni=[5.0, 0.0], Co=[0.0, 1.0], P=[1, 2])
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame.drop(columns=["Ni", "Co"]))
    assert torch.isnan(packed[:, 1:5]).all()
    found = codec.decode(packed)
    assert found[["Ni", "Co"]].isna().all(axis=None)
    assert found["P"].tolist() == [1, 2]


def test_fit_sees_training_rows_only():
    schema = schema_of(Amounts(name="metal", columns=("Ni", "Co")), conditions=(Column(name="T", transform="log"),))
    frame = table(Ni=[5.0, 2.0, 8.0, 1.0], Co=[0.0, 1.0, 0.5, 3.0], T=[700.0, 600.0, 650.0, 900.0])
    train = [0, 1, 2]
    codec = RecipeCodec.fit(schema, frame.iloc[train])
    changed = frame.copy()
    changed.loc[3] = [80.0, 0.001, 1.0, 0.0]
    assert RecipeCodec.fit(schema, changed.iloc[train]).scalers == codec.scalers
    assert RecipeCodec.fit(schema, changed).scalers != codec.scalers  # so the test can fail
    codec.encode(changed)
    assert RecipeCodec.fit(schema, frame.iloc[train]).scalers == codec.scalers


def test_weights_count_rows_and_their_unit_does_not_matter():
    schema = schema_of(Amounts(name="metal", columns=("Ni",)), conditions=(Column(name="T"),))
    frame = table(Ni=[5.0, 2.0, 2.0], T=[700.0, 600.0, 600.0])
    weights = np.array([1.0, 0.5, 0.5])
    codec = RecipeCodec.fit(schema, frame, weights)
    assert codec.scalers["T"].loc == pytest.approx(650.0)  # not 633.3: two rows of one recipe count once
    assert codec.scalers["Ni"].loc == pytest.approx((np.log(5.0) + np.log(2.0)) / 2)
    tenfold = RecipeCodec.fit(schema, frame, 10 * weights)
    for name, scaler in codec.scalers.items():
        assert (tenfold.scalers[name].loc, tenfold.scalers[name].scale) == pytest.approx((scaler.loc, scaler.scale))


def test_scales_are_standardised():
    conditions = (Column(name="T"), Column(name="W", transform="log"))
    schema = schema_of(Amounts(name="metal", columns=("Ni",)), conditions=conditions)
    random = np.random.default_rng(0)
    frame = table(Ni=random.uniform(1, 9, 50), T=random.uniform(500, 900, 50), W=random.uniform(0.1, 9, 50))
    features = RecipeCodec.fit(schema, frame).encode_conditions(frame)[:, :2]
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(features.std(axis=0), 1.0, rtol=1e-12)


def test_rare_components_are_shrunk_to_the_pooled_mean():
    schema = schema_of(Amounts(name="metal", columns=("Ni", "Pt", "Au")))
    frame = table(Ni=[8.0] * 30 + [0.0], Pt=[0.0] * 30 + [0.01], Au=0.0)
    scalers = RecipeCodec.fit(schema, frame).scalers
    assert np.log(0.01) < scalers["Pt"].loc < scalers["Ni"].loc
    assert abs(scalers["Ni"].loc - np.log(8.0)) < 0.7
    assert np.isfinite(scalers["Au"].loc)  # never occurs
    assert scalers["Au"].scale == scalers["Ni"].scale > 0


def test_absence_is_structural():
    step = Step(
        name="red", optional=True,
        columns=({"name": "T"}, {"name": "t", "transform": "log"}, {"name": "H2", "zero_means": "inert"}),
    )  # fmt: skip
    schema = schema_of(step)
    frame = table(T=[700.0, 0.0, 500.0], t=[2.0, 0.0, 1.0], H2=[10.0, 0.0, 0.0])
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame)
    assert site(codec, packed, "red.state").ravel().tolist() == [1.0, 0.0, 2.0]
    known = ~np.isnan(site(codec, packed, "red.value"))
    assert known.tolist() == [[True, True, True], [False, False, False], [True, True, False]]
    # "not done" and "inert" are no numbers: they do not enter the scales.
    assert codec.scalers["T"].loc == pytest.approx(600.0)
    assert codec.scalers["H2"].loc == pytest.approx(10.0)


def test_absent_value_other_than_zero():
    step = Step(name="red", optional=True, absent=-1.0, columns=({"name": "T"}, {"name": "t"}))
    schema = schema_of(step)
    frame = table(T=[0.0, -1.0, 25.0], t=[0.0, -1.0, 3.0])
    codec = RecipeCodec.fit(schema, frame)
    np.testing.assert_allclose(codec.decode(codec.encode(frame)), frame[["T", "t"]], atol=1e-5)
    assert site(codec, codec.encode(frame), "red.state").ravel().tolist() == [1.0, 0.0, 1.0]


def test_numbers_beyond_a_limit_are_set_to_it():
    step = Step(name="calc", columns=({"name": "T", "minimum": 20.0, "maximum": 1400.0},))
    schema = schema_of(step)
    frame = table(T=[500.0, 700.0])
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame)
    packed[:, codec.layout.slices["calc.value"]] = torch.tensor([[-100.0], [100.0]])
    assert codec.decode(packed)["T"].tolist() == [20.0, 1400.0]


def test_shares_use_the_first_present_component_as_reference():
    schema = schema_of(Fractions(name="support", columns=("A", "B", "C"), total=100.0))
    frame = table(A=[0.0, 25.0], B=[20.0, 0.0], C=[80.0, 75.0])
    codec = RecipeCodec.fit(schema, frame)
    known = ~np.isnan(site(codec, codec.encode(frame), "support.ratio"))
    assert known.tolist() == [[False, False, True], [False, False, True]]
    np.testing.assert_allclose(codec.decode(codec.encode(frame)).sum(axis=1), 100.0, rtol=1e-12)


def test_feed_becomes_ratios_and_a_diluted_share():
    feed = Feed(reactants=("CH4", "CO2"), diluents=("N2", "Ar"), ratios=("CO2/CH4",), diluent="Diluted")
    schema = schema_of(Amounts(name="metal", columns=("Ni",)), feed=feed)
    frame = table(Ni=[1.0, 2.0], CH4=[20.0, 10.0], CO2=[40.0, 10.0], N2=[40.0, 50.0], Ar=[0.0, 25.0])
    codec = RecipeCodec.fit(schema, frame)
    assert codec.feature_names == ("CO2/CH4", "Diluted", "X")
    # The second feed sums to 95: the share refers to what there is.
    np.testing.assert_allclose(condition_features(schema, frame)[:, :2], [[2.0, 40.0], [1.0, 7500 / 95]])
    features = codec.encode_conditions(frame)
    np.testing.assert_allclose(codec.decode_feature("CO2/CH4", features[:, 0]), [2.0, 1.0])


@pytest.mark.parametrize("transform", ["linear", "log", "log1p"])
def test_scaler_of_a_constant_or_an_empty_column_is_usable(transform):
    values = np.column_stack([np.full(3, 7.0), np.full(3, np.nan)])
    constant, empty = fit_scalers({"x": transform, "y": transform}, lambda: iter([(values, np.ones(3))])).values()
    assert constant.scale == 1.0
    np.testing.assert_allclose(constant.decode(constant.encode(np.array([7.0, 9.0]))), [7.0, 9.0])
    assert empty == Scaler(transform, 0.0, 1.0)


def test_huge_draws_decode_to_finite_numbers():
    scaler = Scaler("log", 0.0, 1.0)
    assert np.isfinite(scaler.decode(np.array([1e6]))).all()


@pytest.mark.drm
def test_round_trip_of_the_real_table(drm_table):
    codec = RecipeCodec.fit(drm_table.schema, drm_table.frame)
    packed = codec.encode(drm_table.frame)
    assert not torch.isinf(packed).any()
    expected = drm_table.frame[list(drm_table.schema.recipe_columns)]
    found = codec.decode(packed).set_axis(expected.index)
    np.testing.assert_allclose(found.to_numpy(float), expected.to_numpy(float), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.to_numpy(float) == 0, expected.to_numpy(float) == 0)


@pytest.fixture
def drm_table():
    import os

    from pyro_hcvae.data.table import RecipeTable

    if "PYRO_HCVAE_DRM_CSV" not in os.environ:
        pytest.skip("PYRO_HCVAE_DRM_CSV does not name the real table")
    return RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm"))
