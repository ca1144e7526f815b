"""State machines of requests and products as data, with pure guards that permit or refuse citing the clause."""
