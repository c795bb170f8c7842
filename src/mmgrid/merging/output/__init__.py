"""What a merge writes: the folder, its record, its model card, and the journal of an unfinished one."""
