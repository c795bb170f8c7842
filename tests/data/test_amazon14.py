"""The real domains: rows per phase as their README counts them, test users as the protocol does."""

import pytest

from mmgrid.data import READERS, Calendar, Corpus, held_out_users, prepare, statistics

CALENDAR = Calendar.from_dates(
    {
        "pretrain": ["2008-07-01", "2013-07-01"],
        "phase1": ["2013-07-01", "2013-10-01"],
        "phase2": ["2013-10-01", "2014-01-01"],
        "test": ["2014-01-01", "2014-04-01"],
    }
)
#         users   items   pretrain phase1 phase2  test   test users
PINS = {
    "health": (29290, 17982, 152515, 29293, 38041, 40455, 13340),
    "books": (28057, 36828, 239357, 43732, 40794, 46662, 13226),
    "clothing": (28471, 22606, 90424, 26149, 39690, 42567, 14219),
    "electronics": (22747, 15341, 126620, 17964, 22239, 23108, 8350),
    "beauty": (17691, 11819, 93817, 18009, 19030, 23234, 7120),
    "toys": (15724, 11416, 81863, 11940, 21614, 20405, 6219),
}


@pytest.mark.parametrize("domain", PINS)
def test_numbers_of_rows_and_test_users(amazon14, domain):
    corpus = prepare(READERS["parquet"].read(amazon14, domain), CALENDAR).corpus
    found = statistics(corpus, CALENDAR)
    assert (found.users, found.items, *found.interactions.values(), found.test_users) == PINS[domain]


def test_a_real_corpus_survives_saving_and_leaks_nothing(amazon14, tmp_path):
    corpus = prepare(READERS["parquet"].read(amazon14, "toys"), CALENDAR).corpus
    corpus.save(tmp_path)
    known = Corpus.load(tmp_path, until=CALENDAR.t1)
    assert known.timestamps.max() < CALENDAR.t1
    assert known.items.tolist() == corpus.before(CALENDAR.t1).items.tolist()
    tested = held_out_users(corpus, CALENDAR, "phase2")
    tested.histories.guard(CALENDAR.t2)
    assert len(tested) == 6140
