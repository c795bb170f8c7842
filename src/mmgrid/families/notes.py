"""What a user should know of the parts of a domain: tensors that are stored otherwise than the recipe says."""

from __future__ import annotations

from mmgrid.merging.models.family.file import DomainEntry


def notes_of(domain: str, entry: DomainEntry) -> list[str]:
    """Remarks, one for each kind of surprise."""
    found = []
    kept = [
        name
        for name, each in entry.tensors.items()
        if each.kind == "own" and len(each.shape) > 1 and entry.parts[each.part].kind not in ("own", "low_rank")
    ]
    if kept:
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        found.append(
            f"{domain}: {min(kept)}{more}: stored as they are, as the shared model lacks them or has another shape or type"
        )
    for number, part in enumerate(entry.parts):
        of_part = [each for each in entry.tensors.values() if each.part == number]
        if part.kind == "low_rank" and part.error and not any(each.kind == "low_rank" for each in of_part):
            found.append(
                f"{domain}: low_rank: none of its {len(of_part):,} tensors is a linear layer that changed, so no adapter is "
                "stored and their change is lost"
            )
    return found
