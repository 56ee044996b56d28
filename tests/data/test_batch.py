"""`RecipeBatch` and `Layout`: what a packed row holds, and what counts as known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Layout, RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from tests.strategies import QUICK, schemas, schemas_with_frames


def encoded(case, members=1):
    """Codec, packed rows ``(M, B, W)`` and the batch of a schema and its rows."""
    schema, frame = case
    codec = RecipeCodec.fit(schema, frame)
    packed = codec.encode(frame).expand(members, -1, -1)
    return codec, packed, codec.layout.unpack(packed)


@QUICK
@given(schemas(), st.integers(1, 5))
def test_slices_tile_the_row(schema, features):
    layout = Layout(schema, features)
    assert list(layout.slices) == list(sites.observed(schema))
    ends = [features]
    for place in layout.slices.values():
        assert place.start == ends[-1]
        assert place.stop > place.start
        ends.append(place.stop)
    assert ends[-1] == layout.width


@QUICK
@given(schemas_with_frames(), st.integers(1, 3))
def test_unpack_then_pack_gives_the_known_numbers_back(case, members):
    codec, packed, batch = encoded(case, members)
    assert batch.shape == tuple(packed.shape[:2])
    assert batch.conditions.shape == (*batch.shape, len(codec.feature_names))
    for name, size in sites.observed(codec.schema).items():
        assert batch.values[name].shape == batch.known[name].shape == (*batch.shape, *([] if size is None else [size]))
        assert batch.values[name].isfinite().all()
        assert batch.known[name].dtype == torch.bool
    again = codec.layout.pack(batch.values, batch.conditions)
    known = ~packed.isnan()
    assert torch.equal(again[known], packed[known])
    assert (again[~known] == 0).all()


@QUICK
@given(schemas_with_frames())
def test_what_does_not_exist_is_not_known(case):
    codec, _, batch = encoded(case)
    assert batch.conditions_known.all()
    for block in codec.schema.blocks:
        first, *rest = sites.of_block(block)
        assert batch.known[first].all()
        if block.kind == "amounts":
            assert torch.equal(batch.known[rest[0]], batch.values[first] == 1)
        elif block.kind == "fractions":  # all present ones but the first, which is the reference
            present = batch.values[first] == 1
            expected = present & (present.cumsum(dim=-1) > 1)
            assert torch.equal(batch.known[rest[0]], expected)
        elif block.kind == "step":
            applies = torch.tensor(block.applies())[batch.values[first].long()]
            assert torch.equal(batch.known[rest[0]], applies)


def test_unknown_cells_of_a_packed_row():
    batch = RecipeBatch(torch.zeros(1, 2, 3), torch.ones(1, 2, 3, dtype=torch.bool), {}, {})
    assert batch.condition_inputs().tolist() == [[[0, 0, 0, 1, 1, 1]] * 2]


@QUICK
@given(schemas_with_frames(min_rows=2))
def test_unknown_conditions_are_marked_and_finite(case):
    codec, packed, _ = encoded(case)
    packed = packed.clone()
    packed[:, 0, 0] = torch.nan
    batch = codec.layout.unpack(packed)
    assert not batch.conditions_known[0, 0, 0]
    assert batch.conditions_known[0, 1:].all()
    assert batch.condition_inputs().isfinite().all()
    features = len(codec.feature_names)
    assert batch.condition_inputs().shape[-1] == 2 * features
    assert batch.condition_inputs()[0, 0, [0, features]].tolist() == [0.0, 0.0]


@QUICK
@given(schemas_with_frames(min_rows=2))
def test_hide_takes_rows_of_a_site_out_of_sight(case):
    codec, _, batch = encoded(case)
    for name in codec.layout.slices:
        rows = torch.zeros(batch.shape, dtype=torch.bool)
        rows[0, 1] = True
        hidden = batch.hide({name: rows})
        assert not hidden.known[name][0, 1].any()
        assert torch.equal(hidden.known[name][0, 0], batch.known[name][0, 0])
        others = [n for n in codec.layout.slices if n != name]
        assert all(torch.equal(hidden.known[n], batch.known[n]) for n in others)
        assert all(torch.equal(hidden.values[n], batch.values[n]) for n in codec.layout.slices)


def small_batch(members=1, rows=3):
    """A batch whose numbers tell member, row and feature."""
    index = torch.arange(members * rows * 2, dtype=torch.float32).reshape(members, rows, 2)
    return RecipeBatch(
        index,
        torch.ones_like(index, dtype=torch.bool),
        {"a.presence": index + 100, "b.code": index[..., 0] + 200},
        {"a.presence": index % 3 == 0, "b.code": index[..., 0] % 4 == 0},
    )


def every_tensor(batch):
    return [batch.conditions, batch.conditions_known, *batch.values.values(), *batch.known.values()]


def test_rows_are_repeated_in_succession_everywhere():
    batch = small_batch(members=2)
    repeated = batch.repeat_rows(2)
    assert repeated.shape == (2, 6)
    for old, new in zip(every_tensor(batch), every_tensor(repeated), strict=True):
        assert torch.equal(new[:, 0], old[:, 0])
        assert torch.equal(new[:, 1], old[:, 0])
        assert torch.equal(new[:, 5], old[:, 2])


def test_a_slice_of_rows_everywhere():
    batch = small_batch(members=2)
    cut = batch.rows(1, 3)
    assert cut.shape == (2, 2)
    for old, new in zip(every_tensor(batch), every_tensor(cut), strict=True):
        assert torch.equal(new, old[:, 1:3])


def test_members_share_the_rows_of_one():
    batch = small_batch().expand_members(4)
    assert batch.shape == (4, 3)
    for tensor in every_tensor(batch):
        assert all(torch.equal(tensor[m], tensor[0]) for m in range(4))
    with pytest.raises(RuntimeError):
        small_batch(members=2).expand_members(4)


def test_conditions_only_observes_nothing():
    batch = small_batch().conditions_only()
    assert batch.values == {}
    assert batch.known == {}
    assert torch.equal(batch.conditions, small_batch().conditions)


def test_blur_disturbs_conditions_and_forgets_some():
    batch = small_batch()
    keep = torch.ones_like(batch.conditions_known)
    keep[0, 0, 1] = False
    blurred = batch.blur(torch.full_like(batch.conditions, 0.5), keep)
    assert torch.equal(blurred.conditions, batch.conditions + 0.5)
    assert blurred.condition_inputs()[0, 0].tolist() == [0.5, 0.0, 1.0, 0.0]
    assert blurred.values is batch.values
    # What was unknown before stays unknown.
    assert not blurred.blur(torch.zeros_like(batch.conditions), torch.ones_like(keep)).conditions_known[0, 0, 1]


def test_periodic_features_are_octaves_and_vanish_where_a_condition_is_unknown():
    batch = RecipeBatch(torch.tensor([[[1.0, -0.5]]]), torch.tensor([[[True, False]]]), {}, {})
    shown = batch.condition_inputs(2)
    assert shown is batch.condition_inputs(2)
    half = 0.5**0.5
    # Plain and known; sines of pi/4 and pi/2; cosines of the same. Nothing of the second condition.
    expected = [1.0, 0.0, 1.0, 0.0, half, 0.0, 1.0, 0.0, half, 0.0, 0.0, 0.0]
    torch.testing.assert_close(shown[0, 0], torch.tensor(expected), atol=1e-6, rtol=0)
