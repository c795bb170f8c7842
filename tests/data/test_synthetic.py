"""The synthetic world: reproducible bytes, the usual path to a corpus, and a ground truth that shows in the data."""

from dataclasses import replace

import numpy as np
import pytest

from mmgrid.data import READERS, Corpus, HeldOutUsers, held_out_users, prepare, statistics
from mmgrid.data.synthetic import World, WorldDomain, simulate, write_world

SMALL = WorldDomain("films", users=700, items=300)
WORLD = World(
    (
        replace(SMALL, item_life_days=900, drift=0.1),
        replace(SMALL, name="games", item_life_days=300, drift=0.9),
        replace(SMALL, name="kitchen", item_life_days=1500, drift=0.3, shared_words=0.2),
    )
)
NAMES = [domain.name for domain in WORLD.domains]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("world")
    for name in NAMES:
        write_world(WORLD, name, folder)
    read = READERS["amazon2023"].read
    return {name: prepare(read(folder, name), WORLD.calendar).corpus for name in NAMES}


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_bytes_depend_only_on_seed_name_and_parameters(tmp_path):
    world = World((replace(SMALL, users=60, items=60, mean_interactions=6),), seed=1)
    more = World((*world.domains, WorldDomain("others")), seed=1)
    changed = World((replace(world.domains[0], drift=0.31),), seed=1)
    folders = {}
    for key, one in {
        "world": world,
        "again": world,
        "more": more,
        "changed": changed,
        "seed": replace(world, seed=2),
    }.items():
        write_world(one, "films", tmp_path / key)
        folders[key] = files(tmp_path / key)
    assert list(folders["world"]) == ["films.csv.gz", "meta_films.jsonl.gz", "truth_films.json"]
    assert folders["world"] == folders["again"] == folders["more"]
    assert folders["world"]["films.csv.gz"] != folders["changed"]["films.csv.gz"]
    assert folders["world"]["films.csv.gz"] != folders["seed"]["films.csv.gz"]
    assert folders["world"]["films.csv.gz"][4:8] == bytes(4)  # gzip's time


@pytest.mark.parametrize("name", NAMES)
def test_files_are_read_and_prepared_like_real_ones(corpora, name):
    found = statistics(corpora[name], WORLD.calendar)
    assert 0.8 * SMALL.users < found.users < SMALL.users
    assert 0.8 * SMALL.items < found.items < SMALL.items  # some have no title, some too few interactions
    assert min(found.interactions.values()) > 200
    assert found.test_users > 100
    assert 0.3 < (found.active_ratio or 0) < 0.8
    words = [len(title.split()) for title in corpora[name].catalogue.titles]
    assert 3 <= min(words) <= max(words) <= 8
    assert all(text.endswith(".") for text in corpora[name].catalogue.descriptions)


@pytest.mark.parametrize("name", NAMES)
def test_the_next_item_is_predictable_far_beyond_popularity(corpora, name):
    corpus, tested = corpora[name], held_out_users(corpora[name], WORLD.calendar)
    known = corpus.before(WORLD.calendar.t2)
    N = len(corpus.catalogue)
    popularity = np.bincount(known.items, minlength=N).astype(float)
    follows = np.zeros((N, N))
    for lag in (1, 2, 3):
        same = known.users[:-lag] == known.users[lag:]
        np.add.at(follows, (known.items[:-lag][same], known.items[lag:][same]), 1 / lag)
    follows /= np.sqrt(1 + popularity[:, None]) * np.sqrt(10 + popularity)
    newest = tested.histories.last(8)
    user = np.repeat(np.arange(len(tested)), newest.lengths)
    weight = 0.7 ** (newest.offsets[1:][user] - 1 - np.arange(len(user)))
    scores = np.zeros((len(tested), N))
    np.add.at(scores, user, weight[:, None] * follows[newest.items])
    popular = recall(np.broadcast_to(popularity, scores.shape), tested)
    assert recall(scores + 1e-6 * popularity, tested) > 1.8 * popular
    assert popular > 10 / N / 2


def recall(scores: np.ndarray, tested: HeldOutUsers, k: int = 10) -> float:
    scores = scores.copy()
    scores[np.repeat(np.arange(len(tested)), tested.histories.lengths), tested.histories.items] = -np.inf
    target = scores[np.arange(len(tested)), tested.targets]
    return float(((scores > target[:, None]).sum(axis=1) < k).mean())


def test_turnover_shows_in_the_ages_of_items(corpora):
    gaps = [statistics(corpora[name], WORLD.calendar).gap_days or 0 for name in ("games", "films", "kitchen")]
    assert gaps[0] * 1.3 < gaps[1] < gaps[2]


def test_drift_moves_demand_and_every_taste():
    still, moving = (simulate(World((replace(SMALL, drift=drift, wander=0.0),)), "films") for drift in (0.0, 1.0))
    assert shift_of_demand(moving) > 3 * shift_of_demand(still)
    t1, t2 = WORLD.calendar.t1, WORLD.calendar.t2
    angles = np.arccos(np.clip((moving.taste(t1) * moving.taste(t2)).sum(axis=1), -1, 1))
    assert np.allclose(angles, 92 / 365.25, atol=1e-6)  # a radian a year, silent users included
    assert np.allclose(np.linalg.norm(moving.taste(t2), axis=1), 1)


def shift_of_demand(simulation) -> float:
    """Distance between the mean item vectors of two years that are three years apart."""
    years = (simulation.times_ms - simulation.start_ms) / (365.25 * 86_400_000)
    means = [
        simulation.item_vectors[simulation.items[(years >= low) & (years < low + 1)]].mean(axis=0) for low in (1, 4)
    ]
    return float(np.linalg.norm(means[1] - means[0]))


def test_the_truth_file_holds_the_parameters_and_tastes(tmp_path):
    truth = write_world(WORLD, "games", tmp_path)
    assert truth["parameters"]["drift"] == 0.9
    assert truth["tastes"]["t2"]["radians_from_t2"] == pytest.approx(0, abs=1e-6)
    assert truth["tastes"]["t0"]["radians_from_t2"] > truth["tastes"]["t1"]["radians_from_t2"] > 0.2


def test_texts_predict_item_vectors():
    simulation = simulate(WORLD, "films")
    texts = [
        set((title + " " + text).lower().replace(".", " ").replace(",", " ").split())
        for title, text in zip(simulation.titles, simulation.descriptions, strict=True)
    ]
    vocabulary = {word: column for column, word in enumerate(sorted(set().union(*texts)))}
    bags = np.zeros((len(texts), len(vocabulary)))
    for row, words in enumerate(texts):
        bags[row, [vocabulary[word] for word in words]] = 1
    # Ridge regression from words to the item vector, fitted on two thirds of the items, tested on the rest.
    seen = np.arange(len(texts)) % 3 > 0
    gram = bags[seen].T @ bags[seen] + 3 * np.eye(len(vocabulary))
    guess = bags[~seen] @ np.linalg.solve(gram, bags[seen].T @ simulation.item_vectors[seen])
    true = simulation.item_vectors[~seen]
    cosine = (guess * true).sum(axis=1) / np.linalg.norm(guess, axis=1)
    assert cosine.mean() > 0.6
    strangers = np.roll(true, len(true) // 2, axis=0)
    assert (guess * strangers).sum(axis=1).mean() < 0.2


def test_domains_share_the_given_proportion_of_words():
    words = {name: set(" ".join(simulate(WORLD, name).descriptions).lower().split()) for name in NAMES}
    common = {name: len(words["films"] & words[name]) / len(words[name]) for name in ("games", "kitchen")}
    assert common["games"] > common["kitchen"] > 0.1
    assert common["games"] < 0.8


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"drift": -1}, r"films\.drift is -1: expected a number from 0 to 3"),
        ({"drift": float("nan")}, r"films\.drift is nan"),
        ({"items": 100.5}, "films.items is 100.5: expected a whole number"),
        ({"taste_dimensions": 99}, "taste_dimensions is 99"),
        ({"mean_interactions": 50}, "at most an eighth of the 300 items"),
        ({"name": "../films"}, "domain name"),
    ],
)
def test_parameters_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **numbers)


def test_domain_names_must_be_distinct_and_known():
    with pytest.raises(ValueError, match="films named twice"):
        World((SMALL, SMALL))
    with pytest.raises(ValueError, match="'songs': no such domain; there are films"):
        World((SMALL,)).domain("songs")
    with pytest.raises(ValueError, match="at least one"):
        World(())


def test_new_parameters_leave_the_first_worlds_as_they_were():
    assert not {"gifts", "growth", "items_of"} & set(WORLD.domains[0].parameters())
    assert replace(SMALL, gifts=0.5, items_of="toys").parameters().items() >= {"gifts": 0.5, "items_of": "toys"}.items()


def test_gifts_change_what_is_taken_before_christmas_alone():
    domain = replace(SMALL, drift=0, wander=0, gifts=0.8)
    simulation = simulate(World((domain,)), "films")
    month = simulation.times_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(int) % 12 + 1
    suits = (simulation.taste(simulation.start_ms)[simulation.users] * simulation.item_vectors[simulation.items]).sum(1)
    season = month >= 11
    means = [np.linalg.norm(simulation.item_vectors[simulation.items[part]].mean(axis=0)) for part in (season, ~season)]
    assert suits[season].mean() < 0.5 * suits[~season].mean()  # gifts do not suit those who pay for them
    assert means[0] > 1.5 * means[1]  # they are alike


def test_more_growth_means_more_users_late():
    late = {}
    for growth in (1.2, 3.0):
        times = simulate(World((replace(SMALL, growth=growth),)), "films").times_ms
        late[growth] = np.mean(times >= WORLD.calendar.phase1.start)
    assert late[3.0] > 1.25 * late[1.2]


def test_shared_items_have_the_same_texts_and_other_users(tmp_path):
    world = World((replace(SMALL, items=80, mean_interactions=8), WorldDomain("toys", 300, 80, 8, items_of="films")))
    films, toys = (simulate(world, name) for name in ("films", "toys"))
    assert films.titles == toys.titles
    assert films.descriptions == toys.descriptions
    assert np.array_equal(films.item_vectors, toys.item_vectors)
    assert len(films.users) != len(toys.users)
    alone = simulate(World((world.domains[0],)), "films")
    assert np.array_equal(alone.items, films.items)


@pytest.mark.parametrize(
    ("toys", "message"),
    [
        ({"items_of": "games"}, "toys.items_of is 'games': expected a domain with items of its own: films"),
        ({"items_of": "toys"}, "toys.items_of is 'toys': expected a domain with items of its own: films"),
        ({"items_of": "films", "items": 200}, "toys.items is 200, films.items is 300: toys has the items of films"),
        ({"gifts": 1.5}, "toys.gifts is 1.5: expected a number from 0 to 1"),
        ({"growth": 0}, "toys.growth is 0: expected a number from 0.1 to 6"),
    ],
)
def test_a_world_that_cannot_be_is_refused(toys, message):
    with pytest.raises(ValueError, match=message):
        World((SMALL, replace(SMALL, name="toys", **toys)))
