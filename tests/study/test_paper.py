"""The study as a whole: resumable to the same end, scored as published, beside the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.errors import InputError
from pyro_hcvae.study import models, paper, training
from pyro_hcvae.study.draws import our_draws, our_means, published_draws, rates
from pyro_hcvae.study.engines import Engine
from pyro_hcvae.study.models import OURS, Model, Training, published_figures
from pyro_hcvae.study.protocol import Repeat, StudyRows, member_rows, split
from pyro_hcvae.study.scoring import GENERATED, R2, R2_SUPPORTS, r2, score_model
from pyro_hcvae.study.training import StudyConfig, read_tensors, train

CONFIG = StudyConfig(epochs=3, steps=4)
REPEATS = 2
FEW = [
    ("row", Model("single", ("amounts",))),
    ("row", Model("independent", ("presence", "amounts"), "hard")),
    ("recipe", Model("hierarchy", ("hierarchy",), "soft", (0.01, 0.005, 0.002))),
    ("recipe", Model(OURS, (OURS,))),
]


@pytest.fixture(scope="module")
def rows() -> StudyRows:
    frame = VirtualLab().experiments(recipes=20, rows_per_recipe=4, seed=0)
    return StudyRows.of(RecipeTable.from_frame(frame, RecipeSchema.load("drm")))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "plan", lambda splits: FEW)


def run(rows: StudyRows, out: Path, **options: object) -> pd.DataFrame:
    paper.begin(out, rows, REPEATS, CONFIG)
    return paper.run_study(rows, out, repeats=REPEATS, config=CONFIG, **options)  # type: ignore[arg-type]


class Killed(Exception):
    """What a signal does to a training."""


def test_a_killed_study_comes_to_the_same_end(
    rows: StudyRows, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EPOCHS", 1)
    whole = run(rows, tmp_path / "whole")

    def kill_at(wanted: str, units: int):  # type: ignore[no-untyped-def]
        def on_progress(key: str, done: int, planned: int, going: int) -> None:
            if key == wanted and done >= units:
                raise Killed

        return on_progress

    for wanted, units in (("row-presence-0.1", 2), ("recipe-hierarchy-0.01-0.005-0.002", 1), ("recipe-ours-0.1", 1)):
        with pytest.raises(Killed):
            run(rows, tmp_path / "killed", on_progress=kill_at(wanted, units))
        assert (tmp_path / "killed" / "runs" / f"{wanted}.checkpoint.safetensors").is_file()
    trained: set[str] = set()
    pd.testing.assert_frame_equal(whole, run(rows, tmp_path / "killed", on_progress=lambda key, *_: trained.add(key)))
    assert trained <= {"recipe-ours-0.1"}  # the others were finished
    for file in (tmp_path / "whole" / "runs").iterdir():
        ours, theirs = read_tensors(file), read_tensors(tmp_path / "killed" / "runs" / file.name)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), file.name
    assert not list((tmp_path / "killed" / "runs").glob("*.checkpoint.*"))
    nothing: set[str] = set()
    pd.testing.assert_frame_equal(whole, run(rows, tmp_path / "whole", on_progress=lambda key, *_: nothing.add(key)))
    assert not nothing


@pytest.mark.thorough
def test_trainings_in_processes_come_to_the_same_scores(rows: StudyRows, few: None, tmp_path: Path) -> None:
    here, ended = run(rows, tmp_path / "here"), []
    spread = run(rows, tmp_path / "spread", engine=Engine(jobs=2), on_progress=lambda key, *_: ended.append(key))
    pd.testing.assert_frame_equal(spread, here)
    assert sorted(ended) == sorted(path.stem for path in (tmp_path / "spread" / "runs").iterdir())
    nothing: list[str] = []
    run(rows, tmp_path / "spread", engine=Engine(jobs=2), on_progress=lambda key, *_: nothing.append(key))
    assert not nothing


def test_the_score_is_that_of_flattened_amounts_in_wt_percent(rows: StudyRows, tmp_path: Path) -> None:
    repeats = [split(rows.table, "row", seed) for seed in range(REPEATS)]
    networks = [
        train(Training(kind, "row", (0.1,)), rows, repeats, CONFIG, tmp_path) for kind in ("presence", "amounts")
    ]
    model = Model("independent", ("presence", "amounts"), "hard")
    scores = score_model(model, networks, "row", rows, repeats, seed=0)
    assert list(scores["repeat"]) == [0, 1]
    soft, hard, none = (
        published_draws(networks, rows, repeats, gate, generate=False, seed=0) for gate in ("soft", "hard", "none")
    )
    metals = list(rows.columns.metals.columns)
    for number, repeat in enumerate(repeats):
        true = rows.table.frame.iloc[repeat.test][metals].to_numpy()
        values = hard[number][metals].to_numpy()
        assert scores[R2][number] == pytest.approx(r2_score(true.ravel(), values.ravel()))
        kept, whole, weighed = (x[number][metals].to_numpy() for x in (hard, none, soft))
        assert set(np.unique(kept[kept != whole])) <= {0.0}
        part = weighed[np.abs(whole) > 1e-9] / whole[np.abs(whole) > 1e-9]
        assert ((part > 0) & (part < 1)).all()
        assert r2(rows, rows.table.frame.iloc[repeat.test], rows.table.frame.iloc[repeat.test]) == {R2: 1.0}


def test_what_is_not_generated_is_that_of_the_test_row(rows: StudyRows, tmp_path: Path) -> None:
    repeats = [split(rows.table, "row", seed) for seed in range(REPEATS)]
    network = train(Training("amounts", "row", (0.1,)), rows, repeats, CONFIG, tmp_path)
    drawn = published_draws([network], rows, repeats, "none", generate=True, seed=0)
    metals = list(rows.columns.metals.columns)
    for repeat, frame in zip(repeats, drawn, strict=True):
        real = rows.table.frame.iloc[repeat.test]
        pd.testing.assert_frame_equal(frame.drop(columns=metals), real.drop(columns=metals))
        assert (frame[metals] != real[metals]).any(axis=None)
    again = published_draws([network], rows, repeats, "none", generate=True, seed=0)
    pd.testing.assert_frame_equal(drawn[0], again[0])
    other = published_draws([network], rows, repeats, "none", generate=True, seed=1)
    assert not drawn[0].equals(other[0])


def test_our_model_learns_from_the_training_rows_of_each_repeat_alone(rows: StudyRows, tmp_path: Path) -> None:
    """A repeat's weights do not move when its test rows, or the rows of another repeat, do."""
    repeats = [split(rows.table, "recipe", seed) for seed in range(REPEATS)]
    for name in "ab":
        (tmp_path / name).mkdir()
    network = train(Training(OURS, "recipe", (0.1,)), rows, repeats, CONFIG, tmp_path / "a")
    frame = rows.table.frame.copy()
    test = frame.index[repeats[0].test]
    frame.loc[test, "Ni"] = frame.loc[test, "Ni"] * 1.5 + 0.3
    changed = StudyRows.of(RecipeTable(rows.table.schema, frame, rows.table.header, rows.table.report))
    other = train(Training(OURS, "recipe", (0.1,)), changed, repeats, CONFIG, tmp_path / "b")
    same = [torch.equal(a[0], b[0]) for a, b in zip(network.parameters(), other.parameters(), strict=True)]
    moved = [not torch.equal(a[1], b[1]) for a, b in zip(network.parameters(), other.parameters(), strict=True)]
    assert all(same)
    assert any(moved)
    drawn = our_draws(network, rows, repeats, generate=True, seed=0)
    assert [len(x) for x in drawn] == [len(r.test) for r in repeats]
    for x, repeat in zip(drawn, repeats, strict=True):
        assert x.index.equals(rows.table.frame.index[repeat.test])
        pd.testing.assert_series_equal(x["Reaction T"], rows.table.frame["Reaction T"].iloc[repeat.test])


def test_the_mean_of_our_decoder_is_that_of_recipes_for_one_draw_of_the_latents(
    rows: StudyRows, tmp_path: Path
) -> None:
    repeats = [split(rows.table, "row", seed) for seed in range(REPEATS)]
    network = train(Training(OURS, "row", (0.1,)), rows, repeats, CONFIG, tmp_path)
    metals = list(rows.columns.metals.columns)
    one = our_draws(network, rows, repeats, generate=False, seed=0)
    same = our_means(network, rows, repeats, draws=1, seed=0)
    mean = our_means(network, rows, repeats, draws=30, seed=0)
    for repeat, drawn, single, many in zip(repeats, one, same, mean, strict=True):
        np.testing.assert_allclose(single[metals], drawn[metals])
        assert (many[metals] > 0).to_numpy().sum() > (drawn[metals] > 0).to_numpy().sum()
        real = rows.table.frame.iloc[repeat.test]
        assert r2(rows, real, many)[R2] > r2(rows, real, drawn)[R2]


def test_the_table_stands_beside_the_published_figures(rows: StudyRows, few: None, tmp_path: Path) -> None:
    scores = run(rows, tmp_path / "study")
    table = paper.write_table(scores, tmp_path / "study")
    assert list(table["model"]) == ["single", "independent", "hierarchy", "ours"]
    assert table["published"].tolist()[:2] == [0.8294, 0.8722]
    assert table["published"].isna().tolist() == [False, False, True, True]  # nothing was published of grouped splits
    single = scores[scores["model"] == "single"]
    assert table[R2][0] == pytest.approx(single[R2].mean())
    assert table[f"{R2}, sd"][0] == pytest.approx(single[R2].std())
    assert table[R2_SUPPORTS].notna().tolist() == [False, False, True, True]
    assert table[GENERATED + "valid"].between(0, 1).all()
    written = pd.read_csv(tmp_path / "study" / "study.csv")
    assert len(written) == 4


def test_every_published_figure_has_a_row_in_the_plan() -> None:
    planned = {(model.name, model.gate, model.weights) for by, model in models.plan() if by == "row"}
    figures = published_figures()
    assert {tuple(row) for row in figures[["model", "gate", "kl_weights"]].to_numpy()} <= planned
    assert figures["mean"].between(0.8, 1).all()


def test_other_studies_and_damage_are_refused(rows: StudyRows, few: None, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run(rows, out)
    with pytest.raises(InputError, match="holds a study with repeats = 2, not 3"):
        paper.begin(out, rows, 3, CONFIG)
    with pytest.raises(InputError, match="holds a study with epochs = 3, not 4"):
        paper.begin(out, rows, REPEATS, StudyConfig(epochs=4, steps=4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no study"):
        paper.begin(tmp_path / "full", rows, REPEATS, CONFIG)
    with pytest.raises(InputError, match="is a file"):
        paper.begin(tmp_path / "full" / "thesis.txt", rows, REPEATS, CONFIG)
    score = next((out / "scores").glob("row-single*"))
    score.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is damaged"):
        run(rows, out)
    score.unlink()
    (out / "runs" / "row-amounts-0.1.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"row-amounts-0.1.safetensors is damaged.*Remove it"):
        run(rows, out)
    (out / "settings.json").write_text("[")
    with pytest.raises(InputError, match="is damaged"):
        paper.begin(out, rows, REPEATS, CONFIG)


def test_a_training_that_diverges_is_not_kept(rows: StudyRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(training: Training, network: torch.nn.Module, *_: object) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            next(network.parameters())[0, 0] = torch.nan
        return {}

    monkeypatch.setattr(training, "_fit_published", diverge)
    with pytest.raises(InputError, match="training row-amounts-0.1 diverged"):
        train(Training("amounts", "row", (0.1,)), rows, [split(rows.table, "row", 0)], CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_constant_column_is_scaled_to_0() -> None:
    low, width = Repeat(np.arange(3), np.arange(0), np.arange(0)).limits(np.array([[2.0, 0], [2, 1], [2, 4], [9, 9]]))
    assert low.tolist() == [2, 0]
    assert width.tolist() == [1, 4]


def test_rates_are_those_of_the_test_rows(rows: StudyRows, tmp_path: Path) -> None:
    """By the formula for Gaussians, row by row, of one repeat whose test rows are fewer than another's."""
    repeats = [split(rows.table, "composition", seed) for seed in range(4)]
    assert len({len(r.test) for r in repeats}) > 1
    network = train(Training("amounts", "composition", (0.1,)), rows, repeats, CONFIG, tmp_path)
    found = rates([network], rows, repeats)
    data = member_rows(rows, repeats, network.reads)
    for m, repeat in enumerate(repeats):
        parts = data.parts(data.packed[:, repeat.test])
        q = network.encoder(*(parts[name] for name in network.reads)).base_dist
        by_hand = 0.5 * (q.loc[m] ** 2 + q.scale[m] ** 2 - 2 * q.scale[m].log() - 1).sum(-1).mean()
        assert found[m] == pytest.approx(by_hand.item(), rel=1e-4)
    twice = rates([network, network], rows, repeats)
    np.testing.assert_allclose(twice, 2 * found)
