# noqa: A005 - named after the package it tests; nothing imports the standard library's from here
