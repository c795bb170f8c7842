"""A paradigm, a study and a merge method for MMGRid, one file each."""
