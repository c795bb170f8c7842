"""The facts about a domain that studies of λ use; they contain nothing that was unknown at the end of training."""

from collections.abc import Mapping
from typing import Any

from mmgrid.data import Corpus, NoTestUsersError, held_out_users
from mmgrid.data.held_out import end_of_knowledge
from mmgrid.data.statistics import mean_gap_days
from mmgrid.studies.contract import Context, Part


def domain_facts(corpora: Mapping[str, Part], context: Context) -> dict[str, dict[str, Any]]:
    """Domain → test_users, active, non_active, active_ratio, gap_days, active_ratio_before (one phase earlier)."""
    return {domain: _facts(part, context) for domain, part in corpora.items()}


def _facts(part: Part, context: Context) -> dict[str, Any]:
    calendar, target = context.calendar, context.target
    corpus = Corpus.load(part.folder, until=calendar.phase(target).end)
    active = held_out_users(corpus, calendar, target).active
    return {
        "test_users": len(active),
        "active": int(active.sum()),
        "non_active": int((~active).sum()),
        "active_ratio": float(active.mean()),
        "gap_days": mean_gap_days(corpus.before(end_of_knowledge(calendar, target))),
        "active_ratio_before": _active_before(corpus, context),
    }


def _active_before(corpus: Corpus, context: Context) -> float | None:
    if context.target == "phase2":  # in phase1, the first phase after pretrain, active users cannot be distinguished
        return None
    calendar = context.calendar
    try:
        return float(held_out_users(corpus.before(calendar.t2), calendar, "phase2").active.mean())
    except NoTestUsersError:
        return None
