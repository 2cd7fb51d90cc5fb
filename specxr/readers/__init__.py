"""Files in, arrays out: one module for each survey, found by its entry point of the group ``specxr.readers``.

`specxr.readers.base` says what a reader is, `specxr.readers.registry` opens one by its name.
"""
