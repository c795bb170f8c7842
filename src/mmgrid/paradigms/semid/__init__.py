"""The semantic-ID paradigm `semid` (LC-Rec)."""
