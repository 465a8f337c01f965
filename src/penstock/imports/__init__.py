"""Imports: from a file's records to committed rows, a receipt for each and a report of the rest."""
