"""Settings for what is unseen: what was chosen by name stays, the rest fits the question."""

from __future__ import annotations

from pyro_hcvae.inference.config import TrainConfig


def test_settings_for_unseen_recipes_and_compositions_are_the_usual_ones() -> None:
    assert TrainConfig().for_unseen("recipe").model_dump() == TrainConfig().model_dump()
    expected = TrainConfig(validation_group="composition")
    assert TrainConfig().for_unseen("composition").model_dump() == expected.model_dump()


def test_for_unseen_laboratories_members_listen_less_and_learn_slower() -> None:
    usual, unseen = TrainConfig(seed=7), TrainConfig(seed=7).for_unseen("laboratory")
    assert unseen.validation_group == "laboratory"
    assert unseen.seed == 7
    assert unseen.condition_jitter > usual.condition_jitter
    assert unseen.condition_dropout > usual.condition_dropout
    assert unseen.each("learning_rate")[0] < usual.each("learning_rate")[0]
    assert unseen == TrainConfig(**unseen.model_dump())  # still valid settings


def test_settings_of_a_complete_file_were_all_chosen() -> None:
    whole = TrainConfig(**TrainConfig().model_dump())
    assert whole.for_unseen("laboratory") == whole


def test_settings_that_were_chosen_stay() -> None:
    chosen = TrainConfig(steps=50, condition_dropout=0.1, validation_group="recipe").for_unseen("laboratory")
    assert (chosen.steps, chosen.condition_dropout, chosen.validation_group) == (50, 0.1, "recipe")
    assert chosen.condition_jitter == TrainConfig().for_unseen("laboratory").condition_jitter
