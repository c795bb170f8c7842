"""What the report says of each study: one file a study, for its tables' columns and its sentences."""
