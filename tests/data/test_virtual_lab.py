"""The virtual laboratory: its thermodynamics, its chemistry, and the tables that it writes."""

import io
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_chemistry import BULK, LATTICE, METALS, PREPARATIONS, SUPPORTS, equilibrium_conversion
from pyro_hcvae.data.virtual_lab import HEADER, PERFORMANCE, SIMULATED, TITLE, VirtualLab
from pyro_hcvae.errors import InputError

LAB = VirtualLab()
SCHEMA = RecipeSchema.load("drm")
USUAL = {
    "Preparation": 7, "Calcination T": 550, "Calcination time": 4, "Reduction T": 700, "Reduction time": 2,
    "Reduction H2": 100, "Reaction T": 700, "Reaction CH4": 50, "Reaction CO2": 50, "GHSV": 1.0, "Time on stream": 60,
}  # fmt: skip
NOT_REDUCED = {"Reduction T": 0, "Reduction time": 0, "Reduction H2": 0}
ALUMINA = {"Al2O3_Gamma": 1}


def rows(*changes):
    """One experiment a dictionary: what differs from a usual reduced catalyst without metal or support."""
    frame = pd.DataFrame(0.0, index=range(len(changes)), columns=list(HEADER[:-1])).assign(**USUAL)
    for i, change in enumerate(changes):
        for name, value in change.items():
            assert name in frame.columns
            frame[name] = frame[name].astype(float)
            frame.loc[i, name] = value
    return frame


def truth(*changes):
    return LAB.true_conversion(rows(*changes))


def vary(column, values, **fixed):
    return truth(*({"Ni": 10, **ALUMINA, **fixed, column: v} for v in values))


def ceiling(frame):
    diluent = frame[["Reaction Ar", "Reaction N2", "Reaction He"]].sum(axis=1)
    feed = np.column_stack([frame["Reaction CH4"], frame["Reaction CO2"], diluent])
    return 100 * equilibrium_conversion(frame["Reaction T"].to_numpy(float), feed)


@pytest.fixture(scope="module")
def table():
    return LAB.experiments(seed=0)


@pytest.fixture(scope="module")
def large():
    return LAB.experiments(recipes=3000, seed=5)


class TestEquilibrium:
    # Reference: Cantera 3.2 with nasa_gas.yaml at 1 atm, carbon excluded.
    @pytest.mark.parametrize(
        ("temperature_c", "ratio", "expected"),
        [
            (500, 1, 0.149), (600, 1, 0.410), (700, 1, 0.728), (800, 1, 0.905), (900, 1, 0.967),
            (700, 0.5, 0.455), (700, 2, 0.921), (700, 3, 0.971),
        ],
    )  # fmt: skip
    def test_reference(self, temperature_c, ratio, expected):
        found = equilibrium_conversion(np.array([float(temperature_c)]), np.array([[1.0, ratio, 0.0]]))
        assert found[0] == pytest.approx(expected, abs=0.001)

    def test_le_chatelier(self):
        temperature = np.full(3, 650.0)
        feed = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [1.0, 1.0, 20.0]])
        assert np.all(np.diff(equilibrium_conversion(temperature, feed)) > 0.01)

    def test_only_the_ratios_of_the_feed_count(self):
        temperature = np.array([640.0])
        small, large = (equilibrium_conversion(temperature, s * np.array([[2.0, 3.0, 1.0]])) for s in (1e-3, 1e3))
        assert small == pytest.approx(large, rel=1e-9)

    @given(
        temperature_c=st.floats(0, 2000), ch4=st.floats(1e-6, 1e3), co2=st.floats(1e-6, 1e3), inert=st.floats(0, 1e6)
    )
    def test_within_the_feed(self, temperature_c, ch4, co2, inert):
        found = equilibrium_conversion(np.array([temperature_c]), np.array([[ch4, co2, inert]]))
        assert 0 < found[0] <= min(1, co2 / ch4) * (1 + 1e-9)


class TestParameters:
    def test_columns_are_those_of_the_schema(self):
        assert tuple(METALS) == SCHEMA.blocks[0].names()
        assert tuple(SUPPORTS) == SCHEMA.blocks[1].names()
        assert tuple(PREPARATIONS) == SCHEMA.blocks[2].codes
        assert set(HEADER) == {*SCHEMA.identifiers, *SCHEMA.columns}
        recipe = SCHEMA.recipe_columns
        assert HEADER[: 2 + len(recipe)] == (*SCHEMA.identifiers, *recipe)
        assert HEADER[2 + len(recipe) :] == (
            "Reaction T", "Reaction CH4", "Reaction CO2", "Reaction Ar", "Reaction N2", "Reaction He", "GHSV",
            "Time on stream", "CH4 Conversion",
        )  # fmt: skip

    def test_values_are_physical(self):
        for metal in METALS.values():
            assert (metal.turnover > 0) == (metal.tammann_c > 0) == (metal.reduction_c > 0)
            assert (metal.turnover > 0) != (metal.protection > 0)  # reforming metal or promoter
        for support in (*SUPPORTS.values(), BULK):
            assert support.area > 0
            assert -1 <= support.basicity <= 1
            assert 0 <= support.oxygen <= 1
            assert 0 <= support.interaction <= 1
        assert set(LATTICE) <= set(SUPPORTS)
        assert all(METALS[m].turnover > 0 for _, atoms in LATTICE.values() for m in atoms)
        for mass, atoms in LATTICE.values():
            assert mass > sum(METALS[m].molar_mass * count for m, count in atoms.items())


class TestChemistry:
    def test_metals_differ_as_known(self):
        nickel, silver, nothing = truth(*({"Reaction T": 800, **ALUMINA, m: 5} for m in ("Ni", "Ag", "K")))
        assert nickel > 50
        assert silver < 10
        assert nothing < 5
        noble, base = truth({"Rh": 1, **ALUMINA}, {"Ni": 1, **ALUMINA})
        assert noble > base + 10

    def test_metals_work_together(self):
        both, nickel, cobalt = truth(*({**ALUMINA, **m} for m in ({"Ni": 5, "Co": 5}, {"Ni": 10}, {"Co": 10})))
        assert both > max(nickel, cobalt)
        covered, open_ = truth(*({"Ni": 5, **m, **ALUMINA} for m in ({"Cu": 2}, {})))
        assert covered < open_ - 5

    def test_loading_saturates(self):
        two, four, twelve, fourteen = vary("Ni", [2, 4, 12, 14], GHSV=0.2)
        assert two < four < twelve < fourteen
        assert fourteen - twelve < 0.5 * (four - two)

    def test_temperature_and_contact_time(self):
        assert np.all(np.diff(vary("Reaction T", range(450, 901, 50))) > 0)
        assert np.all(np.diff(vary("GHSV", [0.0, 0.01, 0.1, 1.0, 5.0, 20.0])) > 0)
        assert vary("GHSV", [0.0])[0] == 0

    def test_long_contact_reaches_equilibrium(self):
        frame = rows({"Ni": 10, **ALUMINA, "GHSV": 1e4})
        assert LAB.true_conversion(frame) == pytest.approx(ceiling(frame), rel=1e-6)

    @pytest.mark.parametrize("support", ["SiO2", "Al2O3_Gamma", "MgO", "CeO2"])
    def test_reduction_matters(self, support):
        reduced, inert, not_reduced = truth(
            *({"Ni": 10, support: 1, **change} for change in ({}, {"Reduction H2": 0}, NOT_REDUCED))
        )
        assert reduced > inert
        assert reduced > not_reduced + 3
        hot, mild, brief, thin = truth(
            *(
                {"Ni": 10, support: 1, **c}
                for c in ({}, {"Reduction T": 400}, {"Reduction T": 400, "Reduction time": 0.5},
                          {"Reduction T": 400, "Reduction H2": 5})
            )
        )  # fmt: skip
        assert hot > mild > max(brief, thin)

    def test_nickel_aluminate_needs_hot_reduction(self):
        mild, hot = vary("Reduction T", [650, 800], **{"Calcination T": 850})
        assert hot > mild + 10
        # Silica holds nickel loosely: there the hotter reduction has little to gain.
        mild_silica, hot_silica = truth(
            *({"Ni": 10, "SiO2": 1, "Calcination T": 850, "Reduction T": t} for t in (650, 800))
        )
        assert hot_silica - mild_silica < 0.5 * (hot - mild)

    def test_calcination_sinters(self):
        mild, hot = truth(*({"Ni": 5, "SiO2": 1, "Calcination T": t} for t in (500, 900)))
        assert mild > hot + 5

    def test_preparation_matters(self):
        assert np.ptp(vary("Preparation", list(PREPARATIONS))) > 5

    @pytest.mark.parametrize(
        ("better", "worse"),
        [
            *(({promoter: 3}, {}) for promoter in ("Ce", "La", "K", "Mg", "Ca")),
            ({"MgO": 1}, {"H-ZSM-5": 1}),
            ({"CeO2": 1}, {"TiO2": 1}),
            ({"Reaction CO2": 75, "Reaction CH4": 25}, {}),
            ({"Reaction T": 700}, {"Reaction T": 600}),
            ({"Rh": 1, "Ni": 0}, {}),
            ({"Preparation": 2}, {"Preparation": 6}),
        ],
        ids=["Ce", "La", "K", "Mg", "Ca", "base", "oxygen", "excess CO2", "less carbon", "noble", "small particles"],
    )
    def test_what_keeps_activity(self, better, worse):
        kept = []
        for change in (better, worse):
            support = {} if change.keys() & SUPPORTS.keys() else ALUMINA
            # So short a contact that conversion is proportional to activity: equilibrium hides no loss.
            early, late = vary("Time on stream", [0, 1200], **{"Al2O3_Gamma": 0, **support, "GHSV": 1e-4, **change})
            kept.append(late / early)
        assert kept[0] > kept[1] + 0.02
        assert kept[1] < 0.9

    def test_hot_metal_sinters(self):
        hot = {"Ni": 0, "Reaction T": 850, "Reaction CO2": 75, "Reaction CH4": 25, "GHSV": 1e-4}  # hardly any carbon
        kept = []
        for metal in ("Ni", "Rh"):
            early, late = vary("Time on stream", [0, 1200], **{**hot, metal: 5})
            kept.append(late / early)
        assert kept[0] < 0.85
        assert kept[1] > kept[0] + 0.05

    def test_perovskite_brings_its_own_metal(self):
        own, none, not_reduced = truth({"LaNiO3": 1}, {"LaZnO3": 1}, {"LaNiO3": 1, **NOT_REDUCED})
        assert own > 10
        assert none < 2
        assert not_reduced < own

    def test_odd_recipes(self):
        odd = truth(
            {},  # neither metal nor support
            ALUMINA,  # no metal
            {"Ni": 15, "La": 10},  # bulk
            {"Pt": 1, "Rh": 1, "Ru": 1, "Ir": 1, "Pd": 1, "Ni": 5, **ALUMINA},
            {"Ni": 10, **dict.fromkeys(SUPPORTS, 1.0)},
            dict.fromkeys(METALS, 5.0) | ALUMINA,
            {"Ni": 1e6, **ALUMINA},
            {"Ni": 10, **ALUMINA, **NOT_REDUCED, "Reaction T": 30},
            {"Ni": 10, **ALUMINA, "Reaction T": 1400, "GHSV": 1e6},
            {"Ni": 10, **ALUMINA, "Time on stream": 1e9},
        )
        assert np.all((odd >= 0) & (odd <= 100))
        assert odd[1] < 2
        assert odd[2] > 5

    def test_shares_count_relative_to_their_sum(self):
        mixture = {"Ni": 10, "Al2O3_Gamma": 0.5, "CeO2": 0.5}
        one, two = truth(mixture, mixture | {"Al2O3_Gamma": 1, "CeO2": 1})
        assert one == pytest.approx(two, rel=1e-12)

    def test_time_that_was_not_recorded_is_a_usual_one(self):
        known, zero, nan = vary("Calcination time", [4, 0, np.nan])
        assert known == zero == nan
        known, zero, nan = vary("Reduction time", [2, 0, np.nan], **{"Reduction T": 450})
        assert known == zero == nan

    @settings(max_examples=30)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_bounded_by_equilibrium_and_monotone_in_contact_time(self, seed):
        rng = np.random.default_rng(seed)
        n = 50
        frame = rows(*[{}] * n).astype(float)
        for names, high in ((METALS, 10.0), (SUPPORTS, 1.0)):
            values = rng.uniform(0, high, (n, len(names))) * (rng.random((n, len(names))) < 0.05)
            frame[list(names)] = values
        for name, low, high in (
            ("Calcination T", 20, 1400), ("Calcination time", 0, 100), ("Reduction T", 0, 1400),
            ("Reduction time", 0, 100), ("Reduction H2", 0, 100), ("Reaction T", 100, 1400),
            ("Reaction CH4", 1, 90), ("Reaction CO2", 1, 90), ("Reaction He", 0, 90), ("Time on stream", 0, 1e4),
        ):  # fmt: skip
            frame[name] = rng.uniform(low, high, n)
        frame["Preparation"] = rng.integers(1, 8, n)
        frame["GHSV"] = np.exp(rng.uniform(-4, 5, n))
        found = LAB.true_conversion(frame)
        assert np.all(found >= 0)
        assert np.all(found <= ceiling(frame))
        assert np.all(LAB.true_conversion(frame.assign(GHSV=frame["GHSV"] * 1.5)) >= found)


class TestTable:
    def test_imports_cleanly(self, table):
        imported = RecipeTable.from_frame(table, SCHEMA)
        assert not imported.report.errors
        assert len(imported) == len(table) == 1200
        # These findings describe what the table is meant to have; any other would be a fault of the simulator.
        allowed = {"never-occurs", "fraction-none", "step-zero"}
        assert {finding.code for finding in imported.report.findings} <= allowed
        assert imported.report.facts["recipes"] == 200 == table["Catalyst"].nunique()
        assert imported.report.facts["laboratories"] >= 12
        pd.testing.assert_frame_equal(imported.frame, table[imported.frame.columns], check_dtype=False)

    def test_survives_a_file(self, table):
        read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
        pd.testing.assert_frame_equal(read, table)
        assert RecipeTable.from_frame(read, SCHEMA).report.errors == []

    def test_says_that_it_is_simulated(self, table):
        assert SIMULATED
        assert "SIMULATED" in TITLE
        assert table.attrs == {"title": TITLE, "simulated": True}

    def test_recipes_are_like_those_of_laboratories(self, large):
        recipes = large.drop_duplicates("Catalyst")
        metals, supports = recipes[list(METALS)], recipes[list(SUPPORTS)]
        assert set((metals > 0).sum(axis=1)) == {1, 2, 3, 4}
        assert metals.sum(axis=1).max() <= 30
        count = (supports > 0).sum(axis=1).value_counts(normalize=True)
        assert set(count.index) == {0, 1, 2, 3}
        assert count[1] > 0.6
        assert 0.01 < count[0] < 0.06
        not_reduced = recipes["Reduction T"] == 0
        assert (recipes.loc[not_reduced, ["Reduction time", "Reduction H2"]] == 0).all(axis=None)
        assert 0.03 < not_reduced.mean() < 0.1
        assert 0.02 < ((recipes["Reduction H2"] == 0) & ~not_reduced).mean() < 0.08
        assert (metals > 0).any().all()
        assert (supports > 0).any().mean() > 0.9  # rare ones may be missing
        assert large["Reaction T"].nunique() > 6
        assert large.groupby("Catalyst")["Reaction T"].nunique().mean() > 2
        assert large.groupby("Catalyst")["Time on stream"].nunique().mean() > 1.5

    def test_counts(self):
        for recipes, per_recipe in ((1, 1), (1, 40), (13, 2), (50, 6)):
            found = LAB.experiments(recipes, per_recipe, seed=1)
            assert len(found) == recipes * per_recipe
            assert found["No."].tolist() == list(range(1, len(found) + 1))
            assert found["Catalyst"].unique().tolist() == list(range(1, recipes + 1))
            assert not found.duplicated(subset=list(HEADER[2:-1])).any()
            assert found["Reaction T"].between(500, 900).all()

    def test_conversions_spread(self, large):
        assert 43 < large[PERFORMANCE].mean() < 57
        assert 22 < large[PERFORMANCE].std() < 31

    def test_values_are_written_as_people_write_them(self, table):
        for name in HEADER[2:]:
            values = table[name].to_numpy(float)
            assert np.array_equal(values, np.round(values, 3)), name
        assert table["Calcination T"].nunique() <= 12
        whole = {"No.", "Catalyst", "Preparation", "Calcination T", "Reduction T", "Reaction T", "Time on stream"}
        assert set(table.select_dtypes("integer")) == whole
        assert np.array_equal(table[PERFORMANCE], table[PERFORMANCE].round(1))

    def test_laboratories_explore_their_own_corners(self, large):
        condition = RecipeTable.from_frame(large, SCHEMA).laboratory_ids()
        groups = pd.Series(condition, index=large.index)
        # A recipe belongs to one laboratory, and a laboratory keeps to few metals and supports.
        assert len(pd.DataFrame({"recipe": large["Catalyst"], "lab": groups}).drop_duplicates()) == 3000
        recipes = large.drop_duplicates("Catalyst")
        by_laboratory = recipes.groupby(groups[recipes.index])
        assert groups.nunique() > 200
        assert by_laboratory["Preparation"].nunique().max() <= 2
        assert by_laboratory[list(SUPPORTS)].agg(lambda x: (x > 0).any()).sum(axis=1).max() <= 3
        own_metals = by_laboratory[list(METALS)].agg(lambda x: (x > 0).any())
        assert own_metals.sum(axis=1).max() <= 6
        assert len(own_metals.drop_duplicates()) > 0.5 * len(own_metals)

    def test_recipe_and_conditions_carry_the_signal(self, large):
        """Variance of the truth between recipes at one reaction temperature, and between temperatures of one recipe."""
        exact = pd.Series(LAB.true_conversion(large), index=large.index)
        at_700 = exact[large["Reaction T"] == 700]
        assert at_700.groupby(large["Catalyst"]).mean().std() > 15
        within_laboratory = at_700.groupby([large["GHSV"], large["Reaction CH4"], large["Reaction CO2"]]).std()
        assert within_laboratory.median() > 5
        scan = exact[large["Time on stream"] <= 120].groupby(large["Catalyst"])
        assert (scan.max() - scan.min()).median() > 15


class TestRandomness:
    def test_the_seed_decides(self, table):
        pd.testing.assert_frame_equal(LAB.experiments(seed=0), table)
        pd.testing.assert_frame_equal(LAB.experiments(seed=np.random.default_rng(0)), table)
        other = LAB.experiments(seed=1)
        assert not other[list(METALS)].equals(table[list(METALS)])

    def test_the_seed_does_not_change_the_chemistry(self, table):
        assert np.array_equal(LAB.true_conversion(table), VirtualLab(noise_sd=9.0).true_conversion(table))

    def test_global_state_is_left_alone(self):
        np.random.random()  # noqa: NPY002 - a state that no seeding leaves behind
        before = np.random.get_state()  # noqa: NPY002
        LAB.experiments(10, seed=3)
        LAB.measure(rows(ALUMINA), seed=3)
        after = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_noise(self, large):
        exact = LAB.true_conversion(large)
        inner = (exact > 10) & (exact < 90)
        for measured in (large[PERFORMANCE].to_numpy(), LAB.measure(large, seed=8)):
            assert measured.min() >= 0
            assert measured.max() <= 100
            error = (measured - exact)[inner]
            assert abs(error.mean()) < 0.1
            assert error.std() == pytest.approx(LAB.noise_sd, rel=0.05)
        assert not np.array_equal(LAB.measure(large, seed=8), LAB.measure(large, seed=9))
        assert np.array_equal(LAB.measure(large, seed=8), LAB.measure(large, seed=8))
        assert VirtualLab(noise_sd=0).measure(large, seed=8) == pytest.approx(exact, abs=0.0501)

    def test_rows_do_not_depend_on_their_neighbours(self, large):
        # More rows than one chunk, in another order, with another index.
        shuffled = large.sample(frac=1, random_state=1)
        expected = pd.Series(LAB.true_conversion(large), index=large.index)
        assert LAB.true_conversion(shuffled) == pytest.approx(expected[shuffled.index].to_numpy(), rel=1e-9)


class TestInput:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("Ni", -1.0), ("Ni", np.nan), ("Reaction T", np.inf), ("Preparation", 8), ("Preparation", 2.5),
            ("Reaction CH4", 0.0), ("Reaction CO2", 0.0), ("Calcination time", -1.0), ("Calcination T", np.nan),
        ],
    )  # fmt: skip
    def test_impossible_cell_is_named(self, column, value):
        frame = rows(ALUMINA, {column: value}, ALUMINA)
        frame.index = [10, 20, 30]
        with pytest.raises(InputError, match=f"row 20: '{column}' is {value:g}"):
            LAB.true_conversion(frame)

    def test_missing_column_and_text(self):
        with pytest.raises(InputError, match="needs the columns Ni, GHSV"):
            LAB.true_conversion(rows(ALUMINA).drop(columns=["Ni", "GHSV"]))
        with pytest.raises(InputError, match="needs numbers"):
            LAB.true_conversion(rows(ALUMINA).assign(Ni="much"))

    @pytest.mark.parametrize(("recipes", "per_recipe"), [(0, 6), (-1, 6), (10, 0)])
    def test_counts(self, recipes, per_recipe):
        with pytest.raises(InputError, match="give a whole number of 1 or more"):
            LAB.experiments(recipes, per_recipe, seed=0)

    @pytest.mark.parametrize("noise_sd", [-1.0, np.nan, np.inf])
    def test_noise(self, noise_sd):
        with pytest.raises(InputError, match="noise_sd"):
            VirtualLab(noise_sd=noise_sd)

    def test_no_rows(self):
        assert LAB.true_conversion(rows()).shape == (0,)

    def test_unrelated_columns_are_ignored(self):
        frame = rows({"Ni": 5, **ALUMINA})
        assert LAB.true_conversion(frame[frame.columns[::-1]].assign(note="x")) == LAB.true_conversion(frame)

    def test_rows_of_an_imported_table(self, table):
        imported = RecipeTable.from_frame(table, SCHEMA)
        assert LAB.true_conversion(imported.frame) == pytest.approx(LAB.true_conversion(table), rel=1e-12)


@pytest.mark.slow
def test_speed(large):
    many = pd.concat([large] * 6, ignore_index=True).iloc[:100_000]
    start = time.process_time()
    LAB.true_conversion(many)
    assert time.process_time() - start < 3  # takes 0.3 s; a loop over rows would take minutes
