#!/usr/bin/env python3
"""Writes the first texts of the corpora: every string that the tests of the classifier, and those with real servers, have."""

import hashlib
import pathlib
import re

here = pathlib.Path(__file__).parent
root = here.parent
string = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
plain = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
texts = set()
for file in [*root.glob("src/sql/**/*.rs"), *root.glob("integration/tests/**/*.rs")]:
    for found in string.finditer(file.read_text()):
        texts.add(re.sub(r"\\(.)", lambda escape: plain.get(escape[1], escape[1]), found[1]))
for target in ("scan", "classify"):
    corpus = here / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for text in texts:
        (corpus / hashlib.sha1(text.encode()).hexdigest()).write_text(text)
print(len(texts), "texts")
