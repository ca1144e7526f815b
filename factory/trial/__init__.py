"""Local trials: a recipe on local files, one real node process per party, with throw-away trust."""
