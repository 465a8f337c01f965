r"""How fast Penstock imports, beside `psql \copy` and other loaders, on this machine. `python -m bench --help`; bench/README.md."""
