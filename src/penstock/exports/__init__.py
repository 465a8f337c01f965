"""Records out of the database: one snapshot, in the form that was asked for, streamed or stored."""
