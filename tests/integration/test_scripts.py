"""Each script runs on tiny settings, and what it writes is what it says."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

from pyro_hcvae import RecipeDesigner, RecipeTable, TrainConfig
from pyro_hcvae.analysis.decomposition import split_variance
from tests.laboratories import SMALL, TINY_TOML, tiny_frame, tiny_schema, tiny_table

SCRIPTS = Path(__file__).parents[2] / "scripts"
TRAIN = TrainConfig(members=2, steps=30, interval=10, batch_size=16)


def script(name: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:  # the folder is on the path, as it is when a script is run
        patch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
        return runpy.run_path(str(SCRIPTS / f"{name}.py"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    RecipeDesigner(tiny_schema(), model=SMALL, train=TRAIN).fit(tiny_table(), out=out)
    return out


def test_train_svi_leaves_the_global_store_alone_and_writes_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_frame().to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    mine = pyro.param("mine", torch.tensor(1.0))
    try:
        arguments = ["--table", str(tmp_path / "table.csv"), "--schema", str(tmp_path / "tiny.toml")]
        settings = ["--steps", "40", "--every", "20", "--hidden", "16", "--batch-size", "16", "--learning-rate", "0.01"]
        script("train_svi")["main"]([*arguments, *settings, "--out", str(tmp_path / "run")])
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert pyro.param("mine") is mine
    finally:
        pyro.clear_param_store()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == 2
    assert all(f"z_{stage} " in line for line in lines for stage in ("metal", "support", "treatment"))

    designer = RecipeDesigner.load(tmp_path / "run")
    assert list(designer.history.columns) == [
        "step", "member", "validation_loss", "best", "waited", "beta", "rate z_metal", "rate z_support", "rate z_treatment",
    ]  # fmt: skip
    # What is trained goes down; held out, a model that starts on the levels of forty recipes has little left to gain.
    first, last = (float(line.split("loss")[1].split()[0]) for line in lines)
    assert last < first
    assert np.isfinite(designer.history["validation_loss"]).all()
    assert len(designer.propose({"T": 600}, 60, 2).frame) == 2


@pytest.mark.parametrize("optimizer", ["clipped", "adam"])
def test_train_svi_makes_a_table_of_its_own(optimizer: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--recipes", "24", "--steps", "3", "--hidden", "8", "--batch-size", "8", "--every", "3"]
    script("train_svi")["main"]([*sizes, "--optimizer", optimizer])
    assert "SIMULATED" in capsys.readouterr().out
    assert not pyro.get_param_store().keys()


def test_sample_recipes_for_a_setting_and_for_a_table(run: Path, tmp_path: Path) -> None:
    main = script("sample_recipes")["main"]
    main([str(run), "--set", "T=600", "--target", "70", "--draws", "10", "--out", str(tmp_path / "one.csv")])
    one = pd.read_csv(tmp_path / "one.csv")
    assert list(one.columns) == list(tiny_frame().columns)
    assert len(one) == 10
    assert (one["T"] == 600).all()
    assert (one["Yield"] == 70).all()

    tiny_frame(recipes=2).to_csv(tmp_path / "conditions.csv", index=False)
    conditions = ["--conditions", str(tmp_path / "conditions.csv"), "--draws", "3"]
    for name in ("a.csv", "b.csv"):
        main([str(run), *conditions, "--seed", "4", "--out", str(tmp_path / name)])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "a.csv")) == 3 * 6


@pytest.mark.parametrize("name", ["sample_recipes", "analyse_uncertainty"])
def test_scripts_explain_wrong_input(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = script(name)["main"]
    for arguments in (["--out", "x.csv"], ["--set", "Temp=600", "--target", "70", "--out", "x.csv"]):
        with pytest.raises(SystemExit) as stopped:
            main([str(run), *arguments])
        assert stopped.value.code == 2
    assert "unknown condition 'Temp'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none"), "--target", "70", "--out", "x.csv"])
    assert "no such run folder" in capsys.readouterr().err


def test_law_of_total_variance_on_numbers_with_known_parts() -> None:
    """x = member effect + latent effect + noise, with standard deviations 2, 1 and 3."""
    rng = np.random.default_rng(0)
    members, latents = 4000, 6
    effect = rng.normal(0, 2, (1, 1, members)) + rng.normal(0, 1, (latents, 1, members))
    draws = effect + rng.normal(0, 3, (latents, 4, members))
    split = split_variance
    parts = split(draws)
    assert parts["aleatoric"] == pytest.approx(9, rel=0.05)
    assert parts["latent"] == pytest.approx(1, rel=0.2)
    assert parts["epistemic"] == pytest.approx(4, rel=0.1)
    assert parts["variance"] == pytest.approx(parts["aleatoric"] + parts["latent"] + parts["epistemic"])

    alone = split(draws[:, :, :1])
    assert np.isnan(alone["epistemic"])
    assert np.isfinite(alone["variance"])


def test_analyse_uncertainty_of_proposals(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--set", "T=600", "--target", "70", "-n", "2", "--draws", "5", "--repeats", "2"]
    script("analyse_uncertainty")["main"]([str(run), *arguments, "--out", str(tmp_path / "parts.csv")])
    assert "epistemic" in capsys.readouterr().out
    parts = pd.read_csv(tmp_path / "parts.csv")
    assert list(dict.fromkeys(parts["recipe"])) == [1, 2]
    assert np.allclose(parts[["aleatoric", "latent", "epistemic"]].sum(axis=1), parts["variance"])
    assert np.allclose(parts["sd"] ** 2, parts["variance"])
    assert (parts["value"] > 0).all()


def test_analyse_uncertainty_of_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = script("analyse_uncertainty")["main"]
    rows = tiny_frame(recipes=3, rows_per_recipe=1)
    rows.drop(columns="Yield").to_csv(tmp_path / "whole.csv", index=False)
    small = ["--draws", "3", "--repeats", "2"]
    main(
        [str(run), "--recipes", str(tmp_path / "whole.csv"), "--target", "70", *small, "--out", str(tmp_path / "p.csv")]
    )
    parts = pd.read_csv(tmp_path / "p.csv").set_index(["recipe", "column"])
    table = RecipeTable.from_frame(rows.set_axis(range(2, 5)), tiny_schema())
    for (row, column), value in parts["value"].items():  # type: ignore[misc]
        assert value == pytest.approx(table.frame.loc[row, column])

    rows.assign(A=np.nan).to_csv(tmp_path / "open.csv", index=False)
    with pytest.raises(SystemExit):
        main([str(run), "--recipes", str(tmp_path / "open.csv"), *small])
    assert "row 2 leaves 'metals' open" in capsys.readouterr().err


def test_rate_distortion_scores_each_beta_and_its_figure_can_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_frame().to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    arguments = ["--table", str(tmp_path / "table.csv"), "--schema", str(tmp_path / "tiny.toml"), "--folds", "2"]
    arguments += ["--steps", "40", "--betas", "1", "0.01", "--out", str(tmp_path / "curve.csv")]
    script("rate_distortion")["main"](arguments)
    rows = pd.read_csv(tmp_path / "curve.csv")
    assert rows.groupby("beta").size().to_dict() == {0.01: 2, 1.0: 2}
    layers = rows.filter(like="rate z_")
    np.testing.assert_allclose(layers.sum(axis=1), rows["rate"], rtol=1e-5)
    # The importance-weighted estimate lies above the bound, but for noise.
    assert (rows["log p recipe"] > -(rows["rate"] + rows["distortion"]) - 0.5).all()
    figure = tmp_path / "curve.svg"
    script("plot_results")["main"](["--curve", str(tmp_path / "curve.csv"), "--out", str(figure)])
    assert "distortion" in figure.read_text()
    with pytest.raises(SystemExit):
        script("rate_distortion")["main"]([*arguments, "--betas", "1", "1"])
    assert "different --betas" in capsys.readouterr().err


def test_plot_results_draws_generators_and_refuses_to_mix_splits(tmp_path: Path) -> None:
    scores = pd.DataFrame(
        {
            "by": "recipe", "part": "all", "generator": ["real recipes", "hcvae", "cart"] * 2, "seed": 0,
            "fold": [0, 0, 0, 1, 1, 1], "valid": [1.0, 0.99, 0.8] * 2, "precision": [0.9, 0.8, 0.7] * 2,
        }
    )  # fmt: skip
    scores.to_csv(tmp_path / "one.csv", index=False)
    scores.assign(by="laboratory").to_csv(tmp_path / "two.csv", index=False)
    plot = script("plot_results")["main"]
    plot([str(tmp_path / "one.csv"), "--out", str(tmp_path / "peers.svg")])
    assert "hcvae" in (tmp_path / "peers.svg").read_text()
    with pytest.raises(SystemExit, match="different splits"):
        plot([str(tmp_path / "one.csv"), str(tmp_path / "two.csv"), "--out", str(tmp_path / "mixed.svg")])


@pytest.mark.parametrize("what", ["candidates", "coverage"])
@pytest.mark.usefixtures("full_predictors")
def test_compare_predictors_scores_held_out_groups(what: str, tmp_path: Path) -> None:
    tiny_frame(recipes=60).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    arguments = [what, "--table", str(tmp_path / "table.csv"), "--schema", str(tmp_path / "tiny.toml")]
    script("compare_predictors")["main"](
        [*arguments, "--by", "recipe", "--folds", "2", "--out", str(tmp_path / "out.csv")]
    )
    rows = pd.read_csv(tmp_path / "out.csv")
    if what == "candidates":
        scores = rows.set_index("learner")["R2, reserve"]
        assert scores["mean of trees and boosting"] > scores["ridge"]  # quality times temperature is no sum
        assert scores["process"] > scores["trees"]  # a smooth law
        assert scores["shares that suit the other folds"] > scores["mean of all three"]
        return
    rows = rows[rows["part"] == "all"].set_index(["intervals", "level"])
    for kind in ("global", "predictor"):
        assert rows.loc[kind]["width"].is_monotonic_increasing
        assert rows.loc[(kind, 0.9), "recipes inside"] == pytest.approx(0.9, abs=0.09)
        assert (rows.loc[kind]["interval score"] >= rows.loc[kind]["width"]).all()


def test_plot_loop_draws_each_strategy_and_leaves_unfinished_rounds_out(tmp_path: Path) -> None:
    rounds = pd.DataFrame(
        [
            {
                "strategy": name,
                "seed": seed,
                "round": i,
                "best true": 20.0 + i,
                "regret": 30.0 - i,
                "batch mean true": 9.0,
            }
            for name in ("hcvae", "mine")
            for seed in (0, 1)
            for i in range(4)
        ]
    )
    unfinished = rounds.drop(rounds.index[(rounds["seed"] == 1) & (rounds["round"] == 3)])
    module = script("plot_loop")
    axis = module["curves"](unfinished, "Yield [%]").axes[0]
    assert [len(line.get_xdata()) for line in axis.lines[:2]] == [3, 3]
    unfinished.to_csv(tmp_path / "rounds.csv", index=False)
    module["main"]([str(tmp_path / "rounds.csv"), "--performance", "Yield [%]", "--out", str(tmp_path / "loop.svg")])
    text = (tmp_path / "loop.svg").read_text()
    assert all(word in text for word in ("Yield [%]", "regret", "mine (2 seeds)", "SIMULATED"))


def test_check_completion_compares_row_by_row(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one"
    RecipeDesigner(tiny_schema(), model=SMALL, train=TRAIN.model_copy(update={"members": 1})).fit(tiny_table(), out=one)
    partial = tmp_path / "partial.csv"
    pd.DataFrame([{"A": 4.2, "B": 0, "C": 0, "T": 650}, {"X": 1, "Y": 0, "Z": 0, "T": 650}]).to_csv(
        partial, index=False
    )
    main = script("check_completion")["main"]
    little = ["--chains", "4", "--draws", "20", "--warmup", "10", "--proposals", "500"]
    main([str(one), str(partial), *little, "--out", str(tmp_path / "quantities.csv")])
    lines = {name: values for name, *values in (x.rsplit(maxsplit=2) for x in capsys.readouterr().out.splitlines())}
    assert lines["row"] == ["2", "3"]
    assert all(float(x) < 1 for x in lines["largest gap in a probability"])
    quantities = pd.read_csv(tmp_path / "quantities.csv")
    assert set(quantities.loc[quantities["row"] == 2, "kind"]) > {"latent mean", "presence", "code", "state"}
    for folder, cells, message in (
        (run, {"A": 4.2, "B": 0, "C": 0}, "got 2 and 1"),
        (one, {"A": 4.2}, "known in part"),
    ):
        pd.DataFrame([cells]).to_csv(partial, index=False)
        with pytest.raises(SystemExit) as stop:
            main([str(folder), str(partial), *little])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.thorough
def test_evaluate_design_asks_the_truth_about_every_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "design.csv"
    few = {"recipes": 20, "pairs": 2, "each": 3, "seeds": 1, "steps": 30, "members": 1, "out": out}
    script("evaluate_design")["main"]([x for name, value in few.items() for x in (f"--{name}", str(value))])
    assert "within 10 points" in capsys.readouterr().out
    rows = pd.read_csv(out)
    assert set(rows["generator"]) == {
        "hcvae, proposals", "hcvae, draws", "hcvae, guided draws", "nearest", "nearest-jittered", "marginal"
    }  # fmt: skip
    assert (rows.groupby("generator")["row"].nunique() == 2).all()
    assert rows[rows["generator"] == "hcvae, proposals"]["novel"].all()
    assert not rows[rows["generator"] == "nearest"]["novel"].any()
    assert ((rows["error"] <= 10) == rows["met"]).all()
    with pytest.raises(SystemExit):
        script("evaluate_design")["main"](["--pairs", "0"])


def test_analyse_uncertainty_of_conditions_alone(run: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("parts.csv", "choices.csv")]
    arguments = ["--set", "T=600", "--target", "70", "-n", "0", "--draws", "5", "--repeats", "2"]
    script("analyse_uncertainty")["main"]([str(run), *arguments, "--out", files[0], "--choices", files[1]])
    assert pd.read_csv(files[0])["value"].isna().all()
    choices = pd.read_csv(files[1])
    assert len(choices) == 6 + 1 + 1
    assert np.allclose(choices[["aleatoric", "latent", "epistemic"]].sum(axis=1), choices["entropy"], atol=1e-5)


@pytest.mark.thorough
def test_evaluate_uncertainty_on_held_out_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_frame(recipes=60).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    few = {"folds": 2, "members": 2, "steps": 20, "draws": 20, "proposals": 30, "refits": 2, "compile": "never"}
    arguments = [x for name, value in few.items() for x in (f"--{name}", str(value))]
    arguments += ["--table", str(tmp_path / "table.csv"), "--schema", str(tmp_path / "tiny.toml"), "--json"]
    module = script("evaluate_uncertainty")
    module["main"]([*arguments, "--out", str(tmp_path / "out")])
    assert set(json.loads(capsys.readouterr().out)) > {"coverage of the reserve"}
    out = {path.name: pd.read_csv(path) for path in (tmp_path / "out").iterdir()}
    assert set(out) == {"coverage.csv", "reliability.csv", "ranks.csv", "epistemic.csv", "auc.csv"}
    known = "known laboratory"

    coverage = out["coverage.csv"].set_index(["held_out", "block", "part", "intervals"])
    assert coverage["inside"].between(0, 1).all()
    assert set(coverage.index.get_level_values("block")) == {"metals", "supports", "reduction"}
    # The recipes of the parts are all recipes, and the map is fitted on one of them.
    counts = coverage[coverage["level"] == 0.9]["n"]
    parts = [counts[known, "metals", part, "as drawn"] for part in ("development", "reserve", "all")]
    assert parts[0] + parts[1] == parts[2]
    fitted = coverage.loc[(known, "metals", "development", "recalibrated")].set_index("level")["inside"]
    assert fitted[0.5] == pytest.approx(0.5, abs=0.2)
    assert set(out["ranks.csv"]["ranks"]) == {"guide", "guide, importance-resampled", "prior, held-out recipes"}
    assert out["reliability.csv"]["frequency"].between(0, 1).all()

    auc, rows = out["auc.csv"], out["epistemic.csv"]
    assert auc["AUC"].between(0, 1).all()
    one = auc[(auc["fold"] == 0) & (auc["score"] == "generator: log density")].iloc[0]
    mine = rows[rows["fold"] == 0]
    assert len(mine) == one["n known"] + one["n left out"]
    mean = mine[mine["held_out"] == known]["generator: log density"].mean()
    assert one["known"] == pytest.approx(mean, rel=1e-3)


def test_what_is_held_out_was_not_seen() -> None:
    module = script("evaluate_uncertainty")
    table, args = tiny_table(recipes=60), module["parser"]().parse_args(["--out", "nowhere", "--folds", "3"])
    recipes, laboratories = table.recipe_ids(), table.laboratory_ids()
    known, new = "known laboratory", "left-out laboratory"
    seen: list[int] = []
    for fold in module["split"](table, args):
        for rows in fold.held.values():
            assert not np.isin(recipes[rows], recipes[fold.kept]).any()
        assert not np.isin(laboratories[fold.held[new]], laboratories[fold.kept]).any()
        assert np.isin(laboratories[fold.held[known]], laboratories[fold.kept]).mean() > 0.9
        seen += list(np.unique(recipes[fold.held[known]]))
    assert len(seen) == len(set(seen))
