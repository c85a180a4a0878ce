"""The only importer of the compiled core: C values in, records out."""
